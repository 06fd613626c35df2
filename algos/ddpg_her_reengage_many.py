"""Hundreds of runs of ReenGAGE on DDPG + HER at once, on one device: seeds x alphas x learning rates.

`ddpg_her_reengage.py` is the reference: one run, the loss as the paper writes it. This file is for grids
and for many seeds. Each run has networks, replay buffer, normaliser, environments and random numbers of
its own; the arithmetic of all of them is one batch, (run, batch, width).

    critic, Eq. (9):  (q - y)^2 + alpha 1[R = -1] ||grad_g q - grad_g y||^2,   y the target
    A ReLU network with its masks held still is linear, so with
        c_b = 2 (q_b - y_b) / B,      r_b = 2 alpha 1[R_b = -1] (grad_g q_b - grad_g y_b) / (B d)
    the gradient of both terms is that of the masked linear network at the input c_b x_b + (r_b at the
    goal's place), with its biases scaled by c_b. The term costs one more forward pass, and no second
    backward pass.

    python algos/ddpg_her_reengage_many.py --env-id ContinuousSeek5-v0 --seeds 20 --alpha 0 0.1 0.2 0.3 \\
        --learning-rate 0.0005 0.001 --run-dir runs/grid
    python benchmark/plot.py grid.png "alpha 0.1=runs/grid/alpha0.1_lr0.001_*/metrics.csv"

On a GPU a whole episode of ContinuousSeek and its updates are one CUDA graph, and so is a round of updates
of Fetch and HandReach, whose physics steps on the CPU's cores. Called again it trains what is missing.
"""

import csv
import functools
import hashlib
import itertools
import json
import math
import os
import re
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal, NamedTuple

import gymnasium as gym
import numpy as np
import torch
import tyro
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from envs import VectorEnv, make, resolve


@dataclass
class Args:
    env_id: str = "ContinuousSeek5-v0"
    """ContinuousSeek<d>-v0, HandReach-v3, or another environment whose reward is a distance below a threshold"""
    seeds: int = 10
    """runs of each setting: the seeds are seed, seed + 1, ..."""
    seed: int = 1
    """the first seed; it decides, with alpha and learning rate, everything random of a run"""
    alpha: tuple[float | Literal["auto"], ...] = (0.1,)
    """weights of the gradient term, a mean over batch and goal dimensions; 0 is DDPG+HER (paper: table 2)"""
    alpha_ratio: float = 0.1
    """for alpha auto: the share of the value loss at which alpha holds the gradient term (not in the paper)"""
    learning_rate: tuple[float, ...] = (1e-3,)
    """of Adam, for actor and critic (paper: table 2)"""
    total_timesteps: int = 12_000
    """environment steps of a run (paper: 12k, 50k, 400k for ContinuousSeek d = 5, 10, 20)"""
    buffer_size: int = 1_000_000
    """transitions that the replay buffer of a run holds (paper: 1e6)"""
    batch_size: int = 256
    """transitions a gradient step of a run (paper: table 2; 4864 in robotics)"""
    gamma: float = 0.95
    """discount factor (paper: 0.95; 1 - 1/T in robotics)"""
    tau: float = 0.005
    """Polyak factor: target = (1 - tau) target + tau online (paper: 0.005; 0.05 in robotics)"""
    learning_starts: int = 1000
    """environment steps with uniform actions before learning starts (paper: 1000; 0 in robotics)"""
    num_envs: int = 1
    """environments of a run that step side by side (paper: 1; 38 in robotics)"""
    train_frequency: int = 1
    """steps of each environment between two rounds of updates (paper: 1; one episode in robotics)"""
    gradient_steps: int = 1
    """gradient steps a round (paper: 1; 40 in robotics)"""
    target_network_frequency: int = 1
    """gradient steps between two Polyak updates (paper: 1; 40 in robotics)"""
    exploration_noise: float = 0.03
    """standard deviation of the Gaussian noise on actions in [-1, 1] (paper: 0.03; 0.2 in robotics)"""
    random_action_prob: float = 0.0
    """probability that a training action is replaced by a uniform one (paper: 0; 0.3 in robotics)"""
    raw_goal_gradient: bool = False
    """with --normalize: the gradient by the goal as it is, not by the normalised goal (paper: both, figure 11)"""
    her_k: int = 4
    """relabelled goals for one original goal, from later in the episode (paper: 4)"""
    action_l2: float = 0.0
    """weight of the mean squared action in the actor's loss (paper: 0; 1 in robotics)"""
    clip_target: bool = False
    """clip targets to [-1 / (1 - gamma), 0] (paper: in robotics)"""
    simultaneous_updates: bool = False
    """the actor's gradient is taken before the critic's step, not after it (paper: in robotics)"""
    normalize: bool = False
    """normalise observations and goals by running mean and standard deviation (paper: in robotics)"""
    observe_achieved_goal: bool = True
    """the networks see the achieved goal beside observation and desired goal (paper: not in robotics)"""
    hidden_dims: tuple[int, ...] = (256, 256)
    """widths of the hidden layers of actor and critic (paper: 256 256; 256 256 256 in robotics)"""
    xavier_init: bool = False
    """Xavier-uniform weights and zero biases instead of PyTorch's initialisation (paper: in robotics)"""
    eval_frequency: int = 2000
    """environment steps between two evaluations; there is one at step 0 (paper: 2000; an epoch in robotics)"""
    eval_episodes: int = 50
    """episodes an evaluation of a run, without noise (paper: 50; 380 in robotics)"""
    run_dir: str = ""
    """folder of all runs, a folder for each inside (default: runs/{env_id}__{script})"""
    group_size: int = 0
    """runs at once; 0 chooses what stays in the cache"""
    minutes: float = 0.0
    """start no group of runs that will not finish within so many minutes; 0: no limit"""
    tensorboard: bool = False
    """write TensorBoard events beside each metrics.csv"""
    cuda: bool = True
    """use a GPU if there is one"""
    num_threads: int = 1
    """PyTorch's threads"""
    matmul_precision: Literal["highest", "high"] = "highest"
    """of matrix products: high is TF32, which is faster on a GPU that has it"""


ROBOTICS = dict(
    total_timesteps=4_750_000,
    gamma=0.98,
    tau=0.05,
    batch_size=1024,
    learning_starts=0,
    num_envs=38,
    train_frequency=50,
    gradient_steps=40,
    target_network_frequency=40,
    exploration_noise=0.2,
    random_action_prob=0.3,
    action_l2=1.0,
    clip_target=True,
    simultaneous_updates=True,
    normalize=True,
    observe_achieved_goal=False,
    hidden_dims=(256, 256, 256),
    xavier_init=True,
    eval_frequency=95_000,
    eval_episodes=380,
)
PAPER_SETTINGS = {  # what stands under every part of the environment's name applies, later over earlier
    "ContinuousSeek": dict(total_timesteps=50_000, batch_size=512, alpha=(0.2,)),
    "ContinuousSeek5-": dict(total_timesteps=12_000, learning_rate=(1.5e-3,), alpha=(0.1,)),
    "ContinuousSeek20-": dict(total_timesteps=400_000, learning_rate=(5e-4,), batch_size=128),
    "Fetch": ROBOTICS,
    "FetchReach": dict(
        total_timesteps=15_000,
        num_envs=2,
        batch_size=256,
        eval_frequency=1500,
        eval_episodes=50,
    ),
    "Hand": ROBOTICS,
}


class Run(NamedTuple):
    seed: int
    alpha: float | str
    learning_rate: float

    @property
    def name(self) -> str:
        return f"alpha{self.alpha}_lr{self.learning_rate}_{self.seed}"

    @property
    def key(self) -> int:
        """64 bits that seed everything random of this run, and of no other."""
        return int.from_bytes(hashlib.sha256(self.name.encode()).digest()[:8], signed=True)


def read_args() -> Args:
    """The defaults, over them the paper's settings for the environment, over them the command line."""
    defaults = Args(env_id=tyro.cli(Args, description=__doc__).env_id)
    for part, settings in PAPER_SETTINGS.items():
        if part in defaults.env_id:
            defaults = replace(defaults, **settings)
    return tyro.cli(Args, default=defaults)


def check_numbers(args: Args) -> None:
    """Raises ValueError with one sentence for the first number that makes no sense."""
    zero_is_fine = "seed alpha gamma learning_starts exploration_noise random_action_prob her_k "
    zero_is_fine += "action_l2 group_size minutes"
    for name, value in vars(args).items():
        values = value if isinstance(value, tuple) else (value,)
        flag = "--" + name.replace("_", "-")
        if name in ("alpha", "learning_rate") and len(set(values)) < max(1, len(values)):
            raise ValueError(f"{flag} {' '.join(map(str, values))} names no value, or one twice.")
        for number in values:
            if isinstance(number, bool | str):
                continue
            if not 0 <= number < math.inf or (number == 0 and name not in zero_is_fine.split()):
                raise ValueError(f"{flag} {number} makes no sense.")
    if args.gamma >= 1 or args.tau > 1 or args.random_action_prob > 1:
        raise ValueError("--gamma must be below 1, --tau and --random-action-prob at most 1.")
    if args.gradient_steps % args.target_network_frequency:
        raise ValueError("--target-network-frequency must divide --gradient-steps.")


class Streams:
    """Random numbers of N runs, each from its own stream, made by counting (SplitMix64, Steele et al. 2014).

    The n-th number of a run is a hash of the run's key plus n. So it depends neither on the runs beside it
    nor on the device, and drawing is arithmetic, which a CUDA graph can hold.
    """

    STEP, MIX_1, MIX_2 = -0x61C8864680B583EB, -0x40A7B892E31B1A47, -0x6B2FB644ECCEEE15

    def __init__(self, keys: list[int], device: torch.device):
        self.device = device
        self.state = torch.tensor(keys, device=device)[:, None]  # (run, 1) int64, which wraps around

    def bits(self, *shape: int) -> Tensor:
        """Integers in [0, 2^32) of every run, (run, *shape) int64."""
        n = math.prod(shape)
        x = self.state + self.STEP * torch.arange(1, n + 1, device=self.device)
        self.state.copy_(x[:, -1:])
        x = (x ^ shift_right(x, 30)) * self.MIX_1
        x = (x ^ shift_right(x, 27)) * self.MIX_2
        x = x ^ shift_right(x, 31)
        return shift_right(x, 32).view(-1, *shape)

    def uniform(self, *shape: int) -> Tensor:
        """Numbers between 0 and 1, neither included, (run, *shape)."""
        return ((self.bits(*shape) >> 9) + 0.5) * 2.0**-23


def shift_right(x: Tensor, n: int) -> Tensor:
    """Of an int64 as if it were unsigned."""
    return (x >> n) & (2 ** (64 - n) - 1)


def below(n: Tensor | int, bits: Tensor) -> Tensor:
    """Integers in [0, n) from integers in [0, 2^32)."""
    return (bits * n) >> 32


class Batches(NamedTuple):
    """Transitions of every run as the networks see them; the reward is R(s', g)."""

    obs: Tensor  # (run, batch, obs_dim)
    goal: Tensor  # (run, batch, goal_dim)
    action: Tensor  # (run, batch, action_dim)
    reward: Tensor  # (run, batch, 1)
    next_obs: Tensor  # (run, batch, obs_dim)
    goal_slope: Tensor | float = 1.0  # (run, batch, goal_dim), see Normalizers.slope


class HerReplayBuffers:
    """Whole episodes of every run, all of the same length, relabelled when they are sampled.

    Full buffers overwrite their oldest episodes. A fraction her_k / (her_k + 1) of a batch gets a goal that the
    transition's own episode achieves later ('future', Andrychowicz et al. 2017).
    """

    def __init__(self, args: Args, task: "Task", streams: Streams):
        runs = len(streams.state)
        self.steps = task.max_steps
        self.capacity = min(args.buffer_size, args.total_timesteps) // self.steps  # in episodes
        self.relabelled = args.her_k / (args.her_k + 1)
        self.reward, self.streams = task.reward, streams
        dims = {
            "obs": task.obs_dim,
            "achieved_goal": task.goal_dim,
            "goal": task.goal_dim,
            "action": task.action_dim,
        }

        def allocate(episodes: int) -> dict[str, Tensor]:
            shape = (runs, episodes, self.steps + 1)
            device = streams.device
            return {key: torch.zeros(*shape, dim, device=device) for key, dim in dims.items()}

        self.finished, self.unfinished = allocate(self.capacity), allocate(args.num_envs)
        # On the device, because a CUDA graph holds Python's numbers still
        self.stored, self.next = torch.zeros(2, dtype=torch.int64, device=streams.device)
        self.slots = torch.arange(args.num_envs, device=streams.device)
        first_rows = torch.arange(runs, device=streams.device) * self.capacity * (self.steps + 1)
        self.first_row = first_rows[:, None]  # (run, 1), where all rows of all runs lie in one line

    def add(self, t: int, obs: dict[str, Tensor], action: Tensor | None = None) -> None:
        """Step t of every unfinished episode, (run, env, ...); the last observation has no action."""
        self.unfinished["obs"][:, :, t] = obs["observation"]
        self.unfinished["achieved_goal"][:, :, t] = obs["achieved_goal"]
        self.unfinished["goal"][:, :, t] = obs["desired_goal"]
        if action is not None:
            self.unfinished["action"][:, :, t] = action

    def finish(self) -> None:
        """Moves the unfinished episodes, which end together, to the finished ones."""
        slots = (self.next + self.slots) % self.capacity
        for key, array in self.finished.items():
            array.index_copy_(1, slots, self.unfinished[key])
        self.next.copy_((self.next + len(slots)) % self.capacity)
        self.stored.copy_((self.stored + len(slots)).clamp(max=self.capacity))

    def sample(self, batch_size: int, newest: int | None = None) -> Batches:
        """Draws transitions uniformly with replacement, of all finished episodes or of the `newest`."""
        which_episode, which_step, which_goal = self.streams.bits(3, batch_size).unbind(1)
        among = self.stored if newest is None else self.stored.clamp(max=newest)
        episode = (self.next - 1 - below(among, which_episode)) % self.capacity  # (run, batch)
        t = below(self.steps, which_step)
        row = self.first_row + episode * (self.steps + 1) + t
        goal = self.take("goal", row)
        achieved_goal = self.take("achieved_goal", row + 1)
        n = int(self.relabelled * batch_size)  # the first n rows get a new goal
        later = row + 1 + below(self.steps - t, which_goal)  # of the steps t + 1 .. T
        goal[:, :n] = self.take("achieved_goal", later[:, :n])
        return Batches(
            obs=self.take("obs", row),
            goal=goal,
            action=self.take("action", row),
            reward=self.reward(achieved_goal, goal).unsqueeze(2),
            next_obs=self.take("obs", row + 1),
        )

    def take(self, key: str, rows: Tensor) -> Tensor:  # (run, n) -> (run, n, dim)
        array = self.finished[key].flatten(0, 2)
        return array.index_select(0, rows.flatten()).view(*rows.shape, -1)


class Normalizers:
    """x -> clip((clip(x, +-200) - mean) / std, +-5) with running statistics of each run, std >= 0.01."""

    def __init__(self, runs: int, dim: int, device: torch.device):
        self.sums = torch.zeros(runs, 3, dim, dtype=torch.float64, device=device)  # 1, x, x squared
        self.mean = torch.zeros(runs, 1, dim, device=device)
        self.std = torch.ones(runs, 1, dim, device=device)

    def update(self, x: Tensor) -> None:  # (run, n, dim)
        x = x.double().clamp(-200, 200)
        self.sums += torch.stack([torch.ones_like(x), x, x.square()], 1).sum(2)
        count, total, total_of_squares = self.sums[:, :, None].unbind(1)  # (run, 1, dim)
        mean = total / count
        variance = total_of_squares / count - mean.square()
        self.mean.copy_(mean)
        self.std.copy_(variance.clamp(min=0.01**2).sqrt())

    def __call__(self, x: Tensor) -> Tensor:  # (run, n, dim)
        return ((x.clamp(-200, 200) - self.mean) / self.std).clamp(-5, 5)

    def slope(self, x: Tensor, raw: bool) -> Tensor:
        """d normalised / dx, zero where it is clipped; times std unless raw: by the normalised goal."""
        inside = (x.abs() <= 200) & (((x - self.mean) / self.std).abs() <= 5)
        return inside / self.std if raw else inside.to(x)


Layers = list[tuple[Tensor, Tensor]]  # weights (run, fan_in, fan_out), biases (run, 1, fan_out)


def size(dims: tuple[int, ...]) -> int:
    """Parameters of a network with layers of these widths."""
    return sum((fan_in + 1) * fan_out for fan_in, fan_out in itertools.pairwise(dims))


def layers(parameters: Tensor, dims: tuple[int, ...]) -> Layers:
    """Views into the parameters of each run, (run, size(dims))."""
    views, start = [], 0
    for fan_in, fan_out in itertools.pairwise(dims):
        middle = start + fan_in * fan_out
        stop = middle + fan_out
        weight = parameters[:, start:middle].view(-1, fan_in, fan_out)
        bias = parameters[:, middle:stop].view(-1, 1, fan_out)
        views.append((weight, bias))
        start = stop
    return views


class Networks:
    """Actors and critics of all runs, their targets and their gradients.

    A row of `online` has all parameters of a run, the actor's first, so Adam and Polyak are one call.
    """

    def __init__(self, args: Args, task: "Task", streams: Streams):
        in_dim = task.obs_dim + task.goal_dim
        actor_dims = (in_dim, *args.hidden_dims, task.action_dim)
        critic_dims = (in_dim + task.action_dim, *args.hidden_dims, 1)
        self.actor_size = size(actor_dims)
        shape = (3, len(streams.state), self.actor_size + size(critic_dims))
        self.online, self.target, self.gradient = torch.zeros(shape, device=streams.device)
        self.actor, self.target_actor, self.actor_gradient = (
            layers(parameters[:, : self.actor_size], actor_dims)
            for parameters in (self.online, self.target, self.gradient)
        )
        self.critic, self.target_critic, self.critic_gradient = (
            layers(parameters[:, self.actor_size :], critic_dims)
            for parameters in (self.online, self.target, self.gradient)
        )
        for weight, bias in self.actor + self.critic:
            fan_in, fan_out = weight.shape[1:]
            bound = math.sqrt(6 / (fan_in + fan_out)) if args.xavier_init else fan_in**-0.5
            weight.copy_(bound * (2 * streams.uniform(fan_in, fan_out) - 1))
            if not args.xavier_init:
                bias.copy_(bound * (2 * streams.uniform(1, fan_out) - 1))
        self.target.copy_(self.online)

    def optimizers(self, runs: list[Run]) -> tuple[torch.optim.Adam, torch.optim.Adam]:
        """Adam of the critics and of the actors, each run with its own learning rate."""

        def adam(columns: slice) -> torch.optim.Adam:
            groups = {}
            for run, row, gradient in zip(runs, self.online, self.gradient, strict=True):
                parameters = row[columns]
                parameters.grad = gradient[columns]
                groups.setdefault(run.learning_rate, []).append(parameters)
            groups = [{"params": rows, "lr": rate} for rate, rows in groups.items()]
            return torch.optim.Adam(groups, fused=True, capturable=self.online.is_cuda)

        return adam(slice(self.actor_size, None)), adam(slice(self.actor_size))


def forward(net: Layers, x: Tensor) -> tuple[Tensor, list[Tensor]]:
    """h_0 = x, h_k = max(0, h_{k-1} W_k + b_k); the output, linear in the last h, and all h."""
    h = [x]
    for weight, bias in net[:-1]:
        h.append(torch.baddbmm(bias, h[-1], weight).relu_())  # (run, batch, width)
    weight, bias = net[-1]
    return torch.baddbmm(bias, h[-1], weight), h


def where_active_(x: Tensor, h: Tensor) -> Tensor:
    """x 1[h > 0] in place, by the kernel that is a ReLU's backward pass."""
    return torch.ops.aten.threshold_backward.grad_input(x, h, 0, grad_input=x)


def backward(net: Layers, h: list[Tensor], delta: Tensor) -> list[Tensor]:
    """delta_k = d objective / d (h_{k-1} W_k + b_k) = (delta_{k+1} W_{k+1}^T) 1[h_k > 0], the last one given."""
    deltas = [delta]
    for (weight, _), h_k in zip(net[:0:-1], h[:0:-1], strict=True):
        deltas.append(where_active_(torch.bmm(deltas[-1], weight.mT), h_k))  # (run, batch, width)
    return deltas[::-1]


def by_input(net: Layers, deltas: list[Tensor], start: int, stop: int | None = None) -> Tensor:
    """d objective / dx for the inputs start .. stop - 1: delta_1 W_1^T, (run, batch, stop - start)."""
    return torch.bmm(deltas[0], net[0][0][:, start:stop].mT)


def masked_linear(net: Layers, h: list[Tensor], x: Tensor, c: Tensor) -> list[Tensor]:
    """h~_0 = x, h~_k = (h~_{k-1} W_k + c b_k) 1[h_k > 0]: the network with the masks of h, at another input."""
    mixed = [x]
    for (weight, bias), h_k in zip(net[:-1], h[1:], strict=True):
        mixed.append(where_active_(torch.baddbmm(c * bias, mixed[-1], weight), h_k))
    return mixed


def write_gradient(gradient: Layers, h: list[Tensor], deltas: list[Tensor], c: Tensor) -> None:
    """dW_k = h_{k-1}^T delta_k, db_k = c^T delta_k: sums over the batch."""
    for (weight, bias), h_k, delta in zip(gradient, h, deltas, strict=True):
        torch.bmm(h_k.mT, delta, out=weight)  # (run, fan_in, fan_out)
        torch.bmm(c.mT, delta, out=bias)  # (run, 1, fan_out)


class GradientWeights:
    """alpha of every run: a number, or the one that holds alpha * gradient loss at ratio * value loss ('auto').

    'auto' compares running means over the last 1000 updates, which begin after 500 of them. No update before
    the 1001st has the term: the critic is flat in the goal at first, and a large weight would keep it so.
    """

    def __init__(self, runs: list[Run], ratio: float, device: torch.device):
        numbers = [0.0 if run.alpha == "auto" else run.alpha for run in runs]
        self.fixed = torch.tensor(numbers, device=device)  # (run,)
        self.is_auto = torch.tensor([run.alpha == "auto" for run in runs], device=device)
        self.are_zero = all(run.alpha == 0 for run in runs)
        self.ratio = ratio
        self.updates = torch.zeros((), dtype=torch.float64, device=device)
        self.means = torch.zeros(2, len(runs), dtype=torch.float64, device=device)

    def __call__(self, value_loss: Tensor, grad_loss: Tensor) -> Tensor:  # (run,), (run,) -> (run,)
        self.updates += 1
        losses = torch.stack([value_loss, grad_loss]).double()
        seen = (self.updates - 500).clamp(0, 1000)
        self.means += (losses - self.means) * (seen > 0) / seen.clamp(min=1)
        alpha = self.ratio * self.means[0] / self.means[1].clamp(min=1e-30)
        alpha = alpha * (self.updates > 1000)
        return torch.where(self.is_auto, alpha, self.fixed).to(value_loss)


def reengage_critic_gradient(
    networks: Networks, batch: Batches, weights: GradientWeights, args: Args
) -> dict[str, Tensor]:
    """Writes the gradient of Eq. (9) by each run's critic; returns the losses, (run,)."""
    batch_size, obs_dim = batch.obs.shape[1:]
    goal_dim, action_dim = batch.goal.shape[2], batch.action.shape[2]
    actions = obs_dim + goal_dim  # where they begin in the critic's input

    # Target y = R(s', g) + gamma Q'(s', pi'(s', g), g), a constant
    next_x = torch.cat([batch.next_obs, batch.goal], 2)
    next_action, actor_h = forward(networks.target_actor, next_x)
    next_action = next_action.tanh()  # (run, batch, action_dim)
    next_q, next_h = forward(networks.target_critic, torch.cat([next_x, next_action], 2))
    target = batch.reward + args.gamma * next_q  # (run, batch, 1)
    slope = torch.full_like(target, args.gamma)  # dy / dQ'
    if args.clip_target:
        lowest = -1 / (1 - args.gamma)
        slope *= (target >= lowest) & (target <= 0)  # a clipped target has no gradient
        target = target.clamp(lowest, 0)

    # Critic: q, and the deltas of every layer for an output gradient of 1
    x = torch.cat([batch.obs, batch.goal, batch.action], 2)  # (run, batch, input)
    q, h = forward(networks.critic, x)
    deltas = backward(networks.critic, h, torch.ones_like(q))
    error = q - target  # (run, batch, 1)
    value_loss = error.square().mean((1, 2))
    c = 2 / batch_size * error
    if weights.are_zero:
        mixed = [c * h_k for h_k in h]
        write_gradient(networks.critic_gradient, mixed, deltas, c)
        return {"value_loss": value_loss, "q": q.mean((1, 2))}

    # dy / dg, straight and through the target policy's action
    next_deltas = backward(networks.target_critic, next_h, slope)
    by_goal_and_action = by_input(networks.target_critic, next_deltas, obs_dim)
    target_grad, by_action = by_goal_and_action.split((goal_dim, action_dim), 2)
    actor_deltas = backward(
        networks.target_actor, actor_h, by_action * (1 - next_action.square())
    )
    target_grad = target_grad + by_input(networks.target_actor, actor_deltas, obs_dim)

    # The gradient term, and both terms together as the masked linear network at a mixed input
    q_grad = by_input(networks.critic, deltas, obs_dim, actions)  # (run, batch, goal_dim)
    sparse_mask = (batch.reward == -1) * batch.goal_slope
    difference = sparse_mask * (q_grad - target_grad)
    grad_loss = difference.square().mean((1, 2))  # 1[R = -1] ||...||^2
    alpha = weights(value_loss, grad_loss)
    r = (2 / (batch_size * goal_dim)) * alpha[:, None, None] * sparse_mask * difference
    mixed_x = c * x
    mixed_x[:, :, obs_dim:actions] += r
    mixed = masked_linear(networks.critic, h, mixed_x, c)
    write_gradient(networks.critic_gradient, mixed, deltas, c)
    info = {"value_loss": value_loss, "q": q.mean((1, 2)), "grad_loss": grad_loss}
    return info | {"alpha": alpha}


def actor_gradient(networks: Networks, batch: Batches, action_l2: float) -> None:
    """Writes the gradient of Eq. (5), -Q(s, pi(s, g), g) + action_l2 mean(action^2), by each run's actor."""
    x = torch.cat([batch.obs, batch.goal], 2)
    action, actor_h = forward(networks.actor, x)
    action = action.tanh()  # (run, batch, action_dim)
    q, h = forward(networks.critic, torch.cat([x, action], 2))
    deltas = backward(networks.critic, h, torch.full_like(q, -1 / q.shape[1]))
    by_action = by_input(networks.critic, deltas, x.shape[2])
    by_action += 2 * action_l2 / action[0].numel() * action
    actor_deltas = backward(networks.actor, actor_h, by_action * (1 - action.square()))
    write_gradient(networks.actor_gradient, actor_h, actor_deltas, torch.ones_like(q))


class Task(NamedTuple):
    """What the runs must know of their environment."""

    obs_dim: int
    goal_dim: int
    action_dim: int
    max_steps: int  # of every episode
    reward: Callable[[Tensor, Tensor], Tensor]
    is_seek: bool  # ContinuousSeek, which steps on the device


def threshold_reward(achieved_goal: Tensor, goal: Tensor, norm: float, threshold: float) -> Tensor:
    """0 where the goals are at most `threshold` apart, else -1: (..., goal_dim), (..., goal_dim) -> (...)."""
    distance = torch.linalg.vector_norm(achieved_goal - goal, norm, dim=-1)
    return (distance <= threshold).to(distance) - 1


def inspect(args: Args) -> Task:
    """Raises ValueError for an environment whose reward is not -1, and 0 within a distance of the goal."""
    env = make(args.env_id, observe_achieved_goal=args.observe_achieved_goal)
    is_seek = re.fullmatch(r"ContinuousSeek\d+-v0", args.env_id) is not None
    threshold = 0.1 if is_seek else getattr(env.unwrapped, "distance_threshold", math.nan)
    reward = functools.partial(
        threshold_reward,
        norm=math.inf if is_seek else 2,
        threshold=threshold,
    )
    spaces = env.observation_space.spaces
    goal_dim = spaces["desired_goal"].shape[0]
    goal, difference = np.random.default_rng(0).normal(size=(2, 1000, goal_dim))
    length = np.linalg.norm(difference, axis=1, keepdims=True)
    distance = np.linspace(0.001, 3 * threshold * goal_dim**0.5, 1000)[:, None]
    near = goal + distance * difference / length
    expected = np.asarray(env.unwrapped.compute_reward(near, goal, {}))
    if not np.array_equal(reward(torch.from_numpy(near), torch.from_numpy(goal)), expected):
        raise ValueError(
            f"{args.env_id} cannot run here: its reward is not -1, and 0 within a distance of the goal. "
            "Use ddpg_her_reengage.py."
        )
    return Task(
        obs_dim=spaces["observation"].shape[0],
        goal_dim=goal_dim,
        action_dim=env.action_space.shape[0],
        max_steps=env.spec.max_episode_steps,
        reward=reward,
        is_seek=is_seek,
    )


class Seeks:
    """ContinuousSeek of every run on the device: envs/continuous_seek.py in tensors, (run, env, d)."""

    def __init__(self, num_envs: int, task: Task, streams: Streams):
        self.shape = num_envs, task.goal_dim
        self.copies = task.obs_dim // task.goal_dim  # 2: the achieved goal is observed beside the state
        self.streams = streams

    def reset(self) -> dict[str, Tensor]:
        self.goal = 10 * self.streams.uniform(*self.shape) - 5
        self.state = torch.zeros_like(self.goal)
        return self.observe()

    def step(self, action: Tensor) -> dict[str, Tensor]:
        self.state = (self.state + action).clamp(-5, 5)
        return self.observe()

    def observe(self) -> dict[str, Tensor]:
        return {
            "observation": self.state.repeat(1, 1, self.copies),
            "achieved_goal": self.state,
            "desired_goal": self.goal,
        }


class Simulators:
    """Copies of a Gymnasium environment for every run, stepped on all CPU cores; tensors on the device."""

    def __init__(self, args: Args, num_envs: int, seeds: list[int], device: torch.device):
        threads = max(1, (os.cpu_count() or 1) // len(seeds))
        self.device, self.pool = device, ThreadPoolExecutor(len(seeds))
        self.envs = [
            VectorEnv(args.env_id, num_envs, seed, args.observe_achieved_goal, num_threads=threads)
            for seed in seeds
        ]

    def reset(self) -> dict[str, Tensor]:
        return self.gather(list(self.pool.map(lambda envs: envs.reset(), self.envs)))

    def step(self, action: Tensor) -> dict[str, Tensor]:
        actions = action.cpu().numpy()  # (run, env, action_dim)
        results = self.pool.map(lambda envs, action: envs.step(action), self.envs, actions)
        observations, _, terminated, _, _ = zip(*results, strict=True)
        if np.any(terminated):
            sys.exit("An episode ended before its time limit: use ddpg_her_reengage.py.")
        return self.gather(observations)

    def gather(self, observations: list[dict[str, np.ndarray]]) -> dict[str, Tensor]:
        gathered = {}
        for key in observations[0]:
            array = np.stack([obs[key] for obs in observations])  # (run, env, dim)
            gathered[key] = torch.from_numpy(array).float().to(self.device)
        return gathered


class Group:
    """Runs that are trained at once: all that they own, as one batch."""

    def __init__(self, args: Args, task: Task, runs: list[Run], device: torch.device):
        self.args, self.task = args, task
        streams = self.streams = Streams([run.key for run in runs], device)
        if task.is_seek:
            self.envs = Seeks(args.num_envs, task, streams)
            self.eval_envs = Seeks(args.eval_episodes, task, streams)
        else:
            seeds = [run.key for run in runs]
            self.envs = Simulators(args, args.num_envs, seeds, device)
            self.eval_envs = Simulators(args, args.eval_episodes, [s + 1 for s in seeds], device)
            self.learn = graphed(self.learn, device)
        self.buffers = HerReplayBuffers(args, task, streams)
        self.obs_normalizers = Normalizers(len(runs), task.obs_dim, device)
        self.goal_normalizers = Normalizers(len(runs), task.goal_dim, device)
        self.networks = Networks(args, task, streams)
        self.weights = GradientWeights(runs, args.alpha_ratio, device)
        self.critic_optimizer, self.actor_optimizer = self.networks.optimizers(runs)
        self.value_loss = torch.zeros(len(runs), device=device)
        self.play_learning = functools.partial(self.play, args.learning_starts)
        if task.is_seek:
            self.play_learning = graphed(self.play_learning, device)

    def act(self, obs: dict[str, Tensor]) -> Tensor:
        """Actions without noise, (run, env, action_dim)."""
        x = [obs["observation"], obs["desired_goal"]]
        if self.args.normalize:
            x = [self.obs_normalizers(x[0]), self.goal_normalizers(x[1])]
        return forward(self.networks.actor, torch.cat(x, 2))[0].tanh()

    def explore(self, obs: dict[str, Tensor], random_prob: float) -> Tensor:
        """The policy with Gaussian noise, or a uniform action."""
        action = self.act(obs)
        n = action.shape[2]
        draws = self.streams.uniform(action.shape[1], 2 * n + 1)
        noise, uniform, choice = (2 * draws - 1).split((n, n, 1), 2)
        noise = math.sqrt(2) * noise.erfinv()  # Gaussian
        noisy = (action + self.args.exploration_noise * noise).clamp(-1, 1)
        return torch.where(choice < 2 * random_prob - 1, uniform, noisy)

    def play(self, global_step: int) -> None:
        """One episode in every environment, and the updates that belong to it."""
        args = self.args
        obs = self.envs.reset()
        for t in range(self.task.max_steps):
            is_random = global_step < args.learning_starts
            action = self.explore(obs, 1.0 if is_random else args.random_action_prob)
            self.buffers.add(t, obs, action)
            obs = self.envs.step(action)
            global_step += args.num_envs
            if t + 1 == self.task.max_steps:
                self.buffers.add(t + 1, obs)
                self.finish()
            if global_step >= args.learning_starts and (t + 1) % args.train_frequency == 0:
                self.learn()

    def finish(self) -> None:
        self.buffers.finish()
        if self.args.normalize:
            newest = self.args.num_envs
            batch = self.buffers.sample(newest * self.task.max_steps, newest)
            self.obs_normalizers.update(batch.obs)
            self.goal_normalizers.update(batch.goal)

    def learn(self) -> None:
        """One round of updates."""
        args, networks = self.args, self.networks
        for step in range(args.gradient_steps):
            batch = self.normalize(self.buffers.sample(args.batch_size))
            info = reengage_critic_gradient(networks, batch, self.weights, args)
            if not args.simultaneous_updates:
                self.critic_optimizer.step()
            actor_gradient(networks, batch, args.action_l2)
            self.actor_optimizer.step()
            if args.simultaneous_updates:
                self.critic_optimizer.step()
            if (step + 1) % args.target_network_frequency == 0:
                networks.target.lerp_(networks.online, args.tau)  # Polyak
        self.value_loss.copy_(info["value_loss"])

    def normalize(self, batch: Batches) -> Batches:
        if not self.args.normalize:
            return batch
        return batch._replace(
            obs=self.obs_normalizers(batch.obs),
            next_obs=self.obs_normalizers(batch.next_obs),
            goal=self.goal_normalizers(batch.goal),
            goal_slope=self.goal_normalizers.slope(batch.goal, self.args.raw_goal_gradient),
        )

    def evaluate(self) -> list[dict[str, float]]:
        """Means over eval_episodes episodes of each run, without noise."""
        rewards = []
        obs = self.eval_envs.reset()
        for _ in range(self.task.max_steps):
            obs = self.eval_envs.step(self.act(obs))
            rewards.append(self.task.reward(obs["achieved_goal"], obs["desired_goal"]))
        reward = torch.stack(rewards).double()  # (step, run, episode)
        success = (reward == 0).double()
        metrics = torch.stack([success[-1], success.amax(0), reward.sum(0)]).mean(2)
        names = ("success_rate", "success_once", "episodic_return")
        return [dict(zip(names, values, strict=True)) for values in metrics.T.tolist()]


def graphed(work: Callable[[], None], device: torch.device) -> Callable[[], None]:
    """`work` itself on a CPU; on a GPU all of its kernels as one CUDA graph, from the third call on.

    The first two calls run as they are: a capture needs a warm-up, and these calls count as work.
    """
    if device.type != "cuda":
        return work
    graph, calls = torch.cuda.CUDAGraph(), itertools.count()

    def call() -> None:
        n = next(calls)
        if n < 2:
            stream = torch.cuda.Stream()
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                work()
            torch.cuda.current_stream().wait_stream(stream)
            return
        if n == 2:
            with torch.cuda.graph(graph):  # records, and executes nothing
                work()
        graph.replay()

    return call


def check_schedule(args: Args, task: Task) -> None:
    """Raises ValueError where the numbers of steps do not fit together: an episode is what is played at once."""
    play = task.max_steps * args.num_envs
    if args.total_timesteps % play or args.eval_frequency % play:
        raise ValueError(
            f"--total-timesteps and --eval-frequency must be multiples of {play}, "
            "the steps of one episode in each environment."
        )
    if task.max_steps % args.train_frequency:
        raise ValueError(f"--train-frequency must divide {task.max_steps}, an episode's steps.")
    if max(args.learning_starts, args.train_frequency * args.num_envs) < play:
        raise ValueError(
            "No episode is stored at the first update: raise --learning-starts or --train-frequency."
        )
    if args.buffer_size < play:
        raise ValueError(
            f"--buffer-size {args.buffer_size} cannot hold an episode of each environment."
        )


def choose_group_size(args: Args, task: Task, device: torch.device) -> int:
    """Runs at once: as many as stay in the cache and fit into memory. ValueError where that is none."""
    widest = max(args.hidden_dims)
    in_dim = task.obs_dim + task.goal_dim + task.action_dim
    dims = (in_dim, *args.hidden_dims, 1)
    episodes = min(args.buffer_size, args.total_timesteps) // task.max_steps + args.num_envs
    numbers = episodes * (task.max_steps + 1) * (in_dim + task.goal_dim)  # replay buffer
    numbers += 2 * 5 * size(dims)  # two networks, target, gradient, two moments of Adam
    numbers += 40 * args.batch_size * widest  # activations
    if device.type == "cuda":
        memory = torch.cuda.mem_get_info(device)[0]
        cache = 10e6
    else:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        cache = 1e6
    fitting = int(0.9 * memory / (4 * numbers))
    if max(args.group_size, 1) > fitting:
        raise ValueError(
            f"{max(args.group_size, 1)} runs at once need {4e-9 * numbers:.2g} GB each: "
            f"{fitting} fit into the memory of {memory / 1e9:.0f} GB."
        )
    cached = int(cache / (4 * args.batch_size * widest))
    return args.group_size or max(1, min(cached, fitting))


def settings(args: Args, run: Run) -> dict:
    """What decides a run's numbers, by the names that the plain script's arguments bear."""
    of_all = "seeds run_dir group_size minutes tensorboard cuda num_threads".split()
    return {key: value for key, value in (asdict(args) | run._asdict()).items() if key not in of_all}


def is_complete(folder: Path, expected: dict) -> bool:
    """Whether this run has been trained to its end; ValueError if the folder has a run with other settings."""
    try:
        found = json.loads((folder / "args.json").read_text())
    except (OSError, ValueError):
        return False
    expected = json.loads(json.dumps(expected))
    for key, value in expected.items():
        if found.get(key) != value:
            raise ValueError(
                f"{folder} has a run with {key} {found.get(key)}, not {value}: choose another --run-dir."
            )
    try:
        *_, last = (folder / "metrics.csv").read_text().splitlines()
        return int(last.split(",")[0]) >= expected["total_timesteps"]
    except (OSError, ValueError):
        return False


def write_metrics(folder: Path, rows: list[dict[str, float]]) -> None:
    """Replaces metrics.csv at once, so that it is never half a file."""
    with open(folder / "unfinished.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys(), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    (folder / "unfinished.csv").replace(folder / "metrics.csv")


def train(
    args: Args, task: Task, runs: list[Run], device: torch.device, label: str, seconds: float
) -> None:
    """Trains the runs from their first step to their last, and writes what each of them measures.

    Raises TimeoutError at an evaluation from which on it will take more than `seconds` since the start.
    """
    start = time.time()
    folders = [Path(args.run_dir) / run.name for run in runs]
    for folder, run in zip(folders, runs, strict=True):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "args.json").write_text(json.dumps(settings(args, run), indent=2) + "\n")
    writers = [SummaryWriter(folder) for folder in folders if args.tensorboard]
    group = Group(args, task, runs, device)
    rows = [[] for _ in runs]
    is_terminal = sys.stdout.isatty()
    play = task.max_steps * args.num_envs
    updates_a_step = len(runs) * args.gradient_steps / (args.train_frequency * args.num_envs)
    shown = 0.0

    for global_step in range(0, args.total_timesteps + 1, play):
        passed = time.time() - start
        learnt = updates_a_step * max(0, global_step - args.learning_starts)

        # Evaluate, log: before the first step, whenever eval_frequency more steps are done, and at the end
        if global_step % args.eval_frequency == 0 or global_step == args.total_timesteps:
            metrics = group.evaluate()
            passed = time.time() - start
            for folder, run_rows, values in zip(folders, rows, metrics, strict=True):
                wall_time = round(passed, 3)
                run_rows.append({"global_step": global_step} | values | {"wall_time": wall_time})
                write_metrics(folder, run_rows)
            for writer, values in zip(writers, metrics, strict=False):
                for key, value in values.items():
                    writer.add_scalar(key, value, global_step)
                writer.flush()
            for run, loss in zip(runs, group.value_loss.tolist(), strict=True):
                if not math.isfinite(loss):
                    print(f"{run.name}: the critic's loss is {loss} at step {global_step}.")
            success = sum(values["success_once"] for values in metrics) / len(metrics)
            line = f"{label}  global_step {global_step}  success_once {success:.3f} (mean)"
            speed = f"{learnt / passed:.0f} updates/s"
            print("\033[K" * is_terminal + f"{line}  {speed}", flush=True)
            if global_step > args.learning_starts:
                if passed * args.total_timesteps / global_step > seconds:
                    raise TimeoutError
        if global_step == args.total_timesteps:
            break

        # Act, store, update
        if global_step < args.learning_starts:
            group.play(global_step)
        else:
            group.play_learning()

        if is_terminal and passed > shown + 0.5:
            shown = passed
            done = (global_step + play) / args.total_timesteps
            left = passed * (1 / done - 1)
            bar = "#" * int(40 * done)
            line = f"{label} [{bar:<40}] {done:.0%}, {learnt / passed:.0f} updates/s, {left:.0f} s left"
            print(f"\033[K{line}", end="\r", flush=True)
    group.close()
