"""The greedy agent of figure 4d, which goes to the nearest goal of NoisySeek (paper: 11.94).

    python benchmark/studies/noisy_seek_greedy.py

Writes results/noisy_seek_greedy/return.csv: the mean return of an episode.
"""

import sys
from functools import partial
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from algos.ddpg_her import evaluate
from envs import make, make_vector

TARGET = Path(__file__).resolve().parents[1] / "results" / "noisy_seek_greedy" / "return.csv"
EPISODES, SEED = 4000, 1


def go_to_nearest_goal(obs: dict[str, np.ndarray]) -> np.ndarray:
    """Observations of n episodes -> actions, (n, 2); the environment shortens steps above 1."""
    goals = obs["desired_goal"]
    slots = goals.reshape(len(goals), -1, 3)  # (n, n_max, 3): gate, x, y
    way = slots[..., 1:] - obs["observation"][:, None]  # (n, n_max, 2)
    distance = np.where(slots[..., 0] > 0, np.linalg.norm(way, axis=-1), np.inf)
    return way[np.arange(len(way)), distance.argmin(1)]


def main() -> None:
    envs = make_vector(partial(make, "NoisySeek-v0"), EPISODES, SEED)
    mean_return = evaluate(envs, go_to_nearest_goal, EPISODES)["episodic_return"]
    print(f"greedy agent on NoisySeek, {EPISODES} episodes: mean return {mean_return:.2f}")
    row = f"{EPISODES},{SEED},{mean_return:.4f}"
    TARGET.write_text(f"episodes,seed,episodic_return\n{row}\n")


if __name__ == "__main__":
    main()
