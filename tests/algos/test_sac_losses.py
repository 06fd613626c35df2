"""SAC's losses with the gradient term: by finite differences and independent derivations."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from numerics import finite_differences, gradient, make_agent, slopes
from torch import Tensor
from torch.distributions import Normal, TanhTransform, TransformedDistribution

from algos import sac_her_reengage
from algos.sac_her_reengage import (
    Args,
    Batch,
    GaussianActor,
    Normalizer,
    entropy_loss,
    mlp,
    sac_critic_loss,
)

torch.set_num_threads(1)

OBS_DIM, GOAL_DIM, ACTION_DIM, BATCH = 3, 2, 2, 24
GAMMA = 0.9
ENTROPY_COEF = 0.6


@dataclass
class Problem:
    """Everything that `sac_critic_loss` is given."""

    agent: Any
    batch: Batch
    args: Args
    noise: Tensor  # (batch, action_dim)
    reward_grad: Tensor | None  # (batch, goal_dim)

    def loss(self) -> tuple[Tensor, dict]:
        return sac_critic_loss(self.agent, self.batch, self.args, self.noise, self.reward_grad)

    def gradient(self) -> Tensor:
        """By the critics' parameters, flat."""
        return gradient(self.loss()[0], self.agent.critic_params)

    def mask(self) -> Tensor:  # (batch,)
        if self.reward_grad is not None:
            return torch.ones_like(self.batch.reward)
        return (self.batch.reward == -1).double()

    def qs(self, goal: Tensor) -> Tensor:  # (2, batch)
        b = self.batch
        return torch.stack([critic(b.obs, goal, b.action) for critic in self.agent.critics])


def make_problem(dense: bool = False, normalize: bool = False) -> Problem:
    """A random one with alpha 0.7 and entropy coefficient 0.6."""
    torch.manual_seed(0)
    args = Args(alpha=0.7, c_low=-1.0, gamma=GAMMA, normalize=normalize, hidden_dims=(8, 8))
    dims = {"obs_dim": OBS_DIM, "goal_dim": GOAL_DIM, "action_dim": ACTION_DIM}
    agent = make_agent(sac_her_reengage, args, **dims)
    goal = torch.tensor([0.5, -1.0]) + torch.tensor([0.2, 3.0]) * torch.randn(BATCH, GOAL_DIM)
    if normalize:
        agent.normalizer.update(torch.cat([2 + 0.5 * torch.randn(BATCH, OBS_DIM), goal], 1))
    with torch.no_grad():
        agent.actor.net[-1].weight *= 0.3  # deviations inside their clamp: outside is no gradient
        agent.log_c.fill_(math.log(ENTROPY_COEF))
    difference = torch.randn(BATCH, GOAL_DIM).double()
    distance = difference.norm(dim=1)
    batch = Batch(
        obs=2 + torch.randn(BATCH, OBS_DIM),
        goal=goal,
        action=torch.rand(BATCH, ACTION_DIM) * 2 - 1,
        reward=-distance if dense else -(torch.rand(BATCH) < 0.6).float(),
        next_obs=2 + torch.randn(BATCH, OBS_DIM),
        next_achieved_goal=goal.double() + difference,
        terminated=(torch.arange(BATCH) % 5 == 0).float(),
    )
    batch = Batch(*(array.double() for array in batch))
    noise = torch.randn(BATCH, ACTION_DIM).double()
    reward_grad = difference / distance[:, None] if dense else None
    problem = Problem(agent, batch, args, noise, reward_grad)
    balance_targets(problem)
    return problem


@torch.no_grad()
def balance_targets(problem: Problem) -> None:
    """Makes each target critic the smaller one in some rows; a test means nothing without both."""
    b = problem.batch
    one, other = problem.agent.target_critics
    difference = one(b.next_obs, b.goal, b.action) - other(b.next_obs, b.goal, b.action)
    other.net[-1].bias += difference.median()
    smaller = one(b.next_obs, b.goal, b.action) < other(b.next_obs, b.goal, b.action)
    assert 4 < smaller.sum() < BATCH - 4
    assert problem.reward_grad is not None or 0 < problem.mask().sum() < BATCH


CASES = {
    "sparse": dict(),
    "dense": dict(dense=True),
    "normalised": dict(normalize=True),
    "dense and normalised": dict(dense=True, normalize=True),
}
every_case = pytest.mark.parametrize("case", CASES)


def close(ours: Tensor, expected: Tensor, tolerance: float = 1e-10) -> None:
    torch.testing.assert_close(ours, expected, rtol=tolerance, atol=tolerance)


def independent_target(
    problem: Problem, goal: Tensor, entropy_coef: float = ENTROPY_COEF
) -> Tensor:
    """SAC's target by PyTorch's distributions, by the goal, the noise held still; (batch,)."""
    agent, b = problem.agent, problem.batch
    inputs = agent.normalizer(torch.cat([b.next_obs, goal], 1))
    mean, log_std = agent.actor.net(inputs).tensor_split(2, dim=1)
    u = mean + log_std.exp() * problem.noise
    action = torch.tanh(u)
    log_slope = TanhTransform().log_abs_det_jacobian(u, action)
    log_prob = (Normal(mean, log_std.exp()).log_prob(u) - log_slope).sum(1)
    first, second = (critic(b.next_obs, goal, action) for critic in agent.target_critics)
    next_value = torch.where(first < second, first, second) - entropy_coef * log_prob
    reward = b.reward
    if problem.reward_grad is not None:
        reward = -(b.next_achieved_goal - goal).norm(dim=1)
    return reward + GAMMA * (1 - b.terminated) * next_value


@every_case
def test_both_critics_gradients_equal_finite_differences_of_the_loss(case: str):
    problem = make_problem(**CASES[case])
    expected = finite_differences(lambda: problem.loss()[0], problem.agent.critic_params)
    close(problem.gradient(), expected, 1e-6)


def test_the_target_gradient_passes_through_the_sampled_action_and_through_the_entropy():
    """Finite differences by the goal; leaving either path out gives another number."""
    problem = make_problem()
    goal = problem.batch.goal

    @torch.no_grad()
    def term(entropy_coef: float = ENTROPY_COEF) -> float:
        def q_minus_target(i: int, goal: Tensor) -> Tensor:
            return problem.qs(goal)[i] - independent_target(problem, goal, entropy_coef)

        squares = 0.0
        for i in range(2):
            difference = slopes(lambda goal, i=i: q_minus_target(i, goal), goal)
            squares = squares + (problem.mask()[:, None] * difference).square().mean()
        return 0.5 * squares.item()

    loss, curves = problem.loss()
    ours = curves["losses/gradient"].item()
    assert ours == pytest.approx(term(), rel=1e-6)
    assert loss.item() == pytest.approx(curves["losses/value"].item() + 0.7 * ours)
    assert ours != pytest.approx(term(entropy_coef=0.0), rel=1e-3)
    net = problem.agent.actor.net  # now the policy sees a goal that does not move
    at_goal = net(torch.cat([problem.batch.next_obs, goal], 1)).detach()
    net.register_forward_hook(lambda *_: at_goal)
    assert ours != pytest.approx(term(), rel=1e-3)


@every_case
def test_the_target_is_a_constant_even_where_the_target_critics_are_the_critics(case: str):
    problem = make_problem(**CASES[case])
    agent = problem.agent
    agent.critics.load_state_dict(agent.target_critics.state_dict())
    expected = problem.gradient()
    agent.target_critics = agent.critics
    close(problem.gradient(), expected)


def test_the_entropys_loss_is_that_of_haarnoja_et_al():
    """J(c) = -log c (log pi + target entropy), the target being -dim(a)."""
    problem = make_problem()
    log_prob = torch.tensor(0.8).double()
    loss, curves = entropy_loss(problem.agent, problem.batch, problem.args, -log_prob)
    log_c = problem.agent.log_c
    close(loss, -log_c * (log_prob - ACTION_DIM))
    (log_c_grad,) = torch.autograd.grad(loss, log_c)
    close(log_c_grad, ACTION_DIM - log_prob)
    assert curves["sac/entropy_coefficient"].item() == pytest.approx(ENTROPY_COEF)


# The policy


def test_log_probabilities_are_those_of_a_gaussian_behind_tanh():
    problem = make_problem()
    actor, batch = problem.agent.actor, problem.batch
    action, log_prob = actor(batch.obs, batch.goal, problem.noise)
    mean, log_std = actor.net(torch.cat([batch.obs, batch.goal], 1)).chunk(2, dim=1)
    policy = TransformedDistribution(Normal(mean, log_std.exp()), TanhTransform())
    close(log_prob, policy.log_prob(action).sum(1), 1e-9)


def actor_with(mean: float, log_std: float) -> GaussianActor:
    """A policy that ignores its input."""
    actor = GaussianActor(Normalizer(2, False), mlp((2, 2), xavier_init=True))
    with torch.no_grad():
        actor.net[0].weight.zero_()
        actor.net[0].bias.copy_(torch.tensor([mean, log_std]))
    return actor


@pytest.mark.parametrize("mean", [-100.0, -10.0, 0.0, 10.0, 100.0])
def test_log_probabilities_and_their_gradients_stay_finite_at_the_edge_of_the_action_space(
    mean: float,
):
    actor, inputs = actor_with(mean, 2.0), torch.zeros(100, 1)
    action, log_prob = actor(inputs, inputs, torch.linspace(-3, 3, 100)[:, None])
    log_prob.sum().backward()
    assert action.isfinite().all()
    assert log_prob.isfinite().all()
    assert actor.net[0].bias.grad.isfinite().all()


@pytest.mark.parametrize("log_std, used", [(-30.0, -20.0), (-1.0, -1.0), (9.0, 2.0)])
def test_the_log_deviation_is_clamped(log_std: float, used: float):
    actor, inputs = actor_with(0.3, log_std).double(), torch.zeros(2, 1).double()
    action, _ = actor(inputs, inputs, torch.tensor([[-1.0], [1.0]]).double())
    below, above = action.atanh().flatten().tolist()
    assert (above - below) / 2 == pytest.approx(math.exp(used), rel=1e-6, abs=1e-12)


def test_acting_is_the_mean_by_default_and_leaves_the_random_numbers_of_training_alone():
    actor = actor_with(0.3, 0.0)
    obs = {key: np.zeros((5, 1), np.float32) for key in ("observation", "desired_goal")}
    state = torch.get_rng_state()
    np.testing.assert_allclose(actor.act(obs), np.tanh(np.full((5, 1), 0.3)), rtol=1e-6)
    assert torch.equal(torch.get_rng_state(), state)
    assert len(np.unique(actor.act(obs, mean_only=False))) == 5
