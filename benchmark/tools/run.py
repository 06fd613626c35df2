"""Runs the training commands that a shell script prints, several side by side.

    python benchmark/tools/run.py benchmark/experiments/bit_flip.sh --jobs 2

Call it from the folder that has algos/, as often as you like: a command continues the run in its
--run-dir, and refuses a run that has other settings or that another process is training; its output
goes to <run-dir>.log. A failed command does not stop the others. On Ctrl-C or SIGTERM the commands
write checkpoints; a second signal ends them at once. Exit code: 0 complete, 1 not, 2 bad input, 130
or 143 after a signal.
"""

import argparse
import ctypes
import os
import shlex
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

LIBC = ctypes.CDLL(None)
REFUSAL = {"BASH_FUNC_python%%": "() { echo 'it must print commands, not run them' >&2; exit 2; }"}


@dataclass
class Job:
    line: str  # as printed
    words: list[str]
    run_dir: str
    log: Path
    process: subprocess.Popen | None = None


def read_jobs(script: str, arguments: list[str]) -> list[Job]:
    """The commands that the script prints. ValueError if it fails or runs them itself."""
    command = ["bash", script, *arguments]
    listed = subprocess.run(command, env=os.environ | REFUSAL, text=True, capture_output=True)
    if listed.returncode != 0 or listed.stderr:
        raise ValueError(f"{script} failed: {listed.stderr.strip()}")
    jobs = []
    for line in listed.stdout.splitlines():
        words = shlex.split(line, comments=True)
        if "--run-dir" not in words[:-1]:
            raise ValueError(f"{script} prints a line without --run-dir: {line}")
        if words[0] == "python":
            words[0] = sys.executable
        run_dir = words[words.index("--run-dir") + 1]
        jobs.append(Job(line, words, run_dir, Path(f"{run_dir}.log")))
    if not jobs or len({os.path.abspath(job.run_dir) for job in jobs}) < len(jobs):
        raise ValueError(f"{script} must print commands, each with a --run-dir of its own.")
    return jobs


def last_line(job: Job) -> str:
    text = job.log.read_text(errors="replace") if job.log.is_file() else ""
    return text.rstrip("\n").rpartition("\n")[2]


def was_complete(job: Job) -> bool:
    """Whether an earlier call saw this very line end well, so that it need not be started."""
    return Path(job.run_dir, "metrics.csv").exists() and last_line(job) == f"done: {job.line}"


def end_with_the_runner() -> None:
    """In a child, on Linux: SIGTERM, and so a checkpoint, once the runner is killed."""
    if hasattr(LIBC, "prctl"):
        LIBC.prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG


def start(job: Job) -> None:
    job.log.parent.mkdir(parents=True, exist_ok=True)
    with open(job.log, "a") as log:
        job.process = subprocess.Popen(
            job.words,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env={"OMP_NUM_THREADS": "1"} | os.environ,
            process_group=0,  # so that a terminal's Ctrl-C reaches it once, from the runner
            preexec_fn=end_with_the_runner,
        )


def say(line: str) -> None:
    try:
        print(line, flush=True)
    except OSError:  # a closed or full standard output is no reason to stop training
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def work(jobs: list[Job], at_a_time: int, signals: list[int]) -> None:
    """Runs the jobs until all have ended; after a signal, until the running ones have."""
    start_time = time.time()
    waiting = jobs.copy()
    running: list[Job] = []
    heard = 0
    while running or (waiting and not signals):
        try:
            while waiting and len(running) < at_a_time and not signals:
                start(waiting[0])
                running.append(waiting.pop(0))
            for job in [job for job in running if job.process.poll() is not None]:
                running.remove(job)
                outcome = f"ended with code {job.process.returncode}"
                if job.process.returncode == 0:
                    outcome = "done"
                    with open(job.log, "a") as log:
                        log.write(f"done: {job.line}\n")
                ended = len(jobs) - len(waiting) - len(running)
                minutes = (time.time() - start_time) / 60 * (len(jobs) / ended - 1)
                say(f"[{ended}/{len(jobs)}] {job.run_dir} {outcome}, {minutes:.0f} min left")
        except OSError as error:  # a full disk, a file where a folder should be
            print(f"{error.filename}: {error.strerror}.", file=sys.stderr)
            signals.append(signal.SIGTERM)
        if heard < len(signals):
            heard += 1
            for job in running:
                job.process.terminate()
        time.sleep(0.1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("script", help="a shell script that prints training commands")
    parser.add_argument("arguments", nargs="*", help="arguments of that script")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="commands at a time")
    args = parser.parse_intermixed_args()
    if args.jobs < 1:
        parser.error("--jobs must be at least 1")
    try:
        jobs = read_jobs(args.script, args.arguments)
    except ValueError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    signals: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, frame: signals.append(number))
    missing = [job for job in jobs if not was_complete(job)]
    say(f"{len(jobs) - len(missing)} of {len(jobs)} runs are complete.")
    work(missing, args.jobs, signals)
    failed = [job for job in missing if job.process and job.process.returncode != 0]
    for job in failed:
        say(f"not complete: {job.line}\n  {job.log}: {last_line(job)}")
    sys.exit(128 + signals[0] if signals else int(bool(failed)))


if __name__ == "__main__":
    main()
