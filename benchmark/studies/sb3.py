"""Stable-Baselines3 at the scripts' settings: does it get what our scripts get?

    python benchmark/studies/sb3.py bit_flip > 1.csv             # 10 to 20 minutes
    python benchmark/studies/sb3.py parking --seed 1 > 1.csv

bit_flip: BitFlip, d = 40, with the soft target in both loss terms, Eq. (33), on its DQN, for half
of the paper's steps. Is the gap to figure 7 one of `dqn_her_reengage_bitflip.py`, or of the recipe?
parking: parking-v0 of highway-env with its DDPG + HER, beside benchmark/experiments/parking.sh.

Prints rows of metrics.csv; the evaluation is that of the scripts.
"""

import argparse
import sys
import time
from functools import partial
from pathlib import Path
from typing import TextIO

import gymnasium as gym
import numpy as np
import stable_baselines3
import torch
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.noise import NormalActionNoise
from stable_baselines3.common.type_aliases import DictReplayBufferSamples

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from algos.ddpg_her import evaluate
from envs import make, make_vector
from envs.vector_env import VectorEnv

ALPHA, TEMPERATURE = 1.0, 0.5
HER = {
    "replay_buffer_class": stable_baselines3.HerReplayBuffer,
    "replay_buffer_kwargs": {"n_sampled_goal": 4, "goal_selection_strategy": "future"},
}
HEADER = "global_step,success_rate,success_once,episodic_return,wall_time"
SEEK = {  # of DDPG and SAC; a batch of 256 and one gradient step a step are their defaults
    "gamma": 0.95,
    "tau": 0.005,
    "learning_starts": 1000,
    "policy_kwargs": {"net_arch": [256, 256]},
}
BIT_FLIP = {  # the recipe of the paper's runs
    "learning_rate": 1e-3,
    "batch_size": 128,
    "gamma": 0.98,
    "tau": 0.05,
    "learning_starts": 640,
    "train_freq": (16, "episode"),
    "gradient_steps": 40,
    "target_update_interval": 640,
    "policy_kwargs": {"net_arch": [256]},
    "exploration_initial_eps": 0.2,
    "exploration_final_eps": 0.2,
}


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


def noise(env: gym.Env, scale: float) -> NormalActionNoise:
    size = env.action_space.shape
    return NormalActionNoise(np.zeros(size), scale * np.ones(size))


class Evaluate(BaseCallback):
    """Prints a row of metrics.csv every `frequency` steps."""

    def __init__(self, envs: VectorEnv, episodes: int, frequency: int, file: TextIO = sys.stdout):
        super().__init__()
        self.envs = envs
        self.episodes = episodes
        self.frequency = frequency
        self.file = file
        self.begin = time.time()

    def act(self, obs: dict) -> np.ndarray:
        return self.model.predict(obs, deterministic=True)[0]

    def print_row(self, envs: VectorEnv) -> None:
        metrics = evaluate(envs, self.act, self.episodes)
        seconds = round(time.time() - self.begin, 3)
        cells = self.num_timesteps, *metrics.values(), seconds
        print(*cells, sep=",", file=self.file, flush=True)

    def _on_step(self) -> bool:
        if self.num_timesteps % self.frequency == 0:
            self.print_row(self.envs)
        return True


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("task", choices=["bit_flip", "parking"])
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    print(HEADER)
    common = {"seed": args.seed, "device": "cpu", **HER}
    if args.task == "bit_flip":
        make_env = partial(make, "BitFlip40-v0", action_space=gym.spaces.Discrete)
        callback = Evaluate(make_vector(make_env, 100, seed=1000), episodes=100, frequency=80_000)
        model = ReenGAGE("MultiInputPolicy", gym.make("BitFlip40-v0"), **common, **BIT_FLIP)
        model.learn(800_000, callback=callback)
    else:
        make_env = partial(make, "highway_env:parking-v0", max_episode_steps=100)
        callback = Evaluate(make_vector(make_env, 4, seed=1000), episodes=20, frequency=5000)
        env = gym.make("highway_env:parking-v0", max_episode_steps=100)
        settings = {"learning_rate": 1e-3, "action_noise": noise(env, 0.2), **SEEK}
        model = stable_baselines3.DDPG("MultiInputPolicy", env, **common, **settings)
        callback.model = model
        callback.print_row(make_vector(make_env, 4, seed=2000))  # before training
        model.learn(50_000, callback=callback)


if __name__ == "__main__":
    main()
