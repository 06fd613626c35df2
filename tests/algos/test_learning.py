"""Each script learns: from hardly any success to most episodes, on a small task, in seconds."""

from pathlib import Path

import pytest
from conftest import read_metrics, run_script
from specs import FINISHED, KNOWN, SCRIPTS, SPECS, Lesson

LESSONS = [(script, lesson) for script in KNOWN for lesson in SPECS[script].lessons]


@pytest.mark.parametrize("script", [script for script in SCRIPTS if script in FINISHED])
def test_every_finished_script_has_a_lesson(script: str) -> None:
    assert SPECS[script].lessons, f"give {script} a Lesson in tests/algos/specs.py"


@pytest.mark.parametrize("script, lesson", LESSONS)
def test_a_script_learns_its_lesson(script: str, lesson: Lesson, tmp_path: Path) -> None:
    result = run_script(script, *lesson.flags.split(), "--run-dir", "run", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    paths = sorted((tmp_path / "run").rglob("metrics.csv"))
    assert paths
    for path in paths:  # of each of many runs
        rows = read_metrics(path.parent)
        untrained, *later = [float(row[SPECS[script].metric]) for row in rows]
        assert rows[0]["global_step"] == "0" and untrained <= lesson.untrained
        assert max(later) >= lesson.trained  # single evaluations of short runs dip now and then
