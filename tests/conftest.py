"""What several test files share: the project's scripts as commands, and small environments."""

import csv
import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import small_envs
import torch
from gymnasium.spaces import Box, Dict, Discrete
from numpy import ndarray
from specs import MANY, SCRIPTS  # noqa: F401  (for other files' imports)

from envs import VectorEnv, make, make_vector
from envs.wrappers import KEYS, Obs, Step

ROOT = Path(__file__).resolve().parent.parent
torch.set_num_threads(1)  # faster for networks this small


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


def python(*words: Any, cwd: Path = ROOT, **variables: str) -> subprocess.CompletedProcess[str]:
    """`python <words>` in a folder, on one thread, with more environment variables."""
    command = [sys.executable, *map(str, words)]
    environ = os.environ | {"OMP_NUM_THREADS": "1"} | variables
    return subprocess.run(
        command, cwd=cwd, env=environ, text=True, capture_output=True, timeout=900
    )


def printed_by(program: str, **variables: str) -> str:
    """What a Python program prints; it must be silent on standard error."""
    result = python("-W", "default", "-c", program, **variables)
    assert (result.returncode, result.stderr) == (0, "")
    return result.stdout


def run_script(
    script: str, *flags: Any, cwd: Path, **variables: str
) -> subprocess.CompletedProcess[str]:
    """`python algos/<script>.py <flags>`, which must find `envs` by itself."""
    variables |= {"PYTHONPATH": "", "COLUMNS": "200"}
    return python(ROOT / "algos" / f"{script}.py", *flags, cwd=cwd, **variables)


def read_metrics(run_dir: Path) -> list[dict[str, str]]:
    """Rows of metrics.csv."""
    with open(run_dir / "metrics.csv", newline="") as file:
        return list(csv.DictReader(file))


def rows_of(run_dir: Path) -> list[dict[str, str]]:
    """Rows of metrics.csv without the column that may differ."""
    rows = read_metrics(run_dir)
    for row in rows:
        del row["wall_time"]
    return rows


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}
