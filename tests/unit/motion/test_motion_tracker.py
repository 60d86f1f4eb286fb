"""The physics tracker: scenes, tries after a fall, slowed references, pushes that are reported."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from foveal import motion
from foveal.errors import ArgumentError
from foveal.motion.clip import Clip
from foveal.motion.track.mpc import track_mpc
from foveal.motion.track.planner import TIMESTEP_S
from foveal.motion.track.reference import Reference
from foveal.motion.track.world import compile_model

mujoco = pytest.importorskip("mujoco")

STEP = {"box": {"box": [[-0.5, -0.5, 0.0], [0.5, 0.5, 0.3]]}}
FILE = """<mujoco><worldbody>{floor}
<geom name="step" type="box" pos="0 0 .15" size=".5 .5 .15"/>
<body name="ball" pos="2 0 .1"><freejoint/><geom size=".1"/></body>
</worldbody></mujoco>"""
FLOOR = '<geom type="plane" size="0 0 1"/>'


def standing(seconds: float = 0.4, height: float = 0.0, rising: float = 0.0) -> Clip:
    """A figure that stands at a height, or is lifted at some speed without being held."""
    clip = motion.generate("stand", track="kinematic")
    count = round(seconds * clip.fps) + 1
    root = clip.root_positions[:1].repeat(count, 0)
    root[:, 2] += height + rising * np.arange(count) / clip.fps
    return replace(
        clip,
        root_positions=root,
        root_rotations=clip.root_rotations[:1].repeat(count, 0),
        angles=clip.angles[:1].repeat(count, 0),
        contacts=np.ones((count, 2), bool),
        keyframe_times=np.array([0.0, seconds / 2, seconds]),
    )


def tracked(clip: Clip, **more: Any) -> tuple[Clip, dict[str, Any]]:
    return track_mpc(clip, num_samples=8, iterations=1, **more)


def lowest(clip: Clip) -> float:
    """Height of the lower sole in the last frame."""
    soles = [clip.skeleton.sole_points(clip.positions[-1:], clip.world_rotations[-1:], side)
             for side in ("left", "right")]  # fmt: skip
    return float(min(s[..., 2].min() for s in soles))


@pytest.mark.parametrize("kind", ["mapping", "file"])
def test_a_box_of_the_scene_carries_the_figure(kind: str, tmp_path: Path) -> None:
    clip = standing(height=0.3)
    scene: Any = STEP
    if kind == "file":
        scene = tmp_path / "step.xml"
        scene.write_text(FILE.format(floor=FLOOR))
    held, spent = tracked(clip, scene=scene)
    assert held.status == "tracked"
    assert spent["retries"] == 0
    assert lowest(held) == pytest.approx(0.3, abs=0.01)
    assert np.abs(held.root_positions - clip.root_positions).max() < 0.03
    falls, _ = tracked(clip, retries=0)
    assert lowest(falls) < 0.2


def test_a_mark_is_nothing_solid_and_a_floor_has_a_height() -> None:
    clip = standing(height=-0.2)
    held, _ = tracked(clip, scene={"shelf": {"height": -0.1}, "floor": {"height": -0.2}})
    assert held.status == "tracked"
    assert lowest(held) == pytest.approx(-0.2, abs=0.01)


@pytest.mark.parametrize(
    ("scene", "message"),
    [
        ({"floor": None}, "scene has no floor, must have one"),
        ("nowhere.xml", r"scene is 'nowhere\.xml', must be an MJCF file"),
        (FILE.format(floor=""), "has no plane, must have a floor"),
        ("<mujoco><worldbody><geom/>", "must be MJCF that MuJoCo reads"),
        ("<mujoco><worldbody><geom type='box'/></worldbody></mujoco>", "must be MJCF that MuJoCo"),
    ],
)
def test_scenes_that_cannot_be_stood_in(scene: Any, message: str, tmp_path: Path) -> None:
    if isinstance(scene, str) and scene.startswith("<"):
        path = tmp_path / "scene.xml"
        path.write_text(scene)
        scene = path
    with pytest.raises(ArgumentError, match=message):
        tracked(standing(), scene=scene)


def test_an_impossible_lift_is_tried_again_slowed_and_called_a_fall() -> None:
    clip = standing(seconds=0.8, rising=0.8)
    once, spent = tracked(clip, retries=0)
    assert once.status.startswith("fell at t=0.")
    assert (spent["retries"], spent["slowed_s"], once.num_frames) == (0, 0.0, clip.num_frames)
    again, more = tracked(clip, retries=2)
    assert more["retries"] == 2
    assert again.status.startswith("fell at t=")
    assert more["physics_steps"] > 3 * spent["physics_steps"]
    assert more["slowed_s"] > 0.1
    assert again.seconds == pytest.approx(clip.seconds + more["slowed_s"])
    reference = again.reference
    assert reference is not None
    assert reference.num_frames == again.num_frames
    assert reference.root_positions[-1, 2] == pytest.approx(clip.root_positions[-1, 2], abs=0.03)
    assert again.keyframe_times[0] == 0.0
    assert (np.diff(again.keyframe_times) >= 0.4 - TIMESTEP_S).all()
    same, _ = tracked(clip, retries=2)
    assert np.array_equal(again.angles, same.angles)


def test_pushes_are_asked_for_bounded_and_reported() -> None:
    calm, unused = tracked(standing(), root_assist=50.0)
    assert calm.status == "tracked"
    assert unused["root_assist"] == {"budget_n": 50.0, "peak_n": 0.0, "impulse_ns": 0.0}
    clip = standing(seconds=0.5, rising=0.3)
    plain, spent = tracked(clip)
    assert spent["root_assist"] == {"budget_n": 0.0, "peak_n": 0.0, "impulse_ns": 0.0}
    pushed, more = tracked(clip, root_assist=50.0)
    used = more["root_assist"]
    assert used["budget_n"] == 50.0
    assert 0 < used["peak_n"] <= 50.0 * np.sqrt(3) + 1e-9
    assert 0 < used["impulse_ns"] <= used["peak_n"] * (clip.seconds + 0.1)
    assert not np.array_equal(plain.root_positions, pushed.root_positions)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"retries": 4}, r"retries is 4, must be in \[0, 3\]"),
        ({"retries": -1}, r"retries is -1, must be in \[0, 3\]"),
        ({"root_assist": -1.0}, r"root_assist is -1\.0, must be a force in N, at least 0"),
        ({"root_assist": float("nan")}, "root_assist is nan, must be a force in N"),
    ],
)
def test_numbers_out_of_range(more: dict[str, Any], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        tracked(standing(), **more)


def test_a_slower_reference_shows_the_same_poses_at_smaller_velocities() -> None:
    clip = motion.generate("squat", track="kinematic")
    model = compile_model(mujoco, clip.skeleton, None, TIMESTEP_S)
    reference = Reference(mujoco, model, clip, TIMESTEP_S)
    full, half = reference.window(40.0, 1.0, 51), reference.window(40.0, 0.5, 101)
    assert np.array_equal(half.angles[::2], full.angles)
    np.testing.assert_allclose(half.velocities[::2], 0.5 * full.velocities)
    np.testing.assert_allclose(half.sensors[::2, -3:], 0.5 * full.sensors[:, -3:])
    assert np.array_equal(half.sensors[::2, :-3], full.sensors[:, :-3])
    after = reference.window(reference.steps + 5.0, 1.0, 10)
    assert not after.velocities.any()
    assert np.array_equal(after.angles, reference.angles[-1:].repeat(10, 0))


def test_flight_is_known_before_it_begins() -> None:
    clip = motion.generate("jump", track="kinematic")
    model = compile_model(mujoco, clip.skeleton, None, TIMESTEP_S)
    reference = Reference(mujoco, model, clip, TIMESTEP_S)
    flying = np.flatnonzero(~clip.contacts.any(axis=1)) / clip.fps / TIMESTEP_S
    assert len(flying)
    assert reference.flies(flying[0] - 50, 0.6)
    assert not reference.flies(0.0, 0.05)
    assert not reference.flies(flying[-1] + 20, 0.6)


def test_what_a_script_needs_is_there_under_physics() -> None:
    clip = motion.generate("step up 12 cm", num_samples=8, time_budget_s=0.01)
    assert "time budget ended first" in clip.status
    scene = motion.Scripted().plan("step up 12 cm").scene
    assert scene is not None
    assert max(surface.height for surface in scene.values()) == pytest.approx(0.12)
    again = motion.Scripted().plan("step up 12 cm, then step up 30 cm").scene
    assert again is not None
    assert {round(surface.height, 2) for surface in again.values()} == {0.0, 0.12, 0.3}
    assert motion.Scripted().plan("wave").scene == {"floor": again["floor"]}
