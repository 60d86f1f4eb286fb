"""What calls may cost: looked at before the first one, and before each one after that.

A call is refused when all that was spent and the most that it could take would pass a limit; what
reaches a limit exactly is allowed. Prices are taken as the decimal numbers that they are written
as, so that sums are exact.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction

from foveal.errors import ArgumentError, ProviderError
from foveal.motion.director.chat.request import Request, Usage, picture_size

BYTES_PER_TOKEN = 3  # English has 4 to 5 in most tokenisers: an estimate on the safe side
PIXELS_PER_TOKEN = 750  # between what tiles of 512 and patches of 28 pixels amount to


@dataclass(frozen=True)
class Amount:
    """Calls and tokens, and what they cost.

    Args:
        calls: Calls to a model.
        tokens_in, tokens_out: Tokens read and written.
        money: Their price in the currency of the prices; None without prices.
        estimated: Whether some of it is an estimate.
    """

    calls: int
    tokens_in: int
    tokens_out: int
    money: float | None = None
    estimated: bool = False


class BudgetError(ProviderError):
    """A call was refused, since it might pass a limit.

    `spent` is what all calls so far took, `needed` what the refused ones might.
    """

    def __init__(self, text: str, spent: Amount, needed: Amount) -> None:
        super().__init__(text)
        self.spent = spent
        self.needed = needed


def tokens_of(request: Request) -> int:
    """Estimate the tokens that a model reads for a request: text, schema and pictures."""
    texts = [request.system, str(request.schema), *(m.text for m in request.messages)]
    size = sum(len(text.encode(errors="replace")) for text in texts)
    pictures = [p for message in request.messages for p in message.pictures]
    seen = sum(math.ceil(math.prod(picture_size(p)) / PIXELS_PER_TOKEN) for p in pictures)
    return math.ceil(size / BYTES_PER_TOKEN) + seen


def tokens_of_text(text: str) -> int:
    """Estimate the tokens of a text."""
    return math.ceil(len(text.encode(errors="replace")) / BYTES_PER_TOKEN)


class Budget:
    """Limits of a run, and what was spent of them. For one thread.

    Args:
        calls: Most calls, re-asks and further rungs included.
        tokens: Most tokens, read and written together.
        money: Most money, in the currency of the prices; needs both.
        price_in, price_out: Price of a million tokens read and written.

    Raises:
        ArgumentError: a limit or price that is negative or not finite, money without prices.
    """

    def __init__(
        self,
        *,
        calls: int | None = None,
        tokens: int | None = None,
        money: float | None = None,
        price_in: float | None = None,
        price_out: float | None = None,
    ) -> None:
        given = {
            "calls": calls,
            "tokens": tokens,
            "money": money,
            "price_in": price_in,
            "price_out": price_out,
        }
        for name, value in given.items():
            if value is not None and not (math.isfinite(value) and value >= 0):
                raise ArgumentError(
                    f"Budget: {name} is {value}, must be finite and at least 0; leave it out for "
                    "no limit"
                )
        if (price_in is None) != (price_out is None):
            missing = "price_in" if price_in is None else "price_out"
            raise ArgumentError(
                f"Budget: {missing} is None, must be given with the other price; 0 if it is free"
            )
        if money is not None and price_in is None:
            raise ArgumentError(
                f"Budget: money is {money}, must come with price_in and price_out; give the price "
                "of a million tokens"
            )
        self._calls, self._tokens, self._money = calls, tokens, money
        self._prices = (
            None
            if price_in is None or price_out is None
            else (Fraction(str(price_in)), Fraction(str(price_out)))
        )
        self._spent = Amount(0, 0, 0, estimated=False)

    def __repr__(self) -> str:
        return f"Budget(calls={self._calls}, tokens={self._tokens}, money={self._money})"

    @property
    def spent(self) -> Amount:
        """What all calls so far took."""
        s = self._spent
        return self._amount(s.calls, s.tokens_in, s.tokens_out, estimated=s.estimated)

    def estimate(self, requests: Iterable[Request]) -> Amount:
        """Return the most that these requests take, answered at once: no re-ask, longest answers.

        Tokens read are estimated: one per 3 bytes of text and per 750 pixels.
        """
        listed = list(requests)
        return self._amount(
            len(listed),
            sum(tokens_of(request) for request in listed),
            sum(request.max_tokens for request in listed),
            estimated=True,
        )

    def require(self, requests: Iterable[Request]) -> Amount:
        """Return the estimate, before the first paid call.

        Raises:
            BudgetError: with what is spent already, it passes a limit.
        """
        needed = self.estimate(requests)
        self._refuse(needed, "Budget.require", f"{needed.calls} calls might take")
        return needed

    def admit(self, request: Request, *, extra_tokens: int = 0) -> None:
        """Let one call pass, before it is made.

        Args:
            request: What is asked.
            extra_tokens: Tokens read beyond the request: a re-ask's.

        Raises:
            BudgetError: what it might take passes a limit.
        """
        needed = self._amount(
            1, tokens_of(request) + extra_tokens, request.max_tokens, estimated=True
        )
        self._refuse(needed, "Budget", f"the next call ({request.role} turn {request.turn}) might")

    def charge(self, usage: Usage) -> None:
        """Add what a call took."""
        s = self._spent
        self._spent = Amount(
            s.calls + usage.calls,
            s.tokens_in + usage.tokens_in,
            s.tokens_out + usage.tokens_out,
            estimated=s.estimated or usage.estimated,
        )

    def _amount(self, calls: int, tokens_in: int, tokens_out: int, *, estimated: bool) -> Amount:
        exact = self._price(tokens_in, tokens_out)
        return Amount(calls, tokens_in, tokens_out, None if exact is None else float(exact),
                      estimated)  # fmt: skip

    def _price(self, tokens_in: int, tokens_out: int) -> Fraction | None:
        if self._prices is None:
            return None
        return (tokens_in * self._prices[0] + tokens_out * self._prices[1]) / 10**6

    def _refuse(self, needed: Amount, where: str, what: str) -> None:
        spent = self.spent
        tokens_in = spent.tokens_in + needed.tokens_in
        tokens_out = spent.tokens_out + needed.tokens_out
        price = self._price(tokens_in, tokens_out)
        calls, tokens = spent.calls + needed.calls, tokens_in + tokens_out
        passed: str | None = None
        if self._calls is not None and calls > self._calls:
            passed = f"calls: {spent.calls} spent + {needed.calls} > calls={self._calls}"
        elif self._tokens is not None and tokens > self._tokens:
            before = spent.tokens_in + spent.tokens_out
            passed = f"tokens: {before} spent + {tokens - before} > tokens={self._tokens}"
        elif self._money is not None and price is not None and price > Fraction(str(self._money)):
            passed = f"money: {spent.money:.6g} spent + {needed.money:.6g} > money={self._money}"
        if passed is not None:
            raise BudgetError(
                f"{where}: {what} pass the limit of {passed}; raise the limit, lower max_tokens, "
                "or use what there is so far",
                spent,
                needed,
            )
