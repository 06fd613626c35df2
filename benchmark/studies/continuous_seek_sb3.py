"""ContinuousSeek with Stable-Baselines3 and `reengage_sb3.py`, at the scripts' settings.

    python benchmark/studies/continuous_seek_sb3.py --run-dir runs/sb3/alpha0.1/1 --seed 1
    python benchmark/studies/continuous_seek_sb3.py --run-dir runs/sb3/alpha0/1 --seed 1 \\
        --alpha 0 --learning-rate 0.001

Writes args.json and metrics.csv as the scripts do, with their evaluation. The flags' defaults are
the settings of `ddpg_her_reengage.py` for d = 5; for d = 10 add:

    --env-id ContinuousSeek10-v0 --total-timesteps 50000 --alpha 0.2 --learning-rate 0.001
"""

import json
import sys
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import stable_baselines3
import torch
import tyro
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.noise import NormalActionNoise

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from algos.ddpg_her import evaluate
from benchmark.studies.reengage_sb3 import ReenGAGEDDPG, ReenGAGESAC
from envs import make, make_vector, run
from envs.run.versions import versions


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


@dataclass
class Args:
    run_dir: Path
    algorithm: Literal["ddpg", "sac"] = "ddpg"
    env_id: str = "ContinuousSeek5-v0"
    alpha: float | Literal["auto"] = 0.1
    seed: int = 1
    total_timesteps: int = 12_000
    learning_rate: float = 1.5e-3
    batch_size: int = 512


def check(args: Args) -> None:
    """BadInput, one sentence, for what cannot be."""
    if args.seed < 0 or args.total_timesteps < 1 or args.batch_size < 1:
        raise run.BadInput("--seed must be at least 0, --total-timesteps and --batch-size 1.")
    if args.run_dir.exists():
        raise run.BadInput(f"{args.run_dir} is there already.")


def main() -> None:
    args = tyro.cli(Args, description=__doc__)
    with run.one_sentence():
        check(args)
        env = make(args.env_id)
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    args.run_dir.mkdir(parents=True)
    settings = {name: value for name, value in vars(args).items() if name != "run_dir"}
    settings["versions"] = versions(torch.device("cpu"), Path(__file__))
    settings["versions"]["stable-baselines3"] = stable_baselines3.__version__
    (args.run_dir / "args.json").write_text(json.dumps(settings, indent=2) + "\n")
    actions = env.action_space.shape[0]
    model = {"ddpg": ReenGAGEDDPG, "sac": ReenGAGESAC}[args.algorithm](
        "MultiInputPolicy",
        env,
        alpha=args.alpha,
        learning_rate=args.learning_rate,
        batch_size=args.batch_size,
        gamma=0.95,
        tau=0.005,
        learning_starts=1000,
        policy_kwargs={"net_arch": [256, 256]},
        action_noise=NormalActionNoise(np.zeros(actions), 0.03 * np.ones(actions)),
        replay_buffer_class=stable_baselines3.HerReplayBuffer,
        replay_buffer_kwargs={"n_sampled_goal": 4, "goal_selection_strategy": "future"},
        seed=args.seed,
        device="cpu",
    )
    model.learn(args.total_timesteps, callback=Evaluate(args.env_id, args.seed, args.run_dir))


if __name__ == "__main__":
    main()
