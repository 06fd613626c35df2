"""Scripts as commands in processes that fork from one which has imported everything: fast."""

import multiprocessing
import os
import runpy
import sys
from collections.abc import Callable
from multiprocessing import forkserver
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

from conftest import ROOT

# Flags of runs that take seconds; their buffers overflow, and they end in the folder "run"
COMMON = "--total-timesteps 120 --eval-frequency 30 --eval-episodes 4 --log-frequency 10".split()
COMMON += "--batch-size 16 --buffer-size 60 --run-dir run".split()
SEEK = [*COMMON, *"--env-id ContinuousSeek2-v0 --learning-starts 20 --hidden-dims 16 16".split()]
SMALL = {
    "ddpg_her": [*SEEK, "--normalize"],
    "ddpg_her_reengage": [*SEEK, "--normalize", "--alpha", "auto"],
    "sac_her_reengage": [*SEEK, "--normalize"],
    "dqn_her_reengage_bitflip": [
        *COMMON,
        *"--env-id BitFlip3-v0 --num-envs 2 --gradient-steps 2 --hidden-dims 16 16".split(),
    ],
    "ddpg_multi_reengage": [
        *COMMON,
        *"--env-id DriveSeek5-v0 --max-episode-steps 10 --learning-starts 20".split(),
        *"--hidden-dim 16 --no-share-encoder --num-threads 1".split(),
    ],
}

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["forked", "algos.ddpg_her", "torch._dynamo"])


def start_server() -> None:
    """Starts the process that all others fork from, with this one's paths."""
    changed = {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    with mock.patch.dict(os.environ, changed):
        forkserver.ensure_running()


class Ended(NamedTuple):
    """How a command ended; the return code is negative for a signal, as in `subprocess`."""

    returncode: int
    stdout: str
    stderr: str


class Command:
    """A script that has been started.

    Args:
        script: a name without .py in algos, or the path of a script elsewhere.
        flags: of the command line.
        cwd: its working directory.
        before: called in the new process before the script.
    """

    def __init__(
        self,
        script: str | Path,
        *flags: Any,
        cwd: Path,
        before: Callable[[], None] | None = None,
    ):
        self.output = cwd / ".output"
        self.output.mkdir(exist_ok=True)
        words = [str(flag) for flag in flags]
        what = (script, words, cwd, before)
        start_server()
        self.process = CONTEXT.Process(target=be_the_script, args=what)
        self.process.start()

    def wait(self) -> Ended:
        self.process.join(120)
        texts = [(self.output / name).read_text() for name in ("stdout", "stderr")]
        return Ended(self.process.exitcode, *texts)


def run(*what: Any, **how: Any) -> Ended:
    """A `Command` from beginning to end."""
    return Command(*what, **how).wait()


def be_the_script(
    script: str | Path,
    words: list[str],
    cwd: Path,
    before: Callable[[], None] | None,
) -> None:
    for number, name in ((1, "stdout"), (2, "stderr")):
        descriptor = os.open(cwd / ".output" / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(descriptor, number)
    os.chdir(cwd)
    path = script if isinstance(script, Path) else ROOT / "algos" / f"{script}.py"
    sys.argv = [str(path), *words]
    if before is not None:
        before()
    runpy.run_path(str(path), run_name="__main__")
