"""Copies and files of an attached model hold nothing of us: they are those of the model itself."""

import functools
from typing import Any

from torch import nn

from foveal.attention.integrations.site import Site

SITE = "_foveal_site"
"""Attribute of an attached module of transformers that says to whom it belongs."""

_STATE = "__getstate__"
_HOOKS = ("_forward_pre_hooks", "_forward_hooks")
_CALLED = "_forward_hooks_always_called"


def guard(module: nn.Module) -> None:
    """See to it that `copy` and `pickle` leave our attributes and hooks out.

    Both ask an object itself what it holds, and would otherwise take along what is only there for
    the length of a block. Classes with a `__deepcopy__` of their own are left alone: some copy
    everything that they hold, also what refers to themselves, and would not come to an end.
    """
    if not hasattr(type(module), "__deepcopy__"):
        vars(module)[_STATE] = functools.partial(_state, module)


def release(module: nn.Module) -> None:
    """Undo `guard` if nothing of us is left in the module."""
    held = vars(module)
    if SITE not in held and not any(_is_ours(x) for name in _HOOKS for x in held[name].values()):
        held.pop(_STATE, None)


def _is_ours(hook: object) -> bool:
    return isinstance(hook, functools.partial) and any(isinstance(x, Site) for x in hook.args)


def _state(module: nn.Module) -> Any:
    """Return what `module` holds, without us."""
    found: Any = type(module).__getstate__(module)
    return _without_us(found) if isinstance(found, dict) else found


def _without_us(state: dict[str, Any]) -> dict[str, Any]:
    state = {key: value for key, value in state.items() if key != _STATE}
    site: Site | None = state.pop(SITE, None)
    while site is not None:  # the outermost knows what was there at first
        state.update(site.before)
        site = site.outer
    ours: set[int] = set()
    for name in _HOOKS:
        hooks = state.get(name, {})
        mine = {key for key, hook in hooks.items() if _is_ours(hook)}
        if mine:
            state[name] = type(hooks)((k, x) for k, x in hooks.items() if k not in mine)
            ours |= mine
    if ours and _CALLED in state:
        called = state[_CALLED]
        state[_CALLED] = type(called)((k, x) for k, x in called.items() if k not in ours)
    return state
