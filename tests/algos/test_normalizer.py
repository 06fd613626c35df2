"""The normaliser of observations and goals."""

import numpy as np
import pytest
import torch

from algos.ddpg_her import Normalizer


def test_statistics_are_those_of_all_data_so_far():
    rng = np.random.default_rng(0)
    normalizer = Normalizer(3, enabled=True)
    data = np.zeros((0, 3))
    for n in (1, 50, 7, 400):
        rows = rng.normal([0, 100, -3], [1, 0.05, 20], size=(n, 3))
        normalizer.update(torch.from_numpy(rows))
        data = np.concatenate([data, rows])
        mean = data.mean(axis=0)
        std = data.std(axis=0).clip(min=0.01)
        np.testing.assert_allclose(normalizer.mean, mean, rtol=1e-6)
        np.testing.assert_allclose(normalizer.std, std, rtol=1e-5)
    normalized = normalizer(torch.from_numpy(data[:5]))
    np.testing.assert_allclose(normalized, (data[:5] - mean) / std, atol=1e-3)


def test_the_deviation_is_at_least_one_hundredth():
    normalizer = Normalizer(2, enabled=True)
    rows = torch.tensor([[3.0, 1.0], [3.0, 1.001]])  # no spread, and too little
    normalizer.update(rows)
    np.testing.assert_allclose(normalizer.std, 0.01, rtol=1e-6)
    normalized = normalizer(torch.tensor([3.02, 1.0005]))
    np.testing.assert_allclose(normalized, [2, 0], atol=1e-3)


def test_normalised_values_are_clipped_at_5_and_raw_ones_are_not():
    normalizer = Normalizer(1, enabled=True)
    normalizer.update(torch.tensor([[-1.0], [1.0]]))  # mean 0, deviation 1
    x = torch.tensor([-5.1, -4.9, 4.9, 5.1])
    normalized = normalizer(x[:, None]).flatten()
    assert normalized.tolist() == pytest.approx([-5, -4.9, 4.9, 5])
    normalizer.update(torch.tensor([[1e6], [-1e6]]))
    assert normalizer.std.item() == pytest.approx(1e6 / 2**0.5)
