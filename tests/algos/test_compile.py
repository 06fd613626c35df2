"""--compile: the same numbers to rounding, compiled whole and once; or a sentence, and no more.

A graph takes PyTorch some seconds, and each loss is one.
"""

from types import ModuleType, SimpleNamespace

import pytest
import torch
from problems import CPU, ENVS, in_float32, make_args, make_batch, run_update
from torch import Tensor
from torch._dynamo.utils import counters

from algos import (
    ddpg_her_reengage,
    ddpg_multi_reengage,
    dqn_her_reengage_bitflip,
    sac_her_reengage,
)
from envs import run

LOSSES = {ddpg_her_reengage: 2, sac_her_reengage: 3, dqn_her_reengage_bitflip: 1}
LOSSES |= {ddpg_multi_reengage: 1}  # both in one graph


def trained(script: ModuleType) -> tuple[dict[str, Tensor], list[int]]:
    """Targets and curves of three updates; the number of graphs after each of them."""
    torch.manual_seed(0)
    args = make_args(script, alpha="auto", alpha_warmup=1)
    agent = script.Agent(ENVS, args, CPU)
    graphs = []
    for seed in (1, 2, 3):  # goal sets of other sizes each time
        batch = in_float32(make_batch(script, seed))
        curves = run_update(script, agent, batch, args)
        script.polyak(agent, args.tau)
        graphs.append(counters["stats"]["unique_graphs"])
    state = {f"target {i}": param for i, param in enumerate(agent.target_params)}
    return curves | state, graphs


@pytest.mark.parametrize("script", LOSSES)
def test_compiled_updates_are_the_same_to_rounding_and_each_loss_is_compiled_once(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
):
    expected, _ = trained(script)
    torch._dynamo.reset()
    counters.clear()
    name = "backward_both" if script is ddpg_multi_reengage else "backward"
    monkeypatch.setattr(script, name, run.compiled(getattr(script, name)))
    found, graphs = trained(script)
    assert capsys.readouterr().out == ""  # it went on compiled
    assert graphs == [LOSSES[script]] * 3
    assert not counters["graph_break"]
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-5, msg=name)


def test_a_number_that_changes_with_every_call_is_named_and_the_function_runs_uncompiled(
    capsys: pytest.CaptureFixture,
):
    agent = SimpleNamespace(updates=0)
    function = run.compiled(lambda x: agent.updates * x)
    with torch._dynamo.config.patch(recompile_limit=1):
        for agent.updates in range(4):
            assert function(torch.tensor(2.0)).item() == 2 * agent.updates
    (sentence,) = capsys.readouterr().out.splitlines()
    assert sentence.endswith("reads a Python number that keeps changing; make it a tensor.")


def test_what_does_not_compile_as_a_whole_runs_uncompiled_and_says_so_once(
    capsys: pytest.CaptureFixture,
):
    def doubled(x: Tensor) -> Tensor:
        torch._dynamo.graph_break()
        return 2 * x

    function = run.compiled(doubled)
    assert [function(torch.tensor(x)).item() for x in (1.0, 2.0)] == [2.0, 4.0]
    (sentence,) = capsys.readouterr().out.splitlines()
    assert sentence.startswith("--compile is not possible here, so the run goes on without: ")
