"""The names of a task that exists in any size."""

from typing import Any

import gymnasium as gym

SIZES = range(1, 101)  # those with a name of their own


def register_sizes(
    pattern: str, entry_point: str, size: str, steps: int | None, **kwargs: Any
) -> None:
    """Registers a name for each of SIZES.

    Args:
        pattern: of the names, with {} for the size.
        entry_point: of the class, module:class.
        size: the constructor's argument for the size.
        steps: the time limit; the size if it is None.
        kwargs: further arguments of the constructor.
    """
    for n in SIZES:
        gym.register(
            pattern.format(n), entry_point, max_episode_steps=steps or n, kwargs={size: n, **kwargs}
        )
