"""Parts of a binary glTF file: accessors in one buffer, solids as triangles, the two chunks."""

import json
import struct
from collections.abc import Sequence
from typing import Any

import numpy as np

from foveal.motion import rotations as rot
from foveal.motion.clip import capsule_frame
from foveal.motion.rotations import Array
from foveal.motion.skeleton import Shape

FLOAT, USHORT, UINT = 5126, 5123, 5125
VERTICES, INDICES = 34962, 34963
_TYPES = {FLOAT: "<f4", USHORT: "<u2", UINT: "<u4"}
_SHORT = 65535  # the first index that two bytes must not hold: it restarts a strip


def capsule_mesh(
    shape: Shape, rings: int = 5, sectors: int = 16
) -> tuple[Array, Array, np.ndarray]:
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


def box_mesh(shape: Shape) -> tuple[Array, Array, np.ndarray]:
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


class Buffer:
    """Collects accessors into one binary blob, each aligned to four bytes."""

    def __init__(self) -> None:
        self.blob = bytearray()
        self.views: list[dict[str, Any]] = []
        self.accessors: list[dict[str, Any]] = []

    def add(self, values: Array, kind: str, component: int, target: int | None = None) -> int:
        """Append an accessor with its bounds and return its index."""
        data = np.ascontiguousarray(values, _TYPES[component])
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


def skinned_primitive(
    buffer: Buffer,
    parts: Sequence[tuple[Array, Array, np.ndarray]],
    owners: Sequence[int],
    material: int,
) -> dict[str, Any]:
    """Write one primitive of rigid parts, each bound to one joint with the weight 1.

    Args:
        buffer: Where the accessors go.
        parts: Vertices, normals and triangles of each part.
        owners: The joint of each part.
        material: Index of the material.
    """
    starts = np.cumsum([0, *(len(points) for points, _, _ in parts)])
    count = int(starts[-1])
    joints, weights = np.zeros((count, 4)), np.zeros((count, 4))
    joints[:, 0] = np.repeat(owners, np.diff(starts))
    weights[:, 0] = 1.0
    faces = np.concatenate([part[2] + start for part, start in zip(parts, starts, strict=False)])
    attributes = {
        "POSITION": (np.concatenate([part[0] for part in parts]), FLOAT, "VEC3"),
        "NORMAL": (np.concatenate([part[1] for part in parts]), FLOAT, "VEC3"),
        "JOINTS_0": (joints, USHORT, "VEC4"),
        "WEIGHTS_0": (weights, FLOAT, "VEC4"),
    }
    return {
        "attributes": {
            name: buffer.add(values, kind, component, VERTICES)
            for name, (values, component, kind) in attributes.items()
        },
        "indices": buffer.add(
            faces.reshape(-1), "SCALAR", USHORT if count <= _SHORT else UINT, INDICES
        ),
        "material": material,
    }


def animation(
    buffer: Buffer, name: str, fps: float, tracks: Sequence[tuple[int, str, Array]]
) -> dict[str, Any]:
    """Write linear tracks (node, path, values by frame) over the same times."""
    times = np.arange(len(tracks[0][2])) / fps
    clock = buffer.add(times, "SCALAR", FLOAT)
    samplers = [
        {
            "input": clock,
            "output": buffer.add(values, f"VEC{values.shape[1]}", FLOAT),
            "interpolation": "LINEAR",
        }
        for _, _, values in tracks
    ]
    channels = [
        {"sampler": i, "target": {"node": node, "path": path}}
        for i, (node, path, _) in enumerate(tracks)
    ]
    return {"name": name, "samplers": samplers, "channels": channels}


def materials(colors: dict[str, list[float]]) -> list[dict[str, Any]]:
    """Return a matte material for each color."""
    return [
        {
            "name": name,
            "pbrMetallicRoughness": {
                "baseColorFactor": color, "metallicFactor": 0.0, "roughnessFactor": 0.7,
            },
        }
        for name, color in colors.items()
    ]  # fmt: skip


def pack(document: dict[str, Any], buffer: Buffer) -> bytes:
    """Join a document, completed by the buffer's views and accessors, with its bytes."""
    blob = bytes(buffer.blob) + b"\0" * (-len(buffer.blob) % 4)
    whole = {
        "asset": {"version": "2.0", "generator": "foveal.motion"},
        **document,
        "accessors": buffer.accessors,
        "bufferViews": buffer.views,
        "buffers": [{"byteLength": len(blob)}],
    }
    text = json.dumps(whole, separators=(",", ":"), allow_nan=False).encode()
    text += b" " * (-len(text) % 4)
    return b"".join(
        [
            struct.pack("<4sII", b"glTF", 2, 12 + 8 + len(text) + 8 + len(blob)),
            struct.pack("<I4s", len(text), b"JSON"), text,
            struct.pack("<I4s", len(blob), b"BIN\0"), blob,
        ]
    )  # fmt: skip
