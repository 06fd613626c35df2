"""DriveSeek: a car that cannot stop collects goals on a torus (paper: "Multi-ReenGAGE", experiments and appendix)."""

import gymnasium as gym
import numpy as np

from envs.goal_set import GoalSetEnv, pack


class DriveSeek(GoalSetEnv):
    """The car turns by up to 0.5 rad, then moves by 1; reward 1 where its rounded position is a goal, else 0.

    An episode starts at (0, 0) with angle 0. Positions wrap around into [-10.5, 10.5). The action in [-1, 1] is a
    fraction of 0.5 rad. The observation is (x, y, cos, sin), the achieved goal the rounded position, the desired goal a
    set of up to n_max integer cells in [-10, 10]^2, see `envs.goal_set`: their number is uniform in 1 .. n_max, the
    cells are drawn without replacement. Episodes never terminate; the registered time limit is 40 steps.

    Args:
        n_max: slots for goals, 1 to 441.
        render_mode: "rgb_array" draws goals, visited cells and the car.
    """

    reach = 10  # cells in each direction

    def __init__(self, n_max: int = 200, render_mode: str | None = None):
        cells = np.arange(-self.reach, self.reach + 1)
        self.cells = np.stack(np.meshgrid(cells, cells, indexing="ij"), -1).reshape(
            -1, 2
        )  # (441, 2), sorted
        if not 1 <= n_max <= len(self.cells):
            raise ValueError(f"DriveSeek needs n_max from 1 to {len(self.cells)}, not {n_max}.")
        self.n_max = n_max
        self.render_mode = render_mode
        edge = np.float32(self.reach + 0.5)
        slot_low, slot_high = (
            np.float32([0, -self.reach, -self.reach]),
            np.float32([1, self.reach, self.reach]),
        )
        self.observation_space = gym.spaces.Dict(
            {
                "observation": gym.spaces.Box(
                    np.float32([-edge, -edge, -1, -1]), np.float32([edge, edge, 1, 1])
                ),
                "achieved_goal": gym.spaces.Box(-self.reach, self.reach, (2,), np.float32),
                "desired_goal": gym.spaces.Box(np.tile(slot_low, n_max), np.tile(slot_high, n_max)),
            }
        )
        self.action_space = gym.spaces.Box(-1.0, 1.0, (1,), np.float32)

    def draw(self, n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """States (n, 3) as x, y, angle and goal sets (n, 3 n_max) of n new episodes."""
        goals = np.zeros((n, 3 * self.n_max), np.float32)
        for i, count in enumerate(rng.integers(1, self.n_max + 1, size=n)):
            chosen = np.sort(rng.choice(len(self.cells), count, replace=False))
            goals[i] = pack(self.cells[chosen], self.n_max)
        return np.zeros((n, 3)), goals

    def advance(
        self, state: np.ndarray, action: np.ndarray, rng: np.random.Generator
    ) -> np.ndarray:
        """Next states, (n, 3), of states (n, 3) and actions (n, 1)."""
        angle = state[:, 2] + 0.5 * np.clip(action[:, 0].astype(float), -1, 1)
        position = state[:, :2] + np.stack([np.cos(angle), np.sin(angle)], 1)
        edge = self.reach + 0.5
        position = (position + edge) % (2 * edge) - edge
        return np.concatenate([position, angle[:, None]], 1)

    def observe(self, state: np.ndarray, goal: np.ndarray) -> dict[str, np.ndarray]:
        """Observations of states (n, 3) and goal sets (n, 3 n_max)."""
        position, angle = state[:, :2], state[:, 2]
        obs = np.concatenate([position, np.stack([np.cos(angle), np.sin(angle)], 1)], 1).astype(
            np.float32
        )
        rounded = np.rint(position).clip(-self.reach, self.reach).astype(np.float32)
        return {"observation": obs, "achieved_goal": rounded, "desired_goal": goal.copy()}
