"""Shape types and small aliases. Axis letters are listed in `DESIGN.md`, section "Words"."""

from pathlib import Path
from typing import Literal, TypeAlias

from jaxtyping import Float, UInt8
from torch import Tensor

Image: TypeAlias = Float[Tensor, "3 height width"]
"""sRGB in [0, 1]."""

ImageBatch: TypeAlias = Float[Tensor, "b 3 height width"]
"""sRGB in [0, 1]."""

Frame: TypeAlias = UInt8[Tensor, "height width 3"]
"""sRGB, 8 bit, as decoded from a video."""

Impl: TypeAlias = Literal["auto", "reference", "cpu", "triton"]
PathLike: TypeAlias = str | Path
