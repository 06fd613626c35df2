"""What stands between an environment and the scripts: vectors of numbers, actions in [-1, 1]."""

from collections.abc import Callable
from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box, Dict
from numpy import ndarray

KEYS = ("observation", "achieved_goal", "desired_goal")
Obs = dict[str, ndarray]  # an entry for each of them
Step = tuple[Obs, float, bool, bool, dict]  # of one environment, as in Gymnasium


def as_obs(observation: Any, achieved_goal: Any, desired_goal: Any) -> dict[str, Any]:
    """Its entries under their names."""
    return dict(zip(KEYS, (observation, achieved_goal, desired_goal), strict=True))


def success_of(info: dict[str, Any]) -> float:
    """What a step's info says of success, 1 or 0; nan where it says nothing."""
    success = info.get("is_success", info.get("success"))
    if success is None or np.isnan(success):
        return np.nan
    return float(bool(success))


def has_reward_gradient(env: gym.Env) -> bool:
    """Whether compute_reward_gradient exists, and no wrapper has put another reward above it."""
    while not hasattr(env, "compute_reward_gradient"):
        if hasattr(env, "compute_reward"):
            return False
        env = env.env
    return True


class FlattenGoals(gym.ObservationWrapper):
    """Observation and goals of integers, bits or single numbers as vectors of float32.

    The environment's own functions of goals get them back in the shape and type that they had, so
    that a goal may index a table.
    """

    def __init__(self, env: gym.Env):
        super().__init__(env)
        spaces = {}
        for key in KEYS:
            shape = env.observation_space[key].shape
            size = int(np.prod(shape))  # 1 for a single number
            spaces[key] = Box(-np.inf, np.inf, (size,))
        self.observation_space = Dict(spaces)
        names = ["compute_reward", "compute_terminated"]
        if has_reward_gradient(env):
            names.append("compute_reward_gradient")
        for name in names:
            if env.has_wrapper_attr(name):
                function = env.get_wrapper_attr(name)
                setattr(self, name, partial(self._of_vectors, function))

    def observation(self, observation: dict[str, Any]) -> Obs:
        return {key: np.ravel(observation[key]).astype(np.float32) for key in KEYS}

    def _of_vectors(
        self, function: Callable, achieved_goal: ndarray, desired_goal: ndarray, info: Any
    ) -> Any:
        """What a function of the environment's goals gives for goals (..., dim) float32."""
        spaces = self.env.observation_space
        achieved = as_element(achieved_goal, spaces["achieved_goal"])
        desired = as_element(desired_goal, spaces["desired_goal"])
        return function(achieved, desired, info)


def as_element(vector: ndarray, space: gym.Space) -> ndarray:
    """Vectors (..., dim) as what the space holds, in its type: (..., *space.shape)."""
    batch = np.shape(vector)[:-1]
    return np.reshape(vector, batch + space.shape).astype(space.dtype)[()]  # a number, not array(5)


def append_achieved_goal(env: gym.Env) -> gym.Env:
    """Appends the achieved goal to the observation."""
    spaces = env.observation_space.spaces
    size = spaces["observation"].shape[0] + spaces["achieved_goal"].shape[0]
    joined = Box(-np.inf, np.inf, (size,))

    def append(obs: Obs) -> Obs:
        both = np.concatenate([obs["observation"], obs["achieved_goal"]])
        return {**obs, "observation": both}

    space = Dict({**spaces, "observation": joined})
    return gym.wrappers.TransformObservation(env, append, space)


def rescale_actions(env: gym.Env) -> gym.Env:
    """Actions in [-1, 1], whatever the bounds of the environment's box."""
    box = env.action_space

    def clip(action: ndarray) -> ndarray:
        """The rescaled ends may lie outside of the box by a rounding error."""
        return np.clip(action, box.low, box.high).astype(box.dtype)

    env = gym.wrappers.TransformAction(env, clip, box)
    return gym.wrappers.RescaleAction(env, box.dtype.type(-1.0), box.dtype.type(1.0))
