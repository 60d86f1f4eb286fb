"""`attach` on a CUDA device: nothing waits for it, and graphs can be captured."""

import functools

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from foveal import attention
from foveal.attention import Window, XAttention

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
attach = functools.partial(attention.attach, min_tokens=0)
POLICIES = {
    "none": None,
    "window": Window(sink=64, window=64),
    "scored": XAttention(stride=8, threshold=0.5, dense_below=0),
}


class SelfAttention(nn.Module):
    def __init__(self, causal):
        super().__init__()
        self.qkv, self.causal = nn.Linear(128, 384), causal

    def forward(self, x):
        q, k, v = self.qkv(x).unflatten(2, (3, 2, 64)).permute(2, 0, 3, 1, 4)
        out = F.scaled_dot_product_attention(q, k, v, is_causal=self.causal)
        return out.transpose(1, 2).flatten(2)


def own():
    torch.manual_seed(0)
    model = nn.Sequential(SelfAttention(True), SelfAttention(False))
    return model.cuda().half().eval(), torch.randn(1, 1000, 128).cuda().half()


def llama():
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=64,
        hidden_size=128,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        sliding_window=None,
    )
    model = transformers.LlamaForCausalLM(config).cuda().half().eval()
    # Without a cache, transformers looks for packed sequences, and waits for the device to do it.
    return functools.partial(model, use_cache=True), torch.randint(1, 64, (1, 1000)).cuda()


def output(found):
    return getattr(found, "logits", found)


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("make", [own, llama])
@torch.no_grad()
def test_nothing_waits_for_the_device(make, policy):
    run, x = make()
    model = getattr(run, "func", run)
    with attach(model, policy=POLICIES[policy]) as handle:
        run(x)
        torch.cuda.synchronize()
        torch.cuda.set_sync_debug_mode("error")
        try:
            run(x)
        finally:
            torch.cuda.set_sync_debug_mode("default")
    assert handle.receipt.details["device"] == "cuda"
    assert handle.receipt.details["calls"] == 4
    assert handle.receipt.seconds > 0


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("make", [own, llama])
@torch.no_grad()
def test_graphs_are_captured_and_counted(make, policy):
    run, x = make()
    model = getattr(run, "func", run)
    with attach(model, policy=POLICIES[policy]) as handle:
        wanted = output(run(x))
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            run(x)
        torch.cuda.current_stream().wait_stream(side)
        before = handle.receipt
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            out = output(run(x))
        out.zero_()
        for _ in range(3):
            graph.replay()
        torch.cuda.synchronize()
    torch.testing.assert_close(out, wanted)
    receipt = handle.receipt
    assert receipt.full == before.full / 2 * 5  # two calls, then three replays
    assert receipt.spent == pytest.approx(before.spent / 2 * 5)
    assert receipt.loss == pytest.approx(before.loss, rel=0.5)


@torch.no_grad()
def test_decoding_with_padding_is_captured():
    transformers = pytest.importorskip("transformers")
    run, x = llama()
    model = run.func
    call = {
        "input_ids": x[:, :200].repeat(2, 1),
        "attention_mask": torch.ones(2, 200, device="cuda", dtype=torch.long),
        "max_new_tokens": 8,
        "do_sample": False,
        "pad_token_id": 0,
    }
    call["attention_mask"][1, :30] = 0
    wanted = model.generate(**call)
    with attach(model, policy=XAttention(threshold=1.0)):
        assert torch.equal(model.generate(**call), wanted)
        static = model.generate(**call, cache_implementation="static", disable_compile=True)
    assert torch.equal(static, wanted)
    assert transformers.__version__
