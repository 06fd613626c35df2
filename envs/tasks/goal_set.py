"""What DriveSeek and NoisySeek share: sets of goal cells as one vector, and their rewards.

A goal set is a vector (3 n_max,): n_max slots of (gate, x, y), the goals sorted and first, all
other slots zero.
"""

from typing import Any

import numpy as np
from gymnasium.spaces import Box, Dict
from numpy import ndarray

from envs.batch_env import BatchEnv
from envs.drawing import BLACK, BLUE, CYAN, GREY, LARGER, MAGENTA, Plane
from envs.wrappers import as_obs


def pack(cells: ndarray, n_max: int) -> ndarray:
    """Integer cells (n, 2), sorted, n <= n_max -> a goal set (3 n_max,) float32."""
    slots = np.zeros((n_max, 3), np.float32)
    slots[: len(cells), 0] = 1
    slots[: len(cells), 1:] = cells
    return slots.reshape(-1)


class GoalSetEnv(BatchEnv):
    """Reward 1 where the rounded position is one of the goals, else 0; Eqs. (13), (14) and (18).

    What an environment adds: its action space, `reach` (cells from -reach to reach are drawn), and
    what `BatchEnv` asks for. `observation` is the observation's space, and `cell` the space of
    achieved goals and of each goal.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 8}

    def __init__(self, n_max: int, observation: Box, cell: Box, render_mode: str | None):
        self.n_max = n_max
        self.render_mode = render_mode
        low = np.append(0, cell.low).astype(np.float32)  # of a slot
        high = np.append(1, cell.high).astype(np.float32)
        goals = Box(np.tile(low, n_max), np.tile(high, n_max))
        self.observation_space = Dict(as_obs(observation, cell, goals))

    def compute_item_rewards(self, achieved_goal: ndarray, desired_goal: ndarray) -> ndarray:
        """R_item of each slot, 1 where a present goal is the achieved one.

        (..., 2), (..., 3 n_max) -> (..., n_max).
        """
        batch = desired_goal.shape[:-1]
        slots = desired_goal.reshape(*batch, -1, 3)
        is_equal = slots[..., 1:] == achieved_goal[..., None, :]
        reached = is_equal.all(-1)
        return slots[..., 0] * reached

    def compute_reward(self, achieved_goal: ndarray, desired_goal: ndarray, info: Any) -> ndarray:
        """Eq. (14), the sum of the item rewards: (..., 2), (..., 3 n_max) -> (...)."""
        return self.compute_item_rewards(achieved_goal, desired_goal).sum(-1)

    def is_success(self, achieved_goal: ndarray, desired_goal: ndarray) -> ndarray:
        """Whether one of the goals is achieved: (..., 2), (..., 3 n_max) -> (...)."""
        return self.compute_item_rewards(achieved_goal, desired_goal).any(-1)

    def render(self) -> ndarray:
        """The episode so far, as in the paper's figure 4: (366, 366, 3).

        Goals are cyan, blue once reached; other visited cells are magenta; the agent is black.
        """
        edge = self.reach + 0.5
        plane = Plane(edge, 366)
        slots = self.goal.reshape(-1, 3)
        goals = set(map(tuple, slots[slots[:, 0] > 0, 1:]))
        reached = set(map(tuple, self.visited))
        colours = {CYAN: goals - reached, BLUE: goals & reached, MAGENTA: reached - goals}
        for colour, cells in colours.items():
            for cell in cells:
                plane.draw.rectangle(plane.box(cell, 0.4), colour)
        frame = plane.box(np.zeros(2), edge)
        plane.draw.rectangle(frame, outline=GREY, width=LARGER)
        plane.draw.ellipse(plane.box(self.state[0, :2], edge / 32), BLACK)
        return plane.picture()
