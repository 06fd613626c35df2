"""What happens before a run: arguments, their defaults and ranges, saved settings, the device.

What every script needs alike stands here once; what an algorithm is about stands in its script.
"""

import argparse
import contextlib
import functools
import importlib
import inspect
import itertools
import json
import math
import os
import re
import sys
import warnings
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, fields, make_dataclass, replace
from pathlib import Path
from types import UnionType
from typing import Any, Literal, NoReturn, TypeVar, Union, get_args, get_origin

import gymnasium as gym
import numpy as np
import torch
import tyro
from torch import nn

from envs.inspection import Task
from envs.messages import say
from envs.registry import make, resolve
from envs.run.files import load, write
from envs.run.folder import DESCRIBES_NETWORKS, network_settings
from envs.vector_env import VectorEnv, make_vector
from envs.video import Video, watch
from envs.wrappers import Obs

A = TypeVar("A", bound="RunArgs")


@dataclass
class RunArgs:
    """Flags that every script has."""

    env_kwargs: str = "{}"
    """arguments of the environment's constructor as JSON, such as '{"reward_type": "dense"}'"""
    max_episode_steps: int = 0
    """time limit of an episode in steps; 0 is the environment's own"""
    env_threads: int = 0
    """threads that step simulators; 0 is one for each core"""
    log_frequency: int = 1000
    """environment steps between two points of the training curves in TensorBoard"""
    capture_video: bool = False
    """film four evaluation episodes at each evaluation into video.gif"""
    save_model: bool = True
    """keep the last model and the best one in model.pt and best_model.pt"""
    save_checkpoint: bool = True
    """keep what --resume needs in checkpoint.pt"""
    run_dir: str = ""
    """folder of the run, created by it (default: runs/{env_id}__{script}__{seed}__{time})"""
    resume: str = ""
    """folder of a run to go on with, bit for bit; a larger --total-timesteps trains on"""
    evaluate: str = ""
    """a saved model to play without training"""
    render: Literal["", "human"] = ""
    """with --evaluate: watch four episodes in a window"""
    track: bool = False
    """mirror the logs to Weights & Biases, if that package is installed"""
    cuda: bool = True
    """use a GPU if there is one"""
    num_threads: int = 1
    """PyTorch's threads; more than one pays only for large batches"""
    matmul_precision: Literal["highest", "high", "medium"] = "highest"
    """of training's matrix products: medium is bfloat16, faster on processors with units for it"""


# What a number may be, from and to. The upper ends are far beyond use: they catch slips.
RANGES = {
    "action_l2": (0, 1e6),
    "alpha": (0, 1e9),
    "alpha_ratio": (1e-9, 1e3),
    "batch_size": (1, 10**6),
    "buffer_size": (1, 10**12),
    "c_low": (-1e9, 1e9),
    "embedding_dim": (1, 10**4),
    "env_threads": (0, 1024),
    "epsilon": (0, 1),
    "eval_episodes": (0, 10**5),
    "eval_frequency": (1, 10**12),
    "exploration_noise": (0, 100),
    "gamma": (0, 1 - 1e-9),
    "gradient_steps": (1, 10**6),
    "group_size": (0, 10**6),
    "her_k": (1, 10**6),
    "hidden_dim": (1, 10**4),
    "hidden_dims": (1, 10**5),
    "learning_rate": (1e-12, 1e3),
    "learning_starts": (0, 10**12),
    "log_frequency": (1, 10**12),
    "max_episode_steps": (0, 10**7),
    "minutes": (0, 10**6),
    "n_max": (0, 10**5),
    "num_envs": (1, 10**4),
    "num_threads": (1, 1024),
    "random_action_prob": (0, 1),
    "seed": (0, 2**31 - 1),
    "seeds": (1, 10**4),
    "target_network_frequency": (1, 10**9),
    "tau": (1e-9, 1),
    "temperature": (0, 1e6),
    "total_timesteps": (1, 10**12),
    "train_frequency": (1, 10**9),
}
KWARGS_OF_FLAGS = {  # arguments of gymnasium.make that are given otherwise
    "render_mode": "--capture-video or --render",
    "max_episode_steps": "--max-episode-steps",
}
MOST_WEIGHTS = 10**8  # between the hidden layers of a network
MOST_NUMBERS = 10**5  # of an observation and its goal
BESIDE_RESUME = {"resume", "total_timesteps"}
BESIDE_EVALUATE = {
    "capture_video", "cuda", "env_kwargs", "env_threads", "eval_episodes", "evaluate",
    "max_episode_steps", "num_threads", "render", "seed",
}  # fmt: skip


@contextlib.contextmanager
def one_sentence() -> Iterator[None]:
    """Ends the program with exit code 2 and one sentence if what the user asked for cannot be."""
    try:
        yield
    except OSError as error:
        refuse(f"{error.filename}: {error.strerror}." if error.filename else str(error))
    except torch.OutOfMemoryError:
        refuse("The GPU's memory is too small: lower --buffer-size or --batch-size.")
    except (ValueError, ImportError, MemoryError) as error:
        refuse(str(error) or type(error).__name__)


def refuse(sentence: str) -> NoReturn:
    print(" ".join(sentence.split()), file=sys.stderr)
    sys.exit(2)


def parse_args(cls: type[A], settings: dict[str, dict], untuned: dict[str, Any], doc: str) -> A:
    """The command line over the defaults: those of the environment, or of a saved model or run.

    Args:
        cls: the script's dataclass of arguments.
        settings: patterns of environments' names -> what applies to them; later over earlier.
        untuned: what applies where no pattern matches.
        doc: the script's docstring.

    Raises:
        ValueError: one sentence on what cannot be.
    """
    seen = peek("env_id", "evaluate", "resume")
    if seen.resume == "" or seen.evaluate == "":
        raise ValueError("--resume and --evaluate need a path, and there is none.")
    if seen.resume and seen.evaluate:
        raise ValueError("--resume trains and --evaluate plays: give one of them.")
    applied = {}
    if seen.resume:
        defaults = load_args(seen.resume, cls)
    elif seen.evaluate:
        defaults = cls(**load_model(seen.evaluate, cls)["settings"])
        if ":" in defaults.env_id and seen.env_id != defaults.env_id:
            raise ValueError(
                f"{seen.evaluate} imports a package: allow it by --env-id {defaults.env_id}."
            )
    else:
        env_id = resolve(seen.env_id or cls.env_id)
        applied = settings_of(env_id, settings, untuned)
        defaults = replace(cls(env_id=env_id), **applied)

    args = parse_groups(cls, defaults, doc)
    args.env_id = resolve(args.env_id)
    check_ranges(args)
    if seen.resume:
        check_resumed(args, defaults)
    elif seen.evaluate:
        check_evaluated(args, defaults)
    else:
        check_training(args)
    say_settings(args, applied)
    return args


def peek(*names: str) -> argparse.Namespace:
    """The values of some flags on the command line, None for one that is not there."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    for name in names:  # tyro says what is wrong with a flag without a value
        spellings = {flag(name), f"--{name}"}
        parser.add_argument(*sorted(spellings), nargs="?", dest=name)
    seen, _ = parser.parse_known_args()
    return seen


def say_settings(args: Any, applied: dict[str, Any]) -> None:
    """Says which of an environment's settings no flag has replaced."""
    kept = {name: value for name, value in applied.items() if getattr(args, name) == value}
    if kept:
        words = ", ".join(f"{name} {value}" for name, value in kept.items())
        say(f"settings of {args.env_id}: {words}")


def settings_of(env_id: str, settings: dict[str, dict], untuned: dict[str, Any]) -> dict[str, Any]:
    """What an environment's name brings: every pattern that matches the whole of it, in turn."""
    found = {}
    name = env_id.rpartition(":")[2]  # of module:name
    for pattern, values in settings.items():
        if re.fullmatch(pattern, name):
            found |= values
    return found or untuned


def parse_groups(cls: type[A], defaults: A, doc: str) -> A:
    """tyro, with a heading in --help for each dataclass that `cls` inherits from."""
    groups = []
    values = {}
    if cls.__annotations__:
        raise ValueError(f"{', '.join(cls.__annotations__)} of Args belong into one of its groups.")
    for part in cls.__bases__:
        title = part.__name__.removesuffix("Args").lower()
        names = [entry.name for entry in fields(part)]
        groups.append((title, part))
        values[title] = part(**{name: getattr(defaults, name) for name in names})
    together = make_dataclass("Groups", groups)
    no_prefix = (tyro.conf.OmitArgPrefixes,)
    parsed = tyro.cli(together, default=together(**values), description=doc, config=no_prefix)
    flat = {}
    for part in vars(parsed).values():
        flat |= vars(part)
    return cls(**flat)


def flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def check_ranges(args: Any) -> None:
    """Raises ValueError for the first number out of its range, and for JSON that is none."""
    for name, value in vars(args).items():
        numbers = value if isinstance(value, tuple) else (value,)
        if not 1 <= len(numbers) <= 32:
            raise ValueError(f"{flag(name)} takes 1 to 32 numbers.")
        for number in numbers:
            if type(number) in (int, float):
                low, high = RANGES.get(name, (-math.inf, math.inf))
                if not (math.isfinite(number) and low <= number <= high):
                    raise ValueError(f"{flag(name)} {number} is out of range: {low} to {high}.")
    widths = getattr(args, "hidden_dims", (1,))
    weights = sum(a * b for a, b in itertools.pairwise(widths))
    if weights > MOST_WEIGHTS:
        raise ValueError(
            f"--hidden-dims has {weights} weights between hidden layers: at most {MOST_WEIGHTS}."
        )
    try:
        kwargs = json.loads(getattr(args, "env_kwargs", "{}"))
    except (ValueError, RecursionError):
        kwargs = None
    if not isinstance(kwargs, dict):
        raise ValueError(f'--env-kwargs {args.env_kwargs[:60]} is no JSON object like {{"a": 1}}.')
    for name, instead in KWARGS_OF_FLAGS.items():
        if name in kwargs:
            raise ValueError(f"--env-kwargs cannot say {name}: {instead} does.")


def check_training(args: RunArgs) -> None:
    """Raises ValueError where nothing would ever be learned, or a flag would do nothing."""
    if args.render:
        raise ValueError("--render shows a saved model: give --evaluate too.")
    if getattr(args, "raw_goal_gradient", False) and not args.normalize:
        raise ValueError("--raw-goal-gradient has no meaning without --normalize.")
    total = args.total_timesteps
    copies = getattr(args, "num_envs", 1)
    for name, unit in (("learning_starts", 1), ("train_frequency", copies)):
        value = getattr(args, name, 0)
        if value * unit > total:
            side_by_side = f" of {unit} environments each" if unit > 1 else ""
            raise ValueError(
                f"Nothing would be learned: {flag(name)} {value}{side_by_side} is above "
                f"--total-timesteps {total}."
            )


def check_resumed(args: A, recorded: A) -> None:
    """Raises ValueError where an argument is not as the run's folder records it."""
    for name in changed(args, recorded):
        if name not in BESIDE_RESUME:
            raise ValueError(
                f"{flag(name)} {getattr(args, name)} does not go with the run in {args.resume}, "
                f"where it is {getattr(recorded, name)!r}."
            )
    if args.total_timesteps < recorded.total_timesteps:
        raise ValueError(
            f"--total-timesteps {args.total_timesteps} is less than the "
            f"{recorded.total_timesteps} of the run in {args.resume}."
        )


def check_evaluated(args: A, saved: A) -> None:
    """Raises ValueError where an argument is not as the model has it, or would do nothing."""
    for name in changed(args, saved):
        if name in BESIDE_EVALUATE:
            continue
        if name in DESCRIBES_NETWORKS:
            raise ValueError(
                f"{flag(name)} {getattr(args, name)} does not go with {args.evaluate}, "
                f"where it is {getattr(saved, name)!r}."
            )
        raise ValueError(f"{flag(name)} has no meaning with --evaluate, which only plays.")


def changed(args: A, before: A) -> list[str]:
    """Names of the arguments that differ."""
    return [name for name, value in vars(args).items() if value != getattr(before, name)]


def script_of(cls: type) -> str:
    """The name of the script that defines a class, without .py."""
    return Path(inspect.getfile(cls)).stem


def load_args(run_dir: str, cls: type[A]) -> A:
    """The arguments that a run's folder records.

    Raises:
        ValueError: it records none, or another script's, or damaged ones.
    """
    path = Path(run_dir) / "args.json"
    try:
        saved = json.loads(path.read_text())
        script = saved.pop("versions")["script"]
    except OSError:
        raise ValueError(f"{run_dir} is no run's folder: it has no args.json.") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ValueError(f"{path} is damaged: it holds no arguments.") from None
    if script != script_of(cls):
        raise ValueError(f"The run in {run_dir} is {script}.py's, not {script_of(cls)}.py's.")
    for name, value in saved.items():
        if isinstance(value, list):
            saved[name] = tuple(value)
    return check_saved(saved, cls, {entry.name for entry in fields(cls)}, path)


def load_model(path: str, cls: type[A]) -> dict[str, Any]:
    """A model that the script of `cls` saved; of its settings only those that describe networks.

    Raises:
        ValueError: another file, another script's, or one that was tampered with.
    """
    if Path(path).suffix != ".pt":
        raise ValueError(f"{path} is no model: its name does not end in .pt.")
    model = load(path, "model")
    script = script_of(cls)
    if "script" not in model:
        raise ValueError(f"{path} is no model, such as model.pt in a run's folder.")
    if model.get("script") != script:
        raise ValueError(f"{path} is of {model.get('script')}.py, not of {script}.py.")
    names = network_settings(cls()).keys()
    check_saved(model.get("settings"), cls, names, path)
    return model


def check_saved(saved: Any, cls: type[A], names: Collection[str], path: Path | str) -> A:
    """Arguments from a file: exactly those called `names`, each of its type and in its range."""
    kinds = {entry.name: entry.type for entry in fields(cls) if entry.name in names}
    if not isinstance(saved, dict) or saved.keys() != kinds.keys():
        raise ValueError(f"{path} does not hold what this version of {script_of(cls)}.py saves.")
    for name, value in saved.items():
        if not is_of_type(value, kinds[name]):
            raise ValueError(f"{path} has {name} {str(value)[:40]!r}, which cannot be.")
    args = cls(**saved)
    try:
        check_ranges(args)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    return args


def is_of_type(value: Any, kind: Any) -> bool:
    """Whether a value is what a field's annotation says."""
    parts = get_args(kind)
    if get_origin(kind) is Literal:
        return type(value) is str and value in parts
    if get_origin(kind) in (Union, UnionType):
        return any(is_of_type(value, part) for part in parts)
    if get_origin(kind) is tuple:
        return type(value) is tuple and all(is_of_type(item, parts[0]) for item in value)
    if kind is float:
        return type(value) in (int, float)
    return type(value) is kind


def load_networks(args: RunArgs, **networks: nn.Module) -> None:
    """Loads the weights of args.evaluate into networks, by their names in the file."""
    model = load_model(args.evaluate, type(args))
    for name, network in networks.items():
        try:
            with warnings.catch_warnings(action="ignore"):  # of numbers of another type
                network.load_state_dict(model[name])
        except Exception:  # a crafted file can fail in any way
            raise ValueError(f"{args.evaluate} does not fit the networks it describes.") from None
        for key, tensor in network.state_dict().items():
            if model[name][key].dtype != tensor.dtype:
                raise ValueError(f"{args.evaluate} has {key} in another type of numbers.")
            if not tensor.isfinite().all():
                raise ValueError(f"{args.evaluate} holds numbers that are not finite.")


def start(
    args: RunArgs, action_space: type[gym.Space] = gym.spaces.Box, rank: int = 0
) -> tuple[torch.device, Callable[..., gym.Env]]:
    """Threads, precision, PyTorch's seed; the device, and a function that makes an environment."""
    check_one_process(type(args))
    torch.set_num_threads(args.num_threads)
    torch.set_float32_matmul_precision(args.matmul_precision)
    torch.set_flush_denormal(True)  # denormal numbers are up to a hundred times slower
    torch.manual_seed(args.seed)
    if args.track:
        importlib.import_module("wandb")  # a missing package is said before anything is written
    device = torch.device("cpu")
    if args.cuda and torch.cuda.is_available():
        device = torch.device("cuda", rank % torch.cuda.device_count())
    make_env = functools.partial(
        make,
        args.env_id,
        action_space=action_space,
        observe_achieved_goal=getattr(args, "observe_achieved_goal", False),
        env_kwargs=json.loads(args.env_kwargs),
        max_episode_steps=args.max_episode_steps or None,
    )
    return device, make_env


def autocast(args: Any, device: torch.device) -> torch.autocast:
    """bfloat16 for the networks of a loss with --matmul-precision medium; else it does nothing."""
    return torch.autocast(device.type, torch.bfloat16, args.matmul_precision == "medium")


def check_buffer(args: RunArgs, envs: VectorEnv, slots: int, floats: int) -> None:
    """Raises ValueError for a buffer that holds too little, or takes too much memory.

    Args:
        slots: states that it has room for, with `floats` numbers each.
    """
    if args.buffer_size < envs.num_envs * envs.max_episode_steps:
        raise ValueError(
            f"--buffer-size {args.buffer_size} cannot hold an episode of each environment: "
            f"{envs.num_envs} of up to {envs.max_episode_steps} steps."
        )
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    size = slots * (4 * floats + 8 * 5)  # 5: where episodes and steps lie
    if size > 0.9 * memory:
        fits = int(args.buffer_size * 0.9 * memory / size)
        raise ValueError(
            f"--buffer-size {args.buffer_size} needs {size / 2**30:.1f} GiB of memory: "
            f"{fits} would fit."
        )


def check_task(args: RunArgs, task: Task, envs: VectorEnv) -> None:
    """Says what the environment's first steps showed; ValueError where an update has no data."""
    for note in task.notes:
        say(note)
    if getattr(args, "c_low", 0.0) is None:
        args.c_low = task.reward_low
    is_other = task.is_dense or task.reward_low < -1 or task.reward_high > 0
    if getattr(args, "clip_target", False) and is_other:
        raise ValueError(
            f"Targets are clipped for rewards -1 and 0, and {args.env_id} has others: give "
            "--no-clip-target."
        )
    if getattr(args, "alpha", 0) != 0 and task.is_dense and not task.has_reward_gradient:
        raise ValueError(
            f"{args.env_id} has a dense reward but no compute_reward_gradient, which the gradient "
            "term of Eq. (8) needs: give the environment one, or --alpha 0."
        )
    frequency = getattr(args, "train_frequency", 1)
    start = math.ceil(getattr(args, "learning_starts", 0) / envs.num_envs)  # steps of each copy
    first_update = math.ceil(max(start, 1) / frequency) * frequency
    if first_update < envs.max_episode_steps and hasattr(args, "train_frequency"):
        raise ValueError(
            f"No episode is stored at the first update, after {first_update} steps of each "
            f"environment, where an episode has up to {envs.max_episode_steps}: raise "
            "--learning-starts or --train-frequency."
        )


def check_one_process(cls: type) -> None:
    """Raises ValueError for a script under torchrun that does not know of ranks."""
    if "TORCHELASTIC_RUN_ID" in os.environ and "torchrun" not in script_of(cls):
        raise ValueError(f"{script_of(cls)}.py is one process: use ddpg_her_reengage_torchrun.py.")


def torchrun_ranks() -> tuple[int, int]:
    """This process's rank, and how many there are; ValueError outside of torchrun."""
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        raise ValueError("Start this script by torchrun, as its docstring says.")
    return int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])


def make_eval_envs(
    make_env: Callable[..., gym.Env], args: RunArgs, more_seed: int = 0
) -> VectorEnv:
    """Environments for evaluations: one for each episode where copies cost little, else a few.

    Where args.eval_episodes is 0 it becomes `episodes_by_length`. `more_seed` is added to their
    seed.
    """
    seed = args.seed + 1_000_000 + more_seed
    threads = args.env_threads or None
    one = make_vector(make_env, 1, seed, threads)
    size = one.obs_dim + one.goal_dim
    if size > MOST_NUMBERS:
        raise ValueError(f"{args.env_id} observes {size} numbers: at most {MOST_NUMBERS}.")
    if args.eval_episodes == 0:
        args.eval_episodes = episodes_by_length(one.max_episode_steps)
    one.close()
    copies = args.eval_episodes if one.has_cheap_copies else min(4, args.eval_episodes)
    return make_vector(make_env, copies, seed, threads)


def episodes_by_length(max_steps: int) -> int:
    """How many an evaluation plays where nobody says it: 50, or 5000 steps, but at least 5."""
    return min(50, max(5, 5000 // max_steps))


def play(
    args: RunArgs,
    make_env: Callable[..., gym.Env],
    policy: Callable[[Obs], np.ndarray],
    metrics: dict[str, float],
) -> None:
    """What --evaluate shows: the metrics, a film beside the model, a window."""
    say("  ".join(f"{name} {value:.3f}" for name, value in metrics.items()))
    if args.capture_video:
        film = Path(args.evaluate).with_suffix(".gif")
        write(film, Video(make_env, args.seed + 2_000_000).film(policy, episodes=4))
        say(f"film: {film}")
    if args.render == "human":
        watch(make_env, args.seed + 2_000_000, policy, episodes=4)
