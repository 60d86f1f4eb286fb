"""The seam to transformers."""

import pytest
import torch

from foveal.attention import Window, XAttention, attach
from foveal.errors import UnsupportedError

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


def test_refusals():
    model = _model()
    with pytest.raises(UnsupportedError, match="never called"), attach(model, policy=DENSE):
        pass
    with (
        pytest.raises(UnsupportedError, match="model is a Linear"),
        attach(torch.nn.Linear(2, 2), policy=DENSE),
    ):
        pass
    with (
        pytest.raises(UnsupportedError, match="another attach"),
        attach(model, policy=DENSE),
        attach(model, policy=DENSE),
    ):
        pass
    positions = torch.cat([torch.arange(100), torch.arange(200)])[None]
    with pytest.raises(UnsupportedError, match="packed"), attach(model, policy=DENSE):
        model(_tokens(), position_ids=positions, use_cache=False)
    gemma = _model("Gemma2", head_dim=8)
    with pytest.raises(UnsupportedError, match="softcap"), attach(gemma, policy=DENSE):
        gemma(_tokens())


@pytest.mark.assets
def test_smollm2_reads_512_tokens_almost_alike():
    from foveal.attention.evaluate import compare_language
    from foveal.data.texts import long_text
    from foveal.teachers import smollm2

    model, tokenizer = smollm2.load()
    policy = XAttention(stride=8, threshold=0.95, dense_below=0)
    found = compare_language(model, tokenizer, long_text(), policy=policy, num_tokens=512)
    assert 0 < found.kl < 0.3
    assert found.density < 1
    assert found.dense_perplexity < 40
    assert abs(found.sparse_perplexity / found.dense_perplexity - 1) < 0.1
    assert found.block_map.shape == (8, 8)
