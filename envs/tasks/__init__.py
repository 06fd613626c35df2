"""The project's own tasks, a file each, and the names under which Gymnasium makes them."""

from typing import Any

import gymnasium as gym
from gymnasium.envs.registration import WrapperSpec

SIZES = range(1, 101)  # those with a name of their own
SEEK = "envs.tasks.continuous_seek:ContinuousSeek"
ROTATION = "envs.tasks.rotation:Rotation"
DRIVE = "envs.tasks.drive_seek:DriveSeek"
NOISY = "envs.tasks.noisy_seek:NoisySeek"
FLIP = "envs.tasks.bit_flip:BitFlip"
LIMIT_BY_BITS = WrapperSpec("LimitByBits", "envs.tasks.bit_flip:limit_by_bits", {})


def register_sizes(
    pattern: str, entry_point: str, size: str, steps: int | None, **kwargs: Any
) -> None:
    """Registers a name for each of SIZES: `pattern` with the size in place of {}.

    `size` is the constructor's argument for it, and `steps` the time limit, or None for the size.
    """
    for n in SIZES:
        gym.register(
            pattern.format(n), entry_point, max_episode_steps=steps or n, kwargs={size: n, **kwargs}
        )


register_sizes("ContinuousSeek{}-v0", SEEK, "d", 10)
register_sizes("ContinuousSeek{}Dense-v0", SEEK, "d", 10, reward_type="dense")
register_sizes("RotationDense{}-v0", ROTATION, "d", 10)
register_sizes("RotationSparse{}-v0", ROTATION, "d", 10, reward_type="sparse")
register_sizes("DriveSeek{}-v0", DRIVE, "n_max", 40)
register_sizes("NoisySeek{}-v0", NOISY, "n_max", 40)
register_sizes("BitFlip{}-v0", FLIP, "d", steps=None)
gym.register("ContinuousSeek-v0", SEEK, max_episode_steps=10)
gym.register("Rotation-v0", ROTATION, max_episode_steps=10)
gym.register("DriveSeek-v0", DRIVE, max_episode_steps=40)
gym.register("NoisySeek-v0", NOISY, max_episode_steps=40)
gym.register("BitFlip-v0", FLIP, additional_wrappers=(LIMIT_BY_BITS,))
