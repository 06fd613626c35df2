"""The tables of benchmark/ show what its files hold, and these are what the scripts make."""

import json
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT

sys.path.insert(0, str(ROOT / "benchmark" / "tools"))
import collect
import curves
import grids
import report

EXPERIMENTS = ROOT / "benchmark" / "experiments"
METHODS = curves.read_table("table")
SCRIPTED = [method for method in METHODS if method.commands.split(",")[0].split()[0][-3:] == ".sh"]
AT_ONCE = [method for method in METHODS if "--group-size" in method.commands]


def test_the_verdict_says_by_how_much_a_result_differs():
    assert report.verdict(0.93, 0.95) == report.verdict(0.99, 0.95) == "reproduced"
    assert report.verdict(21.0, 22.0) == "reproduced"
    assert report.verdict(0.80, 0.95) == "short by 0.15"
    assert report.verdict(24.0, 22.0) == "better by 2.00"


def test_all_tables_are_what_the_report_makes_of_the_results():
    assert (ROOT / "benchmark" / "RESULTS.md").read_text() == report.report()
    for name, make_table in report.TABLES:
        text = (ROOT / name).read_text()
        assert text == report.renewed(text, make_table) and make_table() in text


def test_a_file_without_the_marks_of_a_table_is_not_rewritten():
    start = report.START.format("headline")
    for text in ("no mark", f"{start}\nno end", "no start\n" + report.END):
        with pytest.raises(ValueError):
            report.renewed(text, report.headline)


def test_every_result_stands_in_a_table_and_has_its_settings_beside_it():
    folders = {method.folder for method in METHODS}
    folders |= {grids.folder_of(setting) for setting in curves.read_table("grids")}
    for path in curves.RESULTS.glob("*.csv"):
        for method, runs in curves.read_experiment(path).items():
            in_other_tables = path.stem in ("auto_alpha", "runtime")
            assert f"{path.stem}/{method}" in folders or in_other_tables
            for seed, run in runs.items():
                assert run.settings["seed"] == run.seed == seed and run.settings["env_id"]


def printed_settings(commands: str) -> dict[str, dict[str, list[str]]]:
    """<experiment>/<method>/<seed> -> the settings of the command that a script prints."""
    script, *words = commands.split(",")[0].split()
    command = ["bash", EXPERIMENTS / script, *words]
    printed = subprocess.run(command, text=True, capture_output=True, check=True)
    found = {}
    for line in printed.stdout.splitlines():
        settings = settings_in(shlex.split(line))
        (folder,) = settings.pop("run_dir")
        found[folder.removeprefix("runs/")] = settings
    return found


def settings_in(command: list[str]) -> dict[str, list[str]]:
    """The words behind each flag: {"alpha": ["0.1"], "hidden_dims": ["64", "64"]}."""
    settings: dict[str, list[str]] = {}
    for word in command:
        if word.startswith("--no-"):
            settings[word[5:].replace("-", "_")] = ["False"]
        elif word.startswith("--"):
            words = settings[word[2:].replace("-", "_")] = []
        elif settings:
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
def test_a_methods_script_prints_its_runs_with_the_settings_that_they_had(method):
    printed = printed_settings(method.commands)
    with_flags = method.commands.partition(", with ")[2].split()
    if not with_flags:
        assert any(folder.startswith(f"{method.folder}/") for folder in printed)
    for seed, run in curves.runs_of(method.folder).items():
        expected = printed.get(f"{method.folder}/{seed}")
        assert expected is not None or with_flags
        settings = (expected or {}) | settings_in(with_flags)
        for name in settings.keys() - {"num_threads"}:
            assert is_same(settings[name], run.settings[name]), (run.name, name)


@pytest.mark.parametrize("method", AT_ONCE, ids=lambda method: method.folder)
def test_runs_at_once_have_the_settings_of_their_command_and_as_many_seeds(method):
    script, *flags = method.commands.split()
    values = settings_in(flags)
    runs = curves.runs_of(method.folder)
    assert values.pop("seeds") == [str(len(runs))]
    for run in runs.values():
        assert run.settings["versions"]["script"] == Path(script).stem
        for name in values.keys() - {"group_size", "run_dir"}:
            assert any(is_same([word], run.settings[name]) for word in values[name]), run.name


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


def test_seeds_that_are_there_are_replaced_on_request_also_by_those_of_other_settings(
    tmp_path: Path, results: Path, capsys: pytest.CaptureFixture[str]
):
    old = [write_run(tmp_path / f"old{seed}", seed=seed, gamma=0.9) for seed in (1, 2)]
    new = [write_run(tmp_path / f"new{seed}", 30, seed=seed, gamma=0.8) for seed in (1, 2, 3)]
    to = "--to", "flip/a"
    assert collected(capsys, *old, *to) == (0, "")
    there = "flip/a, seed 1 is there already: --replace replaces it.\n"
    assert collected(capsys, old[0], *to) == (2, there)
    code, error = collected(capsys, new[0], *to, "--replace")
    assert code == 2 and error.endswith("--gamma is 0.8, of seed 2 0.9.\n")
    code, error = collected(capsys, *new[:2], old[1], *to, "--replace")
    assert code == 2 and "Two of the runs would be" in error
    assert collected(capsys, *new, *to, "--replace") == (0, "")
    rows = (results / "flip.csv").read_text().splitlines()[1:]
    assert rows == [f"a,{seed},{end}" for seed in (1, 2, 3) for end in ("0,0.0", "30,1.0")]


def test_a_c_low_that_was_probed_goes_with_one_that_was_given(
    tmp_path: Path, results: Path, capsys: pytest.CaptureFixture[str]
):
    for seed, c_low in ((1, -1.0), (2, None), (3, -1.0)):
        run = write_run(tmp_path / f"runs/flip/a/{seed}", seed=seed, c_low=c_low)
        assert collected(capsys, run) == (0, "")


@pytest.mark.parametrize(
    "name, last, settings, sentence",
    [
        ("runs/flip/a/2", 10, {"seed": 2}, "is not complete: step 10 of 20."),
        ("runs/flip/a/2", 20, {"seed": 2, "alpha": 0.2}, "--alpha is 0.2, of seed 1 0.1."),
        ("runs/flip/a/2", 20, {"seed": 5}, "--seed is 5, not 2."),
        ("Flip__2", 20, {"seed": 2}, "<experiment>/<method>/<seed>: say --to EXPERIMENT/METHOD."),
        ("runs/flip/a/2", 20, {"seed": None}, "has no args.json written by a run."),
        (
            "runs/flip/a/2",
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
    assert collected(capsys, write_run(tmp_path / "runs/flip/a/1", **by_ddpg_her))[0] == 0
    before = (results / "flip.csv").read_text(), (results / "flip.json").read_text()
    good = write_run(tmp_path / "runs/flip/a/3", seed=3, log_frequency=8)
    code, error = collected(capsys, good, write_run(tmp_path / name, last, **settings))
    assert code == 2 and error.endswith(sentence + "\n") and error.count("\n") == 1
    assert before == ((results / "flip.csv").read_text(), (results / "flip.json").read_text())


def test_a_search_is_shown_with_the_papers_values_and_by_how_much_ours_differ():
    kind = type(curves.read_table("grids")[0])
    settings, found = [], {}
    for rate, alpha, paper, seeds, last in (
        ("0.001", "0", "0.5", 2, 0.4),
        ("0.001", "0.1", "0.9", 2, 0.95),
        ("0.01", "0", "0.6", 3, 0.6),
        ("0.01", "0.1", "0.9", 2, 0.9),
        ("0.1", "0", "0.7", 0, 0),  # not run
    ):
        settings.append(kind("10", "search", "seek", "128", rate, alpha, paper, "0.2"))
        if seeds:
            success = [*[0.0] * 18, last - 0.1, last + 0.1]  # two are the last tenth
            found[settings[-1]] = np.arange(20), np.array(seeds * [success])
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
