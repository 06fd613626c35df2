"""The rotation environments, and that studies/propositions.py minimises their Bellman error."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import ROOT
from torch import Tensor, nn

from algos.ddpg_her_reengage import Args, Batch, reengage_critic_loss
from envs.tasks.rotation import Rotation, random_rotation

sys.path.insert(0, str(ROOT / "benchmark" / "studies"))
from propositions import learn_from_gradients, learn_from_values, transitions

GAMMA = 0.9


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


class ModelQ(nn.Module):
    """Eq. (23), dense, or Eq. (25), sparse: the optimal Q for an estimate of U.

    The estimate is the parameter.
    """

    def __init__(self, estimate: Tensor, sparse: bool):
        super().__init__()
        self.estimate, self.sparse = nn.Parameter(estimate), sparse

    def forward(self, state: Tensor, goal: Tensor, action: Tensor) -> Tensor:
        d, length = goal.shape[1], goal.norm(dim=1)
        if not self.sparse:
            value = (goal * (state + action @ self.estimate.T)).sum(1)
            return value / (1 - GAMMA) + GAMMA * length / (1 - GAMMA) ** 2
        shared = 1 - GAMMA**2
        full = GAMMA * (goal * (state[:, :d] + action @ self.estimate.T)).sum(1) / shared
        empty = (goal * state[:, d:]).sum(1) / shared
        is_empty = ~state[:, :d].any(1)
        return torch.where(
            is_empty, empty + GAMMA**2 * length / shared**2, full + GAMMA**3 * length / shared**2
        )


class ModelPolicy(nn.Module):
    """Eq. (24) and (26): a = U^T g / |g|."""

    def __init__(self, estimate: Tensor):
        super().__init__()
        self.estimate = estimate

    def forward(self, state: Tensor, goal: Tensor) -> Tensor:
        return goal @ self.estimate / goal.norm(dim=1, keepdim=True)


@pytest.mark.parametrize("kind", ["dense", "sparse"])
def test_the_scripts_losses_are_the_ones_that_the_propositions_minimise(kind: str):
    """Up to a factor, the value loss is (g . (estimate a - U a))^2.

    And the gradient term is |estimate a - U a|^2.
    """
    d, n, rng = 4, 30, np.random.default_rng(0)
    env = Rotation(d, kind)
    state, goal = env.draw(n, rng)
    action = rng.uniform(-0.4, 0.4, (n, d))
    after = env.advance(state, action, rng)
    achieved_goal = (
        env.observe(after, goal)["achieved_goal"].astype(float) if kind == "sparse" else after
    )
    reward = env.compute_reward(achieved_goal, goal, {})
    arrays = state, goal, action, reward, after, achieved_goal, np.zeros(n)
    batch = Batch(*(torch.from_numpy(np.asarray(array, float)) for array in arrays))
    estimate = torch.from_numpy(random_rotation(d, rng))
    agent = SimpleNamespace(
        critic=ModelQ(estimate, kind == "sparse"),
        target_critic=ModelQ(estimate, kind == "sparse").requires_grad_(False),
        target_actor=ModelPolicy(estimate),
        normalizer=SimpleNamespace(std=torch.ones(2 * d).double()),
    )
    reward_grad = batch.next_achieved_goal if kind == "dense" else None
    args = Args(alpha=1.0, gamma=GAMMA, c_low=0.0)
    _, curves = reengage_critic_loss(agent, batch, args, reward_grad)

    difference = batch.action @ (estimate - torch.from_numpy(env.rotation)).T
    factor = (1 / (1 - GAMMA) if kind == "dense" else GAMMA / (1 - GAMMA**2)) ** 2
    value_loss = factor * (batch.goal * difference).sum(1).square().mean()
    torch.testing.assert_close(curves["losses/value"], value_loss, rtol=1e-6, atol=1e-9)
    grad_loss = factor * difference.square().mean()
    torch.testing.assert_close(curves["losses/gradient"], grad_loss, rtol=1e-6, atol=1e-9)


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
    assert np.linalg.norm(learn_from_gradients(action, move) - env.rotation) < 1e-6
    # One fewer: some other one
    assert np.linalg.norm(learn_from_gradients(action[1:], move[1:]) - env.rotation) > 0.1
    assert np.linalg.norm(learn_from_values(action, goal, move, rng) - env.rotation) > 0.1
    assert (
        np.linalg.norm(learn_from_values(*transitions(env, factor * 40, rng), rng) - env.rotation)
        < 1e-6
    )
