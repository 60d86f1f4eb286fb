"""The transforms of a codec as ONNX give what torch gives, in another runtime."""

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from foveal.codec import schemes
from foveal.codec.config import Source
from foveal.codec.model import FeatureCodec
from foveal.codec.onnx_export import export_onnx
from foveal.errors import ArgumentError

SMALL = {
    "channels": 6,
    "hidden": 8,
    "head_hidden": 12,
    "side": 3,
    "codewords": 4,
    "hyper_hidden": 8,
}
SOURCES = {
    "even": Source("a", 5, "map", 8, 12, True),
    "odd": Source("a", 5, "map", 7, 5),
    "vector": Source("a", 9, "vector"),
    "tokens": Source("a", 4, "tokens", 11),
    "grid": Source("a", 4, "tokens", 4, 6),
}


def made(scheme, sources, **sizes) -> FeatureCodec:
    torch.manual_seed(0)
    model = FeatureCodec(scheme(sources, schemes.Sizes(**{**SMALL, **sizes})))
    model.start({s.name: torch.randn(4, *s.shape) + 1 for s in sources})
    return model.finalise()


def run(path: Path, inputs: dict[str, torch.Tensor]) -> np.ndarray:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (out,) = session.run(None, {k: v.numpy() for k, v in inputs.items()})
    return np.asarray(out)


@pytest.mark.parametrize("linear", [False, True], ids=["plain", "linear"])
@pytest.mark.parametrize("stride", [1, 2, 4])
@pytest.mark.parametrize("kind", list(SOURCES))
def test_another_runtime_agrees(kind: str, stride: int, linear: bool, tmp_path: Path) -> None:
    source = SOURCES[kind]
    model = made(schemes.joint, [source], stride=stride, fine_blocks=stride // 2, linear=linear)
    x = torch.randn(3, *source.shape)
    with torch.no_grad():
        y = model.analyse(model.config.layers[0], {"a": x})
        large = 40 * y  # reaches below 0, where a ReLU must cut
        wanted = model.synthesise("a", {"joint": large})
    assert bool((wanted == 0).any()) == source.nonnegative
    assert bool((wanted < 0).any()) != source.nonnegative
    files = export_onnx(model, tmp_path / "onnx")
    assert [f.name for f in files] == ["analysis-joint.onnx", "head-a.onnx"]
    found = run(files[0], {"a": x})
    np.testing.assert_allclose(found, y.numpy(), rtol=1e-4, atol=1e-5)
    features = run(files[1], {"joint": large})
    assert features.shape == tuple(x.shape)
    np.testing.assert_allclose(features, wanted.numpy(), rtol=1e-4, atol=1e-3)


def test_several_sources_and_optional_layers(tmp_path: Path) -> None:
    sources = [Source("a", 3, "map", 6, 6), Source("b", 4, "map", 6, 6)]
    model = made(schemes.conditional, sources)
    files = {f.name: f for f in export_onnx(model, tmp_path)}
    values = {"a": torch.randn(2, 6, 3, 3), "b": torch.zeros(2, 6, 3, 3)}
    with torch.no_grad():
        wanted = model.synthesise("a", {"a": values["a"]})
    np.testing.assert_allclose(
        run(files["head-a.onnx"], values), wanted.numpy(), rtol=1e-4, atol=1e-4
    )


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    model = made(schemes.joint, [SOURCES["vector"]])
    (tmp_path / "file").write_text("")
    with pytest.raises(ArgumentError, match="folder is .*file, must be a folder"):
        export_onnx(model, tmp_path / "file")
