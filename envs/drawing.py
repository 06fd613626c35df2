"""The colours and the drawing of the tasks' pictures: all of them (height, width, 3) uint8."""

import importlib.util
import os
import sys

import numpy as np
from numpy import ndarray

WHITE = np.uint8([255, 255, 255])
GREY = np.uint8([190, 190, 190])
DARK = np.uint8([40, 40, 40])
BLACK = np.uint8([0, 0, 0])
GREEN = np.uint8([0, 150, 90])
ORANGE = np.uint8([230, 130, 0])
BLUE = np.uint8([0, 90, 200])
NAVY = np.uint8([0, 70, 200])
CYAN = np.uint8([90, 215, 235])
MAGENTA = np.uint8([215, 60, 170])

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
    return image


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
    x, y, image = plane(1.08 * reach, 320)
    pixel = x[1] - x[0]
    path = [in_plane(state) for state in visited]
    state = path[-1]
    goal = in_plane(goal)
    from_walls = np.abs(to_centre_of_square(x, y) - reach)
    from_goal = to_centre_of_square(x - goal[0], y - goal[1])
    from_state = np.hypot(x - state[0], y - state[1])

    trail = from_walls - pixel  # the walls have the trail's colour
    for start, end in zip(path[:-1], path[1:], strict=True):
        from_line = distance_to_line(x, y, start, end)
        from_start = np.hypot(x - start[0], y - start[1])
        trail = np.minimum(trail, from_line - pixel)
        trail = np.minimum(trail, from_start - 2.5 * pixel)
    frame = np.abs(from_goal - 4 * tolerance) - 1.5 * pixel  # makes a small goal easy to spot
    goal_colour = GREEN if is_reached else ORANGE
    paint(image, trail / pixel, GREY)
    paint(image, frame / pixel, goal_colour)
    paint(image, (from_state - 6 * pixel) / pixel, BLUE)
    # The goal in its true size, above the state: the overlap must be seen
    paint(image, (from_goal - tolerance) / pixel, goal_colour)
    return image.astype(np.uint8)


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
    x, y, image = plane(edge, size)
    slots = desired_goal.reshape(-1, 3)
    present = slots[slots[:, 0] > 0, 1:]
    goals = set(map(tuple, present.astype(int)))
    reached = set(map(tuple, visited.astype(int)))
    fill_cells(image, x, y, goals - reached, CYAN)
    fill_cells(image, x, y, goals & reached, NAVY)
    fill_cells(image, x, y, reached - goals, MAGENTA)
    is_frame = to_centre_of_square(x, y) > edge - 2 * edge / size
    is_agent = np.hypot(x - position[0], y - position[1]) < edge / 32
    image[is_frame] = GREY
    image[is_agent] = BLACK
    return image.astype(np.uint8)


def plane(edge: float, size: int) -> tuple[ndarray, ndarray, ndarray]:
    """[-edge, edge]^2 as x (size,), y (size, 1), which points up, and a white image, float32."""
    x = np.linspace(-edge, edge, size, dtype=np.float32)
    y = -x[:, None]
    image = np.full((size, size, 3), WHITE, np.float32)
    return x, y, image


def in_plane(point: ndarray) -> ndarray:
    """The first two coordinates of a point (d,); with d = 1 it lies on the middle line."""
    return np.append(point, 0.0)[:2].astype(np.float32)


def to_centre_of_square(x: ndarray, y: ndarray) -> ndarray:
    """max(|x|, |y|), whose level lines are squares: (size,), (size, 1) -> (size, size)."""
    return np.maximum(np.abs(x), np.abs(y))


def distance_to_line(x: ndarray, y: ndarray, start: ndarray, end: ndarray) -> ndarray:
    """Of every pixel to the straight line between two points (2,): (size, size)."""
    step_x, step_y = end - start
    x = x - start[0]
    y = y - start[1]
    along = (x * step_x + y * step_y) / max(step_x**2 + step_y**2, 1e-9)
    along = np.clip(along, 0.0, 1.0)
    return np.hypot(x - along * step_x, y - along * step_y)


def paint(image: ndarray, distance: ndarray, colour: ndarray) -> None:
    """Fills where the signed distance to a shape, in pixels, is negative, with soft edges."""
    cover = np.clip(0.5 - distance, 0.0, 1.0)[..., None]
    image[:] = (1 - cover) * image + cover * colour


def fill_cells(image: ndarray, x: ndarray, y: ndarray, cells: set, colour: ndarray) -> None:
    """Fills the squares of 0.8 around the integer cells."""
    for cell_x, cell_y in cells:
        distance = to_centre_of_square(x - cell_x, y - cell_y)
        image[distance < 0.4] = colour
