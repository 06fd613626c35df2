"""Hundreds of runs of ReenGAGE on DDPG + HER at once, on one device: seeds, alphas, learning rates.

`ddpg_her_reengage.py` is the reference: one run, and what each part is for. Here each run has its
own networks, replay buffer, normaliser, environments and random numbers, and the arithmetic of all
is one batch: the same losses over tensors (run, batch, dim), and one gradient of their sum.

    python algos/ddpg_her_reengage_many.py --env-id ContinuousSeek5-v0 --seeds 20 \\
        --alpha 0 0.1 auto --learning-rate 0.001 0.0015         120 runs, a folder for each
    python algos/ddpg_her_reengage_many.py --env-id HandReach-v3 --seeds 5 --alpha 0 0.1

On a CPU the gradients are compiled. On a GPU an episode of ContinuousSeek, or a round of updates of
a simulated task, is one CUDA graph. The same call again trains what is missing. Deviations from the
paper: as in `ddpg_her_reengage.py`.
"""

import itertools
import math
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

sys.path.append(str(Path(__file__).resolve().parents[1]))  # where the project is not installed
from envs import make, run
from envs.many.graphs import graphed
from envs.many.grid import Grid, GridArgs, GroupFolders, Run, choose_group_size
from envs.many.on_device import DeviceTask, Obs, Streams, below, inspect_for_device


@dataclass
class Args(GridArgs):
    """Flags; which runs there are, and where they train, is in `GridArgs`."""

    # Environment
    env_id: str = "ContinuousSeek5-v0"
    """ContinuousSeek<d>-v0, or a simulated task with the reward -1, and 0 near the goal"""
    total_timesteps: run.Count = 12_000
    """steps of a run's environments (paper: 12k, 50k, 400k for ContinuousSeek5, 10, 20)"""
    num_envs: run.Count = 1
    """environments of a run that step side by side (paper: 1; 38 in robotics)"""
    observe_achieved_goal: bool = True
    """the networks see the achieved goal beside observation and goal (paper: not in robotics)"""
    normalize: bool = False
    """normalise observations and goals by running mean and std (paper: in robotics)"""
    eval_frequency: run.Count = 2000
    """steps between two evaluations; one is at step 0 (paper: 2000; an epoch in robotics)"""
    eval_episodes: run.Count = 50
    """episodes per evaluation, without noise (paper: 50; 380 in robotics)"""

    # Learning
    buffer_size: run.Count = 1_000_000
    """transitions that a replay buffer holds; the oldest episodes are overwritten (paper: 1e6)"""
    batch_size: run.Count = 256
    """transitions of a run per gradient step (paper: table 2; 4864 in robotics)"""
    gamma: run.Discount = 0.95
    """discount factor (paper: 0.95; 1 - 1/T in robotics)"""
    tau: run.PositiveFraction = 0.005
    """Polyak factor: target = (1 - tau) target + tau online (paper: 0.005; 0.05 in robotics)"""
    learning_starts: run.CountOrZero = 1000
    """steps with uniform actions before learning starts (paper: 1000; 0 in robotics)"""
    train_frequency: run.Count = 1
    """steps of each environment between two rounds of updates (paper: 1; an episode in robotics)"""
    gradient_steps: run.Count = 1
    """gradient steps per round (paper: 1; 40 in robotics)"""
    target_network_frequency: run.Count = 1
    """gradient steps between two Polyak updates (paper: 1; 40 in robotics)"""
    exploration_noise: run.NonNegative = 0.03
    """standard deviation of the noise on actions in [-1, 1] (paper: 0.03; 0.2 in robotics)"""
    random_action_prob: run.Fraction = 0.0
    """probability that a uniform action replaces a training action (paper: 0; 0.3 in robotics)"""
    hidden_dims: tuple[run.Width, ...] = (256, 256)
    """widths of the hidden layers of actor and critic (paper: 256 256; 256 256 256 in robotics)"""
    xavier_init: bool = False
    """Xavier-uniform weights and zero biases, not PyTorch's initialisation (paper: in robotics)"""
    action_l2: run.NonNegative = 0.0
    """weight of the mean squared action in the actor's loss (paper: 0; 1 in robotics)"""
    clip_target: bool = False
    """clip targets to [-1 / (1 - gamma), 0], what rewards -1 and 0 can give (paper: in robotics)"""
    simultaneous_updates: bool = False
    """the actor's gradient is taken before the critic's step, not after it (paper: in robotics)"""

    # Method
    alpha_ratio: run.Positive = 0.1
    """with --alpha auto: the weighted gradient loss as a fraction of the value loss"""
    alpha_warmup: run.Count = 1000
    """with --alpha auto: updates without the gradient term at first"""
    alpha_averaging: run.PositiveFraction = 0.002
    """with --alpha auto: weight of a new loss in the running means of both losses"""
    raw_goal_gradient: bool = False
    """with --normalize: the gradient with respect to the raw goal (paper: both, figure 11)"""
    her_k: run.Count = 4
    """relabelled goals, later ones of the episode, for one original goal (paper: 4)"""


ROBOTICS = dict(
    total_timesteps=4_750_000, gamma=0.98, tau=0.05, batch_size=1024, learning_starts=0,
    num_envs=38, num_threads=2, train_frequency=50, gradient_steps=40, target_network_frequency=40,
    exploration_noise=0.2, random_action_prob=0.3, action_l2=1.0, clip_target=True,
    simultaneous_updates=True, normalize=True, observe_achieved_goal=False, xavier_init=True,
    hidden_dims=(256, 256, 256), eval_frequency=95_000, eval_episodes=380,
)  # fmt: skip
REACH = dict(total_timesteps=15_000, num_envs=2, batch_size=256, eval_frequency=1500)
PAPER_SETTINGS = {  # every pattern that matches the whole name applies, later over earlier
    r"ContinuousSeek\d*-v0": dict(total_timesteps=50_000, batch_size=512, alpha=(0.2,)),
    r"ContinuousSeek5-v0": dict(total_timesteps=12_000, learning_rate=(1.5e-3,), alpha=(0.1,)),
    r"ContinuousSeek20-v0": dict(total_timesteps=400_000, learning_rate=(5e-4,), batch_size=128),
    r"HandReach-v\d": ROBOTICS,
}
OTHER_SETTINGS = {  # not in the paper: there nobody has tuned alpha
    r"Fetch(Reach|Push|Slide|PickAndPlace)-v\d": ROBOTICS | dict(alpha=("auto",)),
    r"FetchReach-v\d": REACH | dict(eval_episodes=50),
}
UNTUNED = dict(  # for any other environment, which nobody has tuned
    total_timesteps=50_000, gamma=0.98, exploration_noise=0.2, random_action_prob=0.3,
    normalize=True, action_l2=0.1, alpha=("auto",),
)  # fmt: skip


class Batches(NamedTuple):
    """Transitions of every run; the reward is R(s', g), by the next achieved goal and the goal."""

    obs: Tensor  # (run, batch, obs_dim)
    goal: Tensor  # (run, batch, goal_dim)
    action: Tensor  # (run, batch, action_dim)
    reward: Tensor  # (run, batch)
    next_obs: Tensor  # (run, batch, obs_dim)


class HerReplayBuffers:
    """Rings of episodes of one length, a ring for each run, relabelled when they are sampled.

    Step t of the episode in place n lies in row n T + t. New episodes overwrite the oldest.
    A fraction her_k / (her_k + 1) of a batch gets a goal that its own episode achieves later
    ('future', Andrychowicz et al. 2017).
    """

    def __init__(self, args: Args, task: DeviceTask, streams: Streams):
        device = streams.device
        self.streams = streams
        self.reward = task.reward
        self.max_steps = task.max_steps
        self.capacity = min(args.buffer_size, args.total_timesteps) // self.max_steps  # episodes
        self.relabelled = args.her_k / (args.her_k + 1)
        shape = (len(streams.state), self.capacity, self.max_steps)
        dims = dict(obs=task.obs_dim, goal=task.goal_dim, action=task.action_dim)
        dims |= dict(next_obs=task.obs_dim, next_achieved_goal=task.goal_dim)
        self.data = {key: torch.zeros(*shape, dim, device=device) for key, dim in dims.items()}
        # Counted on the device, because a CUDA graph holds Python's numbers still
        self.stored = torch.zeros((), dtype=torch.int64, device=device)  # episodes of each run
        self.next = torch.zeros_like(self.stored)  # place of the next episode
        run_index = torch.arange(shape[0], device=device)[:, None]  # (run, 1)
        self.first_row = run_index * self.capacity * self.max_steps  # rows of all runs in a line

    def add(self, steps: list[dict[str, Tensor]]) -> None:
        """Stores an episode of every environment: its T steps, of tensors (run, env, dim)."""
        num_envs = steps[0]["action"].shape[1]
        places = self.next + torch.arange(num_envs, device=self.streams.device)
        for key, array in self.data.items():
            episodes = torch.stack([step[key] for step in steps], 2)  # (run, env, T, dim)
            array.index_copy_(1, places % self.capacity, episodes)
        self.next.add_(num_envs).remainder_(self.capacity)
        self.stored.add_(num_envs).clamp_(max=self.capacity)

    def sample(self, batch_size: int, newest: int | None = None) -> Batches:
        """Draws transitions with replacement, of all episodes or of the `newest` ones."""
        which_episode, which_step, which_goal = self.streams.bits(3, batch_size).unbind(1)
        among = self.stored if newest is None else self.stored.clamp(max=newest)
        place = (self.next - 1 - below(among, which_episode)) % self.capacity  # (run, batch)
        t = below(self.max_steps, which_step)
        row = self.first_row + place * self.max_steps + t
        chosen = row + below(self.max_steps - t, which_goal)  # a step from t on
        n = int(self.relabelled * batch_size)
        goal = self.take("goal", row)
        goal[:, :n] = self.take("next_achieved_goal", chosen[:, :n])
        return Batches(
            obs=self.take("obs", row),
            goal=goal,
            action=self.take("action", row),
            reward=self.reward(self.take("next_achieved_goal", row), goal),
            next_obs=self.take("next_obs", row),
        )

    def take(self, key: str, rows: Tensor) -> Tensor:  # (run, n) -> (run, n, dim)
        taken = self.data[key].flatten(0, 2).index_select(0, rows.flatten())
        return taken.view(*rows.shape, -1)


class Normalizers(nn.Module):
    """x -> clip((x - mean) / std, +-5), each run with its own, std >= 0.01; if disabled, x -> x."""

    def __init__(self, num_runs: int, dim: int, enabled: bool):
        super().__init__()
        self.enabled = enabled
        sums = torch.zeros(num_runs, 3, dim, dtype=torch.float64)  # of 1, x, x squared
        self.register_buffer("sums", sums)
        self.register_buffer("mean", torch.zeros(num_runs, 1, dim))
        self.register_buffer("std", torch.ones(num_runs, 1, dim))

    def update(self, x: Tensor) -> None:  # (run, n, dim)
        x = x.double()
        powers = torch.stack([x**0, x, x**2], 1)  # (run, 3, n, dim)
        self.sums += powers.sum(2)
        count, total, total_of_squares = self.sums[:, :, None].unbind(1)  # (run, 1, dim)
        mean = total / count
        variance = total_of_squares / count - mean.square()
        self.mean.copy_(mean)
        self.std.copy_(variance.clamp(min=1e-4).sqrt())

    def forward(self, x: Tensor) -> Tensor:
        if not self.enabled:
            return x
        return ((x - self.mean) / self.std).clamp(-5, 5)


class Mlps(nn.Module):
    """An MLP with ReLUs for each run: (run, batch, dims[0]) -> (run, batch, dims[-1]).

    Row i of `params` has all parameters of run i, so Adam and Polyak take few calls. A row's length
    is a multiple of 32: on a GPU the kernels want each to begin at a multiple of 128 bytes.
    """

    def __init__(self, dims: tuple[int, ...], normalizer: Normalizers, streams: Streams):
        super().__init__()
        self.normalizer = normalizer
        self.shapes = []
        for fan_in, fan_out in itertools.pairwise(dims):
            self.shapes += [(fan_in, fan_out), (1, fan_out)]  # weight, bias
        self.sizes = [math.prod(shape) for shape in self.shapes]
        self.sizes.append(-sum(self.sizes) % 32)
        rows = torch.zeros(len(streams.state), sum(self.sizes), device=streams.device)
        self.params = nn.Parameter(rows)

    def layers(self) -> list[tuple[Tensor, Tensor]]:
        """Views into the parameters: weights (run, fan_in, fan_out), biases (run, 1, fan_out)."""
        parts = self.params.split(self.sizes, 1)
        views = [part.unflatten(1, shape) for part, shape in zip(parts, self.shapes, strict=False)]
        return list(zip(views[::2], views[1::2], strict=True))

    @torch.no_grad()
    def draw(self, streams: Streams, xavier_init: bool) -> None:
        """The parameters that training begins with, like those of PyTorch's layers, or Xavier's."""
        for weight, bias in self.layers():
            fan_in, fan_out = weight.shape[1:]
            bound = fan_in**-0.5
            if xavier_init:
                bound = math.sqrt(6 / (fan_in + fan_out))
            else:
                bias.copy_(bound * streams.uniform(1, fan_out))
            weight.copy_(bound * streams.uniform(fan_in, fan_out))

    def mlp(self, x: Tensor, scale: Tensor | float = 1.0) -> Tensor:
        """The output at scale * x with scale * biases: that is scale * the output at x."""
        *hidden, (last_weight, last_bias) = self.layers()
        x = scale * x
        for weight, bias in hidden:
            x = x @ weight + scale * bias
            x = x * (x > 0)  # ReLU; the mask is a constant to autograd, and costs no derivative
        return x @ last_weight + scale * last_bias


class Actors(Mlps):
    """pi(s, g): (run, batch, obs_dim), (run, batch, goal_dim) -> (run, batch, action_dim)."""

    def forward(self, obs: Tensor, goal: Tensor) -> Tensor:
        x = torch.cat([obs, goal], 2)
        return self.mlp(self.normalizer(x)).to(obs).tanh()  # float32 under autocast too


class Critics(Mlps):
    """Q(s, a, g): the same and (run, batch, action_dim) -> (run, batch)."""

    def forward(
        self, obs: Tensor, goal: Tensor, action: Tensor, scale: Tensor | float = 1.0
    ) -> Tensor:
        x = self.normalizer(torch.cat([obs, goal], 2))
        x = torch.cat([x, action], 2)
        return self.mlp(x, scale).to(obs).squeeze(2)


class Alphas(nn.Module):
    """alpha of every run: the number that is given, or what the plain script's AutoAlpha does."""

    def __init__(self, runs: list[Run], args: Args):
        super().__init__()
        self.args = args
        given = [-1.0 if each.alpha == "auto" else each.alpha for each in runs]
        self.are_zero = not any(given)
        self.register_buffer("given", torch.tensor(given))  # (run,), -1 for auto
        self.register_buffer("updates", torch.zeros(len(runs)))  # those with a gradient loss
        self.register_buffer("losses", torch.zeros(2, len(runs)))  # running means: value, gradient
        self.register_buffer("largest", torch.zeros(len(runs)))

    @torch.no_grad()
    def forward(self, value_loss: Tensor, grad_loss: Tensor) -> Tensor:
        """The alphas of this update, (run,), by the losses of the batches, (run,) each."""
        self.updates += grad_loss > 0
        # Both means start at 0, so what they lack at first cancels in their ratio
        losses = torch.stack([value_loss, grad_loss])
        self.losses.lerp_(losses.to(self.losses), self.args.alpha_averaging)
        value, grad = self.losses
        alpha = self.args.alpha_ratio * value / grad.clamp(min=1e-30)
        is_warming_up = self.updates <= self.args.alpha_warmup
        self.largest.copy_(torch.where(is_warming_up, alpha, self.largest))
        alpha = torch.minimum(alpha, self.largest).masked_fill(is_warming_up, 0)
        return torch.where(self.given < 0, alpha, self.given)


class Agents:
    """The networks of all runs and their optimizers."""

    def __init__(self, args: Args, task: DeviceTask, runs: list[Run], streams: Streams):
        in_dim = task.obs_dim + task.goal_dim
        self.normalizer = Normalizers(len(runs), in_dim, args.normalize).to(streams.device)
        actor = (in_dim, *args.hidden_dims, task.action_dim), self.normalizer, streams
        critic = (in_dim + task.action_dim, *args.hidden_dims, 1), self.normalizer, streams
        self.actor = Actors(*actor)
        self.critic = Critics(*critic)
        self.target_actor = Actors(*actor).requires_grad_(False)
        self.target_critic = Critics(*critic).requires_grad_(False)
        for network in (self.actor, self.critic):
            network.draw(streams, args.xavier_init)
        polyak(self, tau=1.0)
        self.actor_optimizer = RowsOfAdam(self.actor.params, runs)
        self.critic_optimizer = RowsOfAdam(self.critic.params, runs)
        self.alphas = Alphas(runs, args).to(streams.device)


class RowsOfAdam:
    """Adam for the parameters of all runs, (run, size), each row with its run's learning rate."""

    def __init__(self, params: Tensor, runs: list[Run]):
        self.gradient = torch.zeros_like(params)
        groups = {each.learning_rate: [] for each in runs}
        for each, row, gradient in zip(runs, params.data, self.gradient, strict=True):
            row.grad = gradient
            groups[each.learning_rate].append(row)
        groups = [{"params": rows, "lr": rate} for rate, rows in groups.items()]
        self.adam = torch.optim.Adam(groups, fused=True, capturable=params.is_cuda)

    def step(self, gradient: Tensor) -> None:
        self.gradient.copy_(gradient)
        self.adam.step()


def value_and_gradient(
    critic: Critics, batch: Batches, goal: Tensor
) -> tuple[Tensor, Tensor | None]:
    """Q(s, a, g), (run, batch), and dQ/dg, (run, batch, goal_dim), if it is asked for.

    A ReLU network is linear along a ray: scale * Q, if its input and biases are multiplied by
    `scale`. So Q is a derivative too, by `scale` at 1, and one backward pass gives both. Their own
    gradient then takes 4 products of a layer's matrices in place of 6.
    """
    if not goal.requires_grad:
        return critic(batch.obs, goal, batch.action), None
    scale = torch.ones_like(batch.reward).unsqueeze(2).requires_grad_()  # (run, batch, 1)
    scaled_q = critic(batch.obs, goal, batch.action, scale)
    q, q_grad = torch.autograd.grad(scaled_q.sum(), (scale, goal), create_graph=True)
    return q.squeeze(2), q_grad


def reengage_critic_losses(agents: Agents, batch: Batches, args: Args) -> tuple[Tensor, dict]:
    """Eq. (9) of every run, (run,)."""
    goal = batch.goal.clone().requires_grad_(not agents.alphas.are_zero)
    next_action = agents.target_actor(batch.next_obs, goal)  # (run, batch, action_dim)
    next_q = agents.target_critic(batch.next_obs, goal, next_action)  # (run, batch)
    target = batch.reward + args.gamma * next_q  # (run, batch)
    if args.clip_target:
        target = target.clamp(-1 / (1 - args.gamma), 0)  # a clipped target has no gradient
    q, q_grad = value_and_gradient(agents.critic, batch, goal)  # and (run, batch, goal_dim)
    value_loss = (q - target.detach()).square().mean(1)  # (run,)
    curves = {"losses/value": value_loss}
    if agents.alphas.are_zero:
        zero = torch.zeros_like(value_loss)
        return value_loss, curves | {"gradient/alpha": zero, "gradient/ratio": zero}

    target_grad = torch.autograd.grad(target.sum(), goal)[0]  # (run, batch, goal_dim), a constant
    mask = (batch.reward == -1).to(q)  # (run, batch), 1[R = -1]
    # With respect to the normalised goal, in units of its standard deviation, or to the raw one
    scale = agents.normalizer.std[:, :, -goal.shape[2] :]  # (run, 1, goal_dim)
    if args.raw_goal_gradient:
        scale = torch.ones_like(scale)
    grad_loss = (mask[:, :, None] * scale * (q_grad - target_grad)).square().mean((1, 2))  # (run,)
    alpha = agents.alphas(value_loss, grad_loss)  # (run,)
    curves |= {"losses/gradient": grad_loss, "gradient/alpha": alpha}
    curves["gradient/ratio"] = alpha * grad_loss / value_loss
    return value_loss + alpha * grad_loss, curves


def actor_losses(agents: Agents, batch: Batches, args: Args) -> tuple[Tensor, dict]:
    """Eq. (5) of every run, (run,), and the penalty on large actions of Plappert et al. (2018)."""
    action = agents.actor(batch.obs, batch.goal)  # (run, batch, action_dim)
    q = agents.critic(batch.obs, batch.goal, action)  # (run, batch)
    loss = -q.mean(1) + args.action_l2 * action.square().mean((1, 2))  # (run,)
    return loss, {"losses/actor": loss}


def gradient_rows(
    losses: Callable, params: Tensor, agents: Agents, batch: Batches, args: Args
) -> tuple[Tensor, dict[str, Tensor]]:
    """The gradient of every run's loss, a row each, and a value for each training curve."""
    with run.autocast(args, batch.obs.device):
        loss, curves = losses(agents, batch, args)  # (run,)
    curves = {name: values.detach() for name, values in curves.items()}
    # A run's parameters are in its own loss alone: the gradient of the sum is that of each
    return torch.autograd.grad(loss.sum(), params)[0], curves


def update(agents: Agents, batch: Batches, args: Args) -> dict[str, Tensor]:
    """A gradient step of all critics and actors; returns a value for each curve, (run,)."""
    critic_grad, curves = gradient_rows(
        reengage_critic_losses, agents.critic.params, agents, batch, args
    )
    if not args.simultaneous_updates:
        agents.critic_optimizer.step(critic_grad)
    actor_grad, actor_curves = gradient_rows(actor_losses, agents.actor.params, agents, batch, args)
    agents.actor_optimizer.step(actor_grad)
    if args.simultaneous_updates:
        agents.critic_optimizer.step(critic_grad)
    return curves | actor_curves


@torch.no_grad()
def polyak(agents: Agents, tau: float) -> None:
    """target = (1 - tau) target + tau online."""
    agents.target_actor.params.lerp_(agents.actor.params, tau)
    agents.target_critic.params.lerp_(agents.critic.params, tau)


class Group:
    """Runs that are trained side by side: all that they own, as one batch."""

    def __init__(self, args: Args, task: DeviceTask, runs: list[Run], device: torch.device):
        self.args = args
        self.task = task
        keys = [each.key() for each in runs]
        self.streams = Streams(keys, device)
        self.agents = Agents(args, task, runs, self.streams)
        self.buffers = HerReplayBuffers(args, task, self.streams)
        self.envs = task.make(args.num_envs, keys, self.streams)
        eval_keys = [key + 1 for key in keys]
        self.eval_envs = task.make(args.eval_episodes, eval_keys, self.streams)
        self.play_learning = partial(self.play, args.learning_starts)
        if task.is_seek:
            self.play_learning = graphed(self.play_learning, device)
        else:
            self.learn = graphed(self.learn, device)

    @torch.no_grad()
    def act(self, obs: Obs) -> Tensor:
        """Actions without noise, (run, env, action_dim)."""
        return self.agents.actor(obs["observation"], obs["desired_goal"])

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
        """One episode in every environment, and its updates; returns the curves of the last one."""
        args = self.args
        curves = {}
        steps = []
        obs = self.envs.reset()
        for t in range(1, self.task.max_steps + 1):
            # Act
            random_prob = 1.0 if global_step < args.learning_starts else args.random_action_prob
            action = self.explore(obs, random_prob)
            next_obs = self.envs.step(action)
            global_step += args.num_envs

            # Store
            step = {"obs": obs["observation"], "goal": obs["desired_goal"], "action": action}
            step |= {"next_obs": next_obs["observation"]}
            step |= {"next_achieved_goal": next_obs["achieved_goal"]}
            steps.append(step)
            obs = next_obs
            if t == self.task.max_steps:
                self.store(steps)

            # Update
            if global_step >= args.learning_starts and t % args.train_frequency == 0:
                curves = self.learn()
        return curves

    def store(self, steps: list[dict[str, Tensor]]) -> None:
        self.buffers.add(steps)
        if self.args.normalize:
            newest = self.args.num_envs
            batch = self.buffers.sample(newest * self.task.max_steps, newest)
            self.agents.normalizer.update(torch.cat([batch.obs, batch.goal], 2))
            if self.task.max_steps < 50:  # many states are final ones, no step's obs
                self.agents.normalizer.update(torch.cat([batch.next_obs, batch.goal], 2))

    def learn(self) -> dict[str, Tensor]:
        """A round of updates; returns the curves of the last one."""
        for step in range(1, self.args.gradient_steps + 1):
            curves = update(self.agents, self.buffers.sample(self.args.batch_size), self.args)
            if step % self.args.target_network_frequency == 0:
                polyak(self.agents, self.args.tau)
        return curves

    def evaluate(self) -> list[dict[str, float]]:
        """Means over eval_episodes episodes of each run, without noise."""
        rewards = []
        obs = self.eval_envs.reset()
        for _ in range(self.task.max_steps):
            obs = self.eval_envs.step(self.act(obs))
            rewards.append(self.task.reward(obs["achieved_goal"], obs["desired_goal"]))
        reward = torch.stack(rewards).double()  # (step, run, episode)
        success = (reward == 0).double()
        played = torch.stack([success[-1], success.amax(0), reward.sum(0)])  # (3, run, episode)
        names = ("success_rate", "success_once", "episodic_return")
        rows = played.mean(2).T.tolist()  # (run, 3)
        return [dict(zip(names, row, strict=True)) for row in rows]


def check_args(args: Args, task: DeviceTask) -> None:
    """Raises BadInput where flags and task do not go together, or nothing could be learned."""
    if args.raw_goal_gradient and not args.normalize:
        raise run.BadInput("--raw-goal-gradient has no meaning without --normalize.")
    if args.gradient_steps % args.target_network_frequency:
        raise run.BadInput("--target-network-frequency must divide --gradient-steps.")
    if task.max_steps % args.train_frequency:
        raise run.BadInput(f"--train-frequency must divide an episode's {task.max_steps} steps.")
    steps = task.max_steps * args.num_envs  # an episode everywhere
    if args.total_timesteps % steps or args.eval_frequency % steps:
        raise run.BadInput(f"--total-timesteps and --eval-frequency must be multiples of {steps}.")
    if args.buffer_size < steps:
        raise run.BadInput(f"--buffer-size must be at least {steps}, an episode everywhere.")
    run.check_first_update(args, task.max_steps)


def run_bytes(args: Args, task: DeviceTask) -> int:
    """A run's memory, nearly: replay, weights of all kinds, activations."""
    steps = min(args.buffer_size, args.total_timesteps)
    replay = steps * (2 * task.obs_dim + 2 * task.goal_dim + task.action_dim)
    width = max(args.hidden_dims)
    networks = 10 * len(args.hidden_dims) * width * (width + args.batch_size)
    return 4 * (replay + networks)


def train_group(args: Args, task: DeviceTask, device: torch.device, folders: GroupFolders) -> None:
    """Trains runs side by side, and writes what each of them measures into its folder."""
    group = Group(args, task, folders.runs, device)
    curves = {}
    steps = task.max_steps * args.num_envs  # an episode everywhere
    for global_step in range(0, args.total_timesteps + 1, steps):
        # Evaluate: before the first step, every eval_frequency steps, and at the end
        is_over = global_step == args.total_timesteps
        if is_over or global_step % args.eval_frequency == 0:
            if curves:
                folders.check_finite("the value loss", curves["losses/value"])
            folders.add_rows(global_step, group.evaluate(), curves)
        if is_over:
            break

        # Act, store, update
        if global_step < args.learning_starts:
            curves = group.play(global_step)
        else:
            curves = group.play_learning()
        folders.bar.update(steps)


def main(cls: type[Args], script: str, doc: str) -> None:
    """The command, with the flags of `cls`: trains what is missing of the runs of `script`."""
    global gradient_rows
    with run.one_sentence():  # bad input is found before anything is written
        args = run.read_flags(cls, PAPER_SETTINGS | OTHER_SETTINGS, UNTUNED, doc)
        observe = args.observe_achieved_goal
        task = inspect_for_device(partial(make, args.env_id, observe_achieved_goal=observe))
        check_args(args, task)
        device = run.set_up_torch(args)
        cached = 4 * args.batch_size * max(args.hidden_dims)
        group_size = choose_group_size(args.group_size, run_bytes(args, task), cached, device)
        grid = Grid(args, script, device)
    # 32 MB, given back at once: from now on glibc keeps as much for itself, a fifth faster
    torch.empty(8_000_000)
    if args.compile and device.type == "cpu":
        gradient_rows = run.compiled(gradient_rows)
    grid.train(group_size, partial(train_group, args, task, device))


if __name__ == "__main__":
    main(Args, __file__, __doc__)
