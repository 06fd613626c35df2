"""Many copies of one environment, stepped in lockstep: one interface, two kinds of copies."""

import functools
import json
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import gymnasium as gym
import numpy as np
from gymnasium.utils.seeding import np_random
from numpy import ndarray
from numpy.random import Generator

from envs.batch_env import BatchEnv
from envs.inspection import check_finite, check_same_goal, inspect_task
from envs.messages import BadInput, say_once
from envs.registry import is_own_task
from envs.rewards import GoalFunction
from envs.wrappers import KEYS, Obs, success_of

VectorStep = tuple[Obs, ndarray, ndarray, ndarray, ndarray]

ENDS = 5  # at goals before it is said: one may be a crash that happens there


class VectorEnv:
    """`num_envs` copies of a goal environment, stepped together; see `make_vector`.

    The caller resets episodes; none starts on its own, and the first reset is of all copies.
    Observations are float32; a `reset` that starts no episode returns the arrays of the last step.
    A kind of copies adds `_reset(which)` -> observations of all, and `_step(actions, active)` ->
    what `step` returns.

    Attributes:
        num_envs: the number of copies.
        obs_dim, goal_dim, action_dim: sizes of the vectors.
        action_space: of one copy.
        max_episode_steps: the time limit.
        unwrapped: the first copy without its wrappers.
        t: the steps of each copy's episode, (num_envs,).
        ended: whether that episode has ended, or none has begun, (num_envs,).
        obs: observations of the last reset or step.
    """

    def __init__(self, env: gym.Env, num_envs: int):
        self.env = env
        self.unwrapped = env.unwrapped
        self.num_envs = num_envs
        self.action_space = env.action_space
        self.action_dim = self.action_space.shape[0] if self.action_space.shape else 1
        self.max_episode_steps = env.spec.max_episode_steps
        spaces = env.observation_space
        self.obs_dim = spaces["observation"].shape[0]
        self.goal_dim = spaces["desired_goal"].shape[0]
        self.t = np.zeros(num_envs, np.int64)
        self.ended = np.ones(num_envs, bool)
        self.functions: dict[str, GoalFunction] = {}  # those that have been called
        self.relabels = False  # whether anybody has asked for the reward of other goals
        self.streams: list[Generator] = []  # every random stream that the copies own

    def reset(self, which: ndarray | None = None) -> Obs:
        """Starts new episodes in the copies of the mask `which` (num_envs,), or in all of them.

        Returns observations of all copies, (num_envs, ...): those of the last step, if none starts.
        """
        which = np.ones(self.num_envs, bool) if which is None else which
        if which.any():
            self.t[which] = 0
            self.ended = self.ended & ~which  # a new array: `which` may be the old one
            self.obs = self._reset(which)
        return self.obs

    def step(self, actions: ndarray) -> VectorStep:
        """Steps every copy once: (num_envs, action_dim), or (num_envs,) if actions are discrete.

        Vectors become float32. A copy whose episode has ended stands still until it is reset: its
        reward is 0, the rest stays the same. RuntimeError for an action that is not finite.

        Returns:
            Observations (num_envs, ...), rewards, terminated, truncated and success, each
            (num_envs,). Success is 1, 0 or nan where it is unknown, float64.
        """
        if actions.ndim == 2:
            actions = actions.astype(np.float32)
        if not np.isfinite(actions).all():
            raise RuntimeError("The policy's actions are not finite: its network has diverged.")
        active = ~self.ended
        self.t += active
        self.obs, reward, terminated, truncated, success = self._step(actions, active)
        self.ended = terminated | truncated
        reward = np.where(active, reward, 0).astype(np.float32)
        return self.obs, reward, terminated, truncated, success

    def compute_reward(self, achieved_goal: ndarray, desired_goal: ndarray) -> ndarray:
        """(n, goal_dim), (n, goal_dim) -> (n,) float32; slow where `inspect_task` says so.

        Raises BadInput, as the other functions of goals do, if a result is not finite.
        """
        self.relabels = True
        return self._function("compute_reward")(achieved_goal, desired_goal).astype(np.float32)

    def compute_reward_gradient(self, achieved_goal: ndarray, desired_goal: ndarray) -> ndarray:
        """dR/d desired_goal of a dense reward: (n, goal_dim), (n, goal_dim) -> (n, goal_dim)."""
        gradient = self._function("compute_reward_gradient")(achieved_goal, desired_goal)
        return gradient.astype(np.float32)

    def compute_terminated(self, achieved_goal: ndarray, desired_goal: ndarray) -> ndarray:
        """Whether the episode ends there, for a task that ends on success: (n,) bool."""
        return self._function("compute_terminated")(achieved_goal, desired_goal).astype(bool)

    def state_dict(self) -> dict[str, str]:
        """The state of every random stream that the copies own; take it between episodes.

        A simulator that carries hidden state from one episode into the next, as PyBullet does where
        things touch, goes on from it with small differences.
        """
        return {"streams": json.dumps([stream.bit_generator.state for stream in self.streams])}

    def load_state_dict(self, state: dict[str, str]) -> None:
        """Goes on from a `state_dict`; the next thing to do is a reset of all copies."""
        states = json.loads(state["streams"])
        for stream, its_state in zip(self.streams, states, strict=True):
            stream.bit_generator.state = its_state

    def close(self) -> None:
        """Ends threads and environments."""
        self.env.close()

    def _function(self, name: str) -> GoalFunction:
        if name not in self.functions:
            self.functions[name] = GoalFunction(self.env, name)
        return self.functions[name]


class BatchVectorEnv(VectorEnv):
    """Copies of a `BatchEnv`: arithmetic on all of them at once, without a loop."""

    def __init__(self, env: gym.Env, num_envs: int, seed: int):
        super().__init__(env, num_envs)
        # A child of the seed: default_rng(seed) itself is what a script explores with
        child = np.random.SeedSequence(seed).spawn(1)[0]
        self.rng = np.random.default_rng(child)
        self.streams = [self.rng]
        self.state, self.goal = self.unwrapped.draw(num_envs, self.rng)

    def _reset(self, which: ndarray) -> Obs:
        state, goal = self.unwrapped.draw(which.sum(), self.rng)
        self.state[which] = state
        self.goal[which] = goal
        return self.unwrapped.observe(self.state, self.goal)

    def _step(self, actions: ndarray, active: ndarray) -> VectorStep:
        env = self.unwrapped
        self.state[active] = env.advance(self.state[active], actions[active], self.rng)
        obs = env.observe(self.state, self.goal)
        achieved_goal = obs["achieved_goal"]
        reward = env.compute_reward(achieved_goal, self.goal, {})
        success = env.is_success(achieved_goal, self.goal).astype(float)
        terminated = np.zeros(self.num_envs, bool)  # such an environment never terminates
        truncated = self.t == self.max_episode_steps
        return obs, reward, terminated, truncated, success


class CopiesVectorEnv(VectorEnv):
    """Environments that step one by one, spread over threads; their number changes nothing else.

    Each copy has a random stream. The project's own tasks draw from it; any other environment gets
    a seed from it at each reset, since some draw from a generator of their own.

    Success is what the environment's info says under `is_success` or `success`. Without such an
    entry it is the upper value of a sparse reward, and nan, unknown, where the reward is dense.
    That an episode terminates is not a success: it may have been a crash.

    Both `reset` and `step` raise BadInput where the environment gives a number that is not finite,
    or changes the desired goal within an episode.
    """

    def __init__(
        self,
        env: gym.Env,  # the first copy
        make_env: Callable[[], gym.Env],  # makes the others
        num_envs: int,
        seed: int,
        num_threads: int,
    ):
        super().__init__(env, num_envs)
        self.make_env = make_env
        self.envs = [env] + [make_env() for _ in range(num_envs - 1)]
        self.is_own_task = is_own_task(env)
        # Successful steps that terminated; nan once one did not, and where a function says so
        self.goal_ends = np.nan if env.has_wrapper_attr("compute_terminated") else 0
        self.last = [()] * num_envs  # what each copy's last reset or step gave
        seeds = np.random.SeedSequence(seed).generate_state(self.num_envs)
        self.streams = [np_random(int(seed))[0] for seed in seeds]
        if self.is_own_task:
            for copy, stream in zip(self.envs, self.streams, strict=True):
                copy.unwrapped.np_random = stream
        self.num_threads = min(num_threads, self.num_envs)
        self.pool = ThreadPoolExecutor(self.num_threads)

    def _reset(self, which: ndarray) -> Obs:
        self._spread(self._reset_one, which)
        obs = self._gather()[0]
        self.goal = obs["desired_goal"].copy()
        return obs

    def _step(self, actions: ndarray, active: ndarray) -> VectorStep:
        self._spread(lambda i: self._step_one(i, actions[i]), active)
        obs, reward, terminated, truncated, success = self._gather()
        check_same_goal(self.env, self.goal, obs["desired_goal"])
        unknown = np.isnan(success)
        if unknown.any() and not np.isnan(self.success_reward):
            compute_reward = self._function("compute_reward")
            known_reward = compute_reward(obs["achieved_goal"], obs["desired_goal"])
            success[unknown] = known_reward[unknown].astype(np.float32) == self.success_reward
        at_goal = active & (success == 1)
        self._notice_ends(terminated[at_goal & (self.t > 1)])  # not where each episode is one step
        return obs, reward, terminated, truncated, success

    def close(self) -> None:
        self.pool.shutdown()
        for env in self.envs:
            env.close()

    def _spread(self, work: Callable[[int], None], which: ndarray) -> None:
        """Calls `work` with each index that the mask names, a share of them in each thread."""

        def work_off(share: ndarray) -> None:
            for i in share:
                work(i)

        shares = np.array_split(np.flatnonzero(which), self.num_threads)
        # A single thread is this one, to which a window or an OpenGL context belongs
        spread = map if self.num_threads == 1 else self.pool.map
        list(spread(work_off, shares))

    def _reset_one(self, i: int) -> None:
        seed = None if self.is_own_task else int(self.streams[i].integers(2**31))
        obs, _ = self.envs[i].reset(seed=seed)
        self.last[i] = obs, 0.0, False, False, 0.0

    def _step_one(self, i: int, action: ndarray) -> None:
        obs, reward, terminated, truncated, info = self.envs[i].step(action)
        reward = np.asarray(reward).item()
        self.last[i] = obs, reward, bool(terminated), bool(truncated), success_of(info)

    def _gather(self) -> VectorStep:
        """What all copies gave last; BadInput if it is not finite."""
        observations, reward, *others = zip(*self.last, strict=True)
        obs = {}
        for key in KEYS:
            obs[key] = np.array([each[key] for each in observations], np.float32)
        reward = np.array(reward, np.float32)
        check_finite(self.env, obs, reward, self.t)
        return obs, reward, *map(np.array, others)

    def _notice_ends(self, ended: ndarray) -> None:
        """Tells the user if successful steps always end their episode, and goals are relabelled."""
        self.goal_ends += ended.sum() if ended.all() else np.nan
        if self.goal_ends >= ENDS and self.relabels:
            say_once(
                f"{self.env.spec.id} ends episodes at their goal, but has no "
                "compute_terminated(achieved_goal, desired_goal, info): relabelled episodes go on "
                "at theirs."
            )

    @functools.cached_property
    def success_reward(self) -> float:
        """The reward that means success; nan where none does, or hindsight has no use for it."""
        try:
            task = inspect_task(self.make_env)
        except BadInput:
            return np.nan
        is_known = not task.is_dense and task.reward_low < task.reward_high
        return task.reward_high if is_known else np.nan


def make_vector(
    make_env: Callable[[], gym.Env], num_envs: int, seed: int, num_threads: int | None = None
) -> VectorEnv:
    """Copies of what `make_env` makes, side by side, each with a random stream from the seed.

    Simulators that release the interpreter's lock step in `num_threads` threads, by default one for
    each core that this process may use. Raises BadInput as `make_env` does.
    """
    env = make_env()
    if is_plain_batch(env):
        return BatchVectorEnv(env, num_envs, seed)
    is_mujoco = hasattr(env.unwrapped, "model") and hasattr(env.unwrapped, "data")
    threads = num_threads or available_cores()
    return CopiesVectorEnv(env, make_env, num_envs, seed, threads if is_mujoco else 1)


def make_eval_envs(
    make_env: Callable[[], gym.Env], episodes: int, seed: int, num_threads: int | None = None
) -> tuple[VectorEnv, int]:
    """Environments for evaluations, and the number of episodes in each evaluation.

    `episodes` 0 means 50, or fewer where they are long: 5000 steps, but at least 5 episodes. The
    project's own tasks get one copy per episode; another package's simulator, which may take tens
    of megabytes a copy, at most four. Raises BadInput as `make_env` does.
    """
    env = make_env()
    has_cheap_copies = is_own_task(env) or is_plain_batch(env)
    affordable = 5000 // env.spec.max_episode_steps
    episodes = episodes or min(50, max(5, affordable))
    env.close()
    copies = episodes if has_cheap_copies else min(4, episodes)
    return make_vector(make_env, copies, seed, num_threads), episodes


def is_plain_batch(env: gym.Env) -> bool:
    """Whether this is a `BatchEnv` whose wrappers do nothing that arithmetic on it would miss."""
    while isinstance(env, gym.wrappers.TimeLimit | gym.wrappers.OrderEnforcing):
        env = env.env
    return isinstance(env, BatchEnv)


def available_cores() -> int:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
