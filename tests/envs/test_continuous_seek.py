"""ContinuousSeek: movement, rewards and pictures."""

import numpy as np
import pytest

from envs.drawing import BLUE, GREEN, ORANGE, WHITE
from envs.tasks.continuous_seek import ContinuousSeek


def seek(
    d: int, state: list[float] | None = None, goal: list[float] | None = None, **kwargs
) -> ContinuousSeek:
    """A started ContinuousSeek, in the state and with the goal that are given."""
    env = ContinuousSeek(d, **kwargs)
    env.reset(seed=0)
    env.state = env.state if state is None else np.float32(state)
    env.goal = env.goal if goal is None else np.float32(goal)
    return env


def test_an_episode_starts_at_the_origin_with_a_goal_drawn_by_the_seed_from_the_whole_box():
    env = seek(2)
    goals = np.array([env.reset(seed=seed)[0]["desired_goal"] for seed in range(300)])
    assert np.array_equal(env.reset(seed=7)[0]["desired_goal"], goals[7])
    assert not np.array_equal(env.reset()[0]["desired_goal"], goals[7])  # the stream goes on
    assert np.all(np.abs(goals) <= 5) and np.all(goals.min(0) < -4.8) and np.all(goals.max(0) > 4.8)
    assert not env.reset()[0]["observation"].any()


def test_a_step_adds_the_action_and_stops_at_the_walls():
    env = seek(3, state=[4.5, -4.75, 0.0])
    obs = env.step(np.float32([0.75, -0.5, 0.25]))[0]
    assert obs["observation"].tolist() == obs["achieved_goal"].tolist() == [5.0, -5.0, 0.25]
    obs = env.step(np.float32([-7.0, 1.0, 2.0]))[0]  # actions are cut to [-1, 1] first
    assert obs["observation"].tolist() == [4.0, -4.0, 1.25]


def test_the_sparse_reward_is_0_exactly_when_no_dimension_is_off_by_more_than_a_tenth():
    env = seek(3)
    state = np.float32([1.0, -2.0, 0.0])
    offsets = [[0, 0, 0], [0.09, -0.09, 0.09], [0.11, 0, 0], [0, 0, -0.11], [5, 5, 5]]
    rewards = env.compute_reward(state, np.float32(state + offsets), {})
    assert rewards.tolist() == [0, 0, -1, -1, -1]
    # The edge belongs to it
    assert env.compute_reward(np.zeros(3, np.float32), np.float32([0.1, -0.1, 0.1]), {}) == 0


def test_a_step_returns_the_reward_and_the_success_of_the_state_it_leads_to():
    env = seek(2, state=[0.0, 0.0], goal=[0.5, 0.0])
    _, reward, terminated, truncated, info = env.step(np.float32([0.45, 0.05]))
    assert (reward, terminated, truncated, bool(info["is_success"])) == (0.0, False, False, True)
    _, reward, terminated, truncated, info = env.step(np.float32([0.5, 0.0]))
    assert (reward, terminated, truncated, bool(info["is_success"])) == (-1.0, False, False, False)


def test_the_dense_reward_is_the_distance_and_its_gradient_points_from_the_goal_to_the_state():
    env = seek(2, state=[0.0, 0.0], goal=[3.0, 3.0], reward_type="dense")
    _, reward, *_, info = env.step(np.float32([0.0, -1.0]))
    assert reward == -5.0 and not info["is_success"]
    gradient = env.compute_reward_gradient(
        np.float32([[0, -1], [2, 2]]), np.float32([[3, 3], [2, 2]]), {}
    )
    np.testing.assert_allclose(gradient, [[-0.6, -0.8], [0, 0]], rtol=1e-6)


def pixel(image: np.ndarray, x: float, y: float) -> tuple[int, ...]:
    """Colour at a point of the plane; the picture shows [-5.4, 5.4]^2, the second axis upwards."""
    size = len(image) - 1
    colour = image[round((5.4 - y) / 10.8 * size), round((x + 5.4) / 10.8 * size)]
    return tuple(colour.tolist())


@pytest.mark.parametrize("d", [1, 2, 5])
def test_the_picture_shows_state_and_goal_where_they_are(d: int):
    state, goal = np.zeros(d), np.zeros(d)
    state[:2], goal[:2] = [3.0, 1.0][:d], [-2.0, -4.0][:d]
    image = seek(d, state=state, goal=goal).render()
    assert image.shape == (320, 320, 3) and image.dtype == np.uint8
    up = 1.0 * (d > 1)  # with one dimension everything lies on the middle line
    assert pixel(image, 3.0, up) == BLUE
    assert pixel(image, -2.0, -4.0 * up) == ORANGE
    assert pixel(image, -2.0, 2.5) == WHITE


def test_the_goal_has_its_true_size_in_the_picture_and_changes_colour_when_it_is_reached():
    env = seek(2, state=[0.0, 0.0], goal=[1.05, 2.0], render_mode="rgb_array")
    env.step(np.float32([1.0, 1.0]))
    assert pixel(env.render(), 1.05, 2.0) == pixel(env.render(), 1.0, 2.05) == ORANGE
    assert pixel(env.render(), 0.88, 2.0) == WHITE  # just outside of it
    env.step(np.float32([0.0, 1.0]))
    assert pixel(env.render(), 1.05, 2.0) == GREEN
