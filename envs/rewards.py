"""Rewards of many goals: the dense one that several tasks share, and any environment's own."""

from collections.abc import Callable

import gymnasium as gym
import numpy as np
from numpy import ndarray

from envs.messages import BadInput


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

    The environment's outermost wrapper that has the function decides. It is called once a batch if
    it can do that, which the first call finds out; otherwise row by row, which is slow. It never
    gets an `info`: relabelled transitions have none.

    Raises:
        AttributeError: the environment has no such function.
    """

    def __init__(self, env: gym.Env, name: str):
        self.env = env
        self.name = name
        self.function = env.get_wrapper_attr(name)
        self.takes_batches = None  # not known yet

    def __call__(self, achieved_goal: ndarray, desired_goal: ndarray) -> ndarray:
        """(n, goal_dim), (n, goal_dim) -> (n, ...).

        Raises:
            BadInput: a result is not finite.
        """
        if self.takes_batches is None:
            self.takes_batches = takes_batches(self.function, achieved_goal, desired_goal)
        call = call_once if self.takes_batches else call_row_by_row
        # Copies, since a function may work in place on what it is given
        result = call(self.function, achieved_goal.copy(), desired_goal.copy())
        if not np.isfinite(result).all():
            i = np.argwhere(~np.isfinite(result))[0, 0]
            raise BadInput(
                f"{self.name} of {self.env.spec.id} gave {result[i]} for the achieved goal "
                f"{achieved_goal[i]} and the desired goal {desired_goal[i]}."
            )
        return result


def call_once(function: Callable, achieved_goal: ndarray, desired_goal: ndarray) -> ndarray:
    """Calls a function of many goals: (n, goal_dim), (n, goal_dim) -> (n, ...)."""
    return np.asarray(function(achieved_goal, desired_goal, {}))


def call_row_by_row(function: Callable, achieved_goal: ndarray, desired_goal: ndarray) -> ndarray:
    """Calls a function of single goals for each row: (n, goal_dim), (n, goal_dim) -> (n, ...)."""
    pairs = zip(achieved_goal, desired_goal, strict=True)
    return np.array([function(achieved, desired, {}) for achieved, desired in pairs])


def takes_batches(function: Callable, achieved_goal: ndarray, desired_goal: ndarray) -> bool:
    """Whether one call for many goals gives what a call for each of them gives."""
    n, goal_dim = desired_goal.shape
    # Not goal_dim rows: a function of single goals may return as many numbers
    rows = np.arange(2 * goal_dim) % n
    try:
        together = call_once(function, achieved_goal[rows], desired_goal[rows])
    except Exception:  # whatever a function for single goals does with a batch
        return False
    try:
        alone = call_row_by_row(function, achieved_goal[rows], desired_goal[rows])
    except Exception:  # one that knows nothing but batches
        return True
    return together.shape == alone.shape and np.allclose(together, alone)
