"""The runner of benchmark/: one process a folder, whatever is killed; complete means complete."""

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

from envs.run import flags as launch

TOOLS = ROOT / "benchmark" / "tools"
RUNNER = TOOLS / "run.py"
SLURM = TOOLS / "slurm_one_node.sh"
TRAINING = Path(__file__).parent / "training.py"
SCRIPTS = sorted((ROOT / "benchmark").glob("*/*.sh"))
QUEUE = TOOLS / "gpu_queue.sh"
for tool in (SLURM, QUEUE):  # not of experiments/
    SCRIPTS.remove(tool)


def runner(*flags: str) -> list[str]:
    return [sys.executable, str(RUNNER), "list.sh", *flags]


def prepare(folder: Path, *lines: str, quick: bool = True) -> None:
    """A list of training commands with these flags, whose steps take no time if they are quick."""
    shutil.copy(TRAINING, folder / "train.py")
    lines = tuple(f'echo "python train.py {line}"\n' for line in lines)
    (folder / "list.sh").write_text("".join(lines))
    if quick:
        (folder / "quick").touch()


def run(folder: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(runner(*flags), cwd=folder, text=True, capture_output=True, timeout=60)


def start(folder: Path, *flags: str) -> subprocess.Popen[str]:
    pipe = subprocess.PIPE
    return subprocess.Popen(
        runner(*flags), cwd=folder, text=True, stdout=pipe, stderr=pipe, start_new_session=True
    )


def args_of(run_dir: Path) -> dict:
    return json.loads((run_dir / "args.json").read_text())


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


def test_every_line_is_run_with_one_thread_and_an_absolute_folder_and_its_output_kept(
    tmp_path: Path,
):
    prepare(
        tmp_path, "--run-dir runs/a", "--run-dir runs/b --num-threads 3", "--run-dir 'runs/c d'"
    )
    result = run(tmp_path, "--workers", "2")
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.splitlines()[0] == "0 of 3 runs are complete."
    assert "[3/3] done" in result.stdout
    log = f"training {tmp_path}/runs/a from step 0 threads 1\n"
    assert (tmp_path / "runs/a.log").read_text() == log
    assert "threads 3" in (tmp_path / "runs/b.log").read_text()
    assert args_of(tmp_path / "runs/c d")["run_dir"] == f"{tmp_path}/runs/c d"


def test_complete_runs_are_skipped(tmp_path: Path):
    prepare(tmp_path, "--run-dir runs/a")
    run(tmp_path)
    before = (tmp_path / "runs/a/metrics.csv").stat().st_mtime_ns
    assert run(tmp_path).stdout == "1 of 1 runs are complete.\n"
    assert (tmp_path / "runs/a/metrics.csv").stat().st_mtime_ns == before


GRID = "python {root}/algos/ddpg_her_reengage_many.py --env-id ContinuousSeek1-v0 --seeds 3"
GRID += " --total-timesteps 60 --eval-frequency 20 --learning-starts 30 --batch-size 16"
GRID += " --hidden-dims 8 8 --group-size 1 --run-dir runs/grid  # 5 minutes"


def prepare_grid(folder: Path) -> None:
    line = GRID.format(root=ROOT)
    (folder / "list.sh").write_text(f'echo "{line}"\n')


def test_many_runs_at_once_are_called_and_train_what_is_missing(tmp_path: Path):
    prepare_grid(tmp_path)
    result = run(tmp_path)
    assert (result.returncode, result.stderr) == (0, "")
    assert "[1/1] done runs/grid" in result.stdout
    files = sorted((tmp_path / "runs/grid").glob("*/*/metrics.csv"))
    assert len(files) == 3
    files[0].unlink()
    before = [path.stat().st_mtime_ns for path in files[1:]]
    assert run(tmp_path).returncode == 0
    assert files[0].exists() and [path.stat().st_mtime_ns for path in files[1:]] == before
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == ["grid", "grid.log"]


def test_many_runs_at_once_are_told_the_minutes_and_what_does_not_fit_is_left(tmp_path: Path):
    prepare_grid(tmp_path)
    result = run(tmp_path, "--minutes", "1")
    assert result.returncode == 0 and "[1/1] done" in result.stdout
    (tmp_path / "list.sh").write_text((tmp_path / "list.sh").read_text().replace("grid", "other"))
    script = (tmp_path / "list.sh").read_text().replace("--seeds 3", "--seeds 3 --minutes 0.0001")
    (tmp_path / "list.sh").write_text(script)  # so little that one group takes longer
    result = run(tmp_path)
    assert (result.returncode, result.stderr) == (1, "")
    assert result.stdout.endswith("left: runs/other\n") and "FAILED" not in result.stdout
    assert len(list((tmp_path / "runs/other").glob("*/*/metrics.csv"))) == 1


def cut_off(run_dir: Path, steps: int, checkpoint: str | None) -> None:
    """Leaves a run as an interruption does: half a line, and a checkpoint with this content."""
    lines = (run_dir / "metrics.csv").read_text().splitlines(keepends=True)
    (run_dir / "metrics.csv").write_text("".join(lines[: steps + 2]))
    (run_dir / "checkpoint.pt").unlink(missing_ok=True)
    if checkpoint is not None:
        (run_dir / "checkpoint.pt").write_text(checkpoint)


def test_an_interrupted_run_is_resumed_from_its_checkpoint(tmp_path: Path):
    prepare(tmp_path, "--run-dir runs/a", "--run-dir runs/b")
    run(tmp_path)
    cut_off(tmp_path / "runs/b", 7, "7")
    result = run(tmp_path)
    assert result.returncode == 0 and "1 of 2 runs are complete" in result.stdout
    assert steps_of(tmp_path / "runs/b") == list(range(21))
    assert "from step 8" in (tmp_path / "runs/b.log").read_text()


@pytest.mark.parametrize(
    "checkpoint, reason", [(None, "has no checkpoint"), ("?", "its checkpoint was refused")]
)
def test_a_run_that_cannot_be_resumed_is_put_aside_and_repeated(
    checkpoint: str | None, reason: str, tmp_path: Path
):
    prepare(tmp_path, "--run-dir runs/a")
    run(tmp_path)
    for n in (1, 2):
        cut_off(tmp_path / "runs/a", 7, checkpoint)
        result = run(tmp_path)
        assert result.returncode == 0 and reason in result.stdout
        assert f"runs/a is put aside as runs/a.interrupted-{n}" in result.stdout
        assert steps_of(tmp_path / f"runs/a.interrupted-{n}") == list(range(8))
        assert steps_of(tmp_path / "runs/a") == list(range(21))


def test_a_half_line_of_metrics_does_not_complete_a_run(tmp_path: Path):
    prepare(tmp_path, "--run-dir runs/a")
    run(tmp_path)
    text = (tmp_path / "runs/a/metrics.csv").read_text()
    (tmp_path / "runs/a/metrics.csv").write_text(text.rstrip("\n"))
    assert run(tmp_path).stdout.startswith("0 of 1 runs are complete.")


@pytest.mark.parametrize(
    "flags, sentence",
    [
        ("--alpha 0.2", "--alpha was 0.1, the command says 0.2"),
        ("--normalize", "--normalize was false, the command says"),
        ("--hidden-dims 64 32", "--hidden-dims was [64, 64], the command says 64 32"),
        ("--hidden-dims 64", "--hidden-dims was [64, 64], the command says 64"),
        ("--total-timesteps 10", "--total-timesteps was 20, the command says 10"),
        ("--env-id FetchReach-v3", '--env-id was "HandReach-v3", the command says FetchReach-v3'),
    ],
)
def test_a_run_with_another_setting_is_put_aside_with_the_settings_name(
    flags: str, sentence: str, tmp_path: Path
):
    prepare(tmp_path, "--run-dir runs/a")
    run(tmp_path)
    prepare(tmp_path, f"--run-dir runs/a {flags}")
    result = run(tmp_path)
    assert result.returncode == 0
    lines = result.stdout.splitlines()
    assert lines[0] == "0 of 1 runs are complete."
    assert lines[1].startswith("runs/a is put aside as runs/a.interrupted-1: ")
    assert sentence in lines[1]
    assert run(tmp_path).stdout == "1 of 1 runs are complete.\n"


@pytest.mark.parametrize(
    "flags",
    [
        "--alpha 1e-1",
        "--alpha=.10",
        "--no-normalize --hidden-dims 64 64",
        "--env-id HandReach-v2",
        "--num-threads 7 --cuda",
        "--total-timesteps 20",
    ],
)
def test_the_same_settings_in_other_words_count_as_complete(flags: str, tmp_path: Path):
    prepare(tmp_path, "--run-dir runs/a")
    run(tmp_path)
    prepare(tmp_path, f"--run-dir runs/a {flags}")
    assert run(tmp_path).stdout == "1 of 1 runs are complete.\n"


def test_more_steps_of_a_run_with_a_checkpoint_go_on_and_without_one_begin_anew(tmp_path: Path):
    prepare(tmp_path, "--run-dir runs/a", "--run-dir runs/b")
    run(tmp_path)
    (tmp_path / "runs/b/checkpoint.pt").unlink()
    more = "--total-timesteps 30"
    prepare(tmp_path, f"--run-dir runs/a {more}", f"--run-dir runs/b {more}")
    result = run(tmp_path)
    assert "runs/b.interrupted-1: --total-timesteps was 20, the command says 30" in result.stdout
    assert "from step 21" in (tmp_path / "runs/a.log").read_text()
    for name in "ab":
        assert steps_of(tmp_path / "runs" / name) == list(range(31))


def test_a_failed_run_does_not_stop_the_others_and_is_listed_with_its_log(tmp_path: Path):
    prepare(tmp_path, "--run-dir runs/a --fault crash", "--run-dir runs/b")
    result = run(tmp_path, "--workers", "1")
    assert result.returncode == 1
    assert "FAILED runs/a" in result.stdout and "done runs/b" in result.stdout
    expected = "failed: python train.py --run-dir runs/a --fault crash\n  log: runs/a.log"
    assert expected in result.stdout
    assert "no more memory" in (tmp_path / "runs/a.log").read_text()


def process_of(run_dir: Path) -> int:
    """The process that trains in the folder, by its command line (Linux)."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if str(run_dir).encode() in words and b"train.py" in words:
            return int(folder.name)
    raise AssertionError(f"nobody trains in {run_dir}")


on_linux = pytest.mark.skipif(sys.platform != "linux", reason="needs Linux' /proc and prctl")


@on_linux
def test_a_child_that_outlives_its_killed_runner_is_waited_for_and_never_joined(tmp_path: Path):
    prepare(
        tmp_path, "--run-dir runs/a --fault deaf --total-timesteps 60", "--run-dir runs/b",
        quick=False,
    )  # fmt: skip
    first = start(tmp_path, "--workers", "1")
    wait_until(lambda: has_begun(tmp_path / "runs/a"))
    child = process_of(tmp_path / "runs/a")
    first.kill()
    first.wait()
    second = start(tmp_path, "--workers", "2")
    os.kill(child, 0)  # it lives
    output, errors = second.communicate(timeout=60)
    assert (second.returncode, errors) == (0, "")
    assert output.count("runs/a is trained by another process already: waiting for it.") == 1
    assert "[2/2] done runs/a" in output
    assert steps_of(tmp_path / "runs/a") == list(range(61))
    assert sorted(os.listdir(tmp_path / "runs")) == ["a", "a.log", "b", "b.log"]


@on_linux
def test_children_of_a_killed_runner_write_a_checkpoint_and_are_resumed(tmp_path: Path):
    prepare(tmp_path, "--run-dir runs/a --total-timesteps 1000", quick=False)
    first = start(tmp_path)
    wait_until(lambda: has_begun(tmp_path / "runs/a"))
    first.kill()
    first.wait()
    log = tmp_path / "runs/a.log"
    wait_until(lambda: "stopped at step" in log.read_text())
    (tmp_path / "quick").touch()
    assert run(tmp_path).returncode == 0
    assert steps_of(tmp_path / "runs/a") == list(range(1001))
    assert not (tmp_path / "runs/a.interrupted-1").exists()


def test_two_runners_at_once_never_train_one_run_twice(tmp_path: Path):
    prepare(tmp_path, *(f"--run-dir runs/{name}" for name in "abcd"), quick=False)
    runners = [start(tmp_path, "--workers", "2") for _ in range(2)]
    for process in runners:
        output, errors = process.communicate(timeout=60)
        assert (process.returncode, errors) == (0, "")
        assert "FAILED" not in output and "[4/4] done" in output
    for name in "abcd":
        assert steps_of(tmp_path / "runs" / name) == list(range(21))
        assert (tmp_path / f"runs/{name}.log").read_text().count("training") == 1
    assert not list((tmp_path / "runs").glob("*interrupted*"))


def test_a_run_that_was_started_by_hand_is_waited_for(tmp_path: Path):
    prepare(tmp_path, "--run-dir runs/a", quick=False)
    (tmp_path / "runs").mkdir()
    command = [sys.executable, "train.py", "--run-dir", "runs/a"]
    by_hand = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL)
    wait_until(lambda: has_begun(tmp_path / "runs/a"))
    result = run(tmp_path)
    assert by_hand.wait() == 0 and result.returncode == 0
    assert "waiting for it" in result.stdout
    assert steps_of(tmp_path / "runs/a") == list(range(21))


@pytest.mark.parametrize("number, code", [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_lets_the_runs_write_checkpoints_and_lists_what_is_left(
    number: int, code: int, tmp_path: Path
):
    long = "--total-timesteps 1000"
    lines = [f"--run-dir runs/{name} {long}" for name in "bcd"]
    prepare(tmp_path, "--run-dir runs/a --total-timesteps 1", *lines, quick=False)
    process = start(tmp_path, "--workers", "2")
    wait_until(lambda: has_begun(tmp_path / "runs/b") and has_begun(tmp_path / "runs/c"))
    if number == signal.SIGINT:
        os.killpg(process.pid, number)  # as Ctrl-C in a terminal
    else:
        process.send_signal(number)
    output, errors = process.communicate(timeout=20)
    assert (process.returncode, errors) == (code, "")
    assert "left: runs/b, step" in output and "left: runs/c, step" in output
    assert "left: 1 not yet begun" in output and "FAILED" not in output
    for name in "bc":
        assert "stopped at step" in (tmp_path / f"runs/{name}.log").read_text()
    assert not (tmp_path / "runs/d").exists()

    (tmp_path / "quick").touch()
    result = run(tmp_path)
    assert result.returncode == 0 and "1 of 4 runs are complete" in result.stdout
    for name in "bcd":
        assert steps_of(tmp_path / "runs" / name) == list(range(1001))


def test_a_second_signal_ends_the_runner_at_once(tmp_path: Path):
    prepare(tmp_path, "--run-dir runs/a --fault deaf --total-timesteps 100", quick=False)
    process = start(tmp_path)
    wait_until(lambda: has_begun(tmp_path / "runs/a"))
    process.send_signal(signal.SIGTERM)
    assert "one more signal" in process.stdout.readline() + process.stdout.readline()
    assert process.poll() is None  # it waits for the deaf child
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=5) == 143
    (tmp_path / "quick").touch()  # so that the deaf child ends


def test_after_its_minutes_the_runner_starts_nothing_and_the_runs_write_checkpoints(
    tmp_path: Path,
):
    lines = [f"--run-dir runs/{name} --total-timesteps 1000" for name in "ab"]
    prepare(tmp_path, *lines, quick=False)
    result = run(tmp_path, "--workers", "1", "--minutes", "0.02")
    assert (result.returncode, result.stderr) == (1, "")
    assert "0.02 minutes are over" in result.stdout
    assert "left: runs/a, step" in result.stdout
    assert "left: 1 not yet begun" in result.stdout
    assert "stopped at step" in (tmp_path / "runs/a.log").read_text()


@on_linux
def test_a_run_whose_process_is_killed_goes_on_from_its_checkpoint(tmp_path: Path):
    prepare(tmp_path, "--run-dir runs/a --total-timesteps 40", quick=False)
    process = start(tmp_path)
    wait_until(lambda: has_begun(tmp_path / "runs/a"))
    os.kill(process_of(tmp_path / "runs/a"), signal.SIGKILL)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0 and "runs/a was killed after step" in output
    assert "training" in (tmp_path / "runs/a.log").read_text().split("from step 0", 1)[1]


@on_linux
def test_a_run_that_is_killed_before_any_checkpoint_has_failed(tmp_path: Path):
    prepare(tmp_path, "--run-dir runs/a --total-timesteps 400 --fault forgetful", quick=False)
    process = start(tmp_path)
    wait_until((tmp_path / "runs/a/metrics.csv").exists)
    os.kill(process_of(tmp_path / "runs/a"), signal.SIGKILL)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 1 and "FAILED runs/a" in output


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


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder on a disk of its own."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("needs a user who may mount a tmpfs")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_is_one_sentence_and_the_runs_are_complete_once_there_is_room(
    small_disk: Path,
):
    prepare(small_disk, "--run-dir runs/a", "--run-dir runs/b")
    disk = os.statvfs(small_disk)
    full = f"remount,nr_inodes={disk.f_files - disk.f_ffree}"
    subprocess.run(["mount", "-o", full, str(small_disk)], check=True)
    result = run(small_disk)
    assert result.returncode == 1 and "left: 2 not yet begun" in result.stdout
    assert result.stderr == f"{small_disk}/runs: No space left on device.\n"
    subprocess.run(["mount", "-o", "remount,nr_inodes=100", str(small_disk)], check=True)
    assert run(small_disk).returncode == 0


def test_a_single_line_can_be_run_and_arguments_reach_the_script(tmp_path: Path):
    prepare(tmp_path, "--run-dir runs/a", "--run-dir runs/$1")
    assert run(tmp_path, "--line", "1", "small").returncode == 0
    assert [path.name for path in sorted((tmp_path / "runs").iterdir())] == ["small", "small.log"]


@pytest.mark.parametrize(
    "lines, flags, message",
    [
        (["--run-dir a", "--run-dir a"], [], "same --run-dir twice"),
        (["--run-dir a", "--run-dir ./a"], [], "same --run-dir twice"),
        (["--seed 1"], [], "each with a --run-dir"),
        ([], [], "each with a --run-dir"),
        (["--run-dir 'a"], [], "a line that is no command"),
        (["--run-dir a"], ["--workers", "0"], "--workers"),
        (["--run-dir a"], ["--minutes", "0"], "--minutes"),
        (["--run-dir a"], ["--line", "1"], "prints 1 lines"),
        (["--run-dir list.sh"], [], "list.sh is a file, not the folder of a run."),
        (["--run-dir list.sh/a"], [], "list.sh is a file, so list.sh/a cannot be made."),
        (["--run-dir folder"], [], "folder.log is a folder"),
    ],
)
def test_bad_input_is_one_sentence_before_anything_runs(
    lines: list[str], flags: list[str], message: str, tmp_path: Path
):
    prepare(tmp_path, *lines)
    (tmp_path / "folder.log").mkdir()
    result = run(tmp_path, *flags)
    assert result.returncode == 2 and message in result.stderr
    assert result.stderr.count("\n") == 1 and result.stdout == ""
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["folder.log", "list.sh", "quick", "train.py"]


@pytest.mark.parametrize(
    "line, message",
    [
        ("fly --run-dir a", "There is no program fly."),
        ("python gone.py --run-dir a", "There is no file gone.py."),
    ],
)
def test_a_missing_program_is_one_sentence(line: str, message: str, tmp_path: Path):
    (tmp_path / "list.sh").write_text(f"echo {line}\n")
    result = run(tmp_path)
    assert (result.returncode, result.stderr) == (2, message + "\n")


@pytest.mark.parametrize("script", [".", "gone.sh"])
def test_a_list_that_cannot_be_read_is_one_sentence(script: str, tmp_path: Path):
    command = [sys.executable, str(RUNNER), script]
    result = subprocess.run(command, cwd=tmp_path, text=True, capture_output=True)
    assert result.returncode == 2 and result.stderr.startswith(f"{script} failed: ")
    assert result.stderr.count("\n") == 1


def test_slurm_without_sbatch_is_one_sentence(tmp_path: Path):
    prepare(tmp_path, "--run-dir a")
    environ = os.environ | {"PATH": str(tmp_path)}
    result = subprocess.run(
        runner("--slurm"), cwd=tmp_path, env=environ, text=True, capture_output=True
    )
    assert result.returncode == 2
    assert result.stderr == "--slurm needs SLURM's sbatch, which this machine does not have.\n"


def test_a_flag_that_is_switched_off_means_what_args_json_records(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.syspath_prepend(str(TOOLS))
    run = importlib.import_module("run")
    command = ["python", "algos/ddpg_her.py", "--no-normalize", "--clip-target", "--run-dir", "a"]
    settings = run.settings_of(run.Run(" ".join(command), command, "a", Path("a")))
    assert settings["normalize"] == ["False"] and settings["clip_target"] == []
    for recorded in (False, True):
        assert run.is_same("normalize", settings["normalize"], recorded) is not recorded
        assert run.is_same("clip_target", settings["clip_target"], recorded) is recorded


WORDS = {
    "auto_alpha.sh": ("ratios", "long"),
    "continuous_seek.sh": ("5", "10", "20", "grid"),
    "continuous_seek_sac.sh": ("5", "10", "20", "grid"),
    "bit_flip.sh": ("grid", "both"),
    "hand_reach.sh": ("short", "raw"),
    "hand_manipulate_block.sh": ("raw",),
    "drive_seek.sh": ("small", "short"),
    "drive_seek_cnn.sh": ("grid",),
    "noisy_seek.sh": ("small",),
}  # what each script takes besides nothing


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_every_script_of_the_benchmark_prints_commands_that_the_runner_and_the_algorithms_take(
    script: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.syspath_prepend(str(TOOLS))
    from run import program_of, read_runs

    printed = set()
    for words in ([], *([word] for word in WORDS.get(script.name, ()))):
        runs = read_runs(str(script), words)
        commands = tuple(tuple(run.command) for run in runs)
        assert commands not in printed, words  # a word that changes nothing
        printed.add(commands)
        for run_ in runs:
            python, algorithm = program_of(run_)
            assert python == "python" and (ROOT / algorithm).exists() and "--seed" in run_.command
        for command in (commands[0], commands[-1]):
            algorithm = importlib.import_module(f"algos.{Path(command[1]).stem}")
            monkeypatch.setattr(sys, "argv", list(command[1:]))
            settings = algorithm.PAPER_SETTINGS | getattr(algorithm, "OTHER_SETTINGS", {})
            doc = algorithm.__doc__
            args = launch.parse_args(algorithm.Args, settings, algorithm.UNTUNED, doc)
            assert args.env_id == command[command.index("--env-id") + 1]
            assert str(args.seed) == command[command.index("--seed") + 1]


@pytest.mark.parametrize("script", [*SCRIPTS, SLURM, QUEUE], ids=lambda script: script.name)
def test_every_script_is_executable_and_refuses_words_that_it_does_not_know(script: Path):
    known = WORDS.get(script.name, ())
    assert os.access(script, os.X_OK)
    for words in (["smal"], [*known[:1], "more", "words"]):
        result = subprocess.run([str(script), *words], text=True, capture_output=True)
        assert (result.returncode, result.stdout) == (2, "")
        assert result.stderr.count("\n") == 1
        for word in known:
            assert word in result.stderr


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
        "--open-mode=append",
        "--signal=B:USR1@120",
        "--time=0:10:00",
        "--partition=cpu",
        "--cpus-per-task=2",
        "--gres=gpu:1",
    ):
        assert option in told
    assert told[-1].endswith("list.sh --line $SLURM_ARRAY_TASK_ID")


def test_a_job_that_is_warned_of_its_time_limit_writes_a_checkpoint_and_requeues_itself(
    tmp_path: Path,
):
    """With a stand-in for scontrol that writes down its arguments."""
    prepare(tmp_path, "--run-dir runs/a --total-timesteps 1000", quick=False)
    (tmp_path / "scontrol").write_text('#!/bin/sh\necho "$@" > told\n')
    (tmp_path / "scontrol").chmod(0o755)
    job = {"SLURM_ARRAY_JOB_ID": "17", "SLURM_ARRAY_TASK_ID": "0"}
    environ = os.environ | job | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    process = subprocess.Popen(
        runner("--line", "0"), cwd=tmp_path, env=environ, stdout=subprocess.DEVNULL
    )
    wait_until(lambda: has_begun(tmp_path / "runs/a"))
    process.send_signal(signal.SIGUSR1)
    assert process.wait(timeout=20) == 143
    assert "stopped at step" in (tmp_path / "runs/a.log").read_text()
    assert (tmp_path / "told").read_text() == "requeue 17_0\n"


@pytest.fixture
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment variables of a shell that uses a fresh SLURM of one node."""
    if os.geteuid() != 0 or not all(
        shutil.which(name) for name in ("slurmctld", "slurmd", "munged")
    ):
        pytest.skip("needs root, and Debian's slurm-wlm and munge")
    folder = tmp_path_factory.mktemp("slurm")
    subprocess.run([str(SLURM), "start", str(folder)], check=True, timeout=60)
    yield os.environ | {"SLURM_CONF": str(folder / "slurm.conf")}
    subprocess.run([str(SLURM), "stop", str(folder)], timeout=60)


def test_a_real_slurm_runs_the_lines_and_a_requeued_job_resumes(
    tmp_path: Path, slurm: dict[str, str]
):
    lines = ["--run-dir runs/a --total-timesteps 1", "--run-dir runs/b --total-timesteps 1000"]
    prepare(tmp_path, *lines, quick=False)

    def call(*command: str) -> str:
        return subprocess.run(
            command, cwd=tmp_path, env=slurm, text=True, capture_output=True, check=True
        ).stdout

    call(*runner("--slurm", "--time", "0:10:00"))
    wait_until(lambda: has_begun(tmp_path / "runs/b"))
    wait_until(lambda: len(call("squeue", "-h", "-r").splitlines()) == 1)  # a is through
    job = call("squeue", "-h", "-r", "-o", "%i").strip()
    call("scontrol", "requeue", job)
    log = tmp_path / "runs/b.log"
    wait_until(lambda: "stopped at step" in log.read_text())
    (tmp_path / "quick").touch()
    wait_until(lambda: call("squeue", "-h", "-o", "%T").strip() == "PENDING")
    call("scontrol", "update", f"JobId={job}", "StartTime=now")  # else it waits two minutes
    wait_until(lambda: not call("squeue", "-h"))
    assert run(tmp_path).stdout == "2 of 2 runs are complete.\n"
    assert steps_of(tmp_path / "runs/b") == list(range(1001))
    assert not list((tmp_path / "runs").glob("*interrupted*"))
