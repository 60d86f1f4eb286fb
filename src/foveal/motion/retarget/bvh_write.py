"""Writing a motion of any rig as BVH with the rig's own channels."""

import numpy as np

from foveal.motion import rotations as rot
from foveal.motion.retarget.rig import Rig, RigMotion
from foveal.motion.rotations import Array


def _number(value: float) -> str:
    return f"{value + 0.0:.6f}"


def _hierarchy(rig: Rig) -> tuple[list[str], list[int]]:
    """Lines of the joints, depth first, and the order in which they stand."""
    offsets, order = rig.offsets, list[int]()
    lines = ["HIERARCHY"]
    todo: list[tuple[int, int]] = [(0, 0)]  # joint or -1 for a brace, depth
    while todo:
        i, depth = todo.pop()
        pad = "  " * depth
        if i < 0:
            lines.append(f"{pad}}}")
            continue
        order.append(i)
        lines += [f"{pad}{'JOINT' if i else 'ROOT'} {rig.names[i]}", f"{pad}{{"]
        lines.append(f"{pad}  OFFSET " + " ".join(map(_number, offsets[i])))
        names = rig.channels[i]
        lines.append(f"{pad}  CHANNELS {len(names)} {' '.join(names)}".rstrip())
        for tip in rig.ends_of(i):
            at = " ".join(map(_number, tip - rig.positions[i]))
            lines += [f"{pad}  End Site", f"{pad}  {{", f"{pad}    OFFSET {at}", f"{pad}  }}"]
        todo.append((-1, depth))
        todo += [(child, depth + 1) for child in reversed(rig.children[i])]
    return lines, order


def _angles(turns: Array, letters: str) -> Array:
    """Angles (frames, letters) in degrees about the named axes; what they cannot show is lost."""
    order = letters + "".join(letter for letter in "zxy" if letter not in letters)
    matrices = rot.to_matrix(turns)
    if len(letters) == 3:
        return np.degrees(rot.continuous_euler(matrices, order))
    if len(letters) == 1:
        axis = "xyz".index(letters)
        angles = 2.0 * np.arctan2(turns[:, 1 + axis], turns[:, 0])
        return np.degrees(np.unwrap(angles))[:, None]
    return np.degrees(rot.continuous_euler(matrices, order))[:, : len(letters)]


def rig_to_bvh(motion: RigMotion) -> str:
    """Return a motion as BVH text.

    Angles are continuous over the frames. Joints with fewer than three turns show what they can;
    position channels of joints other than the root hold their offset.
    """
    rig, local, offsets = motion.rig, motion.local(), motion.rig.offsets
    lines, order = _hierarchy(rig)
    columns: list[Array] = []
    for i in order:
        letters = "".join(n[0].lower() for n in rig.channels[i] if n.endswith("rotation"))
        angles = _angles(local[:, i], letters) if letters else np.zeros((motion.num_frames, 0))
        for name in rig.channels[i]:
            axis = "XYZ".index(name[0])
            if name.endswith("rotation"):
                columns.append(angles[:, letters.index(name[0].lower())])
            elif i == 0:
                columns.append(motion.roots[:, axis])
            else:
                columns.append(np.full(motion.num_frames, offsets[i, axis]))
    lines += ["MOTION", f"Frames: {motion.num_frames}", f"Frame Time: {1.0 / motion.fps:.12g}"]
    table = np.stack(columns, axis=1)
    lines += [" ".join(map(_number, row)) for row in table]
    return "\n".join(lines) + "\n"
