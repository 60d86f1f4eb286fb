"""The losses of the task networks by hand, and that a network learns by each of them."""

import math

import pytest
import torch
from torch.nn import functional as F

from foveal.data.taskworld import TASKS
from foveal.errors import ArgumentError, ShapeError
from foveal.teachers.task_losses import CURVED_WEIGHT, SPARSE_WEIGHT, distillation_loss, task_loss
from foveal.teachers.task_network import TaskNetwork

SIDE = 128


def labels_of(task: str, batch: int = 2):
    """Labels with structure that a small network can learn: halves that differ."""
    known, left = TASKS[task], torch.zeros(batch, SIDE, SIDE, dtype=torch.bool)
    left[..., : SIDE // 2] = True
    left[1::2] = ~left[1::2]
    mask = torch.ones(batch, SIDE, SIDE, dtype=torch.bool)
    mask[:, :3] = False
    if known.kind == "class":
        return torch.arange(batch) % known.channels, None
    if known.kind == "segmentation":
        return left.long(), mask
    if task == "normal":
        x = torch.where(left, 0.6, -0.6)
        return torch.stack([x, torch.zeros_like(x), torch.full_like(x, -0.8)], 1), mask
    return torch.where(left, 0.8, 0.1)[:, None].expand(-1, known.channels, -1, -1).clone(), mask


def answers_of(task: str, batch: int = 2, seed: int = 0):
    known, generator = TASKS[task], torch.Generator().manual_seed(seed)
    if known.kind == "class":
        return torch.randn(batch, known.channels, generator=generator)
    answer = torch.randn(batch, known.channels, SIDE, SIDE, generator=generator)
    if task == "normal":
        return F.normalize(answer, dim=1)
    return answer.sigmoid() if task in SPARSE_WEIGHT else answer


def test_classes_by_hand() -> None:
    logits = torch.zeros(2, TASKS["scene"].channels)
    logits[0, 3] = 2.0
    k = TASKS["scene"].channels
    sure = math.log(math.exp(2) + k - 1) - 2
    wanted = (sure + math.log(k)) / 2
    assert float(task_loss("scene", logits, torch.tensor([3, 0]))) == pytest.approx(wanted)


def test_a_segmentation_counts_the_pixels_of_the_mask() -> None:
    k = TASKS["segmentation"].channels
    logits = torch.zeros(1, k, 2, 2)
    logits[0, 1, 0] = 5.0
    target, mask = torch.ones(1, 2, 2, dtype=torch.long), torch.zeros(1, 2, 2, dtype=torch.bool)
    mask[0, 0, 0] = mask[0, 1, 1] = True
    sure = math.log(math.exp(5) + k - 1) - 5
    wanted = (sure + math.log(k)) / 2
    found = task_loss("segmentation", logits, target, mask)
    assert float(found) == pytest.approx(wanted, rel=1e-5)


def test_normals_by_hand() -> None:
    target = torch.tensor([0.0, 0, -1]).view(1, 3, 1, 1).expand(1, 3, 2, 2)
    answer = torch.tensor([0.6, 0, -0.8]).view(1, 3, 1, 1).expand(1, 3, 2, 2)
    wanted = (1 - 0.8) + (0.6 + 0.2) / 3
    assert float(task_loss("normal", answer, target)) == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize("task", list(SPARSE_WEIGHT))
def test_edges_by_hand(task) -> None:
    answer = torch.tensor([0.25, 0.5]).view(1, 1, 1, 2)
    target = torch.tensor([1.0, 0.0]).view(1, 1, 1, 2)
    wanted = (SPARSE_WEIGHT[task] * math.log(4) + math.log(2)) / 2
    assert float(task_loss(task, answer, target)) == pytest.approx(wanted, rel=1e-5)
    certain = torch.tensor([0.0, 1.0]).view(1, 1, 1, 2)
    assert math.isfinite(float(task_loss(task, certain, target)))


@pytest.mark.parametrize("task", ["depth", "reshading", "curvature"])
def test_maps_by_hand(task) -> None:
    channels = TASKS[task].channels
    answer, target = torch.full((1, channels, 2, 2), 0.5), torch.full((1, channels, 2, 2), 0.25)
    target[..., 1, 1] = -1000  # flat, for curvature: it is weighted where it is above 0
    weight = CURVED_WEIGHT if task == "curvature" else 1
    mask = torch.ones(1, 2, 2, dtype=torch.bool)
    mask[0, 1, 1] = False
    assert float(task_loss(task, answer, target, mask)) == pytest.approx(0.25 * weight)
    assert float(task_loss(task, answer, target, ~mask)) == pytest.approx(1000.5)
    assert float(task_loss(task, answer, target, torch.zeros_like(mask))) == 0


@pytest.mark.parametrize("task", list(TASKS))
def test_distance_to_its_own_answer_is_zero_and_else_of_each_image(task) -> None:
    reference = answers_of(task)
    zero = distillation_loss(task, reference, reference)
    assert zero.shape == (2,)
    torch.testing.assert_close(zero, torch.zeros(2), atol=1e-5, rtol=0)
    other = answers_of(task, seed=1)
    mixed = torch.stack([reference[0], other[1]])
    found = distillation_loss(task, mixed, reference)
    assert float(found[0]) == pytest.approx(0, abs=1e-5)
    assert found[1] > 0.01
    alone = distillation_loss(task, mixed[1:], reference[1:])
    torch.testing.assert_close(alone, found[1:])


def test_distances_by_hand() -> None:
    """Two classes of weight: logits 2 ln 3 and 0 are 3/4 and 1/4 at temperature 2."""
    k = TASKS["scene"].channels
    far = torch.full((1, k), -200.0)
    a, b = far.clone(), far.clone()
    a[0, :2] = torch.tensor([2 * math.log(3), 0.0])
    b[0, :2] = 0.0
    wanted = 4 * (0.75 * math.log(0.75 / 0.5) + 0.25 * math.log(0.25 / 0.5))
    assert float(distillation_loss("scene", b, a)) == pytest.approx(wanted, rel=1e-5)
    classes = TASKS["segmentation"].channels
    a, b = torch.full((1, classes, 1, 2), -200.0), torch.full((1, classes, 1, 2), -200.0)
    a[0, :2, 0, 0], b[0, :2, 0, 0] = torch.tensor([math.log(3), 0.0]), 0.0
    a[0, 2, 0, 1] = b[0, 2, 0, 1] = 0.0
    wanted = (0.75 * math.log(0.75 / 0.5) + 0.25 * math.log(0.25 / 0.5)) / 2
    assert float(distillation_loss("segmentation", b, a)) == pytest.approx(wanted, rel=1e-5)
    a = torch.tensor([0.0, 0, -1]).view(1, 3, 1, 1)
    b = torch.tensor([0.6, 0, -0.8]).view(1, 3, 1, 1)
    assert float(distillation_loss("normal", b, a)) == pytest.approx(0.2, rel=1e-5)
    a, b = torch.zeros(1, 1, 1, 2), torch.tensor([0.5, -0.25]).view(1, 1, 1, 2)
    assert float(distillation_loss("depth", b, a)) == pytest.approx(0.375)


def test_no_gradient_goes_to_the_reference() -> None:
    prediction = torch.randn(2, 1, 4, 4, requires_grad=True)
    reference = torch.randn(2, 1, 4, 4, requires_grad=True)
    distillation_loss("depth", prediction, reference).mean().backward()
    assert prediction.grad is not None
    assert reference.grad is None


@pytest.mark.parametrize("task", list(TASKS))
def test_a_network_learns_a_batch(task) -> None:
    torch.manual_seed(1)
    network = TaskNetwork(task, "separable")
    images = torch.zeros(2, 3, 256, 256)
    images[0, :, :, :128] = images[1, :, :, 128:] = 0.8
    images[0, 0] = 1.0
    target, mask = labels_of(task)
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3)
    losses = []
    for _ in range(8):
        loss = task_loss(task, network(images, check=False), target, mask)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        assert all(p.grad is not None for p in network.parameters())
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.85 * losses[0]


def test_what_does_not_fit_is_named() -> None:
    maps, k = torch.rand(2, 1, 8, 8), TASKS["scene"].channels
    with pytest.raises(ArgumentError, match=r"task_loss: task is 'colour', must be one of"):
        task_loss("colour", maps, maps)
    with pytest.raises(
        ShapeError, match=rf"prediction has shape \(2, 1, 8, 8\), must be \(b, {k}\)"
    ):
        task_loss("scene", maps, torch.zeros(2, dtype=torch.long))
    with pytest.raises(ShapeError, match=r"target has shape \(2, 8, 8\), must be \(2, 1, 8, 8\)"):
        task_loss("depth", maps, maps[:, 0])
    with pytest.raises(ShapeError, match=r"mask has shape \(2, 1, 8, 8\), must be \(2, 8, 8\) or"):
        task_loss("depth", maps, maps, maps > 0)
    with pytest.raises(ShapeError, match=r"mask has shape \(2,\), must be None for a class"):
        task_loss("scene", torch.zeros(2, k), torch.zeros(2).long(), torch.ones(2).bool())
    with pytest.raises(ArgumentError, match=r"distillation_loss: task is 'colour'"):
        distillation_loss("colour", maps, maps)
    with pytest.raises(ShapeError, match=r"reference has shape \(1, 1, 8, 8\), must be \(2, 1, 8"):
        distillation_loss("depth", maps, maps[:1])
    with pytest.raises(ShapeError, match=r"prediction has shape \(0, 1, 8, 8\)"):
        distillation_loss("depth", maps[:0], maps[:0])
