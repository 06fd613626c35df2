"""The losses of DQN with the gradient term and its soft targets: finite differences and an independent derivation."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from scipy.special import huber, softmax
from scipy.stats import chisquare
from torch import Tensor

from algos.dqn_her_reengage_bitflip import Args, Batch, QNetwork, dqn_loss, mlp, soft_max

torch.set_num_threads(1)

BITS, BATCH, GAMMA = 4, 32, 0.9


@dataclass
class Problem:
    q_network: QNetwork
    target_network: QNetwork
    batch: Batch
    args: Args

    def loss(self) -> tuple[Tensor, dict]:
        return dqn_loss(self.q_network, self.target_network, self.batch, self.args)

    def gradient(self) -> Tensor:
        params = list(self.q_network.parameters())
        return flat(torch.autograd.grad(self.loss()[0], params, materialize_grads=True))


def flat(tensors: list[Tensor] | tuple[Tensor, ...]) -> Tensor:
    return torch.cat([tensor.reshape(-1) for tensor in tensors])


def make_problem(soft_target: str = "gradient", temperature: float = 0.5) -> Problem:
    """A random one with alpha = 0.7, with errors on both sides of the Huber loss's bend at 1."""
    torch.manual_seed(0)

    def network() -> QNetwork:
        q_network = QNetwork(mlp((2 * BITS, 8, BITS), xavier_init=True)).double()
        with torch.no_grad():
            q_network.net[0].bias.normal_(std=0.3)
            q_network.net[2].bias.normal_(std=0.3)
        return q_network

    bits = torch.randint(2, (4, BATCH, BITS))
    batch = Batch(
        obs=bits[0],
        goal=bits[1],
        action=torch.randint(BITS, (BATCH, 1)),
        reward=-(torch.rand(BATCH) < 0.6).double(),
        next_obs=bits[2],
        achieved_goal=bits[3],
        terminated=(torch.rand(BATCH) < 0.2).double(),
    )
    args = Args(alpha=0.7, gamma=GAMMA, temperature=temperature, soft_target=soft_target)
    problem = Problem(
        network(),
        network().requires_grad_(False),
        Batch(*(array.double() for array in batch)),
        args,
    )
    error = numpy_q(problem.q_network, problem.batch, problem.batch.goal.numpy()) - numpy_target(
        problem, False
    )
    assert (np.abs(error) < 1).sum() > 4 and (np.abs(error) > 1).sum() > 4
    assert (
        0 < problem.batch.terminated.sum() < BATCH
        and 0 < (problem.batch.reward == -1).sum() < BATCH
    )
    return problem


def numpy_net(network: QNetwork, obs: Tensor, goal: np.ndarray) -> np.ndarray:
    x = np.concatenate([obs.numpy(), goal], 1)
    first, last = (network.net[i] for i in (0, 2))
    x = np.maximum(x @ first.weight.detach().numpy().T + first.bias.detach().numpy(), 0)
    return x @ last.weight.detach().numpy().T + last.bias.detach().numpy()


def numpy_q(network: QNetwork, batch: Batch, goal: np.ndarray) -> np.ndarray:
    """Q_a(s, g): (batch,)."""
    return numpy_net(network, batch.obs, goal)[np.arange(BATCH), batch.action[:, 0].int().numpy()]


def numpy_target(problem: Problem, soft: bool, goal: np.ndarray | None = None) -> np.ndarray:
    """R + gamma max Q', or Eq. (31), as a function of the goal: (batch,)."""
    b = problem.batch
    next_q = numpy_net(problem.target_network, b.next_obs, b.goal.numpy() if goal is None else goal)
    soft = soft and problem.args.temperature > 0
    value = (
        (softmax(next_q / problem.args.temperature, axis=1) * next_q).sum(1)
        if soft
        else next_q.max(1)
    )
    return b.reward.numpy() + GAMMA * (1 - b.terminated.numpy()) * value


CASES = [
    ("gradient", 0.0),
    ("gradient", 0.5),
    ("gradient", 1.0),
    ("both", 0.5),
    ("both-stochastic", 1.0),
]
every_case = pytest.mark.parametrize("soft_target, temperature", CASES)


@every_case
def test_gradient_equals_finite_differences_of_the_loss(
    soft_target: str, temperature: float
) -> None:
    problem, step = make_problem(soft_target, temperature), 1e-6
    differences = []
    for param in problem.q_network.parameters():
        values = param.data.view(-1)
        for i in range(len(values)):
            value = values[i].item()
            values[i] = value + step
            above = problem.loss()[0].item()
            values[i] = value - step
            below = problem.loss()[0].item()
            values[i] = value
            differences.append((above - below) / (2 * step))
    gradient = problem.gradient()
    torch.testing.assert_close(
        gradient, torch.tensor(differences).to(gradient), rtol=1e-6, atol=1e-6
    )


@every_case
def test_loss_and_gradient_equal_a_derivation_by_torch_func(
    soft_target: str, temperature: float
) -> None:
    problem = make_problem(soft_target, temperature)
    b = problem.batch

    def target_of(
        goal: Tensor, next_obs: Tensor, reward: Tensor, terminated: Tensor, soft: bool
    ) -> Tensor:
        """Of ONE transition."""
        next_q = problem.target_network(next_obs[None], goal[None])[0]
        best = next_q.max()
        weights = torch.exp((next_q - best) / temperature) if temperature > 0 else None
        value = (weights * next_q).sum() / weights.sum() if soft and temperature > 0 else best
        return reward + GAMMA * (1 - terminated) * value

    rows = b.goal, b.next_obs, b.reward, b.terminated
    batched = torch.func.vmap(torch.func.grad_and_value(target_of), in_dims=(0, 0, 0, 0, None))
    target_grad, soft = batched(*rows, True)
    target = batched(*rows, False)[1] if soft_target == "gradient" else soft

    def loss(params: dict[str, Tensor]) -> Tensor:
        def q_of(goal: Tensor, obs: Tensor, one_hot: Tensor) -> Tensor:
            q = torch.func.functional_call(problem.q_network, params, (obs[None], goal[None]))[0]
            return (q * one_hot).sum()

        one_hot = torch.eye(BITS).double()[b.action[:, 0].long()]
        q_grad, q = torch.func.vmap(torch.func.grad_and_value(q_of))(b.goal, b.obs, one_hot)
        error = (q - target).abs()
        value_loss = torch.where(error < 1, 0.5 * error**2, error - 0.5).mean()
        squares = ((q_grad - target_grad) ** 2).sum(1)
        return value_loss + 0.7 * squares[b.reward == -1].sum() / (BATCH * BITS)

    params = {name: param.detach() for name, param in problem.q_network.named_parameters()}
    gradients, value = torch.func.grad_and_value(loss)(params)
    torch.testing.assert_close(problem.loss()[0].detach(), value, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(
        problem.gradient(), flat(list(gradients.values())), rtol=1e-10, atol=1e-10
    )


@every_case
def test_both_terms_equal_plain_numpy(soft_target: str, temperature: float) -> None:
    """No automatic differentiation: the gradient by the goal is a difference between goals a little apart."""
    problem, step = make_problem(soft_target, temperature), 1e-6
    b, goal = problem.batch, problem.batch.goal.numpy()

    def q_minus_soft_target(goal: np.ndarray) -> np.ndarray:  # (batch, bits) -> (batch,)
        return numpy_q(problem.q_network, b, goal) - numpy_target(problem, True, goal)

    shifts = step * np.eye(BITS)
    differences = np.stack(
        [q_minus_soft_target(goal + s) - q_minus_soft_target(goal - s) for s in shifts], 1
    )
    squares = (differences / (2 * step)) ** 2 * (b.reward.numpy() == -1)[:, None]
    error = numpy_q(problem.q_network, b, goal) - numpy_target(problem, soft_target != "gradient")
    info = problem.loss()[1]
    assert info["grad_loss"].item() == pytest.approx(squares.mean(), rel=1e-6)
    assert info["value_loss"].item() == pytest.approx(huber(1, error).mean(), rel=1e-10)


def test_a_soft_target_approaches_the_max_and_its_gradient_with_the_temperature() -> None:
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
    assert values == sorted(values, reverse=True) and values[-1] < 1e-6
    assert slopes[-1] < 0.01 * slopes[0]
    torch.testing.assert_close(soft_max(q, 1e6), q.mean(1), rtol=1e-4, atol=1e-4)


def test_masked_rows_contribute_nothing_to_the_gradient_term_and_the_mean_counts_them() -> None:
    problem = make_problem()
    term, masked = problem.loss()[1]["grad_loss"], problem.batch.reward != -1
    changed = {
        name: torch.where(
            masked[:, None], 1 - getattr(problem.batch, name), getattr(problem.batch, name)
        )
        for name in ("obs", "goal", "next_obs")
    }
    problem.batch = problem.batch._replace(**changed)
    torch.testing.assert_close(problem.loss()[1]["grad_loss"], term, rtol=1e-12, atol=0)
    problem.batch = Batch(*(array[~masked] for array in problem.batch))
    torch.testing.assert_close(
        term, problem.loss()[1]["grad_loss"] * (~masked).sum() / BATCH, rtol=1e-12, atol=0
    )


@every_case
def test_no_gradient_reaches_the_target_network(soft_target: str, temperature: float) -> None:
    problem = make_problem(soft_target, temperature)
    params = list(problem.target_network.requires_grad_(True).parameters())
    assert all(
        grad is None for grad in torch.autograd.grad(problem.loss()[0], params, allow_unused=True)
    )


def test_with_alpha_0_only_the_value_loss_is_left() -> None:
    problem = make_problem()
    value_loss = problem.loss()[1]["value_loss"]
    problem.args.alpha = 0.0
    loss, info = problem.loss()
    assert torch.equal(loss, value_loss) and "grad_loss" not in info


def test_acting_takes_the_best_action_or_draws_from_the_softmax() -> None:
    network = make_problem().q_network.float()
    rng = np.random.default_rng(0)
    bits = {
        key: rng.integers(2, size=(20, BITS)).astype(np.float32)
        for key in ("observation", "desired_goal")
    }
    q = network(*(torch.from_numpy(bits[key]) for key in bits)).detach().numpy()
    np.testing.assert_array_equal(network.act(bits), q.argmax(1))

    torch.manual_seed(0)
    many = {key: np.repeat(value[:1], 4000, axis=0) for key, value in bits.items()}
    counts = np.bincount(network.act(many, temperature=0.5), minlength=BITS)
    assert chisquare(counts, 4000 * softmax(q[0] / 0.5)).pvalue > 1e-4
