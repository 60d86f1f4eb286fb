"""Pitfalls of in-fill and of motion files that no other test would notice."""

import json
import struct
from dataclasses import replace

import numpy as np
import pytest

from foveal import motion
from foveal.motion import rotations as rot
from foveal.motion.director.commands import Keyframe
from foveal.motion.export.bvh import bvh_frames, to_bvh
from foveal.motion.export.glb import to_glb
from foveal.motion.inbetween import METHODS, Method, fill, quintic, resolve
from foveal.motion.skeleton import humanoid

Z = np.array([0.0, 0.0, 1.0])


@pytest.mark.parametrize("method", METHODS)
def test_a_heading_past_half_a_circle_goes_the_short_way(method: Method) -> None:
    """From 3 to -3 rad is 0.28 rad: the quaternions of both have opposite signs."""
    body = humanoid()
    poses = resolve([Keyframe(0.0, turn=3.0), Keyframe(1.0, turn=-3.0)], body)
    turns = fill(poses, body, fps=30, method=method).root_rotations
    steps = 2 * np.arccos(np.clip(np.abs((turns[1:] * turns[:-1]).sum(axis=1)), 0, 1))
    assert steps.sum() == pytest.approx(2 * np.pi - 6, abs=1e-3)
    assert steps.max() < 0.05


def test_speed_and_acceleration_are_continuous_and_no_key_is_a_stop() -> None:
    times, values = np.array([0.0, 0.4, 1.0, 1.5]), np.array([0.0, 1.0, 1.8, 3.0])
    e = 1e-4

    def at(t: list[float]) -> np.ndarray:
        return quintic(times, values, np.asarray(t))

    # harmonic means of the slopes before and after: 5/2, 4/3 and 12/5
    for t, speed in ((0.4, 2 * (10 / 3) / (23 / 6)), (1.0, 2 * (16 / 5) / (56 / 15))):
        before, after = at([t - 2 * e, t - e, t]), at([t, t + e, t + 2 * e])
        for three in (before, after):
            assert np.diff(three) / e == pytest.approx(speed, rel=1e-3)
            assert abs(np.diff(three, n=2)[0]) / e**2 < 0.1
    for t in (0.0, 1.5):  # at rest at both ends
        assert abs(at([t + e])[0] - at([t - e])[0]) < 1e-8


def test_no_value_passes_its_neighbouring_keys() -> None:
    rng = np.random.default_rng(4)
    for _ in range(30):
        times = np.concatenate([[0.0], np.cumsum(rng.uniform(0.05, 2.0, 6))])
        values = np.cumsum(rng.choice([-1.0, 1.0, 1.0], (7, 3)) * rng.exponential(1.0, (7, 3)), 0)
        for i in range(6):
            found = quintic(times, values, np.linspace(times[i], times[i + 1], 40)[:-1])
            pair = values[i : i + 2]
            assert (found >= pair.min(axis=0) - 1e-9).all()
            assert (found <= pair.max(axis=0) + 1e-9).all()


@pytest.mark.parametrize("fps", [24, 30])
def test_bvh_declares_what_it_writes(fps: int) -> None:
    clip = motion.generate("wave", track="kinematic", fps=fps)
    body, text = clip.skeleton, to_bvh(clip)
    channels = [line.split() for line in text.splitlines() if "CHANNELS" in line]
    turns = ["Zrotation", "Xrotation", "Yrotation"]
    assert channels[0] == ["CHANNELS", "6", "Xposition", "Yposition", "Zposition", *turns]
    assert channels[1:] == [["CHANNELS", "3", *turns]] * (body.num_bodies - 1)
    assert text.count("End Site") == len(set(range(body.num_bodies)) - set(body.parents))
    lines = text.split("MOTION\n")[1].splitlines()
    assert lines[0] == f"Frames: {clip.num_frames}"
    assert float(lines[1].removeprefix("Frame Time:")) * fps == pytest.approx(1, abs=1e-6)
    rows = np.array([[float(v) for v in line.split()] for line in lines[2:]])
    assert rows.shape == (clip.num_frames, 3 + 3 * body.num_bodies)
    assert rows[:, 1] == pytest.approx(100 * clip.root_positions[:, 2], abs=1e-5)  # cm, y up


def test_glb_keeps_to_what_readers_ask() -> None:
    """Bounds of the times, unit rotations in one hemisphere, a sampler for each channel."""
    clip = motion.generate("wave", track="kinematic", fps=30)
    angles = np.linspace(0, 4 * np.pi, clip.num_frames)
    wrapped = (angles + np.pi) % (2 * np.pi) - np.pi  # its quaternions change their signs
    spun = replace(clip, root_rotations=rot.from_axis_angle(Z, wrapped))
    assert ((spun.root_rotations[1:] * spun.root_rotations[:-1]).sum(axis=1) < 0).any()
    data = to_glb(spun)
    size = struct.unpack_from("<I", data, 12)[0]
    document, blob = json.loads(data[20 : 20 + size]), data[28 + size :]
    (animation,) = document["animations"]
    samplers, channels = animation["samplers"], animation["channels"]
    assert sorted(c["sampler"] for c in channels) == list(range(len(samplers)))
    (times,) = {s["input"] for s in samplers}
    accessor = document["accessors"][times]
    assert accessor["min"] == [0]
    assert accessor["max"] == pytest.approx([(clip.num_frames - 1) / 30], rel=1e-6)
    turned = [c for c in channels if c["target"]["path"] == "rotation"]
    assert len(turned) == clip.skeleton.num_bodies
    for channel in turned:
        output = document["accessors"][samplers[channel["sampler"]]["output"]]
        start = document["bufferViews"][output["bufferView"]]["byteOffset"]
        q = np.frombuffer(blob, "<f4", 4 * output["count"], start).reshape(-1, 4)
        assert np.linalg.norm(q, axis=1) == pytest.approx(1, abs=1e-6)
        assert ((q[1:] * q[:-1]).sum(axis=1) > 0).all()


@pytest.mark.parametrize("order", ["zxy", "xyz", "yxz"])
def test_euler_angles_pass_a_quarter_turn_of_the_middle_axis_without_a_jump(order: str) -> None:
    # the middle angle goes from 0 to 200 degrees and stops at the pole, 90, on its way
    middle = np.radians(np.concatenate([np.arange(0, 91, 6), [90.0], np.arange(90, 201, 5)]))
    steady = np.stack([np.full_like(middle, 0.3), middle, np.full_like(middle, -0.5)], axis=-1)
    axes = [np.eye(3)["xyz".index(letter)] for letter in order]

    def rotation(angles: np.ndarray) -> np.ndarray:
        parts = [rot.from_axis_angle(axis, angles[..., n]) for n, axis in enumerate(axes)]
        return rot.to_matrix(rot.multiply(rot.multiply(parts[0], parts[1]), parts[2]))

    found = rot.continuous_euler(rotation(steady), order)
    np.testing.assert_allclose(found, steady, atol=1e-6)


@pytest.mark.parametrize("action", ["squat", "jump", "crouch", "kick"])
def test_bvh_angles_never_jump(action: str) -> None:
    clip = motion.generate(action, track="kinematic")
    _, _, degrees = bvh_frames(clip)
    local = rot.multiply(rot.conjugate(clip.world_rotations[:-1]), clip.world_rotations[1:])
    turned = np.degrees(2 * np.arccos(np.clip(np.abs(local[..., 0]), 0, 1)))
    # near a pole angles run faster than the bone turns, but never by half a circle
    assert np.abs(np.diff(degrees, axis=0)).max() < 90
    assert turned.max() < 90
