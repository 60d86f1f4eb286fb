"""A chat model with a memory: cassette first, model after."""

from collections.abc import Iterable

from foveal.errors import ArgumentError
from foveal.motion.director.chat.budget import Amount, Budget
from foveal.motion.director.chat.cassette import Cassette
from foveal.motion.director.chat.request import ChatModel, Reply, Request


class Recorded:
    """Answers from a cassette where its mode allows, and from a model otherwise.

    Money is guarded where it is spent: give the budget to the model. What is replayed costs
    nothing.

    Args:
        model: Who answers what is not replayed; None with mode "replay".
        cassette: The recordings.

    Raises:
        ArgumentError: no model in a mode that asks one.
    """

    def __init__(self, model: ChatModel | None, cassette: Cassette) -> None:
        if model is None and cassette.mode != "replay":
            raise ArgumentError(
                f"Recorded: model is None, must be one with mode {cassette.mode!r}; give one, or "
                "replay"
            )
        self.model, self.cassette = model, cassette

    @property
    def budget(self) -> Budget | None:
        """The model's budget, if it has one."""
        return getattr(self.model, "budget", None)

    def missing(self, requests: Iterable[Request]) -> list[Request]:
        """Return those requests that the model would be asked."""
        mode = self.cassette.mode
        if mode == "replay":
            return []
        return [r for r in requests if mode != "record-missing" or r not in self.cassette]

    def require(self, requests: Iterable[Request]) -> Amount | None:
        """Estimate what is not replayed, before the first paid call; None without a budget.

        Raises:
            BudgetError: it passes a limit.
        """
        return None if self.budget is None else self.budget.require(self.missing(requests))

    def complete(self, request: Request) -> Reply:
        """Replay or ask, and record what was asked.

        Raises:
            ProviderError: nothing is recorded and the mode is "replay", or the model has failed.
        """
        mode = self.cassette.mode
        if self.model is None or mode == "replay":
            return self.cassette.replay(request)
        if mode == "record-missing" and request in self.cassette:
            return self.cassette.replay(request)
        reply = self.model.complete(request)
        if mode != "off":
            self.cassette.append(request, reply)
        return reply
