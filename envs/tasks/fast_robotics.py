"""Gymnasium-Robotics' Fetch and Shadow hand environments: same numbers, less time and memory.

`register()` repairs what MuJoCo 4 breaks in the package, for all of its environments, and puts the
parts below in front of the classes behind its names (HandReach-v3, FetchPushDense-v4, ...). Then

- the hands look joints and sites up once, not by name at every step; what they return is the
  package's to the bit;
- environments that run the same model file share one compiled model until they are rendered, so
  hundreds of them fit in memory. Whoever writes to `env.unwrapped.model` writes to all of them:
  give the environment a copy first;
- `compute_reward` takes any number of leading axes and equals the row by row calls (the package's
  HandManipulate takes one at most, and for the pen mixes rows up);
- `compute_reward_gradient` is the gradient of the dense reward with respect to the desired goal
  (for equation 8).
"""

import copy
import functools
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import mujoco
import numpy as np
from farama_notifications import notifications
from numpy import ndarray

from envs.drawing import find_backend
from envs.rewards import negative_distance_gradient
from envs.wrappers import Obs, as_obs

# The package prints it when imported: news of Adroit, absent here
notifications.pop("gymnasium_robotics", None)
import gymnasium_robotics  # noqa: E402
from gymnasium_robotics.envs.fetch import MujocoFetchEnv  # noqa: E402
from gymnasium_robotics.envs.shadow_dexterous_hand import (  # noqa: E402
    MujocoManipulateEnv,
    MujocoManipulateTouchSensorsEnv,
    reach,
)
from gymnasium_robotics.utils import mujoco_utils  # noqa: E402
from gymnasium_robotics.utils.mujoco_utils import MujocoModelNames  # noqa: E402
from gymnasium_robotics.utils.rotations import euler2quat, quat2euler  # noqa: E402


@functools.cache
def compile_model(
    path: str, touch_visualisation: str | None
) -> tuple[mujoco.MjModel, MujocoModelNames]:
    """The model in an XML file, compiled once, and its names.

    Touch sensors that are not shown recolour their model, so that they have one of their own.
    """
    model = mujoco.MjModel.from_xml_path(path)
    return model, MujocoModelNames(model)


class SharedModel:
    """Shares the compiled model between environments.

    Rendering moves sites in the model, so it takes a copy first.
    """

    def _initialize_simulation(self) -> None:
        touch_visualisation = getattr(self, "touch_visualisation", None)
        self.model, self._model_names = compile_model(self.fullpath, touch_visualisation)
        self.owns_model = False
        self.data = mujoco.MjData(self.model)
        self._env_setup(initial_qpos=self.initial_qpos)
        self.initial_time = self.data.time
        self.initial_qpos = self.data.qpos.copy()
        self.initial_qvel = self.data.qvel.copy()

    def render(self) -> ndarray | None:
        if not self.owns_model:
            self.model = copy.copy(self.model)
            self.model.vis.global_.offwidth = self.width
            self.model.vis.global_.offheight = self.height
            self.mujoco_renderer.model = self.model
            self.owns_model = True
            find_backend()
        return super().render()


class DistanceReward(SharedModel):
    """The gradient of the dense reward -||achieved - desired||, as Fetch and HandReach have it."""

    def compute_reward_gradient(
        self, achieved_goal: ndarray, desired_goal: ndarray, info: Any
    ) -> ndarray:
        """dR/d desired_goal, zero where the goals coincide: (..., n), (..., n) -> (..., n)."""
        return negative_distance_gradient(achieved_goal, desired_goal)


class FastHand(SharedModel):
    """What the hand environments have in common: 24 joints, 20 position actuators."""

    def _env_setup(self, initial_qpos: dict[str, float]) -> None:
        joint_ids = self._model_names.joint_name2id
        joints = [joint_ids[name] for name in joint_ids if name.startswith("robot")]
        self.robot_qpos = self.model.jnt_qposadr[joints]
        self.observed_qvel = self.model.jnt_dofadr[joints]
        self.ctrl_low, self.ctrl_high = self.model.actuator_ctrlrange.T.copy()
        self.ctrl_center = (self.ctrl_high + self.ctrl_low) / 2.0
        self.ctrl_half_range = (self.ctrl_high - self.ctrl_low) / 2.0
        super()._env_setup(initial_qpos)

    def _set_action(self, action: ndarray) -> None:
        if self.relative_control:
            super()._set_action(action)
        else:
            ctrl = self.ctrl_center + action * self.ctrl_half_range
            self.data.ctrl[:] = np.minimum(np.maximum(ctrl, self.ctrl_low), self.ctrl_high)

    def _get_obs(self) -> Obs:
        achieved_goal = self._get_achieved_goal()
        parts = [
            self.data.qpos[self.robot_qpos],
            self.data.qvel[self.observed_qvel],
            achieved_goal,
            *self._get_touch(),
        ]
        return as_obs(np.concatenate(parts), achieved_goal, self.goal.copy())

    def _get_touch(self) -> tuple[ndarray, ...]:
        return ()


class Reach(FastHand, DistanceReward):
    """HandReach: bring the thumb and one finger together.

    A goal is five fingertip positions (15,), in metres.
    """

    def _env_setup(self, initial_qpos: dict[str, float]) -> None:
        site_ids = self._model_names.site_name2id
        self.fingertips = [site_ids[name] for name in reach.FINGERTIP_SITE_NAMES]
        super()._env_setup(initial_qpos)

    def _get_achieved_goal(self) -> ndarray:
        return self.data.site_xpos[self.fingertips].ravel()


class Manipulate(FastHand):
    """HandManipulate: bring an object into a pose.

    A goal is the object's position in metres and its rotation, a unit quaternion w, x, y, z: (7,).
    """

    def _env_setup(self, initial_qpos: dict[str, float]) -> None:
        joint = self._model_names.joint_name2id["object:joint"]
        qpos = self.model.jnt_qposadr[joint]
        qvel = self.model.jnt_dofadr[joint]
        self.object_qpos = slice(qpos, qpos + 7)
        super()._env_setup(initial_qpos)
        self.observed_qvel = np.append(self.observed_qvel, range(qvel, qvel + 6))

    def _get_achieved_goal(self) -> ndarray:
        return self.data.qpos[self.object_qpos].copy()

    def _goal_distance(self, goal_a: ndarray, goal_b: ndarray) -> tuple[ndarray, ndarray]:
        """Distances in position (metres) and rotation (radians, up to 2 pi).

        (..., 7), (..., 7) -> (...), (...).
        """
        d_pos = np.zeros_like(goal_a[..., 0])
        d_rot = np.zeros_like(goal_b[..., 0])
        if self.target_position != "ignore":
            d_pos = np.linalg.norm(goal_a[..., :3] - goal_b[..., :3], axis=-1)
        if self.target_rotation != "ignore":
            quat_a = goal_a[..., 3:]
            quat_b = goal_b[..., 3:]
            if self.ignore_z_target_rotation:
                quat_a = with_z_angle_of(quat_b, quat_a)
            w, x, y, z = np.moveaxis(quat_a * quat_b, -1, 0)
            real_part = w + x + y + z  # of a b*
            d_rot = 2 * np.arccos(np.clip(real_part, -1.0, 1.0))
        return d_pos, d_rot

    def compute_reward_gradient(
        self, achieved_goal: ndarray, desired_goal: ndarray, info: Any
    ) -> ndarray:
        """dR/d desired_goal of the dense reward R = -(10 d_pos + d_rot).

        (..., 7), (..., 7) -> (..., 7). The quaternion's part is tangent to the unit sphere: goals
        never leave it, and across it the formula's slope is 2 / sin(d_rot / 2), without bound near
        success. Parts whose distance is zero or ignored are zero, and so is the quaternion's where
        the two are opposite (d_rot = 2 pi, a kink).
        """
        gradient = np.zeros(np.shape(desired_goal))
        if self.target_position != "ignore":
            achieved, desired = achieved_goal[..., :3], desired_goal[..., :3]
            gradient[..., :3] = 10.0 * negative_distance_gradient(achieved, desired)
        if self.target_rotation != "ignore":
            achieved, desired = unit(achieved_goal[..., 3:]), unit(desired_goal[..., 3:])
            gradient[..., 3:] = self._rotation_gradient(achieved, desired)
        return gradient

    def _rotation_gradient(self, achieved: ndarray, desired: ndarray) -> ndarray:
        """Gradient of -d_rot = -2 arccos(a . g) on the unit sphere, by the desired rotation g.

        (..., 4), (..., 4) -> (..., 4).
        """
        turn = 0.0
        if self.ignore_z_target_rotation:
            achieved = with_z_angle_of(desired, achieved)
            turn = turn_slope(achieved, desired)
        along = (achieved * desired).sum(-1, keepdims=True)
        tangent = achieved - along * desired
        # sin(d_rot / 2) without cancellation
        sine_half = np.linalg.norm(tangent, axis=-1, keepdims=True)
        slope = tangent + turn
        gradient = np.zeros_like(slope)
        return np.divide(2 * slope, sine_half, out=gradient, where=sine_half > 1e-8)


class ManipulateTouch(Manipulate):
    """HandManipulate whose observation ends with the 92 touch sensors."""

    def _env_setup(self, initial_qpos: dict[str, float]) -> None:
        sensor_ids = self._model_names.sensor_name2id
        self.touch_sensors = [sensor_ids[name] for name in sensor_ids if "robot0:TS_" in name]
        super()._env_setup(initial_qpos)

    def _get_touch(self) -> tuple[ndarray, ...]:
        touch = self.data.sensordata[self.touch_sensors]
        if self.touch_get_obs == "sensordata":
            return (touch,)
        if self.touch_get_obs == "boolean":
            return (touch > 0.0,)
        return (np.log(touch + 1.0),) if self.touch_get_obs == "log" else ()


def unit(quat: ndarray) -> ndarray:
    """Quaternions (..., 4) scaled to length 1, in float64."""
    quat = np.asarray(quat, np.float64)
    return quat / np.linalg.norm(quat, axis=-1, keepdims=True)


def with_z_angle_of(other: ndarray, quat: ndarray) -> ndarray:
    """`quat` with its third Euler angle (xyz) replaced by the other quaternion's.

    (..., 4), (..., 4) -> (..., 4).
    """
    euler = quat2euler(quat)
    euler[..., 2] = quat2euler(other)[..., 2]
    return euler2quat(euler)


def turn_slope(achieved: ndarray, desired: ndarray) -> ndarray:
    """What a . g gains by the desired rotation g when a turns along.

    (..., 4), (..., 4) -> (..., 4); a turns with the Euler angle that it takes from g:
    psi(g) = -arctan2(sine, cosine), and da/dpsi = a k / 2.
    """
    w, x, y, z = np.moveaxis(desired, -1, 0)
    sine = 2 * (x * y - w * z)
    cosine = w * w + x * x - y * y - z * z
    d_sine = 2 * np.stack((-z, y, x, -w), -1)
    d_cosine = 2 * np.stack((w, x, -y, -z), -1)
    d_psi = sine[..., None] * d_cosine - cosine[..., None] * d_sine
    length_squared = sine**2 + cosine**2
    d_psi /= np.maximum(length_squared, 1e-12)[..., None]  # gimbal lock: psi jumps, stay finite
    w, x, y, z = np.moveaxis(achieved, -1, 0)
    turn = np.stack((-z, y, -x, w), -1) / 2
    return (turn * desired).sum(-1, keepdims=True) * d_psi


PARTS = {  # of the package -> what goes before the classes that derive from it
    reach.MujocoHandReachEnv: Reach,
    MujocoManipulateTouchSensorsEnv: ManipulateTouch,
    MujocoManipulateEnv: Manipulate,
    MujocoFetchEnv: DistanceReward,
}


@functools.cache
def ours(entry_point: str) -> str:
    """Makes our class, of the same name, in place of one of the package's; its entry point."""
    cls = gym.envs.registration.load_env_creator(entry_point)
    name = cls.__name__
    part = next(part for base, part in PARTS.items() if issubclass(cls, base))
    globals()[name] = type(name, (part, cls), {"__module__": __name__})
    return f"{__name__}:{name}"


def joint_functions(quantity: str) -> tuple[Callable[..., ndarray], Callable[..., None]]:
    """To get and to set a joint's qpos or qvel.

    A position has the shape (7,) where the joint is free, (4,) for a ball, else (1,); a velocity
    (6,), (3,) or (1,).
    """

    def get(model: mujoco.MjModel, data: mujoco.MjData, name: str) -> ndarray:
        return getattr(data.joint(name), quantity).copy()

    def put(model: mujoco.MjModel, data: mujoco.MjData, name: str, value: ndarray | float) -> None:
        getattr(data.joint(name), quantity)[:] = value

    return get, put


def register() -> None:
    """Makes `gym.make` build our classes under the package's names.

    The package's own functions of joints fail from MuJoCo 4 on: they look a joint's type up in a
    tuple of enumeration members, to which an integer no longer compares equal. All of its
    environments get ours. Calling this again changes nothing.
    """
    for quantity in ("qpos", "qvel"):
        get, put = joint_functions(quantity)
        setattr(mujoco_utils, f"get_joint_{quantity}", get)
        setattr(mujoco_utils, f"set_joint_{quantity}", put)
    gym.register_envs(gymnasium_robotics)
    families = ("gymnasium_robotics.envs.fetch.", "gymnasium_robotics.envs.shadow_dexterous_hand.")
    for spec in gym.registry.values():
        entry_point = str(spec.entry_point)
        if entry_point.startswith(families) and ":MujocoPy" not in entry_point:
            spec.entry_point = ours(entry_point)
