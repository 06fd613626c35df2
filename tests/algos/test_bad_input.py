"""Bad input ends with one clear sentence and exit code 2, before anything is written."""

import dataclasses
import functools
import json
import math
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import ModuleType

import forked
import pytest
import torch
from conftest import run_script
from specs import SCRIPTS
from test_scripts import module_of

from envs.run import BadInput, files, flags, one_sentence
from envs.run.flags import check_ranges, flag

PLAIN, REENGAGE, SAC = "ddpg_her", "ddpg_her_reengage", "sac_her_reengage"
DQN, MULTI = "dqn_her_reengage_bitflip", "ddpg_multi_reengage"
TORCHRUN = "ddpg_her_reengage_torchrun"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """trained(script): the folder of a finished run of a script."""

    @functools.cache
    def train(script: str) -> Path:
        cwd = tmp_path_factory.mktemp(script)
        ended = forked.run(script, *forked.SMALL[script], "--total-timesteps", 30, cwd=cwd)
        assert (ended.returncode, ended.stderr) == (0, "")
        return cwd / "run"

    return train


def surroundings(**variables: str) -> None:
    """No display, no torchrun and no Weights & Biases, whatever is on this machine."""
    for name in ("TORCHELASTIC_RUN_ID", "RANK", "WORLD_SIZE", "DISPLAY", "WAYLAND_DISPLAY"):
        os.environ.pop(name, None)
    os.environ.update(variables)
    sys.modules["wandb"] = None


def files_in(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if ".output" not in path.parts}


def assert_refused(
    script: str, flags: str, message: str, cwd: Path, is_by_tyro: bool = False, **variables: str
) -> None:
    """Runs the script as a command."""
    there = files_in(cwd)
    before = partial(surroundings, **variables)
    ended = forked.run(script, *shlex.split(flags), cwd=cwd, before=before)
    assert ended.returncode == 2, ended.stderr
    assert message in " ".join(ended.stderr.replace("│", " ").split())
    assert "Traceback" not in ended.stderr
    if not is_by_tyro:  # it draws a box around what it says
        assert len(ended.stderr.splitlines()) == 1
    assert files_in(cwd) == there
    assert "global_step" not in ended.stdout  # no evaluation had begun


NUMBERS = [  # script, flags, what the sentence must say
    (PLAIN, "--learning-rate inf", "--learning-rate inf is out of range: 1e-12 to 1e+09."),
    (REENGAGE, "--alpha=-0.1", "--alpha -0.1 is out of range"),
    (DQN, "--epsilon 1.1", "--epsilon 1.1 is out of range: 0 to 1."),
    (PLAIN, "--buffer-size 900000000000", "GiB of memory: "),
    (MULTI, "--buffer-size 100000000000", " would fit."),
    (PLAIN, "--buffer-size 9", "--buffer-size 9 is below 10, an episode of each environment"),
    (
        REENGAGE,
        "--num-envs 4 --buffer-size 39",
        "--buffer-size 39 is below 40, an episode of each environment.",
    ),
    (MULTI, "--buffer-size 9", "--buffer-size 9 cannot hold two episodes"),
    (SAC, "--hidden-dims 16 100000", "--hidden-dims 100000 is out of range"),
    (PLAIN, "--hidden-dims", "--hidden-dims needs a number."),
    (MULTI, "--env-id DriveSeek20-v0 --n-max 5", "--n-max 5 is too small: up to 20 goals."),
    (PLAIN, "--seed=-1", "--seed -1 is out of range: 0 to 2.14748e+09."),
]
ENVIRONMENTS = [
    (REENGAGE, "--env-id Nowhere-v0", "No environment 'Nowhere-v0'"),
    (REENGAGE, "--env-id CorridorDiscrete-v0", "has a Discrete action space, not a Box."),
    (MULTI, "--env-id BitFlip20-v0", "has a Discrete action space, not a Box."),
    (DQN, "--env-id ContinuousSeek5-v0", "has a Box action space, not a Discrete."),
    (SAC, "--env-id DriveSeek-v0", "sets of goals are for ddpg_multi_reengage.py"),
    (MULTI, "--env-id Walk-v0", "it lacks compute_item_rewards"),
    (MULTI, "--env-id NoisySeek-v0 --encoder cnn", "for DriveSeek alone: give --encoder deepsets."),
    (
        PLAIN,
        "--env-id Endless-v0",
        "Endless-v0 has no registered time limit: give --max-episode-steps",
    ),
    (REENGAGE, "--env-id KeylessDense-v0 --alpha 1", "no compute_reward_gradient"),
    (PLAIN, "--env-id Walk-v0 --env-kwargs no", "--env-kwargs no is not a JSON object"),
    (PLAIN, """--env-id Walk-v0 --env-kwargs '{"x": 1}'""", "Walk-v0 cannot be made"),
    (PLAIN, """--env-kwargs '{"render_mode": "human"}'""", "cannot set render_mode: use --capture"),
    (PLAIN, "--env-id WithoutRenderMode-v0 --capture-video", "render_mode"),
]
COMBINATIONS = [
    (REENGAGE, "--learning-starts 5", "No episode is stored at the first update, after 5 steps"),
    (SAC, "--learning-starts 0", "No episode is stored at the first update, after 1 steps"),
    (PLAIN, "--learning-starts 12001", "Nothing would be learned: --learning-starts 12001"),
    (MULTI, "--learning-starts 10 --total-timesteps 9", "Nothing would be learned"),
    (PLAIN, "--train-frequency 7000 --num-envs 2", "7000 steps of each of 2 environments is above"),
    (PLAIN, "--env-id ContinuousSeek5Dense-v0 --clip-target", "give --no-clip-target."),
    (REENGAGE, "--raw-goal-gradient", "--raw-goal-gradient has no meaning without --normalize."),
    (DQN, "--soft-target both-stochastic --temperature 0", "--temperature"),
    (PLAIN, "--render human", "--render shows a saved model: give --evaluate too."),
    (PLAIN, "--run-dir things", "things exists and is not a run's folder: give another --run-dir."),
    (PLAIN, "--resume nowhere", "There is no run in nowhere."),
    (PLAIN, "--resume run --evaluate good.pt", "--resume trains and --evaluate plays"),
    (SAC, "--resume run", "The run in run is of ddpg_her.py, not of sac_her_reengage.py."),
    (PLAIN, "--resume run --batch-size 8", "/run, where it is 16."),
    (PLAIN, "--resume run --run-dir x", "--resume already names the run's folder: leave out"),
    (PLAIN, "--resume run --total-timesteps 29", "/run, where it is 30."),
    (TORCHRUN, "", "Start this script by torchrun, as its docstring says."),
]
MODELS = [
    (PLAIN, "--evaluate nowhere.pt", "There is no model nowhere.pt."),
    (PLAIN, "--evaluate things", "things is not a model: its name does not end in .pt."),
    (PLAIN, "--evaluate junk.pt", "junk.pt is not a model, or it is damaged (BadZipFile)."),
    (PLAIN, "--evaluate flipped.pt", "flipped.pt is not a model, or it is damaged (ValueError)."),
    (PLAIN, "--evaluate payload.pt", "payload.pt is not a model, or it is damaged"),
    (PLAIN, "--evaluate list.pt", "list.pt is not a model, or it is damaged"),
    (REENGAGE, "--evaluate good.pt", "good.pt is of ddpg_her.py, not of ddpg_her_reengage.py."),
    (PLAIN, "--evaluate run/checkpoint.pt", "is not a model, such as model.pt in a run's folder."),
    (PLAIN, "--evaluate good.pt --env-id ContinuousSeek5-v0", "where it is 'ContinuousSeek2-v0'."),
    (
        PLAIN,
        "--evaluate good.pt --hidden-dims 8",
        "does not go with good.pt, where it is (16, 16).",
    ),
    (PLAIN, "--evaluate good.pt --run-dir x", "--run-dir 'x' does not go with good.pt"),
    (PLAIN, "--evaluate good.pt --render human", "There is no display"),
    (PLAIN, "--evaluate good.pt --env-kwargs '{\"x\": 1}'", "ContinuousSeek2-v0 cannot be made"),
    (PLAIN, "--evaluate filmed.pt --capture-video", "filmed.gif"),
]
BY_TYRO = [
    (PLAIN, "--alhpa 1", "--alhpa"),
    (DQN, "--soft-target neither", "--soft-target"),
    (PLAIN, "--seed one", "--seed"),
    (PLAIN, "--env-id", "--env-id"),
    (REENGAGE, "--alpha large", "--alpha"),
    (PLAIN, "--alpha 1", "--alpha"),
    (PLAIN, "surplus", "surplus"),
]


class Payload:
    """Unpickling this object creates the file `executed` in the working directory."""

    def __reduce__(self) -> tuple:
        return (open, ("executed", "w"))


@pytest.fixture
def with_files(trained: Callable[[str], Path], tmp_path: Path) -> Path:
    """Runs and models, good and bad ones, in the working directory."""
    good = trained(PLAIN) / "model.pt"
    content = good.read_bytes()
    place = content.index(b"PK", len(content) // 2) - 40  # within the weights
    flipped = bytearray(content)
    flipped[place] ^= 1
    shutil.copytree(trained(PLAIN), tmp_path / "run")
    for name in ("good.pt", "filmed.pt"):
        shutil.copy(good, tmp_path / name)
    for name in ("things", "filmed.gif"):
        (tmp_path / name).mkdir()
    (tmp_path / "things" / "notes.txt").write_text("of somebody")
    (tmp_path / "junk.pt").write_text("junk")
    (tmp_path / "flipped.pt").write_bytes(flipped)
    torch.save([1, 2], tmp_path / "list.pt")
    torch.save({"script": PLAIN, "settings": Payload()}, tmp_path / "payload.pt")
    return tmp_path


@pytest.mark.parametrize("script, flags, message", NUMBERS + ENVIRONMENTS)
def test_impossible_numbers_and_environments_are_refused(
    script: str, flags: str, message: str, tmp_path: Path
):
    assert_refused(script, flags, message, tmp_path)


@pytest.mark.parametrize("script, flags, message", COMBINATIONS + MODELS)
def test_impossible_combinations_and_files_are_refused(
    script: str, flags: str, message: str, with_files: Path
):
    assert_refused(script, flags, message, with_files)


@pytest.mark.parametrize("script, flags, message", BY_TYRO)
def test_unknown_flags_and_values_of_the_wrong_type_are_refused(
    script: str, flags: str, message: str, tmp_path: Path
):
    assert_refused(script, flags, message, tmp_path, is_by_tyro=True)


@pytest.mark.parametrize("script", SCRIPTS)
@pytest.mark.parametrize("beyond", [-math.inf, math.inf, math.nan, 1e300, -1e300])
def test_every_number_of_every_script_has_a_range(script: str, beyond: float):
    cls = module_of(script).Args
    numbers = 0
    for name, value in vars(cls()).items():
        if type(value) in (int, float):
            numbers += 1
            with pytest.raises(BadInput, match=re.escape(f"{flag(name)} {beyond} is out of range")):
                check_ranges(dataclasses.replace(cls(), **{name: beyond}))
    assert numbers > 15


@pytest.mark.parametrize("script", SCRIPTS)
def test_the_defaults_and_all_settings_of_environments_are_in_range(script: str):
    module = module_of(script)
    check_ranges(module.Args())
    others = getattr(module, "OTHER_SETTINGS", {})
    for settings in [*module.PAPER_SETTINGS.values(), *others.values(), module.UNTUNED]:
        check_ranges(dataclasses.replace(module.Args(), **settings))


# Files that were changed


NOTHING = object()


def set_in(*keys: str, to: object = NOTHING) -> Callable[[dict], None]:
    """A change that sets content[key][key]..., or deletes it if there is no `to`."""

    def change(content: dict) -> None:
        for key in keys[:-1]:
            content = content[key]
        if to is NOTHING:
            del content[keys[-1]]
        else:
            content[keys[-1]] = to

    return change


CHANGED = {
    "no settings": (set_in("settings"), "is not a model, such as model.pt"),
    "an unknown setting": (
        set_in("settings", "beta", to=1),
        "was saved with --beta, which ddpg_her.py lacks.",
    ),
    "an environment that imports": (
        set_in("settings", "env_id", to="antigravity:X-v0"),
        "imports a package: allow it by --env-id antigravity:X-v0.",
    ),
    "an environment of other sizes": (
        set_in("settings", "env_id", to="ContinuousSeek3-v0"),
        "does not fit the networks it describes.",
    ),
    "no actor": (set_in("actor"), "does not fit the networks it describes."),
}


@pytest.mark.parametrize("name", CHANGED)
def test_a_model_file_that_was_changed_is_refused(
    name: str, trained: Callable[[str], Path], tmp_path: Path
):
    change, message = CHANGED[name]
    model = files.load(trained(PLAIN) / "model.pt", "model")
    change(model)
    torch.save(model, tmp_path / "changed.pt")
    assert_refused(PLAIN, "--evaluate changed.pt", message, tmp_path)


ARGUMENTS = {
    "of another script": (
        set_in("versions", "script", to=SAC),
        "is of sac_her_reengage.py, not of ddpg_her.py.",
    ),
    "without versions": (set_in("versions"), "args.json is damaged."),
    "an unknown key": (set_in("beta", to=1.0), "was saved with --beta, which ddpg_her.py lacks."),
    "a number out of range": (set_in("tau", to=math.nan), "--tau nan is out of range"),
    "an unknown environment": (set_in("env_id", to="Nowhere-v0"), "No environment 'Nowhere-v0'"),
}


@pytest.mark.parametrize("name", ARGUMENTS)
def test_a_folder_whose_arguments_were_changed_is_not_resumed(name: str, with_files: Path):
    change, message = ARGUMENTS[name]
    path = with_files / "run" / "args.json"
    args = json.loads(path.read_text())
    change(args)
    path.write_text(json.dumps(args))
    assert_refused(PLAIN, "--resume run --total-timesteps 60", message, with_files)


CHECKPOINTS = {
    "none": (lambda path: path.unlink(), "There is no checkpoint in "),
    "cut": (lambda path: os.truncate(path, 20_000), "or it is damaged (BadZipFile)."),
    "a model": (
        lambda path: shutil.copy(path.with_name("model.pt"), path),
        "does not fit this run: KeyError: 'count'.",
    ),
}


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_a_damaged_checkpoint_is_not_resumed(name: str, with_files: Path):
    change, message = CHECKPOINTS[name]
    change(with_files / "run" / "checkpoint.pt")
    assert_refused(PLAIN, "--resume run --total-timesteps 60", message, with_files)


def test_a_single_process_script_is_refused_under_torchrun(tmp_path: Path):
    torchrun = {"TORCHELASTIC_RUN_ID": "1", "RANK": "0"}
    for script in (PLAIN, "ddpg_her_reengage_many"):
        assert_refused(script, "", "use ddpg_her_reengage_torchrun.py.", tmp_path, **torchrun)


def test_a_model_that_imports_a_package_plays_when_the_command_names_it(
    trained: Callable[[str], Path], tmp_path: Path
):
    model = files.load(trained(PLAIN) / "model.pt", "model")
    model["settings"]["env_id"] = "math:ContinuousSeek2-v0"
    torch.save(model, tmp_path / "model.pt")
    flags = ["--evaluate", "model.pt", "--env-id", "math:ContinuousSeek2-v0"]
    ended = forked.run(PLAIN, *flags, cwd=tmp_path)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.startswith("episodes 4  success_rate")


# Signals, streams, folders, disks


def set_ranks() -> None:
    """Variables of other programs, which mean nothing outside torchrun."""
    os.environ.update({"WORLD_SIZE": "2", "RANK": "5", "LOCAL_RANK": "3"})


def close_stdout() -> None:
    """As in `| head -0`."""
    reader, writer = os.pipe()
    os.close(reader)
    os.dup2(writer, sys.stdout.fileno())


def fill_stdout() -> None:
    os.dup2(os.open("/dev/full", os.O_WRONLY), sys.stdout.fileno())


@pytest.mark.parametrize("before", [set_ranks, close_stdout, fill_stdout])
def test_a_run_goes_on_whatever_surrounds_it(before: Callable[[], None], tmp_path: Path):
    ended = forked.run(PLAIN, *forked.SMALL[PLAIN], cwd=tmp_path, before=before)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert (tmp_path / "run" / "metrics.csv").read_text().splitlines()[-1].startswith("120,")
    assert ("global_step 120" in ended.stdout) == (before is set_ranks)


def interrupt() -> None:
    """Ctrl-C while the flags are read."""
    flags.check_ranges = lambda *_: os.kill(os.getpid(), signal.SIGINT)


def test_an_interrupt_before_a_run_ends_it_silently(tmp_path: Path):
    ended = forked.run(PLAIN, *forked.SMALL[PLAIN], cwd=tmp_path, before=interrupt)
    assert (ended.returncode, ended.stderr) == (-signal.SIGINT, "")
    assert not (tmp_path / "run").exists()


def test_an_unknown_graphics_backend_is_reported_in_one_sentence(tmp_path: Path):
    ended = run_script(PLAIN, "--env-id", "HandReach-v3", cwd=tmp_path, MUJOCO_GL="nonsense")
    assert (ended.returncode, len(ended.stderr.splitlines())) == (2, 1)
    assert "MUJOCO_GL is 'nonsense'" in ended.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 300 kB; only root can make one."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=300k", "none", disk]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("no file system can be mounted here")
    yield disk
    subprocess.run(["umount", "--lazy", disk], check=True)


def test_a_full_disk_ends_a_run_with_one_sentence_and_it_resumes_once_there_is_room(
    small_disk: Path, tmp_path: Path
):
    folder = small_disk / "run"
    (small_disk / "ballast").write_bytes(bytes(190_000))
    flags = [*forked.SMALL[PLAIN], "--run-dir", folder]
    ended = forked.run(PLAIN, *flags, cwd=tmp_path)
    assert (ended.returncode, len(ended.stderr.splitlines())) == (1, 1)
    assert ended.stderr.startswith(f"Cannot write to {folder} at step ")
    assert "No space left on device" in ended.stderr
    assert not list(folder.glob(".unfinished*"))
    (small_disk / "ballast").unlink()
    ended = forked.run(PLAIN, "--resume", folder, cwd=tmp_path)
    assert (ended.returncode, ended.stderr) == (0, "")


def without_account() -> None:
    wandb = ModuleType("wandb")
    wandb.init = lambda **_: {}["api_key"]
    sys.modules["wandb"] = wandb


def without_package() -> None:
    sys.modules["wandb"] = None


@pytest.mark.parametrize("before", [without_account, without_package])
def test_tracking_that_does_not_work_is_reported_before_anything_is_written(
    before: Callable[[], None], tmp_path: Path
):
    flags = [*forked.SMALL[PLAIN], "--track"]
    ended = forked.run(PLAIN, *flags, cwd=tmp_path, before=before)
    reason = "KeyError: 'api_key'" if before is without_account else "import of wandb "
    assert ended.returncode == 2
    assert ended.stderr.startswith(f"--track does not work here: {reason}")
    assert not (tmp_path / "run").exists()


def test_running_out_of_gpu_memory_is_one_sentence(capsys: pytest.CaptureFixture):
    with pytest.raises(SystemExit) as ended, one_sentence():
        raise torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate 8 GiB")
    assert ended.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1
