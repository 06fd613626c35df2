"""Makes evidence of complete runs: copies each one's metrics.csv and args.json into results/.

    python benchmark/tools/collect.py runs/bit_flip_d20/alpha1/*

runs/<experiment>/<method>/<seed> becomes results/<experiment>/<method>/<seed>.csv and .json: the
names that the scripts in experiments/ give. A run that another folder holds needs them:
--to bit_flip_d20/alpha1. Refused, before anything is copied: a run that is not complete or still
works, one whose settings differ from those of the same method's other seeds, and, without
--replace, one whose seed is there already. Needs nothing but Python.
"""

import argparse
import json
import sys
from pathlib import Path

from run import is_live, last_step, read_args

RESULTS = Path(__file__).resolve().parents[1] / "results"
MAY_DIFFER = {  # where, on how many cores, and what else is written: no number depends on it
    "seed", "run_dir", "num_threads", "env_threads", "cuda", "track", "capture_video",
    "save_model", "save_checkpoint", "log_frequency",
}  # fmt: skip


def target_of(run_dir: Path, method: str) -> Path:
    """Where the run's CSV goes. ValueError, one sentence, for a run that is no evidence."""
    args = read_args(run_dir)
    if not isinstance(args.get("seed"), int) or not isinstance(args.get("total_timesteps"), int):
        raise ValueError(f"{run_dir} has no args.json that a run writes.")
    if is_live(run_dir):
        raise ValueError(f"{run_dir} is still being trained.")
    if last_step(run_dir) < args["total_timesteps"]:
        steps = f"step {max(0, last_step(run_dir))} of {args['total_timesteps']}"
        raise ValueError(f"{run_dir} is not complete: {steps}.")
    if method:
        return RESULTS / method / f"{args['seed']}.csv"
    *_, runs, experiment, name, seed = ("", "", *run_dir.resolve().parts)
    if runs != "runs":
        raise ValueError(f"{run_dir} is not runs/<experiment>/<method>/<seed>: say --to.")
    if seed != str(args["seed"]):
        raise ValueError(f"{run_dir}: --seed is {args['seed']}, not {seed}.")
    return RESULTS / experiment / name / f"{seed}.csv"


def check_settings(run_dir: Path, targets: dict[Path, Path]) -> None:
    """ValueError if a setting differs from those of the other seeds, replaced ones aside."""
    args = read_args(run_dir)
    target = targets[run_dir]
    stay = sorted(target.parent.glob("*.json"))
    stay = [path for path in stay if path.with_suffix(".csv") not in targets.values()]
    runs = list(targets)
    before = [run for run in runs[: runs.index(run_dir)] if targets[run].parent == target.parent]
    for path in stay + [run / "args.json" for run in before]:
        other = json.loads(path.read_text())
        for name in sorted(args.keys() & other.keys() - MAY_DIFFER - {"versions"}):
            if args[name] != other[name]:
                flag = name.replace("_", "-")
                there = path.name if path.parent == target.parent else path
                values = f"{json.dumps(args[name])}, in {there} {json.dumps(other[name])}"
                raise ValueError(
                    f"{run_dir} differs from {target.parent.name}: --{flag} is {values}."
                )


def copy(run_dir: Path, target: Path) -> None:
    args = read_args(run_dir)
    args.pop("run_dir", None)  # a place on one machine
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text((run_dir / "metrics.csv").read_text())
    target.with_suffix(".json").write_text(json.dumps(args, indent=2) + "\n")
    print(f"{run_dir} -> {target.relative_to(RESULTS.parents[1])}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", nargs="+", type=Path, help="folders of complete runs")
    parser.add_argument("--to", default="", metavar="EXPERIMENT/METHOD", help="a folder of results")
    parser.add_argument("--replace", action="store_true", help="overwrite seeds that are there")
    args = parser.parse_args()
    try:
        targets = {}
        for run_dir in args.runs:
            target = target_of(run_dir, args.to)
            if target in targets.values():
                raise ValueError(f"Two of the runs would be {target.relative_to(RESULTS)}.")
            if target.exists() and not args.replace:
                name = target.relative_to(RESULTS)
                raise ValueError(f"{name} is there already: --replace overwrites it.")
            targets[run_dir] = target
        for run_dir in targets:
            check_settings(run_dir, targets)
        for run_dir, target in targets.items():
            copy(run_dir, target)
    except ValueError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    except OSError as error:
        print(f"{error.filename}: {error.strerror}.", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
