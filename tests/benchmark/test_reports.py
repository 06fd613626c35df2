"""Pictures and tables of benchmark/: the numbers are those of the metrics.csv files."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT

sys.path.insert(0, str(ROOT / "benchmark"))
import report


def plot(folder: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "benchmark" / "plot.py"), "curve.svg", *flags]
    return subprocess.run(command, cwd=folder, text=True, capture_output=True)


def write_runs(folder: Path, *curves: list[float]) -> None:
    for seed, curve in enumerate(curves):
        lines = [f"{1000 * i},{value}" for i, value in enumerate(curve)]
        (folder / f"run_{seed}.csv").write_text(
            "\n".join(["global_step,success_once", *lines]) + "\n"
        )


@pytest.mark.parametrize("flags", [[], ["--robust"]])
@pytest.mark.parametrize("seeds", [1, 4])
def test_a_plot_prints_final_value_area_and_the_first_steps_at_half_and_nine_tenths(
    flags: list[str], seeds: int, tmp_path: Path
):
    write_runs(tmp_path, *[[0.0, 0.4, 0.6, 0.8, 1.0]] * seeds)
    result = plot(tmp_path, "ours=run_*.csv", *flags)
    assert result.returncode == 0, result.stderr
    expected = (
        f"ours: seeds {seeds}, final 1.000, area 0.560, at 0.5 from step 2,000, at 0.9 from 4,000\n"
    )
    assert result.stdout == expected
    assert (tmp_path / "curve.svg").read_text().startswith("<?xml")


def test_a_level_that_is_not_reached_and_runs_of_unequal_length_are_told(tmp_path: Path):
    write_runs(tmp_path, [0.0, 0.2, 0.4], [0.0, 0.4])
    assert (
        "area 0.150, at 0.5 from step never, at 0.9 from never"
        in plot(tmp_path, "ours=run_*.csv").stdout
    )


def test_a_pattern_without_files_is_refused(tmp_path: Path):
    result = plot(tmp_path, "ours=nothing_*.csv")
    assert (result.returncode, result.stderr) == (2, "No file matches nothing_*.csv.\n")


def test_the_verdict_says_by_how_much_a_result_differs():
    assert (
        report.verdict(0.93, 0.95)
        == report.verdict(0.99, 0.95)
        == report.verdict(21.0, 22.0)
        == "reproduced"
    )
    assert report.verdict(0.80, 0.95) == "short by 0.15"
    assert report.verdict(24.0, 22.0) == "better by 2.00"


def test_an_interval_lies_around_the_mean_and_a_single_seed_has_none():
    text, mean = report.with_interval(np.array([0.2, 0.4, 0.6]))
    low, high = map(float, text.split("[")[1].rstrip("]").split(","))
    assert 0.2 <= low < mean < high <= 0.6 and mean == pytest.approx(0.4)
    assert report.with_interval(np.array([0.5]))[0] == "0.500"


def test_results_md_is_what_the_report_makes_of_the_curves_that_are_there():
    assert (ROOT / "benchmark" / "RESULTS.md").read_text() == report.report()
