"""What several test files share: the project's scripts as commands, and small environments."""

import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import small_envs
from gymnasium.spaces import Box, Dict, Discrete
from numpy import ndarray
from specs import MANY, SCRIPTS  # noqa: F401  (for other files' imports)

from envs import VectorEnv, make, make_vector
from envs.wrappers import KEYS, Obs, Step

ROOT = Path(__file__).resolve().parent.parent


class Corridor(small_envs.Walk):
    """Walk along a line from 0 to a goal at 1, 2 or 3, at most 2 a step.

    Reaching 3, a pit, ends the episode. Success can be lost again, and comes with an early end only
    where the goal is the pit. Five steps at most.
    """

    def __init__(self, discrete: bool = False, render_mode: str | None = None):
        super().__init__(render_mode=render_mode)
        self.observation_space = Dict(dict.fromkeys(KEYS, Box(-20.0, 20.0, (1,))))
        self.action_space = Discrete(2) if discrete else Box(-2.0, 2.0, (1,))

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Obs, dict]:
        gym.Env.reset(self, seed=seed)
        self.position = np.zeros(1, np.float32)
        self.goal = self.np_random.integers(1, 4, 1).astype(np.float32)
        return self.observe(), {}

    def step(self, action: ndarray) -> Step:
        obs, reward, _, truncated, info = super().step(action)
        return obs, reward, bool(self.position[0] >= 3), truncated, info

    def compute_reward(self, achieved_goal: ndarray, desired_goal: ndarray, info: Any) -> ndarray:
        is_off = np.abs(achieved_goal - desired_goal)[..., 0] >= 0.5
        return -is_off.astype(np.float32)

    def render(self) -> ndarray:
        image = np.zeros((16, 64, 3), np.uint8)
        image[:, int(np.clip(32 + 8 * self.position[0], 0, 63))] = 255
        return image


gym.register("Corridor-v0", Corridor, max_episode_steps=5)
gym.register("CorridorDiscrete-v0", Corridor, max_episode_steps=5, kwargs={"discrete": True})


def vector_of(
    env_id: str,
    num_envs: int,
    seed: int,
    num_threads: int | None = None,
    **how: Any,
) -> VectorEnv:
    """Copies of an environment that is made in this way, see `envs.make`."""
    return make_vector(partial(make, env_id, **how), num_envs, seed, num_threads)


def printed_by(program: str, **variables: str) -> str:
    """What a Python program prints; it must be silent on standard error."""
    environ = os.environ | {"PYTHONPATH": str(ROOT)} | variables
    command = [sys.executable, "-W", "default", "-c", program]
    result = subprocess.run(command, env=environ, text=True, capture_output=True, check=True)
    assert result.stderr == ""
    return result.stdout


def run_script(script: str, *flags: Any, cwd: Path) -> subprocess.CompletedProcess[str]:
    """`python algos/<script>.py <flags>` in the folder `cwd`."""
    command = [sys.executable, str(ROOT / "algos" / f"{script}.py")]
    command += [str(flag) for flag in flags]
    environ = os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": "200"}
    environ.pop("PYTHONPATH", None)  # the scripts must find `envs` by themselves
    return subprocess.run(
        command, cwd=cwd, env=environ, text=True, capture_output=True, timeout=900
    )
