"""A motion of any rig as binary glTF: its joints as nodes, a bone of the skin for each."""

from typing import Any

import numpy as np

from foveal.motion import rotations as rot
from foveal.motion.export import glb_file
from foveal.motion.export.glb import COLORS
from foveal.motion.export.glb_file import FLOAT, Buffer
from foveal.motion.retarget.rig import Rig, RigMotion
from foveal.motion.retarget.transfer import rig_axes
from foveal.motion.rotations import Array
from foveal.motion.skeleton import Shape

_TO_GLTF = np.array([[0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [1.0, 0.0, 0.0]])  # of ahead, left, up
_THICK = 0.12  # radius of a bone in its length
_THIN, _FAT = 0.006, 0.05  # m


def _bones(rig: Rig, turn: Array) -> list[tuple[Array, Array, np.ndarray]]:
    """A capsule from each joint to its children and ends, at rest, in metres, y up."""
    out: list[tuple[Array, Array, np.ndarray]] = []
    for i in range(rig.num_joints):
        tips = [rig.positions[child] for child in rig.children[i]] + rig.ends_of(i)
        parts: list[tuple[Array, Array, np.ndarray]] = []
        count = 0
        for tip in tips or [rig.positions[i]]:
            gap = rig.unit * (tip - rig.positions[i])
            length = float(np.linalg.norm(gap))
            radius = float(np.clip(_THICK * length, _THIN, _FAT))
            inner = gap * max(0.0, 1.0 - radius / length) if length > 0 else gap
            x, y, z = (float(v) for v in inner)
            shape = Shape(0, "capsule", (0.0, 0.0, 0.0), (x, y, z), radius)
            points, normals, faces = glb_file.capsule_mesh(shape)
            where = rig.unit * rig.positions[i] + points
            parts.append((where @ turn.T, normals @ turn.T, faces + count))
            count += len(points)
        points, normals, faces = (np.concatenate(column) for column in zip(*parts, strict=True))
        out.append((points, normals, faces))
    return out


def rig_to_glb(motion: RigMotion) -> bytes:
    """Return a motion as a GLB file: metres, y up, facing +z, joints with the rig's own axes.

    Joints of a rig in which no figure is found keep its coordinates.
    """
    rig, buffer = motion.rig, Buffer()
    turn = _TO_GLTF @ rig_axes(rig).T
    whole = rot.from_matrix(turn)
    axes = np.tile([1.0, 0.0, 0.0, 0.0], (rig.num_joints, 1)) if rig.axes is None else rig.axes
    parents = np.array(rig.parents, int)
    steps = rig.unit * rig.offsets
    steps[1:] = rot.rotate(rot.conjugate(axes[parents[1:]]), steps[1:])
    local = motion.local(own_axes=True)
    local[:, 0] = rot.multiply(whole, local[:, 0])
    local = rot.unwrap_signs(rot.normalize(local))[..., [1, 2, 3, 0]]
    roots = rig.unit * motion.roots @ turn.T
    resting = np.array(axes)
    resting[1:] = rot.multiply(rot.conjugate(axes[parents[1:]]), axes[1:])
    resting[0] = rot.multiply(whole, axes[0])
    nodes: list[dict[str, Any]] = []
    for i, name in enumerate(rig.names):
        place = turn @ steps[0] if i == 0 else steps[i]
        q = rot.normalize(resting[i])[[1, 2, 3, 0]]
        node: dict[str, Any] = {
            "name": name,
            "translation": [float(v) for v in place],
            "rotation": [float(v) for v in q],
        }
        if rig.children[i]:
            node["children"] = list(rig.children[i])
        nodes.append(node)
    tracks = [(0, "translation", roots)]
    tracks += [(i, "rotation", local[:, i]) for i in range(rig.num_joints)]
    title = motion.title or "motion"
    moves = glb_file.animation(buffer, title, motion.fps, tracks)
    joints = list(range(rig.num_joints))
    skin = glb_file.skinned_primitive(buffer, _bones(rig, turn), joints, 0)
    binds = np.tile(np.eye(4), (rig.num_joints, 1, 1))
    matrices = rot.to_matrix(rot.multiply(whole, axes))
    places = rig.unit * rig.positions @ turn.T
    binds[:, :3, :3] = matrices  # the transposed of the inverse
    binds[:, 3, :3] = -np.einsum("jik,ji->jk", matrices, places)
    nodes.append({"name": "bones", "mesh": 0, "skin": 0})
    document: dict[str, Any] = {
        "scene": 0,
        "scenes": [{"nodes": [0, len(joints)], "name": title}],
        "nodes": nodes,
        "meshes": [{"name": "bones", "primitives": [skin]}],
        "skins": [
            {
                "inverseBindMatrices": buffer.add(binds.reshape(-1, 16), "MAT4", FLOAT),
                "joints": joints,
                "skeleton": 0,
            }
        ],
        "materials": glb_file.materials({"trunk": COLORS["trunk"]}),
        "animations": [moves],
    }
    return glb_file.pack(document, buffer)
