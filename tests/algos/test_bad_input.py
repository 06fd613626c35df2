"""Bad input ends with one true sentence and exit code 2, before anything is written."""

import dataclasses
import json
import math
import os
import re
import runpy
import shlex
import shutil
import signal
import subprocess
import sys
import time
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import forked
import pytest
import torch
from conftest import ROOT

from algos import (
    ddpg_her,
    ddpg_her_reengage,
    ddpg_multi_reengage,
    dqn_her_reengage_bitflip,
    sac_her_reengage,
)
from envs.run import files
from envs.run import flags as launch
from envs.run import folder as run_folder

PLAIN, REENGAGE, SAC = "ddpg_her", "ddpg_her_reengage", "sac_her_reengage"
DQN, MULTI, TORCHRUN = (
    "dqn_her_reengage_bitflip",
    "ddpg_multi_reengage",
    "ddpg_her_reengage_torchrun",
)
MODULES = {
    PLAIN: ddpg_her,
    REENGAGE: ddpg_her_reengage,
    SAC: sac_her_reengage,
    DQN: dqn_her_reengage_bitflip,
    MULTI: ddpg_multi_reengage,
}
VARIABLES = ("TORCHELASTIC_RUN_ID", "RANK", "WORLD_SIZE", "DISPLAY", "WAYLAND_DISPLAY")


class Refusal(NamedTuple):
    """How a command ended that was refused."""

    code: object
    sentence: str
    stdout: str
    written: set[Path]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The folder of a finished run of each script."""
    runs = {}
    for script, flags in forked.SMALL.items():
        cwd = tmp_path_factory.mktemp(script)
        ended = forked.run(script, *flags, "--total-timesteps", 30, cwd=cwd)
        assert (ended.returncode, ended.stderr) == (0, "")
        runs[script] = cwd / "run"
    return runs


@pytest.fixture
def refuse(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> Callable[[str, str], Refusal]:
    """refuse(script, flags): the script as a command in this process, up to where a run begins."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "wandb", None)  # not installed
    monkeypatch.setattr(run_folder.RunFolder, "begin", lambda *_: pytest.fail("it was accepted"))
    precision = torch.get_float32_matmul_precision()
    threads = torch.get_num_threads()
    before = set(tmp_path.rglob("*"))

    def call(script: str, flags: str) -> Refusal:
        before.update(tmp_path.rglob("*"))
        path = str(ROOT / "algos" / f"{script}.py")
        monkeypatch.setattr(sys, "argv", [path, *shlex.split(flags)])
        with pytest.raises(SystemExit) as ended:
            runpy.run_path(path, run_name="__main__")
        stdout, stderr = capsys.readouterr()
        written = set(tmp_path.rglob("*")) - before
        return Refusal(ended.value.code, stderr, stdout, written)

    yield call
    torch.set_float32_matmul_precision(precision)
    torch.set_num_threads(threads)
    torch.set_flush_denormal(False)


def assert_refused(refusal: Refusal, message: str, is_by_tyro: bool = False) -> None:
    assert refusal.code == 2
    assert message in " ".join(refusal.sentence.replace("│", " ").split())
    assert "Traceback" not in refusal.sentence
    if not is_by_tyro:  # it draws a box around what it has to say
        assert len(refusal.sentence.splitlines()) == 1
    assert refusal.written == set()
    assert "global_step" not in refusal.stdout  # no evaluation had begun


NUMBERS = [  # script, flags, what the sentence must say
    (PLAIN, "--learning-rate inf", "--learning-rate inf is out of range: 1e-12 to 1000.0."),
    (PLAIN, "--learning-rate 1e400", "--learning-rate inf is out of range"),
    (SAC, "--learning-rate 1e300", "--learning-rate 1e+300 is out of range"),
    (DQN, "--learning-rate nan", "--learning-rate nan is out of range"),
    (MULTI, "--learning-rate 0", "--learning-rate 0.0 is out of range"),
    (PLAIN, "--learning-rate -1e-3", "--learning-rate -0.001 is out of range"),
    (REENGAGE, "--alpha inf", "--alpha inf is out of range"),
    (SAC, "--alpha 1e30", "--alpha 1e+30 is out of range"),
    (MULTI, "--alpha=-0.1", "--alpha -0.1 is out of range"),
    (DQN, "--alpha nan", "--alpha nan is out of range"),
    (REENGAGE, "--alpha auto --alpha-ratio 0", "--alpha-ratio 0.0 is out of range"),
    (REENGAGE, "--alpha auto --alpha-ratio inf", "--alpha-ratio inf is out of range"),
    (PLAIN, "--exploration-noise inf", "--exploration-noise inf is out of range"),
    (MULTI, "--exploration-noise=-0.1", "--exploration-noise -0.1 is out of range"),
    (REENGAGE, "--c-low nan", "--c-low nan is out of range"),
    (SAC, "--c-low inf", "--c-low inf is out of range"),
    (PLAIN, "--action-l2 inf", "--action-l2 inf is out of range"),
    (REENGAGE, "--action-l2=-1", "--action-l2 -1.0 is out of range"),
    (DQN, "--temperature inf", "--temperature inf is out of range"),
    (DQN, "--temperature 1e-300", "--temperature 1e-300 is too small: 0 is the plain max."),
    (DQN, "--temperature=-0.5", "--temperature -0.5 is out of range"),
    (DQN, "--epsilon 1.1", "--epsilon 1.1 is out of range: 0 to 1."),
    (DQN, "--epsilon=-0.1", "--epsilon -0.1 is out of range"),
    (PLAIN, "--gamma 1", "--gamma 1.0 is out of range"),
    (SAC, "--gamma=-0.1", "--gamma -0.1 is out of range"),
    (PLAIN, "--tau 0", "--tau 0.0 is out of range"),
    (MULTI, "--tau 1.1", "--tau 1.1 is out of range"),
    (PLAIN, "--random-action-prob 1.5", "--random-action-prob 1.5 is out of range"),
    (PLAIN, "--buffer-size 1000000000000000", "--buffer-size 1000000000000000 is out of range"),
    (PLAIN, "--buffer-size 900000000000", "GiB of memory: "),
    (SAC, "--buffer-size 100000000000", " would fit."),
    (DQN, "--buffer-size 100000000000", " would fit."),
    (MULTI, "--buffer-size 100000000000", " would fit."),
    (PLAIN, "--buffer-size=-5", "--buffer-size -5 is out of range"),
    (PLAIN, "--buffer-size 9", "cannot hold an episode of each environment: 1 of up to 10 steps"),
    (REENGAGE, "--num-envs 4 --buffer-size 39", "4 of up to 10 steps"),
    (DQN, "--buffer-size 19", "cannot hold an episode of each environment: 16 of up to 20 steps"),
    (MULTI, "--buffer-size 9", "--buffer-size 9 cannot hold two episodes"),
    (PLAIN, "--batch-size 1000000000000", "--batch-size 1000000000000 is out of range"),
    (SAC, "--batch-size 0", "--batch-size 0 is out of range"),
    (PLAIN, "--hidden-dims 1000000000 1000000000", "--hidden-dims 1000000000 is out of range"),
    (SAC, "--hidden-dims 100000 100000", "10000000000 weights between hidden layers"),
    (PLAIN, "--hidden-dims 16 0", "--hidden-dims 0 is out of range"),
    (DQN, "--hidden-dims=-1", "--hidden-dims -1 is out of range"),
    (PLAIN, f"--hidden-dims {' 8' * 33}", "--hidden-dims takes 1 to 32 numbers."),
    (MULTI, "--hidden-dim 1000000000000", "--hidden-dim 1000000000000 is out of range"),
    (MULTI, "--hidden-dim 0", "--hidden-dim 0 is out of range"),
    (MULTI, "--embedding-dim 1000000", "--embedding-dim 1000000 is out of range"),
    (MULTI, "--n-max 1000000000000", "--n-max 1000000000000 is out of range"),
    (MULTI, "--n-max=-1", "--n-max -1 is out of range"),
    (MULTI, "--env-id DriveSeek20-v0 --n-max 5", "--n-max 5 is too small: up to 20 goals."),
    (PLAIN, "--num-threads 1000000", "--num-threads 1000000 is out of range"),
    (PLAIN, "--num-threads 0", "--num-threads 0 is out of range"),
    (PLAIN, "--env-threads=-1", "--env-threads -1 is out of range"),
    (PLAIN, "--env-threads 100000", "--env-threads 100000 is out of range"),
    (PLAIN, "--num-envs 1000000", "--num-envs 1000000 is out of range"),
    (DQN, "--num-envs 0", "--num-envs 0 is out of range"),
    (PLAIN, "--eval-episodes 10000000", "--eval-episodes 10000000 is out of range"),
    (SAC, "--eval-frequency 0", "--eval-frequency 0 is out of range"),
    (SAC, "--log-frequency 0", "--log-frequency 0 is out of range"),
    (PLAIN, "--total-timesteps 0", "--total-timesteps 0 is out of range"),
    (PLAIN, "--total-timesteps=-100", "--total-timesteps -100 is out of range"),
    (PLAIN, "--gradient-steps 0", "--gradient-steps 0 is out of range"),
    (DQN, "--gradient-steps 10000000000", "--gradient-steps 10000000000 is out of range"),
    (PLAIN, "--train-frequency 0", "--train-frequency 0 is out of range"),
    (PLAIN, "--target-network-frequency 0", "--target-network-frequency 0 is out of range"),
    (SAC, "--her-k 0", "--her-k 0 is out of range"),
    (SAC, "--her-k=-4", "--her-k -4 is out of range"),
    (PLAIN, "--seed=-1", "--seed -1 is out of range: 0 to 2147483647."),
    (PLAIN, "--seed 9223372036854775808", "--seed 9223372036854775808 is out of range"),
    (MULTI, "--seed 100000000000000000000", "--seed 100000000000000000000 is out of range"),
    (PLAIN, "--max-episode-steps=-1", "--max-episode-steps -1 is out of range"),
    (PLAIN, "--max-episode-steps 1000000000", "--max-episode-steps 1000000000 is out of range"),
    (PLAIN, "--learning-starts=-1", "--learning-starts -1 is out of range"),
]
ENVIRONMENTS = [
    (REENGAGE, "--env-id Nowhere-v0", "No environment 'Nowhere-v0'"),
    (PLAIN, "--env-id ''", "No environment"),
    (PLAIN, "--env-id nowhere:Nowhere-v0", "importing 'nowhere' failed"),
    (PLAIN, "--env-id math:Nowhere-v0", "No environment 'math:Nowhere-v0'"),
    (PLAIN, "--env-id ContinuousSeek0-v0", "ContinuousSeek0-v0"),
    (PLAIN, "--env-id ContinuousSeek10000000-v0", "observes 30000000 numbers: at most 100000."),
    (PLAIN, "--env-id Pendulum-v1", "Pendulum-v1 is no goal environment"),
    (SAC, "--env-id CartPole-v1", "CartPole-v1 is no goal environment"),
    (REENGAGE, "--env-id CorridorDiscrete-v0", "has a Discrete action space, not a Box."),
    (PLAIN, "--env-id CorridorDiscrete-v0", "has a Discrete action space, not a Box."),
    (SAC, "--env-id BitFlip20-v0", "has a Discrete action space, not a Box."),
    (DQN, "--env-id ContinuousSeek5-v0", "has a Box action space, not a Discrete."),
    (DQN, "--env-id DriveSeek-v0", "has a Box action space, not a Discrete."),
    (SAC, "--env-id DriveSeek-v0", "sets of goals are for ddpg_multi_reengage.py"),
    (REENGAGE, "--env-id DriveSeek-v0", "sets of goals are for ddpg_multi_reengage.py"),
    (PLAIN, "--env-id NoisySeek-v0", "sets of goals are for ddpg_multi_reengage.py"),
    (MULTI, "--env-id ContinuousSeek5-v0", "it lacks compute_item_rewards"),
    (MULTI, "--env-id Walk-v0", "it lacks compute_item_rewards"),
    (MULTI, "--env-id BitFlip20-v0", "has a Discrete action space, not a Box."),
    (MULTI, "--env-id DriveSeek442-v0", "n_max from 1 to 441"),
    (MULTI, "--env-id NoisySeek-v0 --encoder cnn", "NoisySeek-v0 needs --encoder deepsets."),
    (PLAIN, "--env-id Endless-v0", "Endless-v0 has no registered time limit: --max-episode-steps"),
    (PLAIN, "--env-id NoGoals-v0", "NoGoals-v0 is no goal environment"),
    (PLAIN, "--env-id Image-v0", "is an array of shape (8, 8, 3)"),
    (PLAIN, "--env-id Text-v0", "is of the kind Text"),
    (PLAIN, "--env-id TwoSizes-v0", "cannot be learned from in hindsight"),
    (PLAIN, "--env-id NeedsInfo-v0", "needs a step's info"),
    (PLAIN, "--env-id BrokenReward-v0", "the table of rewards is missing"),
    (REENGAGE, "--env-id KeylessDense-v0 --alpha 1", "no compute_reward_gradient"),
    (DQN, "--env-id WideBatch-v0", "has a Box action space, not a Discrete."),
    (PLAIN, "--env-id Walk-v0 --env-kwargs no", "--env-kwargs no is no JSON object"),
    (PLAIN, "--env-id Walk-v0 --env-kwargs [1]", "--env-kwargs [1] is no JSON object"),
    (PLAIN, """--env-kwargs '{"render_mode": "human"}'""", "say render_mode: --capture-video or"),
    (PLAIN, """--env-kwargs '{"max_episode_steps": 3}'""", "cannot say max_episode_steps: --max"),
    (PLAIN, f"--env-id Walk-v0 --env-kwargs {'[' * 10**5}", "is no JSON object"),
    (PLAIN, """--env-id Walk-v0 --env-kwargs '{"x": 1}'""", "Walk-v0 cannot be made"),
    (PLAIN, """--env-id Walk-v0 --env-kwargs '{"size": -1}'""", "a size of -1 makes no sense"),
    (PLAIN, "--env-id WithoutRenderMode-v0 --capture-video", "render_mode"),
]
COMBINATIONS = [
    (REENGAGE, "--learning-starts 5", "No episode is stored at the first update, after 5 steps"),
    (SAC, "--learning-starts 0", "No episode is stored at the first update, after 1 steps"),
    (PLAIN, "--learning-starts 12001", "--learning-starts 12001 is above --total-timesteps 12000."),
    (MULTI, "--learning-starts 10 --total-timesteps 9", "is above --total-timesteps 9."),
    (PLAIN, "--train-frequency 20000", "--train-frequency 20000 is above --total-timesteps 12000."),
    (PLAIN, "--train-frequency 7000 --num-envs 2", "7000 of 2 environments each is above"),
    (PLAIN, "--env-id ContinuousSeek5Dense-v0 --clip-target", "give --no-clip-target."),
    (REENGAGE, "--env-id ZeroOne-v0 --clip-target", "give --no-clip-target."),
    (REENGAGE, "--raw-goal-gradient", "--raw-goal-gradient has no meaning without --normalize."),
    (DQN, "--soft-target both-stochastic --temperature 0", "--temperature"),
    (PLAIN, "--render human", "--render shows a saved model: give --evaluate too."),
    (REENGAGE, "--track", "wandb"),
    (PLAIN, "--run-dir existing", "existing exists: give another --run-dir."),
    (PLAIN, "--run-dir junk.pt", "junk.pt exists: give another --run-dir."),
    (PLAIN, "--run-dir junk.pt/run", "junk.pt/run: Not a directory."),
    (PLAIN, "--run-dir /dev/null/run", "/dev/null/run: Not a directory."),
    (PLAIN, f"--run-dir {'x' * 300}", "File name too long."),
    (PLAIN, "--resume nowhere", "nowhere is no run's folder: it has no args.json."),
    (PLAIN, "--resume existing", "existing is no run's folder: it has no args.json."),
    (PLAIN, "--resume junk.pt", "junk.pt is no run's folder: it has no args.json."),
    (PLAIN, "--resume run --evaluate good.pt", "--resume trains and --evaluate plays"),
    (PLAIN, "--resume run --alpha 1", ""),
    (TORCHRUN, "", "Start this script by torchrun, as its docstring says."),
]
MODELS = [
    (PLAIN, "--evaluate nowhere.pt", "There is no model nowhere.pt."),
    (PLAIN, "--evaluate existing", "existing is no model: its name does not end in .pt."),
    (PLAIN, "--evaluate folder.pt", "folder.pt is no model, or a damaged one"),
    (PLAIN, "--evaluate junk.pt", "junk.pt is no model, or a damaged one (BadZipFile)."),
    (PLAIN, "--evaluate empty.pt", "empty.pt is no model, or a damaged one (BadZipFile)."),
    (PLAIN, "--evaluate cut.pt", "cut.pt is no model, or a damaged one (BadZipFile)."),
    (PLAIN, "--evaluate flipped.pt", "flipped.pt is no model, or a damaged one (ValueError)."),
    (PLAIN, "--evaluate payload.pt", "payload.pt is no model, or a damaged one"),
    (PLAIN, "--evaluate list.pt", "list.pt is no model, or a damaged one (ValueError)."),
    (PLAIN, "--evaluate movie.gif --capture-video", "its name does not end in .pt."),
    (REENGAGE, "--evaluate good.pt", "good.pt is of ddpg_her.py, not of ddpg_her_reengage.py."),
    (DQN, "--evaluate good.pt", "good.pt is of ddpg_her.py, not of dqn_her_reengage_bitflip.py."),
    (
        PLAIN,
        "--evaluate run/checkpoint.pt",
        "run/checkpoint.pt is no model, such as model.pt in a run's folder.",
    ),
    (PLAIN, "--evaluate good.pt --env-id ContinuousSeek5-v0", "where it is 'ContinuousSeek2-v0'."),
    (
        PLAIN,
        "--evaluate good.pt --hidden-dims 8",
        "does not go with good.pt, where it is (16, 16).",
    ),
    (PLAIN, "--evaluate good.pt --no-normalize", "--normalize False does not go with good.pt"),
    (PLAIN, "--evaluate good.pt --run-dir x", "--run-dir has no meaning with --evaluate"),
    (PLAIN, "--evaluate good.pt --batch-size 8", "--batch-size has no meaning with --evaluate"),
    (PLAIN, "--evaluate good.pt --track", "--track has no meaning with --evaluate"),
    (PLAIN, "--evaluate good.pt --eval-episodes=-1", "--eval-episodes -1 is out of range"),
    (PLAIN, "--evaluate good.pt --render human", "There is no display"),
    (PLAIN, "--evaluate good.pt --env-kwargs '{\"x\": 1}'", "ContinuousSeek2-v0 cannot be made"),
    (PLAIN, "--evaluate filmed.pt --capture-video", "filmed.gif: Is a directory."),
]
BY_TYRO = [
    (PLAIN, "--alhpa 1", "--alhpa"),
    (PLAIN, "--her-strategy nearest", "--her-strategy"),
    (MULTI, "--encoder rnn", "--encoder"),
    (DQN, "--soft-target neither", "--soft-target"),
    (PLAIN, "--render robot --evaluate good.pt", "--render"),
    (PLAIN, "--matmul-precision low", "--matmul-precision"),
    (PLAIN, "--seed 1.5", "--seed"),
    (PLAIN, "--seed one", "--seed"),
    (PLAIN, "--hidden-dims", "--hidden-dims"),
    (PLAIN, "--env-id", "--env-id"),
    (PLAIN, "--resume", "--resume"),
    (PLAIN, "--evaluate", "--evaluate"),
    (REENGAGE, "--alpha large", "--alpha"),
    (PLAIN, "--alpha 1", "--alpha"),
    (MULTI, "--num-envs 2", "--num-envs"),
    (PLAIN, "surplus", "surplus"),
]


class Payload:
    """Unpickling this object creates the file `executed` in the working directory."""

    def __reduce__(self) -> tuple:
        return (open, ("executed", "w"))


@pytest.fixture
def with_files(trained: dict[str, Path], tmp_path: Path) -> Path:
    """Runs and models, good and bad ones, in the working directory."""
    good = trained[PLAIN] / "model.pt"
    content = good.read_bytes()
    place = content.index(b"PK", len(content) // 2) - 40  # within the weights
    flipped = bytearray(content)
    flipped[place] ^= 1
    shutil.copytree(trained[PLAIN], tmp_path / "run")
    for name in ("good.pt", "filmed.pt"):
        shutil.copy(good, tmp_path / name)
    for name in ("existing", "folder.pt", "filmed.gif"):
        (tmp_path / name).mkdir()
    (tmp_path / "junk.pt").write_text("junk")
    (tmp_path / "empty.pt").write_bytes(b"")
    (tmp_path / "cut.pt").write_bytes(content[: len(content) // 2])
    (tmp_path / "flipped.pt").write_bytes(flipped)
    torch.save([1, 2], tmp_path / "list.pt")
    torch.save({"script": PLAIN, "settings": Payload()}, tmp_path / "payload.pt")
    return tmp_path


@pytest.mark.parametrize("script, flags, message", NUMBERS + ENVIRONMENTS)
def test_numbers_and_environments_that_cannot_be_are_refused(
    script: str, flags: str, message: str, refuse: Callable
):
    assert_refused(refuse(script, flags), message)


@pytest.mark.parametrize("script, flags, message", COMBINATIONS + MODELS)
def test_combinations_and_files_that_cannot_be_are_refused(
    script: str, flags: str, message: str, refuse: Callable, with_files: Path
):
    assert_refused(refuse(script, flags), message, is_by_tyro=message == "")


@pytest.mark.parametrize("script, flags, message", BY_TYRO)
def test_words_that_are_no_flags_and_values_of_another_type_are_refused(
    script: str, flags: str, message: str, refuse: Callable, with_files: Path
):
    assert_refused(refuse(script, flags), message, is_by_tyro=True)


@pytest.mark.parametrize("script", MODULES)
@pytest.mark.parametrize("beyond", [-math.inf, math.inf, math.nan, 1e300, -1e300])
def test_every_number_of_every_script_has_a_range(script: str, beyond: float):
    cls = MODULES[script].Args
    numbers = 0
    for name, value in vars(cls()).items():
        if type(value) in (int, float):
            numbers += 1
            flag = launch.flag(name)
            with pytest.raises(ValueError, match=re.escape(f"{flag} {beyond} is out of range: ")):
                launch.check_ranges(dataclasses.replace(cls(), **{name: beyond}))
    assert numbers > 15


@pytest.mark.parametrize("script", MODULES)
def test_the_defaults_and_all_settings_of_environments_are_in_range(script: str):
    module = MODULES[script]
    launch.check_ranges(module.Args())
    others = getattr(module, "OTHER_SETTINGS", {})
    for settings in [*module.PAPER_SETTINGS.values(), *others.values(), module.UNTUNED]:
        launch.check_ranges(dataclasses.replace(module.Args(), **settings))


@pytest.mark.parametrize("script", [PLAIN, MULTI])
def test_zeros_that_make_sense_are_accepted(script: str):
    cls = MODULES[script].Args
    for name in ("seed", "gamma", "learning_starts", "exploration_noise", "env_threads"):
        launch.check_ranges(dataclasses.replace(cls(), **{name: 0}))


# Files that were tampered with


def set_in(*keys: str, to: object) -> Callable[[dict], None]:
    """A change of what stands at content[key][key]..."""

    def change(content: dict) -> None:
        for key in keys[:-1]:
            content = content[key]
        content[keys[-1]] = to

    return change


def drop(*keys: str) -> Callable[[dict], None]:
    def change(content: dict) -> None:
        for key in keys[:-1]:
            content = content[key]
        del content[keys[-1]]

    return change


WEIGHT = "net.0.weight"
CRAFTED = {
    "no script": (drop("script"), "is no model, such as model.pt"),
    "a list for a script": (set_in("script", to=[1]), "is of [1].py"),
    "another script": (set_in("script", to="sac_her_reengage"), "is of sac_her_reengage.py"),
    "no settings": (drop("settings"), "does not hold what this version"),
    "a list of settings": (set_in("settings", to=[1]), "does not hold what this version"),
    "a setting less": (drop("settings", "normalize"), "does not hold what this version"),
    "an argument that is no network's": (
        set_in("settings", "evaluate", to=""),
        "does not hold what this version",
    ),
    "a folder to write": (set_in("settings", "run_dir", to="x"), "does not hold what this version"),
    "a key of numbers": (set_in("settings", 7, to=7), "does not hold what this version"),
    "env_id a number": (set_in("settings", "env_id", to=7), "has env_id '7', which cannot be."),
    "env_id a list": (set_in("settings", "env_id", to=["x"]), "which cannot be."),
    "env_id unknown": (
        set_in("settings", "env_id", to="Nowhere-v0"),
        "No environment 'Nowhere-v0'",
    ),
    "env_id of other sizes": (
        set_in("settings", "env_id", to="ContinuousSeek3-v0"),
        "does not fit the networks it describes.",
    ),
    "env_id of bits": (set_in("settings", "env_id", to="BitFlip2-v0"), "has a Discrete action"),
    "env_id of goal sets": (
        set_in("settings", "env_id", to="DriveSeek5-v0"),
        "does not fit the networks it describes.",
    ),
    "env_id that imports": (
        set_in("settings", "env_id", to="antigravity:X-v0"),
        "imports a package: allow it by --env-id antigravity:X-v0.",
    ),
    "env_id of a huge environment": (
        set_in("settings", "env_id", to="ContinuousSeek10000000-v0"),
        "observes 30000000 numbers",
    ),
    "env_kwargs a dict": (set_in("settings", "env_kwargs", to={}), "has env_kwargs '{}'"),
    "env_kwargs no JSON": (set_in("settings", "env_kwargs", to="{"), "is no JSON object"),
    "env_kwargs a JSON list": (set_in("settings", "env_kwargs", to="[]"), "is no JSON object"),
    "env_kwargs unknown": (set_in("settings", "env_kwargs", to='{"x": 1}'), "cannot be made"),
    "steps negative": (set_in("settings", "max_episode_steps", to=-1), "is out of range"),
    "steps a float": (set_in("settings", "max_episode_steps", to=1.5), "which cannot be."),
    "steps a bool": (set_in("settings", "max_episode_steps", to=True), "which cannot be."),
    "normalize a number": (set_in("settings", "normalize", to=1), "has normalize '1'"),
    "normalize None": (set_in("settings", "normalize", to=None), "has normalize 'None'"),
    "observation a word": (set_in("settings", "observe_achieved_goal", to="yes"), "cannot be."),
    "another observation": (
        set_in("settings", "observe_achieved_goal", to=False),
        "does not fit the networks it describes.",
    ),
    "no layers": (set_in("settings", "hidden_dims", to=()), "--hidden-dims takes 1 to 32 numbers."),
    "layers a list": (set_in("settings", "hidden_dims", to=[16, 16]), "which cannot be."),
    "layers a number": (set_in("settings", "hidden_dims", to=16), "which cannot be."),
    "layers of floats": (set_in("settings", "hidden_dims", to=(16.0, 16.0)), "which cannot be."),
    "layers of another width": (
        set_in("settings", "hidden_dims", to=(16, 17)),
        "does not fit the networks it describes.",
    ),
    "a layer more": (
        set_in("settings", "hidden_dims", to=(16, 16, 16)),
        "does not fit the networks it describes.",
    ),
    "a layer of a billion": (set_in("settings", "hidden_dims", to=(10**9,)), "is out of range"),
    "ten billion weights": (
        set_in("settings", "hidden_dims", to=(10**5, 10**5)),
        "weights between hidden layers",
    ),
    "a thousand layers": (set_in("settings", "hidden_dims", to=(8,) * 1000), "takes 1 to 32"),
    "no actor": (drop("actor"), "does not fit the networks it describes."),
    "a list for an actor": (set_in("actor", to=[1]), "does not fit the networks it describes."),
    "None for an actor": (set_in("actor", to=None), "does not fit the networks it describes."),
    "a tensor less": (drop("actor", WEIGHT), "does not fit the networks it describes."),
    "a tensor more": (
        set_in("actor", "net.9.weight", to=torch.zeros(2)),
        "does not fit the networks it describes.",
    ),
    "a number for a tensor": (set_in("actor", WEIGHT, to=1), "does not fit the networks"),
    "a tensor of another shape": (set_in("actor", WEIGHT, to=torch.zeros(16, 7)), "does not fit"),
    "a tensor of whole numbers": (
        set_in("actor", WEIGHT, to=torch.zeros(16, 6, dtype=torch.int64)),
        "has net.0.weight in another type of numbers.",
    ),
    "a tensor of complex numbers": (
        set_in("actor", WEIGHT, to=torch.zeros(16, 6, dtype=torch.complex64)),
        "has net.0.weight in another type of numbers.",
    ),
    "a sparse tensor": (
        set_in("actor", WEIGHT, to=torch.zeros(16, 6).to_sparse()),
        "does not fit the networks it describes.",
    ),
    "weights that are nan": (
        set_in("actor", WEIGHT, to=torch.full((16, 6), math.nan)),
        "holds numbers that are not finite.",
    ),
    "weights that are infinite": (
        set_in("actor", "net.0.bias", to=torch.full((16,), math.inf)),
        "holds numbers that are not finite.",
    ),
    "statistics that are nan": (
        set_in("actor", "normalizer.mean", to=torch.full((6,), math.nan)),
        "holds numbers that are not finite.",
    ),
}
CRAFTED_SETS = {
    "an encoder that there is not": (set_in("settings", "encoder", to="rnn"), "has encoder 'rnn'"),
    "an encoder in a list": (set_in("settings", "encoder", to=["cnn"]), "which cannot be."),
    "another encoder": (set_in("settings", "encoder", to="cnn"), "does not fit the networks"),
    "too few slots": (set_in("settings", "n_max", to=4), "--n-max 4 is too small"),
    "slots beyond all": (set_in("settings", "n_max", to=10**12), "is out of range"),
    "slots in a tensor": (set_in("settings", "n_max", to=torch.ones(())), "which cannot be."),
    "a wide layer": (set_in("settings", "hidden_dim", to=10**9), "is out of range"),
    "another width": (set_in("settings", "hidden_dim", to=17), "does not fit the networks"),
    "another embedding": (set_in("settings", "embedding_dim", to=21), "does not fit the networks"),
    "a shared encoder": (set_in("settings", "share_encoder", to=2), "which cannot be."),
}


@pytest.mark.parametrize(
    "script, name",
    [*((PLAIN, name) for name in CRAFTED), *((MULTI, name) for name in CRAFTED_SETS)],
)
def test_a_model_file_that_was_tampered_with_is_refused(
    script: str, name: str, refuse: Callable, trained: dict[str, Path], tmp_path: Path
):
    change, message = (CRAFTED | CRAFTED_SETS)[name]
    model = files.load(trained[script] / "model.pt", "model")
    change(model)
    torch.save(model, tmp_path / "crafted.pt")
    refusal = refuse(script, "--evaluate crafted.pt")
    assert_refused(refusal, message)


def write_args(folder: Path, change: Callable[[dict], None]) -> None:
    args = json.loads((folder / "args.json").read_text())
    change(args)
    (folder / "args.json").write_text(json.dumps(args))


ARGUMENTS = {
    "of another script": (set_in("versions", "script", to=SAC), "is sac_her_reengage.py's"),
    "without versions": (drop("versions"), "is damaged: it holds no arguments."),
    "versions a list": (set_in("versions", to=[]), "is damaged: it holds no arguments."),
    "an unknown key": (set_in("alpha", to=1.0), "does not hold what this version"),
    "a key less": (drop("gamma"), "does not hold what this version"),
    "a word for a number": (set_in("gamma", to="high"), "has gamma 'high', which cannot be."),
    "a float for a whole number": (set_in("seed", to=1.5), "has seed '1.5', which cannot be."),
    "nothing for a number": (set_in("batch_size", to=None), "which cannot be."),
    "a choice that there is not": (set_in("her_strategy", to="nearest"), "which cannot be."),
    "a number out of range": (set_in("tau", to=2.0), "--tau 2.0 is out of range"),
    "not a number": (set_in("tau", to=math.nan), "--tau nan is out of range"),
    "another size": (set_in("batch_size", to=8), "is of another run: batch_size is 16, not 8."),
    "another seed": (set_in("seed", to=2), "is of another run: seed is 1, not 2."),
    "an unknown environment": (set_in("env_id", to="Nowhere-v0"), "No environment 'Nowhere-v0'"),
}


@pytest.fixture
def begin(monkeypatch: pytest.MonkeyPatch) -> Callable:
    """RunFolder.begin as it is, which `refuse` replaces."""
    return run_folder.RunFolder.begin


@pytest.mark.parametrize("name", ARGUMENTS)
def test_a_folder_with_damaged_arguments_is_not_resumed(
    name: str, begin: Callable, refuse: Callable, with_files: Path, monkeypatch: pytest.MonkeyPatch
):
    change, message = ARGUMENTS[name]
    write_args(with_files / "run", change)
    monkeypatch.setattr(run_folder.RunFolder, "begin", begin)
    assert_refused(refuse(PLAIN, "--resume run --total-timesteps 60"), message)


CHECKPOINTS = {
    "none": (lambda path: path.unlink(), "There is no checkpoint "),
    "empty": (lambda path: path.write_bytes(b""), "or a damaged one (BadZipFile)."),
    "cut": (lambda path: os.truncate(path, 20_000), "or a damaged one (BadZipFile)."),
    "words": (lambda path: path.write_text("checkpoint"), "or a damaged one (BadZipFile)."),
    "of a model": (
        lambda path: shutil.copy(path.with_name("model.pt"), path),
        "is of another script, or of another version of it.",
    ),
    "a folder": (lambda path: (path.unlink(), path.mkdir()), "(IsADirectoryError)."),
}


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_a_damaged_checkpoint_is_not_resumed(
    name: str, begin: Callable, refuse: Callable, with_files: Path, monkeypatch: pytest.MonkeyPatch
):
    change, message = CHECKPOINTS[name]
    change(with_files / "run" / "checkpoint.pt")
    monkeypatch.setattr(run_folder.RunFolder, "begin", begin)
    assert_refused(refuse(PLAIN, "--resume run --total-timesteps 60"), message)


@pytest.mark.parametrize("part", ["critic", "actor_optimizer", "buffer", "numpy_stream", "count"])
def test_a_checkpoint_without_one_of_its_parts_is_not_resumed(
    part: str, begin: Callable, refuse: Callable, with_files: Path, monkeypatch: pytest.MonkeyPatch
):
    path = with_files / "run" / "checkpoint.pt"
    state = files.load(path, "checkpoint")
    del state[part]
    torch.save(state, path)
    monkeypatch.setattr(run_folder.RunFolder, "begin", begin)
    refusal = refuse(PLAIN, "--resume run --total-timesteps 60")
    assert_refused(refusal, f"does not fit this run: KeyError: '{part}'")


def test_a_flipped_bit_is_found_or_changes_nothing(trained: dict[str, Path], tmp_path: Path):
    content = (trained[PLAIN] / "model.pt").read_bytes()
    expected = files.load(trained[PLAIN] / "model.pt", "model")
    found = 0
    for place in range(0, len(content), 97):
        flipped = bytearray(content)
        flipped[place] ^= 16
        (tmp_path / "model.pt").write_bytes(flipped)
        try:
            model = files.load(tmp_path / "model.pt", "model")
        except ValueError as error:
            assert "is no model, or a damaged one" in str(error)
            found += 1
        else:  # between the parts, where nothing stands
            for key, tensor in expected["actor"].items():
                assert model["actor"][key].equal(tensor)
    assert found > 40


RESUMED = [
    ("--batch-size 8", "--batch-size 8 does not go with the run in run, where it is 16."),
    ("--seed 2", "--seed 2 does not go with the run in run, where it is 1."),
    ("--env-id ContinuousSeek5-v0", "where it is 'ContinuousSeek2-v0'."),
    ("--no-normalize", "--normalize False does not go with the run in run, where it is True."),
    ("--run-dir elsewhere", "--run-dir elsewhere does not go with the run in run"),
    ("--total-timesteps 29", "--total-timesteps 29 is less than the 30 of the run in run."),
    ("--total-timesteps 0", "--total-timesteps 0 is out of range"),
]


@pytest.mark.parametrize("flags, message", RESUMED)
def test_a_flag_that_contradicts_the_run_is_refused(
    flags: str, message: str, refuse: Callable, with_files: Path
):
    assert_refused(refuse(PLAIN, f"--resume run {flags}"), message)


def test_a_folder_of_another_script_is_not_resumed(refuse: Callable, with_files: Path):
    assert_refused(refuse(SAC, "--resume run"), "is ddpg_her.py's, not sac_her_reengage.py's.")


def test_a_script_of_one_process_is_refused_under_torchrun(
    refuse: Callable, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "1")
    monkeypatch.setenv("RANK", "0")
    assert_refused(refuse(PLAIN, ""), "is one process: use ddpg_her_reengage_torchrun.py.")


def test_a_model_that_imports_a_package_plays_when_the_command_names_it(
    trained: dict[str, Path], tmp_path: Path
):
    model = files.load(trained[PLAIN] / "model.pt", "model")
    model["settings"]["env_id"] = "math:ContinuousSeek2-v0"
    torch.save(model, tmp_path / "model.pt")
    flags = ["--evaluate", "model.pt", "--env-id", "math:ContinuousSeek2-v0"]
    ended = forked.run(PLAIN, *flags, cwd=tmp_path)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.startswith("success_rate")


# Surroundings


def set_ranks() -> None:
    """What another program may set, and means nothing outside of torchrun."""
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
    """Ctrl-C while the environments are made."""
    launch.make_eval_envs = lambda *_: os.kill(os.getpid(), signal.SIGINT)


def test_an_interrupt_before_a_run_ends_it_without_a_word(tmp_path: Path):
    ended = forked.run(PLAIN, *forked.SMALL[PLAIN], cwd=tmp_path, before=interrupt)
    assert (ended.returncode, ended.stderr) == (-signal.SIGINT, "")
    assert not (tmp_path / "run").exists()


def test_an_interrupt_while_packages_are_imported_ends_a_script_without_a_word(tmp_path: Path):
    path = str(ROOT / "algos" / f"{PLAIN}.py")
    process = subprocess.Popen([sys.executable, path], cwd=tmp_path, stderr=subprocess.PIPE)
    while "numpy" not in Path(f"/proc/{process.pid}/maps").read_text():
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    assert process.communicate()[1] == b""
    assert process.returncode == -signal.SIGINT
    assert list(tmp_path.iterdir()) == []


def command(*words: str, cwd: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """A real command, for what is settled before Python can be told anything."""
    environ = os.environ | {"OMP_NUM_THREADS": "1"} | variables
    path = str(ROOT / "algos" / f"{PLAIN}.py")
    return subprocess.run(
        [sys.executable, path, *words], cwd=cwd, env=environ, text=True, capture_output=True
    )


def test_a_wrong_graphics_backend_is_said_in_one_sentence(tmp_path: Path):
    ended = command("--env-id", "HandReach-v3", cwd=tmp_path, MUJOCO_GL="nonsense")
    assert (ended.returncode, len(ended.stderr.splitlines())) == (2, 1)
    assert "MUJOCO_GL is 'nonsense'" in ended.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_folder_in_another_alphabet_and_a_backend_that_is_not_needed_do_no_harm(tmp_path: Path):
    flags = [*forked.SMALL[PLAIN], "--run-dir", "lauf-\u00e4\u4e2d"]
    ended = command(*flags, cwd=tmp_path, LC_ALL="C", MUJOCO_GL="nonsense")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert (tmp_path / "lauf-\u00e4\u4e2d" / "metrics.csv").exists()


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


def test_a_film_in_a_folder_that_may_not_be_written_is_refused(
    small_disk: Path, trained: dict[str, Path], tmp_path: Path
):
    shutil.copy(trained[PLAIN] / "model.pt", small_disk)
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    flags = ["--evaluate", small_disk / "model.pt", "--capture-video"]
    ended = forked.run(PLAIN, *flags, cwd=tmp_path)
    assert (ended.returncode, len(ended.stderr.splitlines())) == (2, 1)
    assert ended.stderr.endswith("Read-only file system.\n")


@pytest.mark.parametrize("extra", ["", "--capture-video"])
def test_a_full_disk_ends_a_run_in_one_sentence_and_it_goes_on_when_there_is_room(
    extra: str, small_disk: Path, tmp_path: Path
):
    flags = [*forked.SMALL[PLAIN], "--run-dir", small_disk / "run", *extra.split()]
    (small_disk / "ballast").write_bytes(bytes(190_000))
    ended = forked.run(PLAIN, *flags, cwd=tmp_path)
    assert (ended.returncode, len(ended.stderr.splitlines())) == (1, 1)
    assert ended.stderr.startswith(f"Cannot write to {small_disk / 'run'} at step ")
    assert "No space left on device" in ended.stderr
    assert not list((small_disk / "run").glob(".unfinished*"))
    (small_disk / "ballast").unlink()
    has_checkpoint = (small_disk / "run" / "checkpoint.pt").exists()
    if has_checkpoint:
        ended = forked.run(PLAIN, "--resume", small_disk / "run", cwd=tmp_path)
        assert (ended.returncode, ended.stderr) == (0, "")
    assert has_checkpoint or extra


def refuse_tracking() -> None:
    """Weights & Biases without an account."""
    wandb = types.ModuleType("wandb")
    wandb.init = lambda **_: {}["api_key"]
    sys.modules["wandb"] = wandb


def test_tracking_that_does_not_work_is_said_before_anything_is_written(tmp_path: Path):
    flags = [*forked.SMALL[PLAIN], "--track"]
    ended = forked.run(PLAIN, *flags, cwd=tmp_path, before=refuse_tracking)
    sentence = "--track does not work here: KeyError: 'api_key'\n"
    assert (ended.returncode, ended.stderr) == (2, sentence)
    assert not (tmp_path / "run").exists()


def test_a_new_flag_of_a_fork_needs_no_range():
    launch.check_ranges(types.SimpleNamespace(my_coefficient=0.5, hidden_dims=(16,)))
    with pytest.raises(ValueError, match="--my-coefficient nan"):
        launch.check_ranges(types.SimpleNamespace(my_coefficient=math.nan, hidden_dims=(16,)))


def test_a_gpu_that_is_too_small_is_one_sentence(capsys: pytest.CaptureFixture):
    with pytest.raises(SystemExit) as ended, launch.one_sentence():
        raise torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate 8 GiB")
    assert ended.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1
