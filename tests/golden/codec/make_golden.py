"""Write the golden files of the codec format: a tiny model, its symbols and their payload.

Run as `python tests/golden/codec/make_golden.py`; a changed payload needs a line in the changelog.
"""

from pathlib import Path

import numpy as np
import torch

from foveal.codec.container import pack
from foveal.codec.entropy import encode_symbols
from foveal.codec.feature_codec import CodecConfig, FeatureCodec

HERE = Path(__file__).parent
TINY = CodecConfig(
    in_channels=4,
    in_size=8,
    latent_channels=6,
    hidden=8,
    blocks=1,
    hyper=3,
    codewords=4,
    levels=16,
)


def tiny_model() -> FeatureCodec:
    """Return a finalised model whose weights are a fixed formula."""
    model = FeatureCodec(TINY)
    with torch.no_grad():
        for i, (name, value) in enumerate(sorted(model.named_parameters())):
            wave = torch.sin(torch.arange(value.numel(), dtype=torch.float64) * 0.7 + i)
            value.copy_(0.3 * wave.reshape(value.shape).to(value.dtype))
            if name == "prior.base":
                value.add_(0.4)
    return model.finalise()


def symbols() -> tuple[np.ndarray, np.ndarray]:
    """Return z [3, 3] and y [3, 96] by formula, with outliers that need escapes."""
    z = (np.arange(9).reshape(3, 3) * 5 % 7 - 3).astype(np.int64)
    y = (np.arange(3 * 96).reshape(3, 96) * 37 % 11 - 5).astype(np.int64) // 2
    y[1, 10], y[2, 95] = 4000, -777
    y[0] = 0
    return z, y


def main() -> None:
    """Write the files beside this script."""
    model = tiny_model()
    model.save(HERE / "tiny.safetensors")
    prior = model.integer_prior
    z, y = symbols()
    indices = prior.indices(z)
    streams = [
        encode_symbols(
            [
                (prior.z_tables, z[i], np.arange(prior.hyper)),
                (prior.y_tables, y[i], indices[i]),
            ]
        )
        for i in range(len(z))
    ]
    (HERE / "tiny.fvl").write_bytes(pack(model.model_id, streams))
    np.save(HERE / "tiny_symbols.npy", y.astype(np.int32))


if __name__ == "__main__":
    main()
