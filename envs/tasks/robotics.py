"""Gymnasium-Robotics: its names, which the package registers, and where they lead.

The Fetch and hand environments run the classes of `envs.tasks.fast_robotics`; the others are the
package's own. The package loads MuJoCo, so it is imported when one of its names is asked for.
"""

import os

from envs.registry import RENAMED, task

RENAMED["HandReach-v2"] = "HandReach-v3"
RENAMED["HandReachDense-v2"] = "HandReachDense-v3"


@task(r"(?:Fetch|Hand|PointMaze_|AntMaze_|Adroit|FrankaKitchen).*")
def register() -> None:
    """Registers all names of the package; calling it again changes nothing.

    Raises:
        ValueError: MuJoCo cannot be loaded.
    """
    try:
        from envs.tasks import fast_robotics
    except (
        Exception
    ) as error:  # RuntimeError for a wrong MUJOCO_GL; each system fails in its own way
        backend = os.environ.get("MUJOCO_GL", "")
        raise ValueError(
            f"MuJoCo cannot be loaded (MUJOCO_GL is '{backend}'; unset it, or try egl): {error}"
        ) from None
    fast_robotics.register()
