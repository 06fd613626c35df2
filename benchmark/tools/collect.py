"""Adds complete runs to results/<experiment>.csv and .json.

    python benchmark/tools/collect.py runs/bit_flip_d20/alpha1/*

A folder runs/<experiment>/<method>/<seed>, as the scripts in experiments/ name it, says where a run
belongs; one in another folder needs --to bit_flip_d20/alpha1. Nothing is written if a run is not
complete or is still being trained, if its script or settings differ from those of the method's
other seeds, or if its seed is there already and --replace is not given.
"""

import argparse
import csv
import json
import os
import sys
from pathlib import Path

import curves
from curves import NOT_A_SETTING, read_args, read_run

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from envs.run.files import lock


def place_of(run_dir: Path, to: str) -> tuple[str, str, str]:
    """Experiment, method and seed of a run. ValueError, in one sentence, if it is not complete or
    still being trained, or if its folder does not say where it belongs."""
    args = read_args(run_dir)
    seed, asked = args.get("seed"), args.get("total_timesteps")
    if not isinstance(seed, int) or not isinstance(asked, int):
        raise ValueError(f"{run_dir} has no args.json written by a run.")
    os.close(lock(run_dir))
    last = int(read_run(run_dir / "metrics.csv").metrics["global_step"][-1])
    if last < asked:
        raise ValueError(f"{run_dir} is not complete: step {last} of {asked}.")
    *above, folder = run_dir.resolve().parts
    _, is_below_runs, name = "/".join(above).rpartition("/runs/")
    experiment, _, method = (to or name).partition("/")
    if not method or not (to or is_below_runs):
        raise ValueError(
            f"{run_dir} is not runs/<experiment>/<method>/<seed>: say --to EXPERIMENT/METHOD."
        )
    if not to and folder != str(seed):
        raise ValueError(f"{run_dir}: --seed is {seed}, not {folder}.")
    return experiment, method, str(seed)


def check_settings(run_dir: Path, args: dict, seeds: dict[str, dict]) -> None:
    """ValueError where the run is not what the method's other seeds are."""
    for seed, theirs in seeds.items():
        for name in sorted(args.keys() & theirs.keys() - NOT_A_SETTING):
            if args[name] != theirs[name] and None not in (args[name], theirs[name]):  # probed
                value, other = json.dumps(args[name]), json.dumps(theirs[name])
                flag = name.replace("_", "-")
                raise ValueError(f"{run_dir}: --{flag} is {value}, of seed {seed} {other}.")
        script, other = (each.get("versions", {}).get("script") for each in (args, theirs))
        if script and other and script != other:
            raise ValueError(f"{run_dir} was made by {script}, seed {seed} by {other}.")


def read_csv(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def collect(run_dirs: list[Path], to: str, may_replace: bool) -> None:
    new = {run_dir: place_of(run_dir, to) for run_dir in run_dirs}
    tables: dict[str, tuple[list[dict[str, str]], dict]] = {}  # rows and settings by experiment
    for experiment, method, seed in new.values():
        path = curves.RESULTS / f"{experiment}.csv"
        if experiment not in tables:
            tables[experiment] = [], {}
            if path.exists():
                settings = json.loads(path.with_suffix(".json").read_text())
                tables[experiment] = read_csv(path), settings
        rows, settings = tables[experiment]
        if settings.setdefault(method, {}).pop(seed, None) and not may_replace:
            raise ValueError(
                f"{experiment}/{method}, seed {seed} is there already: --replace replaces it."
            )
        rows[:] = [row for row in rows if (row["method"], row["seed"]) != (method, seed)]
    for run_dir, (experiment, method, seed) in new.items():
        rows, settings = tables[experiment]
        if seed in settings[method]:
            raise ValueError(f"Two of the runs would be {experiment}/{method}, seed {seed}.")
        args = read_args(run_dir)
        check_settings(run_dir, args, settings[method])
        args.pop("run_dir", None)  # a place on one machine
        settings[method][seed] = args
        for row in read_csv(run_dir / "metrics.csv"):
            rows.append({"method": method, "seed": seed} | row)
    for experiment, (rows, settings) in tables.items():
        curves.write_experiment(curves.RESULTS / f"{experiment}.csv", rows, settings)
    for run_dir, (experiment, method, seed) in new.items():
        print(f"{run_dir} -> {experiment}/{method}, seed {seed}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", nargs="+", type=Path, help="folders of complete runs")
    parser.add_argument("--to", default="", metavar="EXPERIMENT/METHOD", help="where they belong")
    parser.add_argument("--replace", action="store_true", help="replace seeds that are there")
    args = parser.parse_args()
    runs = [path for path in args.runs if path.suffix != ".log"]  # of run.py, beside the folders
    try:
        collect(runs, args.to, args.replace)
    except (ValueError, OSError) as error:
        sentence = f"{error.filename}: {error.strerror}." if isinstance(error, OSError) else error
        print(sentence, file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
