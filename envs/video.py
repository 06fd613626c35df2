"""Films episodes of a policy as an animated GIF, which needs no codec and shows up in a README."""

import atexit
import os
from collections.abc import Callable
from pathlib import Path

import gymnasium as gym
import imageio
import numpy as np

from envs.making import make


class Video:
    """A camera with an environment of its own.

    Args:
        env_id: a registered name, see `envs.make`.
        seed: of the filmed episodes.
        observe_achieved_goal, action_space: as in `envs.make`.

    Raises:
        ValueError: the environment cannot be made, or this machine cannot render it; found out at once.
    """

    def __init__(
        self,
        env_id: str,
        seed: int,
        observe_achieved_goal: bool = False,
        action_space: type[gym.Space] = gym.spaces.Box,
    ):
        self.env = make(env_id, observe_achieved_goal, action_space, render_mode="rgb_array")
        atexit.register(
            self.env.close
        )  # MuJoCo's renderers complain when the interpreter tears them down
        self.env.reset(seed=seed)
        try:
            self.env.render()
        except Exception as error:  # each graphics backend fails in its own way
            raise ValueError(
                f"{env_id} cannot be rendered here ({error}); for MuJoCo try MUJOCO_GL=egl or osmesa."
            ) from None

    def record(
        self, act: Callable[[dict[str, np.ndarray]], np.ndarray], path: Path, episodes: int
    ) -> None:
        """Plays whole episodes and writes them to `path`, replacing what is there only when the file is complete.

        Args:
            act: from observations with a leading axis of 1 to actions with a leading axis of 1.
            path: the file, ending in .gif.
            episodes: how many, one after the other.
        """
        frames = []
        for _ in range(episodes):
            obs, _ = self.env.reset()
            frames.append(self.env.render())
            done = False
            while not done:
                action = act({key: value[None] for key, value in obs.items()})[0]
                obs, _, terminated, truncated, _ = self.env.step(action)
                frames.append(self.env.render())
                done = terminated or truncated
            frames += [frames[-1]] * 3  # a moment to see how the episode ended
        unfinished = path.with_name("unfinished-" + path.name)
        imageio.mimsave(
            unfinished, frames, duration=1000 / self.env.metadata.get("render_fps", 25), loop=0
        )
        os.replace(unfinished, path)
