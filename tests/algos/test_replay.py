"""Hindsight relabelling: which goals, from which episodes, with which rewards, how often.

Every stored number tells where it comes from: episode 7's observation at step 3 is (7, 3), so is its achieved goal, its
action is (7, -3), its desired goal (7, 1000) and its reward -7003.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.stats import chisquare

from algos import ddpg_her, ddpg_her_reengage, sac_her_reengage
from envs import VectorEnv

torch.set_num_threads(1)

T = 5  # time limit of the made-up environments
ORIGINAL = (
    1000  # second coordinate of every desired goal, to tell it from the achieved goals 0 to T
)
DRAWS = 50_000
CPU = torch.device("cpu")


def signed_distance(achieved_goal: np.ndarray, goal: np.ndarray, info: dict) -> np.ndarray:
    """A reward that is 0 on the spot, and minus the number of steps to a later goal of the same episode."""
    return (achieved_goal - goal).sum(-1)


@dataclass
class Filled:
    """A buffer together with what was put into it."""

    buffer: ddpg_her.HerReplayBuffer
    episodes: list[int] = field(
        default_factory=list
    )  # the finished ones, in the order in which they ended
    length: dict[int, int] = field(default_factory=dict)  # of each finished episode

    def sample(self, n: int = DRAWS, newest: int | None = None) -> SimpleNamespace:
        """A batch as numpy arrays, and with what its numbers tell: episode, t, and which rows are relabelled."""
        rows = SimpleNamespace(
            **{
                name: array.numpy()
                for name, array in self.buffer.sample(n, CPU, newest)._asdict().items()
            }
        )
        rows.episode, rows.t = rows.obs.astype(int).T
        rows.goal_episode, rows.goal_t = rows.goal.astype(int).T
        rows.relabelled = rows.goal_t != ORIGINAL
        rows.end = np.array([self.length.get(episode, -1) for episode in rows.episode])
        return rows

    def transitions(self, episodes: Sequence[int]) -> list[tuple[int, int]]:
        return [(episode, t) for episode in episodes for t in range(self.length[episode])]


def fill(
    steps: int,
    capacity: int = 20,
    lengths: Sequence[int] = (T,),
    num_envs: int = 1,
    her_k: int = 4,
    strategy: str = "future",
    compute_reward: Callable[..., np.ndarray] = signed_distance,
) -> Filled:
    """Plays `steps` steps in every environment; episode i is lengths[i % len(lengths)] steps long."""
    envs = SimpleNamespace(
        max_episode_steps=T,
        num_envs=num_envs,
        obs_dim=2,
        goal_dim=2,
        action_dim=2,
        unwrapped=SimpleNamespace(compute_reward=compute_reward),
    )
    rng = np.random.default_rng(0)
    filled = Filled(
        ddpg_her.HerReplayBuffer(capacity * T + T - 1, envs, her_k, strategy, rng)
    )  # T - 1: no more room
    episode, t, started = np.arange(num_envs), np.zeros(num_envs, int), num_envs
    for _ in range(steps):
        length = np.array([lengths[i % len(lengths)] for i in episode])
        ended = t + 1 == length
        step = {
            "obs": np.stack([episode, t], 1),
            "achieved_goal": np.stack([episode, t], 1),
            "goal": np.stack([episode, np.full(num_envs, ORIGINAL)], 1),
            "action": np.stack([episode, -t], 1),
            "reward": -(1000.0 * episode + t),
            "terminated": ended & (length < T),
        }
        after = np.stack([episode, t + 1], 1)
        filled.buffer.add(step, {"observation": after, "achieved_goal": after}, ended)
        t += 1
        for i in np.flatnonzero(ended):
            filled.episodes.append(int(episode[i]))
            filled.length[int(episode[i])] = int(length[i])
            episode[i], t[i], started = started, 0, started + 1
    return filled


def assert_uniform(values: list | np.ndarray, over: list) -> None:
    """Every element of `over` occurs, nothing else does, and the counts pass a chi-square test."""
    values = [tuple(value) if isinstance(value, np.ndarray) else value for value in values]
    counts = dict.fromkeys(over, 0)
    for value in values:
        assert value in counts, f"{value} should not occur"
        counts[value] += 1
    assert len(over) == 1 or chisquare(list(counts.values())).pvalue > 1e-4


def assert_uniform_over_transitions(
    rows: SimpleNamespace, transitions: list[tuple[int, int]]
) -> None:
    """Relabelled rows and the others, each by themselves: relabelling must not depend on the transition."""
    pairs = np.stack([rows.episode, rows.t], 1)
    assert_uniform(pairs[rows.relabelled], transitions)
    assert_uniform(pairs[~rows.relabelled], transitions)


# ---- which goals -----------------------------------------------------------------------------------------------------


def test_future_goals_are_uniform_over_the_steps_after_each_transition() -> None:
    rows = fill(steps=4 * T).sample()
    for t in range(
        T
    ):  # the first step has T goals to choose from, the last one only the state that it led to
        goals = rows.goal_t[rows.relabelled & (rows.t == t)]
        assert len(goals) > 1000
        assert_uniform(goals, list(range(t + 1, T + 1)))


def test_future_goals_of_episodes_that_ended_early_stop_at_their_end() -> None:
    rows = fill(steps=60, lengths=(2, T, 1, 4)).sample()
    for end in (1, 2, 4, T):
        for t in range(end):
            goals = rows.goal_t[rows.relabelled & (rows.end == end) & (rows.t == t)]
            assert_uniform(goals, list(range(t + 1, end + 1)))


def test_final_goals_are_the_last_achieved_goal_of_the_episode() -> None:
    rows = fill(steps=60, lengths=(2, T, 1, 4), strategy="final").sample()
    assert (rows.goal_t == rows.end)[rows.relabelled].all()
    assert (rows.goal_episode == rows.episode).all()


def test_episode_goals_are_uniform_over_all_steps_of_the_episode() -> None:
    rows = fill(steps=60, lengths=(2, T, 1, 4), strategy="episode").sample()
    assert (rows.goal_episode == rows.episode).all()
    for end in (1, 2, 4, T):
        for t in range(end):
            goals = rows.goal_t[rows.relabelled & (rows.end == end) & (rows.t == t)]
            assert_uniform(goals, list(range(1, end + 1)))


def test_strategy_none_relabels_nothing_and_asks_for_no_reward() -> None:
    def never(*_) -> np.ndarray:
        raise AssertionError("compute_reward was called")

    filled = fill(steps=4 * T, strategy="none", compute_reward=never)
    rows = filled.sample()
    assert not rows.relabelled.any()
    assert_uniform(np.stack([rows.episode, rows.t], 1), filled.transitions(filled.episodes))


@pytest.mark.parametrize("strategy", ["future", "final", "episode"])
@pytest.mark.parametrize("her_k", [1, 4, 9])
def test_a_fraction_k_of_k_plus_1_is_relabelled(strategy: str, her_k: int) -> None:
    filled = fill(steps=4 * T, strategy=strategy, her_k=her_k)
    for batch_size in (100, 256, 1024):
        relabelled = filled.sample(batch_size).relabelled.sum()
        assert relabelled == pytest.approx(batch_size * her_k / (her_k + 1), abs=1)


# ---- which transitions -----------------------------------------------------------------------------------------------


def test_transitions_are_uniform_over_all_episodes_and_steps() -> None:
    filled = fill(steps=4 * T)
    assert filled.episodes == [0, 1, 2, 3]
    assert_uniform_over_transitions(filled.sample(), filled.transitions(filled.episodes))


def test_transitions_are_uniform_also_if_episodes_end_early_and_none_lies_beyond_an_end() -> None:
    filled = fill(steps=24, lengths=(2, T, 1, 4))
    assert filled.episodes == list(range(8))
    assert_uniform_over_transitions(filled.sample(), filled.transitions(filled.episodes))


def test_a_buffer_overfilled_several_times_holds_exactly_the_newest_episodes() -> None:
    filled = fill(steps=17 * T, capacity=5)
    rows = filled.sample()
    assert (rows.goal_episode == rows.episode).all()
    assert_uniform_over_transitions(rows, filled.transitions([12, 13, 14, 15, 16]))


def test_environments_whose_episodes_end_at_different_times_do_not_mix_even_after_wrap_around() -> (
    None
):
    filled = fill(steps=40, capacity=7, num_envs=3, lengths=(T, 2, 3, 1, 4, T, 3, 2))
    assert len(filled.episodes) > 4 * 7 and filled.episodes != sorted(filled.episodes)
    rows = filled.sample()
    assert_uniform_over_transitions(rows, filled.transitions(filled.episodes[-7:]))
    assert (rows.goal_episode == rows.episode).all()
    assert (rows.goal_t <= rows.end)[rows.relabelled].all() and (rows.goal_t > rows.t).all()
    for name in ("action", "next_obs", "achieved_goal"):
        assert (getattr(rows, name)[:, 0] == rows.episode).all()


def test_an_episode_is_sampled_only_after_its_end() -> None:
    filled = fill(steps=T + 3, num_envs=2)  # two episodes are over, two are at step 3
    assert set(filled.sample().episode) == {0, 1}


@pytest.mark.parametrize("steps", [4 * T, 17 * T])  # before and after wrap-around
def test_newest_draws_from_the_newest_episodes_only(steps: int) -> None:
    filled = fill(steps=steps, capacity=6)
    for newest in (1, 3):
        rows = filled.sample(newest=newest)
        assert_uniform_over_transitions(rows, filled.transitions(filled.episodes[-newest:]))
    everything = filled.sample(newest=100)  # more than there are
    assert_uniform_over_transitions(everything, filled.transitions(filled.episodes[-6:]))


# ---- what a row consists of ------------------------------------------------------------------------------------------


def test_a_relabelled_row_gets_the_reward_of_the_next_achieved_goal_for_its_new_goal() -> None:
    rows = fill(steps=4 * T).sample()
    np.testing.assert_array_equal(rows.achieved_goal, np.stack([rows.episode, rows.t + 1], 1))
    expected = (rows.t + 1) - rows.goal_t
    np.testing.assert_array_equal(rows.reward[rows.relabelled], expected[rows.relabelled])
    own_next_state = rows.relabelled & (rows.goal_t == rows.t + 1)
    assert own_next_state.any() and (rows.reward[own_next_state] == 0).all()
    assert (rows.reward[rows.relabelled & ~own_next_state] < 0).all()


@pytest.mark.parametrize("strategy", ["future", "final", "episode", "none"])
def test_every_row_keeps_its_own_states_and_action_relabelled_or_not(strategy: str) -> None:
    rows = fill(steps=60, lengths=(2, T, 1, 4), strategy=strategy).sample()
    np.testing.assert_array_equal(rows.action, np.stack([rows.episode, -rows.t], 1))
    np.testing.assert_array_equal(rows.next_obs, np.stack([rows.episode, rows.t + 1], 1))
    np.testing.assert_array_equal(rows.achieved_goal, rows.next_obs)
    ended_early = (rows.t + 1 == rows.end) & (rows.end < T)  # a time limit is no termination
    assert ended_early.any() and ((rows.t + 1 == rows.end) & ~ended_early).any()
    np.testing.assert_array_equal(rows.terminated, ended_early)


def test_the_other_rows_keep_the_stored_goal_and_reward_however_often_the_buffer_is_sampled() -> (
    None
):
    filled = fill(steps=4 * T)
    for _ in range(20):  # a relabelled goal or reward must not find its way into the store
        rows = filled.sample(1000)
        kept = ~rows.relabelled
        assert kept.sum() == 200
        np.testing.assert_array_equal(rows.goal_episode, rows.episode)
        np.testing.assert_array_equal(rows.reward[kept], -(1000 * rows.episode + rows.t)[kept])


def test_batches_are_float32_tensors_of_the_documented_shapes() -> None:
    batch = fill(steps=4 * T).buffer.sample(7, CPU)
    assert all(array.dtype == torch.float32 for array in batch)
    assert [tuple(array.shape) for array in batch] == [
        (7, 2),
        (7, 2),
        (7, 2),
        (7,),
        (7, 2),
        (7, 2),
        (7,),
    ]


def test_the_same_seed_gives_the_same_batches() -> None:
    first, second = fill(steps=4 * T).buffer, fill(steps=4 * T).buffer
    for _ in range(2):
        assert all(
            torch.equal(a, b)
            for a, b in zip(first.sample(100, CPU), second.sample(100, CPU), strict=True)
        )


def test_a_buffer_with_less_room_than_an_episode_of_each_environment_is_refused() -> None:
    fill(steps=T, capacity=3, num_envs=3)
    with pytest.raises(ValueError, match="--buffer-size 14 "):
        fill(steps=T, capacity=2, num_envs=3)


@pytest.mark.parametrize("script", [ddpg_her, ddpg_her_reengage, sac_her_reengage])
def test_batches_from_real_environments_are_consistent(script: ModuleType) -> None:
    """Fed as the scripts feed it: for ContinuousSeek, states, goals, actions and rewards must fit together."""
    envs, rng = VectorEnv("ContinuousSeek2-v0", 3, seed=0), np.random.default_rng(0)
    buffer = script.HerReplayBuffer(1000, envs, 4, "future", rng)
    obs = envs.reset()
    for _ in range(40):
        action = rng.uniform(-1, 1, (3, 2)).astype(np.float32)
        next_obs, reward, terminated, truncated, _ = envs.step(action)
        ended = terminated | truncated
        step = {
            "obs": obs["observation"],
            "achieved_goal": obs["achieved_goal"],
            "goal": obs["desired_goal"],
        }
        buffer.add(
            step | {"action": action, "reward": reward, "terminated": terminated}, next_obs, ended
        )
        obs = envs.reset(ended) if ended.any() else next_obs
    batch = script.Batch(*(array.numpy() for array in buffer.sample(1000, CPU)))
    np.testing.assert_allclose(batch.next_obs, np.clip(batch.obs + batch.action, -5, 5), atol=1e-6)
    np.testing.assert_array_equal(batch.achieved_goal, batch.next_obs)
    reached = np.abs(batch.next_obs - batch.goal).max(axis=1) <= 0.1
    np.testing.assert_array_equal(batch.reward, np.where(reached, 0, -1))
    assert reached.any() and not reached.all()
    assert not batch.terminated.any()  # only the time limit ends these episodes
