"""A clip as H.264 video; drawn by MuJoCo where OpenGL is set up, by NumPy anywhere else."""

import os
import warnings
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal
from xml.etree import ElementTree as ET

import numpy as np
from numpy.typing import NDArray

from foveal._core.lazy import require
from foveal.errors import ArgumentError, UnsupportedError
from foveal.motion.body.mjcf import to_mjcf
from foveal.motion.clip import Clip
from foveal.motion.export.camera import frame_clip
from foveal.motion.export.mjcf import positions_and_speeds
from foveal.motion.export.render import COLORS, SoftwareRenderer
from foveal.motion.shapes import world_shapes

Renderer = Literal["auto", "software", "mujoco"]
RENDERERS: tuple[Renderer, ...] = ("auto", "software", "mujoco")
SIZE = (640, 480)
MAX_SIDE = 4096
_DECOR = (
    ("asset", '<texture type="skybox" builtin="gradient" width="64" height="384" '
     'rgb1=".96 .97 .97" rgb2=".8 .86 .93"/>'),
    ("asset", '<texture name="floor" type="2d" builtin="checker" width="256" height="256" '
     'rgb1=".86 .86 .85" rgb2=".8 .81 .81"/>'),
    ("asset", '<material name="floor" texture="floor" texrepeat="1 1" texuniform="true"/>'),
    ("worldbody", '<light directional="true" pos="0 0 5" dir="-.35 .45 -.82" '
     'diffuse=".6 .6 .6" castshadow="false"/>'),
)  # fmt: skip
_NO_OPENGL = (RuntimeError, ImportError, AttributeError, OSError, ValueError, TypeError)


def render_frames(
    clip: Clip, *, size: tuple[int, int] = SIZE, renderer: Renderer = "auto"
) -> Iterator[NDArray[np.uint8]]:
    """Draw every frame of a clip, from one place that sees them all.

    Args:
        clip: The clip.
        size: Width and height, pixels, in [16, 4096].
        renderer: "software" needs no OpenGL and draws the same pixels everywhere; "mujoco" is
            MuJoCo's; "auto" is MuJoCo's where `MUJOCO_GL` is set and it works, else software.

    Yields: uint8 (height, width, 3).

    Raises:
        ArgumentError: the size or the renderer is not allowed.
        UnsupportedError: `renderer="mujoco"` without a working OpenGL.
        MissingExtraError: `renderer="mujoco"` without MuJoCo.
    """
    if renderer not in RENDERERS:
        raise ArgumentError(
            f"render_frames: renderer is {renderer!r}, must be one of {RENDERERS}; pick one"
        )
    if len(size) != 2 or any(n != int(n) or not 16 <= n <= MAX_SIDE for n in size):
        raise ArgumentError(
            f"render_frames: size is {size}, must be width and height in [16, {MAX_SIDE}]"
        )
    size = (int(size[0]), int(size[1]))
    if renderer == "mujoco" or (renderer == "auto" and os.environ.get("MUJOCO_GL")):
        try:
            return _by_mujoco(clip, size)
        except (UnsupportedError, ImportError):
            if renderer == "mujoco":
                raise
    return SoftwareRenderer(clip, size).frames()


def _by_mujoco(clip: Clip, size: tuple[int, int]) -> Iterator[NDArray[np.uint8]]:
    mujoco: Any = require("mujoco", "motion", "MuJoCo's renderer")
    root = ET.fromstring(to_mjcf(clip.skeleton))
    visual = ET.SubElement(root, "visual")
    ET.SubElement(visual, "global", offwidth=str(size[0]), offheight=str(size[1]))
    ET.SubElement(visual, "headlight", ambient=".35 .35 .35", diffuse=".4 .4 .4")
    for tag, values in _DECOR:
        parent = root.find(tag)
        parent = ET.SubElement(root, tag) if parent is None else parent
        parent.append(ET.fromstring(values))
    model = mujoco.MjModel.from_xml_string(ET.tostring(root, encoding="unicode"))
    for g in range(model.ngeom):
        side = model.body(int(model.geom_bodyid[g])).name.split("_")[0]
        if model.geom_bodyid[g]:
            model.geom_rgba[g, :3] = np.array(COLORS.get(side, COLORS["trunk"])) / 255.0
        else:
            model.geom_matid[g] = model.material("floor").id
        if "_sole_" in model.geom(g).name:
            model.geom_rgba[g, 3] = 0.0
    try:
        with warnings.catch_warnings():  # glfw's, where there is no display
            warnings.simplefilter("ignore")
            drawing: Any = mujoco.Renderer(model, height=size[1], width=size[0])
    except (*_NO_OPENGL, mujoco.FatalError) as error:
        raise UnsupportedError(
            f"render_frames: renderer is 'mujoco', must have a working OpenGL ({error}); "
            "set MUJOCO_GL to egl or osmesa, or take 'software'"
        ) from error
    view = frame_clip(world_shapes(clip), size)
    camera = mujoco.MjvCamera()
    camera.lookat[:], camera.distance = view.lookat, view.distance
    camera.azimuth, camera.elevation = view.azimuth, view.elevation
    joints = [model.joint(j).name for j in range(model.njnt)]
    qpos, _ = positions_and_speeds(clip, joints[1:])

    def frames() -> Iterator[NDArray[np.uint8]]:
        data = mujoco.MjData(model)
        with drawing:
            for row in qpos:
                data.qpos[:] = row
                mujoco.mj_forward(model, data)
                drawing.update_scene(data, camera=camera)
                yield np.array(drawing.render())

    return frames()


def write_mp4(
    clip: Clip, path: str | Path, *, size: tuple[int, int] = SIZE, renderer: Renderer = "auto"
) -> None:
    """Write a clip as H.264 in MP4 (yuv420p, one picture a frame at the clip's rate).

    Args:
        clip: The clip.
        path: Target, ends in .mp4.
        size: Width and height, pixels, even.
        renderer: See `render_frames`.

    Raises:
        ArgumentError: the size or the renderer is not allowed.
        MissingExtraError: PyAV is not installed.
        UnsupportedError: PyAV has no H.264 encoder, or `renderer="mujoco"` has no OpenGL.
    """
    av: Any = require("av", "video", "writing a clip as .mp4")
    if any(n % 2 for n in size):
        raise ArgumentError(f"write_mp4: size is {size}, must be even; H.264 halves the colours")
    if "libx264" not in av.codecs_available:
        raise UnsupportedError(
            "write_mp4: PyAV has no encoder 'libx264', must have one; install PyAV's own wheel"
        )
    rate = Fraction(clip.fps).limit_denominator(1001)
    frames = render_frames(clip, size=size, renderer=renderer)
    with av.open(str(path), "w", format="mp4", options={"movflags": "+faststart"}) as out:
        out.metadata["title"] = clip.title
        stream = out.add_stream("libx264", rate=rate, options={"crf": "18"})
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        for number, pixels in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = number, 1 / rate
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
