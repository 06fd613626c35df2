"""Making environments by name."""

import os
import subprocess
import sys
import warnings
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
from conftest import ROOT
from gymnasium.utils.env_checker import check_env

import envs
from envs.messages import BadInput


@pytest.fixture(autouse=True)
def fresh_resolve():
    """`resolve` prints only once a process, so each test starts with an empty cache."""
    envs.resolve.cache_clear()


def test_hand_reach_v2_runs_v3_and_says_so_in_one_line(capsys: pytest.CaptureFixture):
    assert envs.resolve("HandReach-v2") == "HandReach-v3"
    assert envs.make("HandReach-v2").spec.id == "HandReach-v3"
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == 1 and "HandReach-v2" in out and "HandReach-v3" in out
    assert err == ""


def test_a_current_name_is_resolved_in_silence(capsys: pytest.CaptureFixture):
    assert envs.resolve("HandReach-v3") == "HandReach-v3"
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    "env_id, complaint",
    [
        ("Nowhere-v0", "No environment 'Nowhere-v0'"),
        ("HandReach", "No environment 'HandReach'"),
        ("no name at all", "No environment 'no name at all'"),
    ],
)
def test_an_unknown_name_is_refused_with_one_sentence(env_id: str, complaint: str):
    with pytest.raises(BadInput, match=complaint) as error:
        envs.make(env_id)
    assert len(str(error.value).splitlines()) == 1


def test_discrete_actions_are_accepted_by_whoever_asks_for_them():
    assert envs.make("CorridorDiscrete-v0", action_space=gym.spaces.Discrete).action_space.n == 2


def test_the_achieved_goal_is_appended_to_the_observation_on_request():
    plain, joined = (
        envs.make("FetchReach-v4"),
        envs.make("FetchReach-v4", observe_achieved_goal=True),
    )
    obs, joined_obs = (env.reset(seed=3)[0] for env in (plain, joined))
    expected = np.concatenate([obs["observation"], obs["achieved_goal"]])
    assert np.array_equal(joined_obs["observation"], expected)
    assert joined.observation_space["observation"].shape == expected.shape
    assert np.array_equal(joined_obs["desired_goal"], obs["desired_goal"])


@pytest.mark.parametrize(
    "env_id, size, goal_dim, steps",
    [
        ("ContinuousSeek-v0", {"d": 7}, 7, 10),
        ("ContinuousSeek7-v0", {}, 7, 10),
        ("ContinuousSeek-v0", {"d": 123, "reward_type": "dense"}, 123, 10),
        ("ContinuousSeek100Dense-v0", {}, 100, 10),
        ("BitFlip-v0", {"d": 7}, 7, 7),
        ("BitFlip-v0", {"d": 7, "max_episode_steps": 9}, 7, 9),
        ("BitFlip40-v0", {}, 40, 40),
        ("DriveSeek-v0", {}, 3 * 200, 40),
        ("DriveSeek-v0", {"n_max": 441}, 3 * 441, 40),
        ("DriveSeek7-v0", {}, 3 * 7, 40),
        ("NoisySeek-v0", {"n_max": 7}, 3 * 7, 40),
        ("NoisySeek20-v0", {}, 3 * 20, 40),
        ("Rotation-v0", {"d": 3, "reward_type": "sparse"}, 3, 10),
        ("RotationDense3-v0", {}, 3, 10),
    ],
)
def test_a_task_has_a_name_for_each_size_and_one_that_takes_it(
    env_id: str, size: dict, goal_dim: int, steps: int
):
    env = gym.make(env_id, **size)
    assert env.observation_space["desired_goal"].shape == (goal_dim,)
    assert env.spec.max_episode_steps == steps
    env.reset(seed=0)
    ends = [env.step(env.action_space.sample())[2:4] for _ in range(steps)]
    assert ends == [(False, False)] * (steps - 1) + [(False, True)]
    kind = "dense" if "ense" in f"{env_id}{size}" else "sparse"
    assert getattr(env.unwrapped, "reward_type", kind) == kind


@pytest.mark.parametrize(
    "env_id",
    [
        *("ContinuousSeek1-v0", "ContinuousSeek20Dense-v0", "BitFlip1-v0", "BitFlip-v0"),
        *("DriveSeek1-v0", "NoisySeek20-v0", "RotationDense3-v0", "RotationSparse3-v0"),
    ],
)
def test_our_tasks_pass_gymnasiums_checker_without_a_warning(env_id: str):
    kwargs = {} if "Rotation" in env_id else {"render_mode": "rgb_array"}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", message=".*infinity.*")  # positions without bounds
        env = gym.make(env_id, disable_env_checker=True, **kwargs)
        check_env(env.unwrapped, skip_render_check=not kwargs)


@pytest.mark.parametrize(
    "env_id, size, complaint",
    [
        ("ContinuousSeek-v0", {"d": 0}, "ContinuousSeek needs d >= 1"),
        ("ContinuousSeek-v0", {"reward_type": "no"}, "a sparse or dense reward"),
        ("ContinuousSeek-v0", {"d": "x"}, "cannot be made with {'d': 'x'}: TypeError"),
        ("ContinuousSeek05-v0", {}, "No environment 'ContinuousSeek05-v0'"),
        ("DriveSeek-v0", {"n_max": 442}, "from 1 to 441, not 442"),
        ("NoisySeek-v0", {"n_max": 0}, "at least 1, not 0"),
        ("Rotation-v0", {"d": 1}, "Rotation needs d >= 2"),
        ("RotationDense1-v0", {}, "Rotation needs d >= 2"),
    ],
)
def test_a_size_that_makes_no_sense_is_one_sentence(env_id: str, size: dict, complaint: str):
    with pytest.raises(BadInput, match=complaint) as error:
        envs.make(env_id, env_kwargs=size)
    assert len(str(error.value).splitlines()) == 1


def run(program: str, cwd: Path) -> str:
    """What a Python program prints on standard output; it must be silent on standard error."""
    environ = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-W", "default", "-c", program]
    result = subprocess.run(
        command, cwd=cwd, env=environ, capture_output=True, text=True, check=True
    )
    assert result.stderr == ""
    return result.stdout


def test_gymnasium_makes_our_tasks_in_any_program_by_the_name_of_the_module(tmp_path: Path):
    program = (
        "import gymnasium\n"
        "for name in ('ContinuousSeek7-v0', 'ContinuousSeek-v0', 'BitFlip20-v0'):\n"
        "    print(gymnasium.make(f'envs:{name}').action_space.shape)"
    )
    assert run(program, tmp_path) == "(7,)\n(5,)\n()\n"


def test_importing_envs_and_making_a_task_loads_neither_pytorch_nor_mujoco(tmp_path: Path):
    program = (
        "import sys, envs; envs.inspect_task(lambda: envs.make('ContinuousSeek5-v0'))\n"
        "print({'torch', 'mujoco', 'gymnasium_robotics'} & sys.modules.keys())"
    )
    assert run(program, tmp_path) == "set()\n"
