"""Data parallelism: torchrun --nproc-per-node 2 algos/ddpg_her_reengage_torchrun.py ..."""

import csv
import os
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torch.multiprocessing
from conftest import ROOT, run_script
from torch import Tensor

from algos import ddpg_her_reengage as plain
from algos import ddpg_her_reengage_torchrun as parallel

SCRIPT = ROOT / "algos" / "ddpg_her_reengage_torchrun.py"
OBS_DIM, GOAL_DIM, ACTION_DIM, BATCH = 3, 2, 2, 24
ARGS = parallel.Args(
    normalize=True,
    hidden_dims=(16,),
    xavier_init=True,
    learning_rate=0.01,
    alpha=0.1,
    c_low=-1.0,
    alpha_warmup=1,
)
FORMS = {
    "one after the other": ARGS,
    "both at once": replace(ARGS, simultaneous_updates=True, action_l2=1.0),
    "alpha auto": replace(ARGS, alpha="auto"),  # found by the losses of both ranks
    "baseline": replace(ARGS, alpha=0),
}


def a_batch(rank: int, ranks: int) -> parallel.Batch:
    """A rank's share of a random batch."""
    dims = (OBS_DIM, GOAL_DIM, ACTION_DIM, 0, OBS_DIM, GOAL_DIM, 0)
    rows = [3 + 2 * torch.randn(BATCH, dim) if dim else -torch.ones(BATCH) for dim in dims]
    rows[-1] = torch.zeros(BATCH)  # terminated
    return parallel.Batch(*(row.chunk(ranks)[rank] for row in rows))


def three_updates(form: str, rank: int, ranks: int) -> dict[str, Tensor]:
    """Weights and statistics after three updates on this rank's share of the rows."""
    torch.manual_seed(0)
    script = parallel if ranks > 1 else plain
    args = FORMS[form]
    dims = SimpleNamespace(obs_dim=OBS_DIM, goal_dim=GOAL_DIM, action_dim=ACTION_DIM)
    agent = script.Agent(dims, args, torch.device("cpu"))
    for _ in range(3):
        batch = a_batch(rank, ranks)
        agent.normalizer.update(torch.cat([batch.obs, batch.goal], 1))
        if ranks > 1:
            agent.normalizer.sums.copy_(*parallel.mean_over_ranks([agent.normalizer.sums]))
            agent.normalizer.refresh()
        script.update(agent, batch, args, None)
        script.polyak(agent, 0.1)
    result = {f"critic.{key}": value for key, value in agent.critic.state_dict().items()}
    return result | {f"actor.{key}": value for key, value in agent.actor.state_dict().items()}


def run_rank(rank: int, form: str, folder: str) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2
    )
    torch.save(three_updates(form, rank, 2), f"{folder}/{rank}.pt")
    os._exit(0)  # Gloo's threads can abort an interpreter while it is torn down


@pytest.mark.parametrize("form", FORMS)
def test_two_ranks_with_a_batch_each_equal_one_process_of_the_plain_script_on_both_batches(
    form: str, tmp_path: Path
) -> None:
    torch.multiprocessing.spawn(run_rank, (form, str(tmp_path)), nprocs=2)
    expected = three_updates(form, 0, 1)
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in range(2))
    for key, value in expected.items():
        assert torch.equal(first[key], second[key]), key
        if not key.endswith("sums"):  # sums are means over ranks
            torch.testing.assert_close(first[key], value, rtol=1e-4, atol=1e-5)


def torchrun(
    script: Path, run_dir: Path, *more: str, ranks: int = 2
) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc-per-node", str(ranks), str(script)]
    command += "--env-id ContinuousSeek1-v0 --normalize --num-envs 3 --learning-starts 60".split()
    command += "--batch-size 16 --hidden-dims 16 --total-timesteps 240".split()
    command += "--eval-frequency 120 --eval-episodes 4".split()
    command += ["--run-dir", str(run_dir), *more]
    environ = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, env=environ, text=True, capture_output=True, timeout=300)


def changed(tmp_path: Path, first: str) -> Path:
    """The script, after other lines have run."""
    script = tmp_path / "changed.py"
    text = f"import os, runpy, signal, sys\n{textwrap.dedent(first)}\n"
    script.write_text(f"{text}runpy.run_path({str(SCRIPT)!r}, run_name='__main__')\n")
    return script


def test_two_ranks_train_count_the_steps_of_both_and_rank_0_logs(tmp_path: Path) -> None:
    result = torchrun(SCRIPT, tmp_path / "run")
    assert result.returncode == 0, result.stdout + result.stderr
    with open(tmp_path / "run" / "metrics.csv", newline="") as file:
        rows = list(csv.DictReader(file))
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


def test_ranks_have_environments_of_their_own(tmp_path: Path) -> None:
    """Equal seeds would give equal episodes, and twice as many ranks no more data."""
    script = changed(
        tmp_path,
        """
        import envs
        make_vector = envs.make_vector
        def noted(make_env, num_envs, seed, *threads):
            with open(f"{sys.path[0]}/seed_{os.environ['RANK']}", "w") as file:
                file.write(str(seed))
            return make_vector(make_env, num_envs, seed, *threads)
        envs.make_vector = noted
        """,
    )
    result = torchrun(script, tmp_path / "run")
    assert result.returncode == 0, result.stderr
    seeds = [(tmp_path / f"seed_{rank}").read_text() for rank in range(2)]
    assert seeds[0] == "1" and seeds[1] != "1"


def test_a_rank_with_other_weights_stops_the_run(tmp_path: Path) -> None:
    script = changed(
        tmp_path,
        """
        import torch
        manual_seed = torch.manual_seed
        torch.manual_seed = lambda seed: manual_seed(seed + int(os.environ["RANK"]))
        """,
    )
    result = torchrun(script, tmp_path / "run")
    assert result.returncode != 0
    assert "Rank 1 has other weights than rank 0 at step 0." in result.stderr


def test_without_torchrun_the_script_says_how_to_start_it(tmp_path: Path) -> None:
    result = run_script(SCRIPT.stem, cwd=tmp_path)
    assert result.returncode == 2 and not list(tmp_path.iterdir())
    assert result.stderr == "Start this script by torchrun, as its docstring says.\n"


def test_the_plain_script_refuses_torchrun(tmp_path: Path) -> None:
    result = torchrun(ROOT / "algos" / "ddpg_her_reengage.py", tmp_path / "run")
    assert result.returncode != 0 and not (tmp_path / "run").exists()
    assert "use ddpg_her_reengage_torchrun.py" in result.stderr


def test_ranks_whose_episodes_end_at_different_times_keep_the_same_weights(tmp_path: Path) -> None:
    """Then one rank has new episodes for the normaliser where the other has none."""
    script = changed(tmp_path, f"sys.path[:0] = [{str(ROOT / 'tests')!r}]; import conftest")
    more = ("--env-id", "Corridor-v0", "--alpha", "auto", "--total-timesteps", "600")
    result = torchrun(script, tmp_path / "run", *more)
    assert result.returncode == 0, result.stdout + result.stderr
    model = torch.load(tmp_path / "run" / "model.pt", weights_only=True)
    assert model["global_step"] == 600
    assert model["actor"]["normalizer.sums"][0, 0] > 0


def leaves(content: object, path: str = "") -> dict[str, object]:
    """What nested dicts and lists hold, by the way to it, but for times."""
    if isinstance(content, dict | list | tuple):
        parts = content.items() if isinstance(content, dict) else enumerate(content)
        found = {}
        for key, part in parts:
            if key != "wall_time":
                found |= leaves(part, f"{path}/{key}")
        return found
    return {path: content.tolist() if isinstance(content, Tensor) else content}


def checkpoint_of(run_dir: Path) -> dict[str, object]:
    return leaves(torch.load(run_dir / "checkpoint.pt", weights_only=True))


LONG = ("--total-timesteps", "480", "--alpha", "auto", "--alpha-warmup", "20")


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run_dir = tmp_path_factory.mktemp("whole") / "run"
    result = torchrun(SCRIPT, run_dir, *LONG)
    assert result.returncode == 0, result.stdout + result.stderr
    return run_dir


@pytest.mark.parametrize(
    "rank, how, step", [(0, "SIGKILL", 300), (1, "SIGKILL", 300), (1, "SIGTERM", 186)]
)
def test_a_run_of_which_one_rank_was_ended_goes_on_bit_for_bit_with_the_same_command(
    rank: int, how: str, step: int, uninterrupted: Path, tmp_path: Path
) -> None:
    script = changed(
        tmp_path,
        f"""
        from envs.run import folder
        folder.CHECKPOINT_SHARE = 1e9  # at every evaluation, however long it takes
        add_step = folder.RunFolder.add_step
        def add_step_and_end(self, *what):
            if self.count.global_step == {step} and self.rank == {rank}:
                os.kill(os.getpid(), signal.{how})
            add_step(self, *what)
        folder.RunFolder.add_step = add_step_and_end
        """,
    )
    run_dir = tmp_path / "run"
    result = torchrun(script, run_dir, *LONG)
    assert result.returncode != 0 and (run_dir / "checkpoint.pt").exists(), result.stderr
    if how == "SIGTERM":
        assert "SIGTERM: ended at step 240; go on" in result.stdout  # the end of an episode
    result = torchrun(SCRIPT, run_dir, *LONG)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "from step 240 on" in result.stdout
    assert checkpoint_of(run_dir) == checkpoint_of(uninterrupted)
    assert not list(run_dir.glob("checkpoint_*"))  # there is one for all ranks


def test_a_checkpoint_has_what_each_rank_has_of_its_own(uninterrupted: Path) -> None:
    state = torch.load(uninterrupted / "checkpoint.pt", weights_only=True)
    parts = [dict(rank["parts"]["<dict>"]) for rank in state["ranks"]["ranks"]]
    assert len(parts) == 2
    assert list(parts[0]) == ["count", "buffer", "rng", "envs", "eval_envs"] == list(parts[1])
    first, second = (leaves(part) for part in parts)
    for name in ("/rng/stream", "/envs/streams", "/eval_envs/streams"):
        assert first[name] != second[name], name
    obs = [part["buffer"]["data"]["<rows>"]["obs"] for part in parts]
    assert not obs[0].equal(obs[1])


def test_another_number_of_ranks_is_refused_and_a_complete_run_says_so(uninterrupted: Path) -> None:
    result = torchrun(SCRIPT, uninterrupted, *LONG)
    assert result.returncode == 0 and result.stdout.endswith("is complete: 480 steps.\n")
    before = (uninterrupted / "checkpoint.pt").read_bytes()
    more = ("--resume", str(uninterrupted), "--run-dir", "", *LONG, "--total-timesteps", "720")
    result = torchrun(SCRIPT, Path(""), *more, ranks=1)
    assert result.returncode != 0
    assert "it is of 2 ranks, and there are 1." in result.stderr
    assert (uninterrupted / "checkpoint.pt").read_bytes() == before


def test_the_steps_before_the_first_update_are_counted_over_all_ranks(tmp_path: Path) -> None:
    """With one process 60 steps of 3 environments are two episodes each, with four ranks half."""
    result = torchrun(SCRIPT, tmp_path / "run", ranks=4)
    assert result.returncode != 0 and not (tmp_path / "run").exists()
    assert "No episode is stored at the first update, after 5 steps of each" in result.stderr
