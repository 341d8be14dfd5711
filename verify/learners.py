"""A job's learner processes as the supervisor knows them: by way of their keeper."""

from __future__ import annotations

import dataclasses
import socket
from typing import Any

from verify.channel import ChannelError, pair
from verify.labs import Limits
from verify.plain import Plain
from verify.processes import Family, ZygoteError

_ANSWERS = 15.0  # seconds the keeper may take, the ending of everything below it included


@dataclasses.dataclass(frozen=True)
class Terms:
    """How a job's learners are sealed; see `verify.sealing.Seal` for the fields.

    Attributes:
        mounts: Whether the keeper is to mount file systems for them; see `verify.scratch`.
    """

    directory: str
    mounts: bool
    uid: int | None
    limits: Limits
    processes: int | None
    address_space: bool
    files: bool
    system_calls: bool


class Keeper:
    """Starts, awaits and ends the learners of one job."""

    def __init__(self, family: Family, terms: Terms) -> None:
        self._family = family
        self._terms = terms
        self._channel, theirs = pair()
        with theirs:
            self._pid = family.fork("keeper", theirs)

    def start(self, channel: socket.socket, output: int) -> None:
        """Start a learner; an earlier one and all that it left are ended first."""
        told: dict[str, Plain] = {"op": "start", "seal": dataclasses.asdict(self._terms)}
        self._ask(told, [channel.fileno(), output])

    def wait(self, seconds: float) -> int | None:
        """Return the learner's wait status if it ends by itself within ``seconds``, else None."""
        status = self._ask({"op": "wait", "seconds": seconds})["status"]
        return None if status is None else int(status)

    def kill(self) -> None:
        """Kill the learner."""
        self._ask({"op": "kill"})

    def end(self) -> None:
        """End the learner and everything that it started."""
        if not self._ask({"op": "end"})["swept"]:
            raise ZygoteError("a learner's processes could not be ended")

    def close(self) -> None:
        """End the keeper, and whatever it could not end."""
        self._channel.close()
        self._family.end(self._pid)

    def _ask(self, told: dict[str, Plain], fds: list[int] | None = None) -> dict[str, Any]:
        try:
            self._channel.send(told, fds or (), _ANSWERS)
            answer = self._channel.receive(_ANSWERS)
        except ChannelError as error:
            raise ZygoteError(f"the keeper of a learner does not answer: {error}") from error
        assert isinstance(answer, dict)
        return answer
