"""What a feature codec is made of: sources, layers and heads. Stored in its model file."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from torch import nn

from foveal.codec.container import MAX_CONTROLS, MAX_LAYERS
from foveal.codec.prior.config import KINDS, PriorConfig
from foveal.errors import ArgumentError

SourceKind = Literal["map", "vector", "tokens"]
MAX_CHANNELS = 4096
MAX_SIDE = 1024
MAX_ELEMENTS = 1 << 18
MAX_CELL = 4096
"""Numbers of a cell that a linear transform starts from the principal components of."""
_TAKEN = frozenset(dir(nn.ModuleDict()))
"""Names that a module has already, so that no part of a model can bear them."""


def _check(item: str, value: Any, low: int, high: int) -> None:
    if type(value) is not int or not low <= value <= high:
        raise ArgumentError(
            f"CodecConfig: {item} is {value!r}, must be an integer in {low}..{high}; change it"
        )


def _check_name(item: str, name: Any) -> None:
    plain = isinstance(name, str) and name.isascii()
    if not plain or not name.replace("-", "").replace("_", "").isalnum() or len(name) > 64:
        raise ArgumentError(
            f"CodecConfig: {item} is {name!r}, must be up to 64 letters, digits, - and _; rename it"
        )
    if name in _TAKEN:
        raise ArgumentError(
            f"CodecConfig: {item} is {name!r}, which modules use themselves, must be another; "
            "rename it"
        )


def _check_names(item: str, names: Any, least: int) -> None:
    good = isinstance(names, tuple) and all(isinstance(name, str) for name in names)
    if not good or len(names) < least or len(set(names)) != len(names):
        raise ArgumentError(
            f"CodecConfig: {item} is {names!r}, must be a tuple of different names, at least "
            f"{least}; change it"
        )


def _tuples(item: Mapping[str, Any]) -> dict[str, Any]:
    lists: dict[str, Any] = {k: tuple(v) for k, v in item.items() if isinstance(v, list)}
    return {**item, **lists}


@dataclass(frozen=True, slots=True)
class Source:
    """Features of one cut point of one frozen network.

    Args:
        name: Name of the task that these features are for.
        channels: Channels of a map or a vector, width of a token.
        kind: "map" (b c h w), "vector" (b c) or "tokens" (b length c).
        height: Rows of a map; number of tokens (or rows of their grid); 1 for a vector.
        width: Columns of a map or of the tokens' grid; else 1.
        nonnegative: The features come out of a ReLU, so that decoded ones are clipped at 0.
        teacher: Where the features come from, such as "tasks-residual/normal"; "" if the caller
            brings them.
        sha256: Hash of that frozen network.
    """

    name: str
    channels: int
    kind: SourceKind = "map"
    height: int = 1
    width: int = 1
    nonnegative: bool = False
    teacher: str = ""
    sha256: str = ""

    def __post_init__(self) -> None:
        """Check the values, which may come from an untrusted file."""
        _check_name("source name", self.name)
        if self.kind not in get_args(SourceKind):
            raise ArgumentError(
                f"CodecConfig: kind of {self.name} is {self.kind!r}, must be one of "
                f"{get_args(SourceKind)}; change it"
            )
        _check(f"channels of {self.name}", self.channels, 1, MAX_CHANNELS)
        _check(f"height of {self.name}", self.height, 1, MAX_SIDE)
        _check(f"width of {self.name}", self.width, 1, MAX_SIDE)
        if self.channels * self.height * self.width > 4 * MAX_ELEMENTS:
            raise ArgumentError(
                f"CodecConfig: source {self.name} has {self.channels} x {self.height} x "
                f"{self.width} numbers, at most {4 * MAX_ELEMENTS}; cut the network later"
            )
        if self.kind == "vector" and (self.height, self.width) != (1, 1):
            raise ArgumentError(
                f"CodecConfig: {self.name} is a vector of {self.height} x {self.width}, must be "
                '1 x 1; leave the sizes out or take kind="map"'
            )
        strings = isinstance(self.teacher, str) and isinstance(self.sha256, str)
        if type(self.nonnegative) is not bool or not strings:
            raise ArgumentError(
                f"CodecConfig: nonnegative, teacher, sha256 of {self.name} are "
                f"{self.nonnegative!r}, {self.teacher!r}, {self.sha256!r}, must be a bool and "
                "texts; change them"
            )

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the features of one image, as the caller gives them."""
        if self.kind == "vector":
            return (self.channels,)
        if self.kind == "tokens":
            return (self.height * self.width, self.channels)
        return (self.channels, self.height, self.width)


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer of the stream: latents that are coded together and can be dropped together.

    Args:
        name: Its name.
        inputs: Sources that it is made from; maps of one size.
        tasks: Heads whose quality steers its rate, each with gains of its own.
        channels: Latent channels N.
        stride: Source positions per latent position, along each side: 1, 2 or 4.
        hidden: Channels of the analysis transform.
        blocks: Residual blocks on either side of the stride.
        prior: Kind of the prior, one of `prior.base.KINDS`.
        side: Hyper-latents d, or indices M of the VQ prior.
        codewords: Codewords K.
        hyper_hidden: Channels of the hyper-transforms.
        parents: Layers that it may be coded conditionally on.
        context_hidden: Channels of the network that reads the parents.
        linear: The analysis adds a linear function of each cell of stride x stride positions, which
            starts as their principal components; the rest starts with 0.
    """

    name: str
    inputs: tuple[str, ...]
    tasks: tuple[str, ...]
    channels: int = 64
    stride: int = 2
    hidden: int = 96
    blocks: int = 1
    prior: str = "codebook-global"
    side: int = 16
    codewords: int = 16
    hyper_hidden: int = 64
    parents: tuple[str, ...] = ()
    context_hidden: int = 48
    linear: bool = False

    def __post_init__(self) -> None:
        """Check the values, which may come from an untrusted file."""
        _check_name("layer name", self.name)
        _check(f"context_hidden of layer {self.name}", self.context_hidden, 1, 1024)
        for item, least in (("inputs", 1), ("tasks", 1), ("parents", 0)):
            _check_names(f"{item} of layer {self.name}", getattr(self, item), least)
        _check(f"channels of layer {self.name}", self.channels, 1, 1024)
        _check(f"hidden of layer {self.name}", self.hidden, 1, 1024)
        _check(f"blocks of layer {self.name}", self.blocks, 0, 16)
        _check(f"hyper_hidden of layer {self.name}", self.hyper_hidden, 1, 1024)
        if type(self.stride) is not int or self.stride not in (1, 2, 4):
            raise ArgumentError(
                f"CodecConfig: stride of layer {self.name} is {self.stride!r}, must be 1, 2 or 4; "
                "change it"
            )
        if type(self.linear) is not bool:
            raise ArgumentError(
                f"CodecConfig: linear of layer {self.name} is {self.linear!r}, must be True or "
                "False; change it"
            )
        if self.prior not in KINDS:
            raise ArgumentError(
                f"CodecConfig: prior of layer {self.name} is {self.prior!r}, must be one of "
                f"{KINDS}; choose one"
            )

    def latent_size(self, height: int, width: int) -> tuple[int, int]:
        """Return the latents' rows and columns for a source of that size."""
        return -(-height // self.stride), -(-width // self.stride)

    def prior_config(self, height: int, width: int) -> PriorConfig:
        """Return the configuration of its prior for sources of that nominal size."""
        rows, columns = self.latent_size(height, width)
        return PriorConfig(
            kind=self.prior,
            channels=self.channels,
            height=rows,
            width=columns,
            side=self.side,
            codewords=self.codewords,
            hidden=self.hyper_hidden,
        )


@dataclass(frozen=True, slots=True)
class Head:
    """A synthesis transform: from latents to the features of one task.

    Args:
        name: Name of the task; that of its source.
        layers: Layers that it cannot do without.
        optional: Layers that it reads where they are there.
        hidden: Channels of the transform.
        blocks: Residual blocks at the latents' size.
        external: Added later to a frozen stream.
        fine_blocks: Residual blocks at the features' size.
        linear: The synthesis adds a linear function of the latents of each position, which starts
            as the one of least squared error; the rest starts with 0.
    """

    name: str
    layers: tuple[str, ...]
    optional: tuple[str, ...] = ()
    hidden: int = 96
    blocks: int = 1
    external: bool = False
    fine_blocks: int = 0
    linear: bool = False

    def __post_init__(self) -> None:
        """Check the values, which may come from an untrusted file."""
        _check_name("head name", self.name)
        _check(f"hidden of head {self.name}", self.hidden, 1, 1024)
        _check(f"blocks of head {self.name}", self.blocks, 0, 16)
        _check(f"fine_blocks of head {self.name}", self.fine_blocks, 0, 16)
        _check_names(f"layers of head {self.name}", self.layers, 1)
        _check_names(f"optional of head {self.name}", self.optional, 0)
        if set(self.optional) & set(self.layers):
            raise ArgumentError(
                f"CodecConfig: optional of head {self.name} is {self.optional!r}, must name other "
                "layers than layers; take them out"
            )
        for item in ("external", "linear"):
            if type(getattr(self, item)) is not bool:
                raise ArgumentError(
                    f"CodecConfig: {item} of head {self.name} is {getattr(self, item)!r}, must be "
                    "True or False; change it"
                )


@dataclass(frozen=True, slots=True)
class CodecConfig:
    """All sizes of a feature codec.

    Args:
        sources: Features that go in or come out.
        layers: Layers of the stream.
        heads: One per task.
        order: In which order layers with parents are coded where nothing else is asked for; of
            its parents a layer sees those before it. Default: that of `layers`.
    """

    sources: tuple[Source, ...]
    layers: tuple[Layer, ...]
    heads: tuple[Head, ...]
    order: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Check that names and sizes fit together."""
        if not 1 <= len(self.layers) <= MAX_LAYERS or not self.heads:
            raise ArgumentError(
                f"CodecConfig: has {len(self.layers)} layers and {len(self.heads)} heads, must "
                f"have 1..{MAX_LAYERS} and at least 1; change them"
            )
        for what, items in (("source", self.sources), ("layer", self.layers), ("head", self.heads)):
            names = [item.name for item in items]
            if len(set(names)) != len(names):
                raise ArgumentError(
                    f"CodecConfig: {what} names are {names}, must be different; rename one"
                )
        layers = {layer.name: layer for layer in self.layers}
        for layer in self.layers:
            self._known(f"inputs of layer {layer.name}", layer.inputs, set(self.source_map))
            self._known(f"tasks of layer {layer.name}", layer.tasks, set(self.tasks))
            self._known(f"parents of layer {layer.name}", layer.parents, set(layers) - {layer.name})
            self._check_layer(layer)
        for layer in self.layers:
            for parent in layer.parents:
                own, other = self._latent_size(layer), self._latent_size(layers[parent])
                if own != other:
                    raise ArgumentError(
                        f"CodecConfig: layer {layer.name} has latents of {own[0]} x {own[1]} and "
                        f"parent {parent} of {other[0]} x {other[1]}, must have one size; leave "
                        "the parent out or change a stride"
                    )
        pairs = sum(len(layer.tasks) for layer in self.layers)
        if pairs >= MAX_CONTROLS:
            raise ArgumentError(
                f"CodecConfig: has {pairs} pairs of a layer and a task, must have fewer than "
                f"{MAX_CONTROLS}; take fewer layers"
            )
        _check_names("order", self.order, 0)
        if self.order and sorted(self.order) != sorted(layers):
            raise ArgumentError(
                f"CodecConfig: order is {self.order}, must hold each layer of {sorted(layers)} "
                "once; change it"
            )
        for head in self.heads:
            self._known(f"head {head.name}", (head.name,), set(self.source_map))
            self._known(f"layers of head {head.name}", head.layers + head.optional, set(layers))
            self._check_head(head, [layers[name] for name in head.layers + head.optional])

    def _check_layer(self, layer: Layer) -> None:
        sources = self.source_map
        sizes = {(sources[i].height, sources[i].width) for i in layer.inputs}
        if len(sizes) != 1:
            raise ArgumentError(
                f"CodecConfig: inputs of layer {layer.name} have sizes {sorted(sizes)}, must "
                "have one; put them into layers of their own"
            )
        rows, columns = self._latent_size(layer)
        if layer.channels * rows * columns > MAX_ELEMENTS:
            raise ArgumentError(
                f"CodecConfig: layer {layer.name} has {layer.channels} x {rows} x {columns} "
                f"latents, at most {MAX_ELEMENTS}; raise the stride"
            )
        layer.prior_config(*self.size_of(layer))
        channels = sum(sources[name].channels for name in layer.inputs)
        numbers = channels * layer.stride ** sum(side > 1 for side in self.size_of(layer))
        if layer.linear and numbers > MAX_CELL:
            raise ArgumentError(
                f"CodecConfig: layer {layer.name} is linear with {numbers} numbers a cell, must be "
                f"at most {MAX_CELL}; lower its stride or leave linear out"
            )

    def _check_head(self, head: Head, layers: list[Layer]) -> None:
        strides = {layer.stride for layer in layers}
        if len(strides) != 1:
            raise ArgumentError(
                f"CodecConfig: layers of head {head.name} have strides {sorted(strides)}, must "
                "have one; give the layers the same stride"
            )
        source = self.source_map[head.name]
        wanted = layers[0].latent_size(source.height, source.width)
        sizes = {self._latent_size(layer) for layer in layers}
        if sizes != {wanted}:
            raise ArgumentError(
                f"CodecConfig: layers of head {head.name} have latents of {sorted(sizes)}, must "
                f"have {wanted} for features of {source.height} x {source.width}; cut the networks "
                "where their features have one size"
            )

    def _latent_size(self, layer: Layer) -> tuple[int, int]:
        return layer.latent_size(*self.size_of(layer))

    @staticmethod
    def _known(item: str, names: tuple[str, ...], known: set[str]) -> None:
        unknown = [name for name in names if name not in known]
        if unknown:
            raise ArgumentError(
                f"CodecConfig: {item} names {unknown}, must be among {sorted(known)}; add or "
                "rename it"
            )

    @property
    def source_map(self) -> dict[str, Source]:
        """Sources by name."""
        return {source.name: source for source in self.sources}

    @property
    def conditional(self) -> bool:
        """Whether some layer may be coded given others."""
        return any(layer.parents for layer in self.layers)

    @property
    def free_order(self) -> bool:
        """Whether two layers may each be coded given the other, so that their order matters."""
        parents = {layer.name: layer.parents for layer in self.layers}
        return any(a in parents[b] for a in parents for b in parents[a])

    @property
    def tasks(self) -> tuple[str, ...]:
        """Names of the heads."""
        return tuple(head.name for head in self.heads)

    def size_of(self, layer: Layer) -> tuple[int, int]:
        """Return the nominal rows and columns of the sources of a layer."""
        source = self.source_map[layer.inputs[0]]
        return source.height, source.width

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for a model file; what is not linear does not say so."""
        data = dataclasses.asdict(self)
        for item in (*data["layers"], *data["heads"]):
            if not item["linear"]:
                del item["linear"]
        return data

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "CodecConfig":
        """Undo `to_dict`.

        Raises:
            ArgumentError: the data are not of this form.
        """
        try:
            return cls(
                sources=tuple(Source(**_tuples(item)) for item in data["sources"]),
                layers=tuple(Layer(**_tuples(item)) for item in data["layers"]),
                heads=tuple(Head(**_tuples(item)) for item in data["heads"]),
                order=tuple(data["order"]),
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise ArgumentError(
                f"CodecConfig: data has no such form ({error!r}); give a file written by "
                "FeatureCodec.save"
            ) from error
