"""parking-v0 (highway-env) with DDPG + HER of Stable-Baselines3, at the settings of `ddpg_her.py`.

    python benchmark/studies/parking_sb3.py --seed 1 > 1.csv

Prints rows of metrics.csv: evaluated as `ddpg_her.py` evaluates, in as many episodes. What it is
compared with: `bash benchmark/experiments/parking.sh`.
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
from stable_baselines3.common.noise import NormalActionNoise

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from algos.ddpg_her import evaluate
from envs import make, make_vector
from envs.vector_env import VectorEnv

ENV_ID = "highway_env:parking-v0"
EVAL_FREQUENCY = 5000


class Evaluate(BaseCallback):
    """Prints a row of metrics.csv before training and every EVAL_FREQUENCY steps."""

    def __init__(self, episodes: int):
        super().__init__()
        self.episodes = episodes
        make_env = partial(make, ENV_ID, max_episode_steps=100)
        self.envs = make_vector(make_env, 4, seed=1000)
        self.first_envs = make_vector(make_env, 4, seed=2000)

    def act(self, obs: dict) -> np.ndarray:
        return self.model.predict(obs, deterministic=True)[0]

    def print_row(self, envs: VectorEnv) -> None:
        metrics = evaluate(envs, self.act, self.episodes)
        print(self.num_timesteps, *metrics.values(), sep=",", flush=True)

    def _on_training_start(self) -> None:
        self.print_row(self.first_envs)

    def _on_step(self) -> bool:
        if self.num_timesteps % EVAL_FREQUENCY == 0:
            self.print_row(self.envs)
        return True


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--total-timesteps", type=int, default=50_000)
    parser.add_argument("--eval-episodes", type=int, default=20)
    args = parser.parse_args()
    if args.seed < 0 or args.total_timesteps < 1 or args.eval_episodes < 1:
        parser.error("--seed must be at least 0, the other two at least 1")
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    env = gym.make(ENV_ID, max_episode_steps=100)
    actions = env.action_space.shape[0]
    model = stable_baselines3.DDPG(
        "MultiInputPolicy",
        env,
        seed=args.seed,
        device="cpu",
        learning_rate=1e-3,
        batch_size=256,
        gamma=0.95,
        tau=0.005,
        learning_starts=1000,
        train_freq=1,
        gradient_steps=1,
        policy_kwargs={"net_arch": [256, 256]},
        action_noise=NormalActionNoise(np.zeros(actions), 0.2 * np.ones(actions)),
        replay_buffer_class=stable_baselines3.HerReplayBuffer,
        replay_buffer_kwargs={"n_sampled_goal": 4, "goal_selection_strategy": "future"},
    )
    print("global_step,success_rate,success_once,episodic_return")
    model.learn(args.total_timesteps, callback=Evaluate(args.eval_episodes))


if __name__ == "__main__":
    main()
