"""The greedy agent of figure 4d: it goes to the nearest goal of NoisySeek. The paper reports a mean return of 11.94.

python benchmark/noisy_seek_greedy.py
"""

import argparse
import sys
from functools import partial
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from envs import make, make_vector


def go_to_nearest_goal(obs: dict[str, np.ndarray]) -> np.ndarray:
    """Observations of n episodes -> actions, (n, 2); the environment shortens steps longer than 1."""
    slots = obs["desired_goal"].reshape(
        len(obs["desired_goal"]), -1, 3
    )  # (n, n_max, 3): gate, x, y
    way = slots[..., 1:] - obs["observation"][:, None]  # (n, n_max, 2)
    distance = np.where(slots[..., 0] > 0, np.linalg.norm(way, axis=-1), np.inf)
    return way[np.arange(len(way)), distance.argmin(1)]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--episodes", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    if args.episodes < 1 or args.seed < 0:
        parser.error("--episodes must be at least 1, --seed at least 0")
    envs = make_vector(partial(make, "NoisySeek-v0"), args.episodes, args.seed)
    metrics = envs.play(go_to_nearest_goal)
    print(
        f"greedy agent on NoisySeek, {args.episodes} episodes: mean return {metrics['episodic_return']:.2f}"
    )
