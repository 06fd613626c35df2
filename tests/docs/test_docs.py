"""What the texts say is true: links lead somewhere, quoted code stands in the scripts, logged names
are explained, the flags of commands exist, and short programs run."""

import ast
import importlib
import os
import re
import shlex
from dataclasses import fields
from pathlib import Path

import pytest
from conftest import ROOT, python
from specs import FINISHED as SCRIPTS

import envs

README = ROOT / "README.md"
PAGES = sorted((ROOT / "docs").glob("*.md"))
TEXTS = [*sorted(ROOT.glob("*.md")), *PAGES, *sorted((ROOT / "benchmark").rglob("*.md"))]
LOGGED = r'"((?:losses|values|gradient|sac|dqn|charts|eval)/\w+)"'
EXPLAINED = {
    name
    for page in PAGES
    for name in re.findall(r"^\| `(\w+/\w+)` \|", page.read_text(), re.MULTILINE)
}
TINY = """--env-id ContinuousSeek2-v0 --hidden-dims 8 8 --batch-size 16 --learning-starts 100
    --total-timesteps 300 --eval-frequency 100 --eval-episodes 20 --no-cuda""".split()


def run(*words: object, cwd: Path, **variables: str) -> str:
    """What a Python program prints; it must succeed."""
    result = python(*words, cwd=cwd, **variables)
    assert result.returncode == 0, result.stderr
    return result.stdout


# Links


def without_code(text: str) -> str:
    return re.sub(r"```.*?```", "", text, flags=re.DOTALL)


def anchors(text: str) -> set[str]:
    """The names of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", without_code(text), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", TEXTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_leads_to_a_file_and_to_a_heading_in_it(page: Path) -> None:
    text = without_code(page.read_text())
    targets = re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r'src="([^"]+)"', text)
    broken = []
    for target in targets:
        if target.startswith(("http://", "https://")):
            continue
        name, _, anchor = target.partition("#")
        path = page.parent / name if name else page
        if not path.exists() or anchor and anchor not in anchors(path.read_text()):
            broken.append(target)
    assert broken == []


@pytest.mark.parametrize("script", SCRIPTS)
def test_every_script_has_a_page_and_readme_leads_to_both(script: str) -> None:
    text = README.read_text()
    assert f"(algos/{script}.py)" in text
    assert f"(docs/{script}.md)" in text
    assert (ROOT / "docs" / f"{script}.md").exists()


# Code that is quoted


def lines_of(script: str, name: str) -> set[str]:
    """The lines, without indentation, of `function`, `Class.method` or `main` of a script."""
    source = (ROOT / "algos" / f"{script}.py").read_text()
    if name == "main":
        found = source.rpartition('if __name__ == "__main__":')[2]
        return {line.strip() for line in found.splitlines()}
    node = ast.parse(source)
    for part in name.split("."):
        (node,) = (child for child in node.body if getattr(child, "name", None) == part)
    return {line.strip() for line in ast.get_source_segment(source, node).splitlines()}


def quotes(page: Path) -> list[tuple[str, str]]:
    """Each "In `name`:" of a page with the code below it."""
    pattern = r"^ *In `([\w.]+)`:\n\n *```python\n(.*?)```"
    return re.findall(pattern, page.read_text(), re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("script", SCRIPTS)
def test_quoted_lines_stand_in_the_function_that_is_named(script: str) -> None:
    for name, code in quotes(ROOT / "docs" / f"{script}.md"):
        known = lines_of(script, name)
        for line in filter(None, map(str.strip, code.splitlines())):
            assert line in known, f"{name} has no line {line}"


def test_readmes_heart_of_the_method_is_the_scripts_code() -> None:
    code = re.search(r"is the method.*?```python\n(.*?)```", README.read_text(), re.DOTALL)[1]
    assert set(code.strip().splitlines()) <= lines_of("ddpg_her_reengage", "reengage_critic_loss")


@pytest.mark.parametrize("script", SCRIPTS)
def test_every_name_that_a_script_logs_is_explained(script: str) -> None:
    names = set(re.findall(LOGGED, (ROOT / "algos" / f"{script}.py").read_text()))
    assert names - EXPLAINED == set()


# Commands


def commands() -> list[tuple[str, str]]:
    """Every call of a script in the texts: its name, and what follows."""
    found = []
    for page in (README, *PAGES):
        text = page.read_text().replace("\\\n", " ")  # lines that go on
        found += re.findall(r"algos/(\w+)\.py( [^\n`|#\"]*)?", text)
    return sorted({(script, rest) for script, rest in found if " --" in rest})


@pytest.mark.parametrize("script, rest", commands())
def test_a_command_uses_flags_and_an_environment_that_exist(script: str, rest: str) -> None:
    module = importlib.import_module(f"algos.{script}")
    known = {field.name for field in fields(module.Args)} | {"help"}
    words = shlex.split(rest)
    for flag in re.findall(r" --(?:no-)?([\w-]+)", rest):
        assert flag.replace("-", "_") in known
    if "--env-id" in words:
        env_id = words[words.index("--env-id") + 1]
        if ":" not in env_id:  # other people's packages may be absent
            envs.resolve(env_id)


def test_readmes_trained_policy_acts_in_four_environments(tmp_path: Path) -> None:
    code = re.search(r"trained policy in.*?```python\n(.*?)```", README.read_text(), re.DOTALL)[1]
    code = code.replace("path/to/this/repository", str(ROOT)) + "print(action.shape)\n"
    assert "(4, 20)" in run("-c", code, cwd=tmp_path)


MODELS_PAGE = (ROOT / "docs" / "ddpg_her_reengage.md").read_text()
MODELS = re.findall(r"\| `(\w+\.pt)` \|.*\| (0\.\d+) \| (0\.\d+) \|", MODELS_PAGE)


def test_every_trained_model_is_in_the_table_of_its_page_and_at_most_a_megabyte() -> None:
    files = sorted((ROOT / "models").glob("*.pt"))
    assert [path.name for path in files] == sorted(name for name, *_ in MODELS)
    assert all(path.stat().st_size <= 1_000_000 for path in files)


@pytest.mark.parametrize(("name", "once", "last"), MODELS)
def test_a_trained_model_reaches_its_goals_as_its_page_says(
    name: str, once: str, last: str
) -> None:
    (command,) = re.findall(r"python (algos/\S+ --evaluate models/.*)", MODELS_PAGE)
    command = command.replace("hand_reach.pt", name)
    printed = run(*command.split(), "--no-cuda", cwd=ROOT)
    words = printed.split()
    for metric, stated in (("success_once", once), ("success_rate", last)):
        success = float(words[words.index(metric) + 1])
        assert abs(success - float(stated)) < 0.01


def test_readmes_fork_trains(tmp_path: Path) -> None:
    lines = re.search(r"Fork a file.*?```python\n(.*?)```", README.read_text(), re.DOTALL)[1]
    before = lines.splitlines(keepends=True)[0]
    original = (ROOT / "algos" / "ddpg_her_reengage.py").read_text()
    assert original.count(before) == 1
    fork = tmp_path / "my_her.py"
    fork.write_text(original.replace(before, lines))
    printed = run(fork, *TINY, cwd=tmp_path, PYTHONPATH=str(ROOT))
    assert "global_step 300" in printed


SB3_PAGE = (ROOT / "docs" / "stable_baselines3.md").read_text()


@pytest.mark.parametrize("code", re.findall(r"```python\n(.*?)```", SB3_PAGE, re.DOTALL))
def test_what_is_said_to_train_with_stable_baselines3_trains(code: str, tmp_path: Path) -> None:
    code = re.sub(r"learn\([\d_]+\)", "learn(1010)", code)
    paths = f"{ROOT}{os.pathsep}{ROOT / 'benchmark' / 'studies'}"
    run("-c", code, cwd=tmp_path, PYTHONPATH=paths)


def test_the_environment_of_ones_own_trains(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "environments.md").read_text()
    code = re.search(r"as `my_envs.py`:\n\n```python\n(.*?)```", page, re.DOTALL)[1]
    (tmp_path / "my_envs.py").write_text(code)
    script = ROOT / "algos" / "ddpg_her_reengage.py"
    flags = [*TINY, "--env-id", "my_envs:Slide-v0", "--run-dir", "run"]
    printed = run(script, *flags, cwd=tmp_path, PYTHONPATH=".")
    assert "global_step 300" in printed
