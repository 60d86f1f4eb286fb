"""Arguments of the wrong type: the library's own error, with the name of the argument.

Left out where types are checked at run time, which would be the first to complain.
"""

import math

import pytest
import torch

from foveal.attention import Spans, Sparge, Window, XAttention, attend, attend_varlen
from foveal.errors import ArgumentError, ShapeError


def inputs():
    return torch.ones(2, 4, 130, 32), torch.ones(2, 2, 130, 32), torch.ones(2, 2, 130, 32)


def test_settings_of_the_wrong_kind_are_named() -> None:
    q, k, v = inputs()
    for policy in ("xattention", XAttention):
        with pytest.raises(ArgumentError, match="attend: policy is"):
            attend(q, k, v, policy=policy)
    for scale in (math.nan, math.inf, "1"):
        with pytest.raises(ArgumentError, match="attend: scale is"):
            attend(q, k, v, scale=scale)
    with pytest.raises(ArgumentError, match="q is torch.float8_e4m3fn"):
        attend(*(x.to(torch.float8_e4m3fn) for x in (q, k, v)))
    with pytest.raises(ArgumentError, match="policy is"):
        attend_varlen(
            *(x[0].transpose(0, 1) for x in (q, k, v)),
            cu_seqlens_q=torch.tensor([0, 130]),
            cu_seqlens_k=torch.tensor([0, 130]),
            policy="window",
        )


def test_values_of_other_keys_are_refused_in_varlen() -> None:
    q, k, v = (x[0].transpose(0, 1) for x in inputs())
    cu = torch.tensor([0, 130])
    for wrong in (torch.cat([v, v]), v[:, :1], v[None]):
        with pytest.raises(ShapeError, match="attend_varlen: v has shape"):
            attend_varlen(q, k, wrong, cu_seqlens_q=cu, cu_seqlens_k=cu)


@pytest.mark.parametrize(
    ("kind", "settings", "name"),
    [
        (XAttention, {"stride": 8.0}, "stride"),
        (XAttention, {"stride": "8"}, "stride"),
        (XAttention, {"stride": True}, "stride"),
        (XAttention, {"threshold": "0.9"}, "threshold"),
        (XAttention, {"threshold": [0.9, 0.9]}, "threshold"),
        (XAttention, {"threshold": None}, "threshold"),
        (XAttention, {"threshold": math.nan}, "threshold"),
        (XAttention, {"num_local_cells": 1.5}, "num_local_cells"),
        (XAttention, {"dense_below": None}, "dense_below"),
        (Window, {"window": 1.5}, "window"),
        (Window, {"window": math.nan}, "window"),
        (Window, {"sink": math.inf}, "sink"),
        (Window, {"sink": None}, "sink"),
        (Sparge, {"top_k": 0.5, "dense_below": True}, "dense_below"),
        (Spans, {"alphas": (1,), "betas": (0,), "num_tokens": "5"}, "num_tokens"),
        (Spans, {"alphas": (1,), "betas": (0,), "num_tokens": 1000.5}, "num_tokens"),
        (Spans, {"alphas": (1,), "betas": (0,), "num_tokens": 2**41}, "num_tokens"),
        (Spans, {"alphas": (1,), "betas": (0,), "sink": 64.0}, "sink"),
    ],
    ids=str,
)
def test_settings_of_policies_of_the_wrong_kind_are_named(kind, settings, name) -> None:
    with pytest.raises(ArgumentError, match=f"{kind.__name__}: {name} is"):
        kind(**settings)


def test_only_policies_combine() -> None:
    for wrong in (3, None, "window", Window):
        with pytest.raises(ArgumentError, match=r"Policy \|: an operand is"):
            Window() | wrong
        with pytest.raises(ArgumentError, match="Policy &: an operand is"):
            Window() & wrong
