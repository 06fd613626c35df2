"""Many runs at once compute what the plain script computes, and no run knows of its neighbours."""

import functools
import runpy
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from algos import ddpg_her_reengage as plain
from algos import ddpg_her_reengage_many as many
from algos.ddpg_her_reengage_many import Args, Batches, Group, Networks
from envs import make
from envs.many.grid import Run
from envs.many.on_device import DeviceTask, Streams, inspect_for_device

torch.set_num_threads(1)
ROOT = Path(__file__).resolve().parents[2]
CPU = torch.device("cpu")
OBS_DIM, GOAL_DIM, ACTION_DIM, BATCH = 3, 2, 2, 24
RATES = (1e-3, 3e-3, 1e-3, 5e-4)
ALPHAS = (0.7, 0.0, 0.1, 5.0)


@pytest.fixture
def float64() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


class Problem:
    """Random networks, statistics and transitions of a run for each alpha, in float64."""

    def __init__(self, args: Args):
        self.args = args
        torch.manual_seed(0)
        self.runs = [Run(alpha, 1e-3, seed) for seed, alpha in enumerate(ALPHAS)]
        task = DeviceTask(None, OBS_DIM, GOAL_DIM, ACTION_DIM, 10, 2, 0.1, is_seek=False)
        self.networks = Networks(args, task, self.runs, Streams([1, 2, 3, 4], CPU))
        for parameters in (self.networks.online, self.networks.target):
            parameters.normal_(std=0.5)
        n = len(ALPHAS)
        scale = torch.tensor([0.2, 3.0])
        self.batch = Batches(
            obs=2 + torch.randn(n, BATCH, OBS_DIM),
            goal=torch.tensor([0.5, -1.0]) + scale * torch.randn(n, BATCH, GOAL_DIM),
            action=torch.rand(n, BATCH, ACTION_DIM) * 2 - 1,
            reward=-(torch.rand(n, BATCH, 1) < 0.6).double(),
            next_obs=2 + torch.randn(n, BATCH, OBS_DIM),
        )
        self.normalizers = many.Normalizers(n, OBS_DIM + GOAL_DIM, CPU)
        if args.normalize:
            obs = 2 + 0.5 * torch.randn(n, BATCH, OBS_DIM)
            self.normalizers.update(torch.cat([obs, self.batch.goal], 2))
            self.batch.goal[:, :2, 0] += 3.0  # 15 sigma: beyond the clip at 5 sigma
            self.batch.goal[:, 2, 1] -= 1000.0  # and beyond the clip at 200
        if args.clip_target:  # targets below -1 / (1 - gamma), above 0 and between
            weight, bias = self.networks.target_critic[-1]
            weight *= 8
            bias -= 3

    def normalized(self) -> Batches:
        return Group.normalized(self, self.batch)

    def split(self) -> int:
        """Where the critic's parameters begin in a row."""
        return many.size((OBS_DIM + GOAL_DIM, *self.args.hidden_dims, ACTION_DIM))

    def weights(self, runs: list[Run]) -> many.GradientWeights:
        return many.GradientWeights(runs, 0.1, CPU)


def torch_net(net: many.Net, run: int) -> nn.Sequential:
    """One run's network as the plain script has it."""
    layers = []
    for weight, bias in net:
        layer = nn.Linear(*weight.shape[1:])
        layer.weight.data.copy_(weight[run].mT)
        layer.bias.data.copy_(bias[run, 0])
        layers += [layer, nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def plain_args(problem: Problem, run: int) -> plain.Args:
    """The plain script's arguments of one run, in which no name is missing."""
    args = problem.args
    return plain.Args(
        alpha=ALPHAS[run],
        c_low=-1.0,
        gamma=args.gamma,
        clip_target=args.clip_target,
        normalize=args.normalize,
        raw_goal_gradient=args.raw_goal_gradient,
        simultaneous_updates=args.simultaneous_updates,
        action_l2=args.action_l2,
        learning_rate=problem.runs[run].learning_rate,
    )


def plain_agent(problem: Problem, run: int) -> SimpleNamespace:
    """One run as the plain script's losses want it."""
    networks = problem.networks
    normalizer = plain.Normalizer(OBS_DIM + GOAL_DIM, problem.args.normalize)
    normalizer.mean.copy_(problem.normalizers.mean[run, 0])
    normalizer.std.copy_(problem.normalizers.std[run, 0])
    return SimpleNamespace(
        critic=plain.Critic(normalizer, torch_net(networks.critic, run)),
        actor=plain.Actor(normalizer, torch_net(networks.actor, run)),
        target_critic=plain.Critic(normalizer, torch_net(networks.target_critic, run)),
        target_actor=plain.Actor(normalizer, torch_net(networks.target_actor, run)),
        normalizer=normalizer,
        weight=plain.GradientWeight(ALPHAS[run], 0.1),
    )


def plain_batch(problem: Problem, run: int) -> plain.Batch:
    obs, goal, action, reward, next_obs = [array[run] for array in problem.batch[:5]]
    return plain.Batch(
        obs=obs,
        goal=goal,
        action=action,
        reward=reward[:, 0],
        next_obs=next_obs,
        next_achieved_goal=torch.full_like(goal, torch.nan),  # no loss may look at it
        terminated=torch.zeros(BATCH),
    )


def as_row(gradients: Sequence[Tensor]) -> Tensor:
    """Gradients of a torch network in the order in which `Networks` keeps parameters."""
    rows = []
    for weight, bias in zip(gradients[::2], gradients[1::2], strict=True):
        layer = torch.cat([weight.mT, bias[None]])
        rows.append(layer.flatten())
    return torch.cat(rows)


SMALL = dict(gamma=0.9, hidden_dims=(8, 9))
CASES = {
    "plain": dict(),
    "clipped": dict(clip_target=True),
    "normalised": dict(normalize=True),
    "normalised, raw goal gradient": dict(normalize=True, raw_goal_gradient=True),
    "all": dict(normalize=True, clip_target=True, hidden_dims=(9, 7, 8)),
}


@pytest.mark.parametrize("case", CASES)
def test_critic_gradient_is_that_of_the_plain_scripts_loss_for_several_alphas_at_once(
    case: str, float64: None
) -> None:
    problem = Problem(Args(**SMALL | CASES[case]))
    networks, split = problem.networks, problem.split()
    ours = many.write_critic_gradient(
        networks, problem.normalized(), problem.weights(problem.runs), problem.args
    )
    assert not networks.gradient[:, :split].any()  # the actor's stays alone
    for run in range(len(ALPHAS)):
        agent = plain_agent(problem, run)
        batch = plain_batch(problem, run)
        loss, info = plain.reengage_critic_loss(agent, batch, plain_args(problem, run), None)
        expected = as_row(torch.autograd.grad(loss, list(agent.critic.net.parameters())))
        assert expected.abs().max() > 0.01
        torch.testing.assert_close(networks.gradient[run, split:], expected, rtol=1e-12, atol=1e-12)
        names = ["value_loss"] if ALPHAS[run] == 0 else ["value_loss", "grad_loss", "alpha"]
        for name in names:
            expected = torch.as_tensor(info[name], dtype=torch.float64)
            torch.testing.assert_close(ours[name][run], expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("case", CASES)
def test_actor_gradient_is_that_of_the_plain_scripts_loss(case: str, float64: None) -> None:
    problem = Problem(Args(**SMALL | CASES[case]))
    networks, split = problem.networks, problem.split()
    many.write_actor_gradient(networks, problem.normalized(), action_l2=0.7)
    assert not networks.gradient[:, split:].any()
    for run in range(len(ALPHAS)):
        agent = plain_agent(problem, run)
        loss = plain.actor_loss(agent.critic, agent.actor, plain_batch(problem, run), 0.7)
        expected = as_row(torch.autograd.grad(loss, list(agent.actor.net.parameters())))
        torch.testing.assert_close(networks.gradient[run, :split], expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("simultaneous", [False, True])
def test_rounds_of_updates_leave_the_parameters_that_the_plain_scripts_steps_leave(
    simultaneous: bool, float64: None
) -> None:
    args = Args(
        **SMALL | CASES["all"],
        simultaneous_updates=simultaneous,
        action_l2=0.5,
        tau=0.3,
        gradient_steps=4,
        target_network_frequency=2,
    )
    problem = Problem(args)
    expected = []
    for run in range(len(ALPHAS)):
        agent = plain_agent(problem, run)
        online = (agent.actor.net, agent.critic.net)
        targets = (agent.target_actor.net, agent.target_critic.net)
        rate = problem.runs[run].learning_rate
        agent.actor_params, agent.critic_params = [list(net.parameters()) for net in online]
        agent.actor_optimizer = torch.optim.Adam(agent.actor_params, rate)
        agent.critic_optimizer = torch.optim.Adam(agent.critic_params, rate)
        agent.target_params = [*targets[0].parameters(), *targets[1].parameters()]
        for step in (1, 2, 3, 4):
            plain.update(agent, plain_batch(problem, run), plain_args(problem, run), None)
            if step % 2 == 0:
                plain.polyak(agent, args.tau)
        rows = []
        for net in online + targets:
            rows.append(as_row([parameter.detach() for parameter in net.parameters()]))
        expected.append(torch.cat(rows))

    group = SimpleNamespace(
        args=args,
        networks=problem.networks,
        weights=problem.weights(problem.runs),
        buffers=SimpleNamespace(sample=lambda batch_size: problem.batch),
        normalized=lambda batch: problem.normalized(),
    )
    before = problem.networks.online.clone()
    Group.learn(group)
    ours = torch.cat([problem.networks.online, problem.networks.target], 1)
    assert (problem.networks.online - before).abs().max() > 1e-3
    torch.testing.assert_close(ours, torch.stack(expected), rtol=1e-9, atol=1e-9)


class Products(TorchDispatchMode):
    """The dtypes of what is multiplied as matrices."""

    def __init__(self):
        super().__init__()
        self.dtypes: set[torch.dtype] = set()

    def __torch_dispatch__(
        self, operation: Callable, types: Any, args: tuple, kwargs: dict | None = None
    ) -> Any:
        if operation in (torch.ops.aten.bmm.default, torch.ops.aten.baddbmm.default):
            self.dtypes |= {arg.dtype for arg in args}
        return operation(*args, **kwargs or {})


@pytest.mark.parametrize("case", CASES)
def test_medium_precision_multiplies_in_bfloat16_and_keeps_gradients_near_those_of_float32(
    case: str,
) -> None:
    gradients = {}
    for precision, dtype in (("highest", torch.float32), ("medium", torch.bfloat16)):
        args = Args(**SMALL | CASES[case], matmul_precision=precision)
        problem = Problem(args)
        batch = Batches(*(part.float() for part in problem.normalized()[:-1]))
        batch = batch._replace(goal_slope=problem.normalized().goal_slope)
        group = SimpleNamespace(
            args=args,
            networks=problem.networks,
            weights=problem.weights(problem.runs),
            buffers=SimpleNamespace(sample=lambda batch_size, batch=batch: batch),
            normalized=lambda batch: batch,
        )
        with Products() as products:
            info = Group.learn(group)
        assert products.dtypes == {dtype}
        assert info["value_loss"].dtype == torch.float32
        gradients[precision] = problem.networks.gradient
    difference = (gradients["medium"] - gradients["highest"]).norm(dim=1)
    relative = difference / gradients["highest"].norm(dim=1)
    assert (relative > 0).all() and (relative < 0.1).all()


def test_each_run_has_its_own_learning_rate(float64: None) -> None:
    problem = Problem(Args(**SMALL))
    runs = [run._replace(learning_rate=rate) for run, rate in zip(problem.runs, RATES, strict=True)]
    networks = problem.networks
    optimizer = networks.adam(runs, slice(None))
    networks.gradient.fill_(1.0)
    before = networks.online.clone()
    optimizer.step()
    moved = (before - networks.online).mean(1)  # Adam's first step is the learning rate
    torch.testing.assert_close(moved, torch.tensor(RATES), rtol=1e-6, atol=0)


def test_parameters_begin_as_pytorchs_layers_do_or_xavier_uniform() -> None:
    task = DeviceTask(None, 30, 20, 10, 10, 2, 0.1, is_seek=False)
    for xavier in (False, True):
        args = Args(xavier_init=xavier, hidden_dims=(100, 50))
        networks = Networks(args, task, [Run(0, 1e-3, 1), Run(0, 1e-3, 2)], Streams([1, 2], CPU))
        for weight, bias in networks.actor + networks.critic:
            fan_in, fan_out = weight.shape[1:]
            bound = (6 / (fan_in + fan_out)) ** 0.5 if xavier else fan_in**-0.5
            assert 0.95 * bound < weight.abs().max() <= bound
            assert bias.any() == (not xavier)
        assert torch.equal(networks.online, networks.target)
        assert not (networks.online[0] == networks.online[1]).all()


def test_gradient_weights_are_the_plain_scripts_for_each_run() -> None:
    """Also where masks leave no row, at other updates in each run, and where alpha would grow."""
    runs = [Run("auto", 1e-3, 1), Run(0.3, 1e-3, 1), Run("auto", 1e-3, 2), Run(0.0, 1e-3, 1)]
    ours = many.GradientWeights(runs, 0.1, CPU)
    theirs = [plain.GradientWeight(run.alpha, 0.1) for run in runs]
    generator = torch.Generator().manual_seed(0)
    used = []
    for update in range(2500):
        value_loss = 0.5 + torch.rand(4, generator=generator)
        grad_loss = 2 * torch.rand(4, generator=generator)
        grad_loss *= torch.rand(4, generator=generator) > torch.tensor([0.0, 0.2, 0.4, 0.2])
        if update > 1900:
            grad_loss *= 0.01  # the critic becomes flat
        alphas = ours(value_loss, grad_loss)
        losses = zip(value_loss, grad_loss, strict=True)
        expected = [weight(*pair) for weight, pair in zip(theirs, losses, strict=True)]
        assert torch.equal(alphas, torch.tensor(expected)), update
        used.append(alphas)
    for run, name in ((0, "updates"), (2, "losses"), (2, "largest")):
        state = getattr(ours, name)[..., run]
        assert torch.equal(state, getattr(theirs[run], name)), name
    alphas = torch.stack(used)
    assert (alphas[:1000, [0, 2]] == 0).all() and (alphas[1000:, 0] > 0).all()
    assert (alphas[1300, 2] == 0) and (alphas[2000, 2] > 0)  # this run waits for its 1000 updates
    assert torch.equal(alphas[2400], ours.largest.where(ours.fixed < 0, ours.fixed))


def test_normalizers_are_those_of_the_plain_script() -> None:
    torch.manual_seed(0)
    ours = many.Normalizers(2, 3, CPU)
    theirs = [plain.Normalizer(3, enabled=True) for _ in range(2)]
    for n in (5, 300):
        x = 100 * torch.randn(2, n, 3)
        x[:, :, 2] = 7.0  # no spread: the standard deviation has a floor
        x[1, 3, 0] = torch.nan  # this row is left out
        ours.update(x)
        for normalizer, rows in zip(theirs, x, strict=True):
            normalizer.update(rows)
    y = 400 * torch.randn(2, 50, 3)
    for run, normalizer in enumerate(theirs):
        torch.testing.assert_close(ours(y)[run], normalizer(y[run]))
    inside = y.double().requires_grad_()
    for values in vars(ours).values():
        values.data = values.double()
    slope = torch.autograd.grad(ours(inside).sum(), inside)[0]
    torch.testing.assert_close(ours.slope(inside.detach(), raw=True), slope)
    torch.testing.assert_close(ours.slope(inside.detach(), raw=False), slope * ours.std)


# ---- replay ------------------------------------------------------------------------------------


def filled_buffers(args: Args, episodes: int) -> many.HerReplayBuffers:
    """Every observation tells run, episode and step: 10000 run + 100 episode + t."""
    task = DeviceTask(None, 1, 1, 1, 4, 2, 0.5, is_seek=False)
    buffers = many.HerReplayBuffers(args, task, Streams([11, 12], CPU))
    for first in range(0, episodes, args.num_envs):
        number = torch.arange(first, first + args.num_envs)
        steps = []
        for t in range(5):
            place = 10_000.0 * torch.arange(2)[:, None, None] + 100 * number[:, None] + t
            goal = (10_000.0 * torch.arange(2)[:, None, None] + 100 * number[:, None]) + 50
            steps.append(
                {
                    "observation": place,
                    "achieved_goal": place,
                    "desired_goal": goal,
                    "action": -place,
                }
            )
        buffers.add(steps)
    return buffers


@pytest.mark.parametrize("num_envs", [1, 2])
def test_samples_are_transitions_whose_new_goals_come_later_in_their_own_episode(
    num_envs: int,
) -> None:
    args = Args(num_envs=num_envs, buffer_size=24, total_timesteps=1000)
    buffers = filled_buffers(args, episodes=10)  # six fit: 4 to 9 are left
    batch = buffers.sample(2000)
    for run in range(2):
        obs, goal, action = batch.obs[run, :, 0], batch.goal[run, :, 0], batch.action[run, :, 0]
        t, episode = obs % 100, obs // 100 - 100 * run
        assert set(episode.tolist()) == {4, 5, 6, 7, 8, 9} and set(t.tolist()) == {0, 1, 2, 3}
        assert torch.equal(action, -obs) and torch.equal(batch.next_obs[run, :, 0], obs + 1)
        ahead = goal - obs
        assert torch.equal(goal[1600:] % 100, torch.full((400,), 50.0))  # her_k = 4: the others
        assert (ahead[:1600] >= 1).all() and (ahead[:1600] + t[:1600] <= 4).all()
        first = ahead[:1600][t[:1600] == 0]
        shares = [(first == k).float().mean().item() for k in (1, 2, 3, 4)]
        assert shares == pytest.approx([0.25] * 4, abs=0.1)
        assert torch.equal(batch.reward[run, :, 0] == 0, ahead == 1)  # R(s', g), of the new goal
    assert not torch.equal(batch.obs[0] % 10_000, batch.obs[1] % 10_000)
    newest = buffers.sample(500, newest=2)
    assert set((newest.obs[0] // 100).flatten().tolist()) == {8, 9}


def test_the_older_future_takes_no_episodes_end_as_a_goal_and_relabels_no_last_transition() -> None:
    study = runpy.run_path(str(ROOT / "benchmark" / "studies" / "older_future.py"))
    buffers = filled_buffers(Args(), episodes=6)
    batch = study["OlderFuture"].sample(buffers, 2000)
    t, ahead = batch.obs % 100, batch.goal - batch.obs  # (run, 2000, 1)
    pairs = torch.cat([t, ahead], 2)[:, :1600].flatten(0, 1)  # her_k = 4: the relabelled
    assert set(map(tuple, pairs.tolist())) == {(0, 1), (0, 2), (0, 3), (1, 1), (1, 2), (2, 1)}
    assert set(t[:, 1600:].flatten().tolist()) == {0, 1, 2, 3}
    assert torch.equal(batch.next_obs, batch.obs + 1)
    assert torch.equal(batch.reward[:, :1600] == 0, ahead[:, :1600] == 1)


def test_the_study_of_the_older_future_trains_with_it(tmp_path: Path) -> None:
    study = ROOT / "benchmark" / "studies" / "older_future.py"
    flags = "--total-timesteps 20 --learning-starts 10 --eval-frequency 10 --eval-episodes 1"
    code = [
        "import runpy, sys",
        f"sys.argv = {['study', *flags.split(), '--run-dir', str(tmp_path)]}",
        f"study = runpy.run_path({str(study)!r}, run_name='__main__')",
        "print(study['many'].HerReplayBuffers is study['OlderFuture'])",
    ]
    ended = subprocess.run([sys.executable, "-c", "\n".join(code)], capture_output=True, text=True)
    assert ended.returncode == 0 and ended.stdout.endswith("True\n"), ended.stderr
    assert len(list(tmp_path.glob("*/1/metrics.csv"))) == 1


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
        return group.networks.online, group.buffers.data["desired_goal"], metrics

    online, goals, metrics = trained(runs)
    for i, run in enumerate(runs):
        its_online, its_goals, its_metrics = trained([run])
        torch.testing.assert_close(its_online[0], online[i], rtol=1e-9, atol=1e-9)
        assert torch.equal(its_goals[0], goals[i])
        assert [values[0] for values in its_metrics] == [values[i] for values in metrics]
        for j in range(i):  # and no two runs share a draw, whatever they have in common
            assert not (goals[i] == goals[j]).any()
