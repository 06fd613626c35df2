"""Hindsight relabelling: which goals, from which episodes, with which rewards, how often.

Every stored number tells where it comes from: episode 7's observation at step 3 is (7, 3), so is
its achieved goal, its action is (7, -3), its desired goal (7, 1000) and its reward -7003.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import ModuleType, SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from conftest import vector_of
from numerics import CPU
from scipy.stats import chisquare

from algos import (
    ddpg_her,
    ddpg_her_reengage,
    ddpg_multi_reengage,
    dqn_her_reengage_bitflip,
    sac_her_reengage,
)
from algos.ddpg_multi_reengage import GoalSetReplayBuffer
from envs import VectorEnv
from envs.run.files import pack

torch.set_num_threads(1)

T = 5  # time limit of the made-up environments
ORIGINAL = 1000  # second coordinate of desired goals, to tell them from achieved ones, 0 to T
DRAWS = 50_000


def signed_distance(achieved_goal: np.ndarray, goal: np.ndarray) -> np.ndarray:
    """A reward: 0 on the spot, minus the number of steps to a later goal of the same episode."""
    return (achieved_goal - goal).sum(-1)


def on_the_spot(achieved_goal: np.ndarray, goal: np.ndarray) -> np.ndarray:
    return (achieved_goal == goal).all(-1)


def never(*_) -> np.ndarray:
    raise AssertionError("an environment's function was called")


class MadeUpEnvs(VectorEnv):
    """What a buffer asks of environments."""

    def __init__(self, **parts: Any):
        vars(self).update(parts)


class Ends(NamedTuple):
    """What a buffer asks of a task."""

    ends_on_success: bool


@dataclass
class Filled:
    """A buffer, and what was put into it."""

    buffer: ddpg_her.HerReplayBuffer
    episodes: list[int] = field(default_factory=list)  # the finished ones, as they ended
    length: dict[int, int] = field(default_factory=dict)  # of each finished episode

    def sample(self, n: int = DRAWS, newest: int | None = None) -> SimpleNamespace:
        """A batch in numpy, with what its numbers tell: episode, t, which rows are relabelled."""
        batch = self.buffer.sample(n, CPU, newest)
        rows = SimpleNamespace()
        for name, array in batch._asdict().items():
            setattr(rows, name, array.numpy())
        rows.episode, rows.t = rows.obs.astype(int).T
        rows.goal_episode, rows.goal_t = rows.goal.astype(int).T
        rows.relabelled = rows.goal_t != ORIGINAL
        rows.end = np.array([self.length.get(episode, -1) for episode in rows.episode])
        return rows

    def transitions(self, episodes: Sequence[int]) -> list[tuple[int, int]]:
        return [(episode, t) for episode in episodes for t in range(self.length[episode])]

    def kept(self) -> list[int]:
        """The episodes that a ring still holds: the newest whole ones that there is room for."""
        kept = list(self.episodes)
        while len(self.transitions(kept)) > self.buffer.size:
            kept.pop(0)
        return kept


def new_buffer(
    capacity: int = 20,
    num_envs: int = 1,
    her_k: int = 4,
    strategy: str = "future",
    compute_reward: Callable = signed_distance,
    compute_terminated: Callable = never,
    ends_on_success: bool = False,
) -> ddpg_her.HerReplayBuffer:
    """One with room for `capacity` episodes of full length, and T - 1 steps, which is no more."""
    envs = MadeUpEnvs(
        max_episode_steps=T,
        num_envs=num_envs,
        obs_dim=2,
        goal_dim=2,
        action_dim=2,
        compute_reward=compute_reward,
        compute_terminated=compute_terminated,
    )
    buffer_size = capacity * T + T - 1
    args = ddpg_her.Args(buffer_size=buffer_size, her_k=her_k, her_strategy=strategy)
    task = Ends(ends_on_success)
    return ddpg_her.HerReplayBuffer(envs, args, task, np.random.default_rng(0))


def fill(steps: int, lengths: Sequence[int] = (T,), **how) -> Filled:
    """Plays steps in every environment; episode i has lengths[i % len(lengths)] of them."""
    filled = Filled(new_buffer(**how))
    play(filled, steps, lengths, first=0)
    return filled


def play(filled: Filled, steps: int, lengths: Sequence[int], first: int) -> None:
    """Adds steps of new episodes, of which the first has the number `first`.

    Leaves unfinished ones out, as a resumed run does.
    """
    filled.buffer.t[:] = 0
    num_envs = filled.buffer.envs.num_envs
    episode, t = first + np.arange(num_envs), np.zeros(num_envs, int)
    started = first + num_envs
    for _ in range(steps):
        length = np.array([lengths[i % len(lengths)] for i in episode])
        ended = t + 1 == length
        state = np.stack([episode, t], 1)
        after = np.stack([episode, t + 1], 1)
        goal = np.stack([episode, np.full(num_envs, ORIGINAL)], 1)
        step = {
            "obs": state,
            "goal": goal,
            "action": np.stack([episode, -t], 1),
            "reward": -(1000.0 * episode + t),
            "next_obs": after,
            "next_achieved_goal": after,
            "terminated": ended & (length < T),
        }
        filled.buffer.add(step, ended)
        t += 1
        for i in np.flatnonzero(ended):
            filled.episodes.append(int(episode[i]))
            filled.length[int(episode[i])] = int(length[i])
            episode[i], t[i], started = started, 0, started + 1


def assert_uniform(values: np.ndarray, over: list) -> None:
    """Every element of `over` occurs, nothing else does, the counts pass a chi-square test."""
    found, times = np.unique(values, axis=0, return_counts=True)
    counts = dict.fromkeys(over, 0)
    for value, count in zip(found.tolist(), times, strict=True):
        key = tuple(value) if isinstance(value, list) else value
        assert key in counts, f"{key} should not occur"
        counts[key] = count
    assert len(over) == 1 or chisquare(list(counts.values())).pvalue > 1e-4


def assert_uniform_over_transitions(
    rows: SimpleNamespace, transitions: list[tuple[int, int]]
) -> None:
    """Relabelled rows and the others, each: relabelling must not depend on the transition."""
    pairs = np.stack([rows.episode, rows.t], 1)
    assert_uniform(pairs[rows.relabelled], transitions)
    assert_uniform(pairs[~rows.relabelled], transitions)


def assert_whole(rows: SimpleNamespace) -> None:
    """States, action and goal of each row belong together."""
    next_state = np.stack([rows.episode, rows.t + 1], 1)
    np.testing.assert_array_equal(rows.action, np.stack([rows.episode, -rows.t], 1))
    np.testing.assert_array_equal(rows.next_obs, next_state)
    np.testing.assert_array_equal(rows.next_achieved_goal, next_state)
    np.testing.assert_array_equal(rows.goal_episode, rows.episode)
    assert (rows.goal_t > rows.t).all()
    assert (rows.goal_t <= rows.end)[rows.relabelled].all()


# Which goals


def test_future_goals_are_uniform_over_the_steps_after_each_transition():
    rows = fill(steps=4 * T).sample()
    for t in range(T):  # the first step has T goals to choose from, the last one only its own state
        goals = rows.goal_t[rows.relabelled & (rows.t == t)]
        assert len(goals) > 1000
        assert_uniform(goals, list(range(t + 1, T + 1)))


def test_future_goals_of_episodes_that_ended_early_stop_at_their_end():
    rows = fill(steps=60, lengths=(2, T, 1, 4)).sample()
    for end in (1, 2, 4, T):
        for t in range(end):
            goals = rows.goal_t[rows.relabelled & (rows.end == end) & (rows.t == t)]
            assert_uniform(goals, list(range(t + 1, end + 1)))


def test_final_goals_are_the_last_achieved_goal_of_the_episode():
    rows = fill(steps=60, lengths=(2, T, 1, 4), strategy="final").sample()
    assert (rows.goal_t == rows.end)[rows.relabelled].all()
    assert (rows.goal_episode == rows.episode).all()


def test_episode_goals_are_uniform_over_all_steps_of_the_episode():
    rows = fill(steps=60, lengths=(2, T, 1, 4), strategy="episode").sample()
    assert (rows.goal_episode == rows.episode).all()
    for end in (1, 2, 4, T):
        for t in range(end):
            goals = rows.goal_t[rows.relabelled & (rows.end == end) & (rows.t == t)]
            assert_uniform(goals, list(range(1, end + 1)))


def test_strategy_none_relabels_nothing_and_asks_for_no_reward():
    filled = fill(steps=4 * T, strategy="none", compute_reward=never, ends_on_success=True)
    rows = filled.sample()
    assert not rows.relabelled.any()
    assert_uniform(np.stack([rows.episode, rows.t], 1), filled.transitions(filled.episodes))


@pytest.mark.parametrize("strategy", ["future", "final", "episode"])
@pytest.mark.parametrize("her_k", [1, 4, 9])
def test_a_fraction_k_of_k_plus_1_is_relabelled(strategy: str, her_k: int):
    filled = fill(steps=4 * T, strategy=strategy, her_k=her_k)
    for batch_size in (100, 256, 1024):
        relabelled = filled.sample(batch_size).relabelled.sum()
        assert relabelled == pytest.approx(batch_size * her_k / (her_k + 1), abs=1)


# Which transitions


RINGS = {
    "equal lengths, room left": dict(steps=4 * T),
    "equal lengths, full": dict(steps=20 * T),
    "equal lengths, overfilled several times": dict(steps=17 * T, capacity=5),
    "room for one episode": dict(steps=7 * T, capacity=1),
    "varying lengths, room left": dict(steps=24, lengths=(2, T, 1, 4)),
    "varying lengths, overfilled several times": dict(
        steps=201, lengths=(2, T, 1, 4, 4), capacity=5
    ),
    "varying lengths, room for one full episode": dict(steps=50, lengths=(1, 2, T, 3), capacity=1),
    "one step each": dict(steps=3, lengths=(1,)),
    "one step each, overfilled": dict(steps=53, lengths=(1,), capacity=3),
    "all but one step, never filling the end": dict(steps=90, lengths=(T - 1, T), capacity=3),
    "three environments, equal lengths": dict(steps=8 * T, num_envs=3, capacity=7),
    "three environments, varying lengths": dict(
        steps=60, num_envs=3, capacity=7, lengths=(T, 2, 3, 1, 4, T, 3, 2)
    ),
}
every_ring = pytest.mark.parametrize("ring", RINGS)


@every_ring
def test_draws_are_uniform_over_all_transitions_of_the_newest_whole_episodes(ring: str):
    filled = fill(**RINGS[ring])
    kept = filled.kept()
    assert kept == filled.episodes[-len(kept) :]  # only the oldest ones are gone
    rows = filled.sample()
    assert_uniform_over_transitions(rows, filled.transitions(kept))
    assert_whole(rows)
    assert len(filled.buffer) == len(filled.transitions(kept))


@every_ring
def test_newest_draws_from_the_newest_steps_only(ring: str):
    filled = fill(**RINGS[ring])
    kept = filled.kept()
    for newest in (1, 3, 1000):  # episodes; the last number is more than there are
        transitions = filled.transitions(kept[-newest:])
        rows = filled.sample(newest=len(transitions) + 1000 * (newest == 1000))
        assert_uniform_over_transitions(rows, transitions)
        assert_whole(rows)


@every_ring
def test_a_buffer_from_a_checkpoint_goes_on_like_the_one_that_was_saved(ring: str):
    how = RINGS[ring].copy()
    steps, lengths = how.pop("steps"), how.pop("lengths", (T,))
    saved, fresh = Filled(new_buffer(**how)), Filled(new_buffer(**how))
    play(saved, steps, lengths, first=0)
    fresh.buffer.load_state_dict(saved.buffer.state_dict())
    for _ in range(3):
        for filled in (saved, fresh):
            filled.buffer.rng = np.random.default_rng(1)
        for newest in (None, T):
            ours = fresh.buffer.sample(500, CPU, newest)
            theirs = saved.buffer.sample(500, CPU, newest)
            for name, array in theirs._asdict().items():
                assert torch.equal(getattr(ours, name), array), name
        for filled in (saved, fresh):
            play(filled, 2 * T, lengths, first=1000)


def test_a_checkpoint_holds_what_was_stored_and_no_zeros_behind_it():
    empty = len(pack(fill(steps=0).buffer.state_dict()))
    row = 4 * (2 + 2 + 2 + 1 + 2 + 2 + 1) + 16
    for steps, rows in ((4 * T + 3, 4 * T), (100 * T, 20 * T + T - 1)):
        size = len(pack(fill(steps=steps).buffer.state_dict()))
        assert size - empty == pytest.approx(rows * row, abs=700)  # files begin at multiples of 64


def test_a_forks_numbers_arrays_and_tensors_are_in_the_checkpoint():
    saved, fresh = fill(steps=4 * T).buffer, fill(steps=0).buffer
    for buffer, value in ((saved, 1), (fresh, 0)):
        buffer.temperature = 0.5 * value
        buffer.seen = np.int64(value)
        buffer.priorities = torch.full((3,), float(value))
        buffer.counts = np.full(4, value)
    fresh.load_state_dict(saved.state_dict())
    assert (fresh.temperature, fresh.seen) == (0.5, 1)
    assert isinstance(fresh.seen, np.integer)
    assert fresh.priorities.tolist() == [1, 1, 1]
    assert fresh.counts.tolist() == [1, 1, 1, 1]


def test_a_ring_overfilled_at_random_always_holds_whole_newest_episodes():
    rng = np.random.default_rng(0)
    filled = Filled(new_buffer(capacity=4))
    for episode in range(300):
        length = int(rng.integers(1, T + 1))
        play(filled, length, [length], first=episode)
        kept = filled.kept()
        assert kept == filled.episodes[-len(kept) :]
        assert len(filled.buffer) == len(filled.transitions(kept))
        rows = filled.sample(300)
        assert set(rows.episode) <= set(kept)
        assert_whole(rows)


def test_draws_of_equally_long_episodes_are_an_episode_counted_from_the_newest_and_a_step():
    filled = fill(steps=7 * T + 2, capacity=5)
    buffer, rng = filled.buffer, np.random.default_rng(3)
    buffer.rng = np.random.default_rng(3)
    for episodes in (5, 3):
        rows = filled.sample(100, newest=episodes * T)
        kept = [6, 5, 4, 3, 2][:episodes]
        age = rng.integers(len(kept), size=100)
        t = rng.integers(T, size=100)
        np.testing.assert_array_equal(rows.episode, np.array(kept)[age])
        np.testing.assert_array_equal(rows.t, t)
        np.testing.assert_array_equal(rows.goal_t[:80], rng.integers(t[:80], T) + 1)
        assert (rows.goal_t[80:] == ORIGINAL).all()


def test_an_episode_is_sampled_only_after_its_end():
    filled = fill(steps=T + 3, num_envs=2)  # two episodes are over, two are at step 3
    assert set(filled.sample().episode) == {0, 1}


# What a row consists of


def test_a_relabelled_row_gets_the_reward_of_the_next_achieved_goal_for_its_new_goal():
    rows = fill(steps=4 * T).sample()
    expected = (rows.t + 1) - rows.goal_t
    np.testing.assert_array_equal(rows.reward[rows.relabelled], expected[rows.relabelled])
    own_next_state = rows.relabelled & (rows.goal_t == rows.t + 1)
    assert own_next_state.any()
    assert (rows.reward[own_next_state] == 0).all()
    assert (rows.reward[rows.relabelled & ~own_next_state] < 0).all()


@pytest.mark.parametrize("strategy", ["future", "final", "episode", "none"])
def test_every_row_keeps_its_own_states_action_and_end(strategy: str):
    rows = fill(steps=60, lengths=(2, T, 1, 4), strategy=strategy).sample()
    next_state = np.stack([rows.episode, rows.t + 1], 1)
    np.testing.assert_array_equal(rows.action, np.stack([rows.episode, -rows.t], 1))
    np.testing.assert_array_equal(rows.next_obs, next_state)
    np.testing.assert_array_equal(rows.next_achieved_goal, next_state)
    ended_early = (rows.t + 1 == rows.end) & (rows.end < T)  # a time limit is no termination
    assert ended_early.any()
    assert ((rows.t + 1 == rows.end) & ~ended_early).any()
    np.testing.assert_array_equal(rows.terminated, ended_early)


@pytest.mark.parametrize("strategy", ["future", "final", "episode"])
def test_where_success_ends_a_task_a_new_goal_ends_it_too_and_a_crash_stays_an_end(strategy: str):
    how = {"strategy": strategy, "ends_on_success": True, "compute_terminated": on_the_spot}
    rows = fill(steps=60, lengths=(2, T, 1, 4), **how).sample()
    stored = (rows.t + 1 == rows.end) & (rows.end < T)
    reached = rows.goal_t == rows.t + 1
    # No stored goal was reached: an end that is stored is a crash
    expected = np.where(rows.relabelled, reached | stored, stored)
    assert (expected != stored).any()
    np.testing.assert_array_equal(rows.terminated, expected)


def test_the_other_rows_keep_the_stored_goal_and_reward_however_often_one_samples():
    filled = fill(steps=4 * T, ends_on_success=True, compute_terminated=on_the_spot)
    for _ in range(20):  # what relabelling brings must not find its way into the store
        rows = filled.sample(1000)
        kept = ~rows.relabelled
        assert kept.sum() == 200
        np.testing.assert_array_equal(rows.goal_episode, rows.episode)
        np.testing.assert_array_equal(rows.reward[kept], -(1000 * rows.episode + rows.t)[kept])
        assert not rows.terminated[kept].any()


def test_batches_and_what_is_stored_are_float32_of_the_documented_shapes():
    buffer = fill(steps=4 * T).buffer
    batch = buffer.sample(7, CPU)
    for name, array in batch._asdict().items():
        assert array.dtype == torch.float32
        assert array.shape == ((7,) if name in ("reward", "terminated") else (7, 2))
        assert buffer.data[name].dtype == np.float32


def test_the_same_seed_gives_the_same_batches():
    first, second = fill(steps=4 * T).buffer, fill(steps=4 * T).buffer
    for _ in range(2):
        for ours, theirs in zip(first.sample(100, CPU), second.sample(100, CPU), strict=True):
            assert torch.equal(ours, theirs)


def test_a_buffer_with_less_room_than_an_episode_of_each_environment_is_refused():
    new_buffer(capacity=3, num_envs=3)
    with pytest.raises(ValueError, match="--buffer-size 14 "):
        new_buffer(capacity=2, num_envs=3)


SCRIPTS = [ddpg_her, ddpg_her_reengage, sac_her_reengage, dqn_her_reengage_bitflip]


@pytest.mark.parametrize("script", SCRIPTS)
def test_batches_from_real_environments_are_consistent(script: ModuleType):
    """Fed as the scripts feed it: states, goals, actions and rewards must fit together."""
    envs, rng = vector_of("ContinuousSeek2-v0", 3, seed=0), np.random.default_rng(0)
    args = script.Args(buffer_size=1000, her_k=4, her_strategy="future")
    buffer = script.HerReplayBuffer(envs, args, Ends(False), rng)
    obs = envs.reset()
    for _ in range(40):
        action = rng.uniform(-1, 1, (3, 2)).astype(np.float32)
        next_obs, reward, terminated, truncated, _ = envs.step(action)
        ended = terminated | truncated
        step = {"obs": obs["observation"], "goal": obs["desired_goal"], "action": action}
        step |= {"reward": reward, "terminated": terminated}
        step |= {"next_obs": next_obs["observation"]}
        step |= {"next_achieved_goal": next_obs["achieved_goal"]}
        buffer.add(step, ended)
        obs = envs.reset(ended) if ended.any() else next_obs
    batch = script.Batch(*(array.numpy() for array in buffer.sample(1000, CPU)))
    np.testing.assert_allclose(batch.next_obs, np.clip(batch.obs + batch.action, -5, 5), atol=1e-6)
    np.testing.assert_array_equal(batch.next_achieved_goal, batch.next_obs)
    reached = np.abs(batch.next_obs - batch.goal).max(axis=1) <= 0.1
    np.testing.assert_array_equal(batch.reward, np.where(reached, 0, -1))
    assert reached.any()
    assert not reached.all()
    assert not batch.terminated.any()  # only the time limit ends these episodes


def test_an_episode_of_goal_sets_that_was_unfinished_is_none_after_a_resume():
    envs = vector_of("DriveSeek5-v0", 1, seed=0)
    args = ddpg_multi_reengage.Args(buffer_size=400)
    buffers = []
    for _ in range(2):
        buffers.append(GoalSetReplayBuffer(envs, args, np.random.default_rng(0)))
    before, after = buffers
    step = {"state": np.ones(6), "action": 0.5, "reward": 1.0, "terminated": 0.0}
    step["next_state"] = np.ones(6)
    for t in range(45):  # an episode of 40 steps, and five of the next
        before.add(step, np.ones(15), t == 39)
    after.load_state_dict(before.state_dict())
    assert (after.current, after.data["length"][0], after.data["length"][1]) == (1, 40, 0)
    for _ in range(40):
        after.add(step, np.ones(15), False)  # there is room for a whole episode
    assert after.data["length"][1] == 40
