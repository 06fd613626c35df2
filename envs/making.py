"""From an environment's name to an environment: registration of what Gymnasium does not know yet, and the checks."""

import functools
import re
import warnings

import gymnasium as gym
import numpy as np

RENAMED = {"HandReach-v2": "HandReach-v3", "HandReachDense-v2": "HandReachDense-v3"}


@functools.cache
def resolve(env_id: str) -> str:
    """The name under which `env_id` runs.

    ContinuousSeek<d>-v0, ContinuousSeek<d>Dense-v0 and BitFlip<d>-v0 exist for any d, DriveSeek<n_max>-v0 and
    NoisySeek<n_max>-v0 for any n_max; DriveSeek-v0 and NoisySeek-v0 have the paper's 200. RotationDense<d>-v0 and
    RotationSparse<d>-v0 exist for d >= 2.

    Raises:
        ValueError: no such environment.
    """
    if env_id in RENAMED:
        print(
            f"{env_id} is no longer in Gymnasium-Robotics; running its repaired successor {RENAMED[env_id]}."
        )
        env_id = RENAMED[env_id]
    if env_id not in gym.registry:
        if any_d := re.fullmatch(r"ContinuousSeek([1-9]\d*)(Dense)?-v0", env_id):
            register_continuous_seek(int(any_d[1]))
        elif any_d := re.fullmatch(r"BitFlip([1-9]\d*)-v0", env_id):
            register_bit_flip(int(any_d[1]))
        elif any_n := re.fullmatch(r"(Drive|Noisy)Seek([1-9]\d*)?-v0", env_id):
            register_goal_set(any_n[1], any_n[2] or "")
        elif any_d := re.fullmatch(r"Rotation(Dense|Sparse)([1-9]\d*)-v0", env_id):
            kwargs = {"d": int(any_d[2]), "reward_type": any_d[1].lower()}
            gym.register(env_id, "envs.rotation:Rotation", kwargs=kwargs, max_episode_steps=10)
    try:
        gym.spec(env_id)
    except (gym.error.Error, ModuleNotFoundError) as error:
        raise ValueError(f"No environment '{env_id}': {error}") from None
    return env_id


def register_continuous_seek(d: int) -> None:
    """Registers ContinuousSeek in d dimensions, with sparse and with dense reward; 10 steps an episode."""
    for suffix, reward_type in (("", "sparse"), ("Dense", "dense")):
        gym.register(
            f"ContinuousSeek{d}{suffix}-v0",
            "envs.continuous_seek:ContinuousSeek",
            kwargs={"d": d, "reward_type": reward_type},
            max_episode_steps=10,
        )


def register_bit_flip(d: int) -> None:
    """Registers BitFlip with d bits; d steps an episode."""
    gym.register(f"BitFlip{d}-v0", "envs.bit_flip:BitFlip", kwargs={"d": d}, max_episode_steps=d)


def register_goal_set(kind: str, n_max: str = "") -> None:
    """Registers DriveSeek or NoisySeek (kind: "Drive", "Noisy") with up to n_max goals, or 200; 40 steps an episode."""
    entry_point, kwargs = f"envs.{kind.lower()}_seek:{kind}Seek", {"n_max": int(n_max or 200)}
    gym.register(f"{kind}Seek{n_max}-v0", entry_point, kwargs=kwargs, max_episode_steps=40)


def make(
    env_id: str,
    observe_achieved_goal: bool = False,
    action_space: type[gym.Space] = gym.spaces.Box,
    render_mode: str | None = None,
) -> gym.Env:
    """Makes one goal environment.

    Args:
        env_id: a registered name, or one that `resolve` knows.
        observe_achieved_goal: append the achieved goal to the observation.
        action_space: the kind that the caller can handle; a box is rescaled to [-1, 1] where it has other bounds.
        render_mode: Gymnasium's.

    Raises:
        ValueError: unknown name, no goals, no time limit, or another kind of action space; one sentence.
    """
    env_id = resolve(env_id)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore", DeprecationWarning
            )  # an old version either works or says below why not
            env = gym.make(env_id, render_mode=render_mode, disable_env_checker=True)
    except gym.error.Error as error:
        raise ValueError(f"{env_id} cannot be made: {error}") from None
    spaces = getattr(env.observation_space, "spaces", {})
    for key in ("observation", "achieved_goal", "desired_goal"):
        if not isinstance(spaces.get(key), gym.spaces.Box) or len(spaces[key].shape) != 1:
            raise ValueError(
                f"{env_id} is no goal environment: its observation has no vector '{key}'."
            )
    if not hasattr(env.unwrapped, "compute_reward"):
        raise ValueError(
            f"{env_id} is no goal environment: it has no compute_reward(achieved_goal, desired_goal, info)."
        )
    if env.spec.max_episode_steps is None:
        raise ValueError(f"{env_id} has no time limit: register it with max_episode_steps.")
    if not isinstance(env.action_space, action_space):
        raise ValueError(
            f"{env_id} has a {type(env.action_space).__name__} action space, not a {action_space.__name__}."
        )
    if action_space is gym.spaces.Box:
        if len(env.action_space.shape) != 1 or not env.action_space.is_bounded():
            raise ValueError(
                f"{env_id} has actions that are no bounded vector: {env.action_space}."
            )
        if not (np.all(env.action_space.low == -1.0) and np.all(env.action_space.high == 1.0)):
            env = gym.wrappers.RescaleAction(env, np.float32(-1.0), np.float32(1.0))
    if observe_achieved_goal:
        low, high = (
            np.concatenate([getattr(spaces[key], end) for key in ("observation", "achieved_goal")])
            for end in ("low", "high")
        )
        joined = gym.spaces.Box(low, high, dtype=low.dtype)
        env = gym.wrappers.TransformObservation(
            env,
            lambda obs: (
                obs | {"observation": np.concatenate([obs["observation"], obs["achieved_goal"]])}
            ),
            gym.spaces.Dict(spaces | {"observation": joined}),
        )
    return env
