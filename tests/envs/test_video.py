"""Films of episodes."""

from functools import partial
from pathlib import Path

import imageio
import numpy as np
import pytest
from conftest import Corridor, printed_by

import envs
from envs import Video
from envs.drawing import BLUE


def test_a_video_has_every_frame(tmp_path: Path):
    shots = []

    def act(obs: dict[str, np.ndarray]) -> np.ndarray:
        assert obs["observation"].shape == (1, 2)  # one environment, with a leading axis
        shots.append(obs)
        return np.ones((1, 1), np.float32) * 0.3

    video = Video(partial(envs.make, "ContinuousSeek1-v0", observe_achieved_goal=True), seed=0)
    for episodes in (2, 1):
        shots.clear()
        (tmp_path / "video.gif").write_bytes(video.film(act, episodes))
        assert len(shots) == episodes * 10
    with imageio.get_reader(tmp_path / "video.gif") as reader:
        # GIF writers merge equal frames, as the last ones of an episode, into one that lasts longer
        durations = [reader.get_meta_data(i)["duration"] for i in range(len(reader))]
        frames = [np.asarray(frame)[..., :3] for frame in reader]
    assert sum(durations) == pytest.approx(200 * (11 + 3))  # 5 frames a second
    assert len(frames) >= 11 and frames[0].shape == (320, 320, 3)
    start, end = frames[0], frames[-1]
    assert start[160, 160] == pytest.approx(np.array(BLUE), abs=8)
    assert end[160, 160] != pytest.approx(np.array(BLUE), abs=8)  # walked away


def test_an_environment_that_cannot_be_rendered_is_refused_at_once(monkeypatch: pytest.MonkeyPatch):
    def render(self: Corridor) -> None:
        raise RuntimeError("no display")

    monkeypatch.setattr(Corridor, "render", render)
    with pytest.raises(ValueError, match="Corridor-v0 cannot be rendered here .*no display"):
        Video(partial(envs.make, "Corridor-v0"), seed=0)


@pytest.mark.parametrize(("backend", "printed"), [("osmesa", "loaded\n"), ("egl", "")])
def test_triton_is_loaded_before_osmesa_and_only_there(tmp_path: Path, backend: str, printed: str):
    (tmp_path / "triton.py").write_text("print('loaded')\n")
    program = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import envs.drawing"
    assert printed_by(program, MUJOCO_GL=backend) == printed
