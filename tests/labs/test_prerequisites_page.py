"""docs/prerequisites.md names checks that are there; its links are held by test_documents."""

from __future__ import annotations

import re

from tests.conftest import PROJECT
from verify.judging import Bench
from verify.labs import find_labs

PAGE = (PROJECT / "docs" / "prerequisites.md").read_text("utf-8")
LABS = {lab.skill: lab for lab in find_labs(PROJECT / "labs")}


def test_every_check_it_names_is_there() -> None:
    named = set(re.findall(r"`([a-z-]+)\.([a-z_0-9]+)`", PAGE)) - {("skill", "check")}
    assert len(named) > 50
    for skill in {skill for skill, _ in named}:
        there = {check.name for check in Bench(LABS[skill]).checks}
        assert {name for its, name in named if its == skill} <= there, skill


def test_every_required_skill_has_a_section_and_a_review() -> None:
    for lab in LABS.values():
        if lab.required:
            assert f"`{lab.skill}." in PAGE
            module = re.match(r"Module [\d.]+", lab.review)
            assert module
            assert module[0] in PAGE
