"""What the user is told: one line at a time, and one sentence for bad input."""

import functools
import os
import sys
import traceback
from pathlib import Path

import gymnasium as gym
from tqdm import tqdm


class BadInput(ValueError):
    """The user asked for something impossible; the message is one sentence that says why."""


def in_one_line(error: Exception) -> str:
    """An exception's message without line breaks, with its type where that helps."""
    text = " ".join(str(error).split())
    if isinstance(error, BadInput | gym.error.Error | ImportError) and text:
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def place_of(error: Exception) -> str:
    """Where an exception was raised, such as "my_envs.py, line 12"."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{Path(frame.filename).name}, line {frame.lineno}"


def say(*lines: str) -> None:
    """Prints lines above any progress bar; a closed or full standard output is no error."""
    is_other_rank = "TORCHELASTIC_RUN_ID" in os.environ and os.environ.get("RANK") != "0"
    if is_other_rank or sys.stdout is None:  # closed before Python began
        return
    try:
        for line in lines:
            tqdm.write(line, file=sys.stdout)
        sys.stdout.flush()
    except OSError:  # the reader is gone, or the disk is full
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@functools.cache
def say_once(line: str) -> None:
    """Prints a line, but only once in this process."""
    say(line)
