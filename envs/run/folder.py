"""A run's folder: one process at a time writes to it, and its files are always complete."""

import contextlib
import importlib
import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from envs.messages import BadInput, in_one_line, say
from envs.registry import folder_name
from envs.run.files import as_csv, check_readable, last_step, load, lock, pack, read_record, write
from envs.run.flags import OF_THE_RUN, check_unchanged, from_saved
from envs.run.state import restored, state_of
from envs.run.versions import say_if_edited, versions

STOPS = (signal.SIGTERM, signal.SIGINT)
CHECKPOINT_SHARE = 0.02  # of the time, at most, goes into checkpoints


class RunFolder:
    """The folder of `args.run_dir`, `args.resume`, or a new one; nothing is written before `begin`.

    The same command again goes on: a run that is complete says so and exits with code 0, one that
    was interrupted goes on from its checkpoint, bit for bit. After `begin`, SIGTERM and SIGINT end
    the run at the next `checkpoint` between episodes; a second one ends it at once.

    args.json and the models record `args` as they are now; `script` is the script's `__file__`.
    Under torchrun `rank` is this process's; only rank 0 writes.

    Raises BadInput if the folder has a run with other settings, or something else.
    """

    def __init__(self, args: Any, script: str, device: torch.device, rank: int | None = None):
        self.args = args
        self.settings = asdict(args)
        self.script = Path(script).resolve()
        self.device = device
        if rank is None and "TORCHELASTIC_RUN_ID" in os.environ:
            raise BadInput("Under torchrun, use ddpg_her_reengage_torchrun.py.")
        self.rank = rank or 0
        self.versions = versions(device, self.script)
        default = f"{folder_name(args.env_id)}__{self.script.stem}__{args.seed}__{time.time():.0f}"
        self.path = Path(args.resume or args.run_dir or f"runs/{default}").absolute()
        self.rows: list[dict[str, float]] = []  # of metrics.csv
        self.best: list[float] = [-np.inf]  # score of the best model
        self.episode_return = np.zeros(1)  # of each environment's unfinished episode, so far
        self.episodes: list[tuple[float, float]] = []  # return and success of training episodes
        self.curves: dict[str, list[Tensor]] = {}  # of updates since the last `log`
        self.updates = 0  # since the last `log`
        self.start = time.time()
        self.last_word = self.start
        self.stop = 0  # number of the signal that asked the run to end
        self.is_due = False  # a checkpoint
        self.overdue = 0  # steps since it was
        self.next_checkpoint = 0.0  # not before this time
        if not args.evaluate:
            self.check_folder()

    def check_folder(self) -> None:
        """Exits if the run is complete. Raises BadInput if the folder is not this run's."""
        record = read_record(self.path, self.script.stem)
        if record is None:
            return
        before = record.pop("versions")
        saved = from_saved(record, type(self.args), self.path / "args.json")
        total = self.args.total_timesteps
        may_change = {"resume", "run_dir"}
        if self.args.resume and total > saved.total_timesteps:
            may_change.add("total_timesteps")
        check_unchanged(self.settings, asdict(saved), self.path, may_change)
        say_if_edited(before, self.versions)
        if last_step(self.path) >= total:
            say(f"{self.path} is complete: {total} steps.")
            sys.exit(0)
        for name, was in before.items():  # numbers may depend on them
            now = self.versions.get(name)
            if was != now and name != "script_sha256":
                say(f"{name} was {was!r} and is {now!r}: not bit for bit.")

    # Begin, go on, end

    def begin(self, count: Any, **kept: Any) -> None:
        """Makes and locks the folder, restores a checkpoint, writes args.json.

        `count` says how far the run is: its `global_step`, and whatever else the script counts.
        `kept` is everything that learns or draws random numbers, by its name in the checkpoint.

        Raises BadInput if another process trains here, the folder cannot be made, or its checkpoint
        does not fit; TypeError if something in `kept` cannot be kept.
        """
        # count first: what ranks have of their own is restored after it
        self.kept = {"count": count} | kept | {"torch_stream": torch.default_generator}
        if self.device.type == "cuda":
            self.kept["cuda_stream"] = torch.cuda.default_generators[torch.cuda.current_device()]
        self.count = count
        json.dumps(self.settings)  # a TypeError for a flag of a kind that args.json cannot keep
        for name, state in self.state().items():  # what would be lost is refused now
            check_readable(name, state)
        if self.rank == 0:
            lock(self.path)  # until the process ends
        if (self.path / "checkpoint.pt").exists():
            self.restore()
        elif self.args.resume and last_step(self.path) > 0:
            raise BadInput(f"There is no checkpoint in {self.path}.")
        step = self.count.global_step
        self.clock = (time.time(), step)
        self.bar = tqdm(
            total=self.args.total_timesteps,
            initial=step,
            unit=" steps",
            file=sys.stdout,
            disable=None if self.rank == 0 else True,  # None: only on a terminal
            dynamic_ncols=True,
            leave=False,
        )
        for number in STOPS:
            signal.signal(number, self.ask_to_stop)
        if self.rank == 0:
            self.begin_to_write(step)

    def begin_to_write(self, step: int) -> None:
        leftovers = [*self.path.glob(".unfinished-*")]
        if step == 0:  # of a run that was killed before its first checkpoint
            leftovers += [*self.path.glob("metrics.csv"), *self.path.glob("events.out.*")]
        for leftover in leftovers:
            leftover.unlink()
        of_the_run = {"run_dir": str(self.path), "resume": "", "versions": self.versions}
        record = self.settings | of_the_run
        if self.args.track:  # before the writer of events is made, which it replaces
            self.track(record)
        self.write("args.json", json.dumps(record, indent=2) + "\n")
        if self.rows:
            self.write("metrics.csv", as_csv(self.rows))  # those since the checkpoint come again
        with self.one_sentence():
            self.writer = SummaryWriter(self.path, purge_step=step + 1 if step else None)
        where = f"from step {step} on" if step else "from the beginning"
        say(f"{self.args.env_id} on {self.device}, {where}: {self.path}")

    def track(self, record: dict[str, Any]) -> None:
        try:
            wandb = importlib.import_module("wandb")
            wandb.init(name=self.path.name, config=record, dir=self.path, sync_tensorboard=True)
        except Exception as error:  # no package, no account, no network
            with contextlib.suppress(OSError):
                self.path.rmdir()  # if there is nothing in it
            raise BadInput(f"--track does not work here: {in_one_line(error)}") from None

    def close(self) -> None:
        """Ends a run."""
        self.bar.close()
        if self.rank == 0:
            with self.one_sentence():
                self.writer.close()

    def ask_to_stop(self, number: int, frame: Any) -> None:
        self.stop = number
        for other in STOPS:
            signal.signal(other, signal.SIG_DFL)

    # What is logged

    def add_step(self, reward: np.ndarray, success: np.ndarray, ended: np.ndarray) -> None:
        """Records a training step of every environment, (num_envs,) each, and moves the bar."""
        self.episode_return = self.episode_return + reward
        for i in np.flatnonzero(ended):
            self.episodes.append((float(self.episode_return[i]), float(success[i])))
            self.episode_return[i] = 0
        self.bar.update(self.count.global_step - self.bar.n)
        if self.bar.disable and time.time() - self.last_word > 60:
            say(f"step {self.count.global_step} of {self.args.total_timesteps}")
            self.last_word = time.time()

    def add_update(self, info: dict[str, Tensor | float]) -> None:
        """Records what `update` returned: each entry becomes a curve of that name.

        Raises ValueError for an entry that is not a single number.
        """
        self.updates += 1
        for name, value in info.items():
            value = torch.as_tensor(value, dtype=torch.float32).detach()
            if value.ndim > 0:
                shape = tuple(value.shape)
                raise ValueError(f"The curve {name} has the shape {shape}: average it.")
            self.curves.setdefault(name, []).append(value)

    def log(self, **charts: float) -> dict[str, float]:
        """Writes training curves, means over the updates since the last call, and returns them.

        Each argument becomes the curve charts/<name>.
        """
        found = {}
        for name, values in self.curves.items():
            found[name] = torch.stack(values).mean().item()
        now = (time.time(), self.count.global_step)
        seconds, steps = (new - old for new, old in zip(now, self.clock, strict=True))
        charts["steps_per_second"] = steps / seconds
        charts["updates_per_second"] = self.updates / seconds
        if self.episodes:
            returns, successes = zip(*self.episodes, strict=True)
            charts |= {"episodic_return": np.mean(returns), "success_rate": np.mean(successes)}
        self.clock = now
        self.updates = 0
        self.curves.clear()
        self.episodes.clear()
        self.write_scalars(found | {f"charts/{name}": value for name, value in charts.items()})
        return found

    def add_row(self, metrics: dict[str, float]) -> None:
        """Records an evaluation in metrics.csv and prints it; a checkpoint becomes due."""
        self.is_due = True
        step = self.count.global_step
        row = {"global_step": step} | {name: float(value) for name, value in metrics.items()}
        row["wall_time"] = round(time.time() - self.start, 3)
        self.rows.append(row)
        if self.rank == 0:
            self.write("metrics.csv", as_csv(self.rows))
        say("  ".join(f"{name} {round(value, 3)}" for name, value in row.items()))
        self.last_word = time.time()
        self.write_scalars({f"eval/{name}": value for name, value in metrics.items()})

    def check_finite(self, numbers: dict[str, Tensor | float], prefix: str = "") -> None:
        """Ends the run with exit code 1 if one whose name starts with `prefix` is not finite."""
        for name, number in numbers.items():
            if name.startswith(prefix) and not np.isfinite(float(number)):
                what = f"{name} is {float(number):g} at step {self.count.global_step}"
                sys.exit(f"{what}; {self.path} keeps what was saved.")

    def write_scalars(self, scalars: dict[str, float]) -> None:
        if self.rank == 0:
            with self.one_sentence():
                for name, value in scalars.items():
                    self.writer.add_scalar(name, value, self.count.global_step)
                self.writer.flush()

    # What is saved

    def save_model(self, score: tuple[float, ...], **networks: nn.Module) -> None:
        """Writes model.pt, and best_model.pt unless an earlier model scored higher.

        A model from before the first step does not stay the best. Weights that are not finite end
        the run instead of replacing a model.
        """
        score = [-np.inf if np.isnan(number) else float(number) for number in score]
        for network in networks.values():
            total = sum(x.sum() for x in network.state_dict().values())
            self.check_finite({"The sum of all weights": total})
        if self.args.save_model and self.rank == 0:
            settings = {name: x for name, x in self.settings.items() if name not in OF_THE_RUN}
            model = {"script": self.script.stem, "settings": settings}
            model["global_step"] = self.count.global_step
            model |= {name: network.state_dict() for name, network in networks.items()}
            self.write("model.pt", pack(model))
            if score >= self.best:
                self.write("best_model.pt", pack(model))
        if self.count.global_step > 0:
            self.best = max(self.best, score)

    def write(self, name: str, content: str | bytes | memoryview) -> None:
        """Replaces a file of the folder atomically; ends the run if that fails."""
        with self.one_sentence():
            write(self.path / name, content)

    def checkpoint(self, ended: np.ndarray, max_episode_steps: int) -> None:
        """Writes checkpoint.pt after an evaluation, once all episodes have ended; ends if asked to.

        Between episodes no simulator's state is needed: the environments' random streams suffice,
        and a resumed run equals the uninterrupted one bit for bit. Environments whose episodes do
        not end together get as many steps as an episode has; then a checkpoint is written all the
        same, and a resumed run leaves the unfinished episodes out. If the buffer is large and
        writing takes long, checkpoints become rarer.
        """
        is_over = self.count.global_step >= self.args.total_timesteps
        is_early = time.time() < self.next_checkpoint
        stop, is_playing, is_early = self.agree(self.stop, not ended.all(), is_early)
        if not (self.is_due or stop or is_over):
            return
        self.overdue += 1
        if is_playing and not is_over and self.overdue <= max_episode_steps:
            return
        if self.args.save_checkpoint and (stop or is_over or not is_early):
            begun = time.time()
            state = self.state()
            if self.rank == 0:
                self.write("checkpoint.pt", pack(state))
            done = time.time()
            self.next_checkpoint = done + (done - begun) / CHECKPOINT_SHARE
        self.is_due = False
        self.overdue = 0
        if stop and not is_over:
            self.end_early(stop)

    def agree(self, *numbers: int) -> tuple[int, ...]:
        """What all processes of the run agree on; a script with several replaces this."""
        return numbers

    def end_early(self, number: int) -> NoReturn:
        """Says so, and exits with the code of a process killed by the signal."""
        next_step = "there is no checkpoint, as --no-save-checkpoint asked"
        if self.args.save_checkpoint:
            next_step = f"go on with the same --run-dir, or with --resume {self.path}"
        name = signal.Signals(number).name
        say(f"{name}: ended at step {self.count.global_step}; {next_step}.")
        self.close()
        sys.exit(128 + number)

    def state(self) -> dict[str, Any]:
        """The whole state of a run between two episodes."""
        state = {name: state_of(part, name) for name, part in self.kept.items()}
        state["rows"] = self.rows
        state["best"] = self.best
        state["wall_time"] = time.time() - self.start
        return state

    def restore(self) -> None:
        path = self.path / "checkpoint.pt"
        state = load(path, "checkpoint")
        try:
            for name, part in self.kept.items():
                restored(part, state[name])
        except Exception as error:  # each part refuses in its own way what does not fit
            raise BadInput(f"{path} does not fit this run: {in_one_line(error)}.") from None
        self.rows = state["rows"]
        self.best = state["best"]
        self.start = time.time() - state["wall_time"]

    @contextlib.contextmanager
    def one_sentence(self) -> Iterator[None]:
        """Ends the run with one sentence if the disk is full or gone; what was saved stays."""
        try:
            yield
        except (OSError, ValueError) as error:  # the event file's thread raises either
            reason = getattr(error, "strerror", None) or str(error)
            step = self.count.global_step
            sentence = f"Cannot write to {self.path} at step {step} ({reason})"
            print(f"{sentence}; what was saved is complete.", file=sys.stderr, flush=True)
            os._exit(1)  # the event file's thread would add tracebacks of the same kind
