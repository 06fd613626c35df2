"""The environments: importing this package registers the project's own; see `make`, `make_vector`.

Tasks are in `envs.tasks`, a file each; everything beside them is machinery that all tasks share.
What a run needs around the learning is here too: `launch` before it, `RunFolder` during it.
"""

from envs import launch, tasks  # noqa: F401  (tasks: registers them)
from envs.inspection import Task, inspect_task
from envs.launch import RunArgs
from envs.registry import make, resolve
from envs.run_folder import RunFolder
from envs.vector_env import VectorEnv, make_vector
from envs.video import Video

__all__ = [
    "RunArgs",
    "RunFolder",
    "Task",
    "VectorEnv",
    "Video",
    "inspect_task",
    "launch",
    "make",
    "make_vector",
    "resolve",
]
