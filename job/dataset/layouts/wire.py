"""The few lines of protocol buffers that a `tf.train.Example` needs, so that no TensorFlow is needed.

    Example   { Features features = 1; }            Feature  { oneof { BytesList bytes_list = 1;
    Features  { map<string, Feature> feature = 1; }                    FloatList float_list = 2;
    a map entry has key = 1 and value = 2                              Int64List int64_list = 3; } }

Sources: https://protobuf.dev/programming-guides/encoding/, tensorflow/core/example/{example,feature}.proto
"""

from __future__ import annotations

from collections.abc import Iterator

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


class WireError(ValueError):
    """The bytes are not the message they should be."""


Feature = list[memoryview] | list[int]
"""The values of one feature; those of a float list are left out (nothing here reads any)."""


def features(message: memoryview) -> dict[str, Feature]:
    """Returns the features of a serialised `tf.train.Example`; byte values stay views, nothing is copied.

    Raises:
        WireError: When the bytes are not an Example.
    """
    found: dict[str, Feature] = {}
    for entry in _messages(message, 1):
        for pair in _messages(entry, 1):
            key = _last(pair, 1)
            try:
                found[str(key, "utf-8")] = _values(_last(pair, 2))
            except UnicodeDecodeError as error:
                raise WireError(f"a feature's name is not UTF-8: {bytes(key)!r}") from error
    return found


def _values(feature: memoryview) -> Feature:
    strings: list[memoryview] = []
    integers: list[int] = []
    for kind, payload in _fields(feature):
        if not isinstance(payload, memoryview):
            continue
        if kind == 1:
            strings.extend(_messages(payload, 1))
        elif kind == 3:
            for number, value in _fields(payload):
                if number == 1:
                    integers.extend(_packed(value) if isinstance(value, memoryview) else [_signed(value)])
    return strings or integers


def _packed(values: memoryview) -> list[int]:
    numbers: list[int] = []
    at = 0
    while at < len(values):
        number, at = _varint(values, at)
        numbers.append(_signed(number))
    return numbers


def _last(message: memoryview, field: int) -> memoryview:
    # Of a field that is not repeated the last one counts, and a missing one is empty.
    last = memoryview(b"")
    for last in _messages(message, field):  # noqa: B007 (the last one is what is wanted)
        pass
    return last


def _messages(message: memoryview, field: int) -> Iterator[memoryview]:
    for number, value in _fields(message):
        if number == field and isinstance(value, memoryview):
            yield value


def _fields(message: memoryview) -> Iterator[tuple[int, memoryview | int]]:
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        number, wire_type = tag >> 3, tag & 7
        if wire_type == _VARINT:
            value, at = _varint(message, at)
            yield number, value
            continue
        if wire_type == _BYTES:
            size, at = _varint(message, at)
        elif wire_type in (_FIXED64, _FIXED32):
            size = 8 if wire_type == _FIXED64 else 4
        else:
            raise WireError(f"wire type {wire_type} at byte {at} is not in use")
        if at + size > len(message):
            raise WireError(f"a field of {size} bytes at byte {at} runs past the end, {len(message)}")
        if wire_type == _BYTES:
            yield number, message[at : at + size]
        at += size


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if at >= len(message) or shift > 63:
            raise WireError(f"a number does not end at byte {at}")
        byte = message[at]
        value |= (byte & 0x7F) << shift
        at += 1
        if byte < 0x80:
            return value & (1 << 64) - 1, at
        shift += 7


def _signed(value: int) -> int:
    return value - (1 << 64) if value >= 1 << 63 else value
