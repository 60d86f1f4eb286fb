"""Any shape, any parameters, any file: the integers equal plain Python, and streams decode."""

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from foveal.codec.entropy import RansDecoder, encode_symbols
from foveal.codec.prior.base import (
    index_of,
    integer_prior_from_tensors,
    latent_tables,
    make_prior,
)
from foveal.codec.prior.config import KINDS, PriorConfig
from foveal.codec.prior.reference import levels_reference
from foveal.errors import ArgumentError

RUN = settings(deadline=None, max_examples=60)
TABLES = latent_tables()


@st.composite
def configs(draw: st.DrawFn) -> PriorConfig:
    channels = draw(st.integers(1, 5))
    return PriorConfig(
        kind=draw(st.sampled_from(KINDS)),
        channels=channels,
        height=draw(st.integers(1, 6)),
        width=draw(st.integers(1, 6)),
        side=draw(st.integers(1, min(3, channels))),
        codewords=draw(st.integers(1, 4)),
        hidden=draw(st.integers(1, 3)),
        stride=draw(st.sampled_from([2, 4])),
        tied=draw(st.booleans()),
    )


@RUN
@given(
    configs(),
    st.integers(0, 1 << 30),
    st.floats(0, 60),
    st.integers(1, 3),
    st.integers(1, 7),
    st.integers(1, 7),
)
def test_integers_equal_plain_python_and_streams_decode(
    config: PriorConfig, seed: int, strength: float, images: int, rows: int, columns: int
) -> None:
    torch.manual_seed(seed)
    prior = make_prior(config).eval()
    with torch.no_grad():
        for value in prior.parameters():
            value.mul_(strength)
    size = (rows, columns) if config.any_size else (config.height, config.width)
    y = 5 * torch.randn(images, config.channels, *size)
    extra = 20 * torch.randn(images, 1, 1, 1)
    with torch.no_grad():
        out = prior(y, y, extra, hard=True)
    assert out.levels.shape == y.shape
    assert out.side_bits.shape == (images,)
    side = out.side.to(torch.int64).numpy()
    integers = integer_prior_from_tensors(config, prior.export().to_tensors())
    levels = integers.levels(side, *size)
    assert np.array_equal(levels, levels_reference(integers, side, *size))
    fixed = torch.round(256 * extra).to(torch.int64).numpy()
    symbols, layout = torch.round(y).to(torch.int64).numpy(), integers.side_layout(*size)
    assert layout.size == side.shape[1]
    for i in range(images):
        assert np.array_equal(integers.levels(side[i : i + 1], *size)[0], levels[i])
        indices = index_of(levels[i] + fixed[i])
        kept = indices > 0
        stream = encode_symbols(
            [(integers.side_tables, side[i], layout), (TABLES, symbols[i][kept], indices[kept])]
        )
        decoder = RansDecoder(stream)
        again = decoder.decode(integers.side_tables, layout)
        where = index_of(integers.levels(again[None], *size)[0] + fixed[i])
        assert np.array_equal(again, side[i])
        assert np.array_equal(decoder.decode(TABLES, where[where > 0]), symbols[i][kept])
        decoder.close()


@RUN
@given(configs(), st.integers(0, 1 << 30), st.data())
def test_random_files_are_refused_or_exact(
    config: PriorConfig, seed: int, data: st.DataObject
) -> None:
    tensors = make_prior(config).export().to_tensors()
    rng = np.random.default_rng(seed)
    name = data.draw(st.sampled_from(sorted(tensors)))
    info = np.iinfo(tensors[name].numpy().dtype)
    wide = data.draw(st.booleans())
    low, high = (info.min, info.max) if wide else (-20, 20)
    shape = tuple(tensors[name].shape)
    tensors[name] = torch.from_numpy(rng.integers(low, high, shape, info.dtype, endpoint=True))
    try:
        prior = integer_prior_from_tensors(config, tensors)
    except ArgumentError:
        return
    low, high = prior.side_range
    side = rng.integers(low, high, (2, prior.num_side), endpoint=True)
    levels = prior.levels(side, config.height, config.width)
    assert np.array_equal(levels, levels_reference(prior, side, config.height, config.width))
