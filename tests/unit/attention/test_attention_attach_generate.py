"""`attach` under what people do with a language model, each against the plain model."""

import contextlib
import copy
import functools
import itertools
import pickle

import pytest
import torch

import foveal
from foveal import attention
from foveal.attention import Window, XAttention
from foveal.errors import ArgumentError, UnsupportedError

transformers = pytest.importorskip("transformers")

attach = functools.partial(attention.attach, min_tokens=0)
ALL = XAttention(threshold=1.0)
SPARSE = Window(sink=0, window=1)  # the diagonal, of three cells a side


def build(kind="Llama", **more):
    torch.manual_seed(0)
    config = getattr(transformers, f"{kind}Config")(
        vocab_size=64,
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=2048,
        **more,
    )
    return getattr(transformers, f"{kind}ForCausalLM")(config).eval()


def prompt(batch=2, length=150, padding=20):
    ids = torch.randint(1, 64, (batch, length), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(ids)
    mask[1:, :padding] = 0
    return {"input_ids": ids, "attention_mask": mask, "pad_token_id": 0}


@pytest.mark.parametrize("cache", ["dynamic", "static"])
@pytest.mark.parametrize(
    "how",
    [{}, {"do_sample": True, "top_k": 10}, {"num_beams": 3}],
    ids=["greedy", "sample", "beam"],
)
@pytest.mark.parametrize("kind", ["Llama", "Mistral"])
def test_generation_gives_the_same_tokens(kind, how, cache):
    model = build(kind, **({"sliding_window": 100} if kind == "Mistral" else {}))
    call = {**prompt(), "max_new_tokens": 6, "do_sample": False, **how}
    if cache == "static":
        call["cache_implementation"] = "static"
    torch.manual_seed(3)
    wanted = model.generate(**call)
    with attach(model, policy=ALL) as handle:
        torch.manual_seed(3)
        inside = model.generate(**call)
    assert torch.equal(inside, wanted)
    reasons = handle.receipt.details["dense_calls"]
    assert reasons["decode"] == 2 * 5
    if kind == "Llama":
        assert set(reasons) == {"decode", "every cell kept"}


def test_chunked_prefill_of_generate():
    model, call = build(), {**prompt(padding=0), "max_new_tokens": 4, "do_sample": False}
    wanted = model.generate(**call)
    with attach(model, policy=ALL) as handle:
        inside = model.generate(**call, prefill_chunk_size=64)
    assert torch.equal(inside, wanted)
    assert handle.receipt.details["dense_calls"]["every cell kept"] == 2 * 3


@pytest.mark.parametrize("padding", [0, 20])
@torch.no_grad()
def test_preallocated_cache_in_chunks_is_sparse(padding):
    """The second chunk sees the first, and nothing of the room behind it."""
    model, call = build(), prompt(padding=padding)
    ids, mask = call["input_ids"], call["attention_mask"]
    places = (mask.cumsum(1) - 1).clamp_min(0)
    outs = {}
    for kind in ("dynamic", "static"):
        cache = (
            transformers.StaticCache(model.config, max_cache_len=200)
            if kind == "static"
            else transformers.DynamicCache(config=model.config)
        )
        with attach(model, policy=Window(sink=0, window=1)) as handle:
            parts = [
                model(
                    ids[:, a:b],
                    attention_mask=mask[:, :b],
                    position_ids=places[:, a:b],
                    cache=cache,
                ).logits
                for a, b in ((0, 64), (64, 150))
            ]
        outs[kind] = torch.cat(parts, 1)
        assert handle.receipt.details["dense_calls"].keys() <= {"every cell kept"}
        assert handle.density < 1
    torch.testing.assert_close(outs["static"][0], outs["dynamic"][0], rtol=1e-4, atol=1e-4)
    found, wanted = outs["static"][1, padding:], outs["dynamic"][1, padding:]
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_short_calls_go_dense_and_say_so():
    model, ids = build(), prompt()["input_ids"]
    with attention.attach(model, policy=SPARSE) as handle:
        inside = model(ids).logits
    torch.testing.assert_close(inside, model(ids).logits, rtol=1e-4, atol=1e-4)
    receipt = handle.receipt
    assert receipt.details["dense_calls"] == {"fewer than min_tokens keys": 2}
    assert receipt.details["min_tokens"] == 1024
    assert receipt.spent == receipt.full == 2 * 2 * 2 * 4 * 6
    assert receipt.loss == 0
    assert handle.layouts(0).tolist() == torch.ones(3, 3).tril().bool().tolist()
    with attention.attach(model, policy=SPARSE, min_tokens=150) as handle:
        model(ids)
    assert handle.receipt.details["impl"] == {"cpu": 2}


@torch.no_grad()
def test_loss_is_measured_on_as_many_rows_as_asked():
    model, ids = build(), prompt()["input_ids"]
    with attach(model, policy=SPARSE, loss_rows=0) as handle:
        model(ids)
    assert handle.receipt.loss is None
    assert handle.receipt.details["loss_per_layer"] == {}
    with attach(model, policy=SPARSE, loss_rows=1000) as all_rows:
        model(ids)
    with attach(model, policy=SPARSE, loss_rows=100) as some:
        model(ids)
    assert all_rows.receipt.loss == pytest.approx(some.receipt.loss, rel=0.3)
    length = ids.shape[1]
    assert f"error of {length} sampled query rows" in all_rows.receipt.loss_metric
    assert f"error of {min(100, length)} sampled query rows" in some.receipt.loss_metric
    with attach(model, policy=SPARSE, loss_rows=100) as several:
        model(ids)
        model(ids[:, :80])
    assert f"error of 80 to {min(100, length)} sampled" in several.receipt.loss_metric


# --- autocast, gradients, inference mode ---------------------------------------------------------


@torch.no_grad()
def test_autocast_computes_in_its_dtype():
    model, ids = build(), prompt()["input_ids"]
    with torch.autocast("cpu", torch.bfloat16):
        wanted = model(ids).logits
        with attach(model, policy=ALL):
            inside = model(ids).logits
        with attach(model, policy=SPARSE) as handle:
            model(ids)
    assert inside.dtype == wanted.dtype == torch.bfloat16
    torch.testing.assert_close(inside, wanted, rtol=0.1, atol=0.02)
    assert handle.receipt.loss > 0.1


@pytest.mark.parametrize("policy", [ALL, SPARSE])
@pytest.mark.filterwarnings("ignore:.*use_cache=True.*")
def test_gradient_checkpointing_gives_the_gradients(policy):
    model, ids = build(), prompt(padding=0)["input_ids"]

    def gradients(twin):
        twin(ids, labels=ids, use_cache=False).loss.backward()
        return [p.grad.clone() for p in twin.parameters()]

    with attach(model, policy=policy):
        wanted = gradients(model)
    model.zero_grad()
    if policy is ALL:
        for a, b in zip(wanted, gradients(copy.deepcopy(model)), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-5)
    model.train()
    enable = getattr(model, "activation_checkpointing_enable", None)  # its name from 5.24 on
    (enable or model.gradient_checkpointing_enable)()
    with attach(model, policy=policy) as handle:
        found = gradients(model)
    for a, b in zip(found, wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-5)
    assert handle.receipt.details["calls"] == 4  # forward, and again while going back


@torch.no_grad()
def test_books_opened_in_inference_mode_go_on_outside():
    model, ids = build(), prompt()["input_ids"]
    with attach(model, policy=SPARSE) as handle:
        with torch.inference_mode():
            model(ids)
        model(ids)
    assert handle.receipt.details["calls"] == 4


@torch.no_grad()
def test_device_map(tmp_path):
    build().save_pretrained(tmp_path)
    model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, device_map="cpu")
    ids = prompt()["input_ids"]
    wanted = model(ids).logits
    with attach(model, policy=ALL) as handle:
        inside = model(ids).logits
    torch.testing.assert_close(inside, wanted, rtol=1e-4, atol=1e-4)
    assert handle.receipt.details["calls"] == 2


# --- several at once -----------------------------------------------------------------------------


@torch.no_grad()
def test_two_models_of_one_config_attached_at_once():
    model = build()
    twin = transformers.LlamaForCausalLM(model.config).eval()
    assert twin.config is model.config
    ids = prompt()["input_ids"]
    wanted = model(ids).logits, twin(ids).logits
    with attach(model, policy=ALL) as one, attach(twin, policy=SPARSE) as two:
        inside = model(ids).logits, twin(ids).logits
    torch.testing.assert_close(inside[0], wanted[0], rtol=1e-4, atol=1e-4)
    assert not torch.allclose(inside[1], wanted[1], rtol=1e-4, atol=1e-4)
    assert one.density == 1 > two.density
    assert torch.equal(twin(ids).logits, wanted[1])
    assert twin.config is model.config


@torch.no_grad()
def test_the_inner_block_of_one_model_counts():
    model, ids = build(), prompt()["input_ids"]
    with attach(model, policy=ALL) as outer:
        with attach(model, policy=SPARSE) as inner:
            model(ids)
        first = outer._ledger.calls
        model(ids)
        with contextlib.suppress(KeyError), attach(model, policy=SPARSE):
            raise KeyError
        model(ids)
    assert first == 0
    assert inner.density < outer.density == 1
    assert outer.receipt.details["calls"] == 4
    assert model.config._attn_implementation == "sdpa"
    with attach(model, policy=ALL), attach(model, policy=SPARSE):
        model(ids)  # and the outer one does not complain


@torch.no_grad()
def test_blocks_may_close_in_any_order():
    one, two, ids = build(), build(), prompt()["input_ids"]
    first, second = attach(one, policy=ALL), attach(two, policy=ALL)
    first.__enter__()
    second.__enter__()
    one(ids)
    first.__exit__(None, None, None)
    two(ids)
    second.__exit__(None, None, None)
    assert "foveal" not in transformers.AttentionInterface._global_mapping


@torch.no_grad()
@pytest.mark.parametrize("closing", list(itertools.permutations(range(3))))
def test_blocks_of_one_model_may_close_in_any_order(closing):
    model, ids = build(), prompt()["input_ids"]
    configs = {name: x.config for name, x in model.named_modules() if hasattr(x, "config")}
    plain = model(ids).logits
    blocks = [attach(model, policy=policy) for policy in (ALL, SPARSE, ALL)]
    for block in blocks:
        block.__enter__()
    for i in closing:
        model(ids)
        blocks[i].__exit__(None, None, None)
    assert torch.equal(model(ids).logits, plain)
    assert all(model.get_submodule(name).config is x for name, x in configs.items())
    assert not any("_foveal_site" in vars(x) for x in model.modules())
    assert "foveal" not in transformers.AttentionInterface._global_mapping


@torch.no_grad()
def test_model_loaded_by_name_needs_no_attach(tmp_path):
    model = build()
    for layer in model.model.layers:
        layer.self_attn.q_proj.weight.mul_(300)  # attention that leaves something out
    model.save_pretrained(tmp_path)
    ids = torch.randint(1, 64, (1, 1100), generator=torch.Generator().manual_seed(0))
    mapping = transformers.AttentionInterface._global_mapping
    assert "foveal" not in mapping
    foveal.attention.register()
    try:
        loaded = transformers.AutoModelForCausalLM.from_pretrained(
            tmp_path, attn_implementation="foveal"
        ).eval()
        short, long = loaded(ids[:, :300]).logits, loaded(ids).logits
        with attention.attach(loaded, policy=XAttention()) as handle:
            same = loaded(ids).logits
        assert "foveal" in mapping
        with attach(loaded, policy=ALL):
            dense = loaded(ids).logits
        assert torch.equal(loaded(ids).logits, long)
    finally:
        from foveal.attention.integrations import transformers as seam

        seam._leave()
    assert "foveal" not in mapping
    assert torch.equal(long, same)
    assert handle.density < 1
    torch.testing.assert_close(short, model(ids[:, :300]).logits, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(dense, model(ids).logits, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(long, dense, rtol=1e-4, atol=1e-4)


# --- refusals ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["min_tokens", "loss_rows", "seed"])
@pytest.mark.parametrize("value", [-1, True])
def test_numbers_are_checked(name, value):
    with (
        pytest.raises(ArgumentError, match=rf"attach: {name} is {value}"),
        attention.attach(build(), policy=None, **{name: value}),
    ):
        pass


def test_handle_refuses():
    model, ids = build(), prompt()["input_ids"]
    with attach(model, policy=SPARSE) as handle, torch.no_grad():
        with pytest.raises(ArgumentError, match="no prefill was counted"):
            _ = handle.receipt
        assert handle.density == 1
        model(ids)
        for layer in (7, "lm_head"):
            with pytest.raises(ArgumentError, match=rf"layer is {layer!r}, must be one of \[0, 1"):
                handle.layouts(layer)
        with pytest.raises(ArgumentError, match=r"head is 4, must be in \[0, 4\)"):
            handle.layouts(0, head=4)
        assert torch.equal(handle.layouts("model.layers.0.self_attn"), handle.layouts(0))
        with pytest.raises(ArgumentError, match="step is -1"):
            handle.step = -1


def test_a_model_that_did_not_run_is_named_unless_something_else_went_wrong():
    with (
        pytest.raises(UnsupportedError, match="attach: LlamaForCausalLM never called"),
        attach(build(), policy=SPARSE),
    ):
        pass
    with pytest.raises(KeyError), attach(build(), policy=SPARSE):
        raise KeyError


def test_a_model_that_declares_no_sdpa_is_refused_by_name():
    class OddModel(transformers.LlamaForCausalLM):
        _supports_sdpa = False

    with (
        pytest.raises(UnsupportedError, match="attach: OddModel declares no SDPA support"),
        attach(OddModel(build(attn_implementation="eager").config), policy=ALL),
    ):
        pass
    assert "foveal" not in transformers.AttentionInterface._global_mapping


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
@torch.no_grad()
def test_a_copy_made_inside_is_free_of_us(copied):
    model, ids = build(), prompt()["input_ids"]
    wanted = model(ids).logits
    with attach(model, policy=SPARSE) as handle:
        sparse = model(ids).logits
        calls = handle.receipt.details["calls"]
        with attach(model, policy=SPARSE) as inner:
            other = copied(model)
            model(ids)
        torch.testing.assert_close(other(ids).logits, wanted)
        torch.testing.assert_close(
            copied(model.model.layers[0]).state_dict(), model.model.layers[0].state_dict()
        )
        assert torch.equal(model(ids).logits, sparse)
        assert inner.receipt.details["calls"] == calls
    assert handle.receipt.details["calls"] == 2 * calls
    assert not torch.equal(sparse, wanted)
    torch.testing.assert_close(other(ids).logits, wanted)
    for one, first in zip(other.modules(), model.modules(), strict=True):
        assert vars(one).keys() == vars(first).keys()
    assert other.config._attn_implementation == model.config._attn_implementation != "foveal"
    assert other.model.config is other.config
