"""The normaliser of observations and goals."""

import numpy as np
import pytest
import torch

from algos.ddpg_her import Normalizer


def test_statistics_are_those_of_all_data_so_far():
    rng, normalizer, seen = np.random.default_rng(0), Normalizer(3, enabled=True), []
    for n in (1, 50, 7, 400):
        seen.append(rng.normal([0, 100, -3], [1, 0.05, 20], size=(n, 3)).astype(np.float32))
        normalizer.update(torch.from_numpy(seen[-1]))
        data = np.concatenate(seen).astype(np.float64)
        np.testing.assert_allclose(normalizer.mean, data.mean(0), rtol=1e-6)
        np.testing.assert_allclose(normalizer.std, np.maximum(data.std(0), 0.01), rtol=1e-5)
    expected = (seen[0] - data.mean(0)) / data.std(0)
    np.testing.assert_allclose(normalizer(torch.from_numpy(seen[0])), expected, atol=1e-3)


def test_the_deviation_is_at_least_one_hundredth():
    normalizer = Normalizer(2, enabled=True)
    normalizer.update(torch.tensor([[3.0, 1.0], [3.0, 1.001]]))  # no spread, and too little
    np.testing.assert_allclose(normalizer.std, [0.01, 0.01], rtol=1e-6)
    np.testing.assert_allclose(normalizer(torch.tensor([[3.02, 1.0005]])), [[2.0, 0.0]], atol=1e-3)


def test_normalised_values_are_clipped_at_5_and_raw_ones_are_not():
    normalizer = Normalizer(1, enabled=True)
    normalizer.update(torch.tensor([[-1.0], [1.0]]))  # mean 0, deviation 1
    x = torch.tensor([[-5.1], [-4.9], [4.9], [5.1]])
    assert normalizer(x).flatten().tolist() == pytest.approx([-5, -4.9, 4.9, 5])
    normalizer.update(torch.tensor([[1e6], [-1e6]]))
    deviation = np.std([-1, 1, 1e6, -1e6])
    assert normalizer.std.item() == pytest.approx(deviation)
    assert normalizer(torch.tensor([[1e6]])).item() == pytest.approx(1e6 / deviation)


def test_a_disabled_normaliser_changes_nothing():
    normalizer, x = Normalizer(2, enabled=False), torch.tensor([[1e6, -3.0]])
    normalizer.update(torch.randn(10, 2))
    assert torch.equal(normalizer(x), x)


def test_sums_of_two_processes_give_the_statistics_of_their_data_together():
    rows = torch.randn(30, 2, dtype=torch.float64)
    parts = [Normalizer(2, enabled=True) for _ in range(2)]
    for part, data in zip(parts, (rows[:11], rows[11:]), strict=True):
        part.update(data)
    parts[0].sums.copy_((parts[0].sums + parts[1].sums) / 2)  # means over ranks
    parts[0].refresh()
    np.testing.assert_allclose(parts[0].mean, rows.mean(0), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(parts[0].std, rows.std(0, correction=0), rtol=1e-5)
