"""What other programs get: ONNX, .cube and NumPy agree with torch."""

import subprocess
import sys

import numpy as np
import pytest
import torch

from foveal import lowlight
from foveal.errors import ArgumentError, ShapeError
from foveal.lowlight.numpy_curve import NumpyCurve

SIZES = [(1, 1), (16, 16), (17, 300), (40, 23)]


def _model(**settings) -> lowlight.ConcaveCurve:
    model = lowlight.ConcaveCurve(**settings).eval().requires_grad_(False)
    model.load_state_dict(lowlight.ConcaveCurve.load().state_dict())
    return model


def _run(path, image: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    bright, curve = session.run(["bright", "curve"], {"image": image.numpy()})
    return bright, curve


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"thumbnail": "nearest", "mode": "published"},
        {"thumbnail": "nearest"},
        {"coupled": True},
    ],
)
def test_onnx_agrees_at_every_size_and_setting(tmp_path, settings) -> None:
    model = _model(**settings)
    lowlight.export_onnx(model, tmp_path / "c.onnx")
    for size in SIZES:
        image = torch.rand(2, 3, *size) * 0.3
        bright, curve = _run(tmp_path / "c.onnx", image)
        assert np.abs(curve - model.predict(image).numpy()).max() < 1e-5
        assert np.abs(bright - model(image).numpy()).max() < (
            2e-2 if model.mode != "closed" else 1e-5
        )
        assert (np.abs(bright - model(image).numpy()) > 1e-5).mean() < 0.01


@pytest.mark.parametrize(("strength", "look"), [(0.0, "machine"), (0.4, "machine"), (0.7, "human")])
def test_onnx_has_strength_and_look_built_in(tmp_path, strength, look) -> None:
    model, image = _model(), torch.rand(1, 3, 30, 20)
    lowlight.export_onnx(model, tmp_path / "c.onnx", strength=strength, look=look)
    bright, curve = _run(tmp_path / "c.onnx", image)
    wanted = lowlight.enhance(image[0], model, strength=strength, look=look)
    assert np.abs(curve[0] - wanted.curve.numpy()).max() < 1e-5
    assert np.abs(bright[0] - wanted.image.numpy()).max() < 1e-5


def test_onnx_of_a_dead_network_is_the_identity(tmp_path) -> None:
    model = _model()
    for value in model.parameters():
        value.zero_()
    lowlight.export_onnx(model, tmp_path / "c.onnx")
    image = torch.rand(1, 3, 9, 9)
    assert np.abs(_run(tmp_path / "c.onnx", image)[0] - image.numpy()).max() < 1e-6


def test_onnx_holds_no_operation_that_small_runtimes_lack(tmp_path) -> None:
    lowlight.export_onnx(_model(), tmp_path / "c.onnx")
    data = (tmp_path / "c.onnx").read_bytes()
    for op in (b"GatherND", b"ScatterND", b"Loop", b"If", b"NonZero"):
        assert b'"' + bytes([len(op)]) + op not in data  # field 4 of a node: its operation
    assert b'"\x0eGatherElements' in data
    assert len(data) < 158_061 * 4 + 300_000


def _by_ffmpeg(path, samples: np.ndarray, depth: int, how: str) -> np.ndarray:
    """Let FFmpeg's lut1d read the table and apply it to planes (3, height, width)."""
    import av

    name = "gbrp" if depth == 8 else f"gbrp{depth}le"
    frame = av.VideoFrame(samples.shape[2], samples.shape[1], name)
    for plane, channel in zip(frame.planes, (1, 2, 0), strict=True):
        rows = np.zeros((samples.shape[1], plane.line_size // samples.itemsize), samples.dtype)
        rows[:, : samples.shape[2]] = samples[channel]
        plane.update(rows)
    graph = av.filter.Graph()
    height, width = samples.shape[1:]
    source = graph.add_buffer(
        width=width, height=height, format=av.VideoFormat(name), time_base="1/25"
    )
    table = graph.add("lut1d", f"{path}:interp={how}")
    sink = graph.add("buffersink")
    source.link_to(table)
    table.link_to(sink)
    graph.configure()
    frame.pts = 0
    graph.push(frame)
    out = graph.pull()
    assert out.format.name == name
    planes: list[np.ndarray] = [samples] * 3
    for plane, channel in zip(out.planes, (1, 2, 0), strict=True):
        rows = np.frombuffer(plane, samples.dtype).reshape(height, -1)
        planes[channel] = rows[:, :width]
    return np.stack(planes)


@pytest.mark.parametrize(("depth", "how"), [(8, "nearest"), (8, "linear"), (10, "linear")])
def test_ffmpeg_applies_the_cube_as_we_do(tmp_path, depth, how) -> None:
    curve = _model().predict(torch.rand(1, 3, 20, 20) * 0.05)[0]
    lowlight.export_cube(curve, tmp_path / "c.cube", title='a "name"\nof two lines')
    kind = np.uint8 if depth == 8 else np.uint16
    levels = np.arange(1 << depth, dtype=kind)
    samples = np.stack([levels, levels[::-1], np.roll(levels, 7)])[:, None].repeat(4, 1)
    ours = lowlight.apply_table(samples, lowlight.lookup_table(curve, bit_depth=depth))
    theirs = _by_ffmpeg(tmp_path / "c.cube", samples, depth, how)
    # FFmpeg cuts off where we round
    assert np.abs(ours.astype(int) - theirs.astype(int)).max() <= 1
    assert np.abs(ours.astype(int) - samples).max() > 50


def test_cube_is_what_the_format_says(tmp_path) -> None:
    curve = _model().predict(torch.rand(1, 3, 8, 8) * 0.1)[0]
    lowlight.export_cube(curve, tmp_path / "c.cube")
    lines = (tmp_path / "c.cube").read_text().splitlines()
    assert lines[:4] == [
        'TITLE "Foveal"',
        "LUT_1D_SIZE 256",
        "DOMAIN_MIN 0 0 0",
        "DOMAIN_MAX 1 1 1",
    ]
    rows = np.array([[float(v) for v in line.split()] for line in lines[4:]])
    assert np.abs(rows.T - curve.numpy()).max() < 1e-8
    with pytest.raises(ArgumentError, match="NaN"):
        lowlight.export_cube(curve * float("nan"), tmp_path / "d.cube")
    with pytest.raises(ArgumentError, match=r"must end in \.cube"):
        lowlight.export_cube(curve, tmp_path / "d.txt")


def test_wrong_shapes_are_named(tmp_path) -> None:
    with pytest.raises(ShapeError, match=r"curve has shape \(1, 256\)"):
        lowlight.export_cube(torch.zeros(1, 256), tmp_path / "d.cube")


@pytest.mark.parametrize("settings", [{}, {"thumbnail": "nearest", "mode": "published"}])
def test_the_numpy_file_runs_alone(tmp_path, settings) -> None:
    model = _model(**settings)
    lowlight.export_numpy(model, tmp_path / "curve.py")
    image = np.random.default_rng(0).integers(0, 70, (33, 21, 3), np.uint8)
    np.save(tmp_path / "in.npy", image)
    code = (
        "import sys, runpy; sys.argv = ['curve.py', 'in.npy', 'out.npy'];"
        "runpy.run_path('curve.py', run_name='__main__');"
        "assert not {'torch', 'foveal', 'PIL'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)
    out = np.load(tmp_path / "out.npy")
    assert out.dtype == np.uint8
    planes = torch.from_numpy(image).permute(2, 0, 1)[None] / 255
    wanted = (model(planes)[0] * 255).permute(1, 2, 0).numpy()
    assert np.abs(out - wanted).max() < 0.51
    again = NumpyCurve.load(tmp_path / "curve.npz")
    assert (again.thumbnail, again.mode) == (model.thumbnail, model.mode)


def test_the_numpy_file_refuses_by_name(tmp_path) -> None:
    lowlight.export_numpy(_model(), tmp_path / "curve.py")
    curve = NumpyCurve.load(tmp_path / "curve.npz")
    for bad, words in (
        (np.zeros((4, 4), np.uint8), "shape"),
        (np.zeros((0, 4, 3), np.uint8), "shape"),
        (np.full((4, 4, 3), np.nan, np.float32), "NaN"),
        (np.zeros((4, 4, 3), np.int32), "int32"),
    ):
        with pytest.raises(ValueError, match=words):
            curve.enhance(bad)
    with pytest.raises(ValueError, match="strength is 2"):
        curve.enhance(np.zeros((4, 4, 3), np.uint8), strength=2)
    np.savez(tmp_path / "other.npz", a=np.zeros(3))
    with pytest.raises(ValueError, match="must be an exported curve"):
        NumpyCurve.load(tmp_path / "other.npz")
