"""An environment that records what is done with it, and a script whose main is observed.

Registers Spy-v0 (actions are vectors), SpyDiscrete-v0 and SpySets-v0 (the goal is a set of goals).
"""

import ast
import importlib.util
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium.spaces import Box, Dict, Discrete
from numpy import ndarray
from specs import ROOT, SPECS
from torch import Tensor

from envs.wrappers import KEYS, Obs, Step

TIME_LIMIT = 6
LOW, HIGH = -2.0, 3.0  # rewards unlike those of every other environment


@dataclass
class Episode:
    """All that happened from one reset to the next."""

    seed: int | None
    begins: int  # steps that this copy had made before
    goal: ndarray
    obs: list[Obs] = field(default_factory=list)  # one more than steps
    actions: list[ndarray] = field(default_factory=list)
    rewards: list[float] = field(default_factory=list)
    terminated: list[bool] = field(default_factory=list)
    success: list[bool] = field(default_factory=list)

    def is_over(self, time_limit: int = TIME_LIMIT) -> bool:
        return len(self.actions) == time_limit or any(self.terminated)


class Spy(gym.Env):
    """Walk in the plane from the origin by at most 1 a step and direction.

    Beyond x = 2 the walker falls: a true end, whatever the goal. The observation is far from 0, so
    that it matters whether a network sees it normalised.

    Args:
        reward: "sparse" (HIGH within 1 of the goal, else LOW), "dense" (minus the distance) or
            "sets" (1 where the rounded position is one of two goals, else 0).
        discrete: whether an action is the number of a direction.
    """

    def __init__(
        self, reward: str = "sparse", discrete: bool = False, render_mode: str | None = None
    ):
        self.reward = reward
        self.discrete = discrete
        self.render_mode = render_mode
        self.n_max = 2
        goal_dim = 3 * self.n_max if reward == "sets" else 2
        anywhere = Box(-99.0, 99.0, (2,))
        spaces = dict.fromkeys(KEYS, anywhere) | {"desired_goal": Box(-99.0, 99.0, (goal_dim,))}
        self.observation_space = Dict(spaces)
        self.action_space = Discrete(4) if discrete else Box(-1.0, 1.0, (2,))
        self.episodes: list[Episode] = []
        self.steps = 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Obs, dict]:
        super().reset(seed=seed)
        self.position = np.zeros(2, np.float32)
        goal = self.np_random.uniform(-2, 2, 2)
        if self.reward == "sets":
            cells = self.np_random.choice(25, 2, replace=False)
            slots = np.stack([np.ones(2), cells // 5 - 2, cells % 5 - 2], axis=1)
            goal = slots.reshape(-1)
        self.goal = goal.astype(np.float32)
        self.episodes.append(Episode(seed, self.steps, self.goal, [self.observe()]))
        return self.observe(), {}

    def step(self, action: ndarray) -> Step:
        move = np.float32([[1, 0], [-1, 0], [0, 1], [0, -1]])[action] if self.discrete else action
        self.position = self.position + move
        reward = float(self.compute_reward(self.position, self.goal, {}))
        success = reward == HIGH or reward == 1
        terminated = bool(self.position[0] > 2)
        self.steps += 1
        episode = self.episodes[-1]
        episode.obs.append(self.observe())
        episode.actions.append(np.copy(action))
        episode.rewards.append(reward)
        episode.terminated.append(terminated)
        episode.success.append(success)
        return self.observe(), reward, terminated, False, {"is_success": success}

    def compute_reward(self, achieved_goal: ndarray, desired_goal: ndarray, info: Any) -> ndarray:
        if self.reward == "sets":
            return self.compute_item_rewards(achieved_goal, desired_goal).sum(-1)
        distance = np.linalg.norm(achieved_goal - desired_goal, axis=-1)
        if self.reward == "dense":
            return -distance
        return np.where(distance < 1, np.float32(HIGH), np.float32(LOW))

    def compute_reward_gradient(
        self, achieved_goal: ndarray, desired_goal: ndarray, info: Any
    ) -> ndarray:
        difference = achieved_goal - desired_goal
        distance = np.linalg.norm(difference, axis=-1, keepdims=True)
        return difference / np.maximum(distance, 1e-9)

    def compute_item_rewards(self, achieved_goal: ndarray, desired_goal: ndarray) -> ndarray:
        slots = desired_goal.reshape(*desired_goal.shape[:-1], -1, 3)
        is_equal = slots[..., 1:] == np.rint(achieved_goal)[..., None, :]
        return (slots[..., 0] * is_equal.all(-1)).astype(np.float32)

    def observe(self) -> Obs:
        return {
            "observation": 5 + 3 * self.position,
            "achieved_goal": self.position.copy(),
            "desired_goal": self.goal.copy(),
        }


gym.register("Spy-v0", Spy, max_episode_steps=TIME_LIMIT)
gym.register("SpyDiscrete-v0", Spy, max_episode_steps=TIME_LIMIT, kwargs={"discrete": True})
gym.register("SpySets-v0", Spy, max_episode_steps=TIME_LIMIT, kwargs={"reward": "sets"})


@dataclass
class Act:
    """A call of a policy."""

    network: str
    how: dict[str, Any]
    is_evaluation: bool
    step: int  # environment steps before it
    obs: Obs
    seen: Tensor | None  # by the first layer
    statistics: dict[str, Tensor]  # of the normaliser
    action: ndarray


@dataclass
class Update:
    """A gradient step."""

    step: int  # environment steps before it
    batch: Any
    reward_grad: Tensor | None
    curves: dict[str, Tensor]
    online: dict[str, dict[str, Tensor]]  # networks after it


@dataclass
class Watched:
    """What a script did between its first line and its last."""

    script: ModuleType
    names: dict[str, Any]  # of its main: args, agent, buffer ...
    initial: dict[str, dict[str, Tensor]] = field(default_factory=dict)  # networks before all
    acts: list[Act] = field(default_factory=list)
    updates: list[Update] = field(default_factory=list)
    is_evaluating: bool = False

    def __getattr__(self, name: str) -> Any:
        return self.__dict__["names"][name]

    def training_spies(self) -> list[Spy]:
        return [env.unwrapped for env in self.envs.envs]

    def evaluation_spies(self) -> list[Spy]:
        return [env.unwrapped for env in self.eval_envs.envs]

    def finished_episodes(self) -> list[Episode]:
        """Of training, in the order in which they ended."""
        limit = self.envs.max_episode_steps
        finished = []
        for number, spy in enumerate(self.training_spies()):
            for episode in spy.episodes:
                if episode.is_over(limit):
                    finished.append((episode.begins + len(episode.actions), number, episode))
        return [episode for *_, episode in sorted(finished, key=lambda entry: entry[:2])]


def weights(agent: Any, names: Any) -> dict[str, dict[str, Tensor]]:
    """A copy of the weights of an agent's networks."""
    found = {}
    for name in names:
        parameters = getattr(agent, name).named_parameters()
        found[name] = {key: value.detach().clone() for key, value in parameters}
    return found


def load_script(script: str) -> ModuleType:
    """A script as a fresh module, so that its functions can be replaced."""
    path = ROOT / "algos" / f"{script}.py"
    found = importlib.util.spec_from_file_location(f"watched.{script}", path)
    module = importlib.util.module_from_spec(found)
    sys.modules[module.__name__] = module  # where a class looks its file up
    found.loader.exec_module(module)
    return module


def run_main(module: ModuleType, flags: str, run_dir: Path) -> None:
    """The main of a script, in this process and in the module's own namespace."""
    source = Path(module.__file__)
    main = ast.parse(source.read_text()).body[-1]
    assert isinstance(main, ast.If), f"{source.name} does not end with its main"
    code = compile(ast.Module(main.body, type_ignores=[]), str(source), "exec")
    command = [str(source), *flags.split(), "--run-dir", str(run_dir)]
    with as_a_process_of_its_own(command):
        exec(code, vars(module))


def watch(script: str, flags: str, run_dir: Path) -> Watched:
    """Runs a script's main in this process and records what it does."""
    module = load_script(script)
    spec = SPECS[script]
    names = vars(module)
    notes = Watched(module, names)
    make_agent, make_step, evaluate = module.Agent, module.update, module.evaluate_and_save

    def noted_agent(*arguments: Any) -> Any:
        agent = make_agent(*arguments)
        notes.initial = weights(agent, [*spec.networks, *spec.targets])
        for name in {spec.policy, *spec.targets}:
            if hasattr(getattr(agent, name), "act"):
                listen(notes, agent, name)
        return agent

    def noted_update(agent: Any, batch: Any, args: Any, *more: Any) -> dict[str, Tensor]:
        curves = make_step(agent, batch, args, *more)
        online = weights(agent, spec.networks)
        step = names["count"].global_step
        notes.updates.append(Update(step, batch, *(more or [None]), curves, online))
        return curves

    def noted_evaluation(*arguments: Any) -> None:
        notes.is_evaluating = True
        evaluate(*arguments)
        notes.is_evaluating = False

    names.update(Agent=noted_agent, update=noted_update, evaluate_and_save=noted_evaluation)
    run_main(module, flags, run_dir)
    return notes


def listen(notes: Watched, agent: Any, name: str) -> None:
    """Records each call of a network's `act`."""
    network = getattr(agent, name)
    act = network.act
    seen = []
    first_layer = getattr(network, "net", [None])[0]
    if first_layer is not None:
        first_layer.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))

    def noted(obs: Obs, *values: Any, **how: Any) -> ndarray:
        statistics = {}
        if hasattr(agent, "normalizer"):
            for key, value in agent.normalizer.named_buffers():
                statistics[key] = value.clone()
        seen.clear()
        action = act(obs, *values, **how)
        step = notes.count.global_step if "count" in notes.names else 0
        called = dict(zip(("temperature",), values, strict=False)) | how
        last = seen[0].clone() if seen else None
        note = Act(name, called, notes.is_evaluating, step, obs, last, statistics, action.copy())
        notes.acts.append(note)
        return action

    network.act = noted


@contextmanager
def as_a_process_of_its_own(command: list[str]) -> Iterator[None]:
    """Restores what a script sets for its whole process."""
    argv, sys.argv = sys.argv, command
    threads = torch.get_num_threads()
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        sys.argv = argv
        torch.set_num_threads(threads)
        torch.set_float32_matmul_precision("highest")
        torch.set_flush_denormal(False)
        for number, handler in handlers.items():
            signal.signal(number, handler)
