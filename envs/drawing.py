"""What the tasks' pictures are drawn with: colours, a plane, and MuJoCo's backend."""

import importlib.util
import os
import sys

import numpy as np
from numpy import ndarray
from PIL import Image, ImageDraw

WHITE = (255, 255, 255)
GREY = (190, 190, 190)
DARK = (40, 40, 40)
BLACK = (0, 0, 0)
GREEN = (0, 150, 90)
ORANGE = (230, 130, 0)
BLUE = (0, 90, 200)
CYAN = (90, 215, 235)
MAGENTA = (215, 60, 170)
LARGER = 4  # what is drawn is shrunk by this factor, which softens its edges

# OSMesa and Triton, which PyTorch loads with its first optimiser if it is there, both bring LLVM:
# Triton behind OSMesa, which comes with MuJoCo, is a segmentation fault
if os.environ.get("MUJOCO_GL") == "osmesa" and importlib.util.find_spec("triton"):
    importlib.import_module("triton")


def has_display() -> bool:
    """Whether there is a screen to open a window on, as far as the environment's variables say."""
    return sys.platform != "linux" or bool(os.environ.keys() & {"DISPLAY", "WAYLAND_DISPLAY"})


def find_backend() -> None:
    """Lets MuJoCo draw without a display; call it after MuJoCo is loaded, which may lack EGL."""
    if not has_display():
        os.environ.setdefault("MUJOCO_GL", "egl")


class Plane:
    """A picture of [-edge, edge]^2, the second axis upwards, drawn LARGER than its size in pixels.

    Points are (d,): the first two coordinates are shown; with d = 1 they lie on the middle line.
    """

    def __init__(self, edge: float, size: int):
        self.pixel = 2 * edge / size  # in the plane's unit
        self.image = Image.new("RGB", (LARGER * size, LARGER * size), WHITE)
        self.draw = ImageDraw.Draw(self.image)

    def place(self, point: ndarray) -> tuple[float, float]:
        """Where a point is drawn."""
        x, y = np.append(point, 0.0)[:2] / self.pixel * LARGER
        middle = self.image.width / 2
        return middle + x, middle - y

    def box(self, centre: ndarray, radius: float) -> list[float]:
        """Where a square is drawn, or the circle in it; `radius` is in the plane's unit."""
        x, y = self.place(centre)
        radius = radius / self.pixel * LARGER
        return [x - radius, y - radius, x + radius, y + radius]

    def picture(self) -> ndarray:
        """(size, size, 3) uint8."""
        return np.array(self.image.reduce(LARGER))
