"""parking-v0 with the gradient of its reward."""

import gymnasium as gym
import numpy as np

from benchmark.studies import parking


def test_the_gradient_of_parkings_reward_is_that_of_finite_differences() -> None:
    env = gym.make("DifferentiableParking-v0").unwrapped
    assert isinstance(env, parking.DifferentiableParking)
    achieved, goal = np.random.default_rng(1).normal(size=(2, 20, 6))
    gradient = env.compute_reward_gradient(achieved, goal, {})
    for i in range(6):
        step = 1e-6 * np.eye(6)[i]
        up = env.compute_reward(achieved, goal + step, {})
        down = env.compute_reward(achieved, goal - step, {})
        np.testing.assert_allclose(gradient[:, i], (up - down) / 2e-6, atol=1e-6)
    at_the_goal = env.compute_reward_gradient(goal, goal, {})
    assert np.all(at_the_goal == 0)
