"""Targets: reduced from the render by hand."""

import math
from dataclasses import fields, replace

import pytest
import torch

from foveal.data import taskworld
from foveal.data.taskworld import CLASSES, MAX_COUNT, SCENES, TASKS, Labels, targets
from foveal.errors import ArgumentError


def labels(size=4) -> Labels:
    """One picture, all zero, valid everywhere."""
    shapes = {"image": (3,), "normal": (3,), "curvature": (2,)}
    whole = {"scene_class", "segmentation", "object_count", "object_id"}
    out = {}
    for f in fields(Labels):
        shape = (1, *shapes.get(f.name, ()), size, size)
        shape = (1,) if f.name in ("scene_class", "object_count") else shape
        dtype = torch.int64 if f.name in whole else torch.float32
        out[f.name] = torch.zeros(shape, dtype=dtype)
    out["valid"] = torch.ones(1, size, size, dtype=torch.bool)
    return Labels(**out)


def test_tasks_say_their_shapes():
    assert TASKS["scene"].channels == len(SCENES) == 8
    assert TASKS["segmentation"].channels == len(CLASSES)
    assert TASKS["object_count"].channels == MAX_COUNT + 1
    drawn = taskworld.render([taskworld.sample(i, "val") for i in range(6)], 64)
    for name, task in TASKS.items():
        assert task.name == name
        target, mask = targets(drawn, task, 32)
        assert (mask is not None) == task.masked
        if task.kind == "dense":
            assert target.shape == (6, task.channels, 32, 32)
            assert target.dtype == torch.float32
            assert float(target.abs().max()) <= 1 + 1e-6
            if mask is not None:
                assert mask.shape == (6, 32, 32)
                assert float(target.abs().amax(1)[~mask].sum()) == 0
        else:
            assert target.dtype == torch.int64
            assert target.shape == ((6,) if task.kind == "class" else (6, 32, 32))
            assert int(target.min()) >= 0
            assert int(target.max()) < task.channels


def test_depth_is_on_a_logarithmic_scale():
    depth = torch.tensor([0.1, 0.3, math.sqrt(0.3 * 100), 100.0, 500.0])
    found = taskworld.encode_depth(depth)
    assert torch.allclose(found, torch.tensor([0.0, 0.0, 0.5, 1.0, 1.0]), atol=1e-6)
    inner = torch.tensor([0.4, 2.0, 70.0])
    assert torch.allclose(taskworld.decode_depth(taskworld.encode_depth(inner)), inner, rtol=1e-5)


def test_numbers_are_means_of_what_has_an_answer():
    one = labels()
    depth, valid = torch.full((1, 4, 4), 0.3), one.valid.clone()
    depth[0, 0, 0] = 100.0
    valid[0, 0, 1] = False
    valid[0, 2:, 2:] = False
    target, mask = targets(replace(one, depth=depth, valid=valid), "depth", 2)
    assert float(target[0, 0, 0, 0]) == pytest.approx(1 / 3)
    assert mask.tolist() == [[[True, True], [True, False]]]
    assert float(target[0, 0, 1, 1]) == 0


def test_normals_have_length_one_again():
    normal = torch.zeros(1, 3, 4, 4)
    normal[:, 0, :, ::2] = 1
    normal[:, 2, :, 1::2] = -1
    target, _ = targets(replace(labels(), normal=normal), "normal", 2)
    half = math.sqrt(0.5)
    assert torch.allclose(target[0, :, 0, 0], torch.tensor([half, 0.0, -half]))


def test_classes_are_those_at_the_middle():
    segmentation = torch.arange(16).view(1, 4, 4)
    target, mask = targets(replace(labels(), segmentation=segmentation), "segmentation", 2)
    assert target.tolist() == [[[5, 7], [13, 15]]]
    assert mask is None
    target, _ = targets(replace(labels(), segmentation=segmentation), "segmentation", 4)
    assert torch.equal(target, segmentation)


def test_curvature_is_cut_and_edges_are_means():
    curvature = torch.zeros(1, 2, 4, 4)
    curvature[:, 0] = 50.0
    curvature[:, 1] = 2.5
    target, _ = targets(replace(labels(), curvature=curvature), "curvature", 2)
    assert target[0, :, 0, 0].tolist() == [1.0, 0.25]
    edge = torch.zeros(1, 4, 4)
    edge[0, 0, 0] = 1
    target, mask = targets(replace(labels(), occlusion_edge=edge), "occlusion_edge", 2)
    assert target.tolist() == [[[[0.25, 0.0], [0.0, 0.0]]]]
    assert mask is None


def test_bad_input_is_named():
    with pytest.raises(ArgumentError, match="targets: task is 'colour', must be one of scene"):
        targets(labels(), "colour")
    for size in (0, 3, 8, -2, True):
        with pytest.raises(ArgumentError, match=f"targets: size is {size!r}, must divide the 4 px"):
            targets(labels(), "depth", size)
