"""Draws the pictures of README.md and of docs/, into docs/pictures/.

    python docs/pictures.py environments              one picture of each environment
    python docs/pictures.py film MODEL.pt [MODEL.pt]  agents that reach their goals, side by side
                                                      (a model named twice has other goals)

benchmark/tools/report.py draws the curves. Needs what requirements-dev.txt lists, and for MuJoCo's
environments a display, EGL or OSMesa. The models are those of ddpg_her_reengage.py.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import gymnasium as gym
import imageio
import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
PICTURES = ROOT / "docs" / "pictures"
sys.path.append(str(ROOT))
from envs import make  # noqa: E402
from envs.drawing import find_backend  # noqa: E402

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


def play(model: Path, seed: int) -> list[Image.Image]:
    """Frames of four episodes of a saved model's agent, which its script films."""
    with tempfile.TemporaryDirectory() as folder:
        copy = shutil.copy(model, folder)
        command = [sys.executable, ROOT / "algos" / "ddpg_her_reengage.py", "--evaluate", copy]
        subprocess.run([*command, "--capture-video", "--seed", str(seed)], check=True)
        frames = imageio.mimread(Path(copy).with_suffix(".gif"), memtest=False)
    return [small(frame[..., :3]) for frame in frames]


def film(models: list[Path]) -> None:
    """Shorter films repeat their frames, so that episodes take the same time side by side."""
    films = [play(model, seed) for seed, model in enumerate(models, start=1)]
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
    parser.add_argument("models", nargs="*", type=Path, help="for film: .pt files")
    args = parser.parse_args()
    if args.what == "environments":
        draw_environments()
    elif args.models:
        film(args.models)
    else:
        parser.error("film needs a model.")


if __name__ == "__main__":
    main()
