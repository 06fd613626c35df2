"""From an environment's name to an environment: making it, and what it must be."""

import functools
import importlib
import os
import warnings
from typing import Any

import gymnasium as gym
import numpy as np

from envs.messages import BadInput, in_one_line, place_of, say
from envs.wrappers import KEYS, FlattenGoals, append_achieved_goal, rescale_actions

# How Gymnasium-Robotics' names begin
ROBOTICS = ("Fetch", "Hand", "PointMaze_", "AntMaze_", "Adroit", "FrankaKitchen")


@functools.cache
def resolve(env_id: str) -> str:
    """The name under which `env_id` runs, after whatever it takes to register it.

    'module:name' imports the module first, as Gymnasium does, and stays 'module:name'.

    Raises BadInput if there is no such environment or package.
    """
    if env_id == "HandReach-v2":
        say("HandReach-v2 is no longer in its package: this is HandReach-v3, the repaired task.")
        env_id = "HandReach-v3"
    module, _, name = env_id.rpartition(":")
    if name.startswith(ROBOTICS):
        register_robotics()
    try:
        if module.startswith("."):
            raise ModuleNotFoundError("a relative name")
        if module:
            importlib.import_module(module)
    except ModuleNotFoundError as error:  # anything else is a bug in it, and is raised as it is
        raise BadInput(
            f"No environment '{env_id}': importing '{module}' failed ({in_one_line(error)}); "
            "is it installed, or its folder in PYTHONPATH?"
        ) from error
    try:
        gym.spec(name)
    except (gym.error.Error, ModuleNotFoundError) as error:
        raise BadInput(f"No environment '{env_id}': {in_one_line(error)}") from None
    return env_id


def register_robotics() -> None:
    """Registers Gymnasium-Robotics' names, when one is asked for: the package loads MuJoCo.

    Raises BadInput if MuJoCo cannot be loaded.
    """
    try:
        from envs.tasks import fast_robotics
    except Exception as error:  # each graphics backend fails in its own way
        backend = os.environ.get("MUJOCO_GL", "")
        raise BadInput(
            f"MuJoCo cannot be loaded (MUJOCO_GL is '{backend}'; unset it, or try egl): "
            f"{in_one_line(error)}"
        ) from error
    fast_robotics.register()


def folder_name(env_id: str) -> str:
    """module:namespace/name without the module, as one folder's name."""
    return env_id.rpartition(":")[2].replace("/", "_")


def is_own_task(env: gym.Env) -> bool:
    """Whether an environment is one of `envs.tasks`, the Fetch and hand environments included."""
    return type(env.unwrapped).__module__.startswith("envs.tasks.")


def make(
    env_id: str,
    action_space: type[gym.Space] = gym.spaces.Box,
    observe_achieved_goal: bool = False,
    env_kwargs: dict[str, Any] | None = None,
    max_episode_steps: int | None = None,
    render_mode: str | None = None,
) -> gym.Env:
    """Makes one goal environment.

    Its observation, achieved and desired goal are vectors; integers, bits and single numbers become
    vectors of float32, and `compute_reward` hands goals on as what they were. Further entries of
    the observation may exist and mean nothing.

    Args:
        env_id: a registered name, or one that `resolve` knows.
        action_space: the kind that the caller can handle: a box is rescaled to [-1, 1] where it has
            other bounds, discrete actions count from 0.
        observe_achieved_goal: append the achieved goal to the observation.
        env_kwargs: further arguments of the environment's constructor.
        max_episode_steps: replaces the registered time limit, or supplies one; 0 does not.
        render_mode: Gymnasium's. Without one the constructor is not asked for any.

    Raises BadInput for an unknown name, a missing package, arguments that the constructor refuses,
    no goals, no time limit, or another kind of action space. A constructor that fails without
    arguments has a bug, which is raised as it is.
    """
    env_id = resolve(env_id)
    kwargs = dict(env_kwargs or {})
    if render_mode is not None:
        kwargs["render_mode"] = render_mode
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an old version either works or fails below
            env = gym.make(env_id, max_episode_steps or None, disable_env_checker=True, **kwargs)
    except (BadInput, gym.error.Error, ModuleNotFoundError) as error:
        raise BadInput(f"{env_id} cannot be made: {in_one_line(error)}") from error
    except Exception as error:
        if not kwargs:
            raise
        cause = error.__cause__ or error  # Gymnasium wraps a TypeError
        raise BadInput(
            f"{env_id} cannot be made with {kwargs}: {in_one_line(cause)} ({place_of(cause)})."
        ) from error
    check_goals(env, env_id)
    if env.spec.max_episode_steps is None:
        raise BadInput(f"{env_id} has no registered time limit: give --max-episode-steps.")
    check_actions(env, env_id, action_space)

    actions = env.action_space
    if isinstance(actions, gym.spaces.Box):
        if np.any(actions.low != -1.0) or np.any(actions.high != 1.0):
            env = rescale_actions(env)
    elif actions.start != 0:
        from_zero = gym.spaces.Discrete(actions.n)
        env = gym.wrappers.TransformAction(env, lambda action: action + actions.start, from_zero)
    for key in KEYS:
        space = env.observation_space[key]
        if len(space.shape) != 1 or not np.issubdtype(space.dtype, np.floating):
            env = FlattenGoals(env)
    return append_achieved_goal(env) if observe_achieved_goal else env


def check_goals(env: gym.Env, env_id: str) -> None:
    """Raises BadInput unless observation and goals are vectors of known reward."""
    if not isinstance(env.observation_space, gym.spaces.Dict):
        kind = type(env.observation_space).__name__
        raise BadInput(
            f"{env_id} is not a goal environment: its observation is a {kind}, not a Dict of "
            "observation, achieved_goal and desired_goal."
        )
    for key in KEYS:
        space = env.observation_space.spaces.get(key)
        if space is None:
            raise BadInput(f"{env_id} is not a goal environment: its observation has no '{key}'.")
        is_picture = isinstance(space, gym.spaces.Box) and len(space.shape) > 1
        if space.shape is None or is_picture:
            raise BadInput(
                f"{env_id} cannot be used: its '{key}' is {space}, and only vectors are supported "
                "(Box of one axis, Discrete, MultiDiscrete and MultiBinary)."
            )
    if not env.has_wrapper_attr("compute_reward"):
        raise BadInput(f"{env_id} is not a goal environment: it has no compute_reward.")


def check_actions(env: gym.Env, env_id: str, kind: type[gym.Space]) -> None:
    """Raises BadInput for actions of another kind than the caller's, or without bounds."""
    space = env.action_space
    if not isinstance(space, kind):
        actual = type(space).__name__
        raise BadInput(f"{env_id} has a {actual} action space, not a {kind.__name__}.")
    if isinstance(space, gym.spaces.Discrete):
        return
    is_vector_of_floats = len(space.shape) == 1 and np.issubdtype(space.dtype, np.floating)
    with np.errstate(over="ignore"):  # the largest bounds that there are
        width = space.high - space.low
    if not is_vector_of_floats or not np.all((width > 0) & np.isfinite(width)):
        raise BadInput(
            f"{env_id} has the action space {space}, which is not a bounded vector of real numbers."
        )
