"""Our kinematics and quaternions against MuJoCo and SciPy; a short physics run."""

import numpy as np
import pytest

from foveal import motion
from foveal.motion import rotations as rot
from foveal.motion.body import to_mjcf

mujoco = pytest.importorskip("mujoco")
Rotation = pytest.importorskip("scipy.spatial.transform")


def test_forward_kinematics_and_mass_agree_with_mujoco():
    clip = motion.generate("kick", track="kinematic")
    model = mujoco.MjModel.from_xml_string(to_mjcf(clip.skeleton))
    assert abs(model.body_mass.sum() - 70.0) < 1e-6
    data = mujoco.MjData(model)
    com = clip.skeleton.center_of_mass(clip.positions, clip.world_rotations)
    for frame in range(0, clip.num_frames, 10):
        data.qpos[:] = np.concatenate(
            [clip.root_positions[frame], clip.root_rotations[frame], clip.angles[frame]]
        )
        mujoco.mj_forward(model, data)
        assert np.abs(data.xpos[1:] - clip.positions[frame]).max() < 1e-6
        assert np.abs(data.subtree_com[1] - com[frame]).max() < 1e-6


def test_slerp_agrees_with_scipy():
    rng = np.random.default_rng(0)
    a, b = rot.normalize(rng.normal(size=(2, 4)))
    pair = Rotation.Rotation.from_quat([a, b], scalar_first=True)
    want = Rotation.Slerp([0, 1], pair)(np.linspace(0, 1, 7))
    got = Rotation.Rotation.from_quat(rot.slerp(a, b, np.linspace(0, 1, 7)), scalar_first=True)
    assert np.abs((got.inv() * want).magnitude()).max() < 1e-7


def test_simulated_stand_stays_up_and_repeats():
    a, b = (motion.generate("stand", num_samples=16, seed=3) for _ in range(2))
    assert a.status == "tracked"
    assert np.array_equal(a.angles, b.angles)
    assert a.receipt is not None
    assert a.receipt.loss is not None


def test_simulated_jump_leaves_the_ground_and_lands():
    clip = motion.generate("jump", num_samples=24, seed=0)
    assert clip.status == "tracked"
    scores = motion.score(clip)
    assert scores["predicate_failures"] == 0, scores["predicates"]
    assert scores["tracking_error"] < 0.15
