"""DDPG with hindsight experience replay (HER): the baseline of "Goal-Conditioned Q-Learning as Knowledge Distillation"
(Levine & Feizi, AAAI 2023). `ddpg_her_reengage.py` adds the paper's gradient term to it.

    critic, Eq. (4):  (Q(s, a, g) - [R(s', g) + gamma Q'(s', pi'(s', g), g)])^2
    actor,  Eq. (5):  -Q(s, pi(s, g), g)

    python algos/ddpg_her.py --env-id ContinuousSeek5-v0     success 0.97 after 12k steps, 2 minutes on one core
    python algos/ddpg_her.py --env-id HandReach-v3           success 0.5 after 15 epochs, 3 minutes each

PAPER_SETTINGS apply by themselves; a flag wins over them. Deviations from the paper: in robotics a batch of 1024 stands
for 19 workers with 256 each (README: torchrun), and 'future' goals include the transition's own next state.
"""

import copy
import csv
import json
import os
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
    """environment steps with uniform actions before learning starts (paper: 1000; 0 in robotics)"""
    num_envs: int = 1
    """environments that step side by side (paper: 1; 38 in robotics)"""
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
    her_k: int = 4
    """relabelled goals for one original goal: a fraction k / (k + 1) of each batch is relabelled (paper: 4)"""
    her_strategy: Literal["future", "final", "episode", "none"] = "future"
    """which achieved goal of the same episode replaces the goal: a later one, the last one, any, or no relabelling"""
    action_l2: float = 0.0
    """weight of the mean squared action in the actor's loss (paper: 0; 1 in robotics)"""
    clip_target: bool = False
    """clip targets to [-1 / (1 - gamma), 0], the returns that rewards of -1 and 0 can give (paper: in robotics)"""
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
    """episodes an evaluation, all side by side, without noise (paper: 50; 380 in robotics)"""
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
    train_frequency=50, gradient_steps=40, target_network_frequency=40, exploration_noise=0.2, random_action_prob=0.3,
    action_l2=1.0, clip_target=True, simultaneous_updates=True, normalize=True, observe_achieved_goal=False,
    hidden_dims=(256, 256, 256), xavier_init=True, eval_frequency=95_000, eval_episodes=380,
)  # fmt: skip
PAPER_SETTINGS = {  # what stands under every part of the environment's name applies, later over earlier
    "ContinuousSeek": dict(total_timesteps=50_000, learning_rate=5e-4, batch_size=256),
    "ContinuousSeek5-": dict(total_timesteps=12_000, learning_rate=1e-3, batch_size=512),
    "ContinuousSeek20-": dict(total_timesteps=400_000),
    "Fetch": ROBOTICS,
    "FetchReach": dict(
        total_timesteps=15_000, num_envs=2, batch_size=256, eval_frequency=1500, eval_episodes=50
    ),
    "Hand": ROBOTICS,
    "Manipulate": dict(
        total_timesteps=38_000_000, gamma=0.99, train_frequency=100, eval_frequency=190_000
    ),
    "Dense": dict(clip_target=False),
}


def parse_args() -> Args:
    """The defaults, over them the paper's settings for the environment, over them the command line."""
    defaults = Args(env_id=tyro.cli(Args, description=__doc__).env_id)
    for part, settings in PAPER_SETTINGS.items():
        defaults = replace(defaults, **settings) if part in defaults.env_id else defaults
    return tyro.cli(Args, default=defaults)


def check_args(args: Args) -> None:
    """Raises ValueError with one sentence for the first number that makes no sense."""
    zero_is_fine = (
        "seed gamma alpha learning_starts exploration_noise random_action_prob action_l2".split()
    )
    for name, value in vars(args).items():
        lowest = min(value, default=0) if isinstance(value, tuple) else value
        if (
            type(lowest) in (int, float)
            and name != "c_low"
            and not lowest > 0
            and (lowest or name not in zero_is_fine)
        ):
            raise ValueError(f"--{name.replace('_', '-')} {value} is too small.")
    if args.gamma >= 1 or args.tau > 1 or args.random_action_prob > 1:
        raise ValueError("--gamma must be below 1, --tau and --random-action-prob at most 1.")


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


class Actor(nn.Module):
    """pi(s, g): (batch, obs_dim), (batch, goal_dim) -> (batch, action_dim) in [-1, 1]."""

    def __init__(self, obs_normalizer: Normalizer, goal_normalizer: Normalizer, net: nn.Sequential):
        super().__init__()
        self.obs_normalizer, self.goal_normalizer, self.net = obs_normalizer, goal_normalizer, net

    def forward(self, obs: Tensor, goal: Tensor) -> Tensor:
        return (
            self.net(torch.cat([self.obs_normalizer(obs), self.goal_normalizer(goal)], dim=1))
            .to(obs)
            .tanh()
        )

    @torch.no_grad()
    def act(self, obs: dict[str, np.ndarray]) -> np.ndarray:
        """Observations of n environments -> actions without noise, (n, action_dim)."""
        inputs = (
            torch.from_numpy(obs[key]).to(self.net[0].weight)
            for key in ("observation", "desired_goal")
        )
        return self(*inputs).cpu().numpy()


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


def ddpg_critic_loss(
    critic: Critic, target_critic: Critic, target_actor: Actor, batch: Batch, args: Args
) -> tuple[Tensor, dict]:
    """Eq. (4): match the target's value."""
    with torch.no_grad():
        next_q = target_critic(
            batch.next_obs, batch.goal, target_actor(batch.next_obs, batch.goal)
        )  # (batch,)
        target = batch.reward + args.gamma * (1 - batch.terminated) * next_q  # (batch,)
        if args.clip_target:
            target = target.clamp(-1 / (1 - args.gamma), 0)
    q = critic(batch.obs, batch.goal, batch.action)  # (batch,)
    value_loss = nn.functional.mse_loss(q, target)
    return value_loss, {"value_loss": value_loss.detach(), "q": q.detach().mean()}


def actor_loss(critic: Critic, actor: Actor, batch: Batch, action_l2: float) -> Tensor:
    """Eq. (5): -Q(s, pi(s, g), g), plus the penalty on large actions of Plappert et al. (2018)."""
    action = actor(batch.obs, batch.goal)  # (batch, action_dim)
    return -critic(batch.obs, batch.goal, action).mean() + action_l2 * action.square().mean()


def average(tensors: list[Tensor]) -> None:
    """Under torchrun, replaces tensors by their mean over all ranks with one flat all-reduce; else does nothing."""
    if torch.distributed.is_initialized():
        flat = nn.utils.parameters_to_vector(tensors)
        torch.distributed.all_reduce(flat)
        nn.utils.vector_to_parameters(flat / torch.distributed.get_world_size(), tensors)


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
        check_args(args)
        args.env_id = resolve(args.env_id)
        model = load(args.evaluate, args.env_id) if args.evaluate else {"architecture": {}}
        args = replace(args, **model["architecture"])
        torch.set_num_threads(args.num_threads)
        torch.set_float32_matmul_precision(args.matmul_precision)
        torch.set_flush_denormal(
            True
        )  # arithmetic on denormal numbers is up to a hundred times slower
        torch.manual_seed(args.seed)
        rank, ranks = (
            int(os.environ.get("RANK", 0)),
            int(os.environ.get("WORLD_SIZE", 1)),
        )  # torchrun's; else 0 and 1
        seed, stride = (
            args.seed + 10_000 * rank,
            args.num_envs * ranks,
        )  # stride: steps of all environments at a time
        rng = np.random.default_rng(seed)
        device = torch.device(
            f"cuda:{rank % n}" if args.cuda and (n := torch.cuda.device_count()) else "cpu"
        )
        envs = VectorEnv(args.env_id, args.num_envs, seed, args.observe_achieved_goal)
        eval_envs = VectorEnv(
            args.env_id, args.eval_episodes, seed + 1_000_000, args.observe_achieved_goal
        )
        video = (
            Video(args.env_id, args.seed + 2_000_000, args.observe_achieved_goal)
            if args.capture_video
            else None
        )
        buffer = HerReplayBuffer(args.buffer_size, envs, args.her_k, args.her_strategy, rng)
        if max(-(-args.learning_starts // stride), args.train_frequency) < envs.max_episode_steps:
            raise ValueError(
                "No episode is stored at the first update: raise --learning-starts or --train-frequency."
            )
        if args.track:
            import wandb
        run_dir = Path(
            args.run_dir
            or f"runs/{args.env_id}__{Path(__file__).stem}__{args.seed}__{time.time():.0f}"
        )
        if rank == 0 and not args.evaluate:
            run_dir.mkdir(parents=True)
    except (ValueError, OSError, ImportError) as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    if ranks > 1:
        torch.distributed.init_process_group("gloo")  # ranks may share a GPU, which NCCL refuses

    normalizers = (
        Normalizer(envs.obs_dim, args.normalize),
        Normalizer(envs.goal_dim, args.normalize),
    )
    in_dim, action_dim = envs.obs_dim + envs.goal_dim, envs.action_dim
    actor = Actor(*normalizers, mlp((in_dim, *args.hidden_dims, action_dim), args.xavier_init)).to(
        device
    )
    critic = Critic(
        *normalizers, mlp((in_dim + action_dim, *args.hidden_dims, 1), args.xavier_init)
    ).to(device)
    if args.evaluate:
        actor.load_state_dict(model["actor"])
        print(*(f"{key} {value:.3f}" for key, value in eval_envs.play(actor.act).items()), sep="  ")
        if video:
            video.record(actor.act, Path(args.evaluate).with_suffix(".gif"), episodes=4)
        sys.exit()

    target_actor = Actor(*normalizers, copy.deepcopy(actor.net)).requires_grad_(False)
    target_critic = Critic(*normalizers, copy.deepcopy(critic.net)).requires_grad_(False)
    actor_params, critic_params = list(actor.net.parameters()), list(critic.net.parameters())
    online_params = [parameter.detach() for parameter in actor_params + critic_params]
    target_params = [*target_actor.net.parameters(), *target_critic.net.parameters()]
    actor_optimizer = torch.optim.Adam(actor_params, lr=args.learning_rate, fused=True)
    critic_optimizer = torch.optim.Adam(critic_params, lr=args.learning_rate, fused=True)
    amp = torch.autocast(
        device.type, torch.bfloat16, enabled=args.matmul_precision == "medium"
    )  # in losses alone
    if rank == 0:
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

    for iteration in range(-(-args.total_timesteps // stride) + 1):
        global_step = iteration * stride

        # Evaluate, log, save: before the first step, whenever eval_frequency more steps are done, and at the end
        if global_step % args.eval_frequency < stride or global_step >= args.total_timesteps:
            metrics = eval_envs.play(actor.act)
            average([means := torch.tensor([*metrics.values()], dtype=torch.float64)])
            metrics = dict(zip(metrics, means.tolist(), strict=True))
            if ranks > 1:
                torch.distributed.broadcast(
                    expected := nn.utils.parameters_to_vector(online_params), src=0
                )
                if not expected.equal(nn.utils.parameters_to_vector(online_params)):
                    sys.exit(f"Rank {rank} has other weights than rank 0 at step {global_step}.")
            if rank == 0:
                row = {
                    "global_step": global_step,
                    **metrics,
                    "wall_time": round(time.time() - start, 3),
                }
                print(
                    "\033[K" * is_terminal
                    + "  ".join(f"{k} {round(v, 3)}" for k, v in row.items()),
                    flush=True,
                )
                with open(run_dir / "metrics.csv", "a", newline="") as file:
                    csv.writer(file).writerows(
                        [row.keys(), row.values()] if iteration == 0 else [row.values()]
                    )
                for key, value in (metrics | info).items():
                    writer.add_scalar(key, value, global_step)
                writer.flush()
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
                        "critic": critic.state_dict(),
                    }
                    for name in ["model.pt"] + ["best_model.pt"] * (metrics["success_rate"] > best):
                        torch.save(model, run_dir / "unfinished.pt")
                        (run_dir / "unfinished.pt").replace(run_dir / name)  # never half a model
                    best = max(best, metrics["success_rate"])
                if video:
                    video.record(actor.act, run_dir / "video.gif", episodes=4)
        if global_step >= args.total_timesteps:
            break

        # Act: the policy with Gaussian noise, or a uniform action
        noisy = np.clip(
            actor.act(obs) + args.exploration_noise * rng.standard_normal(action_shape), -1, 1
        )
        random_prob = 1.0 if global_step < args.learning_starts else args.random_action_prob
        action = np.where(
            rng.random((args.num_envs, 1)) < random_prob, rng.uniform(-1, 1, action_shape), noisy
        )
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
            global_step + stride >= args.learning_starts
            and (iteration + 1) % args.train_frequency == 0
        ):
            if args.normalize:
                batch = buffer.sample(
                    new_episodes * envs.max_episode_steps, device, newest=new_episodes
                )
                for normalizer, rows in zip(normalizers, (batch.obs, batch.goal), strict=True):
                    normalizer.update(rows)
                    average([normalizer.sums])
                    normalizer.update(rows[:0])  # of no rows: mean and std by the sums of all ranks
                new_episodes = 0
            for _ in range(args.gradient_steps):
                batch = buffer.sample(args.batch_size, device)
                critic_optimizer.zero_grad()
                critic_loss, info = amp(ddpg_critic_loss)(
                    critic, target_critic, target_actor, batch, args
                )
                critic_loss.backward(
                    inputs=critic_params
                )  # of the critic alone: no gradient of any other network
                average([parameter.grad for parameter in critic_params])
                if not args.simultaneous_updates:
                    critic_optimizer.step()
                actor_optimizer.zero_grad()
                amp(actor_loss)(critic, actor, batch, args.action_l2).backward(inputs=actor_params)
                average([parameter.grad for parameter in actor_params])
                actor_optimizer.step()
                if args.simultaneous_updates:
                    critic_optimizer.step()
                updates += 1
                if updates % args.target_network_frequency == 0:
                    torch._foreach_lerp_(target_params, online_params, args.tau)  # Polyak
            if not critic_loss.isfinite():
                sys.exit(
                    f"The critic's loss is {critic_loss:g} at step {global_step}; {run_dir} keeps what was saved."
                )

        if is_terminal and rank == 0 and iteration % 10 == 0:
            done = (global_step + stride) / args.total_timesteps
            bar, left = "#" * int(40 * done), (time.time() - start) * (1 / done - 1)
            print(f"\033[K[{bar:<40}] {done:.0%}, {left:.0f} s left", end="\r", flush=True)
    if ranks > 1 and (
        rank > 0 or not args.track
    ):  # wandb, which only rank 0 has, finishes while the interpreter ends
        os._exit(
            0
        )  # everything is written, and Gloo's threads can abort an interpreter while it is torn down
