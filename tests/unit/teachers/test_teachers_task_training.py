"""The training of the task networks: one tiny run from scenes to measured files, and its parts."""

import json
from pathlib import Path
from types import ModuleType

import pytest
import torch

from foveal.data import taskworld
from foveal.teachers.task_network import TaskNetwork
from foveal.teachers.task_scores import scores, sums

TOOLS = Path(__file__).parents[3] / "tools"


@pytest.fixture(scope="module")
def tool():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(TOOLS)
        import docs_tasks
        import train_tasks

        train_tasks.card = docs_tasks.card
        yield train_tasks


def test_a_tiny_run_writes_networks_whose_figures_can_be_had_again(tool: ModuleType, tmp_path):
    def run(*more: str) -> dict:
        arguments = ["--out", str(tmp_path), "--scenes", "3", "--held-out", "2", "--batch", "2"]
        arguments += ["--tasks", "scene", "normal", "--device", "cpu", "--commit", "abc", *more]
        assert tool.main(arguments) == 0
        return json.loads((tmp_path / "tasks.log.json").read_text())

    log = run("--steps", "2")
    assert log["steps"] == 2
    assert log["commit"] == "abc"
    assert log["world"] == taskworld.VERSION
    assert log["rows"][0]["step"] == 1
    assert set(log["rows"][0]["losses"]) == {
        "residual/scene", "residual/normal", "separable/scene", "separable/normal",
    }  # fmt: skip
    labels = taskworld.render([taskworld.sample(i, "test") for i in range(2)])
    images = (labels.image * 255).round() / 255
    for arch in ("residual", "separable"):
        network = TaskNetwork.load("normal", arch, source=tmp_path / f"tasks-{arch}.safetensors")
        result = log["results"][f"{arch}/normal"]
        assert result["sha256"] == network.sha256
        assert result["parameters"] == sum(p.numel() for p in network.parameters())
        found = scores(
            "normal", sums("normal", network(images), *taskworld.targets(labels, "normal"))
        )
        assert result["test"]["scores"] == pytest.approx(found, rel=1e-4)
        assert set(result["test"]["chance"]) == set(found)
    card = tool.card(log, lambda head, rows: "\n".join(" | ".join(r) for r in [head, *rows]))
    val, test = (
        f"{log['results']['separable/normal'][split]['scores']['angle']:.1f}°"
        for split in ("val", "test")
    )
    assert f"separable: normal | mean angle | {val} | {test} | " in card
    assert "2 steps of 2 of 3 scenes" in card
    before = {p.name: p.read_bytes() for p in tmp_path.glob("tasks-*.resume.safetensors")}
    assert set(before) == {f"tasks-{a}.resume.safetensors" for a in ("residual", "separable")}
    more = run("--steps", "3", "--resume", "--arch", "residual")
    assert more["steps"] == 3
    assert more["resumed_at"] == 2
    assert more["rows"][0] == log["rows"][0]
    after = {p.name: p.read_bytes() for p in tmp_path.glob("tasks-*.resume.safetensors")}
    assert after["tasks-residual.resume.safetensors"] != before["tasks-residual.resume.safetensors"]
    assert (
        after["tasks-separable.resume.safetensors"] == before["tasks-separable.resume.safetensors"]
    )


def test_networks_begin_unlike_each_other_and_alike_every_time(tool: ModuleType, tmp_path) -> None:
    args = tool.parsed(["--out", str(tmp_path), "--device", "cpu"])
    first, again, other = (
        tool.Trainee(task, "residual", args, torch.device("cpu")).model.encoder[0].conv.weight
        for task in ("depth", "depth", "reshading")
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_a_mirrored_batch_by_hand(tool: ModuleType) -> None:
    images = torch.arange(6.0).view(2, 1, 1, 3).expand(2, 3, 1, 3)
    normal = torch.tensor([[0.6, 0.0, -0.8], [0.0, 0.6, -0.8]]).t().view(1, 3, 1, 2)
    normal = normal.repeat(2, 1, 1, 1)
    mask = torch.tensor([[[True, False]], [[True, False]]])
    labels = {
        "scene": (torch.tensor([3, 4]), None),
        "normal": (normal, mask),
        "segmentation": (torch.tensor([[[1, 2]], [[1, 2]]]), None),
    }
    turned, out = tool.mirrored(images, labels, torch.tensor([False, True]))
    assert turned[:, 0, 0].tolist() == [[0, 1, 2], [5, 4, 3]]
    assert out["scene"][0].tolist() == [3, 4]
    assert out["segmentation"][0].tolist() == [[[1, 2]], [[2, 1]]]
    assert torch.equal(out["normal"][0][0], normal[0])
    wanted = torch.tensor([[0.0, 0.6, -0.8], [-0.6, 0.0, -0.8]]).t().view(3, 1, 2)
    torch.testing.assert_close(out["normal"][0][1], wanted)
    assert out["normal"][1].tolist() == [[[True, False]], [[False, True]]]


def test_mirrored_normals_are_those_of_the_mirrored_depth(tool: ModuleType) -> None:
    """Of a scene seen straight on: points that the mirrored depth gives lie across the normals."""
    scene = taskworld.sample(0, "train")
    labels = taskworld.render([scene], size=64)
    batch = {
        "normal": (labels.normal, labels.valid),
        "depth": (labels.depth[:, None], labels.valid),
    }
    _, out = tool.mirrored(labels.image, batch, torch.tensor([True]))

    def off(normal: torch.Tensor, depth: torch.Tensor) -> float:
        steps = ((torch.arange(64) + 0.5) / 32 - 1) * torch.tan(torch.tensor(scene.camera.fov / 2))
        points = torch.stack(
            [steps.expand(64, 64), steps[:, None].expand(64, 64), depth.new_ones(64, 64)]
        )
        points = points * depth
        across = points[:, :, 1:] - points[:, :, :-1]
        across = across / across.norm(dim=0).clamp_min(1e-6)
        return float((across * normal[:, :, 1:]).sum(0).abs().median())

    assert off(labels.normal[0], labels.depth[0]) < 1e-3
    assert off(out["normal"][0][0], out["depth"][0][0, 0]) < 1e-3
    assert off(labels.normal.flip(-1)[0], labels.depth.flip(-1)[0]) > 1e-2


def test_jitter_stays_in_range_and_small(tool: ModuleType) -> None:
    images = torch.rand(4, 3, 16, 16)
    changed = tool.jitter(images, 0.15)
    assert changed.min() >= 0
    assert changed.max() <= 1
    assert 0.001 < (changed - images).abs().mean() < 0.15
    torch.testing.assert_close(tool.jitter(images, 0.0), images, atol=2e-4, rtol=0)


def test_arguments_that_do_not_fit_are_named(tool: ModuleType, tmp_path, capsys) -> None:
    for more, text in (
        (["--minutes", "0"], "--minutes is 0.0, must be > 0"),
        (["--tasks", "colour"], r"--tasks has ['colour'], must be of"),
        (["--batch", "0"], "must be at least 1"),
    ):
        with pytest.raises(SystemExit):
            tool.parsed(["--out", str(tmp_path), *more])
        assert text in capsys.readouterr().err
