"""Environment steps per second: this project beside Stable-Baselines3's DDPG, SAC and DQN with HER.

    python benchmark/throughput.py              # or only some of: ddpg sac dqn multi many

Same environment, networks, batch, number of gradient steps and one thread for all, on the CPU: ContinuousSeek with
d = 20, 2 x 256 and a batch of 256 for DDPG and SAC, one gradient step a step; BitFlip with 40 bits and the paper's
recipe for DQN, 40 gradient steps on 128 transitions after 16 episodes. The contenders run in turns, each time in a
fresh process, because other work on the machine comes and goes: compare the medians of one call, and the ratios that
are taken round by round, never numbers of different calls.

Multi-ReenGAGE has no counterpart there: `multi` compares gradient steps per second at the paper's
sizes (DriveSeek, 200 goals, batch 256, width 400) on two threads with the padded formulation of
`padded.py`. `many` compares the updates per second of N runs together in
`ddpg_her_reengage_many.py` with those of one run of `ddpg_her_reengage.py`.
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

import torch

ROOT = Path(__file__).resolve().parent.parent
WARM_UP = 1000  # ContinuousSeek: steps before the first gradient step, in every contender
MANY = "ddpg_her_reengage_many"
ALGORITHMS = ("ddpg", "sac", "dqn", "multi", "many")
ROUND = 16 * 40  # BitFlip: steps of a round of 16 episodes


def run_script(script: str, total: int, eval_frequency: int, start: int, *flags: str) -> float:
    """Steps per second of one of the scripts between its evaluations at the steps `start` and `total`."""
    with tempfile.TemporaryDirectory() as folder:
        command = [
            sys.executable,
            str(ROOT / "algos" / f"{script}.py"),
            "--no-cuda",
            "--num-threads",
            "1",
            *flags,
        ]
        command += ["--no-save-model"] * (script != MANY)
        command += [
            "--total-timesteps",
            str(total),
            "--eval-frequency",
            str(eval_frequency),
        ]
        command += ["--eval-episodes", "1", "--run-dir", f"{folder}/run"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        path = next(Path(folder).rglob("metrics.csv"))  # many runs have the same wall times
        with open(path, newline="") as file:
            seconds = {
                int(row["global_step"]): float(row["wall_time"]) for row in csv.DictReader(file)
            }
    return (total - start) / (seconds[total] - seconds[start])


def seek(script: str, steps: int, *flags: str) -> float:
    flags = (
        "--env-id",
        "ContinuousSeek20-v0",
        "--batch-size",
        "256",
        "--learning-rate",
        "5e-4",
        *flags,
    )
    return run_script(
        script, WARM_UP + steps, 100, WARM_UP + 100, *flags
    )  # 100 steps for caches to fill


def seek_many(runs: int, alpha: str, steps: int, *flags: str) -> float:
    """Updates per second of all runs of one group together."""
    grid = ("--seeds", str(runs), "--group-size", str(runs), "--alpha", alpha)
    return runs * seek(MANY, steps, *grid, *flags)


def flip(steps: int, *flags: str) -> float:
    """BitFlip takes a hundredth of the time a step: ten times as many."""
    total = ROUND * (10 * steps // ROUND)
    return run_script(
        "dqn_her_reengage_bitflip", total, ROUND, 2 * ROUND, "--env-id", "BitFlip40-v0", *flags
    )


def stable_baselines3(algorithm: str, steps: int) -> float:
    """The same measurement of Stable-Baselines3's class of that name with HerReplayBuffer."""
    sys.path.insert(0, str(ROOT))
    import gymnasium as gym
    import numpy as np
    import stable_baselines3
    import torch
    from stable_baselines3.common.callbacks import BaseCallback
    from stable_baselines3.common.noise import NormalActionNoise

    import envs  # noqa: F401  (registers the environments)

    class Clock(BaseCallback):
        def __init__(self, start: int, total: int):
            super().__init__()
            self.start_at, self.total = start, total

        def _on_step(self) -> bool:
            if self.num_timesteps == self.start_at:
                self.start = time.perf_counter()
            self.stop = time.perf_counter()
            return self.num_timesteps < self.total

    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    settings = dict(
        replay_buffer_class=stable_baselines3.HerReplayBuffer, seed=1, device="cpu",
        replay_buffer_kwargs={"n_sampled_goal": 4, "goal_selection_strategy": "future"},
    )  # fmt: skip
    if algorithm == "DQN":
        env, clock = gym.make("BitFlip40-v0"), Clock(2 * ROUND, ROUND * max(4, steps // ROUND) + 1)
        settings |= dict(
            learning_rate=1e-3, batch_size=128, gamma=0.98, tau=0.05, learning_starts=ROUND, train_freq=(16, "episode"),
            gradient_steps=40, target_update_interval=ROUND, policy_kwargs={"net_arch": [256]},
            exploration_initial_eps=0.2, exploration_final_eps=0.2,
        )  # fmt: skip
    else:
        env, clock = gym.make("ContinuousSeek20-v0"), Clock(WARM_UP + 100, WARM_UP + steps)
        settings |= dict(
            learning_rate=5e-4, batch_size=256, gamma=0.95, tau=0.005, learning_starts=WARM_UP, train_freq=1,
            gradient_steps=1, policy_kwargs={"net_arch": [256, 256]},
            action_noise=NormalActionNoise(np.zeros(20), 0.03 * np.ones(20)),
        )  # fmt: skip
    getattr(stable_baselines3, algorithm)("MultiInputPolicy", env, **settings).learn(
        clock.total, callback=clock
    )
    return (clock.total - clock.start_at) / (clock.stop - clock.start)


def padded_multi(steps: int) -> float:
    """Gradient steps per second of `padded.py` on transitions of random play."""
    sys.path[:0] = [str(ROOT), str(ROOT / "benchmark")]
    import copy

    import numpy as np
    import torch
    from padded import padded_actor_loss, padded_critic_loss

    from algos import ddpg_multi_reengage as multi
    from envs import make, make_vector

    torch.set_num_threads(2)
    torch.set_flush_denormal(True)
    envs = make_vector(functools.partial(make, "DriveSeek-v0"), 1, seed=1)
    rng = np.random.default_rng(1)
    buffer, obs = multi.GoalSetReplayBuffer(10_000, envs, rng), envs.reset()
    for _ in range(40 * 100):
        action = rng.uniform(-1, 1, (1, 1)).astype(np.float32)
        next_obs, reward, terminated, truncated, _ = envs.step(action)
        state, next_state = (
            np.concatenate([o["observation"], o["achieved_goal"]], 1) for o in (obs, next_obs)
        )
        step = {
            "state": state[0],
            "action": action[0],
            "reward": reward[0],
            "terminated": terminated[0],
        }
        buffer.add(step, obs["desired_goal"][0], next_state[0], truncated[0])
        obs = envs.reset() if truncated[0] else next_obs

    args = multi.Args(n_max=200)
    encoder = multi.GoalEncoder(multi.mlp((8, 400, 400, 20), xavier_init=False), 200)
    critic = multi.GoalSetCritic(encoder, multi.mlp((27, 400, 1), xavier_init=False))
    actor = multi.GoalSetActor(encoder, multi.mlp((26, 400, 1), xavier_init=False))
    target_critic, target_actor = (
        network.requires_grad_(False) for network in copy.deepcopy((critic, actor))
    )
    critic_params, actor_params = list(critic.parameters()), list(actor.head.parameters())
    optimizers = [
        torch.optim.Adam(params, lr=1e-3, fused=True) for params in (critic_params, actor_params)
    ]
    for step in range(steps + 2):
        if step == 2:
            start = time.perf_counter()
        batch = buffer.sample(256, torch.device("cpu"))
        for optimizer in optimizers:
            optimizer.zero_grad()
        padded_critic_loss(critic, target_critic, target_actor, batch, args).backward(
            inputs=critic_params
        )
        padded_actor_loss(critic, actor, batch, args).backward(inputs=actor_params)
        for optimizer in optimizers:
            optimizer.step()
    return steps / (time.perf_counter() - start)


def in_fresh_process(function: Callable[..., float], *args: object) -> float:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(function, args)


def contenders(algorithm: str, steps: int) -> dict[str, Callable[[], float]]:
    """Name -> measurement in steps per second. What ours is compared with is the first, then ours without the term."""
    medium = ("--matmul-precision", "medium")
    if algorithm == "multi":
        total = 4000 + 50 * max(
            1, steps // 1000
        )  # after 100 episodes: the mean size of a stored goal set has settled
        drive = (
            "ddpg_multi_reengage",
            total,
            50,
            4000,
            "--env-id",
            "DriveSeek-v0",
            "--learning-starts",
            "4000",
        )
        drive += ("--num-threads", "2")
        return {
            "padded, alpha 10": lambda: in_fresh_process(padded_multi, max(2, steps // 150)),
            "ddpg_multi_reengage.py --alpha 0": lambda: run_script(*drive, "--alpha", "0"),
            "ddpg_multi_reengage.py --alpha 10": lambda: run_script(*drive, "--alpha", "10"),
            f"... {' '.join(medium)}": lambda: run_script(*drive, "--alpha", "10", *medium),
        }
    if algorithm == "many":
        measurements = {
            "ddpg_her_reengage.py --alpha 0.2": functools.partial(
                seek, "ddpg_her_reengage", steps, "--alpha", "0.2"
            )
        }
        for runs, alpha in ((4, "0"), (4, "0.2"), (1, "0.2"), (2, "0.2"), (8, "0.2")):
            name = f"{MANY}.py --seeds {runs} --alpha {alpha}"
            measurements[name] = functools.partial(seek_many, runs, alpha, steps)
        if torch.cuda.is_available():
            for flags in (["--cuda"], ["--cuda", "--matmul-precision", "high"]):
                name = f"{MANY}.py --seeds 40 {' '.join(flags)}"
                measure = functools.partial(seek_many, 40, "0.2", 20 * steps, *flags)
                measurements[name] = measure
        return measurements
    name = algorithm.upper()
    baseline = {
        f"Stable-Baselines3 {name} + HER": lambda: in_fresh_process(stable_baselines3, name, steps)
    }
    if algorithm == "dqn":
        return baseline | {
            "dqn_her_reengage_bitflip.py --alpha 0": lambda: flip(steps, "--alpha", "0"),
            "dqn_her_reengage_bitflip.py --alpha 1": lambda: flip(steps, "--alpha", "1"),
        }
    plain = ("ddpg_her",) if algorithm == "ddpg" else ("sac_her_reengage", "--alpha", "0")
    with_term = (f"{algorithm}_her_reengage", "--alpha", "0.2")
    return baseline | {
        f"{script}.py {' '.join(flags + precision)}": functools.partial(
            seek, script, steps, *flags, *precision
        )
        for precision in ([], list(medium))
        for script, *flags in (plain, with_term)
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "algorithms", nargs="*", metavar="{ddpg,sac,dqn,multi,many}", help="default: all"
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--steps", type=int, default=1500, help="timed steps a run, a multiple of 100"
    )
    args = parser.parse_args()
    if args.rounds < 1 or args.steps < 200 or args.steps % 100:
        parser.error("--rounds must be at least 1, and --steps a multiple of 100, at least 200")
    if unknown := set(args.algorithms) - set(ALGORITHMS):
        parser.error(f"no benchmark of {', '.join(sorted(unknown))}: {', '.join(ALGORITHMS)}")
    for algorithm in args.algorithms or ALGORITHMS:
        measurements = contenders(algorithm, args.steps)
        speed = {name: [] for name in measurements}
        for _ in range(args.rounds):
            for name, measure in measurements.items():
                speed[name].append(measure())

        baseline, plain, with_term = list(speed.values())[:3]
        print(
            f"{'steps per second, ' + str(args.rounds) + ' rounds':<58}{'median':>9}{'min':>9}{'max':>9}{'x first':>8}"
        )
        for name, values in speed.items():
            ratio = statistics.median(a / b for a, b in zip(values, baseline, strict=True))
            print(
                f"{name:<58}{statistics.median(values):>9.1f}{min(values):>9.1f}{max(values):>9.1f}{ratio:>8.2f}"
            )
        cost = statistics.median(a / b for a, b in zip(plain, with_term, strict=True))
        print(f"the gradient term costs {cost:.2f} x the time of our plain run\n", flush=True)


if __name__ == "__main__":
    main()
