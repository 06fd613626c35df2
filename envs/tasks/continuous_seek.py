"""ContinuousSeek: walk from the origin to a random goal in a d-dimensional box.

The paper's "Toy Example Experiments".
"""

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box, Dict
from numpy import ndarray

from envs.drawing import BLUE, GREEN, GREY, LARGER, ORANGE, Plane
from envs.messages import BadInput
from envs.rewards import negative_distance_gradient
from envs.wrappers import KEYS, Obs, Step, as_obs


class ContinuousSeek(gym.Env):
    """s' = clip(s + a, -D, D) with D = 5.

    The sparse reward is -1 + 1[max_i |s_i - g_i| <= 0.1], the dense one -||s - g||. The state
    starts at the origin, the goal is uniform in [-D, D]^d, actions lie in [-1, 1]^d. Observation
    and achieved goal are the state, (d,) float32. Episodes never terminate; the registered time
    limit is 10 steps.

    Args:
        d: dimensions of state, goal and action, at least 1.
        reward_type: "sparse" (the paper's) or "dense".
        scale: the unit of length, above 0: it multiplies D, an action's step and the tolerance of
            0.1, which is the same task in other units (paper: 1).
        render_mode: "rgb_array" draws the first two dimensions: visited states, the goal and its
            tolerance.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 5}
    D = 5.0
    TOLERANCE = 0.1

    def __init__(
        self,
        d: int = 5,
        reward_type: str = "sparse",
        render_mode: str | None = None,
        scale: float = 1.0,
    ):
        if d < 1 or reward_type not in ("sparse", "dense") or scale <= 0:
            raise BadInput("ContinuousSeek needs d >= 1, scale > 0 and a sparse or dense reward.")
        self.scale = scale
        self.D = scale * self.D
        self.TOLERANCE = scale * self.TOLERANCE
        self.reward_type = reward_type
        self.render_mode = render_mode
        box = Box(-self.D, self.D, (d,))
        self.observation_space = Dict(dict.fromkeys(KEYS, box))
        self.action_space = Box(-1.0, 1.0, (d,), np.float32)

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[Obs, dict]:
        super().reset(seed=seed)
        self.state = np.zeros(self.action_space.shape, np.float32)
        goal = self.np_random.uniform(-self.D, self.D, self.state.shape)
        self.goal = goal.astype(np.float32)
        self.visited = [self.state]
        return self._observe(), {}

    def step(self, action: ndarray) -> Step:
        action = np.asarray(action, np.float32).clip(-1.0, 1.0)
        self.state = (self.state + self.scale * action).clip(-self.D, self.D)
        self.visited.append(self.state)
        reward = float(self.compute_reward(self.state, self.goal, {}))
        info = {"is_success": self._reached(self.state, self.goal)}
        return self._observe(), reward, False, False, info

    def compute_reward(self, achieved_goal: ndarray, desired_goal: ndarray, info: Any) -> ndarray:
        """Reward of each pair: (..., d), (..., d) -> (...)."""
        if self.reward_type == "dense":
            return -np.linalg.norm(achieved_goal - desired_goal, axis=-1)
        reached = self._reached(achieved_goal, desired_goal)
        return np.where(reached, np.float32(0.0), np.float32(-1.0))

    compute_reward_gradient = staticmethod(negative_distance_gradient)  # of the dense reward

    def render(self) -> ndarray:
        """A walk in the first two dimensions: (320, 320, 3).

        The trail is grey, the state blue, and the goal orange, or green when it is reached, in all
        dimensions.
        """
        plane = Plane(1.08 * self.D, 320)
        draw = plane.draw
        walls = plane.box(np.zeros(2), self.D)
        path = [plane.place(state) for state in [*self.visited, self.state]]
        draw.rectangle(walls, outline=GREY, width=2 * LARGER)
        draw.line(path, GREY, width=2 * LARGER)
        for state in self.visited:
            draw.ellipse(plane.box(state, 2.5 * plane.pixel), GREY)
        goal_colour = GREEN if self._reached(self.state, self.goal) else ORANGE
        frame = plane.box(self.goal, 4 * self.TOLERANCE)  # makes a small goal easy to spot
        draw.rectangle(frame, outline=goal_colour, width=3 * LARGER)
        draw.ellipse(plane.box(self.state, 6 * plane.pixel), BLUE)
        # The goal in its true size, above the state: the overlap must be seen
        draw.rectangle(plane.box(self.goal, self.TOLERANCE), goal_colour)
        return plane.picture()

    def _reached(self, achieved_goal: ndarray, desired_goal: ndarray) -> ndarray:
        off = np.abs(achieved_goal - desired_goal).max(axis=-1)
        return off <= self.TOLERANCE

    def _observe(self) -> Obs:
        return as_obs(self.state.copy(), self.state.copy(), self.goal.copy())
