"""ONNX models, made byte by byte, against onnxruntime; damaged ones end in one clear error."""

import contextlib

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from foveal.data import samples
from foveal.errors import ArgumentError, FovealError, UnsupportedError
from foveal.teachers.graph import GraphModule, read_onnx
from foveal.testing import relative_error


def both(path, *inputs):
    """Our results and onnxruntime's."""
    ort = pytest.importorskip("onnxruntime")
    graph = read_onnx(path)
    with torch.no_grad():
        ours = GraphModule(graph)(*inputs)
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [x.name for x in session.get_inputs()]
    theirs = session.run(None, dict(zip(names, (x.numpy() for x in inputs), strict=True)))
    assert len(theirs) == len(graph.outputs)
    return [(ours[n], torch.from_numpy(t)) for n, t in zip(graph.outputs, theirs, strict=True)]


def rand(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


CASES = {
    "Conv": ({"w": rand(4, 1, 3, 2), "b": rand(4)},
             {"group": 2, "strides": [2, 1], "pads": [1, 0, 2, 1], "dilations": [1, 2]}),
    "ConvTranspose": ({"w": rand(2, 3, 3, 3), "b": rand(3)},
                      {"strides": [2, 2], "pads": [1, 0, 1, 1], "output_padding": [1, 1]}),
    "MaxPool": ({}, {"kernel_shape": [3, 2], "strides": [2, 2], "pads": [1, 0, 1, 1]}),
    "AveragePool": ({}, {"kernel_shape": [3, 2], "strides": [2, 2], "pads": [1, 0, 1, 1]}),
    "GlobalAveragePool": ({}, {}),
    "HardSigmoid": ({}, {"alpha": 0.3}),
    "LeakyRelu": ({}, {}),
    "PRelu": ({"s": rand(2, 1, 1)}, {}),
    "Clip": ({"low": np.float32(-0.5), "high": np.float32(0.25)}, {}),
    "Softmax": ({}, {"axis": 1}),
    "ReduceMean": ({}, {"axes": [1, -1], "keepdims": 0}),
    "ReduceMax": ({}, {}),
    "Transpose": ({}, {"perm": [0, 3, 1, 2]}),
    "Flatten": ({}, {"axis": 2}),
    "Reshape": ({"n": np.array([0, -1, 3])}, {}),
    "Squeeze": ({"n": np.array([0])}, {}),
    "Unsqueeze": ({"n": np.array([2, 0])}, {}),
    "Gather": ({"n": np.array([[2, 0], [1, -1]])}, {"axis": 2}),
    "Slice": ({"a": np.array([1, -2]), "b": np.array([9, 99]), "n": np.array([2, 3]),
               "by": np.array([2, 1])}, {}),
    "Pad": ({"n": np.array([0, 0, 1, 2, 0, 0, 0, 1]), "v": np.float32(0.5)}, {}),
    "MatMul": ({"w": rand(6, 3)}, {}),
    "Pow": ({"w": np.float32(2)}, {}),
    "Div": ({"w": rand(2, 5, 6) + 9}, {}),
    "Identity": ({}, {}),
    "Resize": ({"": None, "f": np.array([1, 1, 2, 1.5], np.float32)},
               {"mode": "nearest", "nearest_mode": "floor",
                "coordinate_transformation_mode": "asymmetric"}),
}  # fmt: skip


@pytest.mark.parametrize("op", CASES)
def test_ops_agree_with_onnxruntime(onnx_files, op) -> None:
    weights, attributes = CASES[op]
    node = onnx_files.node(op, ["x", *weights], ["y"], **attributes)
    constants = {k: v for k, v in weights.items() if v is not None}
    path = onnx_files.write([node], {"x": (1, 2, 5, 6)}, {"y": ()}, constants)
    x = torch.from_numpy(rand(1, 2, 5, 6, seed=1))
    for ours, theirs in both(path, x):
        assert ours.shape == theirs.shape
        assert relative_error(ours, theirs) < 1e-5


@pytest.mark.parametrize(
    ("mode", "coordinates"),
    [("linear", "half_pixel"), ("linear", "asymmetric"), ("linear", "align_corners"),
     ("nearest", "half_pixel")],
)  # fmt: skip
@pytest.mark.parametrize("sides", [(7, 9), (3, 4), (10, 12)])
def test_resizing_agrees_with_onnxruntime(onnx_files, mode, coordinates, sides) -> None:
    node = onnx_files.node("Resize", ["x", "", "", "n"], ["y"], mode=mode,
                           coordinate_transformation_mode=coordinates)  # fmt: skip
    weights = {"n": np.array([1, 2, *sides])}
    path = onnx_files.write([node], {"x": (1, 2, 5, 6)}, {"y": ()}, weights)
    for ours, theirs in both(path, torch.from_numpy(rand(1, 2, 5, 6))):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


def test_older_operators_and_many_outputs(onnx_files) -> None:
    """Opset 9 to 12 keep in attributes what later ones take as inputs."""
    nodes = [
        onnx_files.node("Split", ["x"], ["a", "b"], axis=1, split=[1, 3]),
        onnx_files.node("Softmax", ["b"], ["y"], axis=1),
        onnx_files.node("Squeeze", ["a"], ["z"], axes=[1]),
        onnx_files.node("Unsqueeze", ["z"], ["u"], axes=[0]),
        onnx_files.node("ReduceSum", ["x"], ["r"], axes=[2], keepdims=0),
        onnx_files.node("Concat", ["x", "x"], ["c"], axis=-1),
        onnx_files.node("Gemm", ["r", "w", "v"], ["g"], transB=1, alpha=0.5, beta=2.0),
    ]
    wanted = dict.fromkeys(["y", "u", "c", "g"], ())
    weights = {"w": rand(3, 4), "v": rand(3)}
    path = onnx_files.write(nodes, {"x": (2, 4, 3)}, wanted, weights, opset=11)
    for ours, theirs in both(path, torch.from_numpy(rand(2, 4, 3))):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


def test_shapes_that_are_computed(onnx_files) -> None:
    """x reshaped to (first side, rest) by numbers taken from its own shape."""
    nodes = [
        onnx_files.node("Shape", ["x"], ["s"]),
        onnx_files.node("Gather", ["s", "zero"], ["n"], axis=0),
        onnx_files.node("Concat", ["n", "rest"], ["to"], axis=0),
        onnx_files.node("Cast", ["to"], ["to64"], to=7),
        onnx_files.node("Reshape", ["x", "to64"], ["y"]),
    ]
    weights = {"zero": np.array([0]), "rest": np.array([-1])}
    path = onnx_files.write(nodes, {"x": (None, 3, None)}, {"y": ()}, weights)
    model = GraphModule(read_onnx(path))
    for shape in ((2, 3, 4), (5, 3, 1)):
        assert model(torch.rand(shape))["y"].shape == (shape[0], 3 * shape[2])
    for ours, theirs in both(path, torch.rand(2, 3, 4)):
        assert torch.equal(ours, theirs)


def test_norms_and_biases_are_folded_behind_convolutions(onnx_files) -> None:
    stats = {"gain": rand(3), "shift": rand(3), "mean": rand(3), "var": np.abs(rand(3)) + 0.5}
    nodes = [
        onnx_files.node("Conv", ["x", "w"], ["c"], pads=[1, 1, 1, 1]),
        onnx_files.node("BatchNormalization", ["c", *stats], ["n"], epsilon=0.01),
        onnx_files.node("ConvTranspose", ["n", "t"], ["u"], strides=[2, 2]),
        onnx_files.node("Add", ["bias", "u"], ["v"]),
        onnx_files.node("BatchNormalization", ["v", *stats], ["y"]),
    ]
    weights = {"w": rand(3, 2, 3, 3), "t": rand(3, 3, 2, 2), "bias": rand(1, 3, 1, 1)} | stats
    path = onnx_files.write(nodes, {"x": (1, 2, 5, 6)}, {"y": ()}, weights)
    x = torch.from_numpy(rand(2, 2, 5, 6))
    folded = GraphModule(read_onnx(path))
    assert len(list(folded.buffers())) == 4  # two kernels, two biases
    whole = GraphModule(read_onnx(path), outputs=["c", "n", "u", "v", "y"])
    for ours, theirs in both(path, x[:1]):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(folded(x)["y"], whole(x)["y"], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("node", "text"),
    [
        (("Einsum", ["x"], ["y"], {}), "op 'onnx:Einsum'"),
        (("Relu", ["x"], ["y"], {"domain": "com.microsoft"}), "op 'onnx:com.microsoft.Relu'"),
        (("MaxPool", ["x"], ["y"], {"kernel_shape": [2, 2], "ceil_mode": 1}), "has ceil_mode"),
        (("Conv", ["x", "w"], ["y"], {"auto_pad": "SAME_LOWER"}), "auto_pad 'SAME_LOWER'"),
        (("Resize", ["x"], ["y"], {"mode": "cubic"}), "mode 'cubic'"),
        (("Cast", ["x"], ["y"], {"to": 8}), "casts to type 8"),
        (("Pad", ["x"], ["y"], {"mode": "reflect"}), "mode 'reflect'"),
        (("Max", ["x", "x", "x"], ["y"], {}), "has 3 inputs"),
    ],
)
def test_what_is_not_supported_names_op_and_node(onnx_files, node, text) -> None:
    op, inputs, outputs, attributes = node
    made = onnx_files.node(op, inputs, outputs, **attributes)
    path = onnx_files.write([made], {"x": (1, 2, 4, 4)}, {"y": ()}, {"w": rand(2, 2, 3, 3)})
    with pytest.raises(UnsupportedError, match=f"node 'node y'.*{text}"):
        GraphModule(read_onnx(path))


def test_damaged_files_are_named(onnx_files, tmp_path) -> None:
    f = onnx_files.field
    relu = onnx_files.node("Relu", ["x"], ["y"])
    whole = onnx_files.write([relu], {"x": (2,)}, {"y": ()}, {"w": rand(3)}).read_bytes()

    def read(data):
        path = tmp_path / "bad.onnx"
        path.write_bytes(data)
        return read_onnx(path)

    with pytest.raises(ArgumentError, match="is truncated"):
        read(whole[:-3])
    with pytest.raises(ArgumentError, match="holds no graph"):
        read(f(1, 8))
    with pytest.raises(UnsupportedError, match="opset 3, must be in"):
        read(onnx_files.write([relu], {"x": (2,)}, {"y": ()}, opset=3).read_bytes())
    with pytest.raises(ArgumentError, match="wire type 3"):
        read(b"\x0b")
    with pytest.raises(ArgumentError, match="number of more than 10 bytes"):
        read(b"\xff" * 12)
    for tensor, error, text in (
        (f(1, 1 << 40) + f(2, 1) + f(8, "w"), ArgumentError, "at most 268435456 elements"),
        (f(1, -1) + f(2, 1) + f(8, "w"), ArgumentError, "sides >= 0"),
        (f(1, 4) + f(2, 1) + f(8, "w") + f(9, b"\0" * 12), ArgumentError, "3 numbers, must have 4"),
        (f(1, 3) + f(2, 1) + f(8, "w") + f(9, b"\0" * 11), ArgumentError, "2.75 numbers"),
        (f(1, 3) + f(2, 8) + f(8, "w"), UnsupportedError, "data type 8"),
        (f(1, 3) + f(2, 1) + f(8, "w") + f(14, 1), UnsupportedError, "in another file"),
    ):
        with pytest.raises(error, match=f"tensor 'w'.*{text}"):
            read(f(7, f(1, relu) + f(5, tensor)) + f(8, f(2, 13)))
    lone = onnx_files.node("Relu", ["gone"], ["y"])
    with pytest.raises(ArgumentError, match="no tensor 'gone'"):
        GraphModule(read_onnx(onnx_files.write([lone], {"x": (2,)}, {"y": ()})))


def test_numbers_that_are_not_raw(onnx_files) -> None:
    """float_data, int64_data and 16-bit floats in int32_data are read as well."""
    f = onnx_files.field
    half = np.float16([1.5, -2.0]).view(np.uint16)
    tensors = [
        f(1, 2) + f(2, 1) + f(8, "a") + f(4, 0.5) + f(4, -1.0),
        f(1, 2) + f(2, 10) + f(8, "b") + b"".join(f(5, int(n)) for n in half),
        f(1, 2) + f(2, 7) + f(8, "c") + f(7, -3) + f(7, 4),
    ]
    graph = f(1, onnx_files.node("Add", ["a", "b"], ["y"])) + b"".join(f(5, t) for t in tensors)
    path = onnx_files.write([], {}, {"y": ()})
    path.write_bytes(f(7, graph) + f(8, f(2, 13)))
    found = read_onnx(path).constants
    assert found["a"].tolist() == [0.5, -1.0]
    assert found["b"].tolist() == [1.5, -2.0]
    assert found["c"].tolist() == [-3, 4]


@settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_any_change_of_the_bytes_ends_in_our_errors(onnx_files, data) -> None:
    nodes = [
        onnx_files.node("Conv", ["x", "w"], ["c"], pads=[1, 1, 1, 1], strides=[2, 2]),
        onnx_files.node("Slice", ["c", "a", "b"], ["s"]),
        onnx_files.node("Softmax", ["s"], ["y"], axis=1),
    ]
    weights = {"w": rand(2, 1, 3, 3), "a": np.array([0]), "b": np.array([1])}
    path = onnx_files.write(nodes, {"x": (1, 1, 4, 4)}, {"y": ()}, weights)
    raw = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(
        raw[: data.draw(st.integers(1, len(raw)))] if data.draw(st.booleans()) else raw
    )
    with contextlib.suppress(FovealError):
        GraphModule(read_onnx(path))(torch.ones(1, 1, 4, 4))


@pytest.mark.assets
@pytest.mark.parametrize(
    ("name", "shapes"),
    [("pp-ocr-det", [(1, 3, 64, 96), (2, 3, 160, 128)]),
     ("pp-ocr-rec", [(1, 3, 48, 320), (2, 3, 48, 104)])],
)  # fmt: skip
def test_packaged_models_agree_with_onnxruntime(name, shapes) -> None:
    from PIL import Image, ImageDraw, ImageFont

    for b, _, height, width in shapes:
        image = Image.new("RGB", (width, height), "white")
        ImageDraw.Draw(image).text((8, 8), "Foveal", "black", ImageFont.load_default(28))
        one = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None] / 127.5 - 1
        x = torch.cat([one, 0.5 * one])[:b].contiguous()
        for ours, theirs in both(samples.path(name), x):
            assert theirs.max() > 0.5
            assert relative_error(ours, theirs) < 1e-4
