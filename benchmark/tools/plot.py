"""Draws learning curves of runs.

    python benchmark/tools/plot.py curve.png runs/*
    python benchmark/tools/plot.py curve.png "DDPG+HER=runs/a_*" "ReenGAGE=runs/b_*"
    python benchmark/tools/plot.py curve.png benchmark/results/bit_flip_d20.csv --band sd
    python benchmark/tools/plot.py curve.png runs/* sb3_seed*.csv --metric success_rate

After the picture come runs, or patterns that match some:

    runs/a_1                                 a run's folder, or its metrics.csv
    benchmark/results/bit_flip_d20.csv       a table of results: a curve for each of its methods
    benchmark/results/bit_flip_d20.csv/alpha1    one of its methods
    sb3_seed1.csv                            a run of another program, NAME_seed<N>.csv, with the
                                             columns step (environment steps) and success_once (or
                                             another metric), and a line for each evaluation

The runs behind LABEL= are the seeds of one curve. Runs without a label share a curve if they have
the same NAME, or the same script and settings apart from the seed; the curve is named after the
settings that set it apart.

The line is the mean over seeds, the band its 95 % confidence interval (Student's t); two seeds are
drawn as thin lines instead, since such an interval says little. --band chooses another band. For
each curve plot.py prints the final value (mean of the last tenth of the evaluations), the area
(mean of all of them) and, for success, the first steps at which the mean reaches 0.5 and 0.9.
"""

import argparse
import glob
import math
import re
import sys
from functools import partial
from pathlib import Path
from typing import NamedTuple

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from curves import NOT_A_SETTING, Run, final_and_area, find_runs, read_curve
from matplotlib.ticker import EngFormatter
from scipy.stats import bootstrap, trim_mean
from scipy.stats import t as student

# Okabe and Ito's colours, which the colour-blind can tell apart; the first is the baseline's
COLOURS = ["#000000", "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"]
STYLES = ["--", "-", "-.", ":"]  # as many as have no common factor with the colours: 28 pairs
BANDS = {
    "ci": "mean and its 95 % confidence interval",
    "sd": "mean and one standard deviation",
    "iqm": "interquartile mean and its 95 % bootstrap interval",
}
MOST_POINTS = 250  # of a drawn line: more are not seen, and make a large file
interquartile_mean = partial(trim_mean, proportiontocut=0.25)
plt.rcParams["svg.hashsalt"] = "reengage"  # the same curves give the same file


class Curve(NamedTuple):
    label: str
    runs: list[Run]  # one per seed
    published: dict[float, float] = {}  # the paper's mean at some steps, drawn as circles


# Which runs


def find_curves(arguments: list[str]) -> list[Curve]:
    """ValueError for an argument that matches no run, and for a curve with one seed twice."""
    curves = []
    unnamed = []
    for argument in arguments:
        label, runs = split_label(argument)
        if label is None:
            unnamed += runs
        else:
            curves.append(Curve(label, runs))
    curves += group(unnamed)
    for curve in curves:
        check_seeds(curve)
        print_different_scripts(curve)
    return curves


def split_label(argument: str) -> tuple[str | None, list[Run]]:
    """Label and runs of LABEL=RUNS, where both may contain '='; no label for mere RUNS."""
    runs = find_runs(argument)
    if runs or glob.glob(argument):
        return None, runs
    for sign in re.finditer("=", argument):
        runs = find_runs(argument[sign.end() :])
        if runs:
            return argument[: sign.start()], runs
    raise ValueError(f"No run matches {argument.rpartition('=')[2]}.")


def group(runs: list[Run]) -> list[Curve]:
    """A curve for each method of results/ and each NAME of plain CSVs; the other runs by script and
    settings, named after those that differ."""
    unnamed = [run for run in runs if not run.method]
    names = differing([settings_of(run) for run in unnamed])
    unnamed.sort(key=lambda run: [settings_of(run).get(name, "") for name in names])
    groups: dict[str, list[Run]] = {}
    for run in [run for run in runs if run.method] + unnamed:
        label = run.method or label_of(run, names)
        groups.setdefault(label, []).append(run)
    return [Curve(label, found) for label, found in groups.items()]


def settings_of(run: Run) -> dict[str, str]:
    """A run's script and settings: what makes two runs seeds of the same method."""
    if not run.settings:
        raise ValueError(
            f"{run.name} has no readable args.json beside it: give it a label, or call it "
            "NAME_seed1.csv."
        )
    script = script_of(run)[0]
    settings = {"script": script} if script else {}
    for name, value in run.settings.items():
        if name not in NOT_A_SETTING:
            settings[name] = str(value)
    return settings


def script_of(run: Run) -> tuple[str, str]:
    """The name and the hash of the script; empty where they were not recorded."""
    versions = run.settings.get("versions", {})
    return versions.get("script", ""), versions.get("script_sha256", "")


def label_of(run: Run, names: list[str]) -> str:
    settings = settings_of(run)
    words = [
        settings[name] if name == "script" else f"{name} {settings[name]}"
        for name in names
        if name in settings
    ]
    words = words or [f"no {name}" for name in names]
    return ", ".join(words) or settings.get("env_id", run.name)


def differing(runs: list[dict]) -> list[str]:
    """The settings that tell runs apart, in the scripts' order. One that only some scripts have
    counts if it tells runs apart that the others do not."""
    found: list[str] = []
    for name in {name: None for run in runs for name in run}:
        everyone_has_it = all(name in run for run in runs)
        if kinds(runs, [name]) > 1 and everyone_has_it:
            found.append(name)
        elif kinds(runs, [*found, name]) > kinds(runs, found):
            found.append(name)
    return found


def kinds(runs: list[dict], names: list[str]) -> int:
    """How many different runs there are, by these settings."""
    return len({tuple(map(run.get, names)) for run in runs})


def check_seeds(curve: Curve) -> None:
    """ValueError for two runs of one seed, which would be counted as two seeds."""
    seen: dict[int, Run] = {}
    for run in curve.runs:
        if run.seed is not None and run.seed in seen:
            other = seen[run.seed].name
            raise ValueError(f"{other} and {run.name} are both seed {run.seed} of {curve.label}.")
        seen[run.seed] = run


def print_different_scripts(curve: Curve) -> None:
    """Says so if the runs of a curve were not made by the same code."""
    scripts = {script_of(run)[0] for run in curve.runs} - {""}
    hashes = {script_of(run)[1] for run in curve.runs} - {""}
    if len(scripts) > 1:
        print(f"{curve.label}: runs of different scripts, {', '.join(sorted(scripts))}")
    elif len(hashes) > 1:
        print(f"{curve.label}: the script was edited between its runs ({len(hashes)} versions)")


# Their numbers


def describe(label: str, steps: np.ndarray, values: np.ndarray, is_success: bool) -> str:
    final, area = final_and_area(values)
    text = f"{label}: seeds {len(values)}, final {final.mean():.3f}, area {area.mean():.3f}"
    mean = values.mean(0)
    for level in (0.5, 0.9) if is_success else ():
        reached = mean >= level
        first = f"from step {steps[reached.argmax()]:,.0f}" if reached.any() else "never"
        text += f", at {level} {first}"
    return text


# The picture


def middle_and_band(values: np.ndarray, band: str) -> tuple[np.ndarray, ...]:
    """The curve and its band, lower and upper, (evaluations,) each, of (seeds, evaluations)."""
    seeds = len(values)
    middle = interquartile_mean(values, axis=0) if band == "iqm" else values.mean(0)
    if seeds == 1 or (seeds == 2 and band == "ci"):
        return middle, middle, middle
    if band == "iqm":
        draws = np.random.default_rng(0)
        result = bootstrap((values,), interquartile_mean, method="percentile", rng=draws)
        return middle, result.confidence_interval.low, result.confidence_interval.high
    width = values.std(0, ddof=1)
    if band == "ci":
        width *= student.ppf(0.975, seeds - 1) / math.sqrt(seeds)
    return middle, middle - width, middle + width


def draw(curves: list[Curve], metric: str, title: str = "", band: str = "ci") -> plt.Figure:
    """Prints each curve's numbers too. ValueError as in `read_curve`."""
    figure, axes = plt.subplots(figsize=(5, 3), layout="constrained")
    first_look = 1 if len(curves) == 1 else 0  # a lone curve is nobody's baseline
    for look, curve in enumerate(curves, start=first_look):
        draw_curve(axes, curve, metric, band, look)
    if any(curve.published for curve in curves):
        axes.plot([], [], "o", mfc="none", color="#777777", label="published mean")
    axes.set(xlabel="environment steps", ylabel=as_text(metric.replace("_", " ")))
    axes.set_title(as_text(title))
    set_scales(axes, metric)
    lines, labels = axes.get_legend_handles_labels()
    title = meaning_of(band, [len(curve.runs) for curve in curves])
    figure.legend(lines, labels, title=title, loc="outside lower center", frameon=False)
    figure.set_figheight(3 + 0.2 * (len(labels) + bool(title)))
    return figure


def set_scales(axes: plt.Axes, metric: str) -> None:
    if metric.startswith("success"):
        axes.set_ylim(-0.02, 1.02)
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))  # 50k, 1.5M
    axes.grid(alpha=0.3)


def draw_curve(axes: plt.Axes, curve: Curve, metric: str, band: str, look: int) -> None:
    """Line, band and circles; prints the numbers."""
    steps, values = read_curve(curve.label, curve.runs, metric)
    print(describe(curve.label, steps, values, metric.startswith("success")))
    every = math.ceil(len(steps) / MOST_POINTS)
    shown = np.arange(len(steps))[::-every][::-1]  # the last one among them
    label = f"{as_text(curve.label)} ({seeds_in_words(len(values))})"
    draw_seeds(axes, steps[shown], values[:, shown], band, look, label)
    colour = COLOURS[look % len(COLOURS)]
    for step, mean in curve.published.items():
        if step <= steps[-1]:
            axes.plot(step, mean, "o", mfc="none", color=colour)


def draw_seeds(
    axes: plt.Axes, steps: np.ndarray, values: np.ndarray, band: str, look: int, label: str
) -> None:
    """Line and band of values (seeds, evaluations)."""
    middle, low, high = middle_and_band(values, band)
    colour = COLOURS[look % len(COLOURS)]
    axes.plot(steps, middle, STYLES[look % len(STYLES)], color=colour, label=label)
    if np.any(high > low):
        axes.fill_between(steps, low, high, color=colour, alpha=0.15, linewidth=0)
    if len(values) == 2:
        axes.plot(steps, values.T, color=colour, alpha=0.4, linewidth=0.7)


def meaning_of(band: str, seeds: list[int]) -> str:
    """What line and band are, for curves of so many seeds."""
    words = []
    if max(seeds) > 2 or (max(seeds) == 2 and band != "ci"):
        words.append(BANDS[band])
    if 2 in seeds:
        words.append("thin lines: each of two seeds")
    return "; ".join(words)


def seeds_in_words(seeds: int) -> str:
    return "1 seed" if seeds == 1 else f"{seeds} seeds"


def as_text(words: str) -> str:
    """Words as they are, where matplotlib would read a formula between dollar signs."""
    return words.replace("$", r"\$")


def save(figure: plt.Figure, path: Path) -> None:
    """ValueError for a suffix that matplotlib does not know, and where nothing can be written."""
    undated = {"Date": None} if path.suffix == ".svg" else {}
    try:
        figure.savefig(path, dpi=150, metadata=undated)
    except OSError as error:
        raise ValueError(f"{path} cannot be written: {error.strerror}.") from None
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("picture", help="the file to write: .png, .svg, .pdf ...")
    parser.add_argument("runs", nargs="+", metavar="[LABEL=]RUNS")
    parser.add_argument(
        "--metric",
        default="success_once",
        help="a column of metrics.csv (default: success_once, which the paper draws for "
        "ContinuousSeek; success_rate is that at an episode's last step)",
    )
    parser.add_argument("--title", default="")
    parser.add_argument(
        "--band",
        choices=BANDS,
        default="ci",
        help="ci: the 95 %% confidence interval of the mean; sd: one standard deviation; iqm: the "
        "mean of the middle half of the seeds, so that one lucky or failed seed does not decide, "
        "and its 95 %% interval by resampling the seeds (percentile bootstrap)",
    )
    args = parser.parse_intermixed_args()
    try:
        figure = draw(find_curves(args.runs), args.metric, args.title, args.band)
        save(figure, Path(args.picture))
    except ValueError as error:
        print(error, file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
