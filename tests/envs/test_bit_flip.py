"""BitFlip, one at a time and as one batch."""

import numpy as np
from conftest import vector_of
from gymnasium.spaces import Discrete
from scipy.stats import chisquare

from envs.drawing import DARK, GREEN, ORANGE, WHITE
from envs.tasks.bit_flip import BitFlip
from envs.vector_env import BatchVectorEnv


def started(state: list[int], goal: list[int]) -> BitFlip:
    env = BitFlip(len(state))
    env.reset(seed=0)
    env.state, env.goal = np.float32([state]), np.float32([goal])
    return env


def test_state_and_goal_are_uniform_random_bits_drawn_by_the_seed():
    env = BitFlip(3)
    starts = [env.reset(seed=0)[0]] + [env.reset()[0] for _ in range(4000)]
    bits = np.array([[*obs["observation"], *obs["desired_goal"]] for obs in starts], int)
    codes = bits @ 2 ** np.arange(6)
    assert chisquare(np.bincount(codes, minlength=64)).pvalue > 1e-4
    again = env.reset(seed=0)[0]
    assert all(np.array_equal(again[key], starts[0][key]) for key in again)


def test_action_i_flips_bit_i_and_nothing_else():
    env = started([0, 1, 0, 1], [1, 1, 1, 1])
    for action, state in [(0, [1, 1, 0, 1]), (1, [1, 0, 0, 1]), (1, [1, 1, 0, 1])]:
        obs, *_ = env.step(action)
        assert obs["observation"].tolist() == obs["achieved_goal"].tolist() == state
        assert obs["desired_goal"].tolist() == [1, 1, 1, 1]


def test_the_reward_is_0_at_the_goal_and_minus_1_elsewhere_and_the_episode_goes_on_after_success():
    env = started([0, 1], [1, 1])
    assert env.step(0)[1:] == (0.0, False, False, {"is_success": True})
    assert env.step(1)[1:] == (-1.0, False, False, {"is_success": False})


def test_a_batch_of_episodes_equals_single_environments_step_by_step():
    batch = vector_of("BitFlip6-v0", 8, seed=3, action_space=Discrete)
    obs, rng, steps = batch.reset(), np.random.default_rng(0), 0
    assert isinstance(batch, BatchVectorEnv)  # no environment is stepped by itself
    singles = [started(s, g) for s, g in zip(obs["observation"], obs["desired_goal"], strict=True)]
    truncated = np.zeros(8, bool)
    while not truncated.any():
        # half of the actions walk to the goal, so that successes occur and are left again
        wrong = np.abs(obs["observation"] - obs["desired_goal"]).argmax(1)
        actions = np.where(rng.random(8) < 0.8, wrong, rng.integers(6, size=8))
        obs, reward, terminated, truncated, success = batch.step(actions)
        steps += 1
        for i, env in enumerate(singles):
            expected, expected_reward, _, _, info = env.step(actions[i])
            assert all(np.array_equal(obs[key][i], expected[key]) for key in obs)
            assert (reward[i], success[i]) == (expected_reward, info["is_success"])
        assert not terminated.any()
    assert steps == 6 and truncated.all()


def test_an_ended_batch_stands_still_and_reset_starts_anew_only_what_the_mask_names():
    batch = vector_of("BitFlip2-v0", 3, seed=0, action_space=Discrete)
    batch.reset()
    for _ in range(2):
        obs, *_, truncated, _ = batch.step(np.zeros(3, int))
    assert truncated.all()
    after, reward, _, truncated, _ = batch.step(np.zeros(3, int))
    assert (
        np.array_equal(after["observation"], obs["observation"])
        and not reward.any()
        and truncated.all()
    )

    batch.state[:], batch.goal[:] = 7, 7  # no reset gives these
    fresh = batch.reset(np.array([True, False, True]))
    assert (fresh["observation"] == 7).all(1).tolist() == [False, True, False]
    *_, truncated, _ = batch.step(np.zeros(3, int))
    assert truncated.tolist() == [False, True, False]


def test_the_picture_shows_both_rows_of_bits_and_where_they_agree():
    image = started([1, 0, 1], [1, 1, 0]).render()
    assert image.shape == (64, 48, 3) and image.dtype == np.uint8
    columns = [8, 24, 40]  # the middle of each bit
    assert np.array_equal(image[12, columns], [DARK, WHITE, DARK])
    assert np.array_equal(image[36, columns], [DARK, DARK, WHITE])
    assert np.array_equal(image[58, columns], [GREEN, ORANGE, ORANGE])
