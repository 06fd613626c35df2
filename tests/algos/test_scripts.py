"""The scripts as commands: what a run writes and prints, and which settings apply."""

import csv
import functools
import importlib
import itertools
import json
import math
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import fields
from functools import partial
from pathlib import Path
from subprocess import CompletedProcess
from types import ModuleType, SimpleNamespace

import forked
import gymnasium as gym
import numpy as np
import pytest
import torch
from conftest import read_metrics, rows_of, run_script
from specs import FINISHED, SCRIPTS, SPECS
from spy import as_a_process_of_its_own, load_script, run_main, watch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import envs
from algos import (
    ddpg_her,
    ddpg_her_reengage,
    ddpg_multi_reengage,
    dqn_her_reengage_bitflip,
    sac_her_reengage,
)
from envs import make_vector
from envs.run import RunFolder, load_networks, parse_args
from envs.run.flags import OF_THE_RUN

CPU = torch.device("cpu")
MULTI = "ddpg_multi_reengage"
DQN = "dqn_her_reengage_bitflip"
COLUMNS = ["global_step", "success_rate", "success_once", "episodic_return", "wall_time"]
FILES = ["args.json", "best_model.pt", "checkpoint.pt", "metrics.csv", "model.pt"]


def module_of(script: str) -> ModuleType:
    return importlib.import_module(f"algos.{script}")


def load(path: Path) -> dict:
    return torch.load(path, weights_only=True)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], CompletedProcess]:
    """runs(script): a finished run of a script."""

    @functools.cache
    def run(script: str) -> CompletedProcess:
        cwd = tmp_path_factory.mktemp(script)
        flags = [*SPECS[script].flags.split(), "--seed", 7]
        result = run_script(script, *flags, cwd=cwd)
        assert result.returncode == 0, result.stderr
        result.cwd = cwd
        (result.run_dir,) = cwd.glob("runs/*")
        return result

    return run


# What a run writes and prints


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_run_started_anywhere_writes_its_folder_there_and_nothing_else(
    script: str, runs: Callable
) -> None:
    run = runs(script)
    assert [path.name for path in run.cwd.iterdir()] == ["runs"]
    assert re.fullmatch(rf"{SPECS[script].env_id}__{script}__7__\d+", run.run_dir.name)
    names = [path.name for path in run.run_dir.iterdir()]
    (events,) = [name for name in names if name.startswith("events.out.tfevents")]
    assert sorted(names) == sorted([*FILES, events])


@pytest.mark.parametrize("script", SCRIPTS)
def test_metrics_have_one_row_per_evaluation_and_unix_line_endings(
    script: str, runs: Callable
) -> None:
    text = (runs(script).run_dir / "metrics.csv").read_bytes()
    assert b"\r" not in text and text.endswith(b"\n")
    rows = list(csv.reader(text.decode().splitlines()))
    assert rows[0] == COLUMNS
    assert [row[0] for row in rows[1:]] == ["0", "30", "60"]


@pytest.mark.parametrize("script", ["ddpg_her_reengage", "sac_her_reengage", DQN])
def test_a_gradient_term_that_sees_no_transition_is_told_once(script: str, tmp_path: Path) -> None:
    run = forked.run(script, *forked.SMALL[script], "--alpha", "1", "--c-low", "-5", cwd=tmp_path)
    assert run.returncode == 0, run.stderr
    assert run.stdout.count("sees no transition: no reward equals --c-low.") == 1


@pytest.mark.parametrize("flags, times", [("--action-l2 0 --learning-rate 1", 1), ("", 0)])
def test_an_actor_that_is_stuck_is_told_once(flags: str, times: int, tmp_path: Path) -> None:
    small = forked.SMALL["ddpg_her_reengage"]
    run = forked.run("ddpg_her_reengage", *small, *flags.split(), cwd=tmp_path)
    assert run.returncode == 0, run.stderr
    assert run.stdout.count("The actor is stuck") == times


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_run_prints_its_settings_where_it_runs_and_one_line_per_evaluation(
    script: str, runs: Callable
) -> None:
    run = runs(script)
    env_id = SPECS[script].env_id
    settings, where, *evaluations = run.stdout.splitlines()
    assert settings.startswith(f"settings of {env_id}: ")
    assert "total_timesteps" not in settings  # the flag replaced it
    layout = rf"{env_id} on (cpu|cuda), from the beginning: (.*)"
    assert re.fullmatch(layout, where)[2] == str(run.run_dir)
    assert len(evaluations) == 3
    for line, row in zip(evaluations, read_metrics(run.run_dir), strict=True):
        expected = {name: float(value) for name, value in row.items()}
        assert printed_numbers(line) == pytest.approx(expected, abs=1e-3)
    assert run.stderr == ""


def printed_numbers(text: str) -> dict[str, float]:
    """'name 1.5  other 2' -> {name: 1.5, other: 2.0}."""
    return {name: float(value) for name, value in re.findall(r"(\w+) (\S+)", text)}


@pytest.mark.parametrize("script", SCRIPTS)
def test_args_json_holds_every_argument_as_it_was_used_and_the_versions(
    script: str, runs: Callable
) -> None:
    run = runs(script)
    args = json.loads((run.run_dir / "args.json").read_text())
    names = {field.name for field in fields(module_of(script).Args)}
    assert args.keys() == names | {"versions"}
    assert args["seed"] == 7 and args["batch_size"] == 16
    assert args["env_id"] == SPECS[script].env_id and args["total_timesteps"] == 60
    assert args["run_dir"] == str(run.run_dir)
    assert args.get("c_low") is None  # what the task shows is not a setting
    versions = args["versions"]
    assert versions["script"] == script and versions["torch"] == torch.__version__
    assert len(versions["script_sha256"]) == 64
    assert versions["gymnasium"] == gym.__version__
    expected = "commit python reengage gymnasium-robotics mujoco numpy device processor threads"
    assert {*expected.split(), "precision"} <= versions.keys()


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_model_file_is_plain_data_with_all_networks_and_what_they_need(
    script: str, runs: Callable
) -> None:
    for name in ("model.pt", "best_model.pt"):
        model = load(runs(script).run_dir / name)
        networks = SPECS[script].networks
        assert model.keys() == {"script", "settings", "global_step"} | networks
        assert model["script"] == script
        names = {field.name for field in fields(module_of(script).Args)}
        assert model["settings"].keys() == names - OF_THE_RUN
        assert model["settings"]["env_id"] == SPECS[script].env_id
        for network in networks:
            keys = model[network].keys()
            assert any(key.endswith(("net.0.weight", "head.0.weight")) for key in keys)
            if "normalize" in SPECS[script].flags:
                seen = [value for key, value in model[network].items() if key.endswith("sums")]
                steps = 60 if name == "model.pt" else model["global_step"]
                assert seen[0][0, 0] == 2 * steps  # each by its state and by the next one


def folder_at(path: Path) -> RunFolder:
    """A run's folder before the first step."""
    path.mkdir()
    folder = RunFolder(ddpg_her.Args(run_dir=str(path)), ddpg_her.__file__, torch.device("cpu"))
    folder.count = SimpleNamespace(global_step=0)
    return folder


def test_ties_go_to_the_higher_return_then_the_later_step_and_step_0_never_stays_the_best(
    tmp_path: Path,
) -> None:
    folder = folder_at(tmp_path / "run")
    network = torch.nn.Linear(1, 1)
    scores_and_best = [
        ((0.9, 5.0), 0),  # before the first step
        ((0.1, -5.0), 1),
        ((0.5, -3.0), 2),
        ((0.5, -2.0), 3),
        ((0.5, -2.0), 4),
        ((0.4, 9.0), 4),
        ((math.nan, 9.0), 4),
    ]
    for step, (score, best) in enumerate(scores_and_best):
        folder.count.global_step = step
        folder.save_model(score, actor=network)
        assert load(tmp_path / "run" / "best_model.pt")["global_step"] == best
        assert load(tmp_path / "run" / "model.pt")["global_step"] == step


def test_of_the_curves_a_loss_alone_ends_the_run_where_it_is_not_finite(tmp_path: Path) -> None:
    folder = folder_at(tmp_path / "run")
    folder.check_finite({"gradient/ratio": math.nan, "losses/value": 1.0}, "losses/")
    with pytest.raises(SystemExit, match="losses/value is inf at step 0; .* keeps what was saved"):
        folder.check_finite({"losses/value": math.inf}, "losses/")


def test_no_model_and_no_checkpoint_are_written_on_request(tmp_path: Path) -> None:
    flags = f"{SPECS['ddpg_her'].flags} --no-save-model --no-save-checkpoint"
    watch("ddpg_her", flags, tmp_path / "run")
    names = {path.name for path in (tmp_path / "run").iterdir()}
    assert names & set(FILES) == {"args.json", "metrics.csv"}


# Training curves

TAGS = {"charts/steps_per_second", "charts/updates_per_second", "charts/buffer_fill"}
OF_EPISODES = {"charts/episodic_return", "charts/success_rate"}  # where any has ended
TAGS |= OF_EPISODES
TAGS |= {"eval/success_rate", "eval/success_once", "eval/episodic_return"}
OF_THE_METHOD = {"losses/gradient", "gradient/norm", "gradient/target_norm", "gradient/cosine"}
OF_THE_METHOD |= {"gradient/rows", "gradient/alpha", "gradient/ratio", "losses/critic"}


def events_of(folder: Path) -> EventAccumulator:
    events = EventAccumulator(str(folder))
    events.Reload()
    return events


def scalars(folder: Path, tag: str) -> list[tuple[int, float]]:
    return [(scalar.step, scalar.value) for scalar in events_of(folder).Scalars(tag)]


@pytest.mark.parametrize("script", SCRIPTS)
def test_tensorboard_shows_the_losses_values_gradients_and_speeds_at_the_frequency_asked_for(
    script: str, runs: Callable
) -> None:
    events = events_of(runs(script).run_dir)
    found = set(events.Tags()["scalars"])
    assert found >= TAGS
    if script in FINISHED:
        of_learning = {"losses/value", "values/q", "values/target"}
        if "--alpha" in SPECS[script].spied:
            of_learning |= OF_THE_METHOD
        if script == MULTI:
            of_learning -= {"gradient/rows"}  # it has no mask
        if "actor" in SPECS[script].networks:
            of_learning |= {"losses/actor"}
        assert found >= of_learning
        assert not (OF_THE_METHOD & (found - of_learning))
    for tag in found:
        steps = [scalar.step for scalar in events.Scalars(tag)]
        if tag in OF_EPISODES or script not in FINISHED:  # a delayed update has fewer points
            assert steps[-1] == 60, tag
        else:
            assert steps == ([0, 30, 60] if tag.startswith("eval/") else [30, 60]), tag


@pytest.mark.parametrize("script", SCRIPTS)
def test_curves_are_means_over_the_updates_since_the_last_point(
    script: str, tmp_path: Path
) -> None:
    flags = f"{SPECS[script].spied} --log-frequency 150 --total-timesteps 300"
    run = watch(script, flags, tmp_path / "run")
    for curve in run.updates[0].curves:
        begin = 0
        for step, logged in scalars(tmp_path / "run", curve):
            window = [update for update in run.updates if begin < update.step <= step]
            mean = np.mean([float(update.curves[curve]) for update in window])
            assert logged == pytest.approx(mean, rel=1e-4, abs=1e-6)
            begin = step
        assert begin == 300

    num_envs = run.envs.num_envs
    returns = {150: [], 300: []}
    for episode in run.finished_episodes():
        end = num_envs * (episode.begins + len(episode.actions))
        returns[150 if end <= 150 else 300].append(sum(episode.rewards))
    for step, logged in scalars(tmp_path / "run", "charts/episodic_return"):
        assert logged == pytest.approx(sum(returns[step]) / len(returns[step]), rel=1e-5)


def note_what_wandb_is_told() -> None:
    wandb = ModuleType("wandb")
    wandb.init = lambda **told: Path("told.json").write_text(json.dumps(told, default=str))
    sys.modules["wandb"] = wandb


def test_track_mirrors_the_run_to_weights_and_biases(tmp_path: Path) -> None:
    flags = [*SPECS["ddpg_her"].flags.split(), "--run-dir", "here", "--track"]
    ended = forked.run("ddpg_her", *flags, cwd=tmp_path, before=note_what_wandb_is_told)
    assert (ended.returncode, ended.stderr) == (0, "")
    told = json.loads((tmp_path / "told.json").read_text())
    assert told["sync_tensorboard"] is True and told["name"] == "here"
    assert told["config"]["total_timesteps"] == 60


# Playing a saved model


@pytest.mark.parametrize("script", SCRIPTS)
def test_evaluate_plays_a_saved_model_without_training_a_run_folder_or_the_environments_name(
    script: str, runs: Callable, tmp_path: Path
) -> None:
    path = tmp_path / "model.pt"
    shutil.copy(runs(script).run_dir / "model.pt", path)
    cwd = tmp_path / "elsewhere"
    cwd.mkdir()
    result = forked.run(script, "--evaluate", path, "--eval-episodes", 40, cwd=cwd)
    assert (result.returncode, result.stderr) == (0, "")
    assert list(tmp_path.iterdir()) == [path, cwd] and list(cwd.iterdir()) == [cwd / ".output"]

    # The same model, put together here and played on the same episodes
    module, model = module_of(script), load(path)
    args = module.Args(**model["settings"])
    make_env = partial(
        envs.make,
        args.env_id,
        action_space=type(gym.make(envs.resolve(args.env_id)).action_space),
        observe_achieved_goal=getattr(args, "observe_achieved_goal", False),
    )
    copies = make_vector(make_env, 40, args.seed + 1_000_000)
    agent = module.Agent(copies, args, CPU)
    policy = getattr(agent, SPECS[script].policy)
    policy.load_state_dict(model[SPECS[script].policy])
    played = module.evaluate(copies, policy.act, 40)
    played["episodes"] = 40
    assert printed_numbers(result.stdout) == pytest.approx(played, abs=1e-3)


def test_evaluating_with_a_film_says_where_the_film_is(runs: Callable, tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    shutil.copy(runs("ddpg_her").run_dir / "model.pt", path)
    flags = ["--evaluate", path, "--eval-episodes", 2, "--capture-video"]
    result = forked.run("ddpg_her", *flags, cwd=tmp_path)
    assert (result.returncode, result.stderr) == (0, "")
    assert (tmp_path / "model.gif").read_bytes().startswith(b"GIF89a")
    assert result.stdout.splitlines()[1] == f"film: {tmp_path / 'model.gif'}"


# Films, and forms of multi-ReenGAGE


def test_filming_writes_a_video_and_changes_nothing_else(tmp_path: Path) -> None:
    flags = [*SPECS["ddpg_her_reengage"].flags.split(), "--env-id", "Corridor-v0"]
    for name, more in {"film": ["--capture-video"], "none": []}.items():
        ended = forked.run("ddpg_her_reengage", *flags, "--run-dir", name, *more, cwd=tmp_path)
        assert (ended.returncode, ended.stderr) == (0, "")
    assert (tmp_path / "film" / "video.gif").read_bytes().startswith(b"GIF89a")
    assert not list((tmp_path / "none").glob("*.gif"))
    assert rows_of(tmp_path / "film") == rows_of(tmp_path / "none")


FORMS = ["--no-policy-gates --n-max 9", "--encoder cnn --batch-size 2 --total-timesteps 31"]
FORMS += ["--env-id NoisySeek5-v0"]


@pytest.mark.parametrize("flags", FORMS)
def test_every_form_of_multi_reengage_trains_and_its_model_plays(
    flags: str, tmp_path: Path
) -> None:
    run = watch(MULTI, f"{SPECS[MULTI].flags} {flags}", tmp_path / "run")
    rows = read_metrics(tmp_path / "run")
    assert math.isfinite(float(rows[-1]["episodic_return"]))
    path = tmp_path / "run" / "model.pt"
    args = ddpg_multi_reengage.Args(**load(path)["settings"], evaluate=str(path))
    agent = ddpg_multi_reengage.Agent(run.eval_envs, args, CPU)
    load_networks(args, ddpg_multi_reengage.__file__, actor=agent.actor)
    for key, value in run.agent.actor.state_dict().items():
        assert value.equal(agent.actor.state_dict()[key])


# Runs that cannot continue


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_nan_loss_ends_the_run_naming_the_step_and_keeps_what_was_saved(
    script: str, tmp_path: Path
) -> None:
    module = load_script(script)
    update = module.update
    calls = itertools.count(1)

    def update_that_diverges(*arguments: object) -> dict:
        curves = update(*arguments)
        if next(calls) >= 5:
            curves[min(name for name in curves if "losses/" in name)] = torch.tensor(math.nan)
        return curves

    module.update = update_that_diverges
    with pytest.raises(SystemExit) as end:
        run_main(module, SPECS[script].flags, tmp_path / "run")
    assert next(calls) <= 7  # the end of that round
    step = int(re.search(r"losses/\w+ is nan at step (\d+);", end.value.code)[1])
    assert str(tmp_path / "run") in end.value.code and 0 < step < 60
    evaluated = int(read_metrics(tmp_path / "run")[-1]["global_step"])
    assert evaluated < step
    assert load(tmp_path / "run" / "model.pt")["global_step"] == evaluated


def test_weights_that_are_not_finite_never_replace_a_model(tmp_path: Path) -> None:
    folder = folder_at(tmp_path / "run")
    network = torch.nn.Linear(1, 1)
    folder.save_model((0.5,), actor=network)
    torch.nn.init.constant_(network.bias, math.inf)
    folder.count.global_step = 9
    with pytest.raises(SystemExit, match="is inf at step 9"):
        folder.save_model((0.9,), actor=network)
    for name in ("model.pt", "best_model.pt"):
        assert load(tmp_path / "run" / name)["global_step"] == 0


# The paper's settings

SEEK = dict(
    gamma=0.95, tau=0.005, learning_starts=1000, num_envs=1, train_frequency=1, gradient_steps=1,
    her_k=4, target_network_frequency=1, exploration_noise=0.03, random_action_prob=0,
    her_strategy="future", action_l2=0, clip_target=False, simultaneous_updates=False,
    normalize=False, observe_achieved_goal=True, xavier_init=False, hidden_dims=(256, 256),
    eval_frequency=2000, eval_episodes=50, buffer_size=1_000_000,
)  # fmt: skip
ROBOTICS = dict(
    learning_rate=1e-3, batch_size=1024, gamma=0.98, tau=0.05, learning_starts=0, num_envs=38,
    train_frequency=50, gradient_steps=40, target_network_frequency=40, exploration_noise=0.2,
    random_action_prob=0.3, her_k=4, her_strategy="future", action_l2=1.0, clip_target=True,
    simultaneous_updates=True, normalize=True, observe_achieved_goal=False, xavier_init=True,
    hidden_dims=(256, 256, 256), buffer_size=1_000_000, eval_episodes=380,
)  # fmt: skip
SAC_SEEK = {name: SEEK[name] for name in vars(sac_her_reengage.Args()) if name in SEEK}
FLIP = dict(
    learning_rate=1e-3, batch_size=128, gamma=0.98, tau=0.05, num_envs=16, gradient_steps=40,
    her_k=4, epsilon=0.2, target_network_frequency=40, her_strategy="future", hidden_dims=(256,),
    buffer_size=1_000_000, eval_episodes=50, alpha=1.0, soft_target="gradient",
)  # fmt: skip
GOAL_SETS = dict(
    total_timesteps=160_000, learning_rate=1e-3, batch_size=256, gamma=0.95, tau=0.005,
    learning_starts=1000, buffer_size=1_000_000, embedding_dim=20, hidden_dim=400,
    eval_frequency=4000, eval_episodes=100, share_encoder=True, policy_gates=True,
    encoder="deepsets",
)  # fmt: skip
REACH_EPOCH = 50 * 50 * 38  # steps: 50 cycles of one 50-step episode in each of 38 environments
REACH = ROBOTICS | dict(total_timesteps=50 * REACH_EPOCH, eval_frequency=REACH_EPOCH)
BLOCK = ROBOTICS | dict(gamma=0.99, train_frequency=100, eval_frequency=2 * REACH_EPOCH)
FETCH_REACH = ROBOTICS | dict(num_envs=2, batch_size=256, eval_episodes=50)  # not in the paper
PAPER = [  # script, environment, steps, what else
    (ddpg_her, "ContinuousSeek5-v0", 12_000, SEEK | dict(learning_rate=1e-3, batch_size=512)),
    (ddpg_her, "ContinuousSeek10-v0", 50_000, SEEK | dict(learning_rate=5e-4, batch_size=256)),
    (ddpg_her, "ContinuousSeek20-v0", 400_000, SEEK | dict(learning_rate=5e-4, batch_size=256)),
    (ddpg_her_reengage, "ContinuousSeek5-v0", 12_000,
     SEEK | dict(learning_rate=1.5e-3, batch_size=512, alpha=0.1)),
    (ddpg_her_reengage, "ContinuousSeek10-v0", 50_000,
     SEEK | dict(learning_rate=1e-3, batch_size=512, alpha=0.2)),
    (ddpg_her_reengage, "ContinuousSeek20-v0", 400_000,
     SEEK | dict(learning_rate=5e-4, batch_size=128, alpha=0.2)),
    (ddpg_her, "HandReach-v3", 4_750_000, REACH),
    (ddpg_her_reengage, "HandReach-v3", 4_750_000,
     REACH | dict(alpha=0.1, raw_goal_gradient=False)),
    (ddpg_her, "HandManipulateBlock-v1", 38_000_000, BLOCK),
    (ddpg_her_reengage, "HandManipulateBlock-v1", 38_000_000, BLOCK | dict(alpha=0.001)),
    (sac_her_reengage, "ContinuousSeek5-v0", 12_000,
     SAC_SEEK | dict(learning_rate=2.5e-3, batch_size=2048, alpha=0.3)),
    (sac_her_reengage, "ContinuousSeek10-v0", 50_000,
     SAC_SEEK | dict(learning_rate=2.5e-3, batch_size=1024, alpha=0.1)),
    (sac_her_reengage, "ContinuousSeek20-v0", 400_000,
     SAC_SEEK | dict(learning_rate=2.5e-3, batch_size=8192, alpha=0.2)),
    (sac_her_reengage, "HandManipulateBlock-v1", 38_000_000, dict(alpha="auto", normalize=True)),
    (dqn_her_reengage_bitflip, "BitFlip20-v0", 200_000,
     FLIP | dict(eval_frequency=2000, temperature=1.0)),
    (dqn_her_reengage_bitflip, "BitFlip40-v0", 1_600_000,
     FLIP | dict(eval_frequency=40_000, temperature=0.5)),
    (ddpg_multi_reengage, "DriveSeek-v0", 160_000,
     GOAL_SETS | dict(exploration_noise=0.05, alpha=10)),
    (ddpg_multi_reengage, "NoisySeek-v0", 160_000,
     GOAL_SETS | dict(exploration_noise=0.1, alpha=20)),
    (ddpg_her, "FetchReach-v4", 15_000, FETCH_REACH),
    (ddpg_her_reengage, "FetchReach-v4", 15_000, FETCH_REACH),
]  # fmt: skip


def parse(module: ModuleType, *flags: str) -> SimpleNamespace:
    """A script's arguments by its command line."""
    settings = module.PAPER_SETTINGS | getattr(module, "OTHER_SETTINGS", {})
    with as_a_process_of_its_own([module.__file__, *flags]):
        return parse_args(module.Args, settings, module.UNTUNED, module.__doc__)


@pytest.mark.parametrize("module, env_id, steps, settings", PAPER)
def test_an_environments_name_alone_selects_the_papers_settings(
    module: ModuleType, env_id: str, steps: int, settings: dict
) -> None:
    args = vars(parse(module, "--env-id", env_id))
    assert args["total_timesteps"] == steps
    assert {name: args[name] for name in settings} == settings


NOT_IN_THE_PAPER = ["FetchReach-v4", "FetchPush-v4", "FetchSlideDense-v4", "HandManipulateEgg-v1"]


@pytest.mark.parametrize(
    "module, env_id",
    [(sac_her_reengage, env_id) for env_id in [*NOT_IN_THE_PAPER, "HandReach-v3"]]
    + [(ddpg_her_reengage, env_id) for env_id in NOT_IN_THE_PAPER],
)
def test_alpha_is_auto_where_the_paper_has_none(module: ModuleType, env_id: str) -> None:
    assert parse(module, "--env-id", env_id).alpha == "auto"
    assert parse(module, "--env-id", env_id, "--alpha", "0.1").alpha == 0.1


@pytest.mark.parametrize("module", [ddpg_her, ddpg_her_reengage])
def test_a_flag_wins_over_the_papers_settings_wherever_it_stands(module: ModuleType) -> None:
    flags = "--batch-size 4864 --no-clip-target --env-id HandReach-v3 --hidden-dims 8"
    flags += " --gamma 0.95 --num-envs 1"
    args = vars(parse(module, *flags.split()))
    expected = dict(batch_size=4864, clip_target=False, hidden_dims=(8,), gamma=0.95, num_envs=1)
    assert {name: args[name] for name in expected} == expected
    assert args["gradient_steps"] == 40


DENSE = ["HandReachDense-v3", "FetchReachDense-v4", "HandManipulateBlockDense-v1"]


@pytest.mark.parametrize("module", [ddpg_her, ddpg_her_reengage])
@pytest.mark.parametrize("env_id", [*DENSE, "ContinuousSeek10Dense-v0"])
def test_targets_of_dense_rewards_are_not_clipped(module: ModuleType, env_id: str) -> None:
    args = parse(module, "--env-id", env_id)
    assert args.clip_target is False
    assert args.normalize is ("Seek" not in env_id)  # all else as with the sparse reward


OTHERS = [
    "MyFetchLike-v0",
    "MyHandReach-v3",
    "BitFlipper40-v0",
    "ContinuousSeek5-v0x-v0",
    "HandManipulateMine-v0",
    "FetchMineDense-v0",
    "HandMineDense-v0",
]


@pytest.fixture
def other_peoples_names() -> Iterator[None]:
    for name in OTHERS:
        gym.register(name, "conftest:Corridor", max_episode_steps=5)
    yield
    for name in OTHERS:
        del gym.registry[name]


@pytest.mark.parametrize("script", SCRIPTS)
@pytest.mark.parametrize("env_id", OTHERS)
def test_settings_match_the_whole_name_and_unknown_environments_get_the_untuned_ones(
    script: str, env_id: str, other_peoples_names: None, capsys: pytest.CaptureFixture
) -> None:
    module = module_of(script)
    args = vars(parse(module, "--env-id", env_id))
    expected = vars(module.Args(env_id=env_id)) | module.UNTUNED
    assert args == expected
    for name, value in (("normalize", True), ("alpha", "auto"), ("eval_episodes", 0)):
        assert args.get(name, value) == value
    assert capsys.readouterr().out.startswith(f"settings of {env_id}: ")


def test_a_module_and_a_namespace_do_not_nest_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    args = parse(ddpg_her, "--env-id", "ContinuousSeek5-v0")
    args.env_id = "module:space/Walk-v0"
    path = RunFolder(args, ddpg_her.__file__, torch.device("cpu")).path
    assert path.parent == tmp_path / "runs"
    assert path.name.startswith("space_Walk-v0__ddpg_her__1__")


def test_the_settings_in_use_are_printed_without_those_a_flag_replaced(
    capsys: pytest.CaptureFixture,
) -> None:
    parse(ddpg_her_reengage, "--env-id", "ContinuousSeek5-v0", "--batch-size", "64")
    env_id, printed = capsys.readouterr().out.split(": ")
    assert env_id == "settings of ContinuousSeek5-v0"
    expected = ["total_timesteps 12000", "alpha 0.1", "learning_rate 0.0015"]
    assert printed.rstrip().split(", ") == expected


def test_help_shows_the_environments_settings(capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit) as end:
        parse(ddpg_her_reengage, "--env-id", "HandReach-v3", "--help")
    assert end.value.code == 0
    text = " ".join(re.sub(r"[│╭╮╰╯─]", " ", capsys.readouterr().out).split())
    batch_size = text[text.index("--batch-size") :]
    assert re.search(r"\(default: (\S+)\)", batch_size)[1] == "1024"
