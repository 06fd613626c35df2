"""Environments that are arithmetic: any number of episodes step by one call."""

import gymnasium as gym
import numpy as np
from numpy import ndarray

from envs.wrappers import Obs, Step


class BatchEnv(gym.Env):
    """A single episode of an environment that can step many at once, as `make_vector`'s copies do.

    What an environment adds, for n episodes: `draw(n, rng)` -> states and goals of new episodes,
    `advance(state, action, rng)` -> next states, `observe(state, goal)` -> observations, and over
    any leading axes `is_success(achieved_goal, desired_goal)` and
    `compute_reward(achieved_goal, desired_goal, info)`. Episodes never terminate.
    """

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[Obs, dict]:
        super().reset(seed=seed)
        self.state, self.goal = self.draw(1, self.np_random)  # a batch of one
        self.visited = []  # achieved goals after each step, for pictures
        return self._observe(), {}

    def step(self, action: ndarray) -> Step:
        actions = np.asarray(action)[None]
        self.state = self.advance(self.state, actions, self.np_random)
        obs = self._observe()
        achieved_goal = obs["achieved_goal"]
        desired_goal = obs["desired_goal"]
        self.visited.append(achieved_goal)
        reward = float(self.compute_reward(achieved_goal, desired_goal, {}))
        info = {"is_success": bool(self.is_success(achieved_goal, desired_goal))}
        return obs, reward, False, False, info

    def _observe(self) -> Obs:
        batch = self.observe(self.state, self.goal)
        return {key: value[0] for key, value in batch.items()}
