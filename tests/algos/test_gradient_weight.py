"""alpha when it finds itself: it waits, has no unit, and cannot run away."""

from dataclasses import dataclass
from types import ModuleType
from typing import Any

import pytest
import torch
from gymnasium.spaces import Discrete
from numerics import make_agent
from torch import Tensor, nn

from algos import ddpg_her_reengage, dqn_her_reengage_bitflip, sac_her_reengage
from algos.ddpg_her_reengage import GradientWeight
from envs.run.folder import curves_of

torch.set_num_threads(1)

WAITING = 1000


def losses(updates: int, seed: int = 0) -> Tensor:
    """Value and gradient losses of some updates, (updates, 2), around 1 and 2."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.rand(updates, 2, generator=generator)
    return (0.5 + noise) * torch.tensor([1.0, 2.0])


def alphas(weight: GradientWeight, pairs: Tensor) -> Tensor:
    """alpha at each update, (updates,)."""
    return torch.stack([weight(value_loss, grad_loss) for value_loss, grad_loss in pairs])


def auto(ratio: float = 0.1) -> GradientWeight:
    return GradientWeight("auto", ratio)


def test_a_number_stays_that_number():
    weight = GradientWeight(0.3, ratio=0.1)
    assert [weight(*pair) for pair in losses(WAITING + 200)] == [0.3] * (WAITING + 200)


def test_the_first_1000_updates_have_no_gradient_term():
    found = alphas(auto(), losses(WAITING + 1))
    assert found[:WAITING].eq(0).all()
    assert found[WAITING] > 0


@pytest.mark.parametrize("ratio", [0.1, 0.5])
def test_then_the_weighted_gradient_loss_is_the_ratio_of_the_value_loss(ratio: float):
    found = alphas(auto(ratio), losses(3000))
    torch.testing.assert_close(found[-1], torch.tensor(ratio * 1.0 / 2.0), rtol=0.05, atol=0)


def test_means_are_over_about_500_updates():
    weight = auto()
    alphas(weight, torch.tensor([[1.0, 2.0]]).repeat(WAITING, 1))
    found = alphas(weight, torch.tensor([[1.0, 20.0]]).repeat(500, 1))
    old = (1 - 0.002) ** 500  # what is left of the losses before
    value = 1 - (1 - 0.002) ** (WAITING + 500)  # the means begin at 0
    grad = 2 * (1 - (1 - 0.002) ** WAITING) * old + 20 * (1 - old)
    assert found[-1].item() == pytest.approx(0.1 * value / grad, rel=1e-3)


@pytest.mark.parametrize("unit", [1e-3, 1e3])
def test_alpha_is_in_the_squared_unit_of_goals(unit: float):
    pairs = losses(1500)
    usual = alphas(auto(), pairs)
    other = alphas(auto(), pairs / torch.tensor([1.0, unit**2]))
    torch.testing.assert_close(other, usual * unit**2, rtol=1e-4, atol=0)


@pytest.mark.parametrize("unit", [1e-3, 1e3])
def test_alpha_does_not_depend_on_the_unit_of_rewards(unit: float):
    pairs = losses(1500)
    usual = alphas(auto(), pairs)
    other = alphas(auto(), pairs * unit**2)
    torch.testing.assert_close(other, usual, rtol=1e-4, atol=0)


def test_alpha_follows_a_gradient_loss_that_grows():
    weight = auto()
    first = alphas(weight, losses(1500))[-1]
    later = alphas(weight, losses(3000) * torch.tensor([1.0, 10.0]))[-1]
    torch.testing.assert_close(later, first / 10, rtol=0.2, atol=0)


@pytest.mark.parametrize("factors", [[1.0, 1e-6], [1e6, 1.0]])
def test_alpha_never_exceeds_its_first_value(factors: list[float]):
    weight = auto()
    first = alphas(weight, losses(WAITING + 1))[-1]
    later = alphas(weight, losses(2000) * torch.tensor(factors))
    assert later.gt(0).all()
    torch.testing.assert_close(later.max(), first, rtol=1e-2, atol=0)


def test_the_waiting_alone_sets_the_cap():
    weight = auto()
    early = torch.tensor([[100.0, 1.0]]).repeat(10, 1)  # a large ratio that does not last
    alphas(weight, torch.cat([early, losses(WAITING - 10)]))
    cap = weight.largest.item()
    assert 0.05 < cap < 0.5
    alphas(weight, losses(100) * torch.tensor([1.0, 1e-3]))
    assert weight.largest.item() == cap


def test_only_updates_with_a_gradient_loss_count_as_waiting():
    masked = losses(1500) * torch.tensor([1.0, 0.0])
    weight = auto()
    assert alphas(weight, masked).eq(0).all()
    found = alphas(weight, losses(WAITING + 1))
    assert found[:WAITING].eq(0).all()
    assert 0 < found[WAITING] < 0.1


def test_an_empty_mask_after_the_waiting_keeps_alpha_finite_and_below_its_cap():
    weight = auto()
    first = alphas(weight, losses(WAITING + 1))[-1]
    later = alphas(weight, losses(1500) * torch.tensor([1.0, 0.0]))
    assert later.isfinite().all()
    torch.testing.assert_close(later.max(), first, rtol=1e-2, atol=0)


EXTREMES = {
    "both 0": [0.0, 0.0],
    "no gradient loss": [1.0, 0.0],
    "no gradient loss, rewards of 1e4": [1e8, 0.0],
    "no gradient loss, rewards of 1e6": [1e12, 0.0],
    "no value loss": [0.0, 1.0],
    "no value loss, goals of 1e-4": [0.0, 1e8],
    "tiny": [1e-20, 1e-20],
    "huge": [1e20, 1e20],
}


@pytest.mark.parametrize("kind", EXTREMES)
def test_alpha_is_finite_whatever_the_losses(kind: str):
    pair = torch.tensor([EXTREMES[kind]])
    weight = auto()
    found = alphas(weight, pair.repeat(WAITING + 10, 1))
    assert found.isfinite().all()
    assert found[:WAITING].eq(0).all()
    later = alphas(weight, losses(WAITING + 10))  # and what follows is sound again
    assert later.isfinite().all()


def test_no_gradient_flows_through_alpha():
    weight = auto()
    alphas(weight, losses(WAITING + 1))
    alphas(weight, losses(300) * torch.tensor([1.0, 10.0]))  # below the cap, which is a constant
    value_loss = torch.tensor(1.0, requires_grad=True)
    grad_loss = torch.tensor(2.0, requires_grad=True)
    alpha = weight(value_loss, grad_loss)
    (value_loss + alpha * grad_loss).backward()
    assert value_loss.grad == 1
    assert grad_loss.grad == alpha > 0


def test_a_saved_weight_goes_on_as_if_it_had_not_stopped():
    pairs = losses(1500)
    weight = auto()
    alphas(weight, pairs[:1200])
    resumed = auto()
    resumed.load_state_dict(weight.state_dict())
    assert alphas(resumed, pairs[1200:]).equal(alphas(weight, pairs[1200:]))


# In the losses of the scripts

OBS_DIM, GOAL_DIM, ACTION_DIM, BATCH = 3, 2, 2, 20
SCRIPTS = [ddpg_her_reengage, sac_her_reengage, dqn_her_reengage_bitflip]
GOAL = slice(OBS_DIM, OBS_DIM + GOAL_DIM)  # columns of a network's first layer


@dataclass
class Problem:
    """A random agent and batch, and the critic's loss with an alpha that finds itself."""

    script: ModuleType
    agent: Any
    batch: Any
    args: Any

    def params(self) -> list[Tensor]:
        """What the loss trains."""
        is_dqn = self.script is dqn_her_reengage_bitflip
        return self.agent.params if is_dqn else self.agent.critic_params

    def loss(self) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss, and what curves show of it."""
        torch.manual_seed(1)  # SAC's noise
        if self.script is dqn_her_reengage_bitflip:
            loss, info = self.script.dqn_loss(self.agent, self.batch, self.args)
        else:
            is_sac = self.script is sac_her_reengage
            name = "sac_critic_loss" if is_sac else "reengage_critic_loss"
            function = getattr(self.script, name)
            loss, info = function(self.agent, self.batch, self.args, None)
        return loss, curves_of(info)

    def after_waiting(self) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of the first update with a gradient term."""
        self.agent.weight.updates.fill_(WAITING - 1)
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
    loss, info = usual.after_waiting()
    other_loss, other_info = other.after_waiting()
    torch.testing.assert_close(other_loss, loss, rtol=1e-6, atol=0)
    alpha = info["gradient/alpha"].item()
    assert other_info["gradient/alpha"].item() == pytest.approx(alpha * unit**2, rel=1e-4)

    pairs = zip(other.gradients(other_loss), usual.gradients(loss), strict=True)
    for param, (ours, expected) in zip(other.params(), pairs, strict=True):
        if any(param is net[0].weight for net in other.networks()):
            ours[:, GOAL] /= unit  # d / d (weight / unit) = unit * d / d weight
        torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-8)


@pytest.mark.parametrize("unit", [1e-3, 1e3])
def test_rewards_in_another_unit_change_both_losses_alike(unit: float):
    usual, other = make_problem(ddpg_her_reengage), make_problem(ddpg_her_reengage)
    other.batch = other.batch._replace(reward=unit * other.batch.reward)
    other.args.c_low = -unit
    with torch.no_grad():
        for network in (other.agent.critic, other.agent.target_critic):  # values in the new unit
            network.net[-1].weight *= unit
            network.net[-1].bias *= unit
    loss, info = usual.after_waiting()
    other_loss, other_info = other.after_waiting()
    for name in ("losses/value", "losses/gradient"):
        torch.testing.assert_close(other_info[name], info[name] * unit**2, rtol=1e-5, atol=0)
    torch.testing.assert_close(other_loss, loss * unit**2, rtol=1e-6, atol=0)
    for name in ("gradient/alpha", "gradient/ratio", "gradient/cosine", "gradient/rows"):
        assert other_info[name].item() == pytest.approx(info[name].item(), rel=1e-4)


@pytest.mark.parametrize("script", SCRIPTS)
@pytest.mark.parametrize("reward", [-1.0, 0.0])
def test_equal_rewards_leave_loss_alpha_and_gradients_finite(script: ModuleType, reward: float):
    problem = make_problem(script)
    problem.batch = problem.batch._replace(reward=torch.full((BATCH,), reward).double())
    loss, info = problem.after_waiting()  # with reward 0 the mask is empty: it goes on waiting
    assert (info["gradient/alpha"] > 0) == (reward == -1)
    for value in info.values():
        assert value.isfinite()
    for grad in problem.gradients(loss):
        assert grad.isfinite().all()
