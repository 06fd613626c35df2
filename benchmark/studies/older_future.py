"""ContinuousSeek with the relabelling of the library that the paper's runs were made with.

Its 'future' never takes an episode's final state as a goal, and does not relabel an episode's last
transition: after step t of T the goals are those achieved at t + 1 .. T - 1, for t < T - 1.
`ddpg_her_reengage_many.py`, like today's libraries, has t + 1 .. T for all t. Everything else is
that script, with its flags:

    python benchmark/studies/older_future.py --env-id ContinuousSeek5-v0 --batch-size 128 \\
        --alpha 0 0.1 0.2 0.3 --learning-rate 0.00025 --seeds 20 --group-size 4 \\
        --run-dir runs/older_future
"""

import sys
from dataclasses import dataclass
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from algos import ddpg_her_reengage_many as many
from envs.many.on_device import below


@dataclass
class Args(many.Args):
    """Those of `ddpg_her_reengage_many.py`; a class of this file, which names the runs' script."""


class OlderFuture(many.HerReplayBuffers):
    """Relabels as that library did: goals of t + 1 .. T - 1, for t < T - 1."""

    def sample(self, batch_size: int, newest: int | None = None) -> many.Batches:
        """Draws transitions with replacement, of all episodes or of the `newest` ones."""
        which_episode, which_step, which_goal = self.streams.bits(3, batch_size).unbind(1)
        among = self.stored if newest is None else self.stored.clamp(max=newest)
        place = (self.next - 1 - below(among, which_episode)) % self.capacity  # (run, batch)
        n = int(self.relabelled * batch_size)
        steps = torch.full_like(which_step, self.max_steps)  # (run, batch)
        steps[:, :n] -= 1  # for the relabelled, an episode ends one step earlier
        t = below(steps, which_step)
        row = self.first_row + place * self.max_steps + t
        chosen = row + below(steps - t, which_goal)  # a step of t .. T - 2
        goal = self.take("goal", row)
        goal[:, :n] = self.take("next_achieved_goal", chosen[:, :n])
        return many.Batches(
            obs=self.take("obs", row),
            goal=goal,
            action=self.take("action", row),
            reward=self.reward(self.take("next_achieved_goal", row), goal),
            next_obs=self.take("next_obs", row),
        )


if __name__ == "__main__":
    many.HerReplayBuffers = OlderFuture
    many.main(Args, __file__, __doc__)
