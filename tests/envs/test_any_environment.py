"""Other people's environments: each kind works, or one sentence says why it does not."""

from collections.abc import Callable
from functools import partial

import gymnasium as gym
import numpy as np
import pytest
import small_envs
from conftest import printed_by, vector_of
from gymnasium.spaces import Box, Discrete
from numpy import ndarray

import envs
from envs import Task, inspect_task, make_vector
from envs.messages import BadInput, say_once
from envs.registry import check_actions
from envs.vector_env import BatchVectorEnv
from envs.video import watch
from envs.wrappers import FlattenGoals, as_element, has_reward_gradient, success_of


def inspected(env_id: str, **how) -> Task:
    return inspect_task(partial(envs.make, env_id, **how))


def assert_refused(complaint: str, function: Callable, *args, **how) -> None:
    """A call raises BadInput: one sentence that matches `complaint`."""
    with pytest.raises(BadInput, match=complaint) as error:
        function(*args, **how)
    assert len(str(error.value).splitlines()) == 1


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
        (
            "OtherSpace-v0",
            {"env_kwargs": {"key": "observation", "shape": (8, 8, 3)}},
            r"'observation' is Box\(0, 255, \(8, 8, 3\), uint8\), and only vectors",
        ),
        ("NoGoals-v0", {}, "is not a goal environment: its observation is a Box"),
        ("Endless-v0", {}, "no registered time limit: give --max-episode-steps"),
        ("Walk-v0", {"action_space": Discrete}, "has a Box action space, not a Discrete"),
        ("no_such_module:Walk-v0", {}, "importing 'no_such_module' failed .*PYTHONPATH"),
        ("small_envs:Run-v0", {}, "No environment 'small_envs:Run-v0'"),
        ("Nowhere-v0", {}, "No environment 'Nowhere-v0'"),
        ("..:Walk-v0", {}, "importing .* failed .a relative name."),
        ("HandReach", {}, "No environment 'HandReach'"),
        ("no name at all", {}, "No environment 'no name at all'"),
        ("ContinuousSeek05-v0", {}, "No environment 'ContinuousSeek05-v0'"),
        ("ContinuousSeek-v0", {"env_kwargs": {"d": 0}}, "ContinuousSeek needs d >= 1"),
        ("ContinuousSeek-v0", {"env_kwargs": {"reward_type": "no"}}, "a sparse or dense reward"),
        ("ContinuousSeek-v0", {"env_kwargs": {"d": "x"}}, "made with {'d': 'x'}: TypeError"),
        ("DriveSeek-v0", {"env_kwargs": {"n_max": 442}}, "from 1 to 441, not 442"),
        ("NoisySeek-v0", {"env_kwargs": {"n_max": 0}}, "at least 1, not 0"),
        ("RotationDense1-v0", {}, "Rotation needs d >= 2"),
    ],
)
def test_what_cannot_be_made_is_refused_with_one_sentence(env_id: str, how: dict, complaint: str):
    assert_refused(complaint, envs.make, env_id, **how)


@pytest.mark.parametrize(
    "space",
    [
        Box(0, 10, (2,), np.int64),
        Box(-1, np.inf, (2,)),
        Box(-1, 1, (2, 2)),
        Box(np.float32([-1, 2]), np.float32([1, 2])),  # no room between two bounds
        Box(-np.finfo(np.float32).max, np.finfo(np.float32).max, (2,)),
    ],
)
def test_actions_that_cannot_be_rescaled_are_refused(space: Box):
    env = envs.make("Walk-v0")
    env.action_space = space
    assert_refused("not a bounded vector of real numbers", check_actions, env, "A", Box)


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


def test_the_outermost_wrappers_reward_counts():
    vector = vector_of("WithAnotherReward-v0", 2, 0)
    obs = vector.reset()
    far = vector.compute_reward(obs["desired_goal"] + 1, obs["desired_goal"])
    assert far.tolist() == [-10, -10]
    task = inspected("WithAnotherReward-v0")
    assert (task.reward_low, task.reward_high) == (-10, 0)


@pytest.mark.parametrize("kind", small_envs.Sites.SPACES)
def test_integer_goals_become_vectors_and_still_index_the_environments_table(kind: str):
    how = {"action_space": Discrete, "env_kwargs": {"kind": kind}}
    vector = vector_of("Sites-v0", 6, 0, **how)
    before = vector.reset()
    assert vector.action_space == Discrete(2)  # whatever the environment's first action is
    actions = np.arange(6) % 2
    obs, rewards, *_, success = vector.step(actions)
    sites = 2 if kind == "MultiBinary" else 5
    assert np.array_equal(obs["observation"][:, 0], (before["observation"][:, 0] + actions) % sites)
    assert all(value.dtype == np.float32 and value.shape == (6, 1) for value in obs.values())
    same = (obs["achieved_goal"] == obs["desired_goal"])[:, 0]
    assert 0 < same.sum() < 6 and np.array_equal(success, same)
    assert np.array_equal(rewards, np.where(same, 0, -1))
    again = vector.compute_reward(obs["achieved_goal"], obs["desired_goal"])
    assert np.array_equal(rewards, again) and again.dtype == np.float32
    assert inspected("Sites-v0", **how)[:3] == (False, -1, 0)


def test_a_discrete_goal_may_be_the_key_of_a_dictionary():
    assert {3: "here"}[as_element(np.float32([3]), Discrete(5))] == "here"


def test_arithmetic_on_a_batch_does_not_bypass_what_its_wrappers_do():
    def make_env() -> gym.Env:
        return small_envs.TenfoldReward(envs.make("RotationDense3-v0"))

    vector = make_vector(make_env, 2, 0)
    goal = vector.reset()["desired_goal"]
    obs, reward, *_ = vector.step(np.zeros((2, 3), np.float32))
    np.testing.assert_allclose(reward, 10 * (obs["achieved_goal"] * goal).sum(1), rtol=1e-6)
    assert isinstance(vector_of("RotationDense3-v0", 2, 0), BatchVectorEnv)


@pytest.mark.parametrize(
    "env_id, copies",
    [
        ("ContinuousSeek5-v0", 6),
        ("NoisySeek-v0", 6),
        ("HandReach-v3", 6),
        ("PointMaze_UMaze-v3", 4),
        ("Walk-v0", 4),
    ],
)
def test_only_the_projects_own_tasks_are_evaluated_with_a_copy_an_episode(env_id: str, copies: int):
    vector, episodes = envs.make_eval_envs(partial(envs.make, env_id), 6, seed=0)
    assert (vector.num_envs, episodes) == (copies, 6)


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
        ("KeylessDense-v0", True, None, 0),  # calls itself sparse
        ("FetchPushDense-v4", True, None, 0),
    ],
)
def test_the_kind_of_reward_is_found_out(env_id: str, is_dense: bool, low: float, high: float):
    task = inspected(env_id)
    assert task.is_dense == is_dense
    assert low in (None, task.reward_low) and high in (None, task.reward_high)


@pytest.mark.parametrize(
    "env_id, note",
    [
        ("ZeroOne-v0", "so --c-low is 0 if it is not given"),
        ("CostOfActions-v0", "relabelled transitions lack the part outside of it"),
        ("ScalarReward-v0", "takes one pair of goals at a time"),
    ],
)
def test_what_a_user_may_not_know_is_told(env_id: str, note: str):
    assert any(note in told for told in inspected(env_id).notes)
    assert inspected("Walk-v0").notes == ()


def test_an_array_that_an_environment_changes_in_place_is_not_taken_for_later_steps():
    assert inspected("InPlace-v0") == inspected("Walk-v0")


PAIR = np.float32([1, np.nan])


@pytest.mark.parametrize(
    "entry, value, complaint",
    [
        ("observation", PAIR, "gave nan in its observation"),
        ("achieved_goal", PAIR, "gave nan in its achieved_goal"),
        ("desired_goal", np.full(2, np.nan), "gave nan in its desired_goal"),
        ("reward", np.nan, "gave nan in its reward"),
        ("desired_goal", np.ones(2), "goal changes within an episode"),
    ],
)
def test_what_a_simulator_spoils_after_a_while_is_named_in_the_look_and_in_training(
    entry: str, value: np.ndarray, complaint: str
):
    def make_env(after: int) -> gym.Env:
        how = {"entry": entry, "value": value, "after": after}
        return envs.make("Spoiled-v0", env_kwargs=how)

    if "nan" in complaint:
        complaint += " at step {} of an episode"
    assert_refused(f"Spoiled-v0 .*{complaint.format(5)}", inspect_task, partial(make_env, 20))
    inspect_task(partial(make_env, 200))
    vector = make_vector(partial(make_env, 9), 2, 0)
    action = np.zeros((2, 2), np.float32)
    vector.reset()
    for _ in range(8):
        vector.step(action)
    vector.reset()
    vector.step(action)
    assert_refused(f"Spoiled-v0 .*{complaint.format(2)}", vector.step, action)


def test_a_relabelled_reward_that_is_not_finite_is_named():
    vector = vector_of("NanAtGoal-v0", 1, 0)
    goals = np.float32([[1, 2], [3, 4]])
    complaint = r"NanAtGoal-v0 gave nan for the achieved goal \[3. 4.\]"
    assert_refused(complaint, vector.compute_reward, goals, np.float32([[0, 0], [3, 4]]))


def test_a_gradient_that_is_not_the_rewards_is_noted():
    def notes(fault: str) -> str:
        return " ".join(inspected("DenseGradient-v0", env_kwargs={"fault": fault}).notes)

    noted = "the reward changes by -1 per unit of the desired goal, where the gradient says 1."
    assert noted in notes("sign") and "compute_reward_gradient" not in notes("")


def test_where_an_episode_ends_is_one_value_for_each_row(monkeypatch: pytest.MonkeyPatch):
    def ends(env: gym.Env, achieved_goal: np.ndarray, *_: object) -> np.ndarray:
        return (achieved_goal[..., :1] > 1).astype(float)

    monkeypatch.setattr(small_envs.TellsOfCrashes, "compute_terminated", ends)
    assert_refused(r"compute_terminated gives the shape \(\d+, 1\)", inspected, "TellsOfCrashes-v0")
    ends_as_numbers = lambda *goals: ends(*goals)[..., 0]  # noqa: E731
    monkeypatch.setattr(small_envs.TellsOfCrashes, "compute_terminated", ends_as_numbers)
    assert inspected("TellsOfCrashes-v0").ends_on_success is False


@pytest.mark.parametrize("env_id", ["Walk-v0", "ContinuousSeek2-v0"])
def test_a_policy_that_has_diverged_is_not_blamed_on_the_environment(env_id: str):
    vector = vector_of(env_id, 2, 0)
    vector.reset()
    with pytest.raises(RuntimeError, match="The policy's actions are not finite"):
        vector.step(np.float32([[0, 0], [0, np.nan]]))


def test_an_episode_of_one_step_should_terminate(monkeypatch: pytest.MonkeyPatch):
    def notes() -> str:
        return " ".join(inspected("Walk-v0", max_episode_steps=1).notes)

    assert "Return terminated=True" in notes()
    step = small_envs.Walk.step
    monkeypatch.setattr(small_envs.Walk, "step", lambda *of: (*step(*of)[:2], True, False, {}))
    assert "terminated" not in notes()


def test_a_reward_for_single_goals_is_called_row_by_row():
    env_id = "ScalarReward-v0"
    rng = np.random.default_rng(0)
    for n in (1, 2, 7):
        achieved, desired = rng.uniform(-0.5, 0.5, (2, n, 2)).astype(np.float32)
        expected = vector_of("Walk-v0", 1, 0).compute_reward(achieved, desired)
        assert np.array_equal(vector_of(env_id, 1, 0).compute_reward(achieved, desired), expected)
    assert n == 7 and 0 > expected.sum() > -7


def test_a_reward_that_works_in_place_does_not_change_the_goals():
    vector = vector_of("ChangesGoals-v0", 1, 0)
    vector.reset()
    goals = np.float32([[1, 2], [3, 4]])
    assert vector.compute_reward(goals, goals + np.float32(0.1)).tolist() == [0, 0]
    assert goals.tolist() == [[1, 2], [3, 4]]


def test_a_reward_for_batches_alone_is_called_once_a_batch():
    task = inspected("BatchesOnly-v0")
    assert task[:3] == (False, -1, 0) and task.notes == ()


@pytest.mark.parametrize(
    "env_id, how, complaint",
    [
        ("NeedsInfo-v0", {}, "compute_reward fails without a step's info .KeyError: 'is_"),
        (
            "EndsNeedInfo-v0",
            {},
            "compute_terminated fails without a step's info .KeyError: 'is_",
        ),
        ("DriveSeek5-v0", {}, r"achieved goal has the shape \(2,\), its desired goal \(15,\)"),
        (
            "Spoiled-v0",
            {"entry": "observation", "value": np.zeros(3)},
            r"its 'observation' has the shape \(3,\), its space \(2,\)",
        ),
        (
            "PointMaze_UMaze-v3",
            {"continuing_task": True, "reset_target": True},
            "moves goals within an episode: leave out reset_target",
        ),
        ("NanAtGoal-v0", {}, "compute_reward of NanAtGoal-v0 gave nan for the achieved goal"),
        (
            "DenseGradient-v0",
            {"fault": "column"},
            r"compute_reward_gradient gives the shape \(\d+, 1\) for \d+ .* not \(\d+, 2\)",
        ),
        (
            "DenseGradient-v0",
            {"fault": "nan"},
            "compute_reward_gradient of DenseGradient-v0 gave .*nan.* for the achieved goal",
        ),
    ],
)
def test_what_cannot_be_learned_from_in_hindsight_is_refused(
    env_id: str, how: dict, complaint: str
):
    assert_refused(complaint, inspected, env_id, env_kwargs=how)


@pytest.mark.parametrize("method", ["reset", "step", "compute_reward"])
def test_what_an_environment_raises_in_the_look_keeps_its_traceback(method: str, monkeypatch):
    def fail(self: small_envs.Walk, *args, **how) -> None:
        raise ValueError("lost the connection")

    monkeypatch.setattr(small_envs.Walk, method, fail)
    with pytest.raises(ValueError, match="^lost the connection$") as error:
        inspected("Walk-v0")
    assert not isinstance(error.value, BadInput) and error.traceback[-1].name == "fail"


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
        obs = vector.reset()
        goal = obs["desired_goal"]
        if relabels:
            vector.compute_reward(goal, goal)
        for _ in range(5):
            obs, *_ = vector.step(np.clip(goal - obs["observation"], -0.5, 0.5))
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
    obs = vector.reset()
    goal = obs["desired_goal"]
    crashed = False
    for _ in range(3):  # the first copy runs into the wall, the second one to its goal
        way = np.clip(goal - obs["observation"], -1, 1)
        way[0] = [1, 0]
        obs, reward, terminated, _, success = vector.step(way)
        crashed = crashed or terminated[0]
    distance = np.linalg.norm(obs["achieved_goal"] - goal, axis=1)
    assert crashed and success.tolist() == (distance <= 0.5).tolist() == [False, True]


@pytest.mark.parametrize("env_id", ["KeylessDense-v0", "Unreachable-v0"])
def test_success_is_unknown_where_neither_a_key_nor_the_reward_says_it(env_id: str):
    vector = vector_of(env_id, 2, 0)
    vector.reset()
    assert np.isnan(vector.step(np.zeros((2, 2), np.float32))[4]).all()
    assert any("unknown" in note for note in inspected(env_id).notes)


@pytest.mark.parametrize(
    "info, success",
    [
        ({}, np.nan),
        ({"is_success": None}, np.nan),
        ({"is_success": np.nan}, np.nan),
        ({"is_success": np.array([True])}, 1),
        ({"is_success": 3, "success": 0}, 1),
        ({"success": np.float32(0)}, 0),
    ],
)
def test_success_is_one_or_zero_or_unknown(info: dict, success: float):
    assert np.array_equal(success_of(info), success, equal_nan=True)


def test_a_gradient_of_the_reward_is_found_unless_another_reward_lies_above_it():
    env = gym.make("ContinuousSeek2Dense-v0")
    assert has_reward_gradient(FlattenGoals(env))
    assert not has_reward_gradient(FlattenGoals(small_envs.TenfoldReward(env)))


def test_the_key_success_counts_too():
    vector = vector_of("ZeroOne-v0", 2, 0)
    obs = vector.reset()
    goal = obs["desired_goal"]
    for _ in range(3):
        obs, *_, success = vector.step(np.clip(goal - obs["observation"], -1, 1))
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


# MuJoCo


def test_mujoco_that_cannot_be_loaded_is_one_sentence():
    program = (
        "import envs\ntry: envs.make('HandReach-v3')\nexcept ValueError as error: print(error)"
    )
    printed = printed_by(program, MUJOCO_GL="nonsense")
    assert "MuJoCo cannot be loaded (MUJOCO_GL is 'nonsense'" in printed
    assert len(printed.splitlines()) == 1


def test_the_number_of_threads_of_a_simulator_can_be_limited():
    assert vector_of("FetchReach-v4", 4, 0, num_threads=1).num_threads == 1
    assert vector_of("PointMaze_UMaze-v3", 4, 0, num_threads=3).num_threads == 3
    assert vector_of("Walk-v0", 4, 0, num_threads=3).num_threads == 1  # it holds the lock


def test_their_classes_do_not_replace_ours_when_the_package_is_imported_first():
    program = (
        "from farama_notifications import notifications; notifications.clear()\n"
        "import gymnasium_robotics, envs\n"
        "for name in ('HandReach-v3', 'gymnasium_robotics:FetchPush-v4'):\n"
        "    print(type(envs.make(name).unwrapped).__module__)"
    )
    assert printed_by(program).split() == ["envs.tasks.fast_robotics"] * 2


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
    complaint = "^There is no display to show it on; --capture-video films it.$"
    assert_refused(complaint, watch, make_env, 0, lambda obs: None, episodes=1)


def test_a_window_that_cannot_be_opened_is_one_sentence(monkeypatch: pytest.MonkeyPatch):
    def reset(self: gym.Env, **kwargs) -> None:
        raise gym.error.DependencyNotInstalled("pygame is not installed")

    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.setattr(gym.wrappers.HumanRendering, "reset", reset)
    make_env = partial(envs.make, "Walk-v0")
    complaint = "Walk-v0 cannot be rendered here .pygame is not installed; test_any_environment.py"
    assert_refused(complaint, watch, make_env, 0, lambda obs: None, episodes=1)
