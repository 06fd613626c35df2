"""Propositions 1 and 2: how many transitions it takes to learn the unknown rotation U of `envs/tasks/rotation.py`.

    python benchmark/propositions.py                     # results/propositions.csv, .svg and .png: over half an hour
    python benchmark/propositions.py --dims 2 4 8 16 32  # without d = 64: two minutes

The paper's model class: Q and policy are the optimal ones for an estimate of U, Eqs. (23) to (26), and the target has
the same estimate. Up to a factor the Bellman error then is g . (estimate a - U a), and its gradient by the goal is
estimate a - U a (paper, "Proofs"; a test derives both from the loss of `ddpg_her_reengage.py`). Both are minimised over
rotations, the gradient's in closed form, the value's from random starts. U counts as recovered if the estimate is U,
for every seed. In the sparse class only transitions with s1 != 0 tell about U: every other one.
"""

import argparse
import csv
import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from scipy.linalg import expm, solve

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from envs.tasks.rotation import Rotation, random_rotation

RESULTS = Path(__file__).resolve().parent / "results"
plt.rcParams["svg.hashsalt"] = "reengage"  # the same points give the same file


def transitions(
    env: Rotation, n: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Actions, goals and moves U a of those among n transitions of the environment that involve U, each (m, d)."""
    steps = (
        1 if env.reward_type == "dense" else 2
    )  # of an episode: a new goal for each, the general position
    state, goal = env.draw(-(-n // steps), rng)
    action = rng.standard_normal(goal.shape)
    action /= np.linalg.norm(action, axis=1, keepdims=True)
    after = env.advance(state, action, rng)
    move = (after if env.reward_type == "dense" else after[:, env.d :]) - state[:, : env.d]
    return action, goal, move


def learn_from_gradients(action: np.ndarray, move: np.ndarray) -> np.ndarray:
    """The rotation with the least sum of |estimate a - U a|^2, by Kabsch's algorithm: (d, d)."""
    left, _, right = np.linalg.svd(move.T @ action)
    left[:, -1] *= np.linalg.det(left @ right)  # a rotation, not a reflection
    return left @ right


def learn_from_values(
    action: np.ndarray, goal: np.ndarray, move: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """The rotation with the least sum of (g . (estimate a - U a))^2, by damped Gauss-Newton steps: (d, d)."""
    d = action.shape[1]
    i, j = np.triu_indices(
        d, 1
    )  # a small turn is U (1 + S), S skew-symmetric with these entries above its diagonal
    best, least = None, np.inf
    for _ in range(5):  # random starts
        u, damping = random_rotation(d, rng), 1.0
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
            if (new_error**2).sum() < (error**2).sum():
                u, error, damping = candidate, new_error, damping / 4
            else:
                damping *= 4
            if (error**2).sum() < 1e-20 or damping > 1e8:
                break
        if (error**2).sum() < least:
            best, least = u, (error**2).sum()
        if least < 1e-18:
            break
    return best


def recovered(d: int, kind: str, n: int, by_gradient: bool, seeds: int) -> bool:
    for seed in range(seeds):
        env, rng = Rotation(d, kind, rotation_seed=seed), np.random.default_rng(1000 + seed)
        action, goal, move = transitions(env, n, rng)
        u = (
            learn_from_gradients(action, move)
            if by_gradient
            else learn_from_values(action, goal, move, rng)
        )
        if np.linalg.norm(u - env.rotation) > 1e-3:
            return False
    return True


def transitions_needed(d: int, kind: str, by_gradient: bool, seeds: int) -> int:
    """The smallest number of transitions at which U is recovered, by bisection."""
    too_few, enough = 0, 2
    while not recovered(d, kind, enough, by_gradient, seeds):
        too_few, enough = enough, 2 * enough
    while enough - too_few > max(1, enough // 50):  # to two per cent
        middle = (too_few + enough) // 2
        if recovered(d, kind, middle, by_gradient, seeds):
            enough = middle
        else:
            too_few = middle
    return enough


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dims", type=int, nargs="+", default=[2, 4, 8, 16, 32, 64])
    parser.add_argument("--seeds", type=int, default=3)
    args = parser.parse_args()
    if min(args.dims) < 2 or args.seeds < 1:
        parser.error("--dims must be at least 2, --seeds at least 1")

    figure, axes = plt.subplots(1, 2, figsize=(8, 3.4), layout="constrained", sharey=True)
    rows = []
    for axis, kind, number in zip(axes, ("dense", "sparse"), (1, 2), strict=True):
        for by_gradient, label, style, colour in (
            (False, "value loss", "o--", "#444444"),
            (True, "with the gradient", "s-", "#0072b2"),
        ):
            needed = []
            for d in args.dims:
                needed.append(transitions_needed(d, kind, by_gradient, args.seeds))
                rows.append({"environment": kind, "loss": label, "d": d, "transitions": needed[-1]})
                print(rows[-1], flush=True)
            fit = [(d, n) for d, n in zip(args.dims, needed, strict=True) if d >= 8] or list(
                zip(args.dims, needed, strict=True)
            )
            exponent = np.polyfit(*np.log(np.array(fit)).T, 1)[0] if len(fit) > 1 else np.nan
            print(f"proposition {number}, {label}: transitions ~ d^{exponent:.2f}", flush=True)
            axis.loglog(args.dims, needed, style, color=colour, label=f"{label}: d^{exponent:.2f}")
        d, factor = np.array(args.dims), 1 + (kind == "sparse")
        axis.loglog(
            d,
            factor * d * (d - 1) / 2,
            ":",
            color="#444444",
            label=f"{'2 x ' * (factor > 1)}d (d - 1) / 2",
        )
        axis.loglog(
            d, factor * (d - 1), ":", color="#0072b2", label=f"{'2 x ' * (factor > 1)}(d - 1)"
        )
        axis.set(title=f"Proposition {number}, {kind} rewards", xlabel="d", xticks=d, xticklabels=d)
        axis.minorticks_off()
        axis.grid(alpha=0.3)
        axis.legend(frameon=False)
    axes[0].set_ylabel("transitions until U is recovered")
    for ending in ("svg", "png"):
        figure.savefig(RESULTS / f"propositions.{ending}", dpi=150)
    with open(RESULTS / "propositions.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
