"""Gymnasium-Robotics: its names, which the package registers, and where they lead.

The Fetch and hand environments run the classes of `envs.tasks.fast_robotics`; the others are the
package's own. The package loads MuJoCo, so it is imported when one of its names is asked for.
"""

import os

from envs.messages import BadInput, in_one_line

NAMES = ("Fetch", "Hand", "PointMaze_", "AntMaze_", "Adroit", "FrankaKitchen")  # their beginnings
RENAMED = {"HandReach-v2": "HandReach-v3"}  # names that the package has dropped -> successors


def register() -> None:
    """Registers all names of the package; calling it again changes nothing.

    Raises:
        BadInput: MuJoCo cannot be loaded.
    """
    try:
        from envs.tasks import fast_robotics
    except Exception as error:  # each graphics backend fails in its own way
        backend = os.environ.get("MUJOCO_GL", "")
        raise BadInput(
            f"MuJoCo cannot be loaded (MUJOCO_GL is '{backend}'; unset it, or try egl): "
            f"{in_one_line(error)}"
        ) from error
    fast_robotics.register()
