"""Environment steps per second: this project beside Stable-Baselines3's DDPG, SAC and DQN with HER.

    python benchmark/speed/throughput.py                   # everything
    python benchmark/speed/throughput.py ddpg dqn          # some of: ddpg sac dqn multi many

Same environment, networks, batch, number of gradient steps and one thread for all, on the CPU:
ContinuousSeek with d = 20, 2 x 256 and a batch of 256 for DDPG and SAC, one gradient step a step;
BitFlip with 40 bits and the paper's recipe for DQN, 40 gradient steps on 128 transitions after 16
episodes. The contenders run in turns, each time in a fresh process, because other work on the
machine comes and goes: compare the medians of one call, and the ratios that are taken round by
round, never numbers of different calls.

Multi-ReenGAGE has no counterpart there: `multi` compares gradient steps per second at the paper's
sizes (DriveSeek, 200 goals, batch 256, width 400) on two threads with the padded formulation of
`padded.py`. `many` compares the updates per second of N runs of `ddpg_her_reengage_many.py`
together with those of one run of `ddpg_her_reengage.py`.
"""

import argparse
import csv
import functools
import multiprocessing
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
ALGORITHMS = ["ddpg", "sac", "dqn", "multi", "many"]
MANY = "ddpg_her_reengage_many"
MEDIUM = ["--matmul-precision", "medium"]
WARM_UP = 1000  # ContinuousSeek: steps before the first gradient step, in every contender
ROUND = 16 * 40  # BitFlip: steps of a round of 16 episodes


# Ours


def run_script(script: str, total: int, eval_frequency: int, start: int, *flags: str) -> float:
    """Steps per second of a script between its evaluations at the steps `start` and `total`."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, str(ROOT / "algos" / f"{script}.py"), *flags]
        if script != MANY:
            command += ["--no-cuda", "--no-save-model", "--no-save-checkpoint"]
        command += ["--eval-episodes", "1"]
        command += ["--total-timesteps", str(total), "--eval-frequency", str(eval_frequency)]
        command += ["--run-dir", f"{folder}/run"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        path = next(Path(folder).rglob("metrics.csv"))  # many runs have the same wall times
        with open(path, newline="") as file:
            rows = list(csv.DictReader(file))
    seconds = {int(row["global_step"]): float(row["wall_time"]) for row in rows}
    return (total - start) / (seconds[total] - seconds[start])


def seek(script: str, steps: int, *flags: str) -> float:
    flags += ("--env-id", "ContinuousSeek20-v0", "--batch-size", "256", "--learning-rate", "5e-4")
    start = WARM_UP + 100  # 100 steps for caches to fill
    return run_script(script, WARM_UP + steps, 100, start, "--num-threads", "1", *flags)


def seek_many(runs: int, alpha: str, steps: int, *flags: str) -> float:
    """Updates per second of all runs of one group together."""
    grid = ("--seeds", str(runs), "--group-size", str(runs), "--alpha", alpha)
    return runs * seek(MANY, steps, *grid, *flags)


def flip(steps: int, *flags: str) -> float:
    """BitFlip takes a hundredth of the time a step: ten times as many."""
    total = ROUND * (10 * steps // ROUND)
    flags += ("--env-id", "BitFlip40-v0", "--num-threads", "1")
    return run_script("dqn_her_reengage_bitflip", total, ROUND, 2 * ROUND, *flags)


def drive(steps: int, *flags: str) -> float:
    """From the 100th episode on, when the mean size of a stored goal set has settled."""
    total = 4000 + 50 * max(1, steps // 1000)
    flags += ("--env-id", "DriveSeek-v0", "--learning-starts", "4000", "--num-threads", "2")
    return run_script("ddpg_multi_reengage", total, 50, 4000, *flags)


# What they are compared with: imported where they are used, in a process of their own


def stable_baselines3(algorithm: str, steps: int) -> float:
    """The same measurement of Stable-Baselines3's class of that name with HerReplayBuffer, or of
    the one with the gradient term in `benchmark/studies/reengage_sb3.py`."""
    sys.path[:0] = [str(ROOT), str(ROOT / "benchmark" / "studies")]
    import gymnasium as gym
    import reengage_sb3
    import stable_baselines3
    import torch
    from stable_baselines3.common.callbacks import BaseCallback

    import envs  # noqa: F401  (registers the environments)

    class Clock(BaseCallback):
        def __init__(self, start: int, total: int):
            super().__init__()
            self.start_at = start
            self.total = total

        def _on_step(self) -> bool:
            if self.num_timesteps == self.start_at:
                self.start = time.perf_counter()
            self.stop = time.perf_counter()
            return self.num_timesteps < self.total

    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    if algorithm == "DQN":
        env = gym.make("BitFlip40-v0")
        clock = Clock(2 * ROUND, ROUND * max(4, steps // ROUND) + 1)
        settings = flip_settings()
    else:
        env = gym.make("ContinuousSeek20-v0")
        clock = Clock(WARM_UP + 100, WARM_UP + steps)
        settings = seek_settings()
    module = reengage_sb3 if "ReenGAGE" in algorithm else stable_baselines3
    model = getattr(module, algorithm)(
        "MultiInputPolicy",
        env,
        seed=1,
        device="cpu",
        replay_buffer_class=stable_baselines3.HerReplayBuffer,
        replay_buffer_kwargs={"n_sampled_goal": 4, "goal_selection_strategy": "future"},
        **settings,
    )
    model.learn(clock.total, callback=clock)
    return (clock.total - clock.start_at) / (clock.stop - clock.start)


def flip_settings() -> dict:
    return dict(
        learning_rate=1e-3,
        batch_size=128,
        gamma=0.98,
        tau=0.05,
        learning_starts=ROUND,
        train_freq=(16, "episode"),
        gradient_steps=40,
        target_update_interval=ROUND,
        policy_kwargs={"net_arch": [256]},
        exploration_initial_eps=0.2,
        exploration_final_eps=0.2,
    )


def seek_settings() -> dict:
    from stable_baselines3.common.noise import NormalActionNoise

    return dict(
        learning_rate=5e-4,
        batch_size=256,
        gamma=0.95,
        tau=0.005,
        learning_starts=WARM_UP,
        train_freq=1,
        gradient_steps=1,
        policy_kwargs={"net_arch": [256, 256]},
        action_noise=NormalActionNoise(np.zeros(20), 0.03 * np.ones(20)),
    )


def padded_multi(steps: int) -> float:
    """Gradient steps per second of `padded.py` on transitions of random play."""
    sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]
    import torch
    from padded import padded_actor_loss, padded_critic_loss

    from algos import ddpg_multi_reengage as multi
    from envs import make, make_vector

    torch.set_num_threads(2)
    torch.set_flush_denormal(True)
    envs = make_vector(functools.partial(make, "DriveSeek-v0"), 1, seed=1)
    rng = np.random.default_rng(1)
    args = multi.Args(n_max=200, buffer_size=10_000)
    cpu = torch.device("cpu")
    buffer = multi.GoalSetReplayBuffer(envs, args, rng)
    play_at_random(buffer, envs, rng, multi.state_of)
    agent = multi.Agent(envs, args, cpu)
    networks = agent.critic, agent.target_critic, agent.target_actor
    for step in range(steps + 2):
        if step == 2:
            start = time.perf_counter()
        batch = buffer.sample(256, cpu)
        agent.critic_optimizer.zero_grad()
        agent.actor_optimizer.zero_grad()
        loss = padded_critic_loss(*networks, batch, args)
        loss.backward(inputs=agent.critic_params)
        loss = padded_actor_loss(agent.critic, agent.actor, batch, args)
        loss.backward(inputs=agent.actor_params)
        agent.critic_optimizer.step()
        agent.actor_optimizer.step()
    return steps / (time.perf_counter() - start)


def play_at_random(buffer: Any, envs: Any, rng: np.random.Generator, state_of: Callable) -> None:
    """Fills a goal-set buffer with 40 episodes."""
    obs = envs.reset()
    for _ in range(40 * envs.max_episode_steps):
        action = rng.uniform(-1, 1, (1, 1)).astype(np.float32)
        next_obs, reward, terminated, truncated, _ = envs.step(action)
        step = {
            "state": state_of(obs)[0],
            "next_state": state_of(next_obs)[0],
            "action": action[0],
            "reward": reward[0],
            "terminated": terminated[0],
        }
        buffer.add(step, obs["desired_goal"][0], truncated[0])
        obs = envs.reset() if truncated[0] else next_obs


def in_fresh_process(function: Callable[..., float], *args: object) -> float:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(function, args)


# The comparison


def contenders(algorithm: str, steps: int) -> dict[str, Callable[[], float]]:
    """Name -> measurement in steps per second: first what ours is compared with, then ours without
    the term, then with it."""
    call = functools.partial
    if algorithm == "multi":
        script = "ddpg_multi_reengage.py"
        padded_steps = max(2, steps // 150)
        return {
            "padded, alpha 10": call(in_fresh_process, padded_multi, padded_steps),
            f"{script} --alpha 0": call(drive, steps, "--alpha", "0"),
            f"{script} --alpha 10": call(drive, steps, "--alpha", "10"),
            f"... {' '.join(MEDIUM)}": call(drive, steps, "--alpha", "10", *MEDIUM),
        }
    if algorithm == "many":
        plain = "ddpg_her_reengage"
        found = {f"{plain}.py --alpha 0.2": call(seek, plain, steps, "--alpha", "0.2")}
        for runs, alpha in ((4, "0"), (4, "0.2"), (1, "0.2"), (8, "0.2")):
            name = f"{MANY}.py --seeds {runs} --alpha {alpha}"
            found[name] = call(seek_many, runs, alpha, steps, "--no-cuda")
        name = f"{plain}.py --alpha 0.2 --compile"
        found[name] = call(seek, plain, steps, "--alpha", "0.2", "--compile")
        name = f"{plain}.py --alpha 0.2 {' '.join(MEDIUM)}"
        found[name] = call(seek, plain, steps, "--alpha", "0.2", *MEDIUM)
        name = f"{MANY}.py --seeds 4 --alpha 0.2 {' '.join(MEDIUM)}"
        found[name] = call(seek_many, 4, "0.2", steps, "--no-cuda", *MEDIUM)
        if has_gpu():
            for flags in ([], ["--matmul-precision", "high"]):
                name = " ".join([f"{MANY}.py --seeds 40 --cuda", *flags])
                found[name] = call(seek_many, 40, "0.2", 20 * steps, *flags)
        return found
    name = algorithm.upper()
    found = {
        f"Stable-Baselines3 {name} + HER": call(in_fresh_process, stable_baselines3, name, steps)
    }
    if algorithm == "dqn":
        for alpha in ("0", "1"):
            script = f"dqn_her_reengage_bitflip.py --alpha {alpha}"
            found[script] = call(flip, steps, "--alpha", alpha)
        found["... --compile"] = call(flip, steps, "--alpha", "1", "--compile")
        return found
    plain = ["ddpg_her"] if algorithm == "ddpg" else ["sac_her_reengage", "--alpha", "0"]
    with_term = [f"{algorithm}_her_reengage", "--alpha", "0.2"]
    for faster in ([], ["--compile"], MEDIUM, ["--compile", *MEDIUM]):
        for script, *flags in (plain, with_term):
            words = [f"{script}.py", *flags, *faster]
            found[" ".join(words)] = call(seek, script, steps, *flags, *faster)
    theirs = f"ReenGAGE{name}"
    found[f"reengage_sb3.py: {theirs}"] = call(in_fresh_process, stable_baselines3, theirs, steps)
    return found


def has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


def compare(algorithm: str, rounds: int, steps: int) -> None:
    """Prints what the contenders reach."""
    measurements = contenders(algorithm, steps)
    speed: dict[str, list[float]] = {name: [] for name in measurements}
    for _ in range(rounds):
        for name, measure in measurements.items():
            speed[name].append(measure())

    baseline, plain, with_term, *_ = speed.values()
    title = f"steps per second, {rounds} rounds"
    print(f"{title:<58}{'median':>9}{'min':>9}{'max':>9}{'x first':>8}")
    for name, values in speed.items():
        line = f"{name:<58}{statistics.median(values):>9.1f}"
        line += f"{min(values):>9.1f}{max(values):>9.1f}"
        print(line + f"{median_ratio(values, baseline):>8.2f}")
    cost = median_ratio(plain, with_term)
    print(f"the gradient term costs {cost:.2f} x the time of our plain run\n", flush=True)


def median_ratio(a: list[float], b: list[float]) -> float:
    """Taken round by round."""
    return statistics.median(x / y for x, y in zip(a, b, strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = "{ddpg,sac,dqn,multi,many}"
    parser.add_argument("algorithms", nargs="*", metavar=names, help="default: all")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=1500, help="timed, a multiple of 100")
    args = parser.parse_args()
    if args.rounds < 1 or args.steps < 200 or args.steps % 100:
        parser.error("--rounds must be at least 1, and --steps a multiple of 100, at least 200")
    unknown = set(args.algorithms) - set(ALGORITHMS)
    if unknown:
        parser.error(f"no benchmark of {', '.join(sorted(unknown))}: {', '.join(ALGORITHMS)}")
    for algorithm in args.algorithms or ALGORITHMS:
        compare(algorithm, args.rounds, args.steps)


if __name__ == "__main__":
    main()
