"""DDPG's losses are the paper's equations: by finite differences and plain numpy."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from conftest import vector_of
from numerics import finite_differences, gradient, make_agent, numpy_net
from torch import Tensor

from algos import ddpg_her, ddpg_her_reengage
from algos.ddpg_her_reengage import (
    Actor,
    Args,
    Batch,
    Critic,
    Normalizer,
    agreement,
    reengage_critic_loss,
    reward_gradient,
)

torch.set_num_threads(1)

OBS_DIM, GOAL_DIM, ACTION_DIM, BATCH = 3, 2, 2, 24
GAMMA = 0.9  # clipped targets lie in [-10, 0]


@dataclass
class Problem:
    """Everything that `reengage_critic_loss` is given."""

    agent: Any
    batch: Batch
    args: Args
    reward_grad: Tensor | None  # (batch, goal_dim)

    def loss(self) -> tuple[Tensor, dict]:
        return reengage_critic_loss(self.agent, self.batch, self.args, self.reward_grad)

    def gradient(self) -> Tensor:
        """By the critic's parameters, flat."""
        return gradient(self.loss()[0], self.agent.critic_params)

    def mask(self) -> Tensor:
        """1 where the term counts: everywhere for a dense reward, at -1 for a sparse one."""
        if self.reward_grad is not None:
            return torch.ones_like(self.batch.reward)
        return (self.batch.reward == -1).double()

    def goal_scale(self) -> Tensor:  # (goal_dim,)
        """dg/dz = std for the normalised goal z = (g - mean) / std; 1 by the raw goal."""
        if self.args.normalize and not self.args.raw_goal_gradient:
            return self.agent.normalizer.std[OBS_DIM:]
        return torch.ones(GOAL_DIM).double()


def make_problem(
    dense: bool = False, clip: bool = False, normalize: bool = False, raw: bool = False
) -> Problem:
    """A random one with alpha 0.7; raw: by the goal as it is, although it is normalised."""
    torch.manual_seed(0)
    args = Args(
        alpha=0.7,
        c_low=-1.0,
        gamma=GAMMA,
        clip_target=clip,
        normalize=normalize,
        raw_goal_gradient=raw,
        hidden_dims=(8, 8),
    )
    dims = {"obs_dim": OBS_DIM, "goal_dim": GOAL_DIM, "action_dim": ACTION_DIM}
    agent = make_agent(ddpg_her_reengage, args, **dims)
    goal = torch.tensor([0.5, -1.0]) + torch.tensor([0.2, 3.0]) * torch.randn(BATCH, GOAL_DIM)
    if normalize:  # statistics that are neither 0 and 1 nor alike
        agent.normalizer.update(torch.cat([2 + 0.5 * torch.randn(BATCH, OBS_DIM), goal], 1))
        goal[:2, 0] += 3.0  # 15 deviations: beyond the clip at 5
        goal[2, 1] -= 45.0
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
    if clip:
        spread_targets(problem)
    check_variety(problem)
    return problem


@torch.no_grad()
def spread_targets(problem: Problem) -> None:
    """Next values get mean -5 and deviation 8: targets lie below -10, above 0 and between."""
    agent, batch = problem.agent, problem.batch
    next_action = agent.target_actor(batch.next_obs, batch.goal)
    next_q = agent.target_critic(batch.next_obs, batch.goal, next_action)
    factor = 8 / next_q.std()
    last = agent.target_critic.net[-1]
    last.weight *= factor
    last.bias.copy_(factor * (last.bias - next_q.mean()) - 5)


def check_variety(problem: Problem) -> None:
    """A test means nothing unless both sides of every case distinction occur in its problem."""
    assert 0 < problem.batch.terminated.sum() < BATCH
    if problem.reward_grad is None:
        assert 0 < problem.mask().sum() < BATCH
    if problem.args.clip_target:
        target = numpy_target(problem, problem.batch.reward.numpy(), problem.batch.goal.numpy())
        counted = target[problem.mask() == 1]
        assert (counted < -9.99).any() and (target == 0).any()
        assert ((counted > -9.99) & (counted < 0)).any()
    if problem.args.normalize:
        outside = normalized_goal(problem).abs() == 5
        assert outside.any(dim=0).all()
        assert not outside.all(dim=1).any()


def normalized_goal(problem: Problem) -> Tensor:  # (batch, goal_dim)
    x = torch.cat([problem.batch.obs, problem.batch.goal], 1)
    return problem.agent.normalizer(x)[:, OBS_DIM:]


CASES = {
    "sparse": dict(),
    "dense": dict(dense=True),
    "sparse and clipped": dict(clip=True),
    "sparse and normalised": dict(normalize=True),
    "sparse and normalised, raw goal gradient": dict(normalize=True, raw=True),
    "sparse, clipped and normalised": dict(clip=True, normalize=True),
    "dense and normalised": dict(dense=True, normalize=True),
}
every_case = pytest.mark.parametrize("case", CASES)


def close(ours: Tensor, expected: Tensor, tolerance: float = 1e-10) -> None:
    torch.testing.assert_close(ours, expected, rtol=tolerance, atol=tolerance)


# The ReenGAGE loss


@every_case
def test_critic_gradient_equals_finite_differences_of_the_loss(case: str):
    problem = make_problem(**CASES[case])
    expected = finite_differences(lambda: problem.loss()[0], problem.agent.critic_params)
    close(problem.gradient(), expected, 1e-6)


@every_case
def test_the_target_is_a_constant_even_where_the_target_critic_is_the_critic_itself(case: str):
    problem = make_problem(**CASES[case])
    problem.agent.critic.load_state_dict(problem.agent.target_critic.state_dict())
    expected = problem.gradient()
    problem.agent.target_critic = problem.agent.critic
    close(problem.gradient(), expected)


@pytest.mark.parametrize("case", ["sparse", "sparse and clipped", "sparse and normalised"])
def test_with_alpha_0_losses_and_gradients_are_bit_for_bit_those_of_ddpg_her(case: str):
    problem = make_problem(**CASES[case])
    agent = problem.agent
    for network in (agent.critic, agent.target_critic, agent.target_actor):
        network.float()
    problem.batch = Batch(*(array.float() for array in problem.batch))
    problem.args.alpha = 0.0
    plain_args = ddpg_her.Args(gamma=GAMMA, clip_target=problem.args.clip_target)
    loss, curves = ddpg_her.ddpg_critic_loss(agent, problem.batch, plain_args)
    expected = gradient(loss, agent.critic_params)

    ours, our_curves = problem.loss()
    assert ours.dtype == torch.float32
    assert torch.equal(ours, loss)
    assert torch.equal(problem.gradient(), expected)
    assert our_curves == curves | {"gradient/alpha": 0.0, "gradient/ratio": 0.0}


def numpy_normalise(normalizer: Normalizer, x: np.ndarray) -> np.ndarray:
    if not normalizer.enabled:
        return x
    return np.clip((x - normalizer.mean.numpy()) / normalizer.std.numpy(), -5, 5)


def numpy_critic(
    critic: Critic, obs: np.ndarray, goal: np.ndarray, action: np.ndarray
) -> np.ndarray:
    x = numpy_normalise(critic.normalizer, np.concatenate([obs, goal], 1))
    return numpy_net(critic.net, np.concatenate([x, action], 1))[:, 0]


def numpy_actor(actor: Actor, obs: np.ndarray, goal: np.ndarray) -> np.ndarray:
    x = numpy_normalise(actor.normalizer, np.concatenate([obs, goal], 1))
    return np.tanh(numpy_net(actor.net, x))


def slopes(function: Callable, goal: np.ndarray) -> np.ndarray:
    """Central differences of (batch, goal_dim) -> (batch,) by the goal: (batch, goal_dim)."""
    step = 1e-6
    columns = []
    for shift in step * np.eye(GOAL_DIM):
        columns.append((function(goal + shift) - function(goal - shift)) / (2 * step))
    return np.stack(columns, axis=1)


def numpy_target(problem: Problem, reward: np.ndarray, goal: np.ndarray) -> np.ndarray:
    next_obs, terminated = problem.batch.next_obs.numpy(), problem.batch.terminated.numpy()
    next_action = numpy_actor(problem.agent.target_actor, next_obs, goal)
    next_q = numpy_critic(problem.agent.target_critic, next_obs, goal, next_action)
    target = reward + GAMMA * np.where(terminated == 1, 0, next_q)
    return np.clip(target, -1 / (1 - GAMMA), 0) if problem.args.clip_target else target


@every_case
def test_loss_and_curves_equal_plain_numpy(case: str):
    """Gradients by the goal are differences of goals a little apart."""
    problem = make_problem(**CASES[case])
    b = Batch(*(array.numpy() for array in problem.batch))

    def q_of(goal: np.ndarray) -> np.ndarray:  # (batch, goal_dim) -> (batch,)
        return numpy_critic(problem.agent.critic, b.obs, goal, b.action)

    def target_of(goal: np.ndarray) -> np.ndarray:
        reward = b.reward
        if problem.reward_grad is not None:
            reward = -np.linalg.norm(b.next_achieved_goal - goal, axis=1)
        return numpy_target(problem, reward, goal)

    difference = slopes(q_of, b.goal) - slopes(target_of, b.goal)
    mask = problem.mask().numpy()
    squares = mask[:, None] * (problem.goal_scale().numpy() * difference) ** 2
    q, target = q_of(b.goal), target_of(b.goal)
    value_loss = np.mean((q - target) ** 2)
    loss, curves = problem.loss()
    expected = {
        "losses/value": value_loss,
        "losses/gradient": squares.mean(),
        "losses/critic": value_loss + 0.7 * squares.mean(),
        "values/q": q.mean(),
        "values/target": target.mean(),
        "gradient/alpha": 0.7,
        "gradient/ratio": 0.7 * squares.mean() / value_loss,
        "gradient/rows": mask.mean(),
    }
    for name, number in expected.items():
        assert torch.as_tensor(curves.pop(name)).item() == pytest.approx(number, rel=1e-6), name
    assert curves.keys() == {"gradient/norm", "gradient/target_norm", "gradient/cosine"}
    assert loss.item() == pytest.approx(expected["losses/critic"], rel=1e-6)
    plain_loss, _ = ddpg_her.ddpg_critic_loss(problem.agent, problem.batch, problem.args)
    assert plain_loss.item() == pytest.approx(value_loss, rel=1e-10)


def test_agreement_is_of_the_rows_that_the_term_sees():
    q_grad = torch.tensor([[3.0, 4.0], [1.0, 0.0], [0.0, 2.0]])
    target_grad = torch.tensor([[3.0, 4.0], [9.0, 9.0], [2.0, 0.0]])
    curves = agreement(q_grad, target_grad, mask=torch.tensor([1.0, 0.0, 1.0]))
    expected = {"rows": 2 / 3, "norm": 3.5, "target_norm": 3.5, "cosine": 0.5}
    assert {name: value.item() for name, value in curves.items()} == pytest.approx(
        {f"gradient/{name}": value for name, value in expected.items()}
    )
    assert not any(agreement(q_grad, target_grad, mask=torch.zeros(3)).values())  # 0, not NaN


def test_environments_give_the_loss_the_gradient_of_a_dense_reward():
    problem = make_problem(dense=True)
    envs = vector_of("ContinuousSeek2Dense-v0", 1, seed=0)
    reward_grad = reward_gradient(envs, problem.batch)
    close(reward_grad, problem.reward_grad, 1e-6)
    assert reward_grad.dtype == problem.batch.goal.dtype
    envs.close()
