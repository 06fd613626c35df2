"""How the repository's own files become the site, without being written twice.

Every page keeps its path, so relative links mean on the site what they mean on GitHub. A link to a
source file leads to a page that shows it, one to a folder to the repository.
"""

import posixpath
import re
from pathlib import Path

import mathjax
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files, InclusionLevel
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[2]
PAGES = ["*.md", "docs/*.md", "benchmark/*.md", "benchmark/results/*.md"]
PICTURES = (".png", ".gif", ".svg")
LINK = re.compile(r"(\[[^\]]*\])\(([^)#\s]+)\)")
MATHJAX = '{options: {ignoreHtmlClass: ".*", processHtmlClass: "arithmatex"}}'
MATHJAX_FILE = Path(mathjax.__file__).parent / "static" / "mathjax" / "es5" / "tex-svg.js"


def links(page: str) -> list[tuple[str, str, str]]:
    """Each link of a page to a file or folder: its text in brackets, its target, and the path."""
    found = LINK.findall((ROOT / page).read_text())
    folder = posixpath.dirname(page)
    return [(text, link, posixpath.normpath(posixpath.join(folder, link))) for text, link in found]


def on_files(files: Files, config: MkDocsConfig) -> Files:
    pages = [path.relative_to(ROOT).as_posix() for glob in PAGES for path in ROOT.glob(glob)]
    pictures = [path.relative_to(ROOT).as_posix() for path in ROOT.glob("docs/pictures/*")]
    linked = {path for page in pages for _, _, path in links(page)}
    for path in sorted({*pages, *pictures, *linked}):
        if path in pages or path.endswith(PICTURES):
            files.append(File.generated(config, path, abs_src_path=str(ROOT / path)))
        elif (ROOT / path).is_file():
            files.append(source_page(path, config))
    files.append(File.generated(config, "mathjax.js", abs_src_path=str(MATHJAX_FILE)))
    return files


def source_page(path: str, config: MkDocsConfig) -> File:
    """A page that shows a source file."""
    language = Path(path).suffix[1:] or "text"
    content = f"""---
search: {{exclude: true}}
hide: [navigation, toc]
---
# {path}

````{{ .{language} linenums="1" }}
{(ROOT / path).read_text()}
````
"""
    hidden = InclusionLevel.NOT_IN_NAV
    return File.generated(config, f"{path}.md", content=content, inclusion=hidden)


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    path = page.file.src_uri
    if path == "README.md":
        page.meta["hide"] = ["navigation"]  # the tabs are enough, and its tables are wide
    if not (ROOT / path).exists():  # the page of a source file
        return markdown
    for text, link, target in links(path):
        if files.get_file_from_path(f"{target}.md"):
            markdown = markdown.replace(f"{text}({link})", f"{text}({link}.md)")
        elif (ROOT / target).is_dir():
            url = f"{config.repo_url}/tree/main/{target}"
            folder = f"{text}({url})" if config.repo_url else text[1:-1]
            markdown = markdown.replace(f"{text}({link})", folder)
    return four_spaces(markdown)


def four_spaces(markdown: str) -> str:
    """Lists as Python-Markdown wants them: after an empty line, and indented by four.

    GitHub needs no empty line, and takes the marker's width.
    """
    lines = [""]
    widths: list[int] = []  # where the contents of the open list items begin
    in_code = False
    for line in markdown.splitlines():
        text = line.lstrip()
        indent = len(line) - len(text)
        marker = None if in_code else re.match(r"(?:[-*]|\d+\.) +", text)
        is_first = marker and not widths
        while text and widths and indent < widths[-1]:
            widths.pop()
        if is_first and lines[-1]:
            lines.append("")
        column = widths[-1] if widths else 0
        lines.append(" " * 4 * len(widths) + line[column:] if text else "")
        if marker:
            widths.append(indent + len(marker[0]))
        in_code ^= text.startswith("```")
    return "\n".join(lines)


def on_page_content(content: str, files: Files, page: Page, **_: object) -> str:
    """MathJax where there are equations, from this site and not from a server elsewhere."""
    if 'class="arithmatex"' not in content:
        return content
    script = files.get_file_from_path("mathjax.js").url_relative_to(page.file)
    return f'{content}<script>MathJax = {MATHJAX}</script><script src="{script}" async></script>'
