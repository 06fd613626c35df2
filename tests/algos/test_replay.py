"""Hindsight relabelling: which goals, from which episodes, with which rewards, how often.

Every stored number tells where it comes from: episode 7's observation at step 3 is (7, 3), so is
its achieved goal, its action is (7, -3), its desired goal (7, 1000) and its reward -7003.
"""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import pytest
import torch
from problems import CPU

from algos import ddpg_her
from algos.ddpg_her import HerReplayBuffer
from envs import VectorEnv, inspect_task, make, run
from envs.run.files import pack

T = 5  # time limit of the made-up environments
ORIGINAL = 1000  # second coordinate of desired goals, to tell them from achieved ones, 0 to T
RELABELLING = ("future", "final", "episode")
MIXED = (2, T, 1, 4, 4)  # lengths of episodes
TASK = inspect_task(partial(make, "ContinuousSeek2-v0"))


def signed_distance(achieved_goal: np.ndarray, goal: np.ndarray) -> np.ndarray:
    """A reward: 0 on the spot, minus the number of steps to a later goal of the same episode."""
    return (achieved_goal - goal).sum(-1).astype(np.float32)


def on_the_spot(achieved_goal: np.ndarray, goal: np.ndarray) -> np.ndarray:
    return (achieved_goal == goal).all(-1)


def never(*_) -> np.ndarray:
    raise AssertionError("an environment's function was called")


def an_episode(number: int, length: int) -> dict[str, np.ndarray]:
    """Its steps, (length, ...); one shorter than T has ended by itself."""
    t = np.arange(length)
    names = {"obs": t, "next_obs": t + 1, "next_achieved_goal": t + 1, "action": -t}
    steps = {name: np.stack([np.full(length, number), x], 1) for name, x in names.items()}
    steps["goal"] = np.tile([number, ORIGINAL], (length, 1))
    steps["reward"] = -(1000 * number + t)
    steps["terminated"] = (t + 1 == length) & (length < T)
    return {name: array.astype(np.float32) for name, array in steps.items()}


class Reference:
    """What a buffer must do, on a list of episodes and one row of a batch after the other."""

    def __init__(self, size: int, strategy: str, ends_on_success: bool):
        self.size = size
        self.strategy = strategy
        self.ends_on_success = ends_on_success
        self.episodes: list[dict[str, np.ndarray]] = []
        self.are_equal = True

    def add(self, episode: dict[str, np.ndarray]) -> None:
        length = len(episode["obs"])
        self.are_equal &= length == T
        while self.steps() + length > self.size:
            self.episodes.pop(0)
        self.episodes.append(episode)

    def steps(self) -> int:
        return sum(len(episode["obs"]) for episode in self.episodes)

    def sample(self, n: int, rng: np.random.Generator, newest: int | None) -> dict[str, np.ndarray]:
        everything = [(episode, t) for episode in self.episodes for t in range(len(episode["obs"]))]
        newest = min(newest or self.steps(), self.steps())
        if self.are_equal:
            age = rng.integers(newest // T, size=n)
            t = rng.integers(T, size=n)
            rows = [(self.episodes[-1 - i], int(j)) for i, j in zip(age, t, strict=True)]
        else:
            rows = [everything[-i] for i in rng.integers(1, newest + 1, size=n)]
        batch = {name: np.array([episode[name][t] for episode, t in rows]) for name in rows[0][0]}
        if self.strategy == "none":
            return batch
        few = n * 4 // 5
        ends = np.array([len(episode["obs"]) for episode, _ in rows[:few]])
        steps = np.array([t for _, t in rows[:few]])
        first = {"future": steps, "final": ends - 1, "episode": 0 * ends}[self.strategy]
        for i, chosen in enumerate(rng.integers(first, ends)):
            episode, t = rows[i]
            achieved, goal = episode["next_achieved_goal"][t], episode["goal"][t]
            if self.ends_on_success:
                is_crash = episode["terminated"][t] and not on_the_spot(achieved, goal)
                batch["terminated"][i] = is_crash
            batch["goal"][i] = goal = episode["next_achieved_goal"][chosen]
            batch["reward"][i] = signed_distance(achieved, goal)
            if self.ends_on_success and on_the_spot(achieved, goal):
                batch["terminated"][i] = 1
        return batch


def new_buffer(
    size: int,
    num_envs: int = 1,
    strategy: str = "future",
    her_k: int = 4,
    ends_on_success: bool = False,
    compute_reward: Callable = signed_distance,
) -> HerReplayBuffer:
    envs = VectorEnv.__new__(VectorEnv)
    envs.max_episode_steps = T
    envs.num_envs = num_envs
    envs.obs_dim = envs.goal_dim = envs.action_dim = 2
    envs.compute_reward = compute_reward
    envs.compute_terminated = on_the_spot if ends_on_success else never
    args = ddpg_her.Args(buffer_size=size, her_k=her_k, her_strategy=strategy)
    task = TASK._replace(ends_on_success=ends_on_success)
    return HerReplayBuffer(envs, args, task, np.random.default_rng(0))


def play(buffer: HerReplayBuffer, episodes: Sequence[dict[str, np.ndarray]], steps: int) -> list:
    """Adds steps of new episodes to each environment; the episodes that ended, in their order.

    Leaves unfinished ones out, as a resumed run does.
    """
    num_envs = len(buffer.unfinished)
    buffer.unfinished = [[] for _ in range(num_envs)]
    waiting = iter(episodes)
    playing = [next(waiting) for _ in range(num_envs)]
    t = [0] * num_envs
    over = []
    for _ in range(steps):
        step = {
            name: np.array([episode[name][t[i]] for i, episode in enumerate(playing)])
            for name in playing[0]
        }
        t = [number + 1 for number in t]
        ended = np.array([t[i] == len(playing[i]["obs"]) for i in range(num_envs)])
        end = buffer.end
        buffer.add(step, ended)
        for array in step.values():
            array.fill(-1)  # they are the caller's
        assert buffer.end - end == sum(t[i] for i in np.flatnonzero(ended))
        for i in np.flatnonzero(ended):
            over.append(playing[i])
            playing[i], t[i] = next(waiting), 0
    return over


def filled(lengths: Sequence[int] = (T,), steps: int = 4 * T, size: int = 100, **how) -> tuple:
    """A buffer after some steps in every environment, and the reference."""
    buffer = new_buffer(size, **how)
    episodes = [an_episode(i, lengths[i % len(lengths)]) for i in range(500)]
    reference = Reference(size, buffer.strategy, buffer.task.ends_on_success)
    for episode in play(buffer, episodes, steps):
        reference.add(episode)
    return buffer, reference


def relabelled(buffer: HerReplayBuffer, n: int) -> np.ndarray:
    """Which rows of a batch have an achieved goal, (n,)."""
    return buffer.sample(n, CPU).goal[:, 1].numpy() != ORIGINAL


RINGS = {
    "equal lengths, room left": dict(steps=4 * T),
    "equal lengths, full": dict(steps=20 * T),
    "equal lengths, overfilled several times": dict(steps=17 * T + 2, size=27),
    "equal lengths, room for one episode": dict(steps=7 * T, size=T),
    "varying lengths, room left": dict(steps=24, lengths=MIXED),
    "varying lengths, overfilled several times": dict(steps=201, lengths=MIXED, size=29),
    "varying lengths, room for one full episode": dict(steps=50, lengths=MIXED, size=T),
    "one step each, overfilled": dict(steps=53, lengths=(1,), size=7),
    "one short episode at last": dict(steps=4 * T + 2, lengths=(T, T, T, T, 2)),
    "three environments": dict(steps=8 * T, num_envs=3, size=37),
    "three environments, varying lengths": dict(steps=60, num_envs=3, size=37, lengths=MIXED),
}


@pytest.mark.parametrize("ends_on_success", [False, True])
@pytest.mark.parametrize("strategy", [*RELABELLING, "none"])
@pytest.mark.parametrize("ring", RINGS)
def test_batches_equal_those_of_a_list_of_episodes_bit_for_bit(
    ring: str, strategy: str, ends_on_success: bool
):
    buffer, reference = filled(**RINGS[ring], strategy=strategy, ends_on_success=ends_on_success)
    assert len(buffer) == reference.steps()
    last = len(reference.episodes[-1]["obs"])
    for newest in (None, last, 1000):
        buffer.rng = np.random.default_rng(3)
        batch = buffer.sample(200, CPU, newest)
        expected = reference.sample(200, np.random.default_rng(3), newest)
        for name, array in batch._asdict().items():
            assert array.dtype == torch.float32
            np.testing.assert_array_equal(array.numpy(), expected[name], err_msg=name)


def test_an_end_at_the_first_goal_is_none_for_another_one():
    buffer, _ = filled(ends_on_success=True, lengths=MIXED, strategy="episode")
    rows = buffer.data["terminated"] == 1
    buffer.data["goal"][rows] = buffer.data["next_achieved_goal"][rows]
    batch = buffer.sample(1000, CPU)
    at_goal = on_the_spot(batch.next_achieved_goal.numpy(), batch.goal.numpy())
    np.testing.assert_array_equal(batch.terminated.numpy(), at_goal)


@pytest.mark.parametrize("her_k", [1, 4, 9])
def test_a_fraction_k_of_k_plus_1_is_relabelled(her_k: int):
    buffer, _ = filled(her_k=her_k)
    for batch_size in (100, 256, 1024):
        count = relabelled(buffer, batch_size).sum()
        assert count == pytest.approx(batch_size * her_k / (her_k + 1), abs=1)


def test_strategy_none_asks_for_no_reward_and_sampling_changes_nothing_that_is_stored():
    buffer, _ = filled(strategy="none", compute_reward=never)
    assert not relabelled(buffer, 1000).any()
    buffer, _ = filled(ends_on_success=True, lengths=MIXED)
    before = {name: array.copy() for name, array in buffer.data.items()}
    buffer.sample(1000, CPU)
    for name, array in before.items():
        np.testing.assert_array_equal(buffer.data[name], array)


def test_a_buffer_with_less_room_than_an_episode_of_each_environment_is_refused():
    new_buffer(size=15, num_envs=3)
    with pytest.raises(run.BadInput, match="--buffer-size 14 "):
        new_buffer(size=14, num_envs=3)


# Checkpoints


@pytest.mark.parametrize("ring", RINGS)
def test_a_buffer_from_a_checkpoint_continues_like_the_one_that_was_saved(ring: str):
    how = RINGS[ring]
    saved, _ = filled(**how)
    fresh = new_buffer(how.get("size", 100), how.get("num_envs", 1))
    fresh.load_state_dict(saved.state_dict())
    for _ in range(3):
        for ours, theirs in zip(fresh.sample(200, CPU), saved.sample(200, CPU), strict=True):
            assert torch.equal(ours, theirs)  # `rng` is restored too
        for buffer in (fresh, saved):
            play(buffer, [an_episode(1000 + i, MIXED[i % 5]) for i in range(50)], 2 * T)


def test_a_checkpoint_is_as_large_as_what_is_stored_whatever_the_buffer_could_hold():
    small, large = (filled(size=size)[0].state_dict() for size in (4 * T, 10**6))
    assert len(pack(large)) == pytest.approx(len(pack(small)), rel=0.02)
    overfilled, _ = filled(steps=100 * T, size=4 * T)
    assert len(pack(overfilled.state_dict())) == pytest.approx(len(pack(small)), rel=0.02)
