"""Makes evidence of complete runs: adds them to results/<experiment>.csv and .json.

    python benchmark/tools/collect.py runs/bit_flip_d20/alpha1/*

runs/<experiment>/<method>/<seed>, the names that the scripts in experiments/ give, says where a run
belongs; one in another folder needs --to bit_flip_d20/alpha1. Refused, before anything is written:
a run that is not complete or is still being trained, one whose script or settings differ from those
of the method's other seeds, and, without --replace, a seed that is there already.
"""

import argparse
import csv
import fcntl
import json
import os
import sys
from pathlib import Path
from typing import NamedTuple

import curves
from curves import NOT_A_SETTING, read_args, read_run


class Place(NamedTuple):
    experiment: str
    method: str
    seed: int

    def __str__(self) -> str:
        return f"{self.experiment}/{self.method}, seed {self.seed}"

    @property
    def path(self) -> Path:
        return curves.RESULTS / f"{self.experiment}.csv"


def place_of(run_dir: Path, to: str) -> Place:
    """Where a run belongs. ValueError, one sentence, for a run that is no evidence."""
    args = read_args(run_dir)
    seed, asked = args.get("seed"), args.get("total_timesteps")
    if not isinstance(seed, int) or not isinstance(asked, int):
        raise ValueError(f"{run_dir} has no args.json that a run writes.")
    if is_live(run_dir):
        raise ValueError(f"{run_dir} is still being trained.")
    last = int(read_run(run_dir / "metrics.csv").metrics["global_step"][-1])
    if last < asked:
        raise ValueError(f"{run_dir} is not complete: step {last} of {asked}.")
    if to:
        experiment, _, method = to.partition("/")
        if not (experiment and method):
            raise ValueError(f"--to {to} is not EXPERIMENT/METHOD.")
        return Place(experiment, method, seed)
    *above, folder = run_dir.resolve().parts
    _, is_below_runs, name = "/".join(above).rpartition("/runs/")
    experiment, _, method = name.partition("/")
    if not (is_below_runs and method):
        raise ValueError(f"{run_dir} is not runs/<experiment>/<method>/<seed>: say --to.")
    if folder != str(seed):
        raise ValueError(f"{run_dir}: --seed is {seed}, not {folder}.")
    return Place(experiment, method, seed)


def is_live(run_dir: Path) -> bool:
    """Whether a training process has locked the folder."""
    descriptor = os.open(run_dir, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def check_settings(place: Place, new: dict[Place, Path]) -> None:
    """ValueError where the run is not what the method's other seeds are, replaced ones aside."""
    args = read_args(new[place])
    others = {}
    for seed, run in curves.runs_of(f"{place.experiment}/{place.method}").items():
        if place._replace(seed=seed) not in new:
            others[seed] = run.settings
    for other in list(new)[: list(new).index(place)]:  # the later ones are compared with this one
        if other[:2] == place[:2]:
            others[other.seed] = read_args(new[other])
    for seed, theirs in others.items():
        for name in sorted(args.keys() & theirs.keys() - NOT_A_SETTING):
            if args[name] != theirs[name]:
                flag = name.replace("_", "-")
                raise ValueError(
                    f"{new[place]}: --{flag} is {json.dumps(args[name])}, of seed {seed} "
                    f"{json.dumps(theirs[name])}."
                )
        script, theirs = (each.get("versions", {}).get("script") for each in (args, theirs))
        if script and theirs and script != theirs:
            raise ValueError(f"{new[place]} was made by {script}, seed {seed} by {theirs}.")


def add(path: Path, new: dict[Place, Path]) -> None:
    """Writes the experiment's files with these runs among those that are there."""
    rows = []
    settings: dict[str, dict] = {}
    replaced = {(place.method, str(place.seed)) for place in new}
    if path.exists():
        rows = [row for row in read_csv(path) if (row["method"], row["seed"]) not in replaced]
        settings = json.loads(path.with_suffix(".json").read_text())
    for place, run_dir in new.items():
        names = {"method": place.method, "seed": str(place.seed)}
        rows += [names | row for row in read_csv(run_dir / "metrics.csv")]
        args = read_args(run_dir)
        args.pop("run_dir", None)  # a place on one machine
        settings.setdefault(place.method, {})[str(place.seed)] = args
        print(f"{run_dir} -> {place}")
    curves.write_experiment(path, rows, settings)


def read_csv(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", nargs="+", type=Path, help="folders of complete runs")
    parser.add_argument("--to", default="", metavar="EXPERIMENT/METHOD", help="where they belong")
    parser.add_argument("--replace", action="store_true", help="replace seeds that are there")
    args = parser.parse_args()
    try:
        new: dict[Place, Path] = {}
        for run_dir in args.runs:
            place = place_of(run_dir, args.to)
            if place in new:
                raise ValueError(f"Two of the runs would be {place}.")
            there = curves.runs_of(f"{place.experiment}/{place.method}")
            if place.seed in there and not args.replace:
                raise ValueError(f"{place} is there already: --replace replaces it.")
            new[place] = run_dir
        for place in new:
            check_settings(place, new)
        for path in {place.path: None for place in new}:
            add(path, {place: run_dir for place, run_dir in new.items() if place.path == path})
    except (ValueError, OSError) as error:
        sentence = f"{error.filename}: {error.strerror}." if isinstance(error, OSError) else error
        print(sentence, file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
