"""ContinuousSeek: walk from the origin to a random goal in a d-dimensional box (paper: "Toy Example Experiments")."""

from typing import Any

import gymnasium as gym
import numpy as np

from envs.dense import negative_distance, negative_distance_gradient

WHITE, GREY, BLUE, ORANGE, GREEN = np.float32(
    [[255] * 3, [190] * 3, [0, 90, 200], [230, 130, 0], [0, 150, 90]]
)


class ContinuousSeek(gym.Env):
    """s' = clip(s + a, -D, D) with D = 5; sparse reward -1 + 1[max_i |s_i - g_i| <= 0.1], dense reward -||s - g||.

    The state starts at the origin, the goal is uniform in [-D, D]^d, actions lie in [-1, 1]^d. Observation and
    achieved goal are the state, (d,) float32. Episodes never terminate; the registered time limit is 10 steps.

    Args:
        d: dimensions of state, goal and action, at least 1.
        reward_type: "sparse" (the paper's) or "dense".
        render_mode: "rgb_array" draws the first two dimensions: visited states, the goal and its tolerance.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 5}
    D = 5.0
    TOLERANCE = 0.1

    def __init__(self, d: int, reward_type: str = "sparse", render_mode: str | None = None):
        if d < 1 or reward_type not in ("sparse", "dense"):
            raise ValueError(
                f"ContinuousSeek needs d >= 1 and a sparse or dense reward, not d = {d} and '{reward_type}'."
            )
        self.reward_type = reward_type
        self.render_mode = render_mode
        box = gym.spaces.Box(-self.D, self.D, (d,), np.float32)
        self.observation_space = gym.spaces.Dict(
            {"observation": box, "achieved_goal": box, "desired_goal": box}
        )
        self.action_space = gym.spaces.Box(-1.0, 1.0, (d,), np.float32)

    def reset(
        self, *, seed: int | None = None, options: dict | None = None
    ) -> tuple[dict[str, np.ndarray], dict]:
        super().reset(seed=seed)
        self.state = np.zeros(self.action_space.shape, np.float32)
        self.goal = self.np_random.uniform(-self.D, self.D, self.state.shape).astype(np.float32)
        self.visited = [self.state]
        return self._observe(), {}

    def step(self, action: np.ndarray) -> tuple[dict[str, np.ndarray], float, bool, bool, dict]:
        action = np.asarray(action, np.float32).clip(-1.0, 1.0)
        self.state = (self.state + action).clip(-self.D, self.D)
        self.visited.append(self.state)
        reward = float(self.compute_reward(self.state, self.goal, {}))
        return (
            self._observe(),
            reward,
            False,
            False,
            {"is_success": self._reached(self.state, self.goal)},
        )

    def compute_reward(
        self, achieved_goal: np.ndarray, desired_goal: np.ndarray, info: Any
    ) -> np.ndarray:
        """Reward of each pair: (..., d), (..., d) -> (...)."""
        if self.reward_type == "dense":
            return negative_distance(achieved_goal, desired_goal)
        return np.where(
            self._reached(achieved_goal, desired_goal), np.float32(0.0), np.float32(-1.0)
        )

    def compute_reward_gradient(
        self, achieved_goal: np.ndarray, desired_goal: np.ndarray, info: Any
    ) -> np.ndarray:
        """Gradient of the dense reward with respect to the desired goal: (..., d), (..., d) -> (..., d)."""
        return negative_distance_gradient(achieved_goal, desired_goal)

    def render(self) -> np.ndarray:
        """The first two dimensions, (320, 320, 3) uint8: trail grey, state blue, goal orange, or green when reached."""
        size = 320
        ticks = np.linspace(-1.08 * self.D, 1.08 * self.D, size, dtype=np.float32)
        x, y = ticks, -ticks[:, None]  # the second dimension points up
        pixel = ticks[1] - ticks[0]
        image = np.full((size, size, 3), WHITE, np.float32)

        def paint(distance: np.ndarray, colour: np.ndarray) -> None:
            """Fills where the signed distance to a shape is negative; the edge is one pixel wide."""
            cover = np.clip(0.5 - distance / pixel, 0.0, 1.0)[..., None]
            image[:] = (1 - cover) * image + cover * colour

        points = [*self.visited, self.state, self.goal]
        *path, state, goal = np.float32(
            [np.append(point, 0.0)[:2] for point in points]
        )  # d = 1: on the middle line
        goal_distance = np.maximum(np.abs(x - goal[0]), np.abs(y - goal[1]))
        goal_colour = GREEN if self._reached(self.state, self.goal) else ORANGE
        trail = (
            np.abs(np.maximum(np.abs(x), np.abs(y)) - self.D) - pixel
        )  # the walls, in the trail's colour
        for (start_x, start_y), (step_x, step_y) in zip(
            path[:-1], np.diff(path, axis=0), strict=True
        ):
            along = ((x - start_x) * step_x + (y - start_y) * step_y) / max(
                step_x**2 + step_y**2, 1e-9
            )
            along = np.clip(along, 0.0, 1.0)
            trail = np.minimum(
                trail, np.hypot(x - start_x - along * step_x, y - start_y - along * step_y) - pixel
            )
            trail = np.minimum(trail, np.hypot(x - start_x, y - start_y) - 2.5 * pixel)
        paint(trail, GREY)
        paint(
            np.abs(goal_distance - 0.4) - 1.5 * pixel, goal_colour
        )  # a frame that finds the small goal for the eye
        paint(np.hypot(x - state[0], y - state[1]) - 6 * pixel, BLUE)
        paint(
            goal_distance - self.TOLERANCE, goal_colour
        )  # true size, above the state: the overlap must be seen
        return image.astype(np.uint8)

    def _reached(self, achieved_goal: np.ndarray, desired_goal: np.ndarray) -> np.ndarray:
        return np.abs(achieved_goal - desired_goal).max(axis=-1) <= self.TOLERANCE

    def _observe(self) -> dict[str, np.ndarray]:
        return {
            "observation": self.state.copy(),
            "achieved_goal": self.state.copy(),
            "desired_goal": self.goal.copy(),
        }
