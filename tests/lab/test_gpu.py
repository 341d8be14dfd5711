"""The GPU is seen as the system shows it; a machine without one gives no alarm.

The texts are those of /proc/driver/nvidia/version and of NVIDIA's tools, from public reports.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.lab.machines import NO_GPU, RECORDED, gb10
from verify.lab import gpu
from verify.lab.gpu import Gpu, Said

OPEN = (
    "NVRM version: NVIDIA UNIX Open Kernel Module for {}  {}  Release Build  (dvs-builder@U22)  "
    "Tue Sep 23 09:55:41 UTC 2025\nGCC version:  gcc version 11.4.0\n"
)
SPARK = OPEN.format("aarch64", "580.159.03")
CTK = "NVIDIA Container Toolkit CLI version 1.18.0\ncommit: 0123456\n"
LIST = 'time="..." level=info msg="Found 3 CDI devices"\nnvidia.com/gpu=0\nnvidia.com/gpu=all\n'
SPECIFICATION = "kind: nvidia.com/gpu\ndevices: [{name: all, containerEdits: {}}]\n"


def query(driver: str, *names: str) -> str:
    """Return what of ``nvidia-smi -q -x`` says who is there."""
    rows = [
        f'<gpu id="00000000:0{place}:00.0"><product_name>{name}</product_name></gpu>'
        for place, name in enumerate(names)
    ]
    told = f"<driver_version>{driver}</driver_version>{''.join(rows)}"
    return f'<?xml version="1.0" ?>\n<nvidia_smi_log>{told}</nvidia_smi_log>\n'


class Tools:
    """Commands that say what they are told to, and remember that they were asked."""

    def __init__(self, **said: str | Said) -> None:
        self.said = {name: it if isinstance(it, Said) else Said(0, it) for name, it in said.items()}
        self.asked: list[str] = []

    def __call__(self, command: Sequence[str]) -> Said:
        self.asked.append(" ".join(command))
        name = "cdi_list" if "list" in command else command[0].replace("-", "_")
        return self.said.get(name, Said(None))


def recorded(name: str) -> Said:
    return Said(9, (RECORDED / f"{name}.txt").read_text().partition("\n")[2])


def machine(root: Path, **files: str) -> Path:
    """Make a machine's file system: ``/`` is written ``__``."""
    for name, text in files.items():
        file = root / name.replace("__", "/").replace("0000_", "0000:")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return root


def with_card(root: Path, vendor: str = "0x10de", kind: str = "0x030200") -> Path:
    where = "sys__bus__pci__devices__0000_01"
    return machine(root, **{f"{where}__vendor": f"{vendor}\n", f"{where}__class": f"{kind}\n"})


class TestAMachineWithoutOne:
    def test_shows_nothing_and_nobody_is_asked(self, tmp_path: Path) -> None:
        tools = Tools(nvidia_ctk=CTK, cdi_list=LIST)  # as on a login node
        assert gpu.look(machine(tmp_path, etc__cdi__nvidia="x"), tools) == NO_GPU
        assert tools.asked == []
        assert gpu.driver_problem(NO_GPU) is None

    @pytest.mark.parametrize(("vendor", "kind"), [("0x8086", "0x030000"), ("0x10de", "0x040300")])
    def test_another_makers_card_or_its_sound_is_none(
        self, tmp_path: Path, vendor: str, kind: str
    ) -> None:
        assert gpu.look(with_card(tmp_path, vendor, kind), Tools()) == NO_GPU

    def test_a_windows_without_one_is_none(self, tmp_path: Path) -> None:
        assert gpu.look(machine(tmp_path, dev__dxg=""), Tools()) == NO_GPU

    def test_this_machine_is_looked_at_without_a_fault(self) -> None:
        assert isinstance(gpu.look(), Gpu)


class TestAMachineWithOne:
    def test_a_spark(self, tmp_path: Path) -> None:
        files = {"proc__driver__nvidia__version": SPARK, "etc__cdi__nvidia.yaml": SPECIFICATION}
        tools = Tools(nvidia_smi=query("580.159.03", "NVIDIA GB10"), nvidia_ctk=CTK, cdi_list=LIST)
        found = gpu.look(machine(with_card(tmp_path), **files), tools)
        assert (found.name, found.driver, found.toolkit) == ("NVIDIA GB10", "580.159.03", "1.18.0")
        assert found.listed == {"nvidia.com/gpu=0", "nvidia.com/gpu=all"}
        assert found.specification is not None
        assert gpu.driver_problem(found) is None

    def test_several_cards_have_several_names(self, tmp_path: Path) -> None:
        tools = Tools(nvidia_smi=query("580.95.05", "NVIDIA H200", "NVIDIA H200"))
        found = gpu.look(machine(tmp_path, proc__driver__nvidia__version=SPARK), tools)
        assert found.names == ("NVIDIA H200", "NVIDIA H200")

    def test_under_wsl_only_the_tool_knows_the_driver(self, tmp_path: Path) -> None:
        tools = Tools(nvidia_smi=query("581.29", "NVIDIA GeForce RTX 4070"))
        found = gpu.look(machine(tmp_path, dev__dxg=""), tools)
        assert (found.wsl, found.driver, found.toolkit) == (True, "581.29", None)
        assert gpu.driver_problem(found) is None

    def test_a_specification_of_something_else_is_not_the_gpus(self, tmp_path: Path) -> None:
        one = SPECIFICATION.replace("all", "GPU-1")
        files = {"proc__driver__nvidia__version": SPARK, "etc__cdi__nvidia.yaml": one}
        assert gpu.look(machine(tmp_path, **files), Tools()).specification is None


class TestTheDriver:
    @pytest.mark.parametrize(
        ("text", "version"),
        [
            (SPARK, "580.159.03"),
            (OPEN.format("x86_64", "565.77"), "565.77"),
            (
                "NVRM version: NVIDIA UNIX Open Kernel Module  570.86.15  Release Build\n",
                "570.86.15",
            ),
            (
                "NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.135  Fri Jan 10 20:00 2025\n",
                "550.135",
            ),
            ("", None),
            ("GCC version:  gcc version 11.4.0\n", None),
        ],
    )
    def test_its_version_is_read(self, text: str, version: str | None) -> None:
        assert gpu.driver_version(text) == version

    @pytest.mark.parametrize(
        ("found", "happened", "command"),
        [
            (gb10(driver="575.57.08"), "575.57.08 is too old: the lab's CUDA 13 needs 580", "apt"),
            (gb10(driver="566.36", wsl=True), "566.36 is too old", "wsl --update"),
            (Gpu(card=True), "its driver is not loaded", "modprobe nvidia"),
        ],
    )
    def test_what_is_wrong_with_it_is_said(self, found: Gpu, happened: str, command: str) -> None:
        problem = gpu.driver_problem(found)
        assert problem is not None
        assert happened in problem.happened
        assert problem.cause
        assert command in problem.type_this

    def test_a_card_without_it_is_seen(self, tmp_path: Path) -> None:
        tools = Tools(nvidia_smi="x")
        assert gpu.look(with_card(tmp_path), tools).driver is None
        assert not any("nvidia-smi" in it for it in tools.asked)  # it would be of another machine

    @pytest.mark.parametrize("version", ["580.65.06", "615.65"])
    def test_the_floor_itself_is_enough(self, version: str) -> None:
        assert gpu.driver_problem(gb10(driver=version)) is None

    @pytest.mark.parametrize(
        ("said", "happened"),
        [
            (recorded("driver-mismatch.nvidia-smi"), "two versions"),
            (recorded("driver-not-loaded.nvidia-smi"), "driver is not loaded"),
            (Said(15, "Unable to determine the device handle\n"), "nvidia-smi fails: Unable to"),
        ],
    )
    def test_what_its_tool_complains_of_is_explained(
        self, tmp_path: Path, said: Said, happened: str
    ) -> None:
        root = machine(tmp_path, proc__driver__nvidia__version=SPARK)
        problem = gpu.driver_problem(gpu.look(root, Tools(nvidia_smi=said)))
        assert problem is not None
        assert happened in problem.happened
        assert problem.type_this

    def test_a_tool_that_does_not_answer_is_a_complaint(self, tmp_path: Path) -> None:
        root = machine(tmp_path, proc__driver__nvidia__version=SPARK)
        silent = Tools(nvidia_smi=Said(None, "it did not answer within 10 s"))
        problem = gpu.driver_problem(gpu.look(root, silent))
        assert problem is not None
        assert problem.happened == "nvidia-smi fails: it did not answer within 10 s"

    def test_a_tool_that_is_not_there_is_no_complaint(self, tmp_path: Path) -> None:
        root = machine(tmp_path, proc__driver__nvidia__version=SPARK)
        found = gpu.look(root, Tools())
        assert (found.name, found.driver, found.trouble) == ("an NVIDIA GPU", "580.159.03", "")


class TestTheToolkit:
    @pytest.mark.parametrize(
        ("text", "version"),
        [(CTK, "1.18.0"), ("NVIDIA Container Toolkit CLI version 1.12.0-rc.2\n", "1.12.0-rc.2")],
    )
    def test_its_version_is_read(self, text: str, version: str) -> None:
        assert gpu.toolkit_version(text) == version

    def test_what_it_lists_is_read(self) -> None:
        assert gpu.listed('msg="Found 0 CDI devices"\nexample.com/nic=0\n') == frozenset()
        assert gpu.listed(LIST) == {"nvidia.com/gpu=0", "nvidia.com/gpu=all"}


def test_a_command_is_really_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho NVIDIA GB10, 580.159.03\necho trouble >&2\nexit 3\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert gpu._said(["nvidia-smi", "-L"]) == Said(3, "NVIDIA GB10, 580.159.03\ntrouble\n")
    assert gpu._said(["nvidia-ctk-that-is-not-here"]) == Said(None)


def test_a_command_that_does_not_end_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "nvidia-smi").write_text("#!/bin/sh\nexec sleep 60\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr(gpu, "_SECONDS", 0.2)
    assert gpu._said(["nvidia-smi"]) == Said(None, "it did not answer within 0 s")
