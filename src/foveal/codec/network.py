"""The transforms, gains, priors and contexts of a codec: all that is trained."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import cast

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from foveal.codec.config import CodecConfig, Head, Layer, Source
from foveal.codec.context import Context
from foveal.codec.integer_model import IntegerLayer, Ints
from foveal.codec.prior.base import (
    LOG_STEP,
    clip_inward,
    latent_bits,
    make_prior,
    round_straight_through,
    table_index,
)
from foveal.codec.prior.integers import FRACTION
from foveal.codec.rates import SILENT, Gains, gains
from foveal.codec.transforms import (
    Analysis,
    Synthesis,
    cells,
    from_map,
    least_squares,
    mean_and_std,
    principal,
    quantise,
    to_map,
)
from foveal.errors import ArgumentError

ANALYSE_AT_ONCE = 256


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


class Scale(nn.Module):
    """Mean and standard deviation of each channel of a source."""

    mean: Tensor
    std: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("std", torch.ones(channels))


def check_sources(where: str, features: Mapping[str, Tensor], needed: tuple[str, ...]) -> None:
    """Raise ArgumentError unless there are features of all these sources."""
    missing = [name for name in needed if name not in features]
    if missing:
        raise ArgumentError(
            f"{where}: features has no {missing}, must have {list(needed)}; add them"
        )


class LayerNetwork(nn.Module):
    """What is trained of one layer."""

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
            linear=layer.linear,
        )
        self.prior = make_prior(layer.prior_config(*self.size))
        self.gains = Gains(len(layer.tasks), layer.channels)
        self.context: Context | None = None
        if layer.parents:
            channels = {x.name: x.channels for x in config.layers}
            parents = tuple(channels[name] for name in layer.parents)
            self.context = Context(parents, layer.channels, layer.context_hidden)


def synthesis_of(head: Head, config: CodecConfig) -> Synthesis:
    """Return the untrained synthesis transform of a head."""
    source = config.source_map[head.name]
    layers = {layer.name: layer for layer in config.layers}
    every = [layers[name] for name in head.layers + head.optional]
    return Synthesis(
        inputs=sum(layer.channels for layer in every),
        hidden=head.hidden,
        outputs=source.channels,
        size=(source.height, source.width),
        stride=every[0].stride,
        blocks=head.blocks,
        fine_blocks=head.fine_blocks,
        linear=head.linear,
    )


class Network(nn.Module):
    """All that is trained of a codec.

    Args:
        config: What it is made of.
    """

    def __init__(self, config: CodecConfig) -> None:
        super().__init__()
        self.config = config
        self.scales = nn.ModuleDict({s.name: Scale(s.channels) for s in config.sources})
        self.layers = nn.ModuleDict({x.name: LayerNetwork(x, config) for x in config.layers})
        self.heads = nn.ModuleDict({h.name: synthesis_of(h, config) for h in config.heads})

    def scale(self, source: str) -> Scale:
        """Return the normalisation of a source."""
        return cast(Scale, self.scales[source])

    def layer(self, name: str) -> LayerNetwork:
        """Return what is trained of a layer."""
        return cast(LayerNetwork, self.layers[name])

    def head(self, task: str) -> Synthesis:
        """Return the synthesis transform of a task."""
        return cast(Synthesis, self.heads[task])

    @property
    def pairs(self) -> tuple[tuple[str, str], ...]:
        """The (layer, task) pairs that have a quality each."""
        return tuple((x.name, task) for x in self.config.layers for task in x.tasks)

    @property
    def device(self) -> torch.device:
        """Where the transforms are."""
        return next(self.parameters()).device

    @torch.no_grad()
    def start(self, features: Mapping[str, Tensor]) -> None:
        """Fit the normalisation to training features, and start latents and levels from them.

        Latents begin with unit variance over all channels, levels at the likeliest scales. Linear
        analyses begin as principal components, linear syntheses with the least squared error.

        Args:
            features: Of every source, some hundred images.

        Raises:
            ArgumentError: a source has no features, or they are not finite.
        """
        check_sources("start", features, tuple(dict.fromkeys(self.inputs + self.config.tasks)))
        for name, source in self.config.source_map.items():
            if name in features:
                mean, std = mean_and_std(to_map(features[name].float(), source))
                if not bool(torch.isfinite(mean).all() and torch.isfinite(std).all()):
                    raise ArgumentError(
                        f"start: features {name} has NaN, infinite or too large values, must be "
                        "finite; check the network that they come from"
                    )
                self.scale(name).mean.copy_(mean)
                self.scale(name).std.copy_(std)
        for layer in self.config.layers:
            part = self.layer(layer.name)
            if part.analysis.linear is not None:
                inputs = self._some_inputs(layer, features)
                part.analysis.linear.weight.copy_(principal(inputs, part.analysis))
            latents = self.latents(layer, features)
            mean = latents.mean(dim=(0, 2, 3))
            centered = latents - mean[:, None, None]
            std = centered.square().mean().sqrt().clamp_min(1e-6)
            part.analysis.last.weight.div_(std)
            if part.analysis.linear is not None:
                part.analysis.linear.weight.div_(std)
            cast(Tensor, part.analysis.last.bias).sub_(mean).div_(std)
            part.prior.start(centered / std)
        for head in self.config.heads:
            own = self.head(head.name)
            if own.linear is not None:
                self._start_linear(head, own, features)

    def _some_inputs(
        self, layer: Layer, features: Mapping[str, Tensor]
    ) -> Float[Tensor, "b c h w"]:
        some = {n: features[n][:ANALYSE_AT_ONCE].to(self.device) for n in layer.inputs}
        return torch.cat([self.normalise(name, x) for name, x in some.items()], dim=1)

    def _start_linear(self, head: Head, own: Synthesis, features: Mapping[str, Tensor]) -> None:
        layers = {layer.name: layer for layer in self.config.layers}
        some = {name: x[:ANALYSE_AT_ONCE] for name, x in features.items()}
        parts = [self.latents(layers[name], some) for name in head.layers + head.optional]
        target = self.normalise(head.name, some[head.name].to(self.device))
        weight, bias = least_squares(torch.cat(parts, dim=1), cells(target, own.up))
        linear = cast(nn.Conv2d, own.linear)
        linear.weight.copy_(weight)
        cast(Tensor, linear.bias).copy_(bias)

    def normalise(self, name: str, x: Tensor) -> Float[Tensor, "b c h w"]:
        """Return the features of source `name` as a map with about unit variance."""
        scale = self.scale(name)
        maps = to_map(x, self.config.source_map[name]).to(scale.mean.dtype)
        return (maps - scale.mean[:, None, None]) / scale.std[:, None, None]

    def analyse(self, layer: Layer, features: Mapping[str, Tensor]) -> Float[Tensor, "b n u v"]:
        """Return the unrounded latents of a layer, before any gain."""
        inputs = torch.cat([self.normalise(name, features[name]) for name in layer.inputs], dim=1)
        return self.layer(layer.name).analysis(inputs)

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
        source, scale = self.config.source_map[task], self.scale(task)
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
        x = self.head(task)(y, size or (source.height, source.width))
        x = x * scale.std[:, None, None] + scale.mean[:, None, None]
        if source.nonnegative:
            x = clip_inward(x, 0.0, float("inf"))  # values below 0 can learn to come back
        return from_map(x, source.kind)

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
            part = self.layer(layer.name)
            latent = self.analyse(layer, features).float()
            log_gain = part.gains(quality[:, start : start + len(layer.tasks)])[..., None, None]
            start += len(layer.tasks)
            states[layer.name] = (latent, log_gain, torch.exp(log_gain.clamp_min(-300) * LOG_STEP))
        values: dict[str, Tensor] = {}
        bits: dict[str, Tensor] = {}
        side: dict[str, Tensor] = {}
        for layer in self.config.layers:
            latent, log_gain, factor = states[layer.name]
            gained, extra, center = latent * factor, log_gain, torch.zeros_like(latent)
            with torch.autocast(latent.device.type, enabled=False):
                context = self.layer(layer.name).context
                if context is not None and before is not None:
                    extra, center = self._context(context, layer, states, before)
                    center = round_straight_through(center) if hard else center
                out = self.layer(layer.name).prior(latent, gained - center, extra, hard=hard)
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
        context: Context,
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
        levels, center = context(decoded, there)
        _, log_gain, factor = states[layer.name]
        some = (there.amax(1) > 0).to(center.dtype)[:, None, None, None]
        return log_gain + levels * some, center * some * factor

    @property
    def inputs(self) -> tuple[str, ...]:
        """Sources that some layer takes in."""
        return tuple(dict.fromkeys(name for layer in self.config.layers for name in layer.inputs))

    @torch.no_grad()
    def latents(self, layer: Layer, features: Mapping[str, Tensor]) -> Float[Tensor, "b n u v"]:
        """Return the unrounded latents of many images, analysed in parts."""
        count = len(features[layer.inputs[0]])
        parts: list[Tensor] = []
        for i in range(0, count, ANALYSE_AT_ONCE):
            batch = {
                name: features[name][i : i + ANALYSE_AT_ONCE].to(self.device, torch.float32)
                for name in layer.inputs
            }
            parts.append(self.analyse(layer, batch).float())
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
        scale = Scale(source.channels).to(self.device)
        mean, std = mean_and_std(to_map(features.float(), source))
        scale.mean.copy_(mean.half().float())
        scale.std.copy_(std.half().float())
        self.config = config
        self.scales[source.name] = scale
        self.heads[head.name] = synthesis_of(head, config).to(self.device)

    @torch.no_grad()
    def symbols(
        self,
        integers: IntegerLayer,
        latent: Float[Tensor, "b n u v"],
        log_gain: Ints,
        extra: Ints | None = None,
        centers: Ints | int = 0,
    ) -> tuple[Ints, Ints, Ints]:
        """Return side symbols, coded numbers and table indices that a layer's stream would hold.

        Args:
            integers: The integer path of one of the layers.
            latent: Unrounded latents before any gain.
            log_gain: Fixed-point log-gains [b, n].
            extra: What is added to the levels [b, n, h, w]. Default: the log-gains.
            centers: Integer centers of the latents, which are taken off.
        """
        shape = (int(latent.shape[1]), int(latent.shape[2]), int(latent.shape[3]))
        factor = torch.from_numpy(gains(log_gain)).to(latent)[..., None, None]
        added = log_gain[:, :, None, None] if extra is None else extra
        gained = latent * factor
        gap = gained - torch.as_tensor(centers).to(latent)
        real = torch.from_numpy(added / (1 << FRACTION)).to(latent)
        out = self.layer(integers.name).prior(latent, gap, real, hard=True)
        side = torch.round(out.side).to(torch.int64).reshape(len(latent), -1).cpu().numpy()
        indices = integers.indices(side, added, shape)
        y = quantise(gained).to(torch.int64).cpu().numpy() - centers
        return side, np.where(indices > 0, y.reshape(len(latent), -1), 0), indices
