"""Binary glTF 2.0: metres, y up, facing +z; one skinned mesh over a node for each body.

Each vertex belongs to one body, with the weight 1: the solids are rigid. Programs that import the
skin show an armature of our body names.
"""

from typing import Any

import numpy as np

from foveal.motion import rotations as rot
from foveal.motion.clip import Clip
from foveal.motion.export import glb_file
from foveal.motion.export.glb_file import FLOAT, Buffer
from foveal.motion.rotations import Array
from foveal.motion.skeleton import Skeleton

_TO_GLTF = np.array([[0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [1.0, 0.0, 0.0]])
COLORS = {
    "trunk": [0.62, 0.65, 0.70, 1.0], "left": [0.16, 0.47, 0.71, 1.0],
    "right": [0.84, 0.42, 0.15, 1.0],
}  # fmt: skip
"""Linear RGBA of the trunk and of each side."""


def _skin(
    skeleton: Skeleton, buffer: Buffer
) -> tuple[list[dict[str, Any]], dict[str, list[float]]]:
    """Write the solids of the resting figure; a primitive for each color that is there."""
    places = skeleton.rest_positions
    primitives: list[dict[str, Any]] = []
    used: dict[str, list[float]] = {}
    for color, value in COLORS.items():
        parts: list[tuple[Array, Array, np.ndarray]] = []
        owners: list[int] = []
        for shape in skeleton.shapes:
            side = skeleton.names[shape.body].split("_")[0]
            if (side if side in COLORS else "trunk") != color:
                continue
            mesh = glb_file.capsule_mesh if shape.kind == "capsule" else glb_file.box_mesh
            points, normals, faces = mesh(shape)
            where = (points + places[shape.body]) @ _TO_GLTF.T
            parts.append((where, normals @ _TO_GLTF.T, faces))
            owners.append(shape.body)
        if parts:
            primitives.append(glb_file.skinned_primitive(buffer, parts, owners, len(used)))
            used[color] = value
    return primitives, used


def _inverse_binds(skeleton: Skeleton) -> Array:
    """Matrices (bodies, 16), column after column, from the resting figure to each body's frame."""
    places = skeleton.rest_positions @ _TO_GLTF.T
    out = np.tile(np.eye(4), (skeleton.num_bodies, 1, 1))
    out[:, 3, :3] = -places  # stored by columns: the translation is the last one
    return out.reshape(-1, 16)


def to_glb(clip: Clip) -> bytes:
    """Return the clip as a GLB file: nodes named as our bodies, one skin, one animation."""
    skeleton, buffer = clip.skeleton, Buffer()
    # Conjugating by the cyclic change of axes permutes the vector part: w, y, z, x.
    local = rot.unwrap_signs(clip.rotations)[..., [2, 3, 1, 0]]
    nodes: list[dict[str, Any]] = []
    for i, name in enumerate(skeleton.names):
        start = clip.root_positions[0] if i == 0 else skeleton.offsets[i]
        node: dict[str, Any] = {
            "name": name,
            "translation": [float(v) for v in _TO_GLTF @ start],
            "rotation": [float(v) for v in local[0, i]],
        }
        children = [c for c in range(skeleton.num_bodies) if skeleton.parents[c] == i]
        if children:
            node["children"] = children
        nodes.append(node)
    tracks = [(0, "translation", clip.root_positions @ _TO_GLTF.T)]
    tracks += [(i, "rotation", local[:, i]) for i in range(len(nodes))]
    title = clip.title or "clip"
    moves = glb_file.animation(buffer, title, clip.fps, tracks)
    primitives, colors = _skin(skeleton, buffer)
    document: dict[str, Any] = {"scene": 0, "nodes": nodes, "animations": [moves]}
    if primitives:  # a figure without solids has nothing to skin
        joints = list(range(len(nodes)))
        binds = buffer.add(_inverse_binds(skeleton), "MAT4", FLOAT)
        nodes.append({"name": "figure", "mesh": 0, "skin": 0})
        document |= {
            "meshes": [{"name": "figure", "primitives": primitives}],
            "skins": [{"inverseBindMatrices": binds, "joints": joints, "skeleton": 0}],
            "materials": glb_file.materials(colors),
        }
    tops = sorted({0, len(nodes) - 1}) if primitives else [0]
    document["scenes"] = [{"nodes": tops, "name": title}]
    return glb_file.pack(document, buffer)
