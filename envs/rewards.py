"""Rewards of many goals: the dense one that several tasks share, and any environment's own."""

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
from numpy import ndarray


def negative_distance(achieved_goal: ndarray, desired_goal: ndarray) -> ndarray:
    """R = -||achieved - desired||: (..., goal_dim), (..., goal_dim) -> (...)."""
    return -np.linalg.norm(achieved_goal - desired_goal, axis=-1)


def negative_distance_gradient(achieved_goal: ndarray, desired_goal: ndarray) -> ndarray:
    """dR/d desired, which Eq. (8) needs: (..., goal_dim), (..., goal_dim) -> (..., goal_dim).

    The unit vector from the desired to the achieved goal; 0 where they coincide.
    """
    difference = achieved_goal - desired_goal
    distance = np.linalg.norm(difference, axis=-1, keepdims=True)
    gradient = np.zeros_like(difference)
    return np.divide(difference, distance, out=gradient, where=distance > 0)


class GoalFunction:
    """A function of an environment's goals, such as compute_reward, over the rows of a batch.

    The environment's outermost wrapper that has the function decides. It is called once a batch
    if it can do that, which the first batch of two or more rows shows; otherwise row by row, which
    is slow. It never gets an `info`: relabelled transitions have none.

    Raises:
        AttributeError: the environment has no such function.
    """

    def __init__(self, env: gym.Env, name: str):
        self.name = name
        self.function = env.get_wrapper_attr(name)
        self.takes_batches = None  # not known yet

    def __call__(self, achieved_goal: ndarray, desired_goal: ndarray) -> ndarray:
        """(n, goal_dim), (n, goal_dim) -> (n, ...)."""
        if self.takes_batches is None and len(achieved_goal) > 1:
            self.takes_batches = takes_batches(self.function, achieved_goal, desired_goal)
        if self.takes_batches:
            return np.asarray(self.function(achieved_goal, desired_goal, {}))
        return row_by_row(self.function, achieved_goal, desired_goal)


def row_by_row(
    function: Callable[[ndarray, ndarray, dict], Any],
    achieved_goal: ndarray,
    desired_goal: ndarray,
) -> ndarray:
    """Calls a function of single goals for each row: (n, goal_dim), (n, goal_dim) -> (n, ...)."""
    pairs = zip(achieved_goal, desired_goal, strict=True)
    return np.array([function(achieved, desired, {}) for achieved, desired in pairs])


def takes_batches(
    function: Callable[[ndarray, ndarray, dict], Any],
    achieved_goal: ndarray,
    desired_goal: ndarray,
) -> bool:
    """Whether one call for many goals gives what a call for each of them gives.

    Two sizes are tried: a function of single goals may by chance return as many numbers as rows.
    """
    for rows in ([0, 1], [0, 1, 0]):
        achieved, desired = achieved_goal[rows], desired_goal[rows]
        try:
            together = np.asarray(function(achieved, desired, {}))
        except Exception:  # whatever a function for single goals does with a batch
            return False
        try:
            alone = row_by_row(function, achieved, desired)
        except Exception:  # one that knows nothing but batches
            continue
        if together.shape != alone.shape or not np.allclose(together, alone):
            return False
    return True
