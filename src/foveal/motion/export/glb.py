"""Binary glTF 2.0: metres, y up, facing +z; one skinned mesh over a node for each body.

Each vertex belongs to one body, with the weight 1: the solids are rigid. Programs that import the
skin show an armature of our body names.
"""

import json
import struct
from typing import Any

import numpy as np

from foveal.motion import rotations as rot
from foveal.motion.clip import Clip, capsule_frame
from foveal.motion.rotations import Array
from foveal.motion.skeleton import Shape, Skeleton

_TO_GLTF = np.array([[0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [1.0, 0.0, 0.0]])
_FLOAT, _USHORT = 5126, 5123
_COLORS = {
    "trunk": [0.62, 0.65, 0.70, 1.0], "left": [0.16, 0.47, 0.71, 1.0],
    "right": [0.84, 0.42, 0.15, 1.0],
}  # fmt: skip


def _capsule(shape: Shape, rings: int = 5, sectors: int = 16) -> tuple[Array, Array, np.ndarray]:
    """Vertices, normals and triangles of a capsule, in the body frame."""
    turn, half = capsule_frame(shape.start, shape.end)
    latitudes = np.concatenate(
        [np.linspace(-np.pi / 2, 0, rings), np.linspace(0, np.pi / 2, rings)]
    )
    lift = np.concatenate([np.full(rings, -half), np.full(rings, half)])
    angle = np.linspace(0, 2 * np.pi, sectors + 1)
    cos, sin = np.cos(latitudes)[:, None], np.sin(latitudes)[:, None]
    normals = np.stack(
        [cos * np.cos(angle), cos * np.sin(angle), np.broadcast_to(sin, (2 * rings, sectors + 1))],
        axis=-1,
    )
    points = shape.radius * normals
    points[..., 2] += lift[:, None]
    row, column = np.meshgrid(np.arange(2 * rings - 1), np.arange(sectors), indexing="ij")
    a = (row * (sectors + 1) + column).ravel()
    b, c, d = a + 1, a + sectors + 1, a + sectors + 2
    faces = np.stack([a, b, d, a, d, c], axis=1).reshape(-1, 3)
    flat = rot.rotate(turn, points.reshape(-1, 3)) + shape.center
    return flat, rot.rotate(turn, normals.reshape(-1, 3)), faces


def _box(shape: Shape) -> tuple[Array, Array, np.ndarray]:
    """Vertices, normals and triangles of a box with flat sides, in the body frame."""
    points, normals, faces = [], [], []
    half = np.array(shape.end)
    for axis in range(3):
        for sign in (-1.0, 1.0):
            n = np.zeros(3)
            n[axis] = sign
            u, v = np.eye(3)[(axis + 1) % 3], np.eye(3)[(axis + 2) % 3]
            if sign < 0:
                u, v = v, u
            base = len(points)
            points += [(n + s * u + t * v) * half for s, t in ((-1, -1), (1, -1), (1, 1), (-1, 1))]
            normals += [n] * 4
            faces += [(base, base + 1, base + 2), (base, base + 2, base + 3)]
    turned = rot.rotate(shape.turn, np.array(points))
    return turned + shape.center, rot.rotate(shape.turn, np.array(normals)), np.array(faces)


class _Buffer:
    """Collects accessors into one binary blob, each aligned to four bytes."""

    def __init__(self) -> None:
        self.blob = bytearray()
        self.views: list[dict[str, Any]] = []
        self.accessors: list[dict[str, Any]] = []

    def add(self, values: Array, kind: str, component: int, target: int | None = None) -> int:
        data = np.ascontiguousarray(values, "<f4" if component == _FLOAT else "<u2")
        self.blob += b"\0" * (-len(self.blob) % 4)
        view = {"buffer": 0, "byteOffset": len(self.blob), "byteLength": data.nbytes}
        if target is not None:
            view["target"] = target
        self.views.append(view)
        self.blob += data.tobytes()
        rows = data.reshape(len(data), -1)
        self.accessors.append(
            {
                "bufferView": len(self.views) - 1,
                "componentType": component,
                "count": len(data),
                "type": kind,
                "min": [v.item() for v in rows.min(axis=0)],
                "max": [v.item() for v in rows.max(axis=0)],
            }
        )
        return len(self.accessors) - 1


def _skin(skeleton: Skeleton, buffer: _Buffer) -> list[dict[str, Any]]:
    """Write the solids of the resting figure; returns a primitive for each material."""
    places = skeleton.rest_positions
    primitives: list[dict[str, Any]] = []
    for number, color in enumerate(_COLORS):
        corners: list[Array] = []
        normals: list[Array] = []
        owners: list[Array] = []
        faces: list[np.ndarray] = []
        count = 0
        for shape in skeleton.shapes:
            side = skeleton.names[shape.body].split("_")[0]
            if (side if side in _COLORS else "trunk") != color:
                continue
            points, outward, triangles = _capsule(shape) if shape.kind == "capsule" else _box(shape)
            corners.append(points + places[shape.body])
            normals.append(outward)
            owners.append(np.full(len(points), shape.body))
            faces.append(triangles + count)
            count += len(points)
        if not corners:
            continue
        joints, weights = np.zeros((count, 4)), np.zeros((count, 4))
        joints[:, 0], weights[:, 0] = np.concatenate(owners), 1.0
        attributes = {
            "POSITION": (np.concatenate(corners) @ _TO_GLTF.T, _FLOAT, "VEC3"),
            "NORMAL": (np.concatenate(normals) @ _TO_GLTF.T, _FLOAT, "VEC3"),
            "JOINTS_0": (joints, _USHORT, "VEC4"),
            "WEIGHTS_0": (weights, _FLOAT, "VEC4"),
        }
        indices = np.concatenate(faces).reshape(-1)
        primitives.append(
            {
                "attributes": {
                    name: buffer.add(values, kind, component, 34962)
                    for name, (values, component, kind) in attributes.items()
                },
                "indices": buffer.add(indices, "SCALAR", _USHORT, 34963),
                "material": number,
            }
        )
    return primitives


def _inverse_binds(skeleton: Skeleton) -> Array:
    """Matrices (bodies, 16), column after column, from the resting figure to each body's frame."""
    places = skeleton.rest_positions @ _TO_GLTF.T
    out = np.tile(np.eye(4), (skeleton.num_bodies, 1, 1))
    out[:, 3, :3] = -places  # stored by columns: the translation is the last one
    return out.reshape(-1, 16)


def to_glb(clip: Clip) -> bytes:
    """Return the clip as a GLB file: nodes named as our bodies, one skin, one animation."""
    skeleton, buffer = clip.skeleton, _Buffer()
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
    times = buffer.add(np.arange(clip.num_frames) / clip.fps, "SCALAR", _FLOAT)
    outputs = [(0, "translation", buffer.add(clip.root_positions @ _TO_GLTF.T, "VEC3", _FLOAT))]
    outputs += [(i, "rotation", buffer.add(local[:, i], "VEC4", _FLOAT)) for i in range(len(nodes))]
    primitives = _skin(skeleton, buffer)
    binds = buffer.add(_inverse_binds(skeleton), "MAT4", _FLOAT)
    joints = list(range(len(nodes)))
    nodes.append({"name": "figure", "mesh": 0, "skin": 0})
    document = {
        "asset": {"version": "2.0", "generator": "foveal.motion"},
        "scene": 0,
        "scenes": [{"nodes": [0, len(nodes) - 1], "name": clip.title or "clip"}],
        "nodes": nodes,
        "meshes": [{"name": "figure", "primitives": primitives}],
        "skins": [{"inverseBindMatrices": binds, "joints": joints, "skeleton": 0}],
        "materials": [
            {
                "name": name,
                "pbrMetallicRoughness": {
                    "baseColorFactor": color, "metallicFactor": 0.0, "roughnessFactor": 0.7,
                },
            }
            for name, color in _COLORS.items()
        ],
        "animations": [
            {
                "name": clip.title or "clip",
                "samplers": [
                    {"input": times, "output": out, "interpolation": "LINEAR"}
                    for _, _, out in outputs
                ],
                "channels": [
                    {"sampler": i, "target": {"node": node, "path": path}}
                    for i, (node, path, _) in enumerate(outputs)
                ],
            }
        ],
        "accessors": buffer.accessors,
        "bufferViews": buffer.views,
        "buffers": [{"byteLength": len(buffer.blob) + (-len(buffer.blob) % 4)}],
    }  # fmt: skip
    text = json.dumps(document, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 4)
    blob = bytes(buffer.blob) + b"\0" * (-len(buffer.blob) % 4)
    return b"".join(
        [
            struct.pack("<4sII", b"glTF", 2, 12 + 8 + len(text) + 8 + len(blob)),
            struct.pack("<I4s", len(text), b"JSON"), text,
            struct.pack("<I4s", len(blob), b"BIN\0"), blob,
        ]
    )  # fmt: skip
