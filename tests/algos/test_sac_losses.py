"""The losses of SAC with the gradient term: against finite differences and independent derivations, in float64."""

import copy
import math
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from algos import ddpg_her_reengage
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


@dataclass
class Problem:
    """Networks, a batch, and everything else that `sac_critic_loss` is given. Actions are drawn by the same noise."""

    critics: nn.ModuleList
    target_critics: nn.ModuleList
    actor: GaussianActor
    batch: Batch
    args: Args
    reward_grad: Tensor | None  # (batch, goal_dim)
    entropy_coef: Tensor

    def loss(self) -> tuple[Tensor, dict]:
        torch.manual_seed(1)
        networks = self.critics, self.target_critics, self.actor
        return sac_critic_loss(
            *networks, self.entropy_coef, self.batch, self.args, self.reward_grad
        )

    def noise(self) -> Tensor:  # (batch, action_dim), the noise of `loss`
        torch.manual_seed(1)
        return torch.randn_like(self.batch.action)

    def gradient(self) -> Tensor:  # (number of the critics' parameters,)
        return flat(
            torch.autograd.grad(
                self.loss()[0], list(self.critics.parameters()), materialize_grads=True
            )
        )

    def mask(self) -> Tensor:  # (batch,)
        return (
            torch.ones(BATCH).double()
            if self.reward_grad is not None
            else (self.batch.reward == -1).double()
        )


def flat(tensors: list[Tensor] | tuple[Tensor, ...]) -> Tensor:
    return torch.cat([tensor.reshape(-1) for tensor in tensors])


def make_problem(dense: bool = False, normalize: bool = False) -> Problem:
    """A random one with alpha = 0.7 and entropy coefficient 0.6."""
    torch.manual_seed(0)
    normalizers = Normalizer(OBS_DIM, normalize), Normalizer(GOAL_DIM, normalize)
    goal = torch.tensor([0.5, -1.0]) + torch.tensor([0.2, 3.0]) * torch.randn(BATCH, GOAL_DIM)
    if normalize:
        normalizers[0].update(2 + 0.5 * torch.randn(100, OBS_DIM))
        normalizers[1].update(goal)
    in_dim = OBS_DIM + GOAL_DIM

    def critics() -> nn.ModuleList:
        nets = [mlp((in_dim + ACTION_DIM, 8, 8, 1), xavier_init=False) for _ in range(2)]
        return nn.ModuleList(Critic(*normalizers, net) for net in nets).double()

    actor = GaussianActor(*normalizers, mlp((in_dim, 8, 2 * ACTION_DIM), xavier_init=True)).double()
    with torch.no_grad():
        actor.net[
            -1
        ].weight *= 0.3  # a log std inside its clamp: outside, there is no gradient to test
    difference = torch.randn(BATCH, GOAL_DIM).double()
    batch = Batch(
        obs=2 + torch.randn(BATCH, OBS_DIM),
        goal=goal,
        action=torch.rand(BATCH, ACTION_DIM) * 2 - 1,
        reward=-difference.norm(dim=1) if dense else -(torch.rand(BATCH) < 0.6).float(),
        next_obs=2 + torch.randn(BATCH, OBS_DIM),
        achieved_goal=goal.double() + difference,
        terminated=(torch.rand(BATCH) < 0.2).float(),
    )
    problem = Problem(
        critics(),
        critics().requires_grad_(False),
        actor,
        Batch(*(array.double() for array in batch)),
        Args(alpha=0.7, gamma=GAMMA, normalize=normalize),
        difference / difference.norm(dim=1, keepdim=True) if dense else None,
        torch.tensor(0.6, dtype=torch.float64),
    )
    # A test on this problem means nothing unless both sides of every case distinction occur in it
    with torch.no_grad():
        b = problem.batch
        first, second = (critic(b.next_obs, b.goal, b.action) for critic in problem.target_critics)
        problem.target_critics[1].net[-1].bias += (
            first - second
        ).median()  # now each is the smaller one for about half
        second = problem.target_critics[1](b.next_obs, b.goal, b.action)
        assert 4 < (first < second).sum() < BATCH - 4
    assert 0 < problem.batch.terminated.sum() < BATCH and (
        dense or 0 < problem.mask().sum() < BATCH
    )
    return problem


CASES = {
    "sparse": dict(),
    "dense": dict(dense=True),
    "normalised": dict(normalize=True),
    "dense and normalised": dict(dense=True, normalize=True),
}
every_case = pytest.mark.parametrize("case", CASES)


def independent_target(problem: Problem, goal: Tensor, entropy_coef: float | None = None) -> Tensor:
    """SAC's target by PyTorch's distributions, as a function of the goal with the noise held still; (batch,)."""
    b, coef = problem.batch, problem.entropy_coef if entropy_coef is None else entropy_coef
    inputs = torch.cat(
        [problem.actor.obs_normalizer(b.next_obs), problem.actor.goal_normalizer(goal)], 1
    )
    mean, log_std = problem.actor.net(inputs).tensor_split(2, dim=1)
    normal = torch.distributions.Normal(mean, log_std.exp())
    u = mean + log_std.exp() * problem.noise()
    action = torch.tanh(u)
    log_slope = torch.distributions.TanhTransform().log_abs_det_jacobian(u, action)
    log_prob = (normal.log_prob(u) - log_slope).sum(1)
    first, second = (critic(b.next_obs, goal, action) for critic in problem.target_critics)
    next_value = torch.where(first < second, first, second) - coef * log_prob
    reward = b.reward if problem.reward_grad is None else -(b.achieved_goal - goal).norm(dim=1)
    return reward + GAMMA * (1 - b.terminated) * next_value


@every_case
def test_both_critics_gradients_equal_finite_differences_of_the_loss(case: str) -> None:
    problem, step = make_problem(**CASES[case]), 1e-6
    differences = []
    for param in problem.critics.parameters():
        values = param.data.view(-1)
        for i in range(0, len(values), 3):  # every third: there are two critics
            value = values[i].item()
            values[i] = value + step
            above = problem.loss()[0].item()
            values[i] = value - step
            below = problem.loss()[0].item()
            values[i] = value
            differences.append((above - below) / (2 * step))
    gradients = torch.autograd.grad(
        problem.loss()[0], list(problem.critics.parameters()), materialize_grads=True
    )
    gradient = torch.cat([grad.reshape(-1)[::3] for grad in gradients])
    torch.testing.assert_close(
        gradient, torch.tensor(differences).to(gradient), rtol=1e-6, atol=1e-6
    )


@every_case
def test_loss_and_gradient_equal_a_derivation_by_torch_func_and_pytorchs_distributions(
    case: str,
) -> None:
    problem = make_problem(**CASES[case])
    b = problem.batch
    target = independent_target(problem, b.goal).detach()
    target_grad = torch.func.grad(lambda goal: independent_target(problem, goal).sum())(b.goal)
    scale = (
        problem.actor.goal_normalizer.std
        if problem.args.normalize
        else torch.ones(GOAL_DIM).double()
    )

    def loss(params: tuple[dict[str, Tensor], dict[str, Tensor]]) -> Tensor:
        total = 0.0
        for critic, own in zip(problem.critics, params, strict=True):

            def q_of(
                goal: Tensor, obs: Tensor, action: Tensor, critic: Critic = critic, own: dict = own
            ) -> Tensor:
                return torch.func.functional_call(
                    critic, own, (obs[None], goal[None], action[None])
                )[0]

            q_grad, q = torch.func.vmap(torch.func.grad_and_value(q_of))(b.goal, b.obs, b.action)
            squares = ((q_grad - target_grad) * scale) ** 2  # (batch, goal_dim)
            grad_loss = (squares.sum(1) * problem.mask()).sum() / (BATCH * GOAL_DIM)
            total = total + 0.5 * (
                ((q - target) ** 2).sum() / BATCH + problem.args.alpha * grad_loss
            )
        return total

    params = tuple(
        {name: p.detach() for name, p in critic.named_parameters()} for critic in problem.critics
    )
    gradients, value = torch.func.grad_and_value(loss)(params)
    torch.testing.assert_close(problem.loss()[0].detach(), value, rtol=1e-10, atol=1e-10)
    expected = flat([grad for own in gradients for grad in own.values()])
    torch.testing.assert_close(problem.gradient(), expected, rtol=1e-10, atol=1e-10)


def test_the_target_gradient_passes_through_the_sampled_action_and_through_the_entropy_term() -> (
    None
):
    """Finite differences by the goal, no automatic differentiation; leaving either path out gives another number."""
    problem, step = make_problem(), 1e-6
    b = problem.batch

    def term(
        target: Tensor | None = None, entropy_coef: float | None = None, frozen_action: bool = False
    ) -> float:
        if frozen_action:  # the policy looks at another copy of the goal, which does not move
            actor, problem.actor = problem.actor, copy.deepcopy(problem.actor)
            forward, at = problem.actor.net.forward, torch.cat([b.next_obs, b.goal], 1)
            problem.actor.net.forward = lambda inputs: forward(at)
        columns = []
        for shift in step * torch.eye(GOAL_DIM).double():
            sides = []
            for goal in (b.goal + shift, b.goal - shift):
                with torch.no_grad():
                    y = independent_target(problem, goal, entropy_coef)
                    sides.append(
                        torch.stack(
                            [critic(b.obs, goal, b.action) - y for critic in problem.critics]
                        )
                    )
            columns.append((sides[0] - sides[1]) / (2 * step))  # (2, batch)
        if frozen_action:
            problem.actor = actor
        squares = torch.stack(columns, 2).square() * problem.mask()[:, None]  # (2, batch, goal_dim)
        return 0.5 * squares.mean((1, 2)).sum().item()

    ours = problem.loss()[1]["grad_loss"].item()
    assert ours == pytest.approx(term(), rel=1e-6)
    assert ours != pytest.approx(term(entropy_coef=0.0), rel=0.01)
    assert ours != pytest.approx(term(frozen_action=True), rel=0.01)


def test_the_target_is_the_smaller_of_the_two_and_its_gradient_is_that_ones() -> None:
    problem = make_problem()
    small, large = problem.target_critics
    with torch.no_grad():
        large.net[-1].bias += 100
    loss, gradient = problem.loss()[0], problem.gradient()
    with torch.no_grad():
        for layer in large.net[::2]:
            layer.weight += 0.1 * torch.randn_like(layer.weight)
    torch.testing.assert_close(problem.loss()[0], loss, rtol=0, atol=0)
    torch.testing.assert_close(problem.gradient(), gradient, rtol=0, atol=0)
    with torch.no_grad():
        small.net[0].weight += 0.1
    assert not problem.loss()[0].isclose(loss)


def test_both_critics_are_matched_to_the_same_target_and_weigh_the_same() -> None:
    problem = make_problem()
    loss, count = problem.loss()[0], len(problem.gradient()) // 2
    gradient = problem.gradient()
    problem.critics = nn.ModuleList(reversed(problem.critics))
    torch.testing.assert_close(problem.loss()[0], loss, rtol=1e-12, atol=0)
    torch.testing.assert_close(problem.gradient(), torch.cat([gradient[count:], gradient[:count]]))


def test_without_entropy_and_spread_and_with_equal_critics_it_is_the_loss_of_ddpg_with_reengage() -> (
    None
):
    problem = make_problem()
    problem.critics[1].load_state_dict(problem.critics[0].state_dict())
    problem.target_critics[1].load_state_dict(problem.target_critics[0].state_dict())
    problem.entropy_coef.zero_()
    last = problem.actor.net[-1]
    with torch.no_grad():
        last.weight[ACTION_DIM:], last.bias[ACTION_DIM:] = (
            0,
            -50,
        )  # log std far below its clamp at -20
        ddpg_net = mlp((OBS_DIM + GOAL_DIM, 8, ACTION_DIM), xavier_init=False).double()
        ddpg_net[0].load_state_dict(problem.actor.net[0].state_dict())
        ddpg_net[2].weight.copy_(last.weight[:ACTION_DIM])
        ddpg_net[2].bias.copy_(last.bias[:ACTION_DIM])
    normalizers = problem.actor.obs_normalizer, problem.actor.goal_normalizer
    target_actor = ddpg_her_reengage.Actor(*normalizers, ddpg_net).requires_grad_(False)
    args = ddpg_her_reengage.Args(alpha=0.7, gamma=GAMMA)
    networks = problem.critics[0], problem.target_critics[0], target_actor
    expected, info = ddpg_her_reengage.reengage_critic_loss(*networks, problem.batch, args, None)
    loss, our_info = problem.loss()
    torch.testing.assert_close(loss, expected, rtol=1e-7, atol=1e-7)
    torch.testing.assert_close(our_info["grad_loss"], info["grad_loss"], rtol=1e-7, atol=1e-7)


def test_masked_rows_contribute_nothing_to_the_gradient_term() -> None:
    problem = make_problem()
    term, masked = problem.loss()[1]["grad_loss"], (problem.mask() == 0)[:, None]
    fields = {name: getattr(problem.batch, name) for name in ("obs", "goal", "action", "next_obs")}
    problem.batch = problem.batch._replace(
        **{k: torch.where(masked, v + 1, v) for k, v in fields.items()}
    )
    torch.testing.assert_close(problem.loss()[1]["grad_loss"], term, rtol=1e-12, atol=0)


@every_case
def test_no_gradient_reaches_the_actor_or_the_target_networks(case: str) -> None:
    problem = make_problem(**CASES[case])
    others = [
        *problem.actor.parameters(),
        *problem.target_critics.requires_grad_(True).parameters(),
    ]
    problem.entropy_coef.requires_grad_(True)
    gradients = torch.autograd.grad(
        problem.loss()[0], [*others, problem.entropy_coef], allow_unused=True
    )
    assert all(grad is None for grad in gradients)


def test_alpha_0_is_sac_and_builds_no_graph_for_the_goal() -> None:
    problem = make_problem()
    problem.args.alpha = 0.0
    target = independent_target(problem, problem.batch.goal).detach()
    qs = [
        critic(problem.batch.obs, problem.batch.goal, problem.batch.action)
        for critic in problem.critics
    ]
    expected = sum(((q - target) ** 2).mean() for q in qs) / 2
    loss, info = problem.loss()
    torch.testing.assert_close(loss, expected, rtol=1e-12, atol=1e-12)
    assert info.keys() == {"value_loss", "q", "entropy_coef"}


def test_in_bfloat16_only_matrix_products_are_rounded_and_losses_and_gradients_stay_near_those_of_float32() -> (
    None
):
    problem, dtypes = make_problem(normalize=True), []
    for network in (*problem.critics, *problem.target_critics, problem.actor):
        network.float()
        network.net.register_forward_hook(lambda _, __, output: dtypes.append(output.dtype))
    problem.batch = Batch(*(array.float() for array in problem.batch))
    problem.entropy_coef = problem.entropy_coef.float()

    def results() -> tuple[Tensor, Tensor, Tensor]:
        """The critics' loss and gradient, and that of the actor."""
        critic_loss, gradient = problem.loss()[0], problem.gradient()
        torch.manual_seed(1)
        actor_loss, _ = sac_actor_loss(
            problem.critics, problem.actor, problem.entropy_coef, problem.batch
        )
        return (
            critic_loss,
            gradient,
            flat(torch.autograd.grad(actor_loss, list(problem.actor.net.parameters()))),
        )

    expected = results()
    assert set(dtypes) == {torch.float32}
    dtypes.clear()
    with torch.autocast("cpu", torch.bfloat16):  # as the script does with --matmul-precision medium
        rounded = results()
    assert set(dtypes) == {torch.bfloat16}
    for ours, theirs in zip(rounded, expected, strict=True):
        assert ours.dtype == torch.float32
        assert 0 < (ours - theirs).norm() < 0.05 * theirs.norm()


def test_the_actors_loss_is_the_weighted_log_probability_minus_the_smaller_q() -> None:
    problem = make_problem()
    torch.manual_seed(1)
    loss, log_prob = sac_actor_loss(
        problem.critics, problem.actor, problem.entropy_coef, problem.batch
    )
    torch.manual_seed(1)
    action, log_probs = problem.actor(problem.batch.obs, problem.batch.goal)
    qs = torch.stack(
        [critic(problem.batch.obs, problem.batch.goal, action) for critic in problem.critics]
    )
    torch.testing.assert_close(
        loss, (0.6 * log_probs - qs.min(0).values).mean(), rtol=1e-12, atol=1e-12
    )
    torch.testing.assert_close(log_prob, log_probs.mean().detach())
    assert not log_prob.requires_grad


# ---- the policy ------------------------------------------------------------------------------------------------------


def test_log_probabilities_are_those_of_a_gaussian_behind_tanh() -> None:
    actor, batch = make_problem().actor, make_problem().batch
    torch.manual_seed(3)
    action, log_prob = actor(batch.obs, batch.goal)
    mean, log_std = actor.net(torch.cat([batch.obs, batch.goal], 1)).chunk(2, dim=1)
    normal = torch.distributions.Normal(mean, log_std.exp())
    policy = torch.distributions.TransformedDistribution(
        normal, torch.distributions.TanhTransform()
    )
    torch.testing.assert_close(log_prob, policy.log_prob(action).sum(1), rtol=1e-9, atol=1e-9)


def actor_with(mean: float, log_std: float) -> GaussianActor:
    """A policy that ignores its input."""
    actor = GaussianActor(Normalizer(1, False), Normalizer(1, False), mlp((2, 2), xavier_init=True))
    with torch.no_grad():
        actor.net[0].weight.zero_()
        actor.net[0].bias.copy_(torch.tensor([mean, log_std]))
    return actor


@pytest.mark.parametrize("mean", [-100.0, -10.0, 0.0, 10.0, 100.0])
def test_log_probabilities_and_their_gradients_stay_finite_at_the_edge_of_the_action_space(
    mean: float,
) -> None:
    actor, inputs = actor_with(mean, 2.0), torch.zeros(100, 1)
    action, log_prob = actor(inputs, inputs)
    log_prob.sum().backward()
    assert (
        action.isfinite().all()
        and log_prob.isfinite().all()
        and actor.net[0].bias.grad.isfinite().all()
    )


@pytest.mark.parametrize("log_std, used", [(-30.0, -20.0), (-1.0, -1.0), (9.0, 2.0)])
def test_the_log_standard_deviation_is_clamped(log_std: float, used: float) -> None:
    actor, inputs = actor_with(0.3, log_std).double(), torch.zeros(4000, 1).double()
    torch.manual_seed(0)
    action, _ = actor(inputs, inputs)
    below, above = action.atanh().quantile(
        torch.tensor([0.1587, 0.8413]).double()
    )  # one standard deviation away
    assert (above - below).item() / 2 == pytest.approx(math.exp(used), rel=0.05, abs=1e-9)


def test_acting_is_the_mean_by_default_and_leaves_the_random_numbers_of_training_alone() -> None:
    actor = actor_with(0.3, 0.0)
    obs = {key: np.zeros((5, 1), np.float32) for key in ("observation", "desired_goal")}
    state = torch.get_rng_state()
    np.testing.assert_allclose(actor.act(obs), np.tanh(np.full((5, 1), 0.3)), rtol=1e-6)
    assert torch.equal(torch.get_rng_state(), state)
    assert len(np.unique(actor.act(obs, mean_only=False))) == 5
