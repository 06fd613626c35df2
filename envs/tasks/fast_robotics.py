"""Gymnasium-Robotics' Fetch and Shadow hand environments: same numbers, less time and memory.

`register()` repairs what MuJoCo 4 breaks in the package and lets it look a robot's joints up once,
not by name at every step, for all of its environments. It puts the parts below in front of the
classes behind its names (HandReach-v3, FetchPushDense-v4, ...). Then

- environments that run the same model file share one compiled model until they are rendered, so
  hundreds of them fit in memory. Whoever writes to `env.unwrapped.model` writes to all of them:
  give the environment a copy first;
- `compute_reward` takes any number of leading axes and equals the row by row calls (the package's
  HandManipulate takes one at most, and for the pen mixes rows up);
- Fetch and HandReach have `compute_reward_gradient`, the gradient of the dense reward with respect
  to the desired goal (for equation 8).
"""

import copy
import functools
from collections.abc import Callable

import gymnasium as gym
import mujoco
import numpy as np
from farama_notifications import notifications
from numpy import ndarray

from envs.drawing import find_backend
from envs.rewards import negative_distance_gradient

# The package prints it when imported: news of Adroit, absent here
notifications.pop("gymnasium_robotics", None)
import gymnasium_robotics  # noqa: E402
from gymnasium_robotics.envs.shadow_dexterous_hand import MujocoManipulateEnv  # noqa: E402
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

    compute_reward_gradient = staticmethod(negative_distance_gradient)


class Manipulate(SharedModel):
    """HandManipulate: bring an object into a pose.

    A goal is the object's position in metres and its rotation, a unit quaternion w, x, y, z: (7,).
    """

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
                euler = quat2euler(quat_a)
                euler[..., 2] = quat2euler(quat_b)[..., 2]
                quat_a = euler2quat(euler)
            w, x, y, z = np.moveaxis(quat_a * quat_b, -1, 0)
            real_part = w + x + y + z  # of a b*
            d_rot = 2 * np.arccos(np.clip(real_part, -1.0, 1.0))
        return d_pos, d_rot


@functools.cache
def ours(entry_point: str) -> str:
    """Makes our class, of the same name, in place of one of the package's; its entry point."""
    cls = gym.envs.registration.load_env_creator(entry_point)
    name = cls.__name__
    part = Manipulate if issubclass(cls, MujocoManipulateEnv) else DistanceReward
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


@functools.lru_cache
def robot_joints(model: mujoco.MjModel, joint_names: tuple[str, ...]) -> list[int]:
    """The joints of a robot in a model, looked up once and not at every step."""
    kind = mujoco.mjtObj.mjOBJ_JOINT
    names = [name for name in joint_names if name.startswith("robot")]
    return [mujoco.mj_name2id(model, kind, name) for name in names]


def robot_get_obs(
    model: mujoco.MjModel, data: mujoco.MjData, joint_names: tuple[str, ...]
) -> tuple[ndarray, ndarray]:
    """Positions and velocities of a robot's joints, of one number each: (joints,), (joints,)."""
    joints = robot_joints(model, joint_names)
    return data.qpos[model.jnt_qposadr[joints]], data.qvel[model.jnt_dofadr[joints]]


def register() -> None:
    """Makes `gym.make` build our classes under the package's names.

    All of the package's environments get our functions of joints, since its own fail from MuJoCo 4
    on: they look a joint's type up in a tuple of enumeration members, to which an integer no longer
    compares equal. Calling this again changes nothing.
    """
    for quantity in ("qpos", "qvel"):
        get, put = joint_functions(quantity)
        setattr(mujoco_utils, f"get_joint_{quantity}", get)
        setattr(mujoco_utils, f"set_joint_{quantity}", put)
    mujoco_utils.robot_get_obs = robot_get_obs
    gym.register_envs(gymnasium_robotics)
    families = ("gymnasium_robotics.envs.fetch.", "gymnasium_robotics.envs.shadow_dexterous_hand.")
    for spec in gym.registry.values():
        entry_point = str(spec.entry_point)
        if entry_point.startswith(families) and ":MujocoPy" not in entry_point:
            spec.entry_point = ours(entry_point)
