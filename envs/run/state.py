"""What a checkpoint keeps of an object: everything that its attributes hold, or a refusal."""

import functools
import json
import types
from dataclasses import is_dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from envs.vector_env import VectorEnv

VALUES = (bool, int, float, str, type(None))
FIXED = (  # made anew by every process; environments are kept under a name of their own
    type, types.FunctionType, types.MethodType, functools.partial, torch.device, torch.dtype,
    VectorEnv,
)  # fmt: skip


def attributes_of(thing: Any, without: tuple[str, ...] = ()) -> dict[str, Any]:
    """The state of every attribute of an object, but for settings, functions and environments.

    Raises:
        TypeError: an attribute is of a kind that a resumed run would lose.
    """
    name = type(thing).__name__
    parts = kept_of(thing, without).items()
    return {key: state_of(part, f"{name}.{key}") for key, part in parts}


def restore_attributes(thing: Any, state: dict[str, Any], without: tuple[str, ...] = ()) -> None:
    """The opposite of `attributes_of`. Raises KeyError for an attribute that was not kept."""
    for key, part in kept_of(thing, without).items():
        setattr(thing, key, restored(part, state[key]))


def kept_of(thing: Any, without: tuple[str, ...]) -> dict[str, Any]:
    """The attributes that a checkpoint keeps."""
    kept = {}
    for key, part in vars(thing).items():
        is_settings = is_dataclass(part) and hasattr(part, "run_dir")
        if key not in without and not is_settings and not isinstance(part, FIXED):
            kept[key] = part
    return kept


def state_of(part: Any, name: str) -> Any:
    """Plain data for `torch.save`, from numbers, strings, tensors, arrays, random generators, what
    has a `state_dict` (modules, optimizers), and lists, tuples and dicts of them.

    Raises:
        TypeError: it is of another kind, and a resumed run would lose it.
    """
    if hasattr(part, "load_state_dict"):
        return part.state_dict()
    if isinstance(part, np.random.Generator):
        return json.dumps(part.bit_generator.state)
    if isinstance(part, np.ndarray | np.generic):
        return torch.from_numpy(np.array(part))
    if isinstance(part, list | tuple):
        return [state_of(item, f"{name}[{i}]") for i, item in enumerate(part)]
    if isinstance(part, dict):
        return {key: state_of(item, f"{name}[{key!r}]") for key, item in part.items()}
    if isinstance(part, (Tensor, *VALUES)):
        return part
    if is_dataclass(part):
        return attributes_of(part)
    kind = type(part).__name__
    raise TypeError(
        f"--resume would lose {name}, a {kind}: give it state_dict and load_state_dict."
    )


def restored(part: Any, state: Any) -> Any:
    """`part` with the content of its `state_of`, in place where that is possible."""
    if hasattr(part, "load_state_dict"):
        part.load_state_dict(state)
    elif isinstance(part, np.random.Generator):
        part.bit_generator.state = json.loads(state)
    elif isinstance(part, np.ndarray) and part.shape == tuple(state.shape):
        part[...] = state.numpy()
    elif isinstance(part, np.ndarray | np.generic):
        return state.numpy()[()]
    elif isinstance(part, Tensor) and part.shape == state.shape:
        part.data.copy_(state)
    elif isinstance(part, list | tuple) and len(part) == len(state):
        items = [restored(*pair) for pair in zip(part, state, strict=True)]
        return type(part)(*items) if hasattr(part, "_fields") else type(part)(items)
    elif is_dataclass(part):
        restore_attributes(part, state)
    elif isinstance(part, dict):
        part.update({key: restored(part.get(key), item) for key, item in state.items()})
    else:
        return state
    return part
