"""What a check is given: fresh inputs, a learner to ask, and the words for what came back."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from typing import Any, Protocol

import torch

from verify.authoring import Check
from verify.compare import ATOL, RTOL, same
from verify.plain import Plain, Raised
from verify.shorten import shorten
from verify.tensors import plain
from verify.text import clean

_UNSURPRISING = ("NotImplementedError", "SyntaxError")  # the line says nothing more


class Failure(Exception):
    """The exercise is not right; ``cause`` is one of those that `verify.results` names."""

    def __init__(self, message: str, cause: str = "wrong") -> None:
        super().__init__(message)
        self.message = message
        self.cause = cause


class NotRun(Exception):
    """The check cannot be run here; the message says what is missing."""


class Learner(Protocol):
    """Whoever plays scenes: the sealed process, or a misconception inside the judge."""

    def observe(self, scene: str, inputs: dict[str, Plain], seed: int, seconds: float) -> Plain:
        """Return the observation; raise `Failure` when the process did not live to give one."""


class Trial:
    """One check on one learner, with inputs that depend on the run's seed and the check alone.

    Attributes:
        random: Python's generator; `Trial.generator` is torch's. Both start from the same seed, so
            a misconception is given exactly the inputs the learner was.
        observations: What came back so far, in order.
    """

    def __init__(self, learner: Learner, seed: int, check: Check) -> None:
        digest = hashlib.sha256(f"{seed}/{check.name}".encode()).digest()
        self.random = random.Random(digest)  # noqa: S311 - the seed decides what can be predicted
        self.generator = torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))
        self.observations: list[Plain] = []
        self._learner = learner
        self._check = check

    def normal(self, *shape: int, scale: float = 1.0) -> torch.Tensor:
        """Draw a float32 tensor of ``shape`` from a normal distribution."""
        return torch.randn(*shape, generator=self.generator) * scale

    def integers(self, low: int, high: int, *shape: int) -> torch.Tensor:
        """Draw an int64 tensor of ``shape`` from ``low <= x < high``."""
        return torch.randint(low, high, shape, generator=self.generator)

    def observe(self, scene: str, **inputs: object) -> Any:
        """Play ``scene`` with ``inputs`` in the learner's process and return what came back.

        It is plain data, of whatever form: a check that trips over a strange one is judged as the
        learner's failure, so it may be used as if it were of the form that the scene returns.

        Args:
            scene: The name of a function in the lab's ``scene.py``.
            inputs: Tensors and plain values; the learner gets copies.

        Raises:
            Failure: the process did not live to answer.
        """
        given = {name: plain(value) for name, value in inputs.items()}
        seed = self.random.getrandbits(48)
        try:
            came = self._learner.observe(scene, given, seed, self._check.seconds)
        except Failure as failure:
            about = " or ".join(f"`{function}`" for function in self._check.functions)
            raise Failure(f"{about}: {failure.message}", failure.cause) from None
        self.observations.append(came)
        return came

    def expect(
        self,
        asked: str,
        came: Plain,
        truth: object,
        *,
        why: str = "",
        rtol: float = RTOL,
        atol: float = ATOL,
    ) -> None:
        """Return if ``came`` is ``truth`` (see `verify.compare.same`), else raise `Failure`.

        Args:
            asked: What the learner's code was asked, as they would type it.
            came: An observation or a part of one.
            truth: What should have come back. It is never shown.
            why: What the difference means, for every wrong answer alike.
            rtol: Relative tolerance, of the largest magnitude in the truth.
            atol: Absolute tolerance.
        """
        if isinstance(came, Raised):
            self.fail(asked, came)
        if not same(came, plain(truth), rtol=rtol, atol=atol):
            self.fail(asked, came, why=why)

    def expect_each(
        self,
        asked: Sequence[str],
        came: Plain,
        truth: Sequence[object],
        *,
        why: str = "",
        rtol: float = RTOL,
        atol: float = ATOL,
    ) -> None:
        """Apply `expect` to lists of the same length; the first that differs is reported."""
        if isinstance(came, Raised):
            self.fail(asked[0], came)
        assert isinstance(came, list)
        for question, answer, true in zip(asked, came, truth, strict=True):
            self.expect(question, answer, true, why=why, rtol=rtol, atol=atol)

    def require(self, holds: bool, asked: str, came: str, *, why: str = "") -> None:
        """Raise `Failure` unless ``holds``; ``came`` says in words what came back."""
        if not holds:
            raise Failure(_sentence(asked, came, why))

    def fail(self, asked: str, came: Plain, *, why: str = "") -> None:
        """Raise the `Failure` for what came back, an exception included."""
        if isinstance(came, Raised):
            raise ended(asked, came)
        raise Failure(_sentence(asked, f"came back: {shorten(came)}", why))


def ended(asked: str, came: Raised) -> Failure:
    """Return the `Failure` for a call that ended in an exception."""
    code = f": `{clean(came.code, 80)}`" if came.code and came.type not in _UNSURPRISING else ""
    where = f" (exercise.py, line {came.line}{code})" if came.line else ""
    if came.type == "NotImplementedError":
        return Failure(f"{asked}: not written yet{where}.", "wrong")
    if came.type == "MissingFunction":
        return Failure(clean(came.text) or f"{asked}: the function is missing.", "wrong")
    if came.type == "MemoryError":
        return Failure(f"{asked}: ran out of memory{where}.", "memory")
    if came.type == "DiskFull":
        return Failure(f"{asked}: wrote more to files than a job may{where}.", "output")
    if came.type == "SystemExit":
        return Failure(f"{asked}: the code called exit instead of returning{where}.", "crashed")
    text = f": {came.text}" if came.text else ""
    return Failure(f"{asked}: raised {came.type}{text}{where}.", "crashed")


def _sentence(asked: str, came: str, why: str) -> str:
    return f"{asked}: {came}.{' ' + why if why else ''}"
