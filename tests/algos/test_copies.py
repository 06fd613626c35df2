"""Code that several scripts share is copied on purpose: the copies must never drift apart.

And what a reader may expect of a finished script: its length, its lines, its flags' docstrings.
"""

import ast
import difflib
import io
import itertools
import tokenize
from collections import Counter
from pathlib import Path

import pytest
from specs import ALL_SCRIPTS, EXPERIMENT, FINISHED, ROOT, UNKNOWN

SOURCES = {script: (ROOT / "algos" / f"{script}.py").read_text() for script in ALL_SCRIPTS}
PLAIN, REENGAGE, TORCHRUN = "ddpg_her", "ddpg_her_reengage", "ddpg_her_reengage_torchrun"

MOST_LINES = {TORCHRUN: 660}  # the plain script and what ranks share
LINES = 600

# The names that may stand for different code in different scripts, and why
MAY_DIFFER = {
    "Args": "algorithms differ in the environments that they take and in what they can be told",
    "check_args": "what flags and environment must fulfil together",
    "mlp": "only where the paper trains robots are there initialisations to choose from",
    "Agent": "which networks there are",
    "update": "what a gradient step is",
    "polyak": "which networks have targets",
    "evaluate_and_save": "which networks are saved, and which metric says that they are the best",
}


def definitions(script: str) -> dict[str, str]:
    """Name -> text, decorators included, of each class and function at a script's top level."""
    lines = SOURCES[script].splitlines()
    found = {}
    for node in ast.parse(SOURCES[script]).body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
            found[node.name] = "\n".join(lines[first - 1 : node.end_lineno])
    return found


def main_of(script: str) -> list[str]:
    """The lines of main: of the last of two statements that begin alike."""
    return SOURCES[script].rpartition('\nif __name__ == "__main__":\n')[2].splitlines()


def changes(ours: list[str], theirs: list[str]) -> tuple[list[str], list[str]]:
    """Lines that only one of the two has."""
    diff = list(difflib.ndiff(ours, theirs))
    gone = [line[2:] for line in diff if line.startswith("-")]
    new = [line[2:] for line in diff if line.startswith("+")]
    return gone, new


def differing(a: str, b: str) -> set[str]:
    """The names that both scripts define, and with different text."""
    ours, theirs = definitions(a), definitions(b)
    return {name for name in ours.keys() & theirs.keys() if ours[name] != theirs[name]}


def fields(text: list[str]) -> list[str]:
    """The names that lines of a dataclass declare."""
    code = [line.strip() for line in text if not line.strip().startswith('"""')]
    return [line.partition(":")[0] for line in code if line]


def statements(script: str, kind: type[ast.stmt]) -> set[str]:
    body = ast.parse(SOURCES[script]).body
    return {ast.unparse(node) for node in body if isinstance(node, kind)}


# Every script is known


def test_every_script_has_an_entry_in_specs() -> None:
    for script in UNKNOWN:
        pytest.fail(
            f"algos/{script}.py is tested by nothing: give it an entry in SPECS of "
            "tests/algos/specs.py (flags of a short run, environment, targets), as CONTRIBUTING.md "
            "says under 'An algorithm'. An experiment that no test should look at "
            f"is called {EXPERIMENT}{script}.py.",
            pytrace=False,
        )


# Copies


@pytest.mark.parametrize("a, b", list(itertools.combinations(FINISHED, 2)))
def test_what_bears_the_same_name_in_two_scripts_is_the_same_to_the_letter(a: str, b: str) -> None:
    drifted = differing(a, b) - MAY_DIFFER.keys()
    assert not drifted, f"{', '.join(sorted(drifted))}: differs between {a}.py and {b}.py"


def test_what_may_differ_does_differ_somewhere() -> None:
    pairs = itertools.combinations(FINISHED, 2)
    found = set().union(*(differing(a, b) for a, b in pairs))
    assert MAY_DIFFER.keys() <= found, "a name that never differs is taken off the list"


# The diff against the baseline is the method


def test_the_gradient_term_changes_one_loss_and_what_hands_it_its_data() -> None:
    plain, reengage = definitions(PLAIN), definitions(REENGAGE)
    losses = {"ddpg_critic_loss", "reengage_critic_loss"}
    its_own = {"AutoAlpha", "agreement"}
    assert plain.keys() ^ reengage.keys() == losses | its_own
    order = [name for name in reengage if name not in its_own]
    assert list(plain).index("ddpg_critic_loss") == order.index("reengage_critic_loss")
    assert differing(PLAIN, REENGAGE) == {"Args", "Agent", "update", "check_args"}

    gone, new = changes(plain["Agent"].splitlines(), reengage["Agent"].splitlines())
    assert not gone and [line.split(" = ")[0].strip() for line in new] == ["self.auto_alpha"]


def test_the_gradient_terms_arguments_are_the_only_new_ones() -> None:
    scripts = (PLAIN, REENGAGE)
    gone, new = changes(*(definitions(script)["Args"].splitlines() for script in scripts))
    assert not gone
    assert fields(new) == [
        "alpha", "alpha_ratio", "alpha_warmup", "alpha_averaging", "c_low", "raw_goal_gradient",
    ]  # fmt: skip


def test_the_gradient_term_imports_nothing_and_assigns_nothing_new_but_settings() -> None:
    for kind in (ast.Import, ast.ImportFrom):
        assert statements(PLAIN, kind) == statements(REENGAGE, kind)
    assigned = statements(PLAIN, ast.Assign) ^ statements(REENGAGE, ast.Assign)
    names = {text.split(" = ")[0] for text in assigned}
    assert names == {"PAPER_SETTINGS", "OTHER_SETTINGS", "UNTUNED"}


def test_the_main_loop_differs_only_by_what_the_gradient_term_needs() -> None:
    gone, new = changes(main_of(PLAIN), main_of(REENGAGE))
    assert all(word in " ".join(new) for word in ("c_low", "reward_grad"))
    assert len(gone) <= 3 and len(new) <= 10


# torchrun's script is the same algorithm


def test_torchruns_script_adds_data_parallelism_and_nothing_else() -> None:
    plain, parallel = definitions(REENGAGE), definitions(TORCHRUN)
    assert plain.keys() - parallel.keys() == {"reengage_critic_loss"}
    assert differing(REENGAGE, TORCHRUN) == {"update", "evaluate_and_save"}
    assert statements(REENGAGE, ast.Assign) == statements(TORCHRUN, ast.Assign)
    assert statements(TORCHRUN, ast.Import) - statements(REENGAGE, ast.Import) == {
        "import os",
        "import atexit",
    }
    for name in ("update", "evaluate_and_save"):
        gone, new = changes(plain[name].splitlines(), parallel[name].splitlines())
        assert len(new) - len(gone) <= 4
    losses = plain["reengage_critic_loss"], parallel["rank_critic_loss"]
    gone, new = changes(*(loss.splitlines() for loss in losses))
    assert len(gone) <= 3 and len(new) <= 6  # its name, and one alpha for all ranks


# What a reader may expect


@pytest.mark.parametrize("script", FINISHED)
def test_every_argument_has_a_docstring(script: str) -> None:
    (args,) = ast.parse(definitions(script)["Args"]).body
    for node, after in itertools.pairwise([*args.body, ast.Pass()]):
        if isinstance(node, ast.AnnAssign):
            name = ast.unparse(node.target)
            is_text = isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
            assert is_text and after.value.value, f"{script}.py: {name} has no docstring"


@pytest.mark.parametrize("script", FINISHED)
def test_a_script_can_be_read_in_one_sitting(script: str) -> None:
    lines = len(SOURCES[script].splitlines())
    assert lines <= MOST_LINES.get(script, LINES), f"{script}.py has {lines} lines"


@pytest.mark.parametrize("script", FINISHED)
def test_a_script_imports_no_other_script(script: str) -> None:
    modules = []
    for node in ast.walk(ast.parse(SOURCES[script])):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0
            modules.append(node.module)
        elif isinstance(node, ast.Import):
            modules += [alias.name for alias in node.names]
    assert not {module.rpartition(".")[2] for module in modules} & set(ALL_SCRIPTS)
    assert not [module for module in modules if module.startswith("algos")]


def tokens_of_lines(source: str) -> list[int]:
    """How many names, operators and numbers each line of code has."""
    count = Counter()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type in (tokenize.NAME, tokenize.OP, tokenize.NUMBER):
            count[token.start[0]] += 1
    return list(count.values())


READABLE = [ROOT / "algos" / f"{script}.py" for script in FINISHED]
READABLE += sorted((ROOT / "envs").rglob("*.py"))


@pytest.mark.parametrize("path", READABLE, ids=[str(path.relative_to(ROOT)) for path in READABLE])
def test_lines_have_one_idea_each(path: Path) -> None:
    tokens = tokens_of_lines(path.read_text())
    dense = sum(number > 20 for number in tokens)
    assert dense <= max(3, 0.12 * len(tokens)), (
        f"{dense} of {len(tokens)} lines have over 20 tokens"
    )
