"""Work on a GPU as CUDA graphs: its kernels are recorded once, then started by one call."""

import itertools
import math
from collections.abc import Callable
from functools import partial
from typing import TypeVar

import torch
from torch import Tensor

T = TypeVar("T")


def graphed(work: Callable[[], T], device: torch.device) -> Callable[[], T]:
    """`work` itself on a CPU; on a GPU its kernels as one CUDA graph, from the third call on.

    The first two calls are the warm-up that a capture needs, and count as work. What `work` returns
    stays where it is on the device: the next call overwrites it.
    """
    if device.type != "cuda":
        return work
    graph = torch.cuda.CUDAGraph()
    stream = torch.cuda.Stream()
    calls = itertools.count()
    captured: list[T] = []

    def call() -> T:
        number = next(calls)
        if number < 2:
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                result = work()
            torch.cuda.current_stream().wait_stream(stream)
            return result
        if number == 2:
            with torch.cuda.graph(graph, stream=stream):  # records, and executes nothing
                captured.append(work())
        graph.replay()
        return captured[0]

    return call


def graphed_by_length(
    work: Callable[[Tensor, int], T], device: torch.device
) -> Callable[[Tensor, int], T]:
    """`work` itself on a CPU; on a GPU a CUDA graph for each length, which is rounded up.

    For work on a tensor of one shape that says where to read, and on `length` things that are
    found there: a graph has fixed shapes, so `work` must be able to do with a few too many.
    """
    if device.type != "cuda":
        return work
    graphs: dict[int, tuple[Tensor, Callable[[], T]]] = {}

    def call(where: Tensor, length: int) -> T:
        step = max(4096, 2 ** (length.bit_length() - 3))  # an eighth to a quarter: few graphs
        length = step * math.ceil(length / step)
        if length not in graphs:
            read = where.to(device)
            graphs[length] = read, graphed(partial(work, read, length), device)
        read, graph = graphs[length]
        read.copy_(where)
        return graph()

    return call
