"""The Hugging Face hub: declared offline by switches that agree, or reachable, in time with us.

The labs need no network. Downloads of one's own model do, and where the hub cannot be reached they
wait long before they say so.
"""

from __future__ import annotations

import dataclasses
import email.utils
import http.client
import threading
import time
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Final

from verify.machine import Advice

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from verify.lab.view import Finding, View

# https://huggingface.co/docs/huggingface_hub/package_reference/environment_variables and
# https://huggingface.co/docs/transformers/installation#offline-mode
SWITCHES: Final = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE")
_ENDPOINT: Final = "https://huggingface.co"
_ON: Final = {"1", "ON", "YES", "TRUE"}
_SECONDS: Final = 1.0
_SKEW: Final = 60.0  # seconds; tokens and signatures are refused some minutes off


@dataclasses.dataclass(frozen=True)
class Answer:
    """What the hub said.

    Attributes:
        date: Its clock, seconds since 1970; None: it did not say.
        trouble: Why it could not be asked; empty: it could.
    """

    date: float | None = None
    trouble: str = ""


def switches(view: View) -> Finding:
    """Return how the offline switches stand; `Advice` if some say one thing and some another."""
    told = {name: view.environ[name] for name in SWITCHES if view.environ.get(name)}
    on = [name for name, value in told.items() if value.upper() in _ON]
    off = [name for name in told if name not in on]
    main = SWITCHES[0]
    if on and off:
        return Advice(
            f"{', '.join(on)} declares this machine offline, and {', '.join(off)} does not.",
            cause="they were set at different times, in a profile and in this shell perhaps",
            type_this=f"unset {' '.join(off)}; export {main}=1  # or: unset {' '.join(told)}",
        )
    if on and main not in on:
        return Advice(
            f"{', '.join(on)} is set, and {main} is not: models are not looked for, and other "
            "files still are.",
            cause=f"libraries of today read {main}, and the older switches only in part",
            type_this=f"export {main}=1",
        )
    return f"offline, by {', '.join(on)}" if on else "none is set: downloads are allowed"


def reachable(view: View, ask: Callable[[str], Answer] | None = None) -> Finding:
    """Return that the hub answers, or is declared out of reach; `Advice` if neither.

    Args:
        view: Whose environment says where the hub is, and whether to ask.
        ask: Asks it; without it: over the network, for a second at most.
    """
    if isinstance(switches(view), Advice):
        return None
    if declared_offline(view.environ):
        return f"declared offline by {SWITCHES[0]}"
    place = view.environ.get("HF_ENDPOINT") or _ENDPOINT
    began = time.time()
    answer = (ask or within_a_second)(place)
    if answer.trouble:
        return Advice(
            f"{place} does not answer ({answer.trouble}), and nothing says that it need not.",
            cause="no network, a proxy that is not set, or a machine that is to have none",
            type_this=f"export {SWITCHES[0]}=1  # before lab.up, where there is to be none; else: "
            "curl -I " + place,
        )
    skew = abs(answer.date - began) if answer.date is not None else 0.0
    if skew > _SKEW:
        return Advice(
            f"This machine's clock and that of {place} are {skew:.0f} s apart.",
            cause="nothing sets this machine's clock",
            type_this="sudo timedatectl set-ntp true && timedatectl",
        )
    return f"{place} answers"


def declared_offline(environ: Mapping[str, str]) -> bool:
    """Tell whether the main switch says so."""
    return environ.get(SWITCHES[0], "").upper() in _ON


def within_a_second(place: str) -> Answer:
    """Ask ``place``; names that are looked up for long are not waited for."""
    answers: list[Answer] = []
    asking = threading.Thread(target=lambda: answers.append(_ask(place)), daemon=True)
    asking.start()
    asking.join(_SECONDS)
    return answers[0] if answers else Answer(trouble=f"no answer within {_SECONDS:.0f} s")


def _ask(place: str) -> Answer:
    try:
        request = urllib.request.Request(place, method="HEAD")  # noqa: S310 - https, or the user's
        with urllib.request.urlopen(request, timeout=_SECONDS) as told:  # noqa: S310
            return Answer(_date(told.headers.get("Date")))
    except urllib.error.HTTPError as error:  # somebody answers
        return Answer(_date(error.headers.get("Date")))
    except (OSError, http.client.HTTPException, ValueError) as error:
        return Answer(trouble=str(getattr(error, "reason", error)) or type(error).__name__)


def _date(text: str | None) -> float | None:
    try:
        return email.utils.parsedate_to_datetime(text).timestamp() if text else None
    except ValueError:
        return None
