import dataclasses
import json
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from foveal.data.sensor_noise import (
    SOURCES,
    TRIPLES,
    NoiseLine,
    Shot,
    camera_matrix,
    draw_shot,
    jpeg,
    linear_to_srgb,
    pmrid_noise,
    shoot,
    srgb_to_linear,
)
from foveal.data.sensor_noise import shot as shot_module
from foveal.errors import ArgumentError, ShapeError, UnsupportedError

NONE = NoiseLine.same(0, 0)


def _flat(level: float, side: int = 256, count: int = 1) -> torch.Tensor:
    return linear_to_srgb(torch.full((count, 3, side, side), level))


def _numbers(images: torch.Tensor, shots: list[Shot], monkeypatch) -> torch.Tensor:
    """Linear light before the clip and the 8 bits."""
    seen = []
    original = shot_module._expose

    def spy(light, shot):
        seen.append(original(light, shot))
        return seen[-1]

    monkeypatch.setattr(shot_module, "_expose", spy)
    shoot(images, shots)
    monkeypatch.setattr(shot_module, "_expose", original)
    return torch.cat(seen)


@pytest.mark.parametrize("triple", TRIPLES)
def test_triples_are_exact(triple: tuple[float, float, float], monkeypatch) -> None:
    """The fixed darkness levels: the record holds them, and mean and variance follow them."""
    factor, shot, read = triple
    record = Shot.of_triple(triple, seed=3)
    assert (record.factor, record.noise) == (factor, NoiseLine.same(shot, read))
    level = 0.6
    x = _numbers(_flat(level, 512), [record], monkeypatch).double()
    spread = math.sqrt(shot * level * factor + read)
    assert x.mean().item() == pytest.approx(level * factor, abs=5 * spread / 800)
    assert x.var().item() == pytest.approx(shot * level * factor + read, rel=0.02)


@pytest.mark.parametrize("kind", ["poisson", "gaussian"])
def test_noise_differs_by_channel_as_told(kind: str, monkeypatch) -> None:
    noise = NoiseLine((1e-3, 2e-3, 4e-3), (1e-5, 0.0, 1e-4))
    record = Shot(factor=0.1, noise=noise, seed=1, shot_noise=kind)
    for mosaicked in (False, True):
        x = _numbers(
            _flat(0.5, 512), [dataclasses.replace(record, mosaic=mosaicked)], monkeypatch
        ).double()
        planes = (
            [x[:, 0, 0::2, 0::2], x[:, 0, 0::2, 1::2], x[:, 0, 1::2, 1::2]]
            if mosaicked
            else [x[:, c] for c in range(3)]
        )
        for plane, shot, read in zip(planes, noise.shot, noise.read, strict=True):
            assert plane.var().item() == pytest.approx(shot * 0.05 + read, rel=0.05)


def test_every_pixel_has_its_own_noise(monkeypatch) -> None:
    """Public code draws quantisation noise once a channel; ours is rounding, pixel by pixel."""
    x = _numbers(_flat(0.5, 128), [Shot.of_triple((0.1, 0.0, 1e-4), seed=0)], monkeypatch)
    assert x[0, 0].unique().numel() > 10_000
    a, b, c = x[0].flatten(1).double()
    assert abs(torch.corrcoef(torch.stack([a, b, c]))[0, 1:]).max() < 0.03


@pytest.mark.parametrize("levels", [255, 1023, 4095])
def test_quantisation_is_half_a_step(levels: int, monkeypatch) -> None:
    """Public code has an amplitude of 1/(255 * bits); it must be half of 2^-bits."""
    ramp = torch.linspace(0, 1, 512 * 512).reshape(1, 1, 512, 512).expand(1, 3, -1, -1)
    record = Shot(factor=1, noise=NONE, seed=0, levels=levels)
    linear = srgb_to_linear(ramp)
    error = (_numbers(ramp, [record], monkeypatch) - linear).double()
    assert error.abs().max().item() == pytest.approx(0.5 / levels, rel=0.01)
    bright = error[linear > 0.2]
    assert bright.var().item() == pytest.approx(1 / 12 / levels**2, rel=0.03)


def test_row_noise_is_shared_by_a_row(monkeypatch) -> None:
    record = Shot(factor=1, noise=NoiseLine.same(0, 1e-6), seed=0, row_sigma=0.01)
    x = _numbers(_flat(0.5, 400), [record], monkeypatch).double()
    assert x.mean(-1).var().item() == pytest.approx(1e-4, rel=0.2)
    assert (x - x.mean(-1, keepdim=True)).var().item() == pytest.approx(1e-6, rel=0.05)
    assert (x[:, 0] - x[:, 1]).mean(-1).abs().max() < 1e-3


def test_tukey_tails_are_heavier_at_equal_variance(monkeypatch) -> None:
    plain = Shot(factor=1, noise=NoiseLine.same(0, 1e-4), seed=5)
    heavy = dataclasses.replace(plain, tukey_shape=-0.2)
    a, b = (_numbers(_flat(0.3, 512), [s], monkeypatch).double() - 0.3 for s in (plain, heavy))
    assert b.var().item() == pytest.approx(1e-4, rel=0.05)
    assert (b.abs() > 0.04).sum() > 20 * max((a.abs() > 0.04).sum(), 1)


def test_without_noise_only_light_is_lost() -> None:
    image = torch.rand(1, 3, 32, 48, generator=torch.Generator().manual_seed(0)) * 0.7
    out = shoot(image, [Shot(factor=0.25, noise=NONE, seed=0)])
    assert (out - linear_to_srgb(srgb_to_linear(image) * 0.25)).abs().max() <= 0.5 / 255 + 1e-6
    # white balance and colors are taken back exactly, tone of Brooks included
    full = dataclasses.replace(
        draw_shot(4, jpeg_fraction=0), noise=NONE, row_sigma=0, levels=None, mosaic=False, factor=1
    )
    grey = torch.rand(1, 1, 32, 48).expand(1, 3, -1, -1) * 0.7
    for tone in ("srgb", "gamma", "filmic"):
        out = shoot(grey, [dataclasses.replace(full, tone=tone)])
        assert (out - grey).abs().max() <= 0.75 / 255


@pytest.mark.parametrize("source", [s for s in SOURCES if s != "profiles"])
def test_records_replay_bit_for_bit(source: str) -> None:
    images = torch.rand(4, 3, 33, 47)
    shots = [draw_shot(seed, source=source) for seed in range(4)]
    shots[1] = dataclasses.replace(shots[1], mosaic=False, tone="filmic")
    first = shoot(images, shots)
    again = [Shot.from_json(s.to_json()) for s in shots]
    assert again == shots
    assert torch.equal(shoot(images, again), first)
    for i in (0, 1, 3):  # nor do the others of the batch matter
        assert torch.equal(shoot(images[i : i + 1], [again[i]]), first[i : i + 1])
    assert torch.equal(first, (first * 255).round() / 255)
    other = dataclasses.replace(shots[0], seed=shots[0].seed + 1)
    assert not torch.equal(shoot(images[:1], [other]), first[:1])


def test_one_seed_makes_the_whole_record() -> None:
    assert draw_shot(7) == draw_shot(7)
    assert draw_shot(7) != draw_shot(8)
    draws = [draw_shot(s, factor=(0.01, 0.1), jpeg_fraction=0.5) for s in range(300)]
    assert all(0.01 <= d.factor <= 0.1 for d in draws)
    share = sum(d.jpeg_quality is not None for d in draws) / len(draws)
    assert 0.4 < share < 0.6
    assert len({d.seed for d in draws}) == 300
    assert {d.source.split(":")[0] for d in draws} == {"eld"}
    phone = draw_shot(1, source="pmrid", iso=(800, 800), color=False)
    assert phone.noise.shot[0] == pytest.approx(pmrid_noise(800).shot[0], rel=1e-5)
    assert phone.levels == 959
    assert phone.gains == (1, 1, 1)


def test_jpeg_is_lossy_by_quality() -> None:
    image = (torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(0)) * 255).round()
    good, bad = ((jpeg(image, q) - image).abs().mean() for q in (95, 30))
    assert 0 < good < bad
    with pytest.raises(UnsupportedError, match="65500"):
        jpeg(torch.zeros(3, 1, 65501), 90)


def test_bad_arguments_of_shoot() -> None:
    shot = Shot.of_triple(TRIPLES[0], seed=0)
    with pytest.raises(ShapeError, match="shots has 2"):
        shoot(torch.rand(1, 3, 8, 8), [shot, shot])
    for bad in (
        torch.full((1, 3, 8, 8), math.nan),
        torch.full((1, 3, 8, 8), 1.01),
        torch.full((1, 3, 8, 8), -0.1),
    ):
        with pytest.raises(ArgumentError, match=r"outside \[0, 1\] or NaN"):
            shoot(bad, [shot])
    assert shoot(torch.rand(0, 3, 8, 8), []).shape == (0, 3, 8, 8)


@pytest.mark.parametrize("shape", [(3, 8, 8), (1, 1, 8, 8), (1, 4, 8, 8), (1, 3, 1, 8)], ids=str)
def test_wrong_shapes_and_types_of_shoot(shape: tuple[int, ...]) -> None:
    shot = Shot.of_triple(TRIPLES[0], seed=0)
    with pytest.raises(ShapeError, match="shoot: images has shape"):
        shoot(torch.rand(shape), [shot])
    with pytest.raises(ArgumentError, match=r"images is torch.uint8"):
        shoot(torch.zeros(1, 3, 8, 8, dtype=torch.uint8), [shot])
    with pytest.raises(ArgumentError, match="camera_matrix: weights"):
        camera_matrix(torch.ones(2))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"factor": 0}, "factor is 0"),
        ({"factor": math.nan}, "factor is nan"),
        ({"seed": -1}, "seed is -1"),
        ({"tukey_shape": -0.6}, "shape is -0.6"),
        ({"row_sigma": -1}, "row_sigma"),
        ({"levels": 1}, "levels is 1"),
        ({"tone": "log"}, "tone is 'log'"),
        ({"gains": (0, 1, 1)}, "gains"),
        ({"jpeg_quality": 100}, "jpeg_quality is 100"),
        ({"camera": ((1, 1, 1), (0, 1, 0), (0, 0, 1))}, "sum to 1"),
        ({"camera": ((1, 0, 0), (1, 0, 0), (0, 0, 1))}, "inverted"),
    ],
)
def test_records_are_checked(change: dict[str, object], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        dataclasses.replace(Shot.of_triple(TRIPLES[0], seed=0), **change)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_hostile_records_end_in_one_error(data: st.DataObject) -> None:
    row = json.loads(draw_shot(1).to_json())
    junk = st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
        lambda x: st.lists(x, max_size=4) | st.dictionaries(st.text(max_size=3), x, max_size=3),
        max_leaves=6,
    )
    row[data.draw(st.sampled_from(sorted(row)))] = data.draw(junk)
    try:
        again = Shot.from_json(json.dumps(row))
    except ArgumentError:
        return
    assert Shot.from_json(again.to_json()) == again


@pytest.mark.parametrize("text", ["", "[]", "{}", "[" * 100_000, '{"factor": 1}'])
def test_texts_that_are_no_record(text: str) -> None:
    with pytest.raises(ArgumentError, match="Shot.from_json"):
        Shot.from_json(text)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"source": "x"}, "source is 'x'"),
        ({"source": "brooks", "camera": "SonyA7S2"}, "camera is for"),
        ({"camera": "x"}, "camera is 'x'"),
        ({"source": "profiles"}, "profiles must be given"),
        ({"source": "eld", "iso": (100.0, 200.0)}, "iso is for"),
        ({"source": "pmrid", "iso": (200.0, 100.0)}, "iso is"),
        ({"factor": (0.5, 0.1)}, "factor is"),
        ({"jpeg_fraction": 1.5}, "jpeg_fraction"),
        ({"jpeg_quality": (90, 99)}, "jpeg_quality"),
    ],
)
def test_bad_arguments_of_draws(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        draw_shot(0, **arguments)
