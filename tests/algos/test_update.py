"""`update` and `polyak` of every script equal mathematics by hand, under every flag they read."""

import importlib
from types import ModuleType
from typing import Any

import pytest
import torch
from numerics import ByHand, DdpgByHand, DqnByHand, MultiByHand, SacByHand, copies
from problems import (
    CPU,
    ENVS,
    actor_params,
    critic_params,
    gradients,
    in_float32,
    make_agent,
    make_args,
    make_batch,
    online_params,
    run_update,
)
from specs import SCRIPTS, SPECS
from torch import Tensor, nn

from algos import (
    ddpg_her,
    ddpg_her_reengage,
    ddpg_her_reengage_torchrun,
    ddpg_multi_reengage,
    dqn_her_reengage_bitflip,
    sac_her_reengage,
)

DDPG, REENGAGE = [ddpg_her], [ddpg_her_reengage, ddpg_her_reengage_torchrun]
SAC, DQN, MULTI = [sac_her_reengage], [dqn_her_reengage_bitflip], [ddpg_multi_reengage]
ALL = DDPG + REENGAGE + SAC + DQN + MULTI
BY_HAND = {sac_her_reengage: SacByHand, dqn_her_reengage_bitflip: DqnByHand}
BY_HAND |= {ddpg_multi_reengage: MultiByHand}
BY_HAND |= dict.fromkeys(DDPG + REENGAGE, DdpgByHand)

# Scripts and flags; `dense` is a dense reward
FLAGS: list[tuple[list[ModuleType], dict[str, Any]]] = [
    (ALL, dict()),
    (ALL, dict(gamma=0.3)),
    (ALL, dict(tau=0.9)),
    (ALL, dict(learning_rate=0.05)),
    (REENGAGE + SAC + DQN + MULTI, dict(alpha=0.0)),
    (REENGAGE + SAC + DQN + MULTI, dict(alpha=5.0)),
    (REENGAGE + SAC + DQN + MULTI, dict(alpha="auto")),
    (REENGAGE + SAC + DQN + MULTI, dict(alpha="auto", alpha_ratio=0.2, alpha_averaging=0.1)),
    (REENGAGE + SAC + DQN, dict(c_low=0.0)),
    (REENGAGE + SAC, dict(dense=True)),
    (REENGAGE + SAC, dict(dense=True, normalize=True)),
    (DDPG + REENGAGE + SAC, dict(normalize=True)),
    (REENGAGE, dict(normalize=True, raw_goal_gradient=True)),
    (DDPG + REENGAGE, dict(action_l2=2.0)),
    (DDPG + REENGAGE, dict(gamma=0.3, clip_target=True)),
    (DDPG + REENGAGE, dict(simultaneous_updates=True)),
    (DQN, dict(temperature=0.0)),
    (DQN, dict(temperature=1.0)),
    (DQN, dict(soft_target="both")),
    (MULTI, dict(share_encoder=False)),
    (MULTI, dict(policy_gates=False)),
    (MULTI, dict(share_encoder=False, policy_gates=False)),
]
CASES = {}
for scripts, flags in FLAGS:
    for script in scripts:
        words = " ".join(f"{name}={value}" for name, value in flags.items())
        CASES[f"{script.__name__.removeprefix('algos.')} {words}"] = script, flags
every_script = pytest.mark.parametrize("script", ALL)


@pytest.fixture(autouse=True, scope="module")
def one_process(tmp_path_factory: pytest.TempPathFactory):
    """torchrun's script averages over ranks: here there is one."""
    meeting = tmp_path_factory.mktemp("ranks") / "meeting"
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{meeting}", rank=0, world_size=1
    )
    yield
    torch.distributed.destroy_process_group()


def assert_near(ours: list[Tensor], expected: list[Tensor]) -> None:
    for tensor, other in zip(ours, expected, strict=True):
        torch.testing.assert_close(tensor.detach(), other.detach(), rtol=1e-5, atol=1e-7)


def assert_same(ours: list[Tensor], expected: list[Tensor]) -> None:
    for tensor, other in zip(ours, expected, strict=True):
        assert torch.equal(tensor, other)


# A gradient step


@pytest.mark.parametrize("case", CASES)
def test_gradients_curves_and_parameters_of_two_updates_equal_those_by_hand(case: str):
    script, flags = CASES[case]
    flags = flags.copy()
    dense = flags.pop("dense", False)
    args = make_args(script, **flags)
    agent = make_agent(script, args)
    hand: ByHand = BY_HAND[script](agent, args, dense)
    for seed in (1, 2):
        batch = make_batch(script, seed, dense)
        targets = copies(agent.target_params)
        torch.manual_seed(seed)
        curves = run_update(script, agent, batch, args, dense)
        torch.manual_seed(seed)
        expected = hand.update(batch)
        assert_near(gradients(critic_params(agent)), gradients(hand.critic))
        assert_near(gradients(actor_params(agent)), gradients(hand.actor))
        assert_near(critic_params(agent), hand.critic)
        assert_near(actor_params(agent), hand.actor)
        assert_same(agent.target_params, targets)  # update leaves the targets alone
        assert all(param.grad is None for param in agent.target_params)
        assert curves.keys() == expected.keys()
        for name, value in expected.items():
            assert curves[name].item() == pytest.approx(value.item(), rel=1e-5), name

        online = copies(online_params(agent))
        script.polyak(agent, args.tau)
        hand.polyak()
        assert_near(agent.target_params, hand.target)
        assert_same(online_params(agent), online)  # polyak leaves the networks alone
    if script is sac_her_reengage:
        assert_near([agent.log_c], hand.log_c)


@pytest.mark.parametrize("name", SCRIPTS)
def test_the_target_is_a_constant_even_where_the_networks_are_their_own_targets(name: str):
    script = importlib.import_module(f"algos.{name}")
    args = make_args(script)
    found = []
    for has_own_targets in (True, False):
        agent = make_agent(script, args)
        for target, online in SPECS[name].targets.items():
            getattr(agent, online).load_state_dict(getattr(agent, target).state_dict())
            if not has_own_targets:
                setattr(agent, target, getattr(agent, online))
        torch.manual_seed(0)
        run_update(script, agent, make_batch(script, 1), args)
        found.append(gradients(critic_params(agent)))
    assert_near(*found)


@pytest.mark.parametrize("flags", [dict(), dict(clip_target=True), dict(normalize=True)], ids=str)
def test_with_alpha_0_two_updates_are_bit_for_bit_those_of_ddpg_her(flags: dict):
    states = []
    for script, more in ((ddpg_her, {}), (ddpg_her_reengage, dict(alpha=0.0))):
        args = make_args(script, **flags, **more)
        agent = make_agent(script, args)
        for name in ("actor", "critic", "target_actor", "target_critic"):
            getattr(agent, name).float()
        for seed in (1, 2):
            curves = run_update(script, agent, in_float32(make_batch(script, seed)), args)
            script.polyak(agent, args.tau)
        losses = [curves["losses/value"], curves["losses/actor"]]
        states.append(agent.target_params + online_params(agent) + losses)
    assert {param.dtype for param in states[0]} == {torch.float32}
    assert_same(*states)


# A new agent


@pytest.mark.parametrize("share_encoder", [True, False])
@every_script
def test_a_new_agents_targets_are_copies_of_its_networks(script: ModuleType, share_encoder: bool):
    args = make_args(script)
    args.share_encoder = share_encoder  # read by one script alone
    agent = script.Agent(ENVS, args, CPU)
    assert_same(agent.target_params, online_params(agent))
    for param, target in zip(online_params(agent), agent.target_params, strict=True):
        assert param is not target
        assert param.requires_grad
        assert not target.requires_grad
    if script is ddpg_multi_reengage:
        assert (agent.actor.encoder is agent.critic.encoder) == share_encoder
        assert (agent.target_actor.encoder is agent.target_critic.encoder) == share_encoder


@pytest.mark.parametrize("script", DDPG + REENGAGE + SAC)
def test_networks_have_the_hidden_layers_and_initial_weights_that_flags_ask_for(
    script: ModuleType,
):
    args = make_args(script, hidden_dims=(30, 40), xavier_init=True)
    agent = script.Agent(ENVS, args, CPU)
    critic = agent.critic if hasattr(agent, "critic") else agent.critics[1]
    for network in (agent.actor, critic):
        layers = [layer for layer in network.net if isinstance(layer, nn.Linear)]
        assert [layer.out_features for layer in layers[:-1]] == [30, 40]
        for layer in layers:
            bound = (6 / (layer.in_features + layer.out_features)) ** 0.5
            assert not layer.bias.any()
            assert 0.8 * bound < layer.weight.abs().max() <= bound
    args.xavier_init = False
    agent = script.Agent(ENVS, args, CPU)
    assert agent.actor.net[0].bias.all()


# Precision


def curves_and_dtypes(script: ModuleType, precision: str) -> tuple[dict, set[torch.dtype]]:
    """Of a float32 update: its curves, and the outputs of the layers that may be rounded."""
    args = make_args(script, matmul_precision=precision)
    agent = make_agent(script, args)
    dtypes = set()
    for part in agent.float().children():
        rounded = part.encoder if hasattr(part, "encoder") else part
        for layer in rounded.modules():
            if isinstance(layer, nn.Linear):
                layer.register_forward_hook(lambda *call: dtypes.add(call[2].dtype))
    batch = in_float32(make_batch(script, 1))
    torch.manual_seed(1)
    return run_update(script, agent, batch, args), dtypes


@every_script
def test_medium_precision_rounds_only_the_networks_of_an_update_to_bfloat16(script: ModuleType):
    exact, dtypes = curves_and_dtypes(script, "highest")
    assert dtypes == {torch.float32}
    rounded, dtypes = curves_and_dtypes(script, "medium")
    assert dtypes == {torch.bfloat16}
    for name in ("losses/value", "values/q", "values/target"):
        assert rounded[name].dtype == torch.float32
        assert 0 < (rounded[name] - exact[name]).abs() < 0.02 * (1 + exact[name].abs())
