"""The project's own tasks, a file each, which registers its names when it is imported."""

from envs.tasks import (  # noqa: F401  (importing a task registers it)
    bit_flip,
    continuous_seek,
    drive_seek,
    noisy_seek,
    robotics,
    rotation,
)
