"""Any bytes: both decoders refuse them with a BitstreamError or give the same integers."""

import importlib.util
import sys
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foveal.codec.container import Container, pack, unpack
from foveal.codec.stream import decode, decode_symbols

TOOLS = Path(__file__).parents[2] / "tools"


def _load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, TOOLS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


models, fuzz_codec = _load("fuzz_codec_models"), _load("fuzz_codec")
FUZZ = settings(deadline=None, max_examples=150)
FEW = settings(deadline=None, max_examples=40)
NUMBERS = range(len(models.SMALL) + 1)


@pytest.fixture(scope="module")
def fuzzer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[fuzz_codec.Fuzzer]:
    """The golden models and their exported decoders, with memory watched."""
    made = fuzz_codec.Fuzzer(tmp_path_factory.mktemp("ports"), 1, large=False)
    tracemalloc.start()
    yield made
    tracemalloc.stop()


@FUZZ
@given(index=st.integers(0, 1 << 30))
def test_damage_of_every_kind(fuzzer: fuzz_codec.Fuzzer, index: int) -> None:
    _, target, payload = fuzzer.make(index)
    result = fuzzer.run(target, payload)
    assert result.outcome in ("refused", "decoded")
    assert max(result.peak.values()) < fuzz_codec.LIMIT_BYTES


@FEW
@given(number=st.sampled_from(NUMBERS), data=st.binary(max_size=200), flags=st.integers(0, 15))
def test_any_bytes_behind_a_true_start(
    fuzzer: fuzz_codec.Fuzzer, number: int, data: bytes, flags: int
) -> None:
    target = fuzzer.small[number]
    fuzzer.run(target, data)
    fuzzer.run(target, fuzz_codec.mend(target.headless(2, flags) + data))


@FEW
@given(number=st.sampled_from(NUMBERS), data=st.data())
def test_any_streams_and_controls(
    fuzzer: fuzz_codec.Fuzzer, number: int, data: st.DataObject
) -> None:
    target = fuzzer.small[number]
    layers = tuple(range(len(target.model.config.layers)))
    images = data.draw(st.integers(1, 3))
    controls = data.draw(st.lists(st.binary(min_size=1, max_size=8), min_size=1, max_size=1))
    rows = tuple(tuple(data.draw(st.binary(max_size=30)) for _ in layers) for _ in range(images))
    fuzzer.run(target, pack(Container(target.model.model_id, layers, rows, (*controls,) * images)))


@pytest.mark.parametrize("number", NUMBERS)
def test_every_truncation_and_every_flipped_bit_is_refused(
    fuzzer: fuzz_codec.Fuzzer, number: int
) -> None:
    target = fuzzer.small[number]
    payload = target.payloads[0]
    for cut in range(len(payload)):
        assert fuzzer.run(target, payload[:cut]).outcome == "refused"
    for bit in range(8 * len(payload)):
        damaged = bytearray(payload)
        damaged[bit // 8] ^= 1 << bit % 8
        assert fuzzer.run(target, bytes(damaged)).outcome == "refused"


def test_the_fuzzer_finds_what_differs(fuzzer: fuzz_codec.Fuzzer) -> None:
    """A decoder that belongs to another model is found out, and so is one that crashes."""
    one, other = fuzzer.small[0], fuzzer.small[1]
    mixed = models.Target("mixed", one.model, other.port, one.payloads)
    with pytest.raises(fuzz_codec.Finding, match="one decoder refuses"):
        fuzzer.run(mixed, one.payloads[0])

    class Crash:
        BitstreamError = other.port.BitstreamError

        @staticmethod
        def decode(payload: bytes) -> None:
            raise IndexError(len(payload))

    with pytest.raises(fuzz_codec.Finding, match="numpy: IndexError"):
        fuzzer.run(models.Target("crash", one.model, Crash, []), one.payloads[0])


SIZES = (None, (8, 16384), (16384, 9), (150, 150), (400, 400), (16384, 16384))


@pytest.mark.parametrize(("images", "sizes"), [(1, SIZES), (9, SIZES[3:4]), (120, SIZES[:1])])
def test_memory_of_empty_streams_of_the_largest_size(
    fuzzer: fuzz_codec.Fuzzer, images: int, sizes: tuple[tuple[int, int] | None, ...]
) -> None:
    for target in fuzzer.small:
        layers = tuple(range(len(target.model.config.layers)))
        controls = (b"\0\1" if target.model.config.conditional else b"\1",) * images
        for size in sizes:
            rows = ((b"",) * len(layers),) * images
            payload = pack(Container(target.model.model_id, layers, rows, controls, size))
            result = fuzzer.run(target, payload)
            assert max(result.peak.values()) < fuzz_codec.LIMIT_BYTES
            if size is None:
                assert result.outcome == "decoded"
                assert decode_symbols(target.model, payload)
            elif size == (16384, 16384):
                assert result.outcome == "refused"


def test_the_model_of_many_pairs_is_what_it_says(fuzzer: fuzz_codec.Fuzzer) -> None:
    """Payloads with one quality byte, with one and a mask of two bytes, and with one for each."""
    target = fuzzer.small[-1]
    model = target.model
    assert (len(model.pairs), len(model.config.heads)) == (14, 5)
    assert sum(bool(head.optional) for head in model.config.heads) == 4
    boxes = [unpack(payload) for payload in target.payloads]
    assert [len(box.controls[0]) for box in boxes] == [1, 3, 3, 14, 14, 14, 3]
    assert len(boxes[-1].streams) == 40
    high = replace(boxes[1], controls=(b"\x33\x01\x40",))
    refused = fuzzer.run(target, pack(high))
    assert refused.outcome == "refused"
    assert "mask" in refused.message
    sent = [list(decode(model, payload)) for payload in target.payloads]
    assert sent == [target.sent_by_port(payload) for payload in target.payloads]
    assert sent[1:3] == [["b"], ["a", "d"]]
