"""Environments of many runs at once, for one device: tensors of shape (run, env, dim).

ContinuousSeek is arithmetic on the device; simulators step on the CPU. Either takes its randomness
from the run's own stream or seed, so a run does not depend on the runs beside it.
"""

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor

from envs.messages import BadInput
from envs.tasks.continuous_seek import ContinuousSeek
from envs.vector_env import available_cores, make_vector
from envs.wrappers import KEYS, as_obs
from envs.wrappers import Obs as NumpyObs

Obs = dict[str, Tensor]  # observation, achieved_goal, desired_goal: (run, env, dim)


class Streams:
    """Random numbers made by counting (SplitMix64, Steele et al. 2014), for each run its own.

    The n-th number of a run is a hash of the run's key, 63 bits without a pattern, plus n: it
    depends neither on the runs beside it nor on the device, and a CUDA graph can hold it.
    """

    def __init__(self, keys: list[int], device: torch.device):
        self.device = device
        self.state = torch.tensor(keys, device=device)[:, None]  # (run, 1) int64, wraps around

    def bits(self, *shape: int) -> Tensor:
        """Integers in [0, 2^32), (run, *shape) int64."""
        n = math.prod(shape)
        count = torch.arange(1, n + 1, device=self.device)
        x = self.state - 0x61C8864680B583EB * count
        self.state.copy_(x[:, -1:])
        x = (x ^ shift_right(x, 30)) * -0x40A7B892E31B1A47
        x = (x ^ shift_right(x, 27)) * -0x6B2FB644ECCEEE15
        x = x ^ shift_right(x, 31)
        return shift_right(x, 32).view(-1, *shape)

    def uniform(self, *shape: int) -> Tensor:
        """Numbers between -1 and 1, neither included, (run, *shape)."""
        bits = self.bits(*shape) >> 9
        return (bits + 0.5) * 2.0**-22 - 1


def shift_right(x: Tensor, n: int) -> Tensor:
    """Shifts an int64 as if it were unsigned."""
    return (x >> n) & (2 ** (64 - n) - 1)


def below(n: Tensor | int, bits: Tensor) -> Tensor:
    """Integers in [0, n) from integers in [0, 2^32)."""
    return (bits * n) >> 32


class DeviceTask(NamedTuple):
    """A task whose reward a device can compute: 0 within a distance of the goal, else -1."""

    make_env: Callable[[], gym.Env]
    obs_dim: int
    goal_dim: int
    action_dim: int
    max_steps: int  # of every episode: none ends early
    threshold: float
    is_seek: bool  # ContinuousSeek

    def reward(self, achieved_goal: Tensor, goal: Tensor) -> Tensor:
        """(..., goal_dim), (..., goal_dim) -> (...)."""
        norm = math.inf if self.is_seek else 2
        distance = torch.linalg.vector_norm(achieved_goal - goal, norm, dim=-1)
        return (distance <= self.threshold).to(distance) - 1

    def make(self, num_envs: int, keys: list[int], streams: Streams) -> "Seeks | Simulators":
        """num_envs copies for every run, which has a key that seeds simulators, and a stream."""
        if self.is_seek:
            return Seeks(num_envs, self, streams)
        return Simulators(num_envs, self, keys, streams.device)


def inspect_for_device(make_env: Callable[[], gym.Env]) -> DeviceTask:
    """Raises BadInput for an environment with another kind of reward."""
    envs = make_vector(make_env, 1, seed=0)
    env = envs.unwrapped
    is_seek = type(env) is ContinuousSeek
    threshold = getattr(env, "distance_threshold", ContinuousSeek.TOLERANCE)
    sizes = (envs.obs_dim, envs.goal_dim, envs.action_dim, envs.max_episode_steps)
    task = DeviceTask(make_env, *sizes, threshold, is_seek)
    rng = np.random.default_rng(0)
    goal, direction = rng.normal(size=(2, 1000, task.goal_dim))
    distance = np.linspace(0, 3 * task.threshold, 1000)[:, None]
    achieved_goal = goal + distance * direction
    reward = task.reward(torch.tensor(achieved_goal), torch.tensor(goal))
    try:
        expected = env.compute_reward(achieved_goal, goal, {})
    except Exception:  # an environment may fail in any way of its own
        expected = None
    envs.close()
    if not np.array_equal(reward, expected):
        raise BadInput(
            f"{envs.env.spec.id} cannot be one of many runs: its reward is not 0 within a distance "
            "of the goal and -1 beyond it. ddpg_her_reengage.py takes other rewards."
        )
    return task


class Seeks:
    """ContinuousSeek of every run: `envs.tasks.continuous_seek` in tensors."""

    def __init__(self, num_envs: int, task: DeviceTask, streams: Streams):
        self.num_envs = num_envs
        self.task = task
        self.streams = streams

    def reset(self) -> Obs:
        """Starts an episode in every copy; observations (run, env, dim)."""
        self.goal = ContinuousSeek.D * self.streams.uniform(self.num_envs, self.task.goal_dim)
        self.state = torch.zeros_like(self.goal)
        return self._observe()

    def step(self, action: Tensor) -> Obs:
        """Actions (run, env, action_dim) in [-1, 1] -> observations."""
        self.state = (self.state + action).clamp(-ContinuousSeek.D, ContinuousSeek.D)
        return self._observe()

    def _observe(self) -> Obs:
        copies = self.task.obs_dim // self.task.goal_dim  # 2 if the achieved goal is observed too
        return as_obs(self.state.repeat(1, 1, copies), self.state, self.goal)


class Simulators:
    """Gymnasium environments of every run, stepped on all CPU cores; the interface of `Seeks`."""

    def __init__(self, num_envs: int, task: DeviceTask, seeds: list[int], device: torch.device):
        self.device = device
        threads = math.ceil(available_cores() / len(seeds))
        self.envs = [make_vector(task.make_env, num_envs, seed, threads) for seed in seeds]
        self.pool = ThreadPoolExecutor(len(seeds))

    def reset(self) -> Obs:
        observations = self.pool.map(lambda envs: envs.reset(), self.envs)
        return self._gather(list(observations))

    def step(self, action: Tensor) -> Obs:
        actions = action.cpu().numpy()
        steps = self.pool.map(lambda envs, action: envs.step(action), self.envs, actions)
        steps = list(steps)
        if any(terminated.any() for _, _, terminated, _, _ in steps):
            raise BadInput("An episode ended before its time limit: use ddpg_her_reengage.py.")
        return self._gather([obs for obs, *_ in steps])

    def _gather(self, observations: list[NumpyObs]) -> Obs:
        gathered = {}
        for key in KEYS:
            array = np.stack([obs[key] for obs in observations])  # (run, env, dim)
            gathered[key] = torch.from_numpy(array).to(self.device)
        return gathered
