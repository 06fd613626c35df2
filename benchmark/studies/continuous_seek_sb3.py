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
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import stable_baselines3
import torch
import tyro

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from benchmark.studies.reengage_sb3 import ReenGAGEDDPG, ReenGAGESAC
from benchmark.studies.sb3 import HEADER, HER, SEEK, Evaluate, noise
from envs import make, make_vector, run
from envs.run.versions import versions


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


def main() -> None:
    args = tyro.cli(Args, description=__doc__)
    with run.one_sentence():
        if args.run_dir.exists():
            raise run.BadInput(f"{args.run_dir} exists already.")
        env = make(args.env_id)
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    args.run_dir.mkdir(parents=True)
    settings = {name: value for name, value in vars(args).items() if name != "run_dir"}
    settings["versions"] = versions(torch.device("cpu"), Path(__file__))
    settings["versions"]["stable-baselines3"] = stable_baselines3.__version__
    (args.run_dir / "args.json").write_text(json.dumps(settings, indent=2) + "\n")
    model = {"ddpg": ReenGAGEDDPG, "sac": ReenGAGESAC}[args.algorithm](
        "MultiInputPolicy",
        env,
        alpha=args.alpha,
        learning_rate=args.learning_rate,
        batch_size=args.batch_size,
        action_noise=noise(env, 0.03),
        seed=args.seed,
        device="cpu",
        **SEEK,
        **HER,
    )
    with (args.run_dir / "metrics.csv").open("w") as file:
        print(HEADER, file=file)
        envs = make_vector(partial(make, args.env_id), 50, args.seed + 1_000_000)
        callback = Evaluate(envs, episodes=50, frequency=2000, file=file)
        callback.model = model
        callback.print_row(envs)  # before training
        model.learn(args.total_timesteps, callback=callback)


if __name__ == "__main__":
    main()
