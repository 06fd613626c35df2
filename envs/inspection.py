"""What a script must know about an environment before it trains on it, from a few steps of play."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
from numpy import ndarray

from envs.messages import BadInput, in_one_line
from envs.registry import is_own_task
from envs.rewards import GoalFunction
from envs.wrappers import KEYS, has_reward_gradient

STEPS = 100  # of play at least, and two episodes, but no more than
MOST_STEPS = 1000
HOLD = 25  # steps for which an extreme action is held: it leads farther, perhaps into a wall


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
    """Steps of play, n of them; goals are what the environment gave, in its own type."""

    observation: ndarray  # (n, obs_dim)
    achieved_goal: ndarray  # (n, goal_dim)
    desired_goal: ndarray  # (n, goal_dim)
    reward: ndarray  # (n,)
    terminated: ndarray  # (n,)
    infos: tuple[dict[str, Any], ...]


def inspect_task(make_env: Callable[[], gym.Env]) -> Task:
    """Plays some steps in an environment of its own, and calls what a script will call.

    A run's own random streams are not touched.

    Args:
        make_env: makes one, such as `functools.partial(envs.make, env_id)`.

    Raises:
        BadInput: the environment cannot be trained on. What the environment itself raises is a
            bug there, and is raised as it is.
    """
    env = make_env()
    try:
        check_goals(env)
        exact = play_steps(env)
        play = in_float32(exact)
        compute_reward = GoalFunction(env, "compute_reward")
        rewards = computed_rewards(env, compute_reward, play, play.desired_goal)
        elsewhere = computed_rewards(env, compute_reward, play, other_goals(play))
        at_itself = computed_rewards(env, compute_reward, play, play.achieved_goal)
        kind = kind_of_reward(env, np.concatenate([rewards, elsewhere]), at_itself)
        notes = [*notes_on(env, exact, compute_reward, rewards, *kind)]
        if kind[0] and has_reward_gradient(env):  # dense
            notes += notes_on_gradient(env, play, compute_reward)
        return Task(
            *kind,
            has_reward_gradient=has_reward_gradient(env),
            ends_on_success=ends_on_success(env, play),
            notes=tuple(f"{env.spec.id}: {note}" for note in notes),
        )
    finally:
        env.close()


def check_goals(env: gym.Env) -> None:
    """Raises BadInput where goals cannot be relabelled, as far as that shows before a step."""
    achieved = env.observation_space["achieved_goal"].shape
    desired = env.observation_space["desired_goal"].shape
    if achieved != desired:
        raise BadInput(
            f"{env.spec.id} cannot be learned from in hindsight: its achieved goal has the shape "
            f"{achieved}, its desired goal {desired} (sets of goals are for "
            "ddpg_multi_reengage.py)."
        )
    maze = env.unwrapped  # of Gymnasium-Robotics: it moves a goal that is reached, a rare event
    if getattr(maze, "reset_target", False) and getattr(maze, "continuing_task", False):
        raise BadInput(f"{env.spec.id} {CHANGES_GOALS} Leave reset_target out.")


def play_steps(env: gym.Env) -> Play:
    """Plays random and extreme actions. BadInput if a step is not as it must be."""
    rng = np.random.default_rng(0)
    steps = []
    episodes = 0
    done = True
    while len(steps) < STEPS or (episodes < 2 and len(steps) < MOST_STEPS):
        if done:
            obs, _ = env.reset(seed=len(steps))
            check_observation(env, obs)
            goal = np.array(obs["desired_goal"])
        action = action_of_play(env.action_space, len(steps), rng)
        obs, reward, terminated, truncated, info = env.step(action)
        check_observation(env, obs)
        check_numbers(env, reward, info)
        vectors = [np.array(obs[key]) for key in KEYS]  # copies
        steps.append((*vectors, float(reward), terminated, info))
        if not np.array_equal(obs["desired_goal"], goal):
            raise BadInput(f"{env.spec.id} {CHANGES_GOALS}")
        done = terminated or truncated
        episodes += done
    *columns, infos = zip(*steps, strict=True)
    return Play(*map(np.array, columns), infos)


def in_float32(play: Play) -> Play:
    """The same play in the numbers that a script stores."""
    *vectors, terminated, infos = play
    return Play(*(numbers.astype(np.float32) for numbers in vectors), terminated, infos)


def check_numbers(env: gym.Env, reward: Any, info: dict[str, Any]) -> None:
    """Raises BadInput where a step's reward or success is not one finite number."""
    success = {key: info.get(key) for key in ("is_success", "success")}
    for key, value in {"reward": reward, **success}.items():
        if np.ndim(value) > 0:
            shape = np.shape(value)
            raise unusable(env, f"the {key} of a step is an array of shape {shape}, not one value")
    if not np.isfinite(reward):
        raise unusable(env, f"the reward of a step is {reward}")


def check_observation(env: gym.Env, obs: dict[str, Any]) -> None:
    """Raises BadInput where an observation is not what its space promises, or not finite."""
    for key in KEYS:
        found = np.asarray(obs[key])
        shape = env.observation_space[key].shape
        if found.shape != shape:
            raise unusable(env, f"its '{key}' has the shape {found.shape}, and its space {shape}")
        if not np.isfinite(found).all():
            raise unusable(env, f"its '{key}' has numbers that are not finite")


def unusable(env: gym.Env, reason: str) -> BadInput:
    return BadInput(f"{env.spec.id} cannot be used: {reason}.")


def action_of_play(space: gym.Space, step: int, rng: np.random.Generator) -> ndarray:
    """A uniform action, or an extreme one that is held for HOLD steps, by turns."""
    phase = step // HOLD % 4
    if isinstance(space, gym.spaces.Discrete):
        ends = (0, space.n - 1)
        action = rng.integers(space.n)
    else:
        ends = (np.full(space.shape, end, np.float32) for end in (-1, 1))
        action = rng.uniform(-1, 1, space.shape).astype(np.float32)
    if phase < 2:
        return action
    low, high = ends
    return high if phase == 2 else low


def computed_rewards(
    env: gym.Env, compute_reward: GoalFunction, play: Play, desired_goal: ndarray
) -> ndarray:
    """What `compute_reward` gives for the achieved goal of each step and (n, goal_dim): (n,).

    Raises:
        BadInput: it needs an info, changes the goals, or gives something else than a finite number
            for each row.
    """
    rewards = without_info(env, compute_reward, play, desired_goal)
    check_shape(env, compute_reward, rewards, play.reward.shape)
    if not np.isfinite(rewards).all():
        where = "the goals of a step, or for a goal that is reached"
        raise unusable(env, f"its compute_reward gives {rewards.min()} for {where}")
    return rewards


def check_shape(
    env: gym.Env, function: GoalFunction, result: ndarray, expected: tuple[int, ...]
) -> None:
    """Raises BadInput unless what a function of goals gave has this shape."""
    if result.shape != expected:
        found = f"the shape {result.shape} for {expected[0]} pairs of goals, not {expected}"
        raise unusable(env, f"its {function.name} gives {found}")


def without_info(
    env: gym.Env, function: GoalFunction, play: Play, desired_goal: ndarray
) -> ndarray:
    """What a function gives for the achieved goal of each step and (n, goal_dim): (n, ...).

    Raises:
        BadInput: it needs an info, or changes the goals.
    """
    goals = np.stack([play.achieved_goal, desired_goal])
    given = goals.copy()
    try:
        result = function(*given)
    except Exception as error:
        try:
            function.function(play.achieved_goal[0], play.desired_goal[0], play.infos[0])
        except Exception:  # it fails in the same way, or in another
            raise error from None
        raise BadInput(
            f"{env.spec.id} cannot be learned from in hindsight: its {function.name} needs a "
            f"step's info ({in_one_line(error)}), and a relabelled transition has none."
        ) from error
    if not np.array_equal(given, goals):
        raise unusable(env, f"its {function.name} changes the goals it is given")
    return result


def other_goals(play: Play) -> ndarray:
    """Desired goals of other steps, and of another episode for most: (n, goal_dim)."""
    return np.roll(play.desired_goal, len(play.desired_goal) // 2, axis=0)


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
        BadInput: it needs a step's info, or gives something else than a value for each row.
    """
    if not env.has_wrapper_attr("compute_terminated"):
        return False
    compute_terminated = GoalFunction(env, "compute_terminated")
    try:
        at_itself = without_info(env, compute_terminated, play, play.achieved_goal)
        elsewhere = without_info(env, compute_terminated, play, other_goals(play))
    except NotImplementedError:  # an abstract method
        return False
    check_shape(env, compute_terminated, at_itself, play.reward.shape)
    return bool(np.any(at_itself.astype(bool) & ~elsewhere.astype(bool)))


def notes_on_gradient(env: gym.Env, play: Play, compute_reward: GoalFunction) -> Iterator[str]:
    """A sentence if compute_reward_gradient is not the reward's slope: a step along it tells.

    Raises:
        BadInput: it does not give a finite vector for each row, also where the goal is achieved.
    """
    function = GoalFunction(env, "compute_reward_gradient")
    achieved, desired = play.achieved_goal.astype(float), other_goals(play).astype(float)
    for goal in (achieved, desired):
        gradient = without_info(env, function, play, goal)
        check_shape(env, function, gradient, goal.shape)
        if not np.isfinite(gradient).all():
            where = "where a goal is reached" if goal is achieved else "for the goals of a step"
            raise unusable(env, f"its compute_reward_gradient is not finite {where}")
    # Along the gradient, not along each axis: one that stays on the goals' sphere is right too
    distance = np.linalg.norm(achieved - desired, axis=1)
    length = np.linalg.norm(gradient, axis=1)
    rows = (distance > 0) & (length > 0)
    if not rows.any():
        return
    direction = gradient[rows] / length[rows, None]
    step = 1e-3 * distance[rows]
    ends = (desired[rows] + sign * step[:, None] * direction for sign in (1, -1))
    ahead, behind = (compute_reward(achieved[rows], end) for end in ends)
    slope = (ahead - behind) / (2 * step)
    is_close = np.isclose(slope, length[rows], rtol=0.1)
    if is_close.mean() < 0.5:
        i = is_close.argmin()
        yield (
            f"along its compute_reward_gradient the reward changes by {slope[i]:g} per unit of the "
            f"desired goal, where the gradient says {length[rows][i]:g}."
        )


def notes_on(
    env: gym.Env,
    play: Play,
    compute_reward: GoalFunction,
    recomputed: ndarray,
    is_dense: bool,
    low: float,
    high: float,
) -> Iterator[str]:
    """What a user may not know about the environment, or may want to fix in it, in sentences.

    Args:
        play: as the environment gave it.
        recomputed: the reward of each step from its goals in float32, (n,).
        is_dense, low, high: the kind of reward.
    """
    if not compute_reward.takes_batches:
        yield "compute_reward takes one pair of goals at a time, so relabelling is a slow loop."

    is_close = np.isclose(recomputed, play.reward, rtol=1e-3, atol=1e-3)
    if not is_close.all():
        from_exact = compute_reward(play.achieved_goal, play.desired_goal)
        if np.allclose(from_exact, play.reward, rtol=1e-3, atol=1e-3):
            largest = np.abs([play.achieved_goal, play.desired_goal]).max()
            yield (
                f"its goals reach {largest:g}, where float32, in which they are stored, is too "
                "coarse for its reward: subtract an offset from them, or scale them."
            )
        else:
            first = is_close.argmin()
            yield (
                f"a step was rewarded with {play.reward[first]:g} where compute_reward gives "
                f"{recomputed[first] + 0.0:g}: relabelled transitions lack the part outside of it."
            )

    if not is_dense and low == high:
        yield f"every reward that was seen is {low:g}, at an achieved goal too."
    elif not is_dense and (low, high) != (-1.0, 0.0):
        yield f"its low reward is {low:g}, so --c-low is {low:g} if it is not given."

    if not any("is_success" in info or "success" in info for info in play.infos):
        otherwise = "the upper reward counts as success"
        if is_dense or low == high:
            otherwise = "success is unknown (nan)"
        yield f"it does not say what success is, so {otherwise}."

    says_ends = is_own_task(env) or env.has_wrapper_attr("compute_terminated")
    if not is_dense and high > 0 and not says_ends:
        yield (
            f"its reward is {high:g} at the goal and it has no compute_terminated(achieved_goal, "
            "desired_goal, info): if episodes end at the goal it needs one, since relabelled ones "
            "would go on there."
        )

    if env.spec.max_episode_steps == 1 and not play.terminated.all():
        yield (
            "an episode is one step, which ends by the time limit: the value of the state after "
            "it counts, and nothing trains it. Return terminated=True."
        )
