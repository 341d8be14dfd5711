"""A run as the client sees it: events become its record, and are shown as they come."""

from __future__ import annotations

import datetime
from typing import Any

import msgspec

from verify.labs import Lab
from verify.readiness import readiness
from verify.results import Environment, Run, SkillResult
from verify.show import Screen


class Outcome:
    """Collects a run's events into its record and shows each as it comes.

    To the skills in ``machine`` it adds what only this side of the wall can see.
    """

    def __init__(self, screen: Screen, machine: set[str]) -> None:
        self._screen = screen
        self._machine = machine
        self._started = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        self._seed = 0
        self._environment: Environment | None = None
        self._skills: list[SkillResult] = []
        self.doing = "the start"

    def take(self, event: dict[str, Any]) -> None:
        """Take one of the runner's events."""
        if event["event"] == "environment":
            self._begin(event["seed"], msgspec.convert(event["environment"], Environment))
        elif event["event"] == "job":
            self.doing = f"`{event['skill']}`"
        elif event["event"] == "skill":
            skill = self._whole(msgspec.convert(event["skill"], SkillResult))
            self._skills.append(skill)
            event = {**event, "skill": msgspec.to_builtins(skill)}
        self._screen.event(event)

    def _begin(self, seed: int, environment: Environment) -> None:
        """Take what comes first; a second time if the runner ended and was started anew."""
        if self._environment is None:
            self._seed, self._environment = seed, environment
            return
        done = ", ".join(skill.skill for skill in self._skills) or "nothing"
        self._environment.notes.append(
            f"The runner ended after {done} and was started anew: from there on the seed is {seed}."
        )

    def _whole(self, skill: SkillResult) -> SkillResult:
        if skill.skill not in self._machine:
            return skill
        from verify import host_half  # noqa: PLC0415 - most runs ask nothing of the host

        assert self._environment is not None
        found = []
        for result in host_half.look(self._environment):
            self._screen.event({"event": "result", "result": msgspec.to_builtins(result)})
            found.append(result)
        return host_half.join(skill, found)

    def record(self, labs: list[Lab], *, practice: bool) -> Run:
        """Return the run's record."""
        assert self._environment is not None
        return Run(
            seed=self._seed,
            practice=practice,
            started=self._started,
            environment=self._environment,
            readiness=readiness(self._skills, labs),
            skills=self._skills,
        )
