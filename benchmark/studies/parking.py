"""parking-v0 of highway-env with the gradient of its dense reward, which the package lacks.

    python algos/ddpg_her_reengage.py --env-id benchmark.studies.parking:DifferentiableParking-v0 \\
        --max-episode-steps 100

The gradient term of Eq. (8) needs it; rewards and everything else are the package's.
"""

import gymnasium as gym
import numpy as np
from highway_env.envs import ParkingEnv
from numpy import ndarray

SMALLEST_DISTANCE = 1e-3  # at the goal itself the reward has no gradient


class DifferentiableParking(ParkingEnv):
    """R(s, g) = -sqrt(u), where u is the weighted L1 distance sum_i w_i |s_i - g_i|."""

    def compute_reward_gradient(
        self, achieved_goal: ndarray, desired_goal: ndarray, info: object
    ) -> ndarray:
        """dR/dg = w sign(s - g) / (2 sqrt(u)), (..., 6), for goals (..., 6)."""
        weights = np.array(self.config["reward_weights"])
        difference = achieved_goal - desired_goal  # (..., 6)
        distance = np.abs(difference) @ weights  # (...,)
        distance = np.maximum(distance, SMALLEST_DISTANCE)
        return weights * np.sign(difference) / (2 * np.sqrt(distance))[..., None]


gym.register("DifferentiableParking-v0", DifferentiableParking)
