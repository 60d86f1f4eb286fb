"""Budgets at their very edge, exact sums, estimates by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foveal.errors import ArgumentError, ProviderError
from foveal.motion.director.chat import Amount, Budget, BudgetError, Message, Request, Usage
from foveal.motion.director.chat.budget import tokens_of

SCHEMA = {"type": "object"}  # {'type': 'object'}: 18 bytes
ASK = Request("wave", "designer", 2, "d1", "abc", (Message("de"),), SCHEMA, 100)
IN = 8  # (3 + 2 + 18) / 3 bytes a token, rounded up


def usage(tokens_in: int, tokens_out: int, **more) -> Usage:
    return Usage(tokens_in, tokens_out, 0.1, "m", **more)


def test_estimates_by_hand() -> None:
    assert tokens_of(ASK) == IN
    picture = np.zeros((30, 50), np.uint8)  # 1500 pixels: 2 tokens
    seen = Request("wave", "designer", 0, "d1", "", (Message("é" * 3, (picture,)),), SCHEMA)
    assert tokens_of(seen) == 8 + 2  # 6 bytes of text, 18 of the schema
    assert Budget(price_in=2, price_out=10).estimate([ASK] * 3) == Amount(
        3, 3 * IN, 300, (3 * IN * 2 + 300 * 10) / 1e6, estimated=True
    )
    assert Budget().estimate([]) == Amount(0, 0, 0, None, estimated=True)


def test_calls_at_the_edge() -> None:
    budget = Budget(calls=2)
    for _ in range(2):
        budget.admit(ASK)
        budget.charge(usage(1, 1))
    with pytest.raises(BudgetError, match=r"calls: 2 spent \+ 1 > calls=2") as caught:
        budget.admit(ASK)
    assert caught.value.spent == Amount(2, 2, 2)
    assert caught.value.needed == Amount(1, IN, 100, estimated=True)
    assert "designer turn 2" in str(caught.value)
    assert isinstance(caught.value, ProviderError)
    with pytest.raises(BudgetError, match="calls=0"):
        Budget(calls=0).admit(ASK)


def test_tokens_at_the_edge() -> None:
    budget = Budget(tokens=IN + 100 + 20)
    budget.charge(usage(15, 5))
    budget.admit(ASK)
    with pytest.raises(BudgetError, match=r"tokens: 20 spent \+ 109 > tokens=128"):
        budget.admit(ASK, extra_tokens=1)
    budget.charge(usage(0, 1))
    with pytest.raises(BudgetError, match=r"tokens: 21 spent \+ 108 > tokens=128"):
        budget.admit(ASK)


def test_money_is_exact_where_floats_are_not() -> None:
    # 3 * 0.1 > 0.3 in floats
    assert 3 * 0.1 > 0.3
    million = Request("w", "a", 0, "p", "", (Message("x"),), SCHEMA, 10**6)
    budget = Budget(money=0.3, price_in=0, price_out=0.1)
    assert budget.require([million] * 3).money == 0.3
    budget.charge(usage(0, 2 * 10**6))
    budget.admit(million)
    budget.charge(usage(0, 1))
    with pytest.raises(BudgetError, match=r"money: 0.2 spent \+ 0.1 > money=0.3") as caught:
        budget.admit(million)
    assert caught.value.spent.money == 0.2000001


def test_an_estimate_above_is_refused_before_the_first_call() -> None:
    budget = Budget(calls=3)
    assert budget.require([ASK] * 3).calls == 3
    with pytest.raises(BudgetError, match="4 calls might take pass the limit of calls: 0 spent"):
        budget.require([ASK] * 4)
    assert budget.spent.calls == 0
    budget.charge(usage(1, 1))
    with pytest.raises(BudgetError, match="1 spent"):
        budget.require([ASK] * 3)


@settings(deadline=None)
@given(
    calls=st.integers(0, 6), tokens=st.integers(0, 900), money=st.integers(0, 900),
    used=st.lists(st.tuples(st.integers(0, IN), st.integers(0, 100)), max_size=8),
)  # fmt: skip
def test_what_is_admitted_never_passes_a_limit(calls, tokens, money, used) -> None:
    budget = Budget(calls=calls, tokens=tokens, money=money / 1e6, price_in=1, price_out=3)
    for tokens_in, tokens_out in used:
        before = budget.spent
        most = (before.tokens_in + IN, before.tokens_out + 100)
        fits = (
            before.calls < calls and sum(most) <= tokens and most[0] + 3 * most[1] <= money
        )  # fmt: skip
        try:
            budget.admit(ASK)
        except BudgetError:
            assert not fits
            break
        assert fits
        budget.charge(usage(tokens_in, tokens_out))
    spent = budget.spent
    assert spent.calls <= calls
    assert spent.tokens_in + spent.tokens_out <= tokens
    assert spent.tokens_in + 3 * spent.tokens_out <= money


def test_charges_add_up_and_say_when_estimated() -> None:
    budget = Budget(price_in=1.5, price_out=6)
    budget.charge(usage(1000, 10, calls=2))
    assert budget.spent == Amount(2, 1000, 10, 0.00156)
    budget.charge(usage(0, 0, estimated=True))
    assert budget.spent == Amount(3, 1000, 10, 0.00156, estimated=True)


def test_limits_and_prices_that_cannot_be() -> None:
    for name, value in [("calls", -1), ("tokens", -1), ("money", float("nan"))]:
        with pytest.raises(ArgumentError, match=f"{name} is {value}, must be finite"):
            Budget(**{name: value})
    with pytest.raises(ArgumentError, match="price_out is None, must be given with the other"):
        Budget(price_in=1)
    with pytest.raises(ArgumentError, match="money is 1, must come with price_in and price_out"):
        Budget(money=1)
    with pytest.raises(ArgumentError, match="price_in is inf"):
        Budget(price_in=float("inf"), price_out=1)
