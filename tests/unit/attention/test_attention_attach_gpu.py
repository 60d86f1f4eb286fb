"""`attach` on a CUDA device: nothing waits for it, and graphs can be captured."""

import functools

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from foveal import attention
from foveal.attention import Sparge, Window, XAttention

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
    pytest.mark.filterwarnings("ignore:TensorFloat32 tensor cores"),
    pytest.mark.filterwarnings("ignore:The CUDA Graph is empty"),
    pytest.mark.filterwarnings("ignore:Synchronization debug mode is a prototype"),
]
attach = functools.partial(attention.attach, min_tokens=0)
POLICIES = {
    "none": None,
    "window": Window(sink=64, window=64),
    "scored": XAttention(stride=8, threshold=0.5, dense_below=0),
    "pooled": Sparge(top_k=0.5),
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
        try:
            torch.cuda.set_sync_debug_mode("error")
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


@torch.no_grad()
def test_a_model_compiled_while_attached():
    for make in (own, llama):
        run, x = make()
        model = getattr(run, "func", run)
        with attach(model, policy=POLICIES["scored"]) as handle:
            wanted = output(run(x))
            torch._dynamo.reset()
            compiled = torch.compile(model)
            for _ in range(3):
                found = output(compiled(x))
        torch.testing.assert_close(found, wanted, rtol=2e-2, atol=2e-2)
        assert handle.receipt.details["calls"] == 8
        assert set(handle.receipt.details["impl"]) == {"triton"}


@torch.no_grad()
def test_generate_compiles_its_steps():
    run, x = llama()
    model = run.func
    call = {"max_new_tokens": 8, "do_sample": False, "pad_token_id": 0}
    with attach(model, policy=XAttention(threshold=1.0)) as handle:
        wanted = model.generate(x, **call)
        torch._dynamo.reset()
        found = model.generate(x, **call, cache_implementation="static")
    assert torch.equal(found, wanted)
    assert handle.receipt.details["dense_calls"]["decode"] == 2 * 2 * 7


@torch.no_grad()
def test_a_model_on_a_gpu_and_the_cpu(tmp_path):
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("accelerate")
    run, x = llama()
    run.func.float().save_pretrained(tmp_path)
    places = {"model.embed_tokens": 0, "model.layers.0": 0, "model.layers.1": "cpu"}
    places |= {"model.norm": "cpu", "model.rotary_emb": 0, "lm_head": "cpu"}
    for layer in ("cpu", "disk"):  # "disk" is a request to keep it there; accelerate moves it in
        places["model.layers.1"] = layer
        model = transformers.AutoModelForCausalLM.from_pretrained(
            tmp_path, device_map=places, offload_folder=tmp_path / "offload"
        )
        wanted = model(x).logits
        with attach(model, policy=XAttention(threshold=1.0, dense_below=0)) as handle:
            found = model(x).logits
        torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-3)
        assert handle.receipt.details["calls"] == 2


@torch.no_grad()
def test_autocast_on_a_gpu():
    run, x = llama()
    model = run.func.float()
    with torch.autocast("cuda", torch.bfloat16):
        wanted = model(x).logits
        with attach(model, policy=XAttention(threshold=1.0, dense_below=0)):
            found = model(x).logits
    assert found.dtype == wanted.dtype
    torch.testing.assert_close(found, wanted, rtol=5e-2, atol=2e-2)


def test_gradient_checkpointing_on_a_gpu():
    run, x = llama()
    model = run.func.float().train()

    def gradients():
        model.zero_grad()
        model(x, labels=x, use_cache=False).loss.backward()
        return [p.grad.clone() for p in model.parameters()]

    policy = POLICIES["scored"]
    with attach(model, policy=policy):
        wanted = gradients()
    enable = getattr(model, "activation_checkpointing_enable", None)  # its name from 5.24 on
    (enable or model.gradient_checkpointing_enable)()
    with attach(model, policy=policy) as handle:
        found = gradients()
    for a, b in zip(found, wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-5)
    assert handle.receipt.details["calls"] == 4
