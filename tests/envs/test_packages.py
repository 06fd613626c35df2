"""Environments of other packages, played at random; a package that is missing is skipped."""

from functools import partial
from typing import Any

import numpy as np
import pytest
from conftest import vector_of

import envs

PARKING = {"max_episode_steps": 100}


def skip_without(env_id: str) -> None:
    """Skips the test unless the package before the colon is installed."""
    package, _, _ = env_id.rpartition(":")
    if package:
        pytest.importorskip(package)


@pytest.mark.parametrize(
    "env_id, how, expected",
    [
        ("panda_gym:PandaReach-v3", {}, (False, -1, 0)),
        ("panda_gym:PandaPush-v3", {}, (False, -1, 0)),
        ("panda_gym:PandaReachDense-v3", {}, (True, None, 0)),
        ("highway_env:parking-v0", PARKING, (True, None, 0)),
        ("PointMaze_UMaze-v3", {}, (False, 0, 1)),
        ("PointMaze_UMazeDense-v3", {}, (True, None, 1)),
        ("AntMaze_UMaze-v4", {}, (False, 0, 1)),
        ("AntMaze_UMaze-v5", {}, (False, 0, 1)),
    ],
)
def test_the_kind_of_task_is_found_out(env_id: str, how: dict[str, Any], expected: tuple):
    skip_without(env_id)
    task = envs.inspect_task(partial(envs.make, env_id, **how))
    found = task.is_dense, task.reward_low, task.reward_high
    for value, wanted in zip(found, expected, strict=True):
        assert wanted is None or value == wanted
    assert not task.has_reward_gradient and not task.ends_on_success
    assert not any("slow" in note for note in task.notes)


@pytest.mark.parametrize(
    "env_id, how",
    [
        ("panda_gym:PandaReach-v3", {}),
        ("panda_gym:PandaPush-v3", {}),
        ("highway_env:parking-v0", PARKING),
        ("PointMaze_UMaze-v3", {}),
        ("AntMaze_UMaze-v5", {}),
    ],
)
def test_random_play_is_decided_by_the_seed(env_id: str, how: dict[str, Any]):
    skip_without(env_id)
    one, two = (vector_of(env_id, 2, 3, num_threads, **how) for num_threads in (1, 2))
    rng = np.random.default_rng(0)
    for _ in range(2):
        assert all(map(np.array_equal, one.reset().values(), two.reset().values()))
        for _ in range(20):
            action = rng.uniform(-1, 1, (2, one.action_dim)).astype(np.float32)
            obs, *rest = one.step(action)
            other_obs, *others = two.step(action)
            assert all(map(np.array_equal, obs.values(), other_obs.values()))
            assert all(map(np.array_equal, rest, others))
            assert np.isfinite(obs["observation"]).all()
    one.close()
    two.close()
