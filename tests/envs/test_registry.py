"""Making environments by name."""

import subprocess
import sys

import gymnasium as gym
import numpy as np
import pytest
from conftest import ROOT

import envs


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
        ("CartPole-v1", "CartPole-v1 is no goal environment"),
        ("CorridorDiscrete-v0", "CorridorDiscrete-v0 has a Discrete action space, not a Box"),
    ],
)
def test_an_unsuitable_environment_is_refused_with_one_sentence(env_id: str, complaint: str):
    with pytest.raises(ValueError, match=complaint) as error:
        envs.make(env_id)
    assert len(str(error.value).splitlines()) == 1


def test_an_environment_without_a_time_limit_is_refused():
    gym.register("CorridorEndless-v0", gym.spec("Corridor-v0").entry_point)
    with pytest.raises(ValueError, match="no registered time limit: --max-episode-steps"):
        envs.make("CorridorEndless-v0")


def test_discrete_actions_are_accepted_by_whoever_asks_for_them():
    assert envs.make("CorridorDiscrete-v0", action_space=gym.spaces.Discrete).action_space.n == 2


def test_actions_with_other_bounds_are_rescaled():
    env = envs.make("Corridor-v0")
    env.reset(seed=0)
    assert env.action_space == gym.spaces.Box(-1.0, 1.0, (1,), np.float32)
    assert env.step(np.float32([0.75]))[0]["observation"] == [1.5]


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


def test_importing_envs_and_making_a_task_loads_neither_pytorch_nor_mujoco():
    program = (
        "import sys, envs; envs.inspect_task(lambda: envs.make('ContinuousSeek5-v0'))\n"
        "print({'torch', 'mujoco', 'gymnasium_robotics'} & sys.modules.keys())"
    )
    command = [sys.executable, "-c", program]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout == "set()\n"
