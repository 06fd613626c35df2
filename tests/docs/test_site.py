"""The site builds without a warning, of a broken link for one, and loads nothing from elsewhere."""

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

pytest.importorskip("mkdocs", reason="requirements-docs.txt is not installed")
ROOT = Path(__file__).resolve().parents[2]


class Page(HTMLParser):
    """The links of a page, what it loads, and its plain text."""

    def __init__(self, path: Path):
        super().__init__()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.text = ""
        self.feed(path.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if tag == "a" and "href" in values:
            self.links.append(values["href"])
        if tag == "link" and values.get("rel") in ("stylesheet", "icon"):
            self.loads.append(values["href"])
        if "src" in values:
            self.loads.append(values["src"])

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the site is, which must build without a warning."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--site-dir", str(folder)]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1", "REPO_URL": "https://example.org/code"}
    built = subprocess.run(command, cwd=ROOT, env=environment, text=True, capture_output=True)
    assert built.returncode == 0, built.stderr
    return folder


@pytest.fixture(scope="module")
def site(folder: Path) -> dict[str, Page]:
    """Every page by its path."""
    paths = [path for path in folder.rglob("*.html") if path.name != "404.html"]
    return {path.relative_to(folder).as_posix(): Page(path) for path in paths}


def test_pictures_scripts_and_styles_come_from_the_site_itself(
    folder: Path, site: dict[str, Page]
) -> None:
    for path, page in site.items():
        for load in page.loads:
            is_there = (folder / path).parent.joinpath(load).exists()
            assert is_there or load.startswith("data:"), f"{path}: {load}"


def test_lists_tables_and_the_code_in_them_are_no_part_of_a_paragraph(
    folder: Path, site: dict[str, Page]
) -> None:
    mark = re.compile(r"<p>[^<]*\n(?:[-*] |\d+\. |\|)")
    for path, page in site.items():
        assert "```" not in page.text, path
        assert not mark.search((folder / path).read_text()), path


def test_every_text_of_the_repository_is_a_page(site: dict[str, Page]) -> None:
    texts = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("benchmark/**/*.md")]
    for text in texts:
        name = text.relative_to(ROOT).with_suffix(".html").as_posix()
        assert name.replace("README", "index") in site


def test_links_to_source_files_lead_to_them_and_those_to_folders_to_the_repository(
    site: dict[str, Page],
) -> None:
    assert "algos/ddpg_her.py.html" in site["index.html"].links
    assert "def ddpg_critic_loss" in site["algos/ddpg_her.py.html"].text
    links = site["docs/ddpg_her_reengage.html"].links
    assert "https://example.org/code/tree/main/models" in links


def test_equations_are_drawn_by_mathjax(site: dict[str, Page]) -> None:
    page = site["docs/ddpg_her_reengage.html"]
    assert "\\begin{aligned}" in page.text and any("mathjax.js" in load for load in page.loads)
