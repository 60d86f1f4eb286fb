import json
from dataclasses import FrozenInstanceError

import pytest
import torch

from foveal.errors import ArgumentError, BitstreamError
from foveal.pipeline import Pipeline, PipelineError
from foveal.receipt import Receipt
from foveal.stats import paired_bootstrap
from foveal.testing import assert_as_accurate, assert_on_same_codes, relative_error


def _receipt(**changes) -> Receipt:
    values = {
        "stage": "codec",
        "unit": "bytes",
        "spent": 10,
        "full": 100,
        "loss": None,
        "loss_metric": "",
        "seconds": 0.5,
    } | changes
    return Receipt(**values)


def test_receipt_is_frozen_one_line_and_json() -> None:
    receipt = _receipt(loss=0.25, loss_metric="1 - retention", details={"a": 1})
    assert str(receipt) == "codec: 10 of 100 bytes (10.0 %), 1 - retention 0.25, 0.50 s"
    assert json.loads(json.dumps(receipt.to_dict()))["details"] == {"a": 1}
    with pytest.raises(FrozenInstanceError):
        receipt.spent = 1  # type: ignore[misc]
    assert "loss not measured" in str(_receipt())


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"stage": "x"}, "stage"),
        ({"spent": -1}, "spent"),
        ({"full": 0}, "full"),
        ({"seconds": float("nan")}, "seconds"),
        ({"loss": 0.1}, "loss_metric"),
        ({"loss": float("inf"), "loss_metric": "x"}, "loss"),
        ({"loss_metric": "x"}, "loss"),
    ],
)
def test_receipt_refuses(changes, name) -> None:
    with pytest.raises(ArgumentError, match=f"Receipt: {name}|and loss_metric"):
        _receipt(**changes)


class _Result:
    def __init__(self, receipt: Receipt) -> None:
        self.receipt = receipt


def test_pipeline_order_receipts_and_total() -> None:
    seen = []
    trace = Pipeline([("a", lambda x: x + 1), ("b", lambda x: _Result(_receipt(spent=x)))]).run(
        3, on_step=lambda *a: seen.append(a)
    )
    assert [s.name for s in trace.steps] == ["a", "b"]
    assert trace.receipts[0].spent == 4
    assert seen == [("a", 0, 2), ("b", 1, 2)]
    assert str(trace).endswith(f"total: {trace.seconds:.2f} s")


def test_pipeline_keeps_the_partial_trace() -> None:
    def fail(_: int) -> int:
        raise BitstreamError("broken")

    with pytest.raises(PipelineError, match=r"step 2 of 2 \(b\): broken") as info:
        Pipeline([("a", lambda x: x), ("b", fail)]).run(1)
    assert [s.output for s in info.value.trace.steps] == [1]
    assert isinstance(info.value.__cause__, BitstreamError)
    with pytest.raises(ArgumentError, match="unique"):
        Pipeline([("a", abs), ("a", abs)])


def test_gates() -> None:
    truth = torch.randn(100, dtype=torch.float64)
    reference = truth.float() + 1e-4 * torch.randn(100)
    assert_as_accurate(reference + 1e-5, reference, truth)
    with pytest.raises(AssertionError, match="over the budget"):
        assert_as_accurate(reference + 1e-2, reference, truth)
    with pytest.raises(AssertionError, match="inf"):
        assert_as_accurate(reference * float("nan"), reference, truth)
    codes = torch.arange(10, dtype=torch.int8)
    assert_on_same_codes(truth.float(), truth, codes=codes, wanted=codes)
    wrong = codes.clone()
    wrong[3] += 1
    with pytest.raises(AssertionError, match="1 of 10 codes differ"):
        assert_on_same_codes(truth.float(), truth, codes=wrong, wanted=codes)
    with pytest.raises(AssertionError, match="on the same codes"):
        assert_on_same_codes(truth.float() * 1.001, truth)
    assert relative_error(truth, truth) == 0


def test_gates_do_not_pass_what_proves_nothing() -> None:
    truth = torch.randn(10, dtype=torch.float64)
    broken = truth.float() * float("nan")
    with pytest.raises(AssertionError, match="nothing is proved"):
        assert_as_accurate(broken, broken, truth)
    with pytest.raises(ArgumentError, match="float64"):
        assert_as_accurate(truth.float(), truth.float(), truth.float())
    with pytest.raises(ArgumentError, match="float64"):
        assert_on_same_codes(truth.float(), truth.float())
    codes = torch.arange(10, dtype=torch.int8)
    for other in (codes[:9], codes.int()):
        with pytest.raises(AssertionError, match="codes are"):
            assert_on_same_codes(truth, truth, codes=codes, wanted=other)
    with pytest.raises(ArgumentError, match="accumulation is torch.int8"):
        assert_on_same_codes(truth, truth, accumulation=torch.int8)


def test_bootstrap_against_a_known_case() -> None:
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(400, generator=generator).double().tolist()
    interval = paired_bootstrap([1 + n for n in noise], noise)
    assert interval.mean == pytest.approx(1)
    assert interval.high - interval.low < 1e-9
    assert not interval.anecdote
    spread = paired_bootstrap(noise, [0.0] * 400)
    assert spread.high - spread.low == pytest.approx(2 * 1.96 / 20, rel=0.15)


def test_bootstrap_resamples_groups_as_a_whole() -> None:
    values = [float(k // 10) for k in range(100)]
    single = paired_bootstrap(values, [0.0] * 100)
    grouped = paired_bootstrap(values, [0.0] * 100, groups=[k // 10 for k in range(100)])
    assert grouped.num_groups == 10
    assert grouped.anecdote
    assert grouped.high - grouped.low > 2 * (single.high - single.low)
    with pytest.raises(ArgumentError, match="equal"):
        paired_bootstrap([1.0], [1.0, 2.0])


def test_a_wrong_row_does_not_hide_among_right_ones():
    truth = torch.randn(5000, 8, dtype=torch.float64)
    same = truth + 1e-3 * torch.randn(5000, 8, dtype=torch.float64)
    fast = same.clone()
    assert_as_accurate(fast, same, truth)
    fast[17] += 0.02
    with pytest.raises(AssertionError, match="one row"):
        assert_as_accurate(fast, same, truth)
