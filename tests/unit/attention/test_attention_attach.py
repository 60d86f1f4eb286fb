"""The seam to transformers."""

import functools

import pytest
import torch

from foveal import attention
from foveal.attention import Sage, Window, XAttention
from foveal.errors import ArgumentError, UnsupportedError

transformers = pytest.importorskip("transformers")


def _model(kind="Llama", **more):
    torch.manual_seed(0)
    config = getattr(transformers, f"{kind}Config")(
        vocab_size=64,
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        **more,
    )
    return getattr(transformers, f"{kind}ForCausalLM")(config).eval()


def _tokens(batch=1, length=300):
    return torch.randint(0, 64, (batch, length), generator=torch.Generator().manual_seed(0))


attach = functools.partial(attention.attach, min_tokens=0)
DENSE = Window(sink=0, window=10_000)
SPARSE = Window(sink=64, window=64)


def test_full_window_changes_nothing_and_is_counted():
    model, tokens = _model(), _tokens()
    with torch.no_grad(), attach(model, policy=DENSE) as handle:
        inside = model(tokens).logits
    torch.testing.assert_close(inside, model(tokens).logits, rtol=1e-4, atol=1e-4)
    receipt = handle.receipt
    assert receipt.spent == receipt.full == 2 * 15 * 4 * 2
    assert receipt.loss == 0.0


def test_sparse_prefill_has_a_measured_loss_and_a_map():
    model, tokens = _model(), _tokens()
    policy = XAttention(stride=8, threshold=0.2, dense_below=0) & Window(sink=64, window=64)
    with torch.no_grad(), attach(model, policy=policy) as handle:
        model(tokens)
    assert handle.receipt.spent < handle.receipt.full
    assert 0 < handle.receipt.loss < 1
    assert handle.layouts(1, head=3).shape == (5, 5)
    assert set(handle.receipt.details["density_per_layer"]) == {"0", "1"}


def test_exception_leaves_nothing_behind():
    from transformers import AttentionInterface
    from transformers.masking_utils import AttentionMaskInterface

    model = _model()
    before = (model.config, model.model.config, model.model.layers[0].self_attn.config)
    keys = (set(AttentionInterface._global_mapping), set(AttentionMaskInterface._global_mapping))
    with pytest.raises(KeyError, match="mine"), attach(model, policy=DENSE):
        assert model.config._attn_implementation == "foveal"
        raise KeyError("mine")
    after = (model.config, model.model.config, model.model.layers[0].self_attn.config)
    assert all(a is b for a, b in zip(before, after, strict=True))
    assert model.config._attn_implementation == "sdpa"
    mapping = (AttentionInterface._global_mapping, AttentionMaskInterface._global_mapping)
    assert keys == tuple(map(set, mapping))


def test_models_that_share_a_config_stay_as_they_are():
    model = _model()
    twin = transformers.LlamaForCausalLM(model.config).eval()
    with torch.no_grad(), attach(model, policy=DENSE):
        assert twin.config._attn_implementation == "sdpa"
        model(_tokens())
        twin(_tokens())


@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_is_exact(side):
    model, tokens = _model(), _tokens(2)
    mask = torch.ones_like(tokens)
    mask[1, slice(0, 70) if side == "left" else slice(230, 300)] = 0
    real = slice(70, 300) if side == "left" else slice(0, 230)
    with torch.no_grad(), attach(model, policy=SPARSE) as handle:
        batch = model(tokens, attention_mask=mask).logits
        alone = model(tokens[1:, real]).logits
    torch.testing.assert_close(batch[1:, real], alone, rtol=1e-4, atol=1e-4)
    assert handle.receipt.details["dense_calls"] == {}


def test_padded_dense_equals_the_plain_model():
    model, tokens = _model(), _tokens(2)
    mask = torch.ones_like(tokens)
    mask[1, :70] = 0
    with torch.no_grad(), attach(model, policy=DENSE):
        inside = model(tokens, attention_mask=mask).logits
    wanted = model(tokens, attention_mask=mask).logits
    torch.testing.assert_close(inside[0], wanted[0], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(inside[1, 70:], wanted[1, 70:], rtol=1e-4, atol=1e-4)


def test_sliding_window_layers_keep_their_window():
    model, tokens = _model("Mistral", sliding_window=100), _tokens()
    with torch.no_grad(), attach(model, policy=DENSE) as handle:
        inside = model(tokens).logits
    torch.testing.assert_close(inside, model(tokens).logits, rtol=1e-4, atol=1e-4)
    assert handle.receipt.full < 2 * 15 * 4 * 2


def test_generation_equals_the_plain_model():
    model, tokens = _model(), _tokens(2, 130)
    mask = torch.ones_like(tokens)
    mask[1, :20] = 0
    options = {"attention_mask": mask, "max_new_tokens": 4, "do_sample": False, "pad_token_id": 0}
    with attach(model, policy=DENSE) as handle:
        inside = model.generate(tokens, **options)
    assert torch.equal(inside, model.generate(tokens, **options))
    assert handle.receipt.details["dense_calls"]["decode"] == 6


def test_chunked_prefill_is_bottom_right_causal():
    model, tokens = _model(), _tokens()
    with torch.no_grad(), attach(model, policy=DENSE):
        first = model(tokens[:, :170], use_cache=True)
        inside = model(tokens[:, 170:], cache=first.past_key_values).logits
    torch.testing.assert_close(inside, model(tokens).logits[:, 170:], rtol=1e-4, atol=1e-4)


def test_receipt_names_what_ran():
    model, tokens = _model(), _tokens()
    policy = XAttention(threshold=0.0, dense_below=0, num_dense_layers=1, num_local_cells=0)
    with torch.no_grad(), attach(model, policy=policy) as handle:
        model(tokens)
    details = handle.receipt.details
    assert details["impl"] == {"dense": 1, "cpu": 1}
    assert details["device"] == "cpu"
    assert details["density_per_layer"]["0"] == 1
    assert details["loss_per_layer"]["0"] == 0 < details["loss_per_layer"]["1"]
    assert details["scoring_block_products"] == 15 * 4 / policy.stride
    with torch.no_grad(), attach(model, policy=None) as handle:
        model(tokens)
    assert handle.receipt.details["impl"] == {"dense": 2}


@pytest.mark.parametrize("wanted_rows", [64, 1000])
@pytest.mark.parametrize("kind", ["plain", "mask", "bias", "sink", "span"])
def test_sampled_loss_is_the_relative_error(kind, wanted_rows):
    from foveal.attention.integrations.loss import sample_rows, sampled_loss
    from foveal.attention.integrations.visible import Rule

    random = torch.Generator().manual_seed(0)
    q = torch.randn(2, 4, 150, 8, generator=random)
    k, v = (torch.randn(2, 2, 150, 8, generator=random) for _ in range(2))
    bias = torch.zeros(150, 150).masked_fill(torch.ones(150, 150).tril() == 0, -torch.inf)
    mask = sink = None
    rule = Rule(150, 150, causal=True, span=40 if kind == "span" else None)
    if kind == "mask":
        mask = torch.rand(1, 1, 150, 150, generator=random) < 0.9
        mask |= torch.eye(150, dtype=torch.bool)
        bias = bias.masked_fill(~mask[0, 0], -torch.inf)
    if kind == "bias":
        mask = torch.randn(1, 1, 150, 150, generator=random)
        bias = bias + mask[0, 0]
    if kind == "span":
        bias = bias.masked_fill(torch.ones(150, 150).tril(-40) == 1, -torch.inf)
    keys, values = (x.repeat_interleave(2, 1) for x in (k, v))
    logits = (q.double() @ keys.double().mT) / 8**0.5 + bias
    if kind == "sink":
        sink = torch.randn(4, generator=random)
        extra = sink.double()[:, None, None].expand(2, 4, 150, 1)
        exact = torch.cat([logits, extra], 3).softmax(-1)[..., :-1] @ values.double()
    else:
        exact = logits.softmax(-1) @ values.double()
    out = exact + 0.1 * torch.randn(exact.shape, generator=random)
    rows = sample_rows(150, wanted_rows, 3, q.device)
    assert len(set(rows.tolist())) == min(150, wanted_rows)
    difference = (out - exact)[:, :, rows].flatten(2).norm(dim=2)
    wanted = (difference / exact[:, :, rows].flatten(2).norm(dim=2)).mean().float()
    options = {"rows": rows, "scale": None, "mask": mask, "sink": sink}
    found = sampled_loss(q, k, v, out.float(), rule, **options)
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)
    assert sampled_loss(q, k, v, exact.float(), rule, **options) < 1e-6


def test_sampled_rows_fall_on_no_grid():
    from foveal.attention.integrations.loss import sample_rows

    rows = sample_rows(4096, 64, 0, torch.device("cpu"))
    assert len(set((rows % 64).tolist())) > 30
    assert rows.sort().values.diff().max() < 200
    assert not torch.equal(rows, sample_rows(4096, 64, 1, torch.device("cpu")))


def test_preallocated_cache_is_cut_to_what_it_holds():
    model, tokens = _model(), _tokens(1, 130)
    options = {
        "attention_mask": torch.ones_like(tokens),
        "max_new_tokens": 4,
        "do_sample": False,
        "pad_token_id": 0,
    }
    wanted = model.generate(tokens, **options)
    with attach(model, policy=DENSE) as handle:
        inside = model.generate(tokens, cache_implementation="static", **options)
    assert torch.equal(inside, wanted)
    details = handle.receipt.details
    assert details["dense_calls"] == {"every cell kept": 2, "decode": 6}
    assert handle.layouts(0).shape == (3, 3)  # 130 tokens, not what was allocated


def test_padding_with_holes_runs_dense_and_exact():
    model, tokens = _model(), _tokens(2)
    mask = torch.ones_like(tokens)
    mask[1, 100:140] = 0
    with torch.no_grad(), attach(model, policy=SPARSE) as handle:
        inside = model(tokens, attention_mask=mask).logits
    real = mask[1].bool()
    wanted = model(tokens, attention_mask=mask).logits
    torch.testing.assert_close(inside[0], wanted[0], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(inside[1, real], wanted[1, real], rtol=1e-4, atol=1e-4)
    assert handle.receipt.details["dense_calls"] == {"4-D mask": 2}


@pytest.mark.parametrize("padded", [False, True])
def test_bidirectional_encoder_sees_both_sides(padded):
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=64,
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
    )
    model, tokens = transformers.BertModel(config).eval(), _tokens(2)
    mask = torch.ones_like(tokens)
    if padded:
        mask[1, 200:] = 0
    with torch.no_grad():
        with attach(model, policy=DENSE) as handle:
            inside = model(tokens, attention_mask=mask).last_hidden_state
        wanted = model(tokens, attention_mask=mask).last_hidden_state
        with attach(model, policy=SPARSE) as sparse:
            other = model(tokens, attention_mask=mask).last_hidden_state
    torch.testing.assert_close(inside[0], wanted[0], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(inside[mask.bool()], wanted[mask.bool()], rtol=1e-4, atol=1e-4)
    # Full squares, of 300 and 200 tokens, and 100 queries in the padding: they might be another's.
    cells = 25 + (16 + 8 if padded else 25)
    assert handle.receipt.full == 2 * cells * 4 * 2
    assert sparse.receipt.spent < sparse.receipt.full
    assert sparse.layouts(0)[0, 1]
    assert not torch.allclose(other[0], wanted[0], atol=1e-4)


def test_refusals():
    model = _model()
    with pytest.raises(UnsupportedError, match="never called"), attach(model, policy=DENSE):
        pass
    with (
        pytest.raises(UnsupportedError, match="Linear has no attention"),
        attach(torch.nn.Linear(2, 2), policy=DENSE),
    ):
        pass
    gemma = _model("Gemma2", head_dim=8)
    with (
        pytest.raises(UnsupportedError, match="Gemma2Attention passes softcap"),
        attach(gemma, policy=DENSE),
    ):
        gemma(_tokens())
    with (
        pytest.raises(UnsupportedError, match="LlamaAttention is asked for output_attentions"),
        attach(model, policy=DENSE),
    ):
        model(_tokens(), output_attentions=True)


def test_comparison_reads_8192_tokens_and_says_what_it_does():
    from foveal.attention.evaluate import compare_language

    def tokenizer(text, **options):
        return {"input_ids": [ord(x) % 64 for x in text]}

    model = _model()
    said = []
    text = "".join(chr(48 + i * i % 61) for i in range(8192))
    policy = XAttention(threshold=0.5)
    found = compare_language(
        model, tokenizer, text, policy=policy, num_tokens=8192, on_progress=said.append
    )
    assert found.block_map.shape == (128, 128)
    assert 0 < found.density < 1
    assert 0 <= found.kl < 0.1
    assert said[0] == "warming up"
    assert "8192 tokens with dense" in said[1]
    assert "8192 tokens with sparse" in said[2]
    assert len(said) == 4


@pytest.mark.assets
def test_smollm2_reads_512_tokens_almost_alike():
    from foveal.attention.evaluate import compare_language
    from foveal.data.texts import long_text
    from foveal.teachers import smollm2

    model, tokenizer = smollm2.load()
    policy = XAttention(stride=8, threshold=0.95, num_local_cells=0, dense_below=0)
    said = []
    found = compare_language(
        model, tokenizer, long_text(), policy=policy, num_tokens=512, on_progress=said.append
    )
    # Measured: density 0.726, KL 0.011, perplexity 17.55 and 17.69. The text varies a little with
    # the Python version.
    assert 0 < found.kl < 0.05
    assert 0.5 < found.density < 0.95
    assert 12 < found.dense_perplexity < 25
    assert abs(found.sparse_perplexity / found.dense_perplexity - 1) < 0.05
    assert found.block_map.shape == (8, 8)
    assert found.receipt.details["impl"] == {"cpu": 30}
    assert "512 tokens" in said[1]


@pytest.mark.parametrize("policy", [None, XAttention(stride=8, threshold=0.6, dense_below=0)])
def test_precision_quantizes_prefills_and_is_measured(policy):
    model, tokens = _model(), _tokens()
    with torch.no_grad():
        dense = model(tokens).logits
        with attach(model, policy=policy, precision=Sage("int8-fp8")) as handle:
            quantized = model(tokens).logits
    assert not torch.equal(quantized, dense)
    receipt = handle.receipt
    assert receipt.details["impl"] == {"quantized (cpu)": 2}
    assert list(receipt.details["emulated"]) == ["int8", "fp8"]
    assert receipt.details["precision"].startswith("Sage(mode='int8-fp8'")
    assert receipt.loss is not None
    if policy is None:
        assert 0 < receipt.loss < 0.1
        assert receipt.spent == receipt.full
        torch.testing.assert_close(quantized, dense, rtol=0.1, atol=0.02)


def test_precision_must_be_one():
    with (
        pytest.raises(ArgumentError, match="precision"),
        attach(_model(), policy=None, precision="int8"),
    ):
        pass
