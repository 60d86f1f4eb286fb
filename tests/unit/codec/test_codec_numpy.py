"""An exported decoder, run where neither torch nor foveal can be imported, decodes the same."""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from foveal.codec import numpy_features, numpy_template
from foveal.codec.config import CodecConfig, Source
from foveal.codec.encoding import encode
from foveal.codec.model import FeatureCodec
from foveal.codec.numpy_decoder import export_numpy_decoder
from foveal.codec.prior.config import KINDS
from foveal.codec.schemes import Sizes, conditional, joint, separate
from foveal.codec.stream import decode, decode_symbols, extract
from foveal.errors import ArgumentError

SCHEMES: dict[str, Callable[..., CodecConfig]] = {
    "joint": joint,
    "separate": separate,
    "conditional": conditional,
}
SOURCES = (
    Source("edges", 3, height=7, width=9, nonnegative=True),
    Source("depth", 2, height=7, width=9),
    Source("scene", 4, height=7, width=9, nonnegative=True),
)
OTHERS = (
    Source("map", 3, height=5, width=4),
    Source("vector", 6, kind="vector", nonnegative=True),
    Source("tokens", 4, kind="tokens", height=6),
    Source("grid", 4, kind="tokens", height=3, width=5),
)
NAMES = [f"{kind}-{scheme}" for kind in KINDS for scheme in SCHEMES]
NAMES += ["forms", "groups"]
TOLERANCE = 1e-5
Features = dict[str, Tensor]
CHILD = """
import sys
sys.modules["torch"] = None
sys.modules["foveal"] = None
import importlib.util
from pathlib import Path
import numpy as np

for path in sorted(Path(sys.argv[1]).glob("*.py")):
    spec = importlib.util.spec_from_file_location("decoder", path)
    decoder = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(decoder)
    for stream in sorted(path.parent.glob(path.stem + "+*.fvl")):
        payload = stream.read_bytes()
        out = {f"latents.{k}": v for k, v in decoder.decode(payload).items()}
        out |= {f"features.{k}": v for k, v in decoder.features(payload).items()}
        np.savez(stream.with_suffix(".npz"), **out)
assert not {"safetensors", "jaxtyping"} & set(sys.modules)
"""


LINEAR = ("spatial", "factorized")
"""Priors whose models have linear parts too."""


def features_of(model: FeatureCodec, count: int, size: tuple[int, int] | None = None) -> Features:
    """Return random features, one scale for all."""
    out: Features = {}
    for source in model.config.sources:
        shape = source.shape if size is None else (source.channels, *size)
        x = 2 * torch.randn(count, *shape)
        out[source.name] = x.relu() if source.nonnegative else x
    return out


def small_model(name: str) -> FeatureCodec:
    """Return a finalised model with random weights whose layers skip some latents."""
    torch.manual_seed(NAMES.index(name))
    kind, _, scheme = name.rpartition("-")
    stride = 1 + NAMES.index(name) % 2
    kind = kind or {"forms": "factorized", "groups": "codebook-local"}[name]
    sizes = Sizes(6, stride, 8, 8, 1, kind, side=3, codewords=4, hyper_hidden=5, fine_blocks=stride)
    sizes = replace(sizes, linear=kind in LINEAR)
    config = {
        "forms": lambda: separate(OTHERS, sizes),
        "groups": lambda: joint(SOURCES, replace(sizes, groups=2)),
    }.get(name, lambda: SCHEMES[scheme](SOURCES, sizes))()
    model = FeatureCodec(config)
    x = features_of(model, 64)
    model.start(x)
    with torch.no_grad():
        for key, value in model.named_parameters():
            if ".context.last" in key:
                value.normal_(0, 0.3)
            elif key.endswith("prior.base"):
                value.add_(torch.randn_like(value)).sub_(0.4)
            elif key.endswith("log_gain"):
                value.add_(0.3 * torch.randn_like(value))
    return model.finalise(x, qualities=(5, 40))


def payloads_of(model: FeatureCodec) -> dict[str, bytes]:
    """Return payloads of one model by what they show."""
    x, tasks = features_of(model, 2), list(model.config.tasks)
    each = {task: 5 + 15 * i for i, task in enumerate(tasks)}
    out = {f"quality-{q}": encode(model, x, quality=q).payload for q in (0, 17, 63)}
    out["subset"] = encode(model, x, tasks=tasks[1:], quality=30).payload
    out["each"] = encode(model, x, quality=each).payload
    out["target"] = encode(model, x, target_bytes=200).payload
    out["lanes"] = encode(model, features_of(model, 101), quality=25).payload
    out["extracted"] = extract(model, out["each"], tasks=tasks[-1:])
    if model.config.free_order:
        backwards = [layer.name for layer in model.config.layers][::-1]
        out["backwards"] = encode(model, x, order=backwards, quality=each).payload
        out["best"] = encode(model, features_of(model, 3), order="best", quality=35).payload
        out["extracted-backwards"] = extract(model, out["backwards"], tasks=tasks[:1])
        out["extracted-middle"] = extract(model, out["backwards"], tasks=tasks[1:2])
    prior = model.integers.layers[0].prior.config
    if prior.any_size:
        for size in ((1, 1), (13, 6), (32, 17)):
            x = features_of(model, 2, size)
            out[f"size-{size[0]}x{size[1]}"] = encode(model, x, quality=each).payload
    if prior.kind in ("codebook-global", "spatial"):
        out["many"] = encode(model, features_of(model, 260), quality=20).payload
    return out


@dataclass
class Case:
    """A model, its payloads, and what the child process decoded."""

    model: FeatureCodec
    payloads: dict[str, bytes] = field(default_factory=dict[str, bytes])
    found: dict[str, dict[str, np.ndarray]] = field(default_factory=dict)


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Case]:
    """All models and payloads, decoded by one child process."""
    folder = tmp_path_factory.mktemp("decoders")
    out: dict[str, Case] = {}
    for name in NAMES:
        model = small_model(name)
        out[name] = Case(model, payloads_of(model))
        export_numpy_decoder(model, folder / f"{name}.py")
        for label, payload in out[name].payloads.items():
            (folder / f"{name}+{label}.fvl").write_bytes(payload)
    command = [sys.executable, "-W", "error", "-c", CHILD, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder)
    assert done.returncode == 0, done.stderr
    for name, case in out.items():
        for label in case.payloads:
            with np.load(folder / f"{name}+{label}.npz") as data:
                case.found[label] = dict(data)
    return out


@pytest.mark.parametrize("name", NAMES)
def test_integers_are_equal(cases: dict[str, Case], name: str) -> None:
    case = cases[name]
    coded = 0
    for label, payload in case.payloads.items():
        wanted = decode_symbols(case.model, payload)
        found = {k[8:]: v for k, v in case.found[label].items() if k.startswith("latents.")}
        assert found.keys() == wanted.keys(), label
        for key, value in wanted.items():
            assert found[key].dtype == np.int64
            assert np.array_equal(found[key], value), (label, key)
            coded += int((value != 0).sum())
    assert coded > 500


@pytest.mark.parametrize("name", NAMES)
def test_features_agree(cases: dict[str, Case], name: str) -> None:
    case = cases[name]
    for label, payload in case.payloads.items():
        wanted = decode(case.model, payload)
        found = {k[9:]: v for k, v in case.found[label].items() if k.startswith("features.")}
        assert found.keys() == wanted.keys(), label
        for key, value in wanted.items():
            assert found[key].dtype == np.float32
            assert found[key].shape == tuple(value.shape), (label, key)
            gap = float(np.abs(found[key] - value.numpy()).max())
            assert gap <= TOLERANCE * float(value.abs().max()), (label, key)


@pytest.mark.parametrize("name", [name for name in NAMES if name.endswith("conditional")])
def test_extracted_layers_keep_those_that_they_were_coded_given(
    cases: dict[str, Case], name: str
) -> None:
    case = cases[name]
    for whole, part, task in (
        ("each", "extracted", "scene"),
        ("backwards", "extracted-backwards", "edges"),
        ("backwards", "extracted-middle", "depth"),
    ):
        before = decode_symbols(case.model, case.payloads[whole])
        after = decode_symbols(case.model, case.payloads[part])
        assert task in after
        assert all(np.array_equal(value, before[key]) for key, value in after.items())
    middle = decode_symbols(case.model, case.payloads["extracted-middle"])
    assert sorted(middle) == ["depth", "scene"]  # edges came after depth


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[FeatureCodec, Path, bytes]:
    """One model, its decoder, and a payload of two tasks."""
    model = small_model("codebook-local-separate")
    path = tmp_path_factory.mktemp("one") / "decoder.py"
    export_numpy_decoder(model, path)
    payload = encode(model, features_of(model, 1), tasks=["edges", "scene"]).payload
    return model, path, payload


def run(path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command line of a decoder."""
    command = [sys.executable, "-W", "error", str(path), *arguments]
    return subprocess.run(command, capture_output=True, text=True)


def test_command_line(exported: tuple[FeatureCodec, Path, bytes], tmp_path: Path) -> None:
    model, path, payload = exported
    (tmp_path / "a.fvl").write_bytes(payload)
    done = run(path, str(tmp_path / "a.fvl"), str(tmp_path / "out.npz"))
    assert (done.returncode, done.stderr) == (0, "")
    with np.load(tmp_path / "out.npz") as data:
        names = ["features.edges", "features.scene", "latents.edges", "latents.scene"]
        assert sorted(data) == names
        assert np.array_equal(data["latents.scene"], decode_symbols(model, payload)["scene"])
    (tmp_path / "a.fvl").write_bytes(payload[:-3])
    done = run(path, str(tmp_path / "a.fvl"), str(tmp_path / "no.npz"))
    assert done.returncode == 1
    assert "checksum" in done.stderr
    assert not (tmp_path / "no.npz").exists()
    assert run(path).returncode == 2


def load(path: Path, name: str):
    """Import a decoder from its path."""
    import importlib.util

    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    decoder = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(decoder)
    return decoder


def test_tasks_of_the_features(exported: tuple[FeatureCodec, Path, bytes]) -> None:
    _, path, payload = exported
    decoder = load(path, "some_tasks")
    assert list(decoder.features(payload, ["scene"])) == ["scene"]
    with pytest.raises(decoder.BitstreamError, match=r"send \['depth'\], only \['edges', 'sc"):
        decoder.features(payload, ["depth", "scene"])
    with pytest.raises(ValueError, match=r"'night'.*'edges', 'depth', 'scene'"):
        decoder.features(payload, ["night"])
    text = path.read_text()
    assert "import torch" not in text
    assert "pickle" not in text.replace("allow_pickle=False", "")


def test_a_file_for_integers_alone_is_smaller(
    exported: tuple[FeatureCodec, Path, bytes], tmp_path: Path
) -> None:
    model, path, payload = exported
    export_numpy_decoder(model, tmp_path / "small.py", tasks=())
    decoder = load(tmp_path / "small.py", "integers_alone")
    found = decoder.decode(payload)
    assert all(np.array_equal(v, found[k]) for k, v in decode_symbols(model, payload).items())
    assert decoder.features(payload) == {}
    assert (tmp_path / "small.py").stat().st_size < path.stat().st_size
    export_numpy_decoder(model, tmp_path / "again.py", tasks=())
    assert (tmp_path / "again.py").read_bytes() == (tmp_path / "small.py").read_bytes()


def test_another_model_and_another_version(exported: tuple[FeatureCodec, Path, bytes]) -> None:
    model, path, _ = exported
    decoder = load(path, "other_model")
    other = small_model("codebook-local-joint")
    payload = encode(other, features_of(other, 1)).payload
    ids = f"{other.model_id.hex()}.*{model.model_id.hex()}"
    with pytest.raises(decoder.BitstreamError, match=ids):
        decoder.decode(payload)
    with pytest.raises(decoder.BitstreamError, match="version is 3, must be 2"):
        decoder.decode(payload[:2] + bytes([0x30 | payload[2] & 15]) + payload[3:])


def test_export_refuses_what_is_not_there(tmp_path: Path) -> None:
    model = small_model("factorized-joint")
    with pytest.raises(ArgumentError, match="tasks is .*'night'.*must be a list of some of"):
        export_numpy_decoder(model, tmp_path / "a.py", tasks=["night"])
    with pytest.raises(ArgumentError, match="must be finalised"):
        export_numpy_decoder(FeatureCodec(model.config), tmp_path / "a.py")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", NAMES)
def test_both_halves_work_where_they_lie(
    cases: dict[str, Case], name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The two files that an export joins are modules too, so that they are checked like others."""
    case = cases[name]
    export_numpy_decoder(case.model, tmp_path / "decoder.py")
    monkeypatch.setattr(numpy_template, "ARCHIVE", load(tmp_path / "decoder.py", "text").ARCHIVE)
    numpy_template.load.cache_clear()
    try:
        for label in case.payloads.keys() - {"many", "lanes", "size-32x17"}:
            payload = case.payloads[label]
            found = {f"latents.{k}": v for k, v in numpy_template.decode(payload).items()}
            found |= {f"features.{k}": v for k, v in numpy_features.features(payload).items()}
            assert found.keys() == case.found[label].keys()
            for key, value in found.items():
                assert np.array_equal(value, case.found[label][key])
        (tmp_path / "a.fvl").write_bytes(case.payloads["each"])
        arguments = [str(tmp_path / "a.fvl"), str(tmp_path / "a.npz")]
        assert numpy_features.main(arguments) == 0
        assert (tmp_path / "a.npz").is_file()
        (tmp_path / "a.fvl").write_bytes(b"FV")
        assert numpy_features.main(arguments) == 1
        assert numpy_features.main([]) == 2
    finally:
        numpy_template.load.cache_clear()
