"""Chat models for the director: who is asked, how answers are checked, what they may cost.

One request, one JSON object that fits its schema. `OpenAICompatible` asks an endpoint,
`ManualModel` a person, `CallbackModel` your function; `Recorded` puts a `Cassette` before any of
them; a `Budget` stops them in time.
"""

from foveal.motion.director.chat.budget import Amount, Budget, BudgetError
from foveal.motion.director.chat.callback import CallbackModel
from foveal.motion.director.chat.cassette import Cassette
from foveal.motion.director.chat.manual import ManualModel
from foveal.motion.director.chat.openai_compatible import OpenAICompatible
from foveal.motion.director.chat.recorded import Recorded
from foveal.motion.director.chat.request import (
    AnswerError,
    ChatModel,
    Message,
    Reply,
    Request,
    Usage,
)
from foveal.motion.director.chat.schema import check_schema

__all__ = [
    "Amount",
    "AnswerError",
    "Budget",
    "BudgetError",
    "CallbackModel",
    "Cassette",
    "ChatModel",
    "ManualModel",
    "Message",
    "OpenAICompatible",
    "Recorded",
    "Reply",
    "Request",
    "Usage",
    "check_schema",
]
