"""Every known way in which a container does not start is one message with its cause and fix.

`recorded/*.txt` holds what Docker, Compose and NVIDIA's tools said; the first line says where it is
from: a machine on which it was made to happen, or a public report.
"""

from __future__ import annotations

import pytest

from tests.lab.machines import RECORDED
from verify.lab import toolkit_errors
from verify.lab.problems import Problem

CONFIGURE = "nvidia-ctk runtime configure --runtime=docker"
CASES = {
    # words recorded: (what happened, the likely cause, what to type)
    "no-device-driver": ("no way to hand a GPU", "not installed", f"{CONFIGURE} && sudo systemctl"),
    "no-gpu-vendor": ("knows of no GPU", "no specification", "nvidia-ctk cdi generate"),
    "cdi-off": ("does not hand out CDI", "older than 28.2", f"{CONFIGURE} --cdi.enabled"),
    "cdi-name-as-file": ("takes the GPU's CDI name for a file", "too old", "--cdi.enabled"),
    "unresolvable": ("does not know the GPU: nvidia.com/gpu=all", "missing", "nvidia-cdi-refresh"),
    "device-gone": ("out of date: /dev/dri/", "display was changed", "nvidia-cdi-refresh"),
    "library-gone": ("libcuda.so.580.95.05 is gone", "driver", "nvidia-cdi-refresh"),
    "hook-gone": ("/usr/bin/nvidia-cdi-hook is gone", "removed", "apt install"),
    "runtime-gone": ("nvidia-container-runtime is gone", "removed", "apt install"),
    "runtime-unknown": ("does not know the runtime nvidia", "not told of it", CONFIGURE),
    "driver-not-loaded": ("driver is not loaded", "kernel", "modprobe nvidia"),
    "driver-mismatch": ("two versions", "upgraded", "sudo reboot"),
    "no-devices": ("finds no GPU that answers", "fell off the bus", "dmesg"),
    "wsl-blocked": ("Windows does not let", "WSL", "wsl.exe --shutdown"),
    "libraries-gone": ("driver's libraries", "config.toml", "nvidia-smi"),
    "gpu-lost": ("lost the GPU", "systemd was reloaded", "invoke lab.down && invoke lab.up"),
    "selinux": ("may not use the GPU", "SELinux", "setsebool"),
    "driver-too-old": ("too old for the image, which asks for cuda", "newer", "--variant cpu"),
    "apt-two-keys": ("https://nvidia.github.io/", "older guide", "sources.list.d"),
    "engine-too-old": ("need 25.0", "upgrade", "--runtime local"),
    "port-taken": ("Port 18999 of 127.0.0.1 is in use", "", "invoke lab.up --port 19"),
    "image-absent": ("An image is not here", "not built", "invoke image.build"),
    "disk-full": ("disk that Docker keeps its data on is full", "images", "docker system df"),
    "not-allowed": ("You may not use the Docker engine", "group docker", "usermod -aG docker"),
    "not-running": ("engine does not run", "not started", "systemctl start docker"),
}
HARMLESS = "none"
FILES = sorted(RECORDED.glob("*.txt"))


def words(file: str) -> str:
    source, _, text = (RECORDED / f"{file}.txt").read_text().partition("\n")
    assert source.startswith("# "), "a recording says where it is from"
    return text


def diagnosed(file: str) -> Problem:
    problem = toolkit_errors.diagnose(words(file))
    assert problem is not None
    return problem


def test_each_case_was_recorded_and_each_recording_is_a_case() -> None:
    assert {file.stem.partition(".")[0] for file in FILES} == {*CASES, HARMLESS}


@pytest.mark.parametrize("file", [it.stem for it in FILES if not it.stem.startswith(HARMLESS)])
def test_each_failure_has_its_message(file: str) -> None:
    happened, cause, command = CASES[file.partition(".")[0]]
    problem = diagnosed(file)
    assert happened in problem.happened
    assert cause in problem.cause
    assert command in problem.type_this
    assert "{" not in "".join(problem.lines())


@pytest.mark.parametrize("file", [it.stem for it in FILES if it.stem.startswith(HARMLESS)])
def test_what_is_no_failure_of_these_is_not_taken_for_one(file: str) -> None:
    assert toolkit_errors.diagnose(words(file)) is None


def test_no_row_of_the_table_is_without_its_recording() -> None:
    recorded = [words(file.stem) for file in FILES]
    rows = toolkit_errors.TABLE
    assert [row for row in rows if not any(row.words.search(text) for text in recorded)] == []


def test_two_failures_have_two_messages() -> None:
    told = {case: diagnosed(_first(case)).lines()[0] for case in CASES}
    assert len(set(told.values())) == len(CASES)


def test_the_words_are_found_in_a_long_output() -> None:
    around = "Container jupyter  Created\n" * 50
    problem = toolkit_errors.diagnose(around + words("cdi-off.compose") + around)
    assert problem is not None
    assert "CDI" in problem.happened


def test_a_harmless_complaint_beside_a_failure_does_not_hide_it() -> None:
    both = words("none.group-without-name") + words("driver-not-loaded")
    problem = toolkit_errors.diagnose(both)
    assert problem is not None
    assert "driver is not loaded" in problem.happened


def test_which_device_is_unknown_is_told_with_all_that_are() -> None:
    assert "nvidia.com/gpu=all, nvidia.com/pva=all." in diagnosed("unresolvable.runtime").happened


def test_an_engine_elsewhere_than_usual_is_named() -> None:
    text = words("not-running.docker-26").replace("/var/run/", "/run/user/1000/")
    problem = toolkit_errors.diagnose(text)
    assert problem is not None
    assert "unix:///run/user/1000/docker.sock" in problem.happened


def _first(case: str) -> str:
    return next(it.stem for it in FILES if it.stem.partition(".")[0] == case)
