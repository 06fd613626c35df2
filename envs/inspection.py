"""What a script must know of an environment before it trains on it, found out by random steps."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
from numpy import ndarray

from envs.messages import in_one_line
from envs.registry import is_own_task
from envs.rewards import GoalFunction
from envs.wrappers import KEYS, has_reward_gradient

STEPS = 100  # of random play
HOLD = 25  # in the second half an action is held for so long: it leads farther, into a wall perhaps


class Task(NamedTuple):
    """What `inspect_task` finds."""

    is_dense: bool
    """`compute_reward` has more than two values, or the environment's reward_type is 'dense'"""
    reward_low: float
    """the lower of a sparse reward's two values, c_low; of a dense one the smallest that was seen

    An environment may call a reward of many values sparse; then it is the one seen most often.
    """
    reward_high: float
    """the upper of a sparse reward's two values, success; of a dense one the largest seen"""
    has_reward_gradient: bool
    """there is a compute_reward_gradient(achieved_goal, desired_goal, info)"""
    ends_on_success: bool
    """compute_terminated(achieved_goal, desired_goal, info) ends episodes for reaching the goal

    Where it is False, `terminated` means something else, such as a crash, whatever the goal.
    """
    notes: tuple[str, ...]
    """sentences to print before training"""


CHANGES_GOALS = (
    "cannot be learned from in hindsight: its desired goal changes within an episode, and an "
    "episode is stored with one goal."
)


class Play(NamedTuple):
    """Steps of random play, n of them."""

    observation: ndarray  # (n, obs_dim) float32
    achieved_goal: ndarray  # (n, goal_dim) float32
    desired_goal: ndarray  # (n, goal_dim) float32
    reward: ndarray  # (n,)
    infos: tuple[dict[str, Any], ...]


def inspect_task(make_env: Callable[[], gym.Env], seed: int = 0) -> Task:
    """Plays random steps in an environment of its own, and calls what a script will call.

    Args:
        make_env: makes one, such as `functools.partial(envs.make, env_id)`.
        seed: of the random steps; a run's own random streams are not touched.

    Raises:
        ValueError: the environment cannot be trained on; one sentence.
    """
    env = make_env()
    try:
        check_shapes(env)
        play = random_play(env, seed)
        compute_reward = GoalFunction(env, "compute_reward")
        rewards_for = partial(computed_rewards, compute_reward, env, play)
        rewards = rewards_for(play.desired_goal)
        elsewhere = rewards_for(other_goals(play))
        at_itself = rewards_for(play.achieved_goal)
        is_dense, low, high = kind_of_reward(env, np.concatenate([rewards, elsewhere]), at_itself)
        notes = [
            *note_slow(compute_reward),
            *note_other_parts(rewards, play.reward),
            *note_values(is_dense, low, high),
            *note_success(is_dense or low == high, play.infos),
            *note_ends(env, is_dense, high),
            *note_large(play),
        ]
        return Task(
            is_dense=is_dense,
            reward_low=low,
            reward_high=high,
            has_reward_gradient=has_reward_gradient(env),
            ends_on_success=ends_on_success(env, play),
            notes=tuple(f"{env.spec.id}: {note}" for note in notes),
        )
    finally:
        env.close()


def check_shapes(env: gym.Env) -> None:
    """Raises ValueError where an achieved goal cannot take a desired goal's place."""
    achieved = env.observation_space["achieved_goal"].shape
    desired = env.observation_space["desired_goal"].shape
    if achieved != desired:
        raise ValueError(
            f"{env.spec.id} cannot be learned from in hindsight: its achieved goal has the shape "
            f"{achieved}, its desired goal {desired} (sets of goals are for "
            "ddpg_multi_reengage.py)."
        )


def random_play(env: gym.Env, seed: int) -> Play:
    """STEPS steps of uniform actions, over as many episodes as it takes; ValueError if it fails."""
    rng = np.random.default_rng(seed)
    steps = []
    is_changed = False
    try:
        obs, _ = env.reset(seed=seed)
        check_observation(env, obs)
        goal = np.array(obs["desired_goal"])
        for step in range(STEPS):
            if step < STEPS // 2 or step % HOLD == 0:
                action = random_action(env.action_space, rng)
            obs, reward, terminated, truncated, info = env.step(action)
            check_observation(env, obs)
            check_numbers(reward, info)
            vectors = [np.array(obs[key], np.float32) for key in KEYS]  # copies
            steps.append((*vectors, float(reward), info))
            is_changed = is_changed or not np.array_equal(obs["desired_goal"], goal)
            if terminated or truncated:
                obs, _ = env.reset(seed=seed + 1 + step)
                goal = np.array(obs["desired_goal"])
    except Exception as error:  # an environment may fail in any way of its own
        raise ValueError(
            f"{env.spec.id} fails when it is played at random: {in_one_line(error)}"
        ) from None
    if is_changed:
        raise ValueError(f"{env.spec.id} {CHANGES_GOALS}")
    observation, achieved_goal, desired_goal, reward, infos = zip(*steps, strict=True)
    return Play(
        np.stack(observation),
        np.stack(achieved_goal),
        np.stack(desired_goal),
        np.array(reward, np.float32),
        infos,
    )


def check_numbers(reward: Any, info: dict[str, Any]) -> None:
    """Raises ValueError where a step's reward or success is not one number."""
    if np.ndim(reward) > 0 or not np.isfinite(reward):
        raise ValueError(f"its reward is {reward}, which is not a finite number")
    for key in ("is_success", "success"):
        if np.ndim(info.get(key)) > 0:
            raise ValueError(f"its info has an array under '{key}'")


def check_observation(env: gym.Env, obs: dict[str, Any]) -> None:
    """Raises ValueError where an observation is not what its space promises, or not finite."""
    for key in KEYS:
        found = np.asarray(obs[key])
        shape = env.observation_space[key].shape
        if found.shape != shape:
            raise ValueError(f"its '{key}' has the shape {found.shape} and its space {shape}")
        if not np.isfinite(found).all():
            raise ValueError(f"its '{key}' has numbers that are not finite")


def random_action(space: gym.Space, rng: np.random.Generator) -> ndarray:
    """A uniform action, drawn by `rng` and not by the space's own generator."""
    if isinstance(space, gym.spaces.Discrete):
        return rng.integers(space.n)
    return rng.uniform(-1, 1, space.shape).astype(np.float32)


def computed_rewards(
    compute_reward: GoalFunction,
    env: gym.Env,
    play: Play,
    desired_goal: ndarray,
) -> ndarray:
    """What `compute_reward` gives for the achieved goal of each step and (n, goal_dim): (n,).

    Raises:
        ValueError: it fails, needs an info, changes the goals, or gives something else than a
            finite number for each row.
    """
    name = env.spec.id
    goals = np.stack([play.achieved_goal, desired_goal])
    given = goals.copy()
    try:
        rewards = compute_reward(*given)
    except Exception as error:  # a reward function may fail in any way of its own
        reason = in_one_line(error)
        if works_with_info(compute_reward, play):
            raise ValueError(
                f"{name} cannot be learned from in hindsight: its compute_reward needs a step's "
                f"info ({reason}), and a relabelled transition has none."
            ) from None
        raise ValueError(
            f"{name} cannot be trained on: its compute_reward fails for the goals of a random step "
            f"({reason})."
        ) from None
    if not np.array_equal(given, goals):
        raise ValueError(
            f"{name} cannot be trained on: its compute_reward changes the goals that it is given."
        )
    if rewards.shape != play.reward.shape:
        raise ValueError(
            f"{name} cannot be trained on: its compute_reward gives an array of shape "
            f"{rewards.shape} for {len(play.reward)} pairs of goals."
        )
    if not np.isfinite(rewards).all():
        raise ValueError(
            f"{name} cannot be trained on: its compute_reward gives {rewards.min()} for the goals "
            "of a random step, or for one that is reached."
        )
    return rewards


def works_with_info(function: GoalFunction, play: Play) -> bool:
    """Whether a function of goals that fails without an info succeeds with the step's own."""
    try:
        function.function(play.achieved_goal[0], play.desired_goal[0], play.infos[0])
    except Exception:  # it may fail in any way of its own
        return False
    return True


def other_goals(play: Play) -> ndarray:
    """Desired goals of other steps, and of another episode for most: (n, goal_dim)."""
    return np.roll(play.desired_goal, STEPS // 2, axis=0)


def kind_of_reward(env: gym.Env, rewards: ndarray, at_itself: ndarray) -> tuple[bool, float, float]:
    """Whether rewards are dense, and the two values of `Task`.

    Args:
        rewards: for goals of the environment's own, (n,).
        at_itself: for goals that are achieved goals, (m,).
    """
    rewards = rewards.astype(np.float32) + 0.0  # no -0
    values = np.unique(np.concatenate([rewards, at_itself.astype(np.float32) + 0.0]))
    usual, counts = np.unique(rewards, return_counts=True)
    reward_type = getattr(env.unwrapped, "reward_type", None)
    low, high = float(values[0]), float(values[-1])
    is_dense = reward_type == "dense" or len(values) > 2
    if reward_type == "sparse" and len(values) > 2 and counts.max() >= len(rewards) / 4:
        is_dense = False  # many values, but the same one wherever the goal is out of reach
        low = float(usual[counts.argmax()])
    return is_dense, low, high


def ends_on_success(env: gym.Env, play: Play) -> bool:
    """Whether the environment's own compute_terminated depends on the goal.

    Raises:
        ValueError: it needs a step's info.
    """
    if not env.has_wrapper_attr("compute_terminated"):
        return False
    compute_terminated = GoalFunction(env, "compute_terminated")
    try:
        at_itself = compute_terminated(play.achieved_goal, play.achieved_goal.copy())
        elsewhere = compute_terminated(play.achieved_goal, other_goals(play))
    except Exception as error:  # an abstract method, or one that needs an info
        if not works_with_info(compute_terminated, play):
            return False
        raise ValueError(
            f"{env.spec.id} cannot be learned from in hindsight: its compute_terminated needs a "
            f"step's info ({in_one_line(error)}), and a relabelled transition has none."
        ) from None
    return bool(np.any(at_itself & ~elsewhere))


def note_slow(compute_reward: GoalFunction) -> list[str]:
    """A sentence where rewards are computed row by row."""
    if compute_reward.takes_batches:
        return []
    return [
        "compute_reward takes one pair of goals at a time, so relabelling calls it in a slow loop."
    ]


def note_other_parts(recomputed: ndarray, rewards: ndarray) -> list[str]:
    """A sentence where a step's reward is not what `compute_reward` gives, (n,) each."""
    differs = ~np.isclose(recomputed, rewards, rtol=1e-3, atol=1e-3)
    if not differs.any():
        return []
    first = differs.argmax()
    return [
        f"a step was rewarded with {rewards[first]:g} where compute_reward gives "
        f"{recomputed[first]:g}: relabelled transitions lack the part that is outside of it."
    ]


def note_values(is_dense: bool, low: float, high: float) -> list[str]:
    """A sentence where a sparse reward's values are not the usual -1 and 0."""
    if is_dense or (low, high) == (-1.0, 0.0):
        return []
    if low == high:
        return [f"every reward that was seen is {low:g}, at an achieved goal too."]
    return [f"its low reward is {low:g}, so --c-low is {low:g} if it is not given."]


def note_success(is_unknown: bool, infos: tuple[dict[str, Any], ...]) -> list[str]:
    """A sentence where the environment does not say itself what success is.

    Args:
        is_unknown: its reward does not say it either.
    """
    if any("is_success" in info or "success" in info for info in infos):
        return []
    if is_unknown:
        return ["it does not say what success is, so success is unknown (nan)."]
    return ["it does not say what success is, so the upper reward counts as success."]


def note_ends(env: gym.Env, is_dense: bool, high: float) -> list[str]:
    """A sentence where values would come out too high if episodes ended on success."""
    if is_dense or high <= 0 or is_own_task(env) or env.has_wrapper_attr("compute_terminated"):
        return []
    return [
        f"its reward is {high:g} at the goal and it has no compute_terminated(achieved_goal, "
        "desired_goal, info): if episodes end at the goal it needs one, since relabelled ones "
        "would go on there."
    ]


def note_large(play: Play) -> list[str]:
    """A sentence where numbers are beyond what the normalisers take."""
    largest = max(float(np.abs(vectors).max(initial=0.0)) for vectors in play[:3])
    if largest <= 200:
        return []
    return [f"its numbers reach {largest:g}, and --normalize clips them at 200: scale them."]
