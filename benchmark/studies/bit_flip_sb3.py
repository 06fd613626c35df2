"""BitFlip, d = 40, with the soft target in both loss terms, Eq. (33), on Stable-Baselines3's DQN.

    python benchmark/studies/bit_flip_sb3.py > 1.csv      # 10 to 20 minutes

Is the gap to the paper's curve (figure 7) one of `dqn_her_reengage_bitflip.py`, or of the recipe?
Prints rows of metrics.csv; results/bit_flip_d40.csv holds them as method sb3_both. 800k steps are
half of the paper's.
"""

import argparse
import sys
from functools import partial
from pathlib import Path

import gymnasium as gym
import numpy as np
import stable_baselines3
import torch
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.type_aliases import DictReplayBufferSamples

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from algos.dqn_her_reengage_bitflip import evaluate
from envs import make, make_vector

ALPHA, TEMPERATURE = 1.0, 0.5
EVAL_FREQUENCY = 80_000


class ReenGAGE(stable_baselines3.DQN):
    """Stable-Baselines3's DQN with Eq. (33) for its loss."""

    def train(self, gradient_steps: int, batch_size: int = 128) -> None:
        for _ in range(gradient_steps):
            loss = self.loss(self.replay_buffer.sample(batch_size))
            self.policy.optimizer.zero_grad()
            loss.backward(inputs=list(self.q_net.parameters()))
            torch.nn.utils.clip_grad_norm_(self.policy.parameters(), self.max_grad_norm)
            self.policy.optimizer.step()
        self._n_updates += gradient_steps

    def loss(self, batch: DictReplayBufferSamples) -> torch.Tensor:
        goal = batch.observations["desired_goal"].clone().requires_grad_()
        next_obs = batch.next_observations | {"desired_goal": goal}
        next_q = self.q_net_target(next_obs)  # (batch, n_actions)
        probability = (next_q / TEMPERATURE).softmax(1)
        soft_max = (probability * next_q).sum(1)  # (batch,), Eq. (31)
        not_done = 1 - batch.dones[:, 0]
        target = batch.rewards[:, 0] + self.gamma * not_done * soft_max  # (batch,)
        all_q = self.q_net(batch.observations | {"desired_goal": goal})
        q = all_q.gather(1, batch.actions.long())[:, 0]  # (batch,)
        target_grad = torch.autograd.grad(target.sum(), goal)[0]  # (batch, goal_dim)
        q_grad = torch.autograd.grad(q.sum(), goal, create_graph=True)[0]  # (batch, goal_dim)
        sparse_mask = (batch.rewards == -1).float()  # (batch, 1)
        value_loss = torch.nn.functional.huber_loss(q, target.detach())
        return value_loss + ALPHA * (sparse_mask * (q_grad - target_grad)).square().mean()


class Evaluate(BaseCallback):
    """Prints a row of metrics.csv every EVAL_FREQUENCY steps."""

    def __init__(self):
        super().__init__()
        make_env = partial(make, "BitFlip40-v0", action_space=gym.spaces.Discrete)
        self.envs = make_vector(make_env, 100, seed=1000)

    def act(self, obs: dict) -> np.ndarray:
        return self.model.predict(obs, deterministic=True)[0]

    def _on_step(self) -> bool:
        if self.num_timesteps % EVAL_FREQUENCY == 0:
            metrics = evaluate(self.envs, self.act, episodes=100)
            print(self.num_timesteps, *metrics.values(), sep=",", flush=True)
        return True


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--total-timesteps", type=int, default=800_000)
    args = parser.parse_args()
    if args.seed < 0 or args.total_timesteps < 1:
        parser.error("--seed must be at least 0, --total-timesteps at least 1")
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    model = ReenGAGE(
        "MultiInputPolicy",
        gym.make("BitFlip40-v0"),
        seed=args.seed,
        device="cpu",
        learning_rate=1e-3,
        batch_size=128,
        gamma=0.98,
        tau=0.05,
        learning_starts=640,
        train_freq=(16, "episode"),
        gradient_steps=40,
        target_update_interval=640,
        policy_kwargs={"net_arch": [256]},
        exploration_initial_eps=0.2,
        exploration_final_eps=0.2,
        replay_buffer_class=stable_baselines3.HerReplayBuffer,
        replay_buffer_kwargs={"n_sampled_goal": 4, "goal_selection_strategy": "future"},
    )
    print("global_step,success_rate,success_once,episodic_return")
    model.learn(args.total_timesteps, callback=Evaluate())


if __name__ == "__main__":
    main()
