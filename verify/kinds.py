"""Which kind of machine this is, and what is expected of it; `kinds.toml` knows both."""

from __future__ import annotations

import dataclasses
import functools
import platform
import re
import tomllib
from pathlib import Path
from typing import Final, Literal

import msgspec

FILE: Final = Path(__file__).with_name("kinds.toml")

Memory = Literal["MemAvailable", "mem_get_info"]


class Kind(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One kind of machine; `kinds.toml` says what each field means."""

    name: str
    capability: tuple[str, ...] = ()
    card: str = ""
    machine: str = ""
    cuda13: bool = True
    bf16: bool = True
    memory: Memory = "mem_get_info"
    driver: int = 0
    source: str = ""


class Card(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a card should reach."""

    name: str
    tflops: float
    gb_per_s: float
    reached: bool
    source: str


class Tolerance(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The shares of what is expected below which a card is slow."""

    reached: float
    stated: float
    bandwidth: float
    wsl: float


class Known(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All that `kinds.toml` says."""

    tolerance: Tolerance
    kind: tuple[Kind, ...]
    card: tuple[Card, ...]


@dataclasses.dataclass(frozen=True)
class Traits:
    """What tells a machine's kind.

    Attributes:
        card: The first GPU's name as its driver gives it; None: there is none.
        capability: Its compute capability (``12.1``); None: it was not asked.
        machine: As ``uname -m`` says it.
        wsl: Whether this is a Linux below Windows.
    """

    card: str | None
    capability: str | None = None
    machine: str = dataclasses.field(default_factory=platform.machine)
    wsl: bool = False


@functools.cache
def known() -> Known:
    """Return what the file says."""
    return msgspec.convert(tomllib.loads(FILE.read_text("utf-8")), Known)


def recognise(traits: Traits) -> Kind | None:
    """Return the machine's kind, or None where the file has none like it."""
    return next((it for it in known().kind if _fits(it, traits)), None)


def card(name: str) -> Card | None:
    """Return what is expected of the card of that name, or None where nothing is.

    Nothing is of a part of one: a MIG instance, or a virtual GPU (``A100-40C``).
    """
    if re.search(r"\bMIG\b|-\d+[A-CQ]$", name):
        return None
    return next((it for it in known().card if re.search(it.name, name)), None)


def is_wsl(root: Path = Path("/")) -> bool:
    """Tell whether a Windows is below this Linux.

    https://learn.microsoft.com/windows/wsl/: its kernel says so, and the GPU is /dev/dxg.
    """
    try:
        release = (root / "proc/sys/kernel/osrelease").read_text("ascii")
    except OSError:
        release = ""
    return "microsoft" in release.lower() or (root / "dev/dxg").exists()


def _fits(kind: Kind, traits: Traits) -> bool:
    if kind.machine and kind.machine != traits.machine:
        return False
    if traits.card is None:
        return not kind.card
    if not kind.card:
        return False
    if traits.capability is not None:
        return traits.capability in kind.capability
    return re.search(kind.card, traits.card) is not None
