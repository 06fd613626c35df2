"""How SAC's and DQN's networks act."""

import math

import numpy as np
import pytest
import torch
from problems import CPU, ENVS, GOAL_DIM, OBS_DIM
from scipy.special import softmax
from scipy.stats import chisquare

from algos import dqn_her_reengage_bitflip
from algos.sac_her_reengage import GaussianActor, Normalizer, mlp

torch.set_num_threads(1)


def actor_with(mean: float, log_std: float) -> GaussianActor:
    """A policy that ignores its input."""
    actor = GaussianActor(Normalizer(2, False), mlp((2, 2), xavier_init=True))
    with torch.no_grad():
        actor.net[0].weight.zero_()
        actor.net[0].bias.copy_(torch.tensor([mean, log_std]))
    return actor


@pytest.mark.parametrize("mean", [-100.0, -10.0, 0.0, 10.0, 100.0])
def test_log_probabilities_and_their_gradients_stay_finite_at_the_edge_of_the_action_space(
    mean: float,
):
    actor, inputs = actor_with(mean, 2.0), torch.zeros(100, 1)
    action, log_prob = actor(inputs, inputs, torch.linspace(-3, 3, 100)[:, None])
    log_prob.sum().backward()
    assert action.isfinite().all()
    assert log_prob.isfinite().all()
    assert actor.net[0].bias.grad.isfinite().all()


@pytest.mark.parametrize("log_std, used", [(-30.0, -20.0), (-1.0, -1.0), (9.0, 2.0)])
def test_the_log_deviation_is_clamped(log_std: float, used: float):
    actor, inputs = actor_with(0.3, log_std).double(), torch.zeros(2, 1).double()
    action, _ = actor(inputs, inputs, torch.tensor([[-1.0], [1.0]]).double())
    below, above = action.atanh().flatten().tolist()
    assert (above - below) / 2 == pytest.approx(math.exp(used), rel=1e-6, abs=1e-12)


def test_sac_acts_by_the_mean_and_leaves_the_random_numbers_of_training_alone():
    actor = actor_with(0.3, 0.0)
    obs = {key: np.zeros((5, 1), np.float32) for key in ("observation", "desired_goal")}
    state = torch.get_rng_state()
    np.testing.assert_allclose(actor.act(obs), np.tanh(np.full((5, 1), 0.3)), rtol=1e-6)
    assert torch.equal(torch.get_rng_state(), state)
    assert len(np.unique(actor.act(obs, mean_only=False))) == 5


def test_dqn_takes_the_best_action_or_draws_from_the_softmax():
    torch.manual_seed(0)
    args = dqn_her_reengage_bitflip.Args(hidden_dims=(8,))
    network = dqn_her_reengage_bitflip.Agent(ENVS, args, CPU).q_network
    obs, goal = torch.randn(20, OBS_DIM), torch.randn(20, GOAL_DIM)
    q = network(obs, goal).detach().numpy()
    best = network.act({"observation": obs.numpy(), "desired_goal": goal.numpy()})
    np.testing.assert_array_equal(best, q.argmax(1))

    many = {"observation": obs[:1].expand(4000, -1).numpy()}
    many["desired_goal"] = goal[:1].expand(4000, -1).numpy()
    counts = np.bincount(network.act(many, temperature=0.5), minlength=q.shape[1])
    assert chisquare(counts, 4000 * softmax(q[0].astype(float) / 0.5)).pvalue > 1e-4
