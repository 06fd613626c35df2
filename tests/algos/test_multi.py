"""Multi-ReenGAGE's goal sets: packed, encoded, drawn as pictures, stored."""

import math

import numpy as np
import pytest
import torch
from conftest import vector_of
from numerics import slopes
from problems import CPU, N_MAX, STATE_DIM
from torch import Tensor, nn

from algos import ddpg_multi_reengage
from algos.ddpg_multi_reengage import (
    Args,
    CnnEncoder,
    GoalEncoder,
    GoalSetReplayBuffer,
    mlp,
    pack,
    state_of,
)
from envs import run
from envs.run.files import pack as file_of

# Packed goals


def random_slots(n: int, n_max: int) -> np.ndarray:  # (n, n_max, 3)
    rng = np.random.default_rng(0)
    return rng.integers(-9, 9, (n, n_max, 3)).astype(float)


def test_absent_goals_leave_no_trace_whatever_their_coordinates():
    slots = random_slots(20, N_MAX)
    slots[..., 0] %= 2
    found = []
    for coordinates in (0, 123):
        slots[slots[..., 0] == 0, 1:] = coordinates
        found.append(pack(slots.reshape(20, -1), CPU))
    assert 0 < len(found[0].row) < 20 * N_MAX
    for ours, theirs in zip(*found, strict=True):
        assert torch.equal(ours, theirs)


def test_encoding_in_pieces_equals_encoding_at_once():
    net = mlp((2 + STATE_DIM, 8, 8, 3)).double()
    slots = random_slots(1, 3000)
    slots[..., 0] = 1
    goals = pack(slots.reshape(1, -1), CPU)
    gates = torch.rand(3000).double()
    state = torch.randn(1, STATE_DIM).double()
    inputs = torch.cat([goals.cell, state.expand(3000, -1)], 1)
    expected = gates**2 @ net(inputs) / 3000
    z = GoalEncoder(net, Args(n_max=3000))(state, goals._replace(gate=gates))
    torch.testing.assert_close(z[0], expected)


# The image encoder


def picture_of(goal: np.ndarray, x: float = 0, y: float = 0, angle: float = 0) -> Tensor:
    """What the CNN sees of a goal set and the car at a position: (3, 168, 168)."""
    encoder = CnnEncoder(2)
    encoder.net = nn.Identity()
    goals = pack(goal[None], CPU)
    state = torch.tensor([[x, y, math.cos(angle), math.sin(angle), x, y]])
    return encoder(state, goals)[0]


def assert_block(channel: Tensor, x: int, y: int) -> None:
    """The only thing in a channel is a block of 4 x 4 pixels, around the map's edges too."""
    expected = torch.zeros(168, 168)
    expected[:4, :4] = 1
    assert torch.equal(channel, expected.roll((x, y), (0, 1)))


def test_the_picture_has_a_block_for_each_present_goal_and_none_for_an_empty_slot():
    goal = np.zeros(12, np.float32)
    goal[:3] = [1, -10, 10]
    image = picture_of(goal)
    assert_block(image[0], x=2, y=162)
    goal[3:6] = [1, 0, 0]
    assert_block(picture_of(goal)[0] - image[0], x=82, y=82)


def test_the_picture_shows_position_and_next_position_and_wraps_at_the_edges():
    goal = np.float32([1, 5, 5])
    image = picture_of(goal, angle=math.pi / 2)
    assert_block(image[1], x=82, y=82)  # the middle of the map
    assert_block(image[2], x=82, y=90)  # eight pixels on, in y
    image = picture_of(goal, x=10.4)
    assert_block(image[1], x=165, y=82)
    assert_block(image[2], x=5, y=82)


def test_the_cnns_gradients_by_the_gates_equal_finite_differences():
    torch.manual_seed(0)
    encoder = CnnEncoder(3).double()
    slots = np.float64([[1, -10, 10], [1, 0, 0], [1, 3, -4], [0, 0, 0]])
    goals = pack(slots.reshape(1, -1), CPU)
    state = torch.tensor([[1.2, -3.4, 0.6, 0.8, 1.0, -3.0]]).double()

    def value(gates: Tensor) -> Tensor:  # (1, 3) -> (1,)
        z = encoder(state, goals._replace(gate=gates[0]))
        return z.square().sum(1)

    gates = torch.ones(1, 3).double().requires_grad_()
    (ours,) = torch.autograd.grad(value(gates), gates)
    expected = slopes(value, gates).detach()
    assert ours.abs().min() > 0
    torch.testing.assert_close(ours, expected, rtol=1e-4, atol=0)


def test_a_step_of_the_image_encoder_does_not_depend_on_its_gradients_memory_layout():
    """Convolutions give theirs channels last, which a fused Adam does not look at."""
    args = Args(encoder="cnn", n_max=30, hidden_dim=8)
    agent = ddpg_multi_reengage.Agent(vector_of("DriveSeek30-v0", 1, 0), args, CPU)
    before = [parameter.detach().clone() for parameter in agent.critic_params]
    ddpg_multi_reengage.update(agent, play(50, capacity=3).sample(4, CPU), args)
    for after, weight in zip(agent.critic_params, before, strict=True):
        grad = after.grad
        # Adam's first step is the learning rate times the gradient's sign
        is_large = grad.abs() > 1e-5
        expected = (weight - 1e-3 * grad.sign())[is_large]
        torch.testing.assert_close(after[is_large], expected, rtol=0, atol=1e-5)


# The replay buffer


def play(steps: int, capacity: int) -> GoalSetReplayBuffer:
    """A buffer filled by random play in DriveSeek as the script fills it."""
    envs = vector_of("DriveSeek30-v0", 1, seed=0)
    rng = np.random.default_rng(0)
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
    x, y, cos, sin = batch.state[:, :4].unbind(1)
    angle = torch.atan2(sin, cos) + 0.5 * batch.action[:, 0]
    moved = torch.stack([x + angle.cos(), y + angle.sin()], 1)
    moved = (moved + 10.5) % 21 - 10.5
    torch.testing.assert_close(batch.next_state[:, :2], moved, rtol=0, atol=1e-4)
    row = batch.goals.row
    is_reached = batch.goals.cell == batch.next_state[row, -2:]
    torch.testing.assert_close(batch.item_reward, is_reached.all(1).float())
    total = torch.zeros(400).index_add(0, row, batch.item_reward)
    torch.testing.assert_close(batch.reward, total)
    assert not batch.terminated.any()
    assert steps < 100 or batch.reward.any()


def test_every_stored_step_is_drawn_even_of_the_unfinished_episode_but_no_overwritten_one():
    buffer = play(40 * 5 + 7, capacity=3)  # episodes 3 and 4 and seven steps of episode 5 are left
    length = buffer.data["length"]
    assert sorted(length) == [7, 40, 40]
    drawn = {tuple(state) for state in buffer.sample(5000, CPU).state.tolist()}
    stored = set()
    for i in range(3):
        states = buffer.data["state"][i, : length[i]]
        stored |= {tuple(state) for state in states.tolist()}
    assert drawn == stored


@pytest.mark.parametrize("steps", [40, 80, 130, 280, 300])
def test_a_restored_buffer_continues_like_the_saved_one_without_its_unfinished_episode(
    steps: int,
):
    saved = play(steps, capacity=4)
    fresh = play(0, capacity=4)
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
    states = play(130, capacity=5).state_dict(), play(130, capacity=500).state_dict()
    small, large = (len(file_of(state)) for state in states)
    assert large == pytest.approx(small, rel=0.02)


def test_a_buffer_that_cannot_hold_two_episodes_is_refused():
    with pytest.raises(run.BadInput, match="--buffer-size 40 "):
        play(0, capacity=1)
