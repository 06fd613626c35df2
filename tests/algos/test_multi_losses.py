"""Multi-ReenGAGE: packed losses equal the padded equations; absent goals leave no trace."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from conftest import vector_of
from numerics import CPU, finite_differences, gradient, make_agent, slopes
from torch import Tensor, nn

from algos import ddpg_multi_reengage
from algos.ddpg_multi_reengage import (
    Args,
    AutoAlpha,
    CnnEncoder,
    GoalEncoder,
    Goals,
    GoalSetBatch,
    GoalSetReplayBuffer,
    gradients,
    mlp,
    multi_actor_loss,
    multi_reengage_critic_loss,
    pack,
    state_of,
    update,
)
from benchmark.speed.padded import padded_actor_loss, padded_critic_loss
from envs import run
from envs.run.files import pack as file_of

torch.set_num_threads(1)

BATCH, N_MAX, STATE_DIM, Z_DIM, GAMMA = 7, 5, 6, 3, 0.9


@dataclass
class Problem:
    """Everything that the losses are given."""

    agent: Any
    goal: np.ndarray  # (batch, 3 n_max), as the environments give it
    batch: GoalSetBatch
    args: Args

    def loss(self) -> tuple[Tensor, Tensor, dict]:
        return multi_reengage_critic_loss(self.agent, self.batch, self.args)

    def actor_loss(self) -> Tensor:
        return multi_actor_loss(self.agent, self.batch, self.loss()[1], self.args)

    def gradient(self) -> Tensor:
        """By the critic's parameters, flat."""
        return gradient(self.loss()[0], self.agent.critic_params)

    def set_alpha(self, alpha: float | str) -> None:
        self.args.alpha = alpha
        self.agent.auto_alpha = AutoAlpha(self.args)

    def slots(self) -> Tensor:  # (batch, n_max, 3): gate, x, y
        return torch.from_numpy(self.goal.reshape(BATCH, N_MAX, 3).copy())

    def present(self) -> Tensor:  # (batch, n_max), the gates
        return self.slots()[..., 0]

    def repack(self) -> None:
        """Makes the batch of `goal` again; rewards stay with their goals."""
        self.batch = self.batch._replace(goals=pack(self.goal))
        present = self.present() != 0
        self.batch = self.batch._replace(item_reward=self.item_rewards()[present])

    def item_rewards(self) -> Tensor:
        """R_item of each slot, (batch, n_max): 1 where a present goal is achieved."""
        achieved = self.batch.next_state[:, None, -2:]
        return self.present() * (self.slots()[..., 1:] == achieved).all(-1)


def make_problem(alpha: float = 0.7, **how: Any) -> Problem:
    """A random one with 1 to 5 goals a row; `how` are further flags."""
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    args = Args(
        alpha=alpha,
        gamma=GAMMA,
        n_max=N_MAX,
        alpha_warmup=1000,
        embedding_dim=Z_DIM,
        hidden_dim=8,
        **how,
    )
    dims = {"obs_dim": STATE_DIM - 2, "action_dim": 1}
    agent = make_agent(ddpg_multi_reengage, args, **dims)
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
        reward=torch.tensor([1, 1, 1, 0, 0, 1, 1]).double(),
        item_reward=None,
        next_state=next_state,
        terminated=(torch.arange(BATCH) == 2).double(),
    )
    problem = Problem(agent, goal.reshape(BATCH, -1), batch, args)
    problem.repack()
    assert torch.equal(problem.item_rewards().sum(1), batch.reward)
    return problem


def padded_embedding(encoder: GoalEncoder, state: Tensor, goal: Tensor, gates: Tensor) -> Tensor:
    """Eq. (36) as it stands, all slots encoded: goal (batch, n_max, 2), gates (batch, n_max)."""
    every_state = state[:, None].expand(-1, N_MAX, -1)
    items = encoder.net(torch.cat([goal, every_state], 2))
    return (gates[..., None] ** 2 * items).sum(1) / N_MAX


def padded_q(problem: Problem, gates: Tensor) -> Tensor:
    b, critic = problem.batch, problem.agent.critic
    z = padded_embedding(critic.encoder, b.state, problem.slots()[..., 1:], gates)
    return critic(b.state, z, b.action)


def padded_target(problem: Problem, gates: Tensor, policy_gates: Tensor | None = None) -> Tensor:
    """The target by the gates, the policy's own where they are given."""
    b, agent, cells = problem.batch, problem.agent, problem.slots()[..., 1:]
    policy_gates = gates if policy_gates is None else policy_gates
    z = padded_embedding(agent.target_critic.encoder, b.next_state, cells, gates)
    policy_z = padded_embedding(agent.target_actor.encoder, b.next_state, cells, policy_gates)
    next_action = agent.target_actor(b.next_state, policy_z)
    next_q = agent.target_critic(b.next_state, z, next_action)
    change = gates**2 - problem.present()
    reward = b.reward + (change * problem.item_rewards()).sum(1)  # Eq. (38)
    return reward + GAMMA * (1 - b.terminated) * next_q


CASES = {
    "shared": dict(),
    "shared, gates not through the policy": dict(policy_gates=False),
    "not shared": dict(share_encoder=False),
    "not shared, gates not through the policy": dict(share_encoder=False, policy_gates=False),
}
every_case = pytest.mark.parametrize("case", CASES)


def close(ours: Tensor, expected: Tensor, tolerance: float = 1e-10) -> None:
    torch.testing.assert_close(ours, expected, rtol=tolerance, atol=tolerance)


def none_of(loss: Tensor, params: list[Tensor]) -> bool:
    """Whether a loss depends on none of the parameters."""
    grads = torch.autograd.grad(loss, params, allow_unused=True)
    return all(grad is None for grad in grads)


@every_case
def test_loss_and_gradient_equal_the_literal_padded_equation(case: str):
    problem = make_problem(**CASES[case])
    gates = problem.present().requires_grad_()
    policy_gates = gates if problem.args.policy_gates else problem.present()
    target, q = padded_target(problem, gates, policy_gates), padded_q(problem, gates)
    target_grad = torch.autograd.grad(target.sum(), gates)[0]  # (batch, n_max)
    q_grad = torch.autograd.grad(q.sum(), gates, create_graph=True)[0]
    value_loss = nn.functional.mse_loss(q, target.detach())
    grad_loss = nn.functional.mse_loss(q_grad, target_grad)
    loss, _, curves = problem.loss()
    close(curves["losses/value"], value_loss)
    close(curves["losses/gradient"], grad_loss)
    close(curves["losses/critic"], loss)
    close(curves["values/q"], q.mean())
    close(curves["values/target"], target.mean())
    close(curves["gradient/ratio"], 0.7 * grad_loss / value_loss)
    close(curves["gradient/norm"], q_grad.norm())
    close(curves["gradient/target_norm"], target_grad.norm())
    close(
        curves["gradient/cosine"], (q_grad * target_grad).sum() / q_grad.norm() / target_grad.norm()
    )
    close(loss, value_loss + 0.7 * grad_loss)
    expected = gradient(value_loss + 0.7 * grad_loss, problem.agent.critic_params)
    close(problem.gradient(), expected)


@every_case
def test_gradient_equals_finite_differences_of_the_loss(case: str):
    problem = make_problem(**CASES[case])
    expected = finite_differences(lambda: problem.loss()[0], problem.agent.critic_params)
    close(problem.gradient(), expected, 1e-6)


@every_case
def test_the_gradient_term_equals_finite_differences_by_the_gates(case: str):
    problem = make_problem(**CASES[case])
    gates = problem.present()

    @torch.no_grad()
    def q_minus_target(moved: Tensor) -> Tensor:
        policy_gates = moved if problem.args.policy_gates else gates
        return padded_q(problem, moved) - padded_target(problem, moved, policy_gates)

    expected = slopes(q_minus_target, gates).square().mean()
    close(problem.loss()[2]["losses/gradient"], expected, 1e-6)


def test_the_padded_formulation_of_the_benchmark_has_the_same_losses():
    problem = make_problem()
    agent, batch, args = problem.agent, problem.batch, problem.args
    padded = padded_critic_loss(agent.critic, agent.target_critic, agent.target_actor, batch, args)
    close(padded, problem.loss()[0], 1e-6)
    padded = padded_actor_loss(agent.critic, agent.actor, batch, args)
    close(padded, problem.actor_loss(), 1e-6)


def test_absent_goals_have_no_influence_whatever_their_coordinates():
    problem = make_problem()
    loss, gradient = problem.loss()[0], problem.gradient()
    clean = problem.goal.copy()
    slots = problem.goal.reshape(BATCH, N_MAX, 3)
    slots[..., 1:][slots[..., 0] == 0] = 123.0
    problem.repack()
    assert torch.equal(problem.loss()[0], loss)
    assert torch.equal(problem.gradient(), gradient)
    obs = {
        "observation": np.ones((BATCH, STATE_DIM - 2), np.float32),
        "achieved_goal": np.zeros((BATCH, 2), np.float32),
    }
    actor = problem.agent.actor.float()
    actions = [
        actor.act(obs | {"desired_goal": goal.astype(np.float32)}) for goal in (problem.goal, clean)
    ]
    np.testing.assert_array_equal(*actions)


def test_the_order_of_goals_changes_nothing():
    problem = make_problem()
    loss, gradient = problem.loss()[0], problem.gradient()
    problem.goal = problem.goal.reshape(BATCH, N_MAX, 3)[:, [3, 1, 4, 0, 2]].reshape(BATCH, -1)
    problem.repack()
    close(problem.loss()[0], loss)
    close(problem.gradient(), gradient)


def test_goals_of_one_transition_do_not_touch_another():
    problem = make_problem(alpha=0.0)
    z = problem.loss()[1]
    problem.goal.reshape(BATCH, N_MAX, 3)[2, :3, 1:] += 1
    problem.repack()
    changed = (problem.loss()[1] != z).any(1)
    assert changed.tolist() == [i == 2 for i in range(BATCH)]


@every_case
def test_no_gradient_reaches_the_target_networks(case: str):
    problem = make_problem(**CASES[case])
    for param in problem.agent.target_params:
        param.requires_grad_(True)
    assert none_of(problem.loss()[0], problem.agent.target_params)


@pytest.mark.parametrize("share", [True, False])
def test_the_actors_loss_leaves_the_critics_encoder_alone_and_trains_its_own(share: bool):
    problem = make_problem(share_encoder=share)
    assert none_of(problem.actor_loss(), list(problem.agent.critic.encoder.parameters()))
    params = problem.agent.actor_params
    expected = problem.agent.actor.head if share else problem.agent.actor
    assert len(params) == len(list(expected.parameters()))
    for grad in torch.autograd.grad(problem.actor_loss(), params):
        assert grad.any()
    close(
        gradient(problem.actor_loss(), params),
        finite_differences(problem.actor_loss, params),
        1e-7,
    )


def test_the_actors_loss_is_minus_q_of_its_action():
    problem = make_problem()
    agent, b = problem.agent, problem.batch
    cells = problem.slots()[..., 1:]
    z = padded_embedding(agent.critic.encoder, b.state, cells, problem.present())
    expected = -agent.critic(b.state, z, agent.actor(b.state, z)).mean()
    close(problem.actor_loss(), expected)


def test_alpha_0_is_the_plain_critic_loss():
    problem = make_problem(alpha=0.0)
    gates = problem.present()
    expected = nn.functional.mse_loss(padded_q(problem, gates), padded_target(problem, gates))
    close(problem.loss()[0], expected)
    names = {"losses/value", "values/q", "values/target", "gradient/alpha", "gradient/ratio"}
    assert problem.loss()[2].keys() == names


def test_alpha_auto_is_a_constant_of_the_loss():
    problem = make_problem()
    problem.set_alpha("auto")
    problem.agent.auto_alpha.updates.fill_(999)  # the next update is the last one of the warm-up
    assert problem.loss()[2]["gradient/alpha"] == 0
    ours = problem.gradient()
    alpha = problem.loss()[2]["gradient/alpha"].item()
    assert alpha > 0
    problem.set_alpha(alpha)
    close(ours, problem.gradient(), 1e-6)


def test_encoding_in_pieces_equals_encoding_at_once():
    encoder = GoalEncoder(mlp((2 + STATE_DIM, 8, 8, Z_DIM)), Args(n_max=3000)).double()
    goal = np.random.default_rng(0).integers(-9, 9, (1, 3000, 3)).astype(float)
    goal[..., 0] = 1
    state = torch.randn(1, STATE_DIM).double()
    gates = torch.rand(3000).double()
    goals = pack(goal.reshape(1, -1))._replace(gate=gates)
    items = encoder.net(torch.cat([goals.cell, state.expand(3000, -1)], 1))
    expected = (gates[:, None] ** 2 * items).sum(0, keepdim=True) / 3000
    close(encoder(state, goals), expected)


def in_float32(problem: Problem) -> Problem:
    agent = problem.agent
    for network in (agent.critic, agent.actor, agent.target_critic, agent.target_actor):
        network.float()
    fields = problem.batch._asdict()
    goals = fields.pop("goals")
    fields = {name: field.float() for name, field in fields.items()}
    goals = Goals(goals.row, goals.cell.float(), goals.gate.float())
    problem.batch = GoalSetBatch(goals=goals, **fields)
    return problem


def test_medium_precision_encodes_in_bfloat16_and_stays_near_float32():
    exact = in_float32(make_problem())
    rounded = in_float32(make_problem(matmul_precision="medium"))
    for problem, expected in ((exact, torch.float32), (rounded, torch.bfloat16)):
        dtypes = []
        net = problem.agent.critic.encoder.net
        net.register_forward_hook(lambda _, __, z, dtypes=dtypes: dtypes.append(z.dtype))
        assert problem.gradient().dtype == torch.float32
        assert set(dtypes) == {expected}
    assert 0 < (rounded.loss()[0] / exact.loss()[0] - 1).abs() < 0.05
    difference = rounded.gradient() - exact.gradient()
    assert difference.norm() < 0.05 * exact.gradient().norm()


# The update


def test_a_compiled_update_is_one_program_for_any_number_of_goals(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    args = Args(n_max=30, alpha=0.7, embedding_dim=Z_DIM, hidden_dim=8)
    agents = []
    for _ in range(2):
        torch.manual_seed(0)
        agents.append(ddpg_multi_reengage.Agent(vector_of("DriveSeek30-v0", 1, 0), args, CPU))
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    buffer = play(200, capacity=9)
    compiled = run.compiled(gradients)
    numbers = set()
    for _ in range(6):
        batch = buffer.sample(16, CPU)
        numbers.add(len(batch.item_reward))
        for agent, function in zip(agents, (gradients, compiled), strict=True):
            monkeypatch.setattr(ddpg_multi_reengage, "gradients", function)
            update(agent, batch, args)
    assert len(numbers) > 3 and torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1
    assert "--compile" not in capsys.readouterr().out
    for ours, expected in zip(agents[1].critic_params, agents[0].critic_params, strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-3, atol=1e-5)


def test_a_step_of_the_image_encoder_does_not_depend_on_its_gradients_memory_layout():
    """Convolutions give theirs channels last, which a fused Adam does not look at."""
    args = Args(encoder="cnn", n_max=30, hidden_dim=8)
    agent = ddpg_multi_reengage.Agent(vector_of("DriveSeek30-v0", 1, 0), args, CPU)
    before = [parameter.detach().clone() for parameter in agent.critic_params]
    critic_grad, _, _ = gradients(agent, play(50, capacity=3).sample(4, CPU), args)
    layouts = zip(critic_grad, before, strict=True)
    assert any(grad.stride() != weight.stride() for grad, weight in layouts)
    ddpg_multi_reengage.descend(agent.critic_optimizer, critic_grad)
    for after, weight, grad in zip(agent.critic_params, before, critic_grad, strict=True):
        # Adam's first step is the learning rate times the gradient's sign
        is_large = grad.abs() > 1e-5
        expected = (weight - 1e-3 * grad.sign())[is_large]
        torch.testing.assert_close(after[is_large], expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("share", [True, False])
def test_a_new_agents_targets_are_copies_and_what_is_shared_stays_shared(share: bool):
    args = Args(n_max=N_MAX, share_encoder=share, embedding_dim=Z_DIM, hidden_dim=8)
    envs = vector_of(f"DriveSeek{N_MAX}-v0", 1, seed=0)
    agent = ddpg_multi_reengage.Agent(envs, args, CPU)
    assert (agent.actor.encoder is agent.critic.encoder) == share
    assert (agent.target_actor.encoder is agent.target_critic.encoder) == share
    assert agent.target_critic.encoder is not agent.critic.encoder
    online = agent.actor_params + agent.critic_params
    for target, ours in zip(agent.target_params, online, strict=True):
        assert target is not ours
        assert torch.equal(target, ours)
        assert not target.requires_grad


# The image encoder


def picture_of(goal: np.ndarray, state: list[float]) -> Tensor:
    """What the CNN sees of one goal set: (3, 168, 168)."""
    encoder = CnnEncoder(2)
    encoder.net = nn.Identity()
    goals = pack(goal[None])
    return encoder(torch.tensor([state]), goals)[0]


def test_the_picture_has_a_block_for_each_present_goal_and_none_for_an_empty_slot():
    goal = np.zeros(12, np.float32)
    goal[:3] = [1, -10, 10]
    image = picture_of(goal, [0.0, 0.0, 1.0, 0.0, 0.0, 0.0])
    assert image[0].sum() == 16 and image[0, 2:6, 162:166].all()  # cell (-10, 10), not cell (0, 0)
    goal[3:6] = [1, 0, 0]
    assert picture_of(goal, [0.0, 0.0, 1.0, 0.0, 0.0, 0.0])[0, 82:86, 82:86].all()


def test_the_picture_shows_position_and_next_position_and_wraps_at_the_edges():
    goal = np.float32([1, 5, 5])
    image = picture_of(goal, [0.0, 0.0, 0.0, 1.0, 0.0, 0.0])
    assert image[1].sum() == image[2].sum() == 16
    assert image[1, 82:86, 82:86].all()  # the middle of the map
    assert image[2, 82:86, 90:94].all()  # eight pixels on, in y
    image = picture_of(goal, [10.4, 0.0, 1.0, 0.0, 10.0, 0.0])
    assert image[1, [165, 166, 167, 0]][:, 82:86].all() and image[2, 5:9, 82:86].all()


def test_a_goal_is_achieved_about_where_its_block_overlaps_the_position():
    rng, wrong = np.random.default_rng(0), 0
    for position in rng.uniform(-10, 10, (300, 2)):
        cell = np.rint(position + rng.uniform(-0.7, 0.7, 2)).clip(-10, 10)
        image = picture_of(np.float32([1, *cell]), [*position.tolist(), 1.0, 0.0, 0.0, 0.0])
        overlap = bool((image[0] * image[1]).any())
        wrong += overlap != bool((np.rint(position) == cell).all())
    assert wrong < 60  # one pixel is an eighth of a cell


def test_the_cnns_gate_gradients_equal_finite_differences():
    torch.manual_seed(0)
    encoder = CnnEncoder(Z_DIM).double()
    goal = np.float64([1, -10, 10, 1, 0, 0, 1, 3, -4, 0, 0, 0])
    goals = pack(goal[None])
    state = torch.tensor([[1.2, -3.4, 0.6, 0.8, 1.0, -3.0]]).double()

    def value(gates: Tensor) -> Tensor:
        return encoder(state, goals._replace(gate=gates)).square().sum()

    gates = torch.ones(3).double().requires_grad_()
    ours = gradient(value(gates), [gates])
    assert ours.abs().min() > 0
    expected = finite_differences(lambda: value(gates), [gates], step=1e-5)
    torch.testing.assert_close(ours, expected, rtol=1e-4, atol=0)


# The replay buffer


def play(steps: int, capacity: int) -> GoalSetReplayBuffer:
    """A buffer filled by random play in DriveSeek as the script fills it."""
    envs, rng = vector_of("DriveSeek30-v0", 1, seed=0), np.random.default_rng(0)
    buffer = GoalSetReplayBuffer(envs, Args(buffer_size=capacity * 40), rng)
    obs = envs.reset()
    for _ in range(steps):
        action = rng.uniform(-1, 1, (1, 1)).astype(np.float32)
        next_obs, reward, terminated, truncated, _ = envs.step(action)
        step = {"state": state_of(obs)[0], "action": action[0]}
        step |= {"reward": reward[0], "terminated": terminated[0]}
        step["next_state"] = state_of(next_obs)[0]
        buffer.add(step, obs["desired_goal"][0], truncated[0])
        obs = envs.reset() if truncated[0] else next_obs
    return buffer


@pytest.mark.parametrize("steps", [15, 40, 41, 130, 1000])
def test_sampled_transitions_are_whole_with_their_own_goals_and_rewards(steps: int):
    batch = play(steps, capacity=4).sample(400, CPU)
    angle = torch.atan2(batch.state[:, 3], batch.state[:, 2]) + 0.5 * batch.action[:, 0]
    moved = batch.state[:, :2] + torch.stack([angle.cos(), angle.sin()], 1)
    moved = (moved + 10.5) % 21 - 10.5
    torch.testing.assert_close(batch.next_state[:, :2], moved, rtol=0, atol=1e-4)
    reached = (batch.goals.cell == batch.next_state[batch.goals.row, -2:]).all(1).float()
    torch.testing.assert_close(batch.item_reward, reached)
    total = torch.zeros(400).index_add(0, batch.goals.row, batch.item_reward)
    torch.testing.assert_close(batch.reward, total)
    assert not batch.terminated.any()
    assert steps < 100 or batch.reward.any()


def test_every_stored_step_is_drawn_the_unfinished_episodes_too_and_overwritten_ones_never():
    buffer = play(40 * 5 + 7, capacity=3)  # episodes 3 and 4 and seven steps of episode 5 are left
    length = buffer.data["length"]
    assert sorted(length) == [7, 40, 40]
    drawn = {tuple(state) for state in buffer.sample(5000, CPU).state.numpy().tolist()}
    stored = set()
    for i in range(3):
        stored |= {tuple(state) for state in buffer.data["state"][i, : length[i]].tolist()}
    assert drawn == stored


@pytest.mark.parametrize("steps", [40, 80, 130, 280, 300])
def test_a_buffer_from_a_checkpoint_goes_on_like_the_saved_one_but_for_its_unfinished_episode(
    steps: int,
):
    saved, fresh = play(steps, capacity=4), play(0, capacity=4)
    fresh.load_state_dict(saved.state_dict())
    saved.data["length"][saved.current] = 0
    assert (fresh.current, fresh.stored) == (saved.current, saved.stored)
    for _ in range(2):
        ours, theirs = fresh.sample(100, CPU), saved.sample(100, CPU)  # `rng` is restored too
        for name in ("state", "action", "reward", "item_reward", "next_state", "terminated"):
            assert torch.equal(getattr(ours, name), getattr(theirs, name)), name
        for column, expected in zip(ours.goals, theirs.goals, strict=True):
            assert torch.equal(column, expected)
    step = {name: array[0, 0] for name, array in saved.data.items() if array.ndim > 1}
    goal = step.pop("goal")
    for t in range(40):  # there is room for a whole episode
        fresh.add(step, goal, t == 39)
    assert fresh.data["length"][saved.current] == 40


def test_a_checkpoint_is_as_large_as_what_is_stored_whatever_the_buffer_could_hold():
    small, large = (len(file_of(play(130, capacity).state_dict())) for capacity in (5, 500))
    assert large == pytest.approx(small, rel=0.02)


def test_a_buffer_that_cannot_hold_two_episodes_is_refused():
    with pytest.raises(run.BadInput, match="--buffer-size 40 "):
        play(0, capacity=1)


def after_warmup(problem: Problem) -> tuple[Tensor, dict[str, Tensor]]:
    """Loss and curves of the first update with --alpha auto."""
    problem.set_alpha("auto")
    problem.agent.auto_alpha.updates.fill_(999)
    assert problem.loss()[2]["gradient/alpha"] == 0
    loss, _, curves = problem.loss()
    return loss, curves


@pytest.mark.parametrize("unit", [1e-3, 1e3])
def test_rewards_in_another_unit_leave_alpha_auto(unit: float):
    usual, other = make_problem(), make_problem()
    batch = other.batch
    other.batch = batch._replace(reward=unit * batch.reward, item_reward=unit * batch.item_reward)
    with torch.no_grad():
        for critic in (other.agent.critic, other.agent.target_critic):  # values in the new unit
            critic.head[-1].weight *= unit
            critic.head[-1].bias *= unit
    loss, info = after_warmup(usual)
    other_loss, other_info = after_warmup(other)
    torch.testing.assert_close(other_loss, unit**2 * loss, rtol=1e-6, atol=0)
    alpha = info["gradient/alpha"].item()
    assert alpha > 0 and other_info["gradient/alpha"].item() == pytest.approx(alpha, rel=1e-4)


def test_rewards_that_are_all_0_leave_loss_alpha_and_gradients_finite():
    problem = make_problem()
    batch = problem.batch
    problem.batch = batch._replace(reward=0 * batch.reward, item_reward=0 * batch.item_reward)
    loss, info = after_warmup(problem)
    assert loss.isfinite() and all(value.isfinite() for value in info.values())
    assert problem.gradient().isfinite().all()
