"""Levels of exported priors in plain Python integers: slow, and what the fast paths must equal."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from foveal.codec.prior.config import PriorConfig
from foveal.codec.prior.integers import IntegerPrior

Map = list[list[int]]


def _divide(value: int, shift: int) -> int:
    """Return value / 2**shift to the nearest integer, halves upwards."""
    return (2 * value + 2**shift) // 2 ** (shift + 1)


def _clip(value: int, low: int, high: int) -> int:
    return min(max(value, low), high)


def _coefficients(arrays: dict[str, Any], side: list[int], scale: int) -> list[int]:
    """Mix side values that carry a factor of 2**scale into int8 coefficients."""
    out: list[int] = []
    for row, bias in zip(arrays["mix"].tolist(), arrays["mix_bias"].tolist(), strict=True):
        total = bias * 2**scale + sum(a * z for a, z in zip(row, side, strict=True))
        out.append(_clip(_divide(total, int(arrays["shifts"][0]) + scale), -127, 127))
    return out


def _mixed(words: list[int], weights: list[int], base: int, bits: int) -> int:
    """Return one level from codeword entries with `bits` fractional bits and coefficients."""
    return _divide(base + sum(a * c for a, c in zip(weights, words, strict=True)), bits + 5 - 8)


def _global(arrays: dict[str, Any], side: list[int], position: tuple[int, int, int]) -> int:
    weights, (n, u, v) = _coefficients(arrays, side, 0), position
    words = arrays["codebook"][:, n, u, v].tolist()
    return _mixed(words, weights, int(arrays["base"][n, u, v]), int(arrays["shifts"][1]))


def _neighbors(place: int, stride: int, size: int) -> list[tuple[int, int]]:
    """Return the coarse positions beside a fine one with weights that sum to 2 * stride."""
    before, part = divmod(2 * place + 1 - stride, 2 * stride)
    last = -(-size // stride) - 1
    return [
        (_clip(before, 0, last), 2 * stride - part),
        (_clip(before + 1, 0, last), part),
    ]


def _local(
    config: PriorConfig,
    arrays: dict[str, Any],
    maps: list[Map],
    size: tuple[int, int],
    position: tuple[int, int, int],
) -> int:
    n, u, v = position
    values = [
        sum(
            a * b * grid[i][j]
            for i, a in _neighbors(u, config.stride, size[0])
            for j, b in _neighbors(v, config.stride, size[1])
        )
        for grid in maps
    ]
    weights = _coefficients(arrays, values, 4 if config.stride == 2 else 6)
    words = arrays["codebook"][:, n].tolist()
    return _mixed(words, weights, int(arrays["base"][n]), int(arrays["shifts"][1]))


def _convolve(weight: Any, bias: int, maps: list[Map], u: int, v: int) -> int:
    total = bias
    for kernel, grid in zip(weight.tolist(), maps, strict=True):
        for i in range(3):
            for j in range(3):
                row, column = u + i - 1, v + j - 1
                if 0 <= row < len(grid) and 0 <= column < len(grid[0]):
                    total += kernel[i][j] * grid[row][column]
    return total


def _spatial(
    config: PriorConfig, arrays: dict[str, Any], maps: list[Map], size: tuple[int, int]
) -> list[Map]:
    half = tuple(-(-x // 2) for x in size)
    for i in range(3):
        rows, columns = (
            size
            if i == 2
            else half
            if i == 1 and config.stride == 4
            else (
                len(maps[0]),
                len(maps[0][0]),
            )
        )
        if (rows, columns) != (len(maps[0]), len(maps[0][0])):
            maps = [
                [[grid[u // 2][v // 2] for v in range(columns)] for u in range(rows)]
                for grid in maps
            ]
        shift = int(arrays["shifts"][i]) - (8 if i == 0 else 0)
        maps = [
            [
                [_divide(_convolve(weight, bias, maps, u, v), shift) for v in range(columns)]
                for u in range(rows)
            ]
            for weight, bias in zip(arrays[f"weight{i}"], arrays[f"bias{i}"].tolist(), strict=True)
        ]
        if i < 2:
            maps = [[[_clip(x, 0, 4095) for x in row] for row in grid] for grid in maps]
    return maps


def levels_reference(
    prior: IntegerPrior, side: NDArray[np.int64], height: int, width: int
) -> NDArray[np.int64]:
    """Return what `prior.levels` returns, computed symbol by symbol in Python integers.

    Args:
        prior: An exported prior.
        side: Valid side symbols [images, num_side].
        height: Height of the latents.
        width: Width of the latents.
    """
    config, arrays = prior.config, prior.arrays
    out = np.zeros((len(side), config.channels, height, width), dtype=np.int64)
    rows, columns = config.grid(height, width)
    for image, symbols in enumerate(side.tolist()):
        maps: list[Map] = [
            [symbols[o + i * columns : o + (i + 1) * columns] for i in range(rows)]
            for o in range(0, len(symbols), rows * columns)
        ]
        net = _spatial(config, arrays, maps, (height, width)) if prior.kind == "spatial" else []
        for n, u, v in np.ndindex(*out.shape[1:]):
            here = (n, u, v)
            if prior.kind == "codebook-global":
                level = _global(arrays, symbols, here)
            elif prior.kind == "codebook-local":
                level = _local(config, arrays, maps, (height, width), here)
            elif prior.kind == "codebook-vq":
                word = arrays["codebook"][symbols[n * config.side // config.channels], n]
                level = int(word[u, v] if config.tied else word)
            elif prior.kind == "spatial":
                level = net[n][u][v]
            else:
                level = int(arrays["base"][n, u, v] if config.tied else arrays["base"][n])
            out[image, n, u, v] = level
    return out
