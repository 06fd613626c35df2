"""ContinuousSeek, making environments by name, stepping many side by side, and filming them."""

import subprocess
import sys
import warnings
from functools import partial
from pathlib import Path

import gymnasium as gym
import imageio
import numpy as np
import pytest
from conftest import ROOT, Corridor, vector_of
from gymnasium.utils.env_checker import check_env

import envs
from envs import Video
from envs.drawing import BLUE, GREEN, ORANGE, WHITE
from envs.tasks.continuous_seek import ContinuousSeek


@pytest.fixture(autouse=True)
def fresh_resolve():
    """`resolve` prints only once a process, so each test starts with an empty cache."""
    envs.resolve.cache_clear()


def seek(
    d: int, state: list[float] | None = None, goal: list[float] | None = None, **kwargs
) -> ContinuousSeek:
    """A started ContinuousSeek, in the state and with the goal that are given."""
    env = ContinuousSeek(d, **kwargs)
    env.reset(seed=0)
    env.state = env.state if state is None else np.float32(state)
    env.goal = env.goal if goal is None else np.float32(goal)
    return env


def corridor_policy(obs: dict[str, np.ndarray]) -> np.ndarray:
    """Goal 1: through it into the pit. Goal 2: stop there. Goal 3: walk away. Actions of 0.5 move by 1."""
    goal, position = obs["desired_goal"], obs["achieved_goal"]
    return np.select([goal == 1, goal == 2], [0.5, np.where(position < 2, 0.5, 0.0)], -0.5)


# ContinuousSeek


@pytest.mark.parametrize("reward", ["", "Dense"])
@pytest.mark.parametrize("d", [1, 5, 10, 20])
def test_continuous_seek_passes_gymnasiums_checker_without_a_warning(d: int, reward: str):
    env_id = envs.resolve(f"ContinuousSeek{d}{reward}-v0")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(gym.make(env_id, render_mode="rgb_array", disable_env_checker=True).unwrapped)


def test_the_papers_three_sizes_are_registered_by_the_import_alone():
    program = "import envs, gymnasium; print(*(id for id in gymnasium.registry if id.startswith('ContinuousSeek')))"
    result = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert set(result.stdout.split()) == {
        f"ContinuousSeek{d}{kind}-v0" for d in (5, 10, 20) for kind in ("", "Dense")
    }
    assert result.stderr == ""  # nor does the import print what gymnasium_robotics has to say


@pytest.mark.parametrize(
    "env_id, d", [("ContinuousSeek7-v0", 7), ("ContinuousSeek123Dense-v0", 123)]
)
def test_any_other_size_is_made_from_its_name(env_id: str, d: int):
    env = envs.make(env_id)
    assert env.action_space.shape == env.observation_space["desired_goal"].shape == (d,)
    assert env.unwrapped.reward_type == ("dense" if "Dense" in env_id else "sparse")


@pytest.mark.parametrize(
    "env_id", ["ContinuousSeek0-v0", "ContinuousSeek-3-v0", "ContinuousSeek05-v0"]
)
def test_a_size_that_makes_no_sense_has_no_environment(env_id: str):
    with pytest.raises(ValueError, match=env_id):
        envs.resolve(env_id)


def test_an_episode_starts_at_the_origin_with_a_goal_drawn_by_the_seed_from_the_whole_box():
    env = seek(2)
    goals = np.array([env.reset(seed=seed)[0]["desired_goal"] for seed in range(300)])
    assert np.array_equal(env.reset(seed=7)[0]["desired_goal"], goals[7])
    assert not np.array_equal(env.reset()[0]["desired_goal"], goals[7])  # the stream goes on
    assert np.all(np.abs(goals) <= 5) and np.all(goals.min(0) < -4.8) and np.all(goals.max(0) > 4.8)
    assert not env.reset()[0]["observation"].any()


def test_a_step_adds_the_action_and_stops_at_the_walls():
    env = seek(3, state=[4.5, -4.75, 0.0])
    obs = env.step(np.float32([0.75, -0.5, 0.25]))[0]
    assert obs["observation"].tolist() == obs["achieved_goal"].tolist() == [5.0, -5.0, 0.25]
    obs = env.step(np.float32([-7.0, 1.0, 2.0]))[0]  # actions are cut to [-1, 1] first
    assert obs["observation"].tolist() == [4.0, -4.0, 1.25]


def test_the_sparse_reward_is_0_exactly_when_no_dimension_is_off_by_more_than_a_tenth():
    env = seek(3)
    state = np.float32([1.0, -2.0, 0.0])
    offsets = [
        [0.0, 0.0, 0.0],
        [0.09, -0.09, 0.09],
        [0.11, 0.0, 0.0],
        [0.0, 0.0, -0.11],
        [5.0, 5.0, 5.0],
    ]
    assert env.compute_reward(state, np.float32(state + offsets), {}).tolist() == [
        0.0,
        0.0,
        -1.0,
        -1.0,
        -1.0,
    ]
    assert (
        env.compute_reward(np.zeros(3, np.float32), np.float32([0.1, -0.1, 0.1]), {}) == 0
    )  # the edge belongs to it


def test_a_step_returns_the_reward_and_the_success_of_the_state_it_leads_to():
    env = seek(2, state=[0.0, 0.0], goal=[0.5, 0.0])
    _, reward, terminated, truncated, info = env.step(np.float32([0.45, 0.05]))
    assert (reward, terminated, truncated, bool(info["is_success"])) == (0.0, False, False, True)
    _, reward, terminated, truncated, info = env.step(np.float32([0.5, 0.0]))
    assert (reward, terminated, truncated, bool(info["is_success"])) == (-1.0, False, False, False)


def test_the_dense_reward_is_the_distance_and_its_gradient_points_from_the_goal_to_the_state():
    env = seek(2, state=[0.0, 0.0], goal=[3.0, 3.0], reward_type="dense")
    _, reward, *_, info = env.step(np.float32([0.0, -1.0]))
    assert reward == -5.0 and not info["is_success"]
    gradient = env.compute_reward_gradient(
        np.float32([[0, -1], [2, 2]]), np.float32([[3, 3], [2, 2]]), {}
    )
    np.testing.assert_allclose(gradient, [[-0.6, -0.8], [0, 0]], rtol=1e-6)


@pytest.mark.parametrize("reward_type", ["sparse", "dense"])
def test_rewards_are_computed_over_any_leading_axes(reward_type: str):
    env = seek(4, reward_type=reward_type)
    achieved, noise = (
        np.random.default_rng(0).uniform(-0.12, 0.12, (2, 2, 3, 50, 4)).astype(np.float32)
    )
    rewards = env.compute_reward(achieved, achieved + noise, {})
    assert rewards.shape == (2, 3, 50) and len(np.unique(rewards)) > 1
    for index in np.ndindex(rewards.shape):
        assert rewards[index] == env.compute_reward(achieved[index], (achieved + noise)[index], {})


def test_ten_steps_end_an_episode_by_truncation_even_at_the_goal():
    env = envs.make("ContinuousSeek2-v0")
    obs, _ = env.reset(seed=0)
    ends = []
    for _ in range(10):
        obs, _, terminated, truncated, info = env.step(obs["desired_goal"] - obs["observation"])
        ends.append((terminated, truncated))
    assert info["is_success"]
    assert ends == [(False, False)] * 9 + [(False, True)]


def pixel(image: np.ndarray, x: float, y: float) -> list[int]:
    """Colour at a point of the plane; the picture shows [-5.4, 5.4] both ways, the second dimension pointing up."""
    size = len(image) - 1
    return image[round((5.4 - y) / 10.8 * size), round((x + 5.4) / 10.8 * size)].tolist()


@pytest.mark.parametrize("d", [1, 2, 5])
def test_the_picture_shows_state_and_goal_where_they_are(d: int):
    state, goal = np.zeros(d), np.zeros(d)
    state[:2], goal[:2] = [3.0, 1.0][:d], [-2.0, -4.0][:d]
    env = seek(d, state=state, goal=goal, render_mode="rgb_array")
    image = env.render()
    assert image.shape == (320, 320, 3) and image.dtype == np.uint8
    up = 1.0 * (d > 1)  # with one dimension everything lies on the middle line
    assert pixel(image, 3.0, up) == BLUE.tolist()
    assert pixel(image, -2.0, -4.0 * up) == ORANGE.tolist()
    assert pixel(image, -2.0, 2.5) == WHITE.tolist()


def test_the_goal_has_its_true_size_in_the_picture_and_changes_colour_when_it_is_reached():
    env = seek(2, state=[0.0, 0.0], goal=[1.05, 2.0], render_mode="rgb_array")
    env.step(np.float32([1.0, 1.0]))
    assert pixel(env.render(), 1.05, 2.0) == pixel(env.render(), 1.0, 2.05) == ORANGE.tolist()
    assert pixel(env.render(), 0.88, 2.0) == WHITE.tolist()  # just outside of it
    env.step(np.float32([0.0, 1.0]))
    assert pixel(env.render(), 1.05, 2.0) == GREEN.tolist()


# Making environments by name


def test_hand_reach_v2_runs_v3_and_says_so_in_one_line(capsys: pytest.CaptureFixture):
    assert envs.resolve("HandReach-v2") == "HandReach-v3"
    assert envs.make("HandReach-v2").spec.id == "HandReach-v3"
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == 1 and "HandReach-v2" in out and "HandReach-v3" in out
    assert err == ""


def test_a_current_name_is_resolved_in_silence(capsys: pytest.CaptureFixture):
    assert envs.resolve("HandReach-v3") == "HandReach-v3"
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    "env_id, complaint",
    [
        ("Nowhere-v0", "No environment 'Nowhere-v0'"),
        ("HandReach", "No environment 'HandReach'"),
        ("no name at all", "No environment 'no name at all'"),
        ("CartPole-v1", "CartPole-v1 is no goal environment"),
        ("CorridorDiscrete-v0", "CorridorDiscrete-v0 has a Discrete action space, not a Box"),
    ],
)
def test_an_unsuitable_environment_is_refused_with_one_sentence(env_id: str, complaint: str):
    with pytest.raises(ValueError, match=complaint) as error:
        envs.make(env_id)
    assert len(str(error.value).splitlines()) == 1


def test_an_environment_without_a_time_limit_is_refused():
    gym.register("CorridorEndless-v0", gym.spec("Corridor-v0").entry_point)
    with pytest.raises(ValueError, match="no registered time limit: --max-episode-steps"):
        envs.make("CorridorEndless-v0")


def test_discrete_actions_are_accepted_by_whoever_asks_for_them():
    assert envs.make("CorridorDiscrete-v0", action_space=gym.spaces.Discrete).action_space.n == 2


def test_actions_with_other_bounds_are_rescaled():
    env = envs.make("Corridor-v0")
    env.reset(seed=0)
    assert env.action_space == gym.spaces.Box(-1.0, 1.0, (1,), np.float32)
    assert env.step(np.float32([0.75]))[0]["observation"] == [1.5]


def test_the_achieved_goal_is_appended_to_the_observation_on_request():
    plain, joined = (
        envs.make("FetchReach-v4"),
        envs.make("FetchReach-v4", observe_achieved_goal=True),
    )
    obs, joined_obs = (env.reset(seed=3)[0] for env in (plain, joined))
    expected = np.concatenate([obs["observation"], obs["achieved_goal"]])
    assert np.array_equal(joined_obs["observation"], expected)
    assert joined.observation_space["observation"].shape == expected.shape
    assert np.array_equal(joined_obs["desired_goal"], obs["desired_goal"])


# Many environments side by side


def test_a_vector_env_equals_single_environments_whatever_the_number_of_threads():
    n, steps = 4, 6
    vectors = [vector_of("HandReach-v3", n, seed=5, num_threads=threads) for threads in (1, 2)]
    assert vectors[0].pool is None and vectors[1].pool is not None
    singles = [envs.make("HandReach-v3") for _ in range(n)]
    seeds = [int(seed) for seed in np.random.SeedSequence(5).generate_state(n)]
    expected = [env.reset(seed=seed)[0] for env, seed in zip(singles, seeds, strict=True)]
    rng = np.random.default_rng(0)

    def assert_equal(obs: dict[str, np.ndarray]) -> None:
        for key, value in obs.items():
            singles = np.array([single[key] for single in expected], np.float32)
            assert np.array_equal(value, singles)

    for vector in vectors:
        assert_equal(vector.reset())
    for _ in range(steps):
        actions = rng.uniform(-1, 1, (n, vectors[0].action_dim)).astype(np.float32)
        results = [env.step(action) for env, action in zip(singles, actions, strict=True)]
        expected = [result[0] for result in results]
        for vector in vectors:
            obs, reward, terminated, truncated, success = vector.step(actions)
            assert_equal(obs)
            assert reward.tolist() == [np.float32(result[1]) for result in results]
            assert success.tolist() == [bool(result[4]["is_success"]) for result in results]
            assert not terminated.any() and not truncated.any()
    for vector in vectors:
        vector.close()


def test_two_copies_never_get_the_same_goals_and_another_seed_gives_others():
    goals = [
        vector_of("ContinuousSeek2-v0", 50, seed).reset()["desired_goal"] for seed in (0, 0, 1)
    ]
    assert np.array_equal(goals[0], goals[1])
    assert len(np.unique(np.concatenate(goals[1:]), axis=0)) == 100


def test_an_ended_environment_stands_still_while_the_others_go_on():
    vector = vector_of("Corridor-v0", 2, seed=0)
    vector.reset()
    for _ in range(2):
        vector.step(
            np.float32([[0.75], [0.0]])
        )  # the first one falls into the pit in its second step
    before = {key: value.copy() for key, value in vector.obs.items()}
    for n in (3, 4, 5):
        obs, reward, terminated, truncated, _ = vector.step(np.float32([[-1.0], [0.25]]))
        assert obs["observation"][0] == before["observation"][0] == 3.0 and reward[0] == 0
        assert obs["observation"][1] == 0.5 * (n - 2)
        assert terminated.tolist() == [True, False] and truncated.tolist() == [False, n == 5]


def test_reset_starts_anew_only_what_the_mask_names():
    vector = vector_of("Corridor-v0", 3, seed=0)
    vector.reset()
    before = vector.step(np.float32([[1.0], [0.5], [0.25]]))[0]
    vector.step(np.float32([[1.0], [0.0], [0.0]]))
    obs = vector.reset(np.array([True, False, True]))
    assert obs["observation"].tolist() == [[0.0], [1.0], [0.0]]
    assert obs["desired_goal"][1] == before["desired_goal"][1]
    assert not vector.step(np.zeros((3, 1), np.float32))[2].any()


def test_what_a_vector_env_returned_does_not_change_at_the_next_step():
    vector = vector_of("ContinuousSeek2-v0", 2, seed=0)
    first = vector.reset()
    second = vector.step(np.ones((2, 2), np.float32))
    vector.step(np.ones((2, 2), np.float32))
    assert not first["observation"].any() and np.all(second[0]["observation"] == 1)


def test_play_tells_success_at_the_last_step_from_success_at_any_step_and_adds_up_rewards():
    n = 12
    goals = vector_of("Corridor-v0", n, seed=3).reset()["desired_goal"][:, 0]
    assert set(goals) == {1, 2, 3}
    # Goal 1: rewards 0 -1 -1 and the pit. Goal 2: -1 0 0 0 0. Goal 3: five times -1.
    expected = {
        "success_rate": np.mean(goals == 2),
        "success_once": np.mean(goals != 3),
        "episodic_return": np.mean(np.select([goals == 1, goals == 2], [-2.0, -1.0], -5.0)),
    }
    assert vector_of("Corridor-v0", n, seed=3).play(corridor_policy) == pytest.approx(expected)


def test_each_play_has_new_episodes():
    vector = vector_of("ContinuousSeek2-v0", 4, seed=0)
    goals = []
    for _ in range(2):
        vector.play(
            lambda obs: (goals.append(obs["desired_goal"]), np.zeros((4, 2), np.float32))[1]
        )
    assert (
        len(goals) == 20
        and np.array_equal(goals[0], goals[9])
        and not np.any(goals[9] == goals[10])
    )


# Video


def test_a_video_has_every_frame_and_leaves_nothing_unfinished(tmp_path: Path):
    shots = []

    def act(obs: dict[str, np.ndarray]) -> np.ndarray:
        assert obs["observation"].shape == (1, 2)  # one environment, with a leading axis
        shots.append(obs)
        return np.ones((1, 1), np.float32) * 0.3

    video = Video(partial(envs.make, "ContinuousSeek1-v0", observe_achieved_goal=True), seed=0)
    for episodes in (2, 1):  # the second film takes the first one's place
        shots.clear()
        video.record(act, tmp_path / "video.gif", episodes)
        assert len(shots) == episodes * 10
        assert [path.name for path in tmp_path.iterdir()] == ["video.gif"]
    with imageio.get_reader(tmp_path / "video.gif") as reader:
        # GIF writers merge equal frames into one that lasts longer, as the last one of an episode does
        durations = [reader.get_meta_data(i)["duration"] for i in range(len(reader))]
        frames = [np.asarray(frame)[..., :3] for frame in reader]
    assert sum(durations) == pytest.approx(200 * (11 + 3))  # 5 frames a second
    assert len(frames) >= 11 and frames[0].shape == (320, 320, 3)
    assert pixel(frames[0], 0.0, 0.0) == pytest.approx(BLUE, abs=8)
    assert pixel(frames[-1], 3.0, 0.0) == pytest.approx(BLUE, abs=8)


def test_an_environment_that_cannot_be_rendered_is_refused_at_once(monkeypatch: pytest.MonkeyPatch):
    def render(self: Corridor) -> None:
        raise RuntimeError("no display")

    monkeypatch.setattr(Corridor, "render", render)
    with pytest.raises(ValueError, match="Corridor-v0 cannot be rendered here .*no display"):
        Video(partial(envs.make, "Corridor-v0"), seed=0)
