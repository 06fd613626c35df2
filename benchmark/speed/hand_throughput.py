"""Steps per second of the hands, beside Gymnasium's SyncVectorEnv over the package's own classes.

    python benchmark/speed/hand_throughput.py --env-ids HandReach-v3 HandManipulateBlock-v1

Actions are uniform in [-1, 1]. The contenders take turns, `--repeats` times, so that a machine
whose speed drifts is fair to all; medians are printed. "In mj_step" is the part of
`env.unwrapped.step` that MuJoCo's physics takes.
"""

import argparse
import os
import statistics
import sys
import time
from functools import partial
from pathlib import Path

import gymnasium as gym
import mujoco
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from envs import VectorEnv, make, make_vector, resolve


def package_class(env_id: str) -> type[gym.Env]:
    return type(gym.make(env_id).unwrapped).__bases__[-1]


def make_package_env(env_id: str) -> gym.Env:
    """What `gym.make` gives without this project: the package's class, order check, time limit."""
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
    """Share of a bare environment's `step` in `mujoco.mj_step`; actions (steps, action_dim)."""
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


def compare(env_id: str, num_envs: int, steps: int, repeats: int) -> None:
    """Prints the speeds of one environment."""
    env_id = resolve(env_id)
    package = gym.vector.SyncVectorEnv([partial(make_package_env, env_id)] * num_envs)
    contenders = {"gymnasium SyncVectorEnv, package's class": package}
    for threads in sorted({1, len(os.sched_getaffinity(0))}):
        ours = make_vector(partial(make, env_id), num_envs, seed=0, num_threads=threads)
        contenders[f"envs.make_vector, threads: {threads}"] = ours
    single = {
        "package's class": package.envs[0].unwrapped,
        "envs.tasks.fast_robotics": gym.make(env_id).unwrapped,
    }
    shape = (steps, *package.action_space.shape)
    actions = np.random.default_rng(0).uniform(-1, 1, shape).astype(np.float32)
    one_by_one = actions.reshape(-1, shape[-1])[: 4 * steps]
    speeds = {name: [] for name in contenders}
    shares = {name: [] for name in single}
    for _ in range(repeats):
        for name, venv in contenders.items():
            speeds[name].append(steps_per_second(venv, actions))
        for name, env in single.items():
            shares[name].append(share_in_mj_step(env, one_by_one))
    print(f"{env_id}: {num_envs} environments, {steps} steps, uniform actions, {repeats} turns")
    base = statistics.median(next(iter(speeds.values())))
    for name, values in speeds.items():
        median = statistics.median(values)
        span = f"({min(values):.0f} to {max(values):.0f})"
        print(f"  {name:42s} {median:7.0f} steps/s {span}, ratio {median / base:.2f}")
    for name, values in shares.items():
        median = statistics.median(values)
        span = f"({min(values):.1%} to {max(values):.1%})"
        print(f"  in mj_step, {name:30s} {median:7.1%} {span}")
    for venv in contenders.values():
        venv.close()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--env-ids", nargs="+", default=["HandReach-v3"])
    parser.add_argument("--num-envs", type=int, default=38, help="environments stepped together")
    parser.add_argument("--steps", type=int, default=50, help="of all environments in one turn")
    parser.add_argument("--repeats", type=int, default=7, help="turns of each contender")
    args = parser.parse_args()
    if min(args.num_envs, args.steps, args.repeats) < 1:
        parser.error("--num-envs, --steps and --repeats must be at least 1")
    for env_id in args.env_ids:
        compare(env_id, args.num_envs, args.steps, args.repeats)


if __name__ == "__main__":
    main()
