"""The environments: importing this package registers them all; `VectorEnv` makes them and `Video` films them."""

from envs import robotics
from envs.making import (
    make,
    register_bit_flip,
    register_continuous_seek,
    register_goal_set,
    resolve,
)
from envs.vector import VectorEnv
from envs.video import Video

__all__ = ["VectorEnv", "Video", "make", "resolve"]

robotics.register()
for d in (5, 10, 20):
    register_continuous_seek(d)
for d in (20, 40):
    register_bit_flip(d)
for kind in ("Drive", "Noisy"):
    register_goal_set(kind)
