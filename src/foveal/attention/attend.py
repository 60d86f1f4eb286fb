"""`attend`: attention on tensors, dense or by policy."""

from typing import Literal, overload

from jaxtyping import Float
from torch import Tensor

from foveal.attention.block_sparse.api import block_sparse_attention
from foveal.attention.layout import BlockLayout, check_sizes
from foveal.attention.policy.base import Policy
from foveal.errors import UnsupportedError


def check_precision(fn: str, precision: object) -> None:
    """Raise UnsupportedError unless `precision` is None."""
    if precision is not None:
        raise UnsupportedError(
            f"{fn}: precision is {precision!r}, must be None in this version; drop it, the "
            "computation then runs in the dtype of q"
        )


@overload
def attend(
    q: Float[Tensor, "b h s d"],
    k: Float[Tensor, "b g t d"],
    v: Float[Tensor, "b g t e"],
    *,
    policy: Policy | None = None,
    precision: None = None,
    causal: bool = True,
    scale: float | None = None,
    return_lse: Literal[False] = False,
) -> Float[Tensor, "b h s e"]: ...


@overload
def attend(
    q: Float[Tensor, "b h s d"],
    k: Float[Tensor, "b g t d"],
    v: Float[Tensor, "b g t e"],
    *,
    policy: Policy | None = None,
    precision: None = None,
    causal: bool = True,
    scale: float | None = None,
    return_lse: Literal[True],
) -> tuple[Float[Tensor, "b h s e"], Float[Tensor, "b h s"]]: ...


def attend(
    q: Float[Tensor, "b h s d"],
    k: Float[Tensor, "b g t d"],
    v: Float[Tensor, "b g t e"],
    *,
    policy: Policy | None = None,
    precision: None = None,
    causal: bool = True,
    scale: float | None = None,
    return_lse: bool = False,
) -> Float[Tensor, "b h s e"] | tuple[Float[Tensor, "b h s e"], Float[Tensor, "b h s"]]:
    """Attend, computing only the cells that `policy` keeps.

    Args:
        q: Queries, fp16, bf16, fp32 or fp64.
        k: Keys, dtype and device of `q`; g divides h, grouped heads stay grouped.
        v: Values.
        policy: Chooses the cells; None attends to everything.
        precision: None. Quantised attention is not part of this version.
        causal: Bottom-right causal: query i sees keys j <= i + t - s.
        scale: Logit factor, unitless. Default 1/sqrt(d).
        return_lse: Also return the natural log-sum-exp of the scaled logits over the kept keys.

    Returns: Outputs, dtype of `q`; or (outputs, fp32 lse). Queries that see no key are 0, lse -inf.

    Raises:
        ShapeError: q, k and v disagree; names the argument.
        ArgumentError: dtypes or devices differ, or the policy does not fit the heads.
        UnsupportedError: `precision` is not None.

    Example: >>> attend(q, k, v, policy=XAttention(stride=8, threshold=0.98))
    """
    check_precision("attend", precision)
    check_sizes("attend", q, k)
    if policy is None:
        layout = BlockLayout.dense(q, k, causal=causal)
    else:
        layout = policy.layout(q, k, causal=causal, scale=scale)
    return block_sparse_attention(q, k, v, layout, scale=scale, return_lse=return_lse)
