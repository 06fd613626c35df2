"""Stable-Baselines3 with the gradient term: its gradient is the scripts', and with alpha 0 its
training is Stable-Baselines3's own."""

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import stable_baselines3
import torch
from conftest import ROOT, python
from stable_baselines3.common.logger import configure
from stable_baselines3.common.noise import NormalActionNoise
from stable_baselines3.common.type_aliases import DictReplayBufferSamples
from torch import Tensor, nn

import envs
from algos import ddpg_her_reengage, sac_her_reengage
from benchmark.studies.reengage_sb3 import ReenGAGEDDPG, ReenGAGESAC

D = 3  # of goals, observations and actions alike
# The scripts' columns in Stable-Baselines3's order. The scripts: observation, achieved goal, goal,
# action. Stable-Baselines3: achieved goal, goal, observation, action
ACTOR_COLUMNS = [*range(D, 2 * D), *range(2 * D, 3 * D), *range(D)]
CRITIC_COLUMNS = [*ACTOR_COLUMNS, *range(3 * D, 4 * D)]


def make_model(cls: type, **kwargs):
    model = cls(
        "MultiInputPolicy",
        envs.make(f"ContinuousSeek{D}-v0"),
        buffer_size=1000,
        batch_size=32,
        gamma=0.95,
        learning_starts=100,
        policy_kwargs={"net_arch": [16, 16]},
        action_noise=NormalActionNoise(np.zeros(D), 0.1 * np.ones(D)),
        replay_buffer_class=stable_baselines3.HerReplayBuffer,
        seed=1,
        device="cpu",
        **kwargs,
    )
    model.set_logger(configure(format_strings=[]))
    return model


def make_agent(script):
    args = script.Args(alpha=0.7, c_low=-1.0, hidden_dims=(16, 16))
    make_env = partial(envs.make, f"ContinuousSeek{D}-v0", observe_achieved_goal=True)
    return script.Agent(envs.make_vector(make_env, 1, 0), args, torch.device("cpu")), args


def draw_batches(script) -> tuple:
    """The same random transitions for a script and for Stable-Baselines3."""
    obs, achieved, goal, action, next_obs, next_achieved = torch.randn(6, 32, D)
    reward = -torch.randint(2, (32,)).float()
    terminated = torch.randint(2, (32,)).float()
    full_obs = torch.cat([obs, achieved], 1)
    full_next_obs = torch.cat([next_obs, next_achieved], 1)
    ours = full_obs, goal, action, reward, full_next_obs, next_achieved, terminated
    theirs = DictReplayBufferSamples(
        {"achieved_goal": achieved, "desired_goal": goal, "observation": obs},
        action,
        {"achieved_goal": next_achieved, "desired_goal": goal, "observation": next_obs},
        terminated[:, None],
        reward[:, None],
    )
    return script.Batch(*ours), theirs


def linear_layers(net: nn.Module) -> list[nn.Linear]:
    return [layer for layer in net.modules() if isinstance(layer, nn.Linear)]


@torch.no_grad()
def copy_weights(net: nn.Module, to: nn.Module, columns: list[int]) -> None:
    for i, (source, target) in enumerate(zip(linear_layers(net), linear_layers(to), strict=True)):
        target.weight.copy_(source.weight[:, columns] if i == 0 else source.weight)
        target.bias.copy_(source.bias)


def assert_gradients_are_equal(net: nn.Module, sb3_net: nn.Module) -> None:
    layers = zip(linear_layers(net), linear_layers(sb3_net), strict=True)
    for i, (layer, sb3_layer) in enumerate(layers):
        grad = layer.weight.grad[:, CRITIC_COLUMNS] if i == 0 else layer.weight.grad
        assert_equal_to_rounding(sb3_layer.weight.grad, grad)
        assert_equal_to_rounding(sb3_layer.bias.grad, layer.bias.grad)


def assert_equal_to_rounding(tensor: Tensor, expected: Tensor) -> None:
    assert expected.norm() > 0
    assert (tensor - expected).norm() < 1e-5 * expected.norm()


def test_the_critics_gradient_with_ddpg_is_the_scripts() -> None:
    torch.manual_seed(0)
    agent, args = make_agent(ddpg_her_reengage)
    model = make_model(ReenGAGEDDPG, alpha=0.7)
    nn.init.normal_(agent.target_critic.net[0].weight, std=0.3)  # unlike the critic
    copy_weights(agent.critic, model.critic, CRITIC_COLUMNS)
    copy_weights(agent.target_critic, model.critic_target, CRITIC_COLUMNS)
    copy_weights(agent.target_actor, model.actor_target, ACTOR_COLUMNS)
    batch, sb3_batch = draw_batches(ddpg_her_reengage)
    loss = ddpg_her_reengage.reengage_critic_loss(agent, batch, args, None)[0]
    sb3_loss = model.critic_loss(sb3_batch)
    loss.backward()
    sb3_loss.backward()
    assert_equal_to_rounding(sb3_loss, loss)
    assert_gradients_are_equal(agent.critic, model.critic)


def test_the_critics_gradient_with_sac_and_the_same_noise_is_the_scripts() -> None:
    torch.manual_seed(0)
    agent, args = make_agent(sac_her_reengage)
    model = make_model(ReenGAGESAC, alpha=0.7)
    nn.init.normal_(agent.target_critics[0].net[0].weight, std=0.3)
    sb3_critics = model.critic.qf0, model.critic.qf1
    sb3_targets = model.critic_target.qf0, model.critic_target.qf1
    for i in range(2):
        copy_weights(agent.critics[i], sb3_critics[i], CRITIC_COLUMNS)
        copy_weights(agent.target_critics[i], sb3_targets[i], CRITIC_COLUMNS)
    with torch.no_grad():
        agent.log_c.fill_(-1.0)
        model.log_ent_coef.fill_(-1.0)
        *hidden, last = linear_layers(agent.actor)
        copy_weights(nn.Sequential(*hidden), model.actor.latent_pi, ACTOR_COLUMNS)
        mean_and_std = nn.ModuleList([model.actor.mu, model.actor.log_std])
        for i, layer in enumerate(mean_and_std):
            layer.weight.copy_(last.weight[i * D : (i + 1) * D])
            layer.bias.copy_(last.bias[i * D : (i + 1) * D])
    model.actor.action_dist.epsilon = 0  # it adds 1e-6 within the logarithm of 1 - tanh(u)^2
    batch, sb3_batch = draw_batches(sac_her_reengage)
    torch.manual_seed(1)
    noise = torch.randn(32, D)
    loss = sac_her_reengage.sac_critic_loss(agent, batch, args, noise, None)[0]
    torch.manual_seed(1)  # from here Stable-Baselines3 draws the same noise
    sb3_loss = 0.5 * model.critic_loss(sb3_batch)
    loss.backward()
    sb3_loss.backward()
    assert_equal_to_rounding(sb3_loss, loss)
    for critic, sb3_critic in zip(agent.critics, sb3_critics, strict=True):
        assert_gradients_are_equal(critic, sb3_critic)


@pytest.mark.parametrize(
    ("cls", "original"),
    [(ReenGAGEDDPG, stable_baselines3.DDPG), (ReenGAGESAC, stable_baselines3.SAC)],
)
def test_with_alpha_0_training_is_stable_baselines3s_to_the_last_digit(cls, original) -> None:
    model = make_model(cls, alpha=0).learn(200)
    expected = make_model(original).learn(200)
    weights = model.policy.state_dict()
    for name, weight in expected.policy.state_dict().items():
        assert torch.equal(weights[name], weight), name
    changed = make_model(cls, alpha=0.1).learn(200)
    assert not torch.equal(changed.critic.qf0[0].weight, model.critic.qf0[0].weight)


def test_alpha_auto_starts_after_1000_updates_at_the_ratio_and_never_exceeds_its_start() -> None:
    model = make_model(ReenGAGEDDPG, alpha="auto", alpha_ratio=0.1)
    model.auto_alpha(2.0, 0.0)  # all rows at their goals: no update
    assert {model.auto_alpha(2.0, 4.0) for _ in range(1000)} == {0.0}
    start = model.auto_alpha(2.0, 4.0)
    assert start == pytest.approx(0.1 * 2 / 4, rel=1e-3)
    assert model.auto_alpha(200.0, 4.0) == pytest.approx(start, rel=1e-3)
    falling = [model.auto_alpha(0.02, 4.0) for _ in range(10_000)]
    assert falling[-1] == pytest.approx(0.1 * 0.02 / 4, rel=1e-3)


def test_a_saved_model_goes_on_with_its_alpha(tmp_path: Path) -> None:
    model = make_model(ReenGAGESAC, alpha="auto").learn(150)
    model.save(tmp_path / "model")
    loaded = ReenGAGESAC.load(tmp_path / "model", env=model.env)
    for name in ("alpha", "alpha_ratio", "c_low", "term_updates", "largest_alpha"):
        assert getattr(loaded, name) == getattr(model, name)
    assert loaded.term_updates > 0
    loaded.replay_buffer = model.replay_buffer
    loaded.learn(20, reset_num_timesteps=False)
    assert loaded.term_updates > model.term_updates


def test_observations_in_float64_give_the_same_loss() -> None:
    model = make_model(ReenGAGEDDPG)
    _, batch = draw_batches(ddpg_her_reengage)
    double = {key: value.double() for key, value in batch.observations.items()}
    next_double = {key: value.double() for key, value in batch.next_observations.items()}
    loss = model.critic_loss(batch._replace(observations=double, next_observations=next_double))
    assert_equal_to_rounding(loss, model.critic_loss(batch))


def test_the_study_writes_metrics_with_the_scripts_columns(tmp_path: Path) -> None:
    script = ROOT / "benchmark" / "studies" / "continuous_seek_sb3.py"
    flags = "--algorithm sac --env-id ContinuousSeek1-v0 --total-timesteps 2000 --batch-size 8"
    result = python(script, *flags.split(), "--run-dir", tmp_path / "run")
    assert result.returncode == 0, result.stderr
    header, before, after = (tmp_path / "run" / "metrics.csv").read_text().splitlines()
    assert header == "global_step,success_rate,success_once,episodic_return,wall_time"
    assert before.startswith("0,") and after.startswith("2000,")
