"""Multi-ReenGAGE: the goal is a SET of goals, any of which gives a reward; the critic matches the target's gradient by
each goal's gate (Levine & Feizi, "Goal-Conditioned Q-Learning as Knowledge Distillation", AAAI 2023).

    encoder, Eq. (36):  z(s, g) = 1/n_max sum_i b_i^2 e(s, g_i), where the gates b_i are 1 for present goals
    critic, Eq. (19):   (Q(s, a, z) - [R(s', g) + gamma Q'(s', pi'(s', z'), z')])^2
                        + alpha ||grad_b Q(s, a, z) - 2 R_item(s', g) - gamma grad_b Q'(s', pi'(s', z'), z')||^2

    python algos/ddpg_multi_reengage.py --env-id DriveSeek-v0    the paper's size, many hours on a laptop
    bash benchmark/drive_seek.sh small                           commands of a size that learns in two minutes

--alpha 0 is DDPG without relabelling. PAPER_SETTINGS apply by themselves; a flag wins over them. Deviation from the
paper: the actor's gradient is taken at the critic before its step, so that one evaluation of the encoder serves both.
"""

import copy
import csv
import json
import math
import sys
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch
import tyro
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from envs import VectorEnv, Video, resolve


@dataclass
class Args:
    env_id: str = "DriveSeek-v0"
    """the environment: DriveSeek-v0, NoisySeek-v0, with another n_max DriveSeek<n_max>-v0, NoisySeek<n_max>-v0"""
    seed: int = 1
    """of everything random: networks, exploration, replay, environments"""
    total_timesteps: int = 160_000
    """environment steps (paper: 160k)"""
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
    """environment steps with uniform actions before learning starts (paper: 1000)"""
    exploration_noise: float = 0.05
    """standard deviation of the Gaussian noise on actions in [-1, 1] (paper: 0.05 DriveSeek, 0.1 NoisySeek)"""
    alpha: float = 10.0
    """weight of the gradient term, a mean over the batch and n_max gates; 0 is DDPG (paper: 5, 10, 20)"""
    n_max: int = 0
    """slots of a goal set, by which means over goals divide; 0 is the environment's number (paper: 200)"""
    encoder: Literal["deepsets", "cnn"] = "deepsets"
    """how goal sets are read: a network for each goal, or a picture of them all (DriveSeek only; figures 18 to 20)"""
    share_encoder: bool = True
    """the actor reads the critic's encoder without training it, or has one of its own (paper: both, figure 16)"""
    policy_gates: bool = True
    """the target's gradient by the gates also passes through the target policy, as Eq. (19) has it"""
    embedding_dim: int = 20
    """width of the embedding of a goal, and of a goal set (paper: 20)"""
    hidden_dim: int = 400
    """width of the hidden layers: two in the encoder, one in the heads of actor and critic (paper: 400)"""
    eval_frequency: int = 4000
    """environment steps between two evaluations; there is one at step 0 (paper: 4000)"""
    eval_episodes: int = 100
    """episodes an evaluation, all side by side, without noise (paper: 100)"""
    capture_video: bool = False
    """film four evaluation episodes at each evaluation into video.gif"""
    save_model: bool = True
    """keep the last model and the best one (by episodic_return) in model.pt and best_model.pt"""
    evaluate: str = ""
    """path of a saved model to play without training"""
    run_dir: str = ""
    """folder of the run, created by it (default: runs/{env_id}__{script}__{seed}__{time})"""
    track: bool = False
    """mirror the logs to Weights & Biases, if that package is installed"""
    cuda: bool = True
    """use a GPU if there is one"""
    num_threads: int = 2
    """PyTorch's threads; more than one pays only for large batches"""
    matmul_precision: Literal["highest", "high", "medium"] = "highest"
    """of matrix products: medium encodes goals in bfloat16, faster where the processor has units for it"""


PAPER_SETTINGS = {  # what stands under every part of the environment's name applies, later over earlier
    "NoisySeek": dict(exploration_noise=0.1, alpha=20.0),
}


def parse_args() -> Args:
    """The defaults, over them the paper's settings for the environment, over them the command line."""
    defaults = Args(env_id=tyro.cli(Args, description=__doc__).env_id)
    for part, settings in PAPER_SETTINGS.items():
        defaults = replace(defaults, **settings) if part in defaults.env_id else defaults
    return tyro.cli(Args, default=defaults)


def check_multi_args(args: Args) -> None:
    """Raises ValueError with one sentence for the first number that makes no sense."""
    zero_is_fine = "seed gamma alpha learning_starts exploration_noise n_max".split()
    for name, value in vars(args).items():
        if type(value) in (int, float) and not value > 0 and (value or name not in zero_is_fine):
            raise ValueError(f"--{name.replace('_', '-')} {value} is too small.")
    if args.gamma >= 1 or args.tau > 1:
        raise ValueError("--gamma must be below 1, and --tau at most 1.")


class Goals(NamedTuple):
    """The goals that are present in n goal sets, packed: absent ones leave no trace."""

    row: Tensor  # (present,) int64, which of the n sets a goal belongs to
    cell: Tensor  # (present, 2)


class GoalSetBatch(NamedTuple):
    """Transitions, float32. A state is the observation and the achieved goal; the reward is R(s', g)."""

    state: Tensor  # (batch, state_dim)
    goals: Goals
    action: Tensor  # (batch, action_dim)
    reward: Tensor  # (batch,)
    item_reward: Tensor  # (present,), R_item(s', g_i)
    next_state: Tensor  # (batch, state_dim)
    terminated: Tensor  # (batch,), 1 after a true end; a time limit is none


def pack(goal: np.ndarray, device: torch.device) -> tuple[Goals, np.ndarray]:
    """Goal sets (n, 3 n_max) as the environments give them -> their present goals, and the slots of those."""
    slots = goal.reshape(len(goal), -1, 3)  # (n, n_max, 3): gate, x, y
    row, slot = np.nonzero(slots[..., 0])
    return Goals(
        torch.from_numpy(row).to(device), torch.from_numpy(slots[row, slot, 1:]).to(device)
    ), slot


class GoalSetReplayBuffer:
    """Whole episodes in preallocated arrays, each with its goal set. A full buffer overwrites its oldest episode."""

    def __init__(self, buffer_size: int, envs: VectorEnv, rng: np.random.Generator):
        self.max_steps, self.capacity = (
            envs.max_episode_steps,
            buffer_size // envs.max_episode_steps,
        )  # in episodes
        if self.capacity < 2:
            raise ValueError(f"--buffer-size {buffer_size} cannot hold two episodes.")
        dims = {"state": envs.obs_dim + 2, "action": envs.action_dim}
        shape = self.capacity, self.max_steps + 1
        self.data = {key: np.zeros((*shape, dim), np.float32) for key, dim in dims.items()}
        self.data |= {key: np.zeros(shape, np.float32) for key in ("reward", "terminated")}
        self.goal = np.zeros((self.capacity, envs.goal_dim), np.float32)
        self.length = np.zeros(
            self.capacity, np.int64
        )  # steps of each episode, the unfinished one's so far
        self.stored, self.current = 1, 0  # episodes; the unfinished one
        self.compute_item_rewards, self.rng = envs.unwrapped.compute_item_rewards, rng

    def add(
        self, step: dict[str, np.ndarray], goal: np.ndarray, next_state: np.ndarray, ended: bool
    ) -> None:
        """Adds a step of the one environment; next_state precedes any reset."""
        i, t = self.current, self.length[self.current]
        self.goal[i] = goal
        for key, value in step.items():
            self.data[key][i, t] = value
        self.data["state"][i, t + 1] = next_state
        self.length[i] += 1
        if ended:
            self.current = (i + 1) % self.capacity
            self.length[self.current], self.stored = 0, max(self.stored, self.current + 1)

    def sample(self, batch_size: int, device: torch.device) -> GoalSetBatch:
        """Draws transitions uniformly with replacement, from the unfinished episode too."""

        def draw(n: int) -> tuple[np.ndarray, np.ndarray]:
            return self.rng.integers(self.stored, size=n), self.rng.integers(self.max_steps, size=n)

        episode, t = draw(batch_size)
        while (
            beyond := t >= self.length[episode]
        ).any():  # an episode with fewer steps: draw again
            episode[beyond], t[beyond] = draw(beyond.sum())
        goal, next_state = self.goal[episode], self.data["state"][episode, t + 1]
        goals, slot = pack(goal, device)
        item_reward = self.compute_item_rewards(next_state[:, -2:], goal)[goals.row.cpu(), slot]
        names = ("state", "action", "reward", "terminated")
        rows = {name: self.data[name][episode, t] for name in names}
        rows |= {"item_reward": item_reward, "next_state": next_state}
        return GoalSetBatch(
            goals=goals,
            **{name: torch.from_numpy(array).to(device) for name, array in rows.items()},
        )


def mlp(dims: tuple[int, ...], xavier_init: bool) -> nn.Sequential:
    layers = []
    for fan_in, fan_out in zip(dims[:-1], dims[1:], strict=True):
        layers += [nn.Linear(fan_in, fan_out), nn.ReLU(inplace=True)]
        if xavier_init:
            nn.init.xavier_uniform_(layers[-2].weight)
            nn.init.zeros_(layers[-2].bias)
    return nn.Sequential(*layers[:-1])


class GoalEncoder(nn.Module):
    """Eq. (36), DeepSets: 1/n_max sum_i b_i^2 e(s, g_i); states (n, state_dim), gates (present,) -> (n, embedding_dim).

    Three things make it fast and change no number. Goals are packed: absent ones cost nothing. e does not see the
    gates: the gradient by a gate, 2 b_i e_i . dQ/dz / n_max, never passes back through this network. And e does not see
    the action: critic and actor share one evaluation. With --matmul-precision medium, e is computed in bfloat16.
    """

    def __init__(self, net: nn.Sequential, n_max: int):
        super().__init__()
        self.net, self.n_max = net, n_max

    def forward(self, state: Tensor, goals: Goals, gates: Tensor) -> Tensor:
        inputs = torch.cat([goals.cell, state[goals.row]], dim=1)  # (present, 2 + state_dim)
        bfloat16 = torch.get_float32_matmul_precision() == "medium"
        with torch.autocast(state.device.type, torch.bfloat16, enabled=bfloat16):
            chunks = (
                [inputs] if inputs.is_cuda else inputs.split(2048)
            )  # pieces that stay in a processor's cache
            items = torch.cat([self.net(chunk) for chunk in chunks])  # (present, embedding_dim)
        total = state.new_zeros(len(state), items.shape[1]).index_add(
            0, goals.row, gates.square()[:, None] * items
        )
        return total / self.n_max


class CnnEncoder(nn.Module):
    """Figure 18: a picture of DriveSeek's cells, 8 x 8 pixels each, for the CNN of Mnih et al. (2015).

    Channels: the present goals, b_i^2 in the middle of their cells; the position; the next position if the action is 0.
    """

    def __init__(self, embedding_dim: int):
        super().__init__()
        convolutions = nn.Conv2d(3, 32, 8, 4), nn.Conv2d(32, 64, 4, 2), nn.Conv2d(64, 64, 3)
        layers = [layer for convolution in convolutions for layer in (convolution, nn.ReLU())]
        self.net = nn.Sequential(
            *layers, nn.Flatten(), nn.Linear(64 * 17 * 17, embedding_dim), nn.ReLU()
        )

    def forward(self, state: Tensor, goals: Goals, gates: Tensor) -> Tensor:
        x, y = (goals.cell.long() + 10).unbind(1)
        grid = gates.new_zeros(len(state), 21, 21).index_put((goals.row, x, y), gates.square())
        middle = grid.new_tensor([0, 0, 1, 1, 1, 1, 0, 0])
        goal_pixels = (grid[:, :, None, :, None] * middle[:, None, None] * middle).reshape(
            -1, 168, 168
        )
        marks = (self.mark(position) for position in (state[:, :2], state[:, :2] + state[:, 2:4]))
        return self.net(torch.stack([goal_pixels, *marks], dim=1))

    def mark(self, position: Tensor) -> Tensor:
        """4 x 4 pixels around the positions (n, 2), wrapping at the edges; (n, 168, 168)."""
        first = ((position + 10.5) * 8).floor() - 2  # (n, 2)
        on = (torch.arange(168, device=position.device) - first[..., None]) % 168 < 4  # (n, 2, 168)
        return (on[:, 0, :, None] & on[:, 1, None, :]).to(position)


class GoalSetActor(nn.Module):
    """pi(s, z): states (n, state_dim) and embedded goal sets (n, embedding_dim) -> (n, action_dim) in [-1, 1]."""

    def __init__(self, encoder: nn.Module, head: nn.Sequential):
        super().__init__()
        self.encoder, self.head = encoder, head

    def forward(self, state: Tensor, z: Tensor) -> Tensor:
        return self.head(torch.cat([z, state], dim=1)).tanh()

    @torch.no_grad()
    def act(self, obs: dict[str, np.ndarray]) -> np.ndarray:
        """Observations of n environments -> actions without noise, (n, action_dim)."""
        device = self.head[0].weight.device
        state = torch.from_numpy(np.concatenate([obs["observation"], obs["achieved_goal"]], 1)).to(
            device
        )
        goals, _ = pack(obs["desired_goal"], device)
        return (
            self(state, self.encoder(state, goals, torch.ones_like(goals.cell[:, 0]))).cpu().numpy()
        )


class GoalSetCritic(nn.Module):
    """Q(s, a, z): (n, state_dim), (n, embedding_dim), (n, action_dim) -> (n,)."""

    def __init__(self, encoder: nn.Module, head: nn.Sequential):
        super().__init__()
        self.encoder, self.head = encoder, head

    def forward(self, state: Tensor, z: Tensor, action: Tensor) -> Tensor:
        return self.head(torch.cat([z, state, action], dim=1)).squeeze(1)


def multi_reengage_critic_loss(
    critic: GoalSetCritic,
    target_critic: GoalSetCritic,
    target_actor: GoalSetActor,
    batch: GoalSetBatch,
    args: Args,
) -> tuple[Tensor, Tensor, dict]:
    """Eq. (19); also returns the critic's embedding z of the goal sets, (batch, embedding_dim), for the actor."""
    gates = torch.ones_like(batch.item_reward).requires_grad_(args.alpha > 0)  # (present,)
    next_z = target_critic.encoder(batch.next_state, batch.goals, gates)  # (batch, embedding_dim)
    policy_z = (
        next_z if args.share_encoder else target_actor.encoder(batch.next_state, batch.goals, gates)
    )
    next_action = target_actor(
        batch.next_state, policy_z if args.policy_gates else policy_z.detach()
    )
    next_q = target_critic(batch.next_state, next_z, next_action)  # (batch,)
    target = batch.reward + args.gamma * (1 - batch.terminated) * next_q  # (batch,)
    z = critic.encoder(batch.state, batch.goals, gates)  # (batch, embedding_dim)
    q = critic(batch.state, z, batch.action)  # (batch,)
    value_loss = nn.functional.mse_loss(q, target.detach())
    info = {"value_loss": value_loss.detach(), "q": q.detach().mean()}
    if args.alpha == 0:
        return value_loss, z.detach(), info
    # R = sum_i b_i^2 R_item(s', g_i), Eq. (38). Absent goals have gate 0: their gradients are 0 on both sides
    target_grad = 2 * batch.item_reward + torch.autograd.grad(target.sum(), gates)[0]  # (present,)
    q_grad = torch.autograd.grad(q.sum(), gates, create_graph=True)[0]  # (present,)
    grad_loss = (q_grad - target_grad).square().sum() / (
        len(q) * args.n_max
    )  # the mean over batch and n_max gates
    return value_loss + args.alpha * grad_loss, z.detach(), info | {"grad_loss": grad_loss.detach()}


def multi_actor_loss(
    critic: GoalSetCritic, actor: GoalSetActor, batch: GoalSetBatch, z: Tensor, args: Args
) -> Tensor:
    """Eq. (5): -Q(s, pi(s, z), z), where z is a constant: the critic alone trains its encoder."""
    gates = torch.ones_like(batch.item_reward)
    policy_z = z if args.share_encoder else actor.encoder(batch.state, batch.goals, gates)
    return -critic(batch.state, z, actor(batch.state, policy_z)).mean()


def load(path: str, env_id: str) -> dict:
    """Reads a model as data, never as code; raises ValueError for one of another environment or script, or none."""
    try:
        model = torch.load(path, map_location="cpu", weights_only=True)
        script, trained_on, _ = model["script"], model["env_id"], model["architecture"]
    except Exception as error:
        raise ValueError(f"{path} is not a readable model file ({type(error).__name__}).") from None
    if (script, trained_on) != (Path(__file__).stem, env_id):
        raise ValueError(
            f"{path} was trained by {script}.py on {trained_on}: use that script and --env-id."
        )
    return model


if __name__ == "__main__":
    args = parse_args()
    try:  # whatever can be wrong with the arguments is found before anything is written
        check_multi_args(args)
        args.env_id = resolve(args.env_id)
        model = load(args.evaluate, args.env_id) if args.evaluate else {"architecture": {}}
        args = replace(args, **model["architecture"])
        torch.set_num_threads(args.num_threads)
        torch.set_float32_matmul_precision(args.matmul_precision)
        torch.set_flush_denormal(
            True
        )  # arithmetic on denormal numbers is up to a hundred times slower
        torch.manual_seed(args.seed)
        rng = np.random.default_rng(args.seed)
        device = torch.device("cuda" if args.cuda and torch.cuda.is_available() else "cpu")
        envs = VectorEnv(args.env_id, 1, args.seed)
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
            raise ValueError(
                f"--n-max {args.n_max} is too small: {args.env_id} needs {envs.unwrapped.n_max}."
            )
        eval_envs = VectorEnv(args.env_id, args.eval_episodes, args.seed + 1_000_000)
        video = Video(args.env_id, args.seed + 2_000_000) if args.capture_video else None
        buffer = GoalSetReplayBuffer(args.buffer_size, envs, rng)
        if args.track:
            import wandb
        run_dir = Path(
            args.run_dir
            or f"runs/{args.env_id}__{Path(__file__).stem}__{args.seed}__{time.time():.0f}"
        )
        if not args.evaluate:
            run_dir.mkdir(parents=True)
    except (ValueError, OSError, ImportError) as error:
        print(error, file=sys.stderr)
        sys.exit(2)

    state_dim, action_dim, z_dim = envs.obs_dim + 2, envs.action_dim, args.embedding_dim

    def make_encoder() -> nn.Module:
        if args.encoder == "cnn":
            return CnnEncoder(z_dim)
        return GoalEncoder(
            mlp((2 + state_dim, args.hidden_dim, args.hidden_dim, z_dim), xavier_init=False),
            args.n_max,
        )

    critic_head = mlp((z_dim + state_dim + action_dim, args.hidden_dim, 1), xavier_init=False)
    critic = GoalSetCritic(make_encoder(), critic_head).to(device)
    actor_head = mlp((z_dim + state_dim, args.hidden_dim, action_dim), xavier_init=False)
    actor = GoalSetActor(critic.encoder if args.share_encoder else make_encoder(), actor_head).to(
        device
    )
    if args.evaluate:
        actor.load_state_dict(model["actor"])
        print(*(f"{key} {value:.3f}" for key, value in eval_envs.play(actor.act).items()), sep="  ")
        if video:
            video.record(actor.act, Path(args.evaluate).with_suffix(".gif"), episodes=4)
        sys.exit()

    target_critic, target_actor = copy.deepcopy((critic, actor))  # what is shared stays shared
    own, target_own = (
        (actor.head, target_actor.head) if args.share_encoder else (actor, target_actor)
    )
    actor_params, critic_params = list(own.parameters()), list(critic.parameters())
    online_params = [parameter.detach() for parameter in actor_params + critic_params]
    target_params = [*target_own.parameters(), *target_critic.parameters()]
    for parameter in target_params:
        parameter.requires_grad_(False)
    actor_optimizer = torch.optim.Adam(actor_params, lr=args.learning_rate, fused=True)
    critic_optimizer = torch.optim.Adam(critic_params, lr=args.learning_rate, fused=True)

    (run_dir / "args.json").write_text(json.dumps(asdict(args), indent=2) + "\n")
    if args.track:
        wandb.init(name=run_dir.name, config=asdict(args), dir=run_dir, sync_tensorboard=True)
    writer = SummaryWriter(run_dir)
    start, is_terminal, best, info = time.time(), sys.stdout.isatty(), -math.inf, {}
    obs = envs.reset()

    for global_step in range(args.total_timesteps + 1):
        # Evaluate, log, save: before the first step, whenever eval_frequency more steps are done, and at the end
        if global_step % args.eval_frequency == 0 or global_step == args.total_timesteps:
            metrics = eval_envs.play(actor.act)
            row = {
                "global_step": global_step,
                **metrics,
                "wall_time": round(time.time() - start, 3),
            }
            print(
                "\033[K" * is_terminal + "  ".join(f"{k} {round(v, 3)}" for k, v in row.items()),
                flush=True,
            )
            with open(run_dir / "metrics.csv", "a", newline="") as file:
                csv.writer(file).writerows(
                    [row.keys(), row.values()] if global_step == 0 else [row.values()]
                )
            for key, value in (metrics | info).items():
                writer.add_scalar(key, value, global_step)
            if args.save_model:
                keys = ("encoder", "share_encoder", "embedding_dim", "hidden_dim", "n_max")
                architecture = {key: getattr(args, key) for key in keys}
                model = {
                    "script": Path(__file__).stem,
                    "env_id": args.env_id,
                    "architecture": architecture,
                }
                model |= {
                    "global_step": global_step,
                    "actor": actor.state_dict(),
                    "critic": critic.state_dict(),
                }
                for name in ["model.pt"] + ["best_model.pt"] * (metrics["episodic_return"] > best):
                    torch.save(model, run_dir / "unfinished.pt")
                    (run_dir / "unfinished.pt").replace(
                        run_dir / name
                    )  # an interruption never leaves half a model
                best = max(best, metrics["episodic_return"])
            if video:
                video.record(actor.act, run_dir / "video.gif", episodes=4)
        if global_step == args.total_timesteps:
            break

        # Act: the policy with Gaussian noise, or a uniform action
        noisy = np.clip(
            actor.act(obs) + args.exploration_noise * rng.standard_normal((1, action_dim)), -1, 1
        )
        action = (
            rng.uniform(-1, 1, (1, action_dim)) if global_step < args.learning_starts else noisy
        )
        next_obs, reward, terminated, truncated, _ = envs.step(action.astype(np.float32))
        ended = (terminated | truncated).any()

        # Store
        state, next_state = (
            np.concatenate([o["observation"], o["achieved_goal"]], 1) for o in (obs, next_obs)
        )
        step = {
            "state": state[0],
            "action": action[0],
            "reward": reward[0],
            "terminated": terminated[0],
        }
        buffer.add(step, obs["desired_goal"][0], next_state[0], ended)
        obs = envs.reset() if ended else next_obs

        # Update: actor and critic are differentiated at the same parameters, then both step
        if global_step + 1 >= args.learning_starts:
            batch = buffer.sample(args.batch_size, device)
            critic_loss, z, info = multi_reengage_critic_loss(
                critic, target_critic, target_actor, batch, args
            )
            critic_optimizer.zero_grad()
            critic_loss.backward(inputs=critic_params)
            actor_optimizer.zero_grad()
            multi_actor_loss(critic, actor, batch, z, args).backward(inputs=actor_params)
            critic_optimizer.step()
            actor_optimizer.step()
            torch._foreach_lerp_(target_params, online_params, args.tau)  # Polyak
            if not critic_loss.isfinite():
                sys.exit(
                    f"The critic's loss is {critic_loss:g} at step {global_step}; {run_dir} keeps what was saved."
                )

        if is_terminal and global_step % 10 == 0:
            done = (global_step + 1) / args.total_timesteps
            bar, left = "#" * int(40 * done), (time.time() - start) * (1 / done - 1)
            print(f"\033[K[{bar:<40}] {done:.0%}, {left:.0f} s left", end="\r", flush=True)
    writer.close()
