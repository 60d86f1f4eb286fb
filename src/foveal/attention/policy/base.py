"""What a policy is: queries and keys in, kept cells out."""

import contextlib
import dataclasses
import json
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar

from jaxtyping import Float
from torch import Tensor

from foveal.attention.layout import BlockLayout
from foveal.errors import ArgumentError


def check_count(where: str, name: str, value: object, *, least: int = 0) -> None:
    """Raise ArgumentError unless `value` is a whole number of at least `least`."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ArgumentError(
            f"{where}: {name} is {value!r}, must be a whole number >= {least}; use {least}"
        )


class Policy(ABC):
    """Chooses which cells to keep. It sees queries and keys, never an attention kernel.

    Policies combine: `a | b` keeps what either keeps, `a & b` what both keep. Subclasses are frozen
    dataclasses whose fields are numbers, strings, tuples of those, or other policies, so that a
    policy can be written to text and read again.
    """

    text = ""
    """The policy as JSON; empty where `to_json` refuses."""
    known: ClassVar[dict[str, type["Policy"]]] = {}

    def __init_subclass__(cls) -> None:
        """Remember the class, so that `from_json` finds it."""
        super().__init_subclass__()
        Policy.known[cls.__name__] = cls
        checked: Callable[[Policy], None] | None = getattr(cls, "__post_init__", None)

        def finish(self: Policy) -> None:
            if checked is not None:
                checked(self)
            # Kept as text, which torch.compile takes for a constant; it cannot look for fields.
            with contextlib.suppress(ArgumentError):
                object.__setattr__(self, "text", self.to_json())

        cls.__post_init__ = finish  # pyright: ignore[reportAttributeAccessIssue]

    def to_json(self) -> str:
        """Return the policy as JSON text.

        Raises: ArgumentError: the class is no dataclass, or a field holds something else.
        """
        return json.dumps(_plain(self))

    @staticmethod
    def from_json(text: str) -> "Policy":
        """Return the policy that `to_json` wrote.

        Raises: ArgumentError: the text is no such JSON, or its values are refused by the class.
        """
        try:
            value = _policy(json.loads(text))
        except (json.JSONDecodeError, RecursionError) as error:
            raise ArgumentError(
                f"Policy.from_json: text is no JSON ({error}), must come from Policy.to_json"
            ) from error
        if not isinstance(value, Policy):
            raise ArgumentError(
                f"Policy.from_json: text is {text[:80]!r}, must come from Policy.to_json"
            )
        return value

    @abstractmethod
    def layout(
        self,
        q: Float[Tensor, "b h s d"],
        k: Float[Tensor, "b g t d"],
        *,
        causal: bool = True,
        scale: float | None = None,
    ) -> BlockLayout:
        """Return the kept cells for these queries and keys.

        Args:
            q: Queries.
            k: Keys; g divides h.
            causal: Bottom-right causal.
            scale: Logit factor, unitless. Default 1/sqrt(d).
        """

    def for_layer(self, layer: int) -> "Policy":
        """Return the policy of one layer, counted from 0. `attach` asks; by default all alike."""
        return self

    def for_step(self, step: int) -> "Policy":
        """Return the policy of one denoising step, counted from 0. By default all alike."""
        return self

    def scoring_cost(self, layout: BlockLayout) -> float:
        """Return what choosing `layout` cost, in block products; 0 where nothing was scored."""
        return 0.0

    def __or__(self, other: "Policy") -> "Policy":
        """Keep what either policy keeps."""
        from foveal.attention.policy.combine import Either

        return Either(self, other)

    def __and__(self, other: "Policy") -> "Policy":
        """Keep what both policies keep."""
        from foveal.attention.policy.combine import Both

        return Both(self, other)


def _plain(value: Any) -> Any:
    if isinstance(value, Policy):
        if not dataclasses.is_dataclass(value):
            raise ArgumentError(
                f"Policy.to_json: {type(value).__name__} is no dataclass, must be one; decorate it"
            )
        fields = {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
        return {"policy": type(value).__name__, **fields}
    if isinstance(value, tuple):
        return [_plain(x) for x in value]  # pyright: ignore[reportUnknownVariableType]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise ArgumentError(
        f"Policy.to_json: a field holds {type(value).__name__}, must be a number, text, tuple or "
        "policy; store it in another form"
    )


def _policy(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(_policy(x) for x in value)  # pyright: ignore[reportUnknownVariableType]
    if not isinstance(value, dict):
        return value
    fields: dict[str, Any] = dict(value)  # pyright: ignore[reportUnknownArgumentType]
    found = Policy.known.get(str(fields.pop("policy", None)))
    names = [f.name for f in dataclasses.fields(found)] if found is not None else []  # pyright: ignore[reportArgumentType]
    if found is None or set(fields) - set(names):
        raise ArgumentError(
            f"Policy.from_json: {value} is no known policy with known settings, must be one of "
            f"{sorted(Policy.known)}; import its module, or write it anew"
        )
    try:
        return found(**{name: _policy(x) for name, x in fields.items()})
    except TypeError as error:
        raise ArgumentError(
            f"Policy.from_json: {found.__name__} refuses {fields} ({error}); write it anew"
        ) from error
