"""SAC's losses with the gradient term: by finite differences and independent derivations."""

import copy
import math
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from numerics import finite_differences, flat, gradient, make_agent, slopes
from torch import Tensor, nn
from torch.distributions import Normal, TanhTransform, TransformedDistribution

from algos import ddpg_her_reengage, sac_her_reengage
from algos.sac_her_reengage import (
    Args,
    Batch,
    Critic,
    GaussianActor,
    Normalizer,
    mlp,
    sac_actor_loss,
    sac_critic_loss,
)

torch.set_num_threads(1)

OBS_DIM, GOAL_DIM, ACTION_DIM, BATCH = 3, 2, 2, 24
GAMMA = 0.9
ENTROPY_COEF = 0.6


@dataclass
class Problem:
    """Everything that `sac_critic_loss` is given. Actions are always drawn by the same noise."""

    agent: Any
    batch: Batch
    args: Args
    reward_grad: Tensor | None  # (batch, goal_dim)

    def loss(self) -> tuple[Tensor, dict]:
        torch.manual_seed(1)
        return sac_critic_loss(self.agent, self.batch, self.args, self.reward_grad)

    def grad_loss(self) -> Tensor:
        return self.loss()[1]["grad_loss"]

    def noise(self) -> Tensor:  # (batch, action_dim), that of `loss`
        torch.manual_seed(1)
        return torch.randn_like(self.batch.action)

    def gradient(self) -> Tensor:
        """By the critics' parameters, flat."""
        return gradient(self.loss()[0], self.agent.critic_params)

    def set_alpha(self, alpha: float | str) -> None:
        self.args.alpha = alpha
        self.agent.weight.alpha = alpha

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
        agent.entropy_coef.log_c.fill_(math.log(ENTROPY_COEF))
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
    problem = Problem(agent, batch, args, difference / distance[:, None] if dense else None)
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
    u = mean + log_std.exp() * problem.noise()
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


@every_case
def test_loss_and_gradient_equal_a_derivation_by_torch_func_and_distributions(case: str):
    problem = make_problem(**CASES[case])
    b, critics = problem.batch, problem.agent.critics
    target = independent_target(problem, b.goal).detach()
    target_grad = torch.func.grad(lambda goal: independent_target(problem, goal).sum())(b.goal)
    scale = torch.ones(GOAL_DIM).double()
    if problem.args.normalize:
        scale = problem.agent.normalizer.std[OBS_DIM:]

    def loss_of(critic: Critic, own: dict[str, Tensor]) -> Tensor:
        def q_of(goal: Tensor, obs: Tensor, action: Tensor) -> Tensor:
            inputs = obs[None], goal[None], action[None]
            return torch.func.functional_call(critic, own, inputs)[0]

        q_grad, q = torch.func.vmap(torch.func.grad_and_value(q_of))(b.goal, b.obs, b.action)
        squares = ((q_grad - target_grad) * scale) ** 2  # (batch, goal_dim)
        grad_loss = (squares.sum(1) * problem.mask()).sum() / (BATCH * GOAL_DIM)
        return 0.5 * (((q - target) ** 2).sum() / BATCH + problem.args.alpha * grad_loss)

    def loss(params: list[dict[str, Tensor]]) -> Tensor:
        return loss_of(critics[0], params[0]) + loss_of(critics[1], params[1])

    params = []
    for critic in critics:
        params.append({name: param.detach() for name, param in critic.named_parameters()})
    gradients, value = torch.func.grad_and_value(loss)(params)
    close(problem.loss()[0].detach(), value)
    close(problem.gradient(), flat([*gradients[0].values(), *gradients[1].values()]))


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

    ours = problem.grad_loss().item()
    assert ours == pytest.approx(term(), rel=1e-6)
    assert ours != pytest.approx(term(entropy_coef=0.0), rel=0.01)
    net = problem.agent.actor.net  # now the policy sees a goal that does not move
    at_goal = net(torch.cat([problem.batch.next_obs, goal], 1)).detach()
    net.register_forward_hook(lambda *_: at_goal)
    assert ours != pytest.approx(term(), rel=0.01)


def test_the_target_is_the_smaller_of_the_two_and_its_gradient_is_that_ones():
    problem = make_problem()
    small, large = problem.agent.target_critics
    with torch.no_grad():
        large.net[-1].bias += 100
    loss, gradient = problem.loss()[0], problem.gradient()
    with torch.no_grad():
        for layer in large.net[::2]:
            layer.weight += 0.1 * torch.randn_like(layer.weight)
    assert torch.equal(problem.loss()[0], loss)
    assert torch.equal(problem.gradient(), gradient)
    with torch.no_grad():
        small.net[0].weight += 0.1
    assert not problem.loss()[0].isclose(loss)


def test_both_critics_are_matched_to_the_same_target_and_weigh_the_same():
    problem = make_problem()
    loss, ours = problem.loss()[0], problem.gradient()
    count = len(ours) // 2
    critics = problem.agent.critics
    problem.agent.critics = nn.ModuleList(reversed(critics))
    close(problem.loss()[0], loss)
    for params in (critics[0].parameters(), critics[1].parameters()):
        assert gradient(problem.loss()[0], params).abs().max() > 0
    close(problem.gradient(), ours)
    problem.agent.critics = critics
    critics[0].load_state_dict(critics[1].state_dict())
    close(problem.gradient()[:count], problem.gradient()[count:])


def test_without_entropy_and_spread_and_with_equal_critics_it_is_ddpg_with_reengage():
    problem = make_problem()
    agent = problem.agent
    agent.critics[1].load_state_dict(agent.critics[0].state_dict())
    agent.target_critics[1].load_state_dict(agent.target_critics[0].state_dict())
    last = agent.actor.net[-1]
    with torch.no_grad():
        agent.entropy_coef.log_c.fill_(-math.inf)
        last.weight[ACTION_DIM:] = 0
        last.bias[ACTION_DIM:] = -50  # log deviation, far below its clamp at -20
    ddpg_net = copy.deepcopy(agent.actor.net)
    ddpg_net[-1] = nn.Linear(8, ACTION_DIM).double()
    with torch.no_grad():
        ddpg_net[-1].weight.copy_(last.weight[:ACTION_DIM])
        ddpg_net[-1].bias.copy_(last.bias[:ACTION_DIM])
    ddpg = SimpleNamespace(
        critic=agent.critics[0],
        target_critic=agent.target_critics[0],
        target_actor=ddpg_her_reengage.Actor(agent.normalizer, ddpg_net).requires_grad_(False),
        normalizer=agent.normalizer,
        weight=agent.weight,
    )
    args = ddpg_her_reengage.Args(alpha=0.7, c_low=-1.0, gamma=GAMMA)
    expected, info = ddpg_her_reengage.reengage_critic_loss(ddpg, problem.batch, args, None)
    loss, our_info = problem.loss()
    close(loss, expected, 1e-7)
    for name in info:
        close(our_info[name], info[name], 1e-6)


def test_masked_rows_contribute_nothing_to_the_gradient_term():
    problem = make_problem()
    term, masked = problem.grad_loss(), (problem.mask() == 0)[:, None]
    for name in ("obs", "goal", "action", "next_obs"):
        array = getattr(problem.batch, name)
        changed = torch.where(masked, array + 1, array)
        problem.batch = problem.batch._replace(**{name: changed})
    close(problem.grad_loss(), term, 1e-12)


def test_c_low_says_which_rows_of_a_sparse_reward_count():
    problem = make_problem()
    term = problem.grad_loss()
    problem.batch = problem.batch._replace(reward=problem.batch.reward + 1)  # 0 and 1 ...
    problem.args.c_low = 0.0  # ... of which 0 is the low one
    close(problem.grad_loss(), term, 1e-12)


@every_case
def test_no_gradient_reaches_the_actor_the_target_networks_or_the_entropy(case: str):
    problem = make_problem(**CASES[case])
    agent = problem.agent
    agent.target_critics.requires_grad_(True)
    others = [*agent.actor_params, *agent.target_params, agent.entropy_coef.log_c]
    grads = torch.autograd.grad(problem.loss()[0], others, allow_unused=True)
    assert all(grad is None for grad in grads)


@every_case
def test_the_target_is_a_constant_even_where_the_target_critics_are_the_critics(case: str):
    problem = make_problem(**CASES[case])
    agent = problem.agent
    agent.critics.load_state_dict(agent.target_critics.state_dict())
    expected = problem.gradient()
    agent.target_critics = agent.critics
    close(problem.gradient(), expected)


def test_alpha_0_is_sac_and_builds_no_graph_for_the_goal():
    problem = make_problem()
    problem.set_alpha(0.0)
    target = independent_target(problem, problem.batch.goal).detach()
    errors = problem.qs(problem.batch.goal) - target
    loss, info = problem.loss()
    close(loss, errors.square().mean(1).sum() / 2, 1e-12)
    assert info.keys() == {"value_loss", "q", "target", "alpha"}
    assert not info["target"].requires_grad


def test_alpha_that_finds_itself_is_a_constant_of_the_loss():
    problem = make_problem()
    problem.set_alpha("auto")
    problem.agent.weight.updates.fill_(999)  # the next update is the last one that waits
    assert problem.loss()[1]["alpha"] == 0
    ours = problem.gradient()
    alpha = problem.loss()[1]["alpha"].item()
    assert alpha > 0
    problem.set_alpha(alpha)
    close(ours, problem.gradient(), 1e-6)


def test_bfloat16_rounds_only_matrix_products_and_stays_near_float32():
    problem, dtypes = make_problem(normalize=True), []
    agent = problem.agent
    for network in (*agent.critics, *agent.target_critics, agent.actor):
        network.float()
        network.net.register_forward_hook(lambda _, __, output: dtypes.append(output.dtype))
    agent.entropy_coef.float()
    problem.batch = Batch(*(array.float() for array in problem.batch))

    def results() -> tuple[Tensor, Tensor, Tensor]:
        """The critics' loss and gradient, and the actor's gradient."""
        torch.manual_seed(1)
        actor_loss, _ = sac_actor_loss(agent, problem.batch)
        actor_gradient = gradient(actor_loss, agent.actor_params)
        return problem.loss()[0], problem.gradient(), actor_gradient

    expected = results()
    assert set(dtypes) == {torch.float32}
    dtypes.clear()
    with torch.autocast("cpu", torch.bfloat16):  # as the script does with --matmul-precision medium
        rounded = results()
    assert set(dtypes) == {torch.bfloat16}
    for ours, theirs in zip(rounded, expected, strict=True):
        assert ours.dtype == torch.float32
        assert 0 < (ours - theirs).norm() < 0.05 * theirs.norm()


def test_the_actors_loss_is_the_weighted_log_probability_minus_the_smaller_q():
    problem = make_problem()
    agent, b = problem.agent, problem.batch
    torch.manual_seed(1)
    loss, log_prob = sac_actor_loss(agent, b)
    torch.manual_seed(1)
    action, log_probs = agent.actor(b.obs, b.goal)
    qs = torch.stack([critic(b.obs, b.goal, action) for critic in agent.critics])
    close(loss, (ENTROPY_COEF * log_probs - qs.min(0).values).mean(), 1e-12)
    close(log_prob, log_probs.mean().detach())
    assert not log_prob.requires_grad


# The policy


def test_log_probabilities_are_those_of_a_gaussian_behind_tanh():
    problem = make_problem()
    actor, batch = problem.agent.actor, problem.batch
    torch.manual_seed(3)
    action, log_prob = actor(batch.obs, batch.goal)
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
    action, log_prob = actor(inputs, inputs)
    log_prob.sum().backward()
    assert action.isfinite().all()
    assert log_prob.isfinite().all()
    assert actor.net[0].bias.grad.isfinite().all()


@pytest.mark.parametrize("log_std, used", [(-30.0, -20.0), (-1.0, -1.0), (9.0, 2.0)])
def test_the_log_deviation_is_clamped(log_std: float, used: float):
    actor, inputs = actor_with(0.3, log_std).double(), torch.zeros(4000, 1).double()
    torch.manual_seed(0)
    action, _ = actor(inputs, inputs)
    one_deviation_away = torch.tensor([0.1587, 0.8413]).double()
    below, above = action.atanh().quantile(one_deviation_away)
    assert (above - below).item() / 2 == pytest.approx(math.exp(used), rel=0.05, abs=1e-9)


def test_acting_is_the_mean_by_default_and_leaves_the_random_numbers_of_training_alone():
    actor = actor_with(0.3, 0.0)
    obs = {key: np.zeros((5, 1), np.float32) for key in ("observation", "desired_goal")}
    state = torch.get_rng_state()
    np.testing.assert_allclose(actor.act(obs), np.tanh(np.full((5, 1), 0.3)), rtol=1e-6)
    assert torch.equal(torch.get_rng_state(), state)
    assert len(np.unique(actor.act(obs, mean_only=False))) == 5
