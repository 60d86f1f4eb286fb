"""Put layers of several separate codecs into one, as if they had been trained together.

    PYTHONPATH=src python tools/merge_codecs.py --out four.safetensors a.safetensors:scene,normal \
        b.safetensors:depth,keypoints

Separate layers share nothing, so that each is coded and decoded as before.
"""

import argparse
from pathlib import Path

from torch import Tensor

from foveal.codec.config import CodecConfig, Head, Layer, Source
from foveal.codec.integer_model import IntegerLayer, IntegerModel
from foveal.codec.model import FeatureCodec


def merge(parts: list[tuple[FeatureCodec, list[str]]]) -> FeatureCodec:
    """Return one codec of the named layers, each of which serves one head."""
    sources: list[Source] = []
    layers: list[Layer] = []
    heads: list[Head] = []
    integers: list[IntegerLayer] = []
    state: dict[str, Tensor] = {}
    for model, names in parts:
        config = model.config
        for name in names:
            layer = next(item for item in config.layers if item.name == name)
            own = [head for head in config.heads if name in head.layers + head.optional]
            if layer.parents or [head.layers for head in own] != [(name,)]:
                raise ValueError(f"merge: layer {name} must be separate, with a head of its own")
            layers.append(layer)
            heads += own
            sources += [s for s in config.sources if s.name in {*layer.inputs, own[0].name}]
            integers.append(next(item for item in model.integers.layers if item.name == name))
        state |= model.state_dict()
    whole = FeatureCodec(CodecConfig(tuple(sources), tuple(layers), tuple(heads)))
    whole.load_state_dict({key: state[key] for key in whole.state_dict()})
    whole.adopt(IntegerModel(tuple(integers), ()))
    return whole


def main() -> None:
    """Parse the command line and write the codec."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="+", help="FILE:LAYER,LAYER")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    parts: list[tuple[FeatureCodec, list[str]]] = []
    for text in args.parts:
        path, _, names = text.rpartition(":")
        parts.append((FeatureCodec.load(path), names.split(",")))
    merge(parts).save(args.out)


if __name__ == "__main__":
    main()
