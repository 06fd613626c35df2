"""Runs the training commands that a shell script of this folder prints: on this machine, or as one SLURM job array.

    python benchmark/run.py benchmark/bit_flip.sh --workers 2
    python benchmark/run.py benchmark/drive_seek.sh --workers 2 small          # 'small' goes to the shell script
    python benchmark/run.py benchmark/bit_flip.sh --slurm --time 1:00:00 --partition cpu

Call it in the folder where algos/ is, as often as you like: a run is complete when its metrics.csv has reached the
total_timesteps of its args.json, and complete runs are skipped. What an interruption left behind is put aside under
another name and run anew. A failed run does not stop the others; it is listed at the end with its log, and the exit
code is 1.
"""

import argparse
import csv
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path


def read_commands(script: str, arguments: list[str]) -> list[list[str]]:
    """The lines that the script prints, as words. ValueError if it fails or a line has no --run-dir of its own."""
    printed = subprocess.run(["bash", script, *arguments], text=True, capture_output=True)
    if printed.returncode != 0:
        raise ValueError(f"{script} failed: {printed.stderr.strip()}")
    commands = [shlex.split(line) for line in printed.stdout.splitlines()]
    if not commands or not all("--run-dir" in command[:-1] for command in commands):
        raise ValueError(f"{script} must print training commands, each with a --run-dir.")
    if len({run_dir_of(command) for command in commands}) < len(commands):
        raise ValueError(f"{script} prints the same --run-dir twice.")
    return commands


def run_dir_of(command: list[str]) -> Path:
    return Path(command[command.index("--run-dir") + 1])


def is_complete(run_dir: Path) -> bool:
    try:
        with open(run_dir / "metrics.csv", newline="") as file:
            *_, last = csv.DictReader(file)
        return (
            int(last["global_step"])
            >= json.loads((run_dir / "args.json").read_text())["total_timesteps"]
        )
    except (OSError, ValueError, KeyError, TypeError):  # not there, or cut off in the middle
        return False


def run(command: list[str]) -> int:
    """Runs one command, unless it is complete; its output goes to <run_dir>.log. Returns the exit code."""
    run_dir = run_dir_of(command)
    if is_complete(run_dir):
        return 0
    if run_dir.exists():
        n = 1
        while (aside := run_dir.with_name(f"{run_dir.name}.interrupted-{n}")).exists():
            n += 1
        run_dir.rename(aside)
    run_dir.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable if word == "python" else word for word in command]
    if "--num-threads" not in command:
        command += ["--num-threads", "1"]
    with open(f"{run_dir}.log", "w") as log:
        return subprocess.run(
            command, stdout=log, stderr=log, env=os.environ | {"OMP_NUM_THREADS": "1"}
        ).returncode


def run_here(commands: list[list[str]], workers: int) -> list[list[str]]:
    """Runs the commands, `workers` at a time, and shows how far they are; returns those that failed."""
    start, failed = time.time(), []
    with ThreadPoolExecutor(workers) as pool:
        futures = {pool.submit(run, command): command for command in commands}
        try:
            for done, future in enumerate(as_completed(futures), start=1):
                command, failure = futures[future], future.result() != 0
                failed += [command] * failure
                left = (time.time() - start) / done * (len(commands) - done)
                outcome = "FAILED" if failure else "done"
                print(
                    f"[{done}/{len(commands)}] {outcome} {run_dir_of(command)}, {left / 60:.0f} min left",
                    flush=True,
                )
        except KeyboardInterrupt:
            pool.shutdown(
                wait=False, cancel_futures=True
            )  # the runs got the signal too, and end by themselves
            raise
    return failed


def submit(args: argparse.Namespace, numbers: list[int]) -> None:
    """Submits the commands with these numbers as one job array; each job calls this file again with its --line."""
    task = [
        sys.executable,
        __file__,
        args.script,
        "--line",
        "$SLURM_ARRAY_TASK_ID",
        *args.arguments,
    ]
    options = [
        f"--array={','.join(map(str, numbers))}",
        "--requeue",
        f"--cpus-per-task={args.cpus}",
    ]
    options += [f"--job-name={Path(args.script).stem}", f"--time={args.time}", "--output=/dev/null"]
    options += [f"--partition={args.partition}"] * bool(args.partition) + [
        f"--gres=gpu:{args.gpus}"
    ] * (args.gpus > 0)
    wrapped = " ".join(word if word.startswith("$") else shlex.quote(word) for word in task)
    subprocess.run(["sbatch", *options, f"--wrap=exec {wrapped}"], check=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("script", help="a shell script that prints training commands")
    parser.add_argument("arguments", nargs="*", help="arguments of that script")
    parser.add_argument(
        "--workers", type=int, default=os.cpu_count(), help="runs at a time, one thread each"
    )
    parser.add_argument("--line", type=int, help="run only this line, counted from 0")
    parser.add_argument(
        "--slurm", action="store_true", help="submit a SLURM job array instead of running here"
    )
    parser.add_argument("--time", default="24:00:00", help="SLURM: time limit of a run")
    parser.add_argument("--partition", default="", help="SLURM: partition")
    parser.add_argument("--cpus", type=int, default=1, help="SLURM: cores a run")
    parser.add_argument("--gpus", type=int, default=0, help="SLURM: GPUs a run")
    args = parser.parse_intermixed_args()
    try:
        commands = read_commands(args.script, args.arguments)
        if args.workers < 1 or args.cpus < 1 or args.gpus < 0:
            raise ValueError("--workers and --cpus must be at least 1, --gpus at least 0.")
        if args.line is not None and not 0 <= args.line < len(commands):
            raise ValueError(f"--line {args.line}: {args.script} prints {len(commands)} lines.")
    except ValueError as error:
        parser.error(str(error))

    if args.line is not None:
        sys.exit(run(commands[args.line]))
    missing = [
        number for number, command in enumerate(commands) if not is_complete(run_dir_of(command))
    ]
    print(f"{len(commands) - len(missing)} of {len(commands)} runs are complete.", flush=True)
    if args.slurm and missing:
        submit(args, missing)
    elif missing:
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        failed = run_here([commands[number] for number in missing], args.workers)
        for command in failed:
            print(f"failed: {shlex.join(command)}\n  log: {run_dir_of(command)}.log")
        sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
