"""A target: one property, the examples it is tried on, and how many of them a test takes."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, Final

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

TARGETS: Final[dict[str, Target]] = {}
"""The targets by their tests' names, without ``test_``."""

_PHASES: Final = (Phase.explicit, Phase.generate, Phase.shrink)
_SLOW_IS_FINE: Final = (HealthCheck.too_slow, HealthCheck.function_scoped_fixture)


@dataclasses.dataclass(frozen=True)
class Target:
    """One property.

    Attributes:
        holds: Raises where it does not hold.
        examples: How many a test tries, and a batch of a long run.
        given: What they are made of, by the names of the arguments of ``holds``.
    """

    holds: Callable[..., None]
    examples: int
    given: dict[str, st.SearchStrategy[Any]]

    def batch(self, number: int, before_each: Callable[[], object]) -> Callable[..., None]:
        """Return a function that tries a batch of examples, which ``number`` decides."""

        @functools.wraps(self.holds)
        def holds(*arguments: Any, **named: Any) -> None:
            before_each()
            self.holds(*arguments, **named)

        how = settings(
            max_examples=self.examples,
            database=None,
            deadline=None,
            phases=_PHASES,
            suppress_health_check=_SLOW_IS_FINE,
        )
        return seed(number)(how(given(**self.given)(holds)))


def fuzzed(examples: int, **strategies: st.SearchStrategy[Any]) -> Callable[..., Any]:
    """Make a property a target, and a test that tries the same ``examples`` each time."""

    def make(holds: Callable[..., None]) -> Callable[..., None]:
        TARGETS[holds.__name__.removeprefix("test_")] = Target(holds, examples, strategies)
        how = settings(
            max_examples=examples,
            derandomize=True,
            database=None,
            deadline=None,
            phases=_PHASES,
            suppress_health_check=_SLOW_IS_FINE,
        )
        return how(given(**strategies)(holds))

    return make
