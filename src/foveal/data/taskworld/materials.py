"""Procedural textures: hashes of whole numbers, so that every device draws the same marks.

Noise and cells finer than a pixel fade into their mean.
"""

from collections.abc import Callable

import torch
from torch import Tensor

OCTAVES = 6
"""Of the noise; each has twice the waves of the one before."""
LOSS = 0.6
"""Strength of an octave for that of the one before, in the noise that mixes colors.

In the grain all octaves but the first are as strong, as in photographs.
"""
Column = Callable[[int], Tensor]
"""Gives a field of the materials, one value a ray; see `foveal.data.taskworld.world.Material`."""


def hashed(x: Tensor, y: Tensor, seed: Tensor) -> Tensor:
    """Even in [0, 1) of whole numbers (int32, wrapping around)."""
    h = x * 0x27D4EB2D + y * 0x165667B1 + seed * 0x1B873593
    for shift, mask, factor in ((15, 0x1FFFF, 0x2C1B3C6D), (12, 0xFFFFF, 0x297A2D39)):
        h = (h ^ ((h >> shift) & mask)) * factor
    return ((h ^ ((h >> 15) & 0x1FFFF)) & 0xFFFF).to(torch.float32) * (1 / 65536)


def _lattice(u: Tensor, v: Tensor, seed: Tensor) -> Tensor:
    """Value noise in [-1, 1]: smooth between hashes of the whole numbers around."""
    x, y = u.floor(), v.floor()
    a, b = u - x, v - y
    a, b = a * a * (3 - 2 * a), b * b * (3 - 2 * b)
    i, j = x.to(torch.int32), y.to(torch.int32)
    low = torch.lerp(hashed(i, j, seed), hashed(i + 1, j, seed), a)
    high = torch.lerp(hashed(i, j + 1, seed), hashed(i + 1, j + 1, seed), a)
    return torch.lerp(low, high, b) * 2 - 1


def fractal(u: Tensor, v: Tensor, step: Tensor, seed: Tensor) -> tuple[Tensor, Tensor]:
    """Noise that mixes colors, and grain; `step`: a pixel's width in waves of the first octave."""
    coarse, fine = torch.zeros_like(u), torch.zeros_like(u)
    for i in range(OCTAVES):
        scale = float(2**i)
        value = (2 - 2 * scale * step).clamp(0, 1) * _lattice(u * scale, v * scale, seed + 131 * i)
        coarse = coarse + LOSS**i * value
        fine = fine + (value if i else 0.5 * value)
        u, v = 0.8 * u - 0.6 * v, 0.6 * u + 0.8 * v  # so that no lattice is seen
    return 0.85 * coarse, 0.5 * fine


def windows(column: Column, u: Tensor, v: Tensor) -> Tensor:
    """Where the texture is a window in a wall."""
    wide, high = column(9), column(10)
    gap = _edge(u / wide + 0.31, v / high + 0.31, wide, high)
    return (gap > column(12) / 2) & (column(16) > 0)


def _edge(cu: Tensor, cv: Tensor, wide: Tensor, high: Tensor) -> Tensor:
    fu, fv = cu - cu.floor(), cv - cv.floor()
    return torch.minimum((0.5 - (fu - 0.5).abs()) * wide, (0.5 - (fv - 0.5).abs()) * high)


def albedo(column: Column, u: Tensor, v: Tensor, pixel: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Color at surface coordinates.

    Args:
        column: Fields of the materials.
        u: Surface coordinate, m.
        v: The other one, m.
        pixel: How far neighboring pixels are apart on the surface, m.
    """
    seed = column(23).to(torch.int32)
    wide, high = column(9), column(10)
    cv = v / high + 0.31
    row = cv.floor()
    fv, row = cv - row, row.to(torch.int32)
    shift = column(11)
    odd = (row & 1).to(torch.float32)
    cu = u / wide + 0.31 + torch.where(shift < 0, hashed(row, row, seed), shift * odd)
    col = cu.floor()
    fu, col = cu - col, col.to(torch.int32)
    small = torch.minimum(wide, high)
    keep = (1.5 - 2 * pixel / small).clamp(0, 1)
    edge = torch.minimum((0.5 - (fu - 0.5).abs()) * wide, (0.5 - (fv - 0.5).abs()) * high)
    joint = column(12)
    mean = 1 - (1 - joint / wide) * (1 - joint / high)
    gap = (0.5 - (edge - joint / 2) / pixel).clamp(0, 1) * (joint > 0)
    gap = torch.lerp(mean, gap, keep)
    parity = torch.lerp(torch.full_like(u, 0.5), ((row + col) & 1).to(torch.float32), keep)
    tone = (2 * hashed(col, row, seed + 1) - 1) * column(13) * keep
    part_u, part_v = (fu * 5).to(torch.int32), (fv * 7).to(torch.int32)
    mark = hashed(col * 8 + part_u, row * 8 + part_v, seed + 2) > 0.45
    mark = mark & (part_u < 4) & (part_v > 0) & (part_v < 6) & (hashed(col, row, seed + 3) > 0.2)
    fine = (1.5 - 12 * pixel / small).clamp(0, 1)
    glyph = torch.lerp(torch.full_like(u, 0.3), mark.to(torch.float32), fine)
    fx, fy = column(17), column(18)
    noise, grain = fractal(u * fx, v * fy, pixel * torch.maximum(fx, fy), seed + 4)
    bent = noise * column(20) * 2
    mix = column(19) * (0.5 + 0.5 * bent / (1 + bent.abs()))
    mix = (mix + column(14) * parity + column(15) * glyph).clamp(0, 1)
    bright = (1 + tone) * (1 + column(21) * grain)
    out: list[Tensor] = []
    for i in range(3):
        value = torch.lerp(column(i), column(3 + i), mix)
        out.append((torch.lerp(value, column(6 + i), gap) * bright).clamp(0.004, 0.97))
    return out[0], out[1], out[2]
