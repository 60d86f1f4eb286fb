"""Damaged and hostile graph files end in one clear error, before memory is taken."""

import contextlib
import json
import time

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from foveal.errors import ArgumentError, FovealError, ShapeError, UnsupportedError
from foveal.teachers.graph import Graph, GraphModule, Node, read_tfjs


def small(tfjs):
    nodes = [tfjs.placeholder([1, 3]), tfjs.node("y", "AddV2", "x", "w")]
    return tfjs.write(nodes, {"w": np.ones(3)}, ["y"])


def change(path, edit) -> None:
    data = json.loads(path.read_text())
    edit(data)
    path.write_text(json.dumps(data))


def entry(data):
    return data["weightsManifest"][0]["weights"][0]


@pytest.mark.parametrize(
    ("edit", "text"),
    [
        (lambda d: d["weightsManifest"][0].update(paths=["../model.bin"]), "plain file name"),
        (lambda d: d["weightsManifest"][0].update(paths=["/etc/passwd"]), "plain file name"),
        (lambda d: d["weightsManifest"][0].update(paths=[".."]), "plain file name"),
        (lambda d: entry(d).update(shape=[-3]), r"shape \[-3\], must be at most 8 sides >= 0"),
        (lambda d: entry(d).update(shape=[1 << 40]), "must have at most 268435456 elements"),
        (lambda d: entry(d).update(shape=[2.5]), "must be at most 8 sides"),
        (lambda d: entry(d).update(shape=[True] * 3), "must be at most 8 sides"),
        (lambda d: entry(d).update(shape=[1] * 9), "must be at most 8 sides"),
        (lambda d: entry(d).update(shape=[4]), "have 12 bytes, must have 16"),
        (lambda d: entry(d).update(shape=[2]), "have 12 bytes, must have 8"),
        (lambda d: entry(d).update(dtype="string"), "dtype 'string', must be one of"),
        (lambda d: entry(d).update(quantization={"dtype": "int4"}), "stored as 'int4'"),
        (
            lambda d: entry(d).update(
                quantization={"dtype": "uint8", "scale": float("nan"), "min": 0}
            ),
            "scale nan and min 0.0, must be within 1e.12",
        ),
        (lambda d: entry(d).update(quantization={"dtype": "uint8"}), "KeyError"),
        (lambda d: entry(d).update(name="v"), "has no weights for 'w'"),
        (lambda d: d["weightsManifest"][0]["weights"].append(entry(d)), "must have 24"),
        (lambda d: d.pop("modelTopology"), "is no TFJS graph model"),
        (lambda d: entry(d).update(quantization=5), "is no TFJS graph model"),
        (
            lambda d: d["modelTopology"]["node"][1].update(
                attr={"shape": {"shape": {"dim": [{"size": float("inf")}]}}}
            ),
            "is no TFJS graph model",
        ),
        (lambda d: d["modelTopology"].update(node=[5]), "is no TFJS graph model"),
        (lambda d: d["modelTopology"].update(node=[{}] * 20_001), "at most 20000"),
        (lambda d: d["modelTopology"]["node"][2].update(input=["x", "gone"]), "no tensor 'gone'"),
        (lambda d: d["modelTopology"]["node"][2].update(input=["x", "y"]), "cycle through node"),
        (lambda d: d["modelTopology"]["node"].append(d["modelTopology"]["node"][2]), "twice"),
        (lambda d: d["signature"]["outputs"]["y"].update(name="z"), "no tensor 'z'"),
        (lambda d: d["modelTopology"]["node"][2].update(input=["x", "y:5000"]), "at most 1024"),
        (lambda d: d["modelTopology"]["node"][1].update(attr={}), "has no shape"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(tfjs, edit, text) -> None:
    path = small(tfjs)
    change(path, edit)
    with pytest.raises((ArgumentError, UnsupportedError), match=text):
        GraphModule(read_tfjs(path))


def test_truncated_and_wrong_files(tfjs, tmp_path) -> None:
    path = small(tfjs)
    shard = tmp_path / "model.bin"
    with pytest.raises(ArgumentError, match="shards has 2 files, must have 1"):
        read_tfjs(path, shards=[shard, shard])
    shard.write_bytes(shard.read_bytes()[:-1])
    with pytest.raises(ArgumentError, match="have 11 bytes, must have 12.*truncated"):
        read_tfjs(path)
    shard.unlink()
    with pytest.raises(ArgumentError, match="does not exist"):
        read_tfjs(path)
    for text in ("", "{", "[]", "null", "[" * 100_000, "\0"):
        path.write_text(text)
        with pytest.raises(ArgumentError, match="no TFJS graph model|is empty"):
            read_tfjs(path)


def test_long_cycle_and_long_chain(tfjs) -> None:
    """No recursion: 5,000 nodes in a row, and the same with its end at its start."""
    count = 5_000
    nodes = [Node("relu", f"n{i}", (f"t{i}",), (f"t{i + 1}",)) for i in range(count)]
    chain = Graph("chain", {"t0": (2,)}, (f"t{count}",), tuple(reversed(nodes)), {})
    assert GraphModule(chain)(torch.tensor([-1.0, 1.0]))[f"t{count}"].tolist() == [0.0, 1.0]
    nodes[0] = Node("add", "n0", ("x", f"t{count}"), ("t1",))
    with pytest.raises(ArgumentError, match="cycle through node"):
        GraphModule(Graph("ring", {"x": (2,)}, ("t1",), tuple(nodes), {}))


@pytest.mark.parametrize(
    ("op", "constants", "attributes"),
    [
        ("PadV2", {"a": np.array([[0, 0], [0, 1 << 30]]), "b": 0.0}, {}),
        ("ResizeBilinear", {"a": np.array([1 << 20, 1 << 20])}, {}),
        ("Reshape", {"a": np.array([7, -1])}, {}),
        ("TopKV2", {"a": np.array(4)}, {}),
        ("GatherV2", {"a": np.array([0]), "b": np.array(5)}, {}),
        ("ConcatV2", {"a": np.ones((2, 2, 2)), "b": np.array(0)}, {}),
        ("SplitV", {"a": np.array([2, 2]), "b": np.array(1)}, {}),
        ("MatMul", {"a": np.ones((2, 2))}, {}),
        ("AddV2", {"a": np.ones((5, 2))}, {}),
        ("Transpose", {"a": np.array([0, 0])}, {}),
        ("Relu", {"a": 1.0}, {}),
        ("Unpack", {}, {"axis": 9}),
    ],
)
def test_sizes_that_do_not_fit_are_refused_before_memory_is_taken(
    tfjs, op, constants, attributes
) -> None:
    nodes = [tfjs.placeholder([1, 3]), tfjs.node("y", op, "x", *constants, **attributes)]
    reader = tfjs.node("z", "Identity", "y:1" if op == "Relu" else "y")
    model = GraphModule(read_tfjs(tfjs.write([*nodes, reader], constants, ["z"])))
    start = time.monotonic()
    with pytest.raises(ShapeError, match=rf"node 'y' of model.json \({model._nodes[0].op}\)"):
        model(torch.ones(1, 3))
    assert time.monotonic() - start < 5


def test_constants_that_would_fill_the_memory_are_refused(tfjs) -> None:
    """Two short lists, broadcast against each other, would be 40 GB."""
    side = 100_000
    nodes = [
        tfjs.placeholder([1]),
        tfjs.node("big", "AddV2", "row", "column"),
        tfjs.node("y", "AddV2", "x", "big"),
    ]
    weights = {"row": np.ones((1, side)), "column": np.ones((side, 1))}
    graph = read_tfjs(tfjs.write(nodes, weights))
    with pytest.raises(ShapeError, match="'big' .* more than 268435456 elements"):
        GraphModule(graph)
    pads = {"n": np.array([1 << 30]), "i": np.array([[0]]), "v": np.array([1]), "d": np.array(0)}
    nodes[1] = tfjs.node("big", "SparseToDense", "i", "n", "v", "d")
    graph = read_tfjs(tfjs.write(nodes, pads))
    with pytest.raises(ShapeError, match="'big' .* at most 268435456 elements"):
        GraphModule(graph)


def test_hidden_memory_inside_an_op_is_seen(tfjs) -> None:
    """The pool's result is tiny, what it pads is not."""
    window = {"ksize": [1, 1, 1, 1], "strides": [1, 60_000, 60_000, 1], "padding": "EXPLICIT"}
    pads = [0, 0, 60_000, 60_000, 60_000, 60_000, 0, 0]
    op = tfjs.node("y", "MaxPool", "x", explicit_paddings=pads, **window)
    model = GraphModule(read_tfjs(tfjs.write([tfjs.placeholder([1, 3, 3, 1]), op], {})))
    with pytest.raises(ShapeError, match="more than 268435456 elements"):
        model(torch.ones(1, 3, 3, 1))


LEAVES = st.one_of(
    st.none(), st.booleans(), st.integers(-(1 << 70), 1 << 70), st.floats(), st.text(max_size=8),
    st.lists(st.integers(-3, 3), max_size=3), st.dictionaries(st.text(max_size=3), st.none()),
)  # fmt: skip


def places(value, path=()):
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, inner in items if isinstance(value, (dict, list)) else ():
        if isinstance(inner, (dict, list)):
            yield from places(inner, (*path, key))
        else:
            yield (*path, key)


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_any_change_of_the_json_ends_in_our_errors(tfjs, data) -> None:
    nodes = [
        tfjs.placeholder([1, 4, 4, 1]),
        tfjs.node("c", "_FusedConv2D", "x", "w", "b", fused_ops=["BiasAdd"], padding="SAME",
                  strides=[1, 2, 2, 1], dilations=[1, 1, 1, 1], data_format="NHWC"),
        tfjs.node("s", "SplitV", "c", "sizes", "axis", num_split=2),
        tfjs.node("y", "ConcatV2", "s", "s:1", "axis"),
    ]  # fmt: skip
    weights = {
        "w": np.ones((3, 3, 1, 2)), "b": np.ones(2), "sizes": np.array([1, 1]),
        "axis": np.array(3),
    }  # fmt: skip
    path = tfjs.write(nodes, weights, ["y"], quantization={"b": ("uint8", 1.0, 0.0)})
    model = json.loads(path.read_text())
    where = data.draw(st.sampled_from([p for p in places(model) if p]))
    target = model
    for key in where[:-1]:
        target = target[key]
    if data.draw(st.booleans()):
        target[where[-1]] = data.draw(LEAVES)
    else:
        del target[where[-1]]
    path.write_text(json.dumps(model))
    with contextlib.suppress(FovealError):
        GraphModule(read_tfjs(path))(torch.ones(1, 4, 4, 1))
