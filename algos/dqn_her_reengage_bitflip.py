"""ReenGAGE on DQN + HER for discrete actions: the gradient term matches the gradient of a soft target (Levine & Feizi,
"Goal-Conditioned Q-Learning as Knowledge Distillation", AAAI 2023, appendix; DQN + HER: Andrychowicz et al. 2017).

    soft target, Eq. (31):  Soft(s', g) = softmax[Q'(s', g) / temperature] . Q'(s', g)
    'gradient', Eq. (32):   Huber(Q_a(s, g), R(s', g) + gamma max_a' Q'_a'(s', g))
                            + 1[R = c_low] alpha ||grad_g Q_a(s, g) - gamma grad_g Soft(s', g)||^2
    'both', Eq. (33):       the same with Soft in place of max; 'both-stochastic' also acts by that softmax

Temperature 0 is the plain max. --alpha 0 is DQN + HER.

    python algos/dqn_her_reengage_bitflip.py --env-id BitFlip20-v0    success 0.9 after 48k steps, half a minute
    python algos/dqn_her_reengage_bitflip.py --env-id BitFlip40-v0    success 0.9 after 560k steps, two minutes

PAPER_SETTINGS apply by themselves; a flag wins over them. Deviation from the paper: 'future' goals include the
transition's own next state. The paper gives no program for this figure, and Eq. (32) has gamma twice; here it is once.
"""

import copy
import csv
import json
import sys
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch
import tyro
from gymnasium.spaces import Discrete
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from envs import VectorEnv, Video, resolve


@dataclass
class Args:
    env_id: str = "BitFlip20-v0"
    """the environment: BitFlip<d>-v0 for any d, or your own with discrete actions and a sparse reward"""
    seed: int = 1
    """of everything random: networks, exploration, replay, environments"""
    total_timesteps: int = 200_000
    """environment steps, all environments together (paper: 200k for d = 20, 1.6M for d = 40)"""
    learning_rate: float = 1e-3
    """of Adam (paper: 1e-3)"""
    buffer_size: int = 1_000_000
    """transitions that the replay buffer holds; the oldest episodes are overwritten (paper: 1e6)"""
    batch_size: int = 128
    """transitions a gradient step (paper: 128)"""
    gamma: float = 0.98
    """discount factor (paper: 0.98)"""
    tau: float = 0.05
    """Polyak factor: target = (1 - tau) target + tau online (paper: 0.05)"""
    num_envs: int = 16
    """episodes side by side; after as many finished episodes follows a round of updates (paper: 16)"""
    gradient_steps: int = 40
    """gradient steps a round (paper: 40)"""
    target_network_frequency: int = 40
    """gradient steps between two Polyak updates (paper: 40)"""
    epsilon: float = 0.2
    """probability that a training action is replaced by a uniform one (paper: 0.2)"""
    alpha: float = 1.0
    """weight of the gradient term, a mean over the batch and the goal's dimensions; 0 is DQN+HER (paper: 0, 0.5, 1)"""
    c_low: float = -1.0
    """a sparse environment's reward away from the goal; only there the gradient term counts (paper: -1)"""
    temperature: float = 1.0
    """of the soft target; 0 is the max (paper: 0, 0.5, 1)"""
    soft_target: Literal["gradient", "both", "both-stochastic"] = "gradient"
    """where the soft target stands: in the gradient term, in both terms, or in both and its softmax acts"""
    her_k: int = 4
    """relabelled goals for one original goal: a fraction k / (k + 1) of each batch is relabelled (paper: 4)"""
    her_strategy: Literal["future", "final", "episode", "none"] = "future"
    """which achieved goal of the same episode replaces the goal: a later one, the last one, any, or no relabelling"""
    hidden_dims: tuple[int, ...] = (256,)
    """widths of the hidden layers (paper: 256)"""
    eval_frequency: int = 2000
    """environment steps between two evaluations; there is one at step 0 (paper: 2000 for d = 20, 40k for d = 40)"""
    eval_episodes: int = 50
    """episodes an evaluation, all side by side, without noise (paper: 50)"""
    capture_video: bool = False
    """film four evaluation episodes at each evaluation into video.gif"""
    save_model: bool = True
    """keep the last model and the best one (by success_once) in model.pt and best_model.pt"""
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


PAPER_SETTINGS = {  # what stands under every part of the environment's name applies, later over earlier
    "BitFlip40-": dict(total_timesteps=1_600_000, eval_frequency=40_000, temperature=0.5),
}


def parse_args() -> Args:
    """The defaults, over them the paper's settings for the environment, over them the command line."""
    defaults = Args(env_id=tyro.cli(Args, description=__doc__).env_id)
    for part, settings in PAPER_SETTINGS.items():
        defaults = replace(defaults, **settings) if part in defaults.env_id else defaults
    return tyro.cli(Args, default=defaults)


def check_dqn_args(args: Args) -> None:
    """Raises ValueError with one sentence for the first number that makes no sense."""
    zero_is_fine = "seed gamma alpha epsilon temperature".split()
    for name, value in vars(args).items():
        lowest = min(value, default=0) if isinstance(value, tuple) else value
        if (
            type(lowest) in (int, float)
            and name != "c_low"
            and not lowest > 0
            and (lowest or name not in zero_is_fine)
        ):
            raise ValueError(f"--{name.replace('_', '-')} {value} is too small.")
    if args.gamma >= 1 or args.tau > 1 or args.epsilon > 1:
        raise ValueError("--gamma must be below 1, --tau and --epsilon at most 1.")
    if args.soft_target == "both-stochastic" and args.temperature == 0:
        raise ValueError(
            "--soft-target both-stochastic draws from a softmax: raise --temperature above 0."
        )


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


def mlp(dims: tuple[int, ...], xavier_init: bool) -> nn.Sequential:
    layers = []
    for fan_in, fan_out in zip(dims[:-1], dims[1:], strict=True):
        layers += [nn.Linear(fan_in, fan_out), nn.ReLU(inplace=True)]
        if xavier_init:
            nn.init.xavier_uniform_(layers[-2].weight)
            nn.init.zeros_(layers[-2].bias)
    return nn.Sequential(*layers[:-1])


class QNetwork(nn.Module):
    """Q(s, ., g): (batch, obs_dim), (batch, goal_dim) -> (batch, n_actions)."""

    def __init__(self, net: nn.Sequential):
        super().__init__()
        self.net = net

    def forward(self, obs: Tensor, goal: Tensor) -> Tensor:
        return self.net(torch.cat([obs, goal], dim=1)).to(obs)

    @torch.no_grad()
    def act(self, obs: dict[str, np.ndarray], temperature: float = 0.0) -> np.ndarray:
        """Observations of n environments -> actions (n,): the best, or drawn from softmax(Q / temperature)."""
        q = self(
            *(
                torch.from_numpy(obs[key]).to(self.net[0].weight)
                for key in ("observation", "desired_goal")
            )
        )
        action = (
            torch.multinomial((q / temperature).softmax(1), 1)[:, 0]
            if temperature > 0
            else q.argmax(1)
        )
        return action.cpu().numpy()


def soft_max(q: Tensor, temperature: float) -> Tensor:
    """Eq. (31): softmax[q / temperature] . q, which goes to the max with the temperature; (batch, n) -> (batch,)."""
    return ((q / temperature).softmax(dim=1) * q).sum(1) if temperature > 0 else q.max(dim=1).values


def dqn_loss(
    q_network: QNetwork, target_network: QNetwork, batch: Batch, args: Args
) -> tuple[Tensor, dict]:
    """Eq. (32), or Eq. (33) with --soft-target both; the mask 1[R = c_low] is that of Eq. (9)."""
    goal = batch.goal.clone().requires_grad_(args.alpha > 0)
    next_q = target_network(batch.next_obs, goal)  # (batch, n_actions)
    discount = args.gamma * (1 - batch.terminated)  # (batch,)
    soft_target = batch.reward + discount * soft_max(next_q, args.temperature)  # (batch,)
    hard_target = batch.reward + discount * next_q.max(dim=1).values  # (batch,)
    target = hard_target if args.soft_target == "gradient" else soft_target
    q = q_network(batch.obs, goal).gather(1, batch.action.long())[:, 0]  # (batch,)
    value_loss = nn.functional.huber_loss(q, target.detach())
    info = {"value_loss": value_loss.detach(), "q": q.detach().mean()}
    if args.alpha == 0:
        return value_loss, info
    target_grad = torch.autograd.grad(soft_target.sum(), goal)[
        0
    ]  # (batch, goal_dim), without a graph: a constant
    q_grad = torch.autograd.grad(q.sum(), goal, create_graph=True)[0]  # (batch, goal_dim)
    sparse_mask = (batch.reward == args.c_low).float()  # (batch,)
    grad_loss = (sparse_mask[:, None] * (q_grad - target_grad)).square().mean()
    return value_loss + args.alpha * grad_loss, info | {"grad_loss": grad_loss.detach()}


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
        check_dqn_args(args)
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
        envs = VectorEnv(args.env_id, args.num_envs, args.seed, action_space=Discrete)
        eval_envs = VectorEnv(
            args.env_id, args.eval_episodes, args.seed + 1_000_000, action_space=Discrete
        )
        video = (
            Video(args.env_id, args.seed + 2_000_000, action_space=Discrete)
            if args.capture_video
            else None
        )
        buffer = HerReplayBuffer(args.buffer_size, envs, args.her_k, args.her_strategy, rng)
        if envs.is_dense and args.alpha > 0:
            raise ValueError(
                f"{args.env_id} has a dense reward: Eq. (32) is for sparse ones, give --alpha 0."
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

    net = mlp(
        (envs.obs_dim + envs.goal_dim, *args.hidden_dims, int(envs.action_space.n)),
        xavier_init=False,
    )
    q_network = QNetwork(net).to(device)
    if args.evaluate:
        q_network.load_state_dict(model["q_network"])
        print(
            *(f"{key} {value:.3f}" for key, value in eval_envs.play(q_network.act).items()),
            sep="  ",
        )
        if video:
            video.record(q_network.act, Path(args.evaluate).with_suffix(".gif"), episodes=4)
        sys.exit()

    target_network = copy.deepcopy(q_network).requires_grad_(False)
    online_params, target_params = (
        [p.detach() for p in q_network.parameters()],
        [*target_network.parameters()],
    )
    optimizer = torch.optim.Adam(q_network.parameters(), lr=args.learning_rate, fused=True)
    amp = torch.autocast(
        device.type, torch.bfloat16, enabled=args.matmul_precision == "medium"
    )  # in the loss alone

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
    obs = envs.reset()

    for iteration in range(-(-args.total_timesteps // args.num_envs) + 1):
        global_step = iteration * args.num_envs

        # Evaluate, log, save: before the first step, whenever eval_frequency more steps are done, and at the end
        if global_step % args.eval_frequency < args.num_envs or global_step >= args.total_timesteps:
            metrics = eval_envs.play(q_network.act)
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
                model = {
                    "script": Path(__file__).stem,
                    "env_id": args.env_id,
                    "global_step": global_step,
                }
                model |= {
                    "architecture": {"hidden_dims": args.hidden_dims},
                    "q_network": q_network.state_dict(),
                }
                for name in ["model.pt"] + ["best_model.pt"] * (metrics["success_once"] > best):
                    torch.save(model, run_dir / "unfinished.pt")
                    (run_dir / "unfinished.pt").replace(
                        run_dir / name
                    )  # an interruption never leaves half a model
                best = max(best, metrics["success_once"])
            if video:
                video.record(q_network.act, run_dir / "video.gif", episodes=4)
        if global_step >= args.total_timesteps:
            break

        # Act: the best action, or with 'both-stochastic' one drawn by the soft target's softmax, or a uniform one
        stochastic = args.soft_target == "both-stochastic"
        policy_action = (
            target_network.act(obs, args.temperature) if stochastic else q_network.act(obs)
        )
        uniform_action = rng.integers(envs.action_space.n, size=args.num_envs)
        action = np.where(rng.random(args.num_envs) < args.epsilon, uniform_action, policy_action)
        next_obs, reward, terminated, truncated, _ = envs.step(action)
        ended = terminated | truncated

        # Store
        step = {
            "obs": obs["observation"],
            "achieved_goal": obs["achieved_goal"],
            "goal": obs["desired_goal"],
        }
        buffer.add(
            step | {"action": action[:, None], "reward": reward, "terminated": terminated},
            next_obs,
            ended,
        )
        new_episodes += ended.sum()
        obs = envs.reset(ended) if ended.any() else next_obs

        # Update
        if new_episodes >= args.num_envs:
            new_episodes = 0
            for _ in range(args.gradient_steps):
                batch = buffer.sample(args.batch_size, device)
                optimizer.zero_grad()
                loss, info = amp(dqn_loss)(q_network, target_network, batch, args)
                loss.backward()
                optimizer.step()
                updates += 1
                if updates % args.target_network_frequency == 0:
                    torch._foreach_lerp_(target_params, online_params, args.tau)  # Polyak
            if not loss.isfinite():
                sys.exit(
                    f"The loss is {loss:g} at step {global_step}; {run_dir} keeps what was saved."
                )

        if is_terminal and iteration % 10 == 0:
            done = (global_step + args.num_envs) / args.total_timesteps
            bar, left = "#" * int(40 * done), (time.time() - start) * (1 / done - 1)
            print(f"\033[K[{bar:<40}] {done:.0%}, {left:.0f} s left", end="\r", flush=True)
    writer.close()
