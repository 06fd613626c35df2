"""What a CUDA graph is to record never reads a value and never leaves the device.

Tried without a GPU on the device "meta", where tensors have shapes but no values: asking for a
value raises there, and every operation is looked at for a tensor of the CPU.
"""

import contextlib
from collections.abc import Callable, Iterator
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from conftest import vector_of
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from algos import ddpg_her_reengage_many, ddpg_multi_reengage
from envs.many import grid as many_runs
from envs.many.graphs import graphed, graphed_by_length, rounded_up
from envs.many.on_device import inspect_for_device
from envs.registry import make

META = torch.device("meta")


FROM_THE_HOST = {torch.tensor, torch.as_tensor, torch.from_numpy, Tensor.new_tensor}


class FromTheHost(TorchFunctionMode):
    """Refuses a tensor that is made of Python's or NumPy's numbers."""

    def __torch_function__(
        self, function: Callable, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        assert function not in FROM_THE_HOST, f"{function} copies from the CPU"
        return function(*args, **kwargs or {})


class OnTheDevice(TorchDispatchMode):
    """Refuses an operation that reads or writes a tensor of another device than "meta"."""

    def __torch_dispatch__(
        self, operation: Callable, types: Any, args: tuple, kwargs: dict | None = None
    ) -> Any:
        result = operation(*args, **kwargs or {})
        for value in tree_leaves((args, kwargs, result)):
            if isinstance(value, Tensor) and value.device != META:
                raise AssertionError(f"{operation} touches {value.device}")
        return result


@contextlib.contextmanager
def captured() -> Iterator[None]:
    with OnTheDevice(), FromTheHost():
        yield


def without_adam(*optimizers: torch.optim.Adam) -> list[torch.optim.SGD]:
    """In place of fused Adam, which is made for capture and has no "meta" form."""
    groups = [[{"params": group["params"]} for group in each.param_groups] for each in optimizers]
    return [torch.optim.SGD(group, lr=0.1) for group in groups]


def test_the_check_notices_a_value_that_is_read_and_a_tensor_of_the_cpu():
    x = torch.zeros(3, device=META)
    with captured():
        (x + 1).cumsum(0)
        with pytest.raises(RuntimeError):
            x.sum().item()
        with pytest.raises(NotImplementedError):
            x.nonzero()
        with pytest.raises(AssertionError, match="from the CPU"):
            x.new_tensor([1.0, 2.0, 3.0])
        with pytest.raises(AssertionError, match="touches cpu"):
            x.copy_(torch.zeros(3))


@pytest.mark.parametrize(
    "how",
    [
        dict(),
        dict(alpha=0),
        dict(alpha="auto"),
        dict(share_encoder=False),
        dict(policy_gates=False),
        dict(encoder="cnn"),
    ],
    ids=str,
)
def test_a_multi_reengage_update_can_be_captured(how: dict, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch, "autocast", lambda *_: contextlib.nullcontext())
    script = ddpg_multi_reengage
    args = script.Args(n_max=20, hidden_dim=8, buffer_size=400, **how)
    envs = vector_of("DriveSeek20-v0", 1, seed=0)
    buffer = script.GoalSetReplayBuffer(envs, args, np.random.default_rng(0), META)
    agent = script.Agent(envs, args, META)
    optimizers = without_adam(agent.actor_optimizer, agent.critic_optimizer)
    agent.actor_optimizer, agent.critic_optimizer = optimizers
    where = torch.zeros(2, 7, dtype=torch.int64, device=META)
    with captured():
        info = script.learn(agent, buffer, args, where, length=4096)
    assert info["value_loss"].shape == () and not info["value_loss"].requires_grad
    assert all(parameter.grad is not None for parameter in agent.critic_params)


ROBOTICS = dict(normalize=True, simultaneous_updates=True, clip_target=True, random_action_prob=0.3)


@pytest.mark.parametrize("alpha", [(0.0,), (0.1, "auto")], ids=str)
@pytest.mark.parametrize("how", [dict(), ROBOTICS], ids=["seek", "robotics"])
def test_an_episode_of_many_runs_and_its_updates_can_be_captured(
    alpha: tuple, how: dict, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(torch, "autocast", lambda *_: contextlib.nullcontext())
    script = ddpg_her_reengage_many
    env_id = "ContinuousSeek5-v0"
    args = script.Args(
        env_id=env_id, alpha=alpha, seeds=2, buffer_size=200, batch_size=16, hidden_dims=(8, 8),
        learning_starts=10, total_timesteps=100, **how,
    )  # fmt: skip
    task = inspect_for_device(partial(make, env_id, observe_achieved_goal=True))
    runs = [many_runs.Run(weight, 0.1, seed) for weight in alpha for seed in (1, 2)]
    with torch.no_grad():
        group = script.Group(args, task, runs, META)
        networks = group.networks
        optimizers = without_adam(networks.actor_optimizer, networks.critic_optimizer)
        networks.actor_optimizer, networks.critic_optimizer = optimizers
        with captured():
            group.play(args.learning_starts)


def losses_of(how: dict, device: torch.device, graph: Callable) -> list[float]:
    """Eight updates of Multi-ReenGAGE on goal sets, filled up to one or the other length."""
    torch.manual_seed(0)
    script = ddpg_multi_reengage
    args = script.Args(n_max=20, hidden_dim=8, buffer_size=400, **how)
    envs = vector_of("DriveSeek20-v0", 1, seed=0)
    rng = np.random.default_rng(0)
    buffer = script.GoalSetReplayBuffer(envs, args, rng, device)
    for _ in range(5):
        obs = envs.reset()
        step = {"action": np.zeros(1), "reward": 1.0, "terminated": 0.0}
        step["state"] = script.state_of(obs)[0]
        buffer.add(step, obs["desired_goal"][0], step["state"], True)
    agent = script.Agent(envs, args, device)
    learn = graph(partial(script.learn, agent, buffer, args), device)
    losses = []
    for i in range(8):
        where, present = buffer.choose(512)
        info = learn(where.to(device), present + 4096 * (i % 2))
        losses.append(info["value_loss"].item())
    return losses


HAS_GPU = torch.cuda.is_available()
CNN = pytest.param({"encoder": "cnn"}, marks=pytest.mark.skipif(not HAS_GPU, reason="slow there"))


@pytest.mark.parametrize("how", [{}, {"alpha": "auto"}, CNN], ids=str)
def test_graphs_of_two_lengths_give_the_numbers_of_the_work_itself(how: dict):
    device = torch.device("cuda" if HAS_GPU else "cpu")
    itself = losses_of(how, device, lambda work, _: work)
    assert itself[-1] < itself[0]
    graphed = losses_of(how, device, graphed_by_length)
    torch.testing.assert_close(graphed, itself, rtol=1e-4, atol=0)


def parameters_of(env_id: str, steps: int, device: torch.device) -> Tensor:
    """Of two runs side by side after six episodes."""
    script = ddpg_her_reengage_many
    args = script.Args(
        env_id=env_id, alpha=(0.1, "auto"), seeds=1, batch_size=16, hidden_dims=(8, 8),
        learning_starts=steps, total_timesteps=10 * steps, eval_episodes=1,
    )  # fmt: skip
    task = inspect_for_device(partial(make, env_id, observe_achieved_goal=True))
    runs = [many_runs.Run(weight, 0.001, 1) for weight in args.alpha]
    with torch.no_grad():
        group = script.Group(args, task, runs, device)
        group.play(0)
        for _ in range(5):
            group.play_learning()
    return group.networks.online


@pytest.mark.parametrize("env_id, steps", [("ContinuousSeek5-v0", 10), ("FetchReach-v4", 50)])
def test_graphs_of_many_runs_give_the_numbers_of_the_work_itself(
    env_id: str, steps: int, monkeypatch: pytest.MonkeyPatch
):
    device = torch.device("cuda" if HAS_GPU else "cpu")
    graphed = parameters_of(env_id, steps, device)
    monkeypatch.setattr(ddpg_her_reengage_many, "graphed", lambda work, _: work)
    itself = parameters_of(env_id, steps, device)
    torch.testing.assert_close(graphed, itself, rtol=1e-4, atol=1e-6)


def test_on_a_gpu_the_parameters_of_every_network_begin_at_a_multiple_of_128_bytes():
    dims = (15, 256, 256, 5)
    room, size = ddpg_her_reengage_many.room, ddpg_her_reengage_many.size
    assert room(dims, torch.device("cpu")) == size(dims)
    assert size(dims) < room(dims, torch.device("cuda")) < size(dims) + 32
    assert room(dims, torch.device("cuda")) % 32 == 0


def test_a_length_is_rounded_up_by_little_to_one_of_few():
    lengths = range(1, 60_000)
    for length in lengths:
        assert 0 <= rounded_up(length) - length < max(4096, length / 4)
    assert len(set(map(rounded_up, lengths))) <= 14
    assert len({rounded_up(length) for length in range(400_000, 500_000, 10)}) <= 3


def test_work_is_done_twice_then_captured_and_every_call_replays_from_then_on(
    monkeypatch: pytest.MonkeyPatch,
):
    done = []
    stream = SimpleNamespace(wait_stream=lambda _: None)
    graph = SimpleNamespace(replay=lambda: done.append("replayed"))
    monkeypatch.setattr(torch.cuda, "CUDAGraph", lambda: graph)
    monkeypatch.setattr(torch.cuda, "Stream", lambda: stream)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: stream)
    monkeypatch.setattr(torch.cuda, "stream", lambda _: contextlib.nullcontext())
    monkeypatch.setattr(torch.cuda, "graph", lambda *_, **__: contextlib.nullcontext())

    def work() -> int:
        done.append("work")
        return len(done)

    call = graphed(work, torch.device("cuda"))
    assert [call() for _ in range(5)] == [1, 2, 3, 3, 3]
    assert done == ["work", "work", "work", "replayed", "replayed", "replayed"]


def test_without_a_gpu_the_work_itself_is_called():
    cpu = torch.device("cpu")

    def work(*_: Any) -> int:
        return 7

    assert graphed(work, cpu) is work and graphed_by_length(work, cpu) is work
