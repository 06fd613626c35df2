"""Environments on a device are those that they stand for; every run draws from its own stream."""

import functools
import warnings

import numpy as np
import pytest
import torch

from envs import make
from envs.many.on_device import DeviceTask, Streams, below, inspect_for_device
from envs.messages import BadInput

CPU = torch.device("cpu")


def task_of(env_id: str) -> DeviceTask:
    return inspect_for_device(functools.partial(make, env_id, observe_achieved_goal=True))


def splitmix64(state: int) -> int:
    """The published algorithm with unsigned arithmetic, after `state` has been advanced."""
    mask = 2**64 - 1
    z = state & mask
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
    return z ^ (z >> 31)


def test_streams_are_splitmix64_and_go_on_where_they_stopped() -> None:
    keys = [1234567, 2**62 + 12345]
    streams = Streams(keys, CPU)
    drawn = torch.cat([streams.bits(2, 3).flatten(1), streams.bits(5)], 1)
    for key, row in zip(keys, drawn.tolist(), strict=True):
        states = [key + n * 0x9E3779B97F4A7C15 for n in range(1, 12)]
        assert row == [splitmix64(state) >> 32 for state in states]
    assert splitmix64(1234567 + 0x9E3779B97F4A7C15) == 6457827717110365317  # a published value


def test_uniform_numbers_fill_the_open_interval_and_runs_do_not_correlate() -> None:
    numbers = Streams([1, 2, 3], CPU).uniform(50_000)
    assert numbers.abs().max() < 1
    assert numbers.std(1).tolist() == pytest.approx([3**-0.5] * 3, rel=0.01)
    assert np.abs(np.corrcoef(numbers) - np.eye(3)).max() < 0.02
    assert numbers.erfinv().isfinite().all()
    drawn = below(7, Streams([1], CPU).bits(7000))
    assert torch.bincount(drawn[0]).tolist() == pytest.approx([1000] * 7, abs=120)


@pytest.mark.parametrize("walk", ["at random", "into a corner", "along a wall", "to the goal"])
def test_continuous_seek_on_the_device_steps_as_the_environment_does(walk: str) -> None:
    task = task_of("ContinuousSeek3-v0")
    assert (task.obs_dim, task.goal_dim, task.action_dim, task.max_steps) == (6, 3, 3, 10)
    ours = task.make(2, [1, 2], Streams([1, 2], CPU))
    goals = ours.reset()["desired_goal"]
    env = make("ContinuousSeek3-v0", observe_achieved_goal=True)
    rng = np.random.default_rng(0)
    actions = torch.tensor(rng.uniform(-1, 1, (10, 2, 2, 3)), dtype=torch.float32)
    if walk == "into a corner":  # there after five steps, and pushed on for five
        actions[:] = actions[0].sign()
    if walk == "along a wall":
        actions[:, ..., 0] = -1
    if walk == "to the goal":
        actions[:] = goals / 5.01
    reached = set()
    for run, copy in np.ndindex(2, 2):
        ours.reset()
        ours.goal = goals
        expected, _ = env.reset(seed=0)
        env.unwrapped.goal = expected["desired_goal"] = goals[run, copy].numpy()
        seen = ours._observe()
        for step in range(11):
            for key in expected:
                np.testing.assert_array_equal(seen[key][run, copy], expected[key])
            if step < 10:
                seen = ours.step(actions[step])
                expected, reward, _, truncated, _ = env.step(actions[step, run, copy].numpy())
                ours_too = task.reward(seen["achieved_goal"], seen["desired_goal"])
                assert ours_too[run, copy] == reward
                reached.add(reward)
                assert truncated == (step + 1 == task.max_steps)
    assert (0.0 in reached) == (walk == "to the goal")


def test_goals_of_continuous_seek_on_the_device_fill_the_environments_box() -> None:
    ours = task_of("ContinuousSeek3-v0").make(5000, [1], Streams([1], CPU))
    goal = ours.reset()["desired_goal"][0]
    box = make("ContinuousSeek3-v0").observation_space["desired_goal"]
    assert goal.dtype == torch.float32 and all(box.contains(row) for row in goal[:100].numpy())
    np.testing.assert_allclose(goal.amin(0), box.low, atol=0.01)
    np.testing.assert_allclose(goal.amax(0), box.high, atol=0.01)
    assert goal.std(0).tolist() == pytest.approx([10 / 12**0.5] * 3, rel=0.03)


def test_continuous_seek_is_arithmetic_under_any_of_its_names_but_not_in_another_unit() -> None:
    assert task_of("ContinuousSeek3-v0").is_seek
    assert inspect_for_device(
        functools.partial(make, "ContinuousSeek-v0", env_kwargs={"d": 7})
    ).is_seek
    with pytest.raises(BadInput, match="reward is not 0 within"):
        inspect_for_device(functools.partial(make, "ContinuousSeek3-v0", env_kwargs={"scale": 2.0}))
    assert not task_of("FetchReach-v4").is_seek


@pytest.mark.parametrize("env_id", ["ContinuousSeek3-v0", "HandReach-v3", "FetchPush-v4"])
def test_rewards_on_the_device_are_compute_rewards(env_id: str) -> None:
    task, env = task_of(env_id), make(env_id).unwrapped
    rng = np.random.default_rng(1)
    goal, direction = rng.normal(size=(2, 4, 500, task.goal_dim)).astype(np.float32)
    distance = rng.uniform(0, 3, (4, 500, 1)) * task.threshold
    achieved_goal = (goal + distance * direction).astype(np.float32)
    if env_id == "ContinuousSeek3-v0":  # on the edge, and a step of float32 beside it
        edge = np.float32(0.1)
        achieved_goal[0, :3] = np.array([np.nextafter(edge, edge - 1), edge, edge + 1e-7])[:, None]
        goal[0, :3] = 0
    reward = task.reward(torch.tensor(achieved_goal), torch.tensor(goal)).numpy()
    assert set(np.unique(reward)) == {-1, 0}
    np.testing.assert_array_equal(reward, env.compute_reward(achieved_goal, goal, {}))


@pytest.mark.parametrize(
    "env_id",
    ["ContinuousSeek3Dense-v0", "FetchReachDense-v4", "HandManipulateBlock-v1", "DriveSeek5-v0"],
)
def test_other_rewards_are_refused(env_id: str) -> None:
    with warnings.catch_warnings(), pytest.raises(BadInput, match="reward is not 0 within"):
        warnings.simplefilter("ignore")
        task_of(env_id)


def test_simulated_runs_have_their_own_environments() -> None:
    task = task_of("FetchReach-v4")
    streams = Streams([5, 6], CPU)
    both, alone = task.make(2, [5, 6], streams), task.make(2, [6], streams)
    actions = torch.tensor(np.random.default_rng(0).uniform(-1, 1, (3, 2, 2, 4)))
    observations = [(both.reset(), alone.reset())]
    observations += [(both.step(action), alone.step(action[1:])) for action in actions]
    for ours, its in observations:
        for key in ours:
            assert ours[key].dtype == torch.float32
            assert torch.equal(ours[key][1:], its[key])
    goals = observations[0][0]["desired_goal"].flatten(0, 1)
    assert len(np.unique(goals, axis=0)) == 4
