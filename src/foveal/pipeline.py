"""Run named steps one after another: order, timing, error context, partial trace. No maths."""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from foveal.errors import ArgumentError, FovealError
from foveal.receipt import Receipt


@dataclass(frozen=True, slots=True)
class Step:
    """What one step did."""

    name: str
    seconds: float
    output: Any
    receipt: Receipt | None


@dataclass(slots=True)
class Trace:
    """The steps that were finished, in order."""

    steps: list[Step] = field(default_factory=list)

    @property
    def receipts(self) -> list[Receipt]:
        """Receipts of the steps that returned one."""
        return [step.receipt for step in self.steps if step.receipt is not None]

    @property
    def seconds(self) -> float:
        """Wall time of all finished steps."""
        return sum(step.seconds for step in self.steps)

    def __str__(self) -> str:
        """One line a receipt, then the total in seconds; units are not added up."""
        return "\n".join([*map(str, self.receipts), f"total: {self.seconds:.2f} s"])


class PipelineError(FovealError):
    """A step failed. `.trace` holds what was finished before; `__cause__` is the step's error."""

    def __init__(self, message: str, trace: Trace) -> None:
        """Keep the partial trace."""
        super().__init__(message)
        self.trace = trace


class Pipeline:
    """Compose callables; each gets the output of the one before.

    A step's receipt is the `.receipt` attribute of what it returns, if there is one.

    Args:
        steps: Pairs of a name and a callable of one argument. Names are unique.

    Raises:
        ArgumentError: no step, or a name twice.
    """

    def __init__(self, steps: Iterable[tuple[str, Callable[[Any], Any]]]) -> None:
        """Check the names."""
        self._steps = list(steps)
        names = [name for name, _ in self._steps]
        if not names or len(set(names)) != len(names):
            raise ArgumentError(f"Pipeline: steps are named {names}, must be unique, at least one")

    def run(self, value: Any, *, on_step: Callable[[str, int, int], None] | None = None) -> Trace:
        """Run every step on `value`.

        Args:
            value: Input of the first step.
            on_step: Called before each step with its name, its index and the number of steps.

        Raises:
            PipelineError: a step raised a `FovealError`; the trace so far is kept in the error.
        """
        trace = Trace()
        for index, (name, step) in enumerate(self._steps):
            if on_step is not None:
                on_step(name, index, len(self._steps))
            start = time.perf_counter()
            try:
                value = step(value)
            except FovealError as error:
                message = f"step {index + 1} of {len(self._steps)} ({name}): {error}"
                raise PipelineError(message, trace) from error
            receipt = getattr(value, "receipt", None)
            trace.steps.append(
                Step(
                    name,
                    time.perf_counter() - start,
                    value,
                    receipt if isinstance(receipt, Receipt) else None,
                )
            )
        return trace
