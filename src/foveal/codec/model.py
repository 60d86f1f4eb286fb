"""Learned codec for features of frozen networks, one task or many in one stream.

Sources (features of frozen networks) go through the analysis transform of a layer, are scaled by
the gains of the wanted rate, rounded, and coded with the layer's prior. Heads bring the decoded
latents back to the features of one task each, and the frozen rest of that task's network answers.
How layers and heads are put together makes the scheme: `schemes` builds the usual ones.

Source: Yang et al., "Video Coding for Machines: Compact Visual Representation Compression for
Intelligent Collaborative Analytics", arXiv:2110.09241; Hu et al., arXiv:2106.08512. The schemes
and the codebook hyperprior are theirs; transforms, gains, integer path and losses are ours, since
the papers' full text is not known to us.
"""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from foveal._core.weights import load_weights, save_weights
from foveal.codec.config import CodecConfig, Head, Layer, Source
from foveal.codec.finalise import finalise
from foveal.codec.integer_model import IntegerModel
from foveal.codec.model_file import file_tensors, read_integers, stream_hash
from foveal.codec.network import CodecOutput, Network
from foveal.codec.rates import OFF, QUALITIES
from foveal.errors import ArgumentError

FORMAT = "foveal-codec-2"
MAX_MODEL_BYTES = 2 << 30


class FeatureCodec(Network):
    """Layers and heads of one model.

    A model can code only after `finalise`, which `load` implies; training works before it, and
    training anything but heads makes it necessary again.

    Args:
        config: What it is made of.
    """

    def __init__(self, config: CodecConfig) -> None:
        super().__init__(config)
        self._integers: IntegerModel | None = None
        self._model_id = b""

    @property
    def integers(self) -> IntegerModel:
        """The integer path.

        Raises:
            ArgumentError: the model has none yet.
        """
        if self._integers is None:
            raise ArgumentError(
                "FeatureCodec: model has no integer tables, must be finalised; call "
                "model.finalise(features) after training or load a model file"
            )
        return self._integers

    @property
    def model_id(self) -> bytes:
        """First 4 bytes of the SHA-256 of all that the meaning of the latents depends on.

        Heads do not count: one added later reads streams that were written before it.
        """
        _ = self.integers
        return self._model_id

    def adopt(self, integers: IntegerModel) -> None:
        """Take an integer path, and with it an id."""
        self._integers = integers
        self._model_id = stream_hash(self, integers)

    def forget(self) -> None:
        """Drop the integer path, since the weights that it belongs to change."""
        self._integers, self._model_id = None, b""

    def start(self, features: Mapping[str, Tensor]) -> None:
        """Fit the normalisation to training features; see `Network.start`."""
        self.forget()
        super().start(features)

    def finalise(
        self,
        features: Mapping[str, Tensor] | None = None,
        *,
        qualities: tuple[int, ...] = (0, 12, 25, 38, 51, 63),
    ) -> "FeatureCodec":
        """Round the weights to fp16 as stored, build the integer path, and return the model.

        Args:
            features: Training features that the tables are counted from; without them the tables
                are those of the Laplace density.
            qualities: Qualities at which latents are counted.

        Raises:
            ArgumentError: a weight has no finite fp16 value, or features are missing.
        """
        self.forget()
        self.adopt(finalise(self, features, qualities))
        return self

    def save(self, path: str | Path) -> None:
        """Write the finalised model: fp16 weights and integer tables.

        Raises:
            ArgumentError: the model was not finalised, or `path` does not end in .safetensors or
                cannot be written.
        """
        config = {"format": FORMAT, "codec": self.config.to_dict()}
        save_weights(Path(path), file_tensors(self, self.integers), config)

    @classmethod
    def load(cls, path: str | Path) -> "FeatureCodec":
        """Read a model written by `save`; the integer tables are read, not computed.

        Raises:
            ArgumentError: the file is not a feature codec or is inconsistent.
        """
        found, tensors = load_weights(Path(path), max_bytes=MAX_MODEL_BYTES)
        if found.get("format") != FORMAT or not isinstance(found.get("codec"), dict):
            raise ArgumentError(
                f"FeatureCodec.load: format is {found.get('format')!r}, must be {FORMAT!r}; give a "
                "file written by FeatureCodec.save"
            )
        config = CodecConfig.from_dict(found["codec"])
        with torch.device("meta"):  # the sizes are the file's word: no memory before they fit
            wanted = {k: v.shape for k, v in cls(config).state_dict().items()}
        state = {k[4:]: v.float() for k, v in tensors.items() if k.startswith("net.")}
        if {k: v.shape for k, v in state.items()} != wanted:
            raise ArgumentError(
                f"FeatureCodec.load: path is {str(path)!r}, whose tensors do not fit its "
                "configuration; write the file again"
            )
        model = cls(config)
        model.load_state_dict(state)
        model.adopt(read_integers(config, tensors))
        return model.eval()


__all__ = [
    "OFF",
    "QUALITIES",
    "CodecConfig",
    "CodecOutput",
    "FeatureCodec",
    "Head",
    "Layer",
    "Source",
]
