"""The Fetch and hand environments return what Gymnasium-Robotics' own return.

The dense rewards of Fetch and HandReach have a gradient.
"""

import os

import gymnasium as gym
import mujoco
import numpy as np
import pytest
from conftest import printed_by
from gymnasium_robotics.utils import mujoco_utils

import envs
from envs.tasks import fast_robotics as robotics

envs.resolve("HandReach-v3")  # registers all names of the package

IDS = sorted(
    id
    for id, spec in gym.registry.items()
    if str(spec.entry_point).startswith("envs.tasks.fast_robotics:")
)
DENSE_IDS = [id for id in IDS if "Dense" in id and "Manipulate" not in id]


def ours(env_id: str, **kwargs) -> gym.Env:
    return gym.make(env_id, disable_env_checker=True, **kwargs).unwrapped


def packages(env_id: str, **kwargs) -> gym.Env:
    cls = type(ours(env_id)).__bases__[-1]
    assert cls.__module__.startswith("gymnasium_robotics.")
    return cls(**gym.spec(env_id).kwargs, **kwargs)


def assert_identical(a, b) -> None:
    """Same types, same shapes, same bits; dictionaries and tuples element by element."""
    assert type(a) is type(b)
    if isinstance(a, dict):
        assert a.keys() == b.keys()
        a, b = tuple(a.values()), tuple(b.values())
    if isinstance(a, tuple):
        for x, y in zip(a, b, strict=True):
            assert_identical(x, y)
    elif isinstance(a, np.ndarray | np.generic):
        assert (a.dtype, a.shape, a.tobytes()) == (b.dtype, b.shape, b.tobytes())
    else:
        assert a == b


def random_goals(
    rng: np.random.Generator, env: gym.Env, shape: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray]:
    """Achieved and desired goals (*shape, goal_dim).

    One third is far apart, one third close, one third equal.
    """
    goal_dim = env.observation_space["desired_goal"].shape[0]
    achieved, desired = rng.normal(size=(2, *shape, goal_dim))
    kind = rng.integers(3, size=(*shape, 1))
    near = min(env.distance_threshold, 0.02)
    close = achieved + rng.normal(scale=0.3 * near, size=achieved.shape)
    desired = np.choose(kind, (desired, close, achieved))
    if goal_dim == 7:
        for goals in (achieved, desired):
            goals[..., 3:] /= np.linalg.norm(goals[..., 3:], axis=-1, keepdims=True)
    return achieved, desired


def test_every_current_fetch_and_hand_name_makes_one_of_our_classes():
    assert len(IDS) == 64  # 32 tasks, each with sparse and dense reward
    for env_id, spec in gym.registry.items():
        if env_id.startswith(("Fetch", "Hand")):
            assert env_id in IDS or ":MujocoPy" in spec.entry_point
    assert type(ours("HandReach-v3")) is robotics.MujocoHandReachEnv


@pytest.mark.parametrize("quantity, sizes", [("qpos", (7, 4, 1, 1)), ("qvel", (6, 3, 1, 1))])
def test_joints_of_every_kind_are_read_and_set_whatever_mujocos_version(quantity, sizes):
    model = mujoco.MjModel.from_xml_string(
        """<mujoco><worldbody>
        <body><joint name="free" type="free"/><geom size="1"/></body>
        <body><joint name="ball" type="ball"/><geom size="1"/></body>
        <body><joint name="slide" type="slide"/><joint name="hinge"/><geom size="1"/></body>
        </worldbody></mujoco>"""
    )
    data = mujoco.MjData(model)
    get = getattr(mujoco_utils, f"get_joint_{quantity}")  # the package's module, our functions
    put = getattr(mujoco_utils, f"set_joint_{quantity}")
    numbers = getattr(data, quantity)
    places = np.split(np.arange(sum(sizes)), np.cumsum(sizes)[:-1])
    for name, place in zip(("free", "ball", "slide", "hinge"), places, strict=True):
        numbers[:] = np.arange(sum(sizes))
        value = get(model, data, name)
        put(model, data, name, value + 100)
        assert np.array_equal(np.flatnonzero(numbers >= 100), place)
        assert np.array_equal(value, place)  # a copy


@pytest.mark.parametrize(
    "env_id, expected",
    [
        # Gripper or thumb after 20 random steps, as on MuJoCo 3.11.0
        ("HandReach-v3", [0.9607547219824356, 0.845130655723863, 0.18319176775831733]),
        ("FetchPush-v4", [1.2254187262052096, 0.6040576231265007, 0.4248922445797829]),
        *[
            (env_id, None)  # contacts, which newer releases compute in another way
            for env_id in """HandManipulateBlock-v1 HandManipulateEgg_BooleanTouchSensors-v1
            HandManipulatePen-v1 FetchPickAndPlace-v4 FetchSlide-v4 PointMaze_UMaze-v3
            AntMaze_UMaze-v5 FrankaKitchen-v1 AdroitHandDoor-v1 AdroitHandHammer-v1
            AdroitHandPen-v1 AdroitHandRelocate-v1""".split()
        ],
    ],
)
def test_environments_of_the_package_step_on_any_mujoco_and_to_the_same_place(env_id, expected):
    env = gym.make(envs.resolve(env_id), disable_env_checker=True)
    env.reset(seed=0)
    rng = np.random.default_rng(0)
    for _ in range(20):
        action = rng.uniform(-1, 1, env.action_space.shape).astype(np.float32)
        obs, reward, *_ = env.step(action)
    assert np.isfinite(reward)
    if expected is not None:
        tolerance = 1e-10 if env_id == "HandReach-v3" else 1e-3
        np.testing.assert_allclose(obs["achieved_goal"][-3:], expected, atol=tolerance)


@pytest.mark.parametrize("env_id", IDS)
def test_random_episodes_equal_the_packages_to_the_bit_though_a_neighbour_shares_the_model(env_id):
    a, b, neighbour = ours(env_id), packages(env_id), ours(env_id)
    assert a.observation_space == b.observation_space and a.action_space == b.action_space
    assert a.model is neighbour.model and a.model is not b.model
    rng = np.random.default_rng(0)
    neighbour.reset(seed=99)
    for seed in (0, None, 1):
        assert_identical(a.reset(seed=seed), b.reset(seed=seed))
        for _ in range(12):
            # Beyond the bounds too
            actions = rng.uniform(-1.5, 1.5, (2, *a.action_space.shape)).astype(np.float32)
            neighbour.step(actions[1])
            assert_identical(a.step(actions[0]), b.step(actions[0]))
        names = a._model_names.joint_names
        joints = [a.data.joint(name) for name in names if name.startswith("robot")]
        each = [np.concatenate([getattr(joint, q) for joint in joints]) for q in ("qpos", "qvel")]
        assert_identical(mujoco_utils.robot_get_obs(a.model, a.data, names), tuple(each))


@pytest.mark.parametrize("env_id", [id for id in IDS if "TouchSensors" not in id])
@pytest.mark.parametrize("shape", [(64,), (4, 16), (2, 4, 8)], ids=str)
def test_batched_rewards_equal_the_packages_rewards_of_each_row(env_id, shape):
    env, package = ours(env_id), packages(env_id)
    achieved, desired = random_goals(np.random.default_rng(2), env, shape)
    rewards = env.compute_reward(achieved, desired, {})
    successes = env._is_success(achieved, desired)
    assert rewards.shape == successes.shape == shape
    assert 0 < successes.sum() < successes.size
    for i in np.ndindex(shape):
        row = achieved[i].copy(), desired[i].copy()
        assert_identical(rewards[i], np.asarray(package.compute_reward(*row, {}))[()])
        assert_identical(successes[i], np.asarray(package._is_success(*row))[()])


@pytest.mark.parametrize("env_id", DENSE_IDS)
def test_reward_gradient_equals_finite_differences(env_id):
    env = ours(env_id)
    achieved, desired = random_goals(np.random.default_rng(3), env, (10, 9))
    apart = (achieved != desired).any(-1)
    achieved, desired = (goals[apart][:48].reshape(4, 12, -1) for goals in (achieved, desired))

    step = 1e-6
    steps = step * np.eye(desired.shape[-1])
    numerical = np.stack(
        [
            env.compute_reward(achieved, desired + s, {})
            - env.compute_reward(achieved, desired - s, {})
            for s in steps
        ],
        -1,
    )
    numerical /= 2 * step
    gradient = env.compute_reward_gradient(achieved, desired, {})
    assert gradient.shape == desired.shape
    assert np.abs(numerical).max() > 0.1
    np.testing.assert_allclose(gradient, numerical, rtol=2e-5, atol=2e-5)
    assert not env.compute_reward_gradient(achieved, achieved.copy(), {}).any()


def test_hidden_touch_sensors_leave_the_shared_model_alone():
    env_id = "HandManipulateBlock_ContinuousTouchSensors-v1"
    shown = ours(env_id, touch_visualisation="on_touch")
    hidden = ours(env_id, touch_visualisation="off")
    sites = [site for _, site in hidden._touch_sensor_id_site_id]
    assert (hidden.model.site_rgba[sites, 3] == 0).all()
    assert (shown.model.site_rgba[sites, 3] > 0).all()


def test_registering_again_warns_of_nothing():
    program = (
        "import envs, gymnasium; from envs.tasks import fast_robotics; "
        "fast_robotics.register(); fast_robotics.register(); gymnasium.make('HandReach-v3')"
    )
    assert printed_by(program) == ""


def frames(env: gym.Env) -> list[np.ndarray]:
    rng = np.random.default_rng(5)
    env.reset(seed=5)
    result = [env.render()]
    for action in rng.uniform(-1, 1, (3, *env.action_space.shape)):
        env.step(action)
        result.append(env.render())
    env.close()
    return result


@pytest.mark.parametrize(
    "env_id", ["HandReach-v3", "HandManipulatePen_ContinuousTouchSensors-v1", "FetchPush-v4"]
)
def test_rendered_pictures_equal_the_packages_and_leave_the_shared_model_alone(env_id, monkeypatch):
    monkeypatch.setenv("MUJOCO_GL", os.environ.get("MUJOCO_GL", "egl"))
    try:
        expected = frames(packages(env_id, render_mode="rgb_array", width=672, height=96))
    except Exception as error:  # each graphics backend fails in its own way
        pytest.skip(f"no OpenGL here: {error!r}")
    if os.environ["MUJOCO_GL"] == "egl":
        monkeypatch.delenv("MUJOCO_GL")  # without a display ours must find EGL by itself
        monkeypatch.delenv("DISPLAY", raising=False)
        monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    neighbour = ours(env_id)
    sites, colours = neighbour.model.site_pos.copy(), neighbour.model.geom_rgba.copy()
    pictures = frames(ours(env_id, render_mode="rgb_array", width=672, height=96))
    for picture, other in zip(pictures, expected, strict=True):
        assert picture.shape == (96, 672, 3) and picture.std() > 5
        np.testing.assert_array_equal(picture, other)
    assert not np.array_equal(pictures[0], pictures[-1])
    assert_identical(
        (neighbour.model.site_pos.copy(), neighbour.model.geom_rgba.copy()), (sites, colours)
    )
