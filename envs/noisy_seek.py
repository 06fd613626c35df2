"""NoisySeek: steer a noisy walk to clusters of goals (paper: "Multi-ReenGAGE", experiments and appendix)."""

import gymnasium as gym
import numpy as np

from envs.goal_set import GoalSetEnv, pack


class NoisySeek(GoalSetEnv):
    """s' = s + a + unit Gaussian noise with |a| <= 1; reward 1 where the rounded position is a goal, else 0.

    An episode starts at (0, 0). Longer actions are scaled to length 1. The observation is the position, the achieved
    goal the rounded position, the desired goal a set of up to n_max integer cells, see `envs.goal_set`, drawn in
    clusters, see `draw`. Episodes never terminate; the registered time limit is 40 steps.

    Args:
        n_max: slots for goals, at least 1.
        render_mode: "rgb_array" draws goals, visited cells and the agent, in the window [-30, 30]^2.
    """

    reach = 30  # cells that the picture shows in each direction

    def __init__(self, n_max: int = 200, render_mode: str | None = None):
        if n_max < 1:
            raise ValueError(f"NoisySeek needs n_max of at least 1, not {n_max}.")
        self.n_max = n_max
        self.render_mode = render_mode
        anywhere = gym.spaces.Box(-np.inf, np.inf, (2,), np.float32)
        slot_low, slot_high = np.float32([0, -np.inf, -np.inf]), np.float32([1, np.inf, np.inf])
        desired_goal = gym.spaces.Box(np.tile(slot_low, n_max), np.tile(slot_high, n_max))
        spaces = {"observation": anywhere, "achieved_goal": anywhere, "desired_goal": desired_goal}
        self.observation_space = gym.spaces.Dict(spaces)
        self.action_space = gym.spaces.Box(-1.0, 1.0, (2,), np.float32)

    def draw(self, n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """States (n, 2) and goal sets (n, 3 n_max) of n new episodes.

        The number of clusters is geometric with p = 0.15, that of goals before de-duplication uniform in 1 .. n_max.
        Centres are Gaussian with standard deviation 10, the clusters' shares Dirichlet(1), and goals lie around their
        centre with standard deviation 2, rounded.
        """
        goals = np.zeros((n, 3 * self.n_max), np.float32)
        for i in range(n):
            clusters, count = rng.geometric(0.15), rng.integers(1, self.n_max + 1)
            centres = rng.normal(0, 10, (clusters, 2))
            cluster = rng.choice(
                clusters, count, p=rng.dirichlet(np.ones(clusters))
            )  # of each goal
            cells = np.rint(centres[cluster] + rng.normal(0, 2, (count, 2)))
            goals[i] = pack(
                np.unique(cells + 0.0, axis=0), self.n_max
            )  # + 0.0: -0 and 0 are one cell
        return np.zeros((n, 2)), goals

    def advance(
        self, state: np.ndarray, action: np.ndarray, rng: np.random.Generator
    ) -> np.ndarray:
        """Next states, (n, 2), of states (n, 2) and actions (n, 2)."""
        action = action / np.maximum(np.linalg.norm(action, axis=1, keepdims=True), 1)
        return state + action + rng.standard_normal(state.shape)

    def observe(self, state: np.ndarray, goal: np.ndarray) -> dict[str, np.ndarray]:
        """Observations of states (n, 2) and goal sets (n, 3 n_max)."""
        rounded = np.rint(state).astype(np.float32)
        return {
            "observation": state.astype(np.float32),
            "achieved_goal": rounded,
            "desired_goal": goal.copy(),
        }
