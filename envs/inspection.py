"""What a script must know about an environment before it trains on it, from a few steps of play."""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import gymnasium as gym
import numpy as np
from numpy import ndarray

from envs.messages import BadInput
from envs.rewards import GoalFunction
from envs.wrappers import KEYS, Obs, has_reward_gradient, success_of

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


class Play(NamedTuple):
    """Steps of play, n of them."""

    achieved_goal: ndarray  # (n, goal_dim) float32
    desired_goal: ndarray  # (n, goal_dim) float32
    reward: ndarray  # (n,)
    terminated: ndarray  # (n,)
    success: ndarray  # (n,), nan where it is unknown

    def other_goals(self) -> ndarray:
        """Desired goals of other steps, and of another episode for most: (n, goal_dim)."""
        return np.roll(self.desired_goal, len(self.desired_goal) // 2, axis=0)


def inspect_task(make_env: Callable[[], gym.Env]) -> Task:
    """Plays some steps in an environment of its own, and calls what a script will call.

    The environment is a new one from `make_env`: a run's own random streams are not touched. What
    the environment itself raises is a bug there, and is raised as it is.

    Raises BadInput if the environment cannot be trained on.
    """
    env = make_env()
    try:
        spaces = env.observation_space
        achieved, desired = spaces["achieved_goal"].shape, spaces["desired_goal"].shape
        if achieved != desired:
            raise BadInput(
                f"{env.spec.id} cannot be learned from in hindsight: its achieved goal has the "
                f"shape {achieved}, its desired goal {desired} (sets of goals are for "
                "ddpg_multi_reengage.py)."
            )
        maze = env.unwrapped  # of Gymnasium-Robotics: a goal that is reached, a rare event, moves
        if getattr(maze, "reset_target", False) and getattr(maze, "continuing_task", False):
            raise BadInput(f"{env.spec.id} moves goals within an episode: leave out reset_target.")
        play = play_steps(env)
        compute_reward = GoalFunction(env, "compute_reward")
        rewards = compute_reward(play.achieved_goal, play.desired_goal)
        elsewhere = compute_reward(play.achieved_goal, play.other_goals())
        at_itself = compute_reward(play.achieved_goal, play.achieved_goal)
        task = Task(
            *kind_of_reward(env, np.concatenate([rewards, elsewhere]), at_itself),
            has_reward_gradient=has_reward_gradient(env),
            ends_on_success=ends_on_success(env, play),
            notes=(),
        )
        notes = notes_on(env, task, play, compute_reward, rewards)
        return task._replace(notes=tuple(f"{env.spec.id}: {note}" for note in notes))
    finally:
        env.close()


def play_steps(env: gym.Env) -> Play:
    """Plays random and extreme actions. BadInput if a step is not as it must be."""
    rng = np.random.default_rng(0)
    steps = []
    episodes = 0
    done = True
    while len(steps) < STEPS or (episodes < 2 and len(steps) < MOST_STEPS):
        if done:
            obs, _ = env.reset(seed=len(steps))
            check_shapes(env, obs)
            goal = np.array(obs["desired_goal"])
            t = 0
        action = action_of_play(env.action_space, len(steps), rng)
        obs, reward, terminated, truncated, info = env.step(action)
        t += 1
        check_shapes(env, obs)
        rows = {key: np.array([obs[key]], np.float32) for key in KEYS}  # copies, (1, dim)
        reward = np.asarray(reward).item()
        check_finite(env, rows, np.float64([reward]), [t])
        check_same_goal(env, goal, obs["desired_goal"])
        goals = rows["achieved_goal"][0], rows["desired_goal"][0]
        steps.append((*goals, reward, terminated, success_of(info)))
        done = terminated or truncated
        episodes += done
    columns = zip(*steps, strict=True)
    return Play(*map(np.array, columns))


def action_of_play(space: gym.Space, step: int, rng: np.random.Generator) -> ndarray | int:
    """A uniform action, or an extreme one that is held for HOLD steps, by turns."""
    if isinstance(space, gym.spaces.Discrete):
        action = rng.integers(space.n)
        low, high = 0, space.n - 1
    else:
        action = rng.uniform(-1, 1, space.shape).astype(np.float32)
        low, high = -np.ones_like(action), np.ones_like(action)
    return (action, action, high, low)[step // HOLD % 4]


def check_shapes(env: gym.Env, obs: Obs) -> None:
    """Raises BadInput where an observation does not have the shapes that its space promises."""
    for key in KEYS:
        found = np.shape(obs[key])
        shape = env.observation_space[key].shape
        if found != shape:
            raise BadInput(f"{env.spec.id}: its '{key}' has the shape {found}, its space {shape}.")


def check_same_goal(env: gym.Env, before: ndarray, after: ndarray) -> None:
    """Raises BadInput if desired goals have changed between two steps of an episode."""
    if not np.array_equal(before, after):
        raise BadInput(
            f"{env.spec.id} cannot be learned from in hindsight: its desired goal changes within "
            "an episode, and an episode is stored with one goal."
        )


def check_finite(env: gym.Env, obs: Obs, reward: ndarray, t: Sequence[int]) -> None:
    """Raises BadInput for the first number that is not finite.

    Observations are (n, ...); rewards, and `t`, the steps of their episodes, (n,).
    """
    found = {**obs, "reward": reward}
    for name, numbers in sorted(found.items()):  # the observation may contain the goal
        if not np.isfinite(numbers).all():
            which, *place = np.argwhere(~np.isfinite(numbers))[0]
            raise BadInput(
                f"{env.spec.id} gave {numbers[which, *place]} in its {name} at step {t[which]} of "
                f"an episode: {numbers[which]}."
            )


def kind_of_reward(env: gym.Env, rewards: ndarray, at_itself: ndarray) -> tuple[bool, float, float]:
    """Whether rewards are dense, and the two values of `Task`.

    The rewards are those of the environment's own goals, (n,), and of achieved ones, (m,).
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
    """Whether the environment's own compute_terminated depends on the goal."""
    if not env.has_wrapper_attr("compute_terminated"):
        return False
    compute_terminated = GoalFunction(env, "compute_terminated")
    try:
        at_itself = compute_terminated(play.achieved_goal, play.achieved_goal)
        elsewhere = compute_terminated(play.achieved_goal, play.other_goals())
    except NotImplementedError:  # an abstract method
        return False
    return bool(np.any(at_itself.astype(bool) & ~elsewhere.astype(bool)))


def notes_on_gradient(env: gym.Env, play: Play, compute_reward: GoalFunction) -> Iterator[str]:
    """A sentence if compute_reward_gradient is not the reward's slope: a step along it tells."""
    function = GoalFunction(env, "compute_reward_gradient")
    achieved, desired = play.achieved_goal.astype(float), play.other_goals().astype(float)
    function(play.achieved_goal, achieved)  # it must be finite there too
    gradient = function(play.achieved_goal, desired)
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
    env: gym.Env, task: Task, play: Play, compute_reward: GoalFunction, recomputed: ndarray
) -> Iterator[str]:
    """What a user may not know about the environment, or may want to fix in it, in sentences.

    `recomputed` is the reward of each step from its goals, (n,).
    """
    is_dense, low, high = task.is_dense, task.reward_low, task.reward_high
    if not compute_reward.takes_batches:
        yield "compute_reward takes one pair of goals at a time, so relabelling is a slow loop."

    is_close = np.isclose(recomputed, play.reward, rtol=1e-3, atol=1e-3)
    if not is_close.all():
        first = is_close.argmin()
        yield (
            f"a step was rewarded with {play.reward[first]:g} where compute_reward gives "
            f"{recomputed[first] + 0.0:g}: relabelled transitions lack the part outside of it (or "
            "its goals are so large that float32, in which they are stored, is too coarse)."
        )

    if not is_dense and low == high:
        yield f"every reward that was seen is {low:g}, at an achieved goal too."
    elif not is_dense and (low, high) != (-1.0, 0.0):
        yield f"its low reward is {low:g}, so --c-low is {low:g} if it is not given."

    if np.isnan(play.success).all():
        otherwise = "the upper reward counts as success"
        if is_dense or low == high:
            otherwise = "success is unknown (nan)"
        yield f"it does not say what success is, so {otherwise}."

    if env.spec.max_episode_steps == 1 and not play.terminated.all():
        yield (
            "an episode is one step, which ends by the time limit: the value of the state after "
            "it counts, and nothing trains it. Return terminated=True."
        )

    if is_dense and task.has_reward_gradient:
        yield from notes_on_gradient(env, play, compute_reward)
