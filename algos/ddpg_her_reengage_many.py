"""Hundreds of runs of ReenGAGE on DDPG + HER at once, on one device: seeds, alphas, learning rates.

`ddpg_her_reengage.py` is the reference: one run, its loss as the paper writes it. Here each run has
its own networks, replay buffer, normalisers, environments and random numbers, and the arithmetic of
all is one batch, (run, batch, width), without autograd. A ReLU network with its masks held still is
linear. So with y the target, B the batch size, d the goal's dimensions, m = 1[R = -1] and

    c = 2 (q - y) / B            r = 2 alpha m (grad_g q - grad_g y) / (B d)

the gradient of (q - y)^2 + alpha m ||grad_g q - grad_g y||^2, Eq. (9), is that of the masked linear
network at the input c x + (r at the goal's place), its biases times c: one more forward pass.

    python algos/ddpg_her_reengage_many.py --env-id ContinuousSeek5-v0 --seeds 20 \\
        --alpha 0 0.1 auto --learning-rate 0.001 0.0015         120 runs, a folder for each
    python algos/ddpg_her_reengage_many.py --env-id HandReach-v3 --seeds 5 --alpha 0 0.1

On a GPU an episode of ContinuousSeek, or a round of updates of a simulated task, is one CUDA graph.
Called again it trains what is missing. Deviations from the paper: as in `ddpg_her_reengage.py`.
"""

import itertools
import math
import signal
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C before the run needs no traceback

import torch
from torch import Tensor

sys.path.append(str(Path(__file__).resolve().parents[1]))  # where the project is not installed
from envs import make
from envs.many import grid as many_runs
from envs.many.graphs import graphed
from envs.many.grid import GridArgs, GroupFolders, Run
from envs.many.on_device import DeviceTask, Obs, Streams, below, inspect_for_device
from envs.run import flags as launch


@dataclass
class EnvironmentArgs:
    env_id: str = "ContinuousSeek5-v0"
    """ContinuousSeek<d>-v0, or a simulated task with the reward -1, and 0 near the goal"""
    total_timesteps: int = 12_000
    """steps of a run's environments (paper: 12k, 50k, 400k for ContinuousSeek5, 10, 20)"""
    num_envs: int = 1
    """environments of a run that step side by side (paper: 1; 38 in robotics)"""
    observe_achieved_goal: bool = True
    """the networks see the achieved goal beside observation and goal (paper: not in robotics)"""
    normalize: bool = False
    """normalise observations and goals by running mean and deviation (paper: in robotics)"""
    eval_frequency: int = 2000
    """steps between two evaluations; one is at step 0 (paper: 2000; an epoch in robotics)"""
    eval_episodes: int = 50
    """episodes an evaluation, without noise; 0: by their length (paper: 50; 380 in robotics)"""


@dataclass
class LearningArgs:
    buffer_size: int = 1_000_000
    """transitions that a replay buffer holds; the oldest episodes are overwritten (paper: 1e6)"""
    batch_size: int = 256
    """transitions of a run in a gradient step (paper: table 2; 4864 in robotics)"""
    gamma: float = 0.95
    """discount factor (paper: 0.95; 1 - 1/T in robotics)"""
    tau: float = 0.005
    """Polyak factor: target = (1 - tau) target + tau online (paper: 0.005; 0.05 in robotics)"""
    learning_starts: int = 1000
    """steps with uniform actions before learning starts (paper: 1000; 0 in robotics)"""
    train_frequency: int = 1
    """steps of each environment between two rounds of updates (paper: 1; an episode in robotics)"""
    gradient_steps: int = 1
    """gradient steps a round (paper: 1; 40 in robotics)"""
    target_network_frequency: int = 1
    """gradient steps between two Polyak updates (paper: 1; 40 in robotics)"""
    exploration_noise: float = 0.03
    """deviation of the Gaussian noise on actions in [-1, 1] (paper: 0.03; 0.2 in robotics)"""
    random_action_prob: float = 0.0
    """probability that a uniform action replaces a training action (paper: 0; 0.3 in robotics)"""
    hidden_dims: tuple[int, ...] = (256, 256)
    """widths of the hidden layers of actor and critic (paper: 256 256; 256 256 256 in robotics)"""
    xavier_init: bool = False
    """Xavier-uniform weights and zero biases, not PyTorch's initialisation (paper: in robotics)"""
    action_l2: float = 0.0
    """weight of the mean squared action in the actor's loss (paper: 0; 1 in robotics)"""
    clip_target: bool = False
    """clip targets to [-1 / (1 - gamma), 0], what rewards -1 and 0 can give (paper: in robotics)"""
    simultaneous_updates: bool = False
    """the actor's gradient is taken before the critic's step, not after it (paper: in robotics)"""


@dataclass
class MethodArgs:
    alpha_ratio: float = 0.1
    """with --alpha auto: the weighted gradient loss as a fraction of the value loss"""
    raw_goal_gradient: bool = False
    """with --normalize: the gradient by the goal as it is (paper: both, figure 11)"""
    her_k: int = 4
    """relabelled goals, later ones of the episode, for one original goal (paper: 4)"""


@dataclass
class Args(EnvironmentArgs, LearningArgs, MethodArgs, GridArgs):
    """Every flag; those of GridArgs say which runs there are, and where they train."""


ROBOTICS = dict(
    total_timesteps=4_750_000, gamma=0.98, tau=0.05, batch_size=1024, learning_starts=0,
    num_envs=38, num_threads=2, train_frequency=50, gradient_steps=40, target_network_frequency=40,
    exploration_noise=0.2, random_action_prob=0.3, action_l2=1.0, clip_target=True,
    simultaneous_updates=True, normalize=True, observe_achieved_goal=False, xavier_init=True,
    hidden_dims=(256, 256, 256), eval_frequency=95_000, eval_episodes=380,
)  # fmt: skip
SEEK_20 = dict(total_timesteps=400_000, learning_rate=5e-4, batch_size=128)
BLOCK = dict(total_timesteps=38_000_000, gamma=0.99, train_frequency=100, eval_frequency=190_000)
REACH = dict(total_timesteps=15_000, num_envs=2, batch_size=256, eval_frequency=1500)
PAPER_SETTINGS = {  # every pattern that matches the whole name applies, later over earlier
    r"ContinuousSeek\d*(Dense)?-v0": dict(total_timesteps=50_000, batch_size=512, alpha=0.2),
    r"ContinuousSeek5-v0": dict(total_timesteps=12_000, learning_rate=1.5e-3, alpha=0.1),
    r"ContinuousSeek20-v0": SEEK_20,
    r"HandReach(Dense)?-v\d": ROBOTICS,
    r"HandManipulate(Block|Egg|Pen)\w*-v\d": ROBOTICS | BLOCK | dict(alpha=0.001),
    r"Hand(Reach|Manipulate(Block|Egg|Pen)\w*)Dense-v\d": dict(clip_target=False),
}
OTHER_SETTINGS = {  # not in the paper: there nobody has tuned alpha
    r"HandManipulate(Egg|Pen)\w*-v\d": dict(alpha="auto"),
    r"Fetch(Reach|Push|Slide|PickAndPlace)(Dense)?-v\d": ROBOTICS | dict(alpha="auto"),
    r"FetchReach(Dense)?-v\d": REACH | dict(eval_episodes=50),
    r"Fetch(Reach|Push|Slide|PickAndPlace)Dense-v\d": dict(clip_target=False),
}
UNTUNED = dict(normalize=True, alpha="auto", eval_episodes=0)  # for any other environment


class Batches(NamedTuple):
    """Transitions of every run as its networks see them; the reward is R(s', g)."""

    obs: Tensor  # (run, batch, obs_dim)
    goal: Tensor  # (run, batch, goal_dim)
    action: Tensor  # (run, batch, action_dim)
    reward: Tensor  # (run, batch, 1)
    next_obs: Tensor  # (run, batch, obs_dim)
    goal_slope: Tensor | float = 1.0  # (run, batch, goal_dim), see Normalizers.slope


class HerReplayBuffers:
    """Whole episodes of every run, all of one length, relabelled when they are sampled.

    Full buffers overwrite their oldest episodes. A fraction her_k / (her_k + 1) of a batch gets a
    goal that its own episode achieves later ('future', Andrychowicz et al. 2017).
    """

    def __init__(self, args: Args, task: DeviceTask, streams: Streams):
        device = streams.device
        self.streams = streams
        self.reward = task.reward
        self.steps = task.max_steps
        self.capacity = min(args.buffer_size, args.total_timesteps) // self.steps  # episodes
        self.relabelled = args.her_k / (args.her_k + 1)
        shape = (len(streams.state), self.capacity, self.steps + 1)
        self.data = {
            "observation": torch.zeros(*shape, task.obs_dim, device=device),
            "achieved_goal": torch.zeros(*shape, task.goal_dim, device=device),
            "desired_goal": torch.zeros(*shape, task.goal_dim, device=device),
            "action": torch.zeros(*shape, task.action_dim, device=device),
        }
        # Counted on the device, because a CUDA graph holds Python's numbers still
        self.stored = torch.zeros((), dtype=torch.int64, device=device)
        self.next = torch.zeros_like(self.stored)
        run = torch.arange(shape[0], device=device).unsqueeze(1)  # (run, 1)
        self.first_row = run * self.capacity * (self.steps + 1)  # all rows of all runs in a line

    def add(self, steps: list[Obs]) -> None:
        """Stores episodes: what was seen and done at the steps 0 .. T, each (run, env, dim)."""
        num_envs = steps[0]["action"].shape[1]
        slots = self.next + torch.arange(num_envs, device=self.streams.device)
        for key, array in self.data.items():
            values = torch.stack([step[key] for step in steps], 2)
            array.index_copy_(1, slots % self.capacity, values)
        self.next.add_(num_envs).remainder_(self.capacity)
        self.stored.add_(num_envs).clamp_(max=self.capacity)

    def sample(self, batch_size: int, newest: int | None = None) -> Batches:
        """Transitions drawn with replacement, of all stored episodes or of the newest."""
        which_episode, which_step, which_goal = self.streams.bits(3, batch_size).unbind(1)
        among = self.stored if newest is None else self.stored.clamp(max=newest)
        episode = (self.next - 1 - below(among, which_episode)) % self.capacity  # (run, batch)
        t = below(self.steps, which_step)  # (run, batch)
        row = self.first_row + episode * (self.steps + 1) + t
        later = row + 1 + below(self.steps - t, which_goal)  # of t + 1 .. T
        n = int(self.relabelled * batch_size)
        goal = self.take("desired_goal", row)
        goal[:, :n] = self.take("achieved_goal", later[:, :n])
        reward = self.reward(self.take("achieved_goal", row + 1), goal)
        return Batches(
            obs=self.take("observation", row),
            goal=goal,
            action=self.take("action", row),
            reward=reward.unsqueeze(2),
            next_obs=self.take("observation", row + 1),
        )

    def take(self, key: str, rows: Tensor) -> Tensor:  # (run, n) -> (run, n, dim)
        taken = self.data[key].flatten(0, 2).index_select(0, rows.flatten())
        return taken.view(*rows.shape, -1)


class Normalizers:
    """x -> clip((clip(x, +-200) - mean) / std, +-5), each run with its own; std >= 0.01."""

    def __init__(self, runs: int, dim: int, device: torch.device):
        self.sums = torch.zeros(runs, 3, dim, dtype=torch.float64, device=device)  # 1, x, x^2
        self.mean = torch.zeros(runs, 1, dim, device=device)
        self.std = torch.ones(runs, 1, dim, device=device)

    def update(self, x: Tensor) -> None:  # (run, n, dim)
        is_finite = x.isfinite().all(2, keepdim=True)  # a bad row would spoil them for good
        x = torch.where(is_finite, x, 0).double().clamp(-200, 200)
        powers = torch.stack([x**0, x, x**2], 1)  # (run, 3, n, dim)
        self.sums += (powers * is_finite.unsqueeze(1)).sum(2)
        count, total, total_of_squares = self.sums.unsqueeze(2).unbind(1)  # (run, 1, dim)
        mean = total / count
        variance = total_of_squares / count - mean.square()
        self.mean.copy_(mean)
        self.std.copy_(variance.clamp(min=1e-4).sqrt())

    def __call__(self, x: Tensor) -> Tensor:
        x = x.clamp(-200, 200)
        return ((x - self.mean) / self.std).clamp(-5, 5)

    def slope(self, x: Tensor, raw: bool) -> Tensor:
        """d normalised / dx, 0 where clipped; times std unless raw: by the normalised goal."""
        z = (x - self.mean) / self.std
        inside = (x.abs() <= 200) & (z.abs() <= 5)
        return inside / self.std if raw else inside.to(x)


Net = list[tuple[Tensor, Tensor]]  # layers: weight (run, fan_in, fan_out), bias (run, 1, fan_out)
Tensors = list[Tensor]


def size(dims: tuple[int, ...]) -> int:
    """Parameters of a network with layers of these widths."""
    layers = itertools.pairwise(dims)
    return sum((fan_in + 1) * fan_out for fan_in, fan_out in layers)


def room(dims: tuple[int, ...], device: torch.device) -> int:
    """Numbers in a row for it: on a GPU, whose kernels ask for alignment, a multiple of 32."""
    multiple = 32 if device.type == "cuda" else 1
    return multiple * math.ceil(size(dims) / multiple)


def as_net(parameters: Tensor, dims: tuple[int, ...]) -> Net:
    """Views into the parameters of each run, (run, size(dims))."""
    net = []
    for fan_in, fan_out in itertools.pairwise(dims):
        layer, parameters = parameters.tensor_split([(fan_in + 1) * fan_out], 1)
        layer = layer.view(-1, fan_in + 1, fan_out)
        net.append((layer[:, :-1], layer[:, -1:]))
    return net


class Networks:
    """Actors and critics of all runs, their targets and their gradients.

    A row has all parameters of a run, the actor's first: so Adam and Polyak are one call each.
    """

    def __init__(self, args: Args, task: DeviceTask, runs: list[Run], streams: Streams):
        in_dim = task.obs_dim + task.goal_dim
        actor_dims = (in_dim, *args.hidden_dims, task.action_dim)
        critic_dims = (in_dim + task.action_dim, *args.hidden_dims, 1)
        split = room(actor_dims, streams.device)
        shape = (3, len(runs), split + room(critic_dims, streams.device))
        self.online, self.target, self.gradient = torch.zeros(shape, device=streams.device)
        self.actor = as_net(self.online[:, :split], actor_dims)
        self.critic = as_net(self.online[:, split:], critic_dims)
        self.target_actor = as_net(self.target[:, :split], actor_dims)
        self.target_critic = as_net(self.target[:, split:], critic_dims)
        self.actor_gradient = as_net(self.gradient[:, :split], actor_dims)
        self.critic_gradient = as_net(self.gradient[:, split:], critic_dims)
        for weight, bias in self.actor + self.critic:
            fan_in, fan_out = weight.shape[1:]
            if args.xavier_init:
                bound = math.sqrt(6 / (fan_in + fan_out))
            else:
                bound = fan_in**-0.5
                bias.copy_(bound * streams.uniform(1, fan_out))
            weight.copy_(bound * streams.uniform(fan_in, fan_out))
        self.target.copy_(self.online)
        self.actor_optimizer = self.adam(runs, slice(split))
        self.critic_optimizer = self.adam(runs, slice(split, None))

    def adam(self, runs: list[Run], columns: slice) -> torch.optim.Adam:
        """Adam of one network of every run, each with the run's learning rate."""
        groups = {run.learning_rate: [] for run in runs}
        for run, row, gradient in zip(runs, self.online, self.gradient, strict=True):
            parameters = row[columns]
            parameters.grad = gradient[columns]
            groups[run.learning_rate].append(parameters)
        groups = [{"params": rows, "lr": rate} for rate, rows in groups.items()]
        return torch.optim.Adam(groups, fused=True, capturable=self.online.is_cuda)


def forward(net: Net, x: Tensor) -> tuple[Tensor, Tensors]:
    """h_0 = x, h_k = max(0, h_{k-1} W_k + b_k): the output, which has no ReLU, and all h."""
    h = [x]
    for weight, bias in net[:-1]:
        x = torch.baddbmm(bias, x, weight).relu_()  # (run, batch, width)
        h.append(x)
    weight, bias = net[-1]
    return torch.baddbmm(bias, x, weight).to(weight), h  # float32 under autocast too


def where_active_(x: Tensor, h: Tensor) -> Tensor:
    """x 1[h > 0] in place, by the kernel that is a ReLU's backward pass."""
    relu_backward = torch.ops.aten.threshold_backward.grad_input
    return relu_backward(x, h, 0, grad_input=x)


def backward(net: Net, h: Tensors, delta: Tensor) -> Tensors:
    """delta_k = (delta_{k+1} W_{k+1}^T) 1[h_k > 0]: derivatives by what each ReLU is given."""
    deltas = [delta]
    for k in range(len(net) - 1, 0, -1):
        weight, _ = net[k]
        delta = where_active_(torch.bmm(delta, weight.mT), h[k])  # (run, batch, width)
        deltas.insert(0, delta)
    return deltas


def by_input(net: Net, deltas: Tensors, columns: slice) -> Tensor:
    """The derivative by these columns of the input: delta_1 W_1^T, (run, batch, columns)."""
    weight, _ = net[0]
    return torch.bmm(deltas[0], weight[:, columns].mT).to(weight)


def masked_linear(net: Net, h: Tensors, x: Tensor, c: Tensor) -> Tensors:
    """h~_0 = x, h~_k = (h~_{k-1} W_k + c b_k) 1[h_k > 0]: another input through the masks of h."""
    mixed = [x]
    for (weight, bias), h_k in zip(net[:-1], h[1:], strict=True):
        x = torch.baddbmm(c * bias, x, weight)
        mixed.append(where_active_(x, h_k))
    return mixed


def write_gradient(gradient: Net, h: Tensors, deltas: Tensors, c: Tensor) -> None:
    """dW_k = h_{k-1}^T delta_k, db_k = c^T delta_k: sums over the batch."""
    for (weight, bias), h_k, delta in zip(gradient, h, deltas, strict=True):
        for place, factor in ((weight, h_k), (bias, c)):  # (run, fan_in or 1, fan_out)
            if deltas[0].dtype == torch.bfloat16:  # autocast writes no float32 in place
                place.copy_(torch.bmm(factor.mT, delta))
            else:
                torch.bmm(factor.mT, delta, out=place)


class GradientWeights:
    """alpha of every run, a number or "auto": the plain script's `GradientWeight` for each."""

    def __init__(self, runs: list[Run], ratio: float, device: torch.device):
        self.ratio = ratio
        alphas = [-1.0 if run.alpha == "auto" else run.alpha for run in runs]
        self.fixed = torch.tensor(alphas, device=device)  # (run,), -1 for auto
        self.are_zero = not any(alphas)
        self.updates = torch.zeros(len(runs), device=device)  # those with a gradient loss
        self.losses = torch.zeros(2, len(runs), device=device)  # running means: value, gradient
        self.largest = torch.zeros(len(runs), device=device)

    def __call__(self, value_loss: Tensor, grad_loss: Tensor) -> Tensor:
        """The alphas of this update, (run,), by the losses of the batches, (run,) each."""
        self.updates += grad_loss > 0
        # Both means start at 0, so what they lack at first cancels in their ratio
        losses = torch.stack([value_loss, grad_loss])
        self.losses.lerp_(losses, 0.002)
        value, grad = self.losses
        alpha = self.ratio * value / grad.clamp(min=1e-30)
        is_waiting = self.updates <= 1000
        self.largest.copy_(torch.where(is_waiting, alpha, self.largest))
        alpha = torch.minimum(alpha, self.largest) * ~is_waiting
        return torch.where(self.fixed < 0, alpha, self.fixed)


def write_critic_gradient(
    networks: Networks, batch: Batches, weights: GradientWeights, args: Args
) -> dict[str, Tensor]:
    """Writes the gradient of Eq. (9) by every critic; returns both losses and alpha, (run,)."""
    batch_size, obs_dim = batch.obs.shape[1:]
    goal_dim = batch.goal.shape[2]
    goals = slice(obs_dim, obs_dim + goal_dim)  # of the input: obs, goal, action

    # The target y = R(s', g) + gamma Q'(s', pi'(s', g), g), a constant
    next_x = torch.cat([batch.next_obs, batch.goal], 2)
    next_action, actor_h = forward(networks.target_actor, next_x)
    next_action = next_action.tanh()  # (run, batch, action_dim)
    next_x = torch.cat([next_x, next_action], 2)
    next_q, next_h = forward(networks.target_critic, next_x)
    target = batch.reward + args.gamma * next_q  # (run, batch, 1)
    slope = torch.full_like(target, args.gamma)  # dy / dQ'
    if args.clip_target:
        lowest = -1 / (1 - args.gamma)
        slope *= (target >= lowest) & (target <= 0)  # a clipped target has no gradient
        target = target.clamp(lowest, 0)

    # q, and the deltas of every layer for an output gradient of 1
    x = torch.cat([batch.obs, batch.goal, batch.action], 2)
    q, h = forward(networks.critic, x)
    deltas = backward(networks.critic, h, torch.ones_like(q))
    error = q - target  # (run, batch, 1)
    value_loss = error.square().mean((1, 2))
    c = 2 / batch_size * error
    if weights.are_zero:
        mixed = [c * h_k for h_k in h]
        write_gradient(networks.critic_gradient, mixed, deltas, c)
        return {"value_loss": value_loss, "alpha": weights.fixed}

    # grad_g y: straight, and through the target policy's action
    next_deltas = backward(networks.target_critic, next_h, slope)
    target_grad = by_input(networks.target_critic, next_deltas, goals)  # (run, batch, goal_dim)
    by_action = by_input(networks.target_critic, next_deltas, slice(goals.stop, None))
    by_action *= 1 - next_action.square()  # (run, batch, action_dim)
    actor_deltas = backward(networks.target_actor, actor_h, by_action)
    target_grad += by_input(networks.target_actor, actor_deltas, goals)

    # The gradient term, and both terms as one masked linear network at a mixed input
    q_grad = by_input(networks.critic, deltas, goals)  # (run, batch, goal_dim)
    sparse_mask = (batch.reward == -1) * batch.goal_slope
    difference = sparse_mask * (q_grad - target_grad)
    grad_loss = difference.square().mean((1, 2))  # 1[R = -1] ||...||^2
    alpha = weights(value_loss, grad_loss)
    r = 2 * alpha.view(-1, 1, 1) / (batch_size * goal_dim) * sparse_mask * difference
    mixed_x = c * x
    mixed_x[:, :, goals] += r
    mixed = masked_linear(networks.critic, h, mixed_x, c)
    write_gradient(networks.critic_gradient, mixed, deltas, c)
    return {"value_loss": value_loss, "grad_loss": grad_loss, "alpha": alpha}


def write_actor_gradient(networks: Networks, batch: Batches, action_l2: float) -> None:
    """Of Eq. (5): -Q(s, pi(s, g), g), and of the penalty on large actions, by every actor."""
    x = torch.cat([batch.obs, batch.goal], 2)
    action, actor_h = forward(networks.actor, x)
    action = action.tanh()  # (run, batch, action_dim)
    critic_x = torch.cat([x, action], 2)
    q, h = forward(networks.critic, critic_x)
    slope = torch.full_like(q, -1 / q.shape[1])  # of -mean q
    deltas = backward(networks.critic, h, slope)
    by_action = by_input(networks.critic, deltas, slice(x.shape[2], None))
    by_action += 2 * action_l2 / action[0].numel() * action
    by_action *= 1 - action.square()
    deltas = backward(networks.actor, actor_h, by_action)
    write_gradient(networks.actor_gradient, actor_h, deltas, torch.ones_like(q))


class Group:
    """Runs that are trained side by side: all that they own, as one batch."""

    def __init__(self, args: Args, task: DeviceTask, runs: list[Run], device: torch.device):
        self.args = args
        self.task = task
        keys = [run.key() for run in runs]
        self.streams = Streams(keys, device)
        self.networks = Networks(args, task, runs, self.streams)
        self.buffers = HerReplayBuffers(args, task, self.streams)
        self.normalizers = Normalizers(len(runs), task.obs_dim + task.goal_dim, device)
        self.weights = GradientWeights(runs, args.alpha_ratio, device)
        self.envs = task.make(args.num_envs, keys, self.streams)
        eval_keys = [key + 1 for key in keys]
        self.eval_envs = task.make(args.eval_episodes, eval_keys, self.streams)
        self.play_learning = partial(self.play, args.learning_starts)
        if task.is_seek:
            self.play_learning = graphed(self.play_learning, device)
        else:
            self.learn = graphed(self.learn, device)

    def act(self, obs: Obs) -> Tensor:
        """Actions without noise, (run, env, action_dim)."""
        x = torch.cat([obs["observation"], obs["desired_goal"]], 2)
        if self.args.normalize:
            x = self.normalizers(x)
        action, _ = forward(self.networks.actor, x)
        return action.tanh()

    def explore(self, obs: Obs, random_prob: float) -> Tensor:
        """The policy with Gaussian noise, or a uniform action."""
        action = self.act(obs)
        _, num_envs, dim = action.shape
        draws = self.streams.uniform(num_envs, 2 * dim + 1)
        noise, uniform, choice = draws.split((dim, dim, 1), 2)
        noise = math.sqrt(2) * noise.erfinv()  # standard normal
        noisy = action + self.args.exploration_noise * noise
        return torch.where(choice < 2 * random_prob - 1, uniform, noisy.clamp(-1, 1))

    def play(self, global_step: int) -> dict[str, Tensor]:
        """One episode in every environment, and its updates; of the last one what `learn` tells."""
        args = self.args
        info = {}
        steps = []
        obs = self.envs.reset()
        for t in range(1, self.task.max_steps + 1):
            random_prob = 1.0 if global_step < args.learning_starts else args.random_action_prob
            action = self.explore(obs, random_prob)
            steps.append(obs | {"action": action})
            obs = self.envs.step(action)
            global_step += args.num_envs
            if t == self.task.max_steps:
                steps.append(obs | {"action": torch.zeros_like(action)})
                self.store(steps)
            if global_step >= args.learning_starts and t % args.train_frequency == 0:
                info = self.learn()
        return info

    def store(self, steps: list[Obs]) -> None:
        self.buffers.add(steps)
        if self.args.normalize:
            newest = self.args.num_envs
            batch = self.buffers.sample(newest * self.task.max_steps, newest)
            self.normalizers.update(torch.cat([batch.obs, batch.goal], 2))

    def normalized(self, batch: Batches) -> Batches:
        if not self.args.normalize:
            return batch
        dims = batch.obs.shape[2], batch.goal.shape[2]
        x = torch.cat([batch.obs, batch.goal], 2)
        next_x = torch.cat([batch.next_obs, batch.goal], 2)
        obs, goal = self.normalizers(x).split(dims, 2)
        next_obs, _ = self.normalizers(next_x).split(dims, 2)
        slope = self.normalizers.slope(x, self.args.raw_goal_gradient)
        _, goal_slope = slope.split(dims, 2)
        return batch._replace(obs=obs, goal=goal, next_obs=next_obs, goal_slope=goal_slope)

    def learn(self) -> dict[str, Tensor]:
        """A round of updates; of the last one its losses and alphas, (run,)."""
        args = self.args
        networks = self.networks
        with launch.autocast(args, networks.online.device):
            for step in range(1, args.gradient_steps + 1):
                batch = self.normalized(self.buffers.sample(args.batch_size))
                info = write_critic_gradient(networks, batch, self.weights, args)
                if not args.simultaneous_updates:
                    networks.critic_optimizer.step()
                write_actor_gradient(networks, batch, args.action_l2)
                networks.actor_optimizer.step()
                if args.simultaneous_updates:
                    networks.critic_optimizer.step()
                if step % args.target_network_frequency == 0:
                    networks.target.lerp_(networks.online, args.tau)  # Polyak
        return info

    def evaluate(self) -> list[dict[str, float]]:
        """Means over eval_episodes episodes of each run, without noise."""
        rewards = []
        obs = self.eval_envs.reset()
        for _ in range(self.task.max_steps):
            obs = self.eval_envs.step(self.act(obs))
            rewards.append(self.task.reward(obs["achieved_goal"], obs["desired_goal"]))
        reward = torch.stack(rewards).double()  # (step, run, episode)
        success = (reward == 0).double()
        played = (success[-1], success.amax(0), reward.sum(0))
        metrics = torch.stack(played)  # (3, run, episode)
        names = ("success_rate", "success_once", "episodic_return")
        rows = metrics.mean(2).T.tolist()  # (run, 3)
        return [dict(zip(names, row, strict=True)) for row in rows]


def train_group(args: Args, task: DeviceTask, device: torch.device, runs: list[Run]) -> None:
    """Trains runs side by side, and writes what each of them measures into its folder."""
    group = Group(args, task, runs, device)
    folders = GroupFolders(args, runs, device)
    steps = task.max_steps * args.num_envs  # an episode everywhere
    info = {}

    for global_step in range(0, args.total_timesteps + 1, steps):
        # Evaluate: before the first step, every eval_frequency steps, and at the end
        is_over = global_step == args.total_timesteps
        if is_over or global_step % args.eval_frequency == 0:
            folders.add_rows(global_step, group.evaluate(), info)
        folders.show(global_step)

        # Act, store, update
        if is_over:
            break
        if global_step < args.learning_starts:
            info = group.play(global_step)
        else:
            info = group.play_learning()
    folders.close()


if __name__ == "__main__":
    with launch.one_sentence():  # bad input is found before anything is written
        args = many_runs.parse_args(Args, PAPER_SETTINGS | OTHER_SETTINGS, UNTUNED, __doc__)
        observe = args.observe_achieved_goal
        task = inspect_for_device(partial(make, args.env_id, observe_achieved_goal=observe))
        many_runs.check_args(args, task)
        device = many_runs.start(args)
        group_size = many_runs.choose_group_size(args, task, device)
        grid = many_runs.Grid(args)
    grid.train(group_size, partial(train_group, args, task, device))
