"""Any body: ours through MuJoCo and back, how it stands, dm_control's humanoid all the way."""

from dataclasses import replace
from xml.etree import ElementTree as ET

import numpy as np
import pytest

from foveal import motion
from foveal.data import samples
from foveal.errors import ArgumentError, UnsupportedError
from foveal.motion import rotations as rot
from foveal.motion.body import read_mjcf, to_mjcf
from foveal.motion.director.commands import FootTarget, Keyframe
from foveal.motion.export import to_bvh, to_glb
from foveal.motion.hinges import hinge_angles
from foveal.motion.inbetween import fill, resolve
from foveal.motion.legs import leg_hinges, solve_leg
from foveal.motion.skeleton import SIDES, Skeleton, humanoid
from foveal.motion.track.kinematic import track_kinematic
from foveal.motion.track.mpc import track_mpc

mujoco = pytest.importorskip("mujoco")

THEIRS = {
    "torso": "chest", "lower_waist": "spine", "left_lower_arm": "left_forearm",
    "right_lower_arm": "right_forearm",
}  # fmt: skip
"""dm_control's names to ours, where they differ."""


@pytest.mark.parametrize(
    ("height", "mass", "hand_shape"),
    [(1.7, 70.0, "open"), (0.5, 10.0, "fist"), (2.5, 250.0, "grip"), (1.2, 25.0, "point")],
)
def test_the_standing_figure_stays_up_by_its_servos_alone(height, mass, hand_shape):
    body = humanoid(height=height, mass=mass, hand_shape=hand_shape)
    model = mujoco.MjModel.from_xml_string(to_mjcf(body))
    assert model.body_mass.sum() == pytest.approx(mass, rel=1e-9)
    data = mujoco.MjData(model)
    data.qpos[:3], data.qpos[3] = body.offsets[0], 1.0
    for _ in range(round(2.0 / model.opt.timestep)):
        mujoco.mj_step(model, data)
        assert abs(data.qpos[2] - body.offsets[0][2]) < 0.005 * height
        assert np.degrees(np.arccos(min(1.0, data.xmat[1][8]))) < 2.0
    down = {int(model.geom_bodyid[c.geom2]) - 1 for c in data.contact[: data.ncon]}
    touching = {body.names[i] for i in down}
    assert {"left_foot", "right_foot"} <= touching
    assert touching <= {f"{side}_{part}" for side in SIDES for part in ("foot", "toes")}
    assert np.abs(data.qvel).max() < 0.01


def test_contacts_have_friction_whatever_a_document_said():
    smooth = _document("").replace("<geom ", "<geom condim='1' friction='.1 0 0' ")
    for body in (humanoid(), read_mjcf(smooth)):
        model = mujoco.MjModel.from_xml_string(to_mjcf(body))
        data = mujoco.MjData(model)
        data.qpos[:3], data.qpos[3] = body.offsets[0], 1.0
        mujoco.mj_step(model, data, 40)
        assert data.ncon > 0
        for contact in data.contact[: data.ncon]:
            assert contact.dim == 3
            assert contact.friction[0] == 1.0


def test_without_servos_it_falls():
    body = humanoid()
    model = mujoco.MjModel.from_xml_string(to_mjcf(body))
    model.actuator_gainprm[:], model.actuator_biasprm[:] = 0.0, 0.0
    data = mujoco.MjData(model)
    data.qpos[:3], data.qpos[3] = body.offsets[0], 1.0
    mujoco.mj_step(model, data, 400)
    assert data.qpos[2] < 0.6


def test_our_body_comes_back_from_its_own_document(tmp_path):
    body = humanoid(height=1.6, mass=58.0, hand_shape="grip")
    path = tmp_path / "body.xml"
    path.write_text(to_mjcf(body), encoding="utf-8")
    for again in (Skeleton.from_mjcf(path), read_mjcf(to_mjcf(body))):
        assert (again.names, again.parents) == (body.names, body.parents)
        assert again.hinge_names == body.hinge_names
        assert again.height == pytest.approx(1.6)
        assert again.mass == pytest.approx(58.0)
        assert again.sole_radius == pytest.approx(body.sole_radius)
        for name in ("offsets", "masses", "centers", "limits"):
            np.testing.assert_allclose(getattr(again, name), getattr(body, name), atol=1e-9)
        for a, b in zip(again.hinges, body.hinges, strict=True):
            assert a.body == b.body
            np.testing.assert_allclose(a.axis, b.axis, atol=1e-12)
            assert a.stiffness == pytest.approx(b.stiffness)
            assert a.torque_limit == pytest.approx(b.torque_limit)
        for side in SIDES:
            mine, theirs = body.soles[side], again.soles[side]
            assert [i for i, _ in mine] == [i for i, _ in theirs]
            np.testing.assert_allclose([p for _, p in mine], [p for _, p in theirs], atol=1e-9)
    assert to_mjcf(read_mjcf(to_mjcf(body)), timestep=0.002).count("<joint") == 43


def _document(body: str, actuators: str = "") -> str:
    feet = "".join(
        f"<body name='{side}_foot' pos='0 {y} -0.5'><joint name='{side}' axis='0 1 0'/>"
        "<geom type='box' size='.1 .05 .02' pos='.03 0 -.05'/></body>"
        for side, y in (("left", 0.1), ("right", -0.1))
    )
    return (
        "<mujoco><compiler angle='radian'/><worldbody><geom type='plane' size='1 1 1'/>"
        f"<body name='hips' pos='.3 .2 2'><freejoint/><geom type='sphere' size='.1'/>{feet}{body}"
        f"</body></worldbody><actuator>{actuators}</actuator></mujoco>"
    )


def test_what_is_read_is_in_our_terms():
    arm = (
        "<body name='arm' pos='0 0 .2' euler='0 0 1.5707963267948966'>"
        "<joint name='a' pos='0 .1 0' axis='1 0 0' range='-1 2' limited='true'/>"
        "<joint name='b' pos='0 .3 0' axis='0 0 1' range='-1 2' limited='true'/>"
        "<geom type='cylinder' size='.02 .1' pos='0 .3 0'/>"
        "<geom type='ellipsoid' size='.03 .2 .05'/></body>"
    )
    motors = (
        "<motor joint='left' gear='30' ctrlrange='-2 2' ctrllimited='true'/>"
        "<position joint='right' kp='50' forcerange='-7 7' forcelimited='true'/>"
    )
    body = read_mjcf(_document(arm, motors), names={"arm": "left_hand"}, strength=2.0)
    assert body.names == ("hips", "left_foot", "right_foot", "left_hand_1", "left_hand")
    # put on the floor, over the origin: hips 0.5 above the ankles, soles 0.07 below them
    np.testing.assert_allclose(body.offsets[0], (0, 0, 0.57))
    # a quarter turn about z: what was y is -x, what was x is y
    np.testing.assert_allclose(body.offsets[3], (-0.1, 0, 0.2), atol=1e-9)
    np.testing.assert_allclose(body.offsets[4], (-0.2, 0, 0), atol=1e-9)
    a, b = body.hinges[body.hinge("a")], body.hinges[body.hinge("b")]
    np.testing.assert_allclose(a.axis, (0, 1, 0), atol=1e-9)
    np.testing.assert_allclose(b.axis, (0, 0, 1), atol=1e-9)
    assert (a.body, b.body, a.lower, a.upper) == (3, 4, -1.0, 2.0)
    assert body.limits[body.hinge("left")] == pytest.approx([-np.pi, np.pi])
    left, right = body.hinges[body.hinge("left")], body.hinges[body.hinge("right")]
    assert (left.torque_limit, left.stiffness) == (120.0, 480.0)
    assert (right.torque_limit, right.stiffness) == (14.0, 100.0)
    assert a.torque_limit == pytest.approx(2.0 * body.mass)
    rod, egg = (s for s in body.shapes if s.body == 4)
    assert rod.radius == pytest.approx(0.02)
    np.testing.assert_allclose(np.ptp(rod.corners, axis=0), (0, 0, 0.16), atol=1e-9)
    assert egg.radius == pytest.approx(0.04)
    np.testing.assert_allclose(np.ptp(egg.corners, axis=0), (0.32, 0, 0), atol=1e-9)
    assert body.sole_radius == pytest.approx(0.01)  # a quarter of the thickness of 0.04
    assert len(body.soles["left"]) == 4
    at = np.array([at for _, at in body.soles["left"]])
    np.testing.assert_allclose(at.min(axis=0), (0.03 - 0.09, -0.04, -0.06), atol=1e-9)
    np.testing.assert_allclose(at.max(axis=0), (0.03 + 0.09, 0.04, -0.06), atol=1e-9)
    model = mujoco.MjModel.from_xml_string(to_mjcf(body))
    assert model.body_mass.sum() == pytest.approx(body.mass)


@pytest.mark.parametrize(
    ("document", "names", "words"),
    [
        ("<mujoco>", {}, "source is '<mujoco>', must be MJCF that MuJoCo reads .*; mend it"),
        ("no/such.xml", {}, "source is 'no/such.xml', must be MJCF"),
        ("<mujoco><worldbody/></mujoco>", {}, "source has 0 figures, must have one"),
        (_document(""), {"tail": "left_hand"}, "names has 'tail', must be among hips, "),
        (_document(""), {"left_foot": "paw"}, "has the bodies .*, must have 'left_foot'; pass"),
        (
            _document("").replace("type='box' size='.1 .05 .02'", "type='plane' size='1 1 1'", 1),
            {}, "MJCF that MuJoCo reads",
        ),
        (
            _document("").replace("<geom type='box' size='.1 .05 .02' pos='.03 0 -.05'/>",
                                  "<inertial mass='1' diaginertia='1 1 1' pos='0 0 0'/>", 1),
            {}, "'left_foot' has no capsule, ball or box, must have one",
        ),
    ],
)  # fmt: skip
def test_documents_that_hold_no_figure_are_refused(document, names, words):
    with pytest.raises(ArgumentError, match=words):
        read_mjcf(document, names=names)


def test_joints_that_are_no_hinges_and_strengths_that_are_none_are_refused():
    for kind in ("ball", "slide"):
        arm = f"<body name='arm'><joint name='x' type='{kind}'/><geom size='.1'/></body>"
        with pytest.raises(UnsupportedError, match="joint 'x' is no hinge, must be one; write"):
            read_mjcf(_document(arm))
    for strength in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(ArgumentError, match=f"strength is {strength}, must be > 0"):
            read_mjcf(_document(""), strength=strength)


def _theirs() -> str:
    """dm_control's document without the looks that lie in other files."""
    document = ET.parse(samples.path("dm-control-humanoid")).getroot()
    for include in document.findall("include"):
        document.remove(include)
    for node in document.iter():
        node.attrib.pop("material", None)
    return ET.tostring(document, encoding="unicode")


def _squat(body: Skeleton) -> tuple[list[Keyframe], motion.Clip]:
    feet = {side: FootTarget() for side in SIDES}
    bent = {"abdomen_y": -0.3, "right_elbow": -0.5, "left_shoulder1": 0.4}
    keys = [
        Keyframe(0.0, feet=feet),
        Keyframe(0.8, pelvis=(-0.05, 0.0, -0.2), tilt=0.3, feet=feet, angles=bent),
        Keyframe(0.8, feet=feet),
    ]
    poses = resolve(keys, body)
    frames = fill(poses, body, fps=20, method="smooth")
    frames, contacts = track_kinematic(body, keys, frames, fps=20)
    return keys, motion.Clip(
        body, 20.0, frames.root_positions, frames.root_rotations, frames.angles, contacts,
        poses.times,
    )  # fmt: skip


@pytest.mark.assets
def test_dm_controls_humanoid_moves_as_mujoco_says():
    body, document = read_mjcf(_theirs(), names=THEIRS), _theirs()
    assert body.num_bodies == 18  # 16 and the second axis of both ankles
    assert len(body.hinges) == 21
    model = mujoco.MjModel.from_xml_string(document)
    assert body.mass == pytest.approx(float(model.body_mass.sum()))
    data, rng = mujoco.MjData(model), np.random.default_rng(0)
    low, high = body.limits.T
    angles, roots = rng.uniform(low, high, (6, len(low))), rng.normal(size=(6, 3))
    turns = rot.normalize(rng.normal(size=(6, 4)))
    positions, world = body.forward(roots, body.local_rotations(turns, angles))
    centers = body.center_of_mass(positions, world)
    for f in range(6):
        data.qpos[:] = np.concatenate([roots[f], turns[f], angles[f]])
        mujoco.mj_forward(model, data)
        for hinge in body.hinges:
            wanted = data.xanchor[model.joint(hinge.name).id]
            np.testing.assert_allclose(positions[f, hinge.body], wanted, atol=1e-12)
        np.testing.assert_allclose(centers[f], data.subtree_com[1], atol=1e-5)


@pytest.mark.assets
def test_dm_controls_legs_are_solved_within_their_limits():
    body = read_mjcf(_theirs(), names=THEIRS)
    rng = np.random.default_rng(3)
    low, high = body.limits.T
    angles = rng.uniform(0.6 * low, 0.6 * high, (12, len(low)))
    roots = np.tile(body.offsets[0], (12, 1))
    turns = np.tile([1.0, 0, 0, 0], (12, 1))
    positions, world = body.forward(roots, body.local_rotations(turns, angles))
    for side in SIDES:
        foot, columns = body.body(f"{side}_foot"), leg_hinges(body, side)
        assert len(columns) == 6
        start = angles.copy()
        start[:, columns] = 0.0
        solved = solve_leg(body, side, roots, turns, positions[:, foot], world[:, foot], start)
        assert (solved >= low[columns] - 1e-12).all()
        assert (solved <= high[columns] + 1e-12).all()
        start[:, columns] = solved
        again, turned = body.forward(roots, body.local_rotations(turns, start))
        miss = np.linalg.norm(again[:, foot] - positions[:, foot], axis=1)
        assert np.median(miss) < 1e-4
        assert miss.max() < 0.03
        same = np.abs(np.sum(turned[:, foot] * world[:, foot], axis=1))
        assert np.median(2 * np.arccos(np.minimum(same, 1.0))) < 1e-3


@pytest.mark.assets
def test_dm_controls_slanted_shoulders_pass_through_rotations_and_back():
    body = read_mjcf(_theirs(), names=THEIRS)
    low, high = body.limits.T
    angles = np.random.default_rng(4).uniform(low, high, (40, len(low)))
    still = np.tile([1.0, 0, 0, 0], (40, 1))
    found = hinge_angles(body, body.local_rotations(still, angles))
    np.testing.assert_allclose(found, angles, atol=1e-6)


@pytest.mark.assets
def test_dm_controls_humanoid_squats_is_tracked_and_exported():
    body = read_mjcf(_theirs(), names=THEIRS, strength=2.5)
    _, clip = _squat(body)
    low, high = body.limits.T
    assert (clip.angles >= low - 1e-9).all()
    assert (clip.angles <= high + 1e-9).all()
    for side in SIDES:
        foot = clip.positions[:, body.body(f"{side}_foot")]
        assert np.abs(foot - foot[0]).max() < 1e-3
    assert clip.positions[0, 0, 2] - clip.positions[:, 0, 2].min() > 0.15
    scores = motion.score(clip)
    assert scores["ground_penetration"] < 1e-3
    assert scores["predicates"] == {"ends upright": True}
    simulated, spent = track_mpc(clip, num_samples=24)
    assert simulated.status == "tracked"
    assert spent["physics_steps"] > 1000
    assert motion.score(simulated)["tracking_error"] < 0.05
    text, data = to_bvh(simulated), to_glb(replace(simulated, title="squat"))
    assert text.count("JOINT ") == body.num_bodies - 1
    assert len(text.split("Frame Time")[1].splitlines()) == clip.num_frames + 1
    assert data[:4] == b"glTF"
    assert all(f'"name":"{name}"'.encode() in data for name in body.names)
