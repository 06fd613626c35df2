"""N copies of one environment, stepped in lockstep."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import gymnasium as gym
import numpy as np
import torch

from envs.batch import BatchEnv
from envs.making import make


class VectorEnv:
    """`num_envs` copies of a goal environment, stepped together; episodes are reset by the caller, never on the way.

    MuJoCo releases the interpreter's lock while it steps, so its environments are spread over `num_threads` threads (by
    default one for each core that this process may use); what happens inside an environment does not depend on it. A
    `BatchEnv` like BitFlip steps all of its copies by one call instead.

    Args:
        env_id: a registered name, see `envs.make`.
        num_envs: number of copies; each has its own random stream, derived from `seed`.
        observe_achieved_goal, action_space: as in `envs.make`.

    Raises:
        ValueError: as `envs.make`.
    """

    def __init__(
        self,
        env_id: str,
        num_envs: int,
        seed: int,
        observe_achieved_goal: bool = False,
        action_space: type[gym.Space] = gym.spaces.Box,
        num_threads: int | None = None,
    ):
        self.envs = [make(env_id, observe_achieved_goal, action_space)]
        self.num_envs = num_envs
        self.unwrapped = self.envs[0].unwrapped  # the first copy, for compute_reward and the like
        # A batch steps by one call, but the wrapper that observes the achieved goal takes one environment at a time
        self.is_batch = isinstance(self.unwrapped, BatchEnv) and not observe_achieved_goal
        if not self.is_batch:
            self.envs += [
                make(env_id, observe_achieved_goal, action_space) for _ in range(num_envs - 1)
            ]
        self.is_dense = getattr(self.unwrapped, "reward_type", "sparse") == "dense"
        self.action_space = self.envs[0].action_space
        self.action_dim = self.action_space.shape[0] if self.action_space.shape else 1
        self.max_episode_steps = self.envs[0].spec.max_episode_steps
        spaces = self.envs[0].observation_space.spaces
        self.obs_dim, self.goal_dim = (
            spaces["observation"].shape[0],
            spaces["desired_goal"].shape[0],
        )
        self.obs = {
            key: np.zeros((num_envs, *space.shape), space.dtype) for key, space in spaces.items()
        }
        self.terminated, self.truncated, self.success = np.zeros((3, num_envs), bool)
        if self.is_batch:
            self.t, self.rng = np.zeros(num_envs, np.int64), np.random.default_rng(seed)
            self.state, self.goal = self.unwrapped.draw(num_envs, self.rng)
        self.seeds = [int(s) for s in np.random.SeedSequence(seed).generate_state(num_envs)]
        is_mujoco = hasattr(self.unwrapped, "model") and hasattr(self.unwrapped, "data")
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        num_threads = (num_threads or cores) if is_mujoco else 1
        self.chunks = [
            chunk for chunk in np.array_split(np.arange(num_envs), num_threads) if len(chunk)
        ]
        self.pool = ThreadPoolExecutor(len(self.chunks)) if len(self.chunks) > 1 else None

    def reset(self, which: np.ndarray | None = None) -> dict[str, np.ndarray]:
        """Starts a new episode in the environments of the mask `which` (num_envs,), or in all; observations of all."""
        which = np.ones(self.num_envs, bool) if which is None else which

        def reset_chunk(chunk: np.ndarray) -> None:
            for i in chunk[which[chunk]]:
                obs, _ = self.envs[i].reset(seed=self.seeds[i])
                self.seeds[i] = (
                    None  # the first reset seeds the environment, later ones go on with its random stream
                )
                self.terminated[i] = self.truncated[i] = self.success[i] = False
                self._store(i, obs)

        if self.is_batch:
            self.state[which], self.goal[which] = self.unwrapped.draw(which.sum(), self.rng)
            self.t[which] = self.truncated[which] = self.success[which] = 0
            self.obs = self.unwrapped.observe(self.state, self.goal)
        else:
            self._spread(reset_chunk)
        return {key: value.copy() for key, value in self.obs.items()}

    def step(
        self, actions: np.ndarray
    ) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Steps every environment once: (num_envs, action_dim), or (num_envs,) if actions are discrete.

        An environment whose episode has ended stands still until it is reset: its reward is 0, the rest stays the same.

        Returns:
            Observations (num_envs, ...), rewards, terminated, truncated and success, each (num_envs,).
        """
        reward = np.zeros(self.num_envs, np.float32)

        def step_chunk(chunk: np.ndarray) -> None:
            for i in chunk[~(self.terminated | self.truncated)[chunk]]:
                obs, reward[i], self.terminated[i], self.truncated[i], info = self.envs[i].step(
                    actions[i]
                )
                is_success = (
                    info["is_success"]
                    if "is_success" in info
                    else info.get("success", self.terminated[i])
                )
                self.success[i] = is_success
                self._store(i, obs)

        if self.is_batch:
            active = ~self.truncated  # such an environment never terminates
            self.state[active] = self.unwrapped.advance(
                self.state[active], actions[active], self.rng
            )
            self.obs = self.unwrapped.observe(self.state, self.goal)
            achieved_goal = self.obs["achieved_goal"]
            reward[active] = self.unwrapped.compute_reward(achieved_goal, self.goal, {})[active]
            self.success = self.unwrapped.is_success(achieved_goal, self.goal)
            self.t += active
            self.truncated = self.t == self.max_episode_steps
        else:
            self._spread(step_chunk)
        obs = {key: value.copy() for key, value in self.obs.items()}
        return obs, reward, self.terminated.copy(), self.truncated.copy(), self.success.copy()

    def reward_gradient(self, batch: Any) -> torch.Tensor | None:
        """Gradient by the goal of a dense reward, (batch, goal_dim), like `batch.goal`; None for a sparse reward."""
        if not self.is_dense:
            return None
        achieved_goal, goal = batch.achieved_goal.cpu().numpy(), batch.goal.cpu().numpy()
        return torch.from_numpy(self.unwrapped.compute_reward_gradient(achieved_goal, goal, {})).to(
            batch.goal
        )

    def play(self, policy: Callable[[dict[str, np.ndarray]], np.ndarray]) -> dict[str, float]:
        """Plays one episode in every environment, all side by side.

        Returns:
            Means over the episodes of success_rate (success at the last step), success_once (at any step) and
            episodic_return (undiscounted).
        """
        obs, ended = self.reset(), np.zeros(self.num_envs, bool)
        success_once, episodic_return = np.zeros((2, self.num_envs))
        while not ended.all():
            obs, reward, terminated, truncated, success = self.step(policy(obs))
            ended = terminated | truncated
            success_once = np.maximum(success_once, success)
            episodic_return += reward
        metrics = {
            "success_rate": success,
            "success_once": success_once,
            "episodic_return": episodic_return,
        }
        return {name: float(value.mean()) for name, value in metrics.items()}

    def _spread(self, work: Callable[[np.ndarray], None]) -> None:
        """Calls `work` with the indices of each thread's environments."""
        if self.pool is None:
            work(self.chunks[0])
        else:
            list(self.pool.map(work, self.chunks))

    def _store(self, i: int, obs: dict[str, np.ndarray]) -> None:
        for key, value in self.obs.items():
            value[i] = obs[key]

    def close(self) -> None:
        if self.pool is not None:
            self.pool.shutdown()
        for env in self.envs:
            env.close()
