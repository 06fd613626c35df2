"""Small random problems for every script: flags, an agent in float64, batches."""

import inspect
from types import ModuleType, SimpleNamespace
from typing import Any

import torch
from gymnasium.spaces import Discrete
from torch import Tensor, nn

from algos import ddpg_her, ddpg_multi_reengage, dqn_her_reengage_bitflip

CPU = torch.device("cpu")
OBS_DIM, GOAL_DIM, ACTION_DIM, BATCH = 3, 2, 2, 20
N_MAX = 4
STATE_DIM = OBS_DIM + 2  # with the position, which is the achieved goal of goal sets
ENVS = SimpleNamespace(
    obs_dim=OBS_DIM,
    goal_dim=GOAL_DIM,
    action_dim=ACTION_DIM,
    action_space=Discrete(4),
)


def make_args(script: ModuleType, **flags: Any) -> Any:
    """Flags of small networks that learn fast."""
    small = dict(learning_rate=0.01, gamma=0.9, tau=0.2)
    if script is ddpg_multi_reengage:
        small |= dict(n_max=N_MAX, embedding_dim=3, hidden_dim=8)
    else:
        small |= dict(hidden_dims=(8, 8))
    if script is not ddpg_her:
        small |= dict(alpha=0.7)
    if script not in (ddpg_her, ddpg_multi_reengage):
        small |= dict(c_low=-1.0)
    if script is dqn_her_reengage_bitflip:
        small |= dict(temperature=0.5)
    return script.Args(**small | flags)


def make_agent(script: ModuleType, args: Any) -> Any:
    """A random agent whose targets differ from its networks; --alpha auto is past its warm-up."""
    torch.manual_seed(0)
    agent = script.Agent(ENVS, args, CPU)
    for name, part in agent.named_children():
        if name != "auto_alpha":
            part.double()
            for layer in part.modules():
                if isinstance(layer, nn.Linear):
                    nn.init.xavier_uniform_(layer.weight)
                    nn.init.normal_(layer.bias, std=0.3)  # other than 0, so nothing is symmetric
    if hasattr(agent, "log_c"):
        agent.log_c.data = agent.log_c.data.double().fill_(-0.5)
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


def make_batch(script: ModuleType, seed: int, dense: bool = False) -> Any:
    """Random transitions; the reward is -1 or 0, or minus the distance where it is dense."""
    torch.manual_seed(seed)
    if script is ddpg_multi_reengage:
        return make_goal_sets()
    goal, achieved_goal = random(BATCH, GOAL_DIM), random(BATCH, GOAL_DIM)
    goal[0, 0] = 8.0  # 15 deviations: beyond the normaliser's clip at 5
    action = random(BATCH, ACTION_DIM).tanh()
    if script is dqn_her_reengage_bitflip:
        action = torch.randint(4, (BATCH, 1)).double()
    is_low = torch.arange(BATCH) % 3 > 0
    return script.Batch(
        obs=random(BATCH, OBS_DIM),
        goal=goal,
        action=action,
        reward=-(goal - achieved_goal).norm(dim=1) if dense else -is_low.double(),
        next_obs=random(BATCH, OBS_DIM),
        next_achieved_goal=achieved_goal,
        terminated=(torch.arange(BATCH) % 4 == 0).double(),
    )


def make_goal_sets() -> ddpg_multi_reengage.GoalSetBatch:
    """Transitions with 1 to N_MAX goals each."""
    row = torch.arange(BATCH).repeat_interleave(torch.randint(1, N_MAX + 1, (BATCH,)))
    gate = torch.ones(len(row)).double()
    item_reward = torch.rand(len(row)).double()
    return ddpg_multi_reengage.GoalSetBatch(
        state=random(BATCH, STATE_DIM),
        goals=ddpg_multi_reengage.Goals(row, random(len(row), 2), gate),
        action=random(BATCH, ACTION_DIM).tanh(),
        reward=torch.zeros(BATCH).double().index_add(0, row, item_reward),
        item_reward=item_reward,
        next_state=random(BATCH, STATE_DIM),
        terminated=(torch.arange(BATCH) % 4 == 0).double(),
    )


def in_float32(batch: Any) -> Any:
    """A batch as buffers give it."""
    fields = batch._asdict()
    for name, field in fields.items():
        if isinstance(field, Tensor):
            fields[name] = field.float()
        else:
            goals = {"cell": field.cell.float(), "gate": field.gate.float()}
            fields[name] = field._replace(**goals)
    return type(batch)(**fields)


def run_update(script: ModuleType, agent: Any, batch: Any, args: Any, dense: bool = False) -> dict:
    """The script's own `update`, with a dense reward's gradient where it takes one."""
    if "reward_grad" not in inspect.signature(script.update).parameters:
        return script.update(agent, batch, args)
    reward_grad = None
    if dense:
        difference = batch.next_achieved_goal - batch.goal
        reward_grad = difference / difference.norm(dim=1, keepdim=True)
    return script.update(agent, batch, args, reward_grad)


def critic_params(agent: Any) -> list[Tensor]:
    return agent.params if hasattr(agent, "params") else agent.critic_params


def actor_params(agent: Any) -> list[Tensor]:
    """Empty where the critic is the policy."""
    return getattr(agent, "actor_params", [])


def online_params(agent: Any) -> list[Tensor]:
    """In the order of the targets."""
    if hasattr(agent, "critics"):  # SAC's actor has no target
        return agent.critic_params
    return actor_params(agent) + critic_params(agent)


def gradients(params: list[Tensor]) -> list[Tensor]:
    """What the last update left."""
    return [param.grad.clone() for param in params]
