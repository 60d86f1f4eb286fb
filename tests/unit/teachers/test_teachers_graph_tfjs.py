"""Hand-made TFJS models against plain torch, loops and adjoints."""

import json

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from foveal.errors import ArgumentError, ShapeError, UnsupportedError
from foveal.teachers.graph import GraphModule, read_tfjs
from foveal.teachers.graph.image_ops import same_padding

CONV = {
    "strides": [1, 2, 2, 1],
    "dilations": [1, 1, 1, 1],
    "padding": "SAME",
    "data_format": "NHWC",
}


def run(path, x, *names):
    out = GraphModule(read_tfjs(path), outputs=names or None)(x)
    return next(iter(out.values())) if len(out) == 1 else out


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "dilation", "wanted"),
    [(8, 3, 2, 1, (0, 1)), (7, 3, 2, 1, (1, 1)), (5, 2, 1, 1, (0, 1)), (5, 3, 1, 2, (2, 2)),
     (4, 1, 2, 1, (0, 0)), (224, 5, 2, 1, (1, 2))],
)  # fmt: skip
def test_same_padding_by_hand(size, kernel, stride, dilation, wanted) -> None:
    assert same_padding(size, kernel, stride, dilation) == wanted


def test_convolution_pads_at_the_end_and_applies_what_is_fused(tfjs) -> None:
    w, b = np.random.default_rng(0).normal(size=(3, 3, 2, 4)), np.arange(4.0)
    op = tfjs.node("y", "_FusedConv2D", "x", "w", "b", fused_ops=["BiasAdd", "Relu6"], **CONV)
    path = tfjs.write([tfjs.placeholder([1, 6, 7, 2]), op], {"w": w, "b": b})
    x = torch.randn(2, 6, 7, 2)
    weight = torch.from_numpy(w).float().permute(3, 2, 0, 1)
    padded = F.pad(x.permute(0, 3, 1, 2), (1, 1, 0, 1))
    wanted = F.conv2d(padded, weight, torch.arange(4.0), 2).clamp(0, 6).permute(0, 2, 3, 1)
    torch.testing.assert_close(run(path, x), wanted, rtol=1e-5, atol=1e-5)


def test_depthwise_channels_by_the_definition(tfjs) -> None:
    """Output channel c * multiplier + m is filter [:, :, c, m] on channel c."""
    w = np.random.default_rng(1).normal(size=(3, 3, 2, 3))
    op = tfjs.node("y", "DepthwiseConv2dNative", "x", "w", **CONV | {"padding": "VALID"})
    path = tfjs.write([tfjs.placeholder([1, 5, 5, 2]), op], {"w": w})
    x = torch.randn(1, 5, 5, 2)
    got = run(path, x)[0].numpy()
    for i, j, c, m in np.ndindex(2, 2, 2, 3):
        window = x[0, 2 * i : 2 * i + 3, 2 * j : 2 * j + 3, c].numpy()
        assert got[i, j, c * 3 + m] == pytest.approx((window * w[:, :, c, m]).sum(), abs=1e-5)


def test_fused_slopes(tfjs) -> None:
    slopes = np.array([0.5, -1.0])
    op = tfjs.node("y", "FusedConv2D", "x", "w", "b", "s", fused_ops=["BiasAdd", "Prelu"], **CONV)
    weights = {"w": np.eye(2)[None, None], "b": np.zeros(2), "s": slopes}
    path = tfjs.write([tfjs.placeholder([1, 1, 1, 2]), op], weights)
    x = torch.tensor([-2.0, -3.0]).reshape(1, 1, 1, 2)
    assert run(path, x).flatten().tolist() == [-1.0, 3.0]


@pytest.mark.parametrize("padding", ["SAME", "VALID"])
@pytest.mark.parametrize("size", [7, 8])
def test_transposed_convolution_is_the_adjoint(tfjs, padding, size) -> None:
    """<conv(u), v> = <u, transposed(v)>, with conv as TensorFlow pads it."""
    w = np.random.default_rng(2).normal(size=(3, 3, 2, 4))  # height, width, out, in
    small = -(-size // 2) if padding == "SAME" else (size - 3) // 2 + 1
    op = tfjs.node("y", "Conv2DBackpropInput", "n", "w", "x", **CONV | {"padding": padding})
    sides = np.array([1, size, size, 2])
    path = tfjs.write([tfjs.placeholder([1, small, small, 4]), op], {"n": sides, "w": w})
    u, v = torch.randn(2, 2, size, size), torch.randn(2, small, small, 4)
    first, last = same_padding(size, 3, 2) if padding == "SAME" else (0, 0)
    weight = torch.from_numpy(w).float().permute(3, 2, 0, 1)
    forward = F.conv2d(F.pad(u, (first, last, first, last)), weight, stride=2)
    got = run(path, v)
    assert got.shape == (2, size, size, 2)
    left = (forward * v.permute(0, 3, 1, 2)).sum()
    torch.testing.assert_close(left, (u * got.permute(0, 3, 1, 2)).sum(), rtol=1e-4, atol=1e-4)


def test_pools_do_not_count_padding(tfjs) -> None:
    window = {"ksize": [1, 2, 2, 1], "strides": [1, 2, 2, 1], "padding": "SAME"}
    nodes = [tfjs.placeholder([1, 3, 3, 1]), tfjs.node("a", "AvgPool", "x", **window)]
    nodes.append(tfjs.node("m", "MaxPool", "x", **window))
    path = tfjs.write(nodes, {}, ["a", "m"])
    out = run(path, -torch.arange(1.0, 10).reshape(1, 3, 3, 1), "a", "m")
    assert out["a"].flatten().tolist() == [-3.0, -4.5, -7.5, -9.0]
    assert out["m"].flatten().tolist() == [-1.0, -3.0, -7.0, -9.0]


def linear_at(row, place):
    """One pixel of linear interpolation, by the definition."""
    place = min(max(place, 0), len(row) - 1)
    low = int(place)
    high = min(low + 1, len(row) - 1)
    return row[low] + (place - low) * (row[high] - row[low])


@pytest.mark.parametrize("mode", ["asymmetric", "half_pixel_centers", "align_corners"])
@pytest.mark.parametrize("new", [7, 3, 1])
def test_resizing_by_the_definition(tfjs, mode, new) -> None:
    flags = {name: name == mode for name in ("half_pixel_centers", "align_corners")}
    op = tfjs.node("y", "ResizeBilinear", "x", "n", **flags)
    path = tfjs.write([tfjs.placeholder([1, 5, 4, 1]), op], {"n": np.array([new, 4])})
    x = torch.randn(1, 5, 4, 1)
    places = {
        "asymmetric": [i * 5 / new for i in range(new)],
        "half_pixel_centers": [(i + 0.5) * 5 / new - 0.5 for i in range(new)],
        "align_corners": [i * 4 / max(1, new - 1) for i in range(new)],
    }[mode]
    got = run(path, x)[0, :, :, 0]
    for column in range(4):
        row = x[0, :, column, 0].tolist()
        wanted = [linear_at(row, p) for p in places]
        assert got[:, column].tolist() == pytest.approx(wanted, abs=1e-5)


def test_nearest_takes_the_pixel_before(tfjs) -> None:
    op = tfjs.node("y", "ResizeNearestNeighbor", "x", "n")
    path = tfjs.write([tfjs.placeholder([1, 3, 1, 1]), op], {"n": np.array([5, 1])})
    assert run(path, torch.arange(3.0).reshape(1, 3, 1, 1)).flatten().tolist() == [0, 0, 1, 1, 2]


def test_shapes_and_numbers(tfjs) -> None:
    """Ops that move or choose numbers, against NumPy."""
    n = tfjs.node
    masks = {"begin_mask": 1, "end_mask": 2, "shrink_axis_mask": 4}
    constants = {
        "perm": np.array([0, 2, 1]), "pads": np.array([[0, 0], [1, 2], [0, 1]]), "five": 5.0,
        "axis": np.array(2), "sizes": np.array([1, 3]), "from": np.array([0, 1, -1]),
        "to": np.array([1, 3, 0]), "by": np.array([1, 2, 1]), "rows": np.array([2, 0]),
        "one": np.array(1), "k": np.array(2), "shape": np.array([-1, 4]),
        "last": np.array([1, 2]), "flat": np.array([6]),
    }  # fmt: skip
    nodes = [
        tfjs.placeholder([1, 3, 4]),
        n("t", "Transpose", "x", "perm"), n("p", "PadV2", "x", "pads", "five"),
        n("s", "SplitV", "x", "sizes", "axis", num_split=2), n("s1", "Identity", "s:1"),
        n("cut", "StridedSlice", "x", "from", "to", "by", **masks),
        n("g", "GatherV2", "x", "rows", "one"), n("top", "TopKV2", "x", "k"),
        n("place", "Cast", "top:1", SrcT="DT_INT32", DstT="DT_FLOAT"),
        n("r", "Reshape", "x", "shape"), n("mean", "Mean", "x", "last", keep_dims=False),
        n("max", "Max", "x", "last", keep_dims=True), n("cat", "ConcatV2", "x", "t2", "axis"),
        n("t2", "Reshape", "x", "full"), n("full", "Shape", "x"),
        n("e", "ExpandDims", "x", "one"), n("q", "Squeeze", "e", squeeze_dims=[1]),
        n("pack", "Pack", "x", "x", axis=1), n("un", "Unpack", "pack", axis=1, num=2),
        n("leak", "LeakyRelu", "x", alpha=0.1), n("soft", "Softmax", "x"),
        n("sum", "AddN", "x", "x", "x"), n("three", "FloorDiv", "flat", "k"),
    ]  # fmt: skip
    wanted = ["t", "p", "s1", "cut", "g", "top", "place", "r", "mean", "max", "cat", "q", "un",
              "leak", "soft", "sum", "three"]  # fmt: skip
    path = tfjs.write(nodes, constants, wanted)
    x = torch.randn(1, 3, 4)
    out = {k: v.numpy() for k, v in run(path, x, *wanted).items()}
    a = x.numpy()
    order = np.argsort(-a, -1)[..., :2]
    truth = {
        "t": a.transpose(0, 2, 1), "s1": a[:, :, 1:], "cut": a[:1, 1::2, -1],
        "p": np.pad(a, [(0, 0), (1, 2), (0, 1)], constant_values=5), "g": a[:, [2, 0]],
        "top": np.take_along_axis(a, order, -1), "place": order, "r": a.reshape(-1, 4),
        "mean": a.mean((1, 2)), "max": a.max((1, 2), keepdims=True),
        "cat": np.concatenate([a, a], 2), "q": a, "un": a, "leak": np.where(a > 0, a, 0.1 * a),
        "soft": np.exp(a) / np.exp(a).sum(-1, keepdims=True), "sum": 3 * a, "three": np.array([3]),
    }  # fmt: skip
    for name, value in truth.items():
        np.testing.assert_allclose(out[name], value, rtol=1e-5, atol=1e-6, err_msg=name)


@pytest.mark.parametrize("how", ["float16", ("uint8", 0.5, -3.0), ("uint16", 0.25, -100.0)])
def test_stored_weights_are_widened(tfjs, how) -> None:
    value = np.array([-3.0, 0.5, 7.0, 100.0])
    path = tfjs.write([tfjs.placeholder([4]), tfjs.node("y", "Mul", "x", "w")], {"w": value},
                      quantization={"w": how})  # fmt: skip
    assert run(path, torch.ones(4)).tolist() == value.tolist()


def test_dense_layer(tfjs) -> None:
    w, b = np.random.default_rng(3).normal(size=(3, 2)), np.array([1.0, -1.0])
    op = tfjs.node("y", "_FusedMatMul", "x", "w", "b", fused_ops=["BiasAdd", "Relu"])
    path = tfjs.write([tfjs.placeholder([1, 3]), op], {"w": w, "b": b})
    x = torch.randn(2, 3)
    wanted = np.maximum(x.numpy() @ w + b, 0)
    np.testing.assert_allclose(run(path, x).numpy(), wanted, rtol=1e-5, atol=1e-6)


def normed(tfjs):
    rng = np.random.default_rng(4)
    weights = {
        "w": rng.normal(size=(3, 3, 2, 4)),
        "gain": rng.normal(size=4),
        "shift": rng.normal(size=4),
        "mean": rng.normal(size=4),
        "var": rng.uniform(0.5, 2, 4),
    }
    nodes = [
        tfjs.placeholder([1, 6, 6, 2]),
        tfjs.node("c", "Conv2D", "x", "w", **CONV),
        tfjs.node("y", "FusedBatchNormV3", "c", "gain", "shift", "mean", "var", epsilon=0.01),
    ]
    return tfjs.write(nodes, weights, ["y"]), weights


def test_norms_are_folded_and_nothing_is_trainable(tfjs) -> None:
    path, w = normed(tfjs)
    graph = read_tfjs(path)
    folded, whole = GraphModule(graph), GraphModule(graph, outputs=["c", "y"])
    x = torch.randn(3, 6, 6, 2, requires_grad=True)
    out = whole(x)
    assert len(list(folded.buffers())) == 2  # a kernel and a bias
    torch.testing.assert_close(folded(x)["y"], out["y"], rtol=1e-5, atol=1e-5)
    stats = [torch.from_numpy(w[k]).float() for k in ("mean", "var", "gain", "shift")]
    wanted = F.batch_norm(out["c"].permute(0, 3, 1, 2), *stats, eps=0.01).permute(0, 2, 3, 1)
    torch.testing.assert_close(out["y"], wanted, rtol=1e-5, atol=1e-5)
    assert not list(whole.parameters())
    before = [b.clone() for b in whole.buffers()]
    out["y"].sum().backward()
    assert x.grad is not None
    assert x.grad.abs().sum() > 0
    assert all(torch.equal(a, b) for a, b in zip(before, whole.buffers(), strict=True))


def test_gradients_are_right(tfjs) -> None:
    path, _ = normed(tfjs)
    model = GraphModule(read_tfjs(path)).double()
    x = torch.randn(1, 6, 6, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: model(x)["y"], (x,), atol=1e-6)


def test_inputs_are_checked(tfjs) -> None:
    path, _ = normed(tfjs)
    model = GraphModule(read_tfjs(path))
    for bad in (torch.zeros(1, 6, 7, 2), torch.zeros(6, 6, 2), torch.zeros(1, 6, 6, 2).int()):
        with pytest.raises(ShapeError, match=r"input 'x' has shape .*, must have shape \(1, 6"):
            model(bad)
    with pytest.raises(ShapeError, match="inputs has 2 tensors, must have 1"):
        model(torch.zeros(1, 6, 6, 2), torch.zeros(1))
    with pytest.raises(ArgumentError, match="outputs is \\['c'\\], must be of \\['y'\\]"):
        model(torch.zeros(1, 6, 6, 2), outputs=["c"])


def test_unknown_op_names_itself_and_its_node(tfjs) -> None:
    nodes = [
        tfjs.placeholder([1, 2]),
        tfjs.node("ok", "Relu", "x"),
        tfjs.node("odd", "NonMaxSuppressionV5", "ok"),
    ]
    graph = read_tfjs(tfjs.write(nodes, {}))
    with pytest.raises(UnsupportedError, match=r"node 'odd' .* op 'tfjs:NonMaxSuppressionV5'"):
        GraphModule(graph)
    assert GraphModule(graph, outputs=["ok"])(torch.ones(1, 2))["ok"].sum() == 2
    with pytest.raises(UnsupportedError, match="'Gelu' fused"):
        op = tfjs.node("y", "_FusedConv2D", "x", "w", "b", fused_ops=["BiasAdd", "Gelu"], **CONV)
        read_tfjs(tfjs.write([tfjs.placeholder([1, 4, 4, 1]), op], {}))


def test_a_shape_that_the_picture_decides_is_refused(tfjs) -> None:
    nodes = [
        tfjs.placeholder([4]),
        tfjs.node("n", "Cast", "x", DstT="DT_INT32"),
        tfjs.node("y", "Reshape", "x", "n"),
    ]
    model = GraphModule(read_tfjs(tfjs.write(nodes, {})))
    with pytest.raises(UnsupportedError, match="node 'y' .* from the picture"):
        model(torch.ones(4))


def test_file_without_signature_gives_what_nobody_reads(tfjs) -> None:
    path = tfjs.write([tfjs.placeholder([2]), tfjs.node("y", "Relu", "x")], {})
    data = json.loads(path.read_text())
    assert "signature" not in data
    assert read_tfjs(path).outputs == ("y",)
