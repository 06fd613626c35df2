"""The normaliser of observations and goals."""

import numpy as np
import torch

from algos.ddpg_her import Normalizer


def test_statistics_are_those_of_all_data_so_far_and_the_deviation_is_at_least_one_hundredth():
    rng = np.random.default_rng(0)
    normalizer = Normalizer(4, enabled=True)
    data = np.zeros((0, 4))
    for n in (1, 50, 7, 400):
        rows = rng.normal([0, 100, -3, 3], [1, 0.05, 20, 0.001], size=(n, 4))
        normalizer.update(torch.from_numpy(rows))
        data = np.concatenate([data, rows])
        mean = data.mean(axis=0)
        std = data.std(axis=0).clip(min=0.01)
        np.testing.assert_allclose(normalizer.mean, mean, rtol=1e-6)
        np.testing.assert_allclose(normalizer.std, std, rtol=1e-5)
    normalized = normalizer(torch.from_numpy(data[:5]))
    np.testing.assert_allclose(normalized, (data[:5] - mean) / std, atol=1e-3)
