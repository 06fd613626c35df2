"""Multi-ReenGAGE: the goal is a SET of goals, any of which gives a reward; the critic matches the
target's gradient by each goal's gate (Levine & Feizi, "Goal-Conditioned Q-Learning as Knowledge
Distillation", AAAI 2023).

    encoder, Eq. (36):  z(s, g) = 1/n_max sum_i b_i^2 e(s, g_i), gates b_i = 1 for present goals
    critic, Eq. (19):   (Q(s, a, z) - [R(s', g) + gamma Q'(s', pi'(s', z'), z')])^2
                    + alpha/n_max ||dQ/db - 2 R_item(s', g) - gamma dQ'(s', pi'(s', z'), z')/db||^2

    python algos/ddpg_multi_reengage.py --env-id DriveSeek-v0    the paper's size, many hours
    bash benchmark/experiments/drive_seek.sh small               a size that learns in two minutes

--alpha 0 is DDPG without relabelling. PAPER_SETTINGS apply by themselves; a flag wins over them.
Deviation from the paper: the actor's gradient is taken at the critic before its step, so that one
evaluation of the encoder serves both.
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
from envs import VectorEnv, Video, make_vector
from envs.many.graphs import graphed_by_length
from envs.run import flags as launch
from envs.run.flags import RunArgs
from envs.run.folder import RunFolder


@dataclass
class EnvironmentArgs:
    env_id: str = "DriveSeek-v0"
    """DriveSeek-v0, NoisySeek-v0, or with another n_max DriveSeek<n_max>-v0, NoisySeek<n_max>-v0"""
    seed: int = 1
    """of everything random: networks, exploration, replay, environments"""
    total_timesteps: int = 160_000
    """environment steps (paper: 160k)"""
    n_max: int = 0
    """slots of a goal set, by which means divide; 0 is the environment's number (paper: 200)"""
    eval_frequency: int = 4000
    """steps between two evaluations; one is at step 0 (paper: 4000)"""
    eval_episodes: int = 100
    """episodes an evaluation, without noise; 0: by their length (paper: 100)"""


@dataclass
class LearningArgs:
    learning_rate: float = 1e-3
    """of Adam, for actor and critic (paper: 1e-3)"""
    buffer_size: int = 1_000_000
    """transitions that the replay buffer holds; the oldest episodes are overwritten (paper: 1e6)"""
    batch_size: int = 256
    """transitions a gradient step (paper: 256)"""
    gamma: float = 0.95
    """discount factor (paper: 0.95)"""
    tau: float = 0.005
    """Polyak factor: target = (1 - tau) target + tau online (paper: 0.005)"""
    learning_starts: int = 1000
    """steps with uniform actions before learning starts (paper: 1000)"""
    exploration_noise: float = 0.05
    """deviation of the Gaussian noise on actions in [-1, 1] (paper: 0.05; 0.1 in NoisySeek)"""
    encoder: Literal["deepsets", "cnn"] = "deepsets"
    """how goal sets are read: a network for each goal, or a picture of all (only DriveSeek)"""
    share_encoder: bool = True
    """the actor reads the critic's encoder without training it, or has its own (paper: both)"""
    embedding_dim: int = 20
    """width of the embedding of a goal, and of a goal set (paper: 20)"""
    hidden_dim: int = 400
    """width of the hidden layers: two in the encoder, one in each head (paper: 400)"""


@dataclass
class MethodArgs:
    alpha: float | Literal["auto"] = 10.0
    """weight of the gradient term, a mean over batch and gates; 0 is DDPG (paper: 5 to 100)"""
    alpha_ratio: float = 3.0
    """with --alpha auto: the weighted gradient loss as a fraction of the value loss"""
    policy_gates: bool = True
    """the target's gradient also passes through the target policy's gates, as Eq. (19) has it"""


@dataclass
class Args(EnvironmentArgs, LearningArgs, MethodArgs, RunArgs):
    """Every flag; those of RunArgs are the same in all scripts."""


PAPER_SETTINGS = {  # every pattern that matches the whole name applies, later over earlier
    r"DriveSeek\d*-v0": dict(num_threads=2, exploration_noise=0.05, alpha=10.0),
    r"NoisySeek\d*-v0": dict(num_threads=2, exploration_noise=0.1, alpha=20.0),
}
UNTUNED = dict(alpha="auto", eval_episodes=0)  # for any other environment


def check_args(args: Args, envs: VectorEnv) -> None:
    """Raises ValueError with one sentence where arguments and environment do not go together."""
    if not hasattr(envs.unwrapped, "compute_item_rewards"):
        raise ValueError(
            f"{args.env_id} has no goal sets: it lacks compute_item_rewards, which Eq. (19) needs."
        )
    if args.encoder == "cnn" and "DriveSeek" not in args.env_id:
        raise ValueError(
            f"--encoder cnn draws the cells of DriveSeek: {args.env_id} needs --encoder deepsets."
        )
    args.n_max = args.n_max or envs.unwrapped.n_max
    if args.n_max < envs.unwrapped.n_max:
        raise ValueError(f"--n-max {args.n_max} is too small: up to {envs.unwrapped.n_max} goals.")


class Goals(NamedTuple):
    """The goals that are present in n goal sets, packed: absent ones leave no trace."""

    row: Tensor  # (present,) int64, which of the n sets a goal belongs to
    cell: Tensor  # (present, 2)
    gate: Tensor  # (present,), 1; 0 for absent goals behind them, see `pack`


class GoalSetBatch(NamedTuple):
    """Transitions, float32. A state is observation and achieved goal; the reward is R(s', g)."""

    state: Tensor  # (batch, state_dim)
    goals: Goals
    action: Tensor  # (batch, action_dim)
    reward: Tensor  # (batch,)
    item_reward: Tensor  # (present,), R_item(s', g_i)
    next_state: Tensor  # (batch, state_dim)
    terminated: Tensor  # (batch,), 1 after a true end, 0 at a time limit


def state_of(obs: dict[str, np.ndarray]) -> np.ndarray:
    """Observations of n environments -> their states, (n, state_dim)."""
    return np.concatenate([obs["observation"], obs["achieved_goal"]], axis=1)


def pack(goal: Tensor, length: int) -> Goals:
    """The present goals of goal sets (n, 3 n_max); the first `length` slots, present ones first.

    On a GPU that is more than there are present ones, and the rest has gate 0: no shape depends on
    a value, as a CUDA graph needs it.
    """
    slots = goal.reshape(-1, 3)  # (n n_max, 3): gate, x, y
    is_present = slots[:, 0] != 0
    present_first = is_present.byte().argsort(descending=True, stable=True)
    slot = present_first[:length]
    row = slot // (len(slots) // len(goal))
    return Goals(row, slots[slot, 1:], is_present[slot].to(goal))


def goals_in(goal: np.ndarray) -> int:
    """How many goals are present in goal sets (..., 3 n_max)."""
    return np.count_nonzero(goal[..., ::3])


class GoalSetReplayBuffer:
    """Whole episodes, each with its goal set. A full buffer overwrites its oldest episode."""

    def __init__(self, envs: VectorEnv, args: Args, rng: np.random.Generator, device: torch.device):
        self.envs = envs
        self.rng = rng
        self.max_steps = envs.max_episode_steps
        self.capacity = args.buffer_size // self.max_steps  # in episodes
        if self.capacity < 2:
            raise ValueError(f"--buffer-size {args.buffer_size} cannot hold two episodes.")
        dims = {"state": envs.obs_dim + 2, "action": envs.action_dim}
        dims |= {"reward": 1, "terminated": 1}
        shape = self.capacity, self.max_steps + 1
        floats = sum(dims.values()) + envs.goal_dim // self.max_steps
        launch.check_buffer(args, envs, self.capacity * (self.max_steps + 1), floats)
        # NumPy's zeros take memory when they are written to, PyTorch's at once
        arrays = {key: np.zeros((*shape, dim), np.float32) for key, dim in dims.items()}
        arrays["goal"] = np.zeros((self.capacity, envs.goal_dim), np.float32)
        self.data = {key: torch.from_numpy(array).to(device) for key, array in arrays.items()}
        self.data["length"] = np.zeros(self.capacity, np.int64)  # the unfinished one's so far
        self.data["goal_count"] = np.zeros(self.capacity, np.int64)
        self.stored = 1  # episodes
        self.current = 0  # the unfinished one

    def add(self, step: dict, goal: np.ndarray, next_state: np.ndarray, ended: bool) -> None:
        """Adds a step of the one environment; next_state precedes any reset."""
        episode = self.current
        t = self.data["length"][episode]
        self.data["goal"][episode] = torch.from_numpy(goal)
        for key, value in step.items():
            self.data[key][episode, t] = torch.as_tensor(value)
        self.data["state"][episode, t + 1] = torch.from_numpy(next_state)
        self.data["length"][episode] += 1
        self.data["goal_count"][episode] = goals_in(goal)
        if ended:
            self.current = (episode + 1) % self.capacity
            self.data["length"][self.current] = 0
            self.stored = max(self.stored, self.current + 1)

    def draw(self, n: int) -> tuple[np.ndarray, np.ndarray]:
        """Episodes and steps, (n,) each; a step may lie beyond the episode's end."""
        episode = self.rng.integers(self.stored, size=n)
        return episode, self.rng.integers(self.max_steps, size=n)

    def choose(self, batch_size: int) -> tuple[Tensor, int]:
        """Draws transitions uniformly with replacement, from the unfinished episode too.

        Their episodes and steps, (2, batch), and how many goals they have together.
        """
        episode, t = self.draw(batch_size)
        beyond = t >= self.data["length"][episode]
        while beyond.any():  # an episode with fewer steps: draw again
            episode[beyond], t[beyond] = self.draw(beyond.sum())
            beyond = t >= self.data["length"][episode]
        where = torch.from_numpy(np.stack([episode, t]))
        return where, int(self.data["goal_count"][episode].sum())

    def gather(self, where: Tensor, length: int) -> GoalSetBatch:
        """The transitions at `where`, (2, batch), with their goals as `pack` gives them."""
        episode, t = where
        next_state = self.data["state"][episode, t + 1]
        goals = pack(self.data["goal"][episode], length)
        return GoalSetBatch(
            state=self.data["state"][episode, t],
            goals=goals,
            action=self.data["action"][episode, t],
            reward=self.data["reward"][episode, t, 0],
            item_reward=self.item_rewards(next_state[:, -2:], goals),
            next_state=next_state,
            terminated=self.data["terminated"][episode, t, 0],
        )

    def item_rewards(self, achieved_goal: Tensor, goals: Goals) -> Tensor:
        """R_item of each goal, (present,): of a set that holds it alone."""
        achieved_goal = achieved_goal[goals.row]
        goal = torch.cat([goals.gate[:, None], goals.cell], dim=1)  # (present, 3)
        compute = self.envs.unwrapped.compute_item_rewards
        if goal.device.type != "cpu":  # there the environment is given tensors
            return compute(achieved_goal, goal)[:, 0]
        return torch.from_numpy(compute(achieved_goal.numpy(), goal.numpy()))[:, 0]

    def used(self) -> int:
        """Rows of `data` that hold anything."""
        return self.stored


def mlp(dims: tuple[int, ...]) -> nn.Sequential:
    layers = []
    for fan_in, fan_out in itertools.pairwise(dims):
        layers += [nn.Linear(fan_in, fan_out), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers[:-1])


class GoalEncoder(nn.Module):
    """Eq. (36), DeepSets: 1/n_max sum_i b_i^2 e(s, g_i); (n, state_dim) -> (n, embedding_dim).

    Three things make it fast and change no number. Goals are packed: absent ones cost nothing. e
    does not see the gates: the gradient by a gate, 2 b_i e_i . dQ/dz / n_max, never passes back
    through this network. And e does not see the action: critic and actor share one evaluation.
    With --matmul-precision medium, e is computed in bfloat16.
    """

    def __init__(self, net: nn.Sequential, n_max: int):
        super().__init__()
        self.net = net
        self.n_max = n_max

    def forward(self, state: Tensor, goals: Goals, gates: Tensor) -> Tensor:
        inputs = torch.cat([goals.cell, state[goals.row]], dim=1)  # (present, 2 + state_dim)
        medium = torch.get_float32_matmul_precision() == "medium"
        with torch.autocast(state.device.type, torch.bfloat16, medium):
            chunks = [inputs]
            if not inputs.is_cuda:
                chunks = inputs.split(2048)  # pieces that stay in a processor's cache
            items = torch.cat([self.net(chunk) for chunk in chunks])  # (present, embedding_dim)
        gated = gates.square()[:, None] * items
        total = state.new_zeros(len(state), items.shape[1])
        return total.index_add(0, goals.row, gated) / self.n_max


class CnnEncoder(nn.Module):
    """Figure 18: a picture of DriveSeek's cells, 8 x 8 pixels each, for Mnih et al.'s CNN (2015).

    Channels: the present goals, b_i^2 in the middle of their cells; the position; the next position
    if the action is 0.
    """

    def __init__(self, embedding_dim: int):
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(3, 32, 8, 4),
            nn.ReLU(),
            nn.Conv2d(32, 64, 4, 2),
            nn.ReLU(),
            nn.Conv2d(64, 64, 3),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(64 * 17 * 17, embedding_dim),
            nn.ReLU(),
        )

    def forward(self, state: Tensor, goals: Goals, gates: Tensor) -> Tensor:
        x, y = (goals.cell.long() + 10).unbind(1)
        cell = (goals.row * 21 + x) * 21 + y  # of all pictures in a line
        grid = gates.new_zeros(len(state) * 21 * 21).index_add(0, cell, gates.square())
        grid = grid.view(-1, 21, 21)
        pixel = torch.arange(8, device=grid.device)
        middle = ((pixel >= 2) & (pixel < 6)).to(grid)  # of the 8 pixels of a cell
        pixels = grid[:, :, None, :, None]
        pixels = pixels * middle[:, None, None] * middle  # (n, 21, 8, 21, 8)
        position = state[:, :2]
        next_position = position + state[:, 2:4]
        channels = [pixels.reshape(-1, 168, 168), self.mark(position), self.mark(next_position)]
        return self.net(torch.stack(channels, dim=1))

    def mark(self, position: Tensor) -> Tensor:
        """4 x 4 pixels around the positions (n, 2), wrapping at the edges; (n, 168, 168)."""
        first = ((position + 10.5) * 8).floor() - 2  # (n, 2)
        pixel = torch.arange(168, device=position.device)
        on = (pixel - first[..., None]) % 168 < 4  # (n, 2, 168)
        in_x, in_y = on.unbind(1)
        return (in_x[:, :, None] & in_y[:, None, :]).to(position)


def make_encoder(args: Args, state_dim: int) -> nn.Module:
    if args.encoder == "cnn":
        return CnnEncoder(args.embedding_dim)
    dims = (2 + state_dim, args.hidden_dim, args.hidden_dim, args.embedding_dim)
    return GoalEncoder(mlp(dims), args.n_max)


class GoalSetActor(nn.Module):
    """pi(s, z): states (n, state_dim), embedded goal sets (n, embedding_dim) -> (n, action_dim)."""

    def __init__(self, encoder: nn.Module, head: nn.Sequential):
        super().__init__()
        self.encoder = encoder
        self.head = head

    def forward(self, state: Tensor, z: Tensor) -> Tensor:
        return self.head(torch.cat([z, state], dim=1)).tanh()

    @torch.no_grad()
    def act(self, obs: dict) -> np.ndarray:
        """Observations of n environments -> actions without noise, (n, action_dim)."""
        device = self.head[0].weight.device
        state = torch.from_numpy(state_of(obs)).to(device)
        goal = torch.from_numpy(obs["desired_goal"]).to(device)
        goals = pack(goal, goals_in(obs["desired_goal"]))
        return self(state, self.encoder(state, goals, goals.gate)).cpu().numpy()


class GoalSetCritic(nn.Module):
    """Q(s, a, z): (n, state_dim), (n, embedding_dim), (n, action_dim) -> (n,)."""

    def __init__(self, encoder: nn.Module, head: nn.Sequential):
        super().__init__()
        self.encoder = encoder
        self.head = head

    def forward(self, state: Tensor, z: Tensor, action: Tensor) -> Tensor:
        return self.head(torch.cat([z, state, action], dim=1)).squeeze(1)


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
        state_dim = envs.obs_dim + 2
        z_dim = args.embedding_dim
        critic_head = mlp((z_dim + state_dim + envs.action_dim, args.hidden_dim, 1))
        encoder = make_encoder(args, state_dim)
        self.critic = GoalSetCritic(encoder, critic_head).to(device)
        actor_head = mlp((z_dim + state_dim, args.hidden_dim, envs.action_dim))
        if not args.share_encoder:
            encoder = make_encoder(args, state_dim)
        self.actor = GoalSetActor(encoder, actor_head).to(device)
        # What is shared stays shared
        self.target_critic, self.target_actor = copy.deepcopy((self.critic, self.actor))
        own, target_own = self.actor, self.target_actor
        if args.share_encoder:
            own, target_own = own.head, target_own.head
        self.actor_params = list(own.parameters())
        self.critic_params = list(self.critic.parameters())
        self.target_params = [*target_own.parameters(), *self.target_critic.parameters()]
        for parameter in self.target_params:
            parameter.requires_grad_(False)
        adam = partial(
            torch.optim.Adam,
            lr=args.learning_rate,
            fused=True,
            capturable=device.type == "cuda",
        )
        self.actor_optimizer = adam(self.actor_params)
        self.critic_optimizer = adam(self.critic_params)
        self.weight = GradientWeight(args.alpha, args.alpha_ratio).to(device)


def multi_reengage_critic_loss(
    agent: Agent, batch: GoalSetBatch, args: Args
) -> tuple[Tensor, Tensor, dict]:
    """Eq. (19); also the critic's embedding of the goal sets, (batch, embedding_dim)."""
    gates = batch.goals.gate.clone().requires_grad_(args.alpha != 0)  # (present,)
    next_z = agent.target_critic.encoder(batch.next_state, batch.goals, gates)
    policy_z = next_z  # (batch, embedding_dim)
    if not args.share_encoder:
        policy_z = agent.target_actor.encoder(batch.next_state, batch.goals, gates)
    if not args.policy_gates:
        policy_z = policy_z.detach()
    next_action = agent.target_actor(batch.next_state, policy_z)  # (batch, action_dim)
    next_q = agent.target_critic(batch.next_state, next_z, next_action)  # (batch,)
    target = batch.reward + args.gamma * (1 - batch.terminated) * next_q  # (batch,)
    z = agent.critic.encoder(batch.state, batch.goals, gates)  # (batch, embedding_dim)
    q = agent.critic(batch.state, z, batch.action)  # (batch,)
    value_loss = nn.functional.mse_loss(q, target.detach())
    info = {"value_loss": value_loss, "q": q, "target": target}
    if args.alpha == 0:
        return value_loss, z.detach(), info | {"alpha": 0.0}

    # R = sum_i b_i^2 R_item(s', g_i), Eq. (38). Absent goals have gate 0 and gradient 0
    target_grad = torch.autograd.grad(target.sum(), gates)[0]  # (present,), a constant
    target_grad = 2 * batch.item_reward + target_grad
    q_grad = torch.autograd.grad(q.sum(), gates, create_graph=True)[0]  # (present,)
    # The mean over batch and n_max gates
    grad_loss = (q_grad - target_grad).square().sum() / (len(q) * args.n_max)
    alpha = agent.weight(value_loss, grad_loss)
    info |= {"grad_loss": grad_loss, "alpha": alpha}
    info |= {"q_grad": q_grad, "target_grad": target_grad}
    return value_loss + alpha * grad_loss, z.detach(), info


def multi_actor_loss(agent: Agent, batch: GoalSetBatch, z: Tensor, args: Args) -> Tensor:
    """Eq. (5): -Q(s, pi(s, z), z), z a constant: the critic alone trains its encoder."""
    policy_z = z
    if not args.share_encoder:
        policy_z = agent.actor.encoder(batch.state, batch.goals, batch.goals.gate)
    action = agent.actor(batch.state, policy_z)  # (batch, action_dim)
    return -agent.critic(batch.state, z, action).mean()


def update(agent: Agent, batch: GoalSetBatch, args: Args) -> dict:
    """A gradient step of critic and actor, both at the same parameters; what it was made of."""
    critic_loss, z, info = multi_reengage_critic_loss(agent, batch, args)
    agent.critic_optimizer.zero_grad()
    critic_loss.backward(inputs=agent.critic_params)
    agent.actor_optimizer.zero_grad()
    policy_loss = multi_actor_loss(agent, batch, z, args)
    policy_loss.backward(inputs=agent.actor_params)
    agent.critic_optimizer.step()
    agent.actor_optimizer.step()
    return info | {"critic_loss": critic_loss, "actor_loss": policy_loss}


@torch.no_grad()
def polyak(agent: Agent, tau: float) -> None:
    """target = (1 - tau) target + tau online."""
    torch._foreach_lerp_(agent.target_params, agent.actor_params + agent.critic_params, tau)


def learn(
    agent: Agent, buffer: GoalSetReplayBuffer, args: Args, where: Tensor, length: int
) -> dict:
    """A gradient step and the targets' on the transitions at `where`; what it was made of."""
    batch = buffer.gather(where, length)
    info = update(agent, batch, args)
    polyak(agent, args.tau)
    tensors = {name: value for name, value in info.items() if isinstance(value, Tensor)}
    # An autograd graph that outlived this would tie the next capture to the stream of this one
    return info | {name: value.detach() for name, value in tensors.items()}


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
    score = (metrics["episodic_return"],)
    folder.save_model(score, actor=agent.actor, critic=agent.critic)
    if video:
        folder.write("video.gif", video.film(agent.actor.act, episodes=4))
    folder.add_row(metrics)  # last: with its last row a run is complete


if __name__ == "__main__":
    with launch.one_sentence():  # bad input is found before anything is written
        args = launch.parse_args(Args, PAPER_SETTINGS, UNTUNED, __doc__)
        device, make_env = launch.start(args)
        eval_envs = launch.make_eval_envs(make_env, args)
        check_args(args, eval_envs)
        agent = Agent(eval_envs, args, device)
        if args.evaluate:
            launch.load_networks(args, actor=agent.actor)
            metrics = evaluate(eval_envs, agent.actor.act, args.eval_episodes)
            launch.play(args, make_env, agent.actor.act, metrics)
            sys.exit()
        envs = make_vector(make_env, 1, args.seed)
        rng = np.random.default_rng(args.seed)
        buffer = GoalSetReplayBuffer(envs, args, rng, device)
        learn_at = graphed_by_length(partial(learn, agent, buffer, args), device)
        video = Video(make_env, args.seed + 2_000_000) if args.capture_video else None
        folder = RunFolder(args, device)
        count = folder.begin(agent, buffer, [envs, eval_envs], rng)

    if count.global_step == 0:
        report(folder, agent, eval_envs, args, video)
    next_obs: dict[str, np.ndarray] = {}
    ended = np.ones(1, bool)
    while not folder.is_over():
        # Act: the policy with Gaussian noise, or a uniform action
        obs = envs.reset() if ended.any() else next_obs
        noise = args.exploration_noise * rng.standard_normal((1, envs.action_dim))
        action = (agent.actor.act(obs) + noise).clip(-1, 1)
        if count.global_step < args.learning_starts:
            action = rng.uniform(-1, 1, (1, envs.action_dim))
        action = action.astype(np.float32)
        next_obs, reward, terminated, truncated, success = envs.step(action)
        ended = terminated | truncated
        count.global_step += 1

        # Store
        step = {"state": state_of(obs)[0], "action": action[0]}
        step |= {"reward": reward[0], "terminated": terminated[0]}
        buffer.add(step, obs["desired_goal"][0], state_of(next_obs)[0], ended.any())
        folder.add_step(reward, success, ended)

        # Update
        if count.global_step >= args.learning_starts:
            where, present = buffer.choose(args.batch_size)
            info = learn_at(where, present)
            folder.watch(info)
            count.updates += 1
            folder.check_finite(info["value_loss"])

        # Log
        if count.global_step % args.log_frequency == 0:
            folder.log(buffer.stored / buffer.capacity)

        # Evaluate
        if folder.is_over() or count.global_step % args.eval_frequency == 0:
            report(folder, agent, eval_envs, args, video)
        folder.checkpoint(ended)
    folder.close()
