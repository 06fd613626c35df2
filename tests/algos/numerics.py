"""Every script's update as mathematics by hand, of which nothing comes from a script.

Networks are lists of matrices, gradients by the goal are differences between goals a little apart.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from problems import ACTION_DIM, BATCH, GOAL_DIM, N_MAX, OBS_DIM, random, seen_rows
from torch import Tensor, nn
from torch.distributions import Normal, TanhTransform, TransformedDistribution
from torch.optim import Adam

Weights = list[Tensor]  # matrices and vectors in turn


def slopes(function: Callable, x: Tensor) -> Tensor:
    """Central differences by each column of x, (n, dim): (n,) -> (n, dim).

    A function of other tensors too stays differentiable by them.
    """
    step = 1e-5
    columns = []
    for unit in torch.eye(x.shape[1]).to(x):
        rise = function(x + step * unit) - function(x - step * unit)
        columns.append(rise / (2 * step))
    return torch.stack(columns, dim=1)


def forward(weights: Weights, x: Tensor) -> Tensor:
    """A multilayer perceptron."""
    while len(weights) > 2:
        x = x @ weights[0].T + weights[1]
        x = x.clamp(min=0)
        weights = weights[2:]
    return x @ weights[0].T + weights[1]


def copies(params: list[Tensor]) -> list[Tensor]:
    return [param.detach().clone().requires_grad_() for param in params]


def step(adam: Adam, gradient: tuple[Tensor, ...]) -> None:
    """Given the gradient by the optimizer's parameters."""
    for param, its_gradient in zip(adam.param_groups[0]["params"], gradient, strict=True):
        param.grad = its_gradient
    adam.step()


class ByHand:
    """An agent's numbers, and what an update does to them."""

    def __init__(self, agent: Any, args: Any, dense: bool):
        self.args = args
        self.dense = dense
        self.actor = copies(getattr(agent, "actor_params", []))
        self.critic = copies(getattr(agent, "critic_params", None) or agent.params)
        self.target = copies(agent.target_params)
        self.actor_adam = Adam([{"params": self.actor}], args.learning_rate)  # DQN: none
        self.critic_adam = Adam(self.critic, args.learning_rate)
        self.mean_losses = np.array([2.0, 0.8])
        self.mean = torch.zeros(OBS_DIM + GOAL_DIM).double()
        self.std = torch.ones(OBS_DIM + GOAL_DIM).double()
        if getattr(args, "normalize", False):
            self.mean = seen_rows().mean(0)
            self.std = seen_rows().std(0, correction=0)
        self.unit = self.std[OBS_DIM:]
        if getattr(args, "raw_goal_gradient", False):
            self.unit = torch.ones(GOAL_DIM).double()

    def normalize(self, obs: Tensor, goal: Tensor) -> Tensor:
        x = torch.cat([obs, goal], 1)
        if not getattr(self.args, "normalize", False):
            return x
        x = (x - self.mean) / self.std
        return x.clamp(-5, 5)

    def q(self, weights: Weights, obs: Tensor, goal: Tensor, action: Tensor) -> Tensor:
        x = self.normalize(obs, goal)
        q = forward(weights, torch.cat([x, action], 1))
        return q[:, 0]

    def reward(self, batch: Any, goal: Tensor) -> Tensor:
        if self.dense:
            return -(batch.next_achieved_goal - goal).norm(dim=1)
        return batch.reward

    def mask(self, batch: Any) -> Tensor:  # (batch,)
        if self.dense:
            return torch.ones_like(batch.reward)
        low = getattr(self.args, "c_low", -1)
        return (batch.reward == low).double()

    def discount(self, batch: Any) -> Tensor:  # (batch,)
        return self.args.gamma * (1 - batch.terminated)

    def alpha(self, value_loss: Tensor, grad_loss: Tensor) -> float:
        if self.args.alpha != "auto":
            return self.args.alpha
        losses = np.array([value_loss.item(), grad_loss.item()])
        weight = self.args.alpha_averaging
        self.mean_losses = (1 - weight) * self.mean_losses + weight * losses
        value, grad = self.mean_losses
        return min(1.0, self.args.alpha_ratio * value / grad)

    def distance(self, error: Tensor) -> Tensor:
        """Between values and their targets."""
        return error.square()

    def loss(
        self,
        qs: list[Callable],
        target: Callable,
        at: Tensor,
        mask: Tensor,
        curves: dict,
        value_target: Callable | None = None,
    ) -> Tensor:
        """Eq. (9), the mean over critics; notes points of curves.

        Args:
            qs, target: functions of the goals or gates `at`, (batch, dim) -> (batch,).
            mask: rows that the gradient term sees, (batch,).
            value_target: where it differs from the target whose gradient is matched.
        """
        targets = (value_target or target)(at)
        errors = torch.stack([q(at) - targets for q in qs])
        value_loss = self.distance(errors).mean()
        curves |= {"losses/value": value_loss, "values/q": qs[0](at).mean()}
        curves["values/target"] = targets.mean()
        if not hasattr(self.args, "alpha"):
            return value_loss
        if self.args.alpha == 0:
            curves["gradient/alpha"] = curves["gradient/ratio"] = torch.tensor(0.0)
            return value_loss
        target_grad = slopes(target, at)
        q_grads = [slopes(q, at) for q in qs]
        differences = torch.stack([q_grad - target_grad for q_grad in q_grads])
        scaled = mask[:, None] * self.unit * differences
        grad_loss = scaled.square().mean()
        alpha = self.alpha(value_loss, grad_loss)
        loss = value_loss + alpha * grad_loss
        curves |= {"losses/gradient": grad_loss, "losses/critic": loss}
        curves["gradient/alpha"] = torch.tensor(alpha)
        curves["gradient/ratio"] = alpha * grad_loss / value_loss
        self.note_agreement(q_grads[0], target_grad, mask, curves)
        return loss

    def note_agreement(
        self, q_grad: Tensor, target_grad: Tensor, mask: Tensor, curves: dict
    ) -> None:
        """How alike both gradients are in the rows that the term sees."""
        curves["gradient/rows"] = mask.mean()
        q_grad = q_grad[mask == 1]
        target_grad = target_grad[mask == 1]
        q_norm = q_grad.norm(dim=1)
        target_norm = target_grad.norm(dim=1)
        curves |= {"gradient/norm": q_norm.mean(), "gradient/target_norm": target_norm.mean()}
        products = (q_norm * target_norm).clamp(min=1e-12)  # after a true end the target is flat
        cosines = (q_grad * target_grad).sum(1) / products
        curves["gradient/cosine"] = cosines.mean()

    def descend(self, adam: Adam, loss: Tensor) -> None:
        step(adam, torch.autograd.grad(loss, adam.param_groups[0]["params"]))

    def polyak(self) -> None:
        tau = self.args.tau
        for target, online in zip(self.target, self.online(), strict=True):
            target.data = (1 - tau) * target.data + tau * online.data

    def online(self) -> list[Tensor]:
        return self.actor + self.critic


class DdpgByHand(ByHand):
    def act(self, weights: Weights, obs: Tensor, goal: Tensor) -> Tensor:
        return forward(weights, self.normalize(obs, goal)).tanh()

    def critic_loss(self, batch: Any, curves: dict) -> Tensor:
        count = len(self.actor)
        target_actor, target_critic = self.target[:count], self.target[count:]

        def q(goal: Tensor) -> Tensor:
            return self.q(self.critic, batch.obs, goal, batch.action)

        def target(goal: Tensor) -> Tensor:
            action = self.act(target_actor, batch.next_obs, goal)
            next_q = self.q(target_critic, batch.next_obs, goal, action)
            target = self.reward(batch, goal) + self.discount(batch) * next_q
            if self.args.clip_target:
                target = target.clamp(-1 / (1 - self.args.gamma), 0)
            return target.detach()

        return self.loss([q], target, batch.goal, self.mask(batch), curves)

    def actor_loss(self, batch: Any, curves: dict) -> Tensor:
        action = self.act(self.actor, batch.obs, batch.goal)
        q = self.q(self.critic, batch.obs, batch.goal, action)
        penalty = self.args.action_l2 * action.square().mean()
        curves["losses/actor"] = penalty - q.mean()
        is_saturated = action.abs() > 0.99
        curves["policy/saturated"] = is_saturated.double().mean()
        return curves["losses/actor"]

    def update(self, batch: Any) -> dict:
        curves = {}
        critic_loss = self.critic_loss(batch, curves)
        if self.args.simultaneous_updates:
            actor_loss = self.actor_loss(batch, curves)
            actor_grad = torch.autograd.grad(actor_loss, self.actor)
            self.descend(self.critic_adam, critic_loss)
            step(self.actor_adam, actor_grad)
        else:
            self.descend(self.critic_adam, critic_loss)
            self.descend(self.actor_adam, self.actor_loss(batch, curves))
        return curves


class SacByHand(ByHand):
    def __init__(self, agent: Any, args: Any, dense: bool):
        super().__init__(agent, args, dense)
        self.log_c = copies([agent.log_c])
        self.entropy_adam = Adam(self.log_c, args.learning_rate)

    def act(self, obs: Tensor, goal: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        outputs = forward(self.actor, self.normalize(obs, goal))
        mean, log_std = outputs.chunk(2, dim=1)
        std = log_std.clamp(-20, 2).exp()
        action = (mean + std * noise).tanh()
        policy = TransformedDistribution(Normal(mean, std), TanhTransform())
        return action, policy.log_prob(action).sum(1)

    def smaller(self, weights: Weights, obs: Tensor, goal: Tensor, action: Tensor) -> Tensor:
        half = len(weights) // 2
        one = self.q(weights[:half], obs, goal, action)
        other = self.q(weights[half:], obs, goal, action)
        return torch.where(one < other, one, other)

    def critic_loss(self, batch: Any, curves: dict, noise: Tensor) -> Tensor:
        half = len(self.critic) // 2

        def one_q(goal: Tensor) -> Tensor:
            return self.q(self.critic[:half], batch.obs, goal, batch.action)

        def other_q(goal: Tensor) -> Tensor:
            return self.q(self.critic[half:], batch.obs, goal, batch.action)

        def target(goal: Tensor) -> Tensor:
            action, log_prob = self.act(batch.next_obs, goal, noise)
            next_value = self.smaller(self.target, batch.next_obs, goal, action)
            next_value = next_value - self.log_c[0].exp() * log_prob
            target = self.reward(batch, goal) + self.discount(batch) * next_value
            return target.detach()

        return self.loss([one_q, other_q], target, batch.goal, self.mask(batch), curves)

    def update(self, batch: Any) -> dict:
        curves = {}
        noise, later_noise = random(BATCH, ACTION_DIM), random(BATCH, ACTION_DIM)
        c = self.log_c[0].detach().exp()
        self.descend(self.critic_adam, self.critic_loss(batch, curves, noise))

        action, log_prob = self.act(batch.obs, batch.goal, later_noise)
        q = self.smaller(self.critic, batch.obs, batch.goal, action)
        curves["losses/actor"] = (c * log_prob - q).mean()
        self.descend(self.actor_adam, curves["losses/actor"])

        curves["sac/entropy"] = -log_prob.detach().mean()
        curves["sac/entropy_coefficient"] = c
        curves["losses/entropy"] = self.log_c[0] * (curves["sac/entropy"] + ACTION_DIM)
        self.descend(self.entropy_adam, curves["losses/entropy"])
        return curves

    def online(self) -> list[Tensor]:
        return self.critic


class DqnByHand(ByHand):
    def distance(self, error: Tensor) -> Tensor:
        size = error.abs()
        return torch.where(size < 1, 0.5 * size**2, size - 0.5)

    def critic_loss(self, batch: Any, curves: dict) -> Tensor:
        action = batch.action[:, 0].long()
        chosen = nn.functional.one_hot(action, 4)
        discount = self.discount(batch)

        def q(goal: Tensor) -> Tensor:
            qs = forward(self.critic, self.normalize(batch.obs, goal))
            return (chosen * qs).sum(1)

        def hard_target(goal: Tensor) -> Tensor:
            next_q = forward(self.target, self.normalize(batch.next_obs, goal))
            return (batch.reward + discount * next_q.amax(1)).detach()

        def soft_target(goal: Tensor) -> Tensor:  # Eq. (31)
            if self.args.temperature == 0:
                return hard_target(goal)
            next_q = forward(self.target, self.normalize(batch.next_obs, goal))
            weights = (next_q / self.args.temperature).exp()
            next_value = (weights * next_q).sum(1) / weights.sum(1)
            return (batch.reward + discount * next_value).detach()

        value_target = hard_target if self.args.soft_target == "gradient" else soft_target
        return self.loss([q], soft_target, batch.goal, self.mask(batch), curves, value_target)

    def update(self, batch: Any) -> dict:
        curves = {}
        self.descend(self.critic_adam, self.critic_loss(batch, curves))
        return curves


class MultiByHand(ByHand):
    """Goal sets padded to N_MAX; an encoder has six tensors, and what is shared is the critic's."""

    def __init__(self, agent: Any, args: Any, dense: bool):
        super().__init__(agent, args, dense)
        self.unit = torch.ones(N_MAX).double()

    def pad(self, batch: Any, values: Tensor) -> Tensor:
        """(present, ...) -> (batch, n_max, ...), 0 where no goal is."""
        row = batch.goals.row
        slot = torch.arange(len(row)) - torch.searchsorted(row, row)
        padded = values.new_zeros(BATCH, N_MAX, *values.shape[1:])
        padded[row, slot] = values
        return padded

    def embed(self, weights: Weights, batch: Any, state: Tensor, gates: Tensor) -> Tensor:
        """Eq. (36)."""
        cells = self.pad(batch, batch.goals.cell)
        every_state = state[:, None].expand(-1, N_MAX, -1)
        items = forward(weights, torch.cat([cells, every_state], 2))
        return (gates[..., None] ** 2 * items).sum(1) / N_MAX

    def policy(self, actor: Weights, state: Tensor, z: Tensor) -> Tensor:
        x = torch.cat([z, state], 1)
        return forward(actor[-4:], x).tanh()

    def value(self, critic: Weights, state: Tensor, z: Tensor, action: Tensor) -> Tensor:
        x = torch.cat([z, state, action], 1)
        return forward(critic[6:], x)[:, 0]

    def critic_loss(self, batch: Any, curves: dict) -> Tensor:
        item_reward = self.pad(batch, batch.item_reward)
        present = self.pad(batch, batch.goals.gate)
        count = len(self.actor)
        target_actor, target_critic = self.target[:count], self.target[count:]
        encoder = target_critic[:6] if self.args.share_encoder else target_actor[:6]

        def q(gates: Tensor) -> Tensor:
            z = self.embed(self.critic[:6], batch, batch.state, gates)
            return self.value(self.critic, batch.state, z, batch.action)

        def target(gates: Tensor) -> Tensor:
            z = self.embed(target_critic[:6], batch, batch.next_state, gates)
            policy_gates = gates if self.args.policy_gates else present
            policy_z = self.embed(encoder, batch, batch.next_state, policy_gates)
            action = self.policy(target_actor, batch.next_state, policy_z)
            next_q = self.value(target_critic, batch.next_state, z, action)
            reward = (gates**2 * item_reward).sum(1)  # Eq. (38)
            return (reward + self.discount(batch) * next_q).detach()

        mask = torch.ones(BATCH).double()
        return self.loss([q], target, present, mask, curves)

    def note_agreement(
        self, q_grad: Tensor, target_grad: Tensor, mask: Tensor, curves: dict
    ) -> None:
        q_norm, target_norm = q_grad.norm(), target_grad.norm()
        curves |= {"gradient/norm": q_norm, "gradient/target_norm": target_norm}
        curves["gradient/cosine"] = (q_grad * target_grad).sum() / (q_norm * target_norm)

    def actor_loss(self, batch: Any, curves: dict) -> Tensor:
        present = self.pad(batch, batch.goals.gate)
        z = self.embed(self.critic[:6], batch, batch.state, present)
        z = z.detach()
        policy_z = z
        if not self.args.share_encoder:
            policy_z = self.embed(self.actor[:6], batch, batch.state, present)
        action = self.policy(self.actor, batch.state, policy_z)
        q = self.value(self.critic, batch.state, z, action)
        curves["losses/actor"] = -q.mean()
        return curves["losses/actor"]

    def update(self, batch: Any) -> dict:
        curves = {}
        critic_loss = self.critic_loss(batch, curves)
        actor_grad = torch.autograd.grad(self.actor_loss(batch, curves), self.actor)
        self.descend(self.critic_adam, critic_loss)
        step(self.actor_adam, actor_grad)
        return curves
