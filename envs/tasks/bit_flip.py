"""BitFlip: flip one bit at a time until the state equals the goal.

Andrychowicz et al. 2017; the paper's figure 7.
"""

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box, Dict, Discrete
from numpy import ndarray
from numpy.random import Generator

from envs.batch_env import BatchEnv
from envs.drawing import DARK, GREEN, GREY, ORANGE, WHITE
from envs.messages import BadInput
from envs.wrappers import KEYS, Obs, as_obs


class BitFlip(BatchEnv):
    """s' = s with bit a flipped; reward -1 + 1[s' = g].

    State and goal are uniform random bits. Observation and achieved goal are the state, (d,)
    float32, 0 or 1. Episodes never terminate, not even at the goal; the registered time limit is
    d steps. A picture ("rgb_array") has the bits of the state above those of the goal.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 5}

    def __init__(self, d: int = 20, render_mode: str | None = None):
        if d < 1:
            raise BadInput(f"BitFlip needs d >= 1, not d = {d}.")
        self.render_mode = render_mode
        bits = Box(0.0, 1.0, (d,), np.float32)
        self.observation_space = Dict(dict.fromkeys(KEYS, bits))
        self.action_space = Discrete(d)

    def draw(self, n: int, rng: Generator) -> tuple[ndarray, ndarray]:
        """States and goals of n new episodes, each (n, d)."""
        d = int(self.action_space.n)
        state, goal = rng.integers(2, size=(2, n, d)).astype(np.float32)
        return state, goal

    def advance(self, state: ndarray, action: ndarray, rng: Generator) -> ndarray:
        """Next states, (n, d), of states (n, d) and actions (n,)."""
        state = state.copy()
        episode = np.arange(len(state))
        state[episode, action] = 1 - state[episode, action]
        return state

    def observe(self, state: ndarray, goal: ndarray) -> Obs:
        """Observations, (n, d) each, of states and goals."""
        return as_obs(state.copy(), state.copy(), goal.copy())

    def is_success(self, achieved_goal: ndarray, desired_goal: ndarray) -> ndarray:
        """Whether all bits are equal: (..., d), (..., d) -> (...)."""
        return (achieved_goal == desired_goal).all(axis=-1)

    def compute_reward(self, achieved_goal: ndarray, desired_goal: ndarray, info: Any) -> ndarray:
        """Reward of each pair: (..., d), (..., d) -> (...)."""
        is_success = self.is_success(achieved_goal, desired_goal)
        return np.where(is_success, np.float32(0.0), np.float32(-1.0))

    def render(self) -> ndarray:
        """State above goal, a 1 is dark, below them whether they agree: (64, 16 d, 3)."""
        state, goal = self.state.T, self.goal.T  # (d, 1)
        rows = [
            np.where(state == 1, DARK, WHITE),
            np.where(goal == 1, DARK, WHITE),
            np.where(state == goal, GREEN, ORANGE),
        ]
        image = np.repeat(np.stack(rows), [24, 24, 16], axis=0)
        image = np.repeat(image, 16, axis=1)
        image[:, ::16] = GREY  # lines between the bits
        image[[0, 24, 48]] = GREY
        return image.astype(np.uint8)


def limit_by_bits(env: gym.Env) -> gym.Env:
    """As many steps as there are bits, where nobody has set another time limit."""
    if env.spec.max_episode_steps is not None:
        return env
    return gym.wrappers.TimeLimit(env, int(env.action_space.n))
