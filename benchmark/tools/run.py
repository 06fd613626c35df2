"""Runs the training commands that a shell script prints: here, or as one SLURM job array.

    python benchmark/tools/run.py benchmark/experiments/bit_flip.sh --workers 2
    python benchmark/tools/run.py benchmark/experiments/drive_seek.sh small --workers 2
    python benchmark/tools/run.py benchmark/experiments/bit_flip.sh --slurm --time 1:00:00

Call it in the folder where algos/ is, as often as you like, also while another call still works.
What it finds in a run's folder decides:

    a run that lives, whoever started it         waited for, never written to
    other settings than the command's            put aside as <folder>.interrupted-N and run anew
    metrics.csv has reached total_timesteps      complete: skipped
    not complete, with a checkpoint.pt           resumed
    not complete, without one                    put aside and run anew
    of ddpg_her_reengage_many.py, many runs      called: the script trains what is missing

A failed run does not stop the others. SIGTERM, SIGINT (Ctrl-C) or the end of --minutes let the runs
write their checkpoints, then list what is left; a second signal ends everything at once. The exit
code is 0 if all runs are complete, 1 if not, 2 for bad input, 143 or 130 after a signal.
Needs nothing but Python. A run's output is appended to <folder>.log.
"""

import argparse
import csv
import ctypes
import fcntl
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

NOT_COMPARED = {"run_dir", "num_threads", "cuda"}  # where and on what, not what is trained
PR_SET_PDEATHSIG = 1  # of Linux' prctl
SLURM_WARNING = 120  # seconds before its time limit that a job is told
TIME_IS_OVER = 3  # exit code of many runs at once, some of which --minutes left out
LIBC = ctypes.CDLL(None)
RUNNER = os.getpid()


@dataclass
class Run:
    """A printed command and, while this runner trains it, its process."""

    printed: str
    command: list[str]  # the words of it
    name: str  # its folder, as printed
    folder: Path  # absolute: the process may outlive whoever knows its working directory
    process: subprocess.Popen | None = None
    is_resumed: bool = False
    checkpoint_before: int = 0  # when it was started: checkpoint_time()
    is_waited_for: bool = False  # another process trains it, and that was said

    @property
    def is_grid(self) -> bool:
        """Whether the folder is one of many runs, trained by one process."""
        return program_of(self)[-1].endswith("_many.py")

    @property
    def log(self) -> Path:
        return self.folder.with_name(f"{self.folder.name}.log")


def say(line: str) -> None:
    """Prints a line. A closed or full standard output is no reason to stop training."""
    try:
        print(line, flush=True)
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def refuse(sentence: str) -> None:
    print(sentence, file=sys.stderr)
    sys.exit(2)


def as_sentence(error: Exception) -> str:
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}."
    return str(error)


# What to run


def read_runs(script: str, arguments: list[str]) -> list[Run]:
    """The commands that the script prints. ValueError if it fails or prints something else."""
    printed = subprocess.run(["bash", script, *arguments], text=True, capture_output=True)
    if printed.returncode != 0:
        raise ValueError(f"{script} failed: {printed.stderr.strip()}")
    runs = [read_run(line, script) for line in printed.stdout.splitlines()]
    if not runs:
        raise ValueError(f"{script} must print training commands, each with a --run-dir.")
    if len({run.folder for run in runs}) < len(runs):
        raise ValueError(f"{script} prints the same --run-dir twice.")
    return runs


def read_run(line: str, script: str) -> Run:
    try:
        command = shlex.split(line.split(" # ")[0])
    except ValueError as error:
        raise ValueError(f"{script} prints a line that is no command ({error}): {line}") from None
    if "--run-dir" not in command[:-1]:
        raise ValueError(f"{script} must print training commands, each with a --run-dir.")
    place = command.index("--run-dir") + 1
    name = command[place]
    command[place] = os.path.abspath(name)
    return Run(line, command, name, Path(command[place]))


def check(run: Run) -> None:
    """ValueError for a command that cannot be started, or a folder that cannot be written."""
    program = sys.executable if run.command[0] == "python" else run.command[0]
    if shutil.which(program) is None:
        raise ValueError(f"There is no program {run.command[0]}.")
    script = program_of(run)[-1]
    if script.endswith(".py") and not Path(script).is_file():
        raise ValueError(f"There is no file {script}.")
    if run.folder.exists() and not run.folder.is_dir():
        raise ValueError(f"{run.name} is a file, not the folder of a run.")
    if run.log.is_dir():
        raise ValueError(f"{run.name}.log is a folder; the output of the run goes there.")
    for parent in run.folder.parents:
        if parent.exists() and not parent.is_dir():
            raise ValueError(f"{parent} is a file, so {run.name} cannot be made.")


def program_of(run: Run) -> list[str]:
    """The command without the script's flags: `python algos/x.py`, `torchrun ... algos/x.py`."""
    for place, word in enumerate(run.command):
        if word.endswith(".py"):
            return run.command[: place + 1]
    return run.command[:1]


# What there is already


def settings_of(run: Run) -> dict[str, list[str]]:
    """The words behind each flag of the script: {"alpha": ["0.1"], "hidden_dims": ["64", "64"]}."""
    settings: dict[str, list[str]] = {}
    words: list[str] = []
    for word in run.command[len(program_of(run)) :]:
        if word.startswith("--"):
            flag, equals, value = word[2:].partition("=")
            words = [value] if equals else []
            name = flag.replace("-", "_")
            if name.startswith("no_"):
                name, words = name.removeprefix("no_"), ["False"]
            settings[name] = words
        else:
            words.append(word)
    return settings


def is_same(name: str, words: list[str], recorded: object) -> bool:
    """Whether the words of a flag mean what args.json records."""
    if isinstance(recorded, bool):
        return recorded == (words in ([], ["True"]))
    if isinstance(recorded, list):
        pairs = zip(words, recorded, strict=False)
        return len(words) == len(recorded) and all(is_same(name, [w], r) for w, r in pairs)
    word = " ".join(words)
    if name == "env_id":
        return without_version(word) == without_version(str(recorded))
    return word == str(recorded) or value_of(word) == recorded


def without_version(env_id: str) -> str:
    """A repaired successor may stand in for an environment: HandReach-v3 for HandReach-v2."""
    return re.sub(r"-v\d+$", "", env_id)


def value_of(word: str) -> object:
    """A number, or what JSON makes of the word."""
    for read in (float, json.loads):
        try:
            return read(word)
        except ValueError:
            pass
    return None


def read_args(folder: Path) -> dict:
    """A run's args.json, empty where there is no readable one."""
    try:
        args = json.loads((folder / "args.json").read_text())
    except (OSError, ValueError):
        return {}
    return args if isinstance(args, dict) else {}


def changed_setting(run: Run) -> str:
    """A sentence about the first flag that args.json contradicts; empty if there is none."""
    args = read_args(run.folder)
    if not args:
        return "it has no readable args.json"
    for name, words in settings_of(run).items():
        if name.startswith("no_") and name not in args:  # --no-cuda says that cuda is False
            name = name.removeprefix("no_")
            words = ["False"]
        if name in NOT_COMPARED or is_same(name, words, args.get(name)):
            continue
        if name == "total_timesteps" and is_extended(run, words, args):
            continue
        flag = name.replace("_", "-")
        return f"--{flag} was {json.dumps(args.get(name))}, the command says {' '.join(words)}"
    return ""


def is_extended(run: Run, words: list[str], args: dict) -> bool:
    """Whether the command asks for more steps of a run that can go on from where it ended."""
    try:
        return int(words[0]) > args["total_timesteps"] and checkpoint_time(run.folder) > 0
    except (ValueError, LookupError, TypeError):
        return False


def checkpoint_time(folder: Path) -> int:
    """When a run's checkpoint was written, in nanoseconds; 0 if there is none."""
    try:
        return (folder / "checkpoint.pt").stat().st_mtime_ns
    except OSError:
        return 0


def last_step(folder: Path) -> int:
    """The step of the last whole line of metrics.csv; -1 if there is none."""
    try:
        text = (folder / "metrics.csv").read_text()
        whole_lines = text[: text.rfind("\n") + 1].splitlines()
        return int(list(csv.DictReader(whole_lines))[-1]["global_step"])
    except (OSError, ValueError, LookupError, TypeError):
        return -1


def steps_asked(run: Run) -> float:
    """The command's --total-timesteps, else that of args.json; infinite if neither says."""
    words = settings_of(run).get("total_timesteps", [])
    try:
        return int(words[0]) if words else int(read_args(run.folder)["total_timesteps"])
    except (ValueError, LookupError, TypeError):
        return float("inf")


def is_complete(run: Run) -> bool:
    if run.is_grid:
        return run.process is not None and run.process.poll() == 0
    return last_step(run.folder) >= steps_asked(run) and not changed_setting(run)


# Running


def lock(path: Path, flags: int) -> int | None:
    """An open descriptor with an exclusive lock, which the kernel drops when every process that
    inherited it is gone; None if another process has the lock."""
    descriptor = os.open(path, flags, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def end_with_the_runner() -> None:
    """In a child, on Linux: SIGTERM once the runner is gone, so that a checkpoint is written."""
    if hasattr(LIBC, "prctl"):
        LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != RUNNER:  # it was gone before
            os._exit(128 + signal.SIGTERM)


def begin(run: Run, minutes: float) -> str:
    """Starts the run if it needs to be. Returns "started", "complete" or "elsewhere".

    Many runs at once are told the minutes that are left, so that they begin no group in vain.

    Two locks keep a folder to one process. The log's is taken before anything is decided, and the
    training process inherits it as its standard output: of two runners one decides, and a process
    that has outlived its runner still holds it. The folder's belongs to the training process, so a
    run that was started by hand is recognised too.
    """
    run.folder.parent.mkdir(parents=True, exist_ok=True)
    log = lock(run.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    if log is None:
        return "elsewhere"
    try:
        return begin_locked(run, log, minutes)
    finally:
        os.close(log)  # the process has its own


def begin_locked(run: Run, log: int, minutes: float) -> str:
    if run.folder.exists():
        folder = lock(run.folder, os.O_RDONLY)
        if folder is None:
            return "elsewhere"
        try:
            if is_complete(run):
                return "complete"
            reason = "" if run.is_grid else why_anew(run)
            if reason:
                put_aside(run, reason)
        finally:
            os.close(folder)
    run.is_resumed = run.folder.exists() and not run.is_grid
    run.checkpoint_before = checkpoint_time(run.folder)
    run.process = subprocess.Popen(
        command_for(run, minutes),
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        process_group=0,  # a terminal's Ctrl-C reaches it once: from the runner
        preexec_fn=end_with_the_runner,
    )
    return "started"


def why_anew(run: Run) -> str:
    """Why a run that is not complete cannot go on; empty if it can."""
    reason = changed_setting(run)
    if not reason and checkpoint_time(run.folder) == 0:
        reason = "it was interrupted and has no checkpoint"
    return reason


def command_for(run: Run, minutes: float) -> list[str]:
    """The command to start the run with, or to resume it with, whose settings its folder knows."""
    command = run.command.copy()
    if run.is_resumed:
        command = [*program_of(run), "--resume", str(run.folder)]
        for steps in settings_of(run).get("total_timesteps", []):
            command += ["--total-timesteps", steps]
    elif "num_threads" not in settings_of(run):
        command += ["--num-threads", "1"]
    if run.is_grid and minutes < float("inf"):
        command += ["--minutes", f"{minutes:.2f}"]
    if command[0] == "python":
        command[0] = sys.executable
    return command


def put_aside(run: Run, reason: str) -> None:
    n = 1
    while run.folder.with_name(f"{run.folder.name}.interrupted-{n}").exists():
        n += 1
    run.folder.rename(run.folder.with_name(f"{run.folder.name}.interrupted-{n}"))
    say(f"{run.name} is put aside as {run.name}.interrupted-{n}: {reason}.")


def is_live(folder: Path) -> bool:
    """Whether a training process holds a folder."""
    if not folder.exists():
        return False
    descriptor = lock(folder, os.O_RDONLY)
    if descriptor is not None:
        os.close(descriptor)
    return descriptor is None


class Batch:
    """Runs that are trained side by side, `workers` at a time."""

    def __init__(self, runs: list[Run], workers: int, minutes: float):
        self.start_time = time.time()
        self.minutes = minutes
        self.workers = workers
        self.waiting = runs.copy()
        self.running: list[Run] = []
        self.ended: list[Run] = []
        self.failed: list[Run] = []
        self.put_off: list[Run] = []  # what is left of them does not fit into the minutes
        self.is_stopping = False

    def minutes_left(self) -> float:
        return self.minutes - (time.time() - self.start_time) / 60

    def start(self) -> None:
        """Starts runs until all workers are busy; runs that live elsewhere keep their place."""
        for run in self.waiting.copy():
            if self.is_stopping or len(self.running) == self.workers:
                return
            state = begin(run, max(0.01, self.minutes_left()))
            if state == "elsewhere":
                if not run.is_waited_for:
                    say(f"{run.name} is trained by another process already: waiting for it.")
                run.is_waited_for = True
                continue
            self.waiting.remove(run)
            if state == "complete":
                self.tell("done", run)
            else:
                self.running.append(run)

    def reap(self) -> None:
        """Takes note of the processes that have ended."""
        for run in self.running.copy():
            if run.process.poll() is None:
                continue
            self.running.remove(run)
            if is_complete(run):
                self.tell("done", run)
            elif run.is_grid and run.process.returncode == TIME_IS_OVER:
                self.put_off.append(run)
            elif self.is_stopping or self.is_worth_another_try(run):
                self.waiting.append(run)
            else:
                self.failed.append(run)
                self.tell("FAILED", run)

    def is_worth_another_try(self, run: Run) -> bool:
        """Of a run whose process has ended before it was complete."""
        code = run.process.returncode
        if code == 2 and is_live(run.folder):
            return True  # another process had taken the folder meanwhile
        if code == 2 and run.is_resumed:
            put_aside(run, f"its checkpoint was refused, see {run.name}.log")
            return True
        was_killed = code < 0 or code in (128 + signal.SIGINT, 128 + signal.SIGTERM)
        if was_killed and checkpoint_time(run.folder) != run.checkpoint_before:
            say(f"{run.name} was killed after step {last_step(run.folder)} and goes on from there.")
            return True
        return False

    def tell(self, outcome: str, run: Run) -> None:
        self.ended.append(run)
        done, left = len(self.ended), len(self.waiting) + len(self.running)
        minutes = (time.time() - self.start_time) / done * left / 60
        say(f"[{done}/{done + left}] {outcome} {run.name}, {minutes:.0f} min left")

    def stop(self, number: int) -> None:
        """Lets every run write its checkpoint and end."""
        self.is_stopping = True
        for run in self.running:
            run.process.send_signal(number)

    def list_what_is_left(self) -> None:
        left = self.put_off + self.waiting
        begun = [run for run in left if run.folder.exists()]
        for run in begun:
            step = "" if run.is_grid else f", step {max(0, last_step(run.folder))}"
            say(f"left: {run.name}{step}")
        if len(begun) < len(left):
            say(f"left: {len(left) - len(begun)} not yet begun")
        for run in self.failed:
            say(f"failed: {run.printed}\n  log: {run.name}.log")


def work(batch: Batch, is_job: bool) -> int:
    """Trains until all is complete, a signal comes or the time is over. Returns the exit code."""
    signals: list[int] = []
    wanted = [signal.SIGTERM, signal.SIGINT]
    if is_job:
        wanted.append(signal.SIGUSR1)  # SLURM's warning, to this process alone
    for number in wanted:
        signal.signal(number, lambda number, frame: signals.append(number))
    heard = 0
    trouble = None
    while batch.running or (batch.waiting and not batch.is_stopping):
        try:
            batch.start()
            batch.reap()
        except OSError as error:  # a full disk, a folder that may not be written
            trouble = error
            batch.stop(signal.SIGTERM)
        time.sleep(0.1)
        if heard < len(signals):
            is_second = batch.is_stopping
            batch.is_stopping = True
            if not is_job or signals[heard] == signal.SIGUSR1:  # SLURM's SIGTERM goes to all
                batch.stop(signal.SIGINT if signals[heard] == signal.SIGINT else signal.SIGTERM)
            if is_second:
                os._exit(128 + signals[heard])
            heard += 1
            say("Waiting for the runs to write checkpoints; one more signal ends them at once.")
        if not batch.is_stopping and batch.minutes_left() < 0:
            batch.stop(signal.SIGTERM)
            say(f"{batch.minutes:g} minutes are over: waiting for the runs to write checkpoints.")
    batch.list_what_is_left()
    if trouble is not None:
        print(as_sentence(trouble), file=sys.stderr)
    if not batch.waiting and not batch.failed and not batch.put_off:
        return 0
    if signal.SIGUSR1 in signals:
        requeue(batch.waiting)
    if signals:
        return 128 + (signal.SIGINT if signals[0] == signal.SIGINT else signal.SIGTERM)
    return 1


def requeue(runs: list[Run]) -> None:
    """Puts this SLURM job back into the queue, if its run has come further since it began."""
    job = f"{os.environ['SLURM_ARRAY_JOB_ID']}_{os.environ['SLURM_ARRAY_TASK_ID']}"
    if all(checkpoint_time(run.folder) != run.checkpoint_before for run in runs):
        subprocess.run(["scontrol", "requeue", job])  # its JOB_ID can mean the whole array


def submit(args: argparse.Namespace, numbers: list[int], folder: Path) -> None:
    """Submits these lines as one job array; each job calls this file again with its --line.

    A job that is warned of its time limit requeues itself with a checkpoint; SLURM requeues one
    that makes room for others or whose node failed. Its messages go to slurm-*.log in `folder`.
    """
    if not numbers:
        return
    folder.mkdir(parents=True, exist_ok=True)
    task = [sys.executable, __file__, args.script, *args.arguments, "--line"]
    wrapped = f"exec {shlex.join(task)} $SLURM_ARRAY_TASK_ID"
    command = [
        "sbatch",
        f"--array={','.join(map(str, numbers))}",
        f"--job-name={Path(args.script).stem}",
        f"--time={args.time}",
        f"--cpus-per-task={args.cpus}",
        f"--signal=B:USR1@{SLURM_WARNING}",
        "--requeue",
        "--open-mode=append",
        f"--output={folder}/slurm-%A_%a.log",
        f"--wrap={wrapped}",
    ]
    if args.partition:
        command.insert(1, f"--partition={args.partition}")
    if args.gpus > 0:
        command.insert(1, f"--gres=gpu:{args.gpus}")
    if subprocess.run(command).returncode != 0:
        refuse("sbatch did not take the jobs.")


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("script", help="a shell script that prints training commands")
    parser.add_argument("arguments", nargs="*", help="arguments of that script")
    parser.add_argument(
        "--workers", type=int, default=os.cpu_count(), help="runs at a time, one thread each"
    )
    parser.add_argument(
        "--minutes", type=float, default=float("inf"), help="end with checkpoints after that long"
    )
    parser.add_argument("--line", type=int, help="run only this line, counted from 0")
    parser.add_argument("--slurm", action="store_true", help="submit a SLURM job array")
    parser.add_argument("--time", default="24:00:00", help="SLURM: time limit of a run")
    parser.add_argument("--partition", default="", help="SLURM: partition")
    parser.add_argument("--cpus", type=int, default=1, help="SLURM: cores a run")
    parser.add_argument("--gpus", type=int, default=0, help="SLURM: GPUs a run")
    return parser.parse_intermixed_args()


def choose_runs(args: argparse.Namespace) -> list[Run]:
    """The runs that the arguments ask for. ValueError, before anything is written, for bad ones."""
    if args.workers < 1 or args.cpus < 1 or args.gpus < 0:
        raise ValueError("--workers and --cpus must be at least 1, --gpus at least 0.")
    if not args.minutes > 0:
        raise ValueError("--minutes must be above 0.")
    if args.slurm and shutil.which("sbatch") is None:
        raise ValueError("--slurm needs SLURM's sbatch, which this machine does not have.")
    runs = read_runs(args.script, args.arguments)
    if args.line is not None and not 0 <= args.line < len(runs):
        raise ValueError(f"--line {args.line}: {args.script} prints {len(runs)} lines.")
    if args.line is not None:
        runs = [runs[args.line]]
    for run in runs:
        check(run)
    return runs


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # before there are runs, Ctrl-C just ends it
    args = parse_args()
    try:
        runs = choose_runs(args)
        missing = [number for number, run in enumerate(runs) if not is_complete(run)]
        say(f"{len(runs) - len(missing)} of {len(runs)} runs are complete.")
        if args.slurm:
            submit(args, missing, common_folder(runs))
            return
    except (ValueError, OSError) as error:
        refuse(as_sentence(error))
    batch = Batch([runs[number] for number in missing], args.workers, args.minutes)
    is_job = args.line is not None and "SLURM_ARRAY_TASK_ID" in os.environ
    sys.exit(work(batch, is_job))


def common_folder(runs: list[Run]) -> Path:
    return Path(os.path.commonpath([run.folder.parent for run in runs]))


if __name__ == "__main__":
    main()
