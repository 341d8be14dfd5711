"""A build's failures: whose they are, and what to type. The texts are BuildKit's and pip's own."""

from __future__ import annotations

from pathlib import Path

import pytest

from verify.lab.build_troubles import diagnose

LOCKS, LOG = Path("/p/images/locks"), Path("/p/.lab/log/build.log")
STEP = (
    '#8 ERROR: process "/bin/sh -c sh /mnt/install.sh /mnt/{lock} && sh /mnt/trim.sh" did not '
    "complete successfully: exit code: 1\n"
)
NO_MATCH = "#8 0.840 ERROR: No matching distribution found for torch==2.13.0+cpu\n"
NO_NETWORK = (
    "#8 1.628 WARNING: Retrying (Retry(total=4, connect=None, read=None, redirect=None, "
    "status=None)) after connection broken by 'NewConnectionError(...)': /whl/cpu/torch/\n"
)
ELSEWHERE = "#8 1.599 Looking in indexes: https://download.pytorch.org/whl/cpu\n"
HASH = (
    "#9 3.1 ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE.\n"
    "#9 3.1     rich==15.0.0 from https://m.example/rich.whl (from -r /mnt/lab.lock):\n"
)


@pytest.mark.parametrize(
    ("output", "happened", "type_this"),
    [
        (
            NO_MATCH + ELSEWHERE + NO_NETWORK + NO_MATCH + STEP.format(lock="torch-cpu.lock"),
            "The CPU build of torch cannot be had from here",
            "PIP_FIND_LINKS=",
        ),
        (
            HASH + STEP.format(lock="lab.lock"),
            "rich==15.0.0 is not the file that lab.lock names by hash",
            "pip cache purge",
        ),
        (
            "#9 3.1 ERROR: Could not install: [Errno 28] No space left on device\n"
            + STEP.format(lock="lab.lock"),
            "",
            "docker system df",
        ),
        (
            '#2 ERROR: failed to do request: Head "https://registry.example/v2/library/python": '
            "dial tcp: lookup registry.example: no such host\n",
            "The base image could not be fetched",
            "invoke image.base && invoke image.build --base finetune-lab-base:bookworm",
        ),
        (
            "#7 0.2 exec /bin/sh: exec format error\n",
            "This machine cannot run programs of that platform",
            "binfmt",
        ),
        (
            "#12 ERROR: something nobody has seen yet\n",
            "The build failed: ERROR: something nobody has seen yet",
            "tail -n 40 /p/.lab/log/build.log",
        ),
    ],
)
def test_each_failure_has_its_message(output: str, happened: str, type_this: str) -> None:
    problem = diagnose(output, LOCKS, LOG)
    assert problem.happened.startswith(happened)
    assert type_this in problem.type_this
