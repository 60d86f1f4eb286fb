"""Sweeps: real files against a task by hand, processes, resuming, skipping, memory of chunks."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from foveal.codec.evaluate import sweep as module
from foveal.codec.evaluate.pixel_anchors import Rung, encode_pixels
from foveal.codec.evaluate.sweep import sweep
from foveal.codec.evaluate.track import Track, TrackTask, uncompressed
from foveal.errors import ArgumentError, ShapeError

RUNGS = [Rung("jpeg", 20, 1.0), Rung("webp", 50, 0.5)]


def images() -> list[np.ndarray]:
    """Five smooth images of two sizes."""
    out: list[np.ndarray] = []
    for i in range(5):
        y, x = np.mgrid[: 24 if i == 3 else 32, :32]
        wave = np.stack([np.sin(x / (5 + i)), np.cos(y / 6), np.sin((x + y) / (7 + i))], 2)
        out.append((127.5 + 90 * wave).round().astype(np.uint8))
    return out


def track(pictures: list[np.ndarray] | None = None, name: str = "waves") -> Track:
    """One task: is red the same up to 2 levels; chance is nothing."""
    held = images() if pictures is None else pictures

    def sums(answer: Tensor, items: Sequence[int]) -> Tensor:
        rows: list[list[float]] = []
        for red, i in zip(answer.cpu().numpy(), items, strict=True):
            near = np.abs(red - held[i][..., 0].astype(float)) <= 2
            rows.append([float(near.sum()), float(near.size)])
        return torch.tensor(rows, dtype=torch.float64)

    chance = np.array([[0.0, x.shape[0] * x.shape[1]] for x in held])
    task = TrackTask(
        "red", lambda x: x[:, 0] * 255, sums, {"near": lambda t: t[0] / t[1]}, True, chance, "own"
    )
    return Track(name, held, {"red": task}, "five waves")


def test_bytes_and_sums_are_those_of_each_file() -> None:
    t = track()
    found = sweep(t, RUNGS, batch=2)
    assert [p.label for p in found.points] == ["jpeg", "webp"]
    for rung, point in zip(RUNGS, found.points, strict=True):
        files = [encode_pixels(x, rung.codec, rung.quality, rung.scale) for x in t.images]
        assert point.bytes.tolist() == [f.file_bytes for f in files]
        assert point.payload.tolist() == [f.payload_bytes for f in files]
        assert point.side.tolist() == [0] * 5
        near = [
            float((np.abs(f.decoded[..., 0].astype(float) - x[..., 0]) <= 2).sum())
            for f, x in zip(files, t.images, strict=True)
        ]
        assert point.sums["red"][:, 0].tolist() == near
        assert point.settings == {"quality": rung.quality, "scale": rung.scale}
    assert 0 < found.encode_seconds <= found.seconds


def test_processes_give_the_same() -> None:
    here, there = sweep(track(), RUNGS, batch=2), sweep(track(), RUNGS, batch=2, workers=1)
    for a, b in zip(here.points, there.points, strict=True):
        assert a.bytes.tolist() == b.bytes.tolist()
        assert a.sums["red"].tolist() == b.sums["red"].tolist()


def test_resumes_from_the_rungs_that_are_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[int, int | None]] = []
    first = sweep(track(), RUNGS[:1], folder=tmp_path)
    both = sweep(track(), RUNGS, folder=tmp_path, progress=lambda a, b: seen.append((a, b)))
    assert (first.read, both.read) == (0, 1)
    assert seen == [(2, 2)]
    monkeypatch.setattr(module, "encode_pixels", None)  # all is read now
    again = sweep(track(), RUNGS, folder=tmp_path)
    assert again.read == 2
    for a, b in zip(both.points, again.points, strict=True):
        assert a.bytes.tolist() == b.bytes.tolist()
        assert a.payload.tolist() == b.payload.tolist()
        assert a.sums["red"].tolist() == b.sums["red"].tolist()
        assert a.key == b.key


def test_another_image_is_not_taken_for_the_same(tmp_path: Path) -> None:
    sweep(track(), RUNGS[:1], folder=tmp_path)
    other = images()
    other[2][0, 0, 0] ^= 1
    assert sweep(track(other), RUNGS[:1], folder=tmp_path).read == 0


def test_a_missing_codec_is_skipped_and_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "why_missing", lambda c: "no wheel" if c == "webp" else None)
    found = sweep(track(), RUNGS)
    assert [p.label for p in found.points] == ["jpeg"]
    assert found.skipped == {"webp": "no wheel"}


def test_chunks_have_one_shape() -> None:
    assert track().chunks(2) == [[0, 1], [2], [3], [4]]
    assert track().chunks(9) == [[0, 1, 2], [3], [4]]


def test_uncompressed_is_all_of_it() -> None:
    assert uncompressed(track(), batch=2)["red"].tolist() == [
        [1024, 1024],
        [1024, 1024],
        [1024, 1024],
        [768, 768],
        [1024, 1024],
    ]


def test_few_images_are_an_anecdote() -> None:
    t = track()
    assert (len(t), t.num_groups, t.anecdote) == (5, 5, True)
    many = track([images()[0]] * 100)
    assert not many.anecdote
    grouped = Track("g", many.images, many.tasks, "s", groups=tuple(i // 2 for i in range(100)))
    assert (grouped.num_groups, grouped.anecdote) == (50, True)


def test_what_is_refused() -> None:
    t = track()
    with pytest.raises(ArgumentError, match="sweep: workers is -1 and batch 32, must be at least"):
        sweep(t, RUNGS, workers=-1)
    with pytest.raises(ArgumentError, match="Track: images has 0"):
        Track("x", [], t.tasks, "s")
    with pytest.raises(ArgumentError, match="Track: groups has 2, must have 5"):
        Track("x", t.images, t.tasks, "s", groups=(0, 1))
    with pytest.raises(ShapeError, match="must be uint8"):
        Track("x", [np.zeros((4, 4, 3))], t.tasks, "s")
    with pytest.raises(ShapeError, match=r"chance of red has shape \(5, 2\), must be \(1, k\)"):
        Track("x", t.images[:1], t.tasks, "s")
