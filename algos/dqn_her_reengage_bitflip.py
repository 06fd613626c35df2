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

PAPER_SETTINGS apply automatically; flags override them. Deviation from the paper: 'future' goals
include an episode's final state, which its library left out. There is no program for this figure;
Eqs. (32) and (33) have gamma twice, here it is once, and no mask, which is that of Eq. (9).
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
from gymnasium.spaces import Discrete
from torch import Tensor, nn

sys.path.append(str(Path(__file__).resolve().parents[1]))  # where the project is not installed
from envs import Task, VectorEnv, Video, inspect_task, make, make_eval_envs, make_vector, run


@dataclass
class Args(run.RunArgs):
    """Flags; those that every script has are in `run.RunArgs`."""

    # Environment
    env_id: str = "BitFlip20-v0"
    """BitFlip<d>-v0 (d up to 100), or your own with discrete actions and a sparse reward"""
    seed: run.Seed = 1
    """seeds everything random: networks, exploration, replay, environments"""
    total_timesteps: run.Count = 200_000
    """steps of all environments together (paper: 200k for d = 20, 1.6M for d = 40)"""
    num_envs: run.Count = 16
    """episodes side by side; as many finished ones make a round of updates (paper: 16)"""
    eval_frequency: run.Count = 2000
    """steps between two evaluations; one is at step 0 (paper: 2000; 40k for d = 40)"""
    eval_episodes: run.CountOrZero = 50
    """episodes per evaluation, without noise; 0: by their length (paper: 50)"""

    # Learning
    learning_rate: run.Positive = 1e-3
    """of Adam (paper: 1e-3)"""
    buffer_size: run.Count = 1_000_000
    """transitions that the replay buffer holds; the oldest episodes are overwritten (paper: 1e6)"""
    batch_size: run.Count = 128
    """transitions per gradient step (paper: 128)"""
    gamma: run.Discount = 0.98
    """discount factor (paper: 0.98)"""
    tau: run.PositiveFraction = 0.05
    """Polyak factor: target = (1 - tau) target + tau online (paper: 0.05)"""
    gradient_steps: run.Count = 40
    """gradient steps per round (paper: 40)"""
    target_network_frequency: run.Count = 40
    """gradient steps between two Polyak updates (paper: 40)"""
    epsilon: run.Fraction = 0.2
    """probability that a uniform action replaces a training action (paper: 0.2)"""
    hidden_dims: tuple[run.Width, ...] = (256,)
    """widths of the hidden layers (paper: 256)"""

    # Method
    alpha: run.NonNegative | Literal["auto"] = 1.0
    """weight of the gradient term, a mean over batch and goal dimensions; 0 is DQN+HER"""
    alpha_ratio: run.Positive = 0.3
    """with --alpha auto: the weighted gradient loss as a fraction of the value loss"""
    alpha_warmup: run.Count = 1000
    """with --alpha auto: updates without the gradient term at first"""
    alpha_averaging: run.PositiveFraction = 0.002
    """with --alpha auto: weight of a new loss in the running means of both losses"""
    c_low: run.Number | None = None
    """reward away from the goal, where the term applies; None: found by probing (paper: -1)"""
    temperature: run.NonNegative = 1.0
    """of the soft target; 0 is the max (paper: 0, 0.5, 1)"""
    soft_target: Literal["gradient", "both", "both-stochastic"] = "gradient"
    """where it stands: in the gradient term, in both terms, or in both and its softmax acts"""
    her_k: run.Count = 4
    """relabelled goals for one original goal: a fraction k / (k + 1) of each batch (paper: 4)"""
    her_strategy: Literal["future", "final", "episode", "none"] = "future"
    """which achieved goal of the same episode replaces the goal: a later, the last, any, or none"""


PAPER_SETTINGS = {  # every pattern that matches the whole name applies, later over earlier
    r"BitFlip\d*-v0": dict(alpha=1.0),
    r"BitFlip40-v0": dict(total_timesteps=1_600_000, eval_frequency=40_000, temperature=0.5),
}
UNTUNED = dict(alpha="auto", eval_episodes=0)  # for any other environment


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
        dims = (in_dim, *args.hidden_dims, int(envs.action_space.n))
        self.q_network = QNetwork(dims).to(device)
        self.target_network = copy.deepcopy(self.q_network).requires_grad_(False)
        self.params = list(self.q_network.parameters())
        self.target_params = list(self.target_network.parameters())
        self.optimizer = torch.optim.Adam(self.params, lr=args.learning_rate, fused=True)
        self.auto_alpha = AutoAlpha(args).to(device) if args.alpha == "auto" else None


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
    curves = {"losses/value": value_loss, "values/q": q.mean(), "values/target": target.mean()}
    if args.alpha == 0:
        return value_loss, curves | {"gradient/alpha": 0.0, "gradient/ratio": 0.0}

    target_grad = torch.autograd.grad(soft_target.sum(), goal)[0]  # (batch, goal_dim), a constant
    q_grad = torch.autograd.grad(q.sum(), goal, create_graph=True)[0]  # (batch, goal_dim)
    mask = (batch.reward == args.c_low).to(goal)  # (batch,), 1[R = c_low]
    grad_loss = (mask[:, None] * (q_grad - target_grad)).square().mean()
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


def backward(
    loss: Callable, parameters: list[Tensor], agent: Agent, batch: Batch, args: Args, *more: Tensor
) -> dict[str, Tensor]:
    """Adds a loss's gradient to the parameters' `grad`; returns a value for each training curve."""
    with run.autocast(args, batch.obs.device):
        value, curves = loss(agent, batch, args, *more)
    value.backward(inputs=parameters)
    return {name: torch.as_tensor(number).detach() for name, number in curves.items()}


def update(agent: Agent, batch: Batch, args: Args) -> dict[str, Tensor]:
    """A gradient step of the network; returns a value for each training curve."""
    agent.optimizer.zero_grad()
    curves = backward(dqn_loss, agent.params, agent, batch, args)
    agent.optimizer.step()
    return curves


@torch.no_grad()
def polyak(agent: Agent, tau: float) -> None:
    """target = (1 - tau) target + tau online."""
    torch._foreach_lerp_(agent.target_params, agent.params, tau)


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
    """Evaluates without noise, then saves the network, a film and the metrics."""
    metrics = evaluate(envs, agent.q_network.act, episodes)
    score = metrics["success_once"], metrics["episodic_return"]
    folder.save_model(score, q_network=agent.q_network)
    if video:
        folder.write("video.gif", video.film(agent.q_network.act, episodes=4))
    folder.add_row(metrics)  # last: with its last row a run is complete


def check_args(args: Args, task: Task) -> None:
    """Raises BadInput with one sentence where arguments and environment do not go together."""
    if args.alpha != 0 and task.is_dense:
        raise run.BadInput(f"Eq. (32) needs a sparse reward, not {args.env_id}'s: give --alpha 0.")
    if args.soft_target == "both-stochastic" and args.temperature == 0:
        raise run.BadInput("--soft-target both-stochastic needs a softmax: raise --temperature.")


if __name__ == "__main__":
    with run.one_sentence():  # bad input is found before anything is written
        args = run.parse_args(Args, PAPER_SETTINGS, UNTUNED, __doc__)
        device = run.set_up_torch(args)
        folder = run.RunFolder(args, __file__, device)  # exits if the run there is complete
        torch.manual_seed(args.seed)
        make_env = partial(make, args.env_id, action_space=Discrete, **run.env_flags(args))
        eval_envs, eval_episodes = make_eval_envs(
            make_env, args.eval_episodes, args.seed + 1_000_000, args.env_threads
        )
        agent = Agent(eval_envs, args, device)
        if args.evaluate:
            run.load_networks(args, __file__, q_network=agent.q_network)
            metrics = evaluate(eval_envs, agent.q_network.act, eval_episodes)
            run.show(args, make_env, agent.q_network.act, episodes=eval_episodes, **metrics)
            sys.exit()
        task = inspect_task(make_env)
        run.say(*task.notes)
        envs = make_vector(make_env, args.num_envs, args.seed, args.env_threads)
        check_args(args, task)
        args.c_low = task.reward_low if args.c_low is None else args.c_low
        rng = np.random.default_rng(args.seed)
        buffer = HerReplayBuffer(envs, args, task, rng)
        video = Video(make_env, args.seed + 2_000_000) if args.capture_video else None
        count = SimpleNamespace(global_step=0, updates=0, new_episodes=0)  # of this round
        folder.begin(count, agent=agent, buffer=buffer, rng=rng, envs=envs, eval_envs=eval_envs)

    if args.compile:
        backward = run.compiled(backward)
    if count.global_step == 0:
        evaluate_and_save(folder, agent, eval_envs, eval_episodes, video)
    while count.global_step < args.total_timesteps:
        # Act: the best action, with 'both-stochastic' one of the soft target's softmax, or any
        obs = envs.reset(envs.ended)  # new episodes where one has ended
        if args.soft_target == "both-stochastic":
            policy_action = agent.target_network.act(obs, args.temperature)
        else:
            policy_action = agent.q_network.act(obs)
        uniform_action = rng.integers(envs.action_space.n, size=args.num_envs)
        is_random = rng.random(args.num_envs) < args.epsilon
        action = np.where(is_random, uniform_action, policy_action)
        next_obs, reward, terminated, _, success = envs.step(action)
        count.global_step += args.num_envs

        # Store
        step = {"obs": obs["observation"], "goal": obs["desired_goal"], "action": action[:, None]}
        step |= {"reward": reward, "terminated": terminated, "next_obs": next_obs["observation"]}
        step |= {"next_achieved_goal": next_obs["achieved_goal"]}
        buffer.add(step, envs.ended)
        count.new_episodes += int(envs.ended.sum())
        folder.add_step(reward, success, envs.ended)

        # Update
        if count.new_episodes >= args.num_envs:
            count.new_episodes = 0
            for _ in range(args.gradient_steps):
                batch = buffer.sample(args.batch_size, device)
                curves = update(agent, batch, args)
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

        # Evaluate
        is_over = count.global_step >= args.total_timesteps
        if is_over or count.global_step % args.eval_frequency < args.num_envs:
            evaluate_and_save(folder, agent, eval_envs, eval_episodes, video)
        folder.checkpoint(envs.ended, envs.max_episode_steps)
    folder.close()
