"""Values that may be sent, values that may not, and bytes that look like either."""

from __future__ import annotations

import math
import struct
from typing import Any

from hypothesis import strategies as st

from verify.codec import encode
from verify.plain import DTYPES, Array, Opaque, Plain, Raised

_SIZE = struct.Struct(">I").pack


@st.composite
def arrays(draw: st.DrawFn) -> Array:
    """Draw a tensor as it is sent; its elements are any bytes, so NaN and infinite ones too."""
    dtype = draw(st.sampled_from(sorted(DTYPES)))
    shape = tuple(draw(st.lists(st.integers(0, 3), max_size=4)))
    size = math.prod(shape) * DTYPES[dtype]
    return Array(dtype, shape, draw(st.binary(min_size=size, max_size=size)))


_LINES = st.none() | st.integers(-(2**70), 2**70)
LEAVES: st.SearchStrategy[Plain] = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**510), 2**510),
    st.floats(),
    st.text(),
    st.binary(),
    arrays(),
    st.builds(Opaque, st.text(), st.text()),
    st.builds(Raised, st.text(), st.text(), _LINES, st.text()),
)


def nested(leaves: st.SearchStrategy[Any], keys: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Return lists and dicts of ``leaves``."""
    return st.recursive(
        leaves,
        lambda inner: st.lists(inner, max_size=6) | st.dictionaries(keys, inner, max_size=6),
        max_leaves=20,
    )


PLAIN: st.SearchStrategy[Plain] = nested(LEAVES, st.text())
"""All that may be sent."""

_LONE = st.text(st.characters(codec=None) | st.characters(categories=["Cs"]), max_size=6)
_ANY_SIZE = st.sampled_from((-1, 0, 1, 3, 2**31, 2**32 - 1, 2**32, 2**63, 2**70))
_ANY_TEXT = _LONE | st.sampled_from((None, b"x", 7))
_LYING_ARRAYS = st.builds(
    Array,
    st.sampled_from((*DTYPES, "object", "complex64", "", None, 3)),
    st.lists(_ANY_SIZE | st.sampled_from((None, "a", 1.5, True)), max_size=10).map(tuple)
    | st.sampled_from((None, 3, [1])),
    st.binary(max_size=16) | st.sampled_from((None, "text", bytearray(4), [1, 2, 3, 4])),
)


class Liar(float):
    """Not a float, whatever it says."""

    def __eq__(self, other: object) -> bool:
        return True

    __hash__ = float.__hash__


def _loop() -> list[Any]:
    loop: list[Any] = []
    loop.append(loop)
    return loop


_NOT_PLAIN = st.one_of(
    st.sampled_from(((1, 2), {1}, Liar(2), object(), len, range(3), 1j, bytearray(b"x"))),
    st.builds(_loop),
    st.integers(2**500, 2**520),
    st.builds(lambda bits: 1 << bits, st.integers(500, 10_000)),
    _LONE,
    _LYING_ARRAYS,
    st.builds(Opaque, _ANY_TEXT, _ANY_TEXT),
    st.builds(Raised, _ANY_TEXT, _ANY_TEXT, LEAVES, _ANY_TEXT),
)
OBJECTS: st.SearchStrategy[Any] = nested(
    LEAVES | _NOT_PLAIN, _LONE | st.sampled_from(("\ud800", "\\ud800", 1, None, b"k"))
)
"""What hostile code may try to have sent."""

_LENGTHS = st.integers(0, 6) | st.sampled_from((255, 2**16, 2**31, 2**32 - 1))


@st.composite
def _sized(draw: st.DrawFn, content: st.SearchStrategy[bytes]) -> bytes:
    """Draw bytes with a length before them, which is most often true."""
    data = draw(content)
    return _SIZE(draw(st.just(len(data)) | _LENGTHS)) + data


_TEXTS = _sized(st.text(max_size=5).map(str.encode) | st.binary(max_size=3))
_DTYPES = _sized(st.sampled_from([name.encode() for name in DTYPES] + [b"object", b""]))
_SHAPES = st.lists(_LENGTHS | st.just(2**31), max_size=9).map(
    lambda sizes: bytes([len(sizes)]) + b"".join(map(_SIZE, sizes))
)
_TOKENS = st.one_of(
    st.sampled_from((b"N", b"T", b"F", b"Z", b"f" + bytes(8), b"i\x01\x07", b"i\x00", b"i\xff")),
    st.builds(lambda tag, count: tag + _SIZE(count), st.sampled_from((b"l", b"d")), _LENGTHS),
    st.builds(lambda tag, text: tag + text, st.sampled_from((b"s", b"b", b"", b"i")), _TEXTS),
    st.builds(lambda *parts: b"a" + b"".join(parts), _DTYPES, _SHAPES, st.binary(max_size=24)),
    st.builds(lambda *parts: b"o" + b"".join(parts), _TEXTS, _TEXTS),
    st.builds(lambda *parts: b"r" + b"".join(parts), _TEXTS, _TEXTS, _TEXTS),
    st.integers(1, 40).map(lambda deep: (b"l" + _SIZE(1)) * deep),
    st.integers(1, 40).map(lambda deep: (b"d" + _SIZE(1) + _SIZE(1) + b"k") * deep),
)


@st.composite
def damaged(draw: st.DrawFn, whole: st.SearchStrategy[bytes]) -> bytes:
    """Draw a message with some of it changed, cut out, repeated or put elsewhere."""
    message = bytearray(draw(whole))
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(message)))
        end = min(len(message), start + draw(st.integers(0, 12)))
        piece = bytes(message[start:end])
        message[start:end] = draw(
            st.binary(min_size=end - start, max_size=end - start)
            | st.binary(max_size=6)
            | st.just(piece * 2)
            | _TOKENS
        )
    return bytes(message)


WHOLE = PLAIN.map(encode)
"""Messages as they should be."""

MESSAGES: st.SearchStrategy[bytes] = st.one_of(
    st.binary(max_size=200),
    st.lists(_TOKENS, max_size=12).map(b"".join),
    damaged(WHOLE),
    damaged(st.lists(_TOKENS, min_size=1, max_size=6).map(b"".join)),
)
"""What the other side of a channel may send as one."""


def identical(one: Any, other: Any) -> bool:
    """Tell whether two values are the same in type and bits; NaN is itself, and 0.0 is not -0.0."""
    if type(one) is not type(other):
        return False
    if isinstance(one, float):
        return struct.pack(">d", one) == struct.pack(">d", other)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(identical, one, other))
    if isinstance(one, dict):
        return list(one) == list(other) and all(map(identical, one.values(), other.values()))
    return bool(one == other)
