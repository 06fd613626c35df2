"""The losses are the paper's equations: against finite differences, torch.func and plain numpy, in float64."""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from algos import ddpg_her, ddpg_her_reengage
from algos.ddpg_her_reengage import (
    Actor,
    Args,
    Batch,
    Critic,
    Normalizer,
    mlp,
    reengage_critic_loss,
)
from envs import VectorEnv, make

torch.set_num_threads(1)

OBS_DIM, GOAL_DIM, ACTION_DIM, BATCH = 3, 2, 2, 24
GAMMA = 0.9  # clipped targets lie in [-10, 0]


@dataclass
class Problem:
    """Networks, a batch, and everything else that `reengage_critic_loss` is given."""

    critic: Critic
    target_critic: Critic
    target_actor: Actor
    batch: Batch
    args: Args
    reward_grad: Tensor | None  # (batch, goal_dim)

    def loss(self) -> tuple[Tensor, dict]:
        networks = self.critic, self.target_critic, self.target_actor
        return reengage_critic_loss(*networks, self.batch, self.args, self.reward_grad)

    def gradient(self) -> Tensor:  # (number of the critic's parameters,)
        params = list(self.critic.net.parameters())
        return flat(torch.autograd.grad(self.loss()[0], params, materialize_grads=True))

    def term_gradient(self) -> Tensor:
        """Gradient of the gradient term alone, without its factor alpha: the loss is linear in alpha."""
        alpha, with_term = self.args.alpha, self.gradient()
        self.args.alpha = 3 * alpha
        with_more = self.gradient()
        self.args.alpha = alpha
        return (with_more - with_term) / (2 * alpha)

    def unclipped_target(self) -> Tensor:  # (batch,)
        batch = self.batch
        next_q = self.target_critic(
            batch.next_obs, batch.goal, self.target_actor(batch.next_obs, batch.goal)
        )
        return batch.reward + GAMMA * (1 - batch.terminated) * next_q

    def inside(self) -> Tensor:
        """1 where the target is not clipped, else 0; (batch,)."""
        target = self.unclipped_target()
        return ((target > -1 / (1 - GAMMA)) & (target < 0) | (not self.args.clip_target)).double()

    def mask(self) -> Tensor:
        """1 where the gradient term counts: everywhere for a dense reward, at -1 for a sparse one; (batch,)."""
        return (
            torch.ones(BATCH).double()
            if self.reward_grad is not None
            else (self.batch.reward == -1).double()
        )


def goal_scale(problem: Problem) -> Tensor:  # (goal_dim,)
    """What a gradient by the raw goal is multiplied by: dg/dz = std for the normalised goal z = (g - mean) / std."""
    by_normalised_goal = problem.args.normalize and not problem.args.raw_goal_gradient
    return (
        problem.critic.goal_normalizer.std if by_normalised_goal else torch.ones(GOAL_DIM).double()
    )


def flat(tensors: list[Tensor] | tuple[Tensor, ...]) -> Tensor:
    return torch.cat([tensor.reshape(-1) for tensor in tensors])


def make_problem(
    dense: bool = False, clip: bool = False, normalize: bool = False, raw: bool = False
) -> Problem:
    """A random one with alpha = 0.7; raw: the gradient by the goal as it is although the goal is normalised."""
    torch.manual_seed(0)
    normalizers = Normalizer(OBS_DIM, normalize), Normalizer(GOAL_DIM, normalize)
    goals = torch.tensor([0.5, -1.0]) + torch.tensor([0.2, 3.0]) * torch.randn(BATCH, GOAL_DIM)
    if normalize:  # statistics that are neither 0 and 1 nor alike
        normalizers[0].update(2 + 0.5 * torch.randn(100, OBS_DIM))
        normalizers[1].update(goals)
        goals[:2, 0] += 3.0  # 15 sigma: beyond the clip at 5 sigma
        goals[2, 1] -= 45.0
    in_dim = OBS_DIM + GOAL_DIM

    def networks() -> tuple[Critic, Actor]:
        critic = Critic(
            *normalizers, mlp((in_dim + ACTION_DIM, 8, 8, 1), xavier_init=True)
        ).double()
        actor = Actor(*normalizers, mlp((in_dim, 8, ACTION_DIM), xavier_init=True)).double()
        with torch.no_grad():  # biases other than 0, so that nothing is symmetric
            for net in (critic.net, actor.net):
                for layer in net[::2]:
                    layer.bias.normal_(std=0.3)
        return critic, actor

    (critic, _), (target_critic, target_actor) = networks(), networks()
    difference = torch.randn(BATCH, GOAL_DIM).double()
    achieved_goal = goals.double() + difference
    batch = Batch(
        obs=2 + torch.randn(BATCH, OBS_DIM),
        goal=goals,
        action=torch.rand(BATCH, ACTION_DIM) * 2 - 1,
        reward=-difference.norm(dim=1) if dense else -(torch.rand(BATCH) < 0.6).float(),
        next_obs=2 + torch.randn(BATCH, OBS_DIM),
        achieved_goal=achieved_goal,
        terminated=(torch.rand(BATCH) < 0.2).float(),
    )
    problem = Problem(
        critic,
        target_critic.requires_grad_(False),
        target_actor.requires_grad_(False),
        Batch(*(array.double() for array in batch)),
        Args(alpha=0.7, gamma=GAMMA, clip_target=clip, normalize=normalize, raw_goal_gradient=raw),
        difference / difference.norm(dim=1, keepdim=True) if dense else None,
    )
    if (
        clip
    ):  # next values with mean -5 and std 8, so that targets lie below -10, above 0 and between
        with torch.no_grad():
            batch, last = problem.batch, target_critic.net[-1]
            next_q = target_critic(
                batch.next_obs, batch.goal, target_actor(batch.next_obs, batch.goal)
            )
            factor = 8 / next_q.std()
            last.weight *= factor
            last.bias.copy_(factor * (last.bias - next_q.mean()) - 5)
    # A test on this problem means nothing unless both sides of every case distinction occur in it
    assert 0 < problem.batch.terminated.sum() < BATCH
    assert dense or 0 < problem.mask().sum() < BATCH
    if clip:
        target = problem.unclipped_target()
        counted = target[problem.mask() == 1]
        assert (
            (counted < -10).any() and (target > 0).any() and ((counted > -10) & (counted < 0)).any()
        )
    if normalize:
        outside = normalizers[1](problem.batch.goal).abs() == 5
        assert outside.any(dim=0).all() and not outside.all(dim=1).any()
    return problem


CASES = {
    "sparse": dict(),
    "dense": dict(dense=True),
    "sparse and clipped": dict(clip=True),
    "sparse and normalised": dict(normalize=True),
    "sparse and normalised, raw goal gradient": dict(normalize=True, raw=True),
    "dense, clipped and normalised": dict(dense=True, clip=True, normalize=True),
}
every_case = pytest.mark.parametrize("case", CASES)


# ---- the ReenGAGE loss ----------------------------------------------------------------------------------------------


@every_case
def test_critic_gradient_equals_finite_differences_of_the_loss(case: str) -> None:
    problem, step = make_problem(**CASES[case]), 1e-6
    differences = []
    for param in problem.critic.net.parameters():
        values = param.data.view(
            -1
        )  # the targets come from other networks, so they stay constant here
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
def test_critic_gradient_equals_a_derivation_by_torch_func(case: str) -> None:
    problem = make_problem(**CASES[case])
    batch, dense = problem.batch, problem.reward_grad is not None

    def target_of(
        goal: Tensor, next_obs: Tensor, achieved_goal: Tensor, reward: Tensor, terminated: Tensor
    ) -> Tensor:
        """Of ONE transition; a dense reward is differentiated here, not taken from the batch."""
        next_obs, goal = next_obs[None], goal[None]
        next_q = problem.target_critic(next_obs, goal, problem.target_actor(next_obs, goal))[0]
        reward = -(achieved_goal - goal[0]).square().sum().sqrt() if dense else reward
        return reward + GAMMA * (1 - terminated) * next_q

    def q_of(params: dict[str, Tensor], goal: Tensor, obs: Tensor, action: Tensor) -> Tensor:
        return torch.func.functional_call(
            problem.critic, params, (obs[None], goal[None], action[None])
        )[0]

    transitions = batch.goal, batch.next_obs, batch.achieved_goal, batch.reward, batch.terminated
    target_grad, target = torch.func.vmap(torch.func.grad_and_value(target_of))(*transitions)
    target_grad = (
        problem.inside()[:, None] * target_grad
    )  # a clipped target does not depend on the goal
    target = target.clamp(-1 / (1 - GAMMA), 0) if problem.args.clip_target else target

    def loss(params: dict[str, Tensor]) -> Tensor:
        grad_and_q = torch.func.vmap(
            torch.func.grad_and_value(q_of, argnums=1), in_dims=(None, 0, 0, 0)
        )
        q_grad, q = grad_and_q(params, batch.goal, batch.obs, batch.action)
        squares = (q_grad - target_grad) ** 2 * goal_scale(problem) ** 2  # (batch, goal_dim)
        grad_loss = (squares.sum(1) * problem.mask()).sum() / (BATCH * GOAL_DIM)
        return ((q - target) ** 2).sum() / BATCH + problem.args.alpha * grad_loss

    params = {name: param.detach() for name, param in problem.critic.named_parameters()}
    gradients, value = torch.func.grad_and_value(loss)(params)
    torch.testing.assert_close(problem.loss()[0].detach(), value, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(
        problem.gradient(), flat(list(gradients.values())), rtol=1e-10, atol=1e-10
    )


@every_case
def test_gradient_term_equals_finite_differences_by_the_goal(case: str) -> None:
    """No automatic differentiation at all here: networks in numpy, differences between goals a little apart."""
    problem, step = make_problem(**CASES[case]), 1e-6
    b = Batch(*(array.numpy() for array in problem.batch))
    reward = (
        (lambda goal: -np.linalg.norm(b.achieved_goal - goal, axis=1))
        if problem.reward_grad is not None
        else None
    )

    def q_minus_target(goal: np.ndarray) -> np.ndarray:  # (batch, goal_dim) -> (batch,)
        target = numpy_target(problem, b.reward if reward is None else reward(goal), goal)
        return numpy_critic(problem.critic, b.obs, goal, b.action) - target

    differences = np.stack(
        [
            (q_minus_target(b.goal + shift) - q_minus_target(b.goal - shift)) / (2 * step)
            for shift in step * np.eye(GOAL_DIM)
        ],
        axis=1,
    )
    expected = np.mean(
        problem.mask().numpy()[:, None] * (goal_scale(problem).numpy() * differences) ** 2
    )
    assert problem.loss()[1]["grad_loss"].item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("dense", [False, True])
def test_the_gradient_of_a_normalised_critic_is_by_the_normalised_goal(dense: bool) -> None:
    problem = make_problem(normalize=True, dense=dense)
    inside = (
        problem.critic.goal_normalizer(problem.batch.goal).abs().amax(1) < 5
    )  # beyond the clip z is no function of g
    rows = Batch(*(array[inside] for array in problem.batch))
    problem.batch = rows
    problem.reward_grad = problem.reward_grad[inside] if dense else None
    normalise_obs, goal_normalizer = problem.critic.obs_normalizer, problem.critic.goal_normalizer

    z = goal_normalizer(rows.goal).requires_grad_()  # the normalised goal is the leaf
    obs, next_obs = normalise_obs(rows.obs), normalise_obs(rows.next_obs)
    q = problem.critic.net(torch.cat([obs, z, rows.action], 1))[:, 0]
    next_action = problem.target_actor.net(torch.cat([next_obs, z], 1)).tanh()
    next_q = problem.target_critic.net(torch.cat([next_obs, z, next_action], 1))[:, 0]
    goal = goal_normalizer.mean + goal_normalizer.std * z
    reward = -(rows.achieved_goal - goal).norm(dim=1) if dense else rows.reward
    target = reward + GAMMA * (1 - rows.terminated) * next_q
    q_grad = torch.autograd.grad(q.sum(), z, create_graph=True)[0]
    target_grad = torch.autograd.grad(target.sum(), z)[0]
    mask = torch.ones_like(rows.reward) if dense else (rows.reward == -1).double()
    term = (mask[:, None] * (q_grad - target_grad) ** 2).mean()
    term_gradient = flat(
        torch.autograd.grad(term, list(problem.critic.net.parameters()), materialize_grads=True)
    )

    torch.testing.assert_close(
        problem.loss()[1]["grad_loss"], term.detach(), rtol=1e-10, atol=1e-10
    )
    torch.testing.assert_close(problem.term_gradient(), term_gradient, rtol=1e-10, atol=1e-10)


def test_masked_rows_contribute_nothing_to_the_gradient_term() -> None:
    problem = make_problem()
    term, gradient = problem.loss()[1]["grad_loss"], problem.term_gradient()
    value = problem.loss()[1]["value_loss"]

    masked = (problem.mask() == 0)[:, None]
    changed = {
        name: torch.where(masked, getattr(problem.batch, name) + 1, getattr(problem.batch, name))
        for name in ("obs", "goal", "action", "next_obs")
    }
    problem.batch = problem.batch._replace(**changed)
    torch.testing.assert_close(problem.loss()[1]["grad_loss"], term, rtol=1e-12, atol=0)
    torch.testing.assert_close(problem.term_gradient(), gradient, rtol=1e-10, atol=1e-12)
    assert not problem.loss()[1]["value_loss"].isclose(value)  # Eq. (4) does see them


def test_the_mean_divides_by_the_whole_batch_masked_rows_included() -> None:
    problem = make_problem()
    term, mask = problem.loss()[1]["grad_loss"], problem.mask() == 1
    problem.batch = Batch(*(array[mask] for array in problem.batch))
    torch.testing.assert_close(
        term, problem.loss()[1]["grad_loss"] * mask.sum() / BATCH, rtol=1e-12, atol=0
    )


def test_c_low_says_which_rows_of_a_sparse_reward_count() -> None:
    problem = make_problem()
    term = problem.loss()[1]["grad_loss"]
    problem.batch = problem.batch._replace(
        reward=problem.batch.reward + 1
    )  # rewards of 0 and 1 ...
    problem.args.c_low = 0.0  # ... of which 0 is the low one
    torch.testing.assert_close(problem.loss()[1]["grad_loss"], term, rtol=1e-12, atol=0)


def test_every_row_of_a_dense_reward_counts_even_one_that_equals_c_low() -> None:
    problem = make_problem(dense=True)
    term = problem.loss()[1]["grad_loss"]
    problem.batch = problem.batch._replace(
        reward=-torch.ones(BATCH).double()
    )  # its value has no say in the gradient
    torch.testing.assert_close(problem.loss()[1]["grad_loss"], term, rtol=1e-12, atol=0)


@every_case
def test_no_gradient_reaches_the_target_networks(case: str) -> None:
    problem = make_problem(**CASES[case])
    targets = [*problem.target_critic.net.parameters(), *problem.target_actor.net.parameters()]
    critic_params = list(problem.critic.net.parameters())
    gradient = problem.gradient()

    problem.loss()[0].backward(inputs=critic_params)  # as in training
    assert all(param.grad is None and not param.requires_grad for param in targets)
    assert not problem.batch.goal.requires_grad and problem.batch.goal.grad is None

    for param in targets:  # even when they ask for one
        param.requires_grad_(True)
    loss = problem.loss()[0]
    assert all(
        grad is None
        for grad in torch.autograd.grad(loss, targets, allow_unused=True, retain_graph=True)
    )
    assert torch.equal(
        flat(torch.autograd.grad(loss, critic_params, materialize_grads=True)), gradient
    )


def test_in_bfloat16_only_matrix_products_are_rounded_and_loss_and_gradient_stay_near_those_of_float32() -> (
    None
):
    problem, dtypes = make_problem(normalize=True), []
    for network in (problem.critic, problem.target_critic, problem.target_actor):
        network.float()
        network.net.register_forward_hook(lambda _, __, output: dtypes.append(output.dtype))
    problem.batch = Batch(*(array.float() for array in problem.batch))
    loss, gradient = problem.loss()[0], problem.gradient()
    assert set(dtypes) == {torch.float32}
    dtypes.clear()
    with torch.autocast("cpu", torch.bfloat16):  # as the script does with --matmul-precision medium
        rounded_loss, rounded_gradient = problem.loss()[0], problem.gradient()
    assert set(dtypes) == {torch.bfloat16}
    assert rounded_loss.dtype == rounded_gradient.dtype == torch.float32
    assert 0 < (rounded_loss / loss - 1).abs() < 0.02
    assert (rounded_gradient - gradient).norm() < 0.05 * gradient.norm()


@pytest.mark.parametrize("case", ["sparse", "sparse and clipped", "sparse and normalised"])
def test_with_alpha_0_losses_and_gradients_are_bit_for_bit_those_of_ddpg_her(case: str) -> None:
    problem = make_problem(**CASES[case])
    networks = [
        network.float() for network in (problem.critic, problem.target_critic, problem.target_actor)
    ]
    problem.batch = Batch(*(array.float() for array in problem.batch))
    problem.args.alpha = 0.0
    plain_args = ddpg_her.Args(gamma=GAMMA, clip_target=problem.args.clip_target)
    loss, info = ddpg_her.ddpg_critic_loss(*networks, ddpg_her.Batch(*problem.batch), plain_args)
    gradient = flat(torch.autograd.grad(loss, list(problem.critic.net.parameters())))

    ours, our_info = problem.loss()
    assert ours.dtype == torch.float32 and torch.equal(ours, loss)
    assert torch.equal(problem.gradient(), gradient)
    assert our_info.keys() == info.keys() and all(
        torch.equal(our_info[key], info[key]) for key in info
    )


# ---- the losses of DDPG, in both scripts -----------------------------------------------------------------------------


def numpy_net(net: nn.Sequential, x: np.ndarray) -> np.ndarray:
    for layer in net[::2]:
        x = x @ layer.weight.detach().numpy().T + layer.bias.detach().numpy()
        x = np.maximum(x, 0) if layer is not net[-1] else x
    return x


def numpy_normalise(normalizer: Normalizer, x: np.ndarray) -> np.ndarray:
    mean, std = normalizer.mean.numpy(), normalizer.std.numpy()
    return np.clip((x - mean) / std, -5, 5) if normalizer.enabled else x


def numpy_critic(
    critic: Critic, obs: np.ndarray, goal: np.ndarray, action: np.ndarray
) -> np.ndarray:
    obs, goal = (
        numpy_normalise(critic.obs_normalizer, obs),
        numpy_normalise(critic.goal_normalizer, goal),
    )
    return numpy_net(critic.net, np.concatenate([obs, goal, action], 1))[:, 0]


def numpy_actor(actor: Actor, obs: np.ndarray, goal: np.ndarray) -> np.ndarray:
    obs, goal = (
        numpy_normalise(actor.obs_normalizer, obs),
        numpy_normalise(actor.goal_normalizer, goal),
    )
    return np.tanh(numpy_net(actor.net, np.concatenate([obs, goal], 1)))


def numpy_target(problem: Problem, reward: np.ndarray, goal: np.ndarray) -> np.ndarray:
    next_obs, terminated = problem.batch.next_obs.numpy(), problem.batch.terminated.numpy()
    next_q = numpy_critic(
        problem.target_critic, next_obs, goal, numpy_actor(problem.target_actor, next_obs, goal)
    )
    target = reward + GAMMA * np.where(terminated == 1, 0, next_q)
    return np.clip(target, -1 / (1 - GAMMA), 0) if problem.args.clip_target else target


@every_case
def test_ddpg_critic_loss_equals_equation_4(case: str) -> None:
    problem = make_problem(**CASES[case])
    b = Batch(*(array.numpy() for array in problem.batch))
    target = numpy_target(problem, b.reward, b.goal)
    expected = np.mean((numpy_critic(problem.critic, b.obs, b.goal, b.action) - target) ** 2)
    networks = problem.critic, problem.target_critic, problem.target_actor
    loss, _ = ddpg_her.ddpg_critic_loss(*networks, problem.batch, problem.args)
    assert loss.item() == pytest.approx(expected, rel=1e-10)
    assert problem.loss()[1]["value_loss"].item() == pytest.approx(expected, rel=1e-10)


def make_actor_loss(script: ModuleType) -> tuple[Critic, Actor, Batch, Callable[[], Tensor]]:
    problem = make_problem(normalize=True)
    critic, actor, batch = (
        problem.critic,
        copy.deepcopy(problem.target_actor).requires_grad_(True),
        problem.batch,
    )
    return critic, actor, batch, lambda: script.actor_loss(critic, actor, batch, action_l2=0.7)


@pytest.mark.parametrize("script", [ddpg_her, ddpg_her_reengage])
def test_actor_loss_equals_equation_5_and_the_action_penalty(script: ModuleType) -> None:
    critic, actor, batch, loss = make_actor_loss(script)
    obs, goal = batch.obs.numpy(), batch.goal.numpy()
    action = numpy_actor(actor, obs, goal)
    expected = -np.mean(numpy_critic(critic, obs, goal, action)) + 0.7 * np.mean(action**2)
    assert loss().item() == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("script", [ddpg_her, ddpg_her_reengage])
def test_the_actor_step_leaves_the_critic_without_a_gradient(script: ModuleType) -> None:
    critic, actor, _, loss = make_actor_loss(script)
    actor_params = list(actor.net.parameters())
    loss().backward(inputs=actor_params)
    assert all(param.grad is None and param.requires_grad for param in critic.net.parameters())

    step, bias = (
        1e-6,
        actor.net[-1].bias,
    )  # and the actor's own gradient passes through the critic's action
    values = []
    for sign in (1, -1):
        with torch.no_grad():
            bias[0] += sign * step
            values.append(loss().item())
            bias[0] -= sign * step
    assert bias.grad[0].item() == pytest.approx((values[0] - values[1]) / (2 * step), rel=1e-6)


# ---- the normaliser --------------------------------------------------------------------------------------------------


def test_normalizer_statistics_are_those_of_all_data_so_far() -> None:
    rng, normalizer, seen = np.random.default_rng(0), Normalizer(3, enabled=True), []
    for n in (1, 50, 7, 400):
        seen.append(rng.normal([0, 100, -3], [1, 0.05, 20], size=(n, 3)).astype(np.float32))
        normalizer.update(torch.from_numpy(seen[-1]))
        data = np.concatenate(seen).astype(np.float64)
        np.testing.assert_allclose(normalizer.mean, data.mean(0), rtol=1e-6)
        np.testing.assert_allclose(normalizer.std, np.maximum(data.std(0), 0.01), rtol=1e-5)
    np.testing.assert_allclose(
        normalizer(torch.from_numpy(seen[0])), (seen[0] - data.mean(0)) / data.std(0), atol=1e-3
    )


def test_normalizer_std_is_at_least_one_hundredth() -> None:
    normalizer = Normalizer(2, enabled=True)
    normalizer.update(torch.tensor([[3.0, 1.0], [3.0, 1.001]]))  # no spread, and too little
    np.testing.assert_allclose(normalizer.std, [0.01, 0.01], rtol=1e-6)
    np.testing.assert_allclose(normalizer(torch.tensor([[3.02, 1.0005]])), [[2.0, 0.0]], atol=1e-3)


def test_normalizer_clips_normalised_values_at_5_and_raw_values_at_200() -> None:
    normalizer = Normalizer(1, enabled=True)
    x = torch.tensor([[-1.0], [1.0]])
    normalizer.update(x)  # mean 0, std 1
    assert normalizer(
        torch.tensor([[-5.1], [-4.9], [4.9], [5.1]])
    ).flatten().tolist() == pytest.approx([-5, -4.9, 4.9, 5])
    normalizer.update(torch.tensor([[1e6], [-1e6]]))  # count as +-200
    assert normalizer.std.item() == pytest.approx(np.std([-1, 1, 200, -200]))
    assert normalizer(torch.tensor([[1e6]])).item() == pytest.approx(
        200 / np.std([-1, 1, 200, -200])
    )


def test_a_disabled_normalizer_changes_nothing() -> None:
    normalizer, x = Normalizer(2, enabled=False), torch.tensor([[1e6, -3.0]])
    normalizer.update(torch.randn(10, 2))
    assert torch.equal(normalizer(x), x)


# ---- the gradient of a dense reward ----------------------------------------------------------------------------------


def test_the_dense_reward_gradient_of_continuous_seek_equals_finite_differences() -> None:
    env, rng, step = make("ContinuousSeek4Dense-v0").unwrapped, np.random.default_rng(0), 1e-6
    achieved_goal, goal = rng.uniform(-5, 5, size=(2, 20, 4))
    gradient = env.compute_reward_gradient(achieved_goal, goal, {})
    assert gradient.shape == (20, 4)
    for i, shift in enumerate(step * np.eye(4)):
        above, below = (
            env.compute_reward(achieved_goal, goal + sign * shift, {}) for sign in (1, -1)
        )
        np.testing.assert_allclose(
            gradient[:, i], (above - below) / (2 * step), rtol=1e-6, atol=1e-8
        )
    assert not env.compute_reward_gradient(goal, goal, {}).any()  # at the kink: 0, not NaN


def test_vector_env_gives_the_loss_a_gradient_for_dense_rewards_and_none_for_sparse_ones() -> None:
    batch = make_problem(dense=True).batch
    reward_grad = VectorEnv("ContinuousSeek2Dense-v0", 1, seed=0).reward_gradient(batch)
    torch.testing.assert_close(
        reward_grad, make_problem(dense=True).reward_grad, rtol=1e-6, atol=1e-6
    )
    assert reward_grad.dtype == batch.goal.dtype
    assert VectorEnv("ContinuousSeek2-v0", 1, seed=0).reward_gradient(batch) is None
