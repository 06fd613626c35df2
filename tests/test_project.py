"""What holds the project together: packages, versions, and the list of mutants."""

import re
import tomllib

import mutants
import pytest
from conftest import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
DEPENDENCIES = PROJECT["project"]["dependencies"]


def test_every_package_of_envs_is_installed_and_no_script() -> None:
    found = {path.parent.relative_to(ROOT) for path in (ROOT / "envs").rglob("*.py")}
    names = {".".join(path.parts) for path in found}
    assert set(PROJECT["tool"]["setuptools"]["packages"]) == names


def test_what_the_project_needs_is_pinned_and_bounded_by_the_next_major_version() -> None:
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    pins = dict(re.match(r"([\w-]+)==([\d.]+)", line).groups() for line in lines)
    bounds = [re.fullmatch(r"([\w-]+)>=([\d.]+),<(\d+)", line).groups() for line in DEPENDENCIES]
    assert sorted(pins) == [name for name, _, _ in bounds]
    for name, low, high in bounds:
        assert pins[name].startswith(low) and int(pins[name].split(".")[0]) < int(high)


def test_the_version_is_the_changelogs_newest() -> None:
    text = (ROOT / "CHANGELOG.md").read_text()
    newest = re.search(r"^## (\S+), \d{4}-\d\d-\d\d$", text, re.MULTILINE)[1]
    assert newest == PROJECT["project"]["version"]


@pytest.mark.parametrize("path", sorted({mutant.path for mutant in mutants.MUTANTS}))
def test_every_mutant_still_fits_its_file(path: str) -> None:
    source = (ROOT / path).read_text()
    for mutant in mutants.MUTANTS:
        if mutant.path == path:
            assert source.count(mutant.old) == 1, mutant.old
            assert (ROOT / mutant.tests.split()[0]).exists(), mutant.tests
