"""The scripts as commands: what a run writes, that seeds decide everything, and how bad input ends."""

import csv
import json
import math
import re
import shutil
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from subprocess import CompletedProcess
from types import ModuleType

import pytest
import torch
from conftest import SCRIPTS, run_script
from gymnasium.spaces import Discrete
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from algos import (
    ddpg_her,
    ddpg_her_reengage,
    ddpg_multi_reengage,
    dqn_her_reengage_bitflip,
    sac_her_reengage,
)
from envs import VectorEnv

CONTINUOUS = ["ddpg_her", "ddpg_her_reengage", "sac_her_reengage"]
DQN, MULTI = "dqn_her_reengage_bitflip", "ddpg_multi_reengage"
COLUMNS = ["global_step", "success_rate", "success_once", "episodic_return", "wall_time"]
COMMON = "--total-timesteps 60 --eval-frequency 30 --batch-size 16 --eval-episodes 20".split()
SEEK_1 = [
    *COMMON,
    *"--env-id ContinuousSeek1-v0 --learning-starts 30 --exploration-noise 0.5 --normalize".split(),
]
SEEK_1 += ["--hidden-dims", "16", "16"]
FLIP_3 = [
    *COMMON,
    *"--env-id BitFlip3-v0 --num-envs 2 --gradient-steps 2 --learning-rate 0.01".split(),
]
FLIP_3 += ["--hidden-dims", "16", "16"]
DRIVE_5 = [
    *COMMON,
    *"--env-id DriveSeek5-v0 --learning-starts 30 --hidden-dim 16 --num-threads 1".split(),
]
SMALL = dict.fromkeys(CONTINUOUS, SEEK_1) | {DQN: FLIP_3, MULTI: DRIVE_5}
ENV_ID = dict.fromkeys(CONTINUOUS, "ContinuousSeek1-v0") | {
    DQN: "BitFlip3-v0",
    MULTI: "DriveSeek5-v0",
}
CHECK = {  # each script's own check of its arguments
    "ddpg_her": ddpg_her.check_args,
    "ddpg_her_reengage": ddpg_her_reengage.check_args,
    "sac_her_reengage": sac_her_reengage.check_sac_args,
    DQN: dqn_her_reengage_bitflip.check_dqn_args,
    MULTI: ddpg_multi_reengage.check_multi_args,
}
NETWORKS = dict.fromkeys(SCRIPTS, ["actor", "critic"]) | {
    "sac_her_reengage": ["actor", "critics"],
    DQN: ["q_network"],
}


def side_by_side(run: Callable, jobs: list) -> list:
    """run(job) for each job, two at a time; the work happens in other processes."""
    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(run, jobs))


def read_metrics(path: Path) -> list[dict[str, float]]:
    with open(path, newline="") as file:
        return [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]


def without_wall_time(path: Path) -> list[dict[str, float]]:
    return [
        {key: value for key, value in row.items() if key != "wall_time"}
        for row in read_metrics(path)
    ]


@pytest.fixture(scope="module")
def without_wandb(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for PYTHONPATH in which Weights & Biases is missing, even where it is installed."""
    folder = tmp_path_factory.mktemp("without_wandb")
    (folder / "wandb.py").write_text("raise ModuleNotFoundError(\"No module named 'wandb'\")\n")
    return folder


@pytest.fixture(scope="module")
def runs(
    tmp_path_factory: pytest.TempPathFactory, without_wandb: Path
) -> dict[tuple[str, str], CompletedProcess]:
    """Three finished runs a script, each in its own working directory: "first", "again" (same seed), "other" seed."""
    jobs = {}
    for script in SCRIPTS:
        jobs[script, "first"] = ["--seed", 7]
        jobs[script, "again"] = ["--seed", 7]
        jobs[script, "other"] = ["--seed", 8]

    def run(job: tuple[str, str]) -> CompletedProcess:
        cwd = tmp_path_factory.mktemp(job[1])
        result = run_script(job[0], *SMALL[job[0]], *jobs[job], cwd=cwd, python_path=without_wandb)
        assert result.returncode == 0, result.stderr
        result.cwd = cwd
        (result.run_dir,) = cwd.glob("runs/*")
        return result

    return dict(zip(jobs, side_by_side(run, list(jobs)), strict=True))


# What a run writes and prints


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_run_started_anywhere_writes_its_folder_there_and_nothing_else(script: str, runs: dict):
    run = runs[script, "first"]
    assert [path.name for path in run.cwd.iterdir()] == ["runs"]
    assert re.fullmatch(rf"{ENV_ID[script]}__{script}__7__\d+(-\d+)?", run.run_dir.name)
    names = sorted(path.name for path in run.run_dir.iterdir())
    (events,) = (name for name in names if name.startswith("events.out.tfevents"))
    assert names == sorted([events, "args.json", "metrics.csv", "model.pt", "best_model.pt"])
    assert (run.run_dir / events).stat().st_size > 100


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_run_has_a_row_and_a_line_for_each_evaluation_and_no_word_on_standard_error(
    script: str, runs: dict
):
    run = runs[script, "first"]
    with open(run.run_dir / "metrics.csv", newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0][:5] == COLUMNS
    assert [row[0] for row in rows[1:]] == ["0", "30", "60"]
    assert [line.split()[:3:2] for line in run.stdout.splitlines()] == [
        ["global_step", "success_rate"]
    ] * 3
    assert run.stderr == ""


@pytest.mark.parametrize("script", SCRIPTS)
def test_args_json_holds_every_argument_as_it_was_used(script: str, runs: dict):
    args = json.loads((runs[script, "first"].run_dir / "args.json").read_text())
    assert args.keys() == vars(sys.modules[f"algos.{script}"].Args()).keys()
    assert args["seed"] == 7 and args["batch_size"] == 16 and args["env_id"] == ENV_ID[script]
    assert args["total_timesteps"] == 60


@pytest.mark.parametrize("script", SCRIPTS)
def test_the_same_seed_gives_the_same_metrics_and_models_and_another_seed_does_not(
    script: str, runs: dict
):
    first, again, other = (runs[script, name].run_dir for name in ("first", "again", "other"))
    metrics = without_wall_time(first / "metrics.csv")
    assert metrics == without_wall_time(again / "metrics.csv")
    assert metrics != without_wall_time(other / "metrics.csv")
    models = [
        torch.load(folder / "model.pt", weights_only=True)[NETWORKS[script][0]]
        for folder in (first, again, other)
    ]
    assert all(torch.equal(models[0][key], models[1][key]) for key in models[0])
    assert not all(torch.equal(models[0][key], models[2][key]) for key in models[0])


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_model_file_is_plain_data_with_all_networks_and_says_where_it_comes_from(
    script: str, runs: dict
):
    for name in ("model.pt", "best_model.pt"):
        model = torch.load(runs[script, "first"].run_dir / name, weights_only=True)
        assert (model["script"], model["env_id"]) == (script, ENV_ID[script])
        for network in NETWORKS[script]:
            assert any(key.endswith(("net.0.weight", "head.0.weight")) for key in model[network])


@pytest.mark.parametrize("script", CONTINUOUS)
def test_a_model_file_has_the_normalisers_statistics(script: str, runs: dict):
    actor = torch.load(runs[script, "first"].run_dir / "model.pt", weights_only=True)["actor"]
    for normalizer in ("obs_normalizer", "goal_normalizer"):
        assert actor[f"{normalizer}.std"][0] != 1 and actor[f"{normalizer}.mean"][0] != 0
        assert actor[f"{normalizer}.sums"][0, 0] == 60  # transitions seen


@pytest.mark.parametrize("script", SCRIPTS)
def test_the_best_model_is_of_the_first_evaluation_with_the_highest_success(
    script: str, runs: dict
):
    for name in ("first", "other"):
        rows = read_metrics(runs[script, name].run_dir / "metrics.csv")
        metric = {DQN: "success_once", MULTI: "episodic_return"}.get(script, "success_rate")
        best = max(rows, key=lambda row, metric=metric: row[metric])
        assert (
            torch.load(runs[script, name].run_dir / "best_model.pt")["global_step"]
            == best["global_step"]
        )
        assert (
            torch.load(runs[script, name].run_dir / "model.pt")["global_step"]
            == rows[-1]["global_step"]
        )


@pytest.mark.parametrize("script", SCRIPTS)
def test_evaluate_plays_a_saved_model_without_training_and_without_a_run_folder(
    script: str, runs: dict, tmp_path: Path
):
    model_path = tmp_path / "model.pt"
    shutil.copy(runs[script, "first"].run_dir / "model.pt", model_path)
    flags = ["--env-id", ENV_ID[script], "--evaluate", model_path, "--eval-episodes", 40]
    result = run_script(script, *flags, cwd=tmp_path)
    assert (result.returncode, result.stderr) == (0, "")
    assert [path.name for path in tmp_path.iterdir()] == ["model.pt"]
    printed = dict(re.findall(r"(\w+) (\S+)", result.stdout))

    # The same model, put together here and played on the same episodes
    module, model = sys.modules[f"algos.{script}"], torch.load(model_path, weights_only=True)
    if script == DQN:
        policy = module.QNetwork(module.mlp((6, 16, 16, 3), False))
        envs = VectorEnv("BitFlip3-v0", 40, 1_000_001, action_space=Discrete)
    elif script == MULTI:
        encoder = module.GoalEncoder(module.mlp((8, 16, 16, 20), False), 5)
        policy = module.GoalSetActor(encoder, module.mlp((26, 16, 1), False))
        envs = VectorEnv("DriveSeek5-v0", 40, 1_000_001)
    else:
        kind, outputs = (
            (module.GaussianActor, 2) if script == "sac_her_reengage" else (module.Actor, 1)
        )
        normalizers = module.Normalizer(2, True), module.Normalizer(1, True)
        policy = kind(*normalizers, module.mlp((3, 16, 16, outputs), False))
        envs = VectorEnv("ContinuousSeek1-v0", 40, 1_000_001, observe_achieved_goal=True)
    policy.load_state_dict(model[NETWORKS[script][0]])
    assert {key: float(value) for key, value in printed.items()} == pytest.approx(
        envs.play(policy.act), abs=1e-3
    )


def test_track_mirrors_the_run_to_weights_and_biases(tmp_path: Path):
    (tmp_path / "packages").mkdir()
    fake = "import json\ndef init(**kwargs):\n    json.dump(kwargs, open('told.json', 'w'), default=str)\n"
    (tmp_path / "packages" / "wandb.py").write_text(fake)
    flags = [*SEEK_1, "--total-timesteps", 10, "--run-dir", "here", "--track"]
    result = run_script("ddpg_her", *flags, cwd=tmp_path, python_path=tmp_path / "packages")
    assert (result.returncode, result.stderr) == (0, "")
    told = json.loads((tmp_path / "told.json").read_text())
    assert (
        told["sync_tensorboard"] is True
        and told["config"]["total_timesteps"] == 10
        and told["name"] == "here"
    )


# Environments of other kinds


@pytest.mark.parametrize("script", [*CONTINUOUS, DQN])
def test_an_environment_that_ends_early_trains(script: str, tmp_path: Path):
    env_id = "CorridorDiscrete-v0" if script == DQN else "Corridor-v0"
    flags = [
        *SMALL[script],
        "--env-id",
        env_id,
        "--num-envs",
        3,
        "--total-timesteps",
        150,
        "--eval-episodes",
        10,
    ]
    result = run_script(script, *flags, "--run-dir", "run", cwd=tmp_path, with_corridor=True)
    assert (result.returncode, result.stderr) == (0, "")
    rows = read_metrics(tmp_path / "run" / "metrics.csv")
    assert rows[-1]["global_step"] >= 150 and all(
        math.isfinite(value) for row in rows for value in row.values()
    )
    model = torch.load(tmp_path / "run" / "model.pt", weights_only=True)
    assert all(value.isfinite().all() for value in model[NETWORKS[script][-1]].values())


def test_filming_writes_a_video_and_changes_nothing_else(tmp_path: Path):
    def run(name: str) -> CompletedProcess:
        flags = [
            *SEEK_1,
            "--env-id",
            "Corridor-v0",
            "--run-dir",
            name,
            *(["--capture-video"] if name == "film" else []),
        ]
        return run_script("ddpg_her_reengage", *flags, cwd=tmp_path, with_corridor=True)

    for result in side_by_side(run, ["film", "none"]):
        assert (result.returncode, result.stderr) == (0, "")
    assert (tmp_path / "film" / "video.gif").read_bytes().startswith(b"GIF89a")
    assert not list((tmp_path / "none").glob("*.gif"))
    assert without_wall_time(tmp_path / "film" / "metrics.csv") == without_wall_time(
        tmp_path / "none" / "metrics.csv"
    )


@pytest.mark.parametrize("script", CONTINUOUS)
def test_hand_reach_v2_trains_under_its_true_name(script: str, tmp_path: Path):
    flags = "--env-id HandReach-v2 --num-envs 2 --eval-episodes 2 --total-timesteps 200 --gradient-steps 2".split()
    flags += "--batch-size 32 --eval-frequency 100 --hidden-dims 32 32".split()
    result = run_script(script, *flags, cwd=tmp_path)
    assert (result.returncode, result.stderr) == (0, "")
    (run_dir,) = tmp_path.glob("runs/*")
    assert run_dir.name.startswith(f"HandReach-v3__{script}__1__")
    assert json.loads((run_dir / "args.json").read_text())["env_id"] == "HandReach-v3"
    assert [row["global_step"] for row in read_metrics(run_dir / "metrics.csv")] == [0, 100, 200]
    assert "HandReach-v2" in result.stdout.splitlines()[0] and len(result.stdout.splitlines()) == 4


@pytest.mark.parametrize("script", ["ddpg_her_reengage", "sac_her_reengage"])
def test_a_dense_reward_trains_with_the_gradient_term(script: str, tmp_path: Path):
    flags = [*SEEK_1, "--env-id", "ContinuousSeek2Dense-v0", "--alpha", 0.5, "--run-dir", "run"]
    result = run_script(script, *flags, cwd=tmp_path)
    assert (result.returncode, result.stderr) == (0, "")
    assert read_metrics(tmp_path / "run" / "metrics.csv")[-1]["global_step"] == 60


@pytest.mark.parametrize("script", SCRIPTS)
def test_medium_precision_trains_weights_that_are_near_those_of_float32_and_not_the_same(
    script: str, runs: dict, tmp_path: Path
):
    flags = [*SMALL[script], "--seed", 7, "--matmul-precision", "medium", "--run-dir", "run"]
    result = run_script(script, *flags, cwd=tmp_path)
    assert (result.returncode, result.stderr) == (0, "")
    ours, theirs = (
        torch.load(folder / "model.pt", weights_only=True)[NETWORKS[script][-1]]
        for folder in (tmp_path / "run", runs[script, "first"].run_dir)
    )
    difference, size = (
        sum(x.square().sum() for x in values)
        for values in ([ours[k] - theirs[k] for k in ours], theirs.values())
    )
    assert 0 < difference < 0.1**2 * size


@pytest.mark.parametrize("soft_target", ["gradient", "both", "both-stochastic"])
def test_every_use_of_the_soft_target_trains_and_gives_another_network(
    soft_target: str, runs: dict, tmp_path: Path
):
    flags = [*FLIP_3, "--seed", 7, "--soft-target", soft_target, "--run-dir", "run"]
    result = run_script(DQN, *flags, cwd=tmp_path)
    assert (result.returncode, result.stderr) == (0, "")
    folders = (
        tmp_path / "run",
        runs[DQN, "first"].run_dir,
    )  # the latter with the default, 'gradient'
    ours, default = (
        torch.load(folder / "model.pt")["q_network"]["net.0.weight"] for folder in folders
    )
    assert torch.equal(ours, default) == (soft_target == "gradient")


def test_sacs_entropy_coefficient_starts_at_1_and_falls_while_the_policy_is_more_random_than_asked(
    runs: dict,
):
    events = EventAccumulator(str(runs["sac_her_reengage", "first"].run_dir))
    events.Reload()
    first, last = (scalar.value for scalar in events.Scalars("entropy_coef"))  # at steps 30 and 60
    assert first == 1.0
    assert (
        math.exp(-1.1 * 2.5e-3 * 30) < last < math.exp(-0.5 * 2.5e-3 * 30)
    )  # Adam moves by the learning rate


FORMS = ["--no-share-encoder", "--no-policy-gates", "--encoder cnn --batch-size 2 --total-timesteps 31", "--alpha 0",
         "--n-max 9", "--env-id NoisySeek5-v0"]  # fmt: skip


@pytest.mark.parametrize("flags", FORMS)
def test_every_form_of_multi_reengage_trains_and_its_model_plays(flags: str, tmp_path: Path):
    result = run_script(MULTI, *DRIVE_5, *flags.split(), "--run-dir", "run", cwd=tmp_path)
    assert (result.returncode, result.stderr) == (0, "")
    rows = read_metrics(tmp_path / "run" / "metrics.csv")
    env_id = "NoisySeek5-v0" if "Noisy" in flags else "DriveSeek5-v0"
    play = ["--env-id", env_id, "--evaluate", "run/model.pt", "--eval-episodes", 20]
    result = run_script(MULTI, *play, cwd=tmp_path)
    assert (result.returncode, result.stderr) == (0, "")
    assert math.isfinite(rows[-1]["episodic_return"]) and "episodic_return" in result.stdout


# How a run ends that cannot go on


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_loss_that_is_no_number_stops_the_run_with_the_step_and_keeps_what_was_saved(
    script: str, tmp_path: Path
):
    result = run_script(
        script, *SMALL[script], "--learning-rate", "1e30", "--run-dir", "run", cwd=tmp_path
    )
    assert result.returncode not in (0, 2)
    (sentence,) = result.stderr.splitlines()
    step = int(re.search(r"loss is (?:-?inf|nan) at step (\d+);", sentence)[1])
    assert "run" in sentence and (4 <= step < 30 if script == DQN else 29 <= step < 40)
    rows = read_metrics(tmp_path / "run" / "metrics.csv")
    assert (
        rows
        and torch.load(tmp_path / "run" / "model.pt", weights_only=True)["global_step"]
        == rows[-1]["global_step"]
    )
    assert not list((tmp_path / "run").glob("unfinished*"))


class Payload:
    """Unpickling this object creates the file `executed` in the working directory."""

    def __reduce__(self) -> tuple:
        return (open, ("executed", "w"))


REENGAGE, PLAIN, SAC = "ddpg_her_reengage", "ddpg_her", "sac_her_reengage"
BAD_INPUT = {  # name: script, flags (space-separated), what the message must say
    "unknown environment": (REENGAGE, "--env-id Nowhere-v0", "No environment 'Nowhere-v0'"),
    "environment without goals": (
        PLAIN,
        "--env-id Pendulum-v1",
        "Pendulum-v1 is no goal environment",
    ),
    "discrete actions": (REENGAGE, "--env-id CorridorDiscrete-v0", "has a Discrete action space"),
    "discrete actions, baseline": (
        PLAIN,
        "--env-id CorridorDiscrete-v0",
        "has a Discrete action space",
    ),
    "negative alpha": (REENGAGE, "--alpha -0.1", "--alpha -0.1"),
    "zero size": (REENGAGE, "--batch-size 0", "--batch-size 0"),
    "negative size": (PLAIN, "--buffer-size -5", "--buffer-size -5"),
    "batch with nothing stored": (REENGAGE, "--learning-starts 5", "--learning-starts"),
    "buffer smaller than an episode": (PLAIN, "--buffer-size 9", "--buffer-size 9"),
    "unknown strategy": (REENGAGE, "--her-strategy nearest", "--her-strategy"),
    "unknown flag": (PLAIN, "--alhpa 1", "--alhpa"),
    "unwritable run folder": (REENGAGE, "--run-dir /dev/null/run", "/dev/null/run"),
    "run folder that exists": (PLAIN, "--run-dir existing", "existing"),
    "model of another environment": (
        REENGAGE,
        "--env-id ContinuousSeek2-v0 --evaluate good.pt",
        "ContinuousSeek1-v0",
    ),
    "model file that is none": (PLAIN, "--evaluate junk.pt", "junk.pt"),
    "model of another script": (
        REENGAGE,
        "--env-id ContinuousSeek1-v0 --evaluate good.pt",
        "ddpg_her.py",
    ),
    "model file that would run code": (REENGAGE, "--evaluate payload.pt", "payload.pt"),
    "discrete actions, SAC": (SAC, "--env-id CorridorDiscrete-v0", "has a Discrete action space"),
    "continuous actions, DQN": (
        DQN,
        "--env-id ContinuousSeek5-v0",
        "has a Box action space, not a Discrete",
    ),
    "negative alpha, SAC": (SAC, "--alpha -1", "--alpha -1"),
    "batch with nothing stored, SAC": (SAC, "--learning-starts 5", "--learning-starts"),
    "fewer slots than goals": (MULTI, "--env-id DriveSeek20-v0 --n-max 19", "--n-max 19"),
    "image encoder without a map": (MULTI, "--env-id NoisySeek-v0 --encoder cnn", "--encoder cnn"),
    "environment without goal sets": (MULTI, "--env-id ContinuousSeek5-v0", "compute_item_rewards"),
    "unknown encoder": (MULTI, "--encoder rnn", "--encoder"),
    "more goals than cells": (MULTI, "--env-id DriveSeek442-v0", "441"),
    "negative temperature": (DQN, "--temperature -0.5", "--temperature -0.5"),
    "unknown soft target": (DQN, "--soft-target neither", "--soft-target"),
    "softmax without a temperature": (
        DQN,
        "--soft-target both-stochastic --temperature 0",
        "--temperature",
    ),
    "tracking without the package": (REENGAGE, "--track", "wandb"),
}


@pytest.fixture(scope="module")
def bad_input(
    runs: dict, without_wandb: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, CompletedProcess]:
    """Every line of BAD_INPUT as a command in a folder of its own; `written` lists what it left there."""

    def run(name: str) -> CompletedProcess:
        script, flags, _ = BAD_INPUT[name]
        cwd = tmp_path_factory.mktemp("bad")
        (cwd / "existing").mkdir()
        (cwd / "junk.pt").write_text("junk")
        torch.save({"env_id": "ContinuousSeek5-v0", "architecture": Payload()}, cwd / "payload.pt")
        shutil.copy(runs[PLAIN, "first"].run_dir / "model.pt", cwd / "good.pt")
        before = set(cwd.rglob("*"))
        corridor = "Corridor" in flags
        result = run_script(
            script, *flags.split(), cwd=cwd, python_path=without_wandb, with_corridor=corridor
        )
        result.written = set(cwd.rglob("*")) - before
        return result

    return dict(zip(BAD_INPUT, side_by_side(run, list(BAD_INPUT)), strict=True))


@pytest.mark.parametrize("name", BAD_INPUT)
def test_bad_input_ends_with_one_sentence_and_exit_code_2_and_writes_nothing(
    name: str, bad_input: dict
):
    result, message = bad_input[name], BAD_INPUT[name][2]
    assert result.returncode == 2, result.stderr
    assert message in result.stderr and "Traceback" not in result.stderr
    if (
        not name.startswith("unknown") or name == "unknown environment"
    ):  # the others tyro refuses, in a box of its own
        assert len(result.stderr.splitlines()) == 1
    assert "global_step" not in result.stdout  # no evaluation had started
    assert result.written == set()


@pytest.mark.parametrize("script", SCRIPTS)
@pytest.mark.parametrize("value", [0, -1, math.nan])
@pytest.mark.parametrize(
    "name",
    "total_timesteps learning_rate buffer_size batch_size tau num_envs train_frequency gradient_steps "
    "target_network_frequency her_k eval_frequency eval_episodes num_threads".split(),
)
def test_every_size_must_be_positive(script: str, name: str, value: float):
    module = sys.modules[f"algos.{script}"]
    if not hasattr(module.Args(), name):
        pytest.skip(f"{script}.py has no such flag")
    with pytest.raises(ValueError, match=f"^--{name.replace('_', '-')} {value} [^\n]*$"):
        CHECK[script](module.Args(**{name: value}))


@pytest.mark.parametrize("script", SCRIPTS)
@pytest.mark.parametrize("flag", [dict(gamma=1.0), dict(tau=1.1), dict(random_action_prob=1.5), dict(seed=-1),
                                  dict(exploration_noise=-0.1), dict(action_l2=-1.0), dict(learning_starts=-1),
                                  dict(hidden_dims=(16, 0)), dict(hidden_dims=()),
                                  dict(hidden_dim=0), dict(n_max=-1), dict(embedding_dim=0), dict(epsilon=-0.1),
                                  dict(epsilon=1.1), dict(temperature=-1.0)])  # fmt: skip
def test_numbers_outside_their_range_are_refused(script: str, flag: dict):
    module = sys.modules[f"algos.{script}"]
    if not hasattr(module.Args(), next(iter(flag))):
        pytest.skip(f"{script}.py has no such flag")
    with pytest.raises(ValueError, match=next(iter(flag)).replace("_", "-")):
        CHECK[script](module.Args(**flag))


@pytest.mark.parametrize("script", SCRIPTS)
def test_zeros_that_make_sense_are_accepted(script: str):
    module = sys.modules[f"algos.{script}"]
    CHECK[script](module.Args())
    zeros = (
        "seed gamma alpha learning_starts exploration_noise action_l2 epsilon temperature".split()
    )
    CHECK[script](module.Args(**{name: 0 for name in zeros if hasattr(module.Args(), name)}))
    ddpg_her_reengage.check_args(ddpg_her_reengage.Args(alpha=0, c_low=-3))


# The paper's settings

SEEK = dict(
    gamma=0.95, tau=0.005, learning_starts=1000, num_envs=1, train_frequency=1, gradient_steps=1, her_k=4,
    target_network_frequency=1, exploration_noise=0.03, random_action_prob=0, her_strategy="future", action_l2=0,
    clip_target=False, simultaneous_updates=False, normalize=False, observe_achieved_goal=True, xavier_init=False,
    hidden_dims=(256, 256), eval_frequency=2000, eval_episodes=50, buffer_size=1_000_000,
)  # fmt: skip
ROBOTICS = dict(
    learning_rate=1e-3, batch_size=1024, gamma=0.98, tau=0.05, learning_starts=0, num_envs=38, train_frequency=50,
    gradient_steps=40, target_network_frequency=40, exploration_noise=0.2, random_action_prob=0.3, her_k=4,
    her_strategy="future", action_l2=1.0, clip_target=True, simultaneous_updates=True, normalize=True,
    observe_achieved_goal=False, xavier_init=True, hidden_dims=(256, 256, 256), buffer_size=1_000_000,
    eval_episodes=380,
)  # fmt: skip
SAC_SEEK = {name: SEEK[name] for name in vars(sac_her_reengage.Args()) if name in SEEK}
FLIP = dict(
    learning_rate=1e-3, batch_size=128, gamma=0.98, tau=0.05, num_envs=16, gradient_steps=40, her_k=4, epsilon=0.2,
    target_network_frequency=40, her_strategy="future", hidden_dims=(256,), buffer_size=1_000_000, eval_episodes=50,
    alpha=1.0, soft_target="gradient",
)  # fmt: skip
GOAL_SETS = dict(
    total_timesteps=160_000, learning_rate=1e-3, batch_size=256, gamma=0.95, tau=0.005, learning_starts=1000,
    buffer_size=1_000_000, embedding_dim=20, hidden_dim=400, eval_frequency=4000, eval_episodes=100, share_encoder=True,
    policy_gates=True, encoder="deepsets",
)  # fmt: skip
REACH_EPOCH = 50 * 50 * 38  # steps: 50 cycles of one 50-step episode in each of 38 environments
PAPER = [  # Fetch is not in the paper: its settings for the hands, with a short evaluation
    (ddpg_her, "ContinuousSeek5-v0", SEEK | dict(total_timesteps=12_000, learning_rate=1e-3, batch_size=512)),
    (ddpg_her, "ContinuousSeek10-v0", SEEK | dict(total_timesteps=50_000, learning_rate=5e-4, batch_size=256)),
    (ddpg_her, "ContinuousSeek20-v0", SEEK | dict(total_timesteps=400_000, learning_rate=5e-4, batch_size=256)),
    (ddpg_her_reengage, "ContinuousSeek5-v0",
     SEEK | dict(total_timesteps=12_000, learning_rate=1.5e-3, batch_size=512, alpha=0.1)),
    (ddpg_her_reengage, "ContinuousSeek10-v0",
     SEEK | dict(total_timesteps=50_000, learning_rate=1e-3, batch_size=512, alpha=0.2)),
    (ddpg_her_reengage, "ContinuousSeek20-v0",
     SEEK | dict(total_timesteps=400_000, learning_rate=5e-4, batch_size=128, alpha=0.2)),
    (ddpg_her, "HandReach-v3", ROBOTICS | dict(total_timesteps=50 * REACH_EPOCH, eval_frequency=REACH_EPOCH)),
    (ddpg_her_reengage, "HandReach-v3",
     ROBOTICS | dict(total_timesteps=50 * REACH_EPOCH, eval_frequency=REACH_EPOCH, alpha=0.1, raw_goal_gradient=False)),
    (ddpg_her_reengage, "HandReach-v2", ROBOTICS | dict(total_timesteps=50 * REACH_EPOCH, alpha=0.1)),
    (ddpg_her, "HandManipulateBlock-v1",
     ROBOTICS | dict(gamma=0.99, train_frequency=100, eval_frequency=2 * REACH_EPOCH)),
    (ddpg_her_reengage, "HandManipulateBlock-v1",
     ROBOTICS | dict(gamma=0.99, train_frequency=100, eval_frequency=2 * REACH_EPOCH)),
    (sac_her_reengage, "ContinuousSeek5-v0",
     SAC_SEEK | dict(total_timesteps=12_000, learning_rate=2.5e-3, batch_size=2048, alpha=0.3)),
    (sac_her_reengage, "ContinuousSeek10-v0",
     SAC_SEEK | dict(total_timesteps=50_000, learning_rate=2.5e-3, batch_size=1024, alpha=0.1)),
    (sac_her_reengage, "ContinuousSeek20-v0",
     SAC_SEEK | dict(total_timesteps=400_000, learning_rate=2.5e-3, batch_size=8192, alpha=0.2)),
    (dqn_her_reengage_bitflip, "BitFlip20-v0",
     FLIP | dict(total_timesteps=200_000, eval_frequency=2000, temperature=1.0)),
    (dqn_her_reengage_bitflip, "BitFlip40-v0",
     FLIP | dict(total_timesteps=1_600_000, eval_frequency=40_000, temperature=0.5)),
    (ddpg_multi_reengage, "DriveSeek-v0", GOAL_SETS | dict(exploration_noise=0.05, alpha=10)),
    (ddpg_multi_reengage, "NoisySeek-v0", GOAL_SETS | dict(exploration_noise=0.1, alpha=20)),
    (ddpg_her, "FetchReach-v4", ROBOTICS | dict(num_envs=2, batch_size=256, eval_episodes=50)),
    (ddpg_her_reengage, "FetchReach-v4", ROBOTICS | dict(num_envs=2, batch_size=256, eval_episodes=50)),
]  # fmt: skip


def parse(module: ModuleType, monkeypatch: pytest.MonkeyPatch, *flags: str) -> dict:
    monkeypatch.setattr(sys, "argv", ["script", *flags])
    return vars(module.parse_args())


@pytest.mark.parametrize("module, env_id, settings", PAPER)
def test_an_environments_name_alone_brings_the_papers_settings(
    module: ModuleType, env_id: str, settings: dict, monkeypatch: pytest.MonkeyPatch
):
    args = parse(module, monkeypatch, "--env-id", env_id)
    assert {name: args[name] for name in settings} == settings


def test_the_gradient_terms_weight_for_the_block_lies_where_the_paper_found_no_harm(
    monkeypatch: pytest.MonkeyPatch,
):
    args = parse(ddpg_her_reengage, monkeypatch, "--env-id", "HandManipulateBlock-v1")
    assert 0.0005 <= args["alpha"] <= 0.01 and args["normalize"] and not args["raw_goal_gradient"]


@pytest.mark.parametrize("module", [ddpg_her, ddpg_her_reengage])
def test_a_flag_wins_over_the_papers_settings_wherever_it_stands(
    module: ModuleType, monkeypatch: pytest.MonkeyPatch
):
    flags = "--batch-size 4864 --no-clip-target --env-id HandReach-v3 --hidden-dims 8 --gamma 0.95 --num-envs 1".split()
    args = parse(module, monkeypatch, *flags)
    expected = dict(batch_size=4864, clip_target=False, hidden_dims=(8,), gamma=0.95, num_envs=1)
    assert {
        name: args[name] for name in expected
    } == expected  # gamma and num_envs: back at the general default
    assert args["gradient_steps"] == 40


@pytest.mark.parametrize("module", [ddpg_her, ddpg_her_reengage])
@pytest.mark.parametrize("env_id", ["HandReachDense-v3", "FetchReachDense-v4", "HandManipulateBlockDense-v1",
                                    "ContinuousSeek10Dense-v0"])  # fmt: skip
def test_targets_of_dense_rewards_are_not_clipped(
    module: ModuleType, env_id: str, monkeypatch: pytest.MonkeyPatch
):
    args = parse(module, monkeypatch, "--env-id", env_id)
    assert args["clip_target"] is False
    assert args["normalize"] is (
        "ContinuousSeek" not in env_id
    )  # all else as with the sparse reward


def test_no_setting_of_the_paper_is_refused_by_the_scripts_own_checks(
    monkeypatch: pytest.MonkeyPatch,
):
    for module, env_id, _ in PAPER:
        parse(module, monkeypatch, "--env-id", env_id)
        CHECK[module.__name__.split(".")[1]](module.parse_args())
