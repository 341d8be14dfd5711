"""The codec and tensors: whatever comes, a plain value or the one exception, in bounded memory."""

from __future__ import annotations

import re
import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import strategies as st

from tests.fuzz.targets import fuzzed
from tests.fuzz.values import MESSAGES, OBJECTS, PLAIN, WHOLE, identical
from verify.codec import CodecError, decode, encode
from verify.compare import same
from verify.plain import DTYPES, Array, Opaque, Plain
from verify.shorten import shorten
from verify.tensors import from_plain, plain, to_array, to_tensor

CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


@fuzzed(300, value=PLAIN)
def test_what_may_be_sent_arrives_as_it_was(value: Plain) -> None:
    assert identical(decode(encode(value)), value)


@fuzzed(300, thing=OBJECTS)
def test_anything_else_is_refused_before_it_is_sent(thing: Any) -> None:
    try:
        message = encode(thing)
    except CodecError:
        return
    assert encode(decode(message)) == message, "what is sent is received"


@fuzzed(500, message=MESSAGES)
def test_any_bytes_are_a_value_or_a_codec_error(message: bytes) -> None:
    tracemalloc.start()
    try:
        value = decode(message)
    except CodecError:
        return
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 100_000 + 100 * len(message), "memory for what only a header claims"
    assert identical(decode(encode(value)), value)


@fuzzed(100, message=WHOLE, data=st.data())
def test_a_message_is_no_other_message_longer_or_shorter(message: bytes, data: Any) -> None:
    cut = data.draw(st.integers(0, len(message) - 1))
    for other in (message[:cut], message + data.draw(st.binary(min_size=1, max_size=9))):
        try:
            decode(other)
        except CodecError:
            continue
        raise AssertionError("it was taken for a whole message")


@fuzzed(300, message=MESSAGES | WHOLE, other=WHOLE)
def test_what_was_received_can_be_compared_and_shown(message: bytes, other: bytes) -> None:
    """As the judge does with it; one line comes of it, and a tensor of what it claims to be."""
    try:
        came = decode(message)
    except CodecError:
        return
    truth = decode(other)
    assert isinstance(same(came, truth), bool)
    assert isinstance(same(truth, came), bool)
    from_plain(came)
    assert not CONTROL.search(shorten(came))


def _layouts() -> list[Callable[[torch.Tensor], torch.Tensor]]:
    return [
        lambda t: t,
        lambda t: t.t() if t.dim() == 2 else t,
        lambda t: t[..., ::2] if t.dim() else t,
        lambda t: t.expand(3, *t.shape),
        lambda t: t.clone().requires_grad_() if t.is_floating_point() else t,
        lambda t: torch.nn.Parameter(t, requires_grad=False),
        lambda t: torch._neg_view(t) if t.dtype != torch.bool else t,
        lambda t: t.flip(0) if t.dim() else t,
        lambda t: torch.complex(t, t).conj().imag if t.dtype == torch.float32 else t,
    ]


@st.composite
def tensors(draw: st.DrawFn) -> torch.Tensor:
    """Draw a tensor of any dtype that may cross, however it lies in memory."""
    dtype = getattr(torch, draw(st.sampled_from(sorted(DTYPES))))
    shape = draw(st.lists(st.integers(0, 3), max_size=3))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**20)))
    tensor = (torch.randn(shape, generator=generator) * 10).to(dtype)
    return draw(st.sampled_from(_layouts()))(tensor)


@fuzzed(200, tensor=tensors())
def test_a_tensor_arrives_with_every_element(tensor: torch.Tensor) -> None:
    came = to_tensor(decode(encode(to_array(tensor))))  # type: ignore[arg-type]
    assert (came.dtype, came.shape) == (tensor.dtype, tensor.shape)
    assert torch.equal(came, tensor.detach().resolve_neg())


class Trap:
    """An object of which nothing may be asked."""

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError(name)

    def __repr__(self) -> str:
        raise RuntimeError


class ItemTrap(Trap):
    shape = ()

    def item(self) -> Any:
        raise RuntimeError


_STRANGE = (
    Trap,
    ItemTrap,
    lambda: np.array(None, dtype=object),
    lambda: np.longdouble(2),
    lambda: np.datetime64("2026-01-01"),
    lambda: np.float32("nan"),
    lambda: torch.eye(2).to_sparse(),
    lambda: torch.eye(2).to_sparse_csr(),
    lambda: torch.eye(2).to_mkldnn(),
    lambda: torch.nested.nested_tensor([torch.ones(2), torch.ones(3)]),
    lambda: torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8),
    lambda: torch.empty(3, device="meta"),
    lambda: torch.ones(2, dtype=torch.complex64).conj(),
    lambda: torch.empty(2**33, 0),
    lambda: Array("float32", (2**33, 0), b""),
    lambda: {1: 2},
    lambda: {"a": Trap(), "b": (Trap(),)},
)


@pytest.mark.filterwarnings("ignore::UserWarning")  # torch's, of what it has not finished
@fuzzed(40, make=st.sampled_from(_STRANGE), depth=st.integers(0, 30))
def test_a_strange_value_is_opaque_or_cannot_be_sent(make: Any, depth: int) -> None:
    value = make()
    for _ in range(depth):
        value = [value]
    came = plain(value)
    try:
        assert identical(decode(encode(came)), came)
    except CodecError:
        assert depth > 20 or isinstance(came, Array | Opaque | list)
