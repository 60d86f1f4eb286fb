"""Video of a clip: rays by hand, what is where in the picture, and the file read back."""

import os
import subprocess
import sys
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from foveal import motion
from foveal.errors import ArgumentError, UnsupportedError
from foveal.motion import rotations as rot
from foveal.motion.export.camera import Camera, frame_clip
from foveal.motion.export.mp4 import render_frames, write_mp4
from foveal.motion.export.render import COLORS, SoftwareRenderer
from foveal.motion.shapes import world_shapes
from foveal.motion.skeleton import humanoid

SMALL = (160, 120)
_NONE = np.array([[1.0, 0, 0, 0]])


def _clip(count=1, fps=10.0, **changes):
    still = motion.generate("stand", track="kinematic", fps=10)
    values = {
        name: np.repeat(getattr(still, name)[:1], count, axis=0)
        for name in ("root_positions", "root_rotations", "angles", "contacts")
    }
    return replace(still, fps=fps, **(values | changes))


def _limbs(picture):
    """Pixels of color: the limbs, and neither floor nor trunk nor shadow."""
    values = picture.astype(int)
    return values.max(axis=2) - values.min(axis=2) > 40


def _alone(shape):
    """A clip of one blue solid 0.6 m above the floor, and a camera at its height, looking at -x."""
    clip = _clip()
    shin = clip.skeleton.body("left_shin")
    body = replace(clip.skeleton, shapes=(replace(shape, body=shin),))
    straight = replace(clip, skeleton=body, angles=np.zeros((1, 42)), root_rotations=_NONE)
    lift = np.array([0, 0, 0.6]) - straight.positions[:, shin]
    moved = replace(straight, root_positions=straight.root_positions + lift)
    camera = Camera(np.array([0, 0, 0.6]), 2.0, azimuth=180.0, elevation=0.0)
    renderer = SoftwareRenderer(moved, (400, 400), camera)
    return camera, renderer.draw(0).astype(int), renderer._empty


def test_the_camera_by_hand():
    # from x = 2 towards -x: y is to the right, z up; half the height of 1 m is 2 tan(22.5 deg)
    camera = Camera(np.array([0.0, 0.0, 1.0]), 2.0, azimuth=180.0, elevation=0.0)
    np.testing.assert_allclose(camera.eye, (2, 0, 1), atol=1e-12)
    edge = 2 * np.tan(np.radians(22.5))
    points = np.array([[0, 0, 1], [0, 0, 1 + edge], [0, edge, 1], [1, edge / 2, 1]])
    wanted = [(100, 50), (100, 0), (150, 50), (150, 50)]
    np.testing.assert_allclose(camera.project(points, (200, 100)), wanted, atol=1e-9)


def test_every_solid_of_every_frame_is_in_view_and_fills_it():
    clip = motion.generate("jump", track="kinematic", fps=10)
    shapes = world_shapes(clip)
    for size in ((320, 240), (120, 240), (480, 120)):
        camera = frame_clip(shapes, size)
        at = camera.project(shapes.centers.reshape(-1, 3), size)
        assert (at > 0).all()
        assert (at < size).all()
        used = (at.max(axis=0) - at.min(axis=0)) / size
        assert used.max() > 0.45


def test_solids_are_drawn_where_they_are():
    """The centers of many solids, projected, have the color of their side."""
    renderer = SoftwareRenderer(_clip(), (320, 240))
    picture = renderer.draw(0).astype(int)
    shapes, found = renderer.shapes, 0
    at = renderer.camera.project(shapes.centers[0], (320, 240))
    for name, (x, y) in zip(shapes.bodies, at, strict=True):
        side = name.split("_")[0]
        r, g, b = picture[int(y), int(x)]
        if name in ("left_shin", "left_forearm", "left_foot"):  # the camera is on the left
            assert b > r + 60, name
            found += 1
        elif name in ("right_shin", "right_upper_arm", "right_foot"):
            assert r > b + 60, name
            found += 1
        elif side not in COLORS:
            assert max(r, g, b) - min(r, g, b) < 20, name
            found += 1
    assert found >= 12


def test_depth_and_light_by_hand():
    """A ball over the floor: its outline, the side to the sun brighter, its shadow behind it."""
    ball = replace(humanoid().shapes[0], start=(0, 0, 0), end=(0, 0, 0), radius=0.2)
    camera, picture, empty = _alone(ball)
    rows, columns = np.nonzero(_limbs(picture))
    # outline of a ball at distance 2: the tangent's angle is asin(r / d)
    half = 200 / np.tan(np.radians(22.5)) * np.tan(np.arcsin(0.2 / 2.0))
    assert columns.max() - columns.min() + 1 == pytest.approx(2 * half, abs=2)
    assert rows.max() - rows.min() + 1 == pytest.approx(2 * half, abs=2)
    assert (columns.mean(), rows.mean()) == pytest.approx((199.5, 199.5), abs=1)
    # the sun is at -y, which is to the left, and above
    assert picture[180, 180].sum() > picture[200, 200].sum() > picture[222, 222].sum()
    # its shadow is opposite: x = -.6 * .35 / .82, y = +.6 * .45 / .82
    x, y = camera.project(np.array([-0.2561, 0.3293, 0.0]), (400, 400))
    np.testing.assert_allclose(picture[int(y), int(x)] / empty[int(y), int(x)], 0.62, atol=0.02)
    np.testing.assert_array_equal(picture[int(y), int(400 - x)], empty[int(y), int(400 - x)])


def test_a_box_that_is_turned_is_drawn_so():
    turn = rot.from_axis_angle([1.0, 0, 0], np.array(np.pi / 4))
    box = replace(humanoid().shapes[0], kind="box", start=(0, 0, 0), end=(0.001, 0.2, 0.2),
                  turn=tuple(float(v) for v in turn))  # fmt: skip
    _, picture, _ = _alone(box)
    mask = _limbs(picture)
    # a square on its corner: half diagonal 0.2 sqrt(2) m, area 0.16 m^2
    scale = 200 / np.tan(np.radians(22.5)) / 2
    columns = np.nonzero(mask.any(axis=0))[0]
    assert columns[-1] - columns[0] + 1 == pytest.approx(2 * 0.2 * 2**0.5 * scale, abs=4)
    assert mask.sum() == pytest.approx(0.16 * scale**2, rel=0.03)


@pytest.mark.parametrize("fps", [30.0, 23.976])
def test_a_video_read_back_shows_the_figure_where_the_clip_has_it(tmp_path, fps):
    av = pytest.importorskip("av")
    path = np.zeros((5, 3))
    path[:, 1], path[:, 2] = np.linspace(-0.8, 0.8, 5), np.linspace(0.93, 1.33, 5)
    clip = _clip(5, fps, root_positions=path, title="slide")
    clip.save(tmp_path / "clip.mp4")
    with av.open(str(tmp_path / "clip.mp4")) as file:
        (stream,) = file.streams
        assert stream.codec_context.name == "h264"
        assert stream.codec_context.pix_fmt == "yuv420p"
        assert stream.average_rate == Fraction(fps).limit_denominator(1001)
        assert float(stream.duration * stream.time_base) == pytest.approx(5 / fps, abs=1e-3)
        assert file.metadata["title"] == "slide"
        decoded = list(file.decode(video=0))
    assert [float(f.pts * f.time_base) for f in decoded] == pytest.approx(np.arange(5) / fps)
    pictures = [frame.to_ndarray(format="rgb24") for frame in decoded]
    assert pictures[0].shape == (480, 640, 3)
    renderer = SoftwareRenderer(clip, (640, 480))
    wanted = renderer.camera.project(clip.skeleton.center_of_mass(
        clip.positions, clip.world_rotations), (640, 480))  # fmt: skip
    found = np.array([np.argwhere(_limbs(picture)).mean(axis=0)[::-1] for picture in pictures])
    np.testing.assert_allclose(found[:, 0], wanted[:, 0], atol=12)
    np.testing.assert_allclose(np.diff(found, axis=0), np.diff(wanted, axis=0), atol=4)
    assert wanted[-1, 1] - wanted[0, 1] < -40  # up
    assert wanted[-1, 0] - wanted[0, 0] > 100  # to its left, which is on the right


def test_software_pictures_repeat_and_one_that_does_not_fit_is_named(tmp_path):
    clip = _clip(2)
    first, second = (list(render_frames(clip, size=SMALL, renderer="software")) for _ in range(2))
    assert len(first) == 2
    assert first[0].shape == (120, 160, 3)
    assert first[0].dtype == np.uint8
    np.testing.assert_array_equal(first, second)
    with pytest.raises(ArgumentError, match=r"write_mp4: size is \(161, 120\), must be even"):
        write_mp4(clip, tmp_path / "a.mp4", size=(161, 120))
    for size in ((8, 120), (160, 5000)):
        with pytest.raises(ArgumentError, match=r"render_frames: size is .*must be width and hei"):
            render_frames(clip, size=size)
    assert list(tmp_path.iterdir()) == []


_WITHOUT = """
import numpy as np
from foveal import motion
from foveal.errors import UnsupportedError
from foveal.motion.export.mp4 import render_frames
clip = motion.generate("stand", track="kinematic", fps=10)
pictures = [next(render_frames(clip, size=(160, 120), renderer=r)) for r in ("auto", "software")]
np.testing.assert_array_equal(*pictures)
try:
    render_frames(clip, renderer="mujoco")
except UnsupportedError as error:
    print(error)
"""


def test_without_opengl_the_software_draws(tmp_path):
    """`disable` is MuJoCo's own word for no OpenGL."""
    pytest.importorskip("mujoco")
    done = subprocess.run(
        [sys.executable, "-c", _WITHOUT], capture_output=True, text=True, check=False,
        env=os.environ | {"MUJOCO_GL": "disable"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "must have a working OpenGL" in done.stdout


def test_no_encoder_is_said(monkeypatch, tmp_path):
    av = pytest.importorskip("av")
    monkeypatch.setattr(av, "codecs_available", {"mpeg4"})
    with pytest.raises(UnsupportedError, match="no encoder 'libx264', must have one; install"):
        _clip().save(tmp_path / "a.mp4")
    assert list(tmp_path.iterdir()) == []
