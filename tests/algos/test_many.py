"""Many runs at once compute what the plain script computes, and no run knows of its neighbours."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from algos import ddpg_her_reengage as plain
from algos import ddpg_her_reengage_many as many
from algos.ddpg_her_reengage_many import Args, Batches, Group, Networks, Run
from envs.on_device import DeviceTask, Streams

torch.set_num_threads(1)
CPU = torch.device("cpu")
OBS_DIM, GOAL_DIM, ACTION_DIM, BATCH = 3, 2, 2, 24
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
        self.obs_normalizers = many.Normalizers(n, OBS_DIM, CPU)
        self.goal_normalizers = many.Normalizers(n, GOAL_DIM, CPU)
        if args.normalize:
            self.obs_normalizers.update(2 + 0.5 * torch.randn(n, 100, OBS_DIM))
            self.goal_normalizers.update(self.batch.goal)
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


def plain_run(problem: Problem, run: int) -> tuple:
    """Critic, actor, target critic, target actor, batch and arguments of the plain script."""
    args, networks = problem.args, problem.networks
    normalizers = []
    for ours, dim in ((problem.obs_normalizers, OBS_DIM), (problem.goal_normalizers, GOAL_DIM)):
        normalizer = plain.Normalizer(dim, args.normalize)
        normalizer.mean.copy_(ours.mean[run, 0])
        normalizer.std.copy_(ours.std[run, 0])
        normalizers.append(normalizer)
    critic = plain.Critic(*normalizers, torch_net(networks.critic, run))
    actor = plain.Actor(*normalizers, torch_net(networks.actor, run))
    target_critic = plain.Critic(*normalizers, torch_net(networks.target_critic, run))
    target_actor = plain.Actor(*normalizers, torch_net(networks.target_actor, run))
    obs, goal, action, reward, next_obs = [array[run] for array in problem.batch[:5]]
    batch = plain.Batch(
        obs=obs,
        goal=goal,
        action=action,
        reward=reward[:, 0],
        next_obs=next_obs,
        achieved_goal=goal,
        terminated=torch.zeros(BATCH),
    )
    plain_args = plain.Args(
        alpha=ALPHAS[run],
        gamma=args.gamma,
        clip_target=args.clip_target,
        normalize=args.normalize,
        raw_goal_gradient=args.raw_goal_gradient,
    )
    return critic, actor, target_critic, target_actor, batch, plain_args


def as_row(net: nn.Sequential, gradients: list[Tensor]) -> Tensor:
    """Gradients of a torch network in the order in which `Networks` keeps parameters."""
    weights, biases = gradients[::2], gradients[1::2]
    return torch.cat(
        [torch.cat([weight.mT, bias[None]]).flatten() for weight, bias in zip(weights, biases)]
    )


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
    value_loss = many.write_critic_gradient(
        networks, problem.normalized(), problem.weights(problem.runs), problem.args
    )
    assert not networks.gradient[:, :split].any()  # the actor's stays alone
    for run in range(len(ALPHAS)):
        critic, _, target_critic, target_actor, batch, args = plain_run(problem, run)
        loss, info = plain.reengage_critic_loss(
            critic, target_critic, target_actor, batch, args, None
        )
        expected = torch.autograd.grad(loss, list(critic.net.parameters()))
        expected = as_row(critic.net, list(expected))
        assert expected.abs().max() > 0.01
        torch.testing.assert_close(networks.gradient[run, split:], expected, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(value_loss[run], info["value_loss"], rtol=1e-12, atol=1e-12)
