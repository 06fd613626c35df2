"""Many runs at once compute what the plain script computes, and no run knows of its neighbours."""

import functools
import runpy
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from conftest import ROOT
from problems import CPU, gradients
from torch import Tensor, nn
from torch._dynamo.utils import counters

from algos import ddpg_her_reengage as plain
from algos import ddpg_her_reengage_many as many
from algos.ddpg_her_reengage_many import Agents, Args, Batches, Group
from envs import make, run
from envs.many.grid import Run
from envs.many.on_device import DeviceTask, Streams, inspect_for_device

OBS_DIM, GOAL_DIM, ACTION_DIM, BATCH = 3, 2, 2, 24
RATES = (1e-3, 3e-3, 1e-3, 5e-4)
ALPHAS = (0.7, 0.0, 0.1, 5.0)
TASK = DeviceTask(None, OBS_DIM, GOAL_DIM, ACTION_DIM, 10, 0.1, is_seek=False)


@pytest.fixture
def float64() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


class Problem:
    """Random networks, statistics and transitions of a run for each alpha and learning rate."""

    def __init__(self, args: Args, alphas: Sequence[Any] = ALPHAS):
        self.args = args
        torch.manual_seed(0)
        n = len(alphas)
        self.runs = [Run(*each, seed=1) for each in zip(alphas, RATES, strict=False)]
        self.agents = Agents(args, TASK, self.runs, Streams([1, 2, 3, 4][:n], CPU))
        agents = self.agents
        self.networks = [agents.actor, agents.critic, agents.target_actor, agents.target_critic]
        for network in self.networks:
            network.params.data.normal_(std=0.5)
        scale = torch.tensor([0.2, 3.0])
        self.batch = Batches(
            obs=2 + torch.randn(n, BATCH, OBS_DIM),
            goal=torch.tensor([0.5, -1.0]) + scale * torch.randn(n, BATCH, GOAL_DIM),
            action=torch.rand(n, BATCH, ACTION_DIM) * 2 - 1,
            reward=-(torch.rand(n, BATCH) < 0.6).to(scale),
            next_obs=2 + torch.randn(n, BATCH, OBS_DIM),
        )
        if args.normalize:
            obs = 2 + 0.5 * torch.randn(n, BATCH, OBS_DIM)
            agents.normalizer.update(torch.cat([obs, self.batch.goal], 2))
            self.batch.goal[:, :2, 0] += 3.0  # 15 sigma: beyond the clip at 5 sigma
        if args.clip_target:  # targets below -1 / (1 - gamma), above 0 and between
            weight, bias = agents.target_critic.layers()[-1]
            weight *= 8
            bias -= 3

    def group(self) -> SimpleNamespace:
        """What `Group.learn` needs: every batch is this one."""
        buffers = SimpleNamespace(sample=lambda batch_size: self.batch)
        return SimpleNamespace(args=self.args, agents=self.agents, buffers=buffers)


def torch_net(network: many.Mlps, index: int) -> nn.Sequential:
    """One run's network as the plain script has it."""
    layers = []
    for weight, bias in network.layers():
        layer = nn.Linear(*weight.shape[1:])
        layer.weight.data.copy_(weight[index].mT)
        layer.bias.data.copy_(bias[index, 0])
        layers += [layer, nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def plain_args(problem: Problem, index: int) -> plain.Args:
    """The plain script's flags of one run: those of the grid have one value each."""
    names = {name for name in asdict(problem.args) if name in plain.Args.__dataclass_fields__}
    values = {name: getattr(problem.args, name) for name in names}
    its = problem.runs[index]
    values |= {"alpha": its.alpha, "learning_rate": its.learning_rate, "run_dir": ""}
    return plain.Args(**values, c_low=-1.0)


def plain_agent(problem: Problem, index: int) -> nn.Module:
    """One run as the plain script's losses and `update` want it."""
    args = plain_args(problem, index)
    normalizer = plain.Normalizer(OBS_DIM + GOAL_DIM, args.normalize)
    normalizer.mean.copy_(problem.agents.normalizer.mean[index, 0])
    normalizer.std.copy_(problem.agents.normalizer.std[index, 0])
    nets = [torch_net(network, index) for network in problem.networks]
    actor, critic, target_actor, target_critic = nets
    nn.ModuleList(nets[2:]).requires_grad_(False)
    params = [list(net.parameters()) for net in nets]
    parts = dict(
        normalizer=normalizer,
        actor=plain.Actor(normalizer, actor),
        critic=plain.Critic(normalizer, critic),
        target_actor=plain.Actor(normalizer, target_actor),
        target_critic=plain.Critic(normalizer, target_critic),
        actor_params=params[0],
        critic_params=params[1],
        target_params=params[2] + params[3],
        actor_optimizer=torch.optim.Adam(params[0], args.learning_rate),
        critic_optimizer=torch.optim.Adam(params[1], args.learning_rate),
        auto_alpha=plain.AutoAlpha(args).float(),  # it computes in float32
    )
    agent = nn.Module()
    for name, part in parts.items():
        setattr(agent, name, part)
    return agent


def plain_batch(problem: Problem, index: int) -> plain.Batch:
    parts = {name: part[index] for name, part in problem.batch._asdict().items()}
    unseen = torch.full_like(parts["goal"], torch.nan)  # no loss may look at it
    return plain.Batch(**parts, next_achieved_goal=unseen, terminated=torch.zeros(BATCH))


def as_row(parts: Sequence[Tensor]) -> Tensor:
    """Parameters of a torch network, or gradients by them, in the order of `Mlps.params`."""
    row = []
    for weight, bias in zip(parts[::2], parts[1::2], strict=True):
        row += [weight.detach().mT.flatten(), bias.detach()]
    return torch.cat(row)


SMALL = dict(gamma=0.9, hidden_dims=(8, 9), action_l2=0.7)
CASES = {
    "plain": dict(),
    "clipped": dict(clip_target=True),
    "normalised": dict(normalize=True),
    "normalised, raw goal gradient": dict(normalize=True, raw_goal_gradient=True),
    "all": dict(normalize=True, clip_target=True, hidden_dims=(9, 7, 8)),
}


@pytest.mark.parametrize("case", CASES)
def test_gradients_and_curves_are_the_plain_scripts_for_several_alphas_at_once(
    case: str, float64: None
) -> None:
    problem = Problem(Args(**SMALL | CASES[case]))
    agents, args, batch = problem.agents, problem.args, problem.batch
    critic_grad, curves = many.gradient_rows(
        many.reengage_critic_losses, agents.critic.params, agents, batch, args
    )
    actor_grad, actor_curves = many.gradient_rows(
        many.actor_losses, agents.actor.params, agents, batch, args
    )
    for index in range(len(ALPHAS)):
        agent = plain_agent(problem, index)
        rest = agent, plain_batch(problem, index), plain_args(problem, index)
        agent.zero_grad()
        its_curves = plain.backward(plain.reengage_critic_loss, agent.critic_params, *rest, None)
        row = as_row(gradients(agent.critic_params))
        assert row.abs().max() > 0.01
        torch.testing.assert_close(critic_grad[index, : len(row)], row, rtol=1e-12, atol=1e-12)
        more_curves = plain.backward(plain.actor_loss, agent.actor_params, *rest)
        row = as_row(gradients(agent.actor_params))
        torch.testing.assert_close(actor_grad[index, : len(row)], row, rtol=1e-12, atol=1e-12)
        for name, values in (curves | actor_curves).items():
            if name != "losses/gradient" or ALPHAS[index] != 0:  # the plain script leaves it out
                expected = (its_curves | more_curves)[name].double()
                torch.testing.assert_close(values[index], expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("simultaneous", [False, True])
def test_rounds_of_updates_leave_the_parameters_that_the_plain_scripts_steps_leave(
    simultaneous: bool, float64: None
) -> None:
    how = dict(simultaneous_updates=simultaneous, tau=0.3, alpha_warmup=2, alpha_averaging=0.3)
    args = Args(**SMALL | CASES["all"] | how, gradient_steps=6, target_network_frequency=2)
    problem = Problem(args, ("auto", 0.0, 0.1, 5.0))
    plains = [plain_agent(problem, index) for index in range(4)]
    before = problem.agents.critic.params.clone()
    Group.learn(problem.group())
    assert ((problem.agents.critic.params - before).abs().amax(1) > 1e-3).all()
    assert problem.agents.alphas.largest[0] > 0  # of the run whose alpha is automatic
    for index, agent in enumerate(plains):
        for step in range(1, 7):
            its = plain_batch(problem, index), plain_args(problem, index)
            plain.update(agent, *its, None)
            if step % 2 == 0:
                plain.polyak(agent, args.tau)
        nets = [agent.actor, agent.critic, agent.target_actor, agent.target_critic]
        for network, its_own in zip(problem.networks, nets, strict=True):
            row = as_row(list(its_own.net.parameters()))
            ours = network.params[index, : len(row)]
            torch.testing.assert_close(ours, row, rtol=1e-6, atol=1e-7)


def test_compiled_gradients_are_the_same_to_rounding_whole_and_compiled_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    params = []
    counters.clear()
    for _ in range(3):  # eagerly, then two groups of the same size
        problem = Problem(Args(**SMALL, gradient_steps=2), (0.7, 0.0, "auto"))
        Group.learn(problem.group())
        params.append(torch.cat([network.params.detach() for network in problem.networks], 1))
        if len(params) == 1:
            monkeypatch.setattr(many, "gradient_rows", run.compiled(many.gradient_rows))
    assert counters["stats"]["unique_graphs"] == 2  # critics, actors
    torch.testing.assert_close(params[1], params[0], rtol=1e-5, atol=1e-6)
    assert torch.equal(params[1], params[2])


@pytest.mark.parametrize("case", CASES)
def test_medium_precision_rounds_and_keeps_gradients_near_those_of_float32(case: str) -> None:
    gradients = {}
    for precision in ("highest", "medium"):
        problem = Problem(Args(**SMALL | CASES[case], matmul_precision=precision))
        curves = Group.learn(problem.group())
        assert {values.dtype for values in curves.values()} == {torch.float32}
        optimizers = problem.agents.actor_optimizer, problem.agents.critic_optimizer
        gradients[precision] = torch.cat([each.gradient for each in optimizers], 1)
    difference = (gradients["medium"] - gradients["highest"]).norm(dim=1)
    relative = difference / gradients["highest"].norm(dim=1)
    assert (relative > 1e-4).all() and (relative < 0.1).all()  # float32 is within 1e-6


def test_parameters_begin_as_pytorchs_layers_do_or_xavier_uniform() -> None:
    task = DeviceTask(None, 30, 20, 10, 10, 0.1, is_seek=False)
    for xavier in (False, True):
        args = Args(xavier_init=xavier, hidden_dims=(100, 50))
        agents = Agents(args, task, [Run(0, 1e-3, 1), Run(0, 1e-3, 2)], Streams([1, 2], CPU))
        for weight, bias in agents.actor.layers() + agents.critic.layers():
            fan_in, fan_out = weight.shape[1:]
            bound = (6 / (fan_in + fan_out)) ** 0.5 if xavier else fan_in**-0.5
            assert 0.95 * bound < weight.abs().max() <= bound
            assert bias.any() == (not xavier)
            assert not (weight[0] == weight[1]).any()
        assert torch.equal(agents.actor.params, agents.target_actor.params)
        assert torch.equal(agents.critic.params, agents.target_critic.params)


def test_alphas_are_the_plain_scripts_for_each_run() -> None:
    """Also where masks leave no row, at other updates in each run, and where alpha would grow."""
    args = Args(alpha_ratio=0.2, alpha_warmup=500, alpha_averaging=0.01)
    runs = [Run("auto", 1e-3, 1), Run(0.3, 1e-3, 1), Run("auto", 1e-3, 2), Run(0.0, 1e-3, 1)]
    ours = many.Alphas(runs, args)
    how = dict(alpha_ratio=0.2, alpha_warmup=500, alpha_averaging=0.01)
    theirs = {index: plain.AutoAlpha(plain.Args(**how)) for index in (0, 2)}
    generator = torch.Generator().manual_seed(0)
    used = []
    for update in range(1300):
        value_loss = 0.5 + torch.rand(4, generator=generator)
        grad_loss = 2 * torch.rand(4, generator=generator)
        grad_loss *= torch.rand(4, generator=generator) > torch.tensor([0.0, 0.2, 0.4, 0.2])
        if update > 1000:
            grad_loss *= 0.01  # the critic becomes flat
        used.append(ours(value_loss, grad_loss))
        for index, auto_alpha in theirs.items():
            assert used[-1][index] == auto_alpha(value_loss[index], grad_loss[index]), update
    alphas = torch.stack(used)
    assert (alphas[:, 1] == torch.tensor(0.3)).all() and (alphas[:, 3] == 0).all()
    assert (alphas[:500, [0, 2]] == 0).all() and (alphas[500:, 0] > 0).all()
    assert (alphas[700, 2] == 0) and (alphas[1000, 2] > 0)  # this run waits for its 500 updates
    assert torch.equal(alphas[-1, [0, 2]], ours.largest[[0, 2]])


def test_normalizers_are_those_of_the_plain_script() -> None:
    torch.manual_seed(0)
    ours = many.Normalizers(2, 3, enabled=True)
    theirs = [plain.Normalizer(3, enabled=True) for _ in range(2)]
    for n in (5, 300):
        x = 100 * torch.randn(2, n, 3)
        x[:, :, 2] = 7.0  # no spread: the standard deviation has a floor
        ours.update(x)
        for normalizer, rows in zip(theirs, x, strict=True):
            normalizer.update(rows)
    y = 400 * torch.randn(2, 50, 3)
    for index, normalizer in enumerate(theirs):
        torch.testing.assert_close(ours(y)[index], normalizer(y[index]))
    assert many.Normalizers(2, 3, enabled=False)(y) is y


KNOWN = ["ContinuousSeek5-v0", "ContinuousSeek7-v0", "ContinuousSeek20-v0", "HandReach-v3"]
KNOWN += ["FetchReach-v4", "FetchPush-v4"]


@pytest.mark.parametrize("env_id", [*KNOWN, "Corridor-v0"])  # the last is one that nobody has tuned
def test_an_environment_trains_with_the_plain_scripts_settings(
    env_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["script", "--env-id", env_id])
    tables = plain.PAPER_SETTINGS | plain.OTHER_SETTINGS
    theirs = asdict(run.parse_args(plain.Args, tables, plain.UNTUNED, ""))
    tables = many.PAPER_SETTINGS | many.OTHER_SETTINGS
    ours = asdict(run.read_flags(many.Args, tables, many.UNTUNED, ""))
    theirs |= {"alpha": (theirs["alpha"],), "learning_rate": (theirs["learning_rate"],)}
    theirs["eval_episodes"] = theirs["eval_episodes"] or 50  # many runs take a number alone
    of_the_call = {"run_dir", "compile"}
    shared = ours.keys() & theirs.keys() - of_the_call
    assert len(shared) >= 28
    assert {name: ours[name] for name in shared} == {name: theirs[name] for name in shared}
    only_ours = ours.keys() - theirs.keys()
    assert only_ours == {"seeds", "group_size", "tensorboard"}


# ---- replay ------------------------------------------------------------------------------------


def filled_buffers(args: Args, episodes: int) -> many.HerReplayBuffers:
    """Every observation tells run, episode and step: 10000 run + 100 episode + t."""
    task = DeviceTask(None, 1, 1, 1, 4, 0.5, is_seek=False)
    buffers = many.HerReplayBuffers(args, task, Streams([11, 12], CPU))
    for first in range(0, episodes, args.num_envs):
        episode = torch.arange(first, first + args.num_envs)[:, None]
        start = 10_000.0 * torch.arange(2)[:, None, None] + 100 * episode  # (run, env, 1)
        steps = []
        for t in range(4):
            now = start + t
            step = {"obs": now, "goal": start + 50, "action": -now}
            steps.append(step | {"next_obs": now + 1, "next_achieved_goal": now + 1})
        buffers.add(steps)
    return buffers


@pytest.mark.parametrize("num_envs", [1, 2])
def test_samples_are_transitions_whose_new_goals_come_later_in_their_own_episode(
    num_envs: int,
) -> None:
    args = Args(num_envs=num_envs, buffer_size=24, total_timesteps=1000)
    buffers = filled_buffers(args, episodes=10)  # six fit, 24 steps: 4 to 9 are left
    batch = buffers.sample(2000)
    for index in range(2):
        obs, goal = batch.obs[index, :, 0], batch.goal[index, :, 0]
        t, episode = obs % 100, obs // 100 - 100 * index
        assert set(episode.tolist()) == {4, 5, 6, 7, 8, 9} and set(t.tolist()) == {0, 1, 2, 3}
        assert torch.equal(batch.action[index, :, 0], -obs)
        assert torch.equal(batch.next_obs[index, :, 0], obs + 1)
        ahead = goal - obs
        assert torch.equal(goal[1600:] % 100, torch.full((400,), 50.0))  # her_k = 4: the others
        assert (ahead[:1600] >= 1).all() and (ahead[:1600] + t[:1600] <= 4).all()
        first = ahead[:1600][t[:1600] == 0]
        shares = [(first == k).float().mean().item() for k in (1, 2, 3, 4)]
        assert shares == pytest.approx([0.25] * 4, abs=0.1)
        assert torch.equal(batch.reward[index] == 0, ahead == 1)  # R(s', g), of the new goal
    assert not torch.equal(batch.obs[0] % 10_000, batch.obs[1] % 10_000)
    newest = buffers.sample(500, newest=2)
    assert set((newest.obs[0] // 100).flatten().tolist()) == {8, 9}


@pytest.mark.parametrize("buffer_size, total, kept", [(23, 1000, 5), (24, 1000, 6), (1000, 20, 5)])
def test_buffers_hold_as_many_whole_episodes_as_they_were_asked_to(
    buffer_size: int, total: int, kept: int
) -> None:
    args = Args(buffer_size=buffer_size, total_timesteps=total)
    batch = filled_buffers(args, episodes=5 if kept == 5 and total == 20 else 10).sample(2000)
    assert len((batch.obs // 100).unique()) == 2 * kept


def test_the_older_future_never_takes_an_episodes_end_as_a_goal_nor_relabels_a_last_step() -> None:
    study = runpy.run_path(str(ROOT / "benchmark" / "studies" / "older_future.py"))
    buffers = filled_buffers(Args(), episodes=6)
    batch = study["OlderFuture"].sample(buffers, 2000)
    t, ahead = batch.obs % 100, batch.goal - batch.obs  # (run, 2000, 1)
    pairs = torch.cat([t, ahead], 2)[:, :1600].flatten(0, 1)  # her_k = 4: the relabelled
    assert set(map(tuple, pairs.tolist())) == {(0, 1), (0, 2), (0, 3), (1, 1), (1, 2), (2, 1)}
    assert set(t[:, 1600:].flatten().tolist()) == {0, 1, 2, 3}
    assert torch.equal(batch.next_obs, batch.obs + 1)
    assert torch.equal(batch.reward[:, :1600] == 0, ahead[:, :1600, 0] == 1)


# ---- a run and its neighbours ------------------------------------------------------------------


def test_a_run_is_the_same_alone_as_beside_others(float64: None) -> None:
    args = Args(
        batch_size=16,
        learning_starts=20,
        total_timesteps=200,
        hidden_dims=(8, 8),
        normalize=True,
        num_envs=2,
        random_action_prob=0.2,
    )
    make_env = functools.partial(make, "ContinuousSeek2-v0", observe_achieved_goal=True)
    task = inspect_for_device(make_env)
    runs = [Run(0.5, 1e-2, 1), Run(0, 1e-2, 1), Run(0.5, 1e-3, 1), Run(0.5, 1e-2, 2)]

    def trained(runs: list[Run]) -> tuple[Tensor, Tensor, list[dict]]:
        group = Group(args, task, runs, CPU)
        metrics = []
        for global_step in range(0, 200, 20):
            metrics.append(group.evaluate())
            group.play(global_step)
        return group.agents.critic.params, group.buffers.data["goal"], metrics

    params, goals, metrics = trained(runs)
    for i, each in enumerate(runs):
        its_params, its_goals, its_metrics = trained([each])
        torch.testing.assert_close(its_params[0], params[i], rtol=1e-9, atol=1e-9)
        assert torch.equal(its_goals[0], goals[i])
        assert [values[0] for values in its_metrics] == [values[i] for values in metrics]
        for j in range(i):  # and no two runs share a draw, whatever they have in common
            assert not (goals[i] == goals[j]).any()


@pytest.mark.parametrize("env_id", ["ContinuousSeek3-v0", "FetchReach-v4"])
def test_evaluations_play_other_goals_than_training(env_id: str) -> None:
    args = Args(total_timesteps=100, eval_episodes=3, num_envs=3, hidden_dims=(8,))
    task = inspect_for_device(functools.partial(make, env_id, observe_achieved_goal=True))
    group = Group(args, task, [Run(0, 1e-3, 1), Run(0, 1e-3, 2)], CPU)
    goals = [envs.reset()["desired_goal"] for envs in (group.envs, group.eval_envs)]
    assert len(torch.cat(goals).flatten(0, 1).unique(dim=0)) == 2 * 2 * 3
