"""The rotation environments, and what studies/propositions.py learns from their transitions."""

import sys

import numpy as np
import pytest
from conftest import ROOT

from envs.tasks.rotation import Rotation

sys.path.insert(0, str(ROOT / "benchmark" / "studies"))
from propositions import learn_from_gradients, learn_from_values, transitions


def test_rotations_are_orthogonal_keep_orientation_and_are_decided_by_the_seed():
    for d in (2, 3, 10):
        u = Rotation(d, rotation_seed=5).rotation
        np.testing.assert_allclose(u @ u.T, np.eye(d), atol=1e-12)
        assert np.linalg.det(u) == pytest.approx(1)
        assert np.array_equal(u, Rotation(d, rotation_seed=5).rotation)
        assert not np.array_equal(u, Rotation(d, rotation_seed=6).rotation)


def test_dense_states_move_by_the_turned_action_which_is_at_most_1_long():
    env, state = Rotation(3), np.ones((2, 3))
    action = np.array([[0.1, 0.2, -0.3], [3.0, 0.0, 4.0]])
    after = env.advance(state, action, np.random.default_rng(0))
    np.testing.assert_allclose(after[0], 1 + env.rotation @ action[0])
    np.testing.assert_allclose(after[1], 1 + env.rotation @ action[1] / 5)


def test_sparse_states_are_stored_for_a_step_without_reward_and_then_come_back():
    env = Rotation(2, "sparse")
    obs, _ = env.reset(seed=0)
    start, goal = obs["achieved_goal"].copy(), obs["desired_goal"]
    action = np.float32([0.3, -0.2])
    obs, reward, *_ = env.step(action)
    assert reward == 0 and not obs["achieved_goal"].any()
    np.testing.assert_allclose(obs["observation"][2:], start + env.rotation @ action, rtol=1e-5)
    obs, reward, *_ = env.step(np.float32([1, 1]))  # this action does nothing
    np.testing.assert_allclose(obs["achieved_goal"], start + env.rotation @ action, rtol=1e-5)
    assert reward == pytest.approx(goal @ obs["achieved_goal"], rel=1e-5)
    assert not obs["observation"][2:].any()


@pytest.mark.parametrize("kind, factor", [("dense", 1), ("sparse", 2)])
def test_the_gradient_recovers_the_rotation_from_d_minus_1_moves_and_the_value_does_not(
    kind: str, factor: int
):
    d, rng = 6, np.random.default_rng(0)
    env = Rotation(d, kind, rotation_seed=3)
    action, goal, move = transitions(env, factor * (d - 1), rng)
    assert len(action) == d - 1
    # What a transition tells about U
    np.testing.assert_allclose(move, action @ env.rotation.T, atol=1e-12)

    def error(estimate: np.ndarray) -> float:
        return np.linalg.norm(estimate - env.rotation)

    assert error(learn_from_gradients(action, move)) < 1e-6
    assert error(learn_from_gradients(action[1:], move[1:])) > 0.1  # one fewer: some other one
    assert error(learn_from_values(action, goal, move, rng)) > 0.1
    assert error(learn_from_values(*transitions(env, factor * 40, rng), rng)) < 1e-6
