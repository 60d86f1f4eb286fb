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
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from foveal._core.weights import load_weights, save_weights
from foveal.codec.config import CodecConfig, Head, Layer, Source
from foveal.codec.context import Context
from foveal.codec.integer_model import IntegerModel, Ints
from foveal.codec.prior.base import (
    LOG_STEP,
    latent_bits,
    make_prior,
    round_straight_through,
    table_index,
)
from foveal.codec.prior.integers import FRACTION
from foveal.codec.rates import OFF, QUALITIES, SILENT, Gains, gains
from foveal.codec.transforms import Analysis, Synthesis, from_map, mean_and_std, quantise, to_map
from foveal.errors import ArgumentError

FORMAT = "foveal-codec-2"


@dataclass(frozen=True, slots=True)
class CodecOutput:
    """What a pass in training gives.

    Args:
        features: Decoded features of each task.
        latent_bits: Estimated bits of each layer's latents, per image.
        side_bits: Estimated bits of each layer's side symbols, per image.
    """

    features: dict[str, Tensor]
    latent_bits: dict[str, Float[Tensor, "b"]]
    side_bits: dict[str, Float[Tensor, "b"]]

    @property
    def bits(self) -> Float[Tensor, "b"]:
        """All bits of an image."""
        parts = [*self.latent_bits.values(), *self.side_bits.values()]
        return torch.stack(parts).sum(0)


class _Scale(nn.Module):
    mean: Tensor
    std: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("std", torch.ones(channels))


class _LayerModel(nn.Module):
    def __init__(self, layer: Layer, config: CodecConfig) -> None:
        super().__init__()
        self.size = config.size_of(layer)
        sources = config.source_map
        self.analysis = Analysis(
            inputs=sum(sources[name].channels for name in layer.inputs),
            hidden=layer.hidden,
            outputs=layer.channels,
            size=self.size,
            stride=layer.stride,
            blocks=layer.blocks,
        )
        self.prior = make_prior(layer.prior_config(*self.size))
        self.gains = Gains(len(layer.tasks), layer.channels)
        self.context: Context | None = None
        if layer.parents:
            channels = {x.name: x.channels for x in config.layers}
            parents = tuple(channels[name] for name in layer.parents)
            self.context = Context(parents, layer.channels, layer.context_hidden)


def _synthesis(head: Head, config: CodecConfig) -> Synthesis:
    source = config.source_map[head.name]
    layers = {layer.name: layer for layer in config.layers}
    every = head.layers + head.optional
    strides = {layers[name].stride for name in every}
    if len(strides) != 1:
        raise ArgumentError(
            f"CodecConfig: layers of head {head.name} have strides {sorted(strides)}, must have "
            "one; give the layers the same stride"
        )
    return Synthesis(
        inputs=sum(layers[name].channels for name in every),
        hidden=head.hidden,
        outputs=source.channels,
        size=(source.height, source.width),
        stride=strides.pop(),
        blocks=head.blocks,
    )


class FeatureCodec(nn.Module):
    """Layers and heads of one model.

    A model can code only after `finalise`, which `load` implies; training works before it.

    Args:
        config: What it is made of.
    """

    def __init__(self, config: CodecConfig) -> None:
        super().__init__()
        self.config = config
        self.scales = nn.ModuleDict({s.name: _Scale(s.channels) for s in config.sources})
        self.layers = nn.ModuleDict({x.name: _LayerModel(x, config) for x in config.layers})
        self.heads = nn.ModuleDict({h.name: _synthesis(h, config) for h in config.heads})
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

    @property
    def pairs(self) -> tuple[tuple[str, str], ...]:
        """The (layer, task) pairs that have a quality each."""
        return tuple((x.name, task) for x in self.config.layers for task in x.tasks)

    @property
    def device(self) -> torch.device:
        """Where the transforms are."""
        return next(self.parameters()).device

    def adopt(self, integers: IntegerModel) -> None:
        """Take an integer path, and with it an id."""
        from foveal.codec.model_file import stream_hash

        self._integers = integers
        self._model_id = stream_hash(self)

    # Training.

    @torch.no_grad()
    def start(self, features: Mapping[str, Tensor]) -> None:
        """Fit the normalisation to training features, and start latents and levels from them.

        Latents begin with unit variance over all channels, levels at the likeliest scales.

        Args:
            features: Of every source, some hundred images.
        """
        sources = self.config.source_map
        for name, x in features.items():
            mean, std = mean_and_std(to_map(x.float(), sources[name]))
            self.scales[name].mean.copy_(mean)
            self.scales[name].std.copy_(std)
        for layer in self.config.layers:
            part: Any = self.layers[layer.name]
            latents = self.latents(layer, features)
            part.analysis.parts[-1].weight.div_(latents.std())
            part.analysis.parts[-1].bias.sub_(latents.mean(dim=(0, 2, 3))).div_(latents.std())
            part.prior.start((latents - latents.mean(dim=(0, 2, 3), keepdim=True)) / latents.std())

    def normalise(self, name: str, x: Tensor) -> Float[Tensor, "b c h w"]:
        """Return the features of source `name` as a map with about unit variance."""
        scale = self.scales[name]
        maps = to_map(x, self.config.source_map[name])
        return (maps - scale.mean[:, None, None]) / scale.std[:, None, None]

    def analyse(self, layer: Layer, features: Mapping[str, Tensor]) -> Float[Tensor, "b n u v"]:
        """Return the unrounded latents of a layer, before any gain."""
        inputs = torch.cat([self.normalise(name, features[name]) for name in layer.inputs], dim=1)
        return self.layers[layer.name].analysis(inputs)

    def synthesise(
        self, task: str, values: Mapping[str, Tensor], size: tuple[int, int] | None = None
    ) -> Tensor:
        """Return the features of a task from decoded latents (divided by their gains).

        Args:
            task: One of the heads.
            values: Latents of each layer that it needs, and of optional ones that are there.
            size: Rows and columns of the features. Default: the model's own.
        """
        head = next(h for h in self.config.heads if h.name == task)
        source, scale = self.config.source_map[task], self.scales[task]
        first = values[head.layers[0]]
        channels = {layer.name: layer.channels for layer in self.config.layers}
        parts = [values[name] for name in head.layers]
        parts += [
            values[name]
            if name in values
            else first.new_zeros(len(first), channels[name], *first.shape[2:])
            for name in head.optional
        ]
        y = torch.cat(parts, dim=1)
        x = self.heads[task](y, size or (source.height, source.width))
        x = x * scale.std[:, None, None] + scale.mean[:, None, None]
        return from_map(x.relu() if source.nonnegative else x, source.kind)

    def forward(
        self,
        features: Mapping[str, Tensor],
        quality: Float[Tensor, "b pairs"],
        *,
        hard: bool = False,
        tasks: tuple[str, ...] | None = None,
        before: Float[Tensor, "b layers layers"] | None = None,
    ) -> CodecOutput:
        """Return decoded features and estimated bits, differentiable.

        Args:
            features: Features of every source that a layer takes in.
            quality: Of each (layer, task) pair, in 0 .. QUALITIES - 1, or `OFF`.
            hard: Rounded latents in the rate too, instead of uniform noise.
            tasks: Heads to run. Default: all.
            before: 1 where the layer of the row is coded after that of the column; for layers with
                parents. Default: no layer sees another.
        """
        states: dict[str, tuple[Tensor, Tensor, Tensor]] = {}
        start = 0
        for layer in self.config.layers:
            part: Any = self.layers[layer.name]
            latent = self.analyse(layer, features).float()
            log_gain = part.gains(quality[:, start : start + len(layer.tasks)])[..., None, None]
            start += len(layer.tasks)
            states[layer.name] = (latent, log_gain, torch.exp(log_gain.clamp_min(-300) * LOG_STEP))
        values: dict[str, Tensor] = {}
        bits: dict[str, Tensor] = {}
        side: dict[str, Tensor] = {}
        for layer in self.config.layers:
            part = self.layers[layer.name]
            latent, log_gain, factor = states[layer.name]
            gained, extra, center = latent * factor, log_gain, torch.zeros_like(latent)
            if layer.parents and before is not None:
                extra, center = self._context(layer, states, before)
            with torch.autocast(latent.device.type, enabled=False):
                out = part.prior(latent, gained - center, extra, hard=hard)
            levels = out.levels + extra
            on = (log_gain.flatten(1).amax(1) > SILENT / 2).to(latent.dtype)
            bits[layer.name] = latent_bits(gained - center, levels, noise=not hard) * on
            side[layer.name] = out.side_bits * on
            coded = table_index(levels.detach()) > 0.5
            y = torch.where(coded, round_straight_through(gained), round_straight_through(center))
            values[layer.name] = y / factor * on[:, None, None, None]
        decoded = {t: self.synthesise(t, values) for t in tasks or self.config.tasks}
        return CodecOutput(decoded, bits, side)

    def _context(
        self,
        layer: Layer,
        states: Mapping[str, tuple[Tensor, Tensor, Tensor]],
        before: Float[Tensor, "b layers layers"],
    ) -> tuple[Tensor, Tensor]:
        """Return what is added to the levels, log-gains included, and centers of gained latents."""
        names = [x.name for x in self.config.layers]
        columns = [names.index(parent) for parent in layer.parents]
        parents = [states[name] for name in layer.parents]
        row = before[:, names.index(layer.name)]
        there = torch.stack([row[:, i] for i in columns], dim=1)
        on = torch.stack([p[1].flatten(1).amax(1) > SILENT / 2 for p in parents], dim=1)
        there = there * on.to(there.dtype)
        decoded = [round_straight_through(p[0] * p[2]) / p[2] for p in parents]
        part: Any = self.layers[layer.name]
        levels, center = part.context(decoded, there)
        _, log_gain, factor = states[layer.name]
        some = (there.amax(1) > 0).to(center.dtype)[:, None, None, None]
        return log_gain + levels.float() * some, center.float() * some * factor

    # Integers.

    @torch.no_grad()
    def symbols(
        self,
        layer: Layer,
        latent: Float[Tensor, "b n u v"],
        log_gain: Ints,
        extra: Ints | None = None,
        centers: Ints | int = 0,
    ) -> tuple[Ints, Ints, Ints]:
        """Return side symbols, coded numbers and table indices that a layer's stream would hold.

        Args:
            layer: One of the layers.
            latent: Unrounded latents before any gain.
            log_gain: Fixed-point log-gains [b, n].
            extra: What is added to the levels [b, n, h, w]. Default: the log-gains.
            centers: Integer centers of the latents, which are taken off.
        """
        number = self.config.layers.index(layer)
        part: Any = self.layers[layer.name]
        shape = (int(latent.shape[1]), int(latent.shape[2]), int(latent.shape[3]))
        factor = torch.from_numpy(gains(log_gain)).to(latent)[..., None, None]
        added = log_gain[:, :, None, None] if extra is None else extra
        gained = latent * factor
        gap = gained - torch.as_tensor(centers).to(latent)
        real = torch.from_numpy(added / (1 << FRACTION)).to(latent)
        out = part.prior(latent, gap, real, hard=True)
        side = torch.round(out.side).to(torch.int64).reshape(len(latent), -1).cpu().numpy()
        indices = self.integers.layers[number].indices(side, added, shape)
        y = quantise(gained).to(torch.int64).cpu().numpy() - centers
        return side, np.where(indices > 0, y.reshape(len(latent), -1), 0), indices

    @torch.no_grad()
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
        """
        from foveal.codec.finalise import finalise

        return finalise(self, features, qualities)

    def latents(self, layer: Layer, features: Mapping[str, Tensor]) -> Tensor:
        """Return the unrounded latents of many images, analysed in parts."""
        count = len(features[layer.inputs[0]])
        parts: list[Tensor] = []
        for i in range(0, count, 256):
            batch = {k: v[i : i + 256].to(self.device).float() for k, v in features.items()}
            parts.append(self.analyse(layer, batch))
        return torch.cat(parts)

    @torch.no_grad()
    def extend(self, source: Source, head: Head, features: Tensor) -> None:
        """Add a head for another task; streams and their id stay.

        Args:
            source: What its features are.
            head: The head, marked `external`.
            features: Training features that its normalisation is fitted to.
        """
        config = replace(
            self.config,
            sources=(*self.config.sources, source),
            heads=(*self.config.heads, head),
        )
        scale = _Scale(source.channels).to(self.device)
        mean, std = mean_and_std(to_map(features.float(), source))
        scale.mean.copy_(mean.half().float())
        scale.std.copy_(std.half().float())
        self.config = config
        self.scales[source.name] = scale
        self.heads[head.name] = _synthesis(head, config).to(self.device)

    # Files.

    def save(self, path: str | Path) -> None:
        """Write the finalised model: fp16 weights and integer tables.

        Raises:
            ArgumentError: the model was not finalised.
        """
        from foveal.codec.model_file import file_tensors

        config = {"format": FORMAT, "codec": self.config.to_dict()}
        save_weights(Path(path), file_tensors(self), config)

    @classmethod
    def load(cls, path: str | Path) -> "FeatureCodec":
        """Read a model written by `save`; the integer tables are read, not computed.

        Raises:
            ArgumentError: the file is not a feature codec or is inconsistent.
        """
        from foveal.codec.model_file import read_integers

        found, tensors = load_weights(Path(path))
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
