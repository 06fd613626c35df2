"""`update` and `polyak` of every script equal mathematics by hand, under every flag they read.

By hand: networks are lists of matrices, gradients by the goal are differences of goals a little
apart, optimizers are Adam's algorithm. Nothing of it comes from a script.
"""

import inspect
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.spaces import Discrete
from numerics import CPU, HandAdam, make_agent, slopes
from torch import Tensor, nn
from torch.distributions import Normal, TanhTransform, TransformedDistribution

from algos import (
    ddpg_her,
    ddpg_her_reengage,
    ddpg_her_reengage_torchrun,
    ddpg_multi_reengage,
    dqn_her_reengage_bitflip,
    sac_her_reengage,
)

torch.set_num_threads(1)

OBS_DIM, GOAL_DIM, ACTION_DIM, BATCH = 3, 2, 2, 20
N_MAX, STATE_DIM, Z_DIM = 4, OBS_DIM + 2, 3
ALPHA = 0.7
DDPG, REENGAGE = [ddpg_her], [ddpg_her_reengage, ddpg_her_reengage_torchrun]
SAC, DQN, MULTI = [sac_her_reengage], [dqn_her_reengage_bitflip], [ddpg_multi_reengage]
ALL = DDPG + REENGAGE + SAC + DQN + MULTI

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
every_case = pytest.mark.parametrize("case", CASES)
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


# The scripts' side


def make_args(script: ModuleType, flags: dict[str, Any]) -> Any:
    small = dict(learning_rate=0.01, gamma=0.9, tau=0.2)
    if script is ddpg_multi_reengage:
        small |= dict(n_max=N_MAX, embedding_dim=Z_DIM, hidden_dim=8)
    else:
        small |= dict(hidden_dims=(8, 8))
    if script is not ddpg_her:
        small |= dict(alpha=ALPHA)
    if script not in (ddpg_her, ddpg_multi_reengage):
        small |= dict(c_low=-1.0)
    if script is dqn_her_reengage_bitflip:
        small |= dict(temperature=0.5)
    return script.Args(**small | flags)


def agent_of(script: ModuleType, args: Any) -> Any:
    """A random agent; --alpha auto is past its warm-up."""
    torch.manual_seed(0)
    dims = dict(obs_dim=OBS_DIM, goal_dim=GOAL_DIM, action_dim=ACTION_DIM)
    if script is dqn_her_reengage_bitflip:
        dims = dict(obs_dim=OBS_DIM, goal_dim=GOAL_DIM, action_space=Discrete(4))
    agent = make_agent(script, args, **dims)
    if getattr(args, "normalize", False):
        agent.normalizer.update(seen_rows())
    if getattr(args, "alpha", 0) == "auto":
        agent.auto_alpha.updates.fill_(args.alpha_warmup)
        agent.auto_alpha.losses.copy_(torch.tensor([2.0, 0.8]))
        agent.auto_alpha.largest.fill_(1.0)
    return agent


def seen_rows() -> Tensor:
    """What the normaliser has seen: (50, obs_dim + goal_dim)."""
    generator = torch.Generator().manual_seed(5)
    rows = torch.randn(50, OBS_DIM + GOAL_DIM, generator=generator, dtype=torch.float64)
    return rows * torch.tensor([1.0, 2.0, 0.3, 0.5, 3.0]) + 0.4


def random(*shape: int) -> Tensor:
    return torch.randn(shape, dtype=torch.float64)


def make_batch(script: ModuleType, seed: int, dense: bool) -> Any:
    torch.manual_seed(seed)
    low = torch.arange(BATCH) % 3 > 0
    terminated = (torch.arange(BATCH) % 4 == 0).double()
    action = random(BATCH, ACTION_DIM).tanh()
    if script is ddpg_multi_reengage:
        row = torch.arange(BATCH).repeat_interleave(torch.arange(BATCH) % N_MAX + 1)
        goals = script.Goals(row, random(len(row), 2), torch.ones(len(row)).double())
        item_reward = torch.rand(len(row)).double()
        reward = torch.zeros(BATCH).double().index_add(0, row, item_reward)
        states = random(BATCH, STATE_DIM), random(BATCH, STATE_DIM)
        return script.GoalSetBatch(
            states[0], goals, action, reward, item_reward, states[1], terminated
        )
    goal, achieved_goal = random(BATCH, GOAL_DIM), random(BATCH, GOAL_DIM)
    reward = -(goal - achieved_goal).norm(dim=1) if dense else -low.double()
    if script is dqn_her_reengage_bitflip:
        action = torch.randint(4, (BATCH, 1)).double()
    obs, next_obs = random(BATCH, OBS_DIM), random(BATCH, OBS_DIM)
    return script.Batch(obs, goal, action, reward, next_obs, achieved_goal, terminated)


def run_update(script: ModuleType, agent: Any, batch: Any, args: Any, dense: bool = False) -> dict:
    """The script's own `update`, with a dense reward's gradient where it takes one."""
    if "reward_grad" not in inspect.signature(script.update).parameters:
        return script.update(agent, batch, args)
    reward_grad = None
    if dense:
        difference = batch.next_achieved_goal - batch.goal
        reward_grad = difference / difference.norm(dim=1, keepdim=True)
    return script.update(agent, batch, args, reward_grad)


def online_params(agent: Any) -> list[Tensor]:
    """In the order of the targets."""
    if hasattr(agent, "params"):
        return agent.params
    if hasattr(agent, "critics"):  # SAC's actor has no target
        return agent.critic_params
    return agent.actor_params + agent.critic_params


# By hand


def forward(weights: list[Tensor], x: Tensor) -> Tensor:
    """A multilayer perceptron of matrices and vectors in turn."""
    while len(weights) > 2:
        x = (x @ weights[0].T + weights[1]).clamp(min=0)
        weights = weights[2:]
    return x @ weights[0].T + weights[1]


def copies(params: list[Tensor]) -> list[Tensor]:
    return [param.detach().clone().requires_grad_() for param in params]


class ByHand:
    """An agent's numbers, and what an update does to them."""

    def __init__(self, agent: Any, args: Any, dense: bool):
        self.args = args
        self.dense = dense
        self.actor = copies(getattr(agent, "actor_params", []))
        self.critic = copies(getattr(agent, "critic_params", None) or agent.params)
        self.target = copies(agent.target_params)
        self.log_c = copies([torch.zeros(1).double()])
        rate = args.learning_rate
        self.actor_adam = HandAdam(self.actor, rate)
        self.critic_adam = HandAdam(self.critic, rate)
        self.entropy_adam = HandAdam(self.log_c, rate)
        self.mean_losses = np.array([2.0, 0.8])
        self.mean = torch.zeros(OBS_DIM + GOAL_DIM).double()
        self.std = torch.ones(OBS_DIM + GOAL_DIM).double()
        if getattr(args, "normalize", False):
            self.mean = seen_rows().mean(0)
            self.std = seen_rows().std(0, correction=0)
        raw = getattr(args, "raw_goal_gradient", False)
        self.unit = torch.ones(GOAL_DIM).double() if raw else self.std[OBS_DIM:]

    def normalize(self, obs: Tensor, goal: Tensor) -> Tensor:
        x = (torch.cat([obs, goal], 1) - self.mean) / self.std
        return x.clamp(-5, 5) if getattr(self.args, "normalize", False) else x

    def q(self, weights: list[Tensor], obs: Tensor, goal: Tensor, action: Tensor) -> Tensor:
        return forward(weights, torch.cat([self.normalize(obs, goal), action], 1))[:, 0]

    def reward(self, batch: Any, goal: Tensor) -> Tensor:
        if self.dense:
            return -(batch.next_achieved_goal - goal).square().sum(1).sqrt()
        return batch.reward

    def mask(self, batch: Any) -> Tensor:  # (batch, 1)
        counts = (batch.reward == self.args.c_low) | self.dense
        return counts[:, None].double()

    def alpha(self, value_loss: Tensor, grad_loss: Tensor) -> float:
        if self.args.alpha != "auto":
            return self.args.alpha
        losses = np.array([value_loss.item(), grad_loss.item()])
        weight = self.args.alpha_averaging
        self.mean_losses = (1 - weight) * self.mean_losses + weight * losses
        return min(1.0, self.args.alpha_ratio * self.mean_losses[0] / self.mean_losses[1])

    def total(self, value_loss: Tensor, grad_loss: Tensor, curves: dict) -> Tensor:
        """The critic's loss; notes its parts in `curves`."""
        alpha = self.alpha(value_loss, grad_loss)
        loss = value_loss + alpha * grad_loss
        curves["losses/value"] = value_loss
        curves["gradient/alpha"] = torch.tensor(alpha)
        if alpha != 0:
            curves |= {"losses/gradient": grad_loss, "losses/critic": loss}
        return loss

    def step(self, adam: HandAdam, loss: Tensor) -> None:
        adam.step(torch.autograd.grad(loss, adam.tensors))

    def polyak(self, online: list[Tensor]) -> None:
        for target, ours in zip(self.target, online, strict=True):
            target.data = (1 - self.args.tau) * target.data + self.args.tau * ours.data


class DdpgByHand(ByHand):
    def target_of(self, batch: Any, goal: Tensor) -> Tensor:
        count = len(self.actor)
        actor, critic = self.target[:count], self.target[count:]
        action = forward(actor, self.normalize(batch.next_obs, goal)).tanh()
        next_q = self.q(critic, batch.next_obs, goal, action)
        target = self.reward(batch, goal) + self.args.gamma * (1 - batch.terminated) * next_q
        return target.clamp(-1 / (1 - self.args.gamma), 0) if self.args.clip_target else target

    def critic_loss(self, batch: Any, curves: dict) -> Tensor:
        def difference(goal: Tensor) -> Tensor:
            q = self.q(self.critic, batch.obs, goal, batch.action)
            return q - self.target_of(batch, goal).detach()

        value_loss = difference(batch.goal).square().mean()
        if not hasattr(self.args, "alpha"):
            curves["losses/value"] = value_loss
            return value_loss
        term = self.mask(batch) * slopes(difference, batch.goal, self.unit)
        return self.total(value_loss, term.square().mean(), curves)

    def actor_loss(self, batch: Any) -> Tensor:
        action = forward(self.actor, self.normalize(batch.obs, batch.goal)).tanh()
        q = self.q(self.critic, batch.obs, batch.goal, action)
        return -q.mean() + self.args.action_l2 * action.square().mean()

    def update(self, batch: Any) -> dict:
        curves = {}
        critic_loss = self.critic_loss(batch, curves)
        if self.args.simultaneous_updates:
            curves["losses/actor"] = self.actor_loss(batch)
            actor_grads = torch.autograd.grad(curves["losses/actor"], self.actor)
            self.step(self.critic_adam, critic_loss)
            self.actor_adam.step(actor_grads)
        else:
            self.step(self.critic_adam, critic_loss)
            curves["losses/actor"] = self.actor_loss(batch)
            self.step(self.actor_adam, curves["losses/actor"])
        return curves

    def online(self) -> list[Tensor]:
        return self.actor + self.critic


class SacByHand(ByHand):
    def act(self, obs: Tensor, goal: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_std = forward(self.actor, self.normalize(obs, goal)).chunk(2, dim=1)
        std = log_std.clamp(-20, 2).exp()
        action = (mean + std * noise).tanh()
        policy = TransformedDistribution(Normal(mean, std), TanhTransform())
        return action, policy.log_prob(action).sum(1)

    def smaller(self, weights: list[Tensor], obs: Tensor, goal: Tensor, action: Tensor) -> Tensor:
        half = len(weights) // 2
        one = self.q(weights[:half], obs, goal, action)
        other = self.q(weights[half:], obs, goal, action)
        return torch.where(one < other, one, other)

    def update(self, batch: Any) -> dict:
        curves = {}
        noise, later_noise = random(BATCH, ACTION_DIM), random(BATCH, ACTION_DIM)
        c = np.exp(self.log_c[0].item())

        def target(goal: Tensor) -> Tensor:
            action, log_prob = self.act(batch.next_obs, goal, noise)
            next_value = self.smaller(self.target, batch.next_obs, goal, action) - c * log_prob
            discount = self.args.gamma * (1 - batch.terminated)
            return (self.reward(batch, goal) + discount * next_value).detach()

        half = len(self.critic) // 2
        value_loss, grad_loss = 0.0, 0.0
        for weights in (self.critic[:half], self.critic[half:]):

            def difference(goal: Tensor, weights: list[Tensor] = weights) -> Tensor:
                return self.q(weights, batch.obs, goal, batch.action) - target(goal)

            term = self.mask(batch) * slopes(difference, batch.goal, self.unit)
            value_loss = value_loss + 0.5 * difference(batch.goal).square().mean()
            grad_loss = grad_loss + 0.5 * term.square().mean()
        self.step(self.critic_adam, self.total(value_loss, grad_loss, curves))

        action, log_prob = self.act(batch.obs, batch.goal, later_noise)
        q = self.smaller(self.critic, batch.obs, batch.goal, action)
        curves["losses/actor"] = (c * log_prob - q).mean()
        self.step(self.actor_adam, curves["losses/actor"])
        entropy = -log_prob.detach().mean()
        curves["sac/entropy"] = entropy
        curves["sac/entropy_coefficient"] = torch.tensor(c)
        self.step(self.entropy_adam, (self.log_c[0] * (entropy + ACTION_DIM)).sum())
        return curves

    def online(self) -> list[Tensor]:
        return self.critic


class DqnByHand(ByHand):
    def next_value(self, batch: Any, goal: Tensor, soft: bool) -> Tensor:
        next_q = forward(self.target, self.normalize(batch.next_obs, goal))
        if not soft or self.args.temperature == 0:
            return next_q.amax(1)
        weights = (next_q / self.args.temperature).exp()
        return (weights * next_q).sum(1) / weights.sum(1)

    def update(self, batch: Any) -> dict:
        curves = {}
        chosen = nn.functional.one_hot(batch.action[:, 0].long(), 4)

        def difference(goal: Tensor, soft: bool = True) -> Tensor:
            q = (chosen * forward(self.critic, self.normalize(batch.obs, goal))).sum(1)
            next_value = self.next_value(batch, goal, soft).detach()
            return q - batch.reward - self.args.gamma * (1 - batch.terminated) * next_value

        error = difference(batch.goal, soft=self.args.soft_target != "gradient").abs()
        value_loss = torch.where(error < 1, 0.5 * error**2, error - 0.5).mean()
        term = self.mask(batch) * slopes(difference, batch.goal)
        self.step(self.critic_adam, self.total(value_loss, term.square().mean(), curves))
        return curves

    def online(self) -> list[Tensor]:
        return self.critic


class MultiByHand(ByHand):
    """An encoder has three layers, six tensors; what is shared is the critic's."""

    def embed(self, weights: list[Tensor], state: Tensor, gates: Tensor) -> Tensor:
        every_state = state[:, None].expand(-1, N_MAX, -1)
        items = forward(weights, torch.cat([self.cells, every_state], 2))
        return (gates[..., None] ** 2 * items).sum(1) / N_MAX

    def pad(self, batch: Any, values: Tensor) -> Tensor:
        """(present, ...) -> (batch, n_max, ...), 0 where no goal is."""
        padded = torch.zeros(BATCH, N_MAX, *values.shape[1:]).double()
        for i in range(BATCH):
            own = values[batch.goals.row == i]
            padded[i, : len(own)] = own
        return padded

    def policy(self, actor: list[Tensor], state: Tensor, z: Tensor) -> Tensor:
        return forward(actor[-4:], torch.cat([z, state], 1)).tanh()

    def value(self, critic: list[Tensor], state: Tensor, z: Tensor, action: Tensor) -> Tensor:
        return forward(critic[6:], torch.cat([z, state, action], 1))[:, 0]

    def update(self, batch: Any) -> dict:
        curves = {}
        self.cells = self.pad(batch, batch.goals.cell)
        item_reward = self.pad(batch, batch.item_reward)
        present = self.pad(batch, torch.ones_like(batch.item_reward))
        count = len(self.actor)
        target_actor, target_critic = self.target[:count], self.target[count:]

        def target(gates: Tensor) -> Tensor:
            z = self.embed(target_critic[:6], batch.next_state, gates)
            encoder = target_critic[:6] if self.args.share_encoder else target_actor[:6]
            policy_gates = gates if self.args.policy_gates else present
            policy_z = self.embed(encoder, batch.next_state, policy_gates)
            action = self.policy(target_actor, batch.next_state, policy_z)
            next_q = self.value(target_critic, batch.next_state, z, action)
            reward = (gates**2 * item_reward).sum(1)
            return (reward + self.args.gamma * (1 - batch.terminated) * next_q).detach()

        def difference(gates: Tensor) -> Tensor:
            z = self.embed(self.critic[:6], batch.state, gates)
            return self.value(self.critic, batch.state, z, batch.action) - target(gates)

        value_loss = difference(present).square().mean()
        grad_loss = slopes(difference, present).square().mean()
        critic_loss = self.total(value_loss, grad_loss, curves)

        z = self.embed(self.critic[:6], batch.state, present).detach()
        policy_z = z
        if not self.args.share_encoder:
            policy_z = self.embed(self.actor[:6], batch.state, present)
        action = self.policy(self.actor, batch.state, policy_z)
        curves["losses/actor"] = -self.value(self.critic, batch.state, z, action).mean()
        actor_grads = torch.autograd.grad(curves["losses/actor"], self.actor)
        self.step(self.critic_adam, critic_loss)
        self.actor_adam.step(actor_grads)
        return curves

    def online(self) -> list[Tensor]:
        return self.actor + self.critic


def by_hand(script: ModuleType, agent: Any, args: Any, dense: bool) -> Any:
    kinds = {sac_her_reengage: SacByHand, dqn_her_reengage_bitflip: DqnByHand}
    kinds |= {ddpg_multi_reengage: MultiByHand}
    return kinds.get(script, DdpgByHand)(agent, args, dense)


# The tests


def assert_near(ours: list[Tensor], expected: list[Tensor]) -> None:
    for tensor, other in zip(ours, expected, strict=True):
        torch.testing.assert_close(tensor.detach(), other.detach(), rtol=1e-5, atol=1e-7)


def assert_same(ours: list[Tensor], expected: list[Tensor]) -> None:
    for tensor, other in zip(ours, expected, strict=True):
        assert torch.equal(tensor, other)


@every_case
def test_two_updates_equal_adam_and_polyak_by_hand(case: str):
    script, flags = CASES[case]
    flags = flags.copy()
    dense = flags.pop("dense", False)
    args = make_args(script, flags)
    agent = agent_of(script, args)
    hand = by_hand(script, agent, args, dense)
    for seed in (1, 2):
        batch = make_batch(script, seed, dense)
        targets = copies(agent.target_params)
        torch.manual_seed(seed)
        curves = run_update(script, agent, batch, args, dense)
        torch.manual_seed(seed)
        expected = hand.update(batch)
        assert_near(online_params(agent), hand.online())
        assert_near(getattr(agent, "actor_params", []), hand.actor)
        assert_same(agent.target_params, targets)  # update leaves the targets alone
        for name, value in expected.items():
            assert curves[name].item() == pytest.approx(value.item(), rel=1e-5), name

        online = copies(online_params(agent))
        script.polyak(agent, args.tau)
        hand.polyak(hand.online())
        assert_near(agent.target_params, hand.target)
        assert_same(online_params(agent), online)  # polyak leaves the networks alone
    if script is sac_her_reengage:
        assert_near([agent.log_c[None]], hand.log_c)


@every_script
def test_an_update_leaves_gradients_at_what_it_trains_and_nowhere_else(script: ModuleType):
    args = make_args(script, {})
    agent = agent_of(script, args)
    run_update(script, agent, make_batch(script, 1, dense=False), args)
    for param in agent.target_params:
        assert param.grad is None
        assert not param.requires_grad
    for param in online_params(agent) + getattr(agent, "actor_params", []):
        assert param.grad is not None


@every_script
def test_a_new_agents_targets_equal_its_networks_and_are_others(script: ModuleType):
    args = make_args(script, {})
    dims = dict(obs_dim=OBS_DIM, goal_dim=GOAL_DIM, action_dim=ACTION_DIM, action_space=Discrete(4))
    agent = script.Agent(type("Envs", (), dims), args, CPU)
    assert_same(agent.target_params, online_params(agent))
    for param, target in zip(online_params(agent), agent.target_params, strict=True):
        assert param is not target
        assert param.requires_grad
        assert not target.requires_grad


@pytest.mark.parametrize("script", DDPG + REENGAGE + SAC)
def test_networks_have_the_hidden_layers_and_the_first_weights_that_flags_ask_for(
    script: ModuleType,
):
    dims = dict(obs_dim=OBS_DIM, goal_dim=GOAL_DIM, action_dim=ACTION_DIM)
    args = make_args(script, dict(hidden_dims=(30, 40), xavier_init=True))
    agent = script.Agent(type("Envs", (), dims), args, CPU)
    critic = agent.critic if hasattr(agent, "critic") else agent.critics[1]
    for network in (agent.actor, critic):
        layers = [layer for layer in network.net if isinstance(layer, nn.Linear)]
        assert [layer.out_features for layer in layers[:-1]] == [30, 40]
        for layer in layers:
            bound = (6 / (layer.in_features + layer.out_features)) ** 0.5
            assert not layer.bias.any()
            assert 0.8 * bound < layer.weight.abs().max() <= bound
    args.xavier_init = False
    agent = script.Agent(type("Envs", (), dims), args, CPU)
    assert agent.actor.net[0].bias.all()


def curves_and_dtypes(script: ModuleType, precision: str) -> tuple[dict, set[torch.dtype]]:
    """Of a float32 update at this precision: its curves, and what its linear layers put out."""
    args = make_args(script, dict(matmul_precision=precision))
    agent = agent_of(script, args)
    dtypes = set()
    for part in vars(agent).values():
        if isinstance(part, nn.Module):
            for layer in part.float().modules():
                if isinstance(layer, nn.Linear):
                    layer.register_forward_hook(lambda *call: dtypes.add(call[2].dtype))
    batch = make_batch(script, 1, dense=False)
    batch = script.Batch(*(array.float() for array in batch))
    torch.manual_seed(1)
    return run_update(script, agent, batch, args), dtypes


@pytest.mark.parametrize("script", DDPG + REENGAGE + SAC + DQN)
def test_medium_precision_rounds_only_the_networks_of_an_update_to_bfloat16(script: ModuleType):
    exact, dtypes = curves_and_dtypes(script, "highest")
    assert dtypes == {torch.float32}
    rounded, dtypes = curves_and_dtypes(script, "medium")
    assert dtypes == {torch.bfloat16}
    for name in ("losses/value", "values/q", "values/target"):
        assert rounded[name].dtype == torch.float32
        assert 0 < (rounded[name] - exact[name]).abs() < 0.02 * (1 + exact[name].abs())
