"""Configurations of feature codecs: schemes, what is refused and how it is said, plain data."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from foveal.codec import schemes
from foveal.codec.config import CodecConfig, Head, Layer, Source
from foveal.codec.model import FeatureCodec
from foveal.errors import ArgumentError

A = Source("a", 3, height=8, width=6)
B = Source("b", 2, height=8, width=6)
SMALL = Source("small", 2, height=4, width=3)
LAYER = Layer("one", ("a",), ("a",), channels=4)
HEAD = Head("a", ("one",))
PLAIN = CodecConfig((A,), (LAYER,), (HEAD,))


def many_layers(count: int, tasks: int = 1) -> CodecConfig:
    """Return that many layers, each steered by that many tasks."""
    names = [f"t{i}" for i in range(tasks)]
    sources = tuple(Source(name, 1) for name in names)
    layers = tuple(Layer(f"x{i}", ("t0",), tuple(names), 1, stride=1, side=1) for i in range(count))
    return CodecConfig(sources, layers, tuple(Head(name, ("x0",)) for name in names))


def test_shapes_of_features() -> None:
    assert A.shape == (3, 8, 6)
    assert Source("v", 5, "vector").shape == (5,)
    assert Source("t", 5, "tokens", 7).shape == (7, 5)
    assert Source("g", 5, "tokens", 7, 2).shape == (14, 5)


@pytest.mark.parametrize(
    ("stride", "size", "wanted"),
    [(1, (7, 5), (7, 5)), (2, (7, 5), (4, 3)), (4, (7, 5), (2, 2)), (4, (1, 1), (1, 1))],
)
def test_latent_sizes(stride: int, size: tuple[int, int], wanted: tuple[int, int]) -> None:
    assert replace(LAYER, stride=stride).latent_size(*size) == wanted


def test_schemes_by_hand() -> None:
    sizes = schemes.Sizes(channels=5, stride=4, prior="spatial", head_hidden=7)
    joint = schemes.joint((A, B), sizes)
    assert [(x.name, x.inputs, x.tasks, x.parents) for x in joint.layers] == [
        ("joint", ("a", "b"), ("a", "b"), ())
    ]
    assert [(h.name, h.layers, h.optional, h.hidden) for h in joint.heads] == [
        ("a", ("joint",), (), 7),
        ("b", ("joint",), (), 7),
    ]
    separate = schemes.separate((A, B), sizes)
    assert [(x.name, x.inputs, x.tasks) for x in separate.layers] == [
        ("a", ("a",), ("a",)),
        ("b", ("b",), ("b",)),
    ]
    given = schemes.conditional((A, B), sizes)
    assert [x.parents for x in given.layers] == [("b",), ("a",)]
    assert [(h.layers, h.optional) for h in given.heads] == [(("a",), ("b",)), (("b",), ("a",))]
    assert (joint.conditional, separate.conditional, given.conditional) == (False, False, True)
    assert {x.channels for c in (joint, separate, given) for x in c.layers} == {5}
    assert joint.tasks == ("a", "b")
    assert joint.layers[0].prior_config(8, 6).height == 2


def test_groups_of_channels_are_coded_given_those_before() -> None:
    joint = schemes.joint((A, B), schemes.Sizes(channels=8, side=5, groups=3))
    assert [(x.name, x.channels, x.side, x.parents) for x in joint.layers] == [
        ("joint-0", 2, 2, ()),
        ("joint-1", 3, 2, ("joint-0",)),
        ("joint-2", 3, 2, ("joint-0", "joint-1")),
    ]
    assert {x.inputs for x in joint.layers} == {x.tasks for x in joint.layers} == {("a", "b")}
    assert [h.layers for h in joint.heads] == [("joint-0", "joint-1", "joint-2")] * 2
    assert joint.conditional
    assert not joint.free_order
    assert schemes.conditional((A, B)).free_order


@pytest.mark.parametrize("groups", [0, 5])
def test_groups_without_channels_are_refused(groups: int) -> None:
    with pytest.raises(ArgumentError, match=rf"groups is {groups}, must be 1..4.*lower"):
        schemes.Sizes(channels=4, groups=groups)


@pytest.mark.parametrize("scheme", ["joint", "separate", "conditional"])
def test_plain_data_and_back(scheme: str) -> None:
    config = getattr(schemes, scheme)((A, B))
    config = replace(config, order=tuple(x.name for x in reversed(config.layers)))
    assert CodecConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


SOURCES: dict[str, tuple[dict[str, Any], str]] = {
    "name-empty": ({"name": ""}, "source name is '', must be up to 64 letters"),
    "name-dot": ({"name": "a.b"}, "source name is 'a.b'"),
    "name-long": ({"name": "a" * 65}, "must be up to 64 letters"),
    "name-foreign": ({"name": "tiefe²"}, "must be up to 64 letters"),
    "name-taken": ({"name": "keys"}, "source name is 'keys', which modules use themselves"),
    "name-training": ({"name": "training"}, "rename it"),
    "channels-zero": ({"channels": 0}, "channels of a is 0, must be an integer in 1..4096"),
    "channels-many": ({"channels": 4097}, "channels of a is 4097"),
    "channels-bool": ({"channels": True}, "channels of a is True"),
    "height": ({"height": 1025}, "height of a is 1025, must be an integer in 1..1024"),
    "numbers": ({"channels": 4096, "height": 64}, "4096 x 64 x 6 numbers, at most 1048576"),
    "vector": ({"kind": "vector"}, "a is a vector of 8 x 6, must be 1 x 1"),
}
LAYERS: dict[str, tuple[dict[str, Any], str]] = {
    "name": ({"name": "a b"}, "layer name is 'a b'"),
    "name-taken": ({"name": "items"}, "layer name is 'items', which modules use"),
    "inputs-none": ({"inputs": ()}, "inputs of layer one is (), must be a tuple of different"),
    "tasks-twice": ({"tasks": ("a", "a")}, "tasks of layer one is ('a', 'a')"),
    "parents-twice": ({"parents": ("b", "b")}, "parents of layer one is ('b', 'b')"),
    "channels": (
        {"channels": 1025},
        "channels of layer one is 1025, must be an integer in 1..1024",
    ),
    "hidden": ({"hidden": 0}, "hidden of layer one is 0"),
    "blocks": ({"blocks": 17}, "blocks of layer one is 17, must be an integer in 0..16"),
    "hyper": ({"hyper_hidden": 0}, "hyper_hidden of layer one is 0"),
    "context": ({"context_hidden": 0}, "context_hidden of layer one is 0"),
    "stride": ({"stride": 3}, "stride of layer one is 3, must be 1, 2 or 4; change it"),
    "stride-bool": ({"stride": True}, "stride of layer one is True"),
    "prior": ({"prior": "none"}, "prior of layer one is 'none', must be one of"),
}
HEADS: dict[str, tuple[dict[str, Any], str]] = {
    "name": ({"name": "a/b"}, "head name is 'a/b'"),
    "hidden": ({"hidden": 1025}, "hidden of head a is 1025"),
    "blocks": ({"blocks": -1}, "blocks of head a is -1, must be an integer in 0..16"),
    "layers": ({"layers": ()}, "layers of head a is (), must be a tuple of different names"),
    "layers-twice": ({"layers": ("one", "one")}, "layers of head a is ('one', 'one')"),
    "optional-twice": ({"optional": ("x", "x")}, "optional of head a is ('x', 'x')"),
    "optional-needed": ({"optional": ("one",)}, "must name other layers than layers"),
}


@pytest.mark.parametrize("name", SOURCES)
def test_bad_sources(name: str) -> None:
    changes, message = SOURCES[name]
    with pytest.raises(ArgumentError) as error:
        replace(A, **changes)
    assert message in str(error.value)


@pytest.mark.parametrize("name", LAYERS)
def test_bad_layers(name: str) -> None:
    changes, message = LAYERS[name]
    with pytest.raises(ArgumentError) as error:
        replace(LAYER, **changes)
    assert message in str(error.value)


@pytest.mark.parametrize("name", HEADS)
def test_bad_heads(name: str) -> None:
    changes, message = HEADS[name]
    with pytest.raises(ArgumentError) as error:
        replace(HEAD, **changes)
    assert message in str(error.value)


def with_layer(**changes: Any) -> CodecConfig:
    return replace(PLAIN, layers=(replace(LAYER, **changes),))


TWO = schemes.separate((A, B), schemes.Sizes(channels=4))
CODECS: dict[str, tuple[Callable[[], CodecConfig], str]] = {
    "no-layers": (lambda: replace(PLAIN, layers=()), "has 0 layers and 1 heads, must have 1..28"),
    "no-heads": (lambda: replace(PLAIN, heads=()), "has 1 layers and 0 heads"),
    "many-layers": (lambda: many_layers(29), "has 29 layers"),
    "many-pairs": (lambda: many_layers(16, 64), "has 1024 pairs of a layer and a task, must have"),
    "sources-twice": (lambda: replace(PLAIN, sources=(A, A)), "source names are ['a', 'a']"),
    "layers-twice": (lambda: replace(PLAIN, layers=(LAYER, LAYER)), "layer names are"),
    "heads-twice": (lambda: replace(PLAIN, heads=(HEAD, HEAD)), "head names are"),
    "inputs": (lambda: with_layer(inputs=("b",)), "inputs of layer one names ['b'], must be among"),
    "tasks": (lambda: with_layer(tasks=("b",)), "tasks of layer one names ['b']"),
    "parents": (lambda: with_layer(parents=("one",)), "parents of layer one names ['one']"),
    "sizes": (
        lambda: schemes.joint((A, SMALL)),
        "inputs of layer joint have sizes [(4, 3), (8, 6)], must have one",
    ),
    "parent-sizes": (
        lambda: schemes.conditional((A, SMALL)),
        "layer a has latents of 4 x 3 and parent small of 2 x 2, must have one size",
    ),
    "latents": (
        lambda: replace(
            PLAIN,
            sources=(Source("a", 1, height=256, width=256),),
            layers=(replace(LAYER, channels=5, stride=1, prior="spatial"),),
        ),
        "layer one has 5 x 256 x 256 latents, at most 262144; raise the stride",
    ),
    "side": (lambda: with_layer(side=0), "side is 0, must be an integer in 1..256"),
    "groups": (lambda: with_layer(prior="codebook-vq", side=5), "must be at most channels=4"),
    "codewords": (lambda: with_layer(codewords=0), "codewords is 0"),
    "long-tokens": (
        lambda: replace(
            PLAIN,
            sources=(Source("a", 1, "tokens", 1000),),
            layers=(replace(LAYER, stride=1, prior="spatial"),),
        ),
        "height is 1000, must be an integer in 1..256",
    ),
    "order": (lambda: replace(TWO, order=("a",)), "order is ('a',), must hold each layer of"),
    "order-twice": (lambda: replace(TWO, order=("a", "a")), "order is ('a', 'a'), must be a tuple"),
    "head-source": (
        lambda: replace(PLAIN, heads=(HEAD, Head("c", ("one",)))),
        "head c names ['c'], must be among ['a']",
    ),
    "head-layers": (
        lambda: replace(PLAIN, heads=(Head("a", ("two",)),)),
        "layers of head a names ['two'], must be among ['one']",
    ),
    "head-strides": (
        lambda: replace(
            TWO,
            layers=(TWO.layers[0], replace(TWO.layers[1], stride=4)),
            heads=(Head("a", ("a", "b")), Head("b", ("b",))),
        ),
        "layers of head a have strides [2, 4], must have one",
    ),
    "head-size": (
        lambda: replace(PLAIN, sources=(A, SMALL), heads=(HEAD, Head("small", ("one",)))),
        "layers of head small have latents of [(4, 3)], must have (2, 2) for features of 4 x 3",
    ),
    "head-vector": (
        lambda: replace(
            PLAIN, sources=(A, Source("v", 9, "vector")), heads=(HEAD, Head("v", ("one",)))
        ),
        "must have (1, 1) for features of 1 x 1",
    ),
}


@pytest.mark.parametrize("name", CODECS)
def test_bad_codecs(name: str) -> None:
    make, message = CODECS[name]
    with pytest.raises(ArgumentError) as error:
        make()
    assert message in str(error.value)


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"sources": [], "layers": [], "heads": []},
        {"sources": 3, "layers": [], "heads": [], "order": []},
        {"sources": [3], "layers": [], "heads": [], "order": []},
        {"sources": [{"name": "a"}], "layers": [], "heads": [], "order": []},
        {"sources": [{"name": "a", "channels": 3, "x": 1}], "layers": [], "heads": [], "order": []},
        {**PLAIN.to_dict(), "order": [[1]]},
        {**PLAIN.to_dict(), "order": None},
    ],
    ids=["empty", "no-order", "number", "numbers", "short", "unknown", "nested-order", "null"],
)
def test_data_of_another_form(data: dict[str, Any]) -> None:
    with pytest.raises(ArgumentError, match="CodecConfig: "):
        CodecConfig.from_dict(data)


def test_every_accepted_name_makes_a_module() -> None:
    names = ("T", "type_", "0", "A-b_9", "weight", "bias", "mean")
    sources = tuple(Source(name, 1) for name in names)
    model = FeatureCodec(schemes.separate(sources, schemes.Sizes(2, 1, 2, 2, 0, side=1)))
    features = {name: torch.randn(4, 1, 1, 1) for name in names}
    model.start(features)
    assert sorted(model.finalise().config.tasks) == sorted(names)
