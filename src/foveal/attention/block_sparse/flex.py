"""Kept cells through torch's FlexAttention, compiled: an option where a compiler is at hand."""

from functools import cache
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from foveal.attention.layout import BlockLayout
from foveal.errors import UnsupportedError


@cache
def _compiled() -> Any:
    from torch.nn.attention.flex_attention import flex_attention

    return torch.compile(flex_attention, dynamic=False)


def flex_attention_cells(
    q: Float[Tensor, "b h s d"],
    k: Float[Tensor, "b g t d"],
    v: Float[Tensor, "b g t d"],
    layout: BlockLayout,
    *,
    scale: float,
) -> tuple[Float[Tensor, "b h s d"], Float[Tensor, "b h s"]]:
    """Attend to the kept cells by compiled FlexAttention; rows that see no key are 0 and -inf.

    Raises: UnsupportedError: a skip threshold, or torch.compile finds no compiler.
    Cost: the first call of each shape compiles for seconds.
    """
    from torch._dynamo.exc import BackendCompilerFailed  # pyright: ignore[reportPrivateUsage]
    from torch._inductor.exc import InductorError  # pyright: ignore[reportPrivateUsage]
    from torch.nn.attention.flex_attention import AuxRequest

    mask = layout.to_block_mask()
    try:
        out, aux = _compiled()(
            q,
            k,
            v,
            block_mask=mask,
            scale=scale,
            enable_gqa=q.shape[1] != k.shape[1],
            return_aux=AuxRequest(lse=True),
        )
    except (InductorError, BackendCompilerFailed) as error:
        raise UnsupportedError(
            f'block_sparse_attention: impl is "flex", which torch.compile cannot build here '
            f'({str(error).splitlines()[0]}); install a C++ compiler, or use impl="cpu"'
        ) from error
    lse = aux.lse
    return torch.nan_to_num(out, nan=0.0) if layout.causal and q.shape[2] > k.shape[2] else out, lse
