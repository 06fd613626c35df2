"""ReenGAGE for Stable-Baselines3: its DDPG and its SAC plus the goal-gradient term, nothing else
changed. Copy this file into your project; docs/stable_baselines3.md shows how to use it.

    critic, Eq. (9):  (Q(s, a, g) - y(g))^2 + 1[R = c_low] alpha/d ||dQ(s, a, g)/dg - dy(g)/dg||^2

y(g) is the target that the algorithm has anyway; d is the dimension of the goal g.
"""

import torch
from stable_baselines3 import DDPG, SAC
from stable_baselines3.common.utils import polyak_update
from torch.nn.functional import mse_loss


class GradientTerm:
    """The critic's loss; what differs is `next_value`, the target critic's part of y(g).

    Args:
        alpha: weight of the term, a number or "auto". That holds the weighted gradient loss at
            alpha_ratio times the value loss; the first 1000 updates have no term, and the alpha at
            their end is the largest ever used.
        alpha_ratio: what "auto" aims at.
        c_low: the reward away from the goal, where the term counts.
    """

    def __init__(self, *args, alpha=0.1, alpha_ratio=0.1, c_low=-1.0, **kwargs):
        super().__init__(*args, **kwargs)
        self.alpha = alpha
        self.alpha_ratio = alpha_ratio
        self.c_low = c_low
        self.term_updates = 0
        self.mean_value_loss = 0.0
        self.mean_grad_loss = 0.0
        self.largest_alpha = 0.0

    def critic_loss(self, batch):
        has_term = self.alpha != 0
        goal = batch.observations["desired_goal"].clone().requires_grad_(has_term)
        with torch.set_grad_enabled(has_term):
            next_value = self.next_value(batch.next_observations | {"desired_goal": goal})
            target = batch.rewards + self.gamma * (1 - batch.dones) * next_value  # (batch, 1)
        qs = self.critic(batch.observations | {"desired_goal": goal}, batch.actions)
        value_loss = sum(mse_loss(q, target.detach()) for q in qs)  # q: (batch, 1)
        if not has_term:
            return value_loss
        target_grad = torch.autograd.grad(target.sum(), goal)[0]  # (batch, goal_dim), a constant
        mask = batch.rewards == self.c_low  # (batch, 1)
        grad_loss = 0.0
        for q in qs:
            q_grad = torch.autograd.grad(q.sum(), goal, create_graph=True)[0]  # (batch, goal_dim)
            grad_loss += (mask * (q_grad - target_grad)).square().mean()
        alpha = self.alpha
        if alpha == "auto":
            alpha = self.auto_alpha(value_loss.item(), grad_loss.item())
        self.logger.record("train/alpha", alpha)
        self.logger.record("train/gradient_loss", grad_loss.item())
        return value_loss + alpha * grad_loss

    def auto_alpha(self, value_loss, grad_loss):
        self.term_updates += grad_loss > 0
        self.mean_value_loss += 0.002 * (value_loss - self.mean_value_loss)
        self.mean_grad_loss += 0.002 * (grad_loss - self.mean_grad_loss)
        alpha = self.alpha_ratio * self.mean_value_loss / max(self.mean_grad_loss, 1e-30)
        if self.term_updates <= 1000:
            self.largest_alpha = alpha
            return 0.0
        return min(alpha, self.largest_alpha)

    def minimize(self, name, optimizer, loss):
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        self.logger.record(f"train/{name}_loss", loss.item())


class ReenGAGEDDPG(GradientTerm, DDPG):
    def next_value(self, obs):
        return self.critic_target(obs, self.actor_target(obs))[0]

    def train(self, gradient_steps, batch_size):
        self.policy.set_training_mode(True)
        self._update_learning_rate([self.actor.optimizer, self.critic.optimizer])
        for _ in range(gradient_steps):
            batch = self.replay_buffer.sample(batch_size, env=self._vec_normalize_env)
            self.minimize("critic", self.critic.optimizer, self.critic_loss(batch))
            q = self.critic.q1_forward(batch.observations, self.actor(batch.observations))
            self.minimize("actor", self.actor.optimizer, -q.mean())
            polyak_update(self.critic.parameters(), self.critic_target.parameters(), self.tau)
            polyak_update(self.actor.parameters(), self.actor_target.parameters(), self.tau)
        self._n_updates += gradient_steps


class ReenGAGESAC(GradientTerm, SAC):
    def entropy_coef(self):
        is_learned = self.log_ent_coef is not None
        return self.log_ent_coef.detach().exp() if is_learned else self.ent_coef_tensor

    def next_value(self, obs):
        action, log_prob = self.actor.action_log_prob(obs)
        q = torch.cat(self.critic_target(obs, action), 1).min(1, keepdim=True)[0]  # (batch, 1)
        return q - self.entropy_coef() * log_prob[:, None]

    def train(self, gradient_steps, batch_size):
        self.policy.set_training_mode(True)
        optimizers = [self.actor.optimizer, self.critic.optimizer]
        if self.ent_coef_optimizer:
            optimizers.append(self.ent_coef_optimizer)
        self._update_learning_rate(optimizers)
        for i in range(gradient_steps):
            batch = self.replay_buffer.sample(batch_size, env=self._vec_normalize_env)
            if self.use_sde:
                self.actor.reset_noise()
            action, log_prob = self.actor.action_log_prob(batch.observations)
            self.minimize("critic", self.critic.optimizer, 0.5 * self.critic_loss(batch))
            q = torch.cat(self.critic(batch.observations, action), 1).min(1)[0]
            actor_loss = (self.entropy_coef() * log_prob - q).mean()
            self.minimize("actor", self.actor.optimizer, actor_loss)
            if self.ent_coef_optimizer:
                missing = (log_prob + self.target_entropy).detach()  # entropy, below its target
                loss = -(self.log_ent_coef * missing).mean()
                self.minimize("ent_coef", self.ent_coef_optimizer, loss)
            if i % self.target_update_interval == 0:
                polyak_update(self.critic.parameters(), self.critic_target.parameters(), self.tau)
        self._n_updates += gradient_steps
