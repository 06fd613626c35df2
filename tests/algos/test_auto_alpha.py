"""--alpha auto: alpha warms up, has no unit, and cannot run away."""

from dataclasses import dataclass
from types import ModuleType
from typing import Any

import pytest
import torch
from gymnasium.spaces import Discrete
from numerics import make_agent
from torch import Tensor, nn

from algos import ddpg_her_reengage, dqn_her_reengage_bitflip, sac_her_reengage
from algos.ddpg_her_reengage import Args, AutoAlpha

torch.set_num_threads(1)

WARMUP = 100


def losses(updates: int) -> Tensor:
    """Value and gradient losses of some updates, (updates, 2), around 1 and 2."""
    noise = torch.rand(updates, 2, generator=torch.Generator().manual_seed(0))
    return (0.5 + noise) * torch.tensor([1.0, 2.0])


def auto(ratio: float = 0.1, averaging: float = 0.02) -> AutoAlpha:
    flags = dict(alpha_ratio=ratio, alpha_warmup=WARMUP, alpha_averaging=averaging)
    return AutoAlpha(Args(alpha="auto", **flags))


def alphas(auto_alpha: AutoAlpha, pairs: Tensor) -> Tensor:
    """alpha at each update, (updates,)."""
    return torch.stack([auto_alpha(value_loss, grad_loss) for value_loss, grad_loss in pairs])


def test_the_first_updates_have_no_gradient_term():
    found = alphas(auto(), losses(WARMUP + 1))
    assert found[:WARMUP].eq(0).all()
    assert found[WARMUP] > 0


@pytest.mark.parametrize("ratio", [0.1, 0.5])
def test_then_the_weighted_gradient_loss_is_the_ratio_of_the_value_loss(ratio: float):
    found = alphas(auto(ratio), losses(600))
    torch.testing.assert_close(found[-1], torch.tensor(ratio * 1.0 / 2.0), rtol=0.1, atol=0)


@pytest.mark.parametrize("averaging", [0.002, 0.02])
def test_the_means_forget_at_the_rate_of_their_flag(averaging: float):
    auto_alpha = auto(averaging=averaging)
    alphas(auto_alpha, torch.tensor([[1.0, 2.0]]).repeat(WARMUP, 1))
    found = alphas(auto_alpha, torch.tensor([[1.0, 20.0]]).repeat(50, 1))
    old = (1 - averaging) ** 50  # what is left of the losses before
    value = 1 - (1 - averaging) ** (WARMUP + 50)  # the means begin at 0
    grad = 2 * (1 - (1 - averaging) ** WARMUP) * old + 20 * (1 - old)
    assert found[-1].item() == pytest.approx(0.1 * value / grad, rel=1e-3)


@pytest.mark.parametrize("unit", [1e-3, 1e3])
def test_alpha_has_the_squared_unit_of_goals_and_none_of_rewards(unit: float):
    pairs = losses(150)
    usual = alphas(auto(), pairs)
    other_goals = alphas(auto(), pairs / torch.tensor([1.0, unit**2]))
    other_rewards = alphas(auto(), pairs * unit**2)
    torch.testing.assert_close(other_goals, usual * unit**2, rtol=1e-4, atol=0)
    torch.testing.assert_close(other_rewards, usual, rtol=1e-4, atol=0)


@pytest.mark.parametrize("factors", [[1.0, 1e-6], [1e6, 1.0], [1.0, 0.0]])
def test_alpha_never_exceeds_its_first_value(factors: list[float]):
    auto_alpha = auto()
    first = alphas(auto_alpha, losses(WARMUP + 1))[-1]
    later = alphas(auto_alpha, losses(300) * torch.tensor(factors))
    assert later.gt(0).all() and later.isfinite().all()
    torch.testing.assert_close(later.max(), first, rtol=0.05, atol=0)


def test_the_largest_alpha_is_that_of_the_end_of_the_warmup():
    auto_alpha = auto()
    early = torch.tensor([[100.0, 1.0]]).repeat(3, 1)  # a large ratio that does not last
    alphas(auto_alpha, torch.cat([early, losses(WARMUP - 3)]))
    value, grad = auto_alpha.losses
    assert auto_alpha.largest == 0.1 * value / grad


def test_only_updates_with_a_gradient_loss_count_as_warmup():
    auto_alpha = auto()
    masked = losses(WARMUP + 50) * torch.tensor([1.0, 0.0])
    assert alphas(auto_alpha, masked).eq(0).all()
    found = alphas(auto_alpha, losses(WARMUP + 1))
    assert found[:WARMUP].eq(0).all()
    assert 0 < found[WARMUP] < 0.1


@pytest.mark.parametrize("pair", [[0.0, 0.0], [1e12, 0.0], [0.0, 1e8], [1e-20, 1e-20], [1e20] * 2])
def test_alpha_is_finite_whatever_the_losses(pair: list[float]):
    auto_alpha = auto()
    found = alphas(auto_alpha, torch.tensor([pair]).repeat(WARMUP + 10, 1))
    later = alphas(auto_alpha, losses(WARMUP + 10))  # and what follows is sound again
    assert found.isfinite().all() and later.isfinite().all()


def test_no_gradient_flows_through_alpha():
    auto_alpha = auto()
    alphas(auto_alpha, losses(WARMUP + 1))
    alphas(auto_alpha, losses(50) * torch.tensor([1.0, 10.0]))  # below the largest, a constant
    value_loss = torch.tensor(1.0, requires_grad=True)
    grad_loss = torch.tensor(2.0, requires_grad=True)
    alpha = auto_alpha(value_loss, grad_loss)
    (value_loss + alpha * grad_loss).backward()
    assert value_loss.grad == 1
    assert grad_loss.grad == alpha > 0


# In the losses of the scripts

OBS_DIM, GOAL_DIM, ACTION_DIM, BATCH = 3, 2, 2, 20
SCRIPTS = [ddpg_her_reengage, sac_her_reengage, dqn_her_reengage_bitflip]
GOAL = slice(OBS_DIM, OBS_DIM + GOAL_DIM)  # columns of a network's first layer


@dataclass
class Problem:
    """A random agent and batch for the critic's loss with --alpha auto."""

    script: ModuleType
    agent: Any
    batch: Any
    args: Any

    def params(self) -> list[Tensor]:
        """What the loss trains."""
        is_dqn = self.script is dqn_her_reengage_bitflip
        return self.agent.params if is_dqn else self.agent.critic_params

    def loss(self) -> tuple[Tensor, dict[str, Tensor]]:
        if self.script is dqn_her_reengage_bitflip:
            return self.script.dqn_loss(self.agent, self.batch, self.args)
        if self.script is ddpg_her_reengage:
            return self.script.reengage_critic_loss(self.agent, self.batch, self.args, None)
        noise = torch.linspace(-1, 1, BATCH * ACTION_DIM).double().view(BATCH, ACTION_DIM)
        return self.script.sac_critic_loss(self.agent, self.batch, self.args, noise, None)

    def after_warmup(self) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of the first update with a gradient term."""
        self.agent.auto_alpha.updates.fill_(self.args.alpha_warmup - 1)
        assert self.loss()[1]["gradient/alpha"] == 0
        return self.loss()

    def networks(self) -> list[nn.Sequential]:
        """Those in which the loss sees a goal."""
        found = []
        for module in vars(self.agent).values():
            if isinstance(module, nn.Module):
                found += [part for part in module.modules() if isinstance(part, nn.Sequential)]
        return found

    def gradients(self, loss: Tensor) -> list[Tensor]:
        return list(torch.autograd.grad(loss, self.params(), materialize_grads=True))


def make_problem(script: ModuleType) -> Problem:
    torch.manual_seed(0)
    args = script.Args(alpha="auto", c_low=-1.0, hidden_dims=(8, 8))
    dims = dict(obs_dim=OBS_DIM, goal_dim=GOAL_DIM, action_dim=ACTION_DIM, action_space=Discrete(4))
    agent = make_agent(script, args, **dims)
    obs, next_obs = torch.randn(2, BATCH, OBS_DIM)
    goal, achieved_goal = torch.randn(2, BATCH, GOAL_DIM)
    action = torch.rand(BATCH, ACTION_DIM)
    if script is dqn_her_reengage_bitflip:
        action = torch.randint(4, (BATCH, 1))
    reward = -(torch.arange(BATCH) % 3 > 0).float()
    terminated = torch.zeros(BATCH)
    batch = script.Batch(obs, goal, action, reward, next_obs, achieved_goal, terminated)
    return Problem(script, agent, script.Batch(*(array.double() for array in batch)), args)


@pytest.mark.parametrize("unit", [1e-3, 1e3])
@pytest.mark.parametrize("script", SCRIPTS)
def test_goals_in_another_unit_give_the_same_weighted_gradient(script: ModuleType, unit: float):
    usual, other = make_problem(script), make_problem(script)
    other.batch = other.batch._replace(goal=unit * other.batch.goal)
    with torch.no_grad():
        for net in other.networks():  # the same functions in the new unit
            net[0].weight[:, GOAL] /= unit
    loss, curves = usual.after_warmup()
    other_loss, other_curves = other.after_warmup()
    torch.testing.assert_close(other_loss, loss, rtol=1e-6, atol=0)
    alpha = curves["gradient/alpha"].item()
    assert other_curves["gradient/alpha"].item() == pytest.approx(alpha * unit**2, rel=1e-4)

    pairs = zip(other.gradients(other_loss), usual.gradients(loss), strict=True)
    for param, (ours, expected) in zip(other.params(), pairs, strict=True):
        if any(param is net[0].weight for net in other.networks()):
            ours[:, GOAL] /= unit  # d / d (weight / unit) = unit * d / d weight
        torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-8)


@pytest.mark.parametrize("script", SCRIPTS)
@pytest.mark.parametrize("reward", [-1.0, 0.0])
def test_equal_rewards_leave_loss_alpha_and_gradients_finite(script: ModuleType, reward: float):
    problem = make_problem(script)
    problem.batch = problem.batch._replace(reward=torch.full((BATCH,), reward).double())
    loss, curves = problem.after_warmup()  # with reward 0 the mask is empty: no term yet
    assert (curves["gradient/alpha"] > 0) == (reward == -1)
    for value in curves.values():
        assert value.isfinite()
    for grad in problem.gradients(loss):
        assert grad.isfinite().all()
