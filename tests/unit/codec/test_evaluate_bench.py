"""The bench: what chooses and what judges, tables by hand, files to go on from, lines."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from foveal.codec.config import Source
from foveal.codec.evaluate import measure
from foveal.codec.evaluate.bench import FEATURES, PIXELS, View, families, run_track, views
from foveal.codec.evaluate.measure import Plan
from foveal.codec.evaluate.pixel_anchors import Rung
from foveal.codec.evaluate.points import Point
from foveal.codec.evaluate.report import in_order, lines
from foveal.codec.evaluate.store import read_points, write_points
from foveal.codec.evaluate.track import Cut, Track, TrackTask, features_of
from foveal.codec.evaluate.tracks import Bundle
from foveal.codec.model import FeatureCodec
from foveal.codec.schemes import Sizes, joint
from foveal.errors import ArgumentError

RUNGS = tuple(Rung("webp", q, s) for q in (0, 20, 50, 80, 95) for s in (1.0, 0.5))


def track(n: int = 6, *, seed: int = 0, groups: tuple[int, ...] = (), name: str = "dots") -> Track:
    """Two tasks on the 4 x 4 means of smooth images: which column is brightest, and the error."""
    dice = np.random.default_rng(seed)
    images = [
        np.asarray(
            F.interpolate(torch.from_numpy(dice.uniform(0, 255, (1, 3, 4, 4))), (32, 32))[0]
            .permute(1, 2, 0)
            .round()
            .byte()
        )
        for _ in range(n)
    ]

    def encode(x: Tensor) -> Tensor:
        return F.avg_pool2d(x, x.shape[-1] // 4)

    def columns(f: Tensor) -> Tensor:
        return f.mean((1, 2))

    stack = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() / 255
    means = encode(stack)
    truth = columns(means).argmax(1)

    def right(answer: Tensor, items: Sequence[int]) -> Tensor:
        hit = answer.argmax(1) == truth[list(items)]
        return torch.stack([hit.double(), torch.ones(len(hit), dtype=torch.float64)], 1)

    def far(answer: Tensor, items: Sequence[int]) -> Tensor:
        gap = (answer - means[list(items)]).abs().double().mean((1, 2, 3))
        return torch.stack([gap, torch.ones_like(gap)], 1)

    one = {"mean": lambda t: float(t[0] / t[1])}
    constant = means.mean(0, keepdim=True).expand(n, -1, -1, -1)
    half = torch.eye(4)[0].expand(n, 4)
    tasks = {
        "column": TrackTask(
            "column", lambda x: columns(encode(x)), right, one, True,
            right(half, range(n)).numpy(), "exact", Cut(encode, columns), "1", 4,
        ),
        "error": TrackTask(
            "error", encode, far, one, False, far(constant, range(n)).numpy(), "exact",
            Cut(encode, lambda f: f), "1",
        ),
    }  # fmt: skip
    return Track(name, images, tasks, f"{n} dots", groups=groups)


def training() -> dict[str, Tensor]:
    t = track(300, seed=9)
    return {name: features_of(t, name) for name in t.tasks}


def codec(names: dict[str, str] | None = None) -> FeatureCodec:
    """Return a codec whose sources take the features of tasks, by its own names for them."""
    torch.manual_seed(0)
    names = names or {"column": "column", "error": "error"}
    sizes = Sizes(channels=4, hidden=8, head_hidden=8, side=4, codewords=4, hyper_hidden=8)
    model = FeatureCodec(joint([Source(n, 3, height=4, width=4) for n in names], sizes))
    seen = training()
    features = {name: seen[task] for name, task in names.items()}
    model.start(features)
    return model.finalise(features)


def plan(**more: object) -> Plan:
    given: dict[str, object] = {"anchors": ("webp",), "rungs": RUNGS, "resamples": 30}
    given["levels"] = (0.5, 0.7, 0.8)
    return Plan(**(given | {"features": False} | more))  # pyright: ignore[reportArgumentType]


def of(table: dict, codec: str, view: str, kind: str = "file") -> dict:
    (found,) = (c for c in table["codecs"] if c["codec"] == codec)
    (row,) = (v for v in found["views"] if (v["view"], v["bytes"]) == (view, kind))
    return row


def test_every_other_group_chooses_and_the_rest_judges() -> None:
    table = run_track(Bundle(track(6)), plan())
    assert (table["images_that_choose"], table["images_that_judge"]) == (3, 3)
    assert not table["chosen_by_the_images_that_judge"]
    assert table["anecdote"]
    assert table["tasks"]["error"]["uncompressed"] == pytest.approx(0, abs=1e-6)
    row = of(table, "webp", "error")
    assert row["tasks"] == ["error"]
    assert [cell["retention"] for cell in row["at"]] == [0.5, 0.7, 0.8]
    low, high = row["at"][0]["bytes"], row["at"][1]["bytes"]
    assert low["value"] < high["value"]
    assert low["low"] <= low["value"] <= low["high"]
    # webp is the only pixel codec
    assert row["at"][0]["times_fewer_than_pixels"]["value"] == pytest.approx(1)
    assert of(table, PIXELS, "mean")["at"] is not None
    assert "bd_rate" not in of(table, PIXELS, "mean")
    less = of(table, "webp", "error", "payload")["at"][0]["bytes"]["value"]
    assert less == pytest.approx(low["value"] - 20, abs=3)  # RIFF and VP8 headers
    json.dumps(table, allow_nan=False)


def test_one_group_chooses_and_judges_which_is_said() -> None:
    table = run_track(Bundle(track(4, groups=(0, 0, 0, 0))), plan())
    assert table["chosen_by_the_images_that_judge"]
    assert table["groups_that_judge"] == 1
    assert "settings chosen by the same images" in lines(table)[0]


def test_another_split_chooses_and_only_its_rungs_are_judged() -> None:
    bundle = Bundle(track(5, seed=1), track(7, seed=2, name="val"))
    table = run_track(bundle, plan())
    assert (table["images_that_choose"], table["images_that_judge"]) == (7, 5)
    (webp,) = (c for c in table["codecs"] if c["codec"] == "webp")
    settings = [p["settings"] for p in webp["points"]]
    assert 2 <= len(settings) < len(RUNGS)
    for point in webp["points"]:
        parts = point["payload"] + point["side"] + point["container"]
        assert parts == pytest.approx(point["bytes"]["value"])
        assert point["side"] == 0


def test_all_kinds_of_codecs_are_in_one_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "mosaics", lambda workers: [])
    bundle = Bundle(track(8), None, training, "300 dots")
    told: list[str] = []
    made = plan(features=True, models={"mine": codec()}, qualities=(0, 63))
    table = run_track(bundle, made, progress=lambda what, done, total: told.append(what))
    kinds = {c["codec"]: c["kind"] for c in table["codecs"]}
    assert kinds == {
        PIXELS: "pixels",
        FEATURES: "features",
        "webp": "pixels",
        "fp16": "features",
        "pca": "features",
        "vq": "features",
        "vq+rans": "features",
        "label": "label",
        "mine": "learned",
    }
    assert of(table, "fp16", "mean")["at"][2]["bytes"]["value"] == 2 * 2 * 48
    # 4 classes of one task are a byte; nothing is said of both tasks together
    assert of(table, "label", "column")["at"][2]["bytes"]["value"] == 1
    (label,) = (c for c in table["codecs"] if c["codec"] == "label")
    assert {v["view"] for v in label["views"]} == {"column"}
    assert {p["settings"]["coding"] for p in label["points"]} == {"fixed", "huffman"}
    assert of(table, "pca", "error")["at"][0]["bytes"]["value"] < 192
    assert "dots: mine" in told
    text = "\n".join(lines(table))
    assert "mean, bytes of a file at retention" in text
    assert "no BD-rate: 1 points are left of a curve" in text
    assert "payload" in "\n".join(lines(table, payload=True))


def test_a_model_with_a_name_of_its_own_for_the_only_task_is_judged() -> None:
    t = track(8)
    alone = Bundle(replace(t, tasks={"error": t.tasks["error"]}))
    table = run_track(alone, plan(models={"mine": codec({"class": "error"})}, qualities=(0, 63)))
    (mine,) = (c for c in table["codecs"] if c["codec"] == "mine")
    assert [p["settings"]["quality"] for p in mine["points"]] == [0, 63]
    assert table["models_that_do_not_fit"] == {}


def test_a_model_of_other_networks_is_left_out_and_named() -> None:
    other = codec()
    other.config = replace(
        other.config,
        sources=tuple(replace(s, sha256="f" * 8) for s in other.config.sources),
    )
    t = track(4)
    cut = Cut(*(getattr(t.tasks["error"].cut, x) for x in ("encode", "answer")), sha256="0" * 8)
    tasks = {"error": replace(t.tasks["error"], cut=cut)}
    table = run_track(Bundle(replace(t, tasks=tasks)), plan(models={"mine": other}))
    reason = table["models_that_do_not_fit"]["mine"]
    assert "source error of the model is of network ffffffff" in reason
    assert "mine" not in {c["codec"] for c in table["codecs"]}


def test_a_task_that_the_network_does_not_know_is_not_judged() -> None:
    t = track(4)
    blind = replace(t.tasks["error"], chance=np.tile([0.0, 1.0], (4, 1)))
    table = run_track(Bundle(replace(t, tasks={**t.tasks, "error": blind})), plan())
    assert not table["tasks"]["error"]["judged"]
    assert {v["view"] for c in table["codecs"] for v in c["views"]} == {"column"}
    assert any("not judged" in line for line in lines(table))


def test_a_bench_goes_on_from_its_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "mosaics", lambda workers: [])
    bundle = Bundle(track(6), None, training, "300 dots")
    made = plan(features=True, folder=tmp_path)
    first = run_track(bundle, made)

    def fail() -> dict[str, Tensor]:
        raise AssertionError("fitted again")

    again = run_track(replace(bundle, training=fail), made)
    assert json.dumps(again) == json.dumps(first)
    with pytest.raises(AssertionError, match="fitted again"):
        run_track(replace(bundle, training=fail, fitted="301 dots"), made)


def test_points_are_read_as_they_were_written(tmp_path: Path) -> None:
    ones = np.ones(3, np.int64)
    sums = {"a.b": np.arange(6.0).reshape(3, 2), "c": np.ones((3, 1))}
    points = [Point("x", {"q": 1.5, "n": 2}, ones, 2 * ones, 3 * ones, sums)] * 2
    write_points(tmp_path / "p.npz", points)
    for found in read_points(tmp_path / "p.npz"):
        assert found.key == points[0].key
        assert found.bytes.tolist() == [6, 6, 6]
        assert found.side.tolist() == [2, 2, 2]
        assert found.sums["a.b"].tolist() == sums["a.b"].tolist()
    (tmp_path / "bad.npz").write_bytes(b"PK\3\4")
    with pytest.raises(ArgumentError, match="holds no points that can be read"):
        read_points(tmp_path / "bad.npz")


def test_views_and_families() -> None:
    assert [(v.name, v.payload) for v in views(["a", "b"])] == [
        ("mean", False),
        ("worst", False),
        ("a", False),
        ("b", False),
        ("mean", True),
        ("worst", True),
        ("a", True),
        ("b", True),
    ]
    assert [v.name for v in views(["a"])] == ["a", "a"]
    ones = np.ones(1, np.int64)
    points = [Point(x, {}, ones, ones, ones, {"a": np.ones((1, 1))}) for x in ("jpeg", "vq", "me")]
    found = families(points)
    assert list(found) == [PIXELS, FEATURES, "jpeg", "vq", "me"]
    assert found[PIXELS] == points[:1]
    bare = View(("a",), payload=True).of(points)
    assert bare[0].bytes.tolist() == [2]
    assert View(("a", "b")).of(points) == []


def test_reality_comes_first() -> None:
    tables = [{"reality": False, "n": 0}, {"reality": True, "n": 1}, {"reality": False, "n": 2}]
    assert [t["n"] for t in in_order(tables)] == [1, 0, 2]


def test_what_is_refused() -> None:
    with pytest.raises(ArgumentError, match=r"Plan: levels is \(1.5,\), must be within \(0, 1\]"):
        Plan(levels=(1.5,))
    with pytest.raises(ArgumentError, match=r"Plan: models has \['jpeg'\], which are names of"):
        Plan(models={"jpeg": codec()})
