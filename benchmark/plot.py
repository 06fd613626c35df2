"""Draws learning curves: the mean over seeds and a band of one standard deviation, or with --robust the interquartile
mean and its 95 % bootstrap interval.

    python benchmark/plot.py curve.png "DDPG+HER=runs/a_*/metrics.csv" "ReenGAGE=runs/b_*/metrics.csv"

Each argument after the picture's path is a curve: its label, '=', and a pattern of metrics.csv files, one a seed. The
picture's ending chooses its format, none means .svg and .png; --metric chooses another column than success_once (the
paper's for ContinuousSeek). `figures.sh` draws all pictures in results/. Printed for each curve: the final value (mean
of the last tenth of the evaluations), the area (mean of all of them) and, for a success, the first steps at which the
mean over seeds is at least 0.5 and 0.9.
"""

import argparse
import csv
import glob
import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import EngFormatter
from scipy.stats import bootstrap, trim_mean

COLOURS = [
    "#444444",
    "#0072b2",
    "#d55e00",
    "#009e73",
    "#cc79a7",
]  # told apart by the colour-blind too
STYLES = ["--", "-", "-.", ":", "-"]
plt.rcParams["svg.hashsalt"] = "reengage"  # the same curves give the same file


def read_curves(pattern: str, metric: str) -> tuple[np.ndarray, np.ndarray]:
    """Steps (evaluations,) and values (seeds, evaluations) up to where all seeds are. ValueError if no file."""
    runs = []
    for path in sorted(glob.glob(pattern)):
        with open(path, newline="") as file:
            runs.append(
                [(float(row["global_step"]), float(row[metric])) for row in csv.DictReader(file)]
            )
    if not runs:
        raise ValueError(f"No file matches {pattern}.")
    shared = min(len(run) for run in runs)
    table = np.array([run[:shared] for run in runs])  # (seeds, evaluations, 2)
    return table[0, :, 0], table[:, :, 1]


def interquartile_mean(values: np.ndarray, axis: int = 0) -> np.ndarray:
    return trim_mean(values, 0.25, axis=axis)


def middle_and_band(values: np.ndarray, robust: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The curve and its band, each (evaluations,), of values (seeds, evaluations)."""
    mean, std = values.mean(0), values.std(0)
    if not robust:
        return mean, mean - std, mean + std
    middle = interquartile_mean(values)
    if len(values) == 1:
        return middle, middle, middle
    draws = np.random.default_rng(0)
    band = bootstrap(
        (values,), interquartile_mean, method="percentile", rng=draws
    ).confidence_interval
    return middle, band.low, band.high


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("picture")
    parser.add_argument("curves", nargs="+", metavar="LABEL=PATTERN")
    parser.add_argument("--metric", default="success_once")
    parser.add_argument("--title", default="")
    parser.add_argument(
        "--robust", action="store_true", help="interquartile mean and 95 %% bootstrap interval"
    )
    args = parser.parse_args()

    is_success = args.metric.startswith("success")
    figure, axes = plt.subplots(figsize=(5, 3.2), layout="constrained")
    for i, curve in enumerate(args.curves):
        label, _, pattern = curve.partition("=")
        try:
            steps, values = read_curves(pattern, args.metric)
        except (ValueError, KeyError) as error:
            print(error, file=sys.stderr)
            sys.exit(2)
        mean, colour = values.mean(0), COLOURS[i % len(COLOURS)]
        final = mean[-max(1, round(len(mean) / 10)) :].mean()
        first = [
            f"{steps[mean >= level][0]:,.0f}" if (mean >= level).any() else "never"
            for level in (0.5, 0.9)
        ]
        reached = f", at 0.5 from step {first[0]}, at 0.9 from {first[1]}" if is_success else ""
        print(f"{label}: seeds {len(values)}, final {final:.3f}, area {mean.mean():.3f}{reached}")
        middle, low, high = middle_and_band(values, args.robust)
        axes.plot(steps, middle, STYLES[i % len(STYLES)], color=colour, label=label)
        axes.fill_between(steps, low, high, color=colour, alpha=0.15, linewidth=0)
    axes.set(xlabel="environment steps", ylabel=args.metric.replace("_", " "), title=args.title)
    if is_success:
        axes.set_ylim(-0.02, 1.02)
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))  # 50k, 1.5M
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    for ending in [""] if Path(args.picture).suffix else [".svg", ".png"]:
        figure.savefig(args.picture + ending, dpi=150)


if __name__ == "__main__":
    main()
