"""From skills to advice: go on, review for some hours, or the modules first."""

from __future__ import annotations

from verify.labs import Lab
from verify.results import READING, Readiness, SkillResult

FEW_GAPS = 2  # up to so many, a review of a few hours closes them
QUICKSTART = "invoke quickstart"


def readiness(skills: list[SkillResult], labs: list[Lab]) -> Readiness:
    """Return what ``skills`` say, of the required ones among ``labs``."""
    required = [lab.skill for lab in labs if lab.required]
    verified = {skill.skill: skill for skill in skills}
    missing = [name for name in required if name in verified and not verified[name].ready]
    unseen = [name for name in required if name not in verified]
    unread = [name for name in missing if not _was_read(verified[name])]
    gaps = [name for name in missing if name not in unread]
    machines = [lab.skill for lab in labs if not lab.exercise and lab.skill in verified]
    broken = [name for name in machines if not verified[name].ready]
    optional = [
        skill.skill
        for skill in skills
        if not (skill.required or skill.ready or skill.skill in machines)
    ]
    gaps_now = gaps or (optional if len(unseen) == len(required) else [])
    undone = bool(broken or missing or unseen)
    return Readiness(
        ready=bool(required) and not missing and not unseen,
        missing=missing,
        not_verified=unseen,
        advice=_mend(broken) + _advice(gaps, unseen, unread, len(required)),
        review={name: verified[name].review for name in missing},
        next=_next(broken or unread, gaps_now, _later(required, unseen)) if undone else QUICKSTART,
    )


def _was_read(skill: SkillResult) -> bool:
    """Tell whether there was an exercise to judge: a file that is not there shows no gap."""
    return not any(c.name == READING and c.status == "failed" for c in skill.checks)


def _mend(broken: list[str]) -> str:
    return f"First mend what `{'`, `'.join(broken)}` names. " if broken else ""


def _advice(gaps: list[str], unseen: list[str], unread: list[str], required: int) -> str:
    if unread:
        names = ", ".join(unread)
        return f"{names} could not be judged: exercise.py must be there and be Python first."
    if not gaps and not unseen:
        return "Every required skill is ready: go on to fine-tuning."
    if len(unseen) == required:
        return "No required skill was verified in this run."
    later = f" {_skills(len(unseen))} not verified in this run." if unseen else ""
    if not gaps:
        return f"Nothing is missing so far.{later}"
    which = f"{len(gaps)} of {required - len(unseen)} required skills to review"
    if len(gaps) <= FEW_GAPS:
        return f"{which}: about 2 to 4 hours.{later}"
    return f"{which}: complete the prerequisite modules first.{later}"


def _later(required: list[str], unseen: list[str]) -> str | None:
    """Return the first skill not looked at that comes after the last one looked at, if any."""
    seen = [place for place, name in enumerate(required) if name not in unseen]
    later = required[seen[-1] + 1 :] if seen else required
    return later[0] if later else None


def _next(unfit: list[str], gaps: list[str], later: str | None) -> str:
    """Return what to type now; what comes before it stands after the ``#``."""
    if unfit:
        return f"invoke verify --skill {unfit[0]}  # when that is mended"
    if gaps or later:
        skill = gaps[0] if gaps else later
        return f"invoke verify --skill {skill}  # after its lesson, {skill}/README.md, and exercise"
    return "invoke verify  # all skills in one run"


def _skills(count: int) -> str:
    return f"{count} skill" if count == 1 else f"{count} skills"
