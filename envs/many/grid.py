"""Runs that share a process: which there are, which are missing, which train together, their files.

What `launch` and `run_folder` are to a script with one run.
"""

import gc
import hashlib
import inspect
import itertools
import json
import math
import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar

import torch
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from envs.many.on_device import DeviceTask
from envs.messages import say
from envs.registry import folder_name, resolve
from envs.run import flags as launch
from envs.run.files import lock, write, write_rows
from envs.run.folder import CURVES
from envs.run.versions import versions

A = TypeVar("A", bound="GridArgs")


@dataclass
class GridArgs:
    """Flags of a grid of runs: one for each alpha, each learning rate and each seed."""

    alpha: tuple[float | Literal["auto"], ...] = (0.1,)
    """weights of the gradient term, a mean over batch and goal dimensions; 0 is DDPG+HER"""
    learning_rate: tuple[float, ...] = (1e-3,)
    """of Adam, for actor and critic (paper: table 2)"""
    seeds: int = 10
    """runs of each setting, with the seeds 1, 2, ..."""
    run_dir: str = ""
    """folder of the runs' folders (default: runs/{env_id}__{script})"""
    group_size: int = 0
    """runs that train side by side; 0: as many as stay in the cache"""
    tensorboard: bool = False
    """curves of each run for TensorBoard, a point at each evaluation"""
    minutes: float = 0.0
    """start no group that will not finish within so many minutes (exit code 3); 0: no limit"""
    cuda: bool = True
    """use a GPU if there is one"""
    num_threads: int = 1
    """PyTorch's threads"""
    matmul_precision: Literal["highest", "high", "medium"] = "highest"
    """of training's matrix products: high is TF32 on a GPU, medium is bfloat16"""


OF_THE_CALL = (  # not of a run
    "seeds", "run_dir", "group_size", "tensorboard", "minutes", "cuda", "num_threads",
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


# Before the runs


def parse_args(cls: type[A], settings: dict[str, dict], untuned: dict[str, Any], doc: str) -> A:
    """The command line over the environment's settings, as `launch.parse_args`.

    Raises:
        ValueError: one sentence on what cannot be.
    """
    env_id = resolve(launch.peek("env_id").env_id or cls.env_id)
    applied = dict(launch.settings_of(env_id, settings, untuned))
    for name in ("alpha", "learning_rate"):
        if name in applied:
            applied[name] = (applied[name],)
    args = launch.parse_groups(cls, replace(cls(env_id=env_id), **applied), doc)
    args.env_id = resolve(args.env_id)
    launch.check_ranges(args)
    for name in ("alpha", "learning_rate"):
        values = getattr(args, name)
        if len(set(values)) < len(values):
            raise ValueError(f"{launch.flag(name)} has a number twice.")
    name = folder_name(args.env_id)
    args.run_dir = args.run_dir or f"runs/{name}__{launch.script_of(cls)}"
    launch.say_settings(args, applied)
    return args


def check_args(args: Any, task: DeviceTask) -> None:
    """Raises ValueError for what the arguments and the environment cannot be together."""
    if args.raw_goal_gradient and not args.normalize:
        raise ValueError("--raw-goal-gradient has no meaning without --normalize.")
    if args.gradient_steps % args.target_network_frequency:
        raise ValueError("--target-network-frequency must divide --gradient-steps.")
    if task.max_steps % args.train_frequency:
        raise ValueError(f"--train-frequency must divide an episode's {task.max_steps} steps.")
    steps = task.max_steps * args.num_envs
    for name in ("total_timesteps", "eval_frequency"):
        if getattr(args, name) % steps:
            flag = launch.flag(name)
            raise ValueError(f"{flag} must be a multiple of {steps}, an episode everywhere.")
    if max(args.learning_starts, args.train_frequency * args.num_envs) < steps:
        raise ValueError(f"The first update needs an episode: --learning-starts {steps} or more.")
    if args.learning_starts > args.total_timesteps:
        raise ValueError("Nothing would be learned: --learning-starts is above --total-timesteps.")
    if args.buffer_size < steps:
        raise ValueError(f"--buffer-size must be at least {steps}, an episode everywhere.")
    if args.eval_episodes == 0:
        args.eval_episodes = launch.episodes_by_length(task.max_steps)


def start(args: GridArgs) -> torch.device:
    """Threads, precision, no autograd; the device."""
    launch.check_one_process(type(args))
    torch.set_num_threads(args.num_threads)
    torch.set_float32_matmul_precision(args.matmul_precision)
    torch.set_flush_denormal(True)  # denormal numbers are up to a hundred times slower
    torch.set_grad_enabled(False)
    # 32 MB, given back at once: from now on glibc keeps as much for itself, a fifth faster
    torch.empty(8_000_000)
    return torch.device("cuda" if args.cuda and torch.cuda.is_available() else "cpu")


def choose_group_size(args: Any, task: DeviceTask, device: torch.device) -> int:
    """Runs side by side: what stays in the cache. ValueError where even memory is short."""
    width = max(args.hidden_dims)
    in_dim = task.obs_dim + task.goal_dim + task.action_dim
    layers = itertools.pairwise((in_dim, *args.hidden_dims, 1))
    weights = sum((fan_in + 1) * fan_out for fan_in, fan_out in layers)
    steps = min(args.buffer_size, args.total_timesteps) * (task.max_steps + 1) // task.max_steps
    numbers = steps * (in_dim + task.goal_dim)  # replay buffer
    numbers += 10 * weights  # of two networks: online, target, gradient, and two of Adam
    numbers += 10 * args.batch_size * (in_dim + width * len(args.hidden_dims))  # activations
    if device.type == "cuda":
        memory = torch.cuda.mem_get_info(device)[0]
        cache = 10e6
    else:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        cache = 2e6
    fitting = int(0.9 * memory / (4 * numbers))
    if fitting < max(args.group_size, 1):
        gigabytes = f"{4e-9 * numbers:.2g} GB each"
        raise ValueError(f"{fitting} runs at once fit into the memory, {gigabytes}: --group-size.")
    cached = int(cache / (4 * args.batch_size * width))
    return args.group_size or max(1, min(cached, fitting))


def settings_of(args: GridArgs, run: Run) -> dict[str, Any]:
    """What decides a run's numbers, by the plain script's names, as JSON gives it back."""
    values = json.loads(json.dumps(asdict(args) | run._asdict()))
    for name in OF_THE_CALL:
        del values[name]
    return values


class Grid:
    """The runs of one call, their folder locked until the process ends.

    Raises:
        ValueError: another process trains there, or a run there has other settings.
        OSError: the folder cannot be made.
    """

    def __init__(self, args: GridArgs):
        self.args = args
        Path(args.run_dir).mkdir(parents=True, exist_ok=True)
        self.lock = lock(Path(args.run_dir))
        seeds = range(1, args.seeds + 1)
        product = itertools.product(args.alpha, args.learning_rate, seeds)
        self.runs = [Run(*setting) for setting in product]
        self.missing = [run for run in self.runs if not self.is_complete(run)]

    def is_complete(self, run: Run) -> bool:
        """Whether a run is trained to its end. ValueError if its folder has another one."""
        folder = run.folder(self.args)
        expected = settings_of(self.args, run)
        try:
            found = json.loads((folder / "args.json").read_text())
            script = found["versions"]["script"]
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return False
        if script != launch.script_of(type(self.args)):
            raise ValueError(f"{folder} has a run of {script}.py: choose another --run-dir.")
        for name, value in expected.items():
            if found.get(name) != value:
                raise ValueError(
                    f"{folder} has a run with another {name}: choose another --run-dir."
                )
        try:
            *_, last = (folder / "metrics.csv").read_text().splitlines()
        except (FileNotFoundError, ValueError):
            return False
        return last.startswith(f"{expected['total_timesteps']},")

    def train(self, group_size: int, train_group: Callable[[list[Run]], None]) -> None:
        """Trains what is missing, a group after the other; what is complete is never lost.

        The process ends with code 1 if a run failed, 3 if --minutes left some out.

        Args:
            train_group: trains some runs side by side.
        """
        signal.signal(signal.SIGINT, signal.default_int_handler)  # ends in one line, see below
        begin = time.time()
        seconds = 0.0  # of a group, unknown as yet
        self.say_complete()
        for first in range(0, len(self.missing), group_size):
            group = self.missing[first : first + group_size]
            group_begin = time.time()
            end = group_begin + seconds
            limit = self.args.minutes
            if limit > 0 and end > begin + 60 * limit:
                say(f"The next {len(group)} runs would not finish within --minutes {limit:g}.")
                sys.exit(3)
            try:
                train_group(group)
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
            except ValueError as error:  # of an environment
                sys.exit(str(error))
            gc.collect()  # a CUDA graph holds the group that holds it
            seconds = time.time() - group_begin
            self.say_complete()
        if not all(map(self.is_complete, self.runs)):
            sys.exit(1)

    def say_complete(self, before: str = "") -> None:
        complete = sum(map(self.is_complete, self.runs))
        say(f"{before}{complete} of {len(self.runs)} runs are complete.")


class GroupFolders:
    """The folders of runs that train side by side, and what is shown of them.

    Each gets args.json at once and metrics.csv at each evaluation, and with --tensorboard the same
    numbers, the losses and alpha as curves.
    """

    def __init__(self, args: Any, runs: list[Run], device: torch.device):
        self.args = args
        self.runs = runs
        self.begin = time.time()
        script = Path(inspect.getfile(type(args))).stem
        about = {"versions": {"script": script} | versions(device)}
        for run in runs:
            run.folder(args).mkdir(parents=True, exist_ok=True)
        self.locks = [lock(run.folder(args)) for run in runs]  # until they are trained
        self.diverged: set[Run] = set()
        for run in runs:
            folder = run.folder(args)
            stale = [*folder.glob("metrics.csv"), *folder.glob("events.out.tfevents.*")]
            for path in stale:
                path.unlink()  # it would seem to be this run's
            text = json.dumps(settings_of(args, run) | about, indent=2)
            write(folder / "args.json", text + "\n")
        self.writers = []
        if args.tensorboard:
            self.writers = [SummaryWriter(run.folder(args)) for run in runs]
        self.rows: list[list[dict[str, float]]] = [[] for _ in runs]
        steps_a_round = args.train_frequency * args.num_envs
        self.updates_a_step = len(runs) * args.gradient_steps / steps_a_round
        self.bar = tqdm(
            total=args.total_timesteps,
            unit=" steps",
            file=sys.stdout,
            disable=None,  # where there is no terminal
            dynamic_ncols=True,
            leave=False,
        )

    def speed(self, global_step: int) -> float:
        """Updates a second of all runs together, since they began."""
        learning = max(0, global_step - self.args.learning_starts)
        return self.updates_a_step * learning / (time.time() - self.begin)

    def show(self, global_step: int) -> None:
        """Moves the progress bar, on a terminal."""
        self.bar.set_postfix_str(f"{self.speed(global_step):.0f} updates/s", refresh=False)
        self.bar.update(global_step - self.bar.n)

    def add_rows(
        self, global_step: int, metrics: list[dict[str, float]], info: dict[str, Tensor]
    ) -> None:
        """An evaluation of each run: a row of its metrics.csv, and a printed line for all.

        Args:
            info: of the last update, (run,) each: its losses, alpha; empty before the first one.
        """
        last_update = {name: values.tolist() for name, values in info.items()}
        for run, loss in zip(self.runs, last_update.get("value_loss", ()), strict=False):
            if not math.isfinite(loss) and run not in self.diverged:
                self.diverged.add(run)
                say(f"{run.folder(self.args)}: the critic's loss is {loss}, so its file ends here.")
        self.add_points(global_step, metrics, last_update)
        # Last: with its last row a run is complete
        wall_time = round(time.time() - self.begin, 3)
        for run, rows, values in zip(self.runs, self.rows, metrics, strict=True):
            if run not in self.diverged:
                row = {"global_step": global_step, **values, "wall_time": wall_time}
                rows.append(row)
                write_rows(run.folder(self.args) / "metrics.csv", rows)
        success = sum(values["success_once"] for values in metrics) / len(metrics)
        done = f"global_step {global_step} ({global_step / self.args.total_timesteps:.0%})"
        speed = self.speed(global_step)
        say(f"{len(metrics)} runs  {done}  success_once {success:.3f}  {speed:.0f} updates/s")

    def add_points(
        self, global_step: int, metrics: list[dict[str, float]], last_update: dict[str, list[float]]
    ) -> None:
        """A point of every curve, with --tensorboard."""
        for index, writer in enumerate(self.writers):
            update = {name: values[index] for name, values in last_update.items()}
            scalars = {f"eval/{name}": value for name, value in metrics[index].items()}
            scalars |= {CURVES[name]: value for name, value in update.items()}
            if update.get("value_loss", 0.0) > 0:
                weighted = update["alpha"] * update.get("grad_loss", 0.0)
                scalars["gradient/ratio"] = weighted / update["value_loss"]
            scalars["charts/updates_per_second"] = self.speed(global_step) / len(self.runs)
            for name, value in scalars.items():
                writer.add_scalar(name, value, global_step)
            writer.flush()

    def close(self) -> None:
        self.bar.close()
        for writer in self.writers:
            writer.close()
        for descriptor in self.locks:
            os.close(descriptor)
