"""What ``nvidia-smi -q -x`` says of each GPU: its name, and whether it counts faults of its own.

The elements differ between branches of the driver, and a card says ``N/A`` of what it does not
count. What is not said is no fault. How many lanes of PCIe are in use is not judged: machines that
are well show 1 of 16 (GB10) or 8 of 16 (T4 and L40S in clouds).
"""

from __future__ import annotations

import dataclasses
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator, Mapping
from typing import Final

from verify.lab.problems import Problem
from verify.machine import Advice

QUERY: Final = ("nvidia-smi", "-q", "-x")

_LOG: Final = re.compile(r"<nvidia_smi_log>.*</nvidia_smi_log>", re.DOTALL)
_INFOROM: Final = re.compile(r"WARNING: infoROM is corrupted at gpu (\S+)", re.IGNORECASE)
_BUS: Final = r"(?:[\dA-Fa-f]{8}|[\dA-Fa-f]{4}):[\dA-Fa-f]{2}:[\dA-Fa-f]{2}\.[\dA-Fa-f]"
_LOST: Final = re.compile(rf"Unable to determine the device handle for GPU(?:\d+:)? ?({_BUS})")
_BROKEN: Final = re.compile("GPU is lost|GPU requires reset")
_UNSAID: Final = re.compile("ERR!|Unknown Error|not in ready state")

# What the words mean: https://docs.nvidia.com/deploy/a100-gpu-mem-error-mgmt/ (rows, pages) and
# https://docs.nvidia.com/deploy/nvidia-smi/ (the rest).
_TO_RESET: Final = {
    "remapped_rows/remapped_row_pending": "has rows of its memory to be replaced by spare ones",
    "retired_pages/pending_blacklist": "has pages of its memory to be retired",
    "retired_pages/pending_retirement": "has pages of its memory to be retired",
    "ecc_errors/channel_repair_pending": "has a channel of its memory to be repaired",
    "ecc_errors/tpc_repair_pending": "has a cluster of processors to be repaired",
    "gpu_reset_status/reset_required": "has to be reset, its driver says",
    "gpu_reset_status/drain_and_reset_recommended": "should be reset, its driver says",
}
_TO_REPLACE: Final = {
    "remapped_rows/remapped_row_failure": "has no spare row left for one that failed",
    "ecc_errors/aggregate/sram_threshold_exceeded": "has had more errors in its SRAM than it may",
}
_ACTION: Final = "gpu_recovery_action"
_JUDGED: Final = (*_TO_RESET, *_TO_REPLACE, _ACTION)
_ALWAYS_SAID: Final = ("fan_speed", "performance_state", "ecc_mode/current_ecc")
"""If only as ``N/A``. Of others, cards that are well say ``Unknown Error`` (addressing_mode)."""
_FOR_ONE: Final = ("Exclusive_Process", "Prohibited")
_SLOWED: Final = {
    "hw_thermal_slowdown": "it is too hot",
    "hw_power_brake_slowdown": "its power supply asks it to slow down",
}


@dataclasses.dataclass(frozen=True)
class Report:
    """What is said of one GPU.

    Attributes:
        bus: Its address on the PCI bus.
        said: The values by their elements, as ``remapped_rows/remapped_row_pending``.
    """

    bus: str
    said: Mapping[str, str]

    @property
    def name(self) -> str:
        """What the driver calls it."""
        return self.said.get("product_name", "an NVIDIA GPU")


@dataclasses.dataclass(frozen=True)
class Told:
    """All that was said.

    Attributes:
        driver: The driver's version, or None.
        reports: Of each GPU.
        inforoms: The addresses of those whose InfoROM is corrupted.
        lost: The addresses of those that do not answer the driver.
    """

    driver: str | None = None
    reports: tuple[Report, ...] = ()
    inforoms: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()


def read(text: str) -> Told:
    """Return what the tool printed, its warnings before and after the XML too."""
    warned = tuple(_INFOROM.findall(text)), tuple(_LOST.findall(text))
    found = _LOG.search(text)
    try:
        log = ElementTree.fromstring(found[0] if found else "")  # noqa: S314 - of the driver's tool
    except ElementTree.ParseError:
        return Told(None, (), *warned)
    reports = tuple(Report(it.get("id", "?"), dict(_leaves(it))) for it in log.iter("gpu"))
    return Told(log.findtext("driver_version"), reports, *warned)


def trouble(told: Told) -> Problem | None:
    """Return what a GPU's own counters tell of: a fault before an advice, or None."""
    found = [_gone(bus) for bus in told.lost]
    found += [it for report in told.reports for it in _troubles(report)]
    found += [_corrupted(bus) for bus in told.inforoms]
    faults = [it for it in found if not isinstance(it, Advice)]
    return next(iter([*faults, *found]), None)


def summary(told: Told) -> str | None:
    """Return what was looked at, where there is no trouble; None where no GPU counts any."""
    counted = [it for it in told.reports if any(_known(it, row) for row in _JUDGED)]
    if not counted:
        return None
    return f"{len(counted)} of {len(told.reports)} count: no uncorrected error, nothing to repair"


def _leaves(element: ElementTree.Element, above: str = "") -> Iterator[tuple[str, str]]:
    for child in element:
        if len(child):
            yield from _leaves(child, f"{above}{child.tag}/")
        else:
            yield above + child.tag, (child.text or "").strip()


def _troubles(report: Report) -> Iterator[Problem]:
    card = f"{report.name} at {report.bus}"
    for row, words in _TO_REPLACE.items():
        if report.said.get(row) == "Yes":
            yield Problem(
                f"{card} {words}.",
                cause="its memory wears out; what it computes cannot be relied upon",
                type_this=f"nvidia-smi -q -i {report.bus} -d ECC,ROW_REMAPPER"
                "  # for your vendor, who replaces such a card",
            )
    if any(map(_BROKEN.search, report.said.values())):
        yield _reset(report.bus, f"{card} is lost to its driver, or wants to be reset.")
    if (mode := report.said.get("compute_mode", "")) in _FOR_ONE:
        yield Problem(
            f"{card} serves one process at a time ({mode}).",
            cause="a scheduler or somebody set its compute mode; a verification has two processes",
            type_this=f"sudo nvidia-smi -i {report.bus} -c DEFAULT",
        )
    if errors := _uncorrectable(report):
        yield _reset(report.bus, f"{card} counts {errors} errors that it could not correct.")
    for row, words in _TO_RESET.items():
        if report.said.get(row) == "Yes":
            yield _reset(report.bus, f"{card} {words}.")
    if _known(report, _ACTION) and (action := report.said[_ACTION]) != "None":
        yield _reset(report.bus, f"{card} is to be recovered, its driver says: {action}.")
    yield from _advised(report, card)


def _advised(report: Report, card: str) -> Iterator[Advice]:
    if unsaid := [row for row in _ALWAYS_SAID if _UNSAID.search(report.said.get(row, ""))]:
        yield Advice(
            f"{card} does not say all that it is asked: {', '.join(unsaid)}.",
            cause="on a laptop its firmware; in a server a card that will soon be lost",
            type_this=f"nvidia-smi -q -i {report.bus}; sudo dmesg | grep -i xid",
        )
    for label, cause in _SLOWED.items():
        rows = [f"clocks_{it}_reasons/clocks_{it}_reason_{label}" for it in ("event", "throttle")]
        if any(report.said.get(row) == "Active" for row in rows):
            yield Advice(
                f"{card} has been slowed down by its hardware.",
                cause=cause,
                type_this="nvidia-smi -q -d PERFORMANCE,TEMPERATURE,POWER",
            )


def _gone(bus: str) -> Problem:
    return Problem(
        f"The GPU at {bus} does not answer its driver.",
        cause="it fell off the bus: power, heat, its slot, or a fault",
        type_this="sudo dmesg | grep -i xid; sudo reboot",
    )


def _reset(bus: str, happened: str) -> Problem:
    return Problem(
        happened,
        cause="its memory or its bus had a fault that only a reset clears",
        type_this=f"sudo nvidia-smi --gpu-reset -i {bus}"
        "  # with nothing running on it; else: sudo reboot. And: sudo dmesg | grep -i xid",
    )


def _corrupted(bus: str) -> Advice:
    return Advice(
        f"The InfoROM of the GPU at {bus} is corrupted: it may not know its own limits.",
        cause="power was lost while it was written, or the card has a fault",
        type_this="nvidia-smi -q -d INFOROM  # for your vendor, who writes it anew",
    )


def _uncorrectable(report: Report) -> int:
    """Return the errors since the driver was loaded that were seen and not corrected."""
    return sum(
        int(value)
        for row, value in report.said.items()
        if row.startswith("ecc_errors/volatile/")
        and re.search("uncorrectable|double_bit/total", row)
        and value.isdecimal()
    )


def _known(report: Report, row: str) -> bool:
    return report.said.get(row, "N/A") not in ("N/A", "[N/A]")
