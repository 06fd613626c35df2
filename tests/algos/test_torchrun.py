"""Data parallelism: torchrun --nproc-per-node 2 algos/ddpg_her_reengage_torchrun.py ...

All but one test start the ranks themselves, as torchrun does, which is faster.
"""

import os
import signal
import socket
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
import torch.multiprocessing
from conftest import ROOT, python, read_metrics
from forked import SMALL, Command, Ended
from problems import CPU, ENVS, make_args, make_batch
from test_resume import assert_equal_runs, checkpoint_often, kill_at, leaves, names_in, signal_at
from torch import Tensor

from algos import ddpg_her_reengage as plain
from algos import ddpg_her_reengage_torchrun as parallel
from envs.run import files

SCRIPT = ROOT / "algos" / "ddpg_her_reengage_torchrun.py"
FORMS = {
    "one after the other": dict(),
    "both at once": dict(simultaneous_updates=True, action_l2=1.0),
    "alpha auto": dict(alpha="auto", alpha_warmup=1),  # by the losses of both ranks
    "baseline": dict(alpha=0),
}


# An update


def three_updates(form: str, rank: int, ranks: int) -> dict[str, Tensor]:
    """Weights and statistics after three updates on this rank's share of the rows."""
    torch.manual_seed(0)
    script = parallel if ranks > 1 else plain
    args = make_args(script, normalize=True, **FORMS[form])
    agent = script.Agent(ENVS, args, CPU)
    for seed in range(3):
        batch = make_batch(script, seed)
        batch = script.Batch(*(column.float().chunk(ranks)[rank] for column in batch))
        agent.normalizer.update(torch.cat([batch.obs, batch.goal], 1))
        if ranks > 1:
            parallel.average_over_ranks(agent.normalizer.sums)
            agent.normalizer.update(agent.normalizer.sums[:0])
        script.update(agent, batch, args, None)
        script.polyak(agent, 0.1)
    result = {f"critic.{key}": value for key, value in agent.critic.state_dict().items()}
    return result | {f"actor.{key}": value for key, value in agent.actor.state_dict().items()}


def run_rank(rank: int, folder: str) -> None:
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2
    )
    torch.save({form: three_updates(form, rank, 2) for form in FORMS}, f"{folder}/{rank}.pt")
    os._exit(0)  # Gloo's threads can abort an interpreter while it is torn down


@pytest.fixture(scope="module")
def updated(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, dict[str, Tensor]]]:
    """What each of two ranks has after the updates, by form."""
    folder = tmp_path_factory.mktemp("updated")
    torch.multiprocessing.spawn(run_rank, (str(folder),), nprocs=2)
    return [torch.load(folder / f"{rank}.pt") for rank in range(2)]


@pytest.mark.parametrize("form", FORMS)
def test_two_ranks_with_a_batch_each_equal_one_process_of_the_plain_script_on_both_batches(
    form: str, updated: list
) -> None:
    first, second = updated[0][form], updated[1][form]
    for key, value in three_updates(form, 0, 1).items():
        assert torch.equal(first[key], second[key]), key
        if not key.endswith("sums"):  # sums are means over ranks
            torch.testing.assert_close(first[key], value, rtol=1e-4, atol=1e-5)


# Runs


def test_two_ranks_train_count_the_steps_of_both_and_rank_0_logs(tmp_path: Path) -> None:
    command = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", SCRIPT]
    command += "--env-id ContinuousSeek1-v0 --normalize --num-envs 3 --learning-starts 60".split()
    command += "--batch-size 16 --hidden-dims 16 --total-timesteps 240".split()
    command += "--eval-frequency 120 --eval-episodes 4 --run-dir run".split()
    result = python(*command, cwd=tmp_path)
    assert result.returncode == 0, result.stdout + result.stderr
    rows = read_metrics(tmp_path / "run")
    assert [row["global_step"] for row in rows] == ["0", "120", "240"]
    assert result.stdout.count("global_step") == 3
    assert len(list((tmp_path / "run").glob("events*"))) == 1
    model = torch.load(tmp_path / "run" / "model.pt", weights_only=True)
    # Each rank has seen 3 x 40 transitions, their obs and next_obs; the sums are means over ranks
    assert model["actor"]["normalizer.sums"][0, 0] == 240
    # Evaluation is the mean over both ranks' 4 episodes: eighths, and not only quarters
    names = ("success_rate", "success_once", "episodic_return")
    eighths = [8 * float(row[name]) for row in rows for name in names]
    assert all(number % 1 == 0 for number in eighths)
    assert any(number % 2 == 1 for number in eighths)


def test_ranks_train_without_a_normaliser_too(tmp_path: Path) -> None:
    ended = run_ranks(tmp_path / "run", "--no-normalize", before=[checkpoint_often] * 2)
    assert_all_ended_well(ended)
    model = files.load(tmp_path / "run" / "model.pt", "model")
    assert (model["actor"]["normalizer.std"] == 1).all()


def be_rank(rank: int, ranks: int, port: int, before: Callable[[], None]) -> None:
    """What torchrun tells its processes."""
    variables = {"RANK": rank, "WORLD_SIZE": ranks, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    variables |= {"TORCHELASTIC_RUN_ID": "run", "LOCAL_RANK": rank}
    os.environ.update({name: str(value) for name, value in variables.items()})
    before()


def run_ranks(folder: Path, *flags: object, before: list[Callable[[], None]]) -> list[Ended]:
    """All ranks of one run; ends those that wait for a rank that is gone, as torchrun does.

    Args:
        before: called before the script, one for each rank.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    commands = []
    for rank, own in enumerate(before):
        cwd = folder.with_name(f"rank{rank}")
        cwd.mkdir(exist_ok=True)
        told = partial(be_rank, rank, len(before), port, own)
        all_flags = [*SMALL["ddpg_her_reengage"], "--run-dir", folder, *flags]
        commands.append(Command(SCRIPT.stem, *all_flags, cwd=cwd, before=told))
    while all(command.process.is_alive() for command in commands):
        time.sleep(0.05)
    for command in commands:
        command.process.join(5)
        command.process.kill()
    return [command.wait() for command in commands]


def assert_all_ended_well(ended: list[Ended]) -> None:
    assert [(one.returncode, one.stderr) for one in ended] == [(0, "")] * len(ended)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of two ranks that nothing interrupts."""
    folder = tmp_path_factory.mktemp("ranks") / "run"
    assert_all_ended_well(run_ranks(folder, before=[checkpoint_often] * 2))
    return folder


ENDINGS = {
    "rank 0 while it writes": (0, partial(kill_at, 60), -signal.SIGKILL),
    "rank 1 in the middle of a step": (1, partial(signal_at, 46, signal.SIGKILL), -signal.SIGKILL),
    "rank 1 by a signal": (1, partial(signal_at, 46, signal.SIGTERM), 128 + signal.SIGTERM),
}


@pytest.mark.parametrize("name", ENDINGS)
def test_a_run_that_lost_a_rank_resumes_bit_for_bit_by_the_same_command(
    name: str, whole: Path, tmp_path: Path
) -> None:
    rank, end, code = ENDINGS[name]
    before = [checkpoint_often] * 2
    before[rank] = end
    folder = tmp_path / "run"
    ended = run_ranks(folder, before=before)
    assert ended[rank].returncode == code
    if code > 0:
        assert "SIGTERM: ended at step 60; go on" in ended[0].stdout  # the end of an episode
    ended = run_ranks(folder, before=[checkpoint_often] * 2)
    assert_all_ended_well(ended)
    assert ", from step " in ended[0].stdout
    assert_equal_runs(folder, whole)
    kept = {"args.json", "metrics.csv", "model.pt", "best_model.pt", "checkpoint.pt"}
    assert names_in(folder) == kept  # one checkpoint for all ranks


def test_a_checkpoint_holds_what_each_rank_has_of_its_own(whole: Path) -> None:
    """Equal streams would give equal episodes, and twice as many ranks no more data."""
    state = files.load(whole / "checkpoint.pt", "checkpoint")
    parts = [dict(rank["parts"]["<dict>"]) for rank in state["ranks"]["ranks"]]
    assert len(parts) == 2
    assert list(parts[0]) == ["buffer", "rng", "envs", "eval_envs", "count"] == list(parts[1])
    first, second = (leaves(part) for part in parts)
    for name in ("/rng/stream", "/envs/streams", "/eval_envs/streams"):
        ours, theirs = (
            {path: value for path, value in part.items() if path.startswith(name)}
            for part in (first, second)
        )
        assert ours and ours != theirs, name
    obs = [part["buffer"]["data"]["<rows>"]["obs"] for part in parts]
    assert not obs[0].equal(obs[1])


def test_another_number_of_ranks_is_refused_and_a_complete_run_says_so(whole: Path) -> None:
    before = (whole / "checkpoint.pt").read_bytes()
    ended = run_ranks(whole, before=[checkpoint_often] * 2)
    assert_all_ended_well(ended)
    assert ended[0].stdout.endswith("is complete: 120 steps.\n")
    more = ["--resume", whole, "--run-dir", "", "--total-timesteps", 240]
    (ended,) = run_ranks(whole, *more, before=[checkpoint_often])
    assert ended.returncode != 0
    assert "it is of 2 ranks, and there are 1." in ended.stderr
    assert (whole / "checkpoint.pt").read_bytes() == before


def seed_otherwise() -> None:
    seed = torch.manual_seed
    torch.manual_seed = lambda number: seed(number + 1)


def test_a_rank_with_other_weights_stops_the_run(tmp_path: Path) -> None:
    ended = run_ranks(tmp_path / "run", before=[checkpoint_often, seed_otherwise])
    assert all(one.returncode != 0 for one in ended)
    sentence = "Rank 1 has other weights than rank 0 at step 0."
    assert any(sentence in one.stderr for one in ended)


def counts_of_ranks(folder: Path) -> list[dict[str, int]]:
    state = files.load(folder / "checkpoint.pt", "checkpoint")
    return [dict(rank["parts"]["<dict>"])["count"] for rank in state["ranks"]["ranks"]]


def test_ranks_whose_episodes_end_at_different_times_keep_the_same_weights_and_their_own_counts(
    tmp_path: Path,
) -> None:
    """Then one rank has new episodes for the normaliser where the other has none."""
    more = "--env-id Corridor-v0 --num-envs 3 --learning-starts 60 --total-timesteps 600".split()
    folder = tmp_path / "run"
    run_ranks(folder, *more, before=[checkpoint_often, partial(signal_at, 480, signal.SIGTERM)])
    first, second = counts_of_ranks(folder)
    assert first["global_step"] == second["global_step"] < 600
    assert first["normalized"] != second["normalized"]
    assert_all_ended_well(run_ranks(folder, *more, before=[checkpoint_often] * 2))
    model = files.load(folder / "model.pt", "model")
    assert model["global_step"] == 600
    # Each row once, by its state and by the next one; the sums are means over ranks
    normalized = sum(count["normalized"] for count in counts_of_ranks(folder))
    assert model["actor"]["normalizer.sums"][0, 0] == normalized


def test_the_steps_before_the_first_update_are_counted_over_all_ranks(tmp_path: Path) -> None:
    """With one process the first 20 steps are two episodes, with four ranks half of one."""
    ended = run_ranks(tmp_path / "run", before=[checkpoint_often] * 4)
    assert all(one.returncode != 0 for one in ended)
    assert not (tmp_path / "run").exists()
    sentence = "No episode is stored at the first update, after 5 steps of each"
    assert any(sentence in one.stderr for one in ended)
