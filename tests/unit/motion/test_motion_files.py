"""Files of a clip: what comes back from .npz, the skin of .glb, the rest pose of .bvh."""

import json
import struct
from dataclasses import replace

import numpy as np
import pytest

from foveal import motion
from foveal.errors import ArgumentError
from foveal.motion import rotations as rot
from foveal.motion.export.bvh import bvh_frames, end_site, t_pose
from foveal.motion.export.glb import to_glb
from foveal.motion.export.npz import skeleton_from_dict, skeleton_to_dict, to_arrays
from foveal.motion.hinges import hinge_angles
from foveal.motion.skeleton import SIDES, Hinge, humanoid


@pytest.fixture(scope="module")
def clip():
    return motion.generate("kick and wave left", track="kinematic", fps=10)


def _same(a, b):
    for name in ("root_positions", "root_rotations", "angles", "contacts", "keyframe_times"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))
    np.testing.assert_array_equal(a.positions, b.positions)
    assert (a.fps, a.title, a.status, a.actions) == (b.fps, b.title, b.status, b.actions)
    assert skeleton_to_dict(a.skeleton) == skeleton_to_dict(b.skeleton)


def test_a_saved_clip_comes_back_with_its_own_figure(clip, tmp_path):
    _same(motion.Clip.load(clip.save(tmp_path / "clip.npz")), clip)
    child = humanoid(height=1.1, mass=19.0, hand_shape="fist")
    small = replace(clip, skeleton=child, status="fell at t=1.00 s")
    again = motion.Clip.load(small.save(tmp_path / "small.npz"))
    _same(again, small)
    assert again.skeleton.height == 1.1
    assert motion.score(again)["predicates"] == motion.score(small)["predicates"]


def test_a_clip_of_another_body_is_not_taken_for_ours(clip, tmp_path):
    body = clip.skeleton
    other = replace(body, names=tuple(f"{name}_x" if i else name for i, name in enumerate(
        body.names)))  # fmt: skip
    again = motion.Clip.load(replace(clip, skeleton=other).save(tmp_path / "other.npz"))
    assert again.skeleton.names == other.names


def test_a_clip_without_its_figure_is_refused_with_the_reason(clip, tmp_path):
    old = to_arrays(clip)
    for name in ("skeleton", "format_version", "actions"):
        del old[name]
    np.savez(tmp_path / "old.npz", **old)
    with pytest.raises(ArgumentError, match=r"old.npz' of 23 bodies, must hold its skeleton; it"):
        motion.Clip.load(tmp_path / "old.npz")


def _changed(**values):
    def change(arrays):
        figure = json.loads(str(arrays["skeleton"]))
        return arrays | {"skeleton": np.array(json.dumps(figure | values))}

    return change


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda a: a | {"format_version": np.array(3)}, "format_version is 3, not 2"),
        (lambda a: a | {"angles": a["angles"][:, 1:]}, "angles has shape"),
        (lambda a: a | {"skeleton": np.array("{")}, "must be an .npz file that Clip.save wrote"),
        (lambda a: a | {"actions": np.array('[["wave", "up"]]')}, "side 'up' is not one of"),
        (lambda a: {k: v for k, v in a.items() if k != "fps"}, "'fps'"),
        (_changed(parents=[-1] + [30] * 22), "parents must come before their children"),
        (_changed(names=["pelvis"] * 23), "a name is there twice"),
        (_changed(masses=[1.0]), r"masses has shape \(1,\), must be \(23,\)"),
        (_changed(offsets=[[float("nan")] * 3] * 23), "offsets has shape .* and finite"),
        (_changed(soles={"left": [], "right": [[23, [0, 0, 0]]]}), "body 23 is not one of 23"),
        (
            _changed(shapes=[{"kind": "cone", "turn": [1, 0, 0, 0]}]),
            "shape 'cone' is no capsule and no box",
        ),
    ],
)
def test_files_with_something_wrong_in_them_are_refused(clip, tmp_path, change, words):
    np.savez(tmp_path / "bad.npz", **change(to_arrays(clip)))
    with pytest.raises(ArgumentError, match=words) as info:
        motion.Clip.load(tmp_path / "bad.npz")
    assert "Clip.load: path is " in str(info.value)


def test_what_is_no_clip_at_all_is_refused(clip, tmp_path):
    whole = clip.save(tmp_path / "clip.npz").read_bytes()
    middle = len(whole) // 2
    files = {
        "text.npz": b"walk", "empty.npz": b"", "cut.npz": whole[:middle],
        "hole.npz": whole[: middle - 500] + bytes(1000) + whole[middle + 500 :],
    }  # fmt: skip
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(ArgumentError, match=rf"{name}', must be an .npz file"):
            motion.Clip.load(tmp_path / name)
    with pytest.raises(ArgumentError, match=r"none.npz', must be .*; check the path"):
        motion.Clip.load(tmp_path / "none.npz")
    np.savez(tmp_path / "numbers.npz", x=np.zeros(3))
    with pytest.raises(ArgumentError, match="must be an .npz file that Clip.save wrote"):
        motion.Clip.load(tmp_path / "numbers.npz")


@pytest.mark.parametrize("hand_shape", ["open", "fist", "point", "grip"])
def test_a_figure_survives_json(hand_shape):
    body = humanoid(hand_shape=hand_shape)
    data = json.loads(json.dumps(skeleton_to_dict(body)))
    again = skeleton_from_dict(data)
    assert skeleton_to_dict(again) == skeleton_to_dict(body)
    assert (again.hinges, again.shapes, again.soles) == (body.hinges, body.shapes, body.soles)


class _Glb:
    def __init__(self, data):
        size = struct.unpack_from("<I", data, 12)[0]
        self.document, self.blob = json.loads(data[20 : 20 + size]), data[28 + size :]

    def values(self, index):
        accessor = self.document["accessors"][index]
        width = {"SCALAR": 1, "VEC3": 3, "VEC4": 4, "MAT4": 16}[accessor["type"]]
        view = self.document["bufferViews"][accessor["bufferView"]]
        dtype = {5126: "<f4", 5123: "<u2"}[accessor["componentType"]]
        count = accessor["count"] * width
        return np.frombuffer(self.blob, dtype, count, view["byteOffset"]).reshape(-1, width)


def _matrix(place, q):  # glTF: x, y, z, w
    x, y, z, w = (float(v) for v in q)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    out = np.eye(4)
    out[:3, :3], out[:3, 3] = np.eye(3) + 2 * w * cross + 2 * cross @ cross, place
    return out


@pytest.mark.parametrize("hand_shape", ["open", "grip"])
def test_the_skin_of_a_glb_follows_the_solids(clip, hand_shape):
    moved = replace(clip, skeleton=humanoid(hand_shape=hand_shape))
    glb, frame = _Glb(to_glb(moved)), moved.num_frames // 2
    document = glb.document
    skin, nodes = document["skins"][0], [dict(node) for node in document["nodes"]]
    assert [nodes[i]["name"] for i in skin["joints"]] == list(moved.skeleton.names)
    meshed = [node for node in nodes if "mesh" in node]
    assert meshed == [{"name": "figure", "mesh": 0, "skin": 0}]
    for channel in document["animations"][0]["channels"]:
        target = channel["target"]
        output = document["animations"][0]["samplers"][channel["sampler"]]["output"]
        nodes[target["node"]][target["path"]] = glb.values(output)[frame]
    globals_ = {}

    def walk(index, above):
        node = nodes[index]
        globals_[index] = above @ _matrix(node["translation"], node["rotation"])
        for child in node.get("children", []):
            walk(child, globals_[index])

    walk(skin["skeleton"], np.eye(4))
    binds = glb.values(skin["inverseBindMatrices"]).reshape(-1, 4, 4).transpose(0, 2, 1)
    joints = np.array([globals_[i] for i in skin["joints"]]) @ binds
    seen = set()
    for primitive in document["meshes"][0]["primitives"]:
        own = {name: glb.values(i) for name, i in primitive["attributes"].items()}
        assert own["WEIGHTS_0"].sum(axis=1) == pytest.approx(1.0)
        bodies = own["JOINTS_0"][:, 0]
        points = np.concatenate([own["POSITION"], np.ones((len(bodies), 1))], axis=1)
        skinned = np.einsum("vij,vj->vi", joints[bodies], points)[:, [2, 0, 1]]  # to z up
        faces = glb.values(primitive["indices"]).reshape(-1)
        assert faces.max() == len(points) - 1
        color = document["materials"][primitive["material"]]["name"]
        for body in set(bodies.tolist()):
            seen.add(body)
            name = moved.skeleton.names[body]
            assert name.startswith(color) if color != "trunk" else not name.startswith(SIDES)
            back = rot.rotate(
                rot.conjugate(moved.world_rotations[frame, body]),
                skinned[bodies == body] - moved.positions[frame, body],
            )
            solids = [s for s in moved.skeleton.shapes if s.body == body]
            low = np.min([s.corners.min(axis=0) - s.radius for s in solids], axis=0)
            high = np.max([s.corners.max(axis=0) + s.radius for s in solids], axis=0)
            # sixteen sides and five rings of a capsule come to within 6 % of its radius
            slack = 0.06 * max(s.radius for s in solids) + 1e-4
            np.testing.assert_allclose(back.min(axis=0), low, atol=slack, err_msg=name)
            np.testing.assert_allclose(back.max(axis=0), high, atol=slack, err_msg=name)
    assert seen == set(range(moved.skeleton.num_bodies))


def test_bvh_rests_with_its_arms_out_and_ends_where_the_body_does():
    body = humanoid()
    clip = motion.generate("stand", track="kinematic")
    offsets, _, _ = bvh_frames(clip)
    where = offsets.copy()
    for i in range(1, body.num_bodies):
        where[i] += where[body.parents[i]]
    for side, sign in (("left", 1), ("right", -1)):  # left is +x in a BVH, up is +y
        shoulder, fingers = (where[body.body(f"{side}_{n}")] for n in ("upper_arm", "fingers"))
        np.testing.assert_allclose(
            fingers - shoulder, (sign * 62.4, 0, 0), atol=1e-9
        )  # .275 + .263 + .086 m
        tip = rot.rotate(t_pose(body)[body.body(f"{side}_fingers")],
                         end_site(body, body.body(f"{side}_fingers")))  # fmt: skip
        np.testing.assert_allclose(tip, (0, sign * 0.0975, 0), atol=1e-12)
        np.testing.assert_allclose(end_site(body, body.body(f"{side}_toes")), (0.067, 0, 0))
    np.testing.assert_allclose(end_site(body, body.body("head")), (0, 0, 0.15))


def test_hinge_angles_come_back_from_rotations():
    body = humanoid()
    low, high = body.limits.T
    angles = np.random.default_rng(5).uniform(low, high, (60, len(low)))
    still = np.tile([1.0, 0, 0, 0], (60, 1))
    # shoulders abduct beyond 90 degrees, where the usual branch of three angles is another pose
    assert np.degrees(angles[:, body.hinge("left_shoulder_abduction")]).max() > 120
    found = hinge_angles(body, body.local_rotations(still, angles))
    np.testing.assert_allclose(found, angles, atol=1e-6)


def test_hinges_with_slanted_axes_are_solved():
    third = float(1 / np.sqrt(3))
    axes = ((third, third, third), (0.0, 0.8, -0.6))
    body = humanoid()
    hinges = tuple(
        Hinge(f"slanted_{i}", body.body("head"), axis, -1.2, 1.2, 1.0, 1.0)
        for i, axis in enumerate(axes)
    )
    odd = replace(body, hinges=hinges)
    angles = np.random.default_rng(6).uniform(-1.2, 1.2, (40, 2))
    still = np.tile([1.0, 0, 0, 0], (40, 1))
    rotations = odd.local_rotations(still, angles)
    np.testing.assert_allclose(hinge_angles(odd, rotations), angles, atol=1e-6)


def test_a_turn_that_no_hinge_can_show_is_left_out():
    body = humanoid()
    rotations = np.tile([1.0, 0, 0, 0], (1, body.num_bodies, 1))
    shin = body.body("left_shin")
    rotations[0, shin] = rot.multiply(
        rot.from_axis_angle([0, 1, 0], np.array(0.7)), rot.from_axis_angle([0, 0, 1], np.array(0.2))
    )
    found = hinge_angles(body, rotations)[0]
    assert found[body.hinge("left_knee_flexion")] == pytest.approx(0.7)
    assert np.count_nonzero(np.abs(found) > 1e-9) == 1
