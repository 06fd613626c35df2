"""Files that are complete or not there, and lines that nobody has to read."""

import contextlib
import csv
import fcntl
import io
import os
import zipfile
from pathlib import Path
from typing import Any

import torch


def write(path: Path, content: str | bytes | memoryview) -> None:
    """Replaces a file only when the new one is complete and on the disk, also after a power cut.

    Raises:
        OSError: the disk is full, or may not be written; the old file is still there.
    """
    content = content.encode() if isinstance(content, str) else content
    unfinished = path.with_name(f".unfinished-{path.name}")
    try:
        with open(unfinished, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
        sync_folder(path.parent)
    finally:
        unfinished.unlink(missing_ok=True)


def sync_folder(path: Path) -> None:
    """Puts a folder's names on the disk: those of files that were replaced in it."""
    folder = os.open(path, os.O_RDONLY)
    with contextlib.suppress(OSError):  # not every network file system can
        os.fsync(folder)
    os.close(folder)


def write_rows(path: Path, rows: list[dict[str, float]]) -> None:
    """Replaces a CSV file, whose header are the names in the last row."""
    text = io.StringIO()
    table = csv.DictWriter(text, rows[-1].keys(), lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    write(path, text.getvalue())


def lock(path: Path) -> int:
    """Locks a folder as long as the returned descriptor is open, at most until the process ends.

    The kernel drops the lock when the process dies, however it dies.

    Raises:
        ValueError: another process has locked it.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise ValueError(f"Another process is writing to {path}.") from None
    return descriptor


def pack(content: dict[str, Any]) -> memoryview:
    """A dict of tensors and plain values as a file that `load` reads.

    In memory first: PyTorch cannot say in one sentence that a disk is full.
    """
    memory = io.BytesIO()
    torch.save(content, memory)
    return memory.getbuffer()


def load(path: str | Path, kind: str) -> dict[str, Any]:
    """What `pack` made and `write` wrote, read as data, never as code.

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
        raise ValueError(f"{path} is no {kind}, or a damaged one ({name}).") from None
    return content
