"""DQN's loss with the gradient term and soft targets: by finite differences and derivations."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.spaces import Discrete
from numerics import finite_differences, flat, gradient, make_agent, numpy_net
from scipy.special import huber, softmax
from scipy.stats import chisquare
from torch import Tensor

from algos import dqn_her_reengage_bitflip
from algos.dqn_her_reengage_bitflip import Args, Batch, QNetwork, dqn_loss, soft_max

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

    def grad_loss(self) -> Tensor:
        return self.loss()[1]["grad_loss"]

    def gradient(self) -> Tensor:
        """By the network's parameters, flat."""
        return gradient(self.loss()[0], self.agent.params)

    def set_alpha(self, alpha: float | str) -> None:
        self.args.alpha = alpha
        self.agent.weight.alpha = alpha


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
def test_loss_and_gradient_equal_a_derivation_by_torch_func(soft_target: str, temperature: float):
    problem = make_problem(soft_target, temperature)
    agent, b = problem.agent, problem.batch

    def target_of(
        goal: Tensor, next_obs: Tensor, reward: Tensor, terminated: Tensor, soft: bool
    ) -> Tensor:
        """Of ONE transition."""
        next_q = agent.target_network(next_obs[None], goal[None])[0]
        value = next_q.max()
        if soft and temperature > 0:
            weights = torch.exp((next_q - value) / temperature)
            value = (weights * next_q).sum() / weights.sum()
        return reward + GAMMA * (1 - terminated) * value

    rows = b.goal, b.next_obs, b.reward, b.terminated
    batched = torch.func.vmap(torch.func.grad_and_value(target_of), in_dims=(0, 0, 0, 0, None))
    target_grad, soft = batched(*rows, True)
    target = batched(*rows, False)[1] if soft_target == "gradient" else soft
    one_hot = torch.eye(BITS).double()[b.action[:, 0].long()]

    def loss(params: dict[str, Tensor]) -> Tensor:
        def q_of(goal: Tensor, obs: Tensor, one_hot: Tensor) -> Tensor:
            q = torch.func.functional_call(agent.q_network, params, (obs[None], goal[None]))[0]
            return (q * one_hot).sum()

        q_grad, q = torch.func.vmap(torch.func.grad_and_value(q_of))(b.goal, b.obs, one_hot)
        error = (q - target).abs()
        value_loss = torch.where(error < 1, 0.5 * error**2, error - 0.5).mean()
        squares = ((q_grad - target_grad) ** 2).sum(1)
        return value_loss + 0.7 * squares[b.reward == -1].sum() / (BATCH * BITS)

    params = {name: param.detach() for name, param in agent.q_network.named_parameters()}
    gradients, value = torch.func.grad_and_value(loss)(params)
    close(problem.loss()[0].detach(), value)
    close(problem.gradient(), flat(gradients.values()))


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
    info = problem.loss()[1]
    assert info["grad_loss"].item() == pytest.approx(squares.mean(), rel=1e-6)
    assert info["value_loss"].item() == pytest.approx(huber(1, q - target).mean(), rel=1e-10)
    assert info["q"].tolist() == pytest.approx(q.tolist(), rel=1e-10)
    assert info["target"].tolist() == pytest.approx(target.tolist(), rel=1e-10)
    assert info["mask"].tolist() == (b.reward == -1).tolist()


def test_a_soft_target_approaches_the_max_and_its_gradient_with_the_temperature():
    torch.manual_seed(0)
    q = torch.randn(50, 6).double().requires_grad_()
    hard = soft_max(q, 0.0)
    hard_grad = torch.autograd.grad(hard.sum(), q)[0]
    assert torch.equal(hard, q.max(1).values)
    values, slopes = [], []
    for temperature in (1.0, 0.3, 0.1, 0.01, 1e-4):
        soft = soft_max(q, temperature)
        assert (soft <= hard + 1e-12).all()
        values.append((hard - soft).mean().item())
        slopes.append((torch.autograd.grad(soft.sum(), q)[0] - hard_grad).norm().item())
    assert values == sorted(values, reverse=True)
    assert values[-1] < 1e-6
    assert slopes[-1] < 0.01 * slopes[0]
    close(soft_max(q, 1e6), q.mean(1), 1e-4)


def test_masked_rows_contribute_nothing_to_the_gradient_term_and_the_mean_counts_them():
    problem = make_problem()
    term, masked = problem.grad_loss(), problem.batch.reward != -1
    for name in ("obs", "goal", "next_obs"):
        array = getattr(problem.batch, name)
        changed = torch.where(masked[:, None], 1 - array, array)
        problem.batch = problem.batch._replace(**{name: changed})
    close(problem.grad_loss(), term, 1e-12)
    problem.batch = Batch(*(array[~masked] for array in problem.batch))
    close(problem.grad_loss() * (~masked).sum() / BATCH, term, 1e-12)


def test_c_low_says_which_rows_count():
    problem = make_problem()
    term = problem.grad_loss()
    problem.batch = problem.batch._replace(reward=problem.batch.reward + 1)  # 0 and 1 ...
    problem.args.c_low = 0.0  # ... of which 0 is the low one
    close(problem.grad_loss(), term, 1e-12)


@every_case
def test_no_gradient_reaches_the_target_network(soft_target: str, temperature: float):
    problem = make_problem(soft_target, temperature)
    for param in problem.agent.target_params:
        param.requires_grad_(True)
    loss = problem.loss()[0]
    grads = torch.autograd.grad(loss, problem.agent.target_params, allow_unused=True)
    assert all(grad is None for grad in grads)


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


def test_with_alpha_0_only_the_value_loss_is_left():
    problem = make_problem()
    value_loss = problem.loss()[1]["value_loss"]
    problem.set_alpha(0.0)
    loss, info = problem.loss()
    assert torch.equal(loss, value_loss)
    assert info.keys() == {"value_loss", "q", "target", "alpha"}


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
