"""The paper's two examples of "Learning Efficiency": actions are turned by an unknown rotation (figures 5 and 6)."""

from typing import Any

import gymnasium as gym
import numpy as np

from envs.batch import BatchEnv


def random_rotation(d: int, rng: np.random.Generator) -> np.ndarray:
    """A rotation, uniform over all of them: (d, d)."""
    q, r = np.linalg.qr(rng.standard_normal((d, d)))
    q *= np.sign(np.diag(r))
    q[:, 0] *= np.sign(np.linalg.det(q))
    return q


class Rotation(BatchEnv):
    """s' = s + U a with an unknown rotation U and |a| <= 1; reward g . s' for a direction g.

    The sparse class has states (s1, s2) and reward g . s1: where s1 is not 0, it moves to (0, s1 + U a), without a
    reward; else it moves to (s2, 0). There c_low is 0. An episode starts in a random direction of length 1 (s1, with s2
    = 0), and g is another one. Longer actions are scaled to length 1. The achieved goal is s, or s1. Episodes never
    terminate; the registered time limit is 10 steps.

    Args:
        d: dimensions of goal and action, at least 2.
        reward_type: "dense" (figure 5) or "sparse" (figure 6).
        rotation_seed: decides U.
    """

    metadata = {"render_modes": []}

    def __init__(
        self,
        d: int,
        reward_type: str = "dense",
        rotation_seed: int = 0,
        render_mode: str | None = None,
    ):
        if d < 2 or reward_type not in ("dense", "sparse"):
            raise ValueError(
                f"Rotation needs d >= 2 and a dense or sparse reward, not d = {d} and '{reward_type}'."
            )
        self.d, self.reward_type, self.render_mode = d, reward_type, render_mode
        self.rotation = random_rotation(d, np.random.default_rng(rotation_seed))
        goal = gym.spaces.Box(-np.inf, np.inf, (d,), np.float32)
        state = gym.spaces.Box(-np.inf, np.inf, ((1 + (reward_type == "sparse")) * d,), np.float32)
        self.observation_space = gym.spaces.Dict(
            {"observation": state, "achieved_goal": goal, "desired_goal": goal}
        )
        self.action_space = gym.spaces.Box(-1.0, 1.0, (d,), np.float32)

    def draw(self, n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """States (n, d) or (n, 2 d) and goals (n, d) of n new episodes."""
        state, goal = rng.standard_normal((2, n, self.d))
        state, goal = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (state, goal))
        return state if self.reward_type == "dense" else np.concatenate([state, 0 * state], 1), goal

    def advance(
        self, state: np.ndarray, action: np.ndarray, rng: np.random.Generator
    ) -> np.ndarray:
        """Next states of states (n, d) or (n, 2 d) and actions (n, d)."""
        action = action / np.maximum(np.linalg.norm(action, axis=1, keepdims=True), 1)
        moved = state[:, : self.d] + action @ self.rotation.T
        if self.reward_type == "dense":
            return moved
        stored = state[:, self.d :]
        empty = ~state[:, : self.d].any(1, keepdims=True)
        return np.where(
            empty, np.concatenate([stored, 0 * stored], 1), np.concatenate([0 * moved, moved], 1)
        )

    def observe(self, state: np.ndarray, goal: np.ndarray) -> dict[str, np.ndarray]:
        """Observations of states (n, d) or (n, 2 d) and goals (n, d)."""
        state, goal = state.astype(np.float32), goal.astype(np.float32)
        return {
            "observation": state,
            "achieved_goal": state[:, : self.d].copy(),
            "desired_goal": goal,
        }

    def is_success(self, achieved_goal: np.ndarray, desired_goal: np.ndarray) -> np.ndarray:
        """These tasks have no success, only a return: (..., d), (..., d) -> (...)."""
        return np.zeros(achieved_goal.shape[:-1], bool)

    def compute_reward(
        self, achieved_goal: np.ndarray, desired_goal: np.ndarray, info: Any
    ) -> np.ndarray:
        """g . s of each pair: (..., d), (..., d) -> (...)."""
        return (achieved_goal * desired_goal).sum(-1)

    def compute_reward_gradient(
        self, achieved_goal: np.ndarray, desired_goal: np.ndarray, info: Any
    ) -> np.ndarray:
        """Gradient of the reward with respect to the desired goal: (..., d), (..., d) -> (..., d)."""
        return achieved_goal.copy()
