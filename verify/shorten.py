"""What came back, in few enough words to read."""

from __future__ import annotations

from verify.compare import number
from verify.plain import Array, Opaque, Plain, Raised
from verify.tensors import to_tensor
from verify.text import clean

_ITEMS = 4


def shorten(value: Plain) -> str:
    """Return one line about ``value``: the first few elements and the shape of what is longer."""
    value = number(value)
    if isinstance(value, Array):
        return _tensor(value)
    if isinstance(value, Opaque):
        return f"a {clean(value.type, 40)}: {clean(value.text, 80)}"
    if isinstance(value, Raised):
        return f"{clean(value.type, 40)}: {clean(value.text, 80)}"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, bytes):
        return f"{len(value)} bytes"
    if isinstance(value, str):
        return repr(clean(value, 80))
    if isinstance(value, list):
        more = f", … ({len(value)} items)" if len(value) > _ITEMS else ""
        return clean(f"[{', '.join(shorten(item) for item in value[:_ITEMS])}{more}]")
    if isinstance(value, dict):
        pairs = [f"{clean(key, 40)}: {shorten(item)}" for key, item in list(value.items())[:_ITEMS]]
        more = f", … ({len(value)} keys)" if len(value) > _ITEMS else ""
        return clean("{" + ", ".join(pairs) + more + "}")
    if value is None:
        return "None (is there a `return`?)"
    return clean(str(value))


def _tensor(array: Array) -> str:
    shape = ", ".join(str(size) for size in array.shape)
    flat = to_tensor(array).flatten()
    values = ", ".join(f"{item:.4g}" for item in flat[:_ITEMS].tolist())
    dots = ", …" if flat.numel() > _ITEMS else ""
    return f"a {array.dtype} tensor of shape ({shape}): [{values}{dots}]"
