"""What real GPUs said of themselves: each is known for what it is, the well give no alarm.

`recorded/nvidia-smi/` has the words, each file with where from. Some were published as XML, which
is what is read; others as text or as the table, whose labels are brought into the XML's form here.
"""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

import pytest

from tests.lab.machines import NO_DOCKER, RECORDED, engine, gb10, seen
from tests.lab.test_host import inert
from verify.kinds import Traits, recognise
from verify.lab import gpu, host, smi
from verify.lab.gpu import Said
from verify.lab.smi import Report, Told
from verify.machine import Advice

FOLDER = RECORDED / "nvidia-smi"
XML = sorted(it.stem for it in FOLDER.glob("*.xml"))
TEXT = sorted(it.name.removesuffix(".q.txt") for it in FOLDER.glob("*.q.txt"))
TABLES = sorted(it.stem for it in FOLDER.glob("*.txt") if not it.name.endswith(".q.txt"))

DATA_CENTRE = "Blackwell for data centres (B200, B300, GB200, GB300)"
KINDS = {
    "a100-570": "Ampere",
    "a100-mig-535": "Ampere",
    "b200": DATA_CENTRE,
    "b300": DATA_CENTRE,
    "gb10": "DGX Spark (GB10)",
    "gb200": DATA_CENTRE,
    "gb200-slurm": DATA_CENTRE,
    "gb300": DATA_CENTRE,
    "gh200": "Hopper",
    "h100": "Hopper",
    "h100-535": "Hopper",
    "h200-610": "Hopper",
    "l4": "Ada",
    "l40s": "Ada",
    "rtx3090": "Ampere",
    "rtx4000-sff-ada": "Ada",
    "rtx4090-535": "Ada",
    "rtx5080-laptop": "Blackwell RTX",
    "rtx5090": "Blackwell RTX",
    "rtxpro6000-maxq": "Blackwell RTX",
    "rubin-615": None,  # newer than this lab
    "t4": "Turing",
    "titan-v": "older than Turing",
    "v100s-460": "older than Turing",
    "wsl-rtx4070-laptop": "Ada",
    "wsl-rtx4090-cdi": "Ada",
    "wsl-rtx5090": "Blackwell RTX",
}
ARM = {"gb10", "gb200", "gb200-slurm", "gb300", "gh200", "rubin-615"}
WELL = [it for it in (*XML, *TEXT) if not it.startswith("sick")]
SICK = {
    "sick-a100-remap-pending": "at 00000000:9E:00.0 has rows of its memory to be replaced",
    "sick-h100-dbe-pending": "at 00000000:52:00.0 has rows of its memory to be replaced",
    "sick-h200-recovery-reset": "is to be recovered, its driver says: Reset.",
    "sick-rtx3090-reset-required": "has to be reset, its driver says.",
    "sick-gb200-simulated": "GB200 at 0000:0A:00.0 has no spare row left for one that failed.",
}
SLOW = {
    "sick-a10-power-brake": "its power supply asks it to slow down",
    "sick-v100-power-brake": "its power supply asks it to slow down",
}
LABELS = {
    "remapped_rows/pending": "remapped_rows/remapped_row_pending",
    "remapped_rows/remapping_failure_occurred": "remapped_rows/remapped_row_failure",
    "retired_pages/pending_page_blacklist": "retired_pages/pending_blacklist",
}


def text(name: str) -> str:
    found = [FOLDER / f"{name}{ending}" for ending in (".xml", ".q.txt", ".txt")]
    return next(it for it in found if it.exists()).read_text("utf-8")


def told(name: str) -> Told:
    said = text(name)
    return smi.read(said) if name in XML else from_labels(said)


def from_labels(said: str) -> Told:
    """Return what the text of ``nvidia-smi -q`` says, by the names that its XML has."""
    driver = re.search(r"^Driver Version +: (?:\[Deprecated.*?\] *)?(\S+)", said, re.MULTILINE)
    _, *cards = re.split(r"^GPU ([0-9A-F]{8}:\S+)$", said, flags=re.MULTILINE)
    if not cards:  # a part alone was published
        cards = ["?", said.partition("\n")[2]]
    reports = [
        Report(bus, rows(textwrap.dedent(it.strip("\n"))))
        for bus, it in zip(cards[::2], cards[1::2], strict=True)
    ]
    return Told(driver and driver[1], tuple(reports))


def rows(said: str) -> dict[str, str]:
    found: dict[str, str] = {}
    above: list[str] = []
    for line in said.splitlines():
        if row := re.match(r"( *)(\w.*?)(?: +: (.*))?$", line):
            above = [*above[: len(row[1]) // 4], element(row[2])]
            path = re.sub(
                r"clocks_(event|throttle)_reasons/(?:hw_slowdown/)?(\w+)$",
                r"clocks_\1_reasons/clocks_\1_reason_\2",
                "/".join(above),
            )
            if row[3] is not None:
                found[LABELS.get(path, path)] = row[3].strip()
    return found


def element(label: str) -> str:
    return re.sub(r"\W+", "_", label.replace("SEC-DED", "SECDED")).lower()


def test_each_says_where_it_is_from() -> None:
    files = list(FOLDER.iterdir())
    assert len(files) == len(XML) + len(TEXT) + len(TABLES)
    for file in files:
        head = file.read_text("utf-8")[:400]
        assert re.search(r"https://github|on GitHub|by l4rz", head), file.name


@pytest.mark.parametrize("name", KINDS)
def test_each_card_is_of_its_kind(name: str) -> None:
    if name in TABLES:
        card = re.search(r"^\|\s+0\s+(\S.*?)\s+(?:On|Off)\s", text(name), re.MULTILINE)
        assert card is not None
        called = card[1]
    else:
        called = told(name).reports[0].name
    machine = "aarch64" if name in ARM else "x86_64"
    found = recognise(Traits(called, machine=machine, wsl=name.startswith("wsl")))
    assert (found and found.name) == KINDS[name]


@pytest.mark.parametrize("name", WELL)
def test_a_card_that_is_well_gives_no_alarm(name: str) -> None:
    found = told(name)
    assert found.driver is not None
    assert re.fullmatch(r"\d{3}\.[\d.]+", found.driver)
    assert found.reports
    assert smi.trouble(found) is None
    counts = smi.summary(found)
    assert counts is None or "no uncorrected error" in counts


def test_those_that_count_faults_are_counted() -> None:
    counting = {it for it in WELL if smi.summary(told(it))}
    assert {"b200", "gb200", "gb300", "h100", "l40s", "t4", "a100-570", "v100s-460"} <= counting


@pytest.mark.parametrize("name", SICK)
def test_a_card_that_is_sick_is_told_with_what_to_type(name: str) -> None:
    problem = smi.trouble(told(name))
    assert problem is not None
    assert not isinstance(problem, Advice)
    assert SICK[name] in problem.happened
    assert "nvidia-smi" in problem.type_this
    assert problem.cause


@pytest.mark.parametrize("name", SLOW)
def test_a_card_that_its_hardware_slows_down_is_advice(name: str) -> None:
    problem = smi.trouble(told(name))
    assert isinstance(problem, Advice)
    assert problem.cause == SLOW[name]


@pytest.mark.parametrize(
    ("said", "bus"),
    [
        (text("sick-gpu-lost-610"), "0000:34:00.0"),
        (text("sick-no-devices"), "0000:01:00.0"),
        # https://github.com/NVIDIA/nvidia-docker/issues/1553,
        # https://github.com/pdbear/syno_nvidia_gpu_driver/issues/22
        ("Unable to determine the device handle for GPU 0000:09:00.0: Unknown Error", None),
        ("Unable to determine the device handle for GPU0000:07:00.0: Unknown Error", None),
    ],
)
def test_a_card_that_fell_off_the_bus_is_named(said: str, bus: str | None) -> None:
    problem = smi.trouble(smi.read(said))
    assert problem is not None
    assert "does not answer its driver" in problem.happened
    assert (bus or said.rpartition(":")[0][-12:]) in problem.happened


def test_an_inforom_is_advice_and_a_fault_goes_first() -> None:
    found = smi.read(text("sick-v100-inforom"))
    assert found.inforoms == ("0008:00:00.0",)
    assert isinstance(smi.trouble(found), Advice)
    sick = told("sick-a100-remap-pending")
    both = Told(sick.driver, sick.reports, found.inforoms)
    assert not isinstance(smi.trouble(both), Advice)


@pytest.mark.parametrize(
    ("row", "value", "happened"),
    [
        ("ecc_errors/volatile/dram_uncorrectable", "2", "counts 2 errors"),
        ("ecc_errors/volatile/double_bit/total", "1", "counts 1 errors"),
        ("retired_pages/pending_retirement", "Yes", "pages of its memory to be retired"),
        ("ecc_errors/aggregate/sram_threshold_exceeded", "Yes", "errors in its SRAM"),
        ("product_brand", "GPU is lost", "is lost to its driver"),
        ("ecc_mode/pending_ecc", "GPU requires reset", "is lost to its driver"),
        ("gpu_recovery_action", "Drain and Reset", "its driver says: Drain and Reset"),
        ("fan_speed", "ERR!", "does not say all"),
        ("compute_mode", "Exclusive_Process", "one process at a time (Exclusive_Process)"),
        ("clocks_throttle_reasons/clocks_throttle_reason_hw_thermal_slowdown", "Active", "slowed"),
    ],
)
def test_each_sign_of_a_fault_is_seen(row: str, value: str, happened: str) -> None:
    (report,) = told("h100").reports
    problem = smi.trouble(Told("580", (Report(report.bus, {**report.said, row: value}),)))
    assert problem is not None
    assert happened in problem.happened
    assert report.bus in problem.happened


@pytest.mark.parametrize("said", ["", "No devices were found\n", "<nvidia_smi_log>", "NVIDIA GB10"])
def test_what_is_no_report_says_nothing(said: str) -> None:
    assert smi.read(said) == Told()
    assert smi.trouble(Told()) is None
    assert smi.summary(Told()) is None


# ---------------------------------------------------------------------- as the client's half has it
def test_a_sick_card_fails_its_check_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inert(tmp_path, monkeypatch)
    sick = gb10(told=told("sick-a100-remap-pending"))
    results = host.checks("compose", "gpu", seen(engine("docker-28-cdi"), sick))
    (failed,) = [it for it in results if it.status == "failed"]
    assert (failed.name, failed.level, failed.cause) == ("host_gpu_health", "check", "environment")


def test_a_lab_on_the_cpu_has_it_as_advice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inert(tmp_path, monkeypatch)
    sick = gb10(told=told("sick-h200-recovery-reset"))
    results = host.checks("local", "cpu", seen(NO_DOCKER, sick))
    assert {it.level for it in results if it.name == "host_gpu_health"} == {"advice"}


def test_one_of_several_that_is_lost_is_no_fault_of_the_driver(tmp_path: Path) -> None:
    answer = Said(255, text("sick-gpu-lost-610").splitlines()[1] + "\n" + text("b200"))
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev/dxg").touch()
    found = gpu.look(tmp_path, lambda _: answer)
    assert gpu.driver_problem(found) is None
    problem = smi.trouble(found.told)
    assert problem is not None
    assert "0000:34:00.0 does not answer" in problem.happened
