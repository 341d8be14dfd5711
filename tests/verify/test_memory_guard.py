"""The floor under the machine's memory: where it is, who says so, and what happens below it."""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import COURSES, running
from tests.verify.test_outcomes import GOOD
from verify import gpu_nodes, memory_guard
from verify.job import Job, _Output
from verify.memory_guard import GIB, SETTING, Shortage, gpu_free, gpu_shortage, shortage


def meminfo(folder: Path, free: float, whole: float) -> Path:
    """Return a file as the kernel writes it, with so many GiB available and in all."""
    rows = {"MemTotal": whole, "MemFree": 0.1, "MemAvailable": free, "HugePages_Total": 0}
    file = folder / "meminfo"
    file.write_text("".join(f"{name}:  {int(it * 1024**2)} kB\n" for name, it in rows.items()))
    return file


@pytest.fixture(autouse=True)
def no_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(SETTING, raising=False)


@pytest.mark.parametrize(
    ("free", "whole", "floor"),
    [(0.9, 16, 1), (1.1, 16, None), (2.4, 128, 2.56), (2.6, 128, None), (0.5, 0.75, 1)],
)
def test_a_gib_must_be_free_or_two_percent_of_a_large_machine(
    tmp_path: Path, free: float, whole: float, floor: float | None
) -> None:
    found = shortage(meminfo(tmp_path, free, whole))
    assert (found and found.floor / GIB) == (None if floor is None else pytest.approx(floor))
    assert found is None or found.free / GIB == pytest.approx(free, abs=1e-5)


@pytest.mark.parametrize(
    ("setting", "is_short"),
    [("3.5", True), ("2.5", False), ("0", False), ("many", False), ("nan", False), ("inf", False)],
)
def test_an_operator_may_set_the_floor_and_nonsense_leaves_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, setting: str, is_short: bool
) -> None:
    monkeypatch.setenv(SETTING, setting)
    assert (shortage(meminfo(tmp_path, 3, 16)) is not None) == is_short


def test_this_machine_has_memory_to_test_on() -> None:
    assert shortage() is None


def test_it_says_how_much_is_free_how_much_must_be_and_who_says_so() -> None:
    told = str(Shortage(GIB // 2, GIB, "MemAvailable in /proc/meminfo"))
    assert told == ("only 0.50 GiB are free by MemAvailable in /proc/meminfo, and 1.00 GiB must be")


class Driver:
    """The driver's library, as it answers on one machine or another."""

    def __init__(self, free: int, refuses: str = "") -> None:
        self.free = free
        self.refuses = refuses
        self.ended = 0
        self.asked: int | bytes | None = None

    def nvmlInit_v2(self) -> int:  # noqa: N802 - NVIDIA's names
        return int(self.refuses == "init")

    def nvmlDeviceGetHandleByIndex_v2(self, index: int, device: Any) -> int:  # noqa: N802
        self.asked = index
        return int(self.refuses == "device")

    def nvmlDeviceGetHandleByUUID(self, which: bytes, device: Any) -> int:  # noqa: N802
        self.asked = which
        return int(self.refuses == "device")

    def nvmlDeviceGetMemoryInfo(self, device: Any, told: Any) -> int:  # noqa: N802
        told._obj[:] = 8 * GIB, self.free, 8 * GIB - self.free
        return 3 * (self.refuses == "memory")  # NVML_ERROR_NOT_SUPPORTED

    def nvmlShutdown(self) -> None:  # noqa: N802
        self.ended += 1


def test_a_card_with_memory_of_its_own_is_asked() -> None:
    driver = Driver(5 * GIB)
    assert gpu_free(driver, "0") == 5 * GIB
    assert driver.ended == 1


@pytest.mark.parametrize(
    ("told", "asked"),
    [(None, 0), ("3,1", 3), ("GPU-8932f937", b"GPU-8932f937"), ("MIG-1f0a", b"MIG-1f0a")],
)
def test_it_is_the_one_that_cuda_counts_first(
    monkeypatch: pytest.MonkeyPatch, told: str | None, asked: int | bytes
) -> None:
    """On a node that jobs share, the first of all may be another's, and full."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if told is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", told)
    driver = Driver(GIB)
    assert gpu_free(driver, gpu_nodes.first_visible()) == GIB
    assert driver.asked == asked


@pytest.mark.parametrize("hidden", ["", "-1"])
def test_one_that_cuda_may_not_see_is_not_asked(
    monkeypatch: pytest.MonkeyPatch, hidden: str
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hidden)
    assert gpu_free(Driver(0), gpu_nodes.first_visible()) is None


@pytest.mark.parametrize("refuses", ["init", "device", "memory"])
def test_where_it_has_none_of_its_own_or_is_not_there_nothing_is_short(refuses: str) -> None:
    driver = Driver(0, refuses)
    assert gpu_free(driver, "0") is None
    assert driver.ended == (refuses != "init"), "what was begun is ended"
    assert gpu_free(None, "0") is None


@pytest.mark.parametrize(("free", "is_short"), [(GIB // 4, True), (GIB, False)])
def test_a_card_that_others_fill_is_short(
    monkeypatch: pytest.MonkeyPatch, free: int, is_short: bool
) -> None:
    monkeypatch.setattr(memory_guard, "_driver_library", lambda: Driver(free))
    assert gpu_shortage() is None, "a lab on the CPU needs none of it"
    monkeypatch.setattr(gpu_nodes, "in_use", lambda: True)
    found = gpu_shortage()
    assert (found is not None) == is_short
    assert found is None or (found.free, found.source) == (free, "the NVIDIA driver")


def test_a_machine_without_a_driver_has_no_library(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise OSError(name)

    monkeypatch.setattr(ctypes, "CDLL", missing)
    monkeypatch.setattr(gpu_nodes, "in_use", lambda: True)
    memory_guard._driver_library.cache_clear()
    try:
        assert gpu_shortage() is None
    finally:
        memory_guard._driver_library.cache_clear()


def test_below_the_floor_no_job_is_begun_and_it_is_not_the_learners_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(SETTING, "100000")
    with running(COURSES / "outcomes", tmp_path) as runner:
        (result,) = runner.verify("acts", GOOD).values()
    assert (result.status, result.cause) == ("error", None)
    assert "Nothing is judged now: only " in result.message
    assert "Type: ps " in result.message


class Killed:
    """A keeper that counts."""

    def __init__(self) -> None:
        self.kills = 0

    def kill(self) -> None:
        self.kills += 1

    def end(self) -> None:
        pass


def test_a_learner_that_takes_the_memory_is_killed_once_and_told_why(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    short = Shortage(GIB // 2, GIB, "the test")
    monkeypatch.setattr(memory_guard, "shortage", lambda: short)
    job = object.__new__(Job)
    job._keeper = keeper = Killed()  # type: ignore[assignment]
    job._short, job._full, job._output = None, False, _Output(100)
    job._slot = type("Slot", (), {"walls": type("Walls", (), {"mounts": True})})  # type: ignore[assignment]
    job._guard()
    job._guard()
    assert keeper.kills == 1
    told = job._explain("protocol")
    assert told["cause"] == "memory"
    assert str(short) in str(told["message"])
    assert job._short is None, "the next learner of the job starts with none"
