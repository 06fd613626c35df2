"""The paper's two examples of "Learning Efficiency": an unknown rotation turns the actions.

Figures 5 and 6.
"""

from typing import Any

import numpy as np
from gymnasium.spaces import Box, Dict
from numpy import ndarray
from numpy.random import Generator

from envs.batch_env import BatchEnv
from envs.messages import BadInput
from envs.wrappers import Obs, as_obs


def random_rotation(d: int, rng: Generator) -> ndarray:
    """A rotation, uniform over all of them: (d, d)."""
    q, r = np.linalg.qr(rng.standard_normal((d, d)))
    q *= np.sign(np.diag(r))
    q[:, 0] *= np.sign(np.linalg.det(q))
    return q


class Rotation(BatchEnv):
    """s' = s + U a with an unknown rotation U and |a| <= 1; reward g . s' for a direction g.

    The sparse class has states (s1, s2) and reward g . s1: where s1 is not 0, it moves to
    (0, s1 + U a), without a reward; else it moves to (s2, 0). There c_low is 0. An episode starts
    in a random direction of length 1 (s1, with s2 = 0), and g is another one. Longer actions are
    scaled to length 1. The achieved goal is s, or s1. Episodes never terminate; the registered time
    limit is 10 steps.

    Args:
        d: dimensions of goal and action, at least 2.
        reward_type: "dense" (figure 5) or "sparse" (figure 6).
        rotation_seed: decides U.
    """

    def __init__(self, d: int = 2, reward_type: str = "dense", rotation_seed: int = 0):
        if d < 2 or reward_type not in ("dense", "sparse"):
            raise BadInput("Rotation needs d >= 2 and a dense or sparse reward.")
        self.d = d
        self.reward_type = reward_type
        self.rotation = random_rotation(d, np.random.default_rng(rotation_seed))
        state_dim = d if reward_type == "dense" else 2 * d
        goal = Box(-np.inf, np.inf, (d,))
        state = Box(-np.inf, np.inf, (state_dim,))
        self.observation_space = Dict(as_obs(state, goal, goal))
        self.action_space = Box(-1.0, 1.0, (d,), np.float32)

    def draw(self, n: int, rng: Generator) -> tuple[ndarray, ndarray]:
        """States (n, d) or (n, 2 d) and goals (n, d) of n new episodes."""
        state, goal = rng.standard_normal((2, n, self.d))
        state /= np.linalg.norm(state, axis=1, keepdims=True)
        goal /= np.linalg.norm(goal, axis=1, keepdims=True)
        if self.reward_type == "dense":
            return state, goal
        return np.concatenate([state, 0 * state], 1), goal

    def advance(self, state: ndarray, action: ndarray, rng: Generator) -> ndarray:
        """Next states of states (n, d) or (n, 2 d) and actions (n, d)."""
        length = np.linalg.norm(action, axis=1, keepdims=True)
        action = action / np.maximum(length, 1)
        shown, stored = state[:, : self.d], state[:, self.d :]
        moved = shown + action @ self.rotation.T
        if self.reward_type == "dense":
            return moved
        is_empty = ~shown.any(1, keepdims=True)
        brought_back = np.concatenate([stored, 0 * stored], 1)
        put_away = np.concatenate([0 * moved, moved], 1)
        return np.where(is_empty, brought_back, put_away)

    def observe(self, state: ndarray, goal: ndarray) -> Obs:
        """Observations of states (n, d) or (n, 2 d) and goals (n, d)."""
        state = state.astype(np.float32)
        return as_obs(state, state[:, : self.d].copy(), goal.astype(np.float32))

    def is_success(self, achieved_goal: ndarray, desired_goal: ndarray) -> ndarray:
        """These tasks have no success, only a return: (..., d), (..., d) -> (...)."""
        return np.zeros(achieved_goal.shape[:-1], bool)

    def compute_reward(self, achieved_goal: ndarray, desired_goal: ndarray, info: Any) -> ndarray:
        """g . s of each pair: (..., d), (..., d) -> (...)."""
        return (achieved_goal * desired_goal).sum(-1)

    def compute_reward_gradient(
        self, achieved_goal: ndarray, desired_goal: ndarray, info: Any
    ) -> ndarray:
        """Gradient of the reward by the desired goal: (..., d), (..., d) -> (..., d)."""
        return achieved_goal.copy()
