"""The runner of benchmark/: one process per folder, whatever is killed; done means complete."""

import importlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import ROOT

from envs.run import flags

TOOLS = ROOT / "benchmark" / "tools"
RUNNER = TOOLS / "run.py"
SLURM = TOOLS / "slurm.sh"
ONE_NODE = Path(__file__).parent / "slurm_one_node.sh"
TRAINING = Path(__file__).parent / "training.py"
SCRIPTS = sorted({*(ROOT / "benchmark").glob("*/*.sh")} - {SLURM})
LONG = "--total-timesteps 1000"


def runner(*flags: str) -> list[str]:
    return [sys.executable, str(RUNNER), "list.sh", *flags]


def prepare(folder: Path, *lines: str, quick: bool = True) -> None:
    """A list of training commands with these flags, whose steps take no time if they are quick."""
    shutil.copy(TRAINING, folder / "train.py")
    (folder / "list.sh").write_text("".join(f'echo "python train.py {line}"\n' for line in lines))
    if quick:
        (folder / "quick").touch()


def run(folder: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(runner(*flags), cwd=folder, text=True, capture_output=True, timeout=60)


def start(folder: Path, *flags: str) -> subprocess.Popen[str]:
    pipe = subprocess.PIPE
    return subprocess.Popen(
        runner(*flags), cwd=folder, text=True, stdout=pipe, stderr=pipe, start_new_session=True
    )


def steps_of(run_dir: Path) -> list[int]:
    lines = (run_dir / "metrics.csv").read_text().splitlines()
    return [int(line.split(",")[0]) for line in lines[1:]]


def wait_until(condition: Callable[[], bool]) -> None:
    end = time.time() + 60
    while not condition():
        assert time.time() < end
        time.sleep(0.05)


def has_begun(run_dir: Path) -> bool:
    return (run_dir / "checkpoint.pt").exists()


on_linux = pytest.mark.skipif(sys.platform != "linux", reason="needs Linux' prctl")


def test_every_line_is_run_with_one_thread_and_its_output_kept(tmp_path: Path):
    prepare(tmp_path, "--run-dir runs/a", "--run-dir runs/$1  # 5 min", "--run-dir 'runs/c d'")
    result = run(tmp_path, "small", "--jobs", "2")
    assert (result.returncode, result.stderr) == (0, "")
    first, *others = result.stdout.splitlines()
    assert first == "0 of 3 runs are complete."
    assert [line.split(" ")[0] for line in others] == ["[1/3]", "[2/3]", "[3/3]"]
    assert others[2].endswith("done, 0 min left")
    for name in ("a", "small", "c d"):
        assert "training from step 0 threads 1\n" in (tmp_path / f"runs/{name}.log").read_text()
        assert steps_of(tmp_path / "runs" / name) == list(range(21))


def test_a_run_that_was_complete_is_not_started_again_until_its_line_or_folder_changes(
    tmp_path: Path,
):
    prepare(tmp_path, "--run-dir runs/a")
    assert run(tmp_path).returncode == 0
    log = (tmp_path / "runs/a.log").read_text()
    assert run(tmp_path).stdout == "1 of 1 runs are complete.\n"
    assert (tmp_path / "runs/a.log").read_text() == log
    prepare(tmp_path, "--run-dir runs/a --alpha 0.2")
    result = run(tmp_path)
    assert result.returncode == 1 and "0 of 1 runs are complete." in result.stdout
    assert "  runs/a.log: runs/a has other settings.\n" in result.stdout
    shutil.rmtree(tmp_path / "runs/a")
    assert run(tmp_path).returncode == 0 and steps_of(tmp_path / "runs/a") == list(range(21))


def test_a_failed_run_does_not_stop_the_others_and_is_listed_with_the_end_of_its_log(
    tmp_path: Path,
):
    prepare(tmp_path, "--run-dir runs/a --fault crash", "--run-dir runs/b")
    result = run(tmp_path, "--jobs", "1")
    assert result.returncode == 1
    assert "[1/2] runs/a ended with code 1" in result.stdout and "runs/b done" in result.stdout
    line = "python train.py --run-dir runs/a --fault crash"
    assert result.stdout.endswith(f"not complete: {line}\n  runs/a.log: no more memory\n")


@pytest.mark.parametrize("number, code", [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_lets_the_runs_write_checkpoints_and_the_next_call_goes_on(
    number: int, code: int, tmp_path: Path
):
    prepare(tmp_path, *(f"--run-dir runs/{name} {LONG}" for name in "abc"), quick=False)
    process = start(tmp_path, "--jobs", "2")
    wait_until(lambda: has_begun(tmp_path / "runs/a") and has_begun(tmp_path / "runs/b"))
    if number == signal.SIGINT:
        os.killpg(process.pid, number)  # as Ctrl-C in a terminal
    else:
        process.send_signal(number)
    output, errors = process.communicate(timeout=20)
    assert (process.returncode, errors) == (code, "")
    for name in "ab":
        assert f"runs/{name} ended with code 143" in output
        assert f"  runs/{name}.log: stopped at step" in output
    assert not (tmp_path / "runs/c").exists()

    (tmp_path / "quick").touch()
    assert run(tmp_path).returncode == 0
    for name in "abc":
        assert steps_of(tmp_path / "runs" / name) == list(range(1001))


def test_a_second_signal_ends_a_run_that_does_not_heed_the_first(tmp_path: Path):
    prepare(tmp_path, f"--run-dir runs/a --fault deaf {LONG}", quick=False)
    process = start(tmp_path)
    wait_until(lambda: has_begun(tmp_path / "runs/a"))
    process.send_signal(signal.SIGTERM)
    time.sleep(0.5)
    assert process.poll() is None  # it waits for the run
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=5) == 143


@on_linux
def test_no_run_is_orphaned_by_a_runner_that_is_killed(tmp_path: Path):
    prepare(tmp_path, f"--run-dir runs/a {LONG}", quick=False)
    first = start(tmp_path)
    wait_until(lambda: has_begun(tmp_path / "runs/a"))
    first.kill()
    first.wait()
    wait_until(lambda: "stopped at step" in (tmp_path / "runs/a.log").read_text())
    (tmp_path / "quick").touch()
    assert run(tmp_path).returncode == 0
    assert steps_of(tmp_path / "runs/a") == list(range(1001))


def test_a_closed_standard_output_does_not_stop_the_runs(tmp_path: Path):
    prepare(tmp_path, "--run-dir runs/a", "--run-dir runs/b")
    reader, writer = os.pipe()
    os.close(reader)
    result = subprocess.run(
        runner(), cwd=tmp_path, stdout=writer, stderr=subprocess.PIPE, text=True, timeout=60
    )
    os.close(writer)
    assert (result.returncode, result.stderr) == (0, "")
    assert run(tmp_path).stdout == "2 of 2 runs are complete.\n"


def test_a_folder_that_cannot_be_made_is_one_sentence(tmp_path: Path):
    prepare(tmp_path, "--run-dir quick/a", "--run-dir runs/b")
    result = run(tmp_path)
    assert (result.returncode, result.stderr) == (143, "quick: File exists.\n")


@pytest.mark.parametrize(
    "script, sentence",
    [
        ("for d in a ./a; do echo python train.py --run-dir $d; done", "a --run-dir of its own."),
        ("echo python train.py", "prints a line without --run-dir: python train.py"),
        ("", "each with a --run-dir of its own."),
        ("exit 3", "list.sh failed: "),
        ("for s in 1 2; do python train.py --run-dir a; done", "it must print commands, not run"),
    ],
)
def test_a_script_that_does_not_print_commands_is_refused_before_anything_runs(
    script: str, sentence: str, tmp_path: Path
):
    prepare(tmp_path)
    (tmp_path / "list.sh").write_text(script)
    result = run(tmp_path)
    assert result.returncode == 2 and sentence in result.stderr
    assert result.stderr.count("\n") == 1 and result.stdout == ""
    assert sorted(path.name for path in tmp_path.iterdir()) == ["list.sh", "quick", "train.py"]


@pytest.mark.parametrize("script", [*SCRIPTS, SLURM], ids=lambda script: script.name)
def test_every_script_is_executable_and_refuses_words_that_it_does_not_know(script: Path):
    for words in (["smal"], [*known_words(script)[:1], "more", "words"]):
        result = subprocess.run([str(script), *words], text=True, capture_output=True)
        assert (result.returncode, result.stdout) == (2, "")
        assert result.stderr.count("\n") == 1


def known_words(script: Path) -> list[str]:
    """What a script says it takes: (known: 5, 10, grid)."""
    refused = subprocess.run(["bash", script, "smal"], text=True, capture_output=True)
    found = re.search(r"\(known: (.*)\)", refused.stderr)
    return found[1].split(", ") if found else []


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_every_script_prints_commands_that_the_runner_and_the_algorithms_take(
    script: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.syspath_prepend(str(TOOLS))
    from run import read_jobs

    printed = []
    for words in ([], *([word] for word in known_words(script))):
        commands = [job.words for job in read_jobs(str(script), words)]
        assert commands not in printed, words  # a word that changes nothing
        printed.append(commands)
        for command in (commands[0], commands[-1]):
            algorithm = importlib.import_module(f"algos.{Path(command[1]).stem}")
            monkeypatch.setattr(sys, "argv", command[1:])
            settings = algorithm.PAPER_SETTINGS | getattr(algorithm, "OTHER_SETTINGS", {})
            parse_args = flags.read_flags if words == ["many"] else flags.parse_args
            args = parse_args(algorithm.Args, settings, algorithm.UNTUNED, "")
            assert args.env_id == command[command.index("--env-id") + 1]


def test_a_real_script_goes_on_by_the_command_that_the_runner_repeats(tmp_path: Path):
    flags = "--env-id ContinuousSeek1-v0 --total-timesteps 60 --eval-frequency 20"
    flags += " --learning-starts 30 --batch-size 16 --hidden-dims 8 8 --run-dir runs/one"
    (tmp_path / "list.sh").write_text(f"echo python {ROOT}/algos/ddpg_her.py {flags}")
    for _ in range(2):
        result = run(tmp_path)
        assert (result.returncode, result.stderr) == (0, ""), result.stdout
        assert steps_of(tmp_path / "runs/one") == [0, 20, 40, 60]
        (tmp_path / "runs/one.log").unlink()  # so that the script itself is asked


def test_a_slurm_job_near_its_time_limit_queues_itself_again_and_goes_on(tmp_path: Path):
    """With a stand-in for scontrol that writes down its arguments."""
    prepare(tmp_path, "--run-dir runs/no", f"--run-dir runs/a {LONG}", quick=False)
    (tmp_path / "runs").mkdir()
    (tmp_path / "scontrol").write_text('#!/bin/sh\necho "$@" > told\n')
    (tmp_path / "scontrol").chmod(0o755)
    job = {"SLURM_ARRAY_JOB_ID": "17", "SLURM_ARRAY_TASK_ID": "2"}
    path = {"PATH": f"{tmp_path}:{Path(sys.executable).parent}:{os.environ['PATH']}"}
    environ = os.environ | job | path
    process = subprocess.Popen(
        [str(SLURM), "list.sh"], cwd=tmp_path, env=environ, text=True, stdout=subprocess.PIPE
    )
    wait_until(lambda: has_begun(tmp_path / "runs/a"))
    process.send_signal(signal.SIGUSR1)
    output, _ = process.communicate(timeout=20)
    assert process.returncode == 143 and "stopped at step" in output
    assert (tmp_path / "told").read_text() == "requeue 17_2\n"
    (tmp_path / "quick").touch()
    subprocess.run([str(SLURM), "list.sh"], cwd=tmp_path, env=environ, check=True)
    assert steps_of(tmp_path / "runs/a") == list(range(1001))
    assert not (tmp_path / "runs/no").exists()


@pytest.fixture
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment variables of a shell that uses a fresh SLURM of one node."""
    if os.geteuid() != 0 or not all(
        shutil.which(name) for name in ("slurmctld", "slurmd", "munged")
    ):
        pytest.skip("needs root, and Debian's slurm-wlm and munge")
    folder = tmp_path_factory.mktemp("slurm")
    subprocess.run([str(ONE_NODE), "start", str(folder)], check=True, timeout=60)
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    yield os.environ | {"SLURM_CONF": str(folder / "slurm.conf"), "PATH": path}
    subprocess.run([str(ONE_NODE), "stop", str(folder)], timeout=60)


def test_a_real_slurm_runs_the_lines_and_a_requeued_job_resumes(
    tmp_path: Path, slurm: dict[str, str]
):
    prepare(tmp_path, "--run-dir runs/a", f"--run-dir runs/b {LONG}", quick=False)
    (tmp_path / "runs").mkdir()

    def call(*command: str) -> str:
        return subprocess.run(
            command, cwd=tmp_path, env=slurm, text=True, capture_output=True, check=True
        ).stdout

    call("sbatch", "--array=1-2", "--time=0:10:00", str(SLURM), "list.sh")
    wait_until(lambda: has_begun(tmp_path / "runs/b"))
    wait_until(lambda: len(call("squeue", "-h", "-r").splitlines()) == 1)  # a is through
    job = call("squeue", "-h", "-r", "-o", "%i").strip()
    call("scontrol", "requeue", job)
    wait_until(lambda: "stopped at step" in next(tmp_path.glob("slurm-*_2.log")).read_text())
    (tmp_path / "quick").touch()
    wait_until(lambda: call("squeue", "-h", "-o", "%T").strip() == "PENDING")
    call("scontrol", "update", f"JobId={job}", "StartTime=now")  # else it waits two minutes
    wait_until(lambda: not call("squeue", "-h"))
    assert steps_of(tmp_path / "runs/a") == list(range(21))
    assert steps_of(tmp_path / "runs/b") == list(range(1001))
