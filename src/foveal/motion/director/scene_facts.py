"""What geometry says about a pose in its scene: supports, clearances, reach and balance.

A scene is surfaces by name, as pose facts take them, and has a floor unless it says
`{"floor": None}`, which is refused: nobody can stand in it.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np

from foveal.errors import ArgumentError
from foveal.motion import rotations as rot
from foveal.motion.director.pose import CONTACT_POINTS, Pose, place
from foveal.motion.posecodes.points import FLOOR, Surface, find_point, read_scene
from foveal.motion.rotations import Array
from foveal.motion.skeleton import Side, Skeleton

Scene = dict[str, Surface]
_ON = 0.03  # m; as "on" of the pose facts
_MAX_BYTES = 1 << 20


def load_scene(scene: Mapping[str, object] | str | Path | None) -> Scene:
    """Read a scene: surfaces as plain data, or the fixed boxes and planes of an MJCF file.

    Args:
        scene: `{"seat": {"box": [[x, y, z], [x, y, z]]}, "shelf": {"height": 1.5}}`, the path of
            an MJCF file, or None for the empty floor.

    Returns: Name to surface; "floor" is always there.

    Raises:
        ArgumentError: no floor, a surface that cannot be read, a file that is no MJCF.
    """
    if scene is None:
        return {"floor": FLOOR}
    if isinstance(scene, str | Path):
        return _read_mjcf(Path(scene))
    given = dict(scene)
    if given.get("floor", FLOOR) is None:
        raise _no_floor("scene")
    return read_scene(given)


def _no_floor(what: str) -> ArgumentError:
    return ArgumentError(
        f"load_scene: {what} has no floor, must have one to stand on; leave 'floor' out for the "
        "floor at height 0, or give {'floor': {'height': h}}"
    )


def _read_mjcf(path: Path) -> Scene:
    if path.suffix.lower() != ".xml" or not path.is_file():
        raise ArgumentError(
            f"load_scene: scene is {str(path)!r}, must be an MJCF file (.xml); give surfaces as a "
            "mapping otherwise"
        )
    data = path.read_bytes()
    try:
        if len(data) > _MAX_BYTES or b"<!DOCTYPE" in data or b"<!ENTITY" in data:
            raise ValueError("a document of that kind is not read")
        world = ET.fromstring(data).find("worldbody")
        if world is None:
            raise ValueError("there is no worldbody")
        return _surfaces(world)
    except (ET.ParseError, ValueError, TypeError) as error:
        raise ArgumentError(
            f"load_scene: scene is {str(path)!r}, must be MJCF with upright boxes and a plane in "
            f"its worldbody ({error}); give surfaces as a mapping otherwise"
        ) from error


def _surfaces(world: ET.Element) -> Scene:
    out: Scene = {}
    for number, geom in enumerate(world.iter("geom")):
        name = geom.get("name", f"box {number}").replace("_", " ")
        at = [float(x) for x in geom.get("pos", "0 0 0").split()]
        kind = geom.get("type", "sphere")
        turned = {"quat", "euler", "axisangle", "xyaxes", "zaxis"} & set(geom.attrib)
        if turned or geom not in list(world):
            raise ValueError(f"geom {name!r} is turned or within a body")
        if kind == "plane":
            out |= read_scene({"floor": {"height": at[2]}})
        elif kind == "box":
            half = [float(x) for x in geom.get("size", "").split()]
            low = [c - h for c, h in zip(at, half, strict=True)]
            high = [c + h for c, h in zip(at, half, strict=True)]
            out[name] = read_scene({name: {"box": [low, high]}})[name]
        else:
            raise ValueError(f"geom {name!r} is a {kind}, which is no level surface")
    if "floor" not in out:
        raise _no_floor("scene")
    return out


def skin(skeleton: Skeleton, pose: Pose, part: str) -> Array:
    """Return the lowest points (points, 3) of the solids of a contact part, m.

    Feet are their contact points; other parts the lower ends of their capsules or box corners.
    """
    positions, world = place(skeleton, pose)
    side, _, rest = part.partition("_")
    if rest == "foot":
        name: Side = "left" if side == "left" else "right"
        return skeleton.sole_points(positions[None], world[None], name)[0]
    body = find_point(skeleton, CONTACT_POINTS[part])[0]
    out: list[Array] = []
    for shape in (s for s in skeleton.shapes if s.body == body):
        start, end = np.array(shape.start), np.array(shape.end)
        if shape.kind == "capsule":
            local = [start, end]
        else:
            signs = np.array(np.meshgrid([-1, 1], [-1, 1], [-1, 1])).reshape(3, -1).T
            local = [start + sign * end for sign in signs]
        for point in local:
            at = positions[body] + rot.rotate(world[body], point)
            out.append(at - np.array([0.0, 0.0, shape.radius]))
    return np.array(out)


def under(scene: Scene, at: Array) -> tuple[str, float]:
    """Return the name and height of the highest surface whose area holds a point (x, y).

    Only what is not above the point by more than 0.2 m counts, so that a table is not under feet.
    """
    best = ("floor", scene["floor"].height)
    for name, surface in scene.items():
        inside = surface.low is None or (
            surface.high is not None
            and surface.low[0] <= at[0] <= surface.high[0]
            and surface.low[1] <= at[1] <= surface.high[1]
        )
        # a level without end is a mark, such as a shelf's height, and not a ground
        solid = surface.low is not None or name == "floor"
        if inside and solid and best[1] < surface.height <= at[2] + 0.2:
            best = (name, surface.height)
    return best


def clearance(skeleton: Skeleton, pose: Pose, part: str, scene: Scene) -> tuple[str, float]:
    """Return the surface under a contact part, and how far its skin is above it, m."""
    points = skin(skeleton, pose, part)
    low = points[points[:, 2].argmin()]
    name, height = under(scene, low)
    return name, float(low[2] - height)


def _hull(points: Array) -> list[Array]:
    """Convex hull of points (n, 2), counter-clockwise."""
    ordered = sorted({(float(x), float(y)) for x, y in points})
    if len(ordered) < 3:
        return [np.array(p) for p in ordered]

    def half(run: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
        out: list[tuple[float, float]] = []
        for p in run:
            while len(out) > 1:
                (ax, ay), (bx, by) = out[-2:]
                if (bx - ax) * (p[1] - ay) - (by - ay) * (p[0] - ax) > 0:
                    break
                out.pop()
            out.append(p)
        return out[:-1]

    return [np.array(p) for p in half(ordered) + half(ordered[::-1])]


def balance(skeleton: Skeleton, pose: Pose, planted: Sequence[str]) -> float:
    """Return how far the center of mass is inside the area of support, m; negative is outside.

    The area is the convex hull of what the planted parts touch; -inf if nothing is planted.
    """
    if not planted:
        return -np.inf
    area = np.concatenate([_touching(skin(skeleton, pose, part)) for part in planted])
    hull = _hull(area[:, :2])
    positions, world = place(skeleton, pose)
    com = skeleton.center_of_mass(positions[None], world[None])[0, :2]
    if len(hull) < 3:
        return -float(min(np.linalg.norm(com - p) for p in hull))
    inside, nearest = np.inf, np.inf
    for a, b in zip(hull, [*hull[1:], hull[0]], strict=True):
        edge = (b - a) / np.linalg.norm(b - a)
        out = com - a
        inside = min(inside, float(edge[0] * out[1] - edge[1] * out[0]))
        along = np.clip(out @ edge, 0.0, np.linalg.norm(b - a))
        nearest = min(nearest, float(np.linalg.norm(out - along * edge)))
    return inside if inside >= 0 else -nearest


def _touching(points: Array) -> Array:
    return points[points[:, 2] <= points[:, 2].min() + _ON]


def arm_length(skeleton: Skeleton, side: str) -> float:
    """Return the distance from shoulder to palm of a straight arm, m."""
    bodies = [f"{side}_forearm", f"{side}_hand"]
    bones = sum(float(np.linalg.norm(skeleton.offsets[skeleton.body(b)])) for b in bodies)
    return bones + float(np.linalg.norm(find_point(skeleton, f"{side} hand")[1]))


def describe(
    skeleton: Skeleton, pose: Pose, scene: Scene, planted: Sequence[str], shown: Mapping[str, Array]
) -> str:
    """Return the facts of a pose in its scene in words, one a line.

    Args:
        skeleton: The figure.
        pose: The pose.
        scene: Its surfaces.
        planted: Parts that bear on something.
        shown: Points as `pose.points` returns them; shoulders among them.
    """
    lines: list[str] = []
    for name, surface in scene.items():
        top = f"- {name}: top at z = {surface.height:.2f}"
        if surface.low is None or surface.high is None:
            lines.append(top + (", everywhere" if name == "floor" else ", a height without end"))
            continue
        (x0, y0), (x1, y1) = surface.low, surface.high
        top += f", x from {x0:.2f} to {x1:.2f}, y from {y0:.2f} to {y1:.2f}"
        near = np.clip(pose.root[:2], surface.low, surface.high) - pose.root[:2]
        top += f"; its nearest edge is {np.linalg.norm(near):.2f} m from the pelvis"
        reach = []
        for side in ("left", "right"):
            start = shown[f"{side} shoulder"]
            spot = np.array([*np.clip(start[:2], surface.low, surface.high), surface.height])
            if np.linalg.norm(spot - start) <= arm_length(skeleton, side):
                reach.append(side)
        top += f"; its top is within reach of {' and '.join(reach) or 'no'} hand"
        lines.append(top)
    names = ["left_foot", "right_foot", *sorted(set(planted) - {"left_foot", "right_foot"})]
    for part in names:
        where, gap = clearance(skeleton, pose, part, scene)
        how = "planted" if part in planted else "free"
        word = "above" if gap > 0 else "INSIDE"
        spot = "on" if abs(gap) <= _ON else f"{abs(gap):.2f} m {word}"
        lines.append(f"- {part}: {how}, {spot} the {where}")
    margin = balance(skeleton, pose, planted)
    if np.isfinite(margin):
        side = "inside" if margin >= 0 else "OUTSIDE"
        lines.append(
            f"- balance: the center of mass is {abs(margin):.2f} m {side} the support area"
        )
    else:
        lines.append("- balance: nothing is planted, the figure is in the air")
    low = lowest(skeleton, pose, scene)
    if low[1] < -0.02:
        lines.append(f"- {low[0]} is {-low[1]:.2f} m INSIDE the {low[2]}; lift it")
    return "\n".join(lines)


def lowest(skeleton: Skeleton, pose: Pose, scene: Scene) -> tuple[str, float, str]:
    """Return the contact part that is deepest in or nearest to a surface, how far, and which."""
    found: list[tuple[str, float, str]] = []
    for part in CONTACT_POINTS:
        surface, gap = clearance(skeleton, pose, part, scene)
        found.append((part, gap, surface))
    return min(found, key=lambda entry: entry[1])
