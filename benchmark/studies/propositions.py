"""Propositions 1 and 2: how many transitions it takes to learn the rotation of `envs/rotation.py`.

    python benchmark/studies/propositions.py                       # over half an hour
    python benchmark/studies/propositions.py --dims 2 4 8 16 32    # without d = 64: two minutes

Writes results/propositions/transitions.csv, and figures/propositions.png.

The paper's model class: Q and policy are the optimal ones for an estimate of U, Eqs. (23) to (26),
and the target has the same estimate. Up to a factor the Bellman error then is g . (estimate a -
U a), and its gradient with respect to g is estimate a - U a (paper, "Proofs"; a test derives both
from the loss of `ddpg_her_reengage.py`). Both are minimised over rotations, the gradient's in
closed form, the value's from random starts. U counts as recovered if the estimate is U for every
seed. In the sparse class only transitions with s1 != 0 involve U: every other one.
"""

import argparse
import csv
import math
import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from scipy.linalg import expm, solve

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from envs.tasks.rotation import Rotation, random_rotation

BENCHMARK = Path(__file__).resolve().parents[1]
SEEDS = 3
BLACK, BLUE = "#000000", "#0072b2"
LOSSES = [  # name, whether the gradient's, style, colour
    ("value loss", False, "o--", BLACK),
    ("with the gradient", True, "s-", BLUE),
]


def transitions(
    env: Rotation, n: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Actions, goals and moves U a of those among n transitions that involve U, each (m, d)."""
    steps = 1 if env.reward_type == "dense" else 2  # of an episode
    state, goal = env.draw(math.ceil(n / steps), rng)  # a new goal each: the general position
    action = rng.standard_normal(goal.shape)
    action /= np.linalg.norm(action, axis=1, keepdims=True)
    after = env.advance(state, action, rng)
    if env.reward_type == "sparse":
        after = after[:, env.d :]
    return action, goal, after - state[:, : env.d]


def learn_from_gradients(action: np.ndarray, move: np.ndarray) -> np.ndarray:
    """The rotation with the least sum of |estimate a - U a|^2, by Kabsch's algorithm: (d, d)."""
    left, _, right = np.linalg.svd(move.T @ action)
    left[:, -1] *= np.linalg.det(left @ right)  # a rotation, not a reflection
    return left @ right


def learn_from_values(
    action: np.ndarray, goal: np.ndarray, move: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """The rotation with the least sum of (g . (estimate a - U a))^2: (d, d)."""
    best = None
    least = np.inf
    for _ in range(5):
        start = random_rotation(action.shape[1], rng)
        estimate, error = descend(start, action, goal, move)
        if error < least:
            best = estimate
            least = error
        if least < 1e-18:
            break
    return best


def descend(
    u: np.ndarray, action: np.ndarray, goal: np.ndarray, move: np.ndarray
) -> tuple[np.ndarray, float]:
    """Damped Gauss-Newton steps from the rotation u: where they end, and the error there."""
    d = action.shape[1]
    i, j = np.triu_indices(d, 1)  # a small turn is U (1 + S), S skew-symmetric, these its entries
    damping = 1.0
    error = ((action @ u.T - move) * goal).sum(1)  # (m,)
    for _ in range(100):
        seen = goal @ u
        jacobian = seen[:, i] * action[:, j] - seen[:, j] * action[:, i]  # (m, pairs)
        normal = jacobian.T @ jacobian
        normal[np.diag_indices_from(normal)] += damping
        turn = np.zeros((d, d))
        turn[i, j] = -solve(normal, jacobian.T @ error, assume_a="pos")
        candidate = u @ expm(turn - turn.T)
        new_error = ((action @ candidate.T - move) * goal).sum(1)
        if np.sum(new_error**2) < np.sum(error**2):
            u = candidate
            error = new_error
            damping /= 4
        else:
            damping *= 4
        if (error**2).sum() < 1e-20 or damping > 1e8:
            break
    return u, (error**2).sum()


def recovered(d: int, kind: str, n: int, by_gradient: bool) -> bool:
    for seed in range(SEEDS):
        env = Rotation(d, kind, rotation_seed=seed)
        rng = np.random.default_rng(1000 + seed)
        action, goal, move = transitions(env, n, rng)
        if by_gradient:
            u = learn_from_gradients(action, move)
        else:
            u = learn_from_values(action, goal, move, rng)
        if np.linalg.norm(u - env.rotation) > 1e-3:
            return False
    return True


def transitions_needed(d: int, kind: str, by_gradient: bool) -> int:
    """The smallest number of transitions at which U is recovered, by bisection."""
    too_few, enough = 0, 2
    while not recovered(d, kind, enough, by_gradient):
        too_few, enough = enough, 2 * enough
    while enough - too_few > max(1, enough // 50):  # to two per cent
        middle = (too_few + enough) // 2
        if recovered(d, kind, middle, by_gradient):
            enough = middle
        else:
            too_few = middle
    return enough


def exponent(dims: list[int], needed: list[int]) -> float:
    """Of the transitions by d, from d = 8 on; NaN for fewer than two such d."""
    fitted = np.array(dims) >= 8
    if fitted.sum() < 2:
        return np.nan
    return np.polyfit(np.log(dims)[fitted], np.log(needed)[fitted], 1)[0]


def measure(dims: list[int], kind: str, axis: plt.Axes) -> list[dict]:
    """Rows of the table for dense or sparse rewards, drawn as they come."""
    rows = []
    for loss, by_gradient, style, colour in LOSSES:
        needed = []
        for d in dims:
            n = transitions_needed(d, kind, by_gradient)
            needed.append(n)
            rows.append({"environment": kind, "loss": loss, "d": d, "transitions": n})
            print(rows[-1], flush=True)
        label = f"{loss}: d^{exponent(dims, needed):.2f}"
        axis.loglog(dims, needed, style, color=colour, label=label)
    return rows


def draw_bounds(dims: list[int], kind: str, axis: plt.Axes) -> None:
    """The dimensions of the rotations, and those of one row: what the losses could need."""
    d = np.array(dims)
    rotations = d * (d - 1) / 2
    factor = 1 if kind == "dense" else 2  # half of the sparse transitions say nothing about U
    times = "" if factor == 1 else "2 x "
    axis.loglog(d, factor * rotations, ":", color=BLACK, label=f"{times}d (d - 1) / 2")
    axis.loglog(d, factor * (d - 1), ":", color=BLUE, label=f"{times}(d - 1)")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dims", type=int, nargs="+", default=[2, 4, 8, 16, 32, 64])
    dims = parser.parse_args().dims
    size = (8, 3.4)
    figure, axes = plt.subplots(1, 2, figsize=size, layout="constrained", sharey=True)
    rows = []
    for number, kind in ((1, "dense"), (2, "sparse")):
        axis = axes[number - 1]
        rows += measure(dims, kind, axis)
        draw_bounds(dims, kind, axis)
        axis.set(title=f"Proposition {number}, {kind} rewards", xlabel="d")
        axis.set_xticks(dims, dims)
        axis.minorticks_off()
        axis.grid(alpha=0.3)
        axis.legend(frameon=False)
    axes[0].set_ylabel("transitions until U is recovered")
    figure.savefig(BENCHMARK / "figures" / "propositions.png", dpi=150)
    target = BENCHMARK / "results" / "propositions" / "transitions.csv"
    with open(target, "w", newline="") as file:
        writer = csv.DictWriter(file, rows[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
