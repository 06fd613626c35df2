"""ReenGAGE on DDPG + HER: the critic matches the target's value AND its gradient with respect to
the goal (Levine & Feizi, "Goal-Conditioned Q-Learning as Knowledge Distillation", AAAI 2023).
Its diff against `ddpg_her.py` is the method, and `--alpha auto`, which is not the paper's.

    critic, Eq. (9):  (Q(s, a, g) - [R(s', g) + gamma Q'(s', pi'(s', g), g)])^2
                      + 1[R = c_low] alpha/d ||dQ(s, a, g)/dg - gamma dQ'(s', pi'(s', g), g)/dg||^2
    dense, Eq. (8):   the same with dR(s', g)/dg in the target's gradient, and no row left out

    python algos/ddpg_her_reengage.py --env-id ContinuousSeek5-v0    success 0.99 after 3 minutes
    python algos/ddpg_her_reengage.py --env-id HandReach-v3          success 0.5 after 15 minutes

PAPER_SETTINGS apply automatically; flags override them. Deviations from the paper: in robotics
a batch of 1024 stands for 19 workers with 256 each (see ddpg_her_reengage_torchrun.py); elsewhere
'future' goals include an episode's final state, which the paper's library left out.
"""

import copy
import itertools
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

sys.path.append(str(Path(__file__).resolve().parents[1]))  # where the project is not installed
from envs import Task, VectorEnv, Video, inspect_task, make, make_eval_envs, make_vector, run


@dataclass
class Args(run.RunArgs):
    """Flags; those that every script has are in `run.RunArgs`."""

    # Environment
    env_id: str = "ContinuousSeek5-v0"
    """ContinuousSeek<d>-v0 (d to 100), a name from Gymnasium-Robotics, your own, or module:name"""
    seed: run.Seed = 1
    """seeds everything random: networks, exploration, replay, environments"""
    total_timesteps: run.Count = 12_000
    """steps of all environments together (paper: 12k, 50k, 400k for ContinuousSeek5, 10, 20)"""
    num_envs: run.Count = 1
    """environments that step side by side (paper: 1; 38 in robotics)"""
    observe_achieved_goal: bool = True
    """the networks see the achieved goal beside observation and goal (paper: not in robotics)"""
    normalize: bool = False
    """normalise observations and goals by running mean and std (paper: in robotics)"""
    eval_frequency: run.Count = 2000
    """steps between two evaluations; one is at step 0 (paper: 2000; an epoch in robotics)"""
    eval_episodes: run.CountOrZero = 50
    """episodes per evaluation, without noise; 0: by their length (paper: 50; 380 in robotics)"""

    # Learning
    learning_rate: run.Positive = 1e-3
    """of Adam, for actor and critic (paper: table 2)"""
    buffer_size: run.Count = 1_000_000
    """transitions that the replay buffer holds; the oldest episodes are overwritten (paper: 1e6)"""
    batch_size: run.Count = 256
    """transitions per gradient step (paper: table 2; 4864 in robotics)"""
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
    alpha: run.NonNegative | Literal["auto"] = 0.1
    """weight of the gradient term, a mean over batch and goal dimensions; 0 is DDPG+HER"""
    alpha_ratio: run.Positive = 0.1
    """with --alpha auto: the weighted gradient loss as a fraction of the value loss"""
    alpha_warmup: run.Count = 1000
    """with --alpha auto: updates without the gradient term at first"""
    alpha_averaging: run.PositiveFraction = 0.002
    """with --alpha auto: weight of a new loss in the running means of both losses"""
    c_low: run.Number | None = None
    """reward away from the goal, where the term applies; None: found by probing (paper: -1)"""
    raw_goal_gradient: bool = False
    """with --normalize: the gradient with respect to the raw goal (paper: both, figure 11)"""
    her_k: run.Count = 4
    """relabelled goals for one original goal: a fraction k / (k + 1) of each batch (paper: 4)"""
    her_strategy: Literal["future", "final", "episode", "none"] = "future"
    """which achieved goal of the same episode replaces the goal: a later, the last, any, or none"""


ROBOTICS = dict(
    total_timesteps=4_750_000, gamma=0.98, tau=0.05, batch_size=1024, learning_starts=0,
    num_envs=38, num_threads=2, train_frequency=50, gradient_steps=40, target_network_frequency=40,
    exploration_noise=0.2, random_action_prob=0.3, action_l2=1.0, clip_target=True,
    simultaneous_updates=True, normalize=True, observe_achieved_goal=False, xavier_init=True,
    hidden_dims=(256, 256, 256), eval_frequency=95_000, eval_episodes=380,
)  # fmt: skip
BLOCK = dict(total_timesteps=38_000_000, gamma=0.99, train_frequency=100, eval_frequency=190_000)
REACH = dict(total_timesteps=15_000, num_envs=2, batch_size=256, eval_frequency=1500)
PAPER_SETTINGS = {  # every pattern that matches the whole name applies, later over earlier
    r"ContinuousSeek\d*(Dense)?-v0": dict(total_timesteps=50_000, batch_size=512, alpha=0.2),
    r"ContinuousSeek5-v0": dict(total_timesteps=12_000, learning_rate=1.5e-3, alpha=0.1),
    r"ContinuousSeek20-v0": dict(total_timesteps=400_000, learning_rate=5e-4, batch_size=128),
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
    normalize=True, action_l2=0.1, alpha="auto", eval_episodes=0,
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

    The n-th step ever stored is in row n % size, with `start` and `stop`: the numbers of the first
    step of its episode and of the next episode. New episodes overwrite the oldest.
    """

    def __init__(self, envs: VectorEnv, args: Args, task: Task, rng: np.random.Generator):
        self.envs = envs
        self.task = task
        self.rng = rng
        self.strategy = args.her_strategy
        self.relabelled = args.her_k / (args.her_k + 1)  # fraction of a batch
        self.max_steps = envs.max_episode_steps
        self.size = args.buffer_size
        dims = {"obs": envs.obs_dim, "goal": envs.goal_dim, "action": envs.action_dim}
        dims |= {"next_obs": envs.obs_dim, "next_achieved_goal": envs.goal_dim}
        run.check_buffer(self.size, envs, row_bytes=4 * sum(dims.values()) + 24)
        self.data = {key: np.zeros(self.size, np.float32) for key in ("reward", "terminated")}
        for key, dim in dims.items():
            self.data[key] = np.zeros((self.size, dim), np.float32)
        for key in ("start", "stop"):
            self.data[key] = np.zeros(self.size, np.int64)
        self.unfinished = [[] for _ in range(envs.num_envs)]  # steps of the current episodes
        self.oldest = 0  # the first step that is still there
        self.end = 0  # the next step to be stored
        self.are_equal = True  # all episodes so far had max_steps

    def __len__(self) -> int:
        return self.end - self.oldest

    def add(self, step: dict, ended: np.ndarray) -> None:
        """Adds a step of every environment, (num_envs, ...)."""
        step = copy.deepcopy(step)  # the caller's arrays may change
        for i, episode in enumerate(self.unfinished):
            episode.append(step)
            if ended[i]:
                self.store_episode(i, episode)
                episode.clear()

    def store_episode(self, i: int, episode: list[dict]) -> None:
        """Writes the finished episode of environment i into the ring, over the oldest ones."""
        length = len(episode)
        while len(self) + length > self.size:
            self.oldest = int(self.data["stop"][self.oldest % self.size])  # whole episodes leave
        where = np.arange(self.end, self.end + length) % self.size
        self.data["start"][where] = self.end
        self.data["stop"][where] = self.end + length
        for key in episode[0]:
            self.data[key][where] = [step[key][i] for step in episode]
        self.end += length
        self.are_equal = self.are_equal and length == self.max_steps

    def sample(self, batch_size: int, device: torch.device, newest: int | None = None) -> Batch:
        """Draws transitions uniformly with replacement, of all steps or of the `newest` ones."""
        steps = min(newest or len(self), len(self))
        if self.are_equal:  # draw an episode, then a step of it
            age = self.rng.integers(steps // self.max_steps, size=batch_size)
            t = self.rng.integers(self.max_steps, size=batch_size)
            step = self.end - (age + 1) * self.max_steps + t
        else:
            step = self.end - self.rng.integers(1, steps + 1, size=batch_size)
        batch = {key: array[step % self.size] for key, array in self.data.items()}
        n = int(self.relabelled * batch_size)  # the first n rows get a new goal, and its reward
        if n > 0 and self.strategy != "none":
            stop = batch["stop"][:n]
            low = {"future": step[:n], "final": stop - 1, "episode": batch["start"][:n]}
            chosen = self.rng.integers(low[self.strategy], stop) % self.size
            achieved_goal = batch["next_achieved_goal"][:n]
            goal = batch["goal"][:n]
            new_goal = self.data["next_achieved_goal"][chosen]
            if self.task.ends_on_success:  # an end for another reason, such as a crash, remains
                terminated = batch["terminated"][:n]
                terminated[self.envs.compute_terminated(achieved_goal, goal)] = 0
                terminated[self.envs.compute_terminated(achieved_goal, new_goal)] = 1
            goal[:] = new_goal
            batch["reward"][:n] = self.envs.compute_reward(achieved_goal, new_goal)
        return Batch(*(torch.from_numpy(batch[key]).to(device) for key in Batch._fields))

    def state_dict(self) -> dict:
        """Everything but empty rows and unfinished episodes."""
        filled = {key: array[: self.end] for key, array in self.data.items()}
        return run.attributes_of(self, without=("unfinished",), data=filled)

    def load_state_dict(self, state: dict) -> None:
        run.restore_attributes(self, state, without=("unfinished",))


class Normalizer(nn.Module):
    """x -> clip((x - mean) / std, +-5), std >= 0.01; if disabled, x -> x."""

    def __init__(self, dim: int, enabled: bool):
        super().__init__()
        self.enabled = enabled
        self.register_buffer("sums", torch.zeros(3, dim, dtype=torch.float64))  # of 1, x, x squared
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("std", torch.ones(dim))

    def update(self, x: Tensor) -> None:  # (n, dim)
        x = x.double()
        powers = torch.stack([x**0, x, x**2])  # (3, n, dim)
        self.sums += powers.sum(1)
        _, mean, mean_of_squares = self.sums / self.sums[0]
        variance = mean_of_squares - mean.square()
        self.mean.copy_(mean)
        self.std.copy_(variance.clamp(min=1e-4).sqrt())

    def forward(self, x: Tensor) -> Tensor:
        if not self.enabled:
            return x
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


class AutoAlpha(nn.Module):
    """--alpha auto: holds alpha * gradient loss at --alpha-ratio times the value loss.

    A large alpha makes the critic flat in the goal: then the gradient loss falls faster than alpha
    grows, and this rule alone would raise alpha for ever. A new critic is as flat. So the first
    --alpha-warmup updates have no term, and no alpha is larger than the one at their end.
    """

    def __init__(self, args: Args):
        super().__init__()
        self.args = args
        self.register_buffer("updates", torch.zeros(()))  # those with a gradient loss above 0
        self.register_buffer("losses", torch.zeros(2))  # running means: value loss, gradient loss
        self.register_buffer("largest", torch.zeros(()))

    @torch.no_grad()
    def forward(self, value_loss: Tensor, grad_loss: Tensor) -> Tensor:
        """The alpha of this update, from its batch's losses; 0 during the warm-up."""
        self.updates += grad_loss > 0
        # Both means start at 0, so what they lack at first cancels in their ratio
        losses = torch.stack([value_loss, grad_loss])
        value, grad = self.losses.lerp_(losses.float(), self.args.alpha_averaging)
        alpha = self.args.alpha_ratio * value / grad.clamp(min=1e-30)
        is_warming_up = self.updates <= self.args.alpha_warmup
        self.largest.copy_(torch.where(is_warming_up, alpha, self.largest))
        return torch.minimum(alpha, self.largest).masked_fill(is_warming_up, 0)


class Agent(nn.Module):
    """The networks and their optimizers."""

    def __init__(self, envs: VectorEnv, args: Args, device: torch.device):
        super().__init__()
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
        self.auto_alpha = AutoAlpha(args).to(device) if args.alpha == "auto" else None


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
    curves = {"losses/value": value_loss, "values/q": q.mean(), "values/target": target.mean()}
    if args.alpha == 0:
        return value_loss, curves | {"gradient/alpha": 0.0, "gradient/ratio": 0.0}

    target_grad = torch.autograd.grad(target.sum(), goal)[0]  # (batch, goal_dim), a constant
    mask = (batch.reward == args.c_low).to(goal)  # (batch,), 1[R = c_low]
    if reward_grad is not None:
        target_grad = target_grad + reward_grad
        mask = torch.ones_like(mask)
    q_grad = torch.autograd.grad(q.sum(), goal, create_graph=True)[0]  # (batch, goal_dim)
    # With respect to the normalised goal, in units of its standard deviation, or to the raw one
    scale = agent.normalizer.std[-goal.shape[1] :]  # (goal_dim,)
    if args.raw_goal_gradient:
        scale = torch.ones_like(scale)
    grad_loss = (mask[:, None] * scale * (q_grad - target_grad)).square().mean()
    alpha = agent.auto_alpha(value_loss, grad_loss) if args.alpha == "auto" else args.alpha
    loss = value_loss + alpha * grad_loss
    curves |= {"losses/gradient": grad_loss, "losses/critic": loss, "gradient/alpha": alpha}
    curves["gradient/ratio"] = alpha * grad_loss / value_loss
    return loss, curves | agreement(q_grad, target_grad, mask)


@torch.no_grad()
def agreement(q_grad: Tensor, target_grad: Tensor, mask: Tensor) -> dict:
    """How well both gradients (batch, goal_dim) agree in the rows of the mask (batch,)."""
    weight = mask / mask.sum().clamp(min=1)  # (batch,)
    return {
        "gradient/rows": mask.mean(),  # the fraction that the term sees
        "gradient/norm": weight @ q_grad.norm(dim=1),
        "gradient/target_norm": weight @ target_grad.norm(dim=1),
        "gradient/cosine": weight @ torch.cosine_similarity(q_grad, target_grad, dim=1),
    }


def actor_loss(agent: Agent, batch: Batch, args: Args) -> tuple[Tensor, dict]:
    """Eq. (5): -Q(s, pi(s, g), g), and the penalty on large actions of Plappert et al. (2018)."""
    action = agent.actor(batch.obs, batch.goal)  # (batch, action_dim)
    q = agent.critic(batch.obs, batch.goal, action)  # (batch,)
    loss = -q.mean() + args.action_l2 * action.square().mean()
    # Where |a| > 0.99 the slope of tanh is below 0.02: an actor that is there everywhere stays
    saturated = (action.abs() > 0.99).float().mean()
    return loss, {"losses/actor": loss, "policy/saturated": saturated}


def backward(
    loss: Callable, parameters: list[Tensor], agent: Agent, batch: Batch, args: Args, *more: Tensor
) -> dict[str, Tensor]:
    """Adds a loss's gradient to the parameters' `grad`; returns a value for each training curve."""
    with run.autocast(args, batch.obs.device):
        value, curves = loss(agent, batch, args, *more)
    value.backward(inputs=parameters)
    return {name: torch.as_tensor(number).detach() for name, number in curves.items()}


def update(agent: Agent, batch: Batch, args: Args, reward_grad: Tensor | None) -> dict:
    """One gradient step of critic and actor; returns a value for each training curve."""
    agent.critic_optimizer.zero_grad()
    curves = backward(reengage_critic_loss, agent.critic_params, agent, batch, args, reward_grad)
    if not args.simultaneous_updates:
        agent.critic_optimizer.step()
    agent.actor_optimizer.zero_grad()
    curves |= backward(actor_loss, agent.actor_params, agent, batch, args)
    agent.actor_optimizer.step()
    if args.simultaneous_updates:
        agent.critic_optimizer.step()
    return curves


@torch.no_grad()
def polyak(agent: Agent, tau: float) -> None:
    """target = (1 - tau) target + tau online."""
    torch._foreach_lerp_(agent.target_params, agent.actor_params + agent.critic_params, tau)


def evaluate(envs: VectorEnv, policy: Callable, episodes: int) -> dict[str, float]:
    """Means over episodes: success at the last step and at any step, undiscounted return."""
    played = []
    while len(played) * envs.num_envs < episodes:
        obs = envs.reset()
        success_once, episodic_return = np.zeros((2, envs.num_envs))
        while not envs.ended.all():
            obs, reward, _, _, success = envs.step(policy(obs))
            success_once = np.maximum(success_once, success)
            episodic_return += reward
        played.append([success, success_once, episodic_return])
    names = ("success_rate", "success_once", "episodic_return")
    played = np.concatenate(played, axis=1)[:, :episodes]
    return dict(zip(names, played.mean(axis=1).tolist(), strict=True))


def evaluate_and_save(
    folder: run.RunFolder, agent: Agent, envs: VectorEnv, episodes: int, video: Video | None
) -> None:
    """Evaluates without noise, then saves the networks, a film and the metrics."""
    metrics = evaluate(envs, agent.actor.act, episodes)
    score = metrics["success_rate"], metrics["episodic_return"]
    folder.save_model(score, actor=agent.actor, critic=agent.critic)
    if video:
        folder.write("video.gif", video.film(agent.actor.act, episodes=4))
    folder.add_row(metrics)  # last: with its last row a run is complete


def check_args(args: Args, task: Task, envs: VectorEnv) -> None:
    """Raises BadInput where flags and task do not go together, or nothing could be learned."""
    if args.raw_goal_gradient and not args.normalize:
        raise run.BadInput("--raw-goal-gradient has no meaning without --normalize.")
    has_other_rewards = task.is_dense or task.reward_low < -1 or task.reward_high > 0
    if args.clip_target and has_other_rewards:
        raise run.BadInput(f"{args.env_id} has rewards other than -1 and 0: give --no-clip-target.")
    if args.alpha != 0 and task.is_dense and not task.has_reward_gradient:
        reason = f"{args.env_id} has a dense reward but no compute_reward_gradient"
        raise run.BadInput(f"{reason}: give --alpha 0.")
    run.check_first_update(args, envs.max_episode_steps)


if __name__ == "__main__":
    with run.one_sentence():  # bad input is found before anything is written
        args = run.parse_args(Args, PAPER_SETTINGS | OTHER_SETTINGS, UNTUNED, __doc__)
        device = run.set_up_torch(args)
        folder = run.RunFolder(args, __file__, device)  # exits if the run there is complete
        torch.manual_seed(args.seed)
        observe = args.observe_achieved_goal
        make_env = partial(make, args.env_id, observe_achieved_goal=observe, **run.env_flags(args))
        eval_envs, eval_episodes = make_eval_envs(
            make_env, args.eval_episodes, args.seed + 1_000_000, args.env_threads
        )
        agent = Agent(eval_envs, args, device)
        if args.evaluate:
            run.load_networks(args, __file__, actor=agent.actor)
            metrics = evaluate(eval_envs, agent.actor.act, eval_episodes)
            run.show(args, make_env, agent.actor.act, episodes=eval_episodes, **metrics)
            sys.exit()
        task = inspect_task(make_env)
        run.say(*task.notes)
        envs = make_vector(make_env, args.num_envs, args.seed, args.env_threads)
        check_args(args, task, envs)
        args.c_low = task.reward_low if args.c_low is None else args.c_low
        rng = np.random.default_rng(args.seed)
        buffer = HerReplayBuffer(envs, args, task, rng)
        video = Video(make_env, args.seed + 2_000_000) if args.capture_video else None
        count = SimpleNamespace(global_step=0, updates=0, normalized=0)  # stored steps normalised
        folder.begin(count, agent=agent, buffer=buffer, rng=rng, envs=envs, eval_envs=eval_envs)

    if args.compile:
        backward = run.compiled(backward)
    if count.global_step == 0:
        evaluate_and_save(folder, agent, eval_envs, eval_episodes, video)
    action_shape = (args.num_envs, envs.action_dim)
    while count.global_step < args.total_timesteps:
        # Act: the policy with Gaussian noise, or a uniform action
        obs = envs.reset(envs.ended)  # new episodes where one has ended
        noise = args.exploration_noise * rng.standard_normal(action_shape)
        noisy = (agent.actor.act(obs) + noise).clip(-1, 1)
        is_early = count.global_step < args.learning_starts
        random_prob = 1.0 if is_early else args.random_action_prob
        is_random = rng.random((args.num_envs, 1)) < random_prob
        action = np.where(is_random, rng.uniform(-1, 1, action_shape), noisy)
        next_obs, reward, terminated, _, success = envs.step(action)
        count.global_step += args.num_envs

        # Store
        step = {"obs": obs["observation"], "goal": obs["desired_goal"], "action": action}
        step |= {"reward": reward, "terminated": terminated, "next_obs": next_obs["observation"]}
        step |= {"next_achieved_goal": next_obs["achieved_goal"]}
        buffer.add(step, envs.ended)
        folder.add_step(reward, success, envs.ended)

        # Update
        is_round = count.global_step // args.num_envs % args.train_frequency == 0
        if is_round and count.global_step >= args.learning_starts:
            if args.normalize and count.normalized < buffer.end:
                newest = min(buffer.end - count.normalized, len(buffer))
                batch = buffer.sample(newest, device, newest)
                agent.normalizer.update(torch.cat([batch.obs, batch.goal], 1))
                if envs.max_episode_steps < 50:  # many states are final ones, no step's obs
                    agent.normalizer.update(torch.cat([batch.next_obs, batch.goal], 1))
                count.normalized = buffer.end
            for _ in range(args.gradient_steps):
                batch = buffer.sample(args.batch_size, device)
                reward_grad = None
                if task.is_dense and args.alpha != 0:  # dR(s', g)/dg, (batch, goal_dim)
                    goals = batch.next_achieved_goal.cpu().numpy(), batch.goal.cpu().numpy()
                    reward_grad = torch.from_numpy(envs.compute_reward_gradient(*goals)).to(device)
                curves = update(agent, batch, args, reward_grad)
                folder.add_update(curves)
                count.updates += 1
                if count.updates % args.target_network_frequency == 0:
                    polyak(agent, args.tau)
            folder.check_finite(curves, "losses/")

        # Log
        if count.global_step % args.log_frequency < args.num_envs:
            means = folder.log(buffer_fill=len(buffer) / args.buffer_size)
            if means.get("gradient/rows") == 0:
                run.say_once("The gradient term sees no transition: no reward equals --c-low.")
            if means.get("policy/saturated", 0) > 0.99:
                run.say_once("The actor is stuck: |a| > 0.99 for every state. Raise --action-l2.")

        # Evaluate
        is_over = count.global_step >= args.total_timesteps
        if is_over or count.global_step % args.eval_frequency < args.num_envs:
            evaluate_and_save(folder, agent, eval_envs, eval_episodes, video)
        folder.checkpoint(envs.ended, envs.max_episode_steps)
    folder.close()
