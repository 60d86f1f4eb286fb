"""The curve for other programs: ONNX, a `.cube` table, and one file of NumPy."""

from importlib.metadata import version
from pathlib import Path

import numpy as np
from jaxtyping import Float
from torch import Tensor

from foveal._core.files import atomic_write, write_bytes, write_text
from foveal._core.onnx_writer import Graph
from foveal.errors import ArgumentError, ShapeError
from foveal.lowlight import numpy_curve
from foveal.lowlight.concave_curve import FLOOR, NUM_KNOTS, THUMBNAIL, ConcaveCurve
from foveal.lowlight.curve_family import HUMAN_LEAST_SLOPE, HUMAN_MOST_GAIN, LOOKS

_LEVELS = NUM_KNOTS + 1


def export_onnx(
    model: ConcaveCurve, path: str | Path, *, strength: float = 1.0, look: str = "machine"
) -> None:
    """Write the network and its curve as one ONNX graph (opset 17) for images of any size.

    Input `image` (b, 3, height, width), fp32, finite sRGB; outputs `bright`, alike, and `curve`
    (b, 3, 256). Areas are pooled by products with matrices that the graph builds from the image's
    size; levels are taken by GatherElements.

    Args:
        model: The curve network; its thumbnail, mode and coupling are built in.
        path: Ends in .onnx.
        strength: As in `enhance`, built in.
        look: As in `enhance`, built in.
    """
    path = _path("export_onnx", path, ".onnx")
    if not 0 <= strength <= 1:
        raise ArgumentError(f"export_onnx: strength is {strength}, must be in [0, 1]")
    if look not in LOOKS:
        raise ArgumentError(f"export_onnx: look is {look!r}, must be one of {LOOKS}")
    g = Graph("ConcaveCurve")
    image = g.input("image", ("b", 3, "height", "width"))
    x = g.node("Clip", image, g.constant(0.0), g.constant(1.0))
    curve = _finish(g, _predict(g, x, image, model), model, strength, look)
    g.output(_apply(g, x, image, curve, model), ("b", 3, "height", "width"))
    g.output(curve, ("b", 3, _LEVELS))
    about = {k: str(v) for k, v in model.config().items()}
    about |= {"strength": str(strength), "look": look}
    write_bytes(path, g.encode(producer="foveal", version=version("foveal"), about=about))


def _predict(g: Graph, x: str, image: str, model: ConcaveCurve) -> str:
    size = g.node("Shape", image)
    rows, columns = (_pooling(g, size, axis, model.thumbnail) for axis in (2, 3))
    columns = g.node("Transpose", columns, perm=[1, 0])
    thumb = g.node("MatMul", g.node("MatMul", rows, x), columns)
    state = {k: v.detach().cpu().float().numpy() for k, v in model.state_dict().items()}

    def convolve(name: str, value: str, stride: int = 1) -> str:
        weight, bias = (g.constant(state[f"{name}.{k}"], f"{name}.{k}") for k in ("weight", "bias"))
        return g.node("Conv", value, weight, bias, pads=[1, 1, 1, 1], strides=[stride, stride])

    x1 = g.node("Relu", convolve("conv1", thumb))
    x2 = g.node("Relu", convolve("conv2", x1))
    x3 = g.node("Relu", convolve("conv3", x2))
    x4 = g.node("Relu", convolve("conv4", g.node("Concat", x2, x3, axis=1)))
    x5 = g.node("Relu", convolve("conv5", g.node("Concat", x1, x4, axis=1)))
    down = convolve("down2", convolve("down1", x5, 2), 2)
    pooled = g.node("ReduceMean", down, axes=[2, 3], keepdims=0)
    weight, bias = (g.constant(state[f"fc.{k}"], f"fc.{k}") for k in ("weight", "bias"))
    u = g.node("Relu", g.node("Gemm", pooled, weight, bias, transB=1))
    u = g.node("Reshape", u, g.constant([-1, NUM_KNOTS, 3]))
    u = g.node("Transpose", u, perm=[0, 2, 1])
    knots, levels = np.arange(1, _LEVELS)[:, None], np.arange(_LEVELS)[None]
    twice = np.minimum(knots, levels).astype(np.float32)  # the suffix sum, then the prefix sum
    curve = g.node("MatMul", u, g.constant(twice))
    last = g.node("MatMul", u, g.constant(twice[:, -1:].copy()))
    if model.mode == "published":
        return g.node("Div", curve, g.node("Add", last, g.constant(1e-10)))
    lacking = g.node("Relu", g.node("Sub", g.constant(FLOOR * NUM_KNOTS), last))
    raised = g.node("Add", curve, g.node("Mul", lacking, g.constant(_identity())))
    return g.node("Div", raised, g.node("Add", last, lacking))


def _identity() -> np.ndarray:
    return np.linspace(0, 1, _LEVELS, dtype=np.float32)


def _pooling(g: Graph, size: str, axis: int, kind: str) -> str:
    """Add the (16, n) matrix that makes an axis of the thumbnail from one of n pixels."""
    n = g.node("Gather", size, g.constant(axis), axis=0)
    cell = g.constant(np.arange(THUMBNAIL, dtype=np.int64)[:, None])
    one, cells = g.constant(1), g.constant(THUMBNAIL)
    start = g.node("Div", g.node("Mul", cell, n), cells)
    if kind == "nearest":
        end = g.node("Add", start, one)
    else:
        after = g.node("Mul", g.node("Add", cell, one), n)
        rounded = g.node("Add", after, g.constant(THUMBNAIL - 1))
        end = g.node("Div", rounded, cells)
    pixel = g.node("Range", g.constant(0), n, one)
    inside = g.node("And", g.node("GreaterOrEqual", pixel, start), g.node("Less", pixel, end))
    width = g.node("Cast", g.node("Sub", end, start), to=1)
    return g.node("Div", g.node("Cast", inside, to=1), width)


def _finish(g: Graph, curve: str, model: ConcaveCurve, strength: float, look: str) -> str:
    x = _identity()
    if model.coupled or look == "human":
        mean = g.node("ReduceMean", curve, axes=[1], keepdims=1)
        curve = g.node("Expand", mean, g.node("Shape", curve))
    if look == "human":
        line = np.minimum(1 - HUMAN_LEAST_SLOPE * (1 - x), HUMAN_MOST_GAIN * x)
        curve = g.node("Min", curve, g.constant(line.astype(np.float32)))
    identity = g.constant(x)
    change = g.node("Mul", g.node("Sub", curve, identity), g.constant(float(strength)))
    return g.node("Add", identity, change, name="curve")


def _apply(g: Graph, x: str, image: str, curve: str, model: ConcaveCurve) -> str:
    flat = g.node("Reshape", x, g.constant([0, 3, -1]))
    position = g.node("Mul", flat, g.constant(float(NUM_KNOTS)))
    below = g.node("Floor", position)
    if model.mode == "closed":
        below = g.node("Min", below, g.constant(float(NUM_KNOTS - 1)))
    index = g.node("Cast", below, to=7)
    value = g.node("GatherElements", curve, index, axis=2)
    if model.mode == "closed":
        above = g.node("Add", index, g.constant(1))
        step = g.node("Sub", g.node("GatherElements", curve, above, axis=2), value)
        weight = g.node("Sub", position, below)
        value = g.node("Add", value, g.node("Mul", step, weight))
    return g.node("Reshape", value, g.node("Shape", image), name="bright")


def export_cube(
    curve: Float[Tensor, "3 levels"], path: str | Path, *, title: str = "Foveal"
) -> None:
    """Write one curve as a 1-D `.cube` table, as FFmpeg's `lut1d`, Resolve and others read it.

    Joined by lines (`interp=linear`, FFmpeg's default), the table is the curve itself.

    Args:
        curve: Of an image or clip: `Enhanced.curve`, `EnhancedVideo.curve`. In [0, 1].
        path: Ends in .cube.
        title: What programs show.
    """
    path = _path("export_cube", path, ".cube")
    if curve.ndim != 2 or curve.shape[0] != 3 or curve.shape[1] < 2:
        raise ShapeError(f"export_cube: curve has shape {tuple(curve.shape)}, must be (3, levels)")
    values = curve.detach().cpu().double().numpy().T
    if not ((values >= -1e-6) & (values <= 1 + 1e-6)).all():
        raise ArgumentError("export_cube: curve has values outside [0, 1] or NaN, must be a curve")
    rows = "".join(f"{r:.9f} {g:.9f} {b:.9f}\n" for r, g, b in values.clip(0, 1))
    name = " ".join(title.replace('"', "'").split())
    head = f'TITLE "{name}"\nLUT_1D_SIZE {len(values)}\nDOMAIN_MIN 0 0 0\nDOMAIN_MAX 1 1 1\n'
    write_text(path, head + rows)


def export_numpy(model: ConcaveCurve, path: str | Path) -> None:
    """Write a readable .py and the weights beside it (.npz), which want NumPy and nothing else.

    Args:
        model: The curve network.
        path: Ends in .py; the weights get the same name.
    """
    path = _path("export_numpy", path, ".py")
    settings = np.array([model.thumbnail, model.mode, str(model.coupled)])
    state = {k: v.detach().cpu().float().numpy() for k, v in model.state_dict().items()}
    with atomic_write(path.with_suffix(".npz")) as temporary:
        np.savez(temporary, settings=settings, **state)
    write_text(path, Path(numpy_curve.__file__).read_text(encoding="utf-8"))


def _path(where: str, path: str | Path, suffix: str) -> Path:
    path = Path(path)
    if path.suffix.lower() != suffix:
        raise ArgumentError(f"{where}: path is {path}, must end in {suffix}; choose another name")
    return path
