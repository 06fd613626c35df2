"""A copy of a script that a researcher changes works in every way that the script does.

The fork has a loss of its own with its curve, a setting that changes the networks, a second critic
in a list, an optimizer, counters in unusual places, a metric that is not always there, and an actor
that learns at every third update. Nothing outside its file knows of any of them.
"""

import runpy
import signal
from collections import deque
from functools import partial
from pathlib import Path

import forked
import numpy as np
import pytest
import torch
from conftest import ROOT, contents, python, rows_of, vector_of
from problems import CPU
from test_resume import assert_equal_runs, checkpoint_often, kill_at, points

from algos.ddpg_her import Args
from envs.run import attributes_of, files, restore_attributes

ORIGINAL = ROOT / "algos" / "ddpg_her_reengage.py"
NEW_FLAGS = """\
    activation: Literal["relu", "elu"] = "relu"
    \"\"\"between the layers of all networks\"\"\"
    policy_delay: int = 1
    \"\"\"updates of the critics for one of the actor\"\"\"
    xavier_init: bool = False
"""
SECOND_CRITIC = """\
        more_net = mlp((in_dim + envs.action_dim, 8, 1), args.xavier_init, args.activation)
        self.more_critics = [Critic(self.normalizer, more_net).to(device)]
        self.my_optimizer = torch.optim.SGD(more_net.parameters(), lr=1e-3, momentum=0.9)
        self.my_updates = 0
        self.history = []
        self.actor_params = list(
"""
AUXILIARY_LOSS = """\
    more_q = agent.more_critics[0](batch.obs, batch.goal, batch.action)
    my_loss = nn.functional.mse_loss(more_q, batch.reward)
    agent.my_optimizer.zero_grad()
    my_loss.backward()
    agent.my_optimizer.step()
    curves["my_aux_loss"] = my_loss
    agent.my_updates += 1
    agent.history.append(np.float32(my_loss.item()))
    if agent.my_updates % args.policy_delay != 0:
        return curves
    curves |= backward(actor_loss
"""
IN_THE_BUFFER = """\
        self.my_float = 1.0
        self.my_tensor = torch.zeros(3)
        self.my_count = np.int64(0)
        self.unfinished = [
"""
IN_SAMPLE = """\
        self.my_float *= 0.99
        self.my_tensor += torch.rand(3)
        self.my_count += 1
        steps = min(newest or
"""
A_METRIC = """\
    metrics = dict(zip(names, played.mean(axis=1).tolist(), strict=True))
    if metrics["success_once"] > 0:
        metrics["my_metric"] = torch.tensor(0.5)
    return metrics
"""
CHANGES = {
    "    xavier_init: bool = False\n": NEW_FLAGS,
    "xavier_init: bool) ->": 'xavier_init: bool, activation: str = "relu") ->',
    "nn.ReLU(inplace=True)": 'nn.ELU() if activation == "elu" else nn.ReLU()',
    "args.hidden_dims, envs.action_dim), args.xavier_init": (
        "args.hidden_dims, envs.action_dim), args.xavier_init, args.activation"
    ),
    "args.hidden_dims, 1), args.xavier_init": (
        "args.hidden_dims, 1), args.xavier_init, args.activation"
    ),
    "        self.actor_params = list(": SECOND_CRITIC.rstrip("\n"),
    "    curves |= backward(actor_loss": AUXILIARY_LOSS.rstrip("\n"),
    "        self.unfinished = [": IN_THE_BUFFER.rstrip("\n"),
    "        steps = min(newest or": IN_SAMPLE.rstrip("\n"),
    "    return dict(zip(names, played.mean(axis=1).tolist(), strict=True))\n": A_METRIC,
    # A counter in a network, which its state_dict does not have
    "        x = self.normalizer(torch.cat([obs, goal], 1))\n": (
        "        self.calls = getattr(self, 'calls', 0) + 1\n"
        "        x = self.normalizer(torch.cat([obs, goal], 1))\n"
    ),
}
FLAGS = [*forked.SMALL["ddpg_her_reengage"], "--env-id", "ContinuousSeek1-v0"]
FLAGS += ["--activation", "elu", "--policy-delay", 3]


def make_fork(folder: Path, changes: dict[str, str]) -> Path:
    """A copy of the script in `folder` with the changes."""
    text = ORIGINAL.read_text()
    for old, new in changes.items():
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    path = folder / "my_idea.py"
    path.write_text(text)
    return path


@pytest.fixture(scope="module")
def fork(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_fork(tmp_path_factory.mktemp("fork"), CHANGES)


@pytest.fixture(scope="module")
def whole(fork: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of the fork that nothing interrupts."""
    cwd = tmp_path_factory.mktemp("whole")
    ended = forked.run(fork, *FLAGS, cwd=cwd, before=checkpoint_often)
    assert (ended.returncode, ended.stderr) == (0, "")
    return cwd / "run"


# Everything that a run does


def test_a_fork_that_is_killed_goes_on_bit_for_bit_by_the_same_command(
    fork: Path, whole: Path, tmp_path: Path
):
    ended = forked.run(fork, *FLAGS, cwd=tmp_path, before=partial(kill_at, 63))
    assert ended.returncode == -signal.SIGKILL
    ended = forked.run(fork, *FLAGS, cwd=tmp_path, before=checkpoint_often)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ", from step " in ended.stdout
    assert_equal_runs(tmp_path / "run", whole)


def test_a_forks_checkpoint_has_its_critics_optimizers_and_numbers(whole: Path):
    state = files.load(whole / "checkpoint.pt", "checkpoint")
    agent, buffer = state["agent"]["attributes of "], state["buffer"]
    updates = agent["my_updates"]
    assert updates == state["count"]["updates"] == 101
    assert len(agent["history"]) == updates
    assert "net.0.weight" in agent["more_critics"][0]["weights"]
    assert agent["more_critics"][0]["attributes of "]["calls"] == updates
    assert agent["my_optimizer"]["state"][0]["momentum_buffer"].abs().sum() > 0
    samples = buffer["my_count"]["<array>"].item()
    assert samples > updates and buffer["my_tensor"].min() > 0
    assert buffer["my_float"] == pytest.approx(0.99**samples)


def test_a_forks_curves_and_metrics_are_kept_however_seldom_they_come(whole: Path):
    assert points(whole, "my_aux_loss") == list(range(20, 121, 10))
    assert points(whole, "losses/actor") == list(range(30, 121, 10))  # from the third update on
    rows = rows_of(whole)
    assert [row["my_metric"] for row in rows] == ["0.5", "", "", "0.5", ""]
    assert points(whole, "eval/my_metric") == [0, 90]


def test_a_forks_model_builds_its_own_networks_and_refuses_others(
    fork: Path, whole: Path, tmp_path: Path
):
    model = whole / "best_model.pt"
    ended = forked.run(fork, "--evaluate", model, "--eval-episodes", 40, cwd=tmp_path)
    assert (ended.returncode, ended.stderr) == (0, "")
    names = runpy.run_path(str(fork), run_name="my_idea")
    args = names["Args"](**files.load(model, "model")["settings"])
    assert args.activation == "elu"
    for activation, is_the_models in {"elu": True, "relu": False}.items():
        args.activation = activation
        envs = vector_of(args.env_id, 40, args.seed + 1_000_000, observe_achieved_goal=True)
        agent = names["Agent"](envs, args, CPU)
        agent.actor.load_state_dict(files.load(model, "model")["actor"])
        played = names["evaluate"](envs, agent.actor.act, 40)
        line = "  ".join(f"{name} {round(float(x), 3)}" for name, x in played.items())
        assert (line in ended.stdout) == is_the_models
    ended = forked.run(fork, "--evaluate", model, "--activation", "relu", cwd=tmp_path)
    sentence = f"--activation 'relu' does not go with {model}, where it is 'elu'.\n"
    assert (ended.returncode, ended.stderr) == (2, sentence)


@pytest.mark.parametrize("place", ["beside other people's files", "in algos"])
def test_a_fork_runs_in_a_folder_of_its_own_and_in_algos(place: str, fork: Path, tmp_path: Path):
    paths = str(ROOT)  # as an installed project is found
    folder = tmp_path / "algos"
    folder.mkdir()
    if place == "in algos":
        (tmp_path / "envs").symlink_to(ROOT / "envs")
        paths = ""
    (folder / fork.name).write_text(fork.read_text())
    command = [folder / fork.name, *FLAGS, "--total-timesteps", 30]
    result = python(*command, cwd=tmp_path, PYTHONPATH=paths)
    assert (result.returncode, result.stderr) == (0, "")
    assert [row["global_step"] for row in rows_of(tmp_path / "run")] == ["0", "30"]


# Its errors

SHAPE_BUGS = {
    "Agent": ("        self.history = []\n", "        torch.zeros(2, 3) @ torch.zeros(2, 3)\n"),
    "__init__": ("        self.my_float = 1.0\n", "        np.zeros((2, 3)) @ np.zeros((2, 3))\n"),
    "sample": ("        self.my_count += 1\n", "        np.zeros(3) + np.zeros(4)\n"),
    "reengage_critic_loss": (
        "    loss = value_loss + alpha * grad_loss\n",
        "    loss = value_loss + torch.zeros(2) @ torch.zeros(3)\n",
    ),
}


@pytest.mark.parametrize("where", SHAPE_BUGS)
def test_a_forks_own_bug_shows_its_file_and_line(where: str, tmp_path: Path):
    old, new = SHAPE_BUGS[where]
    fork = make_fork(tmp_path, CHANGES | {old: new})
    line = fork.read_text()[: fork.read_text().index(new)].count("\n") + 1
    ended = forked.run(fork, *FLAGS, cwd=tmp_path)
    assert ended.returncode == 1
    assert "Traceback" in ended.stderr
    assert f'File "{fork}", line {line}, in ' in ended.stderr
    assert new.strip() in ended.stderr


LOST = {
    "a TextIOWrapper": "open('/dev/null')",
    "a Fraction": "__import__('fractions').Fraction(1)",
    "a set": "{1}",
    "a ndarray": "np.array(['a'], object)",
}


@pytest.mark.parametrize("kind", LOST)
def test_what_a_resumed_run_would_lose_is_refused_before_anything_is_written(
    kind: str, tmp_path: Path
):
    change = {"self.my_updates = 0": f"self.my_updates = {LOST[kind]}"}
    fork = make_fork(tmp_path, CHANGES | change)
    ended = forked.run(fork, *FLAGS, cwd=tmp_path)
    assert ended.returncode == 1
    sentence = f"TypeError: --resume would lose Agent.my_updates, {kind}: give it state_dict"
    assert ended.stderr.splitlines()[-1].startswith(sentence)
    assert not (tmp_path / "run").exists()


NOT_KEPT = {
    "no checkpoint keeps a buffer with persistent=False": (
        "        self.my_updates = 0\n",
        "        self.my_updates = 0\n        self.register_buffer('b', torch.ones(1), False)\n",
    ),
    "Object of type PosixPath is not JSON serializable": (
        "    seed: run.Seed = 1\n",
        "    seed: run.Seed = 1\n    table: Path = Path('x')\n",
    ),
}


@pytest.mark.parametrize("reason", NOT_KEPT)
def test_a_buffer_or_flag_that_no_file_keeps_is_refused_before_anything_is_written(
    reason: str, tmp_path: Path
):
    old, new = NOT_KEPT[reason]
    fork = make_fork(tmp_path, CHANGES)
    fork.write_text(fork.read_text().replace(old, new, 1))
    ended = forked.run(fork, *FLAGS, cwd=tmp_path)
    assert ended.returncode == 1
    assert reason in ended.stderr.splitlines()[-1]
    assert not (tmp_path / "run").exists()


def test_a_state_dict_that_no_checkpoint_can_hold_is_refused_before_anything_is_written(
    tmp_path: Path,
):
    old = 'without=("unfinished",), data=filled)'
    fork = make_fork(tmp_path, CHANGES | {old: old + ' | {"mine": np.zeros(2)}'})
    ended = forked.run(fork, *FLAGS, cwd=tmp_path)
    assert ended.returncode == 1
    last = ended.stderr.splitlines()[-1]
    assert last.startswith("TypeError: --resume could not read buffer back")
    assert not (tmp_path / "run").exists()


def test_a_number_below_0_is_refused_for_a_new_flag_without_a_range(fork: Path, tmp_path: Path):
    ended = forked.run(fork, *FLAGS, "--policy-delay=-3", cwd=tmp_path)
    sentence = "--policy-delay -3 is out of range: 0 to 1e+12.\n"
    assert (ended.returncode, ended.stderr) == (2, sentence)
    assert not (tmp_path / "run").exists()


def test_a_curve_that_is_not_a_single_number_is_named(tmp_path: Path):
    old = 'curves["my_aux_loss"] = my_loss'
    fork = make_fork(tmp_path, CHANGES | {old: 'curves["my_aux_loss"] = more_q'})
    ended = forked.run(fork, *FLAGS, cwd=tmp_path)
    last = ended.stderr.splitlines()[-1]
    assert last == "ValueError: The curve my_aux_loss has the shape (16,): average it."


# Its older runs


def test_a_run_from_before_a_flag_goes_on_and_says_what_applies(tmp_path: Path):
    fork = make_fork(tmp_path, {})
    flags = forked.SMALL["ddpg_her_reengage"]
    ended = forked.run(fork, *flags, "--total-timesteps", 60, cwd=tmp_path)
    assert (ended.returncode, ended.stderr) == (0, "")
    before = tmp_path / "run" / "args.json"
    assert "policy_delay" not in before.read_text()
    make_fork(tmp_path, {"    xavier_init: bool = False\n": NEW_FLAGS})
    ended = forked.run(fork, "--resume", "run", "--total-timesteps", 120, cwd=tmp_path)
    assert (ended.returncode, ended.stderr) == (0, "")
    told = "run/args.json does not say --activation, --policy-delay: the defaults apply."
    assert ended.stdout.splitlines()[0] == told
    told = (
        "my_idea.py has been edited since training here began: what follows comes from another "
        "program."
    )
    assert told in ended.stdout
    assert rows_of(tmp_path / "run")[-1]["global_step"] == "120"
    assert '"policy_delay": 1' in before.read_text()


def test_flags_of_any_kind_that_json_holds_come_back(tmp_path: Path):
    flags = """\
    widths: list[int] | None = None
    layers: tuple[tuple[int, int], ...] = ((1, 2),)
    tags: tuple[str, ...] = ()
    xavier_init: bool = False
"""
    own = make_fork(tmp_path, {"    xavier_init: bool = False\n": flags})
    given = [*forked.SMALL["ddpg_her_reengage"], "--total-timesteps", 30]
    given += ["--widths", 3, 4, "--layers", 3, 4, 5, 6]
    for word in ("on cpu, from the beginning", "is complete: 30 steps."):
        ended = forked.run(own, *given, cwd=tmp_path)
        assert (ended.returncode, ended.stderr) == (0, "") and word in ended.stdout
    ended = forked.run(own, *given, "--tags", "a", cwd=tmp_path)
    assert ended.returncode == 2 and ended.stderr.startswith("--tags ('a',) does not go with ")


def test_an_edited_fork_says_so_though_its_run_is_complete(fork: Path, tmp_path: Path):
    own = make_fork(tmp_path, {})
    flags = [*forked.SMALL["ddpg_her_reengage"], "--total-timesteps", 30, "--no-save-checkpoint"]
    assert forked.run(own, *flags, cwd=tmp_path).returncode == 0
    own.write_text(own.read_text() + "\n")
    before = contents(tmp_path / "run")
    ended = forked.run(own, *flags, cwd=tmp_path)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.splitlines()[-2:] == [
        "my_idea.py has been edited since training here began: what follows comes from another "
        "program.",
        f"{tmp_path / 'run'} is complete: 30 steps.",
    ]
    assert contents(tmp_path / "run") == before


# Objects whose attributes a checkpoint keeps


class Thing:
    """Has attributes of all kinds."""

    def __init__(self):
        self.numbers = [1, 2.5, None, "word", True]
        self.array = np.arange(3)
        self.growing = []
        self.recent = deque(maxlen=2)
        self.by_name = {"a": torch.zeros(2), 3: (1, 2)}
        self.rng = np.random.default_rng(1)
        self.generator = torch.Generator().manual_seed(1)
        self.settings = Args()
        self.function = max


def test_every_kind_of_attribute_comes_back_as_it_was(tmp_path: Path):
    thing, other = Thing(), Thing()
    alias = other.by_name["a"]
    thing.numbers[1] = 7.5
    thing.array += 1
    thing.growing += [np.arange(2), np.float32(0.5), torch.ones(1), (1, [2]), {"x": np.int64(3)}]
    thing.recent.extend([1, 2, 3])
    thing.by_name["a"] += 1
    thing.by_name["new"] = 1
    del thing.by_name[3]
    thing.late = np.float64(2)  # an attribute that __init__ does not make
    thing.rng.random(3)
    thing.generator.seed()
    (tmp_path / "state.pt").write_bytes(files.pack(attributes_of(thing)))
    restore_attributes(other, files.load(tmp_path / "state.pt", "state"))
    for key in ("numbers", "growing", "recent", "by_name", "late"):
        assert repr(getattr(other, key)) == repr(getattr(thing, key)), key
    np.testing.assert_array_equal(other.array, thing.array)
    assert other.recent.maxlen == 2
    assert other.by_name["a"] is alias  # what an optimizer holds stays the same tensor
    assert other.rng.random() == thing.rng.random()
    assert other.generator.get_state().equal(thing.generator.get_state())


def test_an_object_that_is_made_in_the_middle_of_a_run_is_refused_when_it_goes_on():
    thing, other = Thing(), Thing()
    thing.growing.append(torch.nn.Linear(1, 1))
    with pytest.raises(ValueError, match="made only later"):
        restore_attributes(other, attributes_of(thing))
