"""Body, kinematics, director, formats: values that can be checked by hand or by a second path."""

import json
import struct
from dataclasses import replace

import numpy as np
import pytest

from foveal import motion
from foveal.errors import ArgumentError, ProviderError, UnsupportedError
from foveal.motion import rotations as rot
from foveal.motion.export.bvh import bvh_frames, to_bvh
from foveal.motion.export.glb import to_glb
from foveal.motion.inbetween import resolve
from foveal.motion.predicates import check_predicates, torso_pitched
from foveal.motion.skeleton import SIDES


@pytest.mark.parametrize("name", motion.ACTIONS)
def test_action_is_valid_pinned_and_shows_what_it_says(name):
    clip = motion.generate(name, track="kinematic")
    skeleton = clip.skeleton
    low, high = skeleton.limits.T
    poses = resolve(motion.Scripted().plan(name).keyframes, skeleton)
    assert (poses.angles >= low - 1e-9).all()
    assert (poses.angles <= high + 1e-9).all()
    for column, side in enumerate(SIDES):
        foot = clip.positions[:, skeleton.body(f"{side}_foot")]
        planted = clip.contacts[1:, column] & clip.contacts[:-1, column]
        assert np.linalg.norm(np.diff(foot, axis=0), axis=1)[planted].sum() < 0.01
    scores = motion.score(clip)
    assert scores["ground_penetration"] < 0.001
    assert scores["predicate_failures"] == 0, scores["predicates"]


def test_bad_instructions_are_refused():
    with pytest.raises(ArgumentError, match="instruction"):
        motion.generate(" ", track="kinematic")
    with pytest.raises(ProviderError, match="juggle"):
        motion.generate("juggle", track="kinematic")
    with pytest.raises(ArgumentError, match=r"scene is 'box\.xml', must be an MJCF file"):
        motion.generate("wave", scene="box.xml", track="kinematic")
    with pytest.raises(UnsupportedError, match="scene is 'box"):
        motion.generate("wave", scene="box.xml", provider=motion.Scripted(), track="kinematic")


def test_output_is_read_only_and_deterministic():
    a, b = (motion.generate("bow and wave left", track="kinematic") for _ in range(2))
    assert np.array_equal(a.angles, b.angles)
    with pytest.raises(ValueError, match="read-only"):
        a.angles[0] = 0.0
    assert a.actions == (("bow", "right"), ("wave", "left"))


def _read_bvh(text):
    """Parse a BVH by its own words: joint order, offsets, rotation order, frames."""
    names, parents, offsets, stack, end = [], [], [], [], False
    head, tail = text.split("MOTION")
    for line in head.splitlines():
        words = line.split()
        if words[0] in ("ROOT", "JOINT"):
            names.append(words[1])
            parents.append(stack[-1] if stack else -1)
            stack.append(len(names) - 1)
        elif words[0] == "End":
            end = True
        elif words[0] == "OFFSET" and not end:
            offsets.append([float(v) for v in words[1:]])
        elif words[0] == "}":
            if end:
                end = False
            else:
                stack.pop()
    rows = np.array([[float(v) for v in r.split()] for r in tail.strip().splitlines()[2:]])
    return names, parents, np.array(offsets), rows


def test_bvh_gives_back_the_joint_positions():
    clip = motion.generate("kick", track="kinematic")
    names, parents, offsets, rows = _read_bvh(to_bvh(clip))
    assert len(rows) == clip.num_frames
    angles = np.radians(rows[:, 3:].reshape(len(rows), len(names), 3))
    where, turned = {}, {}
    for i, name in enumerate(names):
        z, x, y = (
            rot.from_axis_angle(np.eye(3)[axis], angles[:, i, k])
            for k, axis in enumerate((2, 0, 1))
        )
        local = rot.multiply(rot.multiply(z, x), y)
        p = parents[i]
        where[i] = rows[:, :3] if p < 0 else where[p] + rot.rotate(turned[p], offsets[i])
        turned[i] = local if p < 0 else rot.multiply(turned[p], local)
        want = 100 * clip.positions[:, clip.skeleton.body(name)][:, [1, 2, 0]]
        assert np.abs(where[i] - want).max() < 0.01
    assert bvh_frames(clip)[0].shape == (clip.skeleton.num_bodies, 3)


def test_glb_is_well_formed():
    clip = motion.generate("squat", track="kinematic")
    data = to_glb(clip)
    magic, version, length = struct.unpack_from("<4sII", data)
    assert (magic, version, length) == (b"glTF", 2, len(data))
    size, kind = struct.unpack_from("<I4s", data, 12)
    assert kind == b"JSON"
    document = json.loads(data[20 : 20 + size])
    binary, kind = struct.unpack_from("<I4s", data, 20 + size)
    assert kind == b"BIN\0"
    assert document["buffers"][0]["byteLength"] == binary
    widths = {"SCALAR": 1, "VEC3": 3, "VEC4": 4, "MAT4": 16}
    for accessor in document["accessors"]:
        view = document["bufferViews"][accessor["bufferView"]]
        item = widths[accessor["type"]] * (4 if accessor["componentType"] == 5126 else 2)
        assert accessor["count"] * item == view["byteLength"]
        assert view["byteOffset"] % 4 == 0
        assert view["byteOffset"] + view["byteLength"] <= binary


def test_save_and_player(tmp_path):
    from foveal.web.player import player_html

    clip = motion.generate("wave", track="kinematic")
    for suffix in (".bvh", ".glb", ".npz"):
        assert clip.save(tmp_path / f"clip{suffix}").stat().st_size > 1000
    with pytest.raises(ArgumentError, match="path"):
        clip.save(tmp_path / "clip.fbx")
    page = player_html(clip.to_player())
    assert "http" not in page
    assert page.count("<script") == 2
    assert "fvp-fell" not in page.split("</style>")[1].split("<script")[0]
    fallen = player_html(replace(clip, status="fell at t=0.50 s").to_player())
    assert 'class="fvp-status fvp-fell">fell at t=0.50 s<' in fallen


def test_actions_that_the_library_does_not_know_are_named_and_not_judged():
    clip = motion.generate("wave", track="kinematic")
    scores = motion.score(replace(clip, actions=(*clip.actions, ("cartwheel", "left"))))
    assert scores["unchecked_actions"] == ["cartwheel"]
    assert scores["predicate_failures"] == 0
    assert len(scores["predicates"]) == 2


def test_flight_falls_with_gravity_and_starts_at_the_speed_that_it_needs():
    clip = motion.generate("jump", track="kinematic", fps=120)
    com = clip.skeleton.center_of_mass(clip.positions, clip.world_rotations)[:, 2]
    free = np.flatnonzero(~clip.contacts.any(axis=1))
    acceleration = np.diff(com, n=2) * clip.fps**2
    # The legs are re-solved after the parabola is laid, which moves the centre a little.
    assert abs(acceleration[free[1:-2] - 1].mean() + 9.81) < 1.5
    speed = np.diff(com) * clip.fps
    needed = 0.5 * 9.81 * len(free) / clip.fps
    assert abs(speed[free[0] - 2] - needed) < 0.25 * needed


def test_weight_is_over_the_standing_foot_while_the_other_is_in_the_air():
    clip = motion.generate("kick", track="kinematic")
    com = clip.skeleton.center_of_mass(clip.positions, clip.world_rotations)
    single = clip.contacts[:, 0] & ~clip.contacts[:, 1]
    foot = clip.positions[:, clip.skeleton.body("left_foot")]
    assert single.sum() > 10
    assert np.abs(com[single, 1] - foot[single, 1]).mean() < 0.05


@pytest.mark.parametrize("degrees", [90.0, -135.0])
@pytest.mark.parametrize("name", [*motion.ACTIONS])
def test_which_way_it_faces_changes_no_predicate(name, degrees):
    clip = motion.generate(name, track="kinematic")
    half = np.radians(degrees) / 2
    turn = np.array([np.cos(half), 0.0, 0.0, np.sin(half)])
    turned = replace(
        clip,
        root_positions=rot.rotate(turn[None], clip.root_positions),
        root_rotations=rot.multiply(turn[None], clip.root_rotations),
    )
    assert check_predicates(turned) == check_predicates(clip)


def test_what_comes_after_a_turn_is_judged_by_the_way_it_faces():
    clip = motion.generate("walk to the left, then bow", track="kinematic")
    assert motion.score(clip)["predicate_failures"] == 0
    still = motion.generate("walk to the left, then stand", track="kinematic")
    assert not torso_pitched(still, "right")


def test_who_sits_need_not_end_upright():
    assert "ends upright" not in check_predicates(motion.generate("sit", track="kinematic"))
    both = check_predicates(motion.generate("sit, then walk", track="kinematic"))
    assert both["ends upright"]
