"""Environment steps per second: this project beside Stable-Baselines3's DDPG, SAC and DQN with HER.

    python benchmark/speed/throughput.py                   # everything
    python benchmark/speed/throughput.py ddpg dqn          # some of: ddpg sac dqn multi many hand

Same environment, networks, batch, number of gradient steps and one thread for all, on the CPU:
ContinuousSeek with d = 20, 2 x 256 and a batch of 256 for DDPG and SAC, one gradient step a step;
BitFlip with 40 bits and the paper's recipe for DQN, 40 gradient steps on 128 transitions after 16
episodes. The contenders run in turns, each time in a fresh process, because other work on the
machine comes and goes: compare the medians of one call, and the ratios that are taken round by
round, never numbers of different calls.

Multi-ReenGAGE has no counterpart there: `multi` measures its gradient steps per second at the
paper's sizes (DriveSeek, 200 goals, batch 256, width 400) on two threads. `many` compares the
updates per second of N runs of `ddpg_her_reengage_many.py` together with those of one run of
`ddpg_her_reengage.py`. `hand` steps 38 HandReach environments at random, beside the package's own
class in Gymnasium's SyncVectorEnv, and MuJoCo's physics alone.
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
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
ALGORITHMS = ["ddpg", "sac", "dqn", "multi", "many", "hand"]
HANDS = 38
MANY = "ddpg_her_reengage_many.py"
MEDIUM = "--matmul-precision medium"
WARM_UP = 1000  # ContinuousSeek: steps before the first gradient step, in every contender
ROUND = 16 * 40  # BitFlip: steps of a round of 16 episodes


# Ours


def run_script(
    script: str, start: int, total: int, every: int, *flags: str, timeout: float | None = None
) -> float:
    """Steps per second of a script between its evaluations at the steps `start` and `total`."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, str(ROOT / "algos" / script), *flags, "--eval-episodes", "1"]
        if script != MANY:
            command += ["--no-save-model", "--no-save-checkpoint"]
        command += ["--total-timesteps", str(total), "--eval-frequency", str(every)]
        command += ["--run-dir", f"{folder}/run"]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=timeout)
        assert ended.returncode == 0, ended.stderr[-120:]
        assert "not possible here" not in ended.stdout, ended.stdout[-120:]
        path = next(Path(folder).rglob("metrics.csv"))  # many runs have the same wall times
        with open(path, newline="") as file:
            rows = list(csv.DictReader(file))
    seconds = {int(row["global_step"]): float(row["wall_time"]) for row in rows}
    return (total - start) / (seconds[total] - seconds[start])


def seek(steps: int, script: str, *flags: str) -> float:
    flags += ("--env-id", "ContinuousSeek20-v0", "--batch-size", "256", "--learning-rate", "5e-4")
    start = WARM_UP + 100  # 100 steps for caches to fill
    flags += ("--num-threads", "1", "--no-cuda")
    return run_script(script, start, WARM_UP + steps, 100, *flags)


def seek_many(steps: int, script: str, *flags: str) -> float:
    """Updates per second of all runs of one group together."""
    runs = flags[flags.index("--seeds") + 1]
    return int(runs) * seek(steps, script, *flags, "--group-size", runs)


def flip(steps: int, script: str, *flags: str) -> float:
    """BitFlip takes a hundredth of the time a step: ten times as many."""
    total = ROUND * (10 * steps // ROUND)
    flags += ("--env-id", "BitFlip40-v0", "--num-threads", "1", "--no-cuda")
    return run_script(script, 2 * ROUND, total, ROUND, *flags)


def drive(steps: int, script: str, *flags: str) -> float:
    """From the 100th episode on, when the mean size of a stored goal set has settled."""
    total = 4000 + 50 * max(1, steps // 1000)
    flags += ("--env-id", "DriveSeek-v0", "--learning-starts", "4000")
    flags += ("--num-threads", "2", "--no-cuda")
    return run_script(script, 4000, total, 50, *flags)


# What they are compared with: imported where they are used, in a process of their own


def stable_baselines3(algorithm: str, steps: int) -> float:
    """The same measurement of Stable-Baselines3's class of that name with HerReplayBuffer, or of
    the one with the gradient term in `benchmark/studies/reengage_sb3.py`."""
    import gymnasium as gym
    import stable_baselines3
    import torch

    from benchmark.studies import reengage_sb3
    from benchmark.studies.sb3 import BIT_FLIP, HER, SEEK, noise

    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    if algorithm == "DQN":
        env = gym.make("BitFlip40-v0")
        start, total = 2 * ROUND, ROUND * max(4, steps // ROUND) + 1
        settings = BIT_FLIP
    else:
        env = gym.make("ContinuousSeek20-v0")
        start, total = WARM_UP + 100, WARM_UP + steps
        settings = dict(learning_rate=5e-4, action_noise=noise(env, 0.03), **SEEK)
    module = reengage_sb3 if "ReenGAGE" in algorithm else stable_baselines3
    algorithm_class = getattr(module, algorithm)
    model = algorithm_class("MultiInputPolicy", env, seed=1, device="cpu", **HER, **settings)
    seconds: dict[int, float] = {}  # by step

    def note_the_time(*_: dict) -> bool:
        seconds[model.num_timesteps] = time.perf_counter()
        return model.num_timesteps < total

    model.learn(total, callback=note_the_time)
    return (total - start) / (seconds[total] - seconds[start])


def hands(threads: int, steps: int) -> float:
    """Our hands, as `make_vector` steps them."""
    from envs import make, make_vector

    return step_at_random(make_vector(partial(make, "HandReach-v3"), HANDS, 0, threads), steps)


def package_hands(steps: int) -> float:
    """What `gym.make` and Gymnasium give without this project."""
    import gymnasium as gym
    import gymnasium_robotics

    gym.register_envs(gymnasium_robotics)
    make_env = partial(gym.make, "HandReach-v3", disable_env_checker=True)
    return step_at_random(gym.vector.SyncVectorEnv([make_env] * HANDS), steps)


def physics_of_hands(steps: int) -> float:
    """Steps per second of MuJoCo's physics, on one thread."""
    import mujoco

    seconds = 0.0
    mj_step = mujoco.mj_step

    def timed(*args: Any, **kwargs: Any) -> None:
        nonlocal seconds
        start = time.perf_counter()
        mj_step(*args, **kwargs)
        seconds += time.perf_counter() - start

    mujoco.mj_step = timed
    hands(1, steps)
    return HANDS * steps / seconds


def step_at_random(envs: Any, steps: int) -> float:
    """Steps per second of all together."""
    actions = np.random.default_rng(0).uniform(-1, 1, (steps, HANDS, 20)).astype(np.float32)
    envs.reset()
    start = time.perf_counter()
    for action in actions:
        envs.step(action)
    return HANDS * steps / (time.perf_counter() - start)


def in_fresh_process(function: Callable[..., float], *args: object) -> float:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(function, args)


# The comparison


def contenders(algorithm: str, steps: int) -> dict[str, Callable[[], float]]:
    """Name -> measurement in steps per second: first what ours is compared with, then ours without
    the term, then with it."""
    if algorithm == "multi":
        script = "ddpg_multi_reengage.py"
        lines = [f"{script} --alpha 10 {MEDIUM}", f"{script} --alpha 0", f"{script} --alpha 10"]
        return of_scripts(drive, steps, lines)
    if algorithm == "many":
        plain = "ddpg_her_reengage.py --alpha 0.2"
        lines = [f"{MANY} --seeds {runs} --alpha 0.2" for runs in (4, 1, 8)]
        lines = [f"{MANY} --seeds 4 --alpha 0", *lines, f"{MANY} --seeds 4 --alpha 0.2 {MEDIUM}"]
        return {
            **of_scripts(seek, steps, [plain]),
            **of_scripts(seek_many, steps, lines),
            **of_scripts(seek, steps, [f"{plain} --compile", f"{plain} {MEDIUM}"]),
        }
    if algorithm == "hand":
        steps = max(1, steps // 30)
        cores = len(os.sched_getaffinity(0))
        return {
            "the package's class in SyncVectorEnv": partial(in_fresh_process, package_hands, steps),
            "envs.make_vector, 1 thread": partial(in_fresh_process, hands, 1, steps),
            f"envs.make_vector, {cores} threads": partial(in_fresh_process, hands, cores, steps),
            "mj_step alone, 1 thread": partial(in_fresh_process, physics_of_hands, steps),
        }
    name = algorithm.upper()
    theirs = partial(in_fresh_process, stable_baselines3, name, steps)
    found = {f"Stable-Baselines3 {name} + HER": theirs}
    if algorithm == "dqn":
        script = "dqn_her_reengage_bitflip.py"
        lines = [f"{script} --alpha 0", f"{script} --alpha 1", f"{script} --alpha 1 --compile"]
        return found | of_scripts(flip, steps, lines)
    plain = "ddpg_her.py" if algorithm == "ddpg" else "sac_her_reengage.py --alpha 0"
    with_term = f"{algorithm}_her_reengage.py --alpha 0.2"
    lines = [plain, with_term]
    for faster in ("--compile", MEDIUM, f"--compile {MEDIUM}"):
        lines += [f"{plain} {faster}", f"{with_term} {faster}"]
    theirs = partial(in_fresh_process, stable_baselines3, f"ReenGAGE{name}", steps)
    return found | of_scripts(seek, steps, lines) | {f"reengage_sb3.py: ReenGAGE{name}": theirs}


def of_scripts(
    measure: Callable[..., float], steps: int, lines: list[str]
) -> dict[str, Callable[[], float]]:
    """The measurement of each script with its flags."""
    return {line: partial(measure, steps, *line.split()) for line in lines}


def compare(measurements: dict[str, Callable[[], float]], rounds: int) -> list[list[float]]:
    """Lets the contenders take turns, and prints and returns their rates."""
    rates: dict[str, list[float]] = {name: [] for name in measurements}
    for _ in range(rounds):
        for name, measure in measurements.items():
            rates[name].append(measure())
    title = f"steps per second, {rounds} rounds"
    print(f"{title:<58}{'median':>9}{'min':>9}{'max':>9}{'x first':>8}")
    baseline = next(iter(rates.values()))
    for name, values in rates.items():
        line = f"{name:<58}{statistics.median(values):>9.1f}"
        line += f"{min(values):>9.1f}{max(values):>9.1f}"
        print(line + f"{median_ratio(values, baseline):>8.2f}", flush=True)
    return list(rates.values())


def median_ratio(a: list[float], b: list[float]) -> float:
    """Taken round by round."""
    return statistics.median(x / y for x, y in zip(a, b, strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("algorithms", nargs="*", choices=ALGORITHMS, help="default: all")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--steps", type=int, default=1500, help="timed, a multiple of 100, at least 200"
    )
    args = parser.parse_args()
    for algorithm in args.algorithms or ALGORITHMS:
        _, plain, with_term, *_ = compare(contenders(algorithm, args.steps), args.rounds)
        if algorithm != "hand":
            cost = median_ratio(plain, with_term)
            print(f"the gradient term costs {cost:.2f} x the time of our plain run\n", flush=True)


if __name__ == "__main__":
    main()
