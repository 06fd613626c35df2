"""What a checkpoint keeps of an object: all of its attributes; what it cannot keep is refused."""

import functools
import json
import types
from collections import deque
from dataclasses import is_dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from envs.vector_env import VectorEnv

PLAIN = (bool, int, float, str, type(None))
FIXED = (  # made anew by every process; environments are kept under a name of their own
    type, types.FunctionType, types.BuiltinFunctionType, types.MethodType, functools.partial,
    torch.device, torch.dtype, VectorEnv,
)  # fmt: skip
OF_EVERY_MODULE = tuple(vars(nn.Module()))  # in its state_dict, or made anew
ARRAY, DICT, ROWS = "<array>", "<dict>", "<rows>"  # what a state is of; an object's is a bare dict


def attributes_of(thing: Any, without: tuple[str, ...] = (), **rows: dict) -> dict[str, Any]:
    """The state of every attribute of an object except settings, functions and environments.

    Those in `without` are made anew by each process. `rows` has the filled rows of dicts of arrays,
    by the attribute's name: only those are kept. Raises TypeError for an attribute of a kind that a
    resumed run would lose.
    """
    name = type(thing).__name__
    parts = kept_of(thing, (*without, *rows)).items()
    state = {key: state_of(part, f"{name}.{key}") for key, part in parts}
    for key, arrays in rows.items():  # cloned, since a view would be saved with all that it is of
        state[key] = {ROWS: {k: torch.as_tensor(x).clone() for k, x in arrays.items()}}
    return state


def restore_attributes(thing: Any, state: dict[str, Any], without: tuple[str, ...] = ()) -> None:
    """The opposite of `attributes_of`. Raises KeyError for an attribute that was not kept."""
    kept = kept_of(thing, without)
    for key in {**kept, **state}:
        if key not in without:
            setattr(thing, key, restored(kept.get(key), state[key]))


def kept_of(thing: Any, without: tuple[str, ...]) -> dict[str, Any]:
    """The attributes that a checkpoint keeps."""
    kept = {}
    for key, part in vars(thing).items():
        is_settings = is_dataclass(part) and hasattr(part, "run_dir")
        if key not in without and not is_settings and not isinstance(part, FIXED):
            kept[key] = part
    return kept


def state_of(part: Any, name: str) -> Any:
    """An object as plain data for `torch.save`.

    Raises TypeError for a kind that is not known here, which a resumed run would lose.
    """
    if isinstance(part, nn.Module):
        state = {"weights": part.state_dict()}
        for path, module in part.named_modules():
            if not type(module).__module__.startswith("torch."):
                if module._non_persistent_buffers_set:
                    raise TypeError(f"{name}: no checkpoint keeps a buffer with persistent=False.")
                state[f"attributes of {path}"] = attributes_of(module, OF_EVERY_MODULE)
        return state
    if hasattr(part, "load_state_dict"):
        return part.state_dict()
    if is_dataclass(part) or isinstance(part, types.SimpleNamespace):
        return {key: state_of(x, f"{name}.{key}") for key, x in kept_of(part, ()).items()}
    if isinstance(part, np.random.Generator):
        return {"stream": json.dumps(part.bit_generator.state)}
    if isinstance(part, torch.Generator):
        return part.get_state()
    if isinstance(part, np.ndarray | np.generic) and part.dtype.kind in "biuf":
        return {ARRAY: torch.from_numpy(np.array(part))}
    if isinstance(part, dict):
        return {DICT: [state_of(item, f"{name}[{item[0]!r}]") for item in part.items()]}
    if isinstance(part, list | tuple | deque):
        items = [state_of(item, f"{name}[{i}]") for i, item in enumerate(part)]
        return tuple(items) if isinstance(part, tuple) else items
    if isinstance(part, Tensor) or type(part) in PLAIN:
        return part
    kind = type(part).__name__
    raise TypeError(
        f"--resume would lose {name}, a {kind}: give it state_dict and load_state_dict."
    )


def restored(part: Any, state: Any) -> Any:
    """`part` with the content of its `state_of`, restored in place where possible.

    Raises ValueError if the state is that of an object, and there is none to restore.
    """
    if isinstance(part, nn.Module):
        part.load_state_dict(state["weights"])
        for path, module in part.named_modules():
            if not type(module).__module__.startswith("torch."):
                restore_attributes(module, state[f"attributes of {path}"], OF_EVERY_MODULE)
    elif hasattr(part, "load_state_dict"):
        part.load_state_dict(state)
    elif is_dataclass(part) or isinstance(part, types.SimpleNamespace):
        restore_attributes(part, state)
    elif isinstance(part, np.random.Generator):
        part.bit_generator.state = json.loads(state["stream"])
    elif isinstance(part, torch.Generator):
        part.set_state(state)
    elif isinstance(state, list | tuple):
        before = list(part) if isinstance(part, list | tuple | deque) else []
        before += [None] * (len(state) - len(before))
        items = [restored(old, new) for old, new in zip(before, state, strict=False)]
        if isinstance(part, deque):
            return deque(items, part.maxlen)
        is_named_tuple = hasattr(part, "_fields")
        return type(part)(*items) if is_named_tuple else type(state)(items)
    elif isinstance(state, dict) and ROWS in state:
        for key, rows in state[ROWS].items():
            torch.as_tensor(part[key])[: len(rows)] = rows
    elif isinstance(state, dict) and DICT in state:
        before = part if isinstance(part, dict) else {}
        pairs = [(key, restored(before.get(key), item)) for key, item in state[DICT]]
        before.clear()
        before.update(pairs)
        return before
    elif isinstance(state, dict) and ARRAY in state:
        array = state[ARRAY].numpy()
        if not isinstance(part, np.ndarray) or part.shape != array.shape:
            return array[()]
        part[...] = array
    elif isinstance(state, dict):
        raise ValueError("it has an object that is made only later in the run")
    elif isinstance(part, Tensor) and isinstance(state, Tensor):
        if part.shape != state.shape:
            return state.to(part.device)
        part.data.copy_(state)
    else:
        return state
    return part
