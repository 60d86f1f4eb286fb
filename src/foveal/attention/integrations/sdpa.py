"""The seam to every other model: torch's `F.scaled_dot_product_attention` inside its attentions.

Hooks of each attention module enter and leave a `TorchFunctionMode`, which sees every torch
function that the module calls and takes over that one. Nothing outside these modules is slowed.
"""

import contextlib
import functools
import inspect
import re
import threading
from collections.abc import Callable, Generator, Iterable
from types import FunctionType, TracebackType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.hooks import RemovableHandle

from foveal.attention.integrations.call import dense, is_inside, prefill
from foveal.attention.integrations.copies import guard, release
from foveal.attention.integrations.site import Order, Plan, Site
from foveal.attention.integrations.visible import Rule
from foveal.errors import ArgumentError

Modules = Callable[[str, nn.Module], bool] | Iterable[str]
"""Which modules are attentions: asked by name and module, or the names."""

_ATTENTION = re.compile(r"attention|attn", re.IGNORECASE)
WHOLE = "(model)"
"""Name of the site of a model that is itself an attention."""

_SDPA = "scaled_dot_product_attention"

_active = threading.local()


def _stack() -> list["_Mode"]:
    """Modes that this thread is in, the innermost last."""
    if not hasattr(_active, "stack"):
        _active.stack = []
    return _active.stack


class _Mode(TorchFunctionMode):
    """Takes over attention while one call of one module runs."""

    def __init__(self, site: Site) -> None:
        super().__init__()
        self.site = site

    def __enter__(self) -> "_Mode":
        super().__enter__()
        _stack().append(self)
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> None:
        _stack().remove(self)
        super().__exit__(exc_type, exc_val, exc_tb)

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        if func is F.scaled_dot_product_attention or func is F.multi_head_attention_forward:
            return _take_over(self, func, args, kwargs or {})  # pyright: ignore[reportCallIssue]
        return func(*args, **(kwargs or {}))


@torch.compiler.disable
def _take_over(mode: _Mode, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    if is_inside():
        return func(*args, **kwargs)
    if func is F.multi_head_attention_forward:
        with mode:
            return _unguarded(func)(*args, **kwargs)
    for other in _stack():
        other.site.reach()
    return _attention(mode.site, func, *args, **kwargs)


def _unguarded(func: FunctionType) -> FunctionType:
    """Return a torch function that runs its body where a mode is active instead of asking it.

    `F.multi_head_attention_forward` is Python and calls the attention that we are after; asked for
    by a mode, it would run with the mode off.
    """

    def nobody_asks(_: object) -> bool:
        return False

    names = {**func.__globals__, "has_torch_function": nobody_asks}
    return FunctionType(func.__code__, names, func.__name__, func.__defaults__, func.__closure__)


def _attention(
    site: Site,
    func: Callable[..., Tensor],
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """Run one call of `F.scaled_dot_product_attention` by the plan, or as it is, counted."""

    def as_it_is() -> Tensor:
        return func(
            query,
            key,
            value,
            attn_mask=attn_mask,
            dropout_p=dropout_p,
            is_causal=is_causal,
            scale=scale,
            enable_gqa=enable_gqa,
        )

    if any(x.is_nested for x in (query, key, value)):  # of several lengths: one rule counts none
        return dense(site, "nested tensors", query, Rule(1, 1, causal=False), as_it_is)
    mask = attn_mask
    if mask is not None and query.ndim == 4 and mask.ndim < 4:
        mask = mask[(None,) * (4 - mask.ndim)]
    reason = _why_dense(query, key, value, mask, dropout_p, is_causal, enable_gqa)
    if reason is not None:
        if query.ndim < 3 or key.ndim < 3:
            return as_it_is()  # one head of one sequence, or an error of torch
        heads = query if query.ndim == 4 else query.unsqueeze(-3)
        rule = Rule(query.shape[-2], key.shape[-2], is_causal)
        return dense(site, reason, heads.flatten(0, -4), rule, as_it_is)
    return prefill(site, query, key, value, causal=is_causal, scale=scale, mask=mask)


def _why_dense(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None,
    dropout: float,
    causal: bool,
    grouped: bool,
) -> str | None:
    """Return why a call runs as it is, or None."""
    if not (q.ndim == k.ndim == v.ndim == 4):
        return "not four axes"
    if q.shape[2] == 1:
        return "decode"
    if dropout > 0:
        return "dropout"
    if type(mask) not in (type(None), Tensor, nn.Parameter):
        return "mask of a class of its own"  # torch's CausalBias holds no numbers
    if causal and mask is not None:
        return "causal with a mask"
    if causal and q.shape[2] != k.shape[2]:
        return "top-left causal with s != t"
    same = q.shape[0] == k.shape[0] == v.shape[0] and k.shape[1] == v.shape[1]
    heads = grouped and q.shape[1] % k.shape[1] == 0
    if not same or not (heads or q.shape[1] == k.shape[1]) or k.shape[2] != v.shape[2]:
        return "axes that broadcast"
    if q.shape[3] != k.shape[3] or 0 in q.shape or 0 in k.shape:
        return "sizes that do not fit"
    if mask is not None:
        if mask.requires_grad:
            return "mask that wants a gradient"
        wanted = (*q.shape[:3], k.shape[2])
        typed = mask.dtype == torch.bool or mask.is_floating_point()
        if not typed or not all(m in (1, w) for m, w in zip(mask.shape, wanted, strict=True)):
            return "mask that does not fit"
    return None


# --- which modules -------------------------------------------------------------------------------


@functools.lru_cache(maxsize=4096)
def _mentions_attention(kind: type[nn.Module]) -> bool:
    try:
        return _SDPA in inspect.getsource(kind.forward)
    except (OSError, TypeError):
        return False


def attentions(model: nn.Module, modules: Modules | None) -> dict[str, nn.Module]:
    """Return the attention modules of a model by name.

    Args:
        model: Searched with everything in it.
        modules: See `attach`.

    Raises: ArgumentError: a name is no module, or nothing is chosen by `modules`.
    """
    every = dict(model.named_modules())
    if modules is None:
        return {
            name: module
            for name, module in every.items()
            if _ATTENTION.search(type(module).__name__) or _mentions_attention(type(module))
        }
    if callable(modules):
        found = {name: module for name, module in every.items() if modules(name, module)}
    else:
        if not isinstance(modules, Iterable):
            raise ArgumentError(
                f"attach: modules is {modules!r}, must be names or a function (name, module) -> "
                f"bool; see {type(model).__name__}.named_modules()"
            )
        names = [modules] if isinstance(modules, str) else list(modules)
        for name in names:
            if name not in every:
                near = [x for x in every if str(name).rsplit(".")[-1] in x][:5]
                raise ArgumentError(
                    f"attach: modules holds {name!r}, must be names of {type(model).__name__}"
                    f".named_modules(); {f'is it one of {near}?' if near else 'look there'}"
                )
        found = {name: every[name] for name in names}
    if not found:
        raise ArgumentError(
            f"attach: modules is {modules!r}, must choose at least one module of "
            f"{type(model).__name__}; see named_modules()"
        )
    return found


# --- switching on and off ------------------------------------------------------------------------


@contextlib.contextmanager
def hooked(chosen: dict[str, nn.Module], plan: Plan) -> Generator[list[Site]]:
    """Take over the attention that these modules call.

    Args:
        chosen: Modules by name.
        plan: What to run.

    Yields: The sites, one for every module, in the order of `chosen`.
    """
    hooks: list[RemovableHandle] = []
    order = Order()
    sites = [Site(plan, name or WHOLE, type(x).__name__, -1, order) for name, x in chosen.items()]
    try:
        for site, module in zip(sites, chosen.values(), strict=True):
            guard(module)
            hooks.append(module.register_forward_pre_hook(functools.partial(_enter, site)))
            leave = functools.partial(_leave, site)
            # Before those of blocks around this one: the mode entered last is left first.
            hooks.append(module.register_forward_hook(leave, prepend=True, always_call=True))
        yield sites
    finally:
        for hook in hooks:
            hook.remove()
        for module in chosen.values():
            release(module)
        stack = _stack()
        while stack and stack[-1].site in sites:  # KeyboardInterrupt passes hooks by
            stack[-1].__exit__(None, None, None)


@torch.compiler.disable
def _enter(site: Site, module: nn.Module, args: Any) -> None:
    _Mode(site).__enter__()


@torch.compiler.disable
def _leave(site: Site, module: nn.Module, args: Any, output: Any) -> None:
    stack = _stack()
    if stack and stack[-1].site is site:
        stack[-1].__exit__(None, None, None)
