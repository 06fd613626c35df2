"""ContinuousSeek with the relabelling of the library that the paper's runs were made with.

Its 'future' takes no episode's final state as a goal, and does not relabel an episode's last
transition: of T steps, goals of t + 1 .. T - 1 for t < T - 1. `ddpg_her_reengage_many.py`, like
today's libraries, takes them of t + 1 .. T for all t. Everything else is that script, with its
flags:

    python benchmark/studies/older_future.py --env-id ContinuousSeek5-v0 --batch-size 128 \\
        --alpha 0 0.1 0.2 0.3 --learning-rate 0.00025 --seeds 20 --group-size 4 \\
        --run-dir runs/older_future
"""

import signal
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C before the run needs no traceback

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from algos import ddpg_her_reengage_many as many
from envs import make
from envs.many import grid as many_runs
from envs.many.on_device import below, inspect_for_device
from envs.run import flags as launch


@dataclass
class Args(many.EnvironmentArgs, many.LearningArgs, many.MethodArgs, many.GridArgs):
    """Those of `ddpg_her_reengage_many.py`; a class of this file, which names the runs' script."""


class OlderFuture(many.HerReplayBuffers):
    """Relabels as that library did: goals of t + 1 .. T - 1, for t < T - 1."""

    def sample(self, batch_size: int, newest: int | None = None) -> many.Batches:
        """Transitions drawn with replacement, of all stored episodes or of the newest."""
        which_episode, which_step, which_goal = self.streams.bits(3, batch_size).unbind(1)
        among = self.stored if newest is None else self.stored.clamp(max=newest)
        episode = (self.next - 1 - below(among, which_episode)) % self.capacity  # (run, batch)
        n = int(self.relabelled * batch_size)
        steps = torch.full_like(which_step, self.steps)  # (run, batch)
        steps[:, :n] -= 1  # for the relabelled, an episode ends one step earlier
        t = below(steps, which_step)
        row = self.first_row + episode * (self.steps + 1) + t
        later = row + 1 + below(steps - t, which_goal)  # of t + 1 .. T - 1
        goal = self.take("desired_goal", row)
        goal[:, :n] = self.take("achieved_goal", later[:, :n])
        reward = self.reward(self.take("achieved_goal", row + 1), goal)
        return many.Batches(
            obs=self.take("observation", row),
            goal=goal,
            action=self.take("action", row),
            reward=reward.unsqueeze(2),
            next_obs=self.take("observation", row + 1),
        )


if __name__ == "__main__":
    many.HerReplayBuffers = OlderFuture
    with launch.one_sentence():  # bad input is found before anything is written
        settings = many.PAPER_SETTINGS | many.OTHER_SETTINGS
        args = many_runs.parse_args(Args, settings, many.UNTUNED, __doc__)
        observe = args.observe_achieved_goal
        task = inspect_for_device(partial(make, args.env_id, observe_achieved_goal=observe))
        many_runs.check_args(args, task)
        device = many_runs.start(args)
        group_size = many_runs.choose_group_size(args, task, device)
        grid = many_runs.Grid(args)
    grid.train(group_size, partial(many.train_group, args, task, device))
