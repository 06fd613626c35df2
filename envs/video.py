"""Films episodes of a policy as an animated GIF, which needs no codec and shows up in a README."""

import atexit
from collections.abc import Callable

import gymnasium as gym
import imageio
from numpy import ndarray

from envs.drawing import find_backend, has_display
from envs.messages import BadInput, in_one_line, place_of
from envs.vector_env import CopiesVectorEnv
from envs.wrappers import Obs


class Video:
    """A camera with an environment of its own, from a `make_env` that takes a `render_mode`.

    Raises BadInput if the environment cannot be made, or not be rendered on this machine.
    """

    def __init__(self, make_env: Callable[..., gym.Env], seed: int):
        self.copies = rendered(make_env, seed, "rgb_array")
        self.env = self.copies.env
        # Before the renderer's own exit: it complains when the interpreter tears it down
        atexit.register(self.env.close)

    def film(self, act: Callable[[Obs], ndarray], episodes: int) -> bytes:
        """Plays whole episodes, one after the other; returns them as a GIF file's content.

        `act` maps observations to actions, both with a leading axis of 1.
        """
        frames = []
        for _ in range(episodes):
            frames += pictures_of_episode(self.copies, act)
            frames += [frames[-1]] * 3  # a moment to see how the episode ended
        duration = 1000 / self.env.metadata.get("render_fps", 25)
        return imageio.mimwrite("<bytes>", frames, format="gif", duration=duration, loop=0)


def watch(
    make_env: Callable[..., gym.Env], seed: int, act: Callable[[Obs], ndarray], episodes: int
) -> None:
    """Plays episodes in a window; BadInput if the environment has none, or there is no display."""
    if not has_display():  # simulators would end the process
        raise BadInput("There is no display to show it on; --capture-video films it.")
    copies = rendered(make_env, seed, "human")
    for _ in range(episodes):
        pictures_of_episode(copies, act)
    copies.close()


def rendered(make_env: Callable[..., gym.Env], seed: int, render_mode: str) -> CopiesVectorEnv:
    """A single copy that has shown its first frame. BadInput if it cannot."""
    env = make_env(render_mode=render_mode)
    copies = CopiesVectorEnv(env, make_env, 1, seed, num_threads=1)
    find_backend()
    try:
        copies.reset()
        frame = env.render()
        if render_mode == "rgb_array" and not isinstance(frame, ndarray):
            raise TypeError("render() gives no picture")
    except BadInput:  # of the environment, not of its pictures
        raise
    except Exception as error:  # each graphics backend fails in its own way
        env.close()
        raise BadInput(
            f"{env.spec.id} cannot be rendered here ({in_one_line(error)}; {place_of(error)}); "
            "for MuJoCo try MUJOCO_GL=egl or osmesa."
        ) from error
    return copies


def pictures_of_episode(copies: CopiesVectorEnv, act: Callable[[Obs], ndarray]) -> list:
    """Plays an episode of a single copy, and renders its start and each step."""
    obs = copies.reset()
    pictures = [copies.env.render()]
    while not copies.ended[0]:
        obs, *_ = copies.step(act(obs))
        pictures.append(copies.env.render())
    return pictures
