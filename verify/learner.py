"""The learner's process: reads the exercise, plays scenes with it, sends observations.

It is a sealed sibling of the judge. Nothing of an answer is ever in it: it is given the exercise,
the lab's public ``scene.py`` and inputs. Whatever its code does to this process, the judge sees
plain data or an end.
"""

from __future__ import annotations

import contextlib
import functools
import linecache
import random
import socket
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import torch

from verify.channel import Channel, ChannelError
from verify.codec import CodecError
from verify.extract import Source
from verify.labs import Limits
from verify.plain import Plain
from verify.scene import EXERCISE, begin_anew, load_module, play
from verify.sealing import CHANNEL_FD
from verify.text import clean


class MissingFunction(AttributeError):
    """The exercise does not define a function that a check needs."""


class Exercise:
    """The learner's functions, each loaded when it is first asked for.

    A function is loaded with what it needs and nothing else, into a module of its own: a constant
    that cannot be made harms only the functions that use it.
    """

    def __init__(self, source: Source, signatures: dict[str, str]) -> None:
        self._source = source
        self._signatures = signatures
        self._loaded: dict[str, Any] = {}

    def __getattr__(self, name: str) -> Any:
        if name not in self._loaded:
            self._loaded[name] = self._load(name)
        return self._loaded[name]

    def _load(self, name: str) -> Any:
        if not self._source.defines(name):
            wanted = self._signatures.get(name, name)
            raise MissingFunction(f"exercise.py does not define `{name}`. Write: def {wanted}")
        module = ModuleType("exercise")
        module.__file__ = EXERCISE
        sys.modules["exercise"] = module
        nodes = self._source.needed_for(name)
        with self._explaining():
            exec(self._source.compile(nodes), vars(module))  # noqa: S102 - what this process is for
        function = getattr(module, name)
        if not callable(function):
            return function

        @functools.wraps(function)
        def call(*arguments: Any, **named: Any) -> Any:
            with self._explaining():
                return function(*arguments, **named)

        return call

    @contextlib.contextmanager
    def _explaining(self) -> Iterator[None]:
        """Let a `NameError` say why the exercise does not bind the name, where that is known."""
        try:
            yield
        except NameError as error:
            why = self._source.unbound(error.name) if error.name else None
            if why is None or isinstance(error, UnboundLocalError):
                raise
            raise NameError(why).with_traceback(error.__traceback__) from None


def main(limits: Limits) -> None:
    """Serve the judge until it closes the channel, within ``limits``."""
    channel = Channel(socket.socket(fileno=CHANNEL_FD))
    begin_anew(limits.threads)
    if torch.cuda.is_available():
        limit_gpu(limits.gpu_share)
    try:
        channel.send({"sealed": True})  # what goes wrong before this is not the exercise's
        _serve(channel)
    except ChannelError:
        return  # the judge has ended, or learner code has broken the channel: it shows there


def limit_gpu(share: float) -> None:
    """Have torch refuse more than ``share`` of each GPU's memory: its error is a learner's to read.

    CUDA is not initialised by that: torch does it when the exercise first asks for a GPU. Learner
    code can take it back; `verify.memory_guard` cannot be.
    """

    def limit() -> None:
        for device in range(torch.cuda.device_count()):
            torch.cuda.set_per_process_memory_fraction(share, device)

    torch.cuda._lazy_call(limit)  # type: ignore[no-untyped-call]  # as its manual_seed does


def _serve(channel: Channel) -> None:
    told = channel.receive()
    assert isinstance(told, dict)
    exercise, problem = _read(told["exercise"], told["functions"])
    scene = load_module("scene", told["scene"], "scene.py")  # type: ignore[arg-type]
    channel.send({"problem": problem})
    while exercise is not None:
        question = channel.receive()
        assert isinstance(question, dict)
        random.seed(question["seed"])  # type: ignore[arg-type]
        play_one = getattr(scene, question["scene"])  # type: ignore[arg-type]
        observation = play(play_one, exercise, question["inputs"], question["seed"])  # type: ignore[arg-type]
        _answer(channel, observation)


def _answer(channel: Channel, observation: Plain) -> None:
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except Exception:  # noqa: BLE001, S112 - learner code may have replaced or closed it
            continue
    try:
        channel.send({"observation": observation})
    except CodecError as error:
        channel.send({"refused": str(error)})


def _read(text: Any, signatures: Any) -> tuple[Exercise | None, str | None]:
    """Return the exercise, or None and what is wrong with the file in one line."""
    if not text.strip():
        return None, "exercise.py is empty."
    try:
        source = Source(text, EXERCISE)
    except SyntaxError as error:
        return None, _syntax(error)
    except (ValueError, RecursionError, MemoryError) as error:
        return None, f"exercise.py cannot be read as Python: {clean(str(error), 120)}."
    linecache.cache[EXERCISE] = (
        len(text),
        None,
        text.decode("utf-8", "replace").splitlines(True),
        EXERCISE,
    )
    return Exercise(source, signatures), None


def _syntax(error: SyntaxError) -> str:
    line = clean(error.text or "", 80)
    shown = f": {line}" if line else ""
    return f"exercise.py does not parse: line {error.lineno}, {clean(error.msg, 120)}{shown}"
