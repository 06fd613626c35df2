"""Tables of benchmark/: the numbers are those of the metrics.csv files."""

import sys

import numpy as np
import pytest
from conftest import ROOT

sys.path.insert(0, str(ROOT / "benchmark"))
import report


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
