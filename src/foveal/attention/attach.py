"""Put sparse attention into a model for the length of a `with` block."""

import contextlib
from collections.abc import Callable, Generator, Iterable

from torch import nn

from foveal.attention.attend import check_precision
from foveal.attention.integrations import sdpa, transformers
from foveal.attention.integrations.handle import Handle
from foveal.attention.integrations.ledger import Ledger
from foveal.attention.integrations.site import Plan, Site
from foveal.attention.policy.base import Policy
from foveal.attention.precision import Sage
from foveal.errors import ArgumentError, UnsupportedError

__all__ = ["Handle", "attach"]

_NAMES_SHOWN = 8


@contextlib.contextmanager
def attach(
    model: nn.Module,
    *,
    policy: Policy | None,
    precision: Sage | None = None,
    modules: Callable[[str, nn.Module], bool] | Iterable[str] | None = None,
    min_tokens: int | None = None,
    loss_rows: int = 64,
    seed: int = 0,
) -> Generator[Handle]:
    """Run a model with sparse attention inside the `with` block.

    Calls with several queries (prefills) compute the cells that `policy` keeps; calls with one
    query (decoding) are dense. What cannot be sparse runs dense and exact, and
    `handle.receipt.details["dense_calls"]` counts it by reason. There are two ways in:

    - transformers models that look their attention up by name (nearly all) get the registered
      attention "foveal", on configs that are copied while attached. Sliding-window layers keep
      their window. Each padded sequence runs on its real tokens. Attention sinks are exact. Padding
      with holes, packed sequences, other 4-D masks, position biases and dropout run dense.
    - every other module (diffusers, your own) is caught at `F.scaled_dot_product_attention`, inside
      its attention modules. Boolean and additive masks are exact and stay sparse (one that wants a
      gradient runs dense). Dropout, `is_causal` with s != t (torch's is top-left there) and axes
      that broadcast run dense.

    A module that holds both gets both. Attach first and compile then: compiled code calls us
    between its graphs, so `fullgraph=True` is refused by torch. Blocks nest, of the same model too:
    the inner one counts.

    Args:
        model: Any module. Put back as it was on leaving, also after an exception.
        policy: Chooses the cells, per layer and call. None runs dense, counted and timed.
        precision: `Sage(...)` quantizes prefills, for inference only; None computes in the dtype of
            the model. Calls that go dense with a reason are not quantized.
        modules: Attention modules of what is no transformers model: their names, or a function
            `(name, module) -> bool`. By default those whose class has "attention" or "attn" in its
            name, or whose `forward` mentions scaled_dot_product_attention. Given, it is the only
            way in, for transformers models too.
        min_tokens: Calls with fewer keys go dense: choosing cells costs more than it saves there.
            None takes what was measured: 1024 on a CPU, 8192 on a GPU (an H100).
        loss_rows: Query rows a call on which the loss is measured against exact attention; 0
            measures nothing.
        seed: Seed of these rows.

    Yields: A handle with `.receipt`, `.density` and `.layouts(layer)`; set `.step` for policies
        that differ by denoising step. Layers have the model's `layer_idx`, or are counted in the
        order in which they first attend.

    Raises:
        ArgumentError: an argument is not as above; `modules` names or chooses no module.
        UnsupportedError: no attention in the model; a softcap, `output_attentions`, `cu_seq_lens`
            or no SDPA support (named with the class); or, on leaving, an attention module that
            never reached us (compiled before, a fused kernel of its own), by name.

    Cost: the measurement attends with `loss_rows` queries a call in fp32: of a dense call it takes
        loss_rows / tokens, of a causal one twice that (6 % at 2048 tokens and 64 rows), and Python
        per head. `details["measure_seconds"]` has what it took; `loss_rows=0` saves it.
    Memory: one bit per cell for each layer's newest layout.

    Example: >>> with attach(model, policy=XAttention()) as handle:
        ...     model.generate(**inputs)
        >>> print(handle.receipt)
    """
    check_precision("attach", precision)
    _check(model, policy, min_tokens, loss_rows, seed)
    ledger = Ledger()
    plan = Plan(policy, precision, min_tokens, loss_rows, seed, ledger)
    parts = {} if modules is not None else _transformers_parts(model)
    inside = tuple(f"{name}." if name else "" for name in parts)
    chosen = {
        name: module
        for name, module in sdpa.attentions(model, modules).items()
        if not parts or not f"{name}.".startswith(inside)
    }
    if not parts and not chosen:
        raise UnsupportedError(
            f"attach: {type(model).__name__} has no attention module, must have one whose class "
            'has "attention" or "attn" in its name or that calls F.scaled_dot_product_attention; '
            "pass modules=, or call attend(q, k, v, policy=...) inside your own"
        )
    registered: dict[str, list[Site]] = {}
    caught: list[Site] = []
    with contextlib.ExitStack() as stack:
        for name, part in parts.items():
            sites = stack.enter_context(transformers.attached(part, plan, name))
            registered[f"{type(part).__name__} {name}".strip()] = sites
        caught = stack.enter_context(sdpa.hooked(chosen, plan))
        yield Handle(plan, ledger)
    missed = [name for name, sites in registered.items() if not any(x.reached for x in sites)]
    missed += [
        f"{x.kind} {x.name}" for x in caught if not x.reached and not _helps(x, caught, modules)
    ]
    if missed:
        more = f" and {len(missed) - _NAMES_SHOWN} more" if len(missed) > _NAMES_SHOWN else ""
        raise UnsupportedError(
            f"attach: {', '.join(missed[:_NAMES_SHOWN])}{more} never called our attention, must do "
            "so at least once; run them inside the with block, compile only after attaching, turn "
            "fused kernels of their own off, or leave them out with modules="
        )


def _helps(site: Site, sites: list[Site], modules: object) -> bool:
    """Whether a module that we chose by its class is a mere part of one that did reach us."""
    return modules is None and any(
        x.reached and (site.name.startswith(f"{x.name}.") or x.name == sdpa.WHOLE) for x in sites
    )


def _transformers_parts(model: nn.Module) -> dict[str, nn.Module]:
    """Return the outermost modules that look their attention up in transformers' registry."""
    found: dict[str, nn.Module] = {}
    for name, module in model.named_modules():
        within = any(not x or name.startswith(f"{x}.") for x in found)
        if not within and transformers.is_ours(module):
            found[name] = module
    return found


def _check(
    model: object, policy: object, min_tokens: object, loss_rows: object, seed: object
) -> None:
    if not isinstance(model, nn.Module):
        raise ArgumentError(
            f"attach: model is a {type(model).__name__}, must be a torch.nn.Module; of a pipeline, "
            "pass the network inside, such as pipe.transformer"
        )
    if policy is not None and not isinstance(policy, Policy):
        raise ArgumentError(
            f"attach: policy is {policy!r}, must be None or a Policy; use XAttention()"
        )
    least = 0 if min_tokens is None else min_tokens
    for name, value in (("min_tokens", least), ("loss_rows", loss_rows), ("seed", seed)):
        if type(value) is not int or value < 0:
            raise ArgumentError(f"attach: {name} is {value!r}, must be an int >= 0; use 0 for none")
