"""The environments: importing this package registers the project's own; see `make`, `make_vector`.

Tasks are in `envs.tasks`, a file each; everything beside them is machinery that all tasks share.
What surrounds a run, whatever it learns, is in `envs.run`; what only many runs at once need is in
`envs.many`.
"""

from envs import tasks  # noqa: F401  (registers them)
from envs.inspection import Task, inspect_task
from envs.registry import make, resolve
from envs.vector_env import VectorEnv, make_eval_envs, make_vector
from envs.video import Video

__all__ = [
    "Task",
    "VectorEnv",
    "Video",
    "inspect_task",
    "make",
    "make_eval_envs",
    "make_vector",
    "resolve",
]
