"""What several test files share: the project's scripts as commands, and small environments.

As a command, this file runs a script with Corridor and the environments of small_envs.py
registered: python tests/conftest.py algos/x.py --flags.
"""

import os
import runpy
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # for the case that this file is run as a command
import small_envs  # noqa: E402, F401  (registers them)

from envs import VectorEnv, make, make_vector  # noqa: E402

MANY = "ddpg_her_reengage_many"  # trains grids of runs, with flags and files of its own
SCRIPTS = sorted({path.stem for path in (ROOT / "algos").glob("*.py")} - {MANY})


class Corridor(gym.Env):
    """Walk along a line from 0 to a goal at 1, 2 or 3, at most 2 a step.

    Reaching 3, a pit, ends the episode. Success can be lost again, and comes with an early end only
    where the goal is the pit. Five steps at most.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 5}

    def __init__(self, discrete: bool = False, render_mode: str | None = None):
        self.render_mode = render_mode
        line = gym.spaces.Box(-20.0, 20.0, (1,), np.float32)
        self.observation_space = gym.spaces.Dict(
            dict.fromkeys(("observation", "achieved_goal", "desired_goal"), line)
        )
        self.action_space = (
            gym.spaces.Discrete(2) if discrete else gym.spaces.Box(-2.0, 2.0, (1,), np.float32)
        )

    def reset(
        self, *, seed: int | None = None, options: dict | None = None
    ) -> tuple[dict[str, np.ndarray], dict]:
        super().reset(seed=seed)
        self.position = np.zeros(1, np.float32)
        self.goal = self.np_random.integers(1, 4, 1).astype(np.float32)
        return self._observe(), {}

    def step(self, action: np.ndarray) -> tuple[dict[str, np.ndarray], float, bool, bool, dict]:
        self.position = self.position + np.asarray(action, np.float32)
        reward = float(self.compute_reward(self.position, self.goal, {}))
        return (
            self._observe(),
            reward,
            bool(self.position[0] >= 3),
            False,
            {"is_success": reward == 0},
        )

    def compute_reward(
        self, achieved_goal: np.ndarray, desired_goal: np.ndarray, info: Any
    ) -> np.ndarray:
        return -(np.abs(achieved_goal - desired_goal)[..., 0] >= 0.5).astype(np.float32)

    def render(self) -> np.ndarray:
        image = np.zeros((16, 64, 3), np.uint8)
        image[:, int(np.clip(32 + 8 * self.position[0], 0, 63))] = 255
        return image

    def _observe(self) -> dict[str, np.ndarray]:
        return {
            "observation": self.position,
            "achieved_goal": self.position,
            "desired_goal": self.goal,
        }


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


def run_script(
    script: str,
    *flags: Any,
    cwd: Path,
    python_path: Path | None = None,
    with_corridor: bool = False,
) -> subprocess.CompletedProcess[str]:
    """`python algos/<script>.py <flags>` in the folder `cwd`.

    python_path is searched first for packages.
    """
    command = [
        sys.executable,
        *([__file__] if with_corridor else []),
        str(ROOT / "algos" / f"{script}.py"),
    ]
    environ = os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": "200"}
    environ.pop("PYTHONPATH", None)  # the scripts must find `envs` by themselves
    if python_path:
        environ["PYTHONPATH"] = str(python_path)
    command += [str(flag) for flag in flags]
    return subprocess.run(
        command, cwd=cwd, env=environ, text=True, capture_output=True, timeout=300
    )


if __name__ == "__main__":
    sys.argv = sys.argv[1:]
    runpy.run_path(sys.argv[0], run_name="__main__")
