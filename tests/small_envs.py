"""Small goal environments, each unusual in one way, as other people's packages are."""

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete
from numpy import ndarray

from envs.wrappers import KEYS, Obs, Step, as_obs

Reset = tuple[Any, dict]  # an observation and its info


class Walk(gym.Env):
    """Walk in the plane from the origin to a goal in [-2, 2]^2, by at most 1 a step and direction.

    The reward is 0 within 0.5 of the goal, else -1. Nothing ends an episode.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 5}

    def __init__(self, size: float = 2.0, render_mode: str | None = None):
        if size <= 0:
            raise ArithmeticError(f"a size of {size}\nmakes no sense")
        self.size = size
        self.render_mode = render_mode
        self.observation_space = Dict(dict.fromkeys(KEYS, Box(-20.0, 20.0, (2,))))
        self.action_space = Box(-1.0, 1.0, (2,))

    def reset(self, *, seed: Any = None, **options: Any) -> Reset:
        super().reset(seed=seed)
        self.position = np.zeros(2, np.float32)
        self.goal = self.np_random.uniform(-self.size, self.size, 2).astype(np.float32)
        return self.observe(), {}

    def step(self, action: ndarray) -> Step:
        self.position = self.position + np.asarray(action, np.float32)
        reward = float(self.compute_reward(self.position, self.goal, {}))
        return self.observe(), reward, False, False, {"is_success": reward == 0}

    def compute_reward(self, achieved_goal: ndarray, desired_goal: ndarray, info: Any) -> ndarray:
        distance = np.linalg.norm(achieved_goal - desired_goal, axis=-1)
        return -(distance > 0.5).astype(np.float32)

    def observe(self) -> Obs:
        return as_obs(self.position, self.position, self.goal)

    def render(self) -> ndarray:
        return np.zeros((16, 16, 3), np.uint8)


class ZeroOne(Walk):
    """Rewards 1 and 0, a further entry in the observation, and `success` for a key.

    Reward and success of a step are arrays of one number.
    """

    def __init__(self, render_mode: str | None = None):
        super().__init__(render_mode=render_mode)
        spaces = self.observation_space.spaces
        self.observation_space = Dict({**spaces, "camera": Box(0, 255, (4, 4, 3))})

    def compute_reward(self, achieved_goal: ndarray, desired_goal: ndarray, info: Any) -> ndarray:
        return 1 + super().compute_reward(achieved_goal, desired_goal, info)

    def step(self, action: ndarray) -> Step:
        obs, reward, *ends, _ = super().step(action)
        return obs, np.array([reward]), *ends, {"success": np.array([reward == 1])}

    def observe(self) -> Obs:
        return {"camera": np.zeros((4, 4, 3), np.float32), **super().observe()}


class Keyless(Walk):
    """Says nothing about success, and ends with a crash where x > 1."""

    def step(self, action: ndarray) -> Step:
        obs, reward, *_ = super().step(action)
        return obs, reward, bool(self.position[0] > 1), False, {}


class KeylessDense(Keyless):
    """The same with the distance as its reward, which it calls sparse all the same."""

    reward_type = "sparse"

    def compute_reward(self, achieved_goal: ndarray, desired_goal: ndarray, info: Any) -> ndarray:
        return -np.linalg.norm(achieved_goal - desired_goal, axis=-1)


class DenseGradient(KeylessDense):
    """With the gradient of its reward.

    Args:
        fault: of the gradient: "sign", "column", or "nan" at the goal.
    """

    reward_type = "dense"

    def __init__(self, fault: str = "", render_mode: str | None = None):
        super().__init__(render_mode=render_mode)
        self.fault = fault

    def compute_reward_gradient(
        self, achieved_goal: ndarray, desired_goal: ndarray, info: Any
    ) -> ndarray:
        difference = achieved_goal - desired_goal
        with np.errstate(invalid="ignore"):
            gradient = difference / np.linalg.norm(difference, axis=-1, keepdims=True)
        if self.fault == "nan":
            return gradient
        gradient = np.nan_to_num(gradient)
        return {"sign": -gradient, "column": gradient[..., :1]}.get(self.fault, gradient)


class TellsOfCrashes(Keyless):
    """Says where it ends, which has nothing to do with the goal."""

    def compute_terminated(
        self, achieved_goal: ndarray, desired_goal: ndarray, info: Any
    ) -> ndarray:
        return achieved_goal[..., 0] > 1


class EndsOnSuccess(Walk):
    """Ends where the goal is reached, and says so; its functions take one pair of goals."""

    def step(self, action: ndarray) -> Step:
        obs, reward, _, truncated, info = super().step(action)
        terminated = self.compute_terminated(self.position, self.goal, info)
        return obs, reward, terminated, truncated, info

    def compute_terminated(self, achieved_goal: ndarray, desired_goal: ndarray, info: Any) -> bool:
        return bool(np.linalg.norm(achieved_goal - desired_goal) <= 0.5)


class ScalarReward(Walk):
    """Its reward function gives one number for any number of goals."""

    def compute_reward(self, achieved_goal: ndarray, desired_goal: ndarray, info: Any) -> float:
        return 0.0 if np.linalg.norm(achieved_goal - desired_goal) <= 0.5 else -1.0


class BatchesOnly(Walk):
    """Its reward function takes (n, 2), and from outside nothing with fewer axes."""

    def compute_reward(self, achieved_goal: ndarray, desired_goal: ndarray, info: Any) -> ndarray:
        if desired_goal is not self.goal and desired_goal.ndim != 2:
            raise IndexError("goals have two axes")
        return super().compute_reward(achieved_goal, desired_goal, info)


class NeedsInfo(Walk):
    """From outside, its reward function needs what only a step knows."""

    def compute_reward(self, achieved_goal: ndarray, desired_goal: ndarray, info: Any) -> ndarray:
        reward = super().compute_reward(achieved_goal, desired_goal, info)
        return reward if desired_goal is self.goal else info["is_success"] - 1


class CostOfActions(Walk):
    """A part of its reward is outside of compute_reward."""

    def step(self, action: ndarray) -> Step:
        obs, reward, *rest = super().step(action)
        return obs, reward - 0.1 * float(np.abs(action).sum()), *rest


class SystemRandomness(Walk):
    """Its goals are drawn by a generator that only a seed at each reset makes reproducible."""

    def reset(self, *, seed: Any = None, **options: Any) -> Reset:
        super().reset(seed=seed)
        self.goal = np.random.default_rng(seed).uniform(-2, 2, 2).astype(np.float32)
        return self.observe(), {}


class WithoutRenderMode(Walk):
    """A constructor that knows no render_mode."""

    def __init__(self):
        super().__init__()


class InPlace(Walk):
    """Observes one array that it changes in place."""

    def step(self, action: ndarray) -> Step:
        self.position += np.asarray(action, np.float32)
        reward = float(self.compute_reward(self.position, self.goal, {}))
        return self.observe(), reward, False, False, {"is_success": reward == 0}


class Spoiled(Walk):
    """One thing that a step gives is replaced, as by a simulator that diverges after some steps.

    Args:
        entry: of the observation, "reward" or "is_success".
        value: what is given instead.
        after: the number of steps before that.
    """

    def __init__(self, entry: str, value: Any, after: int = 0, render_mode: str | None = None):
        super().__init__(render_mode=render_mode)
        self.entry = entry
        self.value = value
        self.steps_left = after

    def step(self, action: ndarray) -> Step:
        obs, reward, *ends, info = super().step(action)
        given = {**obs, "reward": reward, **info}
        self.steps_left -= 1
        if self.steps_left < 0:
            given[self.entry] = self.value
        obs = {key: given[key] for key in KEYS}
        return obs, given["reward"], *ends, {"is_success": given["is_success"]}


class StrictActions(Walk):
    """Does not take an action outside of its box, whose bounds are not exact in binary."""

    def __init__(self, dtype: str, render_mode: str | None = None):
        super().__init__(render_mode=render_mode)
        self.action_space = Box(np.full(2, 0.3), np.full(2, 0.9), dtype=np.dtype(dtype))

    def step(self, action: ndarray) -> Step:
        assert self.action_space.contains(action), action
        return super().step(action)


class ChangesGoals(Walk):
    """Its reward function works in place on what it is given."""

    def compute_reward(self, achieved_goal: ndarray, desired_goal: ndarray, info: Any) -> ndarray:
        if achieved_goal is not self.position:
            achieved_goal -= desired_goal
            return -(np.linalg.norm(achieved_goal, axis=-1) > 0.5).astype(np.float32)
        return super().compute_reward(achieved_goal, desired_goal, info)


class Unreachable(Keyless):
    """Says nothing about success, and rewards nothing."""

    def compute_reward(self, achieved_goal: ndarray, desired_goal: ndarray, info: Any) -> ndarray:
        return -np.ones(achieved_goal.shape[:-1], np.float32)


class NanAtGoal(Walk):
    """Its reward function divides by the distance, which is 0 at the goal."""

    def compute_reward(self, achieved_goal: ndarray, desired_goal: ndarray, info: Any) -> ndarray:
        distance = np.linalg.norm(achieved_goal - desired_goal, axis=-1)
        with np.errstate(invalid="ignore"):
            return -(distance > 0.5).astype(np.float32) * (distance / distance)


class EndsNeedInfo(EndsOnSuccess):
    """Only a step knows where it ends."""

    def compute_terminated(self, achieved_goal: ndarray, desired_goal: ndarray, info: Any) -> bool:
        return info["is_success"]


class EndsAtGoal(Walk):
    """Ends where the goal is reached, and has no function that says so.

    Args:
        below: it ends for goals below this one only, as if by a crash that happens there.
    """

    def __init__(self, below: float = 9.0, render_mode: str | None = None):
        super().__init__(render_mode=render_mode)
        self.below = below

    def step(self, action: ndarray) -> Step:
        obs, reward, _, truncated, info = super().step(action)
        ends = reward == 0 and bool(self.goal[0] < self.below)
        return obs, reward, ends, truncated, info


class OtherSpace(Walk):
    """One entry of its observation has another space."""

    def __init__(self, key: str, shape: tuple[int, ...], render_mode: str | None = None):
        super().__init__(render_mode=render_mode)
        spaces = self.observation_space.spaces
        self.observation_space = Dict({**spaces, key: Box(0, 255, shape, np.uint8)})


class NoGoals(gym.Env):
    """Its observation is a vector."""

    observation_space = Box(-20.0, 20.0, (2,))
    action_space = Box(-1.0, 1.0, (2,))

    def __init__(self, render_mode: str | None = None):
        self.render_mode = render_mode


class TenfoldReward(gym.Wrapper):
    """Has a reward of its own, here and in compute_reward."""

    def step(self, action: ndarray) -> Step:
        obs, reward, *rest = self.env.step(action)
        return obs, 10 * reward, *rest

    def compute_reward(self, achieved_goal: ndarray, desired_goal: ndarray, info: Any) -> ndarray:
        return 10 * self.env.unwrapped.compute_reward(achieved_goal, desired_goal, info)


class Sites(gym.Env):
    """Go round a table of sites; the goal is a site's number, and rewards are looked up in it.

    Args:
        kind: of the space that holds a number.
    """

    TABLE = np.float32([[0, 0], [1, 0], [1, 1], [0, 1], [0, 2]])
    SPACES = {
        "Discrete": Discrete(5),
        "Box": Box(0, 4, (1,), np.int64),
        "MultiDiscrete": MultiDiscrete([5]),
        "MultiBinary": MultiBinary(1),  # the first two sites
    }

    def __init__(self, kind: str, render_mode: str | None = None):
        self.render_mode = render_mode
        self.space = self.SPACES[kind]
        self.sites = 2 if kind == "MultiBinary" else 5
        self.observation_space = Dict(dict.fromkeys(KEYS, self.space))
        self.action_space = Discrete(2, start=3)  # 3: stay, 4: on to the next one

    def reset(self, *, seed: Any = None, **options: Any) -> Reset:
        super().reset(seed=seed)
        self.site, self.goal = self.np_random.integers(self.sites, size=2)
        return self.observe(), {}

    def step(self, action: int) -> Step:
        assert action in (3, 4)
        self.site = (self.site + action - 3) % self.sites
        obs = self.observe()
        reward = float(self.compute_reward(obs["achieved_goal"], obs["desired_goal"], {}))
        return obs, reward, False, False, {"is_success": reward == 0}

    def compute_reward(self, achieved_goal: ndarray, desired_goal: ndarray, info: Any) -> ndarray:
        way = self.TABLE[achieved_goal] - self.TABLE[desired_goal]
        reward = -(np.linalg.norm(way, axis=-1) > 0.1).astype(np.float32)
        return reward[..., 0] if self.space.shape else reward

    def observe(self) -> Obs:
        numbers = self.site, self.site, self.goal
        return as_obs(*(np.full(self.space.shape, n, self.space.dtype) for n in numbers))


def with_another_reward(render_mode: str | None = None) -> gym.Env:
    return TenfoldReward(Walk(render_mode=render_mode))


for cls in list(vars().values()):
    if isinstance(cls, type) and cls.__module__ == __name__ and issubclass(cls, gym.Env):
        gym.register(f"{cls.__name__}-v0", cls, max_episode_steps=8)
gym.register("Endless-v0", Walk)
gym.register("WithAnotherReward-v0", with_another_reward, max_episode_steps=8)
