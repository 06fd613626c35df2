"""Multi-ReenGAGE: the packed losses equal the literal, padded equations, and absent goals leave no trace anywhere."""

import copy
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from algos.ddpg_multi_reengage import (
    Args,
    CnnEncoder,
    GoalEncoder,
    GoalSetActor,
    GoalSetBatch,
    GoalSetCritic,
    GoalSetReplayBuffer,
    mlp,
    multi_actor_loss,
    multi_reengage_critic_loss,
    pack,
)
from benchmark.speed.padded import padded_actor_loss, padded_critic_loss
from envs import VectorEnv

torch.set_num_threads(1)

CPU = torch.device("cpu")
BATCH, N_MAX, STATE_DIM, Z_DIM, GAMMA = 7, 5, 6, 3, 0.9


@dataclass
class Problem:
    critic: GoalSetCritic
    actor: GoalSetActor
    target_critic: GoalSetCritic
    target_actor: GoalSetActor
    goal: np.ndarray  # (batch, 3 n_max), as the environments give it
    batch: GoalSetBatch
    args: Args

    def loss(self) -> tuple[Tensor, Tensor, dict]:
        return multi_reengage_critic_loss(
            self.critic, self.target_critic, self.target_actor, self.batch, self.args
        )

    def gradient(self) -> Tensor:
        params = list(self.critic.parameters())
        return flat(torch.autograd.grad(self.loss()[0], params, materialize_grads=True))

    def repack(self) -> None:
        """Makes the batch of `goal` again; rewards stay with their goals."""
        goals, slot = pack(self.goal, CPU)
        goals = goals._replace(cell=goals.cell.double())
        self.batch = self.batch._replace(
            goals=goals, item_reward=self.item_rewards()[goals.row, slot]
        )

    def item_rewards(self) -> Tensor:
        """R_item of each slot, (batch, n_max): 1 where a present goal is the next state's achieved goal."""
        slots = torch.from_numpy(self.goal.reshape(BATCH, N_MAX, 3)).double()
        return slots[..., 0] * (slots[..., 1:] == self.batch.next_state[:, None, -2:]).all(-1)


def flat(tensors: list[Tensor] | tuple[Tensor, ...]) -> Tensor:
    return torch.cat([tensor.reshape(-1) for tensor in tensors])


def make_problem(share: bool = True, policy_gates: bool = True, alpha: float = 0.7) -> Problem:
    torch.manual_seed(0)
    rng = np.random.default_rng(0)

    def encoder() -> GoalEncoder:
        return GoalEncoder(mlp((2 + STATE_DIM, 8, 8, Z_DIM), xavier_init=True), N_MAX)

    def networks() -> tuple[GoalSetCritic, GoalSetActor]:
        critic = GoalSetCritic(encoder(), mlp((Z_DIM + STATE_DIM + 1, 8, 1), xavier_init=True))
        actor = GoalSetActor(
            critic.encoder if share else encoder(), mlp((Z_DIM + STATE_DIM, 8, 1), xavier_init=True)
        )
        for module in (critic, actor):
            for layer in module.modules():
                if isinstance(layer, nn.Linear):
                    nn.init.normal_(layer.bias, std=0.3)
        return critic.double(), actor.double()

    (critic, actor), (target_critic, target_actor) = networks(), networks()
    target_critic.requires_grad_(False)
    target_actor.requires_grad_(False)
    goal = np.zeros((BATCH, N_MAX, 3))
    for i in range(BATCH):
        count = 1 + i % N_MAX
        cells = rng.choice(25, count, replace=False)
        goal[i, :count] = np.stack([np.ones(count), cells // 5 - 2, cells % 5 - 2], 1)
    goal[1, 0, 1:] = 0  # a goal at the origin, where the empty slots seem to be
    next_state = torch.randn(BATCH, STATE_DIM).double()
    next_state[:, -2:] = torch.from_numpy(goal[:, 0, 1:])
    next_state[3:5, -2:] = 7  # no goal reached
    batch = GoalSetBatch(
        state=torch.randn(BATCH, STATE_DIM).double(),
        goals=None,
        action=torch.rand(BATCH, 1).double() * 2 - 1,
        reward=(torch.arange(BATCH) < 3).double() + (torch.arange(BATCH) > 4).double(),
        item_reward=None,
        next_state=next_state,
        terminated=(torch.arange(BATCH) == 2).double(),
    )
    args = Args(
        alpha=alpha, gamma=GAMMA, n_max=N_MAX, share_encoder=share, policy_gates=policy_gates
    )
    problem = Problem(
        critic, actor, target_critic, target_actor, goal.reshape(BATCH, -1), batch, args
    )
    problem.repack()
    assert torch.equal(problem.item_rewards().sum(1), batch.reward)
    return problem


def padded_embedding(encoder: GoalEncoder, state: Tensor, goal: Tensor, gates: Tensor) -> Tensor:
    """Eq. (36) as it stands, all slots encoded: goal (batch, n_max, 2), gates (batch, n_max)."""
    every_state = state[:, None].expand(-1, N_MAX, -1)
    return (gates[..., None] ** 2 * encoder.net(torch.cat([goal, every_state], 2))).sum(1) / N_MAX


def padded_q(problem: Problem, gates: Tensor) -> Tensor:
    slots = torch.from_numpy(problem.goal.reshape(BATCH, N_MAX, 3))
    z = padded_embedding(problem.critic.encoder, problem.batch.state, slots[..., 1:], gates)
    return problem.critic(problem.batch.state, z, problem.batch.action)


def padded_target(problem: Problem, gates: Tensor) -> Tensor:
    b, slots = problem.batch, torch.from_numpy(problem.goal.reshape(BATCH, N_MAX, 3))
    policy_gates = gates if problem.args.policy_gates else gates.detach()
    z = padded_embedding(problem.target_critic.encoder, b.next_state, slots[..., 1:], gates)
    policy_z = padded_embedding(
        problem.target_actor.encoder, b.next_state, slots[..., 1:], policy_gates
    )
    next_q = problem.target_critic(b.next_state, z, problem.target_actor(b.next_state, policy_z))
    reward = b.reward + ((gates**2 - present(problem)) * problem.item_rewards()).sum(1)  # Eq. (38)
    return reward + GAMMA * (1 - b.terminated) * next_q


def present(problem: Problem) -> Tensor:
    return torch.from_numpy(problem.goal.reshape(BATCH, N_MAX, 3)[..., 0].copy())


CASES = {
    "shared": dict(),
    "shared, gates not through the policy": dict(policy_gates=False),
    "not shared": dict(share=False),
    "not shared, gates not through the policy": dict(share=False, policy_gates=False),
}
every_case = pytest.mark.parametrize("case", CASES)


@every_case
def test_loss_and_gradient_equal_the_literal_padded_equation(case: str) -> None:
    problem = make_problem(**CASES[case])
    gates = present(problem).requires_grad_()
    target, q = padded_target(problem, gates), padded_q(problem, gates)
    target_grad = torch.autograd.grad(target.sum(), gates)[0]  # (batch, n_max)
    q_grad = torch.autograd.grad(q.sum(), gates, create_graph=True)[0]
    expected = nn.functional.mse_loss(q, target.detach()) + 0.7 * nn.functional.mse_loss(
        q_grad, target_grad
    )
    gradient = flat(
        torch.autograd.grad(expected, list(problem.critic.parameters()), materialize_grads=True)
    )
    torch.testing.assert_close(problem.loss()[0], expected, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(problem.gradient(), gradient, rtol=1e-10, atol=1e-10)


@every_case
def test_gradient_equals_finite_differences_of_the_loss(case: str) -> None:
    problem, step = make_problem(**CASES[case]), 1e-6
    differences = []
    for param in problem.critic.parameters():
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


@pytest.mark.parametrize("share", [True, False])
def test_the_gradient_term_equals_finite_differences_by_the_gates(share: bool) -> None:
    problem, step = make_problem(share), 1e-6
    gates, columns = present(problem), []
    with torch.no_grad():
        for slot in range(N_MAX):
            shift = step * nn.functional.one_hot(torch.tensor(slot), N_MAX)
            sides = [
                padded_q(problem, g) - padded_target(problem, g)
                for g in (gates + shift, gates - shift)
            ]
            columns.append((sides[0] - sides[1]) / (2 * step))
    expected = torch.stack(columns, 1).square().mean()
    torch.testing.assert_close(problem.loss()[2]["grad_loss"], expected, rtol=1e-6, atol=1e-9)


def test_the_padded_formulation_of_the_benchmark_has_the_same_losses() -> None:
    problem = make_problem()
    critic_loss, z, _ = problem.loss()
    networks = problem.critic, problem.target_critic, problem.target_actor
    torch.testing.assert_close(
        padded_critic_loss(*networks, problem.batch, problem.args), critic_loss
    )
    actor_loss = multi_actor_loss(problem.critic, problem.actor, problem.batch, z, problem.args)
    padded = padded_actor_loss(problem.critic, problem.actor, problem.batch, problem.args)
    torch.testing.assert_close(padded, actor_loss)


def test_absent_goals_have_no_influence_whatever_their_coordinates() -> None:
    problem = make_problem()
    loss, gradient = problem.loss()[0], problem.gradient()
    slots = problem.goal.reshape(BATCH, N_MAX, 3)
    slots[..., 1:][slots[..., 0] == 0] = 123.0
    problem.repack()
    assert torch.equal(problem.loss()[0], loss) and torch.equal(problem.gradient(), gradient)
    obs = {
        "observation": np.ones((BATCH, 4), np.float32),
        "achieved_goal": np.zeros((BATCH, 2), np.float32),
    }
    actor = problem.actor.float()
    clean = problem.goal.reshape(BATCH, N_MAX, 3) * slots[..., :1]
    actions = [
        actor.act(obs | {"desired_goal": g.reshape(BATCH, -1).astype(np.float32)})
        for g in (slots, clean)
    ]
    np.testing.assert_array_equal(*actions)


def test_the_order_of_goals_changes_nothing() -> None:
    problem = make_problem()
    loss, gradient = problem.loss()[0], problem.gradient()
    problem.goal = problem.goal.reshape(BATCH, N_MAX, 3)[:, [3, 1, 4, 0, 2]].reshape(BATCH, -1)
    problem.repack()
    torch.testing.assert_close(problem.loss()[0], loss, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(problem.gradient(), gradient, rtol=1e-10, atol=1e-12)


def test_goals_of_one_transition_do_not_touch_another() -> None:
    problem = make_problem(alpha=0.0)
    z = problem.loss()[1]
    slots = problem.goal.reshape(BATCH, N_MAX, 3)
    slots[2, :3, 1:] += 1
    problem.repack()
    changed = (problem.loss()[1] != z).any(1)
    assert changed.tolist() == [i == 2 for i in range(BATCH)]


@every_case
def test_no_gradient_reaches_the_target_networks(case: str) -> None:
    problem = make_problem(**CASES[case])
    targets = [
        *problem.target_critic.requires_grad_(True).parameters(),
        *problem.target_actor.head.parameters(),
    ]
    problem.target_actor.requires_grad_(True)
    assert all(
        grad is None for grad in torch.autograd.grad(problem.loss()[0], targets, allow_unused=True)
    )


@pytest.mark.parametrize("share", [True, False])
def test_the_actors_loss_leaves_the_critics_encoder_alone_and_trains_its_own(share: bool) -> None:
    problem = make_problem(share)
    loss = multi_actor_loss(
        problem.critic, problem.actor, problem.batch, problem.loss()[1], problem.args
    )
    critics = list(problem.critic.encoder.parameters())
    assert all(
        grad is None
        for grad in torch.autograd.grad(loss, critics, allow_unused=True, retain_graph=True)
    )
    own = list(problem.actor.head.parameters() if share else problem.actor.parameters())
    assert all(grad.any() for grad in torch.autograd.grad(loss, own))


def test_the_actors_loss_is_minus_q_of_its_action() -> None:
    problem = make_problem()
    gates, b = present(problem), problem.batch
    slots = torch.from_numpy(problem.goal.reshape(BATCH, N_MAX, 3))
    z = padded_embedding(problem.critic.encoder, b.state, slots[..., 1:], gates)
    expected = -problem.critic(b.state, z, problem.actor(b.state, z)).mean()
    loss = multi_actor_loss(problem.critic, problem.actor, b, problem.loss()[1], problem.args)
    torch.testing.assert_close(loss, expected, rtol=1e-10, atol=1e-10)


def test_alpha_0_is_the_plain_critic_loss() -> None:
    problem = make_problem(alpha=0.0)
    expected = nn.functional.mse_loss(
        padded_q(problem, present(problem)), padded_target(problem, present(problem))
    )
    torch.testing.assert_close(problem.loss()[0], expected, rtol=1e-10, atol=1e-10)
    assert "grad_loss" not in problem.loss()[2]


def test_encoding_in_pieces_equals_encoding_at_once() -> None:
    encoder = GoalEncoder(mlp((2 + STATE_DIM, 8, 8, Z_DIM), xavier_init=True), n_max=3000).double()
    goal = np.random.default_rng(0).integers(-9, 9, (1, 3000, 3)).astype(float)
    goal[..., 0] = 1
    state, (goals, _) = torch.randn(1, STATE_DIM).double(), pack(goal.reshape(1, -1), CPU)
    gates = torch.rand(3000).double()
    items = encoder.net(torch.cat([goals.cell, state.expand(3000, -1)], 1))
    expected = (gates[:, None] ** 2 * items).sum(0, keepdim=True) / 3000
    torch.testing.assert_close(encoder(state, goals, gates), expected, rtol=1e-10, atol=1e-12)


def test_medium_precision_encodes_in_bfloat16_and_stays_near_the_float32_loss_and_gradient() -> (
    None
):
    def loss_and_gradient(precision: str) -> tuple[float, Tensor, list[torch.dtype]]:
        problem, dtypes = make_problem(), []
        for network in (problem.critic, problem.actor, problem.target_critic, problem.target_actor):
            network.float()
        fields = problem.batch._asdict()
        goals = fields.pop("goals")
        fields = {name: field.float() for name, field in fields.items()}
        problem.batch = GoalSetBatch(goals=goals._replace(cell=goals.cell.float()), **fields)
        problem.critic.encoder.net.register_forward_hook(
            lambda _, __, items: dtypes.append(items.dtype)
        )
        torch.set_float32_matmul_precision(precision)
        try:
            return problem.loss()[0].item(), problem.gradient(), dtypes
        finally:
            torch.set_float32_matmul_precision("highest")

    loss, gradient, dtypes = loss_and_gradient("highest")
    rounded_loss, rounded_gradient, rounded_dtypes = loss_and_gradient("medium")
    assert set(dtypes) == {torch.float32} and set(rounded_dtypes) == {torch.bfloat16}
    assert rounded_gradient.dtype == torch.float32
    assert 0 < abs(rounded_loss / loss - 1) < 0.05
    assert (rounded_gradient - gradient).norm() < 0.05 * gradient.norm()


# The image encoder


def picture_of(goal: np.ndarray, state: list[float], gates: Tensor | None = None) -> Tensor:
    """What the CNN sees of one goal set: (3, 168, 168)."""
    encoder, seen = CnnEncoder(2), []
    encoder.net = nn.Sequential(nn.Module())
    encoder.net[0].forward = lambda image: seen.append(image) or image
    goals, _ = pack(goal[None], CPU)
    encoder(torch.tensor([state]), goals, torch.ones(len(goals.row)) if gates is None else gates)
    return seen[0][0]


def test_the_picture_has_a_block_for_each_present_goal_and_none_for_an_empty_slot() -> None:
    goal = np.zeros(12, np.float32)
    goal[:3] = [1, -10, 10]
    image = picture_of(goal, [0.0, 0.0, 1.0, 0.0, 0.0, 0.0])
    assert image[0].sum() == 16 and image[0, 2:6, 162:166].all()  # cell (-10, 10), not cell (0, 0)
    goal[3:6] = [1, 0, 0]
    assert picture_of(goal, [0.0, 0.0, 1.0, 0.0, 0.0, 0.0])[0, 82:86, 82:86].all()


def test_the_picture_shows_position_and_next_position_and_wraps_at_the_edges() -> None:
    goal = np.float32([1, 5, 5])
    image = picture_of(goal, [0.0, 0.0, 0.0, 1.0, 0.0, 0.0])
    assert image[1].sum() == image[2].sum() == 16
    assert image[1, 82:86, 82:86].all()  # the middle of the map
    assert image[2, 82:86, 90:94].all()  # eight pixels on, in y
    image = picture_of(goal, [10.4, 0.0, 1.0, 0.0, 10.0, 0.0])
    assert image[1, [165, 166, 167, 0]][:, 82:86].all() and image[2, 5:9, 82:86].all()


def test_a_goal_is_achieved_about_where_its_block_overlaps_the_position() -> None:
    rng, wrong = np.random.default_rng(0), 0
    for position in rng.uniform(-10, 10, (300, 2)):
        cell = np.rint(position + rng.uniform(-0.7, 0.7, 2)).clip(-10, 10)
        image = picture_of(np.float32([1, *cell]), [*position.tolist(), 1.0, 0.0, 0.0, 0.0])
        overlap = bool((image[0] * image[1]).any())
        wrong += overlap != bool((np.rint(position) == cell).all())
    assert wrong < 60  # one pixel is an eighth of a cell


def test_the_cnns_gate_gradients_equal_finite_differences() -> None:
    torch.manual_seed(0)
    encoder = CnnEncoder(Z_DIM).double()
    goal = np.float64([1, -10, 10, 1, 0, 0, 1, 3, -4, 0, 0, 0])
    goals, _ = pack(goal[None], CPU)
    state = torch.tensor([[1.2, -3.4, 0.6, 0.8, 1.0, -3.0]]).double()

    def value(gates: Tensor) -> Tensor:
        return encoder(state, goals, gates).square().sum()

    gates, step = torch.ones(3).double().requires_grad_(), 1e-5
    (gradient,) = torch.autograd.grad(value(gates), gates)
    shifts = step * torch.eye(3).double()
    expected = [
        (value(gates.detach() + s) - value(gates.detach() - s)).item() / (2 * step) for s in shifts
    ]
    assert gradient.abs().min() > 0
    np.testing.assert_allclose(gradient, expected, rtol=1e-4)


# The replay buffer


def play(steps: int, capacity: int) -> GoalSetReplayBuffer:
    """A buffer filled by random play in DriveSeek as the script fills it."""
    envs, rng = VectorEnv("DriveSeek30-v0", 1, seed=0), np.random.default_rng(0)
    buffer = GoalSetReplayBuffer(capacity * 40, envs, rng)
    obs = envs.reset()
    for _ in range(steps):
        action = rng.uniform(-1, 1, (1, 1)).astype(np.float32)
        next_obs, reward, terminated, truncated, _ = envs.step(action)
        state, next_state = (
            np.concatenate([o["observation"], o["achieved_goal"]], 1) for o in (obs, next_obs)
        )
        step = {
            "state": state[0],
            "action": action[0],
            "reward": reward[0],
            "terminated": terminated[0],
        }
        buffer.add(step, obs["desired_goal"][0], next_state[0], truncated[0])
        obs = envs.reset() if truncated[0] else next_obs
    return buffer


@pytest.mark.parametrize("steps", [15, 40, 41, 130, 1000])
def test_sampled_transitions_are_whole_with_their_own_goals_and_rewards(steps: int) -> None:
    batch = play(steps, capacity=4).sample(400, CPU)
    angle = torch.atan2(batch.state[:, 3], batch.state[:, 2]) + 0.5 * batch.action[:, 0]
    moved = batch.state[:, :2] + torch.stack([angle.cos(), angle.sin()], 1)
    moved = (moved + 10.5) % 21 - 10.5
    torch.testing.assert_close(batch.next_state[:, :2], moved, rtol=0, atol=1e-4)
    reached = (batch.goals.cell == batch.next_state[batch.goals.row, -2:]).all(1).float()
    torch.testing.assert_close(batch.item_reward, reached)
    total = torch.zeros(400).index_add(0, batch.goals.row, batch.item_reward)
    torch.testing.assert_close(batch.reward, total)
    assert not batch.terminated.any() and (steps < 100 or batch.reward.any())


def test_every_stored_step_is_drawn_the_unfinished_episodes_too_and_overwritten_ones_never() -> (
    None
):
    buffer = play(40 * 5 + 7, capacity=3)  # episodes 3 and 4 and seven steps of episode 5 are left
    assert sorted(buffer.length) == [7, 40, 40]
    drawn = {tuple(state) for state in buffer.sample(5000, CPU).state.numpy().tolist()}
    stored = {
        tuple(buffer.data["state"][i, t].tolist())
        for i in range(3)
        for t in range(buffer.length[i])
    }
    assert drawn == stored


def test_what_is_shared_stays_shared_in_the_target_networks() -> None:
    problem = make_problem()
    critic, actor = copy.deepcopy((problem.critic, problem.actor))  # as the script makes them
    assert actor.encoder is critic.encoder and critic.encoder is not problem.critic.encoder
