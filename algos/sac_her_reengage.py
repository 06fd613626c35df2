"""ReenGAGE on SAC + HER: both critics match the soft target's value AND its gradient by the goal (Levine & Feizi,
"Goal-Conditioned Q-Learning as Knowledge Distillation", AAAI 2023, appendix; SAC: Haarnoja et al. 2018).

    target:  y(g) = R(s', g) + gamma [min_j Q'_j(s', a', g) - c log pi(a' | s', g)],   a' = tanh(mean + std * noise)
    critics: 1/2 sum_i (Q_i(s, a, g) - y(g))^2 + 1[R = c_low] alpha ||grad_g Q_i(s, a, g) - grad_g y(g)||^2

The noise stays the same while y is differentiated, so the gradient passes through the sampled action and through its
log-probability; pi is the current policy. --alpha 0 is SAC + HER.

    python algos/sac_her_reengage.py --env-id ContinuousSeek5-v0     success 1.0 after 12k steps, 15 minutes, one core

PAPER_SETTINGS apply by themselves; a flag wins over them. Deviation from the paper: 'future' goals include the
transition's own next state. On robots, where the paper has no SAC, the settings follow the DDPG scripts.
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
    env_id: str = "ContinuousSeek5-v0"
    """the environment: ContinuousSeek<d>-v0 for any d, a name from Gymnasium-Robotics, or your own"""
    seed: int = 1
    """of everything random: networks, exploration, replay, environments"""
    total_timesteps: int = 12_000
    """environment steps, all environments together (paper: 12k, 50k, 400k for ContinuousSeek d = 5, 10, 20)"""
    learning_rate: float = 1e-3
    """of Adam, for actor, critics and entropy coefficient (paper: table 3)"""
    buffer_size: int = 1_000_000
    """transitions that the replay buffer holds; the oldest episodes are overwritten (paper: 1e6)"""
    batch_size: int = 256
    """transitions a gradient step (paper: table 3)"""
    gamma: float = 0.95
    """discount factor (paper: 0.95)"""
    tau: float = 0.005
    """Polyak factor: target = (1 - tau) target + tau online (paper: 0.005)"""
    learning_starts: int = 1000
    """environment steps with uniform actions before learning starts (paper: 1000)"""
    num_envs: int = 1
    """environments that step side by side (paper: 1)"""
    train_frequency: int = 1
    """steps of each environment between two rounds of updates (paper: 1)"""
    gradient_steps: int = 1
    """gradient steps a round (paper: 1)"""
    target_network_frequency: int = 1
    """gradient steps between two Polyak updates (paper: 1)"""
    exploration_noise: float = 0.03
    """standard deviation of the Gaussian noise on sampled actions in [-1, 1] (paper: 0.03)"""
    alpha: float = 0.1
    """weight of the gradient term, a mean over the batch and the goal's dimensions; 0 is SAC+HER (paper: table 3)"""
    c_low: float = -1.0
    """a sparse environment's reward away from the goal; only there the gradient term counts (paper: -1)"""
    her_k: int = 4
    """relabelled goals for one original goal: a fraction k / (k + 1) of each batch is relabelled (paper: 4)"""
    her_strategy: Literal["future", "final", "episode", "none"] = "future"
    """which achieved goal of the same episode replaces the goal: a later one, the last one, any, or no relabelling"""
    normalize: bool = False
    """normalise observations and goals by running mean and standard deviation (paper: no)"""
    observe_achieved_goal: bool = True
    """the networks see the achieved goal beside observation and desired goal (paper: yes)"""
    hidden_dims: tuple[int, ...] = (256, 256)
    """widths of the hidden layers of actor and critics (paper: 256 256)"""
    xavier_init: bool = False
    """Xavier-uniform weights and zero biases instead of PyTorch's initialisation (paper: no)"""
    eval_frequency: int = 2000
    """environment steps between two evaluations; there is one at step 0 (paper: 2000)"""
    eval_episodes: int = 50
    """episodes an evaluation, all side by side, without noise (paper: 50)"""
    capture_video: bool = False
    """film four evaluation episodes at each evaluation into video.gif"""
    save_model: bool = True
    """keep the last model and the best one (by success_rate) in model.pt and best_model.pt"""
    evaluate: str = ""
    """path of a saved model to play without training"""
    run_dir: str = ""
    """folder of the run, created by it (default: runs/{env_id}__{script}__{seed}__{time})"""
    track: bool = False
    """mirror the logs to Weights & Biases, if that package is installed"""
    cuda: bool = True
    """use a GPU if there is one"""
    num_threads: int = 1
    """PyTorch's threads; more than one pays only for large batches"""
    matmul_precision: Literal["highest", "high", "medium"] = "highest"
    """of the matrix products of training: medium is bfloat16, faster where the processor has units for it"""


ROBOTICS = dict(
    total_timesteps=4_750_000, gamma=0.98, tau=0.05, batch_size=1024, learning_starts=0, num_envs=38, num_threads=2,
    train_frequency=50, gradient_steps=40, target_network_frequency=40, exploration_noise=0.0, eval_frequency=95_000,
    normalize=True, observe_achieved_goal=False, hidden_dims=(256, 256, 256), xavier_init=True, eval_episodes=380,
)  # fmt: skip
PAPER_SETTINGS = {  # what stands under every part of the environment's name applies, later over earlier
    # With --alpha 0, table 3 has batch 8192 (d = 5); learning rate 0.0015 (d = 10); batch 4096 and 0.0005 (d = 20)
    "ContinuousSeek": dict(total_timesteps=50_000, learning_rate=2.5e-3, batch_size=1024),
    "ContinuousSeek5-": dict(total_timesteps=12_000, batch_size=2048, alpha=0.3),
    "ContinuousSeek20-": dict(total_timesteps=400_000, batch_size=8192, alpha=0.2),
    "Fetch": ROBOTICS,
    "FetchReach": dict(
        total_timesteps=15_000, num_envs=2, batch_size=256, eval_frequency=1500, eval_episodes=50
    ),
    "Hand": ROBOTICS,
    "Manipulate": dict(
        total_timesteps=38_000_000, gamma=0.99, train_frequency=100, eval_frequency=190_000
    ),
}


def parse_args() -> Args:
    """The defaults, over them the paper's settings for the environment, over them the command line."""
    defaults = Args(env_id=tyro.cli(Args, description=__doc__).env_id)
    for part, settings in PAPER_SETTINGS.items():
        defaults = replace(defaults, **settings) if part in defaults.env_id else defaults
    return tyro.cli(Args, default=defaults)


def check_sac_args(args: Args) -> None:
    """Raises ValueError with one sentence for the first number that makes no sense."""
    zero_is_fine = "seed gamma alpha learning_starts exploration_noise".split()
    for name, value in vars(args).items():
        lowest = min(value, default=0) if isinstance(value, tuple) else value
        if (
            type(lowest) in (int, float)
            and name != "c_low"
            and not lowest > 0
            and (lowest or name not in zero_is_fine)
        ):
            raise ValueError(f"--{name.replace('_', '-')} {value} is too small.")
    if args.gamma >= 1 or args.tau > 1:
        raise ValueError("--gamma must be below 1, and --tau at most 1.")


class Batch(NamedTuple):
    """Transitions, float32. The reward is R(s', g): of `achieved_goal`, which belongs to the NEXT state, for `goal`."""

    obs: Tensor  # (batch, obs_dim)
    goal: Tensor  # (batch, goal_dim)
    action: Tensor  # (batch, action_dim)
    reward: Tensor  # (batch,)
    next_obs: Tensor  # (batch, obs_dim)
    achieved_goal: Tensor  # (batch, goal_dim)
    terminated: Tensor  # (batch,), 1 after a true end; a time limit is none


class HerReplayBuffer:
    """Whole episodes in preallocated arrays, relabelled when they are sampled (Andrychowicz et al. 2017).

    A full buffer overwrites its oldest episode. A fraction her_k / (her_k + 1) of a batch gets a goal that the
    transition's own episode achieved, chosen by `strategy`.
    """

    def __init__(
        self, buffer_size: int, envs: VectorEnv, her_k: int, strategy: str, rng: np.random.Generator
    ):
        self.max_steps, self.capacity = (
            envs.max_episode_steps,
            buffer_size // envs.max_episode_steps,
        )  # in episodes
        if self.capacity < envs.num_envs:
            raise ValueError(
                f"--buffer-size {buffer_size} cannot hold an episode of each environment."
            )
        dims = {
            "obs": envs.obs_dim,
            "achieved_goal": envs.goal_dim,
            "goal": envs.goal_dim,
            "action": envs.action_dim,
        }
        self.finished, self.unfinished = (
            {key: np.zeros((n, self.max_steps + 1, dim), np.float32) for key, dim in dims.items()}
            | {
                key: np.zeros((n, self.max_steps + 1), np.float32)
                for key in ("reward", "terminated")
            }
            for n in (self.capacity, envs.num_envs)
        )
        self.length = np.zeros(self.capacity, np.int64)  # steps of each finished episode
        self.t = np.zeros(envs.num_envs, np.int64)  # steps of each unfinished one
        self.stored, self.next = 0, 0  # finished episodes; where the next one goes
        self.relabelled = 0.0 if strategy == "none" else her_k / (her_k + 1)
        self.strategy, self.compute_reward, self.rng = strategy, envs.unwrapped.compute_reward, rng

    def add(
        self, step: dict[str, np.ndarray], next_obs: dict[str, np.ndarray], ended: np.ndarray
    ) -> None:
        """Adds a step of every environment, (num_envs, ...); next_obs precedes any reset; ended marks last steps."""
        env = np.arange(len(self.t))
        for key, value in step.items():
            self.unfinished[key][env, self.t] = value
        self.t += 1
        self.unfinished["obs"][env, self.t] = next_obs["observation"]
        self.unfinished["achieved_goal"][env, self.t] = next_obs["achieved_goal"]
        for i in np.flatnonzero(ended):
            for key, array in self.finished.items():
                array[self.next] = self.unfinished[key][i]
            self.length[self.next], self.t[i] = self.t[i], 0
            self.stored, self.next = (
                max(self.stored, self.next + 1),
                (self.next + 1) % self.capacity,
            )

    def sample(self, batch_size: int, device: torch.device, newest: int | None = None) -> Batch:
        """Draws transitions uniformly with replacement, from all finished episodes or only from the `newest` ones."""

        def draw(n: int) -> tuple[np.ndarray, np.ndarray]:
            age = self.rng.integers(min(newest or self.stored, self.stored), size=n)
            return (self.next - 1 - age) % self.capacity, self.rng.integers(self.max_steps, size=n)

        episode, t = draw(batch_size)
        while (
            beyond := t >= self.length[episode]
        ).any():  # an episode that ended early has fewer steps: draw again
            episode[beyond], t[beyond] = draw(beyond.sum())

        data = self.finished
        goal, reward = data["goal"][episode, t], data["reward"][episode, t]
        achieved_goal = data["achieved_goal"][episode, t + 1]
        n = int(
            self.relabelled * batch_size
        )  # the first n rows get a new goal, and the reward that belongs to it
        if n > 0:
            end = self.length[episode[:n]]
            start = {"future": t[:n] + 1, "final": end, "episode": 1}[self.strategy]
            goal[:n] = data["achieved_goal"][
                episode[:n], self.rng.integers(start, end + 1)
            ]  # start and end included
            reward[:n] = self.compute_reward(achieved_goal[:n], goal[:n], {})
        obs, next_obs, terminated = (
            data["obs"][episode, t],
            data["obs"][episode, t + 1],
            data["terminated"][episode, t],
        )
        arrays = (
            obs,
            goal,
            data["action"][episode, t],
            reward,
            next_obs,
            achieved_goal,
            terminated,
        )
        return Batch(*(torch.from_numpy(array).to(device) for array in arrays))


class Normalizer(nn.Module):
    """x -> clip((clip(x, +-200) - mean) / std, +-5) with running statistics and std >= 0.01; if disabled, x -> x."""

    def __init__(self, dim: int, enabled: bool):
        super().__init__()
        self.enabled = enabled
        self.register_buffer(
            "sums", torch.zeros(3, dim, dtype=torch.float64)
        )  # of 1, of x, of x squared
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("std", torch.ones(dim))

    def update(self, x: Tensor) -> None:  # (n, dim)
        x = x.double().clamp(-200, 200)
        self.sums += torch.stack([torch.ones_like(x), x, x.square()]).sum(1)
        count, total, total_of_squares = self.sums
        self.mean.copy_(total / count)
        self.std.copy_(
            (total_of_squares / count - (total / count).square()).clamp(min=0.01**2).sqrt()
        )

    def forward(self, x: Tensor) -> Tensor:
        return ((x.clamp(-200, 200) - self.mean) / self.std).clamp(-5, 5) if self.enabled else x


def mlp(dims: tuple[int, ...], xavier_init: bool) -> nn.Sequential:
    layers = []
    for fan_in, fan_out in zip(dims[:-1], dims[1:], strict=True):
        layers += [nn.Linear(fan_in, fan_out), nn.ReLU(inplace=True)]
        if xavier_init:
            nn.init.xavier_uniform_(layers[-2].weight)
            nn.init.zeros_(layers[-2].bias)
    return nn.Sequential(*layers[:-1])


class GaussianActor(nn.Module):
    """pi(a | s, g): tanh of a Gaussian, so that actions lie in [-1, 1]; the net gives its mean and log std."""

    def __init__(self, obs_normalizer: Normalizer, goal_normalizer: Normalizer, net: nn.Sequential):
        super().__init__()
        self.obs_normalizer, self.goal_normalizer, self.net = obs_normalizer, goal_normalizer, net

    def forward(self, obs: Tensor, goal: Tensor, mean_only: bool = False) -> tuple[Tensor, Tensor]:
        """A sampled action (batch, action_dim) and its log-probability (batch,), both functions of the goal."""
        mean, log_std = self.net(
            torch.cat([self.obs_normalizer(obs), self.goal_normalizer(goal)], dim=1)
        ).chunk(2, 1)
        log_std = log_std.to(obs).clamp(-20, 2)  # float32, as all that follows, under amp too
        noise = torch.zeros_like(log_std) if mean_only else torch.randn_like(log_std)
        u = mean + log_std.exp() * noise  # reparameterised
        log_normal = -0.5 * noise.square() - log_std - 0.5 * math.log(2 * math.pi)
        log_slope = 2 * (
            math.log(2) - u - nn.functional.softplus(-2 * u)
        )  # of tanh: log(1 - tanh(u)^2), stable
        return u.tanh(), (log_normal - log_slope).sum(1)

    @torch.no_grad()
    def act(self, obs: dict[str, np.ndarray], mean_only: bool = True) -> np.ndarray:
        """Observations of n environments -> the Gaussians' means after tanh, or sampled actions, (n, action_dim)."""
        inputs = (
            torch.from_numpy(obs[key]).to(self.net[0].weight)
            for key in ("observation", "desired_goal")
        )
        return self(*inputs, mean_only)[0].cpu().numpy()


class Critic(nn.Module):
    """Q(s, a, g): (batch, obs_dim), (batch, goal_dim), (batch, action_dim) -> (batch,), float32 under amp too."""

    def __init__(self, obs_normalizer: Normalizer, goal_normalizer: Normalizer, net: nn.Sequential):
        super().__init__()
        self.obs_normalizer, self.goal_normalizer, self.net = obs_normalizer, goal_normalizer, net

    def forward(self, obs: Tensor, goal: Tensor, action: Tensor) -> Tensor:
        return (
            self.net(torch.cat([self.obs_normalizer(obs), self.goal_normalizer(goal), action], 1))
            .to(obs)
            .squeeze(1)
        )


def sac_critic_loss(
    critics: nn.ModuleList, target_critics: nn.ModuleList, actor: GaussianActor, entropy_coef: Tensor, batch: Batch,
    args: Args, reward_grad: Tensor | None,
) -> tuple[Tensor, dict]:  # fmt: skip
    """Eq. (9) for both critics and SAC's target, or Eq. (8) with a dense reward's gradient, reward_grad, else None."""
    goal = batch.goal.clone().requires_grad_(args.alpha > 0)
    with torch.set_grad_enabled(args.alpha > 0):
        next_action, next_log_prob = actor(batch.next_obs, goal)  # (batch, action_dim), (batch,)
        next_q = torch.minimum(
            *(critic(batch.next_obs, goal, next_action) for critic in target_critics)
        )  # (batch,)
        # R as a function of the goal: a sparse one is constant, a dense one has the slope that the environment tells
        reward = (
            batch.reward
            if reward_grad is None
            else batch.reward + (reward_grad * (goal - batch.goal)).sum(1)
        )
        target = reward + args.gamma * (1 - batch.terminated) * (
            next_q - entropy_coef * next_log_prob
        )  # (batch,)
    qs = [critic(batch.obs, goal, batch.action) for critic in critics]  # 2 x (batch,)
    value_loss = 0.5 * sum(nn.functional.mse_loss(q, target.detach()) for q in qs)
    info = {
        "value_loss": value_loss.detach(),
        "q": qs[0].detach().mean(),
        "entropy_coef": entropy_coef,
    }
    if args.alpha == 0:
        return value_loss, info
    target_grad = torch.autograd.grad(target.sum(), goal)[
        0
    ]  # (batch, goal_dim), without a graph: a constant
    sparse_mask = (
        (batch.reward == args.c_low).float()
        if reward_grad is None
        else torch.ones_like(batch.reward)
    )
    weight = (
        sparse_mask[:, None] * critics[0].goal_normalizer.std
    )  # by the normalised goal; (batch, goal_dim)
    q_grads = [
        torch.autograd.grad(q.sum(), goal, create_graph=True)[0] for q in qs
    ]  # 2 x (batch, goal_dim)
    grad_loss = 0.5 * sum((weight * (q_grad - target_grad)).square().mean() for q_grad in q_grads)
    return value_loss + args.alpha * grad_loss, info | {"grad_loss": grad_loss.detach()}  # Eq. (9)


def sac_actor_loss(
    critics: nn.ModuleList, actor: GaussianActor, entropy_coef: Tensor, batch: Batch
) -> tuple:
    """Mean of c log pi(a | s, g) - min_j Q_j(s, a, g), with a sampled anew, and the mean of log pi."""
    action, log_prob = actor(batch.obs, batch.goal)  # (batch, action_dim), (batch,)
    q = torch.minimum(*(critic(batch.obs, batch.goal, action) for critic in critics))  # (batch,)
    return (entropy_coef * log_prob - q).mean(), log_prob.detach().mean()


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
        check_sac_args(args)
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
        envs = VectorEnv(args.env_id, args.num_envs, args.seed, args.observe_achieved_goal)
        eval_envs = VectorEnv(
            args.env_id, args.eval_episodes, args.seed + 1_000_000, args.observe_achieved_goal
        )
        video = (
            Video(args.env_id, args.seed + 2_000_000, args.observe_achieved_goal)
            if args.capture_video
            else None
        )
        buffer = HerReplayBuffer(args.buffer_size, envs, args.her_k, args.her_strategy, rng)
        if (
            max(-(-args.learning_starts // args.num_envs), args.train_frequency)
            < envs.max_episode_steps
        ):
            raise ValueError(
                "No episode is stored at the first update: raise --learning-starts or --train-frequency."
            )
        if (
            envs.is_dense
            and args.alpha > 0
            and not hasattr(envs.unwrapped, "compute_reward_gradient")
        ):
            raise ValueError(
                f"{args.env_id} has a dense reward but no compute_reward_gradient, which Eq. (8) needs."
            )
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

    normalizers = (
        Normalizer(envs.obs_dim, args.normalize),
        Normalizer(envs.goal_dim, args.normalize),
    )
    in_dim, action_dim = envs.obs_dim + envs.goal_dim, envs.action_dim
    actor = GaussianActor(
        *normalizers, mlp((in_dim, *args.hidden_dims, 2 * action_dim), args.xavier_init)
    ).to(device)
    critic_nets = (
        mlp((in_dim + action_dim, *args.hidden_dims, 1), args.xavier_init) for _ in range(2)
    )
    critics = nn.ModuleList(Critic(*normalizers, net) for net in critic_nets).to(device)
    log_entropy_coef = torch.zeros((), device=device, requires_grad=True)
    if args.evaluate:
        actor.load_state_dict(model["actor"])
        print(*(f"{key} {value:.3f}" for key, value in eval_envs.play(actor.act).items()), sep="  ")
        if video:
            video.record(actor.act, Path(args.evaluate).with_suffix(".gif"), episodes=4)
        sys.exit()

    target_critics = nn.ModuleList(
        Critic(*normalizers, copy.deepcopy(q.net)) for q in critics
    ).requires_grad_(False)
    actor_params, critic_params = list(actor.net.parameters()), list(critics.parameters())
    online_params, target_params = (
        [parameter.detach() for parameter in critic_params],
        [*target_critics.parameters()],
    )
    actor_optimizer = torch.optim.Adam(actor_params, lr=args.learning_rate, fused=True)
    critic_optimizer = torch.optim.Adam(critic_params, lr=args.learning_rate, fused=True)
    entropy_optimizer = torch.optim.Adam([log_entropy_coef], lr=args.learning_rate, fused=True)
    amp = torch.autocast(
        device.type, torch.bfloat16, enabled=args.matmul_precision == "medium"
    )  # in losses alone

    (run_dir / "args.json").write_text(json.dumps(asdict(args), indent=2) + "\n")
    if args.track:
        wandb.init(name=run_dir.name, config=asdict(args), dir=run_dir, sync_tensorboard=True)
    writer = SummaryWriter(run_dir)
    start, is_terminal, best, info, updates, new_episodes = (
        time.time(),
        sys.stdout.isatty(),
        -1.0,
        {},
        0,
        0,
    )
    obs, action_shape = envs.reset(), (args.num_envs, action_dim)

    for iteration in range(-(-args.total_timesteps // args.num_envs) + 1):
        global_step = iteration * args.num_envs

        # Evaluate, log, save: before the first step, whenever eval_frequency more steps are done, and at the end
        if global_step % args.eval_frequency < args.num_envs or global_step >= args.total_timesteps:
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
                    [row.keys(), row.values()] if iteration == 0 else [row.values()]
                )
            for key, value in (metrics | info).items():
                writer.add_scalar(key, value, global_step)
            if args.save_model:
                architecture = {
                    k: getattr(args, k)
                    for k in ("hidden_dims", "normalize", "observe_achieved_goal")
                }
                model = {
                    "script": Path(__file__).stem,
                    "env_id": args.env_id,
                    "architecture": architecture,
                }
                model |= {
                    "global_step": global_step,
                    "actor": actor.state_dict(),
                    "critics": critics.state_dict(),
                }
                for name in ["model.pt"] + ["best_model.pt"] * (metrics["success_rate"] > best):
                    torch.save(model, run_dir / "unfinished.pt")
                    (run_dir / "unfinished.pt").replace(
                        run_dir / name
                    )  # an interruption never leaves half a model
                best = max(best, metrics["success_rate"])
            if video:
                video.record(actor.act, run_dir / "video.gif", episodes=4)
        if global_step >= args.total_timesteps:
            break

        # Act: a sampled action with Gaussian noise, or a uniform one
        noise = args.exploration_noise * rng.standard_normal(action_shape)
        noisy = np.clip(actor.act(obs, mean_only=False) + noise, -1, 1)
        action = rng.uniform(-1, 1, action_shape) if global_step < args.learning_starts else noisy
        next_obs, reward, terminated, truncated, _ = envs.step(action.astype(np.float32))
        ended = terminated | truncated

        # Store
        step = {
            "obs": obs["observation"],
            "achieved_goal": obs["achieved_goal"],
            "goal": obs["desired_goal"],
        }
        buffer.add(
            step | {"action": action, "reward": reward, "terminated": terminated}, next_obs, ended
        )
        new_episodes += ended.sum()
        obs = envs.reset(ended) if ended.any() else next_obs

        # Update
        if (
            global_step + args.num_envs >= args.learning_starts
            and (iteration + 1) % args.train_frequency == 0
        ):
            if args.normalize and new_episodes > 0:
                batch = buffer.sample(
                    new_episodes * envs.max_episode_steps, device, newest=new_episodes
                )
                actor.obs_normalizer.update(batch.obs)
                actor.goal_normalizer.update(batch.goal)
                new_episodes = 0
            for _ in range(args.gradient_steps):
                batch = buffer.sample(args.batch_size, device)
                slope, coef = envs.reward_gradient(batch), log_entropy_coef.detach().exp()
                critic_optimizer.zero_grad()
                critic_loss, info = amp(sac_critic_loss)(
                    critics, target_critics, actor, coef, batch, args, slope
                )
                critic_loss.backward(
                    inputs=critic_params
                )  # of the critics alone: no gradient of any other network
                critic_optimizer.step()
                actor_optimizer.zero_grad()
                actor_loss, log_prob = amp(sac_actor_loss)(critics, actor, coef, batch)
                actor_loss.backward(inputs=actor_params)
                actor_optimizer.step()
                log_entropy_coef.grad = (
                    action_dim - log_prob
                )  # c grows while the entropy -log pi is below -dim(a)
                entropy_optimizer.step()
                updates += 1
                if updates % args.target_network_frequency == 0:
                    torch._foreach_lerp_(target_params, online_params, args.tau)  # Polyak
            if not critic_loss.isfinite():
                sys.exit(
                    f"The critic's loss is {critic_loss:g} at step {global_step}; {run_dir} keeps what was saved."
                )

        if is_terminal and iteration % 10 == 0:
            done = (global_step + args.num_envs) / args.total_timesteps
            bar, left = "#" * int(40 * done), (time.time() - start) * (1 / done - 1)
            print(f"\033[K[{bar:<40}] {done:.0%}, {left:.0f} s left", end="\r", flush=True)
    writer.close()
