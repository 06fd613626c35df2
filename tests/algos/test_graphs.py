"""What a CUDA graph is to record never reads a value and never leaves the device.

Tried without a GPU on the device "meta", where tensors have shapes but no values: asking for a
value raises there, and every operation is looked at for a tensor of the CPU.
"""

import contextlib
from collections.abc import Callable, Iterator
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from algos import ddpg_her_reengage_many as many
from envs.many.graphs import graphed
from envs.many.grid import Run
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


def without_adam(optimizer: torch.optim.Adam) -> torch.optim.SGD:
    """In place of fused Adam, which is made for capture and has no "meta" form."""
    groups = [{"params": group["params"]} for group in optimizer.param_groups]
    return torch.optim.SGD(groups, lr=0.1)


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


ROBOTICS = dict(normalize=True, simultaneous_updates=True, clip_target=True, random_action_prob=0.3)


@pytest.mark.parametrize("alpha", [(0.0,), (0.1, "auto")], ids=str)
@pytest.mark.parametrize("how", [dict(), ROBOTICS], ids=["seek", "robotics"])
def test_an_episode_of_many_runs_and_its_updates_can_be_captured(
    alpha: tuple, how: dict, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: contextlib.nullcontext())
    env_id = "ContinuousSeek5-v0"
    args = many.Args(
        env_id=env_id, alpha=alpha, seeds=2, buffer_size=200, batch_size=16, hidden_dims=(8, 8),
        learning_starts=10, total_timesteps=100, **how,
    )  # fmt: skip
    task = inspect_for_device(partial(make, env_id, observe_achieved_goal=True))
    runs = [Run(weight, 0.1, seed) for weight in alpha for seed in (1, 2)]
    group = many.Group(args, task, runs, META)
    for optimizer in (group.agents.actor_optimizer, group.agents.critic_optimizer):
        optimizer.adam = without_adam(optimizer.adam)
    with captured():
        curves = group.play(args.learning_starts)
    assert {values.shape for values in curves.values()} == {(len(runs),)}


HAS_GPU = torch.cuda.is_available()


def parameters_of(env_id: str, steps: int, device: torch.device) -> Tensor:
    """Of two runs side by side after six episodes."""
    args = many.Args(
        env_id=env_id, alpha=(0.1, "auto"), seeds=1, batch_size=16, hidden_dims=(8, 8),
        learning_starts=steps, total_timesteps=10 * steps, eval_episodes=1,
    )  # fmt: skip
    task = inspect_for_device(partial(make, env_id, observe_achieved_goal=True))
    runs = [Run(weight, 0.001, 1) for weight in args.alpha]
    group = many.Group(args, task, runs, device)
    group.play(0)
    for _ in range(5):
        group.play_learning()
    return torch.cat([group.agents.actor.params, group.agents.critic.params], 1)


@pytest.mark.parametrize("env_id, steps", [("ContinuousSeek5-v0", 10), ("FetchReach-v4", 50)])
def test_graphs_of_many_runs_give_the_numbers_of_the_work_itself(
    env_id: str, steps: int, monkeypatch: pytest.MonkeyPatch
):
    device = torch.device("cuda" if HAS_GPU else "cpu")
    graphed = parameters_of(env_id, steps, device)
    monkeypatch.setattr(many, "graphed", lambda work, _: work)
    itself = parameters_of(env_id, steps, device)
    torch.testing.assert_close(graphed, itself, rtol=1e-4, atol=1e-6)


def test_on_a_gpu_work_is_done_twice_then_captured_and_every_call_replays_from_then_on(
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

    assert graphed(work, torch.device("cpu")) is work
    call = graphed(work, torch.device("cuda"))
    assert [call() for _ in range(5)] == [1, 2, 3, 3, 3]
    assert done == ["work", "work", "work", "replayed", "replayed", "replayed"]
