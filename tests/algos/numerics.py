"""What the tests of the algorithms calculate with: agents in float64, and mathematics by hand."""

from collections.abc import Callable, Iterable
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

CPU = torch.device("cpu")


def flat(tensors: Iterable[Tensor]) -> Tensor:
    """All numbers of some tensors in one vector."""
    return torch.cat([tensor.reshape(-1) for tensor in tensors])


def gradient(loss: Tensor, tensors: Iterable[Tensor]) -> Tensor:
    """d loss / d tensors, flat, by automatic differentiation; 0 where there is none."""
    return flat(torch.autograd.grad(loss, list(tensors), materialize_grads=True))


def finite_differences(
    function: Callable[[], Tensor],
    tensors: Iterable[Tensor],
    step: float = 1e-6,
) -> Tensor:
    """Central differences of function() by every number of the tensors that it reads, flat."""
    slopes = []
    for tensor in tensors:
        numbers = tensor.data.view(-1)
        for i, number in enumerate(numbers.tolist()):
            numbers[i] = number + step
            above = function().item()
            numbers[i] = number - step
            below = function().item()
            numbers[i] = number
            slopes.append((above - below) / (2 * step))
    return torch.tensor(slopes, dtype=torch.float64)


def slopes(function: Callable[[Tensor], Tensor], x: Tensor, unit: Tensor | float = 1.0) -> Tensor:
    """Central differences by each column of x, (n, dim): (n,) -> (n, dim).

    A function of other tensors too stays differentiable by them. With `unit` (dim,) the slopes are
    by x / unit.
    """
    step = 1e-5
    columns = []
    for shift in step * unit * torch.eye(x.shape[1], dtype=x.dtype):
        columns.append((function(x + shift) - function(x - shift)) / (2 * step))
    return torch.stack(columns, dim=1)


class HandAdam:
    """Kingma & Ba (2015), algorithm 1, on a list of tensors."""

    def __init__(self, tensors: list[Tensor], learning_rate: float):
        self.tensors = tensors
        self.learning_rate = learning_rate
        self.first = [torch.zeros_like(tensor) for tensor in tensors]
        self.second = [torch.zeros_like(tensor) for tensor in tensors]
        self.t = 0

    def step(self, grads: Iterable[Tensor]) -> None:
        self.t += 1
        for i, grad in enumerate(grads):
            self.first[i] = 0.9 * self.first[i] + 0.1 * grad
            self.second[i] = 0.999 * self.second[i] + 0.001 * grad * grad
            mean = self.first[i] / (1 - 0.9**self.t)
            square = self.second[i] / (1 - 0.999**self.t)
            self.tensors[i].data -= self.learning_rate * mean / (square.sqrt() + 1e-8)


def numpy_net(net: nn.Sequential, x: np.ndarray) -> np.ndarray:
    """A multilayer perceptron with ReLUs, in numpy."""
    for layer in net[::2]:
        x = x @ layer.weight.detach().numpy().T + layer.bias.detach().numpy()
        if layer is not net[-1]:
            x = np.maximum(x, 0)
    return x


def make_agent(script: ModuleType, args: Any, **dims: Any) -> Any:
    """A script's agent in float64 with random networks, the targets unlike the online ones.

    Args:
        dims: obs_dim, goal_dim, action_dim, or what else the agent asks of environments.
    """
    agent = script.Agent(SimpleNamespace(**dims), args, CPU)
    for name, part in vars(agent).items():
        if isinstance(part, Tensor):
            part.data = part.data.double()
        if isinstance(part, nn.Module) and name != "auto_alpha":
            part.double()
            for layer in part.modules():
                if isinstance(layer, nn.Linear):
                    nn.init.xavier_uniform_(layer.weight)
                    nn.init.normal_(layer.bias, std=0.3)  # other than 0, so nothing is symmetric
    return agent
