"""A run's folder: one process at a time writes to it, and what lies there is always complete.

Scripts say what is learned and stored; how it gets to the disk, and back, stands here.
"""

import contextlib
import importlib
import inspect
import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from envs.messages import in_one_line, say
from envs.registry import folder_name
from envs.run.files import load, lock, pack, write, write_rows
from envs.run.versions import versions

STOPS = (signal.SIGTERM, signal.SIGINT)
CHECKPOINT_SHARE = 0.02  # of the time, at most, goes into checkpoints


@dataclass
class Count:
    """How far a run is."""

    global_step: int = 0
    updates: int = 0
    new_episodes: int = 0  # finished since the normalisers last saw any
    best: tuple[float, ...] = (-np.inf,)  # score of the best model


class RunFolder:
    """A new folder for a run, or that of `args.resume`, locked until the process ends.

    After `begin`, SIGTERM and
    SIGINT end the run at the next `checkpoint` between episodes; a second one ends it at once.

    Args:
        args: the script's.
        device: of the networks.
        rank: only rank 0 writes anything but checkpoints; all ranks are one run.

    Attributes:
        count: how far the run is.
        path: the folder, absolute.

    Raises:
        ValueError: another process writes to the folder, or it exists.
        OSError: the folder cannot be made, or opened.
    """

    def __init__(self, args: Any, device: torch.device, rank: int = 0):
        self.args = args
        self.device = device
        self.rank = rank
        self.ranks = 1
        self.script = Path(inspect.getfile(type(args))).stem
        name = folder_name(args.env_id)
        default = f"runs/{name}__{self.script}__{args.seed}__{time.time():.0f}"
        self.path = Path(args.resume or args.run_dir or default).absolute()
        if rank == 0:
            self._make_and_lock()
        self.count = Count()
        self.rows: list[dict[str, float]] = []  # of metrics.csv
        self.episodes: list[tuple[float, float]] = []  # return and success of training episodes
        self.watched: list[dict[str, Tensor]] = []  # of updates since the last log
        self.start = time.time()
        self.last_word = self.start
        self.stop = 0  # number of the signal that asked the run to end
        self.is_due = False  # a checkpoint
        self.overdue = 0  # steps since it was
        self.next_checkpoint = 0.0  # not before this time
        self.has_warned = False

    def _make_and_lock(self) -> None:
        if not self.args.resume:
            try:
                self.path.mkdir(parents=True)
            except FileExistsError:
                raise ValueError(f"{self.path} exists: give another --run-dir.") from None
        self.lock = lock(self.path)

    # Begin, go on, end

    def begin(
        self,
        agent: Any,
        buffer: Any,
        envs: list[Any],
        rng: np.random.Generator,
    ) -> Count:
        """Restores a checkpoint with --resume, writes args.json, says what runs where.

        Args:
            agent: an object whose attributes with a `state_dict` are learned or train.
            buffer: the replay buffer: arrays or tensors in a dict `data`, numbers as attributes.
            envs: the `VectorEnv`s; their random streams go on where they were.
            rng: the script's own random stream.
        """
        self.rng = rng
        self.envs = envs
        parts = vars(agent).items()
        self.parts = {name: part for name, part in parts if hasattr(part, "load_state_dict")}
        self.buffer = buffer
        if self.args.resume:
            self._restore()
        step = self.count.global_step
        total = self.args.total_timesteps
        if self.is_over():
            self.say(f"{self.path} is complete; more than --total-timesteps {total} trains on.")
            self._exit(0)
        self.clock = (time.time(), step, self.count.updates)
        self.episode_return = np.zeros(envs[0].num_envs)
        self.bar = tqdm(
            total=total,
            initial=step,
            unit=" steps",
            file=sys.stdout,
            disable=None if self.rank == 0 else True,  # None: only on a terminal
            dynamic_ncols=True,
            leave=False,
        )
        for number in STOPS:
            signal.signal(number, self._ask_to_stop)
        if self.rank == 0:
            self._begin_to_write(agent)
        return self.count

    def _begin_to_write(self, agent: Any) -> None:
        step = self.count.global_step
        for leftover in self.path.glob(".unfinished-*"):  # of a process that was killed
            leftover.unlink()
        record = asdict(self.args) | {"run_dir": str(self.path), "resume": ""}
        record["versions"] = {"script": self.script} | versions(self.device)
        if self.args.resume:
            self._compare_versions(record["versions"])
        if self.args.track:  # before the writer of events is made, which it replaces
            self._track(record)
        self.write("args.json", json.dumps(record, indent=2) + "\n")
        if self.rows:
            self._write_rows()  # those since the checkpoint come again
        with self._one_sentence():
            self.writer = SummaryWriter(self.path, purge_step=step + 1 if step else None)
        envs = self.envs[0]
        size = sum(x.numel() for x in _parameters(agent))
        self.say(
            f"{self.args.env_id} on {self.device}: observation {envs.obs_dim}, "
            f"goal {envs.goal_dim}, {size:,} weights; {self.path}"
        )

    def _compare_versions(self, now: dict[str, Any]) -> None:
        """Says what is not as it was, since numbers may be others by it."""
        before = json.loads((self.path / "args.json").read_text())["versions"]
        for name, value in now.items():
            there = before.get(name)
            if there != value:
                self.say(f"{name} was {there!r} and is {value!r}: not bit for bit from here on.")

    def _track(self, record: dict[str, Any]) -> None:
        wandb = importlib.import_module("wandb")
        try:
            wandb.init(name=self.path.name, config=record, dir=self.path, sync_tensorboard=True)
        except Exception as error:  # no account, no network
            with contextlib.suppress(OSError):
                self.path.rmdir()  # if there is nothing in it
            raise ValueError(f"--track does not work here: {in_one_line(error)}") from None

    def share_between_ranks(self) -> None:
        """Under torchrun: one folder for all ranks, and checkpoints of one step."""
        torch.distributed.init_process_group("gloo")  # ranks may share a GPU: NCCL refuses that
        self.ranks = torch.distributed.get_world_size()
        where = [str(self.path)]
        torch.distributed.broadcast_object_list(where, src=0)
        self.path = Path(where[0])

    def is_over(self) -> bool:
        """Whether all steps are done."""
        return self.count.global_step >= self.args.total_timesteps

    def close(self) -> None:
        """Ends a finished run."""
        if self.rank == 0:
            self.bar.close()
            with self._one_sentence():
                self.writer.close()

    def _ask_to_stop(self, number: int, frame: Any) -> None:
        self.stop = number
        for other in STOPS:
            signal.signal(other, signal.SIG_DFL)

    def _exit(self, code: int) -> NoReturn:
        if self.ranks > 1:
            os._exit(code)  # Gloo's threads can abort an interpreter while it is torn down
        sys.exit(code)

    # What is logged

    def add_step(self, reward: np.ndarray, success: np.ndarray, ended: np.ndarray) -> None:
        """Counts a training step of every environment, (num_envs,) each, and moves the bar."""
        self.episode_return += reward
        for i in np.flatnonzero(ended):
            self.episodes.append((float(self.episode_return[i]), float(success[i])))
            self.episode_return[i] = 0
        self.bar.update(self.count.global_step - self.bar.n)
        if self.bar.disable and self.rank == 0 and time.time() - self.last_word > 60:
            self.say(f"step {self.count.global_step} of {self.args.total_timesteps}")

    def add_row(self, metrics: dict[str, float]) -> None:
        """An evaluation: a row of metrics.csv, then a printed line; a checkpoint becomes due."""
        self.is_due = True
        if self.rank > 0:
            return
        row = {"global_step": self.count.global_step, **metrics}
        row["wall_time"] = round(time.time() - self.start, 3)
        self.rows.append(row)
        self._write_rows()
        self.say("  ".join(f"{name} {round(value, 3)}" for name, value in row.items()))
        self._write_scalars({f"eval/{name}": value for name, value in metrics.items()})

    def _write_rows(self) -> None:
        with self._one_sentence():
            write_rows(self.path / "metrics.csv", self.rows)

    def watch(self, info: dict[str, Any]) -> None:
        """Keeps what an update was made of for the curves: every tenth one, which costs little."""
        if self.rank == 0 and (not self.watched or self.count.updates % 10 == 0):
            self.watched.append(curves_of(info))

    def log(self, buffer_fill: float) -> None:
        """Training curves: means over what was watched since the last call."""
        if self.rank > 0:
            return
        scalars = {"charts/buffer_fill": buffer_fill}
        for name in self.watched[0] if self.watched else ():
            scalars[name] = torch.stack([found[name] for found in self.watched]).mean().item()
        self.watched.clear()
        now = (time.time(), self.count.global_step, self.count.updates)
        seconds, steps, updates = (new - old for new, old in zip(now, self.clock, strict=True))
        self.clock = now
        scalars["charts/steps_per_second"] = steps / seconds
        scalars["charts/updates_per_second"] = updates / seconds
        if self.episodes:
            returns, successes = zip(*self.episodes, strict=True)
            scalars["charts/episodic_return"] = float(np.mean(returns))
            scalars["charts/success_rate"] = float(np.mean(successes))
            self.episodes.clear()
        self.check_finite(scalars.get("losses/value", 0.0))
        if scalars.get("gradient/rows", 1.0) == 0.0 and not self.has_warned:
            self.has_warned = True
            self.say("The gradient term sees no transition: no reward equals --c-low.")
        self._write_scalars(scalars)

    def check_finite(self, value: Tensor | float, name: str = "The loss") -> None:
        """Ends the run where a number is none; what was saved stays."""
        value = float(value.detach()) if isinstance(value, Tensor) else value
        if not np.isfinite(value):
            step = self.count.global_step
            sys.exit(f"{name} is {value:g} at step {step}; {self.path} keeps what was saved.")

    def check_equal(self, weights: list[Tensor]) -> None:
        """Ends the run if this rank has other weights than rank 0."""
        ours = nn.utils.parameters_to_vector(weights).detach()
        expected = ours.clone()
        torch.distributed.broadcast(expected, src=0)
        if not expected.equal(ours):
            step = self.count.global_step
            sys.exit(f"Rank {self.rank} has other weights than rank 0 at step {step}.")

    def mean_over_ranks(self, metrics: dict[str, float]) -> dict[str, float]:
        """The means of all ranks' metrics."""
        means = torch.tensor(list(metrics.values()), dtype=torch.float64)
        torch.distributed.all_reduce(means)
        means /= self.ranks
        return dict(zip(metrics, means.tolist(), strict=True))

    def say(self, line: str) -> None:
        """Prints a line above the bar; the run goes on where nobody reads any more."""
        if self.rank == 0:
            say(line)
            self.last_word = time.time()

    def _write_scalars(self, scalars: dict[str, float]) -> None:
        with self._one_sentence():
            for name, value in scalars.items():
                self.writer.add_scalar(name, value, self.count.global_step)
            self.writer.flush()

    # What is saved

    def save_model(self, score: tuple[float, ...], **networks: nn.Module) -> None:
        """model.pt, and best_model.pt if no later or equal score is better.

        Networks before the first step do not stay the best. Weights that are not finite end the
        run instead: they replace no model.
        """
        score = tuple(-np.inf if np.isnan(number) else float(number) for number in score)  # unknown
        for network in networks.values():
            total = sum(x.sum() for x in network.state_dict().values())
            self.check_finite(total, "The sum of all weights")
        if self.args.save_model and self.rank == 0:
            states = {name: network.state_dict() for name, network in networks.items()}
            about = {"script": self.script, "settings": network_settings(self.args)}
            model = about | {"global_step": self.count.global_step} | states
            self.write("model.pt", pack(model))
            if score >= self.count.best:
                self.write("best_model.pt", pack(model))
        if self.count.global_step > 0:
            self.count.best = max(self.count.best, score)

    def write(self, name: str, content: str | bytes | memoryview) -> None:
        """Replaces a file of the folder as a whole; ends the run where that cannot be."""
        with self._one_sentence():
            write(self.path / name, content)

    def checkpoint(self, ended: np.ndarray) -> None:
        """Writes checkpoint.pt after an evaluation, once all episodes have ended; ends if asked to.

        Between episodes no simulator's state is needed: the environments' random streams suffice,
        and a resumed run equals the uninterrupted one bit for bit. Environments whose episodes do
        not end together get as many steps as an episode has; then a checkpoint is written all the
        same, and a resume leaves the unfinished episodes out. Where writing one takes long, because
        the buffer is large, they become rarer.
        """
        is_over = self.is_over()
        stop, is_playing, is_early = self._largest(
            self.stop,
            not ended.all(),
            time.time() < self.next_checkpoint,
        )
        if not (self.is_due or stop or is_over):
            return
        self.overdue += 1
        has_waited = self.overdue > self.envs[0].max_episode_steps
        if is_playing and not is_over and not has_waited:
            return
        if self.args.save_checkpoint and (stop or is_over or not is_early):
            begun = time.time()
            self._save_checkpoint()
            done = time.time()
            self.next_checkpoint = done + (done - begun) / CHECKPOINT_SHARE
        self.is_due = False
        self.overdue = 0
        if stop and not is_over:
            self.stop = stop
            self._end_early()

    def _end_early(self) -> NoReturn:
        """Says so, and exits as a process does that the signal itself ends."""
        name = signal.Signals(self.stop).name
        next_step = "there is no checkpoint, as --no-save-checkpoint asked"
        if self.args.save_checkpoint:
            next_step = f"go on with --resume {self.path}"
        self.say(f"{name}: ended at step {self.count.global_step}; {next_step}.")
        self.close()
        self._exit(128 + self.stop)

    def _largest(self, *numbers: int) -> list[int]:
        """The largest of all ranks' numbers, one by one."""
        if self.ranks == 1:
            return list(numbers)
        shared = torch.tensor(numbers, dtype=torch.int64)
        torch.distributed.all_reduce(shared, torch.distributed.ReduceOp.MAX)
        return shared.tolist()

    def _checkpoint_path(self) -> Path:
        if self.rank == 0:
            return self.path / "checkpoint.pt"
        return self.path / f"checkpoint_{self.rank}_{self.count.global_step}.pt"

    def _save_checkpoint(self) -> None:
        """Rank 0 last: with its file the others of the same step count, and older ones do not."""
        path = self._checkpoint_path()
        content = pack(self._state())
        for is_my_turn in (self.rank > 0, self.rank == 0):
            if is_my_turn:
                self.write(path.name, content)
            if self.ranks > 1:
                torch.distributed.barrier()
        if self.rank > 0:
            for other in self.path.glob(f"checkpoint_{self.rank}_*.pt"):
                if other != path:
                    other.unlink()

    def _state(self) -> dict[str, Any]:
        """All that a run is, between two episodes."""
        state = {name: part.state_dict() for name, part in self.parts.items()}
        state["settings"] = self._settings()
        state["buffer"] = buffer_state(self.buffer)
        state["torch_stream"] = torch.get_rng_state()
        if self.device.type == "cuda":
            state["cuda_stream"] = torch.cuda.get_rng_state(self.device)
        state["numpy_stream"] = json.dumps(self.rng.bit_generator.state)
        state["env_streams"] = [envs.state_dict() for envs in self.envs]
        state["count"] = asdict(self.count)
        state["rows"] = self.rows
        state["wall_time"] = time.time() - self.start
        return state

    def _settings(self) -> dict[str, Any]:
        """What a checkpoint and the run that goes on from it must agree on."""
        settings = asdict(self.args) | {"device": self.device.type, "processes": self.ranks}
        for name in ("run_dir", "resume", "total_timesteps"):
            del settings[name]
        return settings

    def _restore(self) -> None:
        """Rank 0 first: its checkpoint says of which step the others' are."""
        problem = ""
        for is_my_turn in (self.rank == 0, self.rank > 0):
            if is_my_turn:
                try:
                    self._load_checkpoint()
                except ValueError as error:
                    problem = str(error)
            step = self.count.global_step
            is_refused, self.count.global_step = self._largest(problem != "", step)
            if is_refused:
                raise ValueError(problem or "The checkpoint of another rank is refused.")

    def _load_checkpoint(self) -> None:
        path = self._checkpoint_path()
        step = self.count.global_step
        state = load(path, "checkpoint")
        self._check_settings(state.get("settings"), path)
        try:
            for name, part in self.parts.items():
                part.load_state_dict(state[name])
            restore_buffer(self.buffer, state["buffer"])
            torch.set_rng_state(state["torch_stream"])
            if self.device.type == "cuda":
                torch.cuda.set_rng_state(state["cuda_stream"], self.device)
            self.rng.bit_generator.state = json.loads(state["numpy_stream"])
            for envs, stream in zip(self.envs, state["env_streams"], strict=True):
                envs.load_state_dict(stream)
            self.count = Count(**state["count"])
            self.rows = state["rows"]
            self.start = time.time() - state["wall_time"]
        except Exception as error:  # each part refuses in its own way what does not fit
            reason = in_one_line(error)
            raise ValueError(f"{path} does not fit this run: {reason}") from None
        if self.rank > 0 and self.count.global_step != step:
            there = self.count.global_step
            raise ValueError(f"{path} is of step {there}, and rank 0's checkpoint of {step}.")

    def _check_settings(self, settings: Any, path: Path) -> None:
        expected = self._settings()
        if not isinstance(settings, dict) or settings.keys() != expected.keys():
            raise ValueError(f"{path} is of another script, or of another version of it.")
        for name, value in expected.items():
            there = settings[name]
            if there != value:
                raise ValueError(f"{path} is of another run: {name} is {there!r}, not {value!r}.")

    @contextlib.contextmanager
    def _one_sentence(self) -> Iterator[None]:
        """A disk that is full, or gone, ends the run in one sentence; what was saved stays."""
        try:
            yield
        except (OSError, ValueError) as error:  # the event file's thread tells of it in both ways
            self._fail(getattr(error, "strerror", None) or str(error))

    def _fail(self, reason: str) -> NoReturn:
        step = self.count.global_step
        print(
            f"Cannot write to {self.path} at step {step} ({reason}); what was saved is complete.",
            file=sys.stderr,
            flush=True,
        )
        os._exit(1)  # the event file's thread would add tracebacks of the same kind


CURVES = {  # name in an update's info -> name of the curve, the mean of what is there
    "value_loss": "losses/value",
    "grad_loss": "losses/gradient",
    "critic_loss": "losses/critic",
    "actor_loss": "losses/actor",
    "q": "values/q",
    "target": "values/target",
    "alpha": "gradient/alpha",
    "mask": "gradient/rows",  # the fraction that the term sees
    "entropy": "sac/entropy",
    "entropy_coefficient": "sac/entropy_coefficient",
    "epsilon": "dqn/epsilon",
}


@torch.no_grad()
def curves_of(info: dict[str, Any]) -> dict[str, Tensor]:
    """What curves show of an update: numbers and (batch,) in `info`, gradients (..., goal_dim)."""
    found = {}
    for name, curve in CURVES.items():
        if name in info:
            found[curve] = torch.as_tensor(info[name], dtype=torch.float32).mean()
    if "alpha" in info:
        weighted = found["gradient/alpha"] * found.get("losses/gradient", 0.0)
        found["gradient/ratio"] = weighted / found["losses/value"]  # what --alpha auto holds
    if "q_grad" in info:
        q_grad, target_grad = info["q_grad"], info["target_grad"]
        if "mask" in info and found["gradient/rows"] > 0:  # rows that the term sees
            q_grad, target_grad = q_grad[info["mask"] > 0], target_grad[info["mask"] > 0]
        found["gradient/norm"] = q_grad.norm(dim=-1).mean()
        found["gradient/target_norm"] = target_grad.norm(dim=-1).mean()
        cosine = torch.cosine_similarity(q_grad, target_grad, dim=-1)
        found["gradient/cosine"] = cosine.mean()
    return found


def _parameters(agent: Any) -> Iterator[Tensor]:
    """Of the networks, not of their targets."""
    found = {}  # what two networks share counts once
    for name, part in vars(agent).items():
        if isinstance(part, nn.Module) and not name.startswith("target"):
            found |= {id(parameter): parameter for parameter in part.parameters()}
    yield from found.values()


def buffer_state(buffer: Any) -> dict[str, Any]:
    """What is stored in a replay buffer, not the zeros behind it."""
    arrays = {}
    for name, array in buffer.data.items():
        rows = torch.as_tensor(array[: buffer.used()]).cpu().numpy()
        # Of NumPy's view: PyTorch saves a view of its own with all that lies behind it
        arrays[name] = torch.from_numpy(rows[: filled(rows)])
    return {"numbers": whole_numbers(buffer), "arrays": arrays}


def whole_numbers(buffer: Any) -> dict[str, int]:
    """Where a buffer stands."""
    return {name: value for name, value in vars(buffer).items() if type(value) is int}


def filled(rows: np.ndarray) -> int:
    """How many there are up to the last one with anything but zeros: (n, ...) -> 0 .. n.

    Arrays with a row for each episode are as long as those with one for each step.
    """
    is_filled = rows.reshape(len(rows), -1).any(axis=1)
    return len(rows) - int(is_filled[::-1].argmax()) if is_filled.any() else 0


def restore_buffer(buffer: Any, state: dict[str, Any]) -> None:
    """The opposite of `buffer_state`; unfinished episodes are none."""
    for name in whole_numbers(buffer):
        setattr(buffer, name, state["numbers"][name])
    for name, array in buffer.data.items():
        rows = state["arrays"][name]
        torch.as_tensor(array)[: len(rows)] = rows  # in place, whatever holds it
    if "length" in buffer.data:  # of the unfinished episode too
        buffer.data["length"][buffer.current] = 0


DESCRIBES_NETWORKS = (  # what a model's file says, and all that is believed of it
    "env_id", "env_kwargs", "max_episode_steps", "observe_achieved_goal", "normalize",
    "hidden_dims", "encoder", "share_encoder", "embedding_dim", "hidden_dim", "n_max",
)  # fmt: skip


def network_settings(args: Any) -> dict[str, Any]:
    """The arguments without which a model's weights mean nothing."""
    return {name: value for name, value in vars(args).items() if name in DESCRIBES_NETWORKS}
