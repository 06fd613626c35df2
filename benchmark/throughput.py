"""Environment steps per second with one gradient step a step: this project beside Stable-Baselines3's DDPG with HER.

    python benchmark/throughput.py

Same environment (ContinuousSeek, d = 20), networks (2 x 256), batch (256) and one thread for all, on the CPU. The
contenders run in turns, each time in a fresh process, because other work on the machine comes and goes: compare the
medians of one call, and the ratios that are taken round by round, never numbers of different calls.
"""

import argparse
import csv
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
WARM_UP = 1000  # steps before the first gradient step, in every contender


def ours(script: str, steps: int, *flags: str) -> float:
    """Steps per second of one of the scripts, between its evaluations after warm-up and at the end."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, str(ROOT / "algos" / f"{script}.py"), "--env-id", "ContinuousSeek20-v0", "--no-cuda"]
        command += ["--batch-size", "256", "--learning-rate", "5e-4", "--num-threads", "1", "--no-save-model", *flags]
        command += ["--total-timesteps", str(WARM_UP + steps), "--eval-frequency", "100", "--eval-episodes", "1"]
        subprocess.run([*command, "--run-dir", f"{folder}/run"], check=True, stdout=subprocess.DEVNULL)
        with open(f"{folder}/run/metrics.csv", newline="") as file:
            seconds = {int(row["global_step"]): float(row["wall_time"]) for row in csv.DictReader(file)}
    return (steps - 100) / (seconds[WARM_UP + steps] - seconds[WARM_UP + 100])  # 100 steps for caches to fill


def stable_baselines3(steps: int) -> float:
    """The same measurement of Stable-Baselines3's DDPG + HerReplayBuffer, the paper's baseline."""
    sys.path.insert(0, str(ROOT))
    import gymnasium as gym
    import numpy as np
    import torch
    from stable_baselines3 import DDPG, HerReplayBuffer
    from stable_baselines3.common.callbacks import BaseCallback
    from stable_baselines3.common.noise import NormalActionNoise

    import envs  # noqa: F401  (registers ContinuousSeek)

    class Clock(BaseCallback):
        def _on_step(self) -> bool:
            if self.num_timesteps == WARM_UP + 100:
                self.start = time.perf_counter()
            self.stop = time.perf_counter()
            return self.num_timesteps < WARM_UP + steps

    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    model = DDPG(
        "MultiInputPolicy", gym.make("ContinuousSeek20-v0"), learning_rate=5e-4, batch_size=256, gamma=0.95, tau=0.005,
        learning_starts=WARM_UP, train_freq=1, gradient_steps=1, policy_kwargs={"net_arch": [256, 256]}, device="cpu",
        action_noise=NormalActionNoise(np.zeros(20), 0.03 * np.ones(20)), replay_buffer_class=HerReplayBuffer,
        replay_buffer_kwargs={"n_sampled_goal": 4, "goal_selection_strategy": "future"}, seed=1,
    )  # fmt: skip
    clock = Clock()
    model.learn(WARM_UP + steps, callback=clock)
    return (steps - 100) / (clock.stop - clock.start)


def in_fresh_process(function: Callable[..., float], *args: object) -> float:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(function, args)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=1500, help="timed steps a run, a multiple of 100")
    args = parser.parse_args()
    if args.rounds < 1 or args.steps < 200 or args.steps % 100:
        parser.error("--rounds must be at least 1, and --steps a multiple of 100, at least 200")
    os.environ["OMP_NUM_THREADS"] = "1"
    reengage = ("ddpg_her_reengage", args.steps, "--alpha", "0.2")
    contenders = {
        "Stable-Baselines3 DDPG + HER": lambda: in_fresh_process(stable_baselines3, args.steps),
        "ddpg_her.py": lambda: ours("ddpg_her", args.steps),
        "ddpg_her_reengage.py --alpha 0": lambda: ours("ddpg_her_reengage", args.steps, "--alpha", "0"),
        "ddpg_her_reengage.py --alpha 0.2": lambda: ours(*reengage),
        "... --matmul-precision medium": lambda: ours(*reengage, "--matmul-precision", "medium"),
    }
    speed = {name: [] for name in contenders}
    for _ in range(args.rounds):
        for name, measure in contenders.items():
            speed[name].append(measure())

    baseline = speed["Stable-Baselines3 DDPG + HER"]
    print(f"{'steps per second, ' + str(args.rounds) + ' rounds':<36}{'median':>8}{'min':>8}{'max':>8}{'x SB3':>8}")
    for name, values in speed.items():
        ratio = statistics.median(a / b for a, b in zip(values, baseline, strict=True))
        print(f"{name:<36}{statistics.median(values):>8.1f}{min(values):>8.1f}{max(values):>8.1f}{ratio:>8.2f}")
    pairs = zip(speed["ddpg_her.py"], speed["ddpg_her_reengage.py --alpha 0.2"], strict=True)
    print(f"the gradient term costs {statistics.median(a / b for a, b in pairs):.2f} x the time of ddpg_her.py")


if __name__ == "__main__":
    main()
