"""Data-parallel training of the DDPG scripts: torchrun --nproc-per-node 2 algos/ddpg_her.py ..."""

import copy
import csv
import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.multiprocessing
from conftest import ROOT
from torch import Tensor

SCRIPTS = ["ddpg_her", "ddpg_her_reengage"]
OBS_DIM, GOAL_DIM, ACTION_DIM, BATCH = 3, 2, 2, 24


def three_updates(script: str, rank: int, ranks: int) -> dict[str, Tensor]:
    """Weights and statistics after three updates as the script's loop makes them, on this rank's share of the rows."""
    torch.manual_seed(0)
    module = importlib.import_module(f"algos.{script}")
    args = module.Args()
    normalizers = module.Normalizer(OBS_DIM, True), module.Normalizer(GOAL_DIM, True)
    in_dim = OBS_DIM + GOAL_DIM
    actor = module.Actor(*normalizers, module.mlp((in_dim, 16, ACTION_DIM), True))
    critic = module.Critic(*normalizers, module.mlp((in_dim + ACTION_DIM, 16, 1), True))
    targets = copy.deepcopy((critic, actor))
    optimizers = [
        torch.optim.Adam(network.net.parameters(), lr=0.01) for network in (critic, actor)
    ]
    for _ in range(3):
        rows = (
            [3 + 2 * torch.randn(BATCH, dim) for dim in (OBS_DIM, GOAL_DIM, ACTION_DIM)]
            + [-torch.ones(BATCH)]
            + [3 + 2 * torch.randn(BATCH, dim) for dim in (OBS_DIM, GOAL_DIM)]
            + [torch.zeros(BATCH)]
        )
        batch = module.Batch(*(row.chunk(ranks)[rank] for row in rows))
        for normalizer, x in zip(normalizers, (batch.obs, batch.goal), strict=True):
            normalizer.update(x)
            module.average([normalizer.sums])
            normalizer.update(x[:0])
        for target in targets:  # the script's targets share the normalisers
            target.obs_normalizer, target.goal_normalizer = normalizers
        if script == "ddpg_her":
            critic_loss, _ = module.ddpg_critic_loss(critic, *targets, batch, args)
        else:
            critic_loss, _ = module.reengage_critic_loss(critic, *targets, batch, args, None)
        for network, optimizer in zip((critic, actor), optimizers, strict=True):
            loss = (
                critic_loss
                if network is critic
                else module.actor_loss(critic, actor, batch, args.action_l2)
            )
            optimizer.zero_grad()
            loss.backward(inputs=list(network.net.parameters()))
            module.average([parameter.grad for parameter in network.net.parameters()])
            optimizer.step()
    result = {f"critic.{key}": value for key, value in critic.state_dict().items()}
    return result | {f"actor.{key}": value for key, value in actor.state_dict().items()}


def run_rank(rank: int, script: str, folder: str) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2
    )
    torch.save(three_updates(script, rank, 2), f"{folder}/{rank}.pt")
    os._exit(0)  # Gloo's threads can abort an interpreter while it is torn down


@pytest.mark.parametrize("script", SCRIPTS)
def test_two_ranks_with_a_batch_each_equal_one_process_on_both_batches(
    script: str, tmp_path: Path
) -> None:
    torch.multiprocessing.spawn(run_rank, (script, str(tmp_path)), nprocs=2)
    expected = three_updates(script, 0, 1)
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in range(2))
    for key, value in expected.items():
        assert torch.equal(first[key], second[key]), key
        if not key.endswith("sums"):  # sums are means over ranks
            torch.testing.assert_close(first[key], value, rtol=1e-4, atol=1e-5)
    # Sharing is what does it: one rank alone, on its half, ends elsewhere
    alone = three_updates(script, 0, 2)
    assert not torch.allclose(
        alone["critic.net.0.weight"], expected["critic.net.0.weight"], rtol=1e-3, atol=1e-3
    )


def torchrun(script: Path, run_dir: Path) -> subprocess.CompletedProcess[str]:
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
        str(script),
    ]
    command += "--env-id ContinuousSeek1-v0 --normalize --num-envs 3 --learning-starts 60 --batch-size 16".split()
    command += (
        "--hidden-dims 16 --total-timesteps 240 --eval-frequency 120 --eval-episodes 4".split()
    )
    return subprocess.run(
        [*command, "--run-dir", str(run_dir)],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        text=True,
        capture_output=True,
        timeout=300,
    )


@pytest.mark.parametrize("script", SCRIPTS)
def test_torchrun_trains_on_two_ranks_counts_the_steps_of_both_and_rank_0_logs(
    script: str, tmp_path: Path
) -> None:
    result = torchrun(ROOT / "algos" / f"{script}.py", tmp_path / "run")
    assert result.returncode == 0, result.stdout + result.stderr
    with open(tmp_path / "run" / "metrics.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["global_step"] for row in rows] == ["0", "120", "240"]
    assert result.stdout.count("global_step") == 3
    assert len(list((tmp_path / "run").glob("events*"))) == 1
    model = torch.load(tmp_path / "run" / "model.pt", weights_only=True)
    # Each rank has seen 3 x 40 transitions but those of unfinished episodes; the sums are means over the ranks
    assert model["actor"]["obs_normalizer.sums"][0, 0] == 120
    # Evaluation is the mean over both ranks' 4 episodes
    assert all(float(row["success_rate"]) * 8 % 1 == 0 for row in rows)


def test_a_rank_with_other_weights_stops_the_run(tmp_path: Path) -> None:
    script = tmp_path / "other_weights.py"
    script.write_text(
        "import os, runpy, torch\n"
        "manual_seed = torch.manual_seed\n"
        "torch.manual_seed = lambda seed: manual_seed(seed + int(os.environ['RANK']))\n"
        f"runpy.run_path({str(ROOT / 'algos' / 'ddpg_her_reengage.py')!r}, run_name='__main__')\n"
    )
    result = torchrun(script, tmp_path / "run")
    assert result.returncode != 0
    assert "Rank 1 has other weights than rank 0 at step 0." in result.stderr
