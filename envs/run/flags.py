"""A script's flags: dataclasses read by tyro, on top of an environment's or saved settings."""

import argparse
import contextlib
import json
import math
import os
import re
import signal
import sys
from collections.abc import Container, Iterator
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, TypeVar, get_args, get_type_hints

import torch
import tyro

from envs.messages import BadInput, say, say_once
from envs.registry import resolve
from envs.run.files import read_record
from envs.run.models import load_model
from envs.vector_env import VectorEnv

A = TypeVar("A", bound="RunArgs")


class Range(NamedTuple):
    """The values a flag may have, both ends included; the upper ends only catch typos."""

    low: float
    high: float


# Kinds of numbers. A plain int or float may be anything from 0 up
Count = Annotated[int, Range(1, 10**12)]
CountOrZero = Annotated[int, Range(0, 10**12)]
Seed = Annotated[int, Range(0, 2**31 - 1)]
Width = Annotated[int, Range(1, 10**4)]
Number = Annotated[float, Range(-1e9, 1e9)]
NonNegative = Annotated[float, Range(0, 1e9)]
Positive = Annotated[float, Range(1e-12, 1e9)]
Fraction = Annotated[float, Range(0, 1)]
PositiveFraction = Annotated[float, Range(1e-9, 1)]
Discount = Annotated[float, Range(0, 1 - 1e-9)]
PLAIN = Range(0, 10**12)


@dataclass
class RunArgs:
    """Flags of every script: where and how it runs, and how the environment is made."""

    run_dir: str = ""
    """folder of the run, by default a new one under runs/; an interrupted run there continues"""
    resume: str = ""
    """folder of a run to continue with its settings; a larger --total-timesteps trains longer"""
    evaluate: str = ""
    """a saved model to evaluate, without training"""
    render: Literal["", "human"] = ""
    """with --evaluate: watch four episodes in a window"""
    capture_video: bool = False
    """film four evaluation episodes at each evaluation into video.gif"""
    save_model: bool = True
    """keep the last model and the best one in model.pt and best_model.pt"""
    save_checkpoint: bool = True
    """keep what a resumed run needs in checkpoint.pt"""
    track: bool = False
    """mirror the logs to Weights & Biases, if that package is installed"""
    log_frequency: Count = 1000
    """steps, over all environments, between two points of TensorBoard's training curves"""
    cuda: bool = True
    """use a GPU if there is one"""
    num_threads: Annotated[int, Range(1, 1024)] = 1
    """PyTorch's threads; more than one pays only for large batches"""
    compile: bool = False
    """compile the losses with their gradients: faster, after a wait of up to a minute"""
    matmul_precision: Literal["highest", "high", "medium"] = "highest"
    """of matrix products in training: medium is bfloat16, faster on processors that support it"""
    env_kwargs: str = "{}"
    """arguments of the environment's constructor as JSON, such as '{"reward_type": "dense"}'"""
    max_episode_steps: CountOrZero = 0
    """time limit of an episode in steps; 0 is the environment's own"""
    env_threads: Annotated[int, Range(0, 1024)] = 0
    """threads that step simulators; 0 is one per core"""


# What --evaluate may change: where and how it runs, which episodes are played, and how many
OF_THE_EPISODES = {"seed", "eval_episodes", "env_kwargs", "max_episode_steps"}
OF_THE_RUN = {entry.name for entry in fields(RunArgs)} - OF_THE_EPISODES


@contextlib.contextmanager
def one_sentence() -> Iterator[None]:
    """Turns BadInput into one sentence on standard error and exit code 2."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C before the run needs no traceback
    try:
        yield
    except BadInput as error:
        sentence = str(error)
    except (MemoryError, torch.OutOfMemoryError):
        sentence = "The memory is too small: lower --buffer-size or --batch-size."
    else:
        return
    print(" ".join(sentence.split()), file=sys.stderr)
    sys.exit(2)


def parse_args(cls: type[A], settings: dict[str, dict], untuned: dict[str, Any], doc: str) -> A:
    """The command line on top of the defaults of the environment, or of a saved model or run.

    `cls` holds the script's flags; of its own ones only `env_id`, `total_timesteps` and
    OF_THE_EPISODES are known here. `settings` maps patterns of environments' names to what applies
    there, later over earlier; `untuned` applies where none matches; `doc` is the script's
    docstring. Raises BadInput with one sentence about what is impossible.
    """
    seen = peek("env_id", "evaluate", "resume", "run_dir")
    if seen.resume == "" or seen.evaluate == "":
        raise BadInput("--resume and --evaluate need a path.")
    if seen.resume and seen.evaluate:
        raise BadInput("--resume trains and --evaluate plays: give one of them.")
    if seen.resume and seen.run_dir:
        raise BadInput("--resume already names the run's folder: leave out --run-dir.")
    defaults = None
    if seen.resume:
        record = read_record(Path(seen.resume), script_of(cls))
        if record is None:
            raise BadInput(f"There is no run in {seen.resume}.")
        del record["versions"]
        defaults = from_saved(record, cls, f"{seen.resume}/args.json")
        defaults = replace(defaults, run_dir="", resume="")
    elif seen.evaluate:
        saved = load_model(seen.evaluate, script_of(cls))["settings"]
        defaults = from_saved(saved, cls, seen.evaluate)
        if ":" in defaults.env_id and seen.env_id != defaults.env_id:
            raise BadInput(
                f"{seen.evaluate} imports a package: allow it by --env-id {defaults.env_id}."
            )
    args = read_flags(cls, settings, untuned, doc, defaults)
    if args.evaluate:
        may_change = OF_THE_RUN - {"run_dir", "track"} | OF_THE_EPISODES
        check_unchanged(asdict(args), asdict(defaults), args.evaluate, may_change)
    elif args.render:
        raise BadInput("--render shows a saved model: give --evaluate too.")
    return args


def read_flags(
    cls: type[A], settings: dict[str, dict], untuned: dict, doc: str, defaults: A | None = None
) -> A:
    """The command line on top of `defaults`, or else of the environment's, which it prints.

    Raises BadInput for an unknown environment, or a number that is out of its range.
    """
    applied = {}
    if defaults is None:
        env_id = resolve(peek("env_id").env_id or cls.env_id)
        applied = settings_of(env_id, settings, untuned)
        defaults = replace(cls(env_id=env_id), **applied)
    args = tyro.cli(cls, default=defaults, description=doc)
    args.env_id = resolve(args.env_id)
    check_ranges(args)
    kept = {name: value for name, value in applied.items() if getattr(args, name) == value}
    kept.pop("eval_episodes", None)  # 0 would not say how many
    if kept:
        words = ", ".join(f"{name} {value}" for name, value in kept.items())
        say(f"settings of {args.env_id}: {words}")
    return args


def peek(*names: str) -> argparse.Namespace:
    """The values of some flags on the command line, None for one that is not there."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    for name in names:  # tyro says what is wrong with a flag without a value
        spellings = {flag(name), f"--{name}"}
        parser.add_argument(*sorted(spellings), nargs="?", dest=name)
    seen, _ = parser.parse_known_args()
    return seen


def settings_of(env_id: str, settings: dict[str, dict], untuned: dict[str, Any]) -> dict[str, Any]:
    """The settings for an environment: those of every pattern that matches its whole name."""
    found = {}
    name = env_id.rpartition(":")[2]  # of module:name
    for pattern, values in settings.items():
        if re.fullmatch(pattern, name):
            found |= values
    return found or untuned


def flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def script_of(cls: type) -> str:
    """The name of the script that defines a class, without .py."""
    return Path(sys.modules[cls.__module__].__file__).stem


def check_ranges(args: Any) -> None:
    """Raises BadInput for a number that is missing or out of its range."""
    hints = get_type_hints(type(args), include_extras=True)
    for name, value in vars(args).items():
        numbers = value if isinstance(value, tuple | list) else [value]
        limits = range_of(hints[name])
        if len(numbers) == 0 and limits is not PLAIN:
            raise BadInput(f"{flag(name)} needs a number.")
        low, high = limits
        for number in numbers:
            is_number = type(number) in (int, float)
            if is_number and not low <= number <= high:  # nan is in no range
                raise BadInput(f"{flag(name)} {number} is out of range: {low:g} to {high:g}.")


def env_flags(args: RunArgs) -> dict[str, Any]:
    """What the flags of every script hand to `envs.make`. Raises BadInput for bad --env-kwargs."""
    try:
        kwargs = json.loads(args.env_kwargs)
    except (ValueError, TypeError):
        kwargs = None
    if not isinstance(kwargs, dict):
        raise BadInput(f'--env-kwargs {args.env_kwargs} is not a JSON object like {{"a": 1}}.')
    if "render_mode" in kwargs:  # every step would be drawn
        raise BadInput("--env-kwargs cannot set render_mode: use --capture-video or --render.")
    return dict(env_kwargs=kwargs, max_episode_steps=args.max_episode_steps)


def range_of(hint: Any) -> Range:
    """The first range in an annotation, such as tuple[Width, ...] or Number | None."""
    for part in get_args(hint):
        found = part if isinstance(part, Range) else range_of(part)
        if found is not PLAIN:
            return found
    return PLAIN


def check_unchanged(
    settings: dict, saved: dict, place: str | Path, may_change: Container[str] = ()
) -> None:
    """Raises BadInput for the first setting that differs from the saved one but must not."""
    for name, value in settings.items():
        before = saved.get(name)
        if json.dumps(value) != json.dumps(before) and name not in may_change:
            raise BadInput(
                f"{flag(name)} {value!r} does not go with {place}, where it is {before!r}."
            )


def from_saved(saved: dict[str, Any], cls: type[A], place: str | Path) -> A:
    """Flags from a file. Flags added to the script since then get their defaults.

    Raises BadInput if the file has a flag that the script lacks.
    """
    names = [entry.name for entry in fields(cls)]
    for name in saved:
        if name not in names:
            raise BadInput(f"{place} was saved with {flag(name)}, which {script_of(cls)}.py lacks.")
    new = [flag(name) for name in names if name not in saved and name not in OF_THE_RUN]
    if new:
        say_once(f"{place} does not say {', '.join(new)}: the defaults apply.")
    args = cls(**saved)
    for name, default in vars(cls()).items():
        if isinstance(default, tuple):  # JSON knows lists alone
            setattr(args, name, tuple(getattr(args, name)))
    return args


def check_buffer(size: int, envs: VectorEnv, row_bytes: int) -> None:
    """Raises BadInput for a replay buffer of `size` steps that is too small, or too large."""
    episodes = envs.num_envs * envs.max_episode_steps
    if size < episodes:
        raise BadInput(f"--buffer-size {size} is below {episodes}, an episode of each environment.")
    memory = 0.9 * os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if size * row_bytes > memory:
        raise BadInput(
            f"--buffer-size {size} needs {size * row_bytes / 2**30:.1f} GiB of memory: "
            f"{int(memory / row_bytes)} would fit."
        )


def check_first_update(args: Any, max_episode_steps: int) -> None:
    """Raises BadInput if there would be no update, or one before an episode is stored."""
    wait = math.ceil(max(args.learning_starts, 1) / args.num_envs)  # steps of each environment
    first = math.ceil(wait / args.train_frequency) * args.train_frequency
    if max(args.learning_starts, args.train_frequency * args.num_envs) > args.total_timesteps:
        raise BadInput(
            f"Nothing would be learned: --learning-starts {args.learning_starts} or "
            f"--train-frequency {args.train_frequency} steps of each of {args.num_envs} "
            f"environments is above --total-timesteps {args.total_timesteps}."
        )
    if first < max_episode_steps:
        raise BadInput(
            f"No episode is stored at the first update, after {first} steps of each environment, "
            f"where an episode has up to {max_episode_steps}: raise --learning-starts or "
            "--train-frequency."
        )
