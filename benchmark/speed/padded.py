"""Multi-ReenGAGE's losses without what makes `algos/ddpg_multi_reengage.py` fast, for `throughput.py` to compare with.

All n_max slots are encoded, present or not, and critic, actor and both target networks each evaluate the encoder for
themselves. The losses are the same numbers: a test compares them.
"""

import torch
from torch import Tensor, nn

from algos.ddpg_multi_reengage import Args, GoalEncoder, GoalSetActor, GoalSetBatch, GoalSetCritic


def pad(batch: GoalSetBatch, n_max: int) -> tuple[Tensor, Tensor, Tensor]:
    """Cells (batch, n_max, 2), gates and item rewards (batch, n_max); slots without a goal are 0."""
    row, n = batch.goals.row, len(batch.state)
    count = torch.bincount(row, minlength=n)
    slot = torch.arange(len(row)) - (count.cumsum(0) - count)[row]
    padded = batch.state.new_zeros(n, n_max, 4)
    values = [
        batch.goals.cell,
        torch.ones_like(batch.item_reward)[:, None],
        batch.item_reward[:, None],
    ]
    padded[row, slot] = torch.cat(values, 1)
    return padded[..., :2], padded[..., 2], padded[..., 3]


def embed(encoder: GoalEncoder, state: Tensor, cell: Tensor, gates: Tensor) -> Tensor:
    """Eq. (36): (batch, embedding_dim)."""
    inputs = torch.cat(
        [cell, state[:, None].expand(-1, cell.shape[1], -1)], dim=2
    )  # (batch, n_max, 2 + state_dim)
    return (gates.square()[..., None] * encoder.net(inputs)).sum(1) / encoder.n_max


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
    next_action = target_actor(
        batch.next_state, embed(target_actor.encoder, batch.next_state, cell, gates)
    )
    next_q = target_critic(
        batch.next_state, embed(target_critic.encoder, batch.next_state, cell, gates), next_action
    )
    target = batch.reward + args.gamma * (1 - batch.terminated) * next_q
    q = critic(batch.state, embed(critic.encoder, batch.state, cell, gates), batch.action)
    target_grad = 2 * item_reward + torch.autograd.grad(target.sum(), gates)[0]  # (batch, n_max)
    q_grad = torch.autograd.grad(q.sum(), gates, create_graph=True)[0]  # (batch, n_max)
    return nn.functional.mse_loss(q, target.detach()) + args.alpha * nn.functional.mse_loss(
        q_grad, target_grad
    )


def padded_actor_loss(
    critic: GoalSetCritic, actor: GoalSetActor, batch: GoalSetBatch, args: Args
) -> Tensor:
    """Eq. (5), with the shared encoder held still."""
    cell, gates, _ = pad(batch, args.n_max)
    with torch.no_grad():
        z = embed(critic.encoder, batch.state, cell, gates)
    return -critic(batch.state, z, actor(batch.state, z)).mean()
