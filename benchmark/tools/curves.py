"""Reads runs: their metrics and settings, from a run's folder, from results/ or from a plain CSV.

results/<experiment>.csv holds the evaluations of an experiment's runs, in the columns method, seed,
global_step, the metrics and wall_time; results/<experiment>.json their settings and versions, as
{method: {seed: settings}}. A method may have a folder in its name: results/auto_alpha.csv has the
methods bit_flip_d20/auto0.1, ...
"""

import csv
import glob
import io
import json
import re
from collections import namedtuple
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

BENCHMARK = Path(__file__).resolve().parents[1]
RESULTS = BENCHMARK / "results"
Line = Any  # of a table in experiments/, its columns as attributes
NOT_A_SETTING = {  # of args.json: which run it is, where and on what it ran, what else it wrote
    "seed", "run_dir", "resume", "evaluate", "render", "command", "settings_from", "versions",
    "num_threads", "env_threads", "cuda", "track", "capture_video", "save_model",
    "save_checkpoint", "log_frequency",
}  # fmt: skip


class Run(NamedTuple):
    name: str  # in messages
    method: str  # <experiment>/<method> in results/, else the name of a plain CSV; "" for a folder
    seed: int | None
    metrics: dict[str, np.ndarray]  # a column's name -> (evaluations,)
    settings: dict  # args.json; empty where there is none


def find_runs(pattern: str) -> list[Run]:
    """The runs that match: folders, their metrics.csv, files of results/, one method of such a
    file (FILE.csv/METHOD), plain CSVs. ValueError for a file that cannot be read."""
    file, is_one_method, method = pattern.partition(".csv/")
    if is_one_method:
        path = Path(f"{file}.csv")
        runs = read_experiment(path) if path.is_file() else {}
        return list(runs.get(method, {}).values())
    found = []
    for path in map(Path, sorted(glob.glob(pattern))):
        if path.suffix == ".log":  # of run.py, beside the run's folder
            continue
        if path.suffix == ".csv" and read_rows(path)[0][:2] == ["method", "seed"]:
            for runs in read_experiment(path).values():
                found += runs.values()
        else:
            found.append(read_run(path / "metrics.csv" if path.is_dir() else path))
    return found


def read_run(path: Path) -> Run:
    """A run's metrics.csv with the args.json beside it, or a plain CSV: NAME_seed<N>.csv."""
    header, rows = read_rows(path)
    metrics = as_metrics(str(path), header, rows)
    if path.name == "metrics.csv":
        settings = read_args(path.parent)
        return Run(str(path), "", settings.get("seed"), metrics, settings)
    named = re.fullmatch(r"(.+)_seed(\d+)", path.stem)
    if named is None:
        return Run(str(path), "", None, metrics, {})
    return Run(str(path), named[1], int(named[2]), metrics, {})


def read_args(run_dir: Path) -> dict:
    """A run's args.json, empty where there is no readable one."""
    try:
        args = json.loads((run_dir / "args.json").read_text())
    except (OSError, ValueError):
        return {}
    return args if isinstance(args, dict) else {}


def read_rows(path: Path) -> tuple[list[str], list[list[str]]]:
    """Header and rows of a CSV. ValueError for one without evaluations."""
    try:
        text = path.read_text()
        header, *rows = csv.reader(text.splitlines() or [""])
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}.") from None
    except (UnicodeDecodeError, csv.Error):
        raise ValueError(f"{path} is not a readable file of metrics.") from None
    if header[:1] == ["step"]:  # of a plain CSV
        header[0] = "global_step"
    if "global_step" not in header:
        raise ValueError(f"{path} has no column global_step: it is not a file of metrics.")
    if not rows:
        raise ValueError(f"{path} has no evaluation yet.")
    widths = {len(row) for row in rows}
    if not text.endswith("\n") or widths != {len(header)}:
        raise ValueError(f"{path} has a line that is cut off.")
    return header, rows


def as_metrics(name: str, header: list[str], rows: list[list[str]]) -> dict[str, np.ndarray]:
    """The columns of these rows without the empty ones. ValueError for what is not a number."""
    columns = dict(zip(header, zip(*rows, strict=True), strict=True))
    try:
        return {key: np.array(cells, float) for key, cells in columns.items() if any(cells)}
    except ValueError:
        raise ValueError(f"{name} has a value that is not a number.") from None


# results/


@cache
def read_experiment(path: Path) -> dict[str, dict[int, Run]]:
    """The runs of results/<experiment>.csv: method -> seed -> run, seeds in their order."""
    header, rows = read_rows(path)
    settings = json.loads(path.with_suffix(".json").read_text())
    of_run: dict[tuple[str, str], list[list[str]]] = {}
    for method, seed, *cells in rows:
        of_run.setdefault((method, seed), []).append(cells)
    found: dict[str, dict[int, Run]] = {}
    for (method, seed), cells in of_run.items():
        name = f"{path.stem}/{method}"
        metrics = as_metrics(str(path), header[2:], cells)
        run = Run(f"{name}, seed {seed}", name, int(seed), metrics, settings[method][seed])
        found.setdefault(method, {})[int(seed)] = run
    return found


def runs_of(folder: str) -> dict[int, Run]:
    """Seed -> run of <experiment>/<method> in results/; empty where it was not run."""
    experiment, _, method = folder.partition("/")
    path = RESULTS / f"{experiment}.csv"
    return read_experiment(path).get(method, {}) if path.exists() else {}


def write_experiment(path: Path, rows: list[dict[str, str]], settings: dict) -> None:
    """results/<experiment>.csv and .json of rows (method, seed, global_step, ...), one for each
    evaluation, and of {method: {seed: settings}}. A metric that a run does not have stays empty."""
    columns = list({name: None for row in rows for name in row})
    columns.sort(key=lambda name: name == "wall_time")  # the last one
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(sorted(rows, key=lambda row: (row["method"], int(row["seed"]))))
    methods = []
    for method, seeds in sorted(settings.items()):
        lines = [f'"{seed}": {json.dumps(seeds[seed])}' for seed in sorted(seeds, key=int)]
        methods.append(json.dumps(method) + ": {\n" + ",\n".join(lines) + "\n}")
    replace_file(path, text.getvalue())
    replace_file(path.with_suffix(".json"), "{\n" + ",\n".join(methods) + "\n}\n")


def replace_file(path: Path, text: str) -> None:
    """A full disk leaves the old file as it is."""
    unfinished = path.with_name(f".unfinished-{path.name}")
    unfinished.write_text(text, newline="")
    unfinished.replace(path)


# The tables of experiments/, and curves


def read_table(name: str) -> list[Line]:
    """The lines of experiments/<name>.csv. TypeError for one with too few or too many cells."""
    with open(BENCHMARK / "experiments" / f"{name}.csv", newline="") as file:
        header, *lines = csv.reader(file)
    line = namedtuple("Line", header)
    return [line(*cells) for cells in lines]


def read_curve(label: str, runs: list[Run], metric: str) -> tuple[np.ndarray, np.ndarray]:
    """Steps (evaluations,) and values (seeds, evaluations).

    Longer runs are cut at the end of the shortest, and a message says so. ValueError if they
    were evaluated at different steps or have no such metric.
    """
    for run in runs:
        if metric not in run.metrics:
            metrics = ", ".join(name for name in run.metrics if name != "global_step")
            raise ValueError(f"{run.name} has no metric {metric}; there are {metrics}.")
    shortest = min(runs, key=lambda run: len(run.metrics[metric]))
    steps = shortest.metrics["global_step"]
    values = []
    for run in runs:
        if not np.array_equal(run.metrics["global_step"][: len(steps)], steps):
            raise ValueError(f"{shortest.name} and {run.name} were evaluated at different steps.")
        values.append(run.metrics[metric][: len(steps)])
    if max(len(run.metrics[metric]) for run in runs) > len(steps):
        print(f"{label}: cut at step {steps[-1]:,.0f}, where {shortest.name} ends")
    return steps, np.array(values)


def final_and_area(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of values (seeds, evaluations) the mean of the last tenth and of all, (seeds,) each."""
    last = max(1, round(values.shape[1] / 10))
    return values[:, -last:].mean(1), values.mean(1)
