"""What works on this machine's GPU, and how fast: one command, under eight minutes.

    python benchmark/speed/gpu.py            exit code 1 if a check fails
    python benchmark/speed/gpu.py --small    whether this file works, on a CPU

Prints a line as each check or measurement is done, so a call that is cut off still tells something.
Checks come first: gradients compiled and in CUDA graphs beside the same gradients without (largest
difference over the largest entry), and many runs beside the same runs on the CPU. Then speeds of
the scripts at the paper's sizes, from the end of their warm-up on.
"""

import argparse
import contextlib
import io
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import ModuleType, SimpleNamespace

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from algos import ddpg_her_reengage as plain
from algos import ddpg_her_reengage_many as many
from algos import ddpg_multi_reengage as multi
from benchmark.speed.throughput import run_script
from envs import make, make_vector, run
from envs.many.grid import Run
from envs.many.on_device import inspect_for_device

CPU = torch.device("cpu")
CLOSE = 1e-4  # of the largest entry: gradients whose sums are taken in another order
NEAR = 0.02  # parameters after 40 updates, each of which moves them by less than 0.005
SECONDS = 75  # after which a script's run is given up

failed: list[str] = []


def line(name: str, measure: Callable[[], str]) -> None:
    """Prints what a measurement says; one that fails does not stop the others."""
    begin = time.perf_counter()
    try:
        result = measure()
    except Exception as error:  # the others still tell something
        failed.append(name)
        result = f"FAILED: {type(error).__name__}: {' '.join(str(error).split())[:120]}"
    print(f"{name:<66} {result:<28} {time.perf_counter() - begin:6.1f} s", flush=True)


def close(found: list[Tensor], expected: list[Tensor], limit: float = CLOSE) -> str:
    """The largest difference over the largest entry. AssertionError if it is above the limit."""
    pairs = zip(found, expected, strict=True)
    largest = max(tensor.abs().max().item() for tensor in expected)
    difference = max((a.cpu() - b.cpu()).abs().max().item() for a, b in pairs) / largest
    assert difference < limit, f"{difference:.1e} of the largest entry"
    return f"equal to {difference:.0e}"


@contextlib.contextmanager
def compiled(script: ModuleType, name: str, mode: str | None = None) -> Iterator[None]:
    """A function of a script in its compiled form; "reduce-overhead" replays CUDA graphs."""
    function = getattr(script, name)
    setattr(script, name, run.compiled(function, mode))
    said = io.StringIO()
    try:
        with contextlib.redirect_stdout(said):
            yield
    finally:
        setattr(script, name, function)  # the next line measures it as it is
    assert not said.getvalue(), said.getvalue()  # why it was not compiled


def make_plain(device: torch.device, size: int) -> tuple[plain.Agent, plain.Batch, plain.Args]:
    """What an update at d = 20 takes."""
    torch.manual_seed(1)
    args = plain.Args(hidden_dims=(size, size), c_low=-1.0)
    dims = dict(obs=40, goal=20, action=20, next_obs=40, next_achieved_goal=20)
    batch = {name: torch.randn(size, dim, device=device) for name, dim in dims.items()}
    zeros = torch.zeros(size, device=device)
    batch = plain.Batch(**batch, reward=zeros - 1, terminated=zeros)
    agent = plain.Agent(SimpleNamespace(obs_dim=40, goal_dim=20, action_dim=20), args, device)
    return agent, batch, args


def check_plain(device: torch.device, size: int, mode: str | None = None) -> str:
    """The gradient of Eq. (9) at d = 20, compiled, beside the script's own."""
    agent, *inputs = make_plain(device, size)
    inputs = plain.reengage_critic_loss, agent.critic_params, agent, *inputs, None
    plain.backward(*inputs)
    expected = [parameter.grad for parameter in agent.critic_params]
    with compiled(plain, "backward", mode):
        for _ in range(4):  # a CUDA graph is warmed up, captured, and then replayed
            agent.zero_grad()
            plain.backward(*inputs)
    return close([parameter.grad for parameter in agent.critic_params], expected)


def speed_of_plain(device: torch.device, size: int, updates: int, mode: str) -> str:
    """Updates per second of one batch, without a buffer or an environment."""
    inputs = make_plain(device, size)
    if mode == "eager":
        how = contextlib.nullcontext()
    else:
        how = compiled(plain, "backward", mode)
    with how:
        for _ in range(4):
            plain.update(*inputs, None)["losses/value"].item()  # waits for the device
        begin = time.perf_counter()
        for _ in range(updates):
            curves = plain.update(*inputs, None)
        curves["losses/value"].item()
    return f"{updates / (time.perf_counter() - begin):.0f} updates/s"


def check_multi(device: torch.device, size: int) -> str:
    """Multi-ReenGAGE's gradients on sets of up to 200 goals, compiled, beside the script's own."""
    torch.manual_seed(1)
    args = multi.Args(n_max=200, hidden_dim=size)
    envs = make_vector(partial(make, "DriveSeek-v0"), size, seed=1)
    agent = multi.Agent(envs, args, device)
    goals = multi.pack(envs.reset()["desired_goal"], device)
    zeros = torch.zeros(size, device=device)
    batch = multi.GoalSetBatch(
        state=torch.randn(size, 6, device=device), goals=goals,
        action=torch.randn(size, 1, device=device), reward=zeros, item_reward=0.1 * goals.gate,
        next_state=torch.randn(size, 6, device=device), terminated=zeros,
    )  # fmt: skip
    params = agent.critic_params + agent.actor_params
    multi.backward_both(agent, batch, args)
    expected = [parameter.grad for parameter in params]
    agent.zero_grad()
    with compiled(multi, "backward_both"):
        multi.backward_both(agent, batch, args)
    return close([parameter.grad for parameter in params], expected)


def make_group(device: torch.device, runs: int, size: int, precision: str) -> many.Group:
    """Runs of ContinuousSeek, d = 20, with their first thousand steps."""
    args = many.Args(
        env_id="ContinuousSeek20-v0", batch_size=size, hidden_dims=(size, size),
        total_timesteps=20_000, eval_episodes=2, matmul_precision=precision,
    )  # fmt: skip
    task = inspect_for_device(partial(make, args.env_id, observe_achieved_goal=True))
    torch.set_float32_matmul_precision(precision)
    group = many.Group(args, task, [Run(0.2, 5e-4, seed) for seed in range(runs)], device)
    for global_step in range(0, 1000 - task.max_steps, task.max_steps):
        group.play(global_step)
    return group


def check_many(device: torch.device, size: int, episodes: int) -> str:
    """The critics of three runs after so many episodes of updates, beside the CPU's."""
    params = []
    for place in (device, CPU):
        group = make_group(place, 3, size, "highest")
        for _ in range(episodes):
            group.play_learning()
        params.append(group.agents.critic.params.detach())
    return close(params[:1], params[1:], NEAR)


def speed_of_many(device: torch.device, runs: int, size: int, episodes: int, precision: str) -> str:
    """Updates per second of all runs together, from the fifth episode of updates on."""
    group = make_group(device, runs, size, precision)
    for _ in range(4):
        group.play_learning()["losses/value"].tolist()  # waits for the device
    begin = time.perf_counter()
    for _ in range(episodes):
        curves = group.play_learning()
    curves["losses/value"].tolist()
    updates = runs * episodes * group.task.max_steps
    return f"{updates / (time.perf_counter() - begin):.0f} updates/s"


def speed_of(script: str, start: int, steps: int, *flags: str) -> str:
    every = start or steps
    rate = run_script(script, start, start + steps, every, *flags, timeout=SECONDS)
    return f"{rate:.0f} steps/s, {steps / rate:.1f} s"


def main() -> None:
    how = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=how)
    parser.add_argument("--small", action="store_true", help="tiny sizes, on the CPU")
    args = parser.parse_args()
    has_gpu = torch.cuda.is_available() and not args.small
    device = torch.device("cuda" if has_gpu else "cpu")
    print(torch.cuda.get_device_name() if has_gpu else "CPU", "torch", torch.__version__)
    size = 16 if args.small else 256
    line("term, compiled", partial(check_plain, device, size))
    line("term, compiled, CUDA graphs", partial(check_plain, device, size, "reduce-overhead"))
    line("Multi-ReenGAGE, compiled", partial(check_multi, device, size))
    # The first two episodes of a CUDA graph are its warm-up; the third is captured, and replayed
    for name, episodes in (("an episode", 1), ("CUDA graphs", 4)):
        line(f"many, {name}, beside the CPU", partial(check_many, device, size, episodes))
    many_compiled = compiled(many, "gradient_rows")
    line("many, compiled", partial(many_compiled(check_many), device, size, 4))

    updates = 5 if args.small else 500
    for name, mode in (
        ("as it is", "eager"),
        ("compiled", "default"),
        ("compiled, CUDA graphs", "reduce-overhead"),
    ):
        line(f"update, {name}", partial(speed_of_plain, device, size, updates, mode))

    episodes = 2 if args.small else 100
    for runs in (2,) if args.small else (8, 40, 160):
        for precision in ("highest", "high", "medium"):
            name = f"many, {runs} at once, d = 20, {precision}"
            line(name, partial(speed_of_many, device, runs, size, episodes, precision))
        name = f"many, {runs} at once, d = 20, high, compiled"
        line(name, partial(many_compiled(speed_of_many), device, runs, size, episodes, "high"))

    start, steps, epoch = (100, 20, 50 * 38) if args.small else (1000, 1000, 95_000)
    common = f"--batch-size {size} --learning-starts {start - 20} --num-threads 1"
    seek = f"--env-id ContinuousSeek20-v0 {common}"
    sets = common + (" --hidden-dim 16" if args.small else "")
    hand = "--env-id HandReach-v3" + (" --hidden-dims 8" if args.small else "")
    for script, first, more, flags in (
        ("ddpg_her.py", start, steps, seek),
        ("ddpg_her_reengage.py", start, steps, f"{seek} --alpha 0.2"),
        ("ddpg_her_reengage.py", start, steps, f"{seek} --alpha 0.2 --compile"),
        ("ddpg_multi_reengage.py", start, steps, sets),
        ("ddpg_multi_reengage.py", start, steps, f"{sets} --compile"),
        ("ddpg_her_reengage.py", 0, epoch, hand),  # an epoch, on all cores
    ):
        words = flags.split() + ([] if has_gpu else ["--no-cuda"])
        name = f"{script} {flags.replace(common, '')}"
        line(name, partial(speed_of, script, first, more, *words))
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
