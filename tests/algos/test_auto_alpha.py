"""--alpha auto: alpha warms up, has no unit, and cannot run away."""

from types import ModuleType
from typing import Any

import pytest
import torch
from problems import critic_params, gradients, make_agent, make_args, make_batch, run_update
from torch import Tensor

from algos import (
    ddpg_her_reengage,
    ddpg_multi_reengage,
    dqn_her_reengage_bitflip,
    sac_her_reengage,
)
from algos.ddpg_her_reengage import Args, AutoAlpha

SCRIPTS = [ddpg_her_reengage, sac_her_reengage, dqn_her_reengage_bitflip, ddpg_multi_reengage]
WARMUP = 100


def losses(updates: int, value: float = 1.0, grad: float = 2.0) -> Tensor:
    """Value and gradient losses of some updates, (updates, 2), around their means."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.rand(updates, 2, generator=generator)
    return (0.5 + noise) * torch.tensor([value, grad])


def constant(updates: int, value: float, grad: float) -> Tensor:
    return torch.tensor([value, grad]).expand(updates, 2)


def auto(ratio: float = 0.1, averaging: float = 0.02) -> AutoAlpha:
    flags = dict(alpha_ratio=ratio, alpha_warmup=WARMUP, alpha_averaging=averaging)
    return AutoAlpha(Args(alpha="auto", **flags))


def alphas(auto_alpha: AutoAlpha, pairs: Tensor) -> Tensor:
    """alpha at each update, (updates,)."""
    return torch.stack([auto_alpha(*pair) for pair in pairs])


@pytest.mark.parametrize("ratio", [0.1, 0.5])
def test_the_weighted_gradient_loss_is_the_ratio_of_the_value_loss(ratio: float):
    found = alphas(auto(ratio), losses(600, value=1, grad=2))
    assert found[-1].item() == pytest.approx(ratio / 2, rel=0.1)


@pytest.mark.parametrize("averaging", [0.002, 0.02])
def test_the_means_forget_at_the_rate_of_their_flag(averaging: float):
    auto_alpha = auto(averaging=averaging)
    alphas(auto_alpha, constant(WARMUP, 1, 2))
    found = alphas(auto_alpha, constant(50, 1, 20))
    value = grad = 0.0
    for update in range(WARMUP + 50):
        new = 2 if update < WARMUP else 20
        value += averaging * (1 - value)
        grad += averaging * (new - grad)
    assert found[-1].item() == pytest.approx(0.1 * value / grad, rel=1e-3)


@pytest.mark.parametrize("unit", [1e-3, 1e3])
def test_alpha_scales_with_the_square_of_the_goals_unit_and_not_with_rewards(unit: float):
    usual = alphas(auto(), losses(150))
    other_goals = alphas(auto(), losses(150, grad=2 / unit**2))
    other_rewards = alphas(auto(), losses(150) * unit**2)
    torch.testing.assert_close(other_goals / unit**2, usual)
    torch.testing.assert_close(other_rewards, usual)


@pytest.mark.parametrize("value, grad", [(1, 2e-6), (1e6, 2), (1, 0)])
def test_alpha_never_exceeds_its_first_value(value: float, grad: float):
    auto_alpha = auto()
    first = alphas(auto_alpha, losses(WARMUP + 1))[-1]
    later = alphas(auto_alpha, losses(300, value, grad))
    assert later.gt(0).all()
    assert later.max().item() == pytest.approx(first.item(), rel=0.05)


def test_the_largest_alpha_is_the_one_at_the_end_of_the_warmup():
    auto_alpha = auto()
    alphas(auto_alpha, constant(3, 100, 1))  # a large ratio that does not last
    alphas(auto_alpha, losses(WARMUP - 3))
    value, grad = auto_alpha.losses
    assert auto_alpha.largest == 0.1 * value / grad


def test_only_updates_with_a_gradient_loss_count_as_warmup():
    auto_alpha = auto()
    masked = alphas(auto_alpha, losses(WARMUP + 50, grad=0))
    assert masked.eq(0).all()
    found = alphas(auto_alpha, losses(WARMUP + 1))
    assert found[:WARMUP].eq(0).all()
    assert 0 < found[WARMUP] < 0.1


@pytest.mark.parametrize("value, grad", [(0, 0), (1e12, 0), (0, 1e8), (1e-20, 1e-20), (1e20, 1e20)])
def test_alpha_is_finite_whatever_the_losses(value: float, grad: float):
    auto_alpha = auto()
    found = alphas(auto_alpha, constant(WARMUP + 10, value, grad))
    later = alphas(auto_alpha, losses(WARMUP + 10))  # and what follows is sound again
    assert found.isfinite().all()
    assert later.isfinite().all()


# In the losses of the scripts


def first_with_a_term(script: ModuleType, batch: Any) -> tuple[Any, dict]:
    """The agent and the curves after the first update with a gradient term."""
    args = make_args(script, alpha="auto", learning_rate=1e-12)  # so that no weight moves
    agent = make_agent(script, args)
    agent.auto_alpha = AutoAlpha(args)
    agent.auto_alpha.updates.fill_(args.alpha_warmup - 1)
    for _ in range(2):
        torch.manual_seed(0)
        curves = run_update(script, agent, batch, args)
    return agent, curves


@pytest.mark.parametrize("script", SCRIPTS)
@pytest.mark.parametrize("reward", [-1.0, 0.0])
def test_equal_rewards_leave_curves_and_gradients_finite(script: ModuleType, reward: float):
    batch = make_batch(script, 1)
    batch = batch._replace(reward=torch.full_like(batch.reward, reward))
    has_mask = script is not ddpg_multi_reengage
    if not has_mask:
        batch = batch._replace(item_reward=0 * batch.item_reward)
    agent, curves = first_with_a_term(script, batch)
    # With reward 0 the mask is empty: no term yet
    assert (curves["gradient/alpha"] > 0) == (reward == -1 or not has_mask)
    assert all(value.isfinite() for value in curves.values())
    assert all(grad.isfinite().all() for grad in gradients(critic_params(agent)))
