"""The colours and the drawing of the tasks' pictures: all of them (height, width, 3) uint8."""

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


def draw_bits(state: ndarray, goal: ndarray) -> ndarray:
    """State (d,) above goal (d,), a 1 is dark, below them whether they agree: (64, 16 d, 3)."""
    state, goal = state[:, None], goal[:, None]
    rows = [
        np.where(state == 1, DARK, WHITE),
        np.where(goal == 1, DARK, WHITE),
        np.where(state == goal, GREEN, ORANGE),
    ]
    image = np.repeat(np.stack(rows), [24, 24, 16], axis=0)
    image = np.repeat(image, 16, axis=1)
    image[:, ::16] = GREY  # lines between the bits
    image[[0, 24, 48]] = GREY
    return image.astype(np.uint8)


def draw_walk(
    visited: list[ndarray],
    goal: ndarray,
    is_reached: bool,
    reach: float,
    tolerance: float,
) -> ndarray:
    """A walk in the first two dimensions of a box: (320, 320, 3).

    The trail is grey, the state blue, and the goal orange, or green when it is reached.

    Args:
        visited: the states so far, each (d,); the last one is where the agent is.
        goal: (d,).
        is_reached: whether the goal counts as reached, in all dimensions.
        reach: the box is [-reach, reach]^d.
        tolerance: half the width of the goal.
    """
    plane = Plane(1.08 * reach, 320)
    draw = plane.draw
    walls = plane.box(np.zeros(2), reach)
    path = [plane.place(state) for state in visited]
    draw.rectangle(walls, outline=GREY, width=2 * LARGER)
    draw.line(path, GREY, width=2 * LARGER)
    for state in visited[:-1]:
        draw.ellipse(plane.box(state, 2.5 * plane.pixel), GREY)
    goal_colour = GREEN if is_reached else ORANGE
    frame = plane.box(goal, 4 * tolerance)  # makes a small goal easy to spot
    draw.rectangle(frame, outline=goal_colour, width=3 * LARGER)
    draw.ellipse(plane.box(visited[-1], 6 * plane.pixel), BLUE)
    # The goal in its true size, above the state: the overlap must be seen
    draw.rectangle(plane.box(goal, tolerance), goal_colour)
    return plane.picture()


def draw_goal_set(
    visited: ndarray, position: ndarray, desired_goal: ndarray, reach: int, size: int
) -> ndarray:
    """An episode so far, as in the paper's figure 4: (size, size, 3).

    Goals are cyan, blue once reached; other visited cells are magenta; the agent is a black dot.

    Args:
        visited: rounded positions, (steps, 2).
        position: the agent's, (2,).
        desired_goal: the goal set, (3 n_max,), see `envs.tasks.goal_set`.
        reach: cells from -reach to reach are shown, in both dimensions.
        size: of the picture, in pixels.
    """
    edge = reach + 0.5
    plane = Plane(edge, size)
    slots = desired_goal.reshape(-1, 3)
    present = slots[slots[:, 0] > 0, 1:]
    goals = set(map(tuple, present))
    reached = set(map(tuple, visited))
    colours = {CYAN: goals - reached, BLUE: goals & reached, MAGENTA: reached - goals}
    for colour, cells in colours.items():
        for cell in cells:
            plane.draw.rectangle(plane.box(cell, 0.4), colour)
    frame = plane.box(np.zeros(2), edge)
    plane.draw.rectangle(frame, outline=GREY, width=LARGER)
    plane.draw.ellipse(plane.box(position, edge / 32), BLACK)
    return plane.picture()


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
