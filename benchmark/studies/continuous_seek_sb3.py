"""ContinuousSeek with Stable-Baselines3 and `reengage_sb3.py`, at the scripts' settings.

    python benchmark/studies/continuous_seek_sb3.py --run-dir runs/sb3/alpha0.1/1 --seed 1
    python benchmark/studies/continuous_seek_sb3.py --run-dir runs/sb3/alpha0/1 --seed 1 \\
        --alpha 0 --learning-rate 0.001

Writes metrics.csv with the columns of the scripts, evaluated as they evaluate. The flags' defaults
are the settings for d = 5 of `ddpg_her_reengage.py`; for d = 10 add:

    --env-id ContinuousSeek10-v0 --total-timesteps 50000 --alpha 0.2 --learning-rate 0.001
"""

import sys
import time
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import tyro
from stable_baselines3 import HerReplayBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.noise import NormalActionNoise

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from algos.ddpg_her import evaluate
from benchmark.studies.reengage_sb3 import ReenGAGEDDPG, ReenGAGESAC
from envs import make, make_vector


class Evaluate(BaseCallback):
    """Writes a row of metrics.csv before training and every 2000 steps."""

    def __init__(self, env_id: str, seed: int, run_dir: Path):
        super().__init__()
        self.envs = make_vector(partial(make, env_id), 50, seed + 1_000_000)
        self.file = (run_dir / "metrics.csv").open("w", buffering=1)
        self.file.write("global_step,success_rate,success_once,episodic_return,wall_time\n")
        self.begin = time.time()

    def act(self, obs: dict) -> np.ndarray:
        return self.model.predict(obs, deterministic=True)[0]

    def _on_training_start(self) -> None:
        self._on_step()

    def _on_step(self) -> bool:
        if self.num_timesteps % 2000 == 0:
            metrics = evaluate(self.envs, self.act, episodes=50)
            seconds = round(time.time() - self.begin, 3)
            print(self.num_timesteps, *metrics.values(), seconds, sep=",", file=self.file)
        return True


def main(
    run_dir: Path,
    algorithm: Literal["ddpg", "sac"] = "ddpg",
    env_id: str = "ContinuousSeek5-v0",
    alpha: float | Literal["auto"] = 0.1,
    seed: int = 1,
    total_timesteps: int = 12_000,
    learning_rate: float = 1.5e-3,
    batch_size: int = 512,
) -> None:
    """Trains one agent and writes run_dir/metrics.csv."""
    if seed < 0 or total_timesteps < 1 or batch_size < 1 or run_dir.exists():
        print("--seed must be at least 0, --total-timesteps and --batch-size at least 1, and "
              "--run-dir a folder that does not exist yet.", file=sys.stderr)  # fmt: skip
        sys.exit(2)
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    env = make(env_id)
    actions = env.action_space.shape[0]
    run_dir.mkdir(parents=True)
    model = {"ddpg": ReenGAGEDDPG, "sac": ReenGAGESAC}[algorithm](
        "MultiInputPolicy",
        env,
        alpha=alpha,
        learning_rate=learning_rate,
        batch_size=batch_size,
        gamma=0.95,
        tau=0.005,
        learning_starts=1000,
        policy_kwargs={"net_arch": [256, 256]},
        action_noise=NormalActionNoise(np.zeros(actions), 0.03 * np.ones(actions)),
        replay_buffer_class=HerReplayBuffer,
        replay_buffer_kwargs={"n_sampled_goal": 4, "goal_selection_strategy": "future"},
        seed=seed,
        device="cpu",
    )
    model.learn(total_timesteps, callback=Evaluate(env_id, seed, run_dir))


if __name__ == "__main__":
    tyro.cli(main, description=__doc__)
