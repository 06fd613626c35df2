"""The same command again resumes: bit for bit the run that nothing interrupted."""

import itertools
import json
import os
import signal
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from conftest import contents, read_metrics, rows_of
from forked import SMALL, Command, run
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from envs.run import files
from envs.run import folder as run_folder

PLAIN, REENGAGE = "ddpg_her", "ddpg_her_reengage"


def checkpoint_often() -> None:
    run_folder.CHECKPOINT_SHARE = 1e9  # at every evaluation, however long it takes


def kill_at(moment: int) -> None:
    """Kills this process at one of its moments of writing, counted from 0, five per file.

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


def leaves(content: object, path: str = "") -> dict[str, object]:
    """What nested dicts, lists and tuples hold, by its path."""
    if isinstance(content, dict):
        parts = content.items()
    elif isinstance(content, list | tuple):
        parts = enumerate(content)
    else:
        return {path: content}
    found = {}
    for key, part in parts:
        found |= leaves(part, f"{path}/{key}")
    return found


def differences(one: Path, other: Path) -> set[str]:
    """The paths at which two files differ, except for times."""
    ours = leaves(files.load(one, "file"))
    theirs = leaves(files.load(other, "file"))
    found = ours.keys() ^ theirs.keys()
    for path in ours.keys() & theirs.keys():
        value = ours[path]
        is_tensor = isinstance(value, torch.Tensor)
        is_equal = value.equal(theirs[path]) if is_tensor else value == theirs[path]
        if not is_equal and not path.endswith("wall_time"):
            found.add(path)
    return found


def names_in(folder: Path) -> set[str]:
    """All but TensorBoard's files."""
    return {path.name for path in folder.iterdir()} - {path.name for path in folder.glob("events*")}


def assert_equal_runs(folder: Path, expected: Path) -> None:
    """The same files with the same content, except for times and TensorBoard's."""
    assert rows_of(folder) == rows_of(expected)
    assert names_in(folder) == names_in(expected)
    for path in expected.glob("*.pt"):
        assert differences(folder / path.name, path) == set()


def points(folder: Path, name: str) -> list[int]:
    """The steps at which TensorBoard shows a curve's points."""
    events = EventAccumulator(str(folder))
    events.Reload()
    return [scalar.step for scalar in events.Scalars(name)]


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


GOES_ON_BY = {signal.SIGTERM: "the same command", signal.SIGINT: "--resume"}


@pytest.mark.parametrize("number", GOES_ON_BY)
def test_a_signal_ends_a_run_between_episodes_and_it_goes_on_from_there(
    number: int, script: str, whole: Path, tmp_path: Path
):
    step = 46  # within an episode, and between two evaluations
    ended = run(script, *SMALL[script], cwd=tmp_path, before=partial(signal_at, step, number))
    assert (ended.returncode, ended.stderr) == (128 + number, "")
    last = ended.stdout.splitlines()[-1]
    assert last.startswith(f"{signal.Signals(number).name}: ended at step ")
    assert last.endswith(f"go on with the same --run-dir, or with --resume {tmp_path / 'run'}.")
    assert len(rows_of(tmp_path / "run")) == 2

    flags = SMALL[script] if GOES_ON_BY[number] == "the same command" else ["--resume", "run"]
    ended = run(script, *flags, cwd=tmp_path, before=checkpoint_often)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert_equal_runs(tmp_path / "run", whole)
    assert points(tmp_path / "run", "charts/buffer_fill") == list(range(10, 121, 10))
    times = [float(row["wall_time"]) for row in read_metrics(tmp_path / "run")]
    assert times == sorted(times)  # the clock goes on


@pytest.mark.parametrize("moment", [60, 63])
def test_a_run_killed_while_writing_a_file_resumes_by_the_same_command(
    moment: int, script: str, whole: Path, tmp_path: Path
):
    ended = run(script, *SMALL[script], cwd=tmp_path, before=partial(kill_at, moment))
    assert ended.returncode == -signal.SIGKILL
    ended = run(script, *SMALL[script], cwd=tmp_path, before=checkpoint_often)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ", from step " in ended.stdout
    assert_equal_runs(tmp_path / "run", whole)


@pytest.mark.parametrize("moment", [1, 7, 18, 22])
def test_a_run_killed_before_its_first_checkpoint_starts_over(moment: int, tmp_path: Path):
    for name, before in {"whole": checkpoint_often, "killed": partial(kill_at, moment)}.items():
        (tmp_path / name).mkdir()
        ended = run(PLAIN, *SMALL[PLAIN], cwd=tmp_path / name, before=before)
    assert ended.returncode == -signal.SIGKILL
    assert not (tmp_path / "killed" / "run" / "checkpoint.pt").exists()
    ended = run(PLAIN, *SMALL[PLAIN], cwd=tmp_path / "killed", before=checkpoint_often)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ", from the beginning: " in ended.stdout
    folder = tmp_path / "killed" / "run"
    assert_equal_runs(folder, tmp_path / "whole" / "run")
    assert points(folder, "eval/success_rate") == [0, 30, 60, 90, 120]


# What a resumed run prints and writes


def interrupt(flags: list, cwd: Path, step: int = 46, script: str = PLAIN) -> Path:
    """The folder of a run that was interrupted at a step."""
    ended = run(script, *flags, cwd=cwd, before=partial(signal_at, step, signal.SIGTERM))
    assert (ended.returncode, ended.stderr) == (128 + signal.SIGTERM, "")
    return cwd / "run"


def resumed(flags: list, cwd: Path, step: int = 46, script: str = PLAIN) -> Path:
    """The folder of a run that was interrupted at a step and resumed."""
    folder = interrupt(flags, cwd, step, script)
    ended = run(script, "--resume", "run", cwd=cwd, before=checkpoint_often)
    assert (ended.returncode, ended.stderr) == (0, "")
    return folder


def test_points_and_rows_after_the_checkpoint_come_only_once(tmp_path: Path):
    before = partial(kill_instead_of_checkpoint, 90)
    assert run(PLAIN, *SMALL[PLAIN], cwd=tmp_path, before=before).returncode == -signal.SIGKILL
    folder = tmp_path / "run"
    assert [row["global_step"] for row in rows_of(folder)] == ["0", "30", "60", "90"]
    before = partial(signal_at, 61, signal.SIGTERM)
    assert run(PLAIN, *SMALL[PLAIN], cwd=tmp_path, before=before).returncode == 143
    assert [row["global_step"] for row in rows_of(folder)] == ["0", "30", "60"]
    assert run(PLAIN, *SMALL[PLAIN], cwd=tmp_path).returncode == 0
    assert points(folder, "eval/success_rate") == [0, 30, 60, 90, 120]


def before_each_checkpoint(do: Callable[[run_folder.RunFolder], None]) -> None:
    write = run_folder.RunFolder.write

    def do_and_write(self: run_folder.RunFolder, name: str, content: memoryview) -> None:
        if name == "checkpoint.pt":
            do(self)
        write(self, name, content)

    run_folder.RunFolder.write = do_and_write


def kill_instead_of_checkpoint(step: int) -> None:
    def be_killed(folder: run_folder.RunFolder) -> None:
        if folder.count.global_step == step:
            os.kill(os.getpid(), signal.SIGKILL)

    checkpoint_often()
    before_each_checkpoint(be_killed)


def test_a_complete_run_says_so_and_is_left_as_it_is(tmp_path: Path):
    assert run(PLAIN, *SMALL[PLAIN], cwd=tmp_path).returncode == 0
    before = contents(tmp_path / "run")
    for flags in (SMALL[PLAIN], ["--resume", "run"]):
        ended = run(PLAIN, *flags, cwd=tmp_path)
        assert (ended.returncode, ended.stderr) == (0, "")
        assert ended.stdout.splitlines()[-1] == f"{tmp_path / 'run'} is complete: 120 steps."
        assert contents(tmp_path / "run") == before


OTHERS = {
    "--batch-size 8": "--batch-size 8 does not go with {run}, where it is 16.",
    "--tau 0.5 --gamma 0.5": "--gamma 0.5 does not go with {run}, where it is 0.95.",
    "--no-save-model": "--save-model False does not go with {run}, where it is True.",
    "--total-timesteps 240": "--total-timesteps 240 does not go with {run}, where it is 120.",
}


def test_other_settings_or_another_script_are_refused_and_the_difference_is_named(tmp_path: Path):
    folder = interrupt(SMALL[PLAIN], tmp_path)
    before = contents(folder)
    for more, sentence in OTHERS.items():
        ended = run(PLAIN, *SMALL[PLAIN], *more.split(), cwd=tmp_path)
        assert (ended.returncode, ended.stderr) == (2, sentence.format(run=folder) + "\n")
    ended = run(REENGAGE, *SMALL[PLAIN], cwd=tmp_path)
    sentence = f"The run in {folder} is of ddpg_her.py, not of ddpg_her_reengage.py.\n"
    assert (ended.returncode, ended.stderr) == (2, sentence)
    assert contents(folder) == before


def test_a_run_that_goes_on_with_other_versions_says_so(tmp_path: Path):
    path = interrupt(SMALL[PLAIN], tmp_path) / "args.json"
    args = json.loads(path.read_text())
    args["versions"]["torch"] = "0.1"
    path.write_text(json.dumps(args))
    ended = run(PLAIN, "--resume", "run", cwd=tmp_path)
    assert ended.returncode == 0
    sentence = f"torch was '0.1' and is '{torch.__version__}': not bit for bit."
    assert ended.stdout.splitlines()[0] == sentence


def test_more_steps_train_on_as_if_they_had_been_asked_for_at_first(tmp_path: Path):
    for name, flags in {"long": [], "short": ["--total-timesteps", 60]}.items():
        (tmp_path / name).mkdir()
        ended = run(PLAIN, *SMALL[PLAIN], *flags, cwd=tmp_path / name, before=checkpoint_often)
        assert ended.returncode == 0
    flags = ["--resume", "run", "--total-timesteps", 120]
    ended = run(PLAIN, *flags, cwd=tmp_path / "short", before=checkpoint_often)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert_equal_runs(tmp_path / "short" / "run", tmp_path / "long" / "run")


def test_of_two_equal_commands_at_once_one_trains_and_the_other_says_so(tmp_path: Path):
    flags = [*SMALL[PLAIN], "--run-dir", tmp_path / "run"]
    commands = []
    for place in (tmp_path / "one", tmp_path / "other"):
        place.mkdir()
        commands.append(Command(PLAIN, *flags, cwd=place, before=slow_steps))
    first, second = sorted(command.wait() for command in commands)
    assert (first.returncode, first.stderr) == (0, "")
    sentence = f"Another process is training in {tmp_path / 'run'}.\n"
    assert (second.returncode, second.stderr) == (2, sentence)
    assert len(rows_of(tmp_path / "run")) == 5


def slow_steps() -> None:
    """So that a run is not over before the other one has begun."""
    add_step = run_folder.RunFolder.add_step

    def add_step_slowly(self: run_folder.RunFolder, *what: object) -> None:
        time.sleep(0.05)
        add_step(self, *what)

    run_folder.RunFolder.add_step = add_step_slowly


def test_a_second_signal_ends_a_run_at_once(tmp_path: Path):
    ended = run(PLAIN, *SMALL[PLAIN], cwd=tmp_path, before=signal_twice)
    assert (ended.returncode, ended.stderr) == (-signal.SIGTERM, "")


def signal_twice() -> None:
    signal_at(46, signal.SIGTERM)
    signal_at(47, signal.SIGTERM)


def test_without_checkpoints_a_signal_still_ends_a_run_and_says_what_is_missing(tmp_path: Path):
    flags = [*SMALL[PLAIN], "--no-save-checkpoint"]
    before = partial(signal_at, 46, signal.SIGINT)
    ended = run(PLAIN, *flags, cwd=tmp_path, before=before)
    assert (ended.returncode, ended.stderr) == (130, "")
    last = ended.stdout.splitlines()[-1]
    assert last.endswith("there is no checkpoint, as --no-save-checkpoint asked.")
    assert not (tmp_path / "run" / "checkpoint.pt").exists()

    ended = run(PLAIN, "--resume", "run", cwd=tmp_path)
    sentence = f"There is no checkpoint in {tmp_path / 'run'}.\n"
    assert (ended.returncode, ended.stderr) == (2, sentence)
    ended = run(PLAIN, *flags, cwd=tmp_path)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ", from the beginning: " in ended.stdout
    assert points(tmp_path / "run", "eval/success_rate") == [0, 30, 60, 90, 120]


def test_checkpoints_take_at_most_a_fiftieth_of_the_time(tmp_path: Path):
    ended = run(PLAIN, *SMALL[PLAIN], cwd=tmp_path, before=clock_of_steps)
    assert ended.returncode == 0
    # A step takes a second and a checkpoint two, so the second one must wait for 100 steps
    assert [line for line in ended.stdout.splitlines() if line.startswith("checkpoint")] == [
        "checkpoint at 10",
        "checkpoint at 120",
    ]


def clock_of_steps() -> None:
    """Time passes with steps and checkpoints alone."""
    clock = [0.0]
    time.time = lambda: clock[0]
    add_step = run_folder.RunFolder.add_step

    def add_step_of_a_second(self: run_folder.RunFolder, *what: object) -> None:
        clock[0] += 1
        add_step(self, *what)

    def take_two_seconds(folder: run_folder.RunFolder) -> None:
        print("checkpoint at", folder.count.global_step)
        clock[0] += 2

    run_folder.RunFolder.add_step = add_step_of_a_second
    before_each_checkpoint(take_two_seconds)


# Environments of other kinds

ENVIRONMENTS = {
    "a simulator, two copies": [
        *"--env-id HandReach-v3 --num-envs 2 --eval-episodes 2 --total-timesteps 400".split(),
        *"--eval-frequency 100 --buffer-size 300 --gradient-steps 2".split(),
    ],
    "one that draws from the system": ["--env-id", "SystemRandomness-v0", "--learning-starts", 20],
    "one that ends early": ["--env-id", "Corridor-v0", "--learning-starts", 20],
}


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_a_run_in_another_kind_of_environment_goes_on_bit_for_bit(name: str, tmp_path: Path):
    flags = [*SMALL[REENGAGE], *ENVIRONMENTS[name]]
    (tmp_path / "whole").mkdir()
    ended = run(REENGAGE, *flags, cwd=tmp_path / "whole", before=checkpoint_often)
    assert (ended.returncode, ended.stderr) == (0, "")
    step = 160 if "HandReach-v3" in flags else 46
    folder = resumed(flags, tmp_path, step, REENGAGE)
    assert_equal_runs(folder, tmp_path / "whole" / "run")


def test_copies_that_end_at_different_times_go_on_without_their_unfinished_episodes(tmp_path: Path):
    flags = "--env-id Corridor-v0 --num-envs 3 --learning-starts 30".split()
    folder = resumed([*SMALL[REENGAGE], *flags], tmp_path, 45, REENGAGE)
    steps = [int(row["global_step"]) for row in rows_of(folder)]
    assert steps == [0, 30, 60, 90, 120]
    assert files.load(folder / "checkpoint.pt", "checkpoint")["count"]["global_step"] == 120


@pytest.mark.parametrize(
    "damage", [lambda old: old[:60], lambda old: b"", lambda old: b"a,b\n1,2\n"]
)
def test_a_complete_run_that_lost_its_metrics_gets_them_back(
    damage: Callable[[bytes], bytes], tmp_path: Path
):
    assert run(PLAIN, *SMALL[PLAIN], cwd=tmp_path).returncode == 0
    before = contents(tmp_path / "run")
    metrics = tmp_path / "run" / "metrics.csv"
    metrics.write_bytes(damage(metrics.read_bytes()))
    ended = run(PLAIN, *SMALL[PLAIN], cwd=tmp_path)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert contents(tmp_path / "run").items() >= before.items()
