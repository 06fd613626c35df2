"""The dense reward that several environments share, and its gradient with respect to the goal (equation 8 needs it)."""

import numpy as np


def negative_distance(achieved_goal: np.ndarray, desired_goal: np.ndarray) -> np.ndarray:
    """R = -||achieved - desired||: (..., goal_dim), (..., goal_dim) -> (...)."""
    return -np.linalg.norm(achieved_goal - desired_goal, axis=-1)


def negative_distance_gradient(achieved_goal: np.ndarray, desired_goal: np.ndarray) -> np.ndarray:
    """dR/d desired: the unit vector from the desired to the achieved goal, 0 where they coincide; (..., goal_dim)."""
    difference = achieved_goal - desired_goal
    distance = np.linalg.norm(difference, axis=-1, keepdims=True)
    return np.divide(difference, distance, out=np.zeros_like(difference), where=distance > 0)
