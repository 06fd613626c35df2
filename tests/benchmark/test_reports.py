"""The tables of benchmark/ say what its files hold, and these are what the scripts make."""

import csv
import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT

sys.path.insert(0, str(ROOT / "benchmark" / "tools"))
import collect
import grids
import report
import run

BENCHMARK = ROOT / "benchmark"
RESULTS = BENCHMARK / "results"
METHODS = report.read_table("table.csv", report.Method)
PLANNED = report.read_table("not_run.csv", report.NotRun)
SCRIPTED = [method for method in METHODS if method.commands.split(",")[0].split()[0][-3:] == ".sh"]
AT_ONCE = [method for method in METHODS if "--group-size" in method.commands]


def test_the_verdict_says_by_how_much_a_result_differs():
    assert report.verdict(0.93, 0.95) == "reproduced"
    assert report.verdict(0.99, 0.95) == "reproduced"
    assert report.verdict(21.0, 22.0) == "reproduced"
    assert report.verdict(0.80, 0.95) == "short by 0.15"
    assert report.verdict(24.0, 22.0) == "better by 2.00"


def test_an_interval_lies_around_the_mean_and_a_single_seed_has_none():
    text, mean = report.with_interval(np.array([0.2, 0.4, 0.6]))
    low, high = map(float, text.split("[")[1].rstrip("]").split(","))
    assert 0.2 <= low < mean < high <= 0.6 and mean == pytest.approx(0.4)
    assert report.with_interval(np.array([0.5]))[0] == "0.500"


def test_results_md_is_what_the_report_makes_of_the_curves_that_are_there():
    assert (BENCHMARK / "RESULTS.md").read_text() == report.report()


@pytest.mark.parametrize(("name", "make_table"), report.TABLES)
def test_a_files_table_is_what_the_report_makes_of_the_curves_that_are_there(
    name: str, make_table: Callable[[], str]
):
    text = (ROOT / name).read_text()
    assert text == report.renewed(text, make_table) and make_table() in text


def test_every_picture_that_results_md_shows_is_there_and_small():
    text = (BENCHMARK / "RESULTS.md").read_text()
    for name in (part.split(")")[0] for part in text.split("](figures/")[1:]):
        path = BENCHMARK / "figures" / name
        limit = 200_000 if path.stem.endswith("_grid") else 100_000  # a search has twelve panels
        assert path.exists() and path.with_suffix(".svg").stat().st_size < limit


def test_every_curve_stands_in_the_table_and_has_its_settings_beside_it():
    folders = {method.folder for method in METHODS}
    folders |= {setting.folder() for setting in grids.read_settings()}
    for path in RESULTS.glob("*/*/*.csv"):
        folder = str(path.parent.relative_to(RESULTS))
        assert folder in folders or folder.startswith("runtime/")
        settings = json.loads(path.with_suffix(".json").read_text())
        assert str(settings["seed"]) == path.stem and settings["env_id"]


def printed_runs(commands: str) -> dict[str, run.Run]:
    """<experiment>/<method>/<seed> -> the run that a script of experiments/ prints."""
    script, *words = commands.split(",")[0].split()
    runs = run.read_runs(str(BENCHMARK / "experiments" / script), words)
    return {one.name.removeprefix("runs/"): one for one in runs}


@pytest.mark.parametrize("method", SCRIPTED, ids=lambda method: f"{method.section}-{method.folder}")
def test_a_methods_commands_are_printed_by_its_script_and_its_files_have_their_settings(
    method: report.Method,
):
    printed = printed_runs(method.commands)
    with_flags = method.commands.partition(", with ")[2].split()
    if not with_flags:
        assert any(folder.startswith(f"{method.folder}/") for folder in printed)
    for path in report.csv_files(method.folder):
        settings = json.loads(path.with_suffix(".json").read_text())
        expected = printed.get(f"{method.folder}/{path.stem}")
        assert expected or with_flags
        words = run.settings_of(expected) if expected else {}
        for flag, value in zip(with_flags[::2], with_flags[1::2], strict=True):
            words[flag.removeprefix("--").replace("-", "_")] = [value]
        for name, value in words.items():
            if name not in run.NOT_COMPARED:
                assert run.is_same(name, value, settings[name]), (path, name)


@pytest.mark.parametrize("method", AT_ONCE, ids=lambda method: method.folder)
def test_the_command_of_runs_at_once_has_their_settings_and_as_many_seeds(method: report.Method):
    script, *flags = method.commands.split(" --")
    values = {name.replace("-", "_"): words for name, *words in map(str.split, flags)}
    paths = report.csv_files(method.folder)
    assert values.pop("seeds") == [str(len(paths))]
    for path in paths:
        settings = json.loads(path.with_suffix(".json").read_text())
        assert settings["versions"]["script"] == Path(script).stem
        for name in values.keys() - {"group_size", "run_dir"}:
            assert any(run.is_same(name, [word], settings[name]) for word in values[name]), path


def test_what_is_planned_is_printed_by_its_script_and_timed_by_runs_that_are_there():
    for planned in PLANNED:
        row = report.not_run(planned)
        assert row is None or int(row[3]) > 0
        assert planned.like == "" or report.csv_files(planned.like)


def test_a_run_that_ends_early_does_not_count_as_run():
    assert report.is_run("bit_flip_d20/alpha1/1", 200_000)
    assert not report.is_run("hand_reach/alpha0.1/1", 4_750_000)  # 9 of 50 epochs
    assert not report.is_run("hand_reach/alpha0.1/77", 0)


def test_empty_columns_are_left_out_of_a_table():
    expected = "| a | c |\n| --- | --- |\n| 1 | 3 |\n| 1 |  |"
    assert report.table("a|b|c", [["1", "", "3"], ["1", "", ""]]) == expected


def test_the_papers_means_lie_within_the_run():
    for method in METHODS:
        for pair in method.means.split():
            step, mean = map(float, pair.split(":"))
            assert 0 < step <= float(method.steps) and mean >= 0


def test_tables_have_no_stray_columns():
    for name in ("table.csv", "not_run.csv"):
        with open(BENCHMARK / "experiments" / name, newline="") as file:
            header, *rows = csv.reader(file)
        assert all(len(row) == len(header) for row in rows)


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "benchmark" / "results"
    folder.mkdir(parents=True)
    monkeypatch.setattr(collect, "RESULTS", folder)
    return folder


def write_run(run_dir: Path, last: int = 20, **settings: object) -> Path:
    run_dir.mkdir(parents=True)
    args = {"seed": 1, "alpha": 0.1, "total_timesteps": 20, "run_dir": str(run_dir)} | settings
    (run_dir / "args.json").write_text(json.dumps(args))
    (run_dir / "metrics.csv").write_text(f"global_step,success_rate\n0,0.0\n{last},1.0\n")
    return run_dir


def collected(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str]:
    """Exit code and standard error of collect.py."""
    code = 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["collect.py", *map(str, words)])
        try:
            collect.main()
        except SystemExit as error:
            code = error.code
    return code, capsys.readouterr().err


def test_a_complete_run_is_collected_with_its_settings(
    tmp_path: Path, results: Path, capsys: pytest.CaptureFixture[str]
):
    runs = [write_run(tmp_path / f"runs/flip/alpha0.1/{seed}", seed=seed) for seed in (1, 2)]
    assert collected(capsys, *runs) == (0, "")
    for seed in (1, 2):
        csv_file = results / f"flip/alpha0.1/{seed}.csv"
        assert csv_file.read_text() == (runs[seed - 1] / "metrics.csv").read_text()
        settings = json.loads(csv_file.with_suffix(".json").read_text())
        assert settings == {"seed": seed, "alpha": 0.1, "total_timesteps": 20}
    code, error = collected(capsys, runs[0])
    assert (code, error) == (2, "flip/alpha0.1/1.csv is there already: --replace overwrites it.\n")
    assert collected(capsys, runs[0], "--replace") == (0, "")
    elsewhere = write_run(tmp_path / "BitFlip__3", seed=3)
    assert collected(capsys, elsewhere, "--to", "flip/alpha0.1") == (0, "")
    assert (results / "flip/alpha0.1/3.csv").exists()


def test_seeds_of_a_method_may_differ_in_what_else_they_write(
    tmp_path: Path, results: Path, capsys: pytest.CaptureFixture[str]
):
    folder = tmp_path / "runs/flip/alpha0.1"
    first = write_run(folder / "1", save_checkpoint=False, log_frequency=1000, env_threads=0)
    second = write_run(folder / "2", seed=2, save_checkpoint=True, log_frequency=500, env_threads=1)
    assert collected(capsys, first, second) == (0, "")
    assert (results / "flip/alpha0.1/2.csv").exists()


def test_all_seeds_of_a_method_can_be_replaced_by_those_of_other_settings(
    tmp_path: Path, results: Path, capsys: pytest.CaptureFixture[str]
):
    folder = tmp_path / "runs/flip/alpha0.1"
    old = [write_run(folder / f"{seed}", seed=seed) for seed in (1, 2)]
    assert collected(capsys, *old) == (0, "")
    folder = tmp_path / "other/runs/flip/alpha0.1"
    new = [write_run(folder / f"{seed}", seed=seed, precision="high") for seed in (1, 2, 3)]
    for run_dir in old:
        args = json.loads((run_dir / "args.json").read_text()) | {"precision": "highest"}
        (run_dir / "args.json").write_text(json.dumps(args))
    assert collected(capsys, *old, "--replace") == (0, "")
    code, error = collected(capsys, new[0], "--replace")
    assert code == 2 and error.endswith('--precision is "high", in 2.json "highest".\n')
    assert collected(capsys, *new, "--replace") == (0, "")
    code, error = collected(capsys, *new[:2], old[1], "--replace")
    assert code == 2 and "Two of the runs would be" in error


@pytest.mark.parametrize(
    "name, last, settings, sentence",
    [
        ("runs/flip/alpha0.1/2", 10, {"seed": 2}, "is not complete: step 10 of 20."),
        ("runs/flip/alpha0.1/2", 20, {"seed": 2, "alpha": 0.2}, "--alpha is 0.2, in 1.json 0.1."),
        ("runs/flip/alpha0.1/2", 20, {"seed": 5}, "--seed is 5, not 2."),
        ("BitFlip__2", 20, {"seed": 2}, "is not runs/<experiment>/<method>/<seed>: say --to."),
        ("runs/flip/alpha0.1/2", 20, {"seed": None}, "has no args.json that a run writes."),
    ],
)
def test_a_run_that_is_no_evidence_is_refused_before_anything_is_copied(
    name: str,
    last: int,
    settings: dict,
    sentence: str,
    tmp_path: Path,
    results: Path,
    capsys: pytest.CaptureFixture[str],
):
    assert collected(capsys, write_run(tmp_path / "runs/flip/alpha0.1/1"))[0] == 0
    good = write_run(tmp_path / "runs/flip/alpha0.1/3", seed=3)
    code, error = collected(capsys, good, write_run(tmp_path / name, last, **settings))
    assert code == 2 and error.endswith(sentence + "\n") and error.count("\n") == 1
    assert sorted(path.name for path in results.rglob("*.*")) == ["1.csv", "1.json", "alpha0.1"]


def test_a_search_is_shown_with_the_papers_values_and_by_how_much_ours_differ(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(grids, "BENCHMARK", tmp_path)
    (tmp_path / "experiments").mkdir()
    (tmp_path / "experiments" / "grids.csv").write_text(
        "figure,title,experiment,batch_size,learning_rate,alpha,final,area\n"
        "10,search,seek,128,0.001,0,0.5,0.2\n"
        "10,search,seek,128,0.001,0.1,0.9,0.4\n"
        "10,search,seek,128,0.01,0,0.6,0.3\n"
        "10,search,seek,128,0.01,0.1,0.9,0.4\n"
        "10,search,seek,512,0.01,0,0.7,0.3\n"
    )
    for method, seeds, last in (
        ("alpha0_lr0.001", 2, 0.4),
        ("alpha0.1_lr0.001", 2, 0.95),
        ("alpha0_lr0.01", 3, 0.6),
        ("alpha0.1_lr0.01", 2, 0.9),
    ):
        folder = tmp_path / "results" / "seek_batch128_grid" / method
        folder.mkdir(parents=True)
        for seed in range(1, seeds + 1):
            successes = [*[0.0] * 18, last - 0.1, last + 0.1]  # two are the last tenth
            lines = [f"{100 * row},{success}\n" for row, success in enumerate(successes)]
            (folder / f"{seed}.csv").write_text("".join(["global_step,success_once\n", *lines]))
    ((name, settings, curves),) = grids.read_grids()
    assert name == "seek" and len(settings) == 5
    _, rows = grids.grid_table(settings, curves)
    assert rows == [
        ["0.001", "128", "2", "0.400", "0.500", "0.950", "0.900"],
        ["0.01", "128", "3", "0.600", "0.600", "", ""],
        ["0.01", "128", "2", "", "", "0.900", "0.900"],
    ]
    assert grids.grid_commands(curves, "Seek-v0").splitlines() == [
        "```bash",
        "python algos/ddpg_her_reengage_many.py --env-id Seek-v0 --alpha 0 0.1 \\",
        "    --learning-rate 0.001 --batch-size 128 --seeds 2 \\",
        "    --run-dir runs/seek_batch128_grid",
        "python algos/ddpg_her_reengage_many.py --env-id Seek-v0 --alpha 0.1 \\",
        "    --learning-rate 0.01 --batch-size 128 --seeds 2 \\",
        "    --run-dir runs/seek_batch128_grid",
        "python algos/ddpg_her_reengage_many.py --env-id Seek-v0 --alpha 0 \\",
        "    --learning-rate 0.01 --batch-size 128 --seeds 3 \\",
        "    --run-dir runs/seek_batch128_grid",
        "```",
    ]
    text = grids.agreement(settings, curves)
    assert text.startswith("4 of 5 settings were run.")
    assert "The final differs from the paper's by -0.013 in the mean over settings" in text
    assert "-0.100 at worst (learning rate 0.001, batch 128, alpha 0)" in text
    assert len(grids.draw_grid(curves).axes) == 2
