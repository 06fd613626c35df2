"""Multi-ReenGAGE: the goal is a SET of goals, any of which gives a reward; the critic matches the
target's gradient with respect to each goal's gate (Levine & Feizi, "Goal-Conditioned Q-Learning as
Knowledge Distillation", AAAI 2023).

    encoder, Eq. (36):  z(s, g) = 1/n_max sum_i b_i^2 e(s, g_i), gates b_i = 1 for present goals
    critic, Eq. (19):   (Q(s, a, z) - [R(s', g) + gamma Q'(s', pi'(s', z'), z')])^2
                    + alpha/n_max ||dQ/db - 2 R_item(s', g) - gamma dQ'(s', pi'(s', z'), z')/db||^2

    python algos/ddpg_multi_reengage.py --env-id DriveSeek-v0    the paper's size, many hours
    bash benchmark/experiments/drive_seek.sh small               a size that learns in two minutes

--alpha 0 is DDPG without relabelling. PAPER_SETTINGS apply automatically; flags override them.
Deviations from the paper: z is divided by n_max; the actor's gradient is taken at the critic before
its step, so that one evaluation of the encoder serves both.
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
from envs import VectorEnv, Video, make, make_eval_envs, make_vector, run


@dataclass
class Args(run.RunArgs):
    """Flags; those that every script has are in `run.RunArgs`."""

    # Environment
    env_id: str = "DriveSeek-v0"
    """DriveSeek-v0, NoisySeek-v0, or with another n_max DriveSeek<n_max>-v0, NoisySeek<n_max>-v0"""
    seed: run.Seed = 1
    """seeds everything random: networks, exploration, replay, environments"""
    total_timesteps: run.Count = 160_000
    """environment steps (paper: 160k)"""
    n_max: run.CountOrZero = 0
    """slots of a goal set, by which means divide; 0 is the environment's number (paper: 200)"""
    eval_frequency: run.Count = 4000
    """steps between two evaluations; one is at step 0 (paper: 4000)"""
    eval_episodes: run.CountOrZero = 100
    """episodes per evaluation, without noise; 0: by their length (paper: 100)"""

    # Learning
    learning_rate: run.Positive = 1e-3
    """of Adam, for actor and critic (paper: 1e-3)"""
    buffer_size: run.Count = 1_000_000
    """transitions that the replay buffer holds; the oldest episodes are overwritten (paper: 1e6)"""
    batch_size: run.Count = 256
    """transitions per gradient step (paper: 256)"""
    gamma: run.Discount = 0.95
    """discount factor (paper: 0.95)"""
    tau: run.PositiveFraction = 0.005
    """Polyak factor: target = (1 - tau) target + tau online (paper: 0.005)"""
    learning_starts: run.CountOrZero = 1000
    """steps with uniform actions before learning starts (paper: 1000)"""
    exploration_noise: run.NonNegative = 0.05
    """standard deviation of the noise on actions in [-1, 1] (paper: 0.05; 0.1 in NoisySeek)"""
    encoder: Literal["deepsets", "cnn"] = "deepsets"
    """how goal sets are read: a network for each goal, or a picture of all (only DriveSeek)"""
    share_encoder: bool = True
    """the actor reads the critic's encoder without training it, or has its own (paper: both)"""
    embedding_dim: run.Width = 20
    """width of the embedding of a goal, and of a goal set (paper: 20)"""
    hidden_dim: run.Width = 400
    """width of the hidden layers: two in the encoder, one in each head (paper: 400)"""

    # Method
    alpha: run.NonNegative | Literal["auto"] = 10.0
    """weight of the gradient term, a mean over batch and gates; 0 is DDPG (paper: 5 to 100)"""
    alpha_ratio: run.Positive = 3.0
    """with --alpha auto: the weighted gradient loss as a fraction of the value loss"""
    alpha_warmup: run.Count = 1000
    """with --alpha auto: updates without the gradient term at first"""
    alpha_averaging: run.PositiveFraction = 0.002
    """with --alpha auto: weight of a new loss in the running means of both losses"""
    policy_gates: bool = True
    """the target's gradient also passes through the target policy's gates, as Eq. (19) has it"""


PAPER_SETTINGS = {  # every pattern that matches the whole name applies, later over earlier
    r"DriveSeek\d*-v0": dict(num_threads=2, exploration_noise=0.05, alpha=10.0),
    r"NoisySeek\d*-v0": dict(num_threads=2, exploration_noise=0.1, alpha=20.0),
}
UNTUNED = dict(alpha="auto", eval_episodes=0)  # for any other environment


class Goals(NamedTuple):
    """The goals that are present in n goal sets, packed: absent ones leave no trace."""

    row: Tensor  # (present,) int64, which of the n sets a goal belongs to
    cell: Tensor  # (present, 2)
    gate: Tensor  # (present,), 1


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


def pack(goal: np.ndarray, device: torch.device) -> Goals:
    """The present goals of goal sets, (n, 3 n_max)."""
    slots = goal.reshape(len(goal), -1, 3)  # (n, n_max, 3): gate, x, y
    row, slot = slots[..., 0].nonzero()
    present = slots[row, slot]  # (present, 3)
    columns = row, present[:, 1:], present[:, 0]
    return Goals(*(torch.from_numpy(column).to(device) for column in columns))


class GoalSetReplayBuffer:
    """Whole episodes, a row each, with its goal set. New episodes overwrite the oldest."""

    def __init__(self, envs: VectorEnv, args: Args, rng: np.random.Generator):
        self.envs = envs
        self.rng = rng
        self.max_steps = envs.max_episode_steps
        self.capacity = args.buffer_size // self.max_steps  # in episodes
        if self.capacity < 2:
            raise run.BadInput(f"--buffer-size {args.buffer_size} cannot hold two episodes.")
        state_dim = envs.obs_dim + 2
        dims = {"state": (state_dim,), "action": (envs.action_dim,), "next_state": (state_dim,)}
        dims |= {"reward": (), "terminated": ()}
        floats = 2 * state_dim + envs.action_dim + 2 + envs.goal_dim // self.max_steps
        run.check_buffer(args.buffer_size, envs, row_bytes=4 * floats)
        self.data = {"goal": np.zeros((self.capacity, envs.goal_dim), np.float32)}
        for key, dim in dims.items():
            self.data[key] = np.zeros((self.capacity, self.max_steps, *dim), np.float32)
        self.data["length"] = np.zeros(self.capacity, np.int64)  # the unfinished one's so far
        self.stored = 1  # episodes
        self.current = 0  # the unfinished one

    def add(self, step: dict[str, np.ndarray], goal: np.ndarray, ended: bool) -> None:
        """Adds a step of the one environment, whose goal set is `goal`, (3 n_max,)."""
        episode = self.current
        t = self.data["length"][episode]
        for key, value in step.items():
            self.data[key][episode, t] = value
        self.data["goal"][episode] = goal
        self.data["length"][episode] += 1
        if ended:
            self.current = (episode + 1) % self.capacity
            self.data["length"][self.current] = 0
            self.stored = max(self.stored, self.current + 1)

    def draw(self, n: int) -> tuple[np.ndarray, np.ndarray]:
        """Episodes and steps, (n,) each; a step may lie beyond the episode's end."""
        episode = self.rng.integers(self.stored, size=n)
        return episode, self.rng.integers(self.max_steps, size=n)

    def sample(self, batch_size: int, device: torch.device) -> GoalSetBatch:
        """Draws transitions uniformly with replacement, from the unfinished episode too."""
        episode, t = self.draw(batch_size)
        beyond = t >= self.data["length"][episode]
        while beyond.any():  # an episode with fewer steps: draw again
            episode[beyond], t[beyond] = self.draw(beyond.sum())
            beyond = t >= self.data["length"][episode]
        keys = ("state", "action", "reward", "next_state", "terminated")
        batch = {key: self.data[key][episode, t] for key in keys}
        goal = self.data["goal"][episode]  # (batch, 3 n_max)
        compute = self.envs.unwrapped.compute_item_rewards
        item_rewards = compute(batch["next_state"][:, -2:], goal)  # (batch, n_max)
        batch["item_reward"] = item_rewards[goal[:, ::3] != 0]
        tensors = {key: torch.from_numpy(array).to(device) for key, array in batch.items()}
        return GoalSetBatch(goals=pack(goal, device), **tensors)

    def state_dict(self) -> dict:
        """Everything but empty rows and the unfinished episode."""
        filled = {key: array[: self.stored] for key, array in self.data.items()}
        filled["length"] = filled["length"].copy()
        filled["length"][self.current] = 0
        return run.attributes_of(self, data=filled)

    def load_state_dict(self, state: dict) -> None:
        run.restore_attributes(self, state)


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
    """

    def __init__(self, net: nn.Sequential, args: Args):
        super().__init__()
        self.net = net
        self.args = args

    def forward(self, state: Tensor, goals: Goals) -> Tensor:
        inputs = torch.cat([goals.cell, state[goals.row]], dim=1)  # (present, 2 + state_dim)
        pieces = [inputs]
        if not (inputs.is_cuda or torch.compiler.is_compiling()):
            pieces = inputs.split(2048)  # which stay in a processor's cache
        with run.autocast(self.args, state.device):  # bfloat16 only here
            items = torch.cat([self.net(piece) for piece in pieces])  # (present, embedding_dim)
        gated = goals.gate.square()[:, None] * items
        total = state.new_zeros(len(state), items.shape[1])
        return total.index_add(0, goals.row, gated) / self.args.n_max


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

    def forward(self, state: Tensor, goals: Goals) -> Tensor:
        x, y = (goals.cell.long() + 10).unbind(1)
        cell = (goals.row * 21 + x) * 21 + y  # of all pictures in a line
        grid = state.new_zeros(len(state) * 21 * 21).index_add(0, cell, goals.gate.square())
        pixel = torch.arange(8, device=grid.device)
        middle = ((pixel >= 2) & (pixel < 6)).to(grid)  # of the 8 pixels of a cell
        pixels = grid.view(-1, 21, 1, 21, 1) * middle[:, None, None] * middle
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
    return GoalEncoder(mlp(dims), args)


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
        goals = pack(obs["desired_goal"], device)
        return self(state, self.encoder(state, goals)).cpu().numpy()


class GoalSetCritic(nn.Module):
    """Q(s, a, z): (n, state_dim), (n, embedding_dim), (n, action_dim) -> (n,)."""

    def __init__(self, encoder: nn.Module, head: nn.Sequential):
        super().__init__()
        self.encoder = encoder
        self.head = head

    def forward(self, state: Tensor, z: Tensor, action: Tensor) -> Tensor:
        return self.head(torch.cat([z, state, action], dim=1)).squeeze(1)


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
        nn.ModuleList([self.target_critic, self.target_actor]).requires_grad_(False)
        adam = partial(torch.optim.Adam, lr=args.learning_rate, fused=True)
        self.actor_optimizer = adam(self.actor_params)
        self.critic_optimizer = adam(self.critic_params)
        self.auto_alpha = AutoAlpha(args).to(device) if args.alpha == "auto" else None


def multi_reengage_critic_loss(
    agent: Agent, batch: GoalSetBatch, args: Args
) -> tuple[Tensor, Tensor, dict]:
    """Eq. (19); also the critic's embedding of the goal sets, (batch, embedding_dim)."""
    gates = batch.goals.gate.clone().requires_grad_(args.alpha != 0)  # (present,)
    goals = batch.goals._replace(gate=gates)
    next_z = agent.target_critic.encoder(batch.next_state, goals)
    policy_z = next_z  # (batch, embedding_dim)
    if not args.share_encoder:
        policy_z = agent.target_actor.encoder(batch.next_state, goals)
    if not args.policy_gates:
        policy_z = policy_z.detach()
    next_action = agent.target_actor(batch.next_state, policy_z)  # (batch, action_dim)
    next_q = agent.target_critic(batch.next_state, next_z, next_action)  # (batch,)
    target = batch.reward + args.gamma * (1 - batch.terminated) * next_q  # (batch,)
    z = agent.critic.encoder(batch.state, goals)  # (batch, embedding_dim)
    q = agent.critic(batch.state, z, batch.action)  # (batch,)
    value_loss = nn.functional.mse_loss(q, target.detach())
    curves = {"losses/value": value_loss, "values/q": q.mean(), "values/target": target.mean()}
    if args.alpha == 0:
        return value_loss, z.detach(), curves | {"gradient/alpha": 0.0, "gradient/ratio": 0.0}

    # R = sum_i b_i^2 R_item(s', g_i), Eq. (38)
    target_grad = torch.autograd.grad(target.sum(), gates)[0]  # (present,), a constant
    target_grad = 2 * batch.item_reward + target_grad
    q_grad = torch.autograd.grad(q.sum(), gates, create_graph=True)[0]  # (present,)
    # The mean over batch and n_max gates; those of absent goals are 0, and so is their gradient
    grad_loss = (q_grad - target_grad).square().sum() / (len(q) * args.n_max)
    alpha = agent.auto_alpha(value_loss, grad_loss) if args.alpha == "auto" else args.alpha
    loss = value_loss + alpha * grad_loss
    curves |= {"losses/gradient": grad_loss, "losses/critic": loss, "gradient/alpha": alpha}
    curves |= {"gradient/ratio": alpha * grad_loss / value_loss, "gradient/norm": q_grad.norm()}
    curves["gradient/target_norm"] = target_grad.norm()
    curves["gradient/cosine"] = torch.cosine_similarity(q_grad, target_grad, dim=0)
    return loss, z.detach(), curves


def multi_actor_loss(agent: Agent, batch: GoalSetBatch, z: Tensor, args: Args) -> Tensor:
    """Eq. (5): -Q(s, pi(s, z), z), z a constant: the critic alone trains its encoder."""
    policy_z = z
    if not args.share_encoder:
        policy_z = agent.actor.encoder(batch.state, batch.goals)
    action = agent.actor(batch.state, policy_z)  # (batch, action_dim)
    return -agent.critic(batch.state, z, action).mean()


def backward_both(agent: Agent, batch: GoalSetBatch, args: Args) -> dict[str, Tensor]:
    """Adds both losses' gradients, taken at the same parameters, to `grad`; returns the curves."""
    critic_loss, z, curves = multi_reengage_critic_loss(agent, batch, args)
    critic_loss.backward(inputs=agent.critic_params)
    actor_loss = multi_actor_loss(agent, batch, z, args)
    actor_loss.backward(inputs=agent.actor_params)
    curves |= {"losses/actor": actor_loss}
    return {name: torch.as_tensor(number).detach() for name, number in curves.items()}


def update(agent: Agent, batch: GoalSetBatch, args: Args) -> dict[str, Tensor]:
    """One gradient step of critic and actor; returns a value for each training curve."""
    for tensor in (*batch.goals, batch.item_reward):
        torch._dynamo.mark_dynamic(tensor, 0)  # --compile: their length varies between batches
    agent.critic_optimizer.zero_grad()
    agent.actor_optimizer.zero_grad()
    curves = backward_both(agent, batch, args)
    agent.critic_optimizer.step()
    agent.actor_optimizer.step()
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
    score = (metrics["episodic_return"],)
    folder.save_model(score, actor=agent.actor, critic=agent.critic)
    if video:
        folder.write("video.gif", video.film(agent.actor.act, episodes=4))
    folder.add_row(metrics)  # last: with its last row a run is complete


def check_args(args: Args, envs: VectorEnv) -> None:
    """Raises BadInput where flags and environment do not go together, or nothing is learned."""
    if not hasattr(envs.unwrapped, "compute_item_rewards"):
        raise run.BadInput(f"{args.env_id} has no goal sets: it lacks compute_item_rewards.")
    if args.encoder == "cnn" and "DriveSeek" not in args.env_id:
        raise run.BadInput("--encoder cnn is for DriveSeek alone: give --encoder deepsets.")
    n_max = envs.unwrapped.n_max
    if 0 < args.n_max < n_max:
        raise run.BadInput(f"--n-max {args.n_max} is too small: up to {n_max} goals.")
    if args.learning_starts > args.total_timesteps:
        raise run.BadInput("Nothing would be learned: --learning-starts exceeds --total-timesteps.")


if __name__ == "__main__":
    with run.one_sentence():  # bad input is found before anything is written
        args = run.parse_args(Args, PAPER_SETTINGS, UNTUNED, __doc__)
        device = run.set_up_torch(args)
        torch.manual_seed(args.seed)
        make_env = partial(make, args.env_id, **run.env_flags(args))
        eval_envs, eval_episodes = make_eval_envs(
            make_env, args.eval_episodes, args.seed + 1_000_000, args.env_threads
        )
        check_args(args, eval_envs)
        args.n_max = args.n_max or eval_envs.unwrapped.n_max
        folder = run.RunFolder(args, __file__, device)  # exits if the run there is complete
        agent = Agent(eval_envs, args, device)
        if args.evaluate:
            run.load_networks(args, __file__, actor=agent.actor)
            metrics = evaluate(eval_envs, agent.actor.act, eval_episodes)
            run.show(args, make_env, agent.actor.act, episodes=eval_episodes, **metrics)
            sys.exit()
        envs = make_vector(make_env, 1, args.seed)
        rng = np.random.default_rng(args.seed)
        buffer = GoalSetReplayBuffer(envs, args, rng)
        video = Video(make_env, args.seed + 2_000_000) if args.capture_video else None
        count = SimpleNamespace(global_step=0, updates=0)
        folder.begin(count, agent=agent, buffer=buffer, rng=rng, envs=envs, eval_envs=eval_envs)

    if args.compile:
        backward_both = run.compiled(backward_both)
    if count.global_step == 0:
        evaluate_and_save(folder, agent, eval_envs, eval_episodes, video)
    while count.global_step < args.total_timesteps:
        # Act: the policy with Gaussian noise, or a uniform action
        obs = envs.reset(envs.ended)  # new episodes where one has ended
        noise = args.exploration_noise * rng.standard_normal((1, envs.action_dim))
        action = (agent.actor.act(obs) + noise).clip(-1, 1)
        if count.global_step < args.learning_starts:
            action = rng.uniform(-1, 1, (1, envs.action_dim))
        next_obs, reward, terminated, _, success = envs.step(action)
        count.global_step += 1

        # Store
        step = {"state": state_of(obs)[0], "action": action[0], "next_state": state_of(next_obs)[0]}
        step |= {"reward": reward[0], "terminated": terminated[0]}
        buffer.add(step, obs["desired_goal"][0], envs.ended.any())
        folder.add_step(reward, success, envs.ended)

        # Update
        if count.global_step >= args.learning_starts:
            batch = buffer.sample(args.batch_size, device)
            curves = update(agent, batch, args)
            polyak(agent, args.tau)
            folder.add_update(curves)
            count.updates += 1
            folder.check_finite(curves, "losses/")

        # Log
        if count.global_step % args.log_frequency == 0:
            folder.log(buffer_fill=buffer.stored / buffer.capacity)

        # Evaluate
        is_over = count.global_step >= args.total_timesteps
        if is_over or count.global_step % args.eval_frequency == 0:
            evaluate_and_save(folder, agent, eval_envs, eval_episodes, video)
        folder.checkpoint(envs.ended, envs.max_episode_steps)
    folder.close()
