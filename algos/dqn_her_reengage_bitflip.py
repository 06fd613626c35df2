"""ReenGAGE on DQN + HER for discrete actions: the gradient term matches the gradient of a soft
target (Levine & Feizi, "Goal-Conditioned Q-Learning as Knowledge Distillation", AAAI 2023,
appendix; DQN + HER: Andrychowicz et al. 2017).

    in Eq. (31):            Soft(s', g) = softmax[Q'(s', g) / temperature] . Q'(s', g)
    'gradient', Eq. (32):   Huber(Q_a(s, g), R(s', g) + gamma max_a' Q'_a'(s', g))
                            + 1[R = c_low] alpha/d ||dQ_a(s, g)/dg - gamma dSoft(s', g)/dg||^2
    'both', Eq. (33):       the same with Soft in place of max; 'both-stochastic' also acts by it

Temperature 0 is the plain max. --alpha 0 is DQN + HER.

    python algos/dqn_her_reengage_bitflip.py --env-id BitFlip20-v0    success 0.9 in half a minute
    python algos/dqn_her_reengage_bitflip.py --env-id BitFlip40-v0    success 0.9 in two minutes

PAPER_SETTINGS apply by themselves; a flag wins over them. Deviation from the paper: 'future' goals
include an episode's final state, which its library left out. There is no program for this figure;
Eqs. (32) and (33) have gamma twice, here it is once, and no mask, which is that of Eq. (9).
"""

import copy
import itertools
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C before the run needs no traceback

import numpy as np
import torch
from gymnasium.spaces import Discrete
from torch import Tensor, nn

sys.path.append(str(Path(__file__).resolve().parents[1]))  # where the project is not installed
from envs import Task, VectorEnv, Video, inspect_task, make_vector
from envs.run import flags as launch
from envs.run.flags import RunArgs
from envs.run.folder import RunFolder


@dataclass
class EnvironmentArgs:
    env_id: str = "BitFlip20-v0"
    """BitFlip<d>-v0 for any d, or your own with discrete actions and a sparse reward"""
    seed: int = 1
    """of everything random: networks, exploration, replay, environments"""
    total_timesteps: int = 200_000
    """steps of all environments together (paper: 200k for d = 20, 1.6M for d = 40)"""
    num_envs: int = 16
    """episodes side by side; as many finished ones make a round of updates (paper: 16)"""
    eval_frequency: int = 2000
    """steps between two evaluations; one is at step 0 (paper: 2000; 40k for d = 40)"""
    eval_episodes: int = 50
    """episodes an evaluation, without noise; 0: by their length (paper: 50)"""


@dataclass
class LearningArgs:
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
    gradient_steps: int = 40
    """gradient steps a round (paper: 40)"""
    target_network_frequency: int = 40
    """gradient steps between two Polyak updates (paper: 40)"""
    epsilon: float = 0.2
    """probability that a uniform action replaces a training action (paper: 0.2)"""
    hidden_dims: tuple[int, ...] = (256,)
    """widths of the hidden layers (paper: 256)"""


@dataclass
class MethodArgs:
    alpha: float | Literal["auto"] = 1.0
    """weight of the gradient term, a mean over batch and goal dimensions; 0 is DQN+HER"""
    alpha_ratio: float = 0.3
    """with --alpha auto: the weighted gradient loss as a fraction of the value loss"""
    c_low: float | None = None
    """reward away from the goal, where the gradient term counts; found by itself (paper: -1)"""
    temperature: float = 1.0
    """of the soft target; 0 is the max (paper: 0, 0.5, 1)"""
    soft_target: Literal["gradient", "both", "both-stochastic"] = "gradient"
    """where it stands: in the gradient term, in both terms, or in both and its softmax acts"""
    her_k: int = 4
    """relabelled goals for one original goal: a fraction k / (k + 1) of each batch (paper: 4)"""
    her_strategy: Literal["future", "final", "episode", "none"] = "future"
    """which achieved goal of the same episode replaces the goal: a later, the last, any, or none"""


@dataclass
class Args(EnvironmentArgs, LearningArgs, MethodArgs, RunArgs):
    """Every flag; those of RunArgs are the same in all scripts."""


PAPER_SETTINGS = {  # every pattern that matches the whole name applies, later over earlier
    r"BitFlip\d+-v0": dict(alpha=1.0),
    r"BitFlip40-v0": dict(total_timesteps=1_600_000, eval_frequency=40_000, temperature=0.5),
}
UNTUNED = dict(alpha="auto", eval_episodes=0)  # for any other environment


def check_args(args: Args, task: Task) -> None:
    """Raises ValueError with one sentence where arguments and environment do not go together."""
    if args.alpha != 0 and task.is_dense:
        raise ValueError(f"Eq. (32) is for sparse rewards, unlike {args.env_id}'s: give --alpha 0.")
    if 0 < args.temperature < 1e-6:
        raise ValueError(f"--temperature {args.temperature} is too small: 0 is the plain max.")
    if args.soft_target == "both-stochastic" and args.temperature == 0:
        raise ValueError("--soft-target both-stochastic draws from a softmax: raise --temperature.")


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


class QNetwork(nn.Module):
    """Q(s, ., g): (batch, obs_dim), (batch, goal_dim) -> (batch, n_actions)."""

    def __init__(self, dims: tuple[int, ...]):
        super().__init__()
        layers = []
        for fan_in, fan_out in itertools.pairwise(dims):
            layers += [nn.Linear(fan_in, fan_out), nn.ReLU(inplace=True)]
        self.net = nn.Sequential(*layers[:-1])

    def forward(self, obs: Tensor, goal: Tensor) -> Tensor:
        x = torch.cat([obs, goal], dim=1)
        return self.net(x).to(obs)  # float32 under autocast too

    @torch.no_grad()
    def act(self, obs: dict, temperature: float = 0.0) -> np.ndarray:
        """Observations of n environments -> best actions, or of softmax(Q / temperature): (n,)."""
        weight = self.net[0].weight
        state = torch.from_numpy(obs["observation"]).to(weight)
        goal = torch.from_numpy(obs["desired_goal"]).to(weight)
        q = self(state, goal)  # (n, n_actions)
        if temperature > 0:
            action = torch.multinomial((q / temperature).softmax(dim=1), 1)[:, 0]
        else:
            action = q.argmax(dim=1)
        return action.cpu().numpy()


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
        dims = (in_dim, *args.hidden_dims, int(envs.action_space.n))
        self.q_network = QNetwork(dims).to(device)
        self.target_network = copy.deepcopy(self.q_network).requires_grad_(False)
        self.params = list(self.q_network.parameters())
        self.target_params = list(self.target_network.parameters())
        self.optimizer = torch.optim.Adam(self.params, lr=args.learning_rate, fused=True)
        self.weight = GradientWeight(args.alpha, args.alpha_ratio).to(device)


def soft_max(q: Tensor, temperature: float) -> Tensor:
    """In Eq. (31): softmax[q / temperature] . q; temperature 0: the max; (batch, n) -> (batch,)."""
    if temperature == 0:
        return q.max(dim=1).values
    return ((q / temperature).softmax(dim=1) * q).sum(dim=1)


def dqn_loss(agent: Agent, batch: Batch, args: Args) -> tuple[Tensor, dict]:
    """Eq. (32), or Eq. (33) with --soft-target both; the mask 1[R = c_low] is that of Eq. (9)."""
    goal = batch.goal.clone().requires_grad_(args.alpha != 0)
    next_q = agent.target_network(batch.next_obs, goal)  # (batch, n_actions)
    discount = args.gamma * (1 - batch.terminated)  # (batch,)
    soft_target = batch.reward + discount * soft_max(next_q, args.temperature)  # (batch,)
    hard_target = batch.reward + discount * next_q.max(dim=1).values  # (batch,)
    target = hard_target if args.soft_target == "gradient" else soft_target
    q = agent.q_network(batch.obs, goal)  # (batch, n_actions)
    q = q.gather(1, batch.action.long())[:, 0]  # (batch,)
    value_loss = nn.functional.huber_loss(q, target.detach())
    info = {"value_loss": value_loss, "q": q, "target": target}
    if args.alpha == 0:
        return value_loss, info | {"alpha": 0.0}

    target_grad = torch.autograd.grad(soft_target.sum(), goal)[0]  # (batch, goal_dim), a constant
    q_grad = torch.autograd.grad(q.sum(), goal, create_graph=True)[0]  # (batch, goal_dim)
    mask = (batch.reward == args.c_low).float()  # (batch,), 1[R = c_low]
    grad_loss = (mask[:, None] * (q_grad - target_grad)).square().mean()
    alpha = agent.weight(value_loss, grad_loss)
    info |= {"grad_loss": grad_loss, "alpha": alpha, "mask": mask}
    info |= {"q_grad": q_grad, "target_grad": target_grad}
    return value_loss + alpha * grad_loss, info


def update(agent: Agent, batch: Batch, args: Args) -> dict:
    """A gradient step of the network; returns what it was made of."""
    agent.optimizer.zero_grad()
    with launch.autocast(args, batch.obs.device):
        loss, info = dqn_loss(agent, batch, args)
    loss.backward(inputs=agent.params)
    agent.optimizer.step()
    return info | {"critic_loss": loss, "epsilon": args.epsilon}


@torch.no_grad()
def polyak(agent: Agent, tau: float) -> None:
    """target = (1 - tau) target + tau online."""
    torch._foreach_lerp_(agent.target_params, agent.params, tau)


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
    """Evaluates without noise; keeps the network, a film and the numbers."""
    metrics = evaluate(envs, agent.q_network.act, args.eval_episodes)
    score = metrics["success_once"], metrics["episodic_return"]
    folder.save_model(score, q_network=agent.q_network)
    if video:
        folder.write("video.gif", video.film(agent.q_network.act, episodes=4))
    folder.add_row(metrics)  # last: with its last row a run is complete


if __name__ == "__main__":
    with launch.one_sentence():  # bad input is found before anything is written
        args = launch.parse_args(Args, PAPER_SETTINGS, UNTUNED, __doc__)
        device, make_env = launch.start(args, action_space=Discrete)
        eval_envs = launch.make_eval_envs(make_env, args)
        agent = Agent(eval_envs, args, device)
        if args.evaluate:
            launch.load_networks(args, q_network=agent.q_network)
            metrics = evaluate(eval_envs, agent.q_network.act, args.eval_episodes)
            launch.play(args, make_env, agent.q_network.act, metrics)
            sys.exit()
        task = inspect_task(make_env)
        envs = make_vector(make_env, args.num_envs, args.seed, args.env_threads or None)
        launch.check_task(args, task, envs)
        check_args(args, task)
        rng = np.random.default_rng(args.seed)
        buffer = HerReplayBuffer(envs, args, task, rng)
        video = Video(make_env, args.seed + 2_000_000) if args.capture_video else None
        folder = RunFolder(args, device)
        count = folder.begin(agent, buffer, [envs, eval_envs], rng)

    if count.global_step == 0:
        report(folder, agent, eval_envs, args, video)
    next_obs: dict[str, np.ndarray] = {}
    ended = np.ones(args.num_envs, bool)
    while not folder.is_over():
        # Act: the best action, with 'both-stochastic' one of the soft target's softmax, or any
        obs = envs.reset(ended) if ended.any() else next_obs
        if args.soft_target == "both-stochastic":
            policy_action = agent.target_network.act(obs, args.temperature)
        else:
            policy_action = agent.q_network.act(obs)
        uniform_action = rng.integers(envs.action_space.n, size=args.num_envs)
        is_random = rng.random(args.num_envs) < args.epsilon
        action = np.where(is_random, uniform_action, policy_action)
        next_obs, reward, terminated, truncated, success = envs.step(action)
        ended = terminated | truncated
        count.global_step += args.num_envs

        # Store
        step = {"obs": obs["observation"], "achieved_goal": obs["achieved_goal"]}
        step |= {"action": action[:, None], "reward": reward[:, None]}
        step |= {"terminated": terminated[:, None]}
        buffer.add(step, obs["desired_goal"], next_obs, ended)
        count.new_episodes += int(ended.sum())
        folder.add_step(reward, success, ended)

        # Update
        if count.new_episodes >= args.num_envs:
            count.new_episodes = 0
            for _ in range(args.gradient_steps):
                batch = buffer.sample(args.batch_size, device)
                info = update(agent, batch, args)
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
