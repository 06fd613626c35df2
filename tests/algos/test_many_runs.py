"""`ddpg_her_reengage_many.py` as a command: folders, what is missing, signals and bad input."""

import fcntl
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import fields
from pathlib import Path

import forked
import pytest
import torch
from conftest import MANY, ROOT, read_metrics, rows_of, run_script
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from algos import ddpg_her_reengage as plain
from algos import ddpg_her_reengage_many as many
from envs import run
from envs.many import grid
from envs.many.on_device import DeviceTask
from envs.run.files import lock

SMALL = "--env-id ContinuousSeek1-v0 --total-timesteps 60 --eval-frequency 20 --eval-episodes 20"
SMALL += " --learning-starts 30 --batch-size 16 --hidden-dims 16 16 --run-dir runs"
COMPILED = SMALL.split()
SMALL = [*COMPILED, "--no-compile"]
ALPHA = ["gradient/alpha", "gradient/ratio"]
GRID = "--seeds 2 --alpha 0 0.1 auto 0.1 --learning-rate 0.01 0.001".split()  # one alpha twice


def metrics_of(folder: Path) -> dict[str, list[dict[str, str]]]:
    """method/seed -> rows of its metrics.csv, without wall_time."""
    metrics = {}
    for path in sorted(folder.glob("*/*/metrics.csv")):
        metrics[str(path.parent.relative_to(folder))] = rows_of(path.parent)
    return metrics


def test_every_run_of_a_grid_writes_a_folder_and_the_same_whatever_the_groups(
    tmp_path: Path,
) -> None:
    written = []
    for number, group_size in enumerate((5, 12)):
        cwd = tmp_path / str(number)
        cwd.mkdir()
        result = forked.run(MANY, *SMALL, *GRID, "--group-size", group_size, cwd=cwd)
        assert result.returncode == 0, result.stderr
        first, *_, last = result.stdout.splitlines()
        assert first == "0 of 12 runs are complete." and last == "12 of 12 runs are complete."
        assert " steps/s each" in result.stdout and not result.stderr
        written.append(metrics_of(cwd / "runs"))
    assert len(written[0]) == 12 and written[0] == written[1]
    assert len({str(rows) for rows in written[0].values()}) > 6  # the runs differ

    folder = tmp_path / "0" / "runs" / "alphaauto_lr0.01" / "2"
    assert sorted(path.name for path in folder.iterdir()) == ["args.json", "metrics.csv"]
    args = json.loads((folder / "args.json").read_text())
    assert (args["seed"], args["alpha"], args["learning_rate"]) == (2, "auto", 0.01)
    assert args["total_timesteps"] == 60 and args["versions"]["torch"] == torch.__version__
    assert args["versions"]["script"] == MANY and args["versions"]["compile"] is False
    text = (ROOT / "algos" / f"{MANY}.py").read_bytes()
    assert args["versions"]["script_sha256"] == hashlib.sha256(text).hexdigest()
    names = {field.name for field in fields(plain.Args)} | {"versions"}
    assert args.keys() <= names
    text = (folder / "metrics.csv").read_bytes().decode()
    header, *rows = text.split("\n")
    assert header == "global_step,success_rate,success_once,episodic_return,wall_time"
    assert "\r" not in text and [row.split(",")[0] for row in rows] == ["0", "20", "40", "60", ""]


def test_with_tensorboard_each_run_has_the_curves_of_its_evaluations_losses_and_alpha(
    tmp_path: Path,
) -> None:
    grid = ["--alpha", "0", "auto", "--seeds", "2", "--tensorboard"]
    assert forked.run(MANY, *SMALL, *grid, cwd=tmp_path).returncode == 0
    for name in ("alpha0_lr0.001/1", "alphaauto_lr0.001/2"):
        folder = tmp_path / "runs" / name
        curves = EventAccumulator(str(folder)).Reload()
        rows = read_metrics(folder)
        for metric in ("success_rate", "success_once", "episodic_return"):
            points = curves.Scalars(f"eval/{metric}")
            assert [point.step for point in points] == [0, 20, 40, 60]
            expected = [float(row[metric]) for row in rows]
            assert [point.value for point in points] == pytest.approx(expected)
        for curve in ("losses/value", "losses/gradient", *ALPHA):
            points = curves.Scalars(curve)
            assert [point.step for point in points] == [40, 60]
        assert all(point.value > 0 for point in curves.Scalars("losses/value"))
        assert {point.value for point in curves.Scalars("gradient/alpha")} == {0.0}  # auto waits

    only_zero = ["--alpha", "0", "--seeds", "1", "--tensorboard", "--run-dir", "zero"]
    assert forked.run(MANY, *SMALL, *only_zero, cwd=tmp_path).returncode == 0
    curves = EventAccumulator(str(tmp_path / "zero" / "alpha0_lr0.001" / "1")).Reload()
    others = [name for name in curves.Tags()["scalars"] if not name.startswith("eval/")]
    losses = ["losses/actor", "losses/value"]
    assert sorted(others) == ["charts/steps_per_second", *ALPHA, *losses]
    for name in ALPHA:
        assert {point.value for point in curves.Scalars(name)} == {0.0}  # no gradient is taken


def test_a_second_call_trains_what_is_missing_and_nothing_else(tmp_path: Path) -> None:
    first = forked.run(MANY, *SMALL, "--seeds", 1, "--alpha", 0.1, cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    (done,) = (tmp_path / "runs").glob("*/*/metrics.csv")
    before = done.stat().st_mtime_ns
    record = done.with_name("args.json")
    killed = tmp_path / "runs" / "alpha0.5_lr0.001" / "1"
    killed.mkdir(parents=True)
    about = record.read_text().replace('"alpha": 0.1', '"alpha": 0.5')
    (killed / "args.json").write_text(about)
    (killed / "metrics.csv").write_text("global_step,success_rate\n0,0.0\n")
    (killed / "events.out.tfevents.1").write_text("of the killed run")
    grid = [*SMALL, "--seeds", 2, "--alpha", 0.1, 0.5]
    second = forked.run(MANY, *grid, cwd=tmp_path)
    assert second.returncode == 0, second.stderr
    assert second.stdout.startswith("1 of 4 runs are complete.\n")
    assert done.stat().st_mtime_ns == before
    metrics = metrics_of(tmp_path / "runs")
    assert {len(rows) for rows in metrics.values()} == {4}
    assert sorted(path.name for path in killed.iterdir()) == ["args.json", "metrics.csv"]

    about = json.loads(record.read_text())
    about["versions"]["script_sha256"] = "of another text"
    record.write_text(json.dumps(about))
    third = forked.run(MANY, *grid, cwd=tmp_path)
    assert third.returncode == 0 and third.stdout.splitlines() == [
        f"{MANY}.py has been edited since training here began: what follows comes from another "
        "program.",
        "4 of 4 runs are complete.",
    ]
    other = forked.run(MANY, *grid, "--gamma", 0.9, cwd=tmp_path)
    assert other.returncode == 2
    assert other.stderr.startswith("--gamma 0.9 does not go with runs/alpha0.1_lr0.001/1, where ")
    assert metrics_of(tmp_path / "runs") == metrics


@pytest.mark.parametrize(
    "name, text, reason",
    [
        ("args.json", '{"alpha": 0.1, "vers', "args.json is damaged."),
        ("args.json", "{}", "args.json is damaged."),
        (  # of a plain run that has no evaluation yet
            "args.json",
            '{"versions": {"script": "ddpg_her_reengage"}}',
            "is of ddpg_her_reengage.py, not of ddpg_her_reengage_many.py.",
        ),
        ("metrics.csv", "step,mine\n", "is not a run's folder: give another --run-dir."),
    ],
)
def test_a_folder_of_something_else_is_refused_and_stays_as_it_is(
    name: str, text: str, reason: str, tmp_path: Path
) -> None:
    folder = tmp_path / "runs" / "alpha0.1_lr0.001" / "1"
    folder.mkdir(parents=True)
    (folder / name).write_text(text)
    result = forked.run(MANY, *SMALL, "--alpha", 0.1, cwd=tmp_path)
    assert result.returncode == 2 and result.stderr.endswith(f"{reason}\n")
    assert [(path.name, path.read_text()) for path in folder.iterdir()] == [(name, text)]


def test_without_a_compiler_it_says_so_once_and_trains_all_the_same(tmp_path: Path) -> None:
    empty = {"CXX": "/nonexistent", "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "cache")}
    result = run_script(MANY, *COMPILED, "--seeds", 2, cwd=tmp_path, **empty)
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("--compile is not possible here") == 1
    assert result.stdout.endswith("2 of 2 runs are complete.\n") and not result.stderr


def test_a_run_that_diverges_is_not_complete_and_its_neighbours_are(tmp_path: Path) -> None:
    flags = "--alpha 0.1 --hidden-dims 8 8 8 8 8 8 --learning-rate 1000 0.001 --seeds 1"
    result = forked.run(MANY, *SMALL, *flags.split(), cwd=tmp_path)
    assert result.returncode == 1, result.stderr
    assert result.stdout.count("the value loss is nan") == 1
    assert result.stdout.endswith("1 of 2 runs are complete.\n")
    lines = {name: len(rows) for name, rows in metrics_of(tmp_path / "runs").items()}
    assert lines["alpha0.1_lr1000.0/1"] < lines["alpha0.1_lr0.001/1"] == 4


def test_a_folder_that_another_process_holds_is_left_alone(tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "alpha0.1_lr0.001" / "1"
    folder.mkdir(parents=True)
    held = lock(folder)
    result = forked.run(MANY, *SMALL, "--seeds", 1, "--alpha", 0.1, cwd=tmp_path)
    os.close(held)
    assert result.returncode == 1
    assert result.stderr.startswith("Another process is training in ")
    assert not any(folder.iterdir())


def test_ctrl_c_loses_no_finished_group(tmp_path: Path) -> None:
    flags = [*SMALL, "--total-timesteps", "600", "--eval-frequency", "200", "--seeds", "40"]
    flags += ["--group-size", "1"]
    command = [sys.executable, str(ROOT / "algos" / f"{MANY}.py"), *flags]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True)
    for line in process.stdout:
        if line.startswith("1 of 40"):
            break
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    rest, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    complete = [rows for rows in metrics_of(tmp_path / "runs").values() if len(rows) == 4]
    assert len(complete) >= 1 and f"Stopped: {len(complete)} of 40 runs are complete." in rest


BAD = {
    "--env-id Nowhere-v0": "Nowhere-v0",
    "--env-id ContinuousSeek2Dense-v0": "its reward is not 0 within a distance",
    "--env-id BitFlip3-v0": "Discrete",
    "--alpha -1": "--alpha -1.0 is out of range: 0 to 1e+09.",
    "--alpha sometimes": "sometimes",
    "--learning-rate nan": "--learning-rate nan is out of range",
    "--seeds 0": "--seeds 0 is out of range",
    "--total-timesteps 65": "--total-timesteps and --eval-frequency must be multiples of 10",
    "--eval-frequency 7": "--eval-frequency must be multiples of 10",
    "--train-frequency 3": "--train-frequency must divide",
    "--learning-starts 5": "No episode is stored at the first update",
    "--gradient-steps 3 --target-network-frequency 2": "must divide --gradient-steps",
    "--group-size 1000000": "runs at once fit into the memory",
    "--hidden-dims 16 0": "--hidden-dims 0 is out of range",
    "--raw-goal-gradient": "has no meaning without --normalize",
    "--learning-starts 70": "Nothing would be learned",
}


@pytest.mark.parametrize("flags", BAD)
def test_bad_input_ends_with_one_sentence_before_anything_is_written(
    flags: str, tmp_path: Path
) -> None:
    result = forked.run(MANY, *SMALL, *flags.split(), cwd=tmp_path)
    assert result.returncode == 2
    assert BAD[flags] in result.stderr and "Traceback" not in result.stderr
    assert list(tmp_path.iterdir()) == [tmp_path / ".output"]


def test_a_folder_in_which_another_process_trains_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "runs"
    folder.mkdir()
    descriptor = os.open(folder, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    result = forked.run(MANY, *SMALL, cwd=tmp_path)
    os.close(descriptor)
    assert result.returncode == 2
    assert result.stderr == "Another process is training in runs.\n"
    assert not any(folder.iterdir())


def test_groups_stay_in_the_cache_and_never_exceed_the_memory() -> None:
    cpu = torch.device("cpu")
    task = DeviceTask(None, 40, 20, 20, 10, 0.1, is_seek=True)
    small = many.run_bytes(many.Args(batch_size=64), task)
    assert grid.choose_group_size(7, small, 4 * 64 * 256, cpu) == 7
    assert grid.choose_group_size(0, small, 4 * 64 * 256, cpu) == 30
    assert grid.choose_group_size(0, small, 4 * 128 * 256, cpu) == 15
    huge = many.run_bytes(many.Args(total_timesteps=10**9, buffer_size=10**9), task)
    with pytest.raises(run.BadInput, match="^0 runs at once fit into the memory, 5.6e"):
        grid.choose_group_size(0, huge, 4 * 64 * 256, cpu)


def test_a_simulated_environment_trains_with_the_papers_recipe(tmp_path: Path) -> None:
    flags = "--env-id HandReach-v3 --num-envs 2 --total-timesteps 200 --eval-frequency 100"
    flags += " --eval-episodes 3 --seeds 2 --alpha 0 0.1 --batch-size 32 --hidden-dims 16 16"
    flags += " --gradient-steps 4 --target-network-frequency 4 --run-dir runs --no-compile"
    result = forked.run(MANY, *flags.split(), cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    metrics = metrics_of(tmp_path / "runs")
    assert len(metrics) == 4
    for name, rows in metrics.items():
        assert [row["global_step"] for row in rows] == ["0", "100", "200"]
        args = json.loads((tmp_path / "runs" / name / "args.json").read_text())
        assert args["normalize"] and args["clip_target"] and args["train_frequency"] == 50
