"""Rewards of many goals: the gradient of the dense one, and any environment's own."""

from typing import Any

import gymnasium as gym
import numpy as np
from numpy import ndarray

from envs.messages import BadInput, in_one_line, place_of


def negative_distance_gradient(achieved_goal: ndarray, desired_goal: ndarray, info: Any) -> ndarray:
    """dR/d desired of R = -||achieved - desired||, which Eq. (8) needs.

    The unit vector from the desired to the achieved goal; 0 where they coincide.
    (..., goal_dim), (..., goal_dim) -> (..., goal_dim).
    """
    difference = achieved_goal - desired_goal
    distance = np.linalg.norm(difference, axis=-1, keepdims=True)
    gradient = np.zeros_like(difference)
    return np.divide(difference, distance, out=gradient, where=distance > 0)


class GoalFunction:
    """A function of an environment's goals, such as compute_reward, over the rows of a batch.

    The environment's outermost wrapper that has the function decides. It is called once a batch if
    it can do that, which the first call finds out; otherwise row by row, which is slow. Its `info`
    is empty, as a relabelled transition has none.

    Raises AttributeError if the environment has no such function.
    """

    def __init__(self, env: gym.Env, name: str):
        self.env = env
        self.name = name
        self.function = env.get_wrapper_attr(name)
        self.takes_batches = None  # not known yet

    def __call__(self, achieved_goal: ndarray, desired_goal: ndarray) -> ndarray:
        """(n, goal_dim), (n, goal_dim) -> (n,), or (n, goal_dim) of a gradient.

        Raises BadInput if the function needs an info, or its result has another shape or is not
        finite.
        """
        if self.takes_batches is None:
            self.takes_batches = self._takes_batches(achieved_goal, desired_goal)
        call = self._once if self.takes_batches else self._row_by_row
        try:
            # Copies, since a function may work in place on what it is given
            result = call(achieved_goal.copy(), desired_goal.copy())
        except KeyError as error:
            raise BadInput(
                f"{self.env.spec.id} cannot be learned from in hindsight: its {self.name} fails "
                f"without a step's info ({in_one_line(error)}; {place_of(error)}), and a "
                "relabelled transition has none."
            ) from error
        is_gradient = self.name == "compute_reward_gradient"
        expected = desired_goal.shape if is_gradient else desired_goal.shape[:1]
        if result.shape != expected:
            raise BadInput(
                f"{self.env.spec.id} cannot be used: its {self.name} gives the shape "
                f"{result.shape} for {expected[0]} pairs of goals, not {expected}."
            )
        if not np.isfinite(result).all():
            i = np.argwhere(~np.isfinite(result))[0, 0]
            raise BadInput(
                f"{self.name} of {self.env.spec.id} gave {result[i]} for the achieved goal "
                f"{achieved_goal[i]} and the desired goal {desired_goal[i]}."
            )
        return result

    def _once(self, achieved_goal: ndarray, desired_goal: ndarray) -> ndarray:
        return np.asarray(self.function(achieved_goal, desired_goal, {}))

    def _row_by_row(self, achieved_goal: ndarray, desired_goal: ndarray) -> ndarray:
        pairs = zip(achieved_goal, desired_goal, strict=True)
        return np.array([self.function(achieved, desired, {}) for achieved, desired in pairs])

    def _takes_batches(self, achieved_goal: ndarray, desired_goal: ndarray) -> bool:
        """Whether one call for many goals gives what a call for each of them gives."""
        n, goal_dim = desired_goal.shape
        # Not goal_dim rows: a function of single goals may return as many numbers
        rows = np.arange(2 * goal_dim) % n
        try:
            together = self._once(achieved_goal[rows], desired_goal[rows])
        except Exception:  # whatever a function for single goals does with a batch
            return False
        try:
            alone = self._row_by_row(achieved_goal[rows], desired_goal[rows])
        except Exception:  # one that knows nothing but batches
            return True
        return together.shape == alone.shape and np.allclose(together, alone)
