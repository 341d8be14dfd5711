"""A build's progress, from lines that BuildKit printed."""

from __future__ import annotations

from verify.lab.build_steps import BuildSteps

TOLD = """\
#0 building with "default" instance using docker driver

#5 [libraries 2/4] RUN python3 -m venv --without-pip /opt/venv
#5 CACHED

#8 [libraries 3/4] RUN --mount=type=bind,from=pip,target=/opt/pip     sh /mnt/install.sh /mnt/a.lock
#8 0.677 Looking in links: /mnt/wheels
#8 0.9 Collecting torch
#8 DONE 31.0s

#9 [content 5/6] COPY labs /labs
#9 DONE 0.1s
"""


def test_a_step_is_told_once_when_it_is_worked_on_and_not_when_it_is_taken_as_it_was() -> None:
    steps = BuildSteps()
    assert [step for step in map(steps.hear, TOLD.splitlines()) if step] == [
        "[libraries 3/4] RUN sh /mnt/install.sh /mnt/a.lock",
        "[content 5/6] COPY labs /labs",
    ]
