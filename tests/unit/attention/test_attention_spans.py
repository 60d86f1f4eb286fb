"""Spans: rules, cells, densities, files, and their errors."""

import json
import math
import re

import pytest
import torch
from jaxtyping import TypeCheckError

from foveal.attention import BlockLayout, Policy, attend
from foveal.attention.policy.spans import MAX_FILE_BYTES, Spans
from foveal.attention.policy.sparge import Sparge
from foveal.errors import ArgumentError, UnsupportedError


def _refuse(words, call, *args, **kwargs):
    """Expect an ArgumentError with these words; with run-time type checks, theirs will do."""
    with pytest.raises((ArgumentError, TypeCheckError)) as found:
        call(*args, **kwargs)
    if isinstance(found.value, ArgumentError):
        assert re.search(words, str(found.value))


def _tensors(s, t=None, h=2, g=2, b=1):
    return torch.randn(b, h, s, 8), torch.randn(b, g, t or s, 8)


@pytest.mark.parametrize(
    ("alpha", "beta", "tokens", "span"),
    [
        (0, 0.5, 4096, 2048),
        (1024, 0.0, 4096, 1024),
        (1024, 0.25, 4096, 2048),
        (-1024, 1.0, 4096, 3072),
        (-1024, 1.0, 1100, 128),  # 76 tokens: the floor
        (-4096, 1.0, 2048, 128),  # negative: the floor
        (8192, 0.0, 4096, 4096),  # longer than N: N
        (0, 2.0, 1000, 1024),  # N, rounded up to cells
        (0, 0.125, 2049, 320),  # 256.125 rounds up
        (129, 0.0, 4096, 192),
        (0, 0, 64, 128),
        (0, 0.07, 6400, 448),  # 448.00000000000006 in floating point
    ],
)
def test_span_is_clipped_has_a_floor_and_is_rounded_up(alpha, beta, tokens, span):
    assert Spans((alpha,), (beta,)).spans(tokens) == (span,)


def test_span_includes_the_sink_and_the_last_row_holds_exactly_the_span():
    q, k = _tensors(1024, h=3, g=3)
    policy = Spans((128, 256, 576), (0.0, 0.0, 0.0))
    kept = policy.layout(q, k).to_bool()[0]
    assert kept[:, -1].sum(-1).tolist() == [2, 4, 9]
    n = torch.arange(16)
    for head, window in enumerate((1, 3, 8)):
        back = n[:, None] - n[None, :]
        wanted = ((back >= 0) & (back < window)) | ((n == 0) & (back >= 0))
        assert torch.equal(kept[head], wanted)


def test_wider_sink_takes_from_the_window_and_lifts_the_floor():
    q, k = _tensors(1024, h=1, g=1)
    kept = Spans((384,), (0.0,), sink=128).layout(q, k).to_bool()[0, 0]
    assert kept[-1].nonzero()[:, 0].tolist() == [0, 1, 12, 13, 14, 15]
    assert Spans((0,), (0.0,), sink=256).spans(1024) == (320,)
    assert Spans((0,), (0.0,), sink=0).spans(1024) == (128,)
    none = Spans((128,), (0.0,), sink=0).layout(q, k).to_bool()[0, 0]
    assert none[-1].nonzero()[:, 0].tolist() == [14, 15]


def test_num_tokens_is_frozen_and_not_the_current_length():
    q, k = _tensors(512, h=1, g=1)
    policy = Spans((0,), (0.25,), num_tokens=1024)
    assert policy.spans(512) == policy.spans(4096) == (256,)
    assert policy.layout(q, k).to_bool()[0, 0, -1].sum() == 4
    assert Spans((0,), (0.25,)).layout(q, k).to_bool()[0, 0, -1].sum() == 2
    # Past the reserve the window keeps sliding.
    one, long = _tensors(1, 2048, h=1, g=1)
    assert policy.layout(one, long).to_bool()[0, 0, 0].nonzero()[:, 0].tolist() == [0, 29, 30, 31]


@pytest.mark.parametrize("prefix", [64, 192, 448])
def test_chunks_of_a_prompt_get_the_rows_of_the_whole(prefix):
    q, k = _tensors(640)
    policy = Spans((128, 0), (0.0, 0.5), num_tokens=640)
    whole = policy.layout(q, k).to_bool()
    chunk = policy.layout(q[:, :, prefix:], k).to_bool()
    assert torch.equal(chunk, whole[:, :, prefix // 64 :])


@pytest.mark.parametrize(("s", "t"), [(100, 333), (257, 300), (7, 1000), (640, 640), (500, 130)])
def test_each_query_sees_itself_the_sink_and_nearly_its_window(s, t):
    q, k = _tensors(s, t, h=1, g=1)
    layout = Spans((256,), (0.0,)).layout(q, k)
    kept = layout.to_bool()[0, 0]
    for i in range(max(0, s - t), s):
        place = i + t - s
        first = max(0, place - (192 - 63) + 1)
        assert bool(kept[i // 64, first // 64 : place // 64 + 1].all())
        assert bool(kept[i // 64, 0])
    if (t - s) % 64 == 0:
        assert kept.sum(-1).max() <= 4


def test_query_heads_of_a_kv_head_are_neighbors_and_share_its_rule():
    q, k = _tensors(640, h=6, g=2, b=2)
    kept = Spans((128, 512), (0.0, 0.0)).layout(q, k).to_bool()
    assert kept.shape == (2, 6, 10, 10)
    assert kept[:, :, -1].sum(-1).tolist() == [[2, 2, 2, 8, 8, 8]] * 2


def test_more_than_two_rules_in_a_layer_and_other_rules_in_another():
    q, k = _tensors(1024, h=4, g=4)
    policy = Spans(((128, 256, 384, 512), (128,) * 4), ((0.0,) * 4, (0, 0, 0, 1.0)))
    assert policy.num_layers == 2
    first = policy.for_layer(0).layout(q, k).to_bool()[0, :, -1].sum(-1)
    second = policy.for_layer(1).layout(q, k).to_bool()[0, :, -1].sum(-1)
    assert first.tolist() == [2, 4, 6, 8]
    assert second.tolist() == [2, 2, 2, 16]
    assert policy.for_layer(1).num_tokens == policy.num_tokens
    alike = Spans((128,) * 4, (0,) * 4)
    assert alike.for_layer(77) is alike
    with pytest.raises(ArgumentError, match="alphas holds rules of 2 layers"):
        policy.layout(q, k)
    with pytest.raises(ArgumentError, match="layer is 2, must be from 0 to 1"):
        policy.for_layer(2)
    with pytest.raises(ArgumentError, match="layer is -1"):
        policy.for_layer(-1)


def test_full_span_is_dense_and_attention_is_exact():
    q, k = _tensors(333, h=4, g=2)
    policy = Spans((0, 0), (1.0, 1.0))
    assert torch.equal(policy.layout(q, k).bits, BlockLayout.causal_like(q, k).bits)
    exact = torch.nn.functional.scaled_dot_product_attention(
        q, k, k, is_causal=True, enable_gqa=True
    )
    torch.testing.assert_close(attend(q, k, k, policy=policy), exact)
    assert policy.scoring_cost(policy.layout(q, k)) == 0


def test_kv_density_and_area_density_are_not_the_same():
    policy = Spans(((0, 0), (512, 128)), ((0.5, 0.25), (0.0, 0.0)))
    assert policy.kv_density(1024) == pytest.approx((0.5 + 0.25 + 0.5 + 0.125) / 4)
    q, k = _tensors(1024)
    areas = [policy.for_layer(i).layout(q, k).density for i in range(2)]
    assert policy.area_density(1024) == pytest.approx(sum(areas) / 2)
    assert policy.area_density(1024) > 1.4 * policy.kv_density(1024)
    half = Spans((0,), (0.5,))
    assert half.kv_density(16384) == 0.5
    # A band of half the length covers 3/4 of the triangle.
    assert half.area_density(16384) == pytest.approx(0.75, abs=5e-3)
    assert Spans((0,), (0.5,), num_tokens=4096).kv_density(2048) == 1.0
    assert Spans((0,), (0.5,), num_tokens=4096).kv_density(640) == 1.0
    with pytest.raises(ArgumentError, match="num_keys is 0"):
        half.kv_density(0)


def test_without_causal_is_refused():
    q, k = _tensors(128)
    with pytest.raises(UnsupportedError, match="causal is False"):
        Spans((128, 128), (0, 0)).layout(q, k, causal=False)


def test_wrong_number_of_heads_is_refused():
    q, k = _tensors(128, h=4, g=2)
    with pytest.raises(ArgumentError, match="alphas has 4 values, must have one per head of k, 2"):
        Spans((128,) * 4, (0,) * 4).layout(q, k)


@pytest.mark.parametrize(
    ("alphas", "betas", "words"),
    [
        ((), (), r"alphas is \(\)"),
        ([1.0], (0.0,), r"alphas is \[1.0\]"),
        ((math.nan,), (0.0,), r"alphas\[0\] is nan"),
        ((0.0,), (math.inf,), r"betas\[0\] is inf"),
        ((True,), (0.0,), r"alphas\[0\] is True"),
        (("1",), (0.0,), r"alphas\[0\] is '1'"),
        ((10**400,), (0.0,), r"alphas\[0\] is 1000"),
        ((1.0, 2.0), (0.0,), "betas has shape"),
        (((1.0,), (1.0, 2.0)), ((1.0,), (1.0, 2.0)), r"alphas\[1\] has 2 heads"),
        (((1.0,), 2.0), ((1.0,), (1.0,)), r"alphas\[1\] is 2.0"),
        ((1.0, (2.0,)), (0.0, 0.0), r"alphas\[1\] is \(2.0,\)"),
        (((1.0, (2.0,)),), ((0.0, 0.0),), r"alphas\[0\]\[1\] is \(2.0,\)"),
    ],
)
def test_bad_rules_are_refused(alphas, betas, words):
    _refuse(words, Spans, alphas, betas)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"num_tokens": 0}, "num_tokens is 0"),
        ({"sink": 65}, "sink is 65, must be a multiple of 64"),
        ({"sink": -64}, "sink is -64"),
    ],
)
def test_bad_settings_are_refused(settings, words):
    with pytest.raises(ArgumentError, match=words):
        Spans((0.0,), (0.0,), **settings)


def test_file_gives_back_what_was_written(tmp_path):
    policy = Spans(((0, -1024.0), (512.5, 8192)), ((0.125, 1.0), (0.0, 0)))
    policy.save(tmp_path / "rules.json")
    assert Spans.load(tmp_path / "rules.json") == policy
    found = json.loads((tmp_path / "rules.json").read_text())
    assert found == {"alphas": [[0, -1024], [512.5, 8192]], "betas": [[0.125, 1], [0, 0]]}
    other = Spans.load(tmp_path / "rules.json", num_tokens=4096, sink=128)
    assert (other.num_tokens, other.sink) == (4096, 128)
    with pytest.raises(ArgumentError, match="one rule per head for all layers"):
        Spans((0.0,), (0.0,)).save(tmp_path / "flat.json")


@pytest.mark.parametrize(
    "policy",
    [
        Spans(((0.0, 1.0), (2.0, 3.0)), ((0.5, 1.0), (0.0, 0.25)), num_tokens=99),
        Sparge(threshold=(0.5, 1.0), skip_threshold=3.0),
        Spans((0.0,), (0.5,)) | Sparge(top_k=0.25),
    ],
)
def test_policies_come_back_from_text(policy):
    assert Policy.from_json(policy.to_json()) == policy


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "empty"),
        ("{", "no JSON"),
        ("[" * 100_000, "no JSON"),
        ("\\xff", "no JSON"),
        ("[1]", "must hold an object"),
        ('{"alphas": [[1]]}', "must hold an object"),
        ('{"alphas": [[1]], "betas": [[1]], "more": 1}', "must hold an object"),
        ('{"alphas": [1], "betas": [[1]]}', "must be a list of one list per layer"),
        ('{"alphas": 1, "betas": [[1]]}', "must be a list of one list per layer"),
        ('{"alphas": [], "betas": []}', r"alphas is \(\)"),
        ('{"alphas": [[]], "betas": [[]]}', r"alphas\[0\] is \(\)"),
        ('{"alphas": [[1, 2], [1]], "betas": [[1, 2], [1]]}', r"alphas\[1\] has 1 heads"),
        ('{"alphas": [[1, 2]], "betas": [[1]]}', "betas has shape"),
        ('{"alphas": [[NaN]], "betas": [[1]]}', r"alphas\[0\]\[0\] is nan"),
        ('{"alphas": [[1]], "betas": [[Infinity]]}', r"betas\[0\]\[0\] is inf"),
        ('{"alphas": [["1"]], "betas": [[1]]}', r"alphas\[0\]\[0\] is '1'"),
        ('{"alphas": [[null]], "betas": [[1]]}', r"alphas\[0\]\[0\] is None"),
        ('{"alphas": [[true]], "betas": [[1]]}', r"alphas\[0\]\[0\] is True"),
        ('{"alphas": [[[1]]], "betas": [[1]]}', r"alphas\[0\]\[0\] is \[1\]"),
        ('{"alphas": [[1e400]], "betas": [[1]]}', r"alphas\[0\]\[0\] is inf"),
        ('{"alphas": [[' + "9" * 5000 + ']], "betas": [[1]]}', "no JSON"),
    ],
)
def test_damaged_files_end_in_one_named_error(text, words, tmp_path):
    path = tmp_path / "rules.json"
    path.write_bytes(text.replace("\\xff", "\xff").encode("latin-1"))
    with pytest.raises(ArgumentError, match=words):
        Spans.load(path)


def test_large_or_missing_files_are_refused_unread(tmp_path):
    path = tmp_path / "rules.json"
    path.write_bytes(b" " * (MAX_FILE_BYTES + 1))
    with pytest.raises(ArgumentError, match=f"must have at most {MAX_FILE_BYTES}"):
        Spans.load(path)
    with pytest.raises(ArgumentError, match="does not exist"):
        Spans.load(tmp_path / "none.json")
