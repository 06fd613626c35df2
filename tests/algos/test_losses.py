"""DDPG's losses are the paper's equations: by finite differences, torch.func and plain numpy."""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from conftest import vector_of
from numerics import finite_differences, flat, gradient, make_agent, numpy_net, slopes
from torch import Tensor

from algos import ddpg_her, ddpg_her_reengage, ddpg_her_reengage_torchrun
from algos.ddpg_her_reengage import Actor, Args, Batch, Critic, Normalizer, reengage_critic_loss
from envs import make
from envs.run.folder import curves_of

torch.set_num_threads(1)

OBS_DIM, GOAL_DIM, ACTION_DIM, BATCH = 3, 2, 2, 24
GAMMA = 0.9  # clipped targets lie in [-10, 0]
DDPG = [ddpg_her, ddpg_her_reengage, ddpg_her_reengage_torchrun]


@dataclass
class Problem:
    """Everything that `reengage_critic_loss` is given."""

    agent: Any
    batch: Batch
    args: Args
    reward_grad: Tensor | None  # (batch, goal_dim)

    def loss(self) -> tuple[Tensor, dict]:
        return reengage_critic_loss(self.agent, self.batch, self.args, self.reward_grad)

    def value_loss(self) -> Tensor:
        return self.loss()[1]["value_loss"]

    def grad_loss(self) -> Tensor:
        return self.loss()[1]["grad_loss"]

    def gradient(self) -> Tensor:
        """By the critic's parameters, flat."""
        return gradient(self.loss()[0], self.agent.critic_params)

    def set_alpha(self, alpha: float | str) -> None:
        self.args.alpha = alpha
        self.agent.weight.alpha = alpha

    def term_gradient(self) -> Tensor:
        """Gradient of the gradient term without its factor: the loss is linear in alpha."""
        with_term = self.gradient()
        self.set_alpha(3 * self.args.alpha)
        with_more = self.gradient()
        self.set_alpha(self.args.alpha / 3)
        return (with_more - with_term) / (2 * self.args.alpha)

    def unclipped_target(self) -> Tensor:  # (batch,)
        batch = self.batch
        next_action = self.agent.target_actor(batch.next_obs, batch.goal)
        next_q = self.agent.target_critic(batch.next_obs, batch.goal, next_action)
        return batch.reward + GAMMA * (1 - batch.terminated) * next_q

    def inside(self) -> Tensor:
        """1 where the target is not clipped, else 0; (batch,)."""
        target = self.unclipped_target()
        inside = (target > -1 / (1 - GAMMA)) & (target < 0)
        return inside.double() if self.args.clip_target else torch.ones_like(target)

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

    def keep(self, rows: Tensor) -> None:
        """Leaves only the rows of a mask (batch,)."""
        self.batch = Batch(*(array[rows] for array in self.batch))
        if self.reward_grad is not None:
            self.reward_grad = self.reward_grad[rows]


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
        target = problem.unclipped_target()
        counted = target[problem.mask() == 1]
        assert (counted < -10).any()
        assert (target > 0).any()
        assert ((counted > -10) & (counted < 0)).any()
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
def test_critic_gradient_equals_a_derivation_by_torch_func(case: str):
    problem = make_problem(**CASES[case])
    agent, batch = problem.agent, problem.batch
    is_dense = problem.reward_grad is not None

    def target_of(
        goal: Tensor, next_obs: Tensor, achieved_goal: Tensor, reward: Tensor, terminated: Tensor
    ) -> Tensor:
        """Of ONE transition; a dense reward is differentiated here, not taken from the batch."""
        next_obs, goal = next_obs[None], goal[None]
        next_action = agent.target_actor(next_obs, goal)
        next_q = agent.target_critic(next_obs, goal, next_action)[0]
        if is_dense:
            reward = -(achieved_goal - goal[0]).square().sum().sqrt()
        return reward + GAMMA * (1 - terminated) * next_q

    def q_of(params: dict[str, Tensor], goal: Tensor, obs: Tensor, action: Tensor) -> Tensor:
        inputs = obs[None], goal[None], action[None]
        return torch.func.functional_call(agent.critic, params, inputs)[0]

    rows = batch.goal, batch.next_obs, batch.next_achieved_goal, batch.reward, batch.terminated
    target_grad, target = torch.func.vmap(torch.func.grad_and_value(target_of))(*rows)
    target_grad = problem.inside()[:, None] * target_grad  # a clipped target is a constant
    if problem.args.clip_target:
        target = target.clamp(-1 / (1 - GAMMA), 0)

    def loss(params: dict[str, Tensor]) -> Tensor:
        grad_and_q = torch.func.grad_and_value(q_of, argnums=1)
        grad_and_q = torch.func.vmap(grad_and_q, in_dims=(None, 0, 0, 0))
        q_grad, q = grad_and_q(params, batch.goal, batch.obs, batch.action)
        squares = (q_grad - target_grad) ** 2 * problem.goal_scale() ** 2  # (batch, goal_dim)
        grad_loss = (squares.sum(1) * problem.mask()).sum() / (BATCH * GOAL_DIM)
        return ((q - target) ** 2).sum() / BATCH + problem.args.alpha * grad_loss

    params = {name: param.detach() for name, param in agent.critic.named_parameters()}
    gradients, value = torch.func.grad_and_value(loss)(params)
    close(problem.loss()[0].detach(), value)
    close(problem.gradient(), flat(gradients.values()))


@every_case
def test_gradient_term_equals_finite_differences_by_the_goal(case: str):
    """No automatic differentiation: networks in numpy, differences of goals a little apart."""
    problem = make_problem(**CASES[case])
    b = Batch(*(array.numpy() for array in problem.batch))

    def q_minus_target(goal: np.ndarray) -> np.ndarray:  # (batch, goal_dim) -> (batch,)
        reward = b.reward
        if problem.reward_grad is not None:
            reward = -np.linalg.norm(b.next_achieved_goal - goal, axis=1)
        q = numpy_critic(problem.agent.critic, b.obs, goal, b.action)
        return q - numpy_target(problem, reward, goal)

    step = 1e-6
    columns = []
    for shift in step * np.eye(GOAL_DIM):
        difference = q_minus_target(b.goal + shift) - q_minus_target(b.goal - shift)
        columns.append(difference / (2 * step))
    differences = problem.goal_scale().numpy() * np.stack(columns, axis=1)
    expected = np.mean(problem.mask().numpy()[:, None] * differences**2)
    assert problem.grad_loss().item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("dense", [False, True])
def test_the_gradient_of_a_normalised_critic_is_by_the_normalised_goal(dense: bool):
    problem = make_problem(normalize=True, dense=dense)
    problem.keep(normalized_goal(problem).abs().amax(1) < 5)  # beyond it z is no function of g
    agent, rows = problem.agent, problem.batch
    obs = agent.normalizer(torch.cat([rows.obs, rows.goal], 1))[:, :OBS_DIM]
    next_obs = agent.normalizer(torch.cat([rows.next_obs, rows.goal], 1))[:, :OBS_DIM]

    z = normalized_goal(problem).requires_grad_()  # the normalised goal is the leaf
    q = agent.critic.net(torch.cat([obs, z, rows.action], 1))[:, 0]
    next_action = agent.target_actor.net(torch.cat([next_obs, z], 1)).tanh()
    next_q = agent.target_critic.net(torch.cat([next_obs, z, next_action], 1))[:, 0]
    goal = agent.normalizer.mean[OBS_DIM:] + agent.normalizer.std[OBS_DIM:] * z
    reward = -(rows.next_achieved_goal - goal).norm(dim=1) if dense else rows.reward
    target = reward + GAMMA * (1 - rows.terminated) * next_q
    q_grad = torch.autograd.grad(q.sum(), z, create_graph=True)[0]
    target_grad = torch.autograd.grad(target.sum(), z)[0]
    term = (problem.mask()[:, None] * (q_grad - target_grad) ** 2).mean()

    close(problem.grad_loss(), term)
    close(problem.term_gradient(), gradient(term, agent.critic_params))


def test_masked_rows_contribute_nothing_to_the_gradient_term():
    problem = make_problem()
    term, term_gradient, value = problem.grad_loss(), problem.term_gradient(), problem.value_loss()
    masked = (problem.mask() == 0)[:, None]
    for name in ("obs", "goal", "action", "next_obs"):
        array = getattr(problem.batch, name)
        changed = torch.where(masked, array + 1, array)
        problem.batch = problem.batch._replace(**{name: changed})
    close(problem.grad_loss(), term, 1e-12)
    close(problem.term_gradient(), term_gradient)
    assert not problem.value_loss().isclose(value)  # Eq. (4) does see them


def test_the_mean_divides_by_the_whole_batch_masked_rows_included():
    problem = make_problem()
    term, mask = problem.grad_loss(), problem.mask() == 1
    problem.keep(mask)
    close(problem.grad_loss() * mask.sum() / BATCH, term, 1e-12)


def test_c_low_says_which_rows_of_a_sparse_reward_count():
    problem = make_problem()
    term = problem.grad_loss()
    problem.batch = problem.batch._replace(reward=problem.batch.reward + 1)  # 0 and 1 ...
    problem.args.c_low = 0.0  # ... of which 0 is the low one
    close(problem.grad_loss(), term, 1e-12)


def test_every_row_of_a_dense_reward_counts_even_one_that_equals_c_low():
    problem = make_problem(dense=True)
    term = problem.grad_loss()
    reward = problem.batch.reward.clone()
    reward[::2] = -1  # its value has no say in the gradient
    problem.batch = problem.batch._replace(reward=reward)
    close(problem.grad_loss(), term, 1e-12)
    assert problem.loss()[1]["mask"].all()


@every_case
def test_curves_are_means_norms_and_the_cosine_of_both_gradients(case: str):
    problem = make_problem(**CASES[case])
    loss, info = problem.loss()
    curves = curves_of(info)
    agent, b = problem.agent, problem.batch
    goal = b.goal.clone().requires_grad_()
    q = agent.critic(b.obs, goal, b.action)
    q_grad = torch.autograd.grad(q.sum(), goal)[0]
    problem.batch = b._replace(goal=goal)
    target = problem.unclipped_target()
    target_grad = problem.inside()[:, None] * torch.autograd.grad(target.sum(), goal)[0]
    if problem.reward_grad is not None:
        target_grad = target_grad + problem.reward_grad
    if problem.args.clip_target:
        target = target.clamp(-1 / (1 - GAMMA), 0)
    lengths = q_grad.square().sum(1).sqrt(), target_grad.square().sum(1).sqrt()
    product = (q_grad * target_grad).sum(1)
    cosine = torch.where(product == 0, 0, product / (lengths[0] * lengths[1]))
    value, weighted = info["value_loss"].item(), 0.7 * info["grad_loss"].item()
    seen = problem.mask() > 0  # by the term
    expected = {
        "losses/value": value,
        "losses/gradient": weighted / 0.7,
        "values/q": q.mean().item(),
        "values/target": target.mean().item(),
        "gradient/alpha": 0.7,
        "gradient/ratio": weighted / value,
        "gradient/norm": lengths[0][seen].mean(),
        "gradient/target_norm": lengths[1][seen].mean(),
        "gradient/cosine": cosine[seen].mean(),
        "gradient/rows": problem.mask().mean(),
    }
    assert curves.keys() == expected.keys()
    for name, number in expected.items():
        assert curves[name].item() == pytest.approx(float(number), rel=1e-5), name
        assert not curves[name].requires_grad
    assert loss.item() == pytest.approx(value + weighted)


@every_case
def test_no_gradient_reaches_the_target_networks(case: str):
    problem = make_problem(**CASES[case])
    agent = problem.agent
    expected = problem.gradient()
    problem.loss()[0].backward(inputs=agent.critic_params)  # as in training
    for param in agent.target_params:
        assert param.grad is None
        assert not param.requires_grad
    assert not problem.batch.goal.requires_grad
    assert problem.batch.goal.grad is None

    for param in agent.target_params:  # even when they ask for one
        param.requires_grad_(True)
    loss = problem.loss()[0]
    grads = torch.autograd.grad(loss, agent.target_params, allow_unused=True, retain_graph=True)
    assert all(grad is None for grad in grads)
    assert torch.equal(gradient(loss, agent.critic_params), expected)


@every_case
def test_the_target_is_a_constant_even_where_the_target_critic_is_the_critic_itself(case: str):
    problem = make_problem(**CASES[case])
    problem.agent.critic.load_state_dict(problem.agent.target_critic.state_dict())
    expected = problem.gradient()
    problem.agent.target_critic = problem.agent.critic
    close(problem.gradient(), expected)


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
    for network in (agent.critic, agent.target_critic, agent.target_actor):
        network.float()
        network.net.register_forward_hook(lambda _, __, output: dtypes.append(output.dtype))
    problem.batch = Batch(*(array.float() for array in problem.batch))
    loss, expected = problem.loss()[0], problem.gradient()
    assert set(dtypes) == {torch.float32}
    dtypes.clear()
    with torch.autocast("cpu", torch.bfloat16):  # as the script does with --matmul-precision medium
        rounded_loss, rounded = problem.loss()[0], problem.gradient()
    assert set(dtypes) == {torch.bfloat16}
    assert rounded_loss.dtype == rounded.dtype == torch.float32
    assert 0 < (rounded_loss / loss - 1).abs() < 0.02
    assert (rounded - expected).norm() < 0.05 * expected.norm()


@pytest.mark.parametrize("case", ["sparse", "sparse and clipped", "sparse and normalised"])
def test_with_alpha_0_losses_and_gradients_are_bit_for_bit_those_of_ddpg_her(case: str):
    problem = make_problem(**CASES[case])
    agent = problem.agent
    for network in (agent.critic, agent.target_critic, agent.target_actor):
        network.float()
    problem.batch = Batch(*(array.float() for array in problem.batch))
    problem.set_alpha(0.0)
    plain_args = ddpg_her.Args(gamma=GAMMA, clip_target=problem.args.clip_target)
    loss, info = ddpg_her.ddpg_critic_loss(agent, problem.batch, plain_args)
    expected = gradient(loss, agent.critic_params)

    ours, our_info = problem.loss()
    assert ours.dtype == torch.float32
    assert torch.equal(ours, loss)
    assert torch.equal(problem.gradient(), expected)
    assert our_info.pop("alpha") == 0 and our_info.keys() == info.keys()
    for name, value in info.items():
        assert torch.equal(our_info[name], value), name


# The losses of DDPG


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


def numpy_target(problem: Problem, reward: np.ndarray, goal: np.ndarray) -> np.ndarray:
    next_obs, terminated = problem.batch.next_obs.numpy(), problem.batch.terminated.numpy()
    next_action = numpy_actor(problem.agent.target_actor, next_obs, goal)
    next_q = numpy_critic(problem.agent.target_critic, next_obs, goal, next_action)
    target = reward + GAMMA * np.where(terminated == 1, 0, next_q)
    return np.clip(target, -1 / (1 - GAMMA), 0) if problem.args.clip_target else target


@every_case
def test_the_value_loss_of_both_scripts_equals_equation_4(case: str):
    problem = make_problem(**CASES[case])
    b = Batch(*(array.numpy() for array in problem.batch))
    target = numpy_target(problem, b.reward, b.goal)
    q = numpy_critic(problem.agent.critic, b.obs, b.goal, b.action)
    expected = np.mean((q - target) ** 2)
    loss, info = ddpg_her.ddpg_critic_loss(problem.agent, problem.batch, problem.args)
    assert loss.item() == pytest.approx(expected, rel=1e-10)
    assert info["q"].mean().item() == pytest.approx(q.mean(), rel=1e-10)
    assert info["target"].mean().item() == pytest.approx(target.mean(), rel=1e-10)
    assert problem.value_loss().item() == pytest.approx(expected, rel=1e-10)


def make_actor_loss(script: ModuleType) -> tuple[Critic, Actor, Batch, Callable[[], Tensor]]:
    problem = make_problem(normalize=True)
    critic, batch = problem.agent.critic, problem.batch
    actor = copy.deepcopy(problem.agent.target_actor).requires_grad_(True)
    return critic, actor, batch, lambda: script.actor_loss(critic, actor, batch, action_l2=0.7)


@pytest.mark.parametrize("script", DDPG)
def test_actor_loss_equals_equation_5_and_the_action_penalty(script: ModuleType):
    critic, actor, batch, loss = make_actor_loss(script)
    obs, goal = batch.obs.numpy(), batch.goal.numpy()
    action = numpy_actor(actor, obs, goal)
    q = numpy_critic(critic, obs, goal, action)
    assert loss().item() == pytest.approx(-np.mean(q) + 0.7 * np.mean(action**2), rel=1e-10)


@pytest.mark.parametrize("script", DDPG)
def test_the_actors_gradient_passes_through_the_critics_action(script: ModuleType):
    _, actor, _, loss = make_actor_loss(script)
    params = list(actor.net.parameters())
    close(gradient(loss(), params), finite_differences(loss, params), 1e-7)


@pytest.mark.parametrize("script", DDPG)
def test_the_actor_step_leaves_the_critic_without_a_gradient(script: ModuleType):
    critic, actor, _, loss = make_actor_loss(script)
    loss().backward(inputs=list(actor.net.parameters()))
    for param in critic.net.parameters():
        assert param.grad is None
        assert param.requires_grad


# The gradient of a dense reward


def test_the_dense_reward_gradient_of_continuous_seek_equals_finite_differences():
    torch.manual_seed(0)
    env = make("ContinuousSeek4Dense-v0").unwrapped
    achieved_goal, goal = torch.rand(2, 20, 4).double() * 10 - 5

    def reward(goal: Tensor) -> Tensor:  # (n, 4) -> (n,)
        return torch.from_numpy(env.compute_reward(achieved_goal.numpy(), goal.numpy(), {}))

    gradient = env.compute_reward_gradient(achieved_goal.numpy(), goal.numpy(), {})
    close(torch.from_numpy(gradient), slopes(reward, goal), 1e-6)
    at_the_kink = env.compute_reward_gradient(goal.numpy(), goal.numpy(), {})
    assert not at_the_kink.any()  # 0, not NaN


def test_environments_give_the_loss_the_gradient_of_a_dense_reward():
    problem = make_problem(dense=True)
    envs = vector_of("ContinuousSeek2Dense-v0", 1, seed=0)
    reward_grad = envs.reward_gradient(problem.batch)
    close(reward_grad, problem.reward_grad, 1e-6)
    assert reward_grad.dtype == problem.batch.goal.dtype
    envs.close()
