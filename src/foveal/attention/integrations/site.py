"""Where an attached model calls us from, and what the user asked for there."""

from dataclasses import dataclass, field
from typing import Any

from foveal.attention.integrations.ledger import Ledger
from foveal.attention.policy.base import Policy
from foveal.attention.precision import Sage

_BREAK_EVEN = {"cpu": 1024, "cuda": 8192}
"""From how many keys on choosing cells pays: benchmarks/results/cpu_speed--cpu.json and
attention_speed--h100.json."""


@dataclass(eq=False)
class Plan:
    """What the user asked `attach` for.

    Attributes:
        policy: Chooses the cells; None is dense.
        precision: Quantizes; None is full precision.
        min_tokens: Calls with fewer keys go dense; None is what was measured on the device.
        loss_rows: Query rows a call on which the loss is measured; 0 is none.
        seed: Seed of these rows.
        ledger: The books, or None to keep none.
        step: Denoising step that policies are asked for, or None.
    """

    policy: Policy | None
    precision: Sage | None = None
    min_tokens: int | None = None
    loss_rows: int = 0
    seed: int = 0
    ledger: Ledger | None = None
    step: int | None = None

    def least_keys(self, device_type: str) -> int:
        """Return how many keys a call must have to be sparse on devices of a type."""
        if self.min_tokens is not None:
            return self.min_tokens
        return _BREAK_EVEN.get(device_type, _BREAK_EVEN["cpu"])

    def policy_of(self, layer: int) -> Policy | None:
        """Return the policy of a layer at this step."""
        policy = self.policy
        if policy is None:
            return None
        if self.step is not None:
            policy = policy.for_step(self.step)
        return policy.for_layer(layer)

    def __getstate__(self) -> dict[str, Any]:
        """Leave the books out of copies and files: a copied model is not the attached one."""
        return {**vars(self), "ledger": None}


@dataclass(eq=False)
class Order:
    """How many modules without an index of their own have attended so far."""

    used: int = 0


@dataclass(eq=False)
class Site:
    """One attention module of an attached model.

    Attributes:
        plan: What was asked for.
        name: Path of the module in the model.
        kind: Name of its class, for messages.
        layer: Index that policies are asked for; below 0 until `number` gives one.
        order: Numbers the modules that have no index of their own, as they first attend.
        outer: The site of the same module in an `attach` before this one.
        before: Attributes of the module to be put back on leaving.
        reached: Whether the module called us.
    """

    plan: Plan
    name: str
    kind: str
    layer: int = 0
    order: Order = field(default_factory=Order)
    outer: "Site | None" = None
    before: dict[str, Any] = field(default_factory=dict[str, Any])
    reached: bool = field(default=False)

    def number(self) -> int:
        """Return the index of this layer, the next free one when it first attends."""
        if self.layer < 0:
            self.layer = self.order.used
            self.order.used += 1
        return self.layer

    def reach(self) -> None:
        """Remember that the module called us, here and in every `attach` around this one."""
        site: Site | None = self
        while site is not None:
            site.reached = True
            site = site.outer

    def loses_nothing(self) -> bool:
        """Whether losses are measured, so that a dense call counts as one of loss 0."""
        return self.plan.loss_rows > 0
