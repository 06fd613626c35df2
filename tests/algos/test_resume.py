"""An interrupted run that is resumed ends as the run that nothing interrupted, bit for bit."""

import csv
import itertools
import os
import signal
from functools import partial
from pathlib import Path

import pytest
import torch
from forked import SMALL, run

from envs import files, run_folder

KEPT = {"args.json", "metrics.csv", "model.pt", "best_model.pt", "checkpoint.pt"}


def checkpoint_often() -> None:
    run_folder.CHECKPOINT_SHARE = 1e9  # at every evaluation, however long it takes


def kill_at(moment: int) -> None:
    """Kills this process at a moment of its writing, counted from 0: five moments a file.

    The file is cut in half and not on the disk yet; complete; on the disk; renamed; the folder is
    on the disk.
    """
    checkpoint_often()
    moments = itertools.count()
    fsync = os.fsync
    replace = os.replace

    def pass_moment() -> None:
        if next(moments) == moment:
            os.kill(os.getpid(), signal.SIGKILL)

    def slow_fsync(descriptor: int) -> None:
        size = os.fstat(descriptor).st_size
        is_file = os.path.isfile(f"/proc/self/fd/{descriptor}")
        if is_file and next(moments) == moment:
            os.truncate(descriptor, size // 2)
            os.kill(os.getpid(), signal.SIGKILL)
        pass_moment()
        fsync(descriptor)

    def slow_replace(*paths: Path) -> None:
        pass_moment()
        replace(*paths)
        pass_moment()

    os.fsync = slow_fsync
    os.replace = slow_replace


def signal_at(step: int, number: int) -> None:
    """Sends this process a signal while it counts a step."""
    checkpoint_often()
    add_step = run_folder.RunFolder.add_step

    def add_step_and_signal(self: run_folder.RunFolder, *what: object) -> None:
        if self.count.global_step == step:
            os.kill(os.getpid(), number)
        add_step(self, *what)

    run_folder.RunFolder.add_step = add_step_and_signal


def rows_of(folder: Path) -> list[dict[str, str]]:
    """metrics.csv without the column that may differ."""
    with open(folder / "metrics.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        del row["wall_time"]
    return rows


def differences(one: object, other: object, path: str = "") -> list[str]:
    """Where two nested contents of files differ in a bit."""
    if isinstance(one, dict) and isinstance(other, dict) and one.keys() == other.keys():
        parts = [differences(one[key], other[key], f"{path}/{key}") for key in one]
        return sum(parts, [])
    if isinstance(one, list | tuple) and isinstance(other, list | tuple) and len(one) == len(other):
        pairs = enumerate(zip(one, other, strict=True))
        return sum((differences(a, b, f"{path}/{i}") for i, (a, b) in pairs), [])
    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        return [] if one.equal(other) else [path]
    return [] if one == other or path.endswith("wall_time") else [path]


def assert_equal_runs(folder: Path, expected: Path) -> None:
    """The same files with the same content, the checkpoint's too, but for times and TensorBoard."""
    assert rows_of(folder) == rows_of(expected)
    for name in ("model.pt", "best_model.pt", "checkpoint.pt"):
        contents = [files.load(path / name, "file") for path in (folder, expected)]
        assert differences(*contents) == []
    names = {path.name for path in folder.iterdir() if not path.name.startswith("events")}
    assert names == {path.name for path in expected.iterdir() if path.name in KEPT}


@pytest.fixture(scope="module", params=list(SMALL))
def script(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def whole(script: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that nothing interrupts."""
    cwd = tmp_path_factory.mktemp(script)
    ended = run(script, *SMALL[script], cwd=cwd, before=checkpoint_often)
    assert (ended.returncode, ended.stderr) == (0, "")
    return cwd / "run"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_run_between_episodes_and_it_goes_on_from_there(
    number: int, script: str, whole: Path, tmp_path: Path
):
    step = 46  # within an episode, and between two evaluations
    ended = run(script, *SMALL[script], cwd=tmp_path, before=partial(signal_at, step, number))
    assert (ended.returncode, ended.stderr) == (128 + number, "")
    last = ended.stdout.splitlines()[-1]
    assert last.startswith(f"{signal.Signals(number).name}: ended at step ")
    assert last.endswith(f"go on with --resume {tmp_path / 'run'}.")
    assert len(rows_of(tmp_path / "run")) == 2

    ended = run(script, "--resume", "run", cwd=tmp_path, before=checkpoint_often)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert_equal_runs(tmp_path / "run", whole)


@pytest.mark.parametrize("moment", [33, 57, 60, 63])
def test_a_run_that_is_killed_while_it_writes_a_file_ends_as_the_others_when_it_is_resumed(
    moment: int, script: str, whole: Path, tmp_path: Path
):
    ended = run(script, *SMALL[script], cwd=tmp_path, before=partial(kill_at, moment))
    assert ended.returncode == -signal.SIGKILL
    ended = run(script, "--resume", "run", cwd=tmp_path, before=checkpoint_often)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert_equal_runs(tmp_path / "run", whole)
