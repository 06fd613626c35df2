"""Saved models: reading, loading and showing them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from torch import Tensor, nn

from envs.messages import BadInput, say
from envs.run.files import load, write
from envs.video import Video, watch
from envs.wrappers import Obs


def load_model(path: str, script: str) -> dict[str, Any]:
    """A model that a script saved: "settings", and the state of each network by name.

    Raises BadInput if it is something else, damaged, or another script's.
    """
    if Path(path).suffix != ".pt":  # a film lies beside it under the same name
        raise BadInput(f"{path} is not a model: its name does not end in .pt.")
    model = load(path, "model")
    if not isinstance(model.get("settings"), dict):
        raise BadInput(f"{path} is not a model, such as model.pt in a run's folder.")
    if model.get("script") != script:
        raise BadInput(f"{path} is of {model.get('script')}.py, not of {script}.py.")
    return model


def load_networks(args: Any, script: str, **networks: nn.Module) -> None:
    """Loads the weights of args.evaluate into networks, by their names in the file.

    Raises BadInput if they do not fit.
    """
    model = load_model(args.evaluate, Path(script).stem)
    for name, network in networks.items():
        try:
            network.load_state_dict(model[name])
        except (KeyError, RuntimeError):
            raise BadInput(f"{args.evaluate} does not fit the networks it describes.") from None


def show(
    args: Any, make_env: Callable[..., gym.Env], act: Callable[[Obs], np.ndarray], **numbers: float
) -> None:
    """What --evaluate does: prints the metrics, films beside the model, opens a window."""
    numbers = {name: x.item() if isinstance(x, Tensor) else x for name, x in numbers.items()}
    say("  ".join(f"{name} {round(value, 3)}" for name, value in numbers.items()))
    seed = args.seed + 2_000_000
    if args.capture_video:
        film = Path(args.evaluate).with_suffix(".gif")
        content = Video(make_env, seed).film(act, episodes=4)
        try:
            write(film, content)
        except OSError as error:
            raise BadInput(f"{film} cannot be written: {error.strerror}.") from None
        say(f"film: {film}")
    if args.render == "human":
        watch(make_env, seed, act, episodes=4)
