"""Many runs at once learn what the plain script learns."""

import csv
from pathlib import Path

from conftest import MANY, run_script

FLAGS = (
    "--env-id ContinuousSeek2-v0 --total-timesteps 2500 --learning-starts 500 --eval-frequency 500 "
    "--hidden-dims 64 64 --gamma 0.9 --tau 0.02 --batch-size 64 --learning-rate 1e-3 "
    "--seeds 2 --alpha 0 0.1 auto --run-dir runs --no-compile"
).split()


def test_all_runs_learn_to_reach_most_goals_in_two_dimensions(tmp_path: Path) -> None:
    result = run_script(MANY, *FLAGS, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    paths = sorted((tmp_path / "runs").glob("*/*/metrics.csv"))
    assert len(paths) == 6
    for path in paths:
        with open(path, newline="") as file:
            untrained, *later = list(csv.DictReader(file))
        assert float(untrained["success_once"]) <= 0.1
        best = max(float(row["success_rate"]) for row in later)
        assert best >= 0.65, path.parent
