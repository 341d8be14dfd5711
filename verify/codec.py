"""The wall's only language: plain data to bytes and back, with a cap on everything.

A value is a one-byte tag followed by its content; sizes are unsigned 32-bit big-endian, floats
IEEE binary64. There are no references, no types by name, no code: decoding builds the values of
`verify.plain` and nothing else. Every claim a header makes is checked against the bytes that are
there before anything of that size is allocated.
"""

from __future__ import annotations

import math
import struct
from typing import Final

from verify.plain import DTYPES, Array, Opaque, Plain, Raised

MAX_BYTES: Final = 64 * 1024 * 1024  # one message
MAX_DEPTH: Final = 24  # lists and dicts inside one another
MAX_ITEMS: Final = 200_000  # values in one message
MAX_INT_BYTES: Final = 64  # a parameter count needs 5
MAX_DIMENSIONS: Final = 8
MAX_SPAN: Final = 2**48  # elements, taking 0 for 1: torch computes strides of empty tensors too

_SIZE = struct.Struct(">I")
_FLOAT = struct.Struct(">d")


class CodecError(ValueError):
    """The value cannot be sent, or the bytes are not a value that may be received."""


def encode(value: Plain) -> bytes:
    """Return ``value`` as bytes.

    Raises:
        CodecError: it is not plain data, or it is larger, deeper or longer than the caps allow.
    """
    writer = _Writer()
    writer.write(value, 0)
    return b"".join(writer.parts)


def decode(message: bytes) -> Plain:
    """Return the value that ``message`` holds.

    Raises:
        CodecError: it is not exactly one value within the caps.
    """
    if len(message) > MAX_BYTES:
        raise CodecError(f"a message of {len(message)} bytes is over the limit of {MAX_BYTES}")
    reader = _Reader(message)
    value = reader.read(0)
    if reader.at != len(message):
        raise CodecError("bytes are left over after the value")
    return value


class _Writer:
    def __init__(self) -> None:
        self.parts: list[bytes] = []
        self.bytes = 0
        self.items = 0

    def put(self, part: bytes) -> None:
        self.bytes += len(part)
        if self.bytes > MAX_BYTES:
            raise CodecError(f"more than {MAX_BYTES} bytes in one message")
        self.parts.append(part)

    def sized(self, tag: bytes, data: bytes) -> None:
        self.put(tag + _SIZE.pack(min(len(data), 0xFFFFFFFF)))
        self.put(data)

    def write(self, value: Plain, depth: int) -> None:  # noqa: C901 - one arm per tag
        self.items += 1
        if self.items > MAX_ITEMS:
            raise CodecError(f"more than {MAX_ITEMS} values in one message")
        if depth > MAX_DEPTH:
            raise CodecError(f"lists and dicts more than {MAX_DEPTH} deep")
        kind = type(value)  # exact types only: a subclass may lie about itself
        if value is None:
            self.put(b"N")
        elif kind is bool:
            self.put(b"T" if value else b"F")
        elif kind is int:
            self.write_int(value)  # type: ignore[arg-type]
        elif kind is float:
            self.put(b"f" + _FLOAT.pack(value))
        elif kind is str:
            self.sized(b"s", _utf8(value))  # type: ignore[arg-type]
        elif kind is bytes:
            self.sized(b"b", value)  # type: ignore[arg-type]
        elif kind is list:
            self.put(b"l" + _SIZE.pack(len(value)))  # type: ignore[arg-type]
            for item in value:  # type: ignore[union-attr]
                self.write(item, depth + 1)
        elif kind is dict:
            self.write_dict(value, depth)  # type: ignore[arg-type]
        elif kind is Array:
            self.write_array(value)  # type: ignore[arg-type]
        elif kind is Opaque:
            self.put(b"o")
            self.sized(b"", _utf8(value.type))  # type: ignore[union-attr]
            self.sized(b"", _utf8(value.text))  # type: ignore[union-attr]
        elif kind is Raised:
            self.put(b"r")
            self.sized(b"", _utf8(value.type))  # type: ignore[union-attr]
            self.sized(b"", _utf8(value.text))  # type: ignore[union-attr]
            self.sized(b"", _utf8(value.code))  # type: ignore[union-attr]
            self.write(_checked_line(value.line), depth + 1)  # type: ignore[union-attr]
        else:
            raise CodecError(f"a {kind.__name__} is not plain data")

    def write_int(self, value: int) -> None:
        length = (value.bit_length() + 8) // 8
        if length > MAX_INT_BYTES:
            raise CodecError(f"an int of more than {MAX_INT_BYTES} bytes")
        self.put(b"i" + bytes([length]) + value.to_bytes(length, "big", signed=True))

    def write_dict(self, value: dict[str, Plain], depth: int) -> None:
        self.put(b"d" + _SIZE.pack(len(value)))
        written = set()
        for key, item in value.items():
            if type(key) is not str:
                raise CodecError(f"a dict key is a {type(key).__name__}, not a str")
            name = _utf8(key)
            if name in written:  # a lone surrogate and its escape are one and the same
                raise CodecError("two keys of a dict that are sent as the same text")
            written.add(name)
            self.sized(b"", name)
            self.write(item, depth + 1)

    def write_array(self, array: Array) -> None:
        _check_array(array)
        self.put(b"a")
        self.sized(b"", _utf8(array.dtype))
        self.put(bytes([len(array.shape)]))
        for size in array.shape:
            self.put(_SIZE.pack(size))
        self.put(array.data)


class _Reader:
    def __init__(self, message: bytes) -> None:
        self.message = message
        self.at = 0
        self.items = 0

    def take(self, count: int) -> bytes:
        end = self.at + count
        if end > len(self.message):
            raise CodecError("the message ends in the middle of a value")
        data = self.message[self.at : end]
        self.at = end
        return data

    def size(self) -> int:
        return int(_SIZE.unpack(self.take(4))[0])

    def text(self) -> str:
        try:
            return self.take(self.size()).decode("utf-8")
        except UnicodeDecodeError as error:
            raise CodecError("a text is not UTF-8") from error

    def count(self) -> int:
        """Read how many items follow: each takes a byte, so more than bytes are left is a lie."""
        count = self.size()
        if count > len(self.message) - self.at or self.items + count > MAX_ITEMS:
            raise CodecError(f"a list or dict that claims {count} items")
        return count

    def read(self, depth: int) -> Plain:  # noqa: C901 - one arm per tag
        self.items += 1
        if self.items > MAX_ITEMS:
            raise CodecError(f"more than {MAX_ITEMS} values in one message")
        if depth > MAX_DEPTH:
            raise CodecError(f"lists and dicts more than {MAX_DEPTH} deep")
        tag = self.take(1)
        if tag == b"N":
            return None
        if tag in (b"T", b"F"):
            return tag == b"T"
        if tag == b"i":
            return self.read_int()
        if tag == b"f":
            return float(_FLOAT.unpack(self.take(8))[0])
        if tag == b"s":
            return self.text()
        if tag == b"b":
            return self.take(self.size())
        if tag == b"l":
            return [self.read(depth + 1) for _ in range(self.count())]
        if tag == b"d":
            return self.read_dict(depth)
        if tag == b"a":
            return self.read_array()
        if tag == b"o":
            return Opaque(self.text(), self.text())
        if tag == b"r":
            return self.read_raised(depth)
        raise CodecError(f"an unknown tag {tag!r}")

    def read_int(self) -> int:
        length = self.take(1)[0]
        if not 1 <= length <= MAX_INT_BYTES:
            raise CodecError(f"an int of {length} bytes")
        return int.from_bytes(self.take(length), "big", signed=True)

    def read_dict(self, depth: int) -> dict[str, Plain]:
        result: dict[str, Plain] = {}
        for _ in range(self.count()):
            key = self.text()
            if key in result:
                raise CodecError(f"the key {key[:40]!r} appears twice")
            result[key] = self.read(depth + 1)
        return result

    def read_array(self) -> Array:
        dtype = self.text()
        dimensions = self.take(1)[0]
        if dimensions > MAX_DIMENSIONS:
            raise CodecError(f"a tensor of {dimensions} dimensions")
        shape = tuple(self.size() for _ in range(dimensions))
        width = DTYPES.get(dtype)
        if width is None:
            raise CodecError(f"a tensor of dtype {dtype[:40]!r}")
        count = math.prod(shape) * width
        if count > len(self.message) - self.at:
            raise CodecError(f"a tensor that claims {count} bytes")
        _check_span(shape)
        return Array(dtype, shape, self.take(count))

    def read_raised(self, depth: int) -> Raised:
        kind, text, code = self.text(), self.text(), self.text()
        return Raised(kind, text, _checked_line(self.read(depth + 1)), code)


def _utf8(text: str) -> bytes:
    if type(text) is not str:
        raise CodecError("a text that is no str")
    return text.encode("utf-8", errors="backslashreplace")  # a lone surrogate is not UTF-8


def _checked_line(line: object) -> int | None:
    if line is not None and type(line) is not int:
        raise CodecError("a line number that is no number")
    return line


def _check_array(array: Array) -> None:
    """Check a tensor that is to be sent; whoever made it may have put anything into its fields."""
    dtype, shape, data = array.dtype, array.shape, array.data
    if type(dtype) is not str or dtype not in DTYPES:
        raise CodecError(f"a tensor of dtype {dtype!r} cannot be sent")
    if type(shape) is not tuple or type(data) is not bytes:
        raise CodecError("a tensor whose shape is no tuple, or whose elements are no bytes")
    if len(shape) > MAX_DIMENSIONS:
        raise CodecError(f"a tensor of {len(shape)} dimensions")
    if not all(type(size) is int and 0 <= size < 2**32 for size in shape):
        raise CodecError("a tensor with a side that cannot be sent")
    _check_span(shape)
    if math.prod(shape) * DTYPES[dtype] != len(data):
        raise CodecError("a tensor whose bytes do not fit its shape")


def _check_span(shape: tuple[int, ...]) -> None:
    if math.prod(max(size, 1) for size in shape) > MAX_SPAN:
        raise CodecError("a tensor with sides that are too long")
