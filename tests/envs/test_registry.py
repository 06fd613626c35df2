"""Making environments by name."""

import warnings

import gymnasium as gym
import numpy as np
import pytest
from conftest import printed_by
from gymnasium.utils.env_checker import check_env

import envs


def test_hand_reach_v2_runs_v3_and_says_so_in_one_line(capsys: pytest.CaptureFixture):
    envs.resolve.cache_clear()  # it is said once a process
    assert envs.make("HandReach-v3").spec.id == "HandReach-v3"
    assert capsys.readouterr() == ("", "")
    assert envs.make("HandReach-v2").spec.id == "HandReach-v3"
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == 1 and "HandReach-v2" in out and "HandReach-v3" in out
    assert err == ""


def test_the_achieved_goal_is_appended_to_the_observation_on_request():
    plain = envs.make("FetchReach-v4")
    joined = envs.make("FetchReach-v4", observe_achieved_goal=True)
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
    "env_id",
    [
        *("ContinuousSeek4-v0", "ContinuousSeek4Dense-v0", "BitFlip2-v0", "RotationDense3-v0"),
        *("DriveSeek8-v0", "NoisySeek8-v0"),
    ],
)
def test_rewards_are_computed_over_any_leading_axes(env_id: str):
    env = gym.make(env_id).unwrapped
    episodes = [env.reset(seed=seed)[0] for seed in range(24)]
    achieved = np.array([obs["achieved_goal"] for obs in episodes])
    desired = np.array([obs["desired_goal"] for obs in episodes])
    is_set = achieved.shape != desired.shape
    achieved[::2] = desired[::2, 1:3] if is_set else desired[::2] + np.float32(0.05)
    if env_id == "BitFlip2-v0":
        achieved[::2] = desired[::2]
    rewards = env.compute_reward(achieved.reshape(2, 3, 4, -1), desired.reshape(2, 3, 4, -1), {})
    assert rewards.shape == (2, 3, 4) and len(np.unique(rewards)) > 1
    rows = zip(achieved, desired, rewards.ravel(), strict=True)
    assert all(env.compute_reward(a, d, {}) == reward for a, d, reward in rows)


def test_gymnasium_makes_our_tasks_in_any_program_by_the_name_of_the_module():
    program = (
        "import gymnasium\n"
        "for name in ('ContinuousSeek7-v0', 'ContinuousSeek-v0', 'BitFlip20-v0'):\n"
        "    print(gymnasium.make(f'envs:{name}').action_space.shape)"
    )
    assert printed_by(program) == "(7,)\n(5,)\n()\n"


def test_importing_envs_and_making_a_task_loads_neither_pytorch_nor_mujoco():
    program = (
        "import sys, envs; envs.inspect_task(lambda: envs.make('ContinuousSeek5-v0'))\n"
        "print({'torch', 'mujoco', 'gymnasium_robotics'} & sys.modules.keys())"
    )
    assert printed_by(program) == "set()\n"
