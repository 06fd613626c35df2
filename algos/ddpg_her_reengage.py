"""ReenGAGE on DDPG + HER: the critic matches the target's value AND the target's gradient by the
goal (Levine & Feizi, "Goal-Conditioned Q-Learning as Knowledge Distillation", AAAI 2023).
Its diff against `ddpg_her.py` is the method, and `--alpha auto`, which is not the paper's.

    critic, Eq. (9):  (Q(s, a, g) - [R(s', g) + gamma Q'(s', pi'(s', g), g)])^2
                      + 1[R = c_low] alpha/d ||dQ(s, a, g)/dg - gamma dQ'(s', pi'(s', g), g)/dg||^2
    dense, Eq. (8):   the same with dR(s', g)/dg in the target's gradient, and no row left out

    python algos/ddpg_her_reengage.py --env-id ContinuousSeek5-v0    success 0.99 after 3 minutes
    python algos/ddpg_her_reengage.py --env-id HandReach-v3          success 0.5 after half an hour

PAPER_SETTINGS apply by themselves; a flag wins over them. Deviations from the paper: in robotics
a batch of 1024 stands for 19 workers with 256 each (see ddpg_her_reengage_torchrun.py); elsewhere
'future' goals include an episode's final state, which the paper's library left out.
"""

import copy
import itertools
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C before the run needs no traceback

import numpy as np
import torch
from torch import Tensor, nn

sys.path.append(str(Path(__file__).resolve().parents[1]))  # where the project is not installed
from envs import Task, VectorEnv, Video, inspect_task, make_vector
from envs.run import flags as launch
from envs.run.flags import RunArgs
from envs.run.folder import RunFolder


@dataclass
class EnvironmentArgs:
    env_id: str = "ContinuousSeek5-v0"
    """ContinuousSeek<d>-v0 for any d, a name from Gymnasium-Robotics, your own, or module:name"""
    seed: int = 1
    """of everything random: networks, exploration, replay, environments"""
    total_timesteps: int = 12_000
    """steps of all environments together (paper: 12k, 50k, 400k for ContinuousSeek5, 10, 20)"""
    num_envs: int = 1
    """environments that step side by side (paper: 1; 38 in robotics)"""
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
    learning_rate: float = 1e-3
    """of Adam, for actor and critic (paper: table 2)"""
    buffer_size: int = 1_000_000
    """transitions that the replay buffer holds; the oldest episodes are overwritten (paper: 1e6)"""
    batch_size: int = 256
    """transitions a gradient step (paper: table 2; 4864 in robotics)"""
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
    alpha: float | Literal["auto"] = 0.1
    """weight of the gradient term, a mean over batch and goal dimensions; 0 is DDPG+HER"""
    alpha_ratio: float = 0.1
    """with --alpha auto: the weighted gradient loss as a fraction of the value loss"""
    c_low: float | None = None
    """reward away from the goal, where the gradient term counts; found by itself (paper: -1)"""
    raw_goal_gradient: bool = False
    """with --normalize: the gradient by the goal as it is (paper: both, figure 11)"""
    her_k: int = 4
    """relabelled goals for one original goal: a fraction k / (k + 1) of each batch (paper: 4)"""
    her_strategy: Literal["future", "final", "episode", "none"] = "future"
    """which achieved goal of the same episode replaces the goal: a later, the last, any, or none"""


@dataclass
class Args(EnvironmentArgs, LearningArgs, MethodArgs, RunArgs):
    """Every flag; those of RunArgs are the same in all scripts."""


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
    r"ContinuousSeek\d+(Dense)?-v0": dict(total_timesteps=50_000, batch_size=512, alpha=0.2),
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
UNTUNED = dict(  # for any other environment, which nobody has tuned
    total_timesteps=50_000, gamma=0.98, exploration_noise=0.2, random_action_prob=0.3,
    normalize=True, alpha="auto", eval_episodes=0,
)  # fmt: skip


class Batch(NamedTuple):
    """Transitions, float32. The reward is R(s', g), by the next achieved goal and the goal."""

    obs: Tensor  # (batch, obs_dim)
    goal: Tensor  # (batch, goal_dim)
    action: Tensor  # (batch, action_dim)
    reward: Tensor  # (batch,)
    next_obs: Tensor  # (batch, obs_dim)
    next_achieved_goal: Tensor  # (batch, goal_dim)
    terminated: Tensor  # (batch,), 1 after a true end, 0 at a time limit


class HerReplayBuffer:
    """A ring of whole episodes, relabelled when they are sampled (Andrychowicz et al. 2017).

    An episode of T steps takes T + 1 slots in a row, one for each state s_0 .. s_T; slot t also
    holds the action, reward and end of the step from s_t. New episodes overwrite the oldest.
    A fraction her_k / (her_k + 1) of a batch gets a goal that its own episode achieved.
    """

    def __init__(self, envs: VectorEnv, args: Args, task: Task, rng: np.random.Generator):
        self.envs = envs
        self.task = task
        self.rng = rng
        self.strategy = args.her_strategy
        self.relabelled = args.her_k / (args.her_k + 1)
        self.max_steps = envs.max_episode_steps
        self.slots = args.buffer_size // self.max_steps * (self.max_steps + 1)
        step = {"obs": envs.obs_dim, "achieved_goal": envs.goal_dim, "action": envs.action_dim}
        step |= {"reward": 1, "terminated": 1}
        launch.check_buffer(args, envs, self.slots, envs.goal_dim + sum(step.values()))
        self.unfinished = {}
        self.t = np.zeros(envs.num_envs, np.int64)  # steps of each unfinished episode
        self.data = {"goal": np.zeros((self.slots, envs.goal_dim), np.float32)}
        for key, dim in step.items():
            self.unfinished[key] = np.zeros((envs.num_envs, self.max_steps + 1, dim), np.float32)
            self.data[key] = np.zeros((self.slots, dim), np.float32)
        # Of an episode, by its number modulo slots: the goal, first and last slot, steps before it
        for key in ("first", "last", "before", "episode_at", "slot_of"):
            self.data[key] = np.zeros(self.slots, np.int64)
        self.oldest = 0  # number of the oldest episode that is kept
        self.episodes = 0  # number of the next episode; episode_at: of a slot
        self.steps = 0  # number of the next step; slot_of: of it modulo slots
        self.end = 0  # slot of the next episode

    def add(self, step: dict, goal: np.ndarray, next_obs: dict, ended: np.ndarray) -> None:
        """Adds a step of every environment, (num_envs, ...); next_obs precedes any reset."""
        env = np.arange(len(self.t))
        for key, value in step.items():
            self.unfinished[key][env, self.t] = value
        self.t += 1
        self.unfinished["obs"][env, self.t] = next_obs["observation"]
        self.unfinished["achieved_goal"][env, self.t] = next_obs["achieved_goal"]
        for i in np.flatnonzero(ended):
            self.finish(i, goal[i])

    def finish(self, i: int, goal: np.ndarray) -> None:
        """Moves the episode of environment i into the ring, over the oldest ones in its way."""
        length = int(self.t[i])
        wraps = self.end + length >= self.slots  # an episode lies in a row
        first = 0 if wraps else self.end
        while self.oldest < self.episodes:
            place = self.data["first"][self.oldest % self.slots]
            is_left_over = wraps and place >= self.end
            if not is_left_over and not first <= place <= first + length:
                break
            self.oldest += 1
        self.end = first + length + 1
        for key, array in self.unfinished.items():
            self.data[key][first : self.end] = array[i, : length + 1]
        number = self.episodes % self.slots
        self.data["goal"][number] = goal
        self.data["first"][number] = first
        self.data["last"][number] = first + length
        self.data["before"][number] = self.steps
        self.data["episode_at"][first : self.end] = number
        steps = np.arange(self.steps, self.steps + length)
        self.data["slot_of"][steps % self.slots] = first + np.arange(length)
        self.episodes += 1
        self.steps += length
        self.t[i] = 0

    def stored(self, newest: int | None = None) -> tuple[int, int]:
        """How many episodes and steps there are, in all or in the `newest` episodes."""
        kept = self.episodes - self.oldest
        episodes = min(newest or kept, kept)
        before = self.data["before"][(self.episodes - episodes) % self.slots]
        return episodes, self.steps - before if episodes > 0 else 0

    def sample(self, batch_size: int, device: torch.device, newest: int | None = None) -> Batch:
        """Draws transitions uniformly with replacement, of all or of the `newest` episodes."""
        data = self.data
        episodes, steps = self.stored(newest)
        if steps == episodes * self.max_steps:  # equally long: draw an episode, then a step of it
            age = self.rng.integers(episodes, size=batch_size)
            t = self.rng.integers(self.max_steps, size=batch_size)
            back = (age + 1) * self.max_steps - t
        else:
            back = self.rng.integers(1, steps + 1, size=batch_size)
        slot = data["slot_of"][(self.steps - back) % self.slots]
        episode = data["episode_at"][slot]

        goal = data["goal"][episode]
        reward = data["reward"][slot, 0]
        terminated = data["terminated"][slot, 0]
        next_achieved_goal = data["achieved_goal"][slot + 1]
        n = int(self.relabelled * batch_size)  # the first n rows get a new goal, and what it brings
        if n > 0 and self.strategy != "none":
            last = data["last"][episode[:n]]
            first = data["first"][episode[:n]]
            before = {"future": slot[:n], "final": last - 1, "episode": first}[self.strategy]
            chosen = self.rng.integers(before, last) + 1
            end = next_achieved_goal[:n]
            if self.task.ends_on_success:  # an end for another reason, a crash, stays one
                terminated[:n] *= ~self.envs.compute_terminated(end, goal[:n])
            goal[:n] = data["achieved_goal"][chosen]
            reward[:n] = self.envs.compute_reward(end, goal[:n])
            if self.task.ends_on_success:
                terminated[:n][self.envs.compute_terminated(end, goal[:n])] = 1
        obs = data["obs"][slot]
        next_obs = data["obs"][slot + 1]
        action = data["action"][slot]
        arrays = obs, goal, action, reward, next_obs, next_achieved_goal, terminated
        return Batch(*(torch.from_numpy(array).to(device) for array in arrays))

    def used(self) -> int:
        """Rows of `data` that hold anything."""
        return min(self.steps + self.episodes, self.slots)


class Normalizer(nn.Module):
    """x -> clip((clip(x, +-200) - mean) / std, +-5), std >= 0.01; if disabled, x -> x."""

    def __init__(self, dim: int, enabled: bool):
        super().__init__()
        self.enabled = enabled
        self.register_buffer("sums", torch.zeros(3, dim, dtype=torch.float64))  # of 1, x, x squared
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("std", torch.ones(dim))

    def update(self, x: Tensor) -> None:  # (n, dim)
        x = x[x.isfinite().all(dim=1)]  # one bad row would spoil the statistics for good
        x = x.double().clamp(-200, 200)
        powers = torch.stack([x**0, x, x**2])  # (3, n, dim)
        self.sums += powers.sum(1)
        self.refresh()

    def refresh(self) -> None:
        """Mean and standard deviation by the sums, once there are any."""
        if self.sums[0, 0] == 0:
            return
        count, total, total_of_squares = self.sums
        mean = total / count
        variance = total_of_squares / count - mean.square()
        self.mean.copy_(mean)
        self.std.copy_(variance.clamp(min=1e-4).sqrt())

    def forward(self, x: Tensor) -> Tensor:
        if not self.enabled:
            return x
        x = x.clamp(-200, 200)
        return ((x - self.mean) / self.std).clamp(-5, 5)


def mlp(dims: tuple, xavier_init: bool) -> nn.Sequential:
    layers = []
    for fan_in, fan_out in itertools.pairwise(dims):
        layer = nn.Linear(fan_in, fan_out)
        if xavier_init:
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)
        layers += [layer, nn.ReLU(inplace=True)]
    return nn.Sequential(*layers[:-1])


class Actor(nn.Module):
    """pi(s, g): (batch, obs_dim), (batch, goal_dim) -> (batch, action_dim) in [-1, 1]."""

    def __init__(self, normalizer: Normalizer, net: nn.Sequential):
        super().__init__()
        self.normalizer = normalizer
        self.net = net

    def forward(self, obs: Tensor, goal: Tensor) -> Tensor:
        x = torch.cat([obs, goal], dim=1)
        return self.net(self.normalizer(x)).to(obs).tanh()  # float32 under autocast too

    @torch.no_grad()
    def act(self, obs: dict) -> np.ndarray:
        """Observations of n environments -> actions without noise, (n, action_dim)."""
        weight = self.net[0].weight
        state = torch.from_numpy(obs["observation"]).to(weight)
        goal = torch.from_numpy(obs["desired_goal"]).to(weight)
        return self(state, goal).cpu().numpy()


class Critic(nn.Module):
    """Q(s, a, g): (batch, obs_dim), (batch, goal_dim), (batch, action_dim) -> (batch,)."""

    def __init__(self, normalizer: Normalizer, net: nn.Sequential):
        super().__init__()
        self.normalizer = normalizer
        self.net = net

    def forward(self, obs: Tensor, goal: Tensor, action: Tensor) -> Tensor:
        x = self.normalizer(torch.cat([obs, goal], 1))
        x = torch.cat([x, action], 1)
        return self.net(x).to(obs).squeeze(1)


class GradientWeight(nn.Module):
    """alpha, the factor on the gradient term: a number that is given, or "auto".

    "auto" holds alpha * gradient loss at `ratio` times the value loss, whatever the units of goals
    and rewards are. It has to start small: alpha * gradient loss grows with alpha only while alpha
    is small, since a large one makes the critic flat in the goal, and then the rule by itself would
    raise alpha for ever. A critic that has learned nothing is flat too. So the first 1000 updates
    have no term, the alpha found at their end is the largest ever used, and `ratio` is small.
    """

    def __init__(self, alpha: float | str, ratio: float):
        super().__init__()
        self.alpha = alpha
        self.ratio = ratio
        self.register_buffer("updates", torch.zeros(()))  # those with a gradient loss
        self.register_buffer("losses", torch.zeros(2))  # running means: value loss, gradient loss
        self.register_buffer("largest", torch.zeros(()))

    @torch.no_grad()
    def forward(self, value_loss: Tensor, grad_loss: Tensor) -> Tensor | float:
        """The alpha of this update, by the losses of its batch; a mask without rows leaves 0."""
        if self.alpha != "auto":
            return self.alpha
        self.updates += grad_loss > 0
        # Both means start at 0, so what they lack at first cancels in their ratio
        losses = torch.stack([value_loss, grad_loss])
        self.losses.lerp_(losses.float(), 0.002)
        value, grad = self.losses
        alpha = self.ratio * value / grad.clamp(min=1e-30)
        is_waiting = self.updates <= 1000
        self.largest.copy_(torch.where(is_waiting, alpha, self.largest))
        return torch.minimum(alpha, self.largest).masked_fill(is_waiting, 0)


class Agent:
    """The networks, and what trains them."""

    def __init__(self, envs: VectorEnv, args: Args, device: torch.device):
        in_dim = envs.obs_dim + envs.goal_dim
        self.normalizer = Normalizer(in_dim, args.normalize)
        actor_net = mlp((in_dim, *args.hidden_dims, envs.action_dim), args.xavier_init)
        critic_net = mlp((in_dim + envs.action_dim, *args.hidden_dims, 1), args.xavier_init)
        self.actor = Actor(self.normalizer, actor_net).to(device)
        self.critic = Critic(self.normalizer, critic_net).to(device)
        self.target_actor = Actor(self.normalizer, copy.deepcopy(actor_net))
        self.target_critic = Critic(self.normalizer, copy.deepcopy(critic_net))
        self.actor_params = list(actor_net.parameters())
        self.critic_params = list(critic_net.parameters())
        targets = nn.ModuleList([self.target_actor, self.target_critic]).requires_grad_(False)
        self.target_params = list(targets.parameters())
        adam = partial(torch.optim.Adam, lr=args.learning_rate, fused=True)
        self.actor_optimizer = adam(self.actor_params)
        self.critic_optimizer = adam(self.critic_params)
        self.weight = GradientWeight(args.alpha, args.alpha_ratio).to(device)


def reengage_critic_loss(
    agent: Agent, batch: Batch, args: Args, reward_grad: Tensor | None
) -> tuple[Tensor, dict]:
    """Eq. (9), or Eq. (8) with a dense reward's gradient, reward_grad (batch, goal_dim)."""
    goal = batch.goal.clone().requires_grad_(args.alpha != 0)
    next_action = agent.target_actor(batch.next_obs, goal)  # (batch, action_dim)
    next_q = agent.target_critic(batch.next_obs, goal, next_action)  # (batch,)
    target = batch.reward + args.gamma * (1 - batch.terminated) * next_q  # (batch,)
    if args.clip_target:
        target = target.clamp(-1 / (1 - args.gamma), 0)  # a clipped target has no gradient
    q = agent.critic(batch.obs, goal, batch.action)  # (batch,)
    value_loss = nn.functional.mse_loss(q, target.detach())
    info = {"value_loss": value_loss, "q": q, "target": target}
    if args.alpha == 0:
        return value_loss, info | {"alpha": 0.0}

    target_grad = torch.autograd.grad(target.sum(), goal)[0]  # (batch, goal_dim), a constant
    mask = (batch.reward == args.c_low).float()  # (batch,), 1[R = c_low]
    if reward_grad is not None:
        target_grad = target_grad + reward_grad
        mask = torch.ones_like(mask)
    q_grad = torch.autograd.grad(q.sum(), goal, create_graph=True)[0]  # (batch, goal_dim)
    # By the normalised goal, whose unit is the standard deviation, or by the goal as it is
    scale = agent.normalizer.std[-goal.shape[1] :]  # (goal_dim,)
    if args.raw_goal_gradient:
        scale = torch.ones_like(scale)
    grad_loss = (mask[:, None] * scale * (q_grad - target_grad)).square().mean()
    alpha = agent.weight(value_loss, grad_loss)
    info |= {"grad_loss": grad_loss, "alpha": alpha, "mask": mask}
    info |= {"q_grad": q_grad, "target_grad": target_grad}
    return value_loss + alpha * grad_loss, info


def actor_loss(critic: Critic, actor: Actor, batch: Batch, action_l2: float) -> Tensor:
    """Eq. (5): -Q(s, pi(s, g), g), and the penalty on large actions of Plappert et al. (2018)."""
    action = actor(batch.obs, batch.goal)  # (batch, action_dim)
    q = critic(batch.obs, batch.goal, action)  # (batch,)
    return -q.mean() + action_l2 * action.square().mean()


def update(agent: Agent, batch: Batch, args: Args, reward_grad: Tensor | None) -> dict:
    """A gradient step of critic and actor; returns what it was made of."""
    autocast = launch.autocast(args, batch.obs.device)
    agent.critic_optimizer.zero_grad()
    with autocast:
        critic_loss, info = reengage_critic_loss(agent, batch, args, reward_grad)
    critic_loss.backward(inputs=agent.critic_params)  # no gradient of any other network
    if not args.simultaneous_updates:
        agent.critic_optimizer.step()

    agent.actor_optimizer.zero_grad()
    with autocast:
        policy_loss = actor_loss(agent.critic, agent.actor, batch, args.action_l2)
    policy_loss.backward(inputs=agent.actor_params)
    agent.actor_optimizer.step()
    if args.simultaneous_updates:
        agent.critic_optimizer.step()
    return info | {"critic_loss": critic_loss, "actor_loss": policy_loss}


@torch.no_grad()
def polyak(agent: Agent, tau: float) -> None:
    """target = (1 - tau) target + tau online."""
    torch._foreach_lerp_(agent.target_params, agent.actor_params + agent.critic_params, tau)


def evaluate(envs: VectorEnv, policy: Callable, episodes: int) -> dict[str, float]:
    """Means over episodes: success at the last step and at any step, undiscounted return."""
    played = []
    while len(played) * envs.num_envs < episodes:
        obs = envs.reset()
        ended = np.zeros(envs.num_envs, bool)
        success_once = np.zeros(envs.num_envs)
        episodic_return = np.zeros(envs.num_envs)
        while not ended.all():
            obs, reward, terminated, truncated, success = envs.step(policy(obs))
            ended = terminated | truncated
            success_once = np.maximum(success_once, success)
            episodic_return += reward
        played.append([success, success_once, episodic_return])
    names = ("success_rate", "success_once", "episodic_return")
    played = np.concatenate(played, axis=1)[:, :episodes]
    return dict(zip(names, played.mean(axis=1).tolist(), strict=True))


def report(folder: RunFolder, agent: Agent, envs: VectorEnv, args: Args, video: Video) -> None:
    """Evaluates without noise; keeps the networks with what they need, a film, the numbers."""
    metrics = evaluate(envs, agent.actor.act, args.eval_episodes)
    score = metrics["success_rate"], metrics["episodic_return"]
    folder.save_model(score, actor=agent.actor, critic=agent.critic)
    if video:
        folder.write("video.gif", video.film(agent.actor.act, episodes=4))
    folder.add_row(metrics)  # last: with its last row a run is complete


if __name__ == "__main__":
    with launch.one_sentence():  # bad input is found before anything is written
        args = launch.parse_args(Args, PAPER_SETTINGS | OTHER_SETTINGS, UNTUNED, __doc__)
        device, make_env = launch.start(args)
        eval_envs = launch.make_eval_envs(make_env, args)
        agent = Agent(eval_envs, args, device)
        if args.evaluate:
            launch.load_networks(args, actor=agent.actor)
            metrics = evaluate(eval_envs, agent.actor.act, args.eval_episodes)
            launch.play(args, make_env, agent.actor.act, metrics)
            sys.exit()
        task = inspect_task(make_env)
        envs = make_vector(make_env, args.num_envs, args.seed, args.env_threads or None)
        launch.check_task(args, task, envs)
        rng = np.random.default_rng(args.seed)
        buffer = HerReplayBuffer(envs, args, task, rng)
        video = Video(make_env, args.seed + 2_000_000) if args.capture_video else None
        folder = RunFolder(args, device)
        count = folder.begin(agent, buffer, [envs, eval_envs], rng)

    if count.global_step == 0:
        report(folder, agent, eval_envs, args, video)
    is_dense = task.is_dense and args.alpha != 0
    action_shape = (args.num_envs, envs.action_dim)
    next_obs: dict[str, np.ndarray] = {}
    ended = np.ones(args.num_envs, bool)
    while not folder.is_over():
        # Act: the policy with Gaussian noise, or a uniform action
        obs = envs.reset(ended) if ended.any() else next_obs
        noise = args.exploration_noise * rng.standard_normal(action_shape)
        noisy = (agent.actor.act(obs) + noise).clip(-1, 1)
        is_early = count.global_step < args.learning_starts
        random_prob = 1.0 if is_early else args.random_action_prob
        is_random = rng.random((args.num_envs, 1)) < random_prob
        action = np.where(is_random, rng.uniform(-1, 1, action_shape), noisy)
        action = action.astype(np.float32)
        next_obs, reward, terminated, truncated, success = envs.step(action)
        ended = terminated | truncated
        count.global_step += args.num_envs

        # Store
        step = {"obs": obs["observation"], "achieved_goal": obs["achieved_goal"], "action": action}
        step |= {"reward": reward[:, None], "terminated": terminated[:, None]}
        buffer.add(step, obs["desired_goal"], next_obs, ended)
        count.new_episodes += int(ended.sum())
        folder.add_step(reward, success, ended)

        # Update
        is_round = count.global_step // args.num_envs % args.train_frequency == 0
        if is_round and count.global_step >= args.learning_starts:
            if args.normalize and count.new_episodes > 0:
                _, steps = buffer.stored(count.new_episodes)
                batch = buffer.sample(steps, device, newest=count.new_episodes)
                agent.normalizer.update(torch.cat([batch.obs, batch.goal], 1))
                count.new_episodes = 0
            for _ in range(args.gradient_steps):
                batch = buffer.sample(args.batch_size, device)
                reward_grad = envs.reward_gradient(batch) if is_dense else None
                info = update(agent, batch, args, reward_grad)
                folder.watch(info)
                count.updates += 1
                if count.updates % args.target_network_frequency == 0:
                    polyak(agent, args.tau)
            folder.check_finite(info["value_loss"])

        # Log
        if count.global_step % args.log_frequency < args.num_envs:
            folder.log(buffer.stored()[1] / args.buffer_size)

        # Evaluate
        if folder.is_over() or count.global_step % args.eval_frequency < args.num_envs:
            report(folder, agent, eval_envs, args, video)
        folder.checkpoint(ended)
    folder.close()
