"""Draws the pictures of README.md and of docs/, into docs/pictures/.

    python docs/pictures.py environments              one picture of each environment
    python docs/pictures.py film MODEL.pt [MODEL.pt]  agents that reach their goals, side by side
                                                      (a model named twice has other goals)

benchmark/tools/report.py draws the curves. Needs what requirements-dev.txt lists, and for MuJoCo's
environments a display, EGL or OSMesa. The models are those of ddpg_her_reengage.py.
"""

import argparse
import sys
from pathlib import Path

import gymnasium as gym
import imageio
import numpy as np
import torch
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
PICTURES = ROOT / "docs" / "pictures"
sys.path += [str(ROOT), str(ROOT / "algos")]
import ddpg_her_reengage as reengage  # noqa: E402

from envs import make  # noqa: E402
from envs.drawing import find_backend  # noqa: E402
from envs.run import flags as launch  # noqa: E402

ENVIRONMENTS = {  # -> steps of random play before the picture
    "ContinuousSeek5-v0": 6,
    "BitFlip20-v0": 6,
    "DriveSeek-v0": 30,
    "NoisySeek-v0": 30,
    "HandReach-v3": 4,
    "HandManipulateBlock-v1": 4,
    "FetchReach-v4": 4,
    "FetchPush-v4": 4,
}
SIDE = 240  # of a picture, in pixels


def small(frame: np.ndarray) -> Image.Image:
    """A frame (height, width, 3) as high as SIDE; wide ones as wide as twice that."""
    image = Image.fromarray(frame)
    width = min(2 * SIDE, SIDE * image.width // image.height)
    height = width * image.height // image.width
    return image.resize((width, height), Image.Resampling.LANCZOS)


def draw_environments() -> None:
    for env_id, steps in ENVIRONMENTS.items():
        kind = gym.spaces.Discrete if env_id.startswith("BitFlip") else gym.spaces.Box
        env = make(env_id, action_space=kind, render_mode="rgb_array")
        find_backend()
        env.action_space.seed(1)
        env.reset(seed=3)
        for _ in range(steps):
            env.step(env.action_space.sample())
        name = env_id.rpartition("-")[0].rstrip("0123456789")
        image = small(env.render()).quantize(128, dither=Image.Dither.NONE)
        image.save(PICTURES / f"{name}.png", optimize=True)
        env.close()


def play(path: str, seed: int, episodes: int, hold: int) -> list[Image.Image]:
    """Frames of a saved model's agent; each episode's last one stays for `hold` frames."""
    settings = launch.load_model(path, reengage.Args)["settings"]
    args = reengage.Args(**settings, evaluate=path, seed=seed)
    device, make_env = launch.start(args)
    one = launch.make_eval_envs(make_env, args)
    agent = reengage.Agent(one, args, device)
    launch.load_networks(args, actor=agent.actor)
    env = make_env(render_mode="rgb_array")
    find_backend()
    frames = []
    for episode in range(episodes):
        obs, _ = env.reset(seed=args.seed + episode)
        is_over = False
        while not is_over:
            frames.append(small(env.render()))
            rows = {key: value[None].astype(np.float32) for key, value in obs.items()}
            obs, _, terminated, truncated, _ = env.step(agent.actor.act(rows)[0])
            is_over = terminated or truncated
        frames += [small(env.render())] * hold
    env.close()
    return frames


def film(paths: list[str]) -> None:
    """Shorter films repeat their frames, so that episodes take the same time side by side."""
    films = [play(path, 100 * i, episodes=4, hold=4) for i, path in enumerate(paths)]
    longest = max(len(frames) for frames in films)
    together = []
    for i in range(longest):
        parts = [np.asarray(frames[i * len(frames) // longest]) for frames in films]
        together.append(np.concatenate(parts, axis=1))
    target = PICTURES / "agents.gif"
    seconds = 12
    imageio.mimsave(target, together, duration=1000 * seconds / longest, loop=0)
    print(f"{target.relative_to(ROOT)}: {target.stat().st_size / 1e6:.2f} MB")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=["environments", "film"])
    parser.add_argument("models", nargs="*", help="for film: .pt files")
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.what == "environments":
        draw_environments()
    elif args.models:
        film(args.models)
    else:
        parser.error("film needs a model.")


if __name__ == "__main__":
    main()
