"""From skills to advice: go on, review for some hours, or the modules first."""

from __future__ import annotations

from verify.labs import Lab
from verify.results import READING, Readiness, SkillResult

FEW_GAPS = 2  # up to so many, a review of a few hours closes them


def readiness(skills: list[SkillResult], labs: list[Lab]) -> Readiness:
    """Return what ``skills`` say, of the required ones among ``labs``."""
    required = [lab.skill for lab in labs if lab.required]
    verified = {skill.skill: skill for skill in skills}
    missing = [name for name in required if name in verified and not verified[name].ready]
    unseen = [name for name in required if name not in verified]
    unread = [name for name in missing if not _was_read(verified[name])]
    machines = [lab.skill for lab in labs if not lab.exercise and lab.skill in verified]
    broken = [name for name in machines if not verified[name].ready]
    return Readiness(
        ready=bool(required) and not missing and not unseen,
        missing=missing,
        not_verified=unseen,
        advice=_mend(broken) + _advice(len(missing) - len(unread), len(unseen), unread),
        review={name: verified[name].review for name in missing},
    )


def _was_read(skill: SkillResult) -> bool:
    """Tell whether there was an exercise to judge: a file that is not there shows no gap."""
    return not any(c.name == READING and c.status == "failed" for c in skill.checks)


def _mend(broken: list[str]) -> str:
    return f"First mend what `{'`, `'.join(broken)}` names. " if broken else ""


def _advice(missing: int, unseen: int, unread: list[str]) -> str:
    if unread:
        names = ", ".join(unread)
        return f"{names} could not be judged: exercise.py must be there and be Python first."
    if not missing and not unseen:
        return "Every required skill is ready: go on to fine-tuning."
    if not missing:
        return f"Nothing is missing so far; {_skills(unseen)} not verified yet."
    if missing <= FEW_GAPS:
        return f"{_skills(missing)} to review: about 2 to 4 hours."
    return f"{_skills(missing)} to review: complete the prerequisite modules first."


def _skills(count: int) -> str:
    return f"{count} skill" if count == 1 else f"{count} skills"
