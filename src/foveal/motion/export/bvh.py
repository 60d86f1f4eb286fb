"""Biovision hierarchy: centimetres, y up, facing +z, zero rotation is the T-pose."""

import numpy as np

from foveal.motion import rotations as rot
from foveal.motion.clip import Clip
from foveal.motion.rotations import Array
from foveal.motion.skeleton import SIDES, Skeleton

CENTIMETERS = 100.0
ORDER = "zxy"
# Ours (x forward, y left, z up) to theirs (z forward, x left, y up): a cyclic change of axes.
_TO_BVH = np.array([[0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [1.0, 0.0, 0.0]])


def _onto(start: Array, end: Array) -> Array:
    """Return the shortest rotation (4,) that takes one direction (3,) to another."""
    a, b = start / np.linalg.norm(start), end / np.linalg.norm(end)
    q = np.array([1.0 + float(a @ b), *np.cross(a, b)])
    return rot.normalize(q) if np.linalg.norm(q) > 1e-9 else np.array([0.0, 0.0, 0.0, 1.0])


def t_pose(skeleton: Skeleton) -> Array:
    """World rotations (bodies, 4) of the T-pose: arms stretched out sideways."""
    out = np.tile([1.0, 0.0, 0.0, 0.0], (skeleton.num_bodies, 1))
    for side, sign in zip(SIDES, (1.0, -1.0), strict=True):
        for i, name in enumerate(skeleton.names):
            if name in (f"{side}_upper_arm", f"{side}_forearm"):
                child = skeleton.parents.index(i) if i in skeleton.parents else i
                along = skeleton.offsets[child] if child != i else skeleton.centers[i]
                out[i] = _onto(along, np.array([0.0, sign, 0.0]))
            elif _below(skeleton, i, f"{side}_upper_arm"):
                out[i] = out[skeleton.parents[i]]
    return out


def _below(skeleton: Skeleton, body: int, name: str) -> bool:
    while body > 0:
        body = skeleton.parents[body]
        if skeleton.names[body] == name:
            return True
    return False


def end_site(skeleton: Skeleton, body: int) -> Array:
    """The far end (3,) of a body without children: where its solids end, straight on, m."""
    along = skeleton.centers[body]
    if np.linalg.norm(along) < 1e-6:
        along = skeleton.offsets[body]
    axis = np.zeros(3)  # the nearest axis of the body's frame: a head ends at its crown
    axis[int(np.abs(along).argmax())] = np.sign(along[np.abs(along).argmax()])
    shapes = [shape for shape in skeleton.shapes if shape.body == body]
    reach = [float((s.corners @ axis).max()) + s.radius for s in shapes]
    return axis * max(reach, default=0.01)


def bvh_frames(clip: Clip) -> tuple[Array, Array, Array]:
    """Offsets, root path and Euler angles as written.

    Returns: offsets (bodies, 3) cm, root (frames, 3) cm, and angles (frames, bodies, 3) in
    degrees, order z x y, continuous over the frames.
    """
    skeleton = clip.skeleton
    rest = t_pose(skeleton)
    world = rot.multiply(clip.world_rotations, rot.conjugate(rest))
    local = world.copy()
    offsets = skeleton.offsets.copy()
    for i in range(1, skeleton.num_bodies):
        parent = skeleton.parents[i]
        local[:, i] = rot.multiply(rot.conjugate(world[:, parent]), world[:, i])
        offsets[i] = rot.rotate(rest[parent], skeleton.offsets[i])
    matrices = _TO_BVH @ rot.to_matrix(local) @ _TO_BVH.T
    euler = np.degrees(rot.continuous_euler(matrices, ORDER))
    offsets = CENTIMETERS * offsets @ _TO_BVH.T
    offsets[0] = 0.0
    return offsets, CENTIMETERS * clip.root_positions @ _TO_BVH.T, euler


def to_bvh(clip: Clip) -> str:
    """Return the clip as BVH text; joints keep our body names, the left side is +x."""
    offsets, root, euler = bvh_frames(clip)
    skeleton = clip.skeleton
    rest = t_pose(skeleton)
    lines = ["HIERARCHY"]
    order: list[int] = []

    def joint(i: int, depth: int) -> None:
        pad = "  " * depth
        order.append(i)
        lines.append(f"{pad}{'JOINT' if i else 'ROOT'} {skeleton.names[i]}")
        lines.append(f"{pad}{{")
        lines.append(f"{pad}  OFFSET " + " ".join(f"{v:.6f}" for v in offsets[i]))
        turn = "Zrotation Xrotation Yrotation"
        lines.append(
            f"{pad}  CHANNELS 3 {turn}"
            if i
            else f"{pad}  CHANNELS 6 Xposition Yposition Zposition {turn}"
        )
        children = [c for c in range(skeleton.num_bodies) if skeleton.parents[c] == i]
        for child in children:
            joint(child, depth + 1)
        if not children:
            tip = CENTIMETERS * _TO_BVH @ rot.rotate(rest[i], end_site(skeleton, i))
            lines.append(f"{pad}  End Site")
            lines.append(f"{pad}  {{")
            lines.append(f"{pad}    OFFSET " + " ".join(f"{v:.6f}" for v in tip))
            lines.append(f"{pad}  }}")
        lines.append(f"{pad}}}")

    joint(0, 0)
    lines += ["MOTION", f"Frames: {clip.num_frames}", f"Frame Time: {1.0 / clip.fps:.8f}"]
    table = np.concatenate([root, euler[:, order].reshape(clip.num_frames, -1)], axis=1)
    lines += [" ".join(f"{v:.6f}" for v in row) for row in table]
    return "\n".join(lines) + "\n"
