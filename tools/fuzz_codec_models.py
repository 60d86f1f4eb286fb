"""Models whose streams `fuzz_codec` damages, with their exported decoders and intact payloads."""

import importlib.util
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from foveal.codec.config import CodecConfig, Head, Layer, Source
from foveal.codec.container import unpack
from foveal.codec.decoding import tasks_sent
from foveal.codec.encoding import encode
from foveal.codec.model import FeatureCodec
from foveal.codec.numpy_decoder import export_numpy_decoder
from foveal.codec.schemes import Sizes, conditional, joint

GOLDEN = Path(__file__).parents[1] / "tests" / "golden" / "codec"
SMALL = (
    "codebook-global",
    "codebook-local",
    "codebook-vq",
    "factorized",
    "spatial",
    "conditional",
)


@dataclass(frozen=True)
class Target:
    """A model with its exported decoder and intact payloads."""

    name: str
    model: FeatureCodec
    port: Any
    payloads: list[bytes]

    def headless(self, version: int, flags: int) -> bytes:
        """Return magic, version, flags and the model's id."""
        return b"FV" + bytes([version << 4 | flags]) + self.model.model_id

    def sent(self, payload: bytes) -> list[str]:
        """Return the tasks that a payload sends, of those whose heads the port has."""
        heads = {head["name"] for head in self.port.load().spec["heads"]}
        return [t for t in tasks_sent(self.model, unpack(payload)) if t in heads]

    def sent_by_port(self, payload: bytes) -> list[str]:
        """Return the same by the exported decoder."""
        model = self.port.load()
        return self.port.tasks_sent(model, self.port.parse(payload, self.model.model_id.hex()))


def load_port(
    model: FeatureCodec, folder: Path, name: str, tasks: Sequence[str] | None = ()
) -> Any:
    """Export the NumPy decoder of a model, with the heads of some tasks, and import it."""
    path = folder / f"decoder_{name.replace('-', '_')}.py"
    export_numpy_decoder(model, path, tasks=tasks)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise RuntimeError(f"fuzz_codec: {path} cannot be imported")
    port = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(port)
    return port


def small_targets(folder: Path) -> list[Target]:
    """Return the golden models."""
    out: list[Target] = []
    for name in SMALL:
        model = FeatureCodec.load(GOLDEN / f"{name}.safetensors")
        data = json.loads((GOLDEN / f"{name}-golden.json").read_text())
        payloads = [bytes.fromhex(item["payload"]) for item in data["payloads"]]
        out.append(Target(name, model, load_port(model, folder, name), payloads))
    return out


def many_config() -> CodecConfig:
    """Return five tasks and five layers, with 14 pairs and with layers that heads may do without.

    A mask of so many pairs has two bytes, of which two bits must stay 0.
    """
    tasks = ("a", "b", "c", "d", "e")
    sources = tuple(Source(task, 2, height=6, width=5) for task in tasks)

    def layer(name: str, served: tuple[str, ...], prior: str) -> Layer:
        sizes: dict[str, Any] = {"channels": 4, "hidden": 4, "side": 2, "codewords": 3}
        return Layer(name, served, served, prior=prior, hyper_hidden=4, **sizes)

    layers = (
        layer("core", tasks, "codebook-local"),
        layer("left", ("a", "b", "c"), "spatial"),
        layer("right", ("c", "d", "e"), "codebook-local"),
        layer("fine", ("a", "e"), "factorized"),
        layer("last", ("d",), "spatial"),
    )
    heads = (
        Head("a", ("core",), ("left", "fine"), hidden=4),
        Head("b", ("core", "left"), hidden=4),
        Head("c", ("left",), ("core", "right"), hidden=4),
        Head("d", ("last",), ("right", "core"), hidden=4),
        Head("e", ("right", "fine"), ("core", "last"), hidden=4),
    )
    return CodecConfig(sources, layers, heads)


def many_target(folder: Path) -> Target:
    """Return a model of many pairs, and payloads of masks, of qualities for each, of one byte."""
    torch.manual_seed(14)
    model = FeatureCodec(many_config())
    x = {source.name: torch.randn(40, *source.shape) for source in model.config.sources}
    model.start(x)
    with torch.no_grad():
        for key, value in model.named_parameters():
            if key.endswith("log_gain"):
                value.add_(0.3 * torch.randn_like(value))
    model.finalise(x)
    one, few = ({key: value[:n] for key, value in x.items()} for n in (1, 3))
    wide = {key: torch.randn(2, 2, 9, 11) for key in x}
    each = {"a": 3, "b": 60, "c": 25, "d": 0, "e": 40}
    payloads = [
        encode(model, one, quality=30).payload,
        encode(model, one, tasks=["b"], quality=50).payload,
        encode(model, few, tasks=["a", "d"], quality=20).payload,
        encode(model, few, quality=each).payload,
        encode(model, one, tasks=["c", "e"], quality=each).payload,
        encode(model, wide, tasks=["b", "c", "d"], quality=each).payload,
        encode(model, x, tasks=["a", "c"], quality=10).payload,
    ]
    return Target("many", model, load_port(model, folder, "many", None), payloads)


def large_targets(folder: Path) -> list[Target]:
    """Return untrained models of the size of packaged ones: 64 channels, 8x8 latents."""
    sources = tuple(Source(name, 8, height=16, width=16) for name in ("a", "b", "c", "d"))
    out: list[Target] = []
    for scheme, prior in (
        (joint, "codebook-global"),
        (joint, "codebook-local"),
        (joint, "spatial"),
        (conditional, "codebook-local"),
    ):
        torch.manual_seed(len(out))
        model = FeatureCodec(scheme(sources, Sizes(prior=prior)))
        with torch.no_grad():
            for key, value in model.named_parameters():
                if ".context.last" in key:
                    value.normal_(0, 0.1)
                elif key.endswith("prior.base"):
                    value.sub_(0.8)
        model.finalise()
        name = f"large-{scheme.__name__}-{prior}"
        x = {source.name: torch.randn(17, 8, 16, 16) for source in sources}
        one = {key: value[:1] for key, value in x.items()}
        payloads = [
            encode(model, one, quality=20).payload,
            encode(model, one, tasks=["b"], quality=50).payload,
            encode(model, x, quality={"a": 0, "b": 10, "c": 20, "d": 30}).payload,
        ]
        out.append(Target(name, model, load_port(model, folder, name), payloads))
    return out
