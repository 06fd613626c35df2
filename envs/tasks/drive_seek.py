"""DriveSeek: a car that cannot stop collects goals on a torus.

The paper's "Multi-ReenGAGE", experiments and appendix.
"""

import numpy as np
from gymnasium.spaces import Box
from numpy import ndarray
from numpy.random import Generator

from envs.messages import BadInput
from envs.tasks.goal_set import GoalSetEnv, pack
from envs.wrappers import Obs, as_obs


class DriveSeek(GoalSetEnv):
    """The car turns by up to 0.5 rad, then moves by 1.

    The reward is 1 where its rounded position is a goal, else 0. An episode starts at (0, 0) with
    angle 0. Positions wrap around into [-10.5, 10.5). The action in [-1, 1] is a fraction of 0.5
    rad. The observation is (x, y, cos, sin), the achieved goal the rounded position, the desired
    goal a set of up to n_max integer cells in [-10, 10]^2, see `envs.tasks.goal_set`: their number
    is uniform in 1 .. n_max, the cells are drawn without replacement. Episodes never terminate; the
    registered time limit is 40 steps.

    Args:
        n_max: slots for goals, 1 to 441.
        render_mode: "rgb_array" draws goals, visited cells and the car.
    """

    reach = 10  # cells in each direction

    def __init__(self, n_max: int = 200, render_mode: str | None = None):
        line = np.arange(-self.reach, self.reach + 1)
        grid = np.meshgrid(line, line, indexing="ij")
        self.cells = np.stack(grid, -1).reshape(-1, 2)  # (441, 2), sorted
        if not 1 <= n_max <= len(self.cells):
            raise BadInput(f"DriveSeek needs n_max from 1 to {len(self.cells)}, not {n_max}.")
        edge = self.reach + 0.5
        high = np.float32([edge, edge, 1, 1])
        cell = Box(-self.reach, self.reach, (2,))
        super().__init__(n_max, Box(-high, high), cell, render_mode)
        self.action_space = Box(-1.0, 1.0, (1,), np.float32)

    def draw(self, n: int, rng: Generator) -> tuple[ndarray, ndarray]:
        """States (n, 3) as x, y, angle and goal sets (n, 3 n_max) of n new episodes."""
        goals = np.zeros((n, 3 * self.n_max), np.float32)
        counts = rng.integers(1, self.n_max + 1, size=n)
        for i, count in enumerate(counts):
            chosen = rng.choice(len(self.cells), count, replace=False)
            cells = self.cells[np.sort(chosen)]
            goals[i] = pack(cells, self.n_max)
        return np.zeros((n, 3)), goals

    def advance(self, state: ndarray, action: ndarray, rng: Generator) -> ndarray:
        """Next states, (n, 3), of states (n, 3) and actions (n, 1)."""
        turn = np.clip(action[:, 0].astype(float), -1, 1)
        angle = state[:, 2] + 0.5 * turn
        position = state[:, :2] + direction(angle)
        edge = self.reach + 0.5
        position = (position + edge) % (2 * edge) - edge
        return np.concatenate([position, angle[:, None]], 1)

    def observe(self, state: ndarray, goal: ndarray) -> Obs:
        """Observations of states (n, 3) and goal sets (n, 3 n_max)."""
        position = state[:, :2]
        angle = state[:, 2]
        obs = np.concatenate([position, direction(angle)], 1)
        cell = np.rint(position).clip(-self.reach, self.reach)
        return as_obs(obs.astype(np.float32), cell.astype(np.float32), goal.copy())


def direction(angle: ndarray) -> ndarray:
    """Unit vectors, (n, 2), of angles in radians, (n,)."""
    return np.stack([np.cos(angle), np.sin(angle)], 1)
