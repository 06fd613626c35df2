"""Small errors, made on purpose: each must make a test fail. `make mutants` tries them all.

    python tests/mutants.py          all of them, half an hour on two cores
    python tests/mutants.py sac      those whose file or change contains 'sac'

An error is one line of one file, replaced in a temporary copy, and the tests that must notice. The
comparison of copies (test_copies.py) is not one of them: it would notice a change in one script.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
SIDE_BY_SIDE = 2
WITHOUT = shutil.ignore_patterns("results", "figures", "__pycache__")

PLAIN = "algos/ddpg_her.py"
REENGAGE = "algos/ddpg_her_reengage.py"
SAC = "algos/sac_her_reengage.py"
DQN = "algos/dqn_her_reengage_bitflip.py"
MULTI = "algos/ddpg_multi_reengage.py"
TORCHRUN = "algos/ddpg_her_reengage_torchrun.py"
MANY = "algos/ddpg_her_reengage_many.py"
FLAGS = "envs/run/flags.py"
FOLDER = "envs/run/folder.py"
STATE = "envs/run/state.py"


class Mutant(NamedTuple):
    """A file, a text that it has once, what stands there instead, and who must notice."""

    path: str
    old: str
    new: str
    tests: str


def noticed_by(tests: str, *changes: tuple[str, str, str]) -> list[Mutant]:
    return [Mutant(*change, tests) for change in changes]


# What a loop stores, how it explores, when and from what it learns, what it evaluates
LOOPS = noticed_by(
    "tests/algos/test_loops.py",
    (PLAIN, '"terminated": terminated,', '"terminated": envs.ended,'),
    (REENGAGE, '"terminated": terminated,', '"terminated": envs.ended,'),
    (PLAIN, '{"obs": obs["observation"]', '{"obs": next_obs["observation"]'),
    (REENGAGE, "obs = envs.reset(envs.ended)", "obs = envs.reset()"),
    (PLAIN, "noise = args.exploration_noise *", "noise = 0 *"),
    (REENGAGE, "noise = args.exploration_noise *", "noise = 0 *"),
    (PLAIN, "is_early = count.global_step < args.learning_starts", "is_early = False"),
    (REENGAGE, "1.0 if is_early else args.random_action_prob", "1.0 if is_early else 0.0"),
    (PLAIN, "return self.net(self.normalizer(x))", "return self.net(x)"),
    (PLAIN, "count.normalized < buffer.end", "count.updates == 0"),
    (PLAIN, "// args.num_envs % args.train_frequency == 0", "// args.num_envs >= 0"),
    (REENGAGE, "count.global_step >= args.learning_starts", "count.global_step > 0"),
    (REENGAGE, "for _ in range(args.gradient_steps):", "for _ in range(1):"),
    (REENGAGE, "buffer.sample(args.batch_size, device)", "buffer.sample(256, device)"),
    (PLAIN, "count.updates % args.target_network_frequency == 0", "count.updates > 0"),
    (REENGAGE, "count.updates % args.target_network_frequency == 0", "count.updates > 0"),
    (PLAIN, "agent.critic_params, tau)", "agent.critic_params, 1 - tau)"),
    (REENGAGE, "agent.critic_params, tau)", "agent.critic_params, 1 - tau)"),
    (REENGAGE, '== "auto" else args.alpha', '== "auto" else 0.1'),
    (REENGAGE, "args.c_low = task.reward_low", "args.c_low = -1.0"),
    (REENGAGE, "if task.is_dense and args.alpha != 0:  #", "if False:  #"),
    (PLAIN, "torch.manual_seed(args.seed)", "torch.manual_seed(0)"),
    (PLAIN, "args.eval_episodes, args.seed + 1_000_000,", "args.eval_episodes, args.seed,"),
    (FLAGS, "max_episode_steps=args.max_episode_steps)", "max_episode_steps=0)"),
    (PLAIN, "**run.env_flags(args))", ")"),
    (REENGAGE, "np.maximum(success_once, success)", "success.astype(float)"),
    (PLAIN, "np.concatenate(played, axis=1)[:, :episodes]", "np.concatenate(played, axis=1)"),
    (PLAIN, "critic=agent.critic)", "critic=agent.target_critic)"),
)
LOOPS += noticed_by(
    "tests/algos/test_loops.py -k sac",
    (SAC, '"terminated": terminated,', '"terminated": envs.ended,'),
    (SAC, "noise = args.exploration_noise *", "noise = 0 *"),
    (SAC, "agent.actor.act(obs, mean_only=False)", "agent.actor.act(obs)"),
    (
        SAC,
        "x = self.net(self.normalizer(x))",
        "x = self.net(x)",
    ),
    (SAC, "count.normalized < buffer.end", "count.updates == 0"),
    (SAC, "count.global_step >= args.learning_starts", "count.global_step > 90"),
    (SAC, "count.updates % args.target_network_frequency == 0", "count.updates > 0"),
    (SAC, "agent.critic_params, tau)", "agent.critic_params, 1 - tau)"),
    (SAC, '== "auto" else args.alpha', '== "auto" else 0.1'),
    (SAC, "(batch.reward == args.c_low)", "(batch.reward == -1)"),
)
LOOPS += noticed_by(
    "tests/algos/test_loops.py -k dqn",
    (DQN, '"terminated": terminated,', '"terminated": envs.ended,'),
    (DQN, '"goal": obs["desired_goal"]', '"goal": obs["achieved_goal"]'),
    (DQN, "rng.random(args.num_envs) < args.epsilon", "rng.random(args.num_envs) < 0"),
    (DQN, "agent.target_network.act(obs, args.temperature)", "agent.q_network.act(obs)"),
    (DQN, "if count.new_episodes >= args.num_envs:", "if count.new_episodes >= 1:"),
    (DQN, "for _ in range(args.gradient_steps):", "for _ in range(1):"),
    (DQN, "agent.params, tau)", "agent.params, 1 - tau)"),
    (DQN, '== "auto" else args.alpha', '== "auto" else 0.1'),
    (DQN, "(batch.reward == args.c_low)", "(batch.reward == -1)"),
    (DQN, 'score = metrics["success_once"]', 'score = metrics["success_rate"]'),
)
LOOPS += noticed_by(
    "tests/algos/test_loops.py -k multi",
    (MULTI, '"terminated": terminated[0]', '"terminated": envs.ended[0]'),
    (MULTI, "noise = args.exploration_noise *", "noise = 0 *"),
    (MULTI, "if count.global_step < args.learning_starts:", "if False:"),
    (MULTI, "if count.global_step >= args.learning_starts:", "if count.global_step > 90:"),
    (MULTI, "polyak(agent, args.tau)", "polyak(agent, 1.0)"),
)

# A gradient step: the losses, their order, and what they train
UPDATES = noticed_by(
    "tests/algos/test_update.py",
    (PLAIN, "args.gamma * (1 - batch.terminated) * next_q", "args.gamma * next_q"),
    (PLAIN, "target.clamp(-1 / (1 - args.gamma), 0)", "target.clamp(max=0)"),
    (PLAIN, "/ self.std).clamp(-5, 5)", "/ self.std)"),
    (PLAIN, "if not args.simultaneous_updates:", "if True:"),
    (PLAIN, "    agent.critic_optimizer.zero_grad()", "    pass"),
    (REENGAGE, "    agent.actor_optimizer.zero_grad()", "    pass"),
    (MULTI, "    agent.actor_optimizer.zero_grad()", "    pass"),
    (PLAIN, "-q.mean() + args.action_l2 * action.square().mean()", "-q.mean()"),
    (REENGAGE, "args.gamma * (1 - batch.terminated) * next_q", "args.gamma * next_q"),
    (REENGAGE, "target_grad = target_grad + reward_grad", "target_grad = reward_grad"),
    (REENGAGE, "mask = torch.ones_like(mask)", "mask = mask.clone()"),
    (REENGAGE, "agent.normalizer.std[-goal.shape[1] :]", "agent.normalizer.std[: goal.shape[1]]"),
    (REENGAGE, "(q_grad - target_grad)", "(q_grad + target_grad)"),
    (REENGAGE, "loss = value_loss + alpha * grad_loss", "loss = value_loss + grad_loss"),
    (REENGAGE, "mse_loss(q, target.detach())", "mse_loss(q, target)"),
    (
        REENGAGE,
        "q = agent.critic(batch.obs, batch.goal,",
        "q = agent.target_critic(batch.obs, batch.goal,",
    ),
)
UPDATES += noticed_by(
    "tests/algos/test_update.py -k sac",
    (SAC, "next_value = next_q - c * log_prob", "next_value = next_q + c * log_prob"),
    (SAC, "return torch.minimum(*(", "return torch.maximum(*("),
    (SAC, "2 * (math.log(2) - u - softplus(-2 * u))", "2 * (math.log(2) - softplus(-2 * u))"),
    (SAC, "loss = value_loss + alpha * grad_loss", "loss = value_loss + 2 * alpha * grad_loss"),
    (SAC, "args.gamma * (1 - batch.terminated) * next_value", "args.gamma * next_value"),
    (SAC, "q = minimum(agent.critics, batch.obs", "q = minimum(agent.target_critics, batch.obs"),
    (SAC, "target_entropy = -batch.action.shape[1]", "target_entropy = 0"),
    (SAC, "    agent.entropy_optimizer.step()", "    pass"),
    (SAC, "    agent.entropy_optimizer.zero_grad()", "    pass"),
)
UPDATES += noticed_by(
    "tests/algos/test_update.py -k dqn",
    (DQN, "    agent.optimizer.zero_grad()", "    pass"),
    (DQN, "((q / temperature).softmax(dim=1) * q)", "((q * temperature).softmax(dim=1) * q)"),
    (DQN, 'hard_target if args.soft_target == "gradient" else soft_target', "hard_target"),
    (DQN, "torch.autograd.grad(soft_target.sum()", "torch.autograd.grad(hard_target.sum()"),
    (DQN, "discount = args.gamma * (1 - batch.terminated)", "discount = args.gamma"),
    (DQN, "nn.functional.huber_loss(", "nn.functional.mse_loss("),
)
UPDATES += noticed_by(
    "tests/algos/test_update.py -k multi",
    (MULTI, "return -agent.critic(batch.state", "return -agent.target_critic(batch.state"),
    (MULTI, "target_grad = 2 * batch.item_reward", "target_grad = batch.item_reward"),
    (MULTI, "goals.gate.square()[:, None] * items", "goals.gate[:, None] * items"),
    (MULTI, "(len(q) * args.n_max)", "len(q)"),
    (MULTI, "index_add(0, goals.row, gated) /", "index_add(0, goals.row, gated) / 2 /"),
    (MULTI, "args.gamma * (1 - batch.terminated) * next_q", "args.gamma * next_q"),
    (MULTI, "policy_z = policy_z.detach()", "policy_z = policy_z.clone()"),
)

# SAC's policy, pictures of goal sets, the normaliser, and the weight of the gradient term
PARTS = noticed_by(
    "tests/algos/test_policies.py",
    (SAC, "log_std.to(obs).clamp(-20, 2)", "log_std.to(obs).clamp(-20, 20)"),
)
PARTS += noticed_by(
    "tests/algos/test_multi.py",
    (MULTI, "cell = (goals.row * 21 + x) * 21 + y", "cell = (goals.row * 21 + y) * 21 + x"),
    (MULTI, "self.max_steps, size=n)", "self.max_steps - 1, size=n)"),
)
PARTS += noticed_by(
    "tests/algos/test_normalizer.py",
    (PLAIN, "variance.clamp(min=1e-4)", "variance.clamp(min=1e-8)"),
    (PLAIN, "mean_of_squares - mean.square()", "mean_of_squares"),
)
PARTS += noticed_by(
    "tests/algos/test_auto_alpha.py",
    (REENGAGE, "self.updates <= self.args.alpha_warmup", "self.updates <= 0"),
    (REENGAGE, "lerp_(losses.float(), self.args.alpha_averaging)", "lerp_(losses.float(), 0.2)"),
    (REENGAGE, "torch.minimum(alpha, self.largest).masked", "alpha.masked"),
    (REENGAGE, "alpha = self.args.alpha_ratio * value /", "alpha = value /"),
)

# Hindsight
REPLAY = noticed_by(
    "tests/algos/test_replay.py",
    (PLAIN, "self.relabelled = args.her_k / (args.her_k + 1)", "self.relabelled = 1.0"),
    (PLAIN, '"final": stop - 1', '"final": stop - 2'),
    (PLAIN, '"future": step[:n]', '"future": step[:n] + 1'),
    (PLAIN, '"episode": batch["start"][:n]', '"episode": step[:n]'),
    (PLAIN, 'batch["reward"][:n] = self.envs', 'batch["reward"][:0] = self.envs'),
    (PLAIN, 'self.data["next_achieved_goal"][chosen]', 'self.data["goal"][chosen]'),
    (PLAIN, "(achieved_goal, goal)] = 0", "(achieved_goal, goal)] = 1"),
    (PLAIN, "while len(self) + length > self.size:", "while len(self) > self.size:"),
    (PLAIN, 'self.data["start"][where] = self.end', 'self.data["start"][where] = 0'),
    (PLAIN, 'self.data["stop"][where] = self.end + length', 'self.data["stop"][where] = self.end'),
    (PLAIN, "self.are_equal and length == self.max_steps", "self.are_equal"),
    (PLAIN, "copy.deepcopy(step)", "dict(step)"),
)

# Ranks
RANKS = noticed_by(
    "tests/algos/test_torchrun.py",
    (
        TORCHRUN,
        "average_over_ranks(*(parameter.grad for parameter in agent.critic_params))",
        "pass",
    ),
    (TORCHRUN, "(*(parameter.grad for parameter in agent.actor_params))", "()"),
    (TORCHRUN, "seed = args.seed + 10_000 * rank", "seed = args.seed"),
    (FOLDER, '{"count": count} | kept', 'kept | {"count": count}'),
    (TORCHRUN, "if args.normalize:  # at every", "if True:  # at every"),
    (TORCHRUN, "check_equal(agent.actor_params + agent.critic_params, folder)", "pass"),
    (TORCHRUN, "    average_over_ranks(means)", "    pass"),
)

# Settings, files and curves
FILES = noticed_by(
    "tests/algos/test_scripts.py -k settings",
    (FLAGS, "if re.fullmatch(pattern, name):", "if re.match(pattern, name):"),
    (FLAGS, "            found |= values", "            found = values"),
    (FLAGS, "return found or untuned", "return found"),
    (FLAGS, "if getattr(args, name) == value}", "}"),
)
FILES += noticed_by(
    "tests/algos/test_scripts.py -k 'ties or finite or nan'",
    (FOLDER, "if score >= self.best:", "if score > self.best:"),
    (FOLDER, "if self.count.global_step > 0:", "if self.count.global_step >= 0:"),
    (FOLDER, "name.startswith(prefix) and not", "not"),
    (PLAIN, 'folder.check_finite(curves, "losses/")', "pass"),
    (MULTI, 'folder.check_finite(curves, "losses/")', "pass"),
)
FILES += noticed_by(
    "tests/algos/test_scripts.py -k curves_are_means",
    (FOLDER, "        self.curves.clear()", "        pass"),
    (FOLDER, "            self.episode_return[i] = 0", "            pass"),
)
FILES += noticed_by(
    "tests/algos/test_scripts.py -k metrics_have",
    ("envs/run/files.py", 'lineterminator="\\n"', 'lineterminator="\\r\\n"'),
)
FILES += noticed_by(
    "tests/algos/test_resume.py -k 'not sac and not dqn and not multi'",
    (FOLDER, "check_unchanged(self.settings, asdict(saved), self.path, may_change)", "pass"),
    (FOLDER, 'self.rows = state["rows"]', "pass"),
    (STATE, 'part.bit_generator.state = json.loads(state["stream"])', "pass"),
    ("envs/run/files.py", "fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)", "pass"),
)
FILES += noticed_by(
    "tests/algos/test_resume.py -k sac",
    (FOLDER, 'kept | {"torch_stream": torch.default_generator}', "kept"),
)
FILES += noticed_by(
    "tests/algos/test_forks.py",
    (FOLDER, "if last_step(self.path) >= total:", "if False:"),
    (STATE, "restore_attributes(module, state[f", "attributes_of(module) or (state[f"),
    (STATE, "        part.data.copy_(state)", "        pass"),
    (STATE, "return array[()]", "return part"),
    (FOLDER, "check_readable(name, state)", "pass"),
    (FOLDER, "if name not in OF_THE_RUN}", "if name in ('env_id', 'hidden_dims')}"),
    (FLAGS, "PLAIN = Range(0, 10**12)", "PLAIN = Range(-(10**12), 10**12)"),
)

# Environments
VECTOR = "envs/vector_env.py"
ENVS = noticed_by(
    "tests/envs/test_vector_env.py",
    (VECTOR, "np.random.SeedSequence(seed).generate_state(self.num_envs)", "[seed] * num_envs"),
    (VECTOR, "self.rng = np.random.default_rng(child)", "self.rng = np.random.default_rng(seed)"),
    (VECTOR, "self.ended = terminated | truncated", "self.ended = terminated"),
)
ENVS += noticed_by(
    "tests/envs/test_any_environment.py",
    ("envs/inspection.py", "& ~elsewhere.astype(bool)", "| False"),
    ("envs/inspection.py", " or len(values) > 2", ""),
    ("envs/inspection.py", "if found != shape:", "if False:"),
    ("envs/inspection.py", "if not np.isfinite(numbers).all():", "if False:"),
    ("envs/rewards.py", "if not np.isfinite(result).all():", "if False:"),
    ("envs/rewards.py", "achieved_goal.copy(),", "achieved_goal,"),
    ("envs/inspection.py", "if is_close.mean() < 0.5:", "if False:"),
    (VECTOR, "if not np.isfinite(actions).all():", "if False:"),
    (VECTOR, 'check_same_goal(self.env, self.goal, obs["desired_goal"])', "pass"),
    (VECTOR, "ended.sum() if ended.all() else np.nan", "ended.size"),
    ("envs/wrappers.py", "np.clip(action, box.low, box.high)", "np.asarray(action)"),
    ("envs/registry.py", "lambda action: action + actions.start", "lambda action: action"),
)
SEEK = "envs/tasks/continuous_seek.py"
FLIP = "envs/tasks/bit_flip.py"
DRIVE = "envs/tasks/drive_seek.py"
ENVS += noticed_by(
    "tests/envs/test_continuous_seek.py",
    (SEEK, "return off <= self.TOLERANCE", "return off <= 0.2"),
    (SEEK, "self.goal = goal.astype(np.float32)", "self.goal = np.abs(goal).astype(np.float32)"),
    ("envs/rewards.py", "np.divide(difference, distance,", "np.divide(-difference, distance,"),
)
ENVS += noticed_by(
    "tests/envs/test_bit_flip.py",
    (VECTOR, "reward = np.where(active, reward, 0)", "reward = np.where(True, reward, 0)"),
    (FLIP, "= 1 - state[episode, action]", "= 1"),
    (FLIP, "(achieved_goal == desired_goal).all(", "(achieved_goal == desired_goal).any("),
)
ENVS += noticed_by(
    "tests/envs/test_goal_sets.py",
    (DRIVE, "angle = state[:, 2] + 0.5 * turn", "angle = state[:, 2] + turn"),
    (DRIVE, "% (2 * edge) - edge", "% (2 * edge + 1) - edge"),
    ("envs/tasks/noisy_seek.py", "np.maximum(length, 1)", "np.maximum(length, 0.1)"),
    ("envs/tasks/goal_set.py", "slots[..., 0] * reached", "1 * reached"),
)
ENVS += noticed_by(
    "tests/envs/test_robotics.py -k gradient",
    ("envs/tasks/fast_robotics.py", "negative_distance_gradient)", "lambda *of: -of[0])"),
)

# The losses of many runs, that no run knows of its neighbours, and their environments
ON_DEVICE = "envs/many/on_device.py"
MANY_RUNS = noticed_by(
    "tests/algos/test_many.py -k 'not compiled and not older'",
    (MANY, "clone().requires_grad_(not", "clone().requires_grad_(0 != 0 and not"),
    (MANY, "target = batch.reward + args.gamma * next_q", "target = batch.reward + next_q"),
    (MANY, "target.clamp(-1 / (1 - args.gamma), 0)", "target.clamp(max=0)"),
    (MANY, "mask = (batch.reward == -1)", "mask = (batch.reward <= 0)"),
    (MANY, "std[:, :, -goal.shape[2] :]", "std[:, :, : goal.shape[2]]"),
    (MANY, "if args.raw_goal_gradient:", "if not args.raw_goal_gradient:"),
    (MANY, "x = x @ weight + scale * bias", "x = x @ weight + bias"),
    (MANY, "last_weight + scale * last_bias", "last_weight + last_bias"),
    (MANY, "(q_grad - target_grad)).square()", "(q_grad)).square()"),
    (
        MANY,
        "return value_loss + alpha * grad_loss, curves",
        "return value_loss + alpha[0] * grad_loss, curves",
    ),
    (
        MANY,
        "args.action_l2 * action.square().mean((1, 2))",
        "args.action_l2 * action.square().mean()",
    ),
    (
        MANY,
        "target_critic.params.lerp_(agents.critic.params, tau)",
        "target_critic.params.lerp_(agents.critic.params, 1)",
    ),
    (MANY, "if step % self.args.target_network_frequency == 0", "if step > 0"),
    (MANY, "groups[each.learning_rate].append(row)", "groups[runs[0].learning_rate].append(row)"),
    (MANY, "chosen = row + below(", "chosen = row + 1 + below("),
    (
        MANY,
        "args.total_timesteps) // self.max_steps",
        "args.total_timesteps) // (self.max_steps + 1)",
    ),
    (MANY, "self.updates += grad_loss > 0", "self.updates += 1"),
    (MANY, "self.args.alpha_ratio * value /", "value /"),
    (MANY, "torch.where(self.given < 0, alpha, self.given)", "alpha"),
    (MANY, "variance.clamp(min=1e-4).sqrt()", "variance.clamp(min=1e-4)"),
    (MANY, "with run.autocast(args, batch.obs.device):", "if True:"),
    (MANY, "eval_keys = [key + 1 for key in keys]", "eval_keys = keys"),
    (MANY, "exploration_noise=0.2, random_action_prob=0.3,\n    normalize", "normalize"),
)
MANY_RUNS += noticed_by(
    "tests/envs/test_on_device.py",
    (ON_DEVICE, ".clamp(-ContinuousSeek.D, ContinuousSeek.D)", ".clamp(-6, 6)"),
    (ON_DEVICE, "self.goal = ContinuousSeek.D *", "self.goal = 4.8 *"),
    (ON_DEVICE, "(distance <= self.threshold)", "(distance < self.threshold)"),
    (ON_DEVICE, "norm = math.inf if self.is_seek else 2", "norm = 2"),
)

MUTANTS = LOOPS + UPDATES + PARTS + REPLAY + RANKS + FILES + ENVS + MANY_RUNS


def verdict(mutant: Mutant) -> str:
    """'killed' if a test failed, 'survived' if none did, or what else went wrong."""
    with tempfile.TemporaryDirectory() as folder:
        for name in ("algos", "envs", "benchmark", "tests"):
            shutil.copytree(ROOT / name, Path(folder) / name, ignore=WITHOUT)
        shutil.copy(ROOT / "pyproject.toml", folder)
        path = Path(folder) / mutant.path
        path.write_text(path.read_text().replace(mutant.old, mutant.new))
        tests, _, chosen = mutant.tests.partition(" -k ")
        command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", tests]
        if chosen:
            command += ["-k", chosen.strip("'")]
        environ = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
        result = subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True)
    outcomes = {0: "SURVIVED", 1: "killed"}
    return outcomes.get(result.returncode, f"ERROR {result.stdout[-500:]}")


def main() -> None:
    wanted = sys.argv[1] if len(sys.argv) > 1 else ""
    chosen = [mutant for mutant in MUTANTS if wanted in " ".join(mutant)]
    os.nice(10)
    with ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
        verdicts = []
        for mutant, found in zip(chosen, pool.map(verdict, chosen), strict=True):
            verdicts.append(found)
            change = f"{mutant.old.strip()}  ->  {mutant.new.strip()}"
            print(f"{found:8} {mutant.path}: {change}", flush=True)
    killed = verdicts.count("killed")
    print(f"{killed} of {len(chosen)} killed")
    sys.exit(killed < len(chosen))


if __name__ == "__main__":
    main()
