"""Kept cells through torch's FlexAttention, compiled: an option where a compiler is at hand."""

from functools import cache
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from foveal.attention.layout import CELL, BlockLayout
from foveal.errors import UnsupportedError


@cache
def _compiled() -> Any:
    from torch.nn.attention.flex_attention import flex_attention

    return torch.compile(flex_attention, dynamic=False, fullgraph=True)


def flex_attention_cells(
    q: Float[Tensor, "b h s d"],
    k: Float[Tensor, "b g t d"],
    v: Float[Tensor, "b g t d"],
    layout: BlockLayout,
    *,
    scale: float,
) -> Float[Tensor, "b h s d"]:
    """Attend to the kept cells by compiled FlexAttention; rows that see no key are 0.

    Raises: UnsupportedError: a skip threshold, a gradient on a CPU (torch has none), torch.compile
        finds no compiler, or there were more shapes than it compiles one function for (torch would
        go on without compiling, which takes memory for all pairs).
    Cost: the first call of each shape compiles for seconds.
    """
    from torch._dynamo.exc import BackendCompilerFailed, FailOnRecompileLimitHit
    from torch._inductor.exc import InductorError

    wants = torch.is_grad_enabled() and any(x.requires_grad for x in (q, k, v))
    if wants and q.device.type == "cpu":
        raise UnsupportedError(
            'block_sparse_attention: impl is "flex" where a gradient is wanted, which torch cannot '
            'do on a CPU; use impl="cpu"'
        )
    mask = layout.to_block_mask()
    # Torch's own tiles for GPUs are larger than our cells, which it refuses.
    options = {"BLOCK_M": CELL, "BLOCK_N": CELL} if q.is_cuda else None
    grouped = q.shape[1] != k.shape[1]
    try:
        out = _compiled()(
            q, k, v, block_mask=mask, scale=scale, enable_gqa=grouped, kernel_options=options
        )
    except FailOnRecompileLimitHit as error:
        raise UnsupportedError(
            'block_sparse_attention: impl is "flex" with more shapes than torch compiles for '
            '(torch._dynamo.config.recompile_limit); use impl="cpu", or raise that limit'
        ) from error
    except (InductorError, BackendCompilerFailed) as error:
        raise UnsupportedError(
            f'block_sparse_attention: impl is "flex", which torch.compile cannot build here '
            f'({str(error).splitlines()[0]}); install a C++ compiler, or use impl="cpu"'
        ) from error
    return out
