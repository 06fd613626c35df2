"""The runs of a grid: which there are, which are missing, which train together, their files."""

import gc
import hashlib
import itertools
import json
import math
import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import torch
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from envs.messages import BadInput, say
from envs.registry import folder_name
from envs.run import flags
from envs.run.files import as_csv, last_step, lock, read_record, write
from envs.run.versions import say_if_edited, versions


@dataclass
class GridArgs:
    """Flags of a grid of runs: one for each alpha, each learning rate and each seed."""

    alpha: tuple[flags.NonNegative | Literal["auto"], ...] = (0.1,)
    """weights of the gradient term, a mean over batch and goal dimensions; 0 is DDPG+HER"""
    learning_rate: tuple[flags.Positive, ...] = (1e-3,)
    """of Adam, for actor and critic (paper: table 2)"""
    seeds: Annotated[int, flags.Range(1, 10**4)] = 10
    """runs of each setting, with the seeds 1, 2, ..."""
    run_dir: str = ""
    """folder of the runs' folders (default: runs/{env_id}__{script})"""
    group_size: Annotated[int, flags.Range(0, 10**6)] = 0
    """runs that train side by side; 0: as many as stay in the cache"""
    tensorboard: bool = False
    """curves of each run for TensorBoard, a point at each evaluation"""
    cuda: bool = True
    """use a GPU if there is one"""
    num_threads: Annotated[int, flags.Range(1, 1024)] = 1
    """PyTorch's threads"""
    compile: bool = True
    """compile the gradients, on a CPU: faster, after a wait of up to a minute"""
    matmul_precision: Literal["highest", "high", "medium"] = "highest"
    """of training's matrix products: high is TF32 on a GPU, medium is bfloat16"""


OF_THE_CALL = (  # not of a run
    "seeds", "run_dir", "group_size", "tensorboard", "cuda", "num_threads", "compile",
)  # fmt: skip


class Run(NamedTuple):
    """One run of the grid."""

    alpha: float | str
    learning_rate: float
    seed: int

    def method(self) -> str:
        """What its seeds have in common."""
        alpha = str(self.alpha).removesuffix(".0")
        return f"alpha{alpha}_lr{self.learning_rate}"

    def folder(self, args: GridArgs) -> Path:
        return Path(args.run_dir) / self.method() / str(self.seed)

    def key(self) -> int:
        """63 bits that seed everything random of this run, and of no other."""
        name = f"{self.method()}_{self.seed}"
        digest = hashlib.sha256(name.encode()).digest()
        return int.from_bytes(digest[:8], "big") >> 1

    def settings(self, args: GridArgs) -> dict[str, Any]:
        """What decides its numbers, by the plain script's names."""
        values = asdict(args) | self._asdict()
        return {name: value for name, value in values.items() if name not in OF_THE_CALL}


def choose_group_size(asked: int, run_bytes: int, cached: int, device: torch.device) -> int:
    """Runs side by side: `asked`, or if that is 0 as many as keep `cached` bytes each in the cache.

    Raises BadInput if so many, of `run_bytes` each, do not fit into the memory.
    """
    if device.type == "cuda":
        memory = torch.cuda.mem_get_info(device)[0]
        cache = 10e6
    else:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        cache = 2e6
    fitting = int(0.9 * memory / run_bytes)
    if fitting < max(asked, 1):
        gigabytes = f"{1e-9 * run_bytes:.2g} GB each"
        raise BadInput(f"{fitting} runs at once fit into the memory, {gigabytes}: --group-size.")
    return asked or max(1, min(int(cache / cached), fitting))


class Grid:
    """The runs of one call of `script`, their folder locked until the process ends.

    Raises BadInput if another process trains there, the folder cannot be made, or a run there has
    other settings.
    """

    def __init__(self, args: GridArgs, script: str, device: torch.device):
        if "TORCHELASTIC_RUN_ID" in os.environ:
            raise BadInput("Under torchrun, use ddpg_her_reengage_torchrun.py.")
        self.args = args
        args.run_dir = args.run_dir or f"runs/{folder_name(args.env_id)}__{Path(script).stem}"
        self.versions = versions(device, Path(script)) | {"compile": args.compile}
        lock(Path(args.run_dir))  # until the process ends
        seeds = range(1, args.seeds + 1)
        product = itertools.product(args.alpha, args.learning_rate, seeds)
        self.runs = list(dict.fromkeys(Run(*setting) for setting in product))  # each once
        complete = self.complete()
        self.missing = [run for run in self.runs if run not in complete]

    def complete(self) -> list[Run]:
        """The runs that are trained to their end.

        Raises BadInput if a run's folder has something else.
        """
        found = []
        for run in self.runs:
            folder = run.folder(self.args)
            record = read_record(folder, self.versions["script"])
            if record is None:
                continue
            flags.check_unchanged(run.settings(self.args), record, folder)
            if last_step(folder) >= self.args.total_timesteps:
                say_if_edited(record["versions"], self.versions)
                found.append(run)
        return found

    def train(self, group_size: int, train_group: Callable[["GroupFolders"], None]) -> None:
        """Trains what is missing, a group after the other; what is complete is never lost.

        `train_group` trains the runs of some folders side by side. The process ends with code 1 if
        a run failed.
        """
        signal.signal(signal.SIGINT, signal.default_int_handler)  # ends in one line, see below
        self.say_complete()
        for first in range(0, len(self.missing), group_size):
            group = self.missing[first : first + group_size]
            try:
                folders = GroupFolders(self.args, group, self.versions)
                train_group(folders)
                folders.close()
            except KeyboardInterrupt:
                self.say_complete("Stopped: ")
                sys.exit(130)
            except torch.OutOfMemoryError:
                sys.exit(f"The memory is too small for {len(group)} runs: lower --group-size.")
            except OSError as error:  # the disk is full, or gone
                place = f"{self.args.run_dir} ({error.strerror})"
                sentence = f"Cannot write to {place}; what is complete stays so."
                print(sentence, file=sys.stderr, flush=True)
                os._exit(1)  # the event files' threads would add tracebacks of the same kind
            except BadInput as error:
                sys.exit(str(error))
            gc.collect()  # a CUDA graph holds the group that holds it
            self.say_complete()
        if len(self.complete()) < len(self.runs):
            sys.exit(1)

    def say_complete(self, before: str = "") -> None:
        say(f"{before}{len(self.complete())} of {len(self.runs)} runs are complete.")


class GroupFolders:
    """The folders of runs that train side by side, and what is shown of them.

    Each gets args.json at once and metrics.csv at each evaluation, and with --tensorboard the same
    numbers and the training curves.
    """

    def __init__(self, args: Any, runs: list[Run], about: dict[str, Any]):
        self.args = args
        self.runs = runs
        self.begin = time.time()
        self.clock = (self.begin, 0)  # time and step of the last evaluation
        self.locks = [lock(run.folder(args)) for run in runs]  # until they are trained
        self.diverged: set[Run] = set()
        for run in runs:
            folder = run.folder(args)
            for name in ("metrics.csv", "events.out.tfevents.*"):
                for path in folder.glob(name):
                    path.unlink()  # it would seem to be this run's
            text = json.dumps(run.settings(args) | {"versions": about}, indent=2)
            write(folder / "args.json", text + "\n")
        self.writers = []
        if args.tensorboard:
            self.writers = [SummaryWriter(run.folder(args)) for run in runs]
        self.rows: list[list[dict[str, float]]] = [[] for _ in runs]
        self.bar = tqdm(
            total=args.total_timesteps,
            unit=" steps",
            file=sys.stdout,
            disable=None,  # where there is no terminal
            dynamic_ncols=True,
            leave=False,
        )

    def check_finite(self, name: str, values: Tensor) -> None:
        """Ends the metrics.csv of each run whose value, of (run,), is nan or infinite."""
        for run, value in zip(self.runs, values.tolist(), strict=True):
            if not math.isfinite(value) and run not in self.diverged:
                self.diverged.add(run)
                say(f"{run.folder(self.args)}: {name} is {value}, so its file ends here.")

    def add_rows(
        self, global_step: int, metrics: list[dict[str, float]], curves: dict[str, Tensor]
    ) -> None:
        """An evaluation of each run: a row of its metrics.csv, and a printed line for all.

        Curves are those of the last update, (run,) each; there are none before the first one.
        """
        now = (time.time(), global_step)
        seconds, steps = (new - old for new, old in zip(now, self.clock, strict=True))
        speed = steps / seconds  # of each run
        self.clock = now
        columns = {name: values.tolist() for name, values in curves.items()}
        for index, writer in enumerate(self.writers):
            scalars = {name: values[index] for name, values in columns.items()}
            scalars |= {f"eval/{name}": value for name, value in metrics[index].items()}
            scalars["charts/steps_per_second"] = speed
            for name, value in scalars.items():
                writer.add_scalar(name, value, global_step)
            writer.flush()
        # Last: with its last row a run is complete
        wall_time = round(now[0] - self.begin, 3)
        for run, rows, values in zip(self.runs, self.rows, metrics, strict=True):
            if run not in self.diverged:
                rows.append({"global_step": global_step, **values, "wall_time": wall_time})
                write(run.folder(self.args) / "metrics.csv", as_csv(rows))
        success = sum(values["success_once"] for values in metrics) / len(metrics)
        done = f"global_step {global_step} ({global_step / self.args.total_timesteps:.0%})"
        say(f"{len(metrics)} runs  {done}  success_once {success:.3f}  {speed:.0f} steps/s each")

    def close(self) -> None:
        self.bar.close()
        for writer in self.writers:
            writer.close()
        for descriptor in self.locks:
            os.close(descriptor)
