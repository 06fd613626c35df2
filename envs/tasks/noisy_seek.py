"""NoisySeek: steer a noisy walk to clusters of goals.

The paper's "Multi-ReenGAGE", experiments and appendix.
"""

import numpy as np
from gymnasium.spaces import Box
from numpy import ndarray
from numpy.random import Generator

from envs.messages import BadInput
from envs.tasks.goal_set import GoalSetEnv, pack
from envs.wrappers import Obs, as_obs


class NoisySeek(GoalSetEnv):
    """s' = s + a + unit Gaussian noise with |a| <= 1; reward 1 where rounded s' is a goal, else 0.

    An episode starts at (0, 0). Longer actions are scaled to length 1. The observation is the
    position, the achieved goal the rounded position, the desired goal a set of up to n_max integer
    cells, see `envs.tasks.goal_set`, drawn in clusters, see `draw`. Episodes never terminate; the
    registered time limit is 40 steps.

    Args:
        n_max: slots for goals, at least 1.
        render_mode: "rgb_array" draws goals, visited cells and the agent in [-30, 30]^2.
    """

    reach = 30  # cells that the picture shows in each direction

    def __init__(self, n_max: int = 200, render_mode: str | None = None):
        if n_max < 1:
            raise BadInput(f"NoisySeek needs n_max of at least 1, not {n_max}.")
        anywhere = Box(-np.inf, np.inf, (2,))
        super().__init__(n_max, anywhere, anywhere, render_mode)
        self.action_space = Box(-1.0, 1.0, (2,), np.float32)

    def draw(self, n: int, rng: Generator) -> tuple[ndarray, ndarray]:
        """States (n, 2) and goal sets (n, 3 n_max) of n new episodes.

        The number of clusters is geometric with p = 0.15, that of goals before de-duplication
        uniform in 1 .. n_max. Centres are Gaussian with standard deviation 10, the clusters' shares
        Dirichlet(1), and goals lie around their centre with standard deviation 2, rounded.
        """
        goals = np.zeros((n, 3 * self.n_max), np.float32)
        for i in range(n):
            clusters = rng.geometric(0.15)
            count = rng.integers(1, self.n_max + 1)
            centres = rng.normal(0, 10, (clusters, 2))
            shares = rng.dirichlet(np.ones(clusters))
            cluster = rng.choice(clusters, count, p=shares)  # of each goal
            points = centres[cluster] + rng.normal(0, 2, (count, 2))
            cells = np.rint(points) + 0.0  # -0 and 0 are one cell
            goals[i] = pack(np.unique(cells, axis=0), self.n_max)
        return np.zeros((n, 2)), goals

    def advance(self, state: ndarray, action: ndarray, rng: Generator) -> ndarray:
        """Next states, (n, 2), of states (n, 2) and actions (n, 2)."""
        length = np.linalg.norm(action, axis=1, keepdims=True)
        action = action / np.maximum(length, 1)
        return state + action + rng.standard_normal(state.shape)

    def observe(self, state: ndarray, goal: ndarray) -> Obs:
        """Observations of states (n, 2) and goal sets (n, 3 n_max)."""
        position = state.astype(np.float32)
        rounded = np.rint(state).astype(np.float32)
        return as_obs(position, rounded, goal.copy())
