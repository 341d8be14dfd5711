"""The Docker SDK for Python, and what goes wrong on the way to the engine."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from verify.lab import engine_address
from verify.lab.engine_troubles import NoEngine, no_answer
from verify.lab.problems import Problem

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextlib.contextmanager
def asked(address: str | None = None, seconds: float = 60.0) -> Iterator[Any]:
    """Yield the SDK's client for the engine at ``address`` (None: the one Docker's CLI would use).

    Args:
        address: As DOCKER_HOST would have it.
        seconds: How long one answer may take.

    Raises:
        NoEngine: none answers, or the SDK is not installed.
        Problem: the engine refused what it was asked.
    """
    address = address or engine_address.find()
    if path := engine_address.socket_of(address):
        try:
            engine_address.knock(path)  # before the SDK is imported, which takes longer than all
        except OSError as error:
            raise no_answer(error, address) from error
    try:
        import docker  # noqa: PLC0415 - a sixth of a second that nobody else waits for
        from docker.errors import APIError, DockerException  # noqa: PLC0415
        from requests.exceptions import RequestException  # noqa: PLC0415 - the SDK lets it through
    except ModuleNotFoundError as missing:
        raise NoEngine(
            f"Docker cannot be asked: the library {missing.name} is missing.",
            "this Python is not the one the project was installed into",
            "pip install -e .",
        ) from None
    settings = engine_address.variables() | {"DOCKER_HOST": address}
    try:
        client = docker.from_env(version="auto", timeout=seconds, environment=settings)
        with contextlib.closing(client):
            yield client
    except APIError as error:
        raise Problem(
            f"The Docker engine refused: {error.explanation or error}",
            cause="in its own words, above",
            type_this="docker info  # says more",
        ) from error
    except (DockerException, RequestException) as error:
        raise NoEngine(
            f"The Docker engine at {address} gives no answer: {error}",
            "it is starting, overloaded, or out of reach",
            "docker info  # says more",
        ) from error
