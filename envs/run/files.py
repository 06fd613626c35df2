"""Files that are written whole or not at all, and folders locked by the process using them."""

import contextlib
import csv
import fcntl
import io
import json
import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import torch

from envs.messages import BadInput


def write(path: Path, content: str | bytes | memoryview) -> None:
    """Replaces a file atomically: after a crash or power cut, the old or the new one is there.

    Raises OSError if the disk is full or may not be written; the old file is still there.
    """
    content = content.encode() if isinstance(content, str) else content
    unfinished = path.with_name(f".unfinished-{path.name}")
    try:
        with open(unfinished, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
        folder = os.open(path.parent, os.O_RDONLY)
        with contextlib.suppress(OSError):  # not every network file system can flush a folder
            os.fsync(folder)
        os.close(folder)
    finally:
        unfinished.unlink(missing_ok=True)


def as_csv(rows: list[dict[str, float]]) -> str:
    """A CSV file's text. Its columns are the names in all rows; missing cells stay empty."""
    names = dict.fromkeys(name for row in rows for name in row if name != "wall_time")
    text = io.StringIO()
    table = csv.DictWriter(text, [*names, "wall_time"], lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    return text.getvalue()


def read_record(folder: Path, script: str) -> dict[str, Any] | None:
    """A run's args.json: its settings, and "versions"; None where no run has written anything yet.

    Raises BadInput if it is damaged or another script's, or if the folder is not a run's.
    """
    try:
        record = json.loads((folder / "args.json").read_text())
        found = record["versions"]["script"]
    except OSError:
        if all(path.name.startswith(".unfinished-") for path in folder.glob("*")):
            return None
        sentence = f"{folder} exists and is not a run's folder: give another --run-dir."
        raise BadInput(sentence) from None
    except (ValueError, KeyError, TypeError):
        raise BadInput(f"{folder}/args.json is damaged.") from None
    if found != script:
        raise BadInput(f"The run in {folder} is of {found}.py, not of {script}.py.")
    return record


def last_step(folder: Path) -> int:
    """The last step in a run's metrics.csv; 0 if there is none."""
    try:
        last = (folder / "metrics.csv").read_text().splitlines()[-1]
        return int(last.partition(",")[0])
    except (OSError, ValueError, IndexError):
        return 0


def lock(path: Path) -> int:
    """Locks a folder until the returned descriptor is closed or the process dies, however it dies.

    Raises BadInput if it cannot be made where it is missing, or another process has locked it.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDONLY)
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise BadInput(f"Another process is training in {path}.") from None
    except OSError as error:
        raise BadInput(f"{path} cannot be made: {error.strerror}.") from None
    return descriptor


def pack(content: dict[str, Any]) -> memoryview:
    """A dict of tensors and plain values as a file that `load` reads.

    In memory first: PyTorch cannot say in one sentence that a disk is full.
    """
    memory = io.BytesIO()
    torch.save(content, memory)
    return memory.getbuffer()


def check_readable(name: str, state: Any) -> None:
    """Raises TypeError if `load` could not read this part of a checkpoint."""
    try:
        torch.load(io.BytesIO(pack({name: state})), weights_only=True)
    except pickle.UnpicklingError:
        raise TypeError(
            f"--resume could not read {name} back: its state_dict may have tensors, numbers, "
            "strings, lists and dicts of them."
        ) from None


def load(path: str | Path, kind: str) -> dict[str, Any]:
    """What `pack` made and `write` wrote, read as data, never as code.

    Raises BadInput if it is missing, damaged (every part has a checksum), or something else.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
        if damaged is not None:
            raise ValueError(damaged)
        return dict(torch.load(path, map_location="cpu", weights_only=True, mmap=True))
    except FileNotFoundError:
        raise BadInput(f"There is no {kind} {path}.") from None
    except Exception as error:  # a damaged file can fail in any way
        name = type(error).__name__
        raise BadInput(f"{path} is not a {kind}, or it is damaged ({name}).") from None
