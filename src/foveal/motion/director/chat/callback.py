"""Your own function as a chat model: any client, chain or rule."""

import json
import time
from collections.abc import Callable, Mapping
from typing import Any

from foveal.errors import ProviderError
from foveal.motion.director.chat.asking import Said, converse
from foveal.motion.director.chat.budget import Budget, tokens_of, tokens_of_text
from foveal.motion.director.chat.request import Json, Message, Reply, Request, Usage, plain, to_png

Function = Callable[[list[Json], list[bytes], Json], str | Mapping[str, Any]]


class CallbackModel:
    """A chat model that is a function.

    Args:
        function: Called as `function(messages, pictures, schema)`. `messages` is a list of dicts
            with "role" ("system", "user", "assistant"), "content" (text) and "pictures" (indices
            into `pictures`); `pictures` is a list of PNG files as bytes; `schema` is the JSON
            schema of the answer. Returns the answer as text, or as an object.
        name: Its name in `Usage.model` and in errors.
        budget: Limits; tokens are estimated, since a function does not count them.
    """

    def __init__(
        self, function: Function, *, name: str = "callback", budget: Budget | None = None
    ) -> None:
        self._function, self.name, self.budget = function, name, budget

    def __repr__(self) -> str:
        return f"CallbackModel(name={self.name!r})"

    def complete(self, request: Request) -> Reply:
        """Answer a request; asks once more if the answer does not fit.

        Raises:
            AnswerError: the second answer does not fit either.
            BudgetError: a call might pass the budget.
            ProviderError: the function raised, or returned neither text nor a mapping.
        """
        return converse(
            request,
            lambda messages: self._ask(request, messages),
            where=f"CallbackModel {self.name}",
        )

    def _ask(self, request: Request, messages: tuple[Message, ...]) -> Said:
        again = sum(tokens_of_text(message.text) for message in messages[len(request.messages) :])
        if self.budget is not None:
            self.budget.admit(request, extra_tokens=again)
        listed: list[Json] = [{"role": "system", "content": request.system, "pictures": []}]
        pictures: list[bytes] = []
        for message in messages:
            at = list(range(len(pictures), len(pictures) + len(message.pictures)))
            pictures += [to_png(picture) for picture in message.pictures]
            listed.append({"role": message.author, "content": message.text, "pictures": at})
        started = time.monotonic()
        where = f"CallbackModel {self.name}: function"
        try:
            answer: Any = self._function(listed, pictures, dict(request.schema))
            text = answer if isinstance(answer, str) else json.dumps(answer, default=_plain_json)
        except ProviderError:
            raise
        except Exception as error:
            raise ProviderError(
                f"{where} raised {type(error).__name__}: {plain(str(error))}; see above"
            ) from error
        if not isinstance(answer, str | Mapping):
            raise ProviderError(
                f"{where} returned {type(answer).__name__}, must return text or a mapping"
            )
        usage = Usage(
            tokens_of(request) + again,
            tokens_of_text(text),
            time.monotonic() - started,
            self.name,
            estimated=True,
        )
        if self.budget is not None:
            self.budget.charge(usage)
        return Said(text, usage, "callback")


def _plain_json(value: Any) -> Any:
    """Turn mappings, arrays and NumPy numbers into what JSON knows."""
    if isinstance(value, Mapping):
        return dict(value)
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"a {type(value).__name__} is no JSON value")
