"""BitFlip: flip one bit at a time until the state equals the goal (Andrychowicz et al. 2017; paper: figure 7)."""

from typing import Any

import gymnasium as gym
import numpy as np

from envs.batch import BatchEnv

WHITE, BLACK, GREEN, ORANGE = np.uint8([[255] * 3, [40] * 3, [0, 150, 90], [230, 130, 0]])


class BitFlip(BatchEnv):
    """s' = s with bit a flipped; reward -1 + 1[s' = g].

    State and goal are uniform random bits. Observation and achieved goal are the state, (d,) float32, 0 or 1. Episodes
    never terminate, not even at the goal; the registered time limit is d steps.

    Args:
        d: number of bits, at least 1.
        render_mode: "rgb_array" draws the bits of the state above those of the goal.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 5}

    def __init__(self, d: int, render_mode: str | None = None):
        if d < 1:
            raise ValueError(f"BitFlip needs d >= 1, not d = {d}.")
        self.render_mode = render_mode
        bits = gym.spaces.Box(0.0, 1.0, (d,), np.float32)
        self.observation_space = gym.spaces.Dict(
            {"observation": bits, "achieved_goal": bits, "desired_goal": bits}
        )
        self.action_space = gym.spaces.Discrete(d)

    def draw(self, n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """States and goals of n new episodes, each (n, d)."""
        state, goal = rng.integers(2, size=(2, n, int(self.action_space.n))).astype(np.float32)
        return state, goal

    def advance(
        self, state: np.ndarray, action: np.ndarray, rng: np.random.Generator
    ) -> np.ndarray:
        """Next states, (n, d), of states (n, d) and actions (n,)."""
        state, episode = state.copy(), np.arange(len(state))
        state[episode, action] = 1 - state[episode, action]
        return state

    def observe(self, state: np.ndarray, goal: np.ndarray) -> dict[str, np.ndarray]:
        """Observations, (n, d) each, of states and goals."""
        return {
            "observation": state.copy(),
            "achieved_goal": state.copy(),
            "desired_goal": goal.copy(),
        }

    def is_success(self, achieved_goal: np.ndarray, desired_goal: np.ndarray) -> np.ndarray:
        """Whether all bits are equal: (..., d), (..., d) -> (...)."""
        return (achieved_goal == desired_goal).all(axis=-1)

    def compute_reward(
        self, achieved_goal: np.ndarray, desired_goal: np.ndarray, info: Any
    ) -> np.ndarray:
        """Reward of each pair: (..., d), (..., d) -> (...)."""
        return np.where(
            self.is_success(achieved_goal, desired_goal), np.float32(0.0), np.float32(-1.0)
        )

    def render(self) -> np.ndarray:
        """State above goal, a 1 is dark, and below them whether the two agree: (64, 16 d, 3) uint8."""
        cells = (
            np.concatenate([self.state, self.goal])[..., None] * (BLACK.astype(int) - WHITE) + WHITE
        )  # (2, d, 3)
        verdict = np.where((self.state == self.goal)[..., None], GREEN, ORANGE)  # (1, d, 3)
        image = np.repeat(
            np.repeat(np.concatenate([cells, verdict]), [24, 24, 16], axis=0), 16, axis=1
        )
        image[:, ::16] = 190  # lines between the bits
        image[[0, 24, 48]] = 190
        return image.astype(np.uint8)
