"""Other people's environments: each kind works, or one sentence says why not."""

import subprocess
import sys
from collections.abc import Callable
from functools import partial

import gymnasium as gym
import numpy as np
import pytest
import small_envs
from conftest import ROOT, vector_of
from gymnasium.spaces import Box, Discrete
from numpy import ndarray

import envs
from envs import Task, inspect_task, make_vector
from envs.messages import BadInput, say_once
from envs.registry import check_actions
from envs.vector_env import BatchVectorEnv, CopiesVectorEnv
from envs.video import watch
from envs.wrappers import FlattenGoals, as_element, has_reward_gradient


def inspected(env_id: str, **how) -> Task:
    return inspect_task(partial(envs.make, env_id, **how))


def assert_refused(complaint: str, function: Callable, *args, **how) -> None:
    """A call raises BadInput: one sentence that matches `complaint`."""
    with pytest.raises(BadInput, match=complaint) as error:
        function(*args, **how)
    text = str(error.value)
    assert len(text.splitlines()) == 1 and text.endswith((".", "?", "`?", "environments")), text


# Making


@pytest.mark.parametrize(
    "env_id, how, complaint",
    [
        (
            "Walk-v0",
            {"env_kwargs": {"size": 0}},
            "Walk-v0 cannot be made with {'size': 0}: .* a size of 0 makes no sense .small_envs.py",
        ),
        (
            "Walk-v0",
            {"env_kwargs": {"colour": "red"}},
            "unexpected keyword argument 'colour'",
        ),
        ("Image-v0", {}, r"'observation' is Box\(0, 255, \(8, 8, 3\), uint8\), and only vectors"),
        ("NoGoals-v0", {}, "is not a goal environment: its observation is a Box"),
        ("Endless-v0", {}, "no registered time limit: --max-episode-steps"),
        ("Walk-v0", {"action_space": Discrete}, "has a Box action space, not a Discrete"),
        ("no_such_module:Walk-v0", {}, "importing 'no_such_module' failed .*PYTHONPATH"),
        ("small_envs:Run-v0", {}, "No environment 'small_envs:Run-v0'"),
    ],
)
def test_what_cannot_be_made_is_refused_with_one_sentence(env_id: str, how: dict, complaint: str):
    assert_refused(complaint, envs.make, env_id, **how)


LARGEST = np.finfo(np.float32).max


@pytest.mark.parametrize(
    "space",
    [
        Box(0, 10, (2,), np.int64),
        Box(np.float32([-1, 2]), np.float32([1, 2])),  # no room between two bounds
        Box(-LARGEST, LARGEST, (2,)),
        Box(-1, 1, (2, 2)),
    ],
)
def test_actions_that_cannot_be_rescaled_are_refused(space: Box):
    env = envs.make("Walk-v0")
    env.action_space = space
    assert_refused("not a vector of real numbers between two finite", check_actions, env, "A", Box)


def test_a_bug_in_a_constructor_or_in_a_package_keeps_its_traceback(tmp_path, monkeypatch):
    monkeypatch.setattr(small_envs.Walk, "__init__", lambda self: self.no_such_attribute)
    with pytest.raises(AttributeError, match="no_such_attribute"):
        envs.make("Walk-v0")
    (tmp_path / "broken_package.py").write_text("1 / 0")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ZeroDivisionError):
        envs.make("broken_package:Walk-v0")


@pytest.mark.parametrize("env_id", ["Walk-v0", "Endless-v0", "BitFlip5-v0"])
def test_a_time_limit_is_replaced_or_supplied(env_id: str):
    space = Discrete if env_id == "BitFlip5-v0" else Box
    vector = vector_of(env_id, 2, 0, action_space=space, max_episode_steps=3)
    assert vector.max_episode_steps == 3
    vector.reset()
    action = np.zeros((2, *vector.action_space.shape), vector.action_space.dtype)
    ends = [vector.step(action)[3].tolist() for _ in range(3)]
    assert ends == [[False, False], [False, False], [True, True]]


def test_a_constructor_is_not_asked_for_a_render_mode_unless_something_is_filmed():
    make_env = partial(envs.make, "WithoutRenderMode-v0")
    assert make_env().unwrapped.render_mode is None
    assert_refused("cannot be made.*render_mode", envs.Video, make_env, seed=0)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_ends_of_rescaled_actions_lie_in_the_environments_box(dtype: str):
    how = {"env_kwargs": {"dtype": dtype}}
    vector = vector_of("StrictActions-v0", 2, 0, **how)
    vector.reset()
    obs = vector.step(np.float32([[-1, 1], [0, 0]]))[0]
    np.testing.assert_allclose(obs["observation"], [[0.3, 0.9], [0.6, 0.6]], rtol=1e-6)
    assert inspected("StrictActions-v0", **how).notes == ()  # the ends were tried


def test_what_only_a_wrapper_makes_a_goal_environment_is_one():
    vector = vector_of("MadeByAWrapper-v0", 3, 0)
    obs = vector.reset()
    assert vector.goal_dim == 2
    near = vector.compute_reward(obs["desired_goal"], obs["desired_goal"])
    far = vector.compute_reward(obs["desired_goal"] + 1, obs["desired_goal"])
    assert near.tolist() == [0, 0, 0] and far.tolist() == [-1, -1, -1]


def test_the_outermost_wrappers_reward_counts():
    vector = vector_of("WithAnotherReward-v0", 2, 0)
    obs = vector.reset()
    far = vector.compute_reward(obs["desired_goal"] + 1, obs["desired_goal"])
    assert far.tolist() == [-10, -10]
    task = inspected("WithAnotherReward-v0")
    assert (task.reward_low, task.reward_high) == (-10, 0)


@pytest.mark.parametrize("kind", ["discrete", "box"])
def test_integer_goals_become_vectors_and_still_index_the_environments_table(kind: str):
    how = {"action_space": Discrete, "env_kwargs": {"kind": kind}}
    vector = vector_of("Sites-v0", 6, 0, **how)
    obs = vector.reset()
    assert vector.goal_dim == vector.obs_dim == 1
    assert all(value.dtype == np.float32 and value.shape == (6, 1) for value in obs.values())
    rewards = vector.compute_reward(obs["achieved_goal"], obs["desired_goal"])
    same = (obs["achieved_goal"] == obs["desired_goal"])[:, 0]
    assert np.array_equal(rewards, np.where(same, 0, -1)) and rewards.dtype == np.float32
    assert inspected("Sites-v0", **how)[:3] == (False, -1, 0)


def test_a_discrete_goal_may_be_the_key_of_a_dictionary():
    assert {3: "here"}[as_element(np.float32([3]), Discrete(5))] == "here"


@pytest.mark.parametrize("kind", ["binary", "discrete"])
def test_multi_binary_and_multi_discrete_spaces_become_vectors(kind: str):
    how = {"action_space": Discrete, "env_kwargs": {"kind": kind}}
    vector = vector_of("Bits-v0", 20, 0, **how)
    obs = vector.reset()
    assert obs["observation"].shape == (20, 4) and obs["observation"].dtype == np.float32
    for _ in range(4):  # flip the first wrong bit; bit 0 where none is
        wrong = np.abs(obs["observation"] - obs["desired_goal"]).argmax(1)
        obs, reward, *_, success = vector.step(wrong)
        is_equal = (obs["observation"] == obs["desired_goal"]).all(1)
        again = vector.compute_reward(obs["achieved_goal"], obs["desired_goal"])
        assert np.array_equal(reward, is_equal - 1.0) and np.array_equal(reward, again)
        assert np.array_equal(success, is_equal)
    assert 0 < success.sum() < 20
    assert inspected("Bits-v0", **how)[:3] == (False, -1, 0)


def test_discrete_actions_count_from_zero_whatever_the_environments_first_one_is():
    vector = vector_of("Sites-v0", 2, 0, action_space=Discrete)
    assert vector.action_space == Discrete(2)
    before = vector.reset()["observation"][:, 0]
    after = vector.step(np.array([0, 1]))[0]["observation"][:, 0]
    assert after.tolist() == [before[0], (before[1] + 1) % 5]


def test_arithmetic_on_a_batch_does_not_bypass_what_its_wrappers_do():
    vector = vector_of("WideBatch-v0", 2, 0)
    assert vector.action_space == Box(-1.0, 1.0, (1,)) and isinstance(vector, CopiesVectorEnv)
    vector.reset()
    obs = vector.step(np.float32([[1.0], [-0.25]]))[0]
    assert obs["observation"].tolist() == [[2.0], [-0.5]]
    assert isinstance(vector_of("NoisySeek3-v0", 2, 0), BatchVectorEnv)


def test_only_the_projects_own_tasks_have_cheap_copies():
    for env_id in ("ContinuousSeek5-v0", "NoisySeek-v0", "HandReach-v3"):
        assert vector_of(env_id, 1, 0).has_cheap_copies
    for env_id in ("PointMaze_UMaze-v3", "Walk-v0"):
        assert not vector_of(env_id, 1, 0).has_cheap_copies


# What inspect_task finds


@pytest.mark.parametrize(
    "env_id, is_dense, low, high",
    [
        ("Walk-v0", False, -1, 0),
        ("ZeroOne-v0", False, 0, 1),
        ("ContinuousSeek20-v0", False, -1, 0),  # random steps never come near the goal
        ("RotationSparse3-v0", False, 0, None),  # many values, but 0 in every second step
        ("RotationDense3-v0", True, None, None),
        ("ContinuousSeek2Dense-v0", True, None, 0),
        ("KeylessDense-v0", True, None, 0),  # has no reward_type that would say so
        ("FetchPushDense-v4", True, None, 0),
    ],
)
def test_the_kind_of_reward_is_found_out(env_id: str, is_dense: bool, low: float, high: float):
    task = inspected(env_id)
    assert task.is_dense == is_dense
    assert low in (None, task.reward_low) and high in (None, task.reward_high)


def test_a_low_reward_other_than_minus_one_is_told():
    assert any("c-low is 0" in note for note in inspected("ZeroOne-v0").notes)
    assert inspected("Walk-v0").notes == ()


def test_a_gradient_of_the_reward_is_found_unless_another_reward_lies_above_it():
    assert inspected("ContinuousSeek2Dense-v0").has_reward_gradient
    assert not inspected("KeylessDense-v0").has_reward_gradient
    env = gym.make("ContinuousSeek2Dense-v0")
    assert has_reward_gradient(FlattenGoals(env))
    assert not has_reward_gradient(FlattenGoals(small_envs.TenfoldReward(env)))


def test_what_a_dense_reward_is_put_above_does_not_say_its_kind():
    def make_env() -> gym.Env:
        return small_envs.DistanceReward(envs.make("FetchReach-v4"))

    assert make_env().unwrapped.reward_type == "sparse" and inspect_task(make_env).is_dense


def test_an_array_that_an_environment_changes_in_place_is_not_taken_for_later_steps():
    assert inspected("InPlace-v0") == inspected("Walk-v0")


def test_a_goal_that_moves_only_in_later_steps_ends_the_run():
    assert inspected("LateGoal-v0").notes == ()  # the look does not get there
    vector = vector_of("LateGoal-v0", 3, 0)
    vector.reset()
    with pytest.raises(RuntimeError, match="LateGoal-v0 .*goal changes within an episode"):
        for _ in range(8):
            vector.step(np.float32([[1, -1]] * 3))


def test_a_maze_that_moves_its_goal_once_it_is_reached_is_refused_before_training():
    how = {"env_kwargs": {"continuing_task": True, "reset_target": True}}
    assert_refused("goal changes.*reset_target", inspected, "PointMaze_UMaze-v3", **how)


@pytest.mark.parametrize("entry", ["observation", "achieved_goal", "desired_goal", "reward"])
def test_a_number_that_is_not_finite_is_named_in_the_look_and_in_training(entry: str):
    def make_env(after: int) -> gym.Env:
        return envs.make("TurnsNan-v0", env_kwargs={"entry": entry, "after": after})

    assert_refused(f"{entry}.*(nan|not finite)", inspect_task, partial(make_env, 20))
    inspect_task(partial(make_env, 200))
    vector = make_vector(partial(make_env, 9), 2, 0)
    with pytest.raises(RuntimeError, match=f"TurnsNan-v0 gave nan in its {entry} at step 2 "):
        for step in range(12):
            if step % 8 == 0:
                vector.reset()
            vector.step(np.zeros((2, 2), np.float32))


def test_a_relabelled_reward_that_is_not_finite_is_named():
    vector = vector_of("NanAtGoal-v0", 1, 0)
    goals = np.float32([[1, 2], [3, 4]])
    with pytest.raises(
        RuntimeError, match=r"NanAtGoal-v0 gave nan for the achieved goal \[3. 4.\]"
    ):
        vector.compute_reward(goals, np.float32([[0, 0], [3, 4]]))


def test_goals_that_float32_cannot_tell_apart_are_told_and_not_the_reward():
    (note,) = inspected("FarAway-v0").notes
    assert "its goals reach 3e+07, where float32" in note


def test_an_episode_of_one_step_should_terminate(monkeypatch: pytest.MonkeyPatch):
    def notes() -> str:
        return " ".join(inspected("Walk-v0", max_episode_steps=1).notes)

    assert "Return terminated=True" in notes()
    step = small_envs.Walk.step
    monkeypatch.setattr(small_envs.Walk, "step", lambda *of: (*step(*of)[:2], True, False, {}))
    assert "terminated" not in notes()


def test_an_end_at_a_positive_reward_is_asked_for():
    assert any("compute_terminated" in note for note in inspected("ZeroOne-v0").notes)
    for env_id in ("RotationSparse3-v0", "PointMaze_UMaze-v3", "HandReach-v3"):
        assert not any("compute_terminated" in note for note in inspected(env_id).notes)


def test_a_reward_for_single_goals_is_called_row_by_row_and_said_to_be_slow():
    env_id = "ScalarReward-v0"
    assert any("slow" in note for note in inspected(env_id).notes)
    rng = np.random.default_rng(0)
    for n in (1, 2, 7):
        achieved, desired = rng.uniform(-0.5, 0.5, (2, n, 2)).astype(np.float32)
        expected = vector_of("Walk-v0", 1, 0).compute_reward(achieved, desired)
        assert np.array_equal(vector_of(env_id, 1, 0).compute_reward(achieved, desired), expected)
    assert n == 7 and 0 > expected.sum() > -7


def test_a_reward_for_batches_alone_is_called_once_a_batch():
    task = inspected("BatchesOnly-v0")
    assert task[:3] == (False, -1, 0) and task.notes == ()


@pytest.mark.parametrize(
    "env_id, complaint",
    [
        ("NeedsInfo-v0", "compute_reward needs a step's info .KeyError: 'speed'."),
        ("TwoSizes-v0", r"achieved goal has the shape \(3,\), its desired goal \(2,\)"),
        ("DriveSeek5-v0", r"achieved goal has the shape \(2,\), its desired goal \(15,\)"),
        ("WrongShape-v0", r"its 'observation' has the shape \(3,\), and its space \(2,\)"),
        ("VectorReward-v0", r"a step's reward is an array of shape \(1,\)"),
        ("NanAtGoal-v0", "compute_reward gives nan for the goals .* or for a goal that is reached"),
        ("ManyKeys-v0", r"'is_success' in a step's info is an array of shape \(2,\)"),
        ("EndsNeedInfo-v0", "compute_terminated needs a step's info .KeyError: 'is_success'."),
        ("ChangesGoals-v0", "its compute_reward changes the goals it is given"),
        ("NextGoal-v0", "its desired goal changes within an episode"),
    ],
)
def test_what_cannot_be_learned_from_in_hindsight_is_refused(env_id: str, complaint: str):
    assert_refused(complaint, inspected, env_id)


@pytest.mark.parametrize("method", ["reset", "step", "compute_reward"])
def test_what_an_environment_raises_in_the_look_keeps_its_traceback(method: str, monkeypatch):
    def fail(self: small_envs.Walk, *args, **how) -> None:
        raise ValueError("lost the connection")

    monkeypatch.setattr(small_envs.Walk, method, fail)
    with pytest.raises(ValueError, match="^lost the connection$") as error:
        inspected("Walk-v0")
    assert not isinstance(error.value, BadInput) and error.traceback[-1].name == "fail"


def test_a_part_of_the_reward_outside_of_compute_reward_is_told():
    assert any("outside" in note for note in inspected("CostOfActions-v0").notes)


@pytest.mark.parametrize(
    "env_id", ["Walk-v0", "Keyless-v0", "TellsOfCrashes-v0", "FetchReach-v4", "Corridor-v0"]
)
def test_an_end_that_does_not_depend_on_the_goal_is_none_on_success(env_id: str):
    assert not inspected(env_id).ends_on_success


def test_an_end_on_success_is_found_and_computed_for_any_goals():
    assert inspected("EndsOnSuccess-v0").ends_on_success
    achieved, desired = np.zeros((3, 2), np.float32), np.float32([[0, 0], [0.4, 0], [0.4, 0.4]])
    terminated = vector_of("EndsOnSuccess-v0", 1, 0).compute_terminated(achieved, desired)
    assert terminated.tolist() == [True, True, False]


@pytest.mark.parametrize(
    "env_id, how, is_told",
    [
        ("EndsAtGoal-v0", {}, True),
        ("EndsAtGoal-v0", {"env_kwargs": {"below": 0}}, False),  # other episodes go on at theirs
        ("EndsOnSuccess-v0", {}, False),
        ("EndsAtGoal-v0", {"max_episode_steps": 1}, False),
    ],
)
def test_ends_at_every_goal_that_no_function_knows_are_told_once_to_whoever_relabels(
    env_id: str, how: dict, is_told: bool, capsys: pytest.CaptureFixture
):
    say_once.cache_clear()
    for relabels in (False, True, True):
        vector = vector_of(env_id, 9, 0, **how)
        goal = vector.reset()["desired_goal"]
        if relabels:
            vector.compute_reward(goal, goal)
        for _ in range(5):
            vector.step(np.clip(goal - vector.obs["observation"], -0.5, 0.5))
        printed = capsys.readouterr().out
        assert printed.count("has no compute_terminated") == (is_told and relabels)
        is_told = is_told and not relabels


def test_mazes_end_on_success_only_where_they_do_not_go_on():
    assert not inspected("PointMaze_UMaze-v3").ends_on_success
    task = inspected("PointMaze_UMaze-v3", env_kwargs={"continuing_task": False})
    assert task.ends_on_success and task[:3] == (False, 0, 1)


# Success


def test_a_crash_is_no_success_and_a_reward_at_its_upper_value_is():
    vector = vector_of("Keyless-v0", 2, 0)
    goal = vector.reset()["desired_goal"]
    crashed = False
    for _ in range(3):  # the first copy runs into the wall, the second one to its goal
        way = np.clip(goal - vector.obs["observation"], -1, 1)
        way[0] = [1, 0]
        obs, reward, terminated, _, success = vector.step(way)
        crashed = crashed or terminated[0]
    distance = np.linalg.norm(obs["achieved_goal"] - goal, axis=1)
    assert crashed and success.tolist() == (distance <= 0.5).tolist() == [False, True]


def test_success_of_a_dense_reward_without_a_key_is_unknown():
    vector = vector_of("KeylessDense-v0", 2, 0)
    vector.reset()
    assert np.isnan(vector.step(np.zeros((2, 2), np.float32))[4]).all()
    assert any("unknown" in note for note in inspected("KeylessDense-v0").notes)


def test_success_is_unknown_where_no_reward_says_it():
    vector = vector_of("Unreachable-v0", 2, 0)
    vector.reset()
    assert np.isnan(vector.step(np.zeros((2, 2), np.float32))[4]).all()
    assert any("unknown" in note for note in inspected("Unreachable-v0").notes)


def test_the_key_success_counts_too():
    vector = vector_of("ZeroOne-v0", 2, 0)
    goal = vector.reset()["desired_goal"]
    for _ in range(3):
        *_, success = vector.step(np.clip(goal - vector.obs["observation"], -1, 1))
    assert success.tolist() == [1, 1]


# Random streams


def test_environments_that_draw_from_the_systems_randomness_are_decided_by_the_seed():
    def goals(seed: int) -> ndarray:
        vector = vector_of("SystemRandomness-v0", 3, seed)
        episodes = [vector.reset()["desired_goal"] for _ in range(3)]
        return np.concatenate(episodes)

    assert np.array_equal(goals(1), goals(1))
    assert not np.isin(goals(1), goals(2)).any()
    assert len(np.unique(goals(1), axis=0)) == 9


@pytest.mark.parametrize(
    "env_id", ["ContinuousSeek3-v0", "NoisySeek4-v0", "SystemRandomness-v0", "FetchPush-v4"]
)
def test_a_vector_goes_on_from_a_state_dict_as_the_one_that_it_was_taken_from(env_id: str):
    def episode(vector: envs.VectorEnv) -> list[ndarray]:
        rng = np.random.default_rng(0)
        seen = [*vector.reset().values()]
        for _ in range(vector.max_episode_steps):
            action = rng.uniform(-1, 1, (2, vector.action_dim)).astype(np.float32)
            obs, *rest = vector.step(action)
            seen += [*obs.values(), *rest]
        return seen

    first, second = vector_of(env_id, 2, seed=1), vector_of(env_id, 2, seed=2)
    episode(first)
    state = first.state_dict()
    expected = [episode(first), episode(first)]
    assert not all(map(np.array_equal, episode(second), expected[0]))
    second.load_state_dict(state)
    for episode_of_first in expected:
        assert all(map(np.array_equal, episode(second), episode_of_first))


def test_inspecting_and_playing_do_not_touch_numpys_global_randomness():
    np.random.seed(0)
    before = np.random.get_state()[1].copy()
    inspected("ContinuousSeek2-v0")
    vector_of("SystemRandomness-v0", 2, 0).reset()
    assert np.array_equal(np.random.get_state()[1], before)


# MuJoCo


def test_mujoco_that_cannot_be_loaded_is_one_sentence():
    program = (
        "import envs\ntry: envs.make('HandReach-v3')\nexcept ValueError as error: print(error)"
    )
    environ = {"MUJOCO_GL": "nonsense", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", program]
    result = subprocess.run(command, env=environ, capture_output=True, text=True, check=True)
    assert "MuJoCo cannot be loaded (MUJOCO_GL is 'nonsense'" in result.stdout
    assert result.stderr == "" and len(result.stdout.splitlines()) == 1


def test_the_number_of_threads_of_a_simulator_can_be_limited():
    assert vector_of("FetchReach-v4", 4, 0, num_threads=1).num_threads == 1
    assert vector_of("PointMaze_UMaze-v3", 4, 0, num_threads=3).num_threads == 3
    assert vector_of("Walk-v0", 4, 0, num_threads=3).num_threads == 1  # it holds the lock


def test_their_classes_do_not_replace_ours_when_the_package_is_imported_first():
    program = (
        "import gymnasium_robotics, envs\n"
        "print(type(envs.make('HandReach-v3').unwrapped).__module__)\n"
        "print(type(envs.make('gymnasium_robotics:FetchPush-v4').unwrapped).__module__)"
    )
    result = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True
    )
    assert result.stdout.split() == ["envs.tasks.fast_robotics"] * 2


def test_a_human_can_watch_what_only_draws_pictures(monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("pygame")
    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    env = envs.make("Walk-v0", render_mode="human")
    assert isinstance(env, gym.wrappers.HumanRendering)


def test_a_human_without_a_display_is_told_so(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.setattr("sys.platform", "linux")
    make_env = partial(envs.make, "Walk-v0")
    complaint = "^There is no display to show Walk-v0 on; --capture-video films it.$"
    assert_refused(complaint, watch, make_env, 0, lambda obs: None, episodes=1)


def test_a_window_that_cannot_be_opened_is_one_sentence(monkeypatch: pytest.MonkeyPatch):
    def reset(self: gym.Env, **kwargs) -> None:
        raise gym.error.DependencyNotInstalled("pygame is not installed")

    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.setattr(gym.wrappers.HumanRendering, "reset", reset)
    complaint = "Walk-v0 cannot be shown .pygame is not installed; test_any_environment.py, line"
    assert_refused(complaint, envs.make, "Walk-v0", render_mode="human")
