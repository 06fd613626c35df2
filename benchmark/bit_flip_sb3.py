"""BitFlip, d = 40, with the soft target in both loss terms, Eq. (33), on Stable-Baselines3's DQN: is the gap to the
paper's curve (figure 7) one of `dqn_her_reengage_bitflip.py`, or of the recipe?

    python benchmark/bit_flip_sb3.py > sb3_both_1.csv      # 800k steps, 10 to 20 minutes; half of the paper's 1.6M
"""

import sys
from functools import partial
from pathlib import Path

import gymnasium as gym
import stable_baselines3
import torch
from stable_baselines3.common.callbacks import BaseCallback

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from envs import make, make_vector

ALPHA, TEMPERATURE, TOTAL, EVAL_FREQUENCY, SEED = 1.0, 0.5, 800_000, 80_000, 1


class ReenGAGE(stable_baselines3.DQN):
    """Stable-Baselines3's DQN with Eq. (33) for its loss."""

    def train(self, gradient_steps: int, batch_size: int = 128) -> None:
        for _ in range(gradient_steps):
            batch = self.replay_buffer.sample(batch_size)
            goal = batch.observations["desired_goal"].clone().requires_grad_()
            next_q = self.q_net_target(
                {**batch.next_observations, "desired_goal": goal}
            )  # (batch, n_actions)
            soft_max = ((next_q / TEMPERATURE).softmax(1) * next_q).sum(1)  # (batch,), Eq. (31)
            target = (
                batch.rewards[:, 0] + self.gamma * (1 - batch.dones[:, 0]) * soft_max
            )  # (batch,)
            all_q = self.q_net({**batch.observations, "desired_goal": goal})
            q = all_q.gather(1, batch.actions.long())[:, 0]  # (batch,)
            target_grad = torch.autograd.grad(target.sum(), goal)[0]  # (batch, goal_dim)
            q_grad = torch.autograd.grad(q.sum(), goal, create_graph=True)[0]  # (batch, goal_dim)
            sparse_mask = (batch.rewards == -1).float()  # (batch, 1)
            loss = torch.nn.functional.huber_loss(q, target.detach())
            loss = loss + ALPHA * (sparse_mask * (q_grad - target_grad)).square().mean()
            self.policy.optimizer.zero_grad()
            loss.backward(inputs=list(self.q_net.parameters()))
            torch.nn.utils.clip_grad_norm_(self.policy.parameters(), self.max_grad_norm)
            self.policy.optimizer.step()
        self._n_updates += gradient_steps


class Evaluate(BaseCallback):
    """Prints a row of metrics.csv every EVAL_FREQUENCY steps."""

    def __init__(self):
        super().__init__()
        make_env = partial(make, "BitFlip40-v0", action_space=gym.spaces.Discrete)
        self.envs = make_vector(make_env, 100, seed=1000)

    def _on_step(self) -> bool:
        if self.num_timesteps % EVAL_FREQUENCY == 0:
            metrics = self.envs.play(lambda obs: self.model.predict(obs, deterministic=True)[0])
            print(self.num_timesteps, *metrics.values(), sep=",", flush=True)
        return True


def main() -> None:
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    model = ReenGAGE(
        "MultiInputPolicy", gym.make("BitFlip40-v0"), seed=SEED, device="cpu", learning_rate=1e-3, batch_size=128,
        gamma=0.98, tau=0.05, learning_starts=640, train_freq=(16, "episode"), gradient_steps=40,
        target_update_interval=640, policy_kwargs={"net_arch": [256]}, exploration_initial_eps=0.2,
        exploration_final_eps=0.2, replay_buffer_class=stable_baselines3.HerReplayBuffer,
        replay_buffer_kwargs={"n_sampled_goal": 4, "goal_selection_strategy": "future"},
    )  # fmt: skip
    print("global_step,success_rate,success_once,episodic_return")
    model.learn(TOTAL, callback=Evaluate())


if __name__ == "__main__":
    main()
