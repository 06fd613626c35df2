"""DQN's loss with the gradient term and soft targets: by finite differences and derivations."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.spaces import Discrete
from numerics import finite_differences, gradient, make_agent, numpy_net
from scipy.special import huber, softmax
from scipy.stats import chisquare
from torch import Tensor

from algos import dqn_her_reengage_bitflip
from algos.dqn_her_reengage_bitflip import Args, Batch, QNetwork, dqn_loss

torch.set_num_threads(1)

BITS, BATCH, GAMMA = 4, 32, 0.9


@dataclass
class Problem:
    """Everything that `dqn_loss` is given."""

    agent: Any
    batch: Batch
    args: Args

    def loss(self) -> tuple[Tensor, dict]:
        return dqn_loss(self.agent, self.batch, self.args)

    def gradient(self) -> Tensor:
        """By the network's parameters, flat."""
        return gradient(self.loss()[0], self.agent.params)


def make_problem(soft_target: str = "gradient", temperature: float = 0.5) -> Problem:
    """A random one with alpha 0.7, with errors on both sides of the Huber loss's bend at 1."""
    torch.manual_seed(0)
    args = Args(
        alpha=0.7,
        c_low=-1.0,
        gamma=GAMMA,
        temperature=temperature,
        soft_target=soft_target,
        hidden_dims=(8,),
    )
    dims = {"obs_dim": BITS, "goal_dim": BITS, "action_space": Discrete(BITS)}
    agent = make_agent(dqn_her_reengage_bitflip, args, **dims)
    bits = torch.randint(2, (4, BATCH, BITS))
    batch = Batch(
        obs=bits[0],
        goal=bits[1],
        action=torch.randint(BITS, (BATCH, 1)),
        reward=-(torch.rand(BATCH) < 0.6).float(),
        next_obs=bits[2],
        next_achieved_goal=bits[3],
        terminated=torch.arange(BATCH) % 5 == 0,
    )
    problem = Problem(agent, Batch(*(array.double() for array in batch)), args)
    goal = problem.batch.goal.numpy()
    error = numpy_q(agent.q_network, problem.batch, goal) - numpy_target(problem, False, goal)
    assert (np.abs(error) < 1).sum() > 4
    assert (np.abs(error) > 1).sum() > 4
    assert 0 < (problem.batch.reward == -1).sum() < BATCH
    return problem


def numpy_qs(network: QNetwork, obs: Tensor, goal: np.ndarray) -> np.ndarray:
    """(batch, n_actions)."""
    return numpy_net(network.net, np.concatenate([obs.numpy(), goal], 1))


def numpy_q(network: QNetwork, batch: Batch, goal: np.ndarray) -> np.ndarray:
    """Q_a(s, g): (batch,)."""
    action = batch.action[:, 0].int().numpy()
    return numpy_qs(network, batch.obs, goal)[np.arange(BATCH), action]


def numpy_target(problem: Problem, soft: bool, goal: np.ndarray) -> np.ndarray:
    """R + gamma max Q', or Eq. (31), as a function of the goal: (batch,)."""
    b, temperature = problem.batch, problem.args.temperature
    next_q = numpy_qs(problem.agent.target_network, b.next_obs, goal)
    value = next_q.max(1)
    if soft and temperature > 0:
        value = (softmax(next_q / temperature, axis=1) * next_q).sum(1)
    return b.reward.numpy() + GAMMA * (1 - b.terminated.numpy()) * value


CASES = [
    ("gradient", 0.0),
    ("gradient", 0.5),
    ("gradient", 1.0),
    ("both", 0.5),
    ("both-stochastic", 1.0),
]
every_case = pytest.mark.parametrize("soft_target, temperature", CASES)


def close(ours: Tensor, expected: Tensor, tolerance: float = 1e-10) -> None:
    torch.testing.assert_close(ours, expected, rtol=tolerance, atol=tolerance)


@every_case
def test_gradient_equals_finite_differences_of_the_loss(soft_target: str, temperature: float):
    problem = make_problem(soft_target, temperature)
    expected = finite_differences(lambda: problem.loss()[0], problem.agent.params)
    close(problem.gradient(), expected, 1e-6)


@every_case
def test_both_terms_equal_plain_numpy(soft_target: str, temperature: float):
    """No automatic differentiation: differences between goals a little apart."""
    problem = make_problem(soft_target, temperature)
    b, goal = problem.batch, problem.batch.goal.numpy()

    def q_minus_soft_target(goal: np.ndarray) -> np.ndarray:  # (batch, bits) -> (batch,)
        return numpy_q(problem.agent.q_network, b, goal) - numpy_target(problem, True, goal)

    step = 1e-6
    columns = []
    for shift in step * np.eye(BITS):
        difference = q_minus_soft_target(goal + shift) - q_minus_soft_target(goal - shift)
        columns.append(difference / (2 * step))
    squares = np.stack(columns, 1) ** 2 * (b.reward.numpy() == -1)[:, None]
    target = numpy_target(problem, soft_target != "gradient", goal)
    q = numpy_q(problem.agent.q_network, b, goal)
    value_loss = huber(1, q - target).mean()
    loss, curves = problem.loss()
    assert loss.item() == pytest.approx(value_loss + 0.7 * squares.mean(), rel=1e-6)
    assert curves["losses/gradient"].item() == pytest.approx(squares.mean(), rel=1e-6)
    assert curves["losses/value"].item() == pytest.approx(value_loss, rel=1e-10)
    assert curves["values/q"].item() == pytest.approx(q.mean(), rel=1e-10)
    assert curves["values/target"].item() == pytest.approx(target.mean(), rel=1e-10)
    assert curves["gradient/rows"].item() == pytest.approx(np.mean(b.reward.numpy() == -1))


@every_case
def test_the_target_is_a_constant_even_where_the_target_network_is_the_network(
    soft_target: str, temperature: float
):
    problem = make_problem(soft_target, temperature)
    agent = problem.agent
    agent.q_network.load_state_dict(agent.target_network.state_dict())
    expected = problem.gradient()
    agent.target_network = agent.q_network
    close(problem.gradient(), expected)


def test_acting_takes_the_best_action_or_draws_from_the_softmax():
    network = make_problem().agent.q_network.float()
    rng = np.random.default_rng(0)
    obs = rng.integers(2, size=(20, BITS)).astype(np.float32)
    goal = rng.integers(2, size=(20, BITS)).astype(np.float32)
    q = network(torch.from_numpy(obs), torch.from_numpy(goal)).detach().numpy()
    best = network.act({"observation": obs, "desired_goal": goal})
    np.testing.assert_array_equal(best, q.argmax(1))

    torch.manual_seed(0)
    many = {"observation": obs[:1].repeat(4000, 0), "desired_goal": goal[:1].repeat(4000, 0)}
    counts = np.bincount(network.act(many, temperature=0.5), minlength=BITS)
    assert chisquare(counts, 4000 * softmax(q[0].astype(float) / 0.5)).pvalue > 1e-4
