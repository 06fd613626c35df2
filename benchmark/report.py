"""Writes RESULTS.md: for every figure and table of the paper what it reports, what was measured here, and the verdict.

    python benchmark/report.py

"Final" is the mean of the last tenth of the evaluations, "area" the mean of all of them, each with a 95 % bootstrap
interval over seeds. The published values are read off the paper's figures in the same way.
"""

import csv
import glob
import statistics
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from noisy_seek_greedy import go_to_nearest_goal
from scipy.stats import bootstrap

from envs import make, make_vector

FOLDER = Path(__file__).resolve().parent


class Row(NamedTuple):
    """An experiment: the paper's final value and area, and where its metrics.csv files are, if it was run."""

    figure: str
    experiment: str
    method: str
    final: float
    area: float
    files: str  # a pattern in results/
    command: str
    metric: str = "success_once"


DDPG, SAC, FLIP = "continuous_seek.sh", "continuous_seek_sac.sh", "bit_flip.sh"
LAST, RETURN = "success_rate", "episodic_return"
ROWS = [
    Row("10", "ContinuousSeek, d = 5", "DDPG+HER", 0.963, 0.765, "continuous_seek_d5/ddpg_her_*.csv", DDPG),
    Row("10", "ContinuousSeek, d = 5", "ReenGAGE, alpha 0.1", 0.999, 0.809, "continuous_seek_d5/reengage_*.csv", DDPG),
    Row("9", "ContinuousSeek, d = 10", "DDPG+HER", 0.864, 0.632, "continuous_seek_d10/ddpg_her_*.csv", DDPG),
    Row("9", "ContinuousSeek, d = 10", "ReenGAGE, alpha 0.2", 0.954, 0.775, "continuous_seek_d10/reengage_*.csv", DDPG),
    Row("8", "ContinuousSeek, d = 20", "DDPG+HER", 0.887, 0.463, "continuous_seek_d20/ddpg_her_*.csv", DDPG),
    Row("8", "ContinuousSeek, d = 20", "ReenGAGE, alpha 0.2", 0.993, 0.668, "continuous_seek_d20/reengage_*.csv", DDPG),
    Row("12", "ContinuousSeek with SAC, d = 5", "SAC+HER", 1.0, 0.716, "continuous_seek_sac_d5/sac_her_*.csv", SAC),
    Row("12", "ContinuousSeek with SAC, d = 5", "ReenGAGE, alpha 0.3", 1.0, 0.716,
        "continuous_seek_sac_d5/reengage_*.csv", SAC),
    Row("12", "ContinuousSeek with SAC, d = 10", "SAC+HER", 0.914, 0.626, "continuous_seek_sac_d10/sac_her_*.csv", SAC),
    Row("12", "ContinuousSeek with SAC, d = 10", "ReenGAGE, alpha 0.1", 0.995, 0.804,
        "continuous_seek_sac_d10/reengage_*.csv", SAC),
    Row("12", "ContinuousSeek with SAC, d = 20", "SAC+HER", 1.0, 0.857, "continuous_seek_sac_d20/sac_her_*.csv", SAC),
    Row("12", "ContinuousSeek with SAC, d = 20", "ReenGAGE, alpha 0.2", 1.0, 0.901,
        "continuous_seek_sac_d20/reengage_*.csv", SAC),
    Row("7", "BitFlip, d = 20", "DQN+HER", 1.0, 0.743, "bit_flip_d20/dqn_her_*.csv", FLIP),
    Row("7", "BitFlip, d = 20", "ReenGAGE, alpha 1, temperature 1", 1.0, 0.770, "bit_flip_d20/reengage_*.csv", FLIP),
    Row("7", "BitFlip, d = 40", "DQN+HER", 0.976, 0.438, "bit_flip_d40/dqn_her_*.csv", FLIP),
    Row("7", "BitFlip, d = 40", "ReenGAGE, alpha 1, temperature 0.5", 1.0, 0.575, "bit_flip_d40/reengage_*.csv", FLIP),
    Row("7", "BitFlip, d = 40", "the same, soft target in both terms", 0.085, 0.049, "bit_flip_d40/both_*.csv", FLIP),
    Row("7", "BitFlip, d = 40", "with --tau 1 --buffer-size 2000000", 0.085, 0.049,
        "bit_flip_d40/tau1_buffer_both_*.csv", f"{FLIP} both"),
    Row("3, 11e", "HandReach, first 11 of 50 epochs", "DDPG+HER", 0.647, 0.382, "hand_reach/batch4864_ddpg_her_*.csv",
        "hand_reach.sh", LAST),
    Row("3, 11e", "HandReach, first 9 of 50 epochs", "ReenGAGE, alpha 0.1", 0.756, 0.509,
        "hand_reach/batch4864_reengage_*.csv", "hand_reach.sh", LAST),
    Row("3, 11e", "HandReach, batch 1024, first 20 epochs", "DDPG+HER", 0.722, 0.522, "hand_reach/ddpg_her_*.csv",
        "hand_reach.sh short", LAST),
    Row("3, 11e", "HandReach, batch 1024, first 20 epochs", "ReenGAGE, alpha 0.1", 0.743, 0.633,
        "hand_reach/reengage_*.csv", "hand_reach.sh short", LAST),
    Row("11", "HandManipulateBlock", "DDPG+HER", 0.916, 0.795, "hand_manipulate_block/ddpg_her_*.csv",
        "hand_manipulate_block.sh", LAST),
    Row("11", "HandManipulateBlock", "ReenGAGE, alpha 0.001", 0.925, 0.805, "hand_manipulate_block/reengage_*.csv",
        "hand_manipulate_block.sh", LAST),
    Row("4b, 16b", "DriveSeek, first 40k of 160k steps", "DDPG", 14.49, 10.51, "drive_seek/shared_alpha0_*.csv",
        "drive_seek.sh short", RETURN),
    Row("4b, 16b", "DriveSeek, first 40k of 160k steps", "Multi-ReenGAGE, alpha 10", 19.64, 14.38,
        "drive_seek/shared_alpha10_*.csv", "drive_seek.sh short", RETURN),
    Row("16a", "DriveSeek, encoder not shared", "DDPG", 18.28, 14.87, "drive_seek/own_alpha0_*.csv", "drive_seek.sh",
        RETURN),
    Row("16a", "DriveSeek, encoder not shared", "Multi-ReenGAGE, alpha 10", 20.55, 17.10,
        "drive_seek/own_alpha10_*.csv", "drive_seek.sh", RETURN),
    Row("4d, 17", "NoisySeek", "DDPG", 17.06, 13.81, "noisy_seek/alpha0_*.csv", "noisy_seek.sh", RETURN),
    Row("4d, 17", "NoisySeek", "Multi-ReenGAGE, alpha 20", 18.83, 15.35, "noisy_seek/alpha20_*.csv", "noisy_seek.sh",
        RETURN),
    Row("19", "DriveSeek, image encoder", "DDPG", 10.01, 9.79, "drive_seek_cnn/alpha0_lr0.001_*.csv",
        "drive_seek_cnn.sh", RETURN),
    Row("19", "DriveSeek, image encoder", "Multi-ReenGAGE, alpha 20", 14.89, 12.88,
        "drive_seek_cnn/alpha20_lr0.001_*.csv", "drive_seek_cnn.sh", RETURN),
]  # fmt: skip


SEARCHES = {  # the rest of the figures: every other alpha, learning rate, batch size or temperature
    "2, 8, 9, 10": (
        "ContinuousSeek",
        "every alpha, learning rate and batch size",
        "continuous_seek.sh grid",
    ),
    "12": ("ContinuousSeek with SAC", "every alpha at its best settings", "continuous_seek_sac.sh"),
    "13, 14, 15": (
        "ContinuousSeek with SAC",
        "every alpha, learning rate and batch size",
        "continuous_seek_sac.sh grid",
    ),
    "7": ("BitFlip", "every alpha, temperature and soft target", "bit_flip.sh grid"),
    "3, 11e": ("HandReach, all 50 epochs", "DDPG+HER, alpha 0.1 and 0.2", "hand_reach.sh"),
    "3, 11f": ("HandReach, goals in metres", "six alphas", "hand_reach.sh raw"),
    "11c, 11d": ("HandManipulateBlock", "five alphas", "hand_manipulate_block.sh"),
    "11a, 11b": ("HandManipulateBlock, raw goals", "four alphas", "hand_manipulate_block.sh raw"),
    "16": ("DriveSeek", "alpha 5 and 20", "drive_seek.sh"),
    "17": ("NoisySeek", "alpha 5, 10, 50 and 100", "noisy_seek.sh"),
    "19, 20": (
        "DriveSeek, image encoder",
        "every alpha and learning rate",
        "drive_seek_cnn.sh grid",
    ),
}


def read(row: Row) -> tuple[np.ndarray, list[float]]:
    """Values of the metric, (seeds, evaluations), up to where all seeds are, and each run's wall time in minutes."""
    curves, minutes = [], []
    for path in sorted(glob.glob(str(FOLDER / "results" / row.files))):
        with open(path, newline="") as file:
            lines = list(csv.DictReader(file))
        curves.append([float(line[row.metric]) for line in lines])
        minutes.append(float(lines[-1]["wall_time"]) / 60)
    shared = min(map(len, curves), default=0)
    return np.array([curve[:shared] for curve in curves]), minutes


def with_interval(values: np.ndarray) -> tuple[str, float]:
    """Mean over seeds as text, with its 95 % interval where there is more than one seed, and the mean."""
    mean = values.mean()
    if len(values) == 1 or np.ptp(values) == 0:
        return f"{mean:.3f}", mean
    low, high = bootstrap((values,), np.mean, rng=np.random.default_rng(0)).confidence_interval
    return f"{mean:.3f} [{low:.3f}, {high:.3f}]", mean


def verdict(ours: float, paper: float) -> str:
    """Within 5 points of success, or 5 % of a return, counts as reproduced."""
    difference = ours - paper
    if abs(difference) <= 0.05 * max(1.0, abs(paper)):
        return "reproduced"
    return f"{'better' if difference > 0 else 'short'} by {abs(difference):.2f}"


def cells(row: Row) -> list[str]:
    values, minutes = read(row)
    paper = f"{row.final:.3f} / {row.area:.3f}"
    command = f"`{row.command}`"
    if len(values) == 0:
        return [row.figure, row.experiment, row.method, paper, "not yet run", "", "", "", command]
    last = max(1, round(values.shape[1] / 10))
    (final, final_mean), (area, area_mean) = (
        with_interval(values[:, -last:].mean(1)),
        with_interval(values.mean(1)),
    )
    judgement = f"final {verdict(final_mean, row.final)}, area {verdict(area_mean, row.area)}"
    wall_time = f"{statistics.median(minutes):.1f} min"
    ours = f"{final} / {area}"
    return [
        row.figure,
        row.experiment,
        row.method,
        paper,
        ours,
        str(len(values)),
        judgement,
        wall_time,
        command,
    ]


def propositions() -> list[list[str]]:
    """The exponents of the transitions that are needed, by d, from d = 8 on."""
    with open(FOLDER / "results" / "propositions.csv", newline="") as file:
        lines = list(csv.DictReader(file))
    found = []
    for number, kind in ((1, "dense"), (2, "sparse")):
        for loss, paper in (("value loss", "at least d^2"), ("with the gradient", "d")):
            chosen = [line for line in lines if (line["environment"], line["loss"]) == (kind, loss)]
            d, n = (
                np.log([float(line[name]) for line in chosen if int(line["d"]) >= 8])
                for name in ("d", "transitions")
            )
            ours = f"d^{np.polyfit(d, n, 1)[0]:.2f}"
            experiment = f"proposition {number}, transitions"
            found.append(["5, 6", experiment, loss, paper, ours, "3", "", "", "`propositions.py`"])
    return found


def run_times() -> list[list[str]]:
    """Table 5: the time between the last two evaluations with the term, divided by that without it."""
    found = []
    for name, folder, alpha, paper in (
        ("ContinuousSeek", "continuous_seek", "0.2", 1.41),
        ("HandReach", "hand_reach", "0.1", 1.34),
        ("DriveSeek", "drive_seek", "10", 1.40),
        ("NoisySeek", "noisy_seek", "20", 1.60),
    ):
        seconds = []
        for path in (
            FOLDER / "results" / "runtime" / f"{folder}_alpha{value}.csv" for value in ("0", alpha)
        ):
            if path.exists():
                with open(path, newline="") as file:
                    *_, before, last = (float(line["wall_time"]) for line in csv.DictReader(file))
                seconds.append(last - before)
        ours = f"{seconds[1] / seconds[0]:.2f}" if len(seconds) == 2 else "not yet run"
        experiment = "run time with the term / without"
        found.append(
            ["table 5", experiment, name, f"{paper:.2f}", ours, "", "", "", "`runtime.sh`"]
        )
    return found


def report() -> str:
    envs = make_vector(partial(make, "NoisySeek-v0"), 1000, seed=1)
    greedy = envs.play(go_to_nearest_goal)["episodic_return"]
    table = [
        "figure|experiment|method|paper: final / area|ours: final / area|seeds|verdict|a run|commands".split("|"),
        ["---"] * 9,
        *map(cells, ROWS),
        ["4d", "NoisySeek", "greedy agent", "11.94", f"{greedy:.2f}", "", verdict(greedy, 11.94), "",
         "`noisy_seek_greedy.py`"],
        *propositions(),
        *run_times(),
        *([figure, *names, "", "not yet run", "", "", "", f"`{command}`"]
          for figure, (*names, command) in SEARCHES.items()),
    ]  # fmt: skip
    return f"""# Results

Generated by `python benchmark/report.py` from the curves in `results/`. Final: mean of the last tenth of the
evaluations. Area: mean of all of them. In brackets the 95 % bootstrap interval of the mean over seeds. A value within
0.05 of the paper's (returns: 5 %) counts as reproduced. Success at any step of an episode; for the hands at its last
step; for DriveSeek and NoisySeek the episode's return. The commands are the lines that the script prints: `python
benchmark/run.py benchmark/SCRIPT`. The machines: two cores of an Intel Xeon, of an AMD EPYC with bfloat16 units, or of
an older EPYC, one thread a run and two runs at a time, or a GPU, an NVIDIA H200 (which seeds: `results/README.md`); the
time of a run is the median of what passed on the clock, with other work going on.

{chr(10).join("| " + " | ".join(row) + " |" for row in table)}
"""


if __name__ == "__main__":
    (FOLDER / "RESULTS.md").write_text(report())
    print(report())
