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


def actor_with(mean: float, log_std: float) -> GaussianActor:
    """A policy that ignores its input."""
    net = mlp((2, 2), xavier_init=True)
    with torch.no_grad():
        net[0].weight.zero_()
        net[0].bias.copy_(torch.tensor([mean, log_std]))
    return GaussianActor(Normalizer(2, False), net)


@pytest.mark.parametrize("mean", [-100, -10, 0, 10, 100])
def test_log_probabilities_and_their_gradients_stay_finite_at_the_edge_of_the_action_space(
    mean: float,
):
    actor = actor_with(mean, log_std=2)
    inputs = torch.zeros(100, 1)
    noise = torch.linspace(-3, 3, 100)
    action, log_prob = actor(inputs, inputs, noise[:, None])
    log_prob.sum().backward()
    assert action.isfinite().all()
    assert log_prob.isfinite().all()
    assert actor.net[0].bias.grad.isfinite().all()


@pytest.mark.parametrize("log_std, used", [(-30, -20), (-1, -1), (9, 2)])
def test_the_log_deviation_is_clamped(log_std: float, used: float):
    actor = actor_with(0.3, log_std).double()
    inputs = torch.zeros(2, 1).double()
    noise = torch.tensor([[-1.0], [1.0]]).double()
    action, _ = actor(inputs, inputs, noise)
    below, above = action.atanh().flatten().tolist()
    deviation = (above - below) / 2
    assert deviation == pytest.approx(math.exp(used), rel=1e-6, abs=1e-12)


def test_sac_acts_by_the_mean_and_leaves_the_random_numbers_of_training_alone():
    actor = actor_with(mean=0.3, log_std=0)
    column = np.zeros((5, 1), np.float32)
    obs = {"observation": column, "desired_goal": column}
    state = torch.get_rng_state()
    np.testing.assert_allclose(actor.act(obs), np.tanh(0.3), rtol=1e-6)
    assert torch.equal(torch.get_rng_state(), state)
    sampled = actor.act(obs, mean_only=False)
    assert len(np.unique(sampled)) == 5


def test_dqn_takes_the_best_action_or_draws_from_the_softmax():
    torch.manual_seed(0)
    args = dqn_her_reengage_bitflip.Args(hidden_dims=(8,))
    network = dqn_her_reengage_bitflip.Agent(ENVS, args, CPU).q_network
    obs = torch.randn(20, OBS_DIM)
    goal = torch.randn(20, GOAL_DIM)
    q = network(obs, goal).detach().double().numpy()
    best = network.act({"observation": obs.numpy(), "desired_goal": goal.numpy()})
    np.testing.assert_array_equal(best, q.argmax(1))

    first = {"observation": obs[:1], "desired_goal": goal[:1]}
    many = {key: x.expand(4000, -1).numpy() for key, x in first.items()}
    drawn = network.act(many, temperature=0.5)
    counts = np.bincount(drawn, minlength=q.shape[1])
    expected = 4000 * softmax(q[0] / 0.5)
    assert chisquare(counts, expected).pvalue > 1e-4
