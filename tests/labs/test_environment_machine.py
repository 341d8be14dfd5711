"""The environment lab's rules on numbers, texts and files: each side of each floor."""

from __future__ import annotations

import importlib.metadata
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from tests.conftest import PROJECT
from tests.labs.test_environment import (
    GIB,
    a_gpu,
    architectures,
    clock,
    compiled,
    disks,
    fewbits,
    fits,
    full,
    in_groups,
    installed,
    limited,
    limits,
    machine,
    proc,
    room,
    speed,
)
from verify.kinds import Traits
from verify.machine import Advice, Fault
from verify.trial import NotRun

MIB = 2**20


def outcome(run: Callable[[], Any]) -> str:
    """Return ``passed``, ``advice``, ``fault`` or ``not run``."""
    try:
        run()
    except NotRun:
        return "not run"
    except Fault as fault:
        if not (fault.cause and fault.type_this):
            return "neither cause nor command"
        return "advice" if isinstance(fault, Advice) else "fault"
    return "passed"


# ---------------------------------------------------------------------------------- architectures
WHEEL = ["sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120", "compute_120"]
NVIDIAS = ["sm_80", "sm_86", "sm_90", "sm_100", "sm_110", "sm_120", "compute_120"]
OLD = ["sm_50", "sm_60", "sm_70", "sm_75", "sm_80", "sm_86", "sm_90"]  # pytorch issue 150733


@pytest.mark.parametrize(
    ("compiled_for", "capability", "runs"),
    [
        (NVIDIAS, (12, 1), True),  # GB10 runs what was compiled for 12.0
        (["sm_120"], (12, 1), True),
        (["sm_121"], (12, 0), False),
        (WHEEL, (10, 3), True),  # B300 runs what was for B200
        (WHEEL, (8, 9), True),
        (OLD, (12, 0), False),  # a RTX 5090 with torch 2.6 for CUDA 12.6
        (OLD, (9, 0), True),
        ([*OLD, "compute_90"], (12, 0), True),  # PTX is compiled when it is loaded
        (["compute_120"], (9, 0), False),
        (["sm_90a"], (9, 0), True),
        (["sm_100a"], (10, 3), False),
        (["sm_100f"], (10, 3), True),
        (["compute_90a"], (10, 0), False),
        (WHEEL, (7, 0), False),  # Volta, which CUDA 13 has left
        (["gfx1100"], (9, 0), False),
    ],
)
def test_code_runs_on_the_gpus_that_the_rule_names(
    compiled_for: list[str], capability: tuple[int, int], runs: bool
) -> None:
    came = outcome(lambda: architectures.require_code(compiled_for, capability, "2.13.0"))
    assert came == ("passed" if runs else "fault")


# ------------------------------------------------------------------------------------------ kinds
@pytest.mark.parametrize(
    ("traits", "told"),
    [
        (Traits("NVIDIA GB10", "12.1", "aarch64"), "DGX Spark (GB10): bfloat16, driver R580"),
        (Traits("NVIDIA H100 80GB HBM3", "9.0", "x86_64"), "Hopper: bfloat16"),
        (Traits("NVIDIA GeForce RTX 4070", "8.9", "x86_64", wsl=True), "Ada under Windows (WSL 2)"),
        (Traits("Tesla T4", "7.5", "x86_64"), "Turing: no bfloat16"),
        (Traits("NVIDIA R100", "13.0", "x86_64"), "of no known kind"),
        (Traits(None, None, "x86_64"), "x86-64 without a GPU"),
        (Traits(None, None, "riscv64"), "riscv64: of no known kind"),
    ],
)
def test_a_kind_is_told_with_what_is_expected(traits: Traits, told: str) -> None:
    assert told in machine.require_known(traits)


def test_a_gpu_that_cuda_has_left_is_a_fault_where_it_would_compute(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    volta = Traits("Tesla V100-SXM2-16GB", "7.0", "x86_64")
    assert outcome(lambda: machine.require_known(volta)) == "passed"  # the lab is on the CPU
    a_gpu(monkeypatch, since=(7, 0))
    with pytest.raises(Fault, match=r"older than Turing: CUDA 13.*has no code") as fault:
        machine.require_known(volta)
    assert "--variant cpu" in fault.value.type_this


# ------------------------------------------------------------------------------------------ disks
@pytest.mark.parametrize(
    ("name", "free", "files", "expected"),
    [
        ("TMPDIR", 255 * MIB, 10**6, "fault"),
        ("TMPDIR", 256 * MIB, 10**6, "advice"),
        ("TMPDIR", 512 * MIB, 10**6, "passed"),
        ("HF_HOME", GIB - MIB, 10**6, "fault"),
        ("HF_HOME", 19 * GIB, 10**6, "advice"),
        ("HF_HOME", 20 * GIB, 10**6, "passed"),
        ("HF_HOME", 20 * GIB, 999, "fault"),
        ("HF_HOME", 20 * GIB, 1_000, "advice"),
    ],
)
def test_little_room_is_told_and_less_fails(
    monkeypatch: pytest.MonkeyPatch, name: str, free: int, files: int, expected: str
) -> None:
    full(monkeypatch, f_bavail=free // 4096, f_favail=files)
    assert outcome(lambda: disks.require_room({name: Path("/")})) == expected


def test_a_file_system_that_counts_no_files_has_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    full(monkeypatch, f_files=0, f_favail=0)  # Btrfs
    assert outcome(lambda: disks.require_room({"TMPDIR": Path("/")})) == "passed"


def test_the_worst_disk_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()

    def said(folder: Path) -> Any:
        free = GIB // 2 if folder == small else 10 * GIB
        return SimpleNamespace(
            f_frsize=1, f_blocks=GIB * 99, f_bavail=free, f_files=9**9, f_favail=9**9
        )

    monkeypatch.setattr(disks.os, "statvfs", said)
    with pytest.raises(Fault, match=f"512 MiB are free in {small}") as fault:
        disks.require_room({"HF_HOME": tmp_path, "HOME": small / "not" / "there"})
    assert not isinstance(fault.value, Advice)


@pytest.mark.parametrize(
    ("size", "free", "expected"),
    [
        (64 * MIB, 64 * MIB, "fault"),
        (65 * MIB, 65 * MIB, "advice"),
        (GIB, GIB, "passed"),
        (GIB, 63 * MIB, "fault"),
    ],
)
def test_shared_memory_must_be_more_than_docker_gives(
    monkeypatch: pytest.MonkeyPatch, size: int, free: int, expected: str
) -> None:
    full(monkeypatch, f_blocks=size // 4096, f_bavail=free // 4096)
    assert outcome(disks.require_shared_memory) == expected


# ----------------------------------------------------------------------------------------- limits
@pytest.mark.parametrize(
    ("files", "expected"), [(64, "fault"), (512, "advice"), (1024, "passed"), (-1, "passed")]
)
def test_open_files(monkeypatch: pytest.MonkeyPatch, files: int, expected: str) -> None:
    limited(monkeypatch, RLIMIT_NOFILE=files)
    assert outcome(limits.open_files) == expected


@pytest.mark.parametrize(
    ("user", "command"), [(0, "ulimit -n 8192 && "), (1000, "sudo prlimit --pid $$ ")]
)
def test_who_may_not_ask_for_more_files_is_told_how(
    monkeypatch: pytest.MonkeyPatch, user: int, command: str
) -> None:
    limited(monkeypatch, RLIMIT_NOFILE=64)
    monkeypatch.setattr(limits.os, "geteuid", lambda: user)
    with pytest.raises(Fault) as fault:
        limits.open_files()
    assert fault.value.type_this.startswith(command)
    assert ("may not ask for more" in fault.value.happened) == (user != 0)


def test_shared_memory_that_cannot_be_written_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    full(monkeypatch, f_flag=os.ST_RDONLY)
    assert outcome(disks.require_shared_memory) == "fault"


def test_without_shared_memory_it_is_said(tmp_path: Path) -> None:
    assert outcome(lambda: disks.require_shared_memory(tmp_path / "shm")) == "fault"


@pytest.mark.parametrize(
    ("size", "gpus", "expected"),
    [(2**16, 2, "advice"), (2**26, 2, "passed"), (2**16, 1, "passed")],
)
def test_locked_memory(
    monkeypatch: pytest.MonkeyPatch, size: int, gpus: int, expected: str
) -> None:
    limited(monkeypatch, RLIMIT_MEMLOCK=size)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    assert outcome(limits.locked_memory) == expected


@pytest.mark.parametrize(
    ("limit", "now", "expected"),
    [
        ("100", "90", "fault"),
        ("100", "20", "advice"),
        ("512", "40", "passed"),
        ("max", "9", "passed"),
    ],
)
def test_processes(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, limit: str, now: str, expected: str
) -> None:
    in_groups(monkeypatch, tmp_path, pids__max=limit, pids__current=now)
    assert outcome(limits.processes) == expected


@pytest.mark.parametrize(
    ("seen", "quota", "expected"),
    [
        (16, "max 100000", "passed"),
        (16, "1600000 100000", "passed"),
        (16, "400000 100000", "advice"),  # docker run --cpus=4 shows 16 cores to torch
        (1, "max 100000", "advice"),
        (2, "200000 100000", "passed"),
    ],
)
def test_cores(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, seen: int, quota: str, expected: str
) -> None:
    monkeypatch.setattr(limits.os, "sched_getaffinity", lambda _: set(range(seen)))
    in_groups(monkeypatch, tmp_path, cpu__max=quota)
    assert outcome(limits.cores) == expected


def test_a_quota_of_version_1_is_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    proc(tmp_path, groups="4:cpu,cpuacct:/docker/abc\n3:pids:/docker/abc\n")
    cpu = tmp_path / "cgroup" / "cpu,cpuacct" / "docker" / "abc"
    cpu.mkdir(parents=True)
    (cpu / "cpu.cfs_quota_us").write_text("50000\n")
    (cpu / "cpu.cfs_period_us").write_text("100000\n")
    monkeypatch.setattr(limits.os, "sched_getaffinity", lambda _: {0, 1})
    with pytest.raises(Advice, match=r"2 cores are to be seen, and the time of 0\.5 may be used"):
        limits.cores(tmp_path / "proc", tmp_path / "cgroup")


# ------------------------------------------------------------------------------------------ clock
@pytest.mark.parametrize(
    ("now", "expected"),
    [(0.0, "fault"), (1.7e9, "fault"), (1.8e9, "passed"), (4.2e9, "fault")],
)
def test_the_clock(now: float, expected: str) -> None:
    assert outcome(lambda: clock.require_plausible([], now)) == expected


def test_a_clock_before_the_labs_own_files_is_wrong(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    os.utime(file, (1.81e9, 1.81e9))
    assert outcome(lambda: clock.require_plausible([file], 1.8e9)) == "fault"
    assert outcome(lambda: clock.require_plausible([file], 1.81e9)) == "passed"


# ------------------------------------------------------------------------------------------- room
SPARK_FULL = """\
MemTotal:       127600748 kB
MemFree:         1400000 kB
MemAvailable:   {available} kB
SwapTotal:      16777212 kB
SwapFree:       {swap} kB
"""


@pytest.mark.parametrize(
    ("available", "unified", "expected"),
    [(90_000_000, True, "advice"), (3_659_708, True, "passed"), (90_000_000, False, "not run")],
)
def test_pages_that_the_cache_has_are_not_free_to_cuda(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, available: int, unified: bool, expected: str
) -> None:
    """With little available at all, the page cache is not why: another check tells of that."""
    (tmp_path / "meminfo").write_text(SPARK_FULL.format(available=available, swap=16777212))
    a_gpu(monkeypatch, unified=unified)
    assert outcome(lambda: room.require_free_pages(tmp_path)) == expected


def test_a_spark_whose_page_cache_is_full_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As one said it: 3 of 38 GiB are free at once."""
    recorded = PROJECT / "tests" / "lab" / "recorded" / "proc" / "gb10.meminfo.txt"
    (tmp_path / "meminfo").write_text(recorded.read_text().partition("\n")[2])
    a_gpu(monkeypatch, unified=True)
    assert outcome(lambda: room.require_free_pages(tmp_path)) == "advice"


@pytest.mark.parametrize(
    ("swap", "expected"),
    [(16_777_212, "passed"), (10_196_356, "passed"), (1_000_000, "advice")],
)
def test_swap_is_told_when_a_tenth_of_memory_is_in_it(
    tmp_path: Path, swap: int, expected: str
) -> None:
    (tmp_path / "meminfo").write_text(SPARK_FULL.format(available=9_000_000, swap=swap))
    assert outcome(lambda: room.swap(tmp_path)) == expected


# ------------------------------------------------------------------------------------------ speed
@pytest.mark.parametrize(
    ("share", "expected"), [(0.9, "passed"), (0.66, "passed"), (0.64, "advice")]
)
def test_a_slow_card_is_advice_with_the_number(share: float, expected: str) -> None:
    tolerance = speed.known_share("reached")
    assert outcome(lambda: speed.judge("x", 794 * share, 794, tolerance)) == expected
    with pytest.raises(Advice, match=r"12 TFLOP/s, 10% of the 120 .*; below 65% it is slow"):
        speed.judge("12 TFLOP/s", 12, 120, 0.65)


def test_on_a_cpu_the_numbers_are_told_without_a_verdict() -> None:
    assert speed.products().startswith("on the CPU: ")
    assert speed.copies().endswith("GB/s of memory")


def test_under_windows_a_card_may_be_slower(monkeypatch: pytest.MonkeyPatch) -> None:
    before = speed.known_share("stated")
    monkeypatch.setattr(speed.kinds, "is_wsl", lambda: True)
    assert speed.known_share("stated") < before


def test_the_median_of_several_times_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed, "_SECONDS", {"cpu": 0.0})
    times = iter([0.0, 0.0, 1.0, 2.0, 9.0, 9.0, 10.0, 20.0])
    monkeypatch.setattr(speed.time, "perf_counter", lambda: next(times, 30.0))
    assert speed.measure(lambda: torch.zeros(1), torch.device("cpu")) > 0


# ------------------------------------------------------------------------------------- companions
@pytest.fixture
def beside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Put described distributions into an environment of their own."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(fits.sys, "prefix", str(tmp_path))

    def put(name: str, version: str, *requires: str) -> None:
        described = tmp_path / f"{name}-{version}.dist-info"
        described.mkdir()
        lines = [
            f"Name: {name}",
            f"Version: {version}",
            *(f"Requires-Dist: {it}" for it in requires),
        ]
        (described / "METADATA").write_text("\n".join(lines) + "\n")
        (tmp_path / name).mkdir(exist_ok=True)
        (tmp_path / name / "__init__.py").touch()

    return put


TORCH = importlib.metadata.version("torch")


@pytest.mark.parametrize(
    ("name", "requires", "expected"),
    [
        ("torchvision", f"torch=={TORCH}", "passed"),
        ("torchvision", "torch==2.15.0", "fault"),
        ("torchaudio", "torch>=99", "fault"),
        ("xformers", 'torch>=99; extra == "new"', "passed"),
        ("xformers", "numpy", "passed"),
    ],
)
def test_a_library_built_for_another_torch_is_named(
    beside: Callable[..., None], name: str, requires: str, expected: str
) -> None:
    assert outcome(lambda: fits.require_companions("invoke lab.up")) == "passed"
    beside(name, "1.0", requires)
    assert outcome(lambda: fits.require_companions("invoke lab.up")) == expected


@pytest.mark.parametrize(("version", "expected"), [("0.13.0", "fault"), ("0.18.0", "passed")])
def test_a_torchao_that_peft_refuses_is_named(
    beside: Callable[..., None], version: str, expected: str
) -> None:
    beside("torchao", version)
    assert outcome(lambda: fits.require_companions("invoke lab.up")) == expected


def test_what_a_base_brings_is_left_out(
    beside: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    beside("torchvision", "1.0", "torch==0.1")
    monkeypatch.setattr(fits.sys, "prefix", "/opt/venv")
    assert outcome(lambda: fits.require_companions("invoke lab.up")) == "passed"


def test_bitsandbytes_for_the_cpu_alone_on_a_gpu_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    assert outcome(fits.require_bitsandbytes) == "passed"
    a_gpu(monkeypatch)
    assert outcome(fits.require_bitsandbytes) == "fault"


@pytest.fixture
def with_triton(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A package triton, and the folder of its assemblers."""
    programs = tmp_path / "triton" / "backends" / "nvidia" / "bin"
    programs.mkdir(parents=True)
    (tmp_path / "triton" / "__init__.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "triton", raising=False)
    yield programs
    sys.modules.pop("triton", None)


@pytest.mark.parametrize(
    ("there", "environ", "expected"),
    [
        (["ptxas", "ptxas-blackwell"], {}, "passed"),
        (["ptxas"], {}, "passed"),  # one for all
        ([], {}, "fault"),
        ([], {"TRITON_PTXAS_PATH": sys.executable}, "passed"),
        (["ptxas"], {"TRITON_PTXAS_BLACKWELL_PATH": "/usr/local/cuda/bin/none"}, "fault"),
    ],
)
def test_tritons_assemblers(
    with_triton: Path, there: list[str], environ: dict[str, str], expected: str
) -> None:
    for name in there:
        (with_triton / name).touch(mode=0o755)
    assert outcome(lambda: fits.require_assembler(environ, "invoke lab.up")) == expected


# --------------------------------------------------------------------------------------- compiled
@pytest.mark.parametrize(
    ("text", "command"),
    [
        ("x.c:5:10: fatal error: Python.h: No such file or directory", "python3-dev"),
        (
            "ptxas fatal   : Value 'sm_121a' is not defined for option",
            "TRITON_PTXAS_BLACKWELL_PATH",
        ),
        ("Failed to find C compiler. Please specify via CC", "build-essential"),
        ("[Errno 13] Permission denied: '/root/.triton/cache'", "ls -ld"),
        ("", "rm -rf ~/.triton/cache"),
    ],
)
def test_why_a_kernel_was_not_compiled_is_told(text: str, command: str) -> None:
    assert command in compiled.explain(RuntimeError(text)).type_this


def test_a_kernel_that_computes_wrongly_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    one = torch.ones(4)
    monkeypatch.setattr(torch.Tensor, "cuda", lambda it: it)
    monkeypatch.setattr(compiled, "triton", SimpleNamespace(__version__="3.9.0"))
    monkeypatch.setattr(compiled, "launch", lambda a, b: a + 2 * b)
    assert "right to the last bit" in compiled.compile_one(one, one)
    monkeypatch.setattr(compiled, "launch", lambda a, b: a + b)
    assert outcome(lambda: compiled.compile_one(one, one)) == "fault"
    monkeypatch.setattr(compiled, "triton", None)
    assert outcome(lambda: compiled.compile_one(one, one)) == "not run"


# -------------------------------------------------------------------------------------- installed
def write(file: Path, content: str) -> Path:
    file.write_text(content)
    return file


def library(site: Path, content: str = "VALUE = 1\n") -> Path:
    """Install a library of one file, and return that file."""
    digest = installed._digest(write(site / "one.py", content))
    described = site / "one-1.0.dist-info"
    described.mkdir()
    (described / "METADATA").write_text("Name: one\nVersion: 1.0\n")
    rows = f"one.py,{digest},{len(content)}\n../../bin/one,sha256=x,1\n"
    (described / "RECORD").write_text(f"{rows}one-1.0.dist-info/RECORD,,\n")
    return site / "one.py"


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda file: None, "passed"),
        (lambda file: file.write_text("VALUE = 22\n"), "fault"),
        (lambda file: (file.write_text("VALUE = 2\n"), os.utime(file, (2**31, 2**31))), "fault"),
        (lambda file: os.utime(file, (2**31, 2**31)), "passed"),  # touched, and the same
        (lambda file: file.unlink(), "passed"),  # the comparison with the lock names it
    ],
    ids=["as it was", "longer", "as long", "touched", "gone"],
)
def test_a_file_that_was_changed_is_found_whatever_its_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[Path], Any], expected: str
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    change(library(tmp_path))
    assert outcome(lambda: installed.require_unchanged(("one", "not-there"), "mend")) == expected


# ---------------------------------------------------------------------------------------- fewbits
@pytest.mark.parametrize("wrong", [lambda it: it * 1.05, lambda it: it.roll(1), torch.zeros_like])
def test_a_wrong_product_of_4_bits_is_found(
    monkeypatch: pytest.MonkeyPatch, wrong: Callable[[torch.Tensor], torch.Tensor]
) -> None:
    import bitsandbytes

    right = bitsandbytes.matmul_4bit
    monkeypatch.setattr(bitsandbytes, "matmul_4bit", lambda *given: wrong(right(*given)))
    torch.manual_seed(0)
    given = torch.randn(16, 128), torch.randn(64, 128), torch.randn(16, 64)
    assert outcome(lambda: fewbits.multiply(*given)) == "fault"


def test_an_optimizer_that_keeps_32_bits_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    given = torch.randn(64, 32), torch.randn(2, 64, 32)  # fewer than 4096: kept in 32 bits
    with pytest.raises(Fault, match="kept float32"):
        fewbits.step(*given)
