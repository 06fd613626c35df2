"""--compile: the same numbers to rounding, compiled whole and once; or a sentence, and no more.

A graph takes PyTorch some seconds, and each loss is one.
"""

from types import ModuleType
from typing import Any

import pytest
import torch
from gymnasium.spaces import Discrete
from numerics import CPU
from torch import Tensor
from torch._dynamo.utils import counters

from algos import ddpg_her, ddpg_her_reengage, dqn_her_reengage_bitflip, sac_her_reengage
from envs import run

torch.set_num_threads(1)

OBS_DIM, GOAL_DIM, ACTION_DIM, BATCH = 3, 2, 2, 32
LOSSES = {ddpg_her: 2, ddpg_her_reengage: 2, sac_her_reengage: 3, dqn_her_reengage_bitflip: 1}


def make_agent(script: ModuleType) -> tuple[Any, Any]:
    torch.manual_seed(0)
    args = script.Args(hidden_dims=(8, 8))
    if script is not ddpg_her:
        args.alpha = "auto"
        args.alpha_warmup = 1  # the second update has a gradient term
        args.c_low = -1.0
    dims = dict(obs_dim=OBS_DIM, goal_dim=GOAL_DIM, action_dim=ACTION_DIM, action_space=Discrete(4))
    return script.Agent(type("Envs", (), dims), args, CPU), args


def make_batch(script: ModuleType) -> Any:
    action = torch.rand(BATCH, ACTION_DIM)
    if script is dqn_her_reengage_bitflip:
        action = torch.randint(4, (BATCH, 1)).float()
    return script.Batch(
        obs=torch.randn(BATCH, OBS_DIM),
        goal=torch.randn(BATCH, GOAL_DIM),
        action=action,
        reward=-(torch.rand(BATCH) < 0.6).float(),
        next_obs=torch.randn(BATCH, OBS_DIM),
        next_achieved_goal=torch.randn(BATCH, GOAL_DIM),
        terminated=(torch.rand(BATCH) < 0.2).float(),
    )


def trained(script: ModuleType) -> tuple[dict[str, Tensor], list[int]]:
    """Parameters and curves of three updates; the number of graphs after each of them."""
    agent, args = make_agent(script)
    more = () if script in (ddpg_her, dqn_her_reengage_bitflip) else (None,)
    graphs = []
    for _ in range(3):
        curves = script.update(agent, make_batch(script), args, *more)
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
    monkeypatch.setattr(script, "gradient", run.compiled(script.gradient))
    found, graphs = trained(script)
    assert capsys.readouterr().out == ""  # it went on compiled
    assert graphs == [LOSSES[script]] * 3
    assert not counters["graph_break"]
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-5, msg=name)


def test_what_cannot_be_compiled_whole_runs_as_it_is_and_says_so_once(
    capsys: pytest.CaptureFixture,
):
    def doubled(x: Tensor) -> Tensor:
        torch._dynamo.graph_break()
        return 2 * x

    function = run.compiled(doubled)
    assert [function(torch.tensor(x)).item() for x in (1.0, 2.0)] == [2.0, 4.0]
    (sentence,) = capsys.readouterr().out.splitlines()
    assert sentence.startswith("--compile is not possible here, so the run goes on without: ")
