"""Feature anchors: real bytes, decoded from them, by hand where it can be."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import Tensor

from foveal.codec.evaluate import feature_anchors
from foveal.codec.evaluate.feature_anchors import (
    Mosaic,
    RawFp16,
    feature_points,
    lay_out,
    mosaics,
    take_up,
)
from foveal.codec.evaluate.feature_fitted import (
    Basis,
    Pca,
    Vq,
    fit_pca,
    fit_vq,
    from_blocks,
    k_means,
    nearest,
    to_blocks,
)
from foveal.codec.evaluate.labels import (
    fixed_code,
    huffman,
    label_points,
    labels_of,
    read_labels,
    write_labels,
)
from foveal.codec.evaluate.pixel_anchors import why_missing
from foveal.codec.evaluate.track import Cut, Track, TrackTask, features_of, uncompressed
from foveal.errors import ArgumentError, MissingExtraError, ShapeError

needs_x265 = pytest.mark.skipif(why_missing("x265") is not None, reason="needs foveal[anchors]")


def maps(n: int = 3, seed: int = 0, sources: Sequence[str] = ("a", "b")) -> dict[str, Tensor]:
    """Smooth features that are not negative, 5 channels of 6 x 7."""
    g = torch.Generator().manual_seed(seed)
    small = {name: torch.rand(n, 5, 3, 3, generator=g) * 4 for name in sources}
    return {
        name: torch.nn.functional.interpolate(x, (6, 7), mode="bilinear")
        for name, x in small.items()
    }


def test_fp16_is_two_bytes_a_number() -> None:
    x = {"a": torch.randn(4, 2, 3, 3), "v": torch.randn(4, 7)}
    coded = RawFp16().code(x)
    assert coded.payload.tolist() == [2 * (18 + 7)] * 4
    assert coded.side.tolist() == coded.container.tolist() == [0] * 4
    for name, y in x.items():
        assert torch.equal(coded.decoded[name], y.half().float())


def test_lay_out_by_hand_and_back() -> None:
    x = np.arange(3 * 8 * 9, dtype=np.uint16).reshape(3, 8, 9)
    mosaic = lay_out(x)
    assert mosaic.shape == (16, 18)
    assert mosaic[:8, :9].tolist() == x[0].tolist()
    assert mosaic[:8, 9:18].tolist() == x[1].tolist()
    assert mosaic[8:16, :9].tolist() == x[2].tolist()
    assert not mosaic[8:, 9:].any()
    assert take_up(mosaic.astype(np.float32), 3, 8, 9).tolist() == x.tolist()


def test_a_small_mosaic_is_padded_to_what_x265_takes() -> None:
    x = np.ones((1, 3, 3), np.uint16)
    assert lay_out(x).shape == (16, 16)
    assert take_up(lay_out(x).astype(np.float32), 1, 3, 3).tolist() == x.tolist()


@needs_x265
@pytest.mark.parametrize("bits", [8, 10])
def test_mosaic_is_near_at_a_low_crf_and_cheap_at_a_high_one(bits: int) -> None:
    x = maps()
    fine, coarse = Mosaic(2, bits).code(x), Mosaic(45, bits).code(x)
    for name, y in x.items():
        assert float((fine.decoded[name] - y).abs().max()) < 0.05 * float(y.max())
        assert fine.decoded[name].shape == y.shape
    gaps = [sum(float((c.decoded[k] - x[k]).square().mean()) for k in x) for c in (fine, coarse)]
    assert gaps[0] < gaps[1]
    assert (coarse.payload < fine.payload).all()
    assert fine.side.tolist() == [8] * 3  # two 16-bit ends of each of two sources
    assert (fine.container > 60).all()


@needs_x265
def test_mosaic_of_constant_features_and_of_a_vector() -> None:
    x = {"a": torch.full((2, 3, 4, 4), 2.5), "v": torch.linspace(-1, 1, 40).repeat(2, 1)}
    coded = Mosaic(4, 10, workers=2).code(x)
    assert torch.allclose(coded.decoded["a"], x["a"], atol=0.01)
    assert coded.decoded["v"].shape == (2, 40)
    assert torch.allclose(coded.decoded["v"], x["v"], atol=0.1)


def test_mosaics_are_of_every_crf_and_depth() -> None:
    assert [(c.label, c.settings["crf"]) for c in mosaics(crfs=(20, 9))] == [
        ("mosaic8+x265", 20),
        ("mosaic8+x265", 9),
        ("mosaic10+x265", 20),
        ("mosaic10+x265", 9),
    ]


def test_pca_of_two_directions_needs_two_components() -> None:
    g = torch.Generator().manual_seed(0)
    directions = torch.linalg.qr(torch.randn(12, 2, generator=g)).Q
    strength = torch.randn(60, 2, generator=g) * torch.tensor([3.0, 1.0])
    x = {"a": (strength @ directions.T + 5).reshape(60, 3, 2, 2)}
    (coder,) = fit_pca(x, components=((0, 2),), steps=(0.01,))
    coded = coder.code(x)
    assert torch.allclose(coded.decoded["a"], x["a"], atol=0.02)
    basis = Basis.fit(x["a"], 5)
    # eigenvectors up to sign
    overlap = (basis.directions[:, :2].T @ directions).abs()
    assert torch.allclose(overlap, torch.eye(2), atol=0.2)
    assert basis.unit == pytest.approx(float((x["a"] - x["a"].mean(0)).square().mean().sqrt()))


def test_pca_bytes_fall_with_the_step_and_are_near_the_information() -> None:
    train, x = maps(200, 1), maps(50, 2)
    coders = fit_pca(train, components=((0, 16),), steps=(0.1, 0.5, 2.0))
    coded = [c.code(x) for c in coders]
    means = [float(c.payload.mean()) for c in coded]
    assert means[0] > means[1] > means[2] > 0
    assert [c.settings["step"] for c in coders] == [0.1, 0.5, 2.0]
    gaps = [float((c.decoded["a"] - x["a"]).square().mean()) for c in coded]
    assert gaps[0] < gaps[1] < gaps[2]
    first = coders[0]
    assert isinstance(first, Pca)
    bits = 0.0
    for name, basis in first.bases.items():
        y = (x[name].flatten(1) - basis.mean) @ basis.directions[:, :16]
        symbols = (y / (0.1 * basis.unit)).round().long().numpy()
        index = np.tile(np.arange(16), (50, 1))
        bits += first.tables[name].ideal_bits(symbols, index)
    assert bits / 8 < coded[0].payload.sum() < bits / 8 + 3 * 50


def test_pca_of_more_numbers_than_its_limit_agrees(monkeypatch: pytest.MonkeyPatch) -> None:
    from foveal.codec.evaluate import feature_fitted

    x = maps(30)["a"]
    whole = Basis.fit(x, 4)
    monkeypatch.setattr(feature_fitted, "_MOST_SQUARE", 1)
    gram = Basis.fit(x, 4)
    assert torch.allclose((whole.directions.T @ gram.directions).abs(), torch.eye(4), atol=1e-3)


@pytest.mark.parametrize("block", [1, 2, 3])
def test_pca_of_blocks_has_one_table_a_component_and_loses_nothing_but_steps(block: int) -> None:
    g = torch.Generator().manual_seed(0)
    x = {"a": torch.randn(40, 3, 5, 4, generator=g).cumsum(1)}
    first, second = fit_pca(x, components=((block, 1000), (block, 2)), steps=(0.01,))
    coded = first.code(x)
    assert first.settings == {"block": block, "components": 1000, "step": 0.01}
    assert isinstance(first, Pca)
    assert first.bases["a"].directions.shape == (3 * block**2, 3 * block**2)
    gap = (coded.decoded["a"] - x["a"]).abs().max()
    assert float(gap) < 0.01 * first.bases["a"].unit * np.sqrt(3) * block
    fewer = second.code(x)
    assert fewer.payload.sum() < coded.payload.sum()
    assert float((fewer.decoded["a"] - x["a"]).square().mean()) > float(gap) ** 2


def test_pca_of_one_position_by_hand() -> None:
    # two channels that are equal everywhere: one direction, (1, 1) / sqrt 2
    g = torch.Generator().manual_seed(0)
    value = torch.randn(30, 1, 2, 2, generator=g)
    x = {"a": value.expand(-1, 2, -1, -1).contiguous()}
    (coder,) = fit_pca(x, components=((1, 1),), steps=(0.5,))
    assert isinstance(coder, Pca)
    basis = coder.bases["a"]
    assert torch.allclose(basis.directions.abs(), torch.full((2, 1), 0.5**0.5), atol=1e-6)
    assert torch.allclose(
        basis.coefficients(x["a"]).abs().flatten(),
        (2**0.5 * (value - value.mean())).abs().flatten(),
        atol=1e-5,
    )
    step = 0.5 * basis.unit
    wanted = ((2**0.5 * (value - value.mean())) / step).round() * step / 2**0.5 + value.mean()
    decoded = coder.code(x).decoded["a"]
    # a coefficient between two steps may round either way
    assert float(((decoded - wanted).abs() < 1e-4).float().mean()) > 0.99


def test_blocks_that_are_larger_than_a_source_are_left_out() -> None:
    x = {"a": torch.randn(20, 5)}
    assert [c.settings["block"] for c in fit_pca(x, steps=(1.0,))] == [0, 0, 0, 0, 1, 1]


def test_pca_keeps_the_sign_of_features() -> None:
    x = maps(40)
    coder = fit_pca(x, components=((0, 1),), steps=(8.0,))[0]
    assert float(coder.code(x).decoded["a"].min()) >= 0
    signed = {"a": torch.randn(40, 5)}
    decoded = fit_pca(signed, components=((0, 4),), steps=(0.1,))[0].code(signed).decoded["a"]
    assert float(decoded.min()) < 0


def test_blocks_by_hand_and_back() -> None:
    x = torch.arange(2 * 2 * 3 * 4).reshape(2, 2, 3, 4).float()
    parts = to_blocks(x, 2, 2)
    assert [p.shape for p in parts] == [(2, 4, 4), (2, 4, 4)]
    assert parts[0][0, 0].tolist() == [0, 1, 4, 5]
    assert parts[0][0, 2].tolist() == [8, 9, 8, 9]  # the last row is repeated
    assert torch.equal(from_blocks(parts, 2, x.shape), x)


def test_k_means_finds_clusters() -> None:
    centers = torch.tensor([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0]])
    noise = torch.randn(3, 50, 2, generator=torch.Generator().manual_seed(0)) * 0.1
    x = (centers[:, None] + noise).flatten(0, 1)
    found = k_means(x, 3, seed=1)
    assert sorted(nearest(centers, found).tolist()) == [0, 1, 2]
    with pytest.raises(ArgumentError, match="k_means: x has 3 vectors, must have 4"):
        k_means(centers, 4)


def test_vq_of_exact_codewords() -> None:
    g = torch.Generator().manual_seed(0)
    words = torch.randn(4, 6, generator=g)
    index = torch.randint(4, (20, 5, 3), generator=g)
    x = {"a": words[index].permute(0, 3, 1, 2).contiguous()}
    raw, coded = fit_vq(x, blocks=[(1, 1)], codewords=4)
    assert isinstance(raw, Vq)
    assert (raw.label, coded.label) == ("vq", "vq+rans")
    assert raw.settings == {"block": 1, "groups": 1, "codewords": 4}
    for coder in (raw, coded):
        assert torch.allclose(coder.code(x).decoded["a"], x["a"], atol=1e-5)
    assert raw.code(x).payload.tolist() == [4] * 20  # 15 positions x 2 bits


def test_vq_tables_save_where_one_word_is_frequent() -> None:
    x = {"a": torch.zeros(8, 3, 16, 16)}
    x["a"][:, :, 3, 5:7] = torch.tensor([1.0, 2.0, 3.0])[None, :, None]
    x["a"][:, :, 4, 4] = 7.0
    raw, coded = fit_vq(x, blocks=[(1, 1)], codewords=16)
    assert raw.code(x).payload.tolist() == [128] * 8
    assert (coded.code(x).payload < 40).all()


def test_vq_of_blocks_and_groups_that_do_not_divide() -> None:
    x = maps(40)
    raw, coded = fit_vq(x, blocks=[(4, 2), (99, 1)], codewords=8)
    assert raw.settings["block"] == 4
    for coder in (raw, coded):
        found = coder.code(x)
        assert found.decoded["a"].shape == x["a"].shape
        assert float(found.decoded["a"].min()) >= 0
    # 2 sources x 2 groups x 4 blocks x 3 bits
    assert raw.code(x).payload.tolist() == [6] * 40


# Tracks.


def track() -> Track:
    """Class: which of two halves is brighter; features are the means of both."""
    pictures = [np.full((4, 8, 3), 40, np.uint8) for _ in range(6)]
    for i, image in enumerate(pictures):
        image[:, 4 * (i % 2) : 4 * (i % 2) + 4] = 200
    truth = torch.tensor([i % 2 for i in range(6)])

    def encode(images: Tensor) -> Tensor:
        return torch.stack([images[..., :4].mean((1, 2, 3)), images[..., 4:].mean((1, 2, 3))], 1)

    def sums(answer: Tensor, items: Sequence[int]) -> Tensor:
        right = answer.argmax(1) == truth[list(items)]
        return torch.stack([right.double(), torch.ones(len(right), dtype=torch.float64)], 1)

    cut = Cut(encode, lambda f: f, "halves")
    chance = np.tile([0.5, 1.0], (6, 1))
    task = TrackTask(
        "half", encode, sums, {"top1": lambda t: t[0] / t[1]}, True, chance, "exact", cut,
        classes=2,
    )  # fmt: skip
    return Track("halves", pictures, {"half": task}, "six")


def test_feature_points_ask_the_rest_of_the_network() -> None:
    t = track()
    x = {"half": features_of(t, "half", batch=4)}
    assert x["half"].shape == (6, 2)
    assert float(x["half"][1, 1]) == pytest.approx(200 / 255)
    done: list[int] = []
    (point,) = feature_points(t, x, [RawFp16()], batch=4, progress=lambda a, b: done.append(a))
    assert done == [1]
    assert point.label == "fp16"
    assert point.bytes.tolist() == [4] * 6
    assert point.sums["half"].tolist() == [[1, 1]] * 6
    swapped = {"half": x["half"].flip(1)}
    (wrong,) = feature_points(t, swapped, [RawFp16()])
    assert wrong.sums["half"].tolist() == [[0, 1]] * 6


def test_labels_of_a_track_cost_a_byte() -> None:
    t = track()
    assert labels_of(t, t.tasks["half"]).tolist() == [0, 1, 0, 1, 0, 1]
    fixed, coded = label_points(t, uncompressed(t), counts={"half": [3, 1]})
    assert fixed.bytes.tolist() == [1] * 6
    assert coded.settings == {"coding": "huffman"}
    assert coded.sums["half"].tolist() == [[1, 1]] * 6
    assert label_points(t, uncompressed(t), tasks=[]) == []


def test_huffman_by_hand() -> None:
    words = huffman([5, 1, 2, 0])
    assert [len(w) for w in words] == [1, 3, 2, 3]
    assert all(not a.startswith(b) for a in words for b in words if a != b)
    assert huffman([7]) == [""]
    assert fixed_code(5) == ["000", "001", "010", "011", "100"]
    assert fixed_code(1) == [""]
    with pytest.raises(ArgumentError, match=r"huffman: counts is \[\]"):
        huffman([])


def test_labels_are_read_back_from_their_bytes() -> None:
    codes = [huffman([5, 1, 2, 0]), fixed_code(1000)]
    rows = [[0, 999], [3, 0], [2, 512]]
    data = write_labels(rows, codes)
    assert [len(x) for x in data] == [2, 2, 2]  # 1 + 10, 3 + 10 and 2 + 10 bits
    assert [read_labels(x, codes) for x in data] == rows
    assert write_labels([[0]], [[""]]) == [b""]
    with pytest.raises(ArgumentError, match="read_labels: data has 0 bytes"):
        read_labels(b"", codes)


def test_what_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    x = maps()
    with pytest.raises(ShapeError, match=r"features of a has shape \(3, 2, 2\), must be"):
        RawFp16().code({"a": torch.zeros(3, 2, 2)})
    with pytest.raises(ArgumentError, match="features of a holds NaN"):
        RawFp16().code({"a": torch.full((2, 2), float("nan"))})
    with pytest.raises(ShapeError, match="must have as many of every source"):
        RawFp16().code({"a": x["a"], "b": x["b"][:2]})
    with pytest.raises(ShapeError, match="one source at least"):
        RawFp16().code({})
    with pytest.raises(ArgumentError, match="Mosaic: crf, bits, workers are 52, 10, 1"):
        Mosaic(52)
    with pytest.raises(ArgumentError, match="Pca: components, step are 0, 1.0"):
        Pca({}, 0, 1.0)
    with pytest.raises(ArgumentError, match=r"Pca: features has \['b'\], must be of \['a'\]"):
        fit_pca({"a": x["a"]}, components=((0, 1),), steps=(1.0,))[0].code(x)
    t = track()
    with pytest.raises(ArgumentError, match=r"features has 'x', must be of a task of halves"):
        feature_points(t, {"x": torch.zeros(6, 2)}, [RawFp16()])
    with pytest.raises(ShapeError, match="features of half has 2 images, must have the 6"):
        feature_points(t, {"half": torch.zeros(2, 2)}, [RawFp16()])
    monkeypatch.setattr(feature_anchors, "why_missing", lambda codec: "gone")
    with pytest.raises(MissingExtraError, match="Mosaic: x265 cannot run: gone"):
        Mosaic(20).code(x)
