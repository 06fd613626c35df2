"""What several test files share: the project's scripts as commands, and small environments."""

import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import small_envs  # noqa: F401  (registers them)
from numpy import ndarray
from specs import MANY, SCRIPTS  # noqa: F401  (for other files' imports)

from envs import VectorEnv, make, make_vector
from envs.wrappers import KEYS, Obs, Step

ROOT = Path(__file__).resolve().parent.parent


class Corridor(gym.Env):
    """Walk along a line from 0 to a goal at 1, 2 or 3, at most 2 a step.

    Reaching 3, a pit, ends the episode. Success can be lost again, and comes with an early end only
    where the goal is the pit. Five steps at most.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 5}

    def __init__(self, discrete: bool = False, render_mode: str | None = None):
        self.render_mode = render_mode
        line = gym.spaces.Box(-20.0, 20.0, (1,), np.float32)
        self.observation_space = gym.spaces.Dict(dict.fromkeys(KEYS, line))
        self.action_space = gym.spaces.Box(-2.0, 2.0, (1,), np.float32)
        if discrete:
            self.action_space = gym.spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Obs, dict]:
        super().reset(seed=seed)
        self.position = np.zeros(1, np.float32)
        self.goal = self.np_random.integers(1, 4, 1).astype(np.float32)
        return self._observe(), {}

    def step(self, action: ndarray) -> Step:
        self.position = self.position + np.asarray(action, np.float32)
        reward = float(self.compute_reward(self.position, self.goal, {}))
        is_in_pit = bool(self.position[0] >= 3)
        return self._observe(), reward, is_in_pit, False, {"is_success": reward == 0}

    def compute_reward(self, achieved_goal: ndarray, desired_goal: ndarray, info: Any) -> ndarray:
        is_off = np.abs(achieved_goal - desired_goal)[..., 0] >= 0.5
        return -is_off.astype(np.float32)

    def render(self) -> ndarray:
        image = np.zeros((16, 64, 3), np.uint8)
        image[:, int(np.clip(32 + 8 * self.position[0], 0, 63))] = 255
        return image

    def _observe(self) -> Obs:
        return dict(zip(KEYS, (self.position, self.position, self.goal), strict=True))


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


def run_script(script: str, *flags: Any, cwd: Path) -> subprocess.CompletedProcess[str]:
    """`python algos/<script>.py <flags>` in the folder `cwd`."""
    command = [sys.executable, str(ROOT / "algos" / f"{script}.py")]
    command += [str(flag) for flag in flags]
    environ = os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": "200"}
    environ.pop("PYTHONPATH", None)  # the scripts must find `envs` by themselves
    return subprocess.run(
        command, cwd=cwd, env=environ, text=True, capture_output=True, timeout=900
    )
