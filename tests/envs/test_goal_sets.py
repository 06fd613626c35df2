"""DriveSeek and NoisySeek: movement, goal sets, rewards and pictures."""

import runpy

import numpy as np
import pytest
from conftest import ROOT, vector_of
from scipy.stats import chisquare

from algos.ddpg_her import evaluate
from envs.drawing import BLACK, BLUE, CYAN, MAGENTA, WHITE
from envs.tasks.drive_seek import DriveSeek
from envs.tasks.goal_set import pack
from envs.tasks.noisy_seek import NoisySeek


def drive(state: list[float], goals: list[list[int]], n_max: int = 4) -> DriveSeek:
    """A started DriveSeek in the state (x, y, angle) with the given goals."""
    env = DriveSeek(n_max)
    env.reset(seed=0)
    env.state, env.goal = np.array([state], float), pack(np.array(goals), n_max)[None]
    return env


def slots_of(goal: np.ndarray) -> np.ndarray:
    return goal.reshape(*goal.shape[:-1], -1, 3)


# How they move


def test_drive_seek_turns_first_and_then_moves_by_one():
    env = drive([0, 0, 0], [[5, 5]])
    env.reset(seed=0)
    obs, *_ = env.step(np.float32([0]))
    np.testing.assert_allclose(obs["observation"], [1, 0, 1, 0], atol=1e-6)
    obs, *_ = env.step(np.float32([1]))  # half a radian to the left
    np.testing.assert_allclose(
        obs["observation"], [1 + np.cos(0.5), np.sin(0.5), np.cos(0.5), np.sin(0.5)], atol=1e-6
    )
    obs, *_ = env.step(np.float32([-5]))  # as -1: straight on again
    expected = [2 + np.cos(0.5), np.sin(0.5), 1, 0]
    np.testing.assert_allclose(obs["observation"], expected, atol=1e-6)
    assert obs["achieved_goal"].tolist() == [3, 0]


@pytest.mark.parametrize(
    "state, position, cell",
    [
        ([10.2, 3, 0], [-9.8, 3], [-10, 3]),
        ([-10.2, 3, np.pi], [9.8, 3], [10, 3]),
        ([3, 10.2, np.pi / 2], [3, -9.8], [3, -10]),
        ([3, -10.2, -np.pi / 2], [3, 9.8], [3, 10]),
        ([9.4, 0, 0], [10.4, 0], [10, 0]),  # the last cell before the edge
    ],
)
def test_drive_seek_wraps_around_at_every_edge(
    state: list[float], position: list[float], cell: list[int]
):
    obs, *_ = drive(state, [[0, 0]]).step(np.float32([0]))
    np.testing.assert_allclose(obs["observation"][:2], position, atol=1e-6)
    assert obs["achieved_goal"].tolist() == cell


def test_noisy_seek_adds_the_action_shortened_to_length_1_and_unit_gaussian_noise():
    env, state = NoisySeek(3), np.zeros((20_000, 2))
    half = 0.5**0.5
    for action, moved in [((0.3, -0.4), (0.3, -0.4)), ((1, -1), (half, -half))]:
        actions = np.tile(np.float32(action), (len(state), 1))
        after = env.advance(state, actions, np.random.default_rng(1))
        noise = env.advance(state, np.zeros_like(state), np.random.default_rng(1))
        np.testing.assert_allclose(after - noise, np.tile(moved, (len(state), 1)), atol=1e-6)
    np.testing.assert_allclose(np.cov(noise.T), np.eye(2), atol=0.05)
    np.testing.assert_allclose(noise.mean(0), 0, atol=0.03)


# Goal sets


@pytest.mark.parametrize("kind", [DriveSeek, NoisySeek])
def test_a_goal_set_lists_its_goals_first_sorted_and_without_repetition(kind: type):
    _, goals = kind(30).draw(300, np.random.default_rng(0))
    assert goals.shape == (300, 90) and goals.dtype == np.float32
    for slots in slots_of(goals):
        count = int(slots[:, 0].sum())
        assert 1 <= count <= 30
        assert (slots[:count, 0] == 1).all() and not slots[count:].any()
        cells = [tuple(cell) for cell in slots[:count, 1:]]
        assert cells == sorted(set(cells)) and np.array_equal(slots[:, 1:], np.rint(slots[:, 1:]))


def test_drive_seeks_number_of_goals_and_its_cells_are_uniform():
    _, goals = DriveSeek(6).draw(6000, np.random.default_rng(0))
    slots = slots_of(goals)
    counts = slots[..., 0].sum(1).astype(int)
    assert chisquare(np.bincount(counts, minlength=7)[1:]).pvalue > 1e-4
    cells = slots[slots[..., 0] == 1][:, 1:].astype(int) + 10
    assert chisquare(np.bincount(21 * cells[:, 0] + cells[:, 1], minlength=441)).pvalue > 1e-4


class OneCluster(np.random.Generator):
    """Random numbers in which the geometric distribution always gives 1."""

    def geometric(self, p: float) -> int:
        assert p == 0.15
        return 1


def test_noisy_seeks_goals_lie_around_gaussian_cluster_centres():
    rng = OneCluster(np.random.PCG64(0))
    slots = slots_of(NoisySeek(200).draw(400, rng)[1])
    sets = [one[one[:, 0] == 1][:, 1:] for one in slots]
    centres = np.array([cells.mean(0) for cells in sets if len(cells) > 20])
    np.testing.assert_allclose(centres.std(0), 10, rtol=0.12)
    np.testing.assert_allclose(centres.mean(0), 0, atol=1.5)

    single = slots_of(NoisySeek(1).draw(4000, rng)[1])[:, 0]
    assert (single[:, 0] == 1).all()
    np.testing.assert_allclose(single[:, 1:].std(0), (10**2 + 2**2 + 1 / 12) ** 0.5, rtol=0.05)


# Rewards


@pytest.mark.parametrize(
    "achieved, goals, items",
    [
        ([0, 3], [[-1, 2], [0, 3]], [0, 1, 0, 0]),
        ([0, 0], [[-1, 2], [0, 3]], [0, 0, 0, 0]),  # empty slots are (0, 0, 0)
        ([0, 0], [[0, 0]], [1, 0, 0, 0]),
    ],
)
def test_item_rewards_say_which_goal_was_reached_and_an_empty_slot_never_is(
    achieved: list, goals: list, items: list
):
    env = DriveSeek(4)
    pair = np.float32(achieved), pack(np.array(goals), 4)
    assert env.compute_item_rewards(*pair).tolist() == items
    assert env.compute_reward(*pair, {}) == env.is_success(*pair) == sum(items)


def test_a_step_is_rewarded_for_the_rounded_position_that_it_leads_to():
    env = drive([-0.6, 0.4, 0], [[0, 0], [2, 0]])
    assert env.step(np.float32([0]))[1:] == (1.0, False, False, {"is_success": True})  # (0.4, 0.4)
    assert env.step(np.float32([0.5]))[1] == 0.0  # (1.37, 0.65)


# Pictures, and an agent


def test_the_picture_tells_reached_goals_others_visited_cells_and_the_agent_apart():
    env = drive([0, 0, 0], [[1, 0], [-4, -4]])
    for _ in range(3):
        env.step(np.float32([0]))
    image = env.render()

    def colour(x: float, y: float) -> np.ndarray:
        size = len(image) - 1
        return image[round((10.5 - y) / 21 * size), round((x + 10.5) / 21 * size)]

    assert np.array_equal(colour(1, 0), BLUE) and np.array_equal(colour(-4, -4), CYAN)
    assert np.array_equal(colour(2, 0), MAGENTA) and np.array_equal(colour(3, 0), BLACK)
    assert np.array_equal(colour(0, 0), WHITE) and np.array_equal(colour(-4, 4), WHITE)


def test_the_greedy_agent_of_noisy_seek_gets_what_the_paper_reports():
    study = ROOT / "benchmark" / "studies" / "noisy_seek_greedy.py"
    greedy = runpy.run_path(str(study))["go_to_nearest_goal"]
    metrics = evaluate(vector_of("NoisySeek-v0", 1000, seed=1), greedy, 1000)
    mean_return = metrics["episodic_return"]
    assert mean_return == pytest.approx(11.94, abs=0.8)  # standard error 0.2
