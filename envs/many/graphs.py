"""Work on a GPU as CUDA graphs: its kernels are recorded once, then started by one call."""

import warnings
from collections.abc import Callable
from typing import TypeVar

import torch

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
