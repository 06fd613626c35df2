"""The runner of benchmark/: skips what is complete, repeats what was interrupted, goes on past failures."""

import importlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import ROOT

OTHERS = "slurm_one_node.sh", "figures.sh", "gpu_queue.sh"  # no lists for the runner
SCRIPTS = sorted(path.name for path in (ROOT / "benchmark").glob("*.sh") if path.name not in OTHERS)
TRAIN = """
import json, sys, time
from pathlib import Path
run_dir = Path(sys.argv[sys.argv.index("--run-dir") + 1])
run_dir.mkdir()
(run_dir / "args.json").write_text(json.dumps({"total_timesteps": 20, "argv": sys.argv}))
print("training", run_dir)
(run_dir / "metrics.csv").write_text("global_step,success_rate\\n0,0.0\\n")
if "--crash" in sys.argv:
    sys.exit("no more memory")
if "--slow" in sys.argv and not Path("quick").exists():
    time.sleep(60)
(run_dir / "metrics.csv").write_text("global_step,success_rate\\n0,0.0\\n20,1.0\\n")
"""


def runner(*flags: str) -> list[str]:
    return [sys.executable, str(ROOT / "benchmark" / "run.py"), "list.sh", *flags]


def prepare(folder: Path, *lines: str) -> None:
    (folder / "train.py").write_text(TRAIN)
    (folder / "list.sh").write_text("".join(f"echo python train.py {line}\n" for line in lines))


def run(folder: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(runner(*flags), cwd=folder, text=True, capture_output=True, timeout=60)


def argv_of(run_dir: Path) -> list[str]:
    return json.loads((run_dir / "args.json").read_text())["argv"]


def test_every_line_is_run_with_one_thread_and_its_output_kept(tmp_path: Path):
    prepare(
        tmp_path, "--run-dir runs/a", "--run-dir runs/b --num-threads 3", "--run-dir 'runs/c d'"
    )
    result = run(tmp_path, "--workers", "2")
    assert (result.returncode, result.stderr) == (0, "")
    assert (
        result.stdout.splitlines()[0] == "0 of 3 runs are complete."
        and "[3/3] done" in result.stdout
    )
    assert argv_of(tmp_path / "runs/a")[-2:] == ["--num-threads", "1"]
    assert argv_of(tmp_path / "runs/b")[-2:] == ["--num-threads", "3"]
    assert (tmp_path / "runs/a.log").read_text() == "training runs/a\n"


def test_complete_runs_are_skipped_and_cut_off_ones_are_put_aside_and_repeated(tmp_path: Path):
    prepare(tmp_path, "--run-dir runs/a", "--run-dir runs/b")
    run(tmp_path)
    before = (tmp_path / "runs/a/metrics.csv").stat().st_mtime_ns
    (tmp_path / "runs/b/metrics.csv").write_text("global_step,success_rate\n0,0.0\n10,")
    for n in (1, 2):
        result = run(tmp_path)
        assert result.returncode == 0 and "1 of 2 runs are complete" in result.stdout
        assert (tmp_path / f"runs/b.interrupted-{n}/metrics.csv").read_text().endswith("10,")
        (tmp_path / "runs/b/metrics.csv").write_text("global_step,success_rate\n0,0.0\n10,")
    assert (tmp_path / "runs/a/metrics.csv").stat().st_mtime_ns == before


def test_a_failed_run_does_not_stop_the_others_and_is_listed_with_its_log(tmp_path: Path):
    prepare(tmp_path, "--run-dir runs/a --crash", "--run-dir runs/b")
    result = run(tmp_path, "--workers", "1")
    assert result.returncode == 1
    assert "FAILED runs/a" in result.stdout and "done runs/b" in result.stdout
    assert "failed: python train.py --run-dir runs/a --crash\n  log: runs/a.log" in result.stdout
    assert "no more memory" in (tmp_path / "runs/a.log").read_text()


def test_an_interrupted_batch_goes_on_where_it_was(tmp_path: Path):
    prepare(tmp_path, "--run-dir runs/a", "--run-dir runs/b --slow", "--run-dir runs/c")
    process = subprocess.Popen(
        runner("--workers", "1"),
        cwd=tmp_path,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(
            signal.SIGINT, signal.SIG_DFL
        ),  # a shell's background jobs ignore it
    )
    while not (tmp_path / "runs/b/metrics.csv").exists():
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)  # as Ctrl-C in a terminal
    assert process.wait(timeout=20) != 0
    assert not (tmp_path / "runs/c").exists()

    (tmp_path / "quick").touch()
    result = run(tmp_path)
    assert result.returncode == 0 and "1 of 3 runs are complete" in result.stdout
    assert "1 of 3" not in run(tmp_path).stdout and (tmp_path / "runs/b.interrupted-1").exists()


def test_a_single_line_can_be_run_and_arguments_reach_the_script(tmp_path: Path):
    prepare(tmp_path, "--run-dir runs/a", "--run-dir runs/$1")
    assert run(tmp_path, "--line", "1", "small").returncode == 0
    assert [path.name for path in sorted((tmp_path / "runs").iterdir())] == ["small", "small.log"]


@pytest.mark.parametrize(
    "lines, flags, message",
    [
        (["--run-dir a", "--run-dir a"], [], "same --run-dir twice"),
        (["--seed 1"], [], "each with a --run-dir"),
        ([], [], "each with a --run-dir"),
        (["--run-dir a"], ["--workers", "0"], "--workers"),
        (["--run-dir a"], ["--line", "1"], "prints 1 lines"),
    ],
)
def test_bad_input_is_refused_before_anything_runs(
    lines: list[str], flags: list[str], message: str, tmp_path: Path
):
    prepare(tmp_path, *lines)
    result = run(tmp_path, *flags)
    assert result.returncode == 2 and message in result.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["list.sh", "train.py"]


ARGUMENTS = {
    "continuous_seek.sh": ("5", "grid"), "continuous_seek_sac.sh": ("10", "grid"), "bit_flip.sh": ("grid",),
    "hand_reach.sh": ("short", "raw"), "hand_manipulate_block.sh": ("raw",), "drive_seek.sh": ("small", "short"),
    "drive_seek_cnn.sh": ("grid",), "noisy_seek.sh": ("small",),
}  # fmt: skip


@pytest.mark.parametrize("script", SCRIPTS)
def test_every_script_of_the_benchmark_prints_commands_that_the_runner_and_the_algorithms_take(
    script: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.syspath_prepend(str(ROOT / "benchmark"))
    from run import read_commands

    printed = set()
    for arguments in ([], *([argument] for argument in ARGUMENTS.get(script, ()))):
        commands = read_commands(str(ROOT / "benchmark" / script), arguments)
        assert tuple(map(tuple, commands)) not in printed, (
            arguments
        )  # an argument that changes nothing
        printed.add(tuple(map(tuple, commands)))
        for command in commands:
            assert command[0] == "python" and (ROOT / command[1]).exists() and "--seed" in command
        for command in (commands[0], commands[-1]):
            algorithm = importlib.import_module(f"algos.{Path(command[1]).stem}")
            monkeypatch.setattr(sys, "argv", command[1:])
            args = algorithm.parse_args()
            assert (args.env_id, str(args.seed)) == tuple(
                command[command.index(f) + 1] for f in ("--env-id", "--seed")
            )


def test_slurm_gets_one_array_of_what_is_missing(tmp_path: Path):
    """With a stand-in for sbatch that writes down its arguments."""
    prepare(tmp_path, "--run-dir runs/a", "--run-dir runs/b", "--run-dir runs/c")
    assert run(tmp_path, "--line", "1").returncode == 0
    (tmp_path / "sbatch").write_text('#!/bin/sh\nprintf "%s\\n" "$@" > told\n')
    (tmp_path / "sbatch").chmod(0o755)
    environ = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    flags = ["--slurm", "--time", "0:10:00", "--partition", "cpu", "--cpus", "2", "--gpus", "1"]
    result = subprocess.run(
        runner(*flags), cwd=tmp_path, env=environ, capture_output=True, timeout=60
    )
    assert result.returncode == 0
    told = (tmp_path / "told").read_text().splitlines()
    for option in (
        "--array=0,2",
        "--requeue",
        "--time=0:10:00",
        "--partition=cpu",
        "--cpus-per-task=2",
        "--gres=gpu:1",
    ):
        assert option in told
    assert told[-1].endswith("list.sh --line $SLURM_ARRAY_TASK_ID")


@pytest.fixture
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment variables of a shell that uses a fresh SLURM of one node."""
    if os.geteuid() != 0 or not all(
        shutil.which(name) for name in ("slurmctld", "slurmd", "munged")
    ):
        pytest.skip("needs root, and Debian's slurm-wlm and munge")
    folder, script = tmp_path_factory.mktemp("slurm"), str(ROOT / "benchmark" / "slurm_one_node.sh")
    subprocess.run(["bash", script, "start", str(folder)], check=True, timeout=60)
    yield os.environ | {"SLURM_CONF": str(folder / "slurm.conf")}
    subprocess.run(["bash", script, "stop", str(folder)], timeout=60)


def wait_until(condition: Callable[[], bool]) -> None:
    end = time.time() + 60
    while not condition():
        assert time.time() < end
        time.sleep(0.2)


def test_a_real_slurm_runs_the_lines_and_after_a_killed_job_only_what_is_missing(
    tmp_path: Path, slurm: dict[str, str]
):
    prepare(tmp_path, "--run-dir runs/a", "--run-dir runs/b --slow", "--run-dir runs/c")

    def call(*command: str) -> str:
        return subprocess.run(
            command, cwd=tmp_path, env=slurm, text=True, capture_output=True, check=True
        ).stdout

    call(*runner("--slurm", "--time", "0:05:00"))
    wait_until(lambda: (tmp_path / "runs/b/metrics.csv").exists())
    wait_until(lambda: len(call("squeue", "-h", "-r").splitlines()) == 1)  # a and c are through
    call("scancel", "--signal=KILL", "--full", "--name=list")
    wait_until(lambda: not call("squeue", "-h"))
    (tmp_path / "quick").touch()
    assert "2 of 3 runs are complete" in call(*runner("--slurm", "--time", "0:05:00"))
    wait_until(lambda: not call("squeue", "-h"))
    assert run(tmp_path).stdout == "3 of 3 runs are complete.\n"
    assert (tmp_path / "runs/b.interrupted-1").exists() and not (
        tmp_path / "runs/a.interrupted-1"
    ).exists()
