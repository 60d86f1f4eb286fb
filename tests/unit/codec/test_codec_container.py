"""The container: its bytes by hand, its overhead, and the refusal of everything else."""

import binascii
import zlib
from typing import Any

import pytest

from foveal.codec.container import (
    MAX_LAYERS,
    Container,
    parse,
    read_varint,
    unpack,
    write_varint,
)
from foveal.codec.container import pack as pack_container
from foveal.errors import ArgumentError, BitstreamError

NAME = b"abcd"


def crc16(body: bytes) -> bytes:
    """Return a body with its checksum."""
    return body + binascii.crc_hqx(body, 0).to_bytes(2, "little")


def box(**changes: Any) -> Container:
    """Return a container of one image and one layer, with changes."""
    fields: dict[str, Any] = {
        "model_id": NAME,
        "layers": (0,),
        "streams": ((b"xyz",),),
        "controls": (b"\x29",),
    }
    return Container(**(fields | changes))


def test_one_image_by_hand() -> None:
    payload = pack_container(box())
    assert payload == crc16(b"FV\x20abcd\x01\x29xyz")
    assert len(payload) == 11 + 3
    assert unpack(payload) == box()
    sections = parse(payload)[1]
    found = (sections.header, sections.controls, sections.index, sections.checksum)
    assert (*found, sections.streams) == (8, 1, 0, 2, 3)


def test_every_field_by_hand() -> None:
    whole = box(
        layers=(0, 9),
        streams=((b"a", b""), (b"", b"bcd")),
        controls=(b"\x01\x02", b"\x03\x04"),
        size=(300, 5),
    )
    head = b"FV\x2eabcd" + b"\x81\x04" + b"\x02" + b"\xac\x02\x05" + b"\x02"
    payload = pack_container(whole)
    assert payload == crc16(head + b"\x01\x02\x03\x04" + b"\x01\x00\x00" + b"abcd")
    assert unpack(payload) == whole
    sections = parse(payload)[1]
    found = (sections.header, sections.controls, sections.index, sections.checksum)
    assert (*found, sections.streams) == (13, 5, 3, 2, 4)


def test_no_layers_and_long_files() -> None:
    empty = box(layers=(), streams=((),))
    assert pack_container(empty) == crc16(b"FV\x20abcd\x00\x29")
    assert unpack(pack_container(empty)) == empty
    long = box(streams=((bytes(4097),),))
    payload = pack_container(long)
    assert payload[2] == 0x21
    assert payload[-4:] == zlib.crc32(payload[:-4]).to_bytes(4, "little")
    assert unpack(payload) == long


def test_layers_can_be_dropped_without_decoding() -> None:
    whole = box(
        layers=(1, 3, 4), streams=((b"a", b"bb", b"ccc"), (b"d", b"ee", b"")), controls=(b"1", b"2")
    )
    assert whole.keep([4, 1]) == box(
        layers=(1, 4), streams=((b"a", b"ccc"), (b"d", b"")), controls=(b"1", b"2")
    )
    assert whole.keep([]).layers == ()
    with pytest.raises(ArgumentError, match=r"layers \[2\] are not in .*\[1, 3, 4\]; leave them"):
        whole.keep([1, 2])


@pytest.mark.parametrize("value", [0, 1, 127, 128, 300, 16383, 16384, (1 << 35) - 1])
def test_varints(value: int) -> None:
    data = write_varint(value)
    assert read_varint(b"\xff" + data + b"\x07", 1, len(data) + 2) == (value, len(data) + 1)


@pytest.mark.parametrize("data", [b"", b"\x80", b"\x80\x00", b"\xff\x80\x00", b"\xff" * 6])
def test_bad_varints(data: bytes) -> None:
    with pytest.raises(BitstreamError, match="varint"):
        read_varint(data, 0, len(data))


def test_every_truncation_and_single_bit_flip_is_refused() -> None:
    payload = pack_container(box(streams=((b"hello",), (b"you",)), controls=(b"\1", b"\2")))
    for cut in range(len(payload)):
        with pytest.raises(BitstreamError):
            unpack(payload[:cut])
    for bit in range(8 * len(payload)):
        damaged = bytearray(payload)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(BitstreamError):
            unpack(bytes(damaged))


HUGE = write_varint((1 << 35) - 1)
HOSTILE: dict[str, tuple[bytes, str]] = {
    "magic": (b"PK\x20abcd\x01\x29xyz", "starts with b'PK'.*start with b'FV'; give a .fvl"),
    "version": (b"FV\x30abcd\x01\x29xyz", "version 3, must be 2; use the Foveal version"),
    "old version": (b"FV\x10abcd\x01\x29xyz", "version 1, must be 2"),
    "layers": (b"FV\x20abcd" + write_varint(1 << 28) + b"\x29", "layer 28, must be below 28"),
    "no images": (b"FV\x22abcd\x01\x00\x29x", "claims 0 images, must be within 1..65536"),
    "many images": (b"FV\x22abcd\x01" + HUGE + b"\x29x", "claims 34359738367 images.*max_images"),
    "images without bytes": (b"FV\x22abcd\x01\x7f\x29x", "claims 127 images.*fit its 13 bytes"),
    "size 0": (b"FV\x24abcd\x01\x00\x05\x29x", r"size \(0, 5\), must be within 1..16384"),
    "size": (b"FV\x24abcd\x01\x05" + HUGE + b"\x29", r"size \(5, 34359738367\)"),
    "no controls": (b"FV\x28abcd\x01\x00xy", "claims 0 control bytes.*must have 1..1024"),
    "controls": (b"FV\x28abcd\x01" + HUGE + b"xy", "34359738367 control bytes"),
    "few controls": (b"FV\x28abcd\x01\x09xyz", "claims 9 control bytes for each of 1 images"),
    "no control byte": (b"FV\x20abcd\x81\x00", "padded"),
    "streams": (b"FV\x20abcd" + write_varint((1 << 28) - 1) + b"\x29x", "claims 28 streams in 1"),
    "lengths": (b"FV\x20abcd\x03\x29" + HUGE + b"x", "streams claim 34359738367 bytes"),
    "cut length": (b"FV\x20abcd\x07\x29\x00\x80", "varint is cut off"),
    "bytes without a layer": (b"FV\x20abcd\x00\x29xyz", "streams claim 0 bytes"),
}


@pytest.mark.parametrize("name", list(HOSTILE))
def test_hostile_fields_are_named(name: str) -> None:
    body, message = HOSTILE[name]
    with pytest.raises(BitstreamError, match=message):
        unpack(crc16(body))


def test_images_are_limited() -> None:
    payload = pack_container(box(streams=((b"",),) * 10, controls=(b"\1",) * 10))
    assert len(unpack(payload, max_images=10).streams) == 10
    with pytest.raises(BitstreamError, match=r"10 images, must be within 1\.\.9.*max_images"):
        unpack(payload, max_images=9)


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "a short id": ({"model_id": b"abc"}, "model_id has 3 bytes"),
    "no image": ({"streams": (), "controls": ()}, "streams 0 .* at least 1"),
    "other images": ({"controls": (b"1", b"2")}, "controls 2 images"),
    "unsorted": ({"layers": (3, 1), "streams": ((b"", b""),)}, r"\(3, 1\), must be ascending"),
    "twice": ({"layers": (1, 1), "streams": ((b"", b""),)}, r"\(1, 1\).*sort them"),
    "too high": ({"layers": (MAX_LAYERS,)}, r"within 0\.\.27"),
    "more streams": ({"streams": ((b"", b""),)}, "one stream for each of the 1 layers"),
    "widths": ({"streams": ((b"",),) * 2, "controls": (b"1", b"22")}, r"rows of \[1, 2\] bytes"),
    "no control": ({"controls": (b"",)}, r"\[0\] bytes, must have one width in 1\.\.1024"),
    "size": ({"size": (0, 4)}, r"size is \(0, 4\), must be within 1\.\.16384"),
}


@pytest.mark.parametrize("name", list(BAD))
def test_containers_that_cannot_be_written(name: str) -> None:
    changes, message = BAD[name]
    with pytest.raises(ArgumentError, match=message):
        box(**changes)


def test_the_long_checksum_begins_where_the_format_says() -> None:
    """With more than 4096 bytes between the third byte and the checksum."""
    for length, flags, end in ((4090, 0, 2), (4091, 1, 4)):
        payload = pack_container(box(streams=((b"x" * length,),)))
        assert (payload[2] & 15, len(payload)) == (flags, 3 + 6 + length + end)
        assert unpack(payload).streams == ((b"x" * length,),)
