"""Work on a GPU as CUDA graphs: its kernels are recorded once, then started by one call."""

import math
import warnings
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
    calls = 0
    result: T

    def call() -> T:
        nonlocal calls, result
        calls += 1
        if calls <= 2:
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream), warnings.catch_warnings():
                warnings.filterwarnings("ignore", ".*capturable=True")  # not captured, as yet
                result = work()
            torch.cuda.current_stream().wait_stream(stream)
            return result
        if calls == 3:
            with torch.cuda.graph(graph, stream=stream):  # records, and executes nothing
                result = work()
        graph.replay()
        return result

    return call


def rounded_up(length: int) -> int:
    """To one of a few lengths: multiples of 4096, of an eighth to a quarter of large ones."""
    step = max(4096, 2 ** (length.bit_length() - 3))
    return step * math.ceil(length / step)


def graphed_by_length(
    work: Callable[[Tensor, int], T], device: torch.device
) -> Callable[[Tensor, int], T]:
    """`work` itself on a CPU; on a GPU a CUDA graph for each length, which is `rounded_up`.

    For work on a tensor of one shape that says where to read, and on `length` things that are
    found there: a graph has fixed shapes, so `work` must be able to do with a few too many.
    """
    if device.type != "cuda":
        return work
    graphs: dict[int, tuple[Tensor, Callable[[], T]]] = {}

    def call(where: Tensor, length: int) -> T:
        length = rounded_up(length)
        if length not in graphs:
            read = where.to(device)
            graphs[length] = read, graphed(partial(work, read, length), device)
        read, graph = graphs[length]
        read.copy_(where)
        return graph()

    return call
