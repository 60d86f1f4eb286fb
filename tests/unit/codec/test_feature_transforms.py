"""Transforms of maps, vectors and tokens: shapes, layouts, and values that can be worked out."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from foveal.codec.config import Source
from foveal.codec.transforms import (
    SLOPE,
    Analysis,
    ResidualBlock,
    Synthesis,
    conv,
    from_map,
    mean_and_std,
    quantise,
    to_map,
)

SIZES = [(8, 8), (7, 9), (1, 1), (1, 6), (5, 1), (2, 3), (13, 4)]
SOURCES = {
    "map": Source("x", 3, height=4, width=5),
    "vector": Source("x", 3, "vector"),
    "tokens": Source("x", 3, "tokens", height=7),
    "grid": Source("x", 3, "tokens", height=2, width=5),
}


def pair(size: tuple[int, int], stride: int, **changes: Any) -> tuple[Analysis, Synthesis]:
    own = {"hidden": 6, "blocks": 1, "size": size, "stride": stride} | changes
    return (
        Analysis(inputs=3, outputs=4, **own),  # type: ignore[arg-type]
        Synthesis(inputs=4, outputs=3, **own),  # type: ignore[arg-type]
    )


@pytest.mark.parametrize("stride", [1, 2, 4])
@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("blocks", [0, 2])
def test_shapes(size: tuple[int, int], stride: int, blocks: int) -> None:
    analysis, synthesis = pair(size, stride, blocks=blocks)
    latent = analysis(torch.randn(2, 3, *size))
    assert latent.shape == (2, 4, -(-size[0] // stride), -(-size[1] // stride))
    assert synthesis(latent, size).shape == (2, 3, *size)


@pytest.mark.parametrize("stride", [1, 2, 4])
@pytest.mark.parametrize("size", [(1, 1), (3, 11), (16, 5)], ids=str)
def test_maps_of_another_size_than_the_model_was_made_for(
    size: tuple[int, int], stride: int
) -> None:
    analysis, synthesis = pair((8, 8), stride)
    latent = analysis(torch.randn(2, 3, *size))
    assert latent.shape[2:] == (-(-size[0] // stride), -(-size[1] // stride))
    assert synthesis(latent, size).shape == (2, 3, *size)


@pytest.mark.parametrize(
    ("size", "kernel"), [((1, 1), (1, 1)), ((1, 4), (1, 3)), ((4, 1), (3, 1)), ((2, 2), (3, 3))]
)
def test_kernels_have_length_1_along_sides_of_length_1(
    size: tuple[int, int], kernel: tuple[int, int]
) -> None:
    layer = conv(2, 3, size, stride=2)
    assert layer.kernel_size == kernel
    assert layer.stride == tuple(2 if side > 1 else 1 for side in size)
    assert layer.padding == tuple(k // 2 for k in kernel)


def test_a_residual_block_by_hand() -> None:
    block = ResidualBlock(1, (1, 1))
    with torch.no_grad():
        for layer, weight, bias in ((block.first, 2.0, 1.0), (block.second, 3.0, 0.5)):
            layer.weight.fill_(weight)
            assert layer.bias is not None
            layer.bias.fill_(bias)
    x = torch.tensor([-2.0, 1.0]).reshape(2, 1, 1, 1)
    inner = [2 * -2 * SLOPE + 1, 2 * 1 + 1]
    assert block(x).flatten().tolist() == pytest.approx([-2 + 3 * inner[0] + 0.5, 1 + 3 * 3 + 0.5])


@pytest.mark.parametrize("size", [(6, 8), (4, 1), (1, 6)], ids=str)
def test_spread_is_a_pixel_shuffle(size: tuple[int, int]) -> None:
    _, synthesis = pair(size, 2, blocks=0, hidden=8)
    y = torch.randn(2, 4, -(-size[0] // 2), -(-size[1] // 2))
    wide = synthesis.spread(functional.leaky_relu(synthesis.first(y), SLOPE))
    down, across = (2 if side > 1 else 1 for side in size)
    wanted = torch.zeros(2, wide.shape[1] // (down * across), *size)
    for i in range(size[0]):
        for j in range(size[1]):
            channel = (i % down) * across + j % across
            wanted[:, :, i, j] = wide[:, channel :: down * across, i // down, j // across]
    wanted = wanted + synthesis.refine(functional.leaky_relu(wanted, SLOPE))
    wanted = synthesis.last(functional.leaky_relu(wanted, SLOPE))
    assert torch.allclose(synthesis(y, size), wanted, atol=1e-6)


def test_fine_blocks_work_at_the_size_of_the_features() -> None:
    plain = {"inputs": 4, "outputs": 3, "hidden": 8, "blocks": 0, "size": (6, 8), "stride": 2}
    coarse = Synthesis(**plain)  # type: ignore[arg-type]
    fine = Synthesis(**plain, fine_blocks=1)  # type: ignore[arg-type]
    extra = set(fine.state_dict()) - set(coarse.state_dict())
    assert extra
    assert all(name.startswith("fine.0.") for name in extra)
    coarse.load_state_dict({k: v for k, v in fine.state_dict().items() if k not in extra})
    found: list[Tensor] = []
    fine.fine.register_forward_pre_hook(lambda _, x: found.append(x[0]))
    y = torch.randn(2, 4, 3, 4)
    out = fine(y, (6, 8))
    assert found[0].shape[2:] == (6, 8)
    assert torch.allclose(out, coarse.last(functional.leaky_relu(fine.fine(found[0]), SLOPE)))
    assert not torch.allclose(out, coarse(y, (6, 8)))


def features(source: Source) -> Tensor:
    return torch.arange(2.0 * torch.Size(source.shape).numel()).reshape(2, *source.shape)


@pytest.mark.parametrize("name", SOURCES)
def test_layouts_and_back(name: str) -> None:
    source = SOURCES[name]
    x = features(source)
    maps = to_map(x, source)
    assert maps.shape == (2, 3, source.height, source.width)
    assert torch.equal(from_map(maps, source.kind), x)
    assert from_map(maps, source.kind).is_contiguous()


def test_tokens_lie_along_the_rows_of_their_grid() -> None:
    x = features(SOURCES["grid"])
    maps = to_map(x, SOURCES["grid"])
    for length in range(10):
        assert torch.equal(maps[:, :, length // 5, length % 5], x[:, length])


def test_mean_and_spread_by_hand() -> None:
    x = torch.tensor([[[[1.0, 3.0]], [[5.0, 5.0]]]])
    mean, std = mean_and_std(x)
    assert mean.tolist() == [2.0, 5.0]
    assert std.tolist() == pytest.approx([1.0, 1e-3])


def test_rounding_stays_within_the_coders_range() -> None:
    x = torch.tensor([-1e9, -0.5, 0.5, 1.5, 2.4, 1e9, float("inf")])
    assert quantise(x).tolist() == [-32768.0, 0.0, 0.0, 2.0, 2.0, 32768.0, 32768.0]
