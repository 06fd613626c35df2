"""What DriveSeek and NoisySeek share: sets of goal cells as one vector, their rewards, and the picture of an episode.

A goal set is a vector (3 n_max,): n_max slots of (gate, x, y), the goals sorted and first, all other slots zero.
"""

from typing import Any

import numpy as np

from envs.batch import BatchEnv

WHITE, GREY = np.float32([[255] * 3, [190] * 3])
CYAN, BLUE, MAGENTA, BLACK = np.float32([[90, 215, 235], [0, 70, 200], [215, 60, 170], [0, 0, 0]])


def pack(cells: np.ndarray, n_max: int) -> np.ndarray:
    """Integer cells (n, 2), sorted, n <= n_max -> a goal set (3 n_max,) float32."""
    slots = np.zeros((n_max, 3), np.float32)
    slots[: len(cells), 0] = 1
    slots[: len(cells), 1:] = cells
    return slots.reshape(-1)


class GoalSetEnv(BatchEnv):
    """Reward 1 where the rounded position is one of the goals, else 0; the paper's equations (13), (14) and (18).

    What an environment adds: its spaces, `reach` (cells from -reach to reach are drawn), and what `BatchEnv` asks for.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 8}

    def compute_item_rewards(
        self, achieved_goal: np.ndarray, desired_goal: np.ndarray
    ) -> np.ndarray:
        """R_item of each slot, 1 where a present goal is the achieved one: (..., 2), (..., 3 n_max) -> (..., n_max)."""
        slots = desired_goal.reshape(*desired_goal.shape[:-1], -1, 3)
        reached = (slots[..., 1:] == achieved_goal[..., None, :]).all(-1)
        return (slots[..., 0] * reached).astype(np.float32)

    def compute_reward(
        self, achieved_goal: np.ndarray, desired_goal: np.ndarray, info: Any
    ) -> np.ndarray:
        """Eq. (14), the sum of the item rewards: (..., 2), (..., 3 n_max) -> (...)."""
        return self.compute_item_rewards(achieved_goal, desired_goal).sum(-1)

    def is_success(self, achieved_goal: np.ndarray, desired_goal: np.ndarray) -> np.ndarray:
        """Whether one of the goals is achieved: (..., 2), (..., 3 n_max) -> (...)."""
        return self.compute_item_rewards(achieved_goal, desired_goal).any(-1)

    def render(self) -> np.ndarray:
        """The episode so far, see `picture`."""
        return picture(
            np.reshape(self.visited, (-1, 2)), self.state[0, :2], self.goal[0], self.reach, 366
        )


def picture(
    visited: np.ndarray, position: np.ndarray, desired_goal: np.ndarray, reach: int, size: int
) -> np.ndarray:
    """An episode so far, as in the paper's figure 4: (size, size, 3) uint8.

    Goals are cyan, blue once reached; other visited cells are magenta; the agent is a black dot.

    Args:
        visited: rounded positions, (steps, 2).
        position: the agent's, (2,).
        desired_goal: the goal set, (3 n_max,).
        reach: cells from -reach to reach are shown, in both dimensions.
        size: of the picture, in pixels.
    """
    edge = reach + 0.5
    ticks = np.linspace(-edge, edge, size, dtype=np.float32)
    x, y = ticks, -ticks[:, None]  # the second dimension points up
    image = np.full((size, size, 3), WHITE, np.float32)
    slots = desired_goal.reshape(-1, 3)
    goals = {tuple(cell) for cell in slots[slots[:, 0] > 0, 1:].astype(int).tolist()}
    reached = {tuple(cell) for cell in visited.astype(int).tolist()}
    for cells, colour in (
        (goals - reached, CYAN),
        (goals & reached, BLUE),
        (reached - goals, MAGENTA),
    ):
        for cell_x, cell_y in cells:
            image[np.maximum(np.abs(x - cell_x), np.abs(y - cell_y)) < 0.4] = colour
    image[np.maximum(np.abs(x), np.abs(y)) > edge - 2 * edge / size] = GREY  # a frame
    image[np.hypot(x - position[0], y - position[1]) < edge / 32] = BLACK
    return image.astype(np.uint8)
