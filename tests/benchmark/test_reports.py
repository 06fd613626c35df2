"""The tables of benchmark/ say what its files hold, and these are what the scripts make."""

import csv
import json
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT

sys.path.insert(0, str(ROOT / "benchmark" / "tools"))
import collect
import curves
import grids
import report

BENCHMARK = ROOT / "benchmark"
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
    text = report.with_interval(np.array([0.2, 0.4, 0.6]))
    mean, low, high = map(float, text.replace("[", "").replace("]", "").replace(",", "").split())
    assert 0.2 <= low < mean < high <= 0.6 and mean == pytest.approx(0.4)
    assert report.with_interval(np.array([0.5])) == "0.500"


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
        limit = 400_000 if name.endswith("_grid.png") else 150_000  # a search has twelve panels
        assert (BENCHMARK / "figures" / name).stat().st_size < limit


def test_every_curve_stands_in_the_table_and_has_its_settings_beside_it():
    folders = {method.folder for method in METHODS}
    folders |= {setting.folder() for setting in grids.read_settings()}
    for path in curves.RESULTS.glob("*.csv"):
        for method, runs in curves.read_experiment(path).items():
            in_other_tables = path.stem in ("auto_alpha", "runtime")
            assert f"{path.stem}/{method}" in folders or in_other_tables
            for seed, run in runs.items():
                assert run.settings["seed"] == run.seed == seed and run.settings["env_id"]


def test_an_experiment_is_one_table_that_pandas_reads_in_one_line():
    table = pytest.importorskip("pandas").read_csv(curves.RESULTS / "bit_flip_d20.csv")
    assert list(table)[:3] == ["method", "seed", "global_step"] and list(table)[-1] == "wall_time"
    finals = table[table.global_step == table.global_step.max()].groupby("method").success_once
    assert finals.count().to_dict() == {"alpha1": 10, "dqn_her": 10}
    _, values = curves.read_curve("", list(curves.runs_of("bit_flip_d20/alpha1").values()),
                                  "success_once")  # fmt: skip
    assert finals.mean()["alpha1"] == pytest.approx(values[:, -1].mean())


def printed_settings(commands: str) -> dict[str, dict[str, list[str]]]:
    """<experiment>/<method>/<seed> -> the settings of the command that a script prints."""
    script, *words = commands.split(",")[0].split()
    path = BENCHMARK / "experiments" / script
    printed = subprocess.run(["bash", path, *words], text=True, capture_output=True, check=True)
    found = {}
    for line in printed.stdout.splitlines():
        settings = settings_in(shlex.split(line))
        (folder,) = settings.pop("run_dir")
        found[folder.removeprefix("runs/")] = settings
    return found


def settings_in(command: list[str]) -> dict[str, list[str]]:
    """The words behind each flag: {"alpha": ["0.1"], "hidden_dims": ["64", "64"]}."""
    settings: dict[str, list[str]] = {}
    for word in command[2:]:
        if word.startswith("--no-"):
            settings[word[5:].replace("-", "_")] = ["False"]
        elif word.startswith("--"):
            words = settings[word[2:].replace("-", "_")] = []
        else:
            words.append(word)
    return settings


def is_same(words: list[str], recorded: object) -> bool:
    """Whether the words of a flag mean what args.json records."""
    if isinstance(recorded, bool):
        return recorded == (words in ([], ["True"]))
    if isinstance(recorded, list):
        return words == list(map(str, recorded))
    if isinstance(recorded, int | float):
        return float(words[0]) == recorded
    return words == [recorded]


@pytest.mark.parametrize("method", SCRIPTED, ids=lambda method: f"{method.section}-{method.folder}")
def test_a_methods_commands_are_printed_by_its_script_and_its_runs_have_their_settings(
    method: report.Method,
):
    printed = printed_settings(method.commands)
    with_flags = method.commands.partition(", with ")[2].split()
    if not with_flags:
        assert any(folder.startswith(f"{method.folder}/") for folder in printed)
    for seed, run in curves.runs_of(method.folder).items():
        expected = printed.get(f"{method.folder}/{seed}")
        assert expected is not None or with_flags
        settings = (expected or {}) | settings_in(["", "", *with_flags])
        for name in settings.keys() - {"num_threads"}:
            assert is_same(settings[name], run.settings[name]), (run.name, name)


@pytest.mark.parametrize("method", AT_ONCE, ids=lambda method: method.folder)
def test_the_command_of_runs_at_once_has_their_settings_and_as_many_seeds(method: report.Method):
    script, *flags = method.commands.split()
    values = settings_in(["python", script, *flags])
    runs = curves.runs_of(method.folder)
    assert values.pop("seeds") == [str(len(runs))]
    for run in runs.values():
        assert run.settings["versions"]["script"] == Path(script).stem
        for name in values.keys() - {"group_size", "run_dir"}:
            assert any(is_same([word], run.settings[name]) for word in values[name]), run.name


def test_what_is_planned_is_printed_by_its_script_and_timed_by_runs_that_are_there():
    for planned in PLANNED:
        row = report.not_run(planned)
        assert row is None or int(row[3]) > 0
        assert planned.like == "" or curves.runs_of(planned.like)


def test_a_run_that_ends_early_does_not_count_as_run():
    assert list(report.whole_runs("bit_flip_d20/alpha1", 200_000)) == list(range(1, 11))
    assert list(report.whole_runs("hand_reach/alpha0.1", 0)) == [1, 2]
    assert not report.whole_runs("hand_reach/alpha0.1", 4_750_000)  # 9 of 50 epochs


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
    folder = tmp_path / "results"
    folder.mkdir()
    monkeypatch.setattr(curves, "RESULTS", folder)
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
    curves.read_experiment.cache_clear()  # a call is a new process
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["collect.py", *map(str, words)])
        try:
            collect.main()
        except SystemExit as error:
            code = error.code
    return code, capsys.readouterr().err


def test_a_complete_run_is_added_with_its_settings_and_the_others_stay_as_they_are(
    tmp_path: Path, results: Path, capsys: pytest.CaptureFixture[str]
):
    runs = [write_run(tmp_path / f"runs/flip/alpha0.1/{seed}", seed=seed) for seed in (10, 2)]
    log = tmp_path / "runs/flip/alpha0.1/2.log"  # the runner's, which runs/flip/alpha0.1/* matches
    assert collected(capsys, *runs, log) == (0, "")
    header = "method,seed,global_step,success_rate\n"
    rows = "alpha0.1,2,0,0.0\nalpha0.1,2,20,1.0\nalpha0.1,10,0,0.0\nalpha0.1,10,20,1.0\n"
    assert (results / "flip.csv").read_text() == header + rows
    settings = json.loads((results / "flip.json").read_text())
    assert settings["alpha0.1"]["10"] == {"seed": 10, "alpha": 0.1, "total_timesteps": 20}

    deeper = write_run(tmp_path / "runs/flip/small/auto/1", last=21)  # and with another metric
    metrics = "global_step,wall_time,reached\n21,0.5,0.75\n"
    (deeper / "metrics.csv").write_text(metrics)
    assert collected(capsys, deeper) == (0, "")
    header = "method,seed,global_step,success_rate,reached,wall_time\n"
    rows = "".join(f"{row},,\n" for row in rows.splitlines()) + "small/auto,1,21,,0.75,0.5\n"
    assert (results / "flip.csv").read_text() == header + rows
    assert sorted(path.name for path in results.iterdir()) == ["flip.csv", "flip.json"]


def test_a_seed_that_is_there_is_replaced_only_where_that_is_asked_for(
    tmp_path: Path, results: Path, capsys: pytest.CaptureFixture[str]
):
    for number, last in enumerate((20, 30)):
        run_dir = write_run(tmp_path / f"BitFlip__{number}", last=last)
        words = [run_dir, "--to", "flip/alpha0.1"]
        if number == 0:
            assert collected(capsys, *words) == (0, "")
    there = "flip/alpha0.1, seed 1 is there already: --replace replaces it.\n"
    assert collected(capsys, *words) == (2, there)
    assert collected(capsys, *words, "--replace") == (0, "")
    assert (results / "flip.csv").read_text().splitlines()[1:] == [
        "alpha0.1,1,0,0.0",
        "alpha0.1,1,30,1.0",
    ]


def test_all_seeds_of_a_method_can_be_replaced_by_those_of_other_settings(
    tmp_path: Path, results: Path, capsys: pytest.CaptureFixture[str]
):
    folder = tmp_path / "runs/flip/alpha0.1"
    old = [write_run(folder / f"{seed}", seed=seed, precision="highest") for seed in (1, 2)]
    folder = tmp_path / "other/runs/flip/alpha0.1"
    new = [write_run(folder / f"{seed}", seed=seed, precision="high") for seed in (1, 2, 3)]
    assert collected(capsys, *old) == (0, "")
    code, error = collected(capsys, new[0], "--replace")
    assert code == 2 and error.endswith('--precision is "high", of seed 2 "highest".\n')
    assert collected(capsys, *new, "--replace") == (0, "")
    code, error = collected(capsys, *new[:2], old[1], "--replace")
    assert code == 2 and "Two of the runs would be" in error


@pytest.mark.parametrize(
    "name, last, settings, sentence",
    [
        ("runs/flip/alpha0.1/2", 10, {"seed": 2}, "is not complete: step 10 of 20."),
        ("runs/flip/alpha0.1/2", 20, {"seed": 2, "alpha": 0.2}, "--alpha is 0.2, of seed 1 0.1."),
        ("runs/flip/alpha0.1/2", 20, {"seed": 5}, "--seed is 5, not 2."),
        (
            "BitFlip__2",
            20,
            {"seed": 2},
            "is not runs/<experiment>/<method>/<seed>: say --to EXPERIMENT/METHOD.",
        ),
        ("runs/flip/alpha0.1/2", 20, {"seed": None}, "has no args.json that a run writes."),
        (
            "runs/flip/alpha0.1/2",
            20,
            {"seed": 2, "versions": {"script": "my_ddpg"}},
            "was made by my_ddpg, seed 1 by ddpg_her.",
        ),
    ],
)
def test_a_run_that_is_no_evidence_is_refused_before_anything_is_written(
    name: str,
    last: int,
    settings: dict,
    sentence: str,
    tmp_path: Path,
    results: Path,
    capsys: pytest.CaptureFixture[str],
):
    by_ddpg_her = {"versions": {"script": "ddpg_her"}, "log_frequency": 7}  # that may differ
    first = write_run(tmp_path / "runs/flip/alpha0.1/1", **by_ddpg_her)
    assert collected(capsys, first)[0] == 0
    before = (results / "flip.csv").read_text(), (results / "flip.json").read_text()
    good = write_run(tmp_path / "runs/flip/alpha0.1/3", seed=3, log_frequency=8)
    code, error = collected(capsys, good, write_run(tmp_path / name, last, **settings))
    assert code == 2 and error.endswith(sentence + "\n") and error.count("\n") == 1
    assert before == ((results / "flip.csv").read_text(), (results / "flip.json").read_text())


def test_a_search_is_shown_with_the_papers_values_and_by_how_much_ours_differ(
    tmp_path: Path, results: Path, monkeypatch: pytest.MonkeyPatch
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
    rows, args = [], {}
    for method, seeds, last in (
        ("alpha0_lr0.001", 2, 0.4),
        ("alpha0.1_lr0.001", 2, 0.95),
        ("alpha0_lr0.01", 3, 0.6),
        ("alpha0.1_lr0.01", 2, 0.9),
    ):
        args[method] = {str(seed): {} for seed in range(1, seeds + 1)}
        for seed in args[method]:
            successes = [*[0.0] * 18, last - 0.1, last + 0.1]  # two are the last tenth
            for step, success in enumerate(successes):
                names = {"method": method, "seed": seed, "global_step": 100 * step}
                rows.append(names | {"success_once": success})
    curves.write_experiment(results / "seek_batch128_grid.csv", rows, args)
    ((name, settings, found),) = grids.read_grids()
    assert name == "seek" and len(settings) == 5
    _, rows = grids.grid_table(settings, found)
    assert rows == [
        ["0.001", "128", "2", "0.400", "0.500", "0.950", "0.900"],
        ["0.01", "128", "3", "0.600", "0.600", "", ""],
        ["0.01", "128", "2", "", "", "0.900", "0.900"],
    ]
    text = grids.agreement(settings, found)
    assert text.startswith("4 of 5 settings were run.")
    assert "The final differs from the paper's by -0.013 on average over settings" in text
    assert "-0.100 at worst (learning rate 0.001, batch 128, alpha 0)" in text
    assert len(grids.draw_grid(found).axes) == 2
