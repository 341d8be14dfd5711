"""The codec: what goes in comes out, and nothing that is sent breaks or floods the receiver."""

from __future__ import annotations

import struct
import tracemalloc

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from verify import codec
from verify.codec import CodecError, decode, encode
from verify.plain import DTYPES, Array, Opaque, Plain, Raised

SIZE = struct.Struct(">I").pack


@st.composite
def arrays(draw: st.DrawFn) -> Array:
    dtype = draw(st.sampled_from(sorted(DTYPES)))
    shape = tuple(draw(st.lists(st.integers(0, 3), max_size=4)))
    count = 1
    for size in shape:
        count *= size
    data = draw(st.binary(min_size=count * DTYPES[dtype], max_size=count * DTYPES[dtype]))
    return Array(dtype, shape, data)


PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**500), 2**500)
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary()
    | arrays()
    | st.builds(Opaque, st.text(), st.text())
    | st.builds(Raised, st.text(), st.text(), st.none() | st.integers(0, 10**6), st.text()),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(PLAIN)
@settings(max_examples=300)
def test_what_goes_in_comes_out(value: Plain) -> None:
    assert _surrogates_told(value) or decode(encode(value)) == value


def _surrogates_told(value: Plain) -> bool:
    return any("\ud800" <= c <= "\udfff" for c in str(value))


@given(PLAIN)
def test_types_are_kept(value: Plain) -> None:
    came = decode(encode(value))
    assert type(came) is type(value)


@given(st.binary(max_size=200))
@settings(max_examples=2000)
@example(b"")
@example(b"l" + SIZE(0xFFFFFFFF))
@example(b"d" + SIZE(1) + SIZE(1) + b"a")
@example(b"i\x00")
@example(b"r" + SIZE(0) * 3 + b"s" + SIZE(0))
def test_any_bytes_are_a_value_or_an_error(message: bytes) -> None:
    try:
        value = decode(message)
    except CodecError:
        return
    assert decode(encode(value)) == value or value != value or "nan" in repr(value)


@given(PLAIN, st.data())
@settings(max_examples=300)
def test_a_damaged_message_is_a_value_or_an_error(value: Plain, data: st.DataObject) -> None:
    message = bytearray(encode(value))
    place = data.draw(st.integers(0, len(message) - 1))
    message[place] = data.draw(st.integers(0, 255))
    try:
        decode(bytes(message))
    except CodecError:
        return


@given(PLAIN, st.data())
def test_a_cut_message_is_an_error(value: Plain, data: st.DataObject) -> None:
    message = encode(value)
    with pytest.raises(CodecError):
        decode(message[: data.draw(st.integers(0, len(message) - 1))])


@pytest.mark.parametrize(
    ("message", "told"),
    [
        (b"l" + SIZE(2**31), "claims"),
        (b"a" + SIZE(7) + b"float32" + b"\x02" + SIZE(2**31) * 2, "claims"),
        (b"a" + SIZE(7) + b"float32" + b"\xff", "dimensions"),
        (b"a" + SIZE(6) + b"object" + b"\x00", "dtype"),
        (b"d" + SIZE(2) + (SIZE(1) + b"k" + b"N") * 2, "twice"),
        (b"i\xff" + b"\x01" * 255, "int of 255 bytes"),
        (b"s" + SIZE(2) + b"\xff\xfe", "UTF-8"),
        (b"N" + b"N", "left over"),
        (b"r" + SIZE(0) * 3 + b"T", "line number"),
        (b"a" + SIZE(7) + b"float32" + b"\x04" + SIZE(2**31) * 3 + SIZE(0), "too long"),
        (b"Z", "unknown tag"),
        (b"l\x00\x00\x00\x01" * 30 + b"N", "deep"),
        (b"l" + SIZE(210_000) + b"N" * 210_000, "claims"),
    ],
)
def test_what_lies_is_refused(message: bytes, told: str) -> None:
    with pytest.raises(CodecError, match=told):
        decode(message)


def test_a_lying_header_costs_no_memory() -> None:
    message = b"a" + SIZE(7) + b"float32" + b"\x01" + SIZE(2**32 - 1)
    tracemalloc.start()
    try:
        with pytest.raises(CodecError):
            decode(message)
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()


def test_many_values_across_lists_are_counted_together() -> None:
    inner = b"l" + SIZE(60_000) + b"N" * 60_000
    with pytest.raises(CodecError):
        decode(b"l" + SIZE(4) + inner * 4)


class Liar(float):
    def __eq__(self, other: object) -> bool:
        return True

    __hash__ = float.__hash__


@pytest.mark.parametrize("value", [object(), Liar(3), {1: 2}, {"a": {3}}, 2**600, (1, 2), len])
def test_what_is_not_plain_is_not_sent(value: object) -> None:
    with pytest.raises(CodecError):
        encode(value)  # type: ignore[arg-type]


def test_a_tensor_whose_bytes_do_not_fit_is_not_sent() -> None:
    with pytest.raises(CodecError, match="fit"):
        encode(Array("float32", (2,), b"\0" * 7))


class Text(str):
    """Not exactly a text."""


@pytest.mark.parametrize(
    "array",
    [
        Array("float32", (2**32, 0), b""),
        Array("float32", (2**31, 2**31, 2**31, 0), b""),
        Array("float32", (-1, -1), b"\0" * 4),
        Array("float32", (True,), b"\0" * 4),
        Array("float32", (0,) * 9, b""),
        Array("float32", [1], b"\0" * 4),  # type: ignore[arg-type]
        Array("float32", (None,), b""),  # type: ignore[arg-type]
        Array("float32", None, b""),  # type: ignore[arg-type]
        Array("uint8", (1,), None),  # type: ignore[arg-type]
        Array("uint8", (4,), bytearray(4)),  # type: ignore[arg-type]
        Array("uint8", (1,), "x"),  # type: ignore[arg-type]
        Array(Text("uint8"), (1,), b"x"),
        Array(["uint8"], (1,), b"x"),  # type: ignore[arg-type]
    ],
)
def test_a_tensor_that_was_made_by_hand_is_checked_before_it_is_sent(array: Array) -> None:
    with pytest.raises(CodecError, match="a tensor"):
        encode(array)


@pytest.mark.parametrize("line", [True, 1.0, "1", [1]])
def test_a_line_that_is_no_number_is_not_sent(line: object) -> None:
    with pytest.raises(CodecError, match="line number"):
        encode(Raised("E", "", line))  # type: ignore[arg-type]


def test_keys_that_would_be_one_on_the_way_are_not_sent() -> None:
    with pytest.raises(CodecError, match="two keys"):
        encode({"\ud800": 1, "\\ud800": 2})


def test_a_huge_number_is_refused_before_it_is_written_out() -> None:
    huge = 1 << 80_000_000
    tracemalloc.start()
    try:
        with pytest.raises(CodecError, match="an int of more than"):
            encode(huge)
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()


def test_a_message_over_the_limit_is_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codec, "MAX_BYTES", 100)
    with pytest.raises(CodecError, match="more than 100 bytes"):
        encode(b"\0" * 101)
    with pytest.raises(CodecError, match="over the limit"):
        decode(b"\0" * 101)


def test_a_list_that_contains_itself_is_not_sent() -> None:
    loop: list[Plain] = []
    loop.append(loop)
    with pytest.raises(CodecError, match="deep"):
        encode(loop)
