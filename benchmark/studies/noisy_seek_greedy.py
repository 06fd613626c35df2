"""The greedy agent of figure 4d, which goes to the nearest goal of NoisySeek (paper: 11.94).

    python benchmark/studies/noisy_seek_greedy.py

Writes results/noisy_seek_greedy/return.csv: the mean return of an episode.
"""

import argparse
import sys
from functools import partial
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from algos.ddpg_her import evaluate
from envs import make, make_vector

RESULTS = Path(__file__).resolve().parents[1] / "results"


def go_to_nearest_goal(obs: dict[str, np.ndarray]) -> np.ndarray:
    """Observations of n episodes -> actions, (n, 2); the environment shortens steps above 1."""
    goals = obs["desired_goal"]
    slots = goals.reshape(len(goals), -1, 3)  # (n, n_max, 3): gate, x, y
    way = slots[..., 1:] - obs["observation"][:, None]  # (n, n_max, 2)
    distance = np.where(slots[..., 0] > 0, np.linalg.norm(way, axis=-1), np.inf)
    return way[np.arange(len(way)), distance.argmin(1)]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--episodes", type=int, default=4000)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    if args.episodes < 1 or args.seed < 0:
        parser.error("--episodes must be at least 1, --seed at least 0")
    envs = make_vector(partial(make, "NoisySeek-v0"), args.episodes, args.seed)
    metrics = evaluate(envs, go_to_nearest_goal, args.episodes)
    mean_return = metrics["episodic_return"]
    print(f"greedy agent on NoisySeek, {args.episodes} episodes: mean return {mean_return:.2f}")
    target = RESULTS / "noisy_seek_greedy" / "return.csv"
    target.parent.mkdir(exist_ok=True)
    header = "episodes,seed,episodic_return"
    target.write_text(f"{header}\n{args.episodes},{args.seed},{mean_return:.4f}\n")


if __name__ == "__main__":
    main()
