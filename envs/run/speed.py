"""PyTorch's threads, precision and compiler."""

from collections.abc import Callable
from typing import Any

import torch
import torch._dynamo

from envs.messages import say
from envs.run.flags import RunArgs


def set_up_torch(args: RunArgs) -> torch.device:
    """Sets threads and precision; returns the device."""
    torch.set_num_threads(args.num_threads)
    torch.set_float32_matmul_precision(args.matmul_precision)
    torch.set_flush_denormal(True)  # denormal numbers are up to a hundred times slower
    return torch.device("cuda" if args.cuda and torch.cuda.is_available() else "cpu")


def autocast(args: RunArgs, device: torch.device) -> torch.autocast:
    """bfloat16 for the networks of a loss with --matmul-precision medium; else it does nothing."""
    is_on = args.matmul_precision == "medium"
    # Casts are not cached: a cached one would belong to the first loss's graph
    return torch.autocast(device.type, torch.bfloat16, is_on, cache_enabled=False)


def compiled(function: Callable, mode: str | None = None) -> Callable:
    """`function` compiled as a whole, including the gradients taken in it, at its first call.

    If that fails, for lack of a C++ compiler or because a part breaks the graph (which would make a
    second derivative fail), it says why, once, and calls `function` itself. With the mode
    "reduce-overhead" a GPU replays CUDA graphs: each call overwrites what the last one returned.
    """
    torch._dynamo.config.trace_autograd_ops = True
    fast = torch.compile(function, mode=mode, fullgraph=True, dynamic=False)

    def call(*inputs: Any) -> Any:
        nonlocal fast
        try:
            return fast(*inputs)
        except torch._dynamo.exc.FailOnRecompileLimitHit:
            reason = "a loss reads a Python number that keeps changing; make it a tensor."
        except torch._dynamo.exc.TorchDynamoException as error:
            reason = str(error).strip().splitlines()[0]
        say(f"--compile is not possible here, so the run goes on without: {reason}")
        fast = function
        return fast(*inputs)

    return call
