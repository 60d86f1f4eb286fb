"""After training: fp16 weights, integer tables counted from training features."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from foveal.codec.config import Layer
from foveal.codec.context import gain_tables
from foveal.codec.entropy.tables import FrequencyTables, count_symbols, counted_tables
from foveal.codec.integer_model import IntegerLayer, IntegerModel, Ints
from foveal.codec.network import LayerNetwork, Network, check_sources
from foveal.codec.prior.base import LOG_STEP, latent_tables
from foveal.codec.rates import QUALITIES
from foveal.errors import ArgumentError

AT_ONCE = 256
MIDDLE = 40.0


@torch.no_grad()
def finalise(
    model: Network, features: Mapping[str, Tensor] | None, qualities: tuple[int, ...]
) -> IntegerModel:
    """Build the integer path of a trained model; see `FeatureCodec.finalise`."""
    if not qualities or not all(0 <= q < QUALITIES for q in qualities):
        raise ArgumentError(
            f"finalise: qualities is {qualities}, must be some of 0..{QUALITIES - 1}; change it"
        )
    if features is not None:
        check_sources("finalise", features, model.inputs)
    model.eval()
    for name, value in model.state_dict().items():
        value.copy_(value.half().to(value.dtype))
        if not bool(torch.isfinite(value).all()):
            raise ArgumentError(
                f"finalise: {name} has values that are not finite in fp16, must be within 65504; "
                "train it again, or scale the features"
            )
    start, config = latent_tables(), model.config
    names = [layer.name for layer in config.layers]
    built: list[IntegerLayer] = []
    latents: list[Tensor] = []
    for layer in config.layers:
        part = model.layer(layer.name)
        if features is not None:
            latents.append(model.latents(layer, features))
            _fit_side(part, layer, latents[-1])
        table = part.gains.export()
        gain, reciprocal = gain_tables(table, LOG_STEP)
        built.append(
            IntegerLayer(
                layer.name,
                part.prior.export(),
                start,
                table,
                layer.channels,
                layer.stride,
                part.size,
                tuple(names.index(parent) for parent in layer.parents),
                None if part.context is None else part.context.export(),
                gain if config.conditional else None,
                reciprocal if config.conditional else None,
            )
        )
    order = tuple(names.index(name) for name in config.order)
    if features is not None:
        tables = _count(model, IntegerModel(tuple(built), order), latents, qualities)
        built = [replace(x, tables=t) for x, t in zip(built, tables, strict=True)]
    return IntegerModel(tuple(built), order)


def _fit_side(part: LayerNetwork, layer: Layer, latents: Tensor) -> None:
    sides: list[NDArray[np.int64]] = []
    for latent in latents.split(AT_ONCE):
        middle = torch.full((len(latent), len(layer.tasks)), MIDDLE, device=latent.device)
        log_gain = part.gains(middle)[..., None, None]
        gained = latent * torch.exp(log_gain * LOG_STEP)
        out = part.prior(latent, gained, log_gain, hard=True)
        side = torch.round(out.side).to(torch.int64).reshape(len(latent), -1)
        sides.append(side.cpu().numpy())
    part.prior.fit_side(np.concatenate(sides))


def _count(
    model: Network, integers: IntegerModel, latents: list[Tensor], qualities: tuple[int, ...]
) -> list[FrequencyTables]:
    """Return tables of each layer from the symbols of training images, at all qualities alike."""
    start = latent_tables()
    counts = [np.zeros(len(start.frequencies), dtype=np.int64) for _ in latents]
    orders = integers.orders
    for at in range(0, len(latents[0]), AT_ONCE):
        for turn, quality in enumerate(qualities):
            images = len(latents[0][at : at + AT_ONCE])
            wanted = np.full((images, integers.pairs), quality, dtype=np.int64)
            all_gains = integers.log_gains(wanted)
            known: dict[int, Ints] = {}
            for number in orders[(at // AT_ONCE + turn) % len(orders)]:
                layer, latent = integers.layers[number], latents[number][at : at + AT_ONCE]
                extra, centers = integers.surroundings(number, known, wanted, None)
                _, y, index = model.symbols(layer, latent, all_gains[number], extra, centers)
                known[number] = y.reshape(latent.shape) + centers
                coded = index > 0
                counts[number] += count_symbols(start, y[coded], index[coded])
    return [counted_tables(count, start) for count in counts]
