"""Reading BVH: any order of channels, end sites, one root; what is broken is named by its line."""

import re
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from foveal.errors import ArgumentError
from foveal.motion import rotations as rot
from foveal.motion.retarget.rig import POSITIONS, ROTATIONS, Rig, RigMotion
from foveal.motion.rotations import Array

MAX_BYTES = 512 * 1024 * 1024
MAX_JOINTS = 2048
MAX_NUMBERS = 40_000_000
LARGEST = 1e9
_HEAD = (
    (r"Frames\s*:\s*(\d{1,9})", "Frames: COUNT"),
    (r"Frame\s+Time\s*:\s*(\S+)", "Frame Time: SECONDS"),
)
_CHANNELS = {name.lower(): name for name in (*POSITIONS, *ROTATIONS)}


@dataclass
class _Joint:
    name: str
    parent: int
    offset: Array | None = None
    channels: tuple[str, ...] | None = None


@dataclass
class _Tree:
    joints: list[_Joint] = field(default_factory=list)
    ends: list[tuple[int, Array]] = field(default_factory=list)


def _fail(where: str, line: int, text: str, mend: str) -> ArgumentError:
    return ArgumentError(f"{where}, line {line} {text}; {mend}")


def _floats(words: list[str], where: str, line: int, count: int) -> Array:
    try:
        values = np.array([float(word) for word in words])
    except ValueError:
        values = np.empty(0)
    if len(values) != count or not (np.abs(values) <= LARGEST).all():
        text = f"is {' '.join(words)[:60]!r}, must be {count} numbers within {LARGEST:g}"
        raise _fail(where, line, text, "mend it")
    return values


def _hierarchy(lines: list[str], where: str) -> tuple[_Tree, int]:
    """Read the joints; returns them and the line after "MOTION"."""
    tree = _Tree()
    stack: list[int] = []  # joints that are open; -2 is an end site
    pending: int | None = None
    started = False
    for number, raw in enumerate(lines, 1):
        words = raw.split()
        if not words:
            continue
        key = words[0].upper()
        rest = raw.strip()[len(words[0]) :].strip()
        inside_end = bool(stack) and stack[-1] == -2
        if pending is not None and key != "{":
            raise _fail(where, number, f"is {raw.strip()[:40]!r}, must be '{{'", "open the joint")
        if not started:
            if key != "HIERARCHY":
                raise _fail(where, number, f"is {raw[:40]!r}, must be 'HIERARCHY'", "is it BVH?")
            started = True
        elif key == "MOTION":
            if stack or not tree.joints:
                text = "ends the joints early, must follow their last '}'"
                raise _fail(where, number, text, "close them" if stack else "add a ROOT")
            return tree, number
        elif key in ("ROOT", "JOINT"):
            if key == "ROOT" and tree.joints:
                text = f"has a second root {rest[:40]!r}, must be one tree"
                raise _fail(where, number, text, "split the file")
            if (key == "JOINT") != bool(stack) or inside_end:
                text = f"has {key} {rest[:40]!r} in the wrong place, must be a JOINT in a joint"
                raise _fail(where, number, text, "mend the braces")
            if not rest or rest in [joint.name for joint in tree.joints]:
                text = f"names a joint {rest[:40]!r}, must be a name that is there once"
                raise _fail(where, number, text, "rename it")
            if len(tree.joints) >= MAX_JOINTS:
                text = f"is joint {MAX_JOINTS + 1}, must be at most {MAX_JOINTS}"
                raise _fail(where, number, text, "take a smaller rig")
            tree.joints.append(_Joint(rest, stack[-1] if stack else -1))
            pending = len(tree.joints) - 1
        elif key == "END":
            if not stack or inside_end:
                raise _fail(where, number, "has an end site outside a joint", "mend the braces")
            pending = -2
        elif key == "{":
            if pending is None:
                raise _fail(where, number, "opens nothing, must follow a joint", "mend the braces")
            stack.append(pending)
            pending = None
        elif key == "}":
            if not stack:
                raise _fail(where, number, "closes nothing", "mend the braces")
            closed = stack.pop()
            if closed >= 0 and (tree.joints[closed].offset is None):
                text = f"closes {tree.joints[closed].name!r}, which must have an OFFSET"
                raise _fail(where, number, text, "add it")
        elif key == "OFFSET" and stack:
            values = _floats(words[1:], where, number, 3)
            if inside_end:
                tree.ends.append((stack[-2], values))
            else:
                tree.joints[stack[-1]].offset = values
        elif key == "CHANNELS" and stack and not inside_end:
            tree.joints[stack[-1]].channels = _channels(words, where, number)
        else:
            text = f"is {raw.strip()[:40]!r}, must be of a joint"
            raise _fail(where, number, text, "mend or remove it")
    raise _fail(where, len(lines), "is the last, must be of 'MOTION'", "the file is cut off")


def _channels(words: list[str], where: str, number: int) -> tuple[str, ...]:
    names = tuple(_CHANNELS.get(word.lower(), "") for word in words[2:])
    if words[1:2] != [str(len(names))] or "" in names or len(set(names)) != len(names):
        text = f"is {' '.join(words)[:80]!r}, must be a count and as many channels, each once"
        raise _fail(where, number, text, f"channels are {', '.join(_CHANNELS.values())}")
    return names


def _motion(lines: list[str], start: int, width: int, where: str) -> tuple[Array, float]:
    rows = [(number, line) for number, line in enumerate(lines, 1) if number > start]
    rows = [(number, line) for number, line in rows if line.strip()]
    found: list[str] = []
    for k, (pattern, wanted) in enumerate(_HEAD):
        match = re.fullmatch(pattern, rows[k][1].strip(), re.IGNORECASE) if k < len(rows) else None
        if match is None:
            line = rows[k][0] if k < len(rows) else len(lines)
            raise _fail(where, line, f"must be {wanted!r}", "mend it")
        found.append(match.group(1))
    count = int(found[0])
    step = float(_floats(found[1:], where, rows[1][0], 1)[0])
    if not 1e-6 <= step <= 1e4:
        raise _fail(where, rows[1][0], f"has a frame time of {step} s, must be > 0", "mend it")
    if count * width > MAX_NUMBERS:
        text = f"has {count} frames of {width} numbers, must be {MAX_NUMBERS} in all at most"
        raise _fail(where, rows[0][0], text, "cut the motion")
    words = [word for _, line in rows[2:] for word in line.split()]
    if len(words) != count * width:
        text = f"asks for {count} frames of {width} numbers, must be followed by {count * width}"
        raise _fail(where, rows[0][0], f"{text} and not {len(words)}", "the file is cut off?")
    try:
        values = np.array(words, np.float64)
    except ValueError as error:
        raise ArgumentError(f"{where} has a frame that is no number ({error}); mend it") from error
    if not (np.abs(values) <= LARGEST).all():
        raise ArgumentError(
            f"{where} has a number in its frames that is not within {LARGEST:g}; mend it"
        )
    return values.reshape(count, width), step


def read_bvh(path: str | Path) -> RigMotion:
    """Read a BVH file: its rig and its frames.

    Position channels of a joint stand for its offset, as in most programs; those of joints other
    than the root are not used. A joint's channels may be in any order and fewer than three turns. A
    file without a frame is its rig at rest, once. The unit is the one of metres, centimetres,
    millimetres, inches and CMU's 56.4 mm in which the figure's height is nearest to a person's.

    Args:
        path: The file.

    Raises:
        ArgumentError: no such file, or it is not BVH: names the line and what must be there.
    """
    path = Path(path)
    where = f"read_bvh: path is {str(path)!r}"
    try:
        if path.stat().st_size > MAX_BYTES:
            raise OSError(f"it is larger than {MAX_BYTES} bytes")
        text = path.read_bytes().decode("utf-8-sig", errors="replace")
    except OSError as error:
        raise ArgumentError(f"{where}, must be a BVH file ({error}); check the path") from error
    lines = text.splitlines()
    if not lines or "\0" in lines[0]:
        raise ArgumentError(f"{where}, must be a BVH file, which is text; check the path")
    tree, start = _hierarchy(lines, where)
    channels = [joint.channels or () for joint in tree.joints]
    values, step = _motion(lines, start, sum(map(len, channels)), where)
    offsets = np.array([joint.offset for joint in tree.joints])
    parents = tuple(joint.parent for joint in tree.joints)
    positions = offsets.copy()
    for i, parent in enumerate(parents):
        if parent >= 0:
            positions[i] += positions[parent]
    ends = tuple((i, positions[i] + at) for i, at in tree.ends)
    points = np.concatenate([positions, *(at[None] for _, at in ends)])
    rig = Rig(
        tuple(joint.name for joint in tree.joints), parents, positions, tuple(channels), ends,
        unit=_unit(points),
    )  # fmt: skip
    if not len(values):
        values = np.zeros((1, values.shape[1]))
        columns = [channels[0].index(name) for name in POSITIONS if name in channels[0]]
        kept = [offsets[0][k] for k, name in enumerate(POSITIONS) if name in channels[0]]
        values[0, columns] = kept
    fps = 1.0 / step
    if abs(round(fps) - fps) < 1e-4 * fps:  # 0.0333333 is meant as 30 frames a second
        fps = float(round(fps))
    return _frames(rig, values, fps)


def _unit(points: Array) -> float:
    span = float(np.ptp(points, axis=0).max())
    units = np.array([1.0, 0.01, 0.001, 0.0254, 0.0254 / 0.45])  # the last is CMU's
    return float(units[np.abs(np.log(np.maximum(span, 1e-9) * units / 1.7)).argmin()])


def _frames(rig: Rig, values: Array, fps: float) -> RigMotion:
    count, column = len(values), 0
    roots = np.tile(rig.positions[0], (count, 1))
    turns = np.tile([1.0, 0.0, 0.0, 0.0], (count, rig.num_joints, 1))
    for i, names in enumerate(rig.channels):
        turn = np.tile([1.0, 0.0, 0.0, 0.0], (count, 1))
        for name in names:
            axis = "XYZ".index(name[0])
            if name.endswith("rotation"):
                step = rot.from_axis_angle(np.eye(3)[axis], np.radians(values[:, column]))
                turn = rot.multiply(turn, step)
            elif i == 0:
                roots[:, axis] = values[:, column]
            column += 1
        parent = rig.parents[i]
        turns[:, i] = turn if parent < 0 else rot.multiply(turns[:, parent], turn)
    return RigMotion(rig, fps, roots, turns)
