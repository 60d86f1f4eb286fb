"""Write a `Skeleton` as MJCF: torque-limited PD servos, floor contact, tracking sensors."""

from xml.etree import ElementTree as ET

from foveal.motion.skeleton import SIDES, Skeleton

TRACKED = (
    "pelvis", "chest", "head", "left_hand", "right_hand", "left_forearm", "right_forearm",
    "left_shin", "right_shin", "left_foot", "right_foot", "left_toes", "right_toes",
)  # fmt: skip
"""Bodies whose positions the model reports as sensors, in this order."""


def _text(*values: float) -> str:
    return " ".join(f"{float(value):.9g}" for value in values)


def to_mjcf(skeleton: Skeleton, *, timestep: float = 0.005, damping_ratio: float = 0.1) -> str:
    """Return an MJCF document of the figure on an endless floor.

    The sensors are, in this order: positions of `TRACKED` (3 each), the z axis of the pelvis and
    of the chest, the centre of mass and its velocity. Bodies touch the floor and not each other.

    Args:
        skeleton: The figure.
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
    ET.SubElement(default, "geom", contype="1", conaffinity="0", condim="3", friction="1 .01 .001")
    ET.SubElement(default, "joint", armature="0.02", damping="0.5")
    world = ET.SubElement(root, "worldbody")
    ET.SubElement(
        world, "geom", name="floor", type="plane", size="0 0 1", contype="0", conaffinity="1",
        friction="1 .01 .001", condim="3",
    )  # fmt: skip
    nodes: list[ET.Element] = []
    for i, name in enumerate(skeleton.names):
        parent = world if i == 0 else nodes[skeleton.parents[i]]
        node = ET.SubElement(parent, "body", name=name, pos=_text(*skeleton.offsets[i]))
        nodes.append(node)
        if i == 0:
            ET.SubElement(node, "freejoint", name="root")
        for hinge in (h for h in skeleton.hinges if h.body == i):
            ET.SubElement(
                node, "joint", name=hinge.name, type="hinge", axis=_text(*hinge.axis),
                range=_text(hinge.lower, hinge.upper),
            )  # fmt: skip
        for shape in (s for s in skeleton.shapes if s.body == i):
            attributes = {"mass": _text(skeleton.masses[i]), "type": shape.kind}
            if shape.kind == "capsule":
                attributes |= {"fromto": _text(*shape.start, *shape.end)}
                attributes |= {"size": _text(shape.radius)}
            else:
                attributes |= {"pos": _text(*shape.start), "size": _text(*shape.end)}
            if name.endswith(("foot", "toes")):
                attributes["contype"] = "0"  # the sole spheres below touch the ground instead
            ET.SubElement(node, "geom", attributes)
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
    for name in TRACKED:
        ET.SubElement(sensors, "framepos", objtype="xbody", objname=name)
    for name in ("pelvis", "chest"):
        ET.SubElement(sensors, "framezaxis", objtype="xbody", objname=name)
    ET.SubElement(sensors, "subtreecom", body="pelvis")
    ET.SubElement(sensors, "subtreelinvel", body="pelvis")
    return ET.tostring(root, encoding="unicode")
