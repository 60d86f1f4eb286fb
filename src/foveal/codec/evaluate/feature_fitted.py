"""Feature anchors that are fitted to training features: principal components, and vector codes.

`Pca`: the principal components of the features of an image as one vector, or of blocks of
positions, by a uniform quantizer, and one static integer table for each, all by the rANS of this
codec. `Vq`: k-means codewords of blocks of positions and groups of channels; their numbers raw in
bits, or by static tables.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int64
from numpy import ndarray
from torch import Tensor
from torch.nn import functional as F

from foveal.codec.entropy import FrequencyTables, LaneDecoder, encode_lanes, laplace_tables
from foveal.codec.entropy.tables import categorical_tables, count_symbols, counted_tables
from foveal.codec.evaluate.feature_anchors import (
    CodedFeatures,
    FeatureCoder,
    Features,
    as_given,
    as_maps,
)
from foveal.errors import ArgumentError

COMPONENTS = ((0, 8), (0, 32), (0, 128), (0, 512), (1, 8), (1, 1000), (2, 32), (2, 1000), (4, 1000))
"""Sides of blocks, 0 for the whole map, and how many components at most."""
STEPS = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
BLOCKS = ((1, 1), (1, 2), (2, 1), (2, 4), (4, 1), (4, 4), (8, 2), (8, 8))
"""Sides of blocks, and groups of channels."""
CODEWORDS = 256
_MOST_SQUARE = 4096  # up to this many numbers the covariance is taken, above it that of the images
_MOST_VECTORS = 50_000
_NUM_ROUNDS = 20


@dataclass(frozen=True, slots=True, eq=False)
class Basis:
    """Principal components of a source's training features.

    Args:
        mean: Of the vectors, [d].
        directions: Orthonormal, by falling variance, [d, k].
        train: Coefficients of the training vectors, [m, k].
        unit: Root of the mean variance of one number: what steps are counted in.
        nonnegative: No training feature is below 0, so no decoded one may be.
        block: Side of the blocks that are vectors; 0: the whole map is one.
    """

    mean: Float[Tensor, "d"]
    directions: Float[Tensor, "d k"]
    train: Float[Tensor, "m k"]
    unit: float
    nonnegative: bool
    block: int = 0

    @classmethod
    def fit(
        cls, features: Tensor, most: int, *, block: int = 0, device: str | torch.device = "cpu"
    ) -> "Basis":
        """Return up to `most` components of features [n, ...], or of maps' blocks."""
        flat = _vectors(features, block).flatten(0, 1)
        if len(flat) > _MOST_VECTORS:
            generator = torch.Generator().manual_seed(0)
            flat = flat[torch.randperm(len(flat), generator=generator)[:_MOST_VECTORS]]
        x = flat.to(device, torch.float64)
        mean = x.mean(0)
        centered = x - mean
        if x.shape[1] <= _MOST_SQUARE:
            vectors = torch.linalg.eigh(centered.T @ centered).eigenvectors.flip(1)
        else:
            values, left = torch.linalg.eigh(centered @ centered.T)
            kept = values > 1e-9 * values[-1]
            vectors = centered.T @ left[:, kept].flip(1) / values[kept].flip(0).sqrt()
        directions = vectors[:, : min(most, len(x) - 1, vectors.shape[1])]
        unit = float(centered.square().mean().sqrt())
        return cls(
            mean.float().cpu(),
            directions.float().cpu(),
            (centered @ directions).float().cpu(),
            unit if unit > 0 else 1.0,
            bool((features >= 0).all()),
            block,
        )

    def coefficients(self, x: Tensor) -> Float[Tensor, "n blocks k"]:
        """Return the coefficients of features."""
        return (_vectors(x, self.block) - self.mean) @ self.directions

    def features(
        self, coefficients: Float[Tensor, "n blocks k"], shape: Sequence[int]
    ) -> Float[Tensor, "n c h w"]:
        """Return features of a shape from the first coefficients."""
        x = coefficients @ self.directions[:, : coefficients.shape[2]].T + self.mean
        y = from_blocks([x], self.block, shape) if self.block else x.reshape(tuple(shape))
        return y.relu() if self.nonnegative else y


def _vectors(x: Tensor, block: int) -> Float[Tensor, "n blocks d"]:
    return to_blocks(x, block, 1)[0] if block else x.flatten(1)[:, None]


class Pca:
    """Principal components, uniformly quantized, with a static table each.

    Args:
        bases: Of each source, all of the same blocks.
        components: How many are coded, at most.
        step: Of the quantizer, in the bases' units.
    """

    label = "pca"

    def __init__(self, bases: Mapping[str, Basis], components: int, step: float) -> None:
        """Count the tables on the training coefficients."""
        if components < 1 or not step > 0 or not bases:
            raise ArgumentError(
                f"Pca: components, step are {components}, {step}, must be at least 1 and positive, "
                "with a basis at least"
            )
        self.bases, self.components, self.step = dict(bases), components, step
        block = next(iter(self.bases.values())).block
        self.settings: dict[str, Any] = {"block": block, "components": components, "step": step}
        self.tables: dict[str, FrequencyTables] = {}
        for name, basis in self.bases.items():
            symbols = self._symbols(basis, basis.train)
            scales = np.abs(symbols).mean(0).clip(0.05, 60)
            start = laplace_tables(scales)
            index = np.broadcast_to(np.arange(symbols.shape[1]), symbols.shape)
            self.tables[name] = counted_tables(count_symbols(start, symbols, index), start)

    def _symbols(self, basis: Basis, coefficients: Tensor) -> Int64[ndarray, "*rest k"]:
        part = coefficients[..., : self.components] / (self.step * basis.unit)
        return part.round().clamp(-(1 << 20), 1 << 20).to(torch.int64).numpy()

    def code(self, features: Features) -> CodedFeatures:
        """Code the features of all images, and decode them from the bytes."""
        maps = as_maps("Pca", features)
        _check_sources("Pca", maps, self.bases)
        layers: list[tuple[FrequencyTables, ndarray, ndarray]] = []
        for name, x in maps.items():
            basis = self.bases[name]
            symbols = self._symbols(basis, basis.coefficients(x))
            index = np.broadcast_to(np.arange(symbols.shape[2]), symbols.shape)
            n = len(symbols)
            layers.append((self.tables[name], symbols.reshape(n, -1), index.reshape(n, -1)))
        streams = encode_lanes(layers)
        decoder, decoded = LaneDecoder(streams), dict[str, Tensor]()
        for (name, x), (tables, _, index) in zip(maps.items(), layers, strict=True):
            basis = self.bases[name]
            back = torch.from_numpy(decoder.decode(tables, index)).float()
            back = back * (self.step * basis.unit)
            width = min(self.components, basis.directions.shape[1])
            decoded[name] = basis.features(back.reshape(len(x), -1, width), x.shape)
        decoder.close()
        return _coded([len(stream) for stream in streams], decoded, features)


def fit_pca(
    train: Features,
    *,
    components: Sequence[tuple[int, int]] = COMPONENTS,
    steps: Sequence[float] = STEPS,
    device: str | torch.device = "cpu",
) -> list[FeatureCoder]:
    """Return coders of every block, number of components and step.

    Args:
        train: Training features of each source.
        components: Sides of blocks (0: the whole map) and numbers of components; blocks larger than
            a source are left out.
        steps: Of the quantizer, in the bases' units.
        device: Where the components are found.
    """
    maps = as_maps("fit_pca", train)
    least = min(max(x.shape[2:]) for x in maps.values())
    most: dict[int, int] = {}
    for block, count in components:
        if block <= least:
            most[block] = max(count, most.get(block, 0))
    bases = {
        block: {name: Basis.fit(x, k, block=block, device=device) for name, x in maps.items()}
        for block, k in most.items()
    }
    return [
        Pca(bases[block], k, step)
        for (block, k), step in product(components, steps)
        if block in bases
    ]


@dataclass(frozen=True, slots=True, eq=False)
class Book:
    """Codewords of a source.

    Args:
        words: Of each group of channels [K, d].
        tables: A static table for each group, of the training features.
        nonnegative: As of `Basis`.
    """

    words: tuple[Float[Tensor, "_ _"], ...]
    tables: FrequencyTables
    nonnegative: bool


class Vq:
    """Numbers of codewords of blocks.

    Args:
        books: Of each source.
        block: Side of a block, in positions.
        entropy: Code the numbers by static tables; else each has the same bits.
    """

    def __init__(self, books: Mapping[str, Book], block: int, *, entropy: bool) -> None:
        """Keep the codewords."""
        self.books, self.block, self.entropy = dict(books), block, entropy
        first = next(iter(self.books.values()))
        self.label = "vq+rans" if entropy else "vq"
        self.settings: dict[str, Any] = {
            "block": block,
            "groups": len(first.words),
            "codewords": len(first.words[0]),
        }

    def code(self, features: Features) -> CodedFeatures:
        """Code the features of all images, and decode them from the bytes."""
        maps = as_maps("Vq", features)
        _check_sources("Vq", maps, self.books)
        numbers = {
            name: torch.stack(
                [nearest(part, words) for part, words in _parts(x, self.block, self.books[name])], 1
            ).numpy()
            for name, x in maps.items()
        }
        n = len(next(iter(maps.values())))
        flat = {name: x.reshape(n, -1) for name, x in numbers.items()}
        back, sizes = self._rans(flat, numbers) if self.entropy else self._raw(flat)
        decoded: dict[str, Tensor] = {}
        for name, x in maps.items():
            book = self.books[name]
            index = torch.from_numpy(back[name].reshape(n, len(book.words), -1))
            parts = [words[index[:, g]] for g, words in enumerate(book.words)]
            y = from_blocks(parts, self.block, x.shape)
            decoded[name] = y.relu() if book.nonnegative else y
        return _coded(sizes, decoded, features)

    def _rans(
        self, flat: Mapping[str, ndarray], numbers: Mapping[str, ndarray]
    ) -> tuple[dict[str, ndarray], list[int]]:
        layers: list[tuple[FrequencyTables, ndarray, ndarray]] = []
        for name, x in numbers.items():
            index = np.broadcast_to(np.arange(x.shape[1])[None, :, None], x.shape)
            layers.append((self.books[name].tables, flat[name], index.reshape(len(x), -1)))
        streams = encode_lanes(layers)
        decoder = LaneDecoder(streams)
        back = {
            name: decoder.decode(tables, index)
            for name, (tables, _, index) in zip(flat, layers, strict=True)
        }
        decoder.close()
        return back, [len(stream) for stream in streams]

    def _raw(self, flat: Mapping[str, ndarray]) -> tuple[dict[str, ndarray], list[int]]:
        n = len(next(iter(flat.values())))
        bits = {name: max(1, (len(self.books[name].words[0]) - 1).bit_length()) for name in flat}
        rows = np.concatenate([_to_bits(x, bits[name]) for name, x in flat.items()], 1)
        data = [np.packbits(row).tobytes() for row in rows]
        read = np.stack([np.unpackbits(np.frombuffer(d, np.uint8)) for d in data])
        back, at = dict[str, ndarray](), 0
        for name, x in flat.items():
            width = x.shape[1] * bits[name]
            back[name] = _from_bits(read[:, at : at + width].reshape(n, -1, bits[name]))
            at += width
        return back, [len(d) for d in data]


def _to_bits(x: Int64[ndarray, "n m"], bits: int) -> ndarray:
    places = np.arange(bits - 1, -1, -1)
    return (x[:, :, None] >> places & 1).astype(np.uint8).reshape(len(x), -1)


def _from_bits(x: ndarray) -> Int64[ndarray, "n m"]:
    places = np.arange(x.shape[2] - 1, -1, -1)
    return (x.astype(np.int64) << places).sum(2)


def to_blocks(
    x: Float[Tensor, "n c h w"], block: int, groups: int
) -> list[Float[Tensor, "n blocks _"]]:
    """Return the blocks of each group of channels as vectors; edges are repeated to fill blocks."""
    height, width = x.shape[2:]
    pads = (0, -width % block, 0, -height % block)
    padded = F.pad(x, pads, mode="replicate") if any(pads) else x
    return [
        F.unfold(part, block, stride=block).transpose(1, 2)
        for part in padded.tensor_split(groups, dim=1)
    ]


def from_blocks(
    parts: Sequence[Float[Tensor, "n blocks _"]], block: int, shape: Sequence[int]
) -> Float[Tensor, "n c h w"]:
    """Undo `to_blocks`."""
    height, width = shape[2:]
    size = (height + -height % block, width + -width % block)
    maps = [F.fold(part.transpose(1, 2), size, block, stride=block) for part in parts]
    return torch.cat(maps, 1)[:, :, :height, :width]


def _parts(x: Tensor, block: int, book: Book) -> list[tuple[Tensor, Tensor]]:
    parts = to_blocks(x, block, len(book.words))
    return list(zip(parts, book.words, strict=True))


def nearest(x: Float[Tensor, "*rest d"], words: Float[Tensor, "k d"]) -> Int64[Tensor, "*rest"]:
    """Return the number of the nearest codeword of each vector."""
    flat = x.reshape(-1, x.shape[-1])
    half = words.square().sum(1) / 2
    found = [(half - part @ words.T).argmin(1) for part in flat.split(1 << 14)]
    return torch.cat(found).reshape(x.shape[:-1])


def k_means(
    x: Float[Tensor, "m d"], num_words: int, *, seed: int = 0, rounds: int = _NUM_ROUNDS
) -> Float[Tensor, "k d"]:
    """Return codewords near vectors; one that none is near to starts again at a vector.

    Raises: ArgumentError: fewer vectors than codewords.
    """
    if len(x) < num_words:
        raise ArgumentError(
            f"k_means: x has {len(x)} vectors, must have {num_words} at least; take more images"
        )
    generator = torch.Generator().manual_seed(seed)
    words = x[torch.randperm(len(x), generator=generator)[:num_words].to(x.device)].clone()
    for i in range(rounds):
        index = nearest(x, words)
        counts = index.bincount(minlength=num_words).to(x.dtype)
        total = torch.zeros_like(words).index_add_(0, index, x)
        words = torch.where(counts[:, None] > 0, total / counts.clamp_min(1)[:, None], words)
        empty = (counts == 0).nonzero()[:, 0]
        if len(empty) and i < rounds - 1:
            new = torch.randint(len(x), (len(empty),), generator=generator)
            words[empty] = x[new.to(x.device)]
    return words


def fit_vq(
    train: Features,
    *,
    blocks: Sequence[tuple[int, int]] = BLOCKS,
    codewords: int = CODEWORDS,
    device: str | torch.device = "cpu",
    seed: int = 0,
) -> list[FeatureCoder]:
    """Return coders, raw and with tables, of every block and number of groups that fits.

    Args:
        train: Training features of each source.
        blocks: Sides of blocks, and groups of channels; those that do not fit a source or of whose
            vectors there are too few are left out.
        codewords: Of each group.
        device: Where codewords are found.
        seed: Of the draws.
    """
    maps = as_maps("fit_vq", train)
    out: list[FeatureCoder] = []
    for block, groups in blocks:
        books: dict[str, Book] = {}
        for name, x in maps.items():
            c, h, w = x.shape[1:]
            count = len(x) * -(-h // block) * -(-w // block)
            if groups <= c and block <= max(h, w) and count >= codewords:
                books[name] = _book(x, block, groups, codewords, device, seed)
        if len(books) == len(maps):
            out += [Vq(books, block, entropy=entropy) for entropy in (False, True)]
    return out


def _book(
    x: Tensor, block: int, groups: int, codewords: int, device: str | torch.device, seed: int
) -> Book:
    words: list[Tensor] = []
    counts: list[ndarray] = []
    for part in to_blocks(x, block, groups):
        flat = part.flatten(0, 1)
        generator = torch.Generator().manual_seed(seed)
        chosen = torch.randperm(len(flat), generator=generator)[:_MOST_VECTORS]
        vectors = flat[chosen].to(device)
        found = k_means(vectors, codewords, seed=seed)
        index = nearest(vectors, found)
        counts.append(index.bincount(minlength=codewords).cpu().numpy() + 0.5)
        words.append(found.cpu())
    return Book(tuple(words), categorical_tables(np.stack(counts)), bool((x >= 0).all()))


def _check_sources(where: str, maps: Mapping[str, Any], fitted: Mapping[str, Any]) -> None:
    missing = [name for name in maps if name not in fitted]
    if missing:
        raise ArgumentError(
            f"{where}: features has {missing}, must be of {list(fitted)}; fit the coder to them"
        )


def _coded(
    sizes: Sequence[int], decoded: Mapping[str, Tensor], features: Features
) -> CodedFeatures:
    payload = np.array(sizes, np.int64)
    zero = np.zeros_like(payload)
    return CodedFeatures(payload, zero, zero, as_given(decoded, features))
