"""What only the client's machine shows, joined to what the runner found of its own."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from verify.gpu_nodes import FOR_CPU
from verify.lab import host
from verify.results import CheckResult, Environment, SkillResult, is_ready


def look(environment: Environment) -> Iterator[CheckResult]:
    """Yield what the host shows to a lab whose runner told ``environment`` of itself."""
    torch = environment.versions.get("torch", "")
    variant = "cpu" if torch.endswith(FOR_CPU) else "gpu" if torch else ""
    notes = tuple(environment.notes)
    yield from host.checks(environment.runtime, variant, sealing=environment.sealing, notes=notes)


def join(skill: SkillResult, found: list[CheckResult]) -> SkillResult:
    """Return ``skill`` with what was ``found`` after its own checks, and ready only if all hold."""
    checks = [*skill.checks, *found]
    return msgspec.structs.replace(skill, checks=checks, ready=is_ready(checks))
