"""Draws learning curves of runs.

    python benchmark/tools/plot.py curve.png runs/*
    python benchmark/tools/plot.py curve.png "DDPG+HER=runs/a_*" "ReenGAGE=runs/b_*"
    python benchmark/tools/plot.py curve.png runs/* --metric success_rate episodic_return --robust

After the picture come runs: folders with a metrics.csv, such files, or patterns of either. Runs
behind a label and '=' are the seeds of one curve. The others are grouped by their settings: the
runs whose args.json differs in nothing but the seed are one curve, named after what differs.

The line is the mean over seeds, the band one standard deviation. The picture's ending chooses its
format; without one, .svg and .png are drawn. Printed for each curve: the final value (mean of the
last tenth of the evaluations), the area (mean of all of them) and, for a success, the first steps
at which the mean over seeds is at least 0.5 and 0.9. Runs that a runner put aside are left out.
"""

import argparse
import csv
import glob
import io
import json
import math
import re
import sys
from pathlib import Path
from typing import NamedTuple

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import EngFormatter
from scipy.stats import bootstrap, trim_mean

# Okabe and Ito's colours, which the colour-blind can tell apart; the first is the baseline's
COLOURS = ["#000000", "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"]
STYLES = ["--", "-", "-.", ":"]  # as many as have no common factor with the colours: 28 pairs
ENDINGS = [".svg", ".png", ".pdf"]
MOST_POINTS = 250  # of a drawn line: more are not seen, and make a large file
NOT_A_SETTING = {  # of args.json: which run it is, and where and on what it was made
    "seed", "run_dir", "resume", "evaluate", "command", "settings_from", "versions",
    "num_threads", "cuda", "track", "capture_video", "save_model", "log_frequency",
}  # fmt: skip
plt.rcParams["svg.hashsalt"] = "reengage"  # the same curves give the same file


class Curve(NamedTuple):
    label: str
    paths: list[Path]  # metrics.csv files, one a seed
    published: dict[float, float] = {}  # the paper's mean at some steps, drawn as circles


# Which runs


def find_metrics(pattern: str) -> list[Path]:
    """The metrics.csv files of the runs that match, none for a pattern that matches nothing."""
    found = []
    for path in map(Path, sorted(glob.glob(pattern))):
        if ".interrupted-" in str(path) or path.suffix == ".log":
            continue
        found.append(path / "metrics.csv" if path.is_dir() else path)
    return found


def find_curves(arguments: list[str]) -> list[Curve]:
    """ValueError for an argument that matches no run."""
    curves = []
    unnamed = []
    for argument in arguments:
        label, paths = split_label(argument)
        if label is None:
            unnamed += paths
        else:
            curves.append(Curve(label, paths))
    return curves + group_by_settings(unnamed)


def split_label(argument: str) -> tuple[str | None, list[Path]]:
    """Label and files of LABEL=PATTERN, where both may contain '='; no label for a mere pattern."""
    if glob.glob(argument):
        return None, find_metrics(argument)
    for sign in re.finditer("=", argument):
        paths = find_metrics(argument[sign.end() :])
        if paths:
            return argument[: sign.start()], paths
    raise ValueError(f"No run matches {argument.rpartition('=')[2]}.")


def read_settings(path: Path) -> dict:
    """The settings of a run: args.json beside its metrics.csv, in results/ <seed>.json."""
    beside = (
        path.with_name("args.json") if path.name == "metrics.csv" else path.with_suffix(".json")
    )
    try:
        args = json.loads(beside.read_text())
        names = [name for name in args if name not in NOT_A_SETTING]
        return {name: str(args[name]) for name in names}
    except (OSError, ValueError, TypeError):
        raise ValueError(
            f"{path} has no readable {beside.name} beside it: give it a label."
        ) from None


def group_by_settings(paths: list[Path]) -> list[Curve]:
    """One curve for each set of settings, named after those that differ."""
    settings = {path: read_settings(path) for path in paths}
    names = differing(list(settings.values()))
    paths = sorted(paths, key=lambda path: [settings[path].get(name, "") for name in names])
    groups: dict[str, list[Path]] = {}
    for path in paths:
        run = settings[path]
        words = [f"{name} {run[name]}" if name in run else f"no {name}" for name in names]
        label = ", ".join(words) or run.get("env_id", path.parent.name)
        groups.setdefault(label, []).append(path)
    return [Curve(label, group) for label, group in groups.items()]


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


# Their numbers


def read_metrics(path: Path) -> dict[str, np.ndarray]:
    """The columns of a metrics.csv, (evaluations,) each. ValueError for a bad one."""
    try:
        text = path.read_text()
    except IsADirectoryError:
        raise ValueError(f"{path} is a folder, not a file of metrics.") from None
    except FileNotFoundError:
        raise ValueError(f"{path} is not there.") from None
    except (OSError, UnicodeDecodeError):
        raise ValueError(f"{path} is not a readable file of metrics.") from None
    try:
        header, *rows = csv.reader(text.splitlines() or [""])
    except csv.Error:
        raise ValueError(f"{path} is not a readable file of metrics.") from None
    if "global_step" not in header:
        raise ValueError(f"{path} has no header with global_step: it is no file of metrics.")
    if not rows:
        raise ValueError(f"{path} has no evaluation yet.")
    widths = {len(row) for row in rows}
    if not text.endswith("\n") or widths != {len(header)}:
        raise ValueError(f"{path} has a line that is cut off.")
    try:
        table = np.array(rows, dtype=float)
    except ValueError:
        raise ValueError(f"{path} has a value that is no number.") from None
    return dict(zip(header, table.T, strict=True))


def read_curve(curve: Curve, metric: str) -> tuple[np.ndarray, np.ndarray]:
    """Steps (evaluations,) and values (seeds, evaluations).

    Runs that have come less far cut the others, which is said. ValueError where they were
    evaluated at different steps or have no such metric.
    """
    runs = {path: read_metrics(path) for path in curve.paths}
    for path, run in runs.items():
        if metric not in run:
            metrics = ", ".join(name for name in run if name != "global_step")
            raise ValueError(f"{path} has no metric {metric}; there are {metrics}.")
    lengths = {path: len(run[metric]) for path, run in runs.items()}
    shortest = min(lengths, key=lengths.get)
    steps = runs[shortest]["global_step"]
    values = []
    for path, run in runs.items():
        if not np.array_equal(run["global_step"][: len(steps)], steps):
            raise ValueError(f"{shortest} and {path} were evaluated at different steps.")
        values.append(run[metric][: len(steps)])
    if max(lengths.values()) > len(steps):
        print(f"{curve.label}: cut at step {steps[-1]:,.0f}, where {shortest} ends")
    return steps, np.array(values)


def final_and_area(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of values (seeds, evaluations) the mean of the last tenth and of all, (seeds,) each."""
    last = max(1, round(values.shape[1] / 10))
    return values[:, -last:].mean(1), values.mean(1)


def describe(label: str, steps: np.ndarray, values: np.ndarray, is_success: bool) -> str:
    mean = values.mean(0)
    last = max(1, round(len(mean) / 10))
    text = f"{label}: seeds {len(values)}, final {mean[-last:].mean():.3f}, area {mean.mean():.3f}"
    for level in (0.5, 0.9) if is_success else ():
        reached = mean >= level
        first = f"from step {steps[reached.argmax()]:,.0f}" if reached.any() else "never"
        text += f", at {level} {first}"
    return text


# The picture


def interquartile_mean(values: np.ndarray, axis: int = 0) -> np.ndarray:
    return trim_mean(values, 0.25, axis=axis)


def middle_and_band(values: np.ndarray, robust: bool) -> tuple[np.ndarray, ...]:
    """The curve and its band, lower and upper, (evaluations,) each, of (seeds, evaluations)."""
    mean = values.mean(0)
    std = values.std(0)
    if not robust:
        return mean, mean - std, mean + std
    middle = interquartile_mean(values)
    if len(values) == 1:
        return middle, middle, middle
    draws = np.random.default_rng(0)
    result = bootstrap((values,), interquartile_mean, method="percentile", rng=draws)
    return middle, result.confidence_interval.low, result.confidence_interval.high


def draw(
    curves: list[Curve], metrics: list[str], title: str = "", robust: bool = False
) -> plt.Figure:
    """One panel a metric; prints each curve's numbers. ValueError as `read_curve`."""
    width = 5 * len(metrics)
    figure = plt.figure(figsize=(width, 3), layout="constrained")
    for place, metric in enumerate(metrics, start=1):
        axes = figure.add_subplot(1, len(metrics), place)
        first_look = 1 if len(curves) == 1 else 0  # a lone curve is nobody's baseline
        for look, curve in enumerate(curves, start=first_look):
            name = curve.label if len(metrics) == 1 else f"{curve.label}, {metric}"
            draw_curve(axes, curve, metric, robust, look, name)
        if any(curve.published for curve in curves):
            axes.plot([], [], "o", mfc="none", color="#777777", label="published mean")
        axes.set(xlabel="environment steps", ylabel=as_text(metric.replace("_", " ")))
        axes.set_title(as_text(title))
        if metric.startswith("success"):
            axes.set_ylim(-0.02, 1.02)
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))  # 50k, 1.5M
        axes.grid(alpha=0.3)
    lines, labels = axes.get_legend_handles_labels()  # the same in every panel
    figure.legend(lines, labels, loc="outside lower center", frameon=False)
    figure.set_figheight(3 + 0.2 * len(labels))
    return figure


def draw_curve(
    axes: plt.Axes, curve: Curve, metric: str, robust: bool, look: int, name: str
) -> None:
    """Line, band and circles; prints the numbers under this name."""
    steps, values = read_curve(curve, metric)
    print(describe(name, steps, values, metric.startswith("success")))
    every = math.ceil(len(steps) / MOST_POINTS)
    shown = np.arange(len(steps))[::-every][::-1]  # the last one among them
    middle, low, high = middle_and_band(values[:, shown], robust)
    colour = COLOURS[look % len(COLOURS)]
    style = STYLES[look % len(STYLES)]
    axes.plot(steps[shown], middle, style, color=colour, label=as_text(curve.label))
    axes.fill_between(steps[shown], low, high, color=colour, alpha=0.15, linewidth=0)
    for step, mean in curve.published.items():
        if step <= steps[-1]:
            axes.plot(step, mean, "o", mfc="none", color=colour)


def as_text(words: str) -> str:
    """Words as they are, where matplotlib would read a formula between dollar signs."""
    return words.replace("$", r"\$")


def targets(picture: str) -> list[Path]:
    """The files to write. ValueError for a bad ending or a folder that is not there."""
    path = Path(picture)
    if path.suffix and path.suffix not in ENDINGS:
        raise ValueError(f"{picture} must end in one of {', '.join(ENDINGS)}, or in nothing.")
    if not path.parent.is_dir():
        raise ValueError(f"There is no folder {path.parent} to write {path.name} to.")
    found = [path] if path.suffix else [Path(picture + ".svg"), Path(picture + ".png")]
    for target in found:
        if target.is_dir():
            raise ValueError(f"{target} is a folder, not a picture.")
    return found


def save(figure: plt.Figure, paths: list[Path]) -> None:
    """Writes the picture, all of it or nothing."""
    drawn = {}
    for path in paths:
        file = io.BytesIO()
        undated = {"Date": None} if path.suffix == ".svg" else {}
        figure.savefig(file, format=path.suffix[1:], dpi=150, metadata=undated)
        drawn[path] = file.getvalue()
        if path.suffix == ".svg":
            drawn[path] = shorten(drawn[path].decode()).encode()
    plt.close(figure)
    for path, content in drawn.items():
        try:
            path.write_bytes(content)
        except OSError as error:
            raise ValueError(f"{path} cannot be written: {error.strerror}.") from None


def shorten(svg: str) -> str:
    """Each path on one line, to hundredths of a point: half the size, and the same to look at."""
    return re.sub(r' d="[^"]*"', lambda path: shorten_path(path.group()), svg)


def shorten_path(path: str) -> str:
    return re.sub(r"(\.\d\d)\d+", r"\1", " ".join(path.split("\n")))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("picture", help="the file to write: .svg, .png, .pdf, or no ending")
    parser.add_argument("runs", nargs="+", metavar="[LABEL=]RUNS")
    parser.add_argument(
        "--metric",
        nargs="+",
        default=["success_once"],
        help="columns of metrics.csv, side by side, named after the runs (default: success_once, "
        "which the paper draws for ContinuousSeek; success_rate is that at an episode's last step)",
    )
    parser.add_argument("--title", default="")
    parser.add_argument(
        "--robust",
        action="store_true",
        help="draw the mean of the middle half of the seeds (the interquartile mean), so that one "
        "lucky or failed seed does not decide, and the 95 %% interval of it that resampling the "
        "seeds gives (percentile bootstrap)",
    )
    args = parser.parse_intermixed_args()
    try:
        paths = targets(args.picture)
        figure = draw(find_curves(args.runs), args.metric, args.title, args.robust)
        save(figure, paths)
    except ValueError as error:
        print(error, file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
