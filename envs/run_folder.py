"""A run's folder: one process at a time writes to it, and what lies there is always complete.

Scripts say what is learned and stored; how it gets to the disk, and back, stands here.
"""

import contextlib
import csv
import fcntl
import importlib
import inspect
import io
import json
import os
import platform
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

ROOT = Path(__file__).resolve().parents[1]


@dataclass
class Count:
    """How far a run is."""

    global_step: int = 0
    updates: int = 0
    new_episodes: int = 0  # finished since the normalisers last saw any
    best: tuple[float, ...] = (-np.inf,)  # score of the best model


class RunFolder:
    """A new folder for a run, or that of `args.resume`, locked until the process ends.

    The kernel drops the lock when the process dies, however it dies. After `begin`, SIGTERM and
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
        script = Path(inspect.getfile(type(args))).stem
        name = args.env_id.rpartition(":")[2]  # of module:name
        default = f"runs/{name}__{script}__{args.seed}__{time.time():.0f}"
        self.path = Path(args.resume or args.run_dir or default).absolute()
        self.script = script
        if rank == 0:
            if not args.resume:
                try:
                    self.path.mkdir(parents=True)
                except FileExistsError:
                    raise ValueError(f"{self.path} exists: give another --run-dir.") from None
            self.lock = os.open(self.path, os.O_RDONLY)
            try:
                fcntl.flock(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise ValueError(f"Another process is writing to {self.path}.") from None
        self.is_shared = False  # between ranks
        self.count = Count()
        self.rows: list[dict[str, float]] = []  # of metrics.csv
        self.start = time.time()
        self.stop = 0  # number of the signal that asked the run to end
        self.is_due = False  # a checkpoint
        self.overdue = 0  # steps since it was
        self.next_checkpoint = 0.0  # not before this time

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
            buffer: the replay buffer: arrays in a dict `data`, numbers as attributes.
            envs: the `VectorEnv`s; their random streams go on where they were.
            rng: the script's own random stream.
        """
        self.rng = rng
        self.envs = envs
        parts = vars(agent).items()
        self.parts = {name: part for name, part in parts if hasattr(part, "load_state_dict")}
        self.buffer = buffer
        if self.args.resume:
            self._load_checkpoint()
            step = self.count.global_step
            if self._largest(step, -step) != [step, -step]:
                raise ValueError(f"The ranks' checkpoints in {self.path} are of different steps.")
        step = self.count.global_step
        self.clock = (time.time(), step, self.count.updates)
        self.episode_return = np.zeros(envs[0].num_envs)
        self.episodes: list[tuple[float, float]] = []  # return and success of training episodes
        self.watched: list[dict[str, Tensor]] = []  # of updates since the last log
        is_shown = self.rank == 0
        self.bar = tqdm(
            total=self.args.total_timesteps,
            initial=step,
            unit=" steps",
            file=sys.stdout,
            disable=None if is_shown else True,  # None: only on a terminal
            dynamic_ncols=True,
            leave=False,
        )
        self.last_word = time.time()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._ask_to_stop)
        if is_shown:
            record = asdict(self.args) | {"run_dir": str(self.path), "resume": ""}
            record["versions"] = {"script": self.script} | versions(self.device)
            self.write("args.json", json.dumps(record, indent=2) + "\n")
            if self.args.track:
                wandb = importlib.import_module("wandb")
                wandb.init(name=self.path.name, config=record, dir=self.path, sync_tensorboard=True)
            with self._one_sentence():
                self.writer = SummaryWriter(self.path, purge_step=step + 1 if step else None)
            size = sum(x.numel() for x in _parameters(agent))
            self.say(
                f"{self.args.env_id} on {self.device}: observation {envs[0].obs_dim}, "
                f"goal {envs[0].goal_dim}, {size:,} weights; {self.path}"
            )
        return self.count

    def share_between_ranks(self) -> None:
        """Under torchrun: one folder for all ranks, and checkpoints of one step."""
        torch.distributed.init_process_group("gloo")  # ranks may share a GPU: NCCL refuses that
        self.is_shared = True
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
        for other in (signal.SIGTERM, signal.SIGINT):
            signal.signal(other, signal.SIG_DFL)

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
        text = io.StringIO()
        table = csv.DictWriter(text, row.keys(), lineterminator="\n")
        table.writeheader()
        table.writerows(self.rows)
        self.write("metrics.csv", text.getvalue())
        self.say("  ".join(f"{name} {round(value, 3)}" for name, value in row.items()))
        self._write_scalars({f"eval/{name}": value for name, value in metrics.items()})

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
        if scalars.get("gradient/rows", 1.0) == 0.0 and not hasattr(self, "warned"):
            self.warned = True
            self.say("The gradient term sees no transition: no reward equals --c-low.")
        self._write_scalars(scalars)

    def check_finite(self, loss: Tensor | float) -> None:
        """Ends the run where a loss is no number; what was saved stays."""
        loss = float(loss.detach()) if isinstance(loss, Tensor) else loss
        if not np.isfinite(loss):
            step = self.count.global_step
            sys.exit(f"The loss is {loss:g} at step {step}; {self.path} keeps what was saved.")

    def check_equal(self, weights: list[Tensor]) -> None:
        """Ends the run if this rank has other weights than rank 0."""
        ours = nn.utils.parameters_to_vector(weights).detach()
        expected = ours.clone()
        torch.distributed.broadcast(expected, src=0)
        if not expected.equal(ours):
            step = self.count.global_step
            sys.exit(f"Rank {self.rank} has other weights than rank 0 at step {step}.")

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
            self.check_finite(sum(x.sum() for x in network.state_dict().values()))
        if self.args.save_model and self.rank == 0:
            states = {name: network.state_dict() for name, network in networks.items()}
            about = {"script": self.script, "settings": network_settings(self.args)}
            model = about | {"global_step": self.count.global_step} | states
            self.save("model.pt", model)
            if score >= self.count.best:
                self.save("best_model.pt", model)
        if self.count.global_step > 0:
            self.count.best = max(self.count.best, score)

    def save(self, name: str, content: dict[str, Any]) -> None:
        """A dict of tensors and plain values as a file that `load` reads."""
        memory = io.BytesIO()
        torch.save(content, memory)
        self.write(name, memory.getbuffer())

    def write(self, name: str, content: str | bytes | memoryview) -> None:
        """Replaces a file only when the new one is complete and on the disk."""
        unfinished = self.path / f".unfinished-{name}"
        content = content.encode() if isinstance(content, str) else content
        with self._one_sentence():
            try:
                with open(unfinished, "wb") as file:
                    file.write(content)
                    file.flush()
                    os.fsync(file.fileno())
                unfinished.replace(self.path / name)
            finally:
                unfinished.unlink(missing_ok=True)

    def checkpoint(self, ended: np.ndarray) -> None:
        """Writes checkpoint.pt after an evaluation, once all episodes have ended; ends if asked to.

        Between episodes no simulator's state is needed: the environments' random streams suffice,
        and a resumed run equals the uninterrupted one bit for bit. Environments whose episodes do
        not end together get as many steps as an episode has; then a checkpoint is written all the
        same, and a resume leaves the unfinished episodes out. Writing takes at most a fiftieth of
        the time, so that checkpoints become rarer where the buffer is large.
        """
        is_over = self.is_over()
        is_early = time.time() < self.next_checkpoint
        is_playing = not ended.all()
        self.stop, is_playing, is_early = self._largest(self.stop, is_playing, is_early)
        if not (self.is_due or self.stop or is_over):
            return
        self.overdue += 1
        if is_playing and not is_over and self.overdue <= self.envs[0].max_episode_steps:
            return
        if self.args.save_checkpoint and (self.stop or is_over or not is_early):
            begun = time.time()
            self._save_checkpoint()
            self.next_checkpoint = time.time() + 50 * (time.time() - begun)
        self.is_due = False
        self.overdue = 0
        if self.stop and not is_over:
            kept = (
                f"go on with --resume {self.path}" if self.args.save_checkpoint else "no checkpoint"
            )
            name = signal.Signals(self.stop).name
            self.say(f"{name}: ended at step {self.count.global_step}; {kept}.")
            self.close()
            sys.exit(128 + self.stop)

    def _largest(self, *numbers: int) -> list[int]:
        """The largest of all ranks' numbers, one by one."""
        shared = torch.tensor(numbers)
        if self.is_shared:
            torch.distributed.all_reduce(shared, torch.distributed.ReduceOp.MAX)
        return shared.tolist()

    def _checkpoint_name(self) -> str:
        return f"checkpoint_{self.rank}.pt" if self.rank else "checkpoint.pt"

    def _save_checkpoint(self) -> None:
        state = {name: part.state_dict() for name, part in self.parts.items()}
        state["buffer"] = buffer_state(self.buffer)
        state["torch_stream"] = torch.get_rng_state()
        if self.device.type == "cuda":
            state["cuda_stream"] = torch.cuda.get_rng_state(self.device)
        state["numpy_stream"] = json.dumps(self.rng.bit_generator.state)
        state["env_streams"] = [envs.random_state() for envs in self.envs]
        state["count"] = asdict(self.count)
        state["rows"] = self.rows
        state["wall_time"] = time.time() - self.start
        self.save(self._checkpoint_name(), state)

    def _load_checkpoint(self) -> None:
        path = self.path / self._checkpoint_name()
        state = load(path, "checkpoint")
        try:
            for name, part in self.parts.items():
                part.load_state_dict(state[name])
            restore_buffer(self.buffer, state["buffer"])
            torch.set_rng_state(state["torch_stream"])
            if self.device.type == "cuda":
                torch.cuda.set_rng_state(state["cuda_stream"], self.device)
            self.rng.bit_generator.state = json.loads(state["numpy_stream"])
            for envs, stream in zip(self.envs, state["env_streams"], strict=True):
                envs.set_random_state(stream)
            self.count = Count(**state["count"])
            self.rows = state["rows"]
            self.start = time.time() - state["wall_time"]
        except (RuntimeError, ValueError, KeyError, TypeError, AttributeError) as error:
            name = type(error).__name__
            raise ValueError(f"{path} does not fit this run ({name}).") from None

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
    if "q_grad" in info:
        q_grad, target_grad = info["q_grad"], info["target_grad"]
        weighted = found["gradient/alpha"] * found["losses/gradient"]
        found["gradient/ratio"] = weighted / found["losses/value"]  # what --alpha auto holds
        found["gradient/norm"] = q_grad.norm(dim=-1).mean()
        found["gradient/target_norm"] = target_grad.norm(dim=-1).mean()
        cosine = torch.cosine_similarity(q_grad, target_grad, dim=-1)
        found["gradient/cosine"] = cosine.mean()
    return found


def _parameters(agent: Any) -> Iterator[Tensor]:
    for name in ("actor", "critic", "critics", "q_network"):
        if hasattr(agent, name):
            yield from getattr(agent, name).parameters()


def buffer_state(buffer: Any) -> dict[str, Any]:
    """What is stored in a replay buffer, not the zeros behind it."""
    numbers = {name: value for name, value in vars(buffer).items() if type(value) is int}
    arrays = {}
    for name, array in buffer.data.items():
        arrays[name] = torch.from_numpy(array[: buffer.used()])
    return {"numbers": numbers, "arrays": arrays}


def restore_buffer(buffer: Any, state: dict[str, Any]) -> None:
    """The opposite of `buffer_state`; unfinished episodes are none."""
    for name, value in state["numbers"].items():
        setattr(buffer, name, value)
    for name, tensor in state["arrays"].items():
        buffer.data[name][: len(tensor)] = tensor.numpy()


DESCRIBES_NETWORKS = (  # what a model's file says, and all that is believed of it
    "env_id", "env_kwargs", "max_episode_steps", "observe_achieved_goal", "normalize",
    "hidden_dims", "encoder", "share_encoder", "embedding_dim", "hidden_dim", "n_max",
)  # fmt: skip


def network_settings(args: Any) -> dict[str, Any]:
    """The arguments without which a model's weights mean nothing."""
    return {name: value for name, value in vars(args).items() if name in DESCRIBES_NETWORKS}


def say(line: str) -> None:
    """Prints a line, above any progress bar; a closed standard output stops nothing."""
    if "TORCHELASTIC_RUN_ID" in os.environ and os.environ["RANK"] != "0":
        return
    try:
        tqdm.write(line, file=sys.stdout)
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def load(path: str | Path, kind: str) -> dict[str, Any]:
    """A file that `RunFolder.save` wrote, read as data, never as code.

    Raises:
        ValueError: it is missing, damaged (every part has a checksum), or no such file.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
        if damaged is not None:
            raise ValueError("damaged")
        content = torch.load(path, map_location="cpu", weights_only=True)
        if not isinstance(content, dict):
            raise ValueError("no dict")
    except FileNotFoundError:
        raise ValueError(f"There is no {kind} {path}.") from None
    except Exception as error:  # a crafted file can fail in any way
        name = type(error).__name__
        raise ValueError(f"{path} is no readable {kind} file ({name}).") from None
    return content


def versions(device: torch.device) -> dict[str, Any]:
    """What a run's numbers may depend on besides its arguments."""
    found = {"commit": commit(), "python": platform.python_version()}
    for package in ("reengage", "torch", "gymnasium", "gymnasium-robotics", "mujoco", "numpy"):
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = None
    found["device"] = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    found["processor"] = processor()
    found["threads"] = torch.get_num_threads()
    found["precision"] = torch.get_float32_matmul_precision()
    return found


def commit() -> str | None:
    """The project's commit, with a + where files differ from it; None without git."""
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty=+", "--exclude=*"]
    try:
        result = subprocess.run(command, capture_output=True, text=True)
    except OSError:
        return None
    return result.stdout.strip() or None


def processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
