"""Steps per second of the hand environments, beside Gymnasium's SyncVectorEnv over Gymnasium-Robotics' own classes.

    python benchmark/hand_throughput.py --env-ids HandReach-v3 HandManipulateBlock-v1

Actions are uniform in [-1, 1]. The contenders take turns, `--repeats` times, so that a machine whose speed drifts is
fair to all; medians are printed. "In mj_step" is the part of `env.unwrapped.step` that MuJoCo's physics takes.
"""

import os
import statistics
import sys
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import gymnasium as gym
import mujoco
import numpy as np
import tyro

sys.path.insert(0, str(Path(__file__).parents[1]))
from envs import VectorEnv, make, make_vector, resolve  # noqa: E402


@dataclass
class Args:
    env_ids: tuple[str, ...] = ("HandReach-v3",)
    """environments that `envs.tasks.fast_robotics` speeds up"""
    num_envs: int = 38
    """environments stepped together"""
    steps: int = 50
    """steps of all environments in one turn (an episode of HandReach has 50)"""
    repeats: int = 7
    """turns of each contender"""


def package_class(env_id: str) -> type[gym.Env]:
    return type(gym.make(env_id).unwrapped).__bases__[-1]


def make_package_env(env_id: str) -> gym.Env:
    """What `gym.make` gives without this project: the package's class with gymnasium's order check and time limit."""
    spec = gym.spec(env_id)
    env = gym.wrappers.OrderEnforcing(package_class(env_id)(**spec.kwargs))
    return gym.wrappers.TimeLimit(env, spec.max_episode_steps)


def steps_per_second(venv: VectorEnv | gym.vector.VectorEnv, actions: np.ndarray) -> float:
    """Actions (steps, num_envs, action_dim); the reset before is not counted."""
    venv.reset()
    start = time.perf_counter()
    for action in actions:
        venv.step(action)
    return actions.shape[0] * actions.shape[1] / (time.perf_counter() - start)


def share_in_mj_step(env: gym.Env, actions: np.ndarray) -> float:
    """Share of an unwrapped environment's `step` that passes in `mujoco.mj_step`; actions (steps, action_dim)."""
    inside = 0.0
    mj_step = mujoco.mj_step

    def timed(*args, **kwargs) -> None:
        nonlocal inside
        start = time.perf_counter()
        mj_step(*args, **kwargs)
        inside += time.perf_counter() - start

    env.reset()
    mujoco.mj_step = timed
    start = time.perf_counter()
    for action in actions:
        env.step(action)
    total = time.perf_counter() - start
    mujoco.mj_step = mj_step
    return inside / total


def main(args: Args) -> None:
    cores = len(os.sched_getaffinity(0))
    for env_id in map(resolve, args.env_ids):
        package = gym.vector.SyncVectorEnv([partial(make_package_env, env_id)] * args.num_envs)
        contenders = {"gymnasium SyncVectorEnv, package's class": package}
        for threads in sorted({1, cores}):
            contenders[f"envs.make_vector, threads: {threads}"] = make_vector(
                partial(make, env_id), args.num_envs, seed=0, num_threads=threads
            )
        single = {
            "package's class": package.envs[0].unwrapped,
            "envs.tasks.fast_robotics": gym.make(env_id).unwrapped,
        }
        rng = np.random.default_rng(0)
        actions = rng.uniform(-1, 1, (args.steps, *package.action_space.shape)).astype(np.float32)
        speeds = {name: [] for name in contenders}
        shares = {name: [] for name in single}
        for _ in range(args.repeats):
            for name, venv in contenders.items():
                speeds[name].append(steps_per_second(venv, actions))
            for name, env in single.items():
                shares[name].append(
                    share_in_mj_step(env, actions.reshape(-1, actions.shape[-1])[: 4 * args.steps])
                )
        print(
            f"{env_id}: {args.num_envs} environments, {args.steps} steps, uniform actions, {args.repeats} turns"
        )
        base = statistics.median(next(iter(speeds.values())))
        for name, values in speeds.items():
            median, low, high = statistics.median(values), min(values), max(values)
            print(
                f"  {name:42s} {median:7.0f} steps/s ({low:.0f} to {high:.0f}), ratio {median / base:.2f}"
            )
        for name, values in shares.items():
            print(
                f"  in mj_step, {name:30s} {statistics.median(values):7.1%} ({min(values):.1%} to {max(values):.1%})"
            )
        for venv in contenders.values():
            venv.close()


if __name__ == "__main__":
    main(tyro.cli(Args))
