"""Write a `Skeleton` as MJCF: torque-limited PD servos, floor contact, tracking sensors."""

from xml.etree import ElementTree as ET

from foveal.motion.skeleton import SIDES, Shape, Skeleton

_PARTS = (
    "pelvis", "chest", "head", "left_hand", "right_hand", "left_forearm", "right_forearm",
    "left_shin", "right_shin",
)  # fmt: skip
_FEET = ("left_foot", "right_foot", "left_toes", "right_toes")
TRACKED = (*_PARTS, *_FEET)
"""Bodies whose positions the model of our own figure reports as sensors, in this order."""


def tracked(skeleton: Skeleton) -> tuple[tuple[str, ...], int]:
    """Return the bodies of `TRACKED` that a figure has, and how many of them, the last, are feet.

    A root of another name comes first.
    """
    feet = [name for name in _FEET if name in skeleton.names]
    parts = [name for name in _PARTS if name in skeleton.names]
    if skeleton.names[0] not in parts:
        parts.insert(0, skeleton.names[0])
    return (*parts, *feet), len(feet)


def trunk_ends(skeleton: Skeleton) -> tuple[str, str]:
    """Return the root and the chest; the root stands for a chest that a figure does not have."""
    root = skeleton.names[0]
    return root, "chest" if "chest" in skeleton.names else root


def _text(*values: float) -> str:
    return " ".join(f"{float(value):.12g}" for value in values)


def _geom(shape: Shape, mass: float) -> dict[str, str]:
    out = {"mass": _text(mass)}
    if shape.kind == "box":
        out |= {"type": "box", "pos": _text(*shape.start), "size": _text(*shape.end)}
        if shape.turn != (1.0, 0.0, 0.0, 0.0):
            out["quat"] = _text(*shape.turn)
    elif shape.start == shape.end:
        out |= {"type": "sphere", "pos": _text(*shape.start), "size": _text(shape.radius)}
    else:
        out |= {"type": "capsule", "fromto": _text(*shape.start, *shape.end)}
        out["size"] = _text(shape.radius)
    return out


def _add_body(skeleton: Skeleton, i: int, node: ET.Element, bare: frozenset[int]) -> None:
    for hinge in (h for h in skeleton.hinges if h.body == i):
        ET.SubElement(
            node, "joint", name=hinge.name, type="hinge", axis=_text(*hinge.axis),
            range=_text(hinge.lower, hinge.upper),
        )  # fmt: skip
    shapes = [shape for shape in skeleton.shapes if shape.body == i]
    if not shapes:
        mass = float(skeleton.masses[i])
        turning = 1e-3 * mass * skeleton.height**2  # of a ball of 5 % of the height
        ET.SubElement(
            node, "inertial", pos=_text(*skeleton.centers[i]), mass=_text(mass),
            diaginertia=_text(turning, turning, turning),
        )  # fmt: skip
    volume = sum(shape.volume for shape in shapes)
    for shape in shapes:
        attributes = _geom(shape, float(skeleton.masses[i]) * shape.volume / volume)
        if i in bare:
            attributes["contype"] = "0"  # the sole spheres touch the ground instead
        ET.SubElement(node, "geom", attributes)


def to_mjcf(skeleton: Skeleton, *, timestep: float = 0.005, damping_ratio: float = 0.1) -> str:
    """Return an MJCF document of the figure on an endless floor.

    The sensors are, in this order: positions of the `tracked` bodies (3 each), the z axis of the
    root and of the chest, the centre of mass and its velocity. Bodies touch the floor and not each
    other. The inertia of a body is that of its solids, evenly dense, at its mass.

    Args:
        skeleton: The figure, our own or one that was read.
        timestep: Physics step, s.
        damping_ratio: Servo damping as a multiple of its stiffness, s.
    """
    root = ET.Element("mujoco", model="foveal_humanoid")
    ET.SubElement(root, "compiler", angle="radian", autolimits="true")
    ET.SubElement(
        root, "option", timestep=_text(timestep), integrator="implicitfast", iterations="30",
        ls_iterations="20",
    )  # fmt: skip
    default = ET.SubElement(root, "default")
    # contacts of a small figure are as stiff, against its weight and size, as those of a tall one
    soft = max(2.0 * timestep, 0.02 * min(1.0, (skeleton.height / 1.7) ** 0.5))
    ET.SubElement(
        default, "geom", contype="1", conaffinity="0", condim="3", friction="1 .01 .001",
        solref=_text(soft, 1.0),
    )  # fmt: skip
    size = skeleton.mass / 70.0 * (skeleton.height / 1.7) ** 2
    ET.SubElement(default, "joint", armature=_text(0.02 * size), damping=_text(0.5 * size))
    world = ET.SubElement(root, "worldbody")
    ET.SubElement(
        world, "geom", name="floor", type="plane", size="0 0 1", contype="0", conaffinity="1",
        friction="1 .01 .001", condim="3",
    )  # fmt: skip
    bare = frozenset(body for side in SIDES for body, _ in skeleton.soles[side])
    nodes: list[ET.Element] = []
    for i, name in enumerate(skeleton.names):
        parent = world if i == 0 else nodes[skeleton.parents[i]]
        node = ET.SubElement(parent, "body", name=name, pos=_text(*skeleton.offsets[i]))
        nodes.append(node)
        if i == 0:
            ET.SubElement(node, "freejoint", name="root")
        _add_body(skeleton, i, node, bare)
    for side in SIDES:
        for number, (body, local) in enumerate(skeleton.soles[side]):
            ET.SubElement(
                nodes[body], "geom", name=f"{side}_sole_{number}", type="sphere", mass="0",
                pos=_text(*local), size=_text(skeleton.sole_radius),
            )  # fmt: skip
    actuators = ET.SubElement(root, "actuator")
    for hinge in skeleton.hinges:
        ET.SubElement(
            actuators, "position", name=hinge.name, joint=hinge.name, kp=_text(hinge.stiffness),
            kv=_text(damping_ratio * hinge.stiffness),
            forcerange=_text(-hinge.torque_limit, hinge.torque_limit),
        )  # fmt: skip
    sensors = ET.SubElement(root, "sensor")
    for name in tracked(skeleton)[0]:
        ET.SubElement(sensors, "framepos", objtype="xbody", objname=name)
    for name in trunk_ends(skeleton):
        ET.SubElement(sensors, "framezaxis", objtype="xbody", objname=name)
    ET.SubElement(sensors, "subtreecom", body=skeleton.names[0])
    ET.SubElement(sensors, "subtreelinvel", body=skeleton.names[0])
    return ET.tostring(root, encoding="unicode")
