"""Learning curves: the numbers are those of the files, and bad input is refused in one sentence."""

import contextlib
import io
import json
import os
import re
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import ROOT

sys.path.insert(0, str(ROOT / "benchmark" / "tools"))
from plot import main, middle_and_band


def plot(folder: Path, *flags: str, picture: str = "curve.svg") -> SimpleNamespace:
    """What `cd folder; plot.py picture flags` prints and returns, without a new Python."""
    output, errors = io.StringIO(), io.StringIO()
    code = 0
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(sys, "argv", ["plot.py", picture, *flags])
        with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
            try:
                main()
            except SystemExit as error:
                code = error.code
    return SimpleNamespace(returncode=code, stdout=output.getvalue(), stderr=errors.getvalue())


def write(path: Path, curve: list[float], every: int = 1000) -> None:
    lines = [f"{every * i},{value},{value / 2}" for i, value in enumerate(curve)]
    header = "global_step,success_once,episodic_return"
    path.write_text("\n".join([header, *lines]) + "\n")


def write_runs(folder: Path, *curves: list[float]) -> None:
    for seed, curve in enumerate(curves):
        write(folder / f"run_{seed}.csv", curve)


def write_run(folder: Path, curve: list[float], **settings: object) -> None:
    folder.mkdir(parents=True)
    write(folder / "metrics.csv", curve)
    (folder / "args.json").write_text(json.dumps(settings | {"run_dir": str(folder)}))


@pytest.mark.parametrize("flags", [[], ["--band", "sd"], ["--band", "iqm"]])
@pytest.mark.parametrize("seeds", [1, 4])
def test_a_plot_prints_final_value_area_and_the_first_steps_at_half_and_nine_tenths(
    flags: list[str], seeds: int, tmp_path: Path
):
    write_runs(tmp_path, *[[0.0, 0.4, 0.6, 0.8, 1.0]] * seeds)
    result = plot(tmp_path, "ours=run_*.csv", *flags)
    assert result.returncode == 0, result.stderr
    reached = "at 0.5 from step 2,000, at 0.9 from step 4,000"
    assert result.stdout == f"ours: seeds {seeds}, final 1.000, area 0.560, {reached}\n"
    assert (tmp_path / "curve.svg").read_text().startswith("<?xml")


def test_shorter_runs_cut_the_others_and_a_level_may_never_be_reached(tmp_path: Path):
    write_runs(tmp_path, [0.0, 0.2, 0.4], [0.0, 0.4])
    lines = plot(tmp_path, "ours=run_*.csv").stdout.splitlines()
    assert lines[0] == "ours: cut at step 1,000, where run_1.csv ends"
    assert lines[1].endswith("area 0.150, at 0.5 never, at 0.9 never")


@pytest.mark.parametrize("label", ["a=b=c", r"$\x$", "100 %"])
def test_a_label_may_hold_any_character(label: str, tmp_path: Path):
    write_runs(tmp_path, [0.0, 0.2])
    result = plot(tmp_path, f"{label}=run_*.csv", "--title", label)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.startswith(f"{label}: seeds 1")


def test_runs_without_labels_are_grouped_by_the_settings_that_differ(tmp_path: Path):
    shared = {"env_id": "BitFlip8-v0", "normalize": False}
    for seed in (1, 2):
        write_run(tmp_path / f"runs/a{seed}", [0.0, 0.2], **shared, seed=seed)
        write_run(tmp_path / f"runs/b{seed}", [0.0, 0.2], **shared, seed=seed, alpha=0.1, c_low=-1)
        write_run(tmp_path / f"runs/c{seed}", [0.0, 0.2], **shared, seed=seed, alpha=0.2, c_low=-1)
    (tmp_path / "runs/a1.log").touch()
    runs = [str(path.relative_to(tmp_path)) for path in (tmp_path / "runs").iterdir()]
    result = plot(tmp_path, *runs)
    assert [line.split(",")[0] for line in result.stdout.splitlines()] == [
        "no alpha: seeds 2",
        "alpha 0.1: seeds 2",
        "alpha 0.2: seeds 2",
    ]
    assert plot(tmp_path, "runs/b?").stdout.startswith("BitFlip8-v0: seeds 2")


def test_the_band_is_students_interval_of_the_mean_and_the_picture_names_it_and_the_seeds(
    tmp_path: Path,
):
    values = np.array([[0.1], [0.2], [0.6]])
    half = 4.302653 * 0.264575 / np.sqrt(3)  # t(0.975, 2), standard deviation, seeds
    found = np.concatenate(middle_and_band(values, "ci"))
    assert found == pytest.approx([0.3, 0.3 - half, 0.3 + half])
    assert middle_and_band(values, "sd")[2] == pytest.approx(0.564575)
    assert middle_and_band(values[:1], "ci") == middle_and_band(values[:1], "sd") == (0.1,) * 3
    for seeds, words in (
        (1, ["ours (1 seed)"]),
        (2, ["ours (2 seeds)", "thin lines: each of two seeds"]),
        (3, ["ours (3 seeds)", "mean and its 95 % confidence interval"]),
    ):
        write_runs(tmp_path, *[[0.0, 0.4]] * seeds)
        assert plot(tmp_path, "ours=run_*.csv").returncode == 0
        written = re.findall("<!-- (.*) -->", (tmp_path / "curve.svg").read_text())
        assert [text for text in written if "seed" in text or "mean" in text] == words[::-1]


def test_a_fork_is_another_method_and_an_edited_script_is_reported(tmp_path: Path):
    for name, script, seed in (("a", "ddpg_her", 1), ("b", "my_ddpg", 1), ("c", "my_ddpg", 2)):
        versions = {"script": script, "script_sha256": name, "numpy": name}
        write_run(tmp_path / f"runs/{name}", [0.0, 0.2], seed=seed, gamma=0.9, versions=versions)
    lines = plot(tmp_path, "runs/*").stdout.splitlines()
    assert lines[0] == "my_ddpg: the script was edited between its runs (2 versions)"
    assert [line.split(",")[0] for line in lines[1:]] == ["ddpg_her: seeds 1", "my_ddpg: seeds 2"]
    lines = plot(tmp_path, "x=runs/[ac]").stdout.splitlines()
    assert lines[0] == "x: runs of different scripts, ddpg_her, my_ddpg"


def test_one_seed_is_never_counted_as_two(tmp_path: Path):
    for name in "ab":
        write_run(tmp_path / f"runs/{name}", [0.0, 0.2], seed=3, env_id="BitFlip8-v0")
    result = plot(tmp_path, "runs/*")
    sentence = "runs/a/metrics.csv and runs/b/metrics.csv are both seed 3 of BitFlip8-v0.\n"
    assert (result.returncode, result.stderr) == (2, sentence)


def test_a_plain_csv_of_another_program_stands_beside_our_runs(tmp_path: Path):
    write_run(tmp_path / "runs/a", [0.0, 0.2], seed=1, env_id="BitFlip8-v0")
    for seed, last in ((1, 0.5), (2, 0.7)):
        text = f"step,success_once\n0,0.0\n700,{last}\n"
        (tmp_path / f"sb3_ddpg_seed{seed}.csv").write_text(text)
    result = plot(tmp_path, "sb3_ddpg_seed*.csv", "runs/*")
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.splitlines() == [
        "sb3_ddpg: seeds 2, final 0.600, area 0.300, at 0.5 from step 700, at 0.9 never",
        "BitFlip8-v0: seeds 1, final 0.200, area 0.100, at 0.5 never, at 0.9 never",
    ]


def test_a_file_of_results_is_drawn_by_its_methods_or_one_of_them(tmp_path: Path):
    file = ROOT / "benchmark" / "results" / "bit_flip_d20.csv"
    lines = plot(tmp_path, f"{file}", f"ReenGAGE={file}/alpha1").stdout.splitlines()
    numbers = dict(line.split(": ") for line in lines)
    without, best = numbers["bit_flip_d20/dqn_her"], numbers["bit_flip_d20/alpha1"]
    assert numbers["ReenGAGE"] == best != without and without.startswith("seeds 10,")


HEADER = b"global_step,success_once\n"


@pytest.mark.parametrize(
    "content, sentence",
    [
        (b"", "has no column global_step: it is not a file of metrics."),
        (b"a,b\n1,2\n", "has no column global_step: it is not a file of metrics."),
        (HEADER, "has no evaluation yet."),
        (HEADER + b"0,0.0\n1000\n", "has a line that is cut off."),
        (HEADER + b"0,0.0\n1000,0.", "has a line that is cut off."),
        (HEADER + b"0,zero\n", "has a value that is not a number."),
        (b"\xff\xfe\x00", "is not a readable file of metrics."),
    ],
)
def test_a_bad_file_is_one_sentence_and_nothing_is_drawn(
    content: bytes, sentence: str, tmp_path: Path
):
    (tmp_path / "run.csv").write_bytes(content)
    result = plot(tmp_path, "ours=run.csv")
    assert (result.returncode, result.stderr) == (2, f"run.csv {sentence}\n")
    assert os.listdir(tmp_path) == ["run.csv"]


@pytest.mark.parametrize(
    "flags, picture, sentence",
    [
        (["ours=nothing_*"], "a.svg", "No run matches nothing_*."),
        (["ours=empty"], "a.svg", "empty/metrics.csv cannot be read: No such file or directory."),
        (["run_0.csv"], "a.svg", "run_0.csv has no readable args.json beside it: give it a label, "
         "or call it NAME_seed1.csv."),
        (["ours=run_0*"], "a.xyz", "Format 'xyz' is not supported"),
        (["ours=run_0*"], "gone/a.svg", "gone/a.svg cannot be written: No such file or directory."),
        (["ours=run_*"], "a.svg", "run_1.csv and run_0.csv were evaluated at different steps."),
        (["ours=run_*", "--metric", "zz"], "a.svg", "run_0.csv has no metric zz; there are "
         "success_once, episodic_return."),
    ],
)  # fmt: skip
def test_bad_input_is_one_sentence_and_nothing_is_drawn(
    flags: list[str], picture: str, sentence: str, tmp_path: Path
):
    write_runs(tmp_path, [0.0, 0.2, 0.4])
    write(tmp_path / "run_1.csv", [0.0, 0.4], every=500)
    (tmp_path / "empty").mkdir()
    result = plot(tmp_path, *flags, picture=picture)
    assert result.returncode == 2
    assert result.stderr.startswith(sentence) and result.stderr.count("\n") == 1
    assert sorted(os.listdir(tmp_path)) == ["empty", "run_0.csv", "run_1.csv"]
