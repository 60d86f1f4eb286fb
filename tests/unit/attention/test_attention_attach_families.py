"""`attach` on families of transformers models, each against the plain model."""

import functools

import pytest
import torch

from foveal import attention
from foveal.attention import Sage, Window, XAttention
from foveal.errors import UnsupportedError

transformers = pytest.importorskip("transformers")

attach = functools.partial(attention.attach, min_tokens=0)
ALL = XAttention(threshold=1.0)
SPARSE = Window(sink=64, window=64)

SIZES = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
}
FAMILIES = {
    "Llama": ("Llama", {}),
    "Qwen2": ("Qwen2", {}),
    "Qwen3": ("Qwen3", {"head_dim": 16}),
    "Mistral": ("Mistral", {"sliding_window": 100}),
    "Gemma3": (
        "Gemma3Text",
        {
            "head_dim": 16,
            "sliding_window": 80,
            "layer_types": ["sliding_attention", "full_attention"],
        },
    ),
    "GptOss": (
        "GptOss",
        {
            "head_dim": 16,
            "sliding_window": 80,
            "layer_types": ["sliding_attention", "full_attention"],
            "num_local_experts": 2,
            "num_experts_per_tok": 1,
            # It wants a table that YaRN cannot build for so few positions.
            "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
        },
    ),
}


def build(family, **more):
    torch.manual_seed(0)
    kind, special = FAMILIES[family]
    config = getattr(transformers, f"{kind}Config")(**SIZES, **special, **more)
    name = {"Gemma3Text": "Gemma3"}.get(kind, kind)
    model = getattr(transformers, f"{name}ForCausalLM")(config).eval()
    if family == "GptOss":
        for layer in model.model.layers:
            torch.nn.init.normal_(layer.self_attn.sinks)
    return model


def tokens(batch=1, length=300):
    return torch.randint(1, 64, (batch, length), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_everything_kept_is_the_plain_model(family):
    model, ids = build(family), tokens()
    wanted = model(ids).logits
    with attach(model, policy=ALL) as handle:
        inside = model(ids).logits
    torch.testing.assert_close(inside, wanted, rtol=1e-4, atol=1e-4)
    receipt = handle.receipt
    assert receipt.spent == receipt.full
    assert set(receipt.details["density_per_layer"]) == {"0", "1"}
    if family in ("Mistral", "Gemma3", "GptOss"):
        assert receipt.full < 2 * 15 * 4 * 2  # the window is in the layout
    assert torch.equal(model(ids).logits, wanted)


@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_left_padding_and_chunks_are_exact(family):
    model, ids = build(family), tokens(2)
    mask = torch.ones_like(ids)
    mask[1, :70] = 0
    places = (mask.cumsum(1) - 1).clamp_min(0)
    wanted = model(ids, attention_mask=mask, position_ids=places).logits
    with attach(model, policy=ALL) as handle:
        inside = model(ids, attention_mask=mask, position_ids=places).logits
        first = model(
            ids[:, :170], attention_mask=mask[:, :170], position_ids=places[:, :170], use_cache=True
        )
        second = model(
            ids[:, 170:],
            attention_mask=mask,
            position_ids=places[:, 170:],
            cache=first.past_key_values,
        ).logits
    for found in (inside, torch.cat([first.logits, second], 1)):
        torch.testing.assert_close(found[0], wanted[0], rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(found[1, 70:], wanted[1, 70:], rtol=1e-4, atol=1e-4)
    assert set(handle.receipt.details["dense_calls"]) <= {"every cell kept"}


@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_sparse_equals_the_model_under_the_same_mask(family):
    """The cells as a 4-D mask of the plain model, window and sinks included."""
    model, ids = build(family, attn_implementation="eager"), tokens()
    with attach(model, policy=SPARSE) as handle:
        inside = model(ids).logits
    masks = {}
    for layer, kind in enumerate(("sliding_attention", "full_attention")):
        cells = handle.layouts(layer).repeat_interleave(64, 0).repeat_interleave(64, 1)
        seen = cells[:300, :300] & torch.ones(300, 300, dtype=torch.bool).tril()
        window = getattr(model.config, "sliding_window", None)
        if window and (family == "Mistral" or layer == 0):
            seen &= torch.ones(300, 300, dtype=torch.bool).triu(1 - window)
        masks[kind] = torch.zeros(1, 1, 300, 300).masked_fill(~seen, -torch.inf)
    if family not in ("Gemma3", "GptOss"):
        assert torch.equal(*masks.values())
        masks = masks["full_attention"]
    wanted = model(ids, attention_mask=masks).logits
    torch.testing.assert_close(inside, wanted, rtol=1e-4, atol=1e-4)
    assert 0 < handle.receipt.loss < 1
    assert handle.receipt.spent < handle.receipt.full


@torch.no_grad()
def test_sinks_are_kept_by_precision():
    model, ids = build("GptOss"), tokens()
    wanted = model(ids).logits
    with attach(model, policy=None, precision=Sage("int8-fp8")) as handle:
        inside = model(ids).logits
    assert handle.receipt.details["impl"] == {"quantized (cpu)": 2}
    assert 0 < handle.receipt.loss < 0.1
    assert not torch.equal(inside, wanted)
    torch.testing.assert_close(inside, wanted, rtol=0.1, atol=0.02)


@torch.no_grad()
def test_packed_sequences_run_dense_and_exact():
    model, ids = build("Llama"), tokens()
    places = torch.cat([torch.arange(100), torch.arange(200)])[None]
    wanted = model(ids, position_ids=places, use_cache=False).logits
    with attach(model, policy=SPARSE) as handle:
        inside = model(ids, position_ids=places, use_cache=False).logits
    torch.testing.assert_close(inside, wanted, rtol=1e-4, atol=1e-4)
    assert handle.receipt.details["dense_calls"] == {"4-D mask": 2}


@torch.no_grad()
def test_one_block_of_images_among_thousands_of_tokens_is_seen():
    """A rule that looks causal in most rows, but holds data of the batch."""
    from transformers.masking_utils import blockwise_overlay, causal_mask_function, or_masks

    from foveal.attention.integrations.masks import foveal_mask

    blocks = torch.full((1, 4096), -1)
    blocks[0, 1000:1008] = 0
    rule = or_masks(causal_mask_function, blockwise_overlay(blocks))
    mask = foveal_mask(batch_size=1, q_length=4096, kv_length=4096, mask_function=rule)
    assert mask.shape == (1, 1, 4096, 4096)
    assert mask[0, 0, 1000, 1007]


@torch.no_grad()
def test_position_bias_runs_dense_and_exact():
    torch.manual_seed(0)
    config = transformers.T5Config(
        vocab_size=64, d_model=32, d_kv=8, d_ff=32, num_layers=2, num_heads=4, dropout_rate=0.0
    )
    model, ids = transformers.T5ForConditionalGeneration(config).eval(), tokens(2)
    mask = torch.ones_like(ids)
    mask[1, 250:] = 0
    call = {"input_ids": ids, "attention_mask": mask, "decoder_input_ids": ids[:, :130]}
    wanted = model(**call).logits
    with attach(model, policy=SPARSE) as handle:
        inside = model(**call).logits
    torch.testing.assert_close(inside, wanted, rtol=1e-4, atol=1e-4)
    reasons = handle.receipt.details["dense_calls"]
    assert reasons["position bias"] >= 4  # of both stacks
    assert len(handle.receipt.details["density_per_layer"]) == 6  # told apart by name


@pytest.mark.parametrize("length", [130, 300])
@torch.no_grad()
def test_encoder_and_decoder_with_crossing_attention(length):
    """Padding of the encoder says nothing of the decoder's queries, as many as they may be."""
    torch.manual_seed(0)
    sizes = {"encoder_layers": 1, "decoder_layers": 1, "d_model": 32}
    heads = {"encoder_attention_heads": 4, "decoder_attention_heads": 4}
    widths = {"encoder_ffn_dim": 32, "decoder_ffn_dim": 32}
    config = transformers.BartConfig(vocab_size=64, **sizes, **heads, **widths)
    model, ids = transformers.BartModel(config).eval(), tokens(2)
    mask = torch.ones_like(ids)
    mask[1, 250:] = 0
    call = {"input_ids": ids, "attention_mask": mask, "decoder_input_ids": ids[:, :length]}
    wanted = model(**call).last_hidden_state
    with attach(model, policy=ALL) as handle:
        inside = model(**call).last_hidden_state
    torch.testing.assert_close(inside, wanted, rtol=1e-4, atol=1e-4)
    reasons = handle.receipt.details["dense_calls"]
    assert reasons.pop("queries beside padded keys") == (2 if length == 300 else 1)
    assert set(reasons) == {"every cell kept"}
    names = set(handle.receipt.details["density_per_layer"])
    assert any(x.endswith("encoder_attn") for x in names)
    assert len(names) == 3


@torch.no_grad()
def test_layers_without_an_index_are_counted_as_they_attend():
    torch.manual_seed(0)
    sizes = {key: SIZES[key] for key in ("hidden_size", "intermediate_size", "num_hidden_layers")}
    config = transformers.ViTConfig(**sizes, num_attention_heads=4, image_size=96, patch_size=8)
    model, image = transformers.ViTModel(config).eval(), torch.randn(1, 3, 96, 96)
    policy = XAttention(threshold=0.0, dense_below=0, num_dense_layers=1)
    with attach(model, policy=policy) as handle:
        model(image)
    details = handle.receipt.details
    assert details["impl"] == {"dense": 1, "cpu": 1}
    assert details["density_per_layer"]["0"] == 1 > details["density_per_layer"]["1"]


@torch.no_grad()
def test_images_in_a_prompt_look_at_themselves_in_both_directions():
    torch.manual_seed(0)
    text = {**SIZES, "head_dim": 8, "sliding_window": 64}
    text["layer_types"] = ["sliding_attention", "full_attention"]
    vision = {**SIZES, "image_size": 56, "patch_size": 14}
    config = transformers.Gemma3Config(
        text_config=text,
        vision_config={k: v for k, v in vision.items() if "vocab" not in k and "key" not in k},
        mm_tokens_per_image=4,
        image_token_index=63,
    )
    model, ids = transformers.Gemma3ForConditionalGeneration(config).eval(), tokens(1, 150) % 60
    ids[0, 40:44] = 63
    call = {"input_ids": ids, "token_type_ids": (ids == 63).long()}
    call["pixel_values"] = torch.randn(1, 3, 56, 56)
    wanted = model(**call).logits
    with attach(model, policy=ALL) as handle:
        inside = model(**call).logits
    torch.testing.assert_close(inside, wanted, rtol=1e-4, atol=1e-4)
    details = handle.receipt.details
    assert details["dense_calls"] == {"every cell kept": 2, "4-D mask": 2}
    assert len(details["density_per_layer"]) == 4  # two towers, told apart by name


def test_dropout_runs_dense_and_draws_the_same():
    model, ids = build("Llama", attention_dropout=0.5).train(), tokens()
    torch.manual_seed(1)
    wanted = model(ids).logits
    with attach(model, policy=SPARSE) as handle:
        torch.manual_seed(1)
        inside = model(ids).logits
    torch.testing.assert_close(inside, wanted, rtol=1e-4, atol=1e-4)
    assert handle.receipt.details["dense_calls"] == {"dropout": 2}


@pytest.mark.parametrize("family", ["Mistral", "Gemma3"])
def test_dropout_keeps_the_window(family):
    model, ids = build(family, attention_dropout=1e-9).train(), tokens()
    wanted = model(ids).logits
    with attach(model, policy=SPARSE):
        inside = model(ids).logits
    torch.testing.assert_close(inside, wanted, rtol=1e-4, atol=1e-4)


def test_sinks_with_dropout_are_refused_by_name():
    model = build("GptOss", attention_dropout=0.5).train()
    with (
        pytest.raises(UnsupportedError, match="GptOssAttention has attention sinks and dropout"),
        attach(model, policy=SPARSE),
    ):
        model(tokens())


@torch.no_grad()
def test_dropout_of_one_query_draws_the_same():
    model, ids = build("Llama", attention_dropout=0.5).train(), tokens(8, 1)
    torch.manual_seed(1)
    wanted = model(ids).logits
    with attach(model, policy=SPARSE) as handle:
        torch.manual_seed(1)
        inside = model(ids).logits
        model(tokens())
    torch.testing.assert_close(inside, wanted, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(wanted, model.eval()(ids).logits, rtol=1e-2, atol=1e-2)
    assert handle.receipt.details["dense_calls"] == {"decode": 2, "dropout": 2}
