"""Code that several scripts share is copied on purpose: the copies must never drift apart."""

import ast
import difflib
import itertools

import pytest
from conftest import ROOT, SCRIPTS

SOURCES = {script: (ROOT / "algos" / f"{script}.py").read_text() for script in SCRIPTS}
LOSS_FUNCTIONS = {"ddpg_critic_loss", "reengage_critic_loss"}


def definitions(script: str) -> dict[str, str]:
    """Name -> source text, decorators included, of each class and function at the top level of a script."""
    lines = SOURCES[script].splitlines()
    found = {}
    for node in ast.parse(SOURCES[script]).body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
            found[node.name] = "\n".join(lines[first - 1 : node.end_lineno])
    return found


def segment(script: str, kind: type[ast.stmt], start: str) -> list[str]:
    """Lines of the one top-level statement of this kind whose source begins with `start`."""
    texts = [ast.get_source_segment(SOURCES[script], node) for node in ast.parse(SOURCES[script]).body
             if isinstance(node, kind)]  # fmt: skip
    (text,) = (text for text in texts if text.startswith(start))
    return text.splitlines()


def changes(ours: list[str], theirs: list[str]) -> tuple[list[str], list[str]]:
    """Lines that only one of the two has."""
    diff = list(difflib.ndiff(ours, theirs))
    return [line[2:] for line in diff if line[0] == "-"], [
        line[2:] for line in diff if line[0] == "+"
    ]


def statements(text: str, kind: type[ast.stmt]) -> set[str]:
    return {ast.unparse(node) for node in ast.parse(text).body if isinstance(node, kind)}


@pytest.mark.parametrize("a, b", list(itertools.combinations(SCRIPTS, 2)))
def test_what_bears_the_same_name_in_two_scripts_is_the_same_to_the_letter(a: str, b: str):
    ours, theirs = definitions(a), definitions(b)
    for name in ours.keys() & theirs.keys() - {"Args"}:
        assert ours[name] == theirs[name], f"{name} differs between {a}.py and {b}.py"


def test_the_gradient_term_changes_one_function_and_leaves_every_other_alone():
    plain, reengage = definitions("ddpg_her"), definitions("ddpg_her_reengage")
    assert plain.keys() ^ reengage.keys() == LOSS_FUNCTIONS
    assert list(plain).index("ddpg_critic_loss") == list(reengage).index("reengage_critic_loss")
    assert {name for name in plain.keys() & reengage.keys() if plain[name] != reengage[name]} == {
        "Args"
    }


def test_the_gradient_terms_arguments_are_the_only_new_ones():
    gone, new = changes(
        *(definitions(script)["Args"].splitlines() for script in ("ddpg_her", "ddpg_her_reengage"))
    )
    assert not gone
    fields = [line.split(":")[0].strip() for line in new if not line.strip().startswith('"""')]
    assert fields == ["alpha", "c_low", "raw_goal_gradient"]


def test_the_gradient_term_imports_nothing_and_assigns_nothing_new_but_the_papers_settings():
    for kind in (ast.Import, ast.ImportFrom, ast.Assign, ast.Expr):
        plain, reengage = (
            statements(SOURCES[script], kind) for script in ("ddpg_her", "ddpg_her_reengage")
        )
        differing = sorted(text.split("=")[0].strip() for text in plain ^ reengage)
        if kind is ast.Assign:
            assert differing == ["PAPER_SETTINGS", "PAPER_SETTINGS"]
        elif kind is ast.Expr:
            assert len(differing) == 2 and all(
                "Levine & Feizi" in text for text in plain ^ reengage
            )  # the docstrings
        else:
            assert not differing


def test_the_main_loop_differs_only_where_the_critics_loss_is_set_up_and_called():
    mains = (segment(script, ast.If, "if __name__") for script in ("ddpg_her", "ddpg_her_reengage"))
    gone, new = changes(*mains)
    assert len(gone) == 1 and "amp(ddpg_critic_loss)(" in gone[0]
    assert "critic_loss, info = amp(reengage_critic_loss)(" in "\n".join(new)
    assert len(new) <= 8
    # What learns, what is stored and what is logged stays the same
    for word in ("optimizer", "buffer", "writer", "metrics", "torch.save", "lerp", "rng"):
        assert not any(word in line for line in new), word


@pytest.mark.parametrize("script", SCRIPTS)
def test_every_argument_has_a_docstring(script: str):
    (args,) = (
        node for node in ast.parse(SOURCES[script]).body if getattr(node, "name", "") == "Args"
    )
    for node, after in itertools.pairwise([*args.body, ast.Pass()]):
        if isinstance(node, ast.AnnAssign):
            documented = (
                isinstance(after, ast.Expr)
                and isinstance(after.value, ast.Constant)
                and after.value.value
            )
            assert documented, f"{script}.py: {ast.unparse(node.target)} has no docstring"


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_script_fits_into_450_lines_and_25_more_where_it_trains_data_parallel(script: str):
    assert len(SOURCES[script].splitlines()) <= (
        475 if "torch.distributed" in SOURCES[script] else 450
    )


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_script_imports_neither_another_script_nor_a_helper_module(script: str):
    for node in ast.walk(ast.parse(SOURCES[script])):
        modules = [node.module] if isinstance(node, ast.ImportFrom) else []
        modules += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        for module in modules:
            assert not (ROOT / f"{module.split('.')[0]}.py").exists()
            assert module.split(".")[0] not in {"algos", "tests", "benchmark", *SCRIPTS}
