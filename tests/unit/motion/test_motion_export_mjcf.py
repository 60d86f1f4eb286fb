"""MJCF with its trajectory: replay in MuJoCo, speeds, keys, and back to a clip."""

from dataclasses import replace

import numpy as np
import pytest

from foveal import motion
from foveal.errors import ArgumentError
from foveal.motion import rotations as rot
from foveal.motion.export.mjcf import positions_and_speeds, trajectory_path
from foveal.motion.skeleton import humanoid


@pytest.fixture(scope="module")
def clip():
    return motion.generate("kick and wave left", track="kinematic", fps=20)


@pytest.mark.parametrize("height", [1.7, 1.13])
@pytest.mark.parametrize("suffix", [".xml", ".mjcf"])
def test_mujoco_replays_the_clip_from_the_file(clip, tmp_path, suffix, height):
    mujoco = pytest.importorskip("mujoco")
    moved = replace(clip, skeleton=humanoid(height=height))
    path = moved.save(tmp_path / f"clip{suffix}")
    model = mujoco.MjModel.from_xml_path(str(path))
    data = mujoco.MjData(model)
    with np.load(tmp_path / "clip.qpos.npz") as arrays:
        qpos, qvel, times = arrays["qpos"], arrays["qvel"], arrays["times"]
        joints = arrays["joints"].tolist()
    assert joints == [model.joint(i).name for i in range(model.njnt)]
    assert times == pytest.approx(np.arange(clip.num_frames) / 20)
    order = [model.body(name).id for name in moved.skeleton.names]
    speed = np.zeros(model.nv)
    for t in range(clip.num_frames):
        data.qpos[:] = qpos[t]
        mujoco.mj_kinematics(model, data)
        np.testing.assert_allclose(data.xpos[order], moved.positions[t], atol=1e-6)
        if t:
            mujoco.mj_differentiatePos(model, speed, 1 / 20, qpos[t - 1], qpos[t])
            np.testing.assert_allclose(qvel[t - 1], speed, atol=1e-9)
    np.testing.assert_array_equal(qvel[-1], qvel[-2])
    assert model.nkey == len(clip.keyframe_times) > 3
    for number, time in enumerate(clip.keyframe_times):
        frame = round(float(time) * 20)
        np.testing.assert_allclose(model.key_qpos[number], qpos[frame], atol=1e-9)
        assert model.key_time[number] == pytest.approx(time)
        servos = [model.actuator(i).name for i in range(model.nu)]
        wanted = [clip.angles[frame, clip.skeleton.hinge(name)] for name in servos]
        np.testing.assert_allclose(model.key_ctrl[number], wanted, atol=1e-9)


def test_speeds_by_hand(clip):
    """Turning about z by 0.3 rad a frame across the change of sign, and 0.1 m to the left."""
    angles = np.array([3.0, 3.3, 3.6])
    q = rot.from_axis_angle([0.0, 0.0, 1.0], (angles + np.pi) % (2 * np.pi) - np.pi)
    assert (q[0] @ q[1]) < 0
    moved = replace(
        clip,
        root_positions=np.array([[0, 0, 1.0], [0, 0.1, 1], [0, 0.2, 1]]),
        root_rotations=q,
        angles=np.zeros((3, 42)),
        contacts=np.zeros((3, 2), bool),
    )
    _, qvel = positions_and_speeds(moved, list(clip.skeleton.hinge_names))
    wanted = np.zeros((3, 48))
    wanted[:, 1], wanted[:, 5] = 0.1 * 20, 0.3 * 20
    np.testing.assert_allclose(qvel, wanted, atol=1e-9)
    one = replace(moved, **{
        name: getattr(moved, name)[:1]
        for name in ("root_positions", "root_rotations", "angles", "contacts")
    })  # fmt: skip
    np.testing.assert_array_equal(positions_and_speeds(one, [])[1], np.zeros((1, 6)))


def test_hinges_in_another_order_than_the_documents_come_back(clip, tmp_path):
    body = clip.skeleton
    turned = replace(body, hinges=tuple(reversed(body.hinges)))
    # within a body the order of hinges is the order of turns: one hinge at a time
    angles = np.zeros((42, 42))
    np.fill_diagonal(angles, 0.1)
    other = replace(
        clip, skeleton=turned, angles=angles, root_positions=np.tile([0, 0, 1.0], (42, 1)),
        root_rotations=np.tile([1.0, 0, 0, 0], (42, 1)), contacts=np.zeros((42, 2), bool),
    )  # fmt: skip
    again = motion.Clip.load(other.save(tmp_path / "other.xml"))
    np.testing.assert_array_equal(again.angles, angles)
    np.testing.assert_array_equal(again.positions, other.positions)


def test_the_clip_comes_back_and_follows_what_was_changed(clip, tmp_path):
    path = replace(clip, status="tracked").save(tmp_path / "clip.xml")
    again = motion.Clip.load(path)
    np.testing.assert_allclose(again.positions, clip.positions, atol=1e-12)
    np.testing.assert_allclose(again.angles, clip.angles, atol=0)
    np.testing.assert_array_equal(again.contacts, clip.contacts)
    np.testing.assert_array_equal(again.keyframe_times, clip.keyframe_times)
    assert (again.title, again.status, again.fps) == (clip.title, "tracked", 20)
    assert again.actions == clip.actions
    assert again.skeleton.hinges == clip.skeleton.hinges
    beside = trajectory_path(path)
    assert beside == tmp_path / "clip.qpos.npz"
    with np.load(beside) as file:
        arrays = dict(file)
    arrays["qpos"][:, 2] += 0.25
    np.savez(beside, **arrays)
    lifted = motion.Clip.load(path)
    np.testing.assert_allclose(lifted.positions - clip.positions, [[[0, 0, 0.25]]] * 1 + np.zeros(
        (clip.num_frames, 23, 3)), atol=1e-12)  # fmt: skip


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("qpos", lambda a: a["qpos"][:, 1:], r"qpos has shape \(\d+, 48\), must be \(frames, 49\)"),
        ("qpos", lambda a: a["qpos"] * np.nan, "qpos has shape"),
        ("joints", lambda a: a["joints"][1:], "it has 42 joints, the document has 43 or others"),
        ("joints", lambda a: a["joints"][::-1], "it has 43 joints, the document has 43 or others"),
        ("skeleton", lambda a: np.array("{}"), "'hinges'"),
        ("format_version", lambda a: np.array(9), "format_version is 9, not 2"),
    ],
)
def test_a_trajectory_that_does_not_fit_is_named(clip, tmp_path, name, change, words):
    path = clip.save(tmp_path / "clip.xml")
    with np.load(trajectory_path(path)) as file:
        arrays = dict(file)
    np.savez(trajectory_path(path), **(arrays | {name: change(arrays)}))
    with pytest.raises(ArgumentError, match=words) as info:
        motion.Clip.load(path)
    assert "'clip.qpos.npz' beside" in str(info.value)


def test_documents_that_are_none_or_stand_alone_are_named(clip, tmp_path):
    path = clip.save(tmp_path / "clip.xml")
    (tmp_path / "bad.xml").write_text("<mujoco>")
    with pytest.raises(ArgumentError, match=r"bad.xml', must be MJCF that Clip.save wrote \(no el"):
        motion.Clip.load(tmp_path / "bad.xml")
    with pytest.raises(ArgumentError, match=r"none.mjcf', must be MJCF .*; check the path"):
        motion.Clip.load(tmp_path / "none.mjcf")
    path.rename(tmp_path / "alone.xml")
    with pytest.raises(ArgumentError, match=r"alone.xml', must have 'alone.qpos.npz' beside it; k"):
        motion.Clip.load(tmp_path / "alone.xml")
