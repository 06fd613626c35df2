"""Many environments side by side."""

import numpy as np
import pytest
from conftest import vector_of

import envs


@pytest.mark.parametrize("env_id", ["HandReach-v3", "HandManipulateBlock-v1", "FetchPush-v4"])
def test_a_vector_env_equals_single_environments_whatever_the_number_of_threads(env_id: str):
    n = 4
    vectors = [vector_of(env_id, n, seed=5, num_threads=threads) for threads in (1, 2)]
    assert [vector.num_threads for vector in vectors] == [1, 2]
    singles = [envs.make(env_id) for _ in range(n)]
    seeds = [int(seed) for seed in np.random.SeedSequence(5).generate_state(n)]
    expected = [env.reset(seed=seed)[0] for env, seed in zip(singles, seeds, strict=True)]
    rng = np.random.default_rng(0)

    def assert_equal(obs: dict[str, np.ndarray]) -> None:
        for key, value in obs.items():
            of_singles = np.array([single[key] for single in expected], np.float32)
            assert np.array_equal(value, of_singles)

    for vector in vectors:
        assert_equal(vector.reset())
    for _ in range(6):
        actions = rng.uniform(-1, 1, (n, vectors[0].action_dim)).astype(np.float32)
        results = [env.step(action) for env, action in zip(singles, actions, strict=True)]
        expected = [result[0] for result in results]
        for vector in vectors:
            obs, reward, terminated, truncated, success = vector.step(actions)
            assert_equal(obs)
            assert reward.tolist() == [np.float32(result[1]) for result in results]
            assert success.tolist() == [bool(result[4]["is_success"]) for result in results]
            assert not terminated.any() and not truncated.any()


@pytest.mark.parametrize("env_id", ["ContinuousSeek2-v0", "RotationDense2-v0"])
def test_no_two_episodes_have_the_same_goal_and_another_seed_gives_others(env_id: str):
    goals = []
    for seed in (0, 0, 1):
        vector = vector_of(env_id, 50, seed)
        goals.append([*vector.reset()["desired_goal"], *vector.reset()["desired_goal"]])
    assert np.array_equal(goals[0], goals[1])
    assert len(np.unique(np.concatenate(goals[1:]), axis=0)) == 200


@pytest.mark.parametrize("env_id", ["NoisySeek3-v0", "ContinuousSeek2-v0"])
def test_no_copy_draws_the_numbers_that_a_script_with_the_same_seed_draws(env_id: str):
    scripts = np.random.default_rng(5).standard_normal(2000)
    for stream in vector_of(env_id, 3, seed=5).streams:
        assert not np.isin(scripts, stream.standard_normal(2000)).any()


def test_an_ended_environment_stands_still_while_the_others_go_on():
    vector = vector_of("Corridor-v0", 2, seed=0)
    vector.reset()
    for _ in range(2):
        # The first one falls into the pit in its second step
        before, *_ = vector.step(np.float32([[0.75], [0.0]]))
    for n in (3, 4, 5):
        obs, reward, terminated, truncated, _ = vector.step(np.float32([[-1.0], [0.25]]))
        assert obs["observation"][0] == before["observation"][0] == 3.0 and reward[0] == 0
        assert obs["observation"][1] == 0.5 * (n - 2)
        assert terminated.tolist() == [True, False] and truncated.tolist() == [False, n == 5]
    after, reward, *_ = vector.step(np.float32([[-1.0], [0.25]]))  # a time limit ends it too
    assert np.array_equal(after["observation"], obs["observation"]) and not reward.any()


def test_reset_starts_anew_only_what_the_mask_names():
    vector = vector_of("Corridor-v0", 3, seed=0)
    vector.reset()
    before = vector.step(np.float32([[1.0], [0.5], [0.25]]))[0]
    vector.step(np.float32([[1.0], [0.0], [0.0]]))
    obs = vector.reset(np.array([True, False, True]))
    assert obs["observation"].tolist() == [[0.0], [1.0], [0.0]]
    assert obs["desired_goal"][1] == before["desired_goal"][1]
    assert not vector.step(np.zeros((3, 1), np.float32))[2].any()


@pytest.mark.parametrize("env_id", ["ContinuousSeek2-v0", "DriveSeek2-v0"])
def test_the_mask_of_ended_episodes_resets_them_all(env_id: str):
    vector = vector_of(env_id, 2, seed=0)
    assert vector.ended.all()  # none has begun
    for _ in range(2):
        vector.reset(vector.ended)
        assert not vector.ended.any() and not vector.t.any()
        while not vector.ended.any():
            vector.step(np.ones((2, vector.action_dim), np.float32))
        assert vector.ended.all()
    assert not vector.step(np.ones((2, vector.action_dim), np.float32))[1].any()


@pytest.mark.parametrize("env_id", ["ContinuousSeek2-v0", "DriveSeek2-v0"])
def test_what_a_vector_env_returned_does_not_change_at_the_next_step(env_id: str):
    vector = vector_of(env_id, 2, seed=0)
    returned = [vector.reset()["observation"]]
    kept = []
    for _ in range(3):
        kept.append(returned[-1].copy())
        returned.append(vector.step(np.ones((2, vector.action_dim), np.float32))[0]["observation"])
    assert np.array_equal(returned[:3], kept) and len(np.unique(kept, axis=0)) == 3
