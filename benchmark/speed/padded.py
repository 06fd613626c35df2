"""Multi-ReenGAGE's losses without what makes `algos/ddpg_multi_reengage.py` fast.

For `throughput.py` to compare with: all n_max slots are encoded, present or not, and critic, actor
and both target networks each evaluate the encoder for themselves. The losses are the same numbers:
a test compares them.
"""

import torch
from torch import Tensor
from torch.autograd import grad
from torch.nn.functional import mse_loss

from algos.ddpg_multi_reengage import Args, GoalEncoder, GoalSetActor, GoalSetBatch, GoalSetCritic


def pad(batch: GoalSetBatch, n_max: int) -> tuple[Tensor, ...]:
    """Cells (batch, n_max, 2), gates and item rewards (batch, n_max); empty slots are 0."""
    row = batch.goals.row
    n = len(batch.state)
    count = torch.bincount(row, minlength=n)
    first = count.cumsum(0) - count  # of each set
    slot = torch.arange(len(row)) - first[row]
    gate = torch.ones_like(batch.item_reward)
    padded = batch.state.new_zeros(n, n_max, 4)
    padded[row, slot, :2] = batch.goals.cell
    padded[row, slot, 2] = gate
    padded[row, slot, 3] = batch.item_reward
    gates, item_reward = padded[..., 2:].unbind(-1)
    return padded[..., :2], gates, item_reward


def embed(encoder: GoalEncoder, state: Tensor, cell: Tensor, gates: Tensor) -> Tensor:
    """Eq. (36): (batch, embedding_dim)."""
    slots = cell.shape[1]
    states = state[:, None].expand(-1, slots, -1)
    inputs = torch.cat([cell, states], dim=2)  # (batch, n_max, 2 + state_dim)
    weights = gates.square()[..., None]
    return (weights * encoder.net(inputs)).sum(1) / encoder.args.n_max


def padded_critic_loss(
    critic: GoalSetCritic,
    target_critic: GoalSetCritic,
    target_actor: GoalSetActor,
    batch: GoalSetBatch,
    args: Args,
) -> Tensor:
    """Eq. (40)."""
    cell, gates, item_reward = pad(batch, args.n_max)
    gates.requires_grad_()
    state, next_state = batch.state, batch.next_state
    z = embed(target_actor.encoder, next_state, cell, gates)
    next_action = target_actor(next_state, z)
    z = embed(target_critic.encoder, next_state, cell, gates)
    next_q = target_critic(next_state, z, next_action)
    target = batch.reward + args.gamma * (1 - batch.terminated) * next_q
    z = embed(critic.encoder, state, cell, gates)
    q = critic(state, z, batch.action)
    target_grad = 2 * item_reward + grad(target.sum(), gates)[0]  # (batch, n_max)
    q_grad = grad(q.sum(), gates, create_graph=True)[0]  # (batch, n_max)
    grad_loss = mse_loss(q_grad, target_grad)
    return mse_loss(q, target.detach()) + args.alpha * grad_loss


def padded_actor_loss(
    critic: GoalSetCritic, actor: GoalSetActor, batch: GoalSetBatch, args: Args
) -> Tensor:
    """Eq. (5), with the shared encoder held still."""
    cell, gates, _ = pad(batch, args.n_max)
    with torch.no_grad():
        z = embed(critic.encoder, batch.state, cell, gates)
    action = actor(batch.state, z)
    return -critic(batch.state, z, action).mean()
