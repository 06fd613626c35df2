"""Steps per second of the hands, beside Gymnasium's SyncVectorEnv over the package's own classes.

    python benchmark/speed/hand_throughput.py --env-id HandReach-v3

Actions are uniform in [-1, 1]. The contenders take turns, as in `throughput.py`. "In mj_step" is
the share of `env.unwrapped.step` that MuJoCo's physics takes.
"""

import argparse
import os
import sys
import time
from functools import partial
from pathlib import Path

import gymnasium as gym
import mujoco
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from benchmark.speed.throughput import compare
from envs import VectorEnv, make, make_vector, resolve

NUM_ENVS = 38
STEPS = 50  # of all environments in one turn
ROUNDS = 7


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


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--env-id", default="HandReach-v3")
    env_id = resolve(parser.parse_args().env_id)
    package = gym.vector.SyncVectorEnv([partial(make_package_env, env_id)] * NUM_ENVS)
    shape = (STEPS, *package.action_space.shape)
    actions = np.random.default_rng(0).uniform(-1, 1, shape).astype(np.float32)
    contenders = {"gymnasium's SyncVectorEnv, the package's class": package}
    for threads in sorted({1, len(os.sched_getaffinity(0))}):
        ours = make_vector(partial(make, env_id), NUM_ENVS, seed=0, num_threads=threads)
        contenders[f"envs.make_vector, threads: {threads}"] = ours
    rates = {name: partial(steps_per_second, venv, actions) for name, venv in contenders.items()}
    compare(rates, ROUNDS)
    single = {
        "the package's class": package.envs[0].unwrapped,
        "envs.tasks.fast_robotics": gym.make(env_id).unwrapped,
    }
    one_by_one = actions.reshape(-1, shape[-1])
    for name, env in single.items():
        print(f"in mj_step, {name}: {share_in_mj_step(env, one_by_one):.1%}")


if __name__ == "__main__":
    main()
