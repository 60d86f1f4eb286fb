"""Models are loaded under another default dtype; nothing of ours may follow it."""

from collections.abc import Iterator

import pytest
import torch

from foveal.attention import Sage, Sparge, Window, XAttention, attend
from foveal.attention.integrations.masks import spread


@pytest.fixture
def bf16_by_default() -> Iterator[None]:
    torch.set_default_dtype(torch.bfloat16)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize(
    "policy", [None, XAttention(dense_below=0), Sparge(threshold=0.9), Window(window=64)]
)
@pytest.mark.parametrize("precision", [None, Sage("int8-fp8"), Sage("int4-fp16")])
def test_outputs_do_not_follow_the_default_dtype(policy, precision, bf16_by_default):
    q = torch.randn(1, 2, 200, 16, dtype=torch.float32)
    k, v = torch.randn(2, 1, 1, 300, 16, dtype=torch.float32)
    found = attend(q, k, v, policy=policy, precision=precision, return_lse=True)
    torch.set_default_dtype(torch.float32)
    wanted = attend(q, k, v, policy=policy, precision=precision, return_lse=True)
    assert all(torch.equal(a, b) for a, b in zip(found, wanted, strict=True))


def test_rows_to_look_at_are_exact(bf16_by_default):
    rows = spread(100_003)
    assert rows[0] == 0
    assert rows[-1] == 100_002
    assert len(rows) == 64
