"""Models that are compiled inside `attach`, and one that was compiled before it."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from foveal.attention import Window, XAttention, attach
from foveal.errors import UnsupportedError

pytestmark = pytest.mark.compile
ALL = XAttention(threshold=1.0)
SPARSE = Window(sink=0, window=1)


class SelfAttention(nn.Module):
    def __init__(self):
        super().__init__()
        self.qkv = nn.Linear(32, 96)

    def forward(self, x):
        q, k, v = self.qkv(x).unflatten(2, (3, 4, 8)).permute(2, 0, 3, 1, 4)
        return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)


class Blocks(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.blocks = nn.ModuleList(SelfAttention() for _ in range(3))

    def forward(self, x):
        for block in self.blocks:
            x = torch.relu(x + block(x))
        return x


@pytest.fixture(autouse=True)
def _fresh():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


@pytest.mark.parametrize("policy", [ALL, SPARSE])
@torch.no_grad()
def test_own_module_compiled_after_attaching(policy) -> None:
    model, x = Blocks(), torch.randn(2, 150, 32)
    plain = model(x)
    with attach(model, policy=policy, min_tokens=0) as handle:
        wanted = model(x)
        compiled = torch.compile(model, backend="aot_eager")
        for _ in range(3):
            torch.testing.assert_close(compiled(x), wanted, rtol=1e-4, atol=1e-4)
    assert handle.receipt.details["calls"] == 4 * 3
    assert torch.allclose(wanted, plain, rtol=1e-4, atol=1e-4) == (policy is ALL)
    torch.testing.assert_close(compiled(x), plain, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_own_module_compiled_before_attaching_is_named() -> None:
    model, x = Blocks(), torch.randn(2, 150, 32)
    compiled = torch.compile(model, backend="aot_eager")
    compiled(x)
    with (
        pytest.raises(UnsupportedError, match=r"blocks\.0, .*compile only after attaching"),
        attach(compiled, policy=SPARSE, min_tokens=0),
    ):
        compiled(x)


@pytest.mark.parametrize("policy", [ALL, SPARSE])
@torch.no_grad()
def test_transformers_model_compiled_after_attaching(policy) -> None:
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=64,
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
    )
    model = transformers.LlamaForCausalLM(config).eval()
    ids = torch.randint(1, 64, (2, 150))
    mask = torch.ones_like(ids)
    mask[1, :20] = 0
    call = {"input_ids": ids, "attention_mask": mask, "use_cache": False}
    plain = model(**call).logits
    with attach(model, policy=policy, min_tokens=0) as handle:
        wanted = model(**call).logits
        compiled = torch.compile(model, backend="aot_eager")
        for _ in range(2):
            torch.testing.assert_close(compiled(**call).logits, wanted, rtol=1e-4, atol=1e-4)
    assert handle.receipt.details["calls"] == 3 * 2 * 2
    torch.testing.assert_close(compiled(**call).logits[0], plain[0], rtol=1e-4, atol=1e-4)
