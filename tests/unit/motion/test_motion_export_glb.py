"""What a validator of glTF looks at, for clips and for retargeted motions; where bones are."""

import json
import struct
from dataclasses import replace

import numpy as np
import pytest

from foveal import motion
from foveal.motion import rotations as rot
from foveal.motion.export.glb import to_glb
from foveal.motion.export.glb_file import UINT, USHORT, Buffer, skinned_primitive
from foveal.motion.retarget import Rig, RigMotion, retarget
from foveal.motion.retarget.glb import rig_to_glb
from foveal.motion.retarget.rig import POSITIONS, ROTATIONS

_WIDTH = {"SCALAR": 1, "VEC3": 3, "VEC4": 4, "MAT4": 16}
_TYPES = {5126: "<f4", 5123: "<u2", 5125: "<u4"}


class Glb:
    def __init__(self, data):
        magic, version, length = struct.unpack_from("<4sII", data)
        assert (magic, version, length) == (b"glTF", 2, len(data))
        size, kind = struct.unpack_from("<I4s", data, 12)
        assert kind == b"JSON"
        assert size % 4 == 0
        self.document = json.loads(data[20 : 20 + size])
        binary, kind = struct.unpack_from("<I4s", data, 20 + size)
        assert kind == b"BIN\0"
        self.blob = data[28 + size :]
        assert len(self.blob) == binary
        assert binary % 4 == 0

    def values(self, index):
        accessor = self.document["accessors"][index]
        view = self.document["bufferViews"][accessor["bufferView"]]
        count = accessor["count"] * _WIDTH[accessor["type"]]
        dtype = _TYPES[accessor["componentType"]]
        assert view["byteLength"] == count * np.dtype(dtype).itemsize
        out = np.frombuffer(self.blob, dtype, count, view["byteOffset"])
        return out.reshape(-1, _WIDTH[accessor["type"]])

    def posed(self, frame):
        """World matrices of the nodes in a frame."""
        nodes = [dict(node) for node in self.document["nodes"]]
        (moves,) = self.document["animations"]
        for channel in moves["channels"]:
            output = self.values(moves["samplers"][channel["sampler"]]["output"])
            nodes[channel["target"]["node"]][channel["target"]["path"]] = output[frame]
        return self.world(nodes)

    def world(self, nodes):
        out = {}

        def walk(index, above):
            node = nodes[index]
            local = np.eye(4)
            x, y, z, w = np.asarray(node.get("rotation", [0, 0, 0, 1]), float)
            local[:3, :3] = rot.to_matrix(np.array([w, x, y, z]))
            local[:3, 3] = node.get("translation", [0, 0, 0])
            out[index] = above @ local
            for child in node.get("children", []):
                walk(child, out[index])

        for top in self.document["scenes"][0]["nodes"]:
            walk(top, np.eye(4))
        assert len(out) == len(nodes)  # one tree for each, nothing twice or lost
        return np.array([out[i] for i in range(len(nodes))])


def check(data):
    """Hold a file to what the Khronos validator looks at."""
    glb = Glb(data)
    document = glb.document
    assert document["asset"]["version"] == "2.0"
    assert document["buffers"] == [{"byteLength": len(glb.blob)}]
    used = [accessor["bufferView"] for accessor in document["accessors"]]
    assert sorted(used) == list(range(len(document["bufferViews"])))
    end = 0
    for view in document["bufferViews"]:  # aligned, in the buffer, and none over another
        assert view["byteOffset"] % 4 == 0
        assert view["byteOffset"] >= end
        end = view["byteOffset"] + view["byteLength"]
    assert end <= len(glb.blob)
    for i, accessor in enumerate(document["accessors"]):
        values = glb.values(i)
        assert np.isfinite(values).all()
        np.testing.assert_array_equal(np.array(accessor["min"], values.dtype), values.min(axis=0))
        np.testing.assert_array_equal(np.array(accessor["max"], values.dtype), values.max(axis=0))
        assert accessor["count"] > 0
    for node in document["nodes"]:
        assert np.linalg.norm(node.get("rotation", [0, 0, 0, 1])) == pytest.approx(1, abs=1e-6)
    names = [node["name"] for node in document["nodes"]]
    assert len(set(names)) == len(names)
    targets = set()
    for moves in document.get("animations", []):
        for channel in moves["channels"]:
            sampler = moves["samplers"][channel["sampler"]]
            times, values = glb.values(sampler["input"])[:, 0], glb.values(sampler["output"])
            assert len(times) == len(values)
            assert times[0] >= 0
            assert (np.diff(times) > 0).all()
            target = channel["target"]["node"], channel["target"]["path"]
            assert target not in targets
            targets.add(target)
            if target[1] == "rotation":
                np.testing.assert_allclose(np.linalg.norm(values, axis=1), 1, atol=1e-6)
                assert ((values[1:] * values[:-1]).sum(axis=1) >= 0).all()
    for skin in document.get("skins", []):
        joints = skin["joints"]
        assert len(set(joints)) == len(joints)
        binds = glb.values(skin["inverseBindMatrices"]).reshape(-1, 4, 4).transpose(0, 2, 1)
        assert len(binds) == len(joints)
        np.testing.assert_array_equal(binds[:, 3], np.tile([0, 0, 0, 1], (len(joints), 1)))
        # a bind of each joint at rest: rotations, without scale
        for matrix in binds:
            np.testing.assert_allclose(matrix[:3, :3] @ matrix[:3, :3].T, np.eye(3), atol=1e-6)
    for mesh in document.get("meshes", []):
        for primitive in mesh["primitives"]:
            own = {name: glb.values(i) for name, i in primitive["attributes"].items()}
            assert len({len(values) for values in own.values()}) == 1
            np.testing.assert_allclose(np.linalg.norm(own["NORMAL"], axis=1), 1, atol=1e-5)
            np.testing.assert_allclose(own["WEIGHTS_0"].sum(axis=1), 1)
            assert own["JOINTS_0"].max() < len(joints)
            assert (own["JOINTS_0"][own["WEIGHTS_0"] == 0] == 0).all()
            faces = glb.values(primitive["indices"])[:, 0]
            assert len(faces) % 3 == 0
            assert faces.max() < len(own["POSITION"])
            kind = document["accessors"][primitive["indices"]]["componentType"]
            assert kind == UINT or faces.max() < 65535
    drawn = {p["material"] for mesh in document.get("meshes", []) for p in mesh["primitives"]}
    assert drawn == set(range(len(document.get("materials", []))))
    return glb


@pytest.fixture(scope="module")
def clip():
    return motion.generate("kick and wave left", track="kinematic", fps=10)


def _first(clip):
    names = ("root_positions", "root_rotations", "angles", "contacts")
    return replace(clip, **{name: getattr(clip, name)[:1] for name in names})


@pytest.mark.parametrize("hand_shape", ["open", "fist", "point", "grip"])
def test_clips_are_valid(clip, hand_shape):
    check(to_glb(replace(clip, skeleton=motion.humanoid(hand_shape=hand_shape), title='"\u00fc')))


def test_a_clip_of_one_frame_and_one_without_solids_are_valid(clip):
    check(to_glb(_first(clip)))
    bare = check(to_glb(replace(clip, skeleton=replace(clip.skeleton, shapes=()))))
    assert "meshes" not in bare.document
    one_sided = tuple(s for s in clip.skeleton.shapes
                      if clip.skeleton.names[s.body].startswith("left"))  # fmt: skip
    left = check(to_glb(replace(clip, skeleton=replace(clip.skeleton, shapes=one_sided))))
    assert [m["name"] for m in left.document["materials"]] == ["left"]


@pytest.mark.parametrize(
    ("count", "kind"), [(3, USHORT), (65535, USHORT), (65536, UINT), (70000, UINT)]
)
def test_meshes_beyond_two_bytes_have_wider_indices(count, kind):
    buffer, points = Buffer(), np.zeros((count, 3))
    faces = np.array([[0, 1, count - 1]])
    skinned_primitive(buffer, [(points, points + np.array([0, 0, 1.0]), faces)], [0], 0)
    assert buffer.accessors[-1]["componentType"] == kind
    assert buffer.accessors[-1]["max"] == [count - 1]


def test_mixamos_nodes_go_where_its_bones_go(clip):
    moved = retarget(clip, "mixamo")
    glb = check(rig_to_glb(moved))
    names = [node["name"] for node in glb.document["nodes"]]
    assert names[:-1] == list(moved.rig.names)
    for frame in (0, clip.num_frames // 2):
        world = glb.posed(frame)
        places = 0.01 * moved.positions[frame]  # metres; y up and facing z, as they are
        np.testing.assert_allclose(world[:-1, :3, 3], places, atol=1e-5)
    # at rest the file stands as the rig does, its arms out, y along each bone
    rest = glb.world(glb.document["nodes"])
    np.testing.assert_allclose(rest[:-1, :3, 3], 0.01 * moved.rig.positions, atol=1e-6)
    arm, elbow = (names.index(f"mixamorig:Left{part}") for part in ("Arm", "ForeArm"))
    np.testing.assert_allclose(rest[arm, :3, 1], (1, 0, 0), atol=1e-6)
    gap = rest[elbow, :3, 3] - rest[arm, :3, 3]
    np.testing.assert_allclose(gap, (0.275, 0, 0), atol=1e-6)
    # the binds are those of rest
    skin = glb.document["skins"][0]
    binds = glb.values(skin["inverseBindMatrices"]).reshape(-1, 4, 4).transpose(0, 2, 1)
    np.testing.assert_allclose(rest[:-1] @ binds, np.tile(np.eye(4), (25, 1, 1)), atol=1e-5)


def test_a_rig_with_z_up_in_inches_becomes_metres_with_y_up(clip):
    plain = retarget(clip, "mixamo")
    # facing -y with z up: (left, up, ahead) of theirs as (x, z, -y)
    turn = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])
    rig = plain.rig
    other = Rig(rig.names, rig.parents, rig.positions @ turn.T / 2.54, rig.channels,
                tuple((i, turn @ at / 2.54) for i, at in rig.ends), unit=0.0254)  # fmt: skip
    moved = retarget(clip, other)
    glb = check(rig_to_glb(moved))
    for frame in (0, clip.num_frames - 1):
        world = glb.posed(frame)
        np.testing.assert_allclose(world[:-1, :3, 3], 0.01 * plain.positions[frame], atol=1e-5)
    skin = glb.document["skins"][0]
    binds = glb.values(skin["inverseBindMatrices"]).reshape(-1, 4, 4).transpose(0, 2, 1)
    rest = glb.world(glb.document["nodes"])
    np.testing.assert_allclose(rest[:-1] @ binds, np.tile(np.eye(4), (25, 1, 1)), atol=1e-5)


def test_a_rig_that_is_no_figure_is_valid_all_the_same():
    rig = Rig(("a", "b"), (-1, 0), np.array([[0, 0, 0], [0, 10.0, 0]]),
              ((*POSITIONS, *ROTATIONS), ROTATIONS))  # fmt: skip
    turns = np.tile([1.0, 0, 0, 0], (2, 2, 1))
    turns[1, 1] = (0, 0, 0, 1)
    glb = check(rig_to_glb(RigMotion(rig, 30.0, np.array([[0, 0, 0], [1.0, 2, 3]]), turns)))
    np.testing.assert_allclose(glb.posed(1)[1, :3, 3], (0.01, 0.12, 0.03), atol=1e-7)
    alone = Rig(("a",), (-1,), np.zeros((1, 3)), (POSITIONS,))
    check(rig_to_glb(RigMotion(alone, 30.0, np.zeros((1, 3)), np.array([[[1.0, 0, 0, 0]]]))))


def test_blenders_defaults_show_the_figure_upright_and_from_the_front(clip):
    """Importers there take y as up and -z as forward: (x, y, z) becomes (x, -z, y)."""
    blender = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])
    moved = retarget(_first(clip), "mixamo")
    at = dict(zip(moved.rig.names, moved.positions[0] @ blender.T, strict=True))
    head, hips, foot, toes, left, right = (
        at[f"mixamorig:{n}"]
        for n in ("Head", "Hips", "LeftFoot", "LeftToeBase", "LeftArm", "RightArm")
    )
    assert head[2] > hips[2] > foot[2] > 0  # z is up
    assert toes[1] < foot[1] - 5  # it looks along -y, at the front view
    assert left[0] > right[0]
