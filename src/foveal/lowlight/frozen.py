"""Somebody's model, held still: nothing of it changes, gradients pass, features are read."""

import contextlib
from collections.abc import Generator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from foveal.errors import ArgumentError
from foveal.lowlight.ensemble import Activation

_LEAST_SIDE = 6
"""Positions along the shorter side of a feature map that a 3 x 3 puzzle can be read from."""
_MOST_LEVELS = 3
_KEYS = ("logits", "out")
_ACTIVATIONS: tuple[Activation, ...] = ("softmax", "sigmoid")


@contextlib.contextmanager
def frozen(model: nn.Module) -> Generator[None]:
    """Put a model into evaluation mode without gradients to its parameters, and back afterwards.

    Each submodule gets its own mode back, each parameter its own `requires_grad`. Statistics of
    batch normalisation do not move in evaluation mode; where a model updates a buffer all the same,
    in place or by another tensor, the buffer is put back.
    """
    modes = [(module, module.training) for module in model.modules()]
    flags = [(p, p.requires_grad) for p in model.parameters()]
    kept = [
        (module, name, b, None if b is None else b.detach().clone())
        for module, _ in modes
        for name, b in _buffers_of(module).items()
    ]
    for module, _ in modes:
        module.training = False
    for parameter, _ in flags:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode
        for parameter, flag in flags:
            parameter.requires_grad_(flag)
        with torch.no_grad():
            for module, name, buffer, was in kept:
                if getattr(module, name) is not buffer:
                    setattr(module, name, buffer)
                # not by its version, which batch normalisation does not count up
                if buffer is not None and was is not None and not torch.equal(buffer, was):
                    buffer.copy_(was)


def _buffers_of(module: nn.Module) -> dict[str, Tensor | None]:
    """Return a module's own buffers by name; those that are None too, but of a script."""
    own = vars(module).get("_buffers")
    return dict(own if isinstance(own, dict) else module.named_buffers(recurse=False))


def device_of(model: nn.Module) -> str:
    """Return where a model's first parameter or buffer is; "cpu" without any."""
    first = next((x for kind in (model.parameters(), model.buffers()) for x in kind), None)
    return "cpu" if first is None else str(first.device)


def size_of(model: nn.Module, default: int) -> int:
    """Return the side of the square that a model takes: its `size`, if that is a whole number."""
    own: Any = getattr(model, "size", None)
    return own if isinstance(own, int) and not isinstance(own, bool) else default


def activation_of(where: str, model: nn.Module, given: str | None) -> Activation:
    """Return what makes probabilities of a model's logits: what is given, its own, or softmax.

    A model's `activation` that is something else, such as a layer, does not count.

    Raises:
        ArgumentError: another is given.
    """
    if given is not None and given not in _ACTIVATIONS:
        raise ArgumentError(f"{where}: activation is {given!r}, must be one of {_ACTIVATIONS}")
    own: Any = getattr(model, "activation", None) if given is None else given
    return "sigmoid" if isinstance(own, str) and own == "sigmoid" else "softmax"


def answer_of(output: Any) -> Tensor:
    """Return the logits in what a model returned: a tensor, or one under a usual name.

    Raises:
        ArgumentError: there is none; the message says what was returned.
    """
    if isinstance(output, Tensor):
        return output
    for key in _KEYS:
        found = output.get(key) if isinstance(output, Mapping) else getattr(output, key, None)
        if isinstance(found, Tensor):
            return found
    names = list(output) if isinstance(output, Mapping) else type(output).__name__
    raise ArgumentError(
        f"align: the model returned {names}, must be logits (b, classes, ...) or have them as one "
        f"of {_KEYS}; pass answer=, a function from the output to logits"
    )


class Taps:
    """Reads what modules of a model put out while it runs; the largest map of one that runs often.

    Args:
        model: Any module.
        layers: Names of submodules.

    Raises:
        ArgumentError: no module of that name.
    """

    def __init__(self, model: nn.Module, layers: Sequence[str]) -> None:
        """Look the modules up."""
        modules = dict(model.named_modules())
        for name in layers:
            if name not in modules or name == "":
                near = [x for x in modules if x][:8]
                raise ArgumentError(
                    f"align: layers has {name!r}, must be names of submodules such as {near}"
                )
        self.names = tuple(layers)
        self._modules = {name: modules[name] for name in layers}
        self.found: dict[str, Tensor] = {}

    @contextlib.contextmanager
    def open(self) -> Generator[dict[str, Tensor]]:
        """Yield a mapping that fills while the model runs."""
        self.found = {}
        hooks = [m.register_forward_hook(self._keep(name)) for name, m in self._modules.items()]
        try:
            yield self.found
        finally:
            for hook in hooks:
                hook.remove()

    def _keep(self, name: str) -> Any:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            found = as_map(output)
            if found is None:
                raise ArgumentError(
                    f"align: layers has {name!r}, whose output is no feature map, must be "
                    "(b, c, h, w), (b, c, t, h, w) or (b, tokens, c); name another module"
                )
            known = self.found.get(name)
            if known is None or found.shape[2:].numel() >= known.shape[2:].numel():
                self.found[name] = found

        return hook


def as_map(output: Any) -> Tensor | None:
    """Return features as (b, c, h, w): clips are averaged in time, tokens unfolded."""
    if not isinstance(output, Tensor) or not output.is_floating_point():
        return None
    if output.ndim == 4:
        return output
    if output.ndim == 5:
        return output.mean(2)
    if output.ndim == 3:
        for extra in (0, 1):  # a class token comes first
            side = round((output.shape[1] - extra) ** 0.5)
            if side > 1 and side * side == output.shape[1] - extra:
                return output[:, extra:].transpose(1, 2).unflatten(2, (side, side))
    return None


def choose_layers(model: nn.Module, run: Any) -> list[str]:
    """Return the last module at each of the coarsest sizes that a puzzle can still be read from.

    Args:
        model: The model.
        run: Runs it once.

    Raises:
        ArgumentError: no module puts out such a map.
    """
    largest: dict[str, tuple[int, int]] = {}  # in the order of the last run
    names = {module: name for name, module in model.named_modules() if name}

    def keep(module: nn.Module, inputs: Any, output: Any) -> None:
        found = as_map(output)
        if found is not None and min(found.shape[2:]) >= _LEAST_SIDE and found.shape[1] >= 4:
            known = largest.pop(names[module], (0, 0))
            largest[names[module]] = max(known, (found.shape[2], found.shape[3]))

    hooks = [module.register_forward_hook(keep) for module in names]
    try:
        with torch.no_grad():
            run()
    finally:
        for hook in hooks:
            hook.remove()
    last = {size: name for name, size in largest.items()}
    if not last:
        raise ArgumentError(
            "align: the model has no module whose output is a feature map of at least "
            f"{_LEAST_SIDE} x {_LEAST_SIDE}, must have one; pass layers=, or a larger size"
        )
    coarsest = sorted(last, key=lambda size: size[0] * size[1])[:_MOST_LEVELS]
    return [last[size] for size in reversed(coarsest)]
