"""The lab that checks the machine: each check passes on this one, and fails on one that is broken.

The machine is broken as really as a test may: an environment with another library in it, folders
that cannot be written, texts as /proc has them. Where only hardware could, the call is replaced.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import mmap
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import bitsandbytes.functional
import msgspec
import pytest
import torch

from tests.conftest import PROJECT, Runner, running
from tests.lab.conftest import make_wheel
from verify import manifest
from verify.judging import Bench, Verdict
from verify.lab import locks
from verify.lab.layout import Layout
from verify.labs import find_labs
from verify.machine import Fault, advice, caches
from verify.results import is_ready
from verify.room import machine_memory
from verify.trial import NotRun

LAB = next(lab for lab in find_labs(PROJECT / "labs") if lab.skill == "environment")
BENCH = Bench(LAB)
checks, fewbits, fits, folders, installed, libraries, numerics, pinned, room = (
    sys.modules[name]
    for name in (
        *("checks", "fewbits", "fits", "folders", "installed", "libraries", "numerics"),
        *("pinned", "room"),
    )
)
architectures, clock, compiled, disks, limits, machine, speed = (
    sys.modules[name]
    for name in ("architectures", "clock", "compiled", "disks", "limits", "machine", "speed")
)
GIB = 2**30
SEEDS = range(20)


def judge(name: str, seed: int = 1) -> Verdict:
    check = next(it for it in BENCH.checks if it.name == name)
    return BENCH.judge(check, BENCH.rehearse(), seed)


# --------------------------------------------------------------------------- every check, broken
@pytest.fixture
def project(tmp_path: Path) -> Layout:
    """A project with the real lock files."""
    shutil.copytree(PROJECT / "images" / "locks", tmp_path / "images" / "locks")
    (tmp_path / ".lab").mkdir()
    return Layout(tmp_path)


def image(root: Path, **changes: Any) -> Layout:
    """Return the layout of an image that is exactly this environment, but for ``changes``."""
    made = msgspec.structs.replace(
        manifest.observe(PROJECT / "labs"), variant="cpu", target="verifier"
    )
    text = msgspec.json.encode(msgspec.structs.replace(made, **changes))
    (root / "manifest.json").write_bytes(text)
    return Layout(root)


SETTINGS = {
    "ACCELERATE_MIXED_PRECISION": "bf16",
    "LAB_DTYPE": "bfloat16",
    "LAB_ATTENTION": "sdpa",
    "PYTORCH_ALLOC_CONF": "expandable_segments:True",
    "TRITON_PTXAS_BLACKWELL_PATH": sys.executable,
}


def gpu_image(root: Path, patch: pytest.MonkeyPatch, **environ: str) -> None:
    """Have the checks run in a GPU image in which ``environ`` differs from what is pinned."""
    layout = image(root, variant="gpu", settings=SETTINGS)
    patch.setattr(checks, "here", lambda: layout)
    for name, value in (SETTINGS | environ).items():
        patch.setenv(name, value)


def pinned_too_high(root: Path, patch: pytest.MonkeyPatch) -> None:
    lock = root / "images" / "locks" / "lab.lock"
    lock.write_text(lock.read_text().replace("\nrich==", "\nrich==9"))
    patch.setattr(checks, "here", lambda: Layout(root))


def another_torch(root: Path, patch: pytest.MonkeyPatch) -> None:
    lock = root / "images" / "locks" / "torch-cpu.lock"
    lock.write_text("torch==2.12.0+cpu --hash=sha256:0\n")
    locks.ask_for(Layout(root), "cpu")
    patch.setattr(checks, "here", lambda: Layout(root))


def a_gpu(patch: pytest.MonkeyPatch, **told: Any) -> None:
    properties = SimpleNamespace(is_integrated=told.get("unified", False))
    patch.setattr(torch.cuda, "is_available", lambda: True)
    patch.setattr(torch.cuda, "get_device_name", lambda _: "A GPU")
    patch.setattr(torch.cuda, "get_device_capability", lambda _: told.get("since", (12, 1)))
    patch.setattr(torch.cuda, "get_device_properties", lambda _: properties)
    patch.setattr(torch.cuda, "get_arch_list", lambda: told.get("compiled", ["sm_120"]))
    patch.setattr(torch.cuda, "mem_get_info", lambda _: (told.get("free", 8 * GIB), 16 * GIB))


def product_off(patch: pytest.MonkeyPatch, spoil: Callable[[torch.Tensor], torch.Tensor]) -> None:
    right = torch.Tensor.__matmul__

    def product(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        came = right(a, b)
        return spoil(came) if a.dtype == torch.bfloat16 else came

    patch.setattr(torch.Tensor, "__matmul__", product)


def no_autocast(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(torch, "autocast", lambda *_, **__: contextlib.nullcontext())


def unpacked_as(patch: pytest.MonkeyPatch, spoil: Callable[..., torch.Tensor]) -> None:
    right = bitsandbytes.functional.dequantize_4bit
    patch.setattr(bitsandbytes.functional, "dequantize_4bit", lambda *given: spoil(right(*given)))


def attention_off(patch: pytest.MonkeyPatch, factor: float = 1.02) -> None:
    right = torch.nn.functional.scaled_dot_product_attention
    patch.setattr(
        torch.nn.functional,
        "scaled_dot_product_attention",
        lambda *given, **how: right(*given, **how) * factor,
    )


def product_of_4_bits_off(patch: pytest.MonkeyPatch, factor: float = 1.05) -> None:
    right = bitsandbytes.matmul_4bit
    patch.setattr(bitsandbytes, "matmul_4bit", lambda *given: right(*given) * factor)


def step_of_8_bits_forgets(patch: pytest.MonkeyPatch) -> None:
    """Have the optimizer keep nothing from one step to the next."""
    from bitsandbytes.optim.adamw import AdamW8bit

    right = AdamW8bit.step

    def step(self: Any) -> Any:
        for kept in self.state.values():
            for it in kept.values():
                if isinstance(it, torch.Tensor) and it.dtype == torch.uint8:
                    it.zero_()
        return right(self)

    patch.setattr(AdamW8bit, "step", step)


def a_slow_gpu(patch: pytest.MonkeyPatch, card: str = "NVIDIA GB10") -> None:
    """Have speed be measured here, and judged as that card's."""
    patch.setattr(speed, "_expected", lambda: speed.kinds.card(card))


def changed_file(root: Path, patch: pytest.MonkeyPatch) -> None:
    put(root, "bitsandbytes", "0.1")
    file = root / "bitsandbytes.py"
    file.write_text(file.read_text() + "# edited by hand")
    os.utime(file, (2**31, 2**31))
    patch.syspath_prepend(str(root))


def with_torchvision(root: Path, patch: pytest.MonkeyPatch) -> None:
    described = root / "torchvision-0.29.2.dist-info"
    described.mkdir()
    text = "Name: torchvision\nVersion: 0.29.2\nRequires-Dist: torch==2.15.0\n"
    (described / "METADATA").write_text(text)
    patch.syspath_prepend(str(root))
    patch.setattr(fits.sys, "prefix", str(root))


def without_native_library(patch: pytest.MonkeyPatch) -> None:
    from bitsandbytes import cextension

    mock = object.__new__(cextension.ErrorHandlerMockBNBNativeLibrary)
    patch.setattr(cextension, "lib", mock)


def triton_without_assembler(root: Path, patch: pytest.MonkeyPatch) -> None:
    (root / "triton").mkdir()
    (root / "triton" / "__init__.py").touch()
    patch.syspath_prepend(str(root))
    patch.delitem(sys.modules, "triton", raising=False)


def broken_triton(patch: pytest.MonkeyPatch) -> None:
    def launch(*_: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("PTXAS error: Internal Triton PTX codegen error\nptxas fatal : sm_121a")

    a_gpu(patch)
    patch.setattr(torch.Tensor, "cuda", lambda it: it)
    patch.setattr(compiled, "triton", SimpleNamespace(__version__="3.9.0"))
    patch.setattr(compiled, "launch", launch)


def full(patch: pytest.MonkeyPatch, **told: int) -> None:
    """Have each disk say that it is nearly full."""
    said = {"f_frsize": 4096, "f_blocks": 10**9, "f_bavail": 10**9, "f_files": 10**7, "f_flag": 0}
    said |= {"f_favail": 10**6} | told
    patch.setattr(disks.os, "statvfs", lambda _: SimpleNamespace(**said))


def limited(patch: pytest.MonkeyPatch, **told: int) -> None:
    """Have this process be limited: ``RLIMIT_NOFILE=64``."""
    right = limits.resource.getrlimit
    numbers = {getattr(limits.resource, name): value for name, value in told.items()}
    patch.setattr(
        limits.resource,
        "getrlimit",
        lambda which: (numbers[which],) * 2 if which in numbers else right(which),
    )


def in_groups(patch: pytest.MonkeyPatch, root: Path, **files: str) -> None:
    """Have this process be in a control group of version 2 with these files (``pids__max``)."""
    proc(root)
    group = root / "cgroup"
    group.mkdir()
    for name, text in files.items():
        (group / name.replace("__", ".")).write_text(f"{text}\n")
    right = limits.groups
    patch.setattr(limits, "groups", lambda name, *_: right(name, root / "proc", group))


def swapping(root: Path, patch: pytest.MonkeyPatch, **rows: int) -> None:
    told = {"MemTotal": 16 * GIB, "SwapTotal": 8 * GIB, "SwapFree": GIB, **rows}
    patch.setattr(room, "meminfo", lambda *_: told)


def little_memory(root: Path, patch: pytest.MonkeyPatch) -> None:
    proc(root, available=GIB)
    patch.setattr(room, "main_memory", lambda: MAIN_MEMORY(root / "proc", root / "cgroup"))


MAIN_MEMORY, MACHINE_MEMORY = room.main_memory, machine_memory
BROKEN: dict[str, Callable[[Path, pytest.MonkeyPatch], object]] = {
    "kind_known": lambda _, patch: a_gpu(patch, since=(7, 0)),
    "libraries_as_locked": pinned_too_high,
    "torch_untouched": another_torch,
    "files_unchanged": changed_file,
    "companions_fit": with_torchvision,
    "bitsandbytes_loaded": lambda _, patch: without_native_library(patch),
    "assembler_there": triton_without_assembler,
    "code_for_gpu": lambda _, patch: a_gpu(patch, compiled=["sm_50", "sm_80", "sm_90"]),
    "gpu_knows_bf16": lambda _, patch: a_gpu(patch, since=(7, 5)),
    "bf16_product": lambda _, patch: product_off(patch, lambda it: it * 1.02),
    "autocast_step": lambda _, patch: no_autocast(patch),
    "attention_right": lambda _, patch: attention_off(patch),
    "kernel_compiled": lambda _, patch: broken_triton(patch),
    "nf4_product": lambda _, patch: product_of_4_bits_off(patch),
    "eight_bit_step": lambda _, patch: step_of_8_bits_forgets(patch),
    "products_fast": lambda _, patch: a_slow_gpu(patch),
    "memory_fast": lambda _, patch: a_slow_gpu(patch, "NVIDIA B200"),
    "nf4_round_trip": lambda _, patch: unpacked_as(patch, torch.zeros_like),
    "memory_free": little_memory,
    "gpu_memory_free": lambda _, patch: a_gpu(patch, free=GIB),
    "pages_free": lambda root, patch: (
        a_gpu(patch, unified=True),
        swapping(root, patch, MemFree=GIB, MemAvailable=90 * GIB),
    ),
    "little_swapped": swapping,
    "disk_free": lambda _, patch: full(patch, f_bavail=1000),
    "shared_memory": lambda _, patch: full(patch, f_blocks=2**14, f_bavail=2**14),
    "open_files": lambda _, patch: limited(patch, RLIMIT_NOFILE=64),
    "locked_memory": lambda _, patch: (
        a_gpu(patch),
        patch.setattr(torch.cuda, "device_count", lambda: 2),
        limited(patch, RLIMIT_MEMLOCK=2**16),
    ),
    "processes_left": lambda root, patch: in_groups(
        patch, root, pids__max="64", pids__current="60"
    ),
    "cores": lambda root, patch: in_groups(patch, root, cpu__max="50000 100000"),
    "clock_right": lambda _, patch: patch.setattr(clock.time, "time", lambda: 86_400.0),
    "caches_writable": lambda _, patch: patch.setenv("HF_HOME", "/proc/cache"),
    "settings_pinned": lambda root, patch: gpu_image(root, patch, BNB_CUDA_VERSION="130"),
    "model_follows_settings": lambda root, patch: gpu_image(root, patch, LAB_DTYPE="float17"),
}


def test_there_is_a_broken_machine_for_every_check() -> None:
    assert set(BROKEN) == {check.name for check in BENCH.checks}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_machine_fails_its_check_with_cause_and_command(
    name: str, project: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folders.tempfile, "tempdir", None)
    BROKEN[name](project.root, monkeypatch)
    came = judge(name)
    assert (came.status, came.cause) == ("failed", "environment"), came
    assert came.message.endswith((".", "!", ":")) or "ended" in came.message
    assert all(advice(came.hint or "")), came.hint


@pytest.mark.parametrize("check", BENCH.checks, ids=lambda it: it.name)
def test_this_machine_passes_or_lacks_a_part(check: Any) -> None:
    came = judge(check.name)
    poor = came.level == "advice"  # a machine may be small, or have little room
    assert came.status == "passed" or came.cause == "missing" or poor, came
    assert came.message


# ------------------------------------------------------------------------------------- libraries
SCRIPT = """
import json, sys
from pathlib import Path
from verify.judging import Bench
from verify.labs import read_lab
bench = Bench(read_lab(Path(sys.argv[1], "labs", "environment")))
found = {it.name: bench.judge(it, bench.rehearse(), 1) for it in bench.checks}
bad = {name: it for name, it in found.items() if it.status != "not_run" and not it.level}
print(json.dumps({name: [it.status, it.message] for name, it in bad.items()}))
"""


@pytest.fixture
def overlay(tmp_path: Path) -> Path:
    """A virtual environment on top of this one, and the folder of its own libraries."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv"], check=True)
    (site,) = (tmp_path / "venv").glob("lib/python*/site-packages")
    below = [path for path in sys.path if path.endswith("-packages")]
    (site / "below.pth").write_text("\n".join([*below, str(PROJECT)]))
    return site


def put(site: Path, name: str, version: str) -> None:
    """Install a library of another making into ``site``."""
    make_wheel(site.parent / "wheels", name, version)
    for wheel in (site.parent / "wheels").glob(f"{name}-*.whl"):
        zipfile.ZipFile(wheel).extractall(site)


def in_overlay(site: Path) -> dict[str, list[str]]:
    python = site.parents[2] / "bin" / "python"
    came = subprocess.run(
        [python, "-I", "-c", SCRIPT, PROJECT], capture_output=True, text=True, check=True
    )
    found = json.loads(came.stdout)
    assert isinstance(found, dict)
    return found


def version_of(name: str) -> str:
    return libraries.distributions()[name].version  # type: ignore[no-any-return]


def test_an_environment_into_which_others_were_installed_is_found_out(overlay: Path) -> None:
    put(overlay, "arrow", "0.9")  # what the imports here do not need
    put(overlay, "anyio", version_of("anyio"))
    (overlay / "anyio.py").unlink()
    (overlay / "torch-2.9.0.dist-info").mkdir()
    (overlay / "torch-2.9.0.dist-info" / "METADATA").write_text("Name: torch\nVersion: 2.9.0\n")
    found = in_overlay(overlay)
    assert found["libraries_as_locked"][0] == found["torch_untouched"][0] == "failed"
    told = found["libraries_as_locked"][1]
    assert f"arrow: expected {version_of('arrow')}, found 0.9" in told
    assert "anyio: files are missing, first anyio.py" in told
    assert "torch" not in told
    expected = f"torch: expected {version_of('torch')}, found 2.9.0"
    assert expected in found["torch_untouched"][1]


def failed(found: dict[str, list[str]]) -> set[str]:
    return {name for name, (status, _) in found.items() if status != "passed"}


def test_one_file_of_one_package_that_is_gone_is_named_and_nothing_else(overlay: Path) -> None:
    assert failed(in_overlay(overlay)) == set()
    put(overlay, "anyio", version_of("anyio"))
    (overlay / "anyio.py").unlink()
    found = in_overlay(overlay)
    assert failed(found) == {"libraries_as_locked"}
    assert "anyio: files are missing, first anyio.py" in found["libraries_as_locked"][1]


def test_another_torch_is_named_and_nothing_else(overlay: Path) -> None:
    (overlay / "torch-2.9.0.dist-info").mkdir()
    (overlay / "torch-2.9.0.dist-info" / "METADATA").write_text("Name: torch\nVersion: 2.9.0\n")
    assert failed(in_overlay(overlay)) == {"torch_untouched"}


def test_the_lock_files_are_read_for_this_python(project: Layout) -> None:
    (project.locks / "lab.lock").write_text(
        "# Wheels only, for Linux,\n# and CPython 3.11, 3.12, 3.13.\n"
        'old==1.0 ; python_version < "3.0" \\\n    --hash=sha256:0\n'
        'Some_Name==2.0 ; python_version > "3.0" \\\n    --hash=sha256:0\n'
        "other==3.0+cpu \\\n    --hash=sha256:0\n"
    )
    pins = libraries.locked(project.locks, "torch-cpu.lock")
    del pins["torch"]
    assert pins == {"some-name": "2.0", "other": "3.0+cpu"}


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        ("\nrich==", "\nrich-not-there==1.0 --hash=0\nrich==", "rich-not-there: missing"),
        ("CPython 3.11, 3.12, 3.13.", "CPython 2.7.", "Python: expected 2.7, found 3."),
    ],
)
def test_what_the_lock_files_name_and_is_not_here(
    project: Layout, before: str, after: str, told: str
) -> None:
    lock = project.locks / "lab.lock"
    assert before in lock.read_text()
    lock.write_text(lock.read_text().replace(before, after, 1))
    with pytest.raises(Fault) as fault:
        libraries.compare(project)
    assert told in fault.value.happened


def test_many_differences_are_counted(project: Layout) -> None:
    more = "".join(f"none-{n}==1.0 --hash=0\n" for n in range(20))
    lock = project.locks / "lab.lock"
    lock.write_text(lock.read_text() + more)
    with pytest.raises(Fault, match="none-5: missing; and 14 more"):
        libraries.compare(project)


def test_an_image_is_compared_with_its_manifest(tmp_path: Path) -> None:
    assert "as in the image" in libraries.compare(image(tmp_path))
    assert "torch 2" in libraries.compare_torch(image(tmp_path))


def test_what_differs_from_an_images_manifest_is_named(tmp_path: Path) -> None:
    there = manifest.distributions()
    there["rich"] = dataclasses.replace(there["rich"], version="0.1")
    layout = image(tmp_path, distributions=there, python="3.11.0rc9")
    with pytest.raises(Fault) as fault:
        libraries.compare(layout)
    assert f"rich: expected 0.1, found {version_of('rich')}" in fault.value.happened
    assert "Python: expected 3.11.0rc9" in fault.value.happened
    assert "invoke image.build --variant cpu" in fault.value.type_this


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"distribution": "2.14.0a0+nv26.8"}, "torch: expected 2.14.0a0+nv26.8, found"),
        ({"cuda": "13.4"}, "torch's CUDA version: expected 13.4"),
        ({"location": "/usr/lib/torch"}, "torch's location: expected /usr/lib/torch"),
        ({"record": "0"}, "torch: other files of the same version"),
    ],
)
def test_a_torch_that_is_not_the_images_is_named(
    tmp_path: Path, change: dict[str, str], told: str
) -> None:
    layout = image(tmp_path, torch=dataclasses.replace(manifest.torch_identity(), **change))
    with pytest.raises(Fault) as fault:
        libraries.compare_torch(layout)
    assert told in fault.value.happened


def test_a_torch_for_the_cpu_where_a_gpu_is_a_fault(
    project: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = dataclasses.replace(manifest.torch_identity(), cuda=None)
    monkeypatch.setattr(libraries, "torch_identity", lambda: found)
    gpu = locks.Variant("cuda", "an NVIDIA GPU is here", 0)
    monkeypatch.setattr(locks, "find_variant", lambda _: gpu)
    with pytest.raises(Fault, match="for the CPU alone, and an NVIDIA GPU is here"):
        libraries.compare_torch(project)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"location": "/opt/other/torch"}, "would now find /opt/other/torch"),
        ({"module": "2.99.0"}, "and 2.99.0 is installed"),
    ],
)
def test_a_torch_installed_while_the_runner_was_up_is_told(
    project: Layout, monkeypatch: pytest.MonkeyPatch, change: dict[str, str], told: str
) -> None:
    found = dataclasses.replace(manifest.torch_identity(), **change)
    monkeypatch.setattr(libraries, "torch_identity", lambda: found)
    with pytest.raises(Fault) as fault:
        libraries.compare_torch(project)
    assert told in fault.value.happened
    assert fault.value.type_this == "invoke lab.down && invoke lab.up"


# -------------------------------------------------------------------------------------- numerics
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(
    "name",
    [
        *("bf16_product", "autocast_step", "attention_right"),
        *("nf4_round_trip", "nf4_product", "eight_bit_step"),
    ],
)
def test_right_numbers_pass_on_many_seeds(name: str, seed: int) -> None:
    assert judge(name, seed).status == "passed"


def cut_off(product: torch.Tensor) -> torch.Tensor:
    """Round toward zero and lose one bit: the error of 7 significant bits."""
    return (product.float().view(torch.int32) & ~0x1FFFF).view(torch.float32).bfloat16()


@pytest.mark.parametrize(
    "spoil",
    [
        cut_off,
        torch.zeros_like,
        lambda it: it.float(),
        lambda it: it * float("nan"),
        lambda it: it.index_put((torch.tensor(3), torch.tensor(5)), it[3, 5] + 1),
    ],
    ids=["cut off", "zero", "another type", "not a number", "one element"],
)
def test_a_wrong_product_is_found(
    monkeypatch: pytest.MonkeyPatch, spoil: Callable[[torch.Tensor], torch.Tensor]
) -> None:
    product_off(monkeypatch, spoil)
    for seed in SEEDS:
        assert judge("bf16_product", seed).cause == "environment"


def test_a_computation_that_cannot_be_done_is_a_fault_in_words(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def none(_: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("CUDA error: no kernel image is available\nCompile with more")

    product_off(monkeypatch, none)
    came = judge("bf16_product")
    assert came.cause == "environment"
    assert came.message.endswith("RuntimeError: CUDA error: no kernel image is available")


@pytest.mark.parametrize("wrong", ["loss", "step"])
def test_a_training_step_that_does_not_train_is_found(
    monkeypatch: pytest.MonkeyPatch, wrong: str
) -> None:
    if wrong == "loss":
        right = torch.nn.functional.cross_entropy
        spoilt = lambda *given: right(*given) * float("inf")  # noqa: E731
        monkeypatch.setattr(torch.nn.functional, "cross_entropy", spoilt)
    else:
        monkeypatch.setattr(torch.optim.SGD, "step", lambda _: None)
    assert judge("autocast_step").cause == "environment"


def test_the_values_of_nf4_are_those_of_bitsandbytes() -> None:
    theirs = bitsandbytes.functional.get_4bit_type("nf4", device="cpu")
    assert torch.equal(theirs.sort().values, torch.tensor(fewbits._NF4))


@pytest.mark.parametrize(
    "spoil",
    [lambda it: it * 1.05, lambda it: it + 0.01, lambda it: it.roll(1), torch.zeros_like],
    ids=["scaled", "shifted", "moved", "zero"],
)
def test_wrong_weights_from_nf4_are_found(
    monkeypatch: pytest.MonkeyPatch, spoil: Callable[..., torch.Tensor]
) -> None:
    unpacked_as(monkeypatch, spoil)
    for seed in SEEDS:
        assert judge("nf4_round_trip", seed).cause == "environment"


def test_weights_that_were_never_packed_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bitsandbytes.functional, "quantize_4bit", lambda it, **_: (it, None))
    monkeypatch.setattr(bitsandbytes.functional, "dequantize_4bit", lambda it, _: it)
    assert judge("nf4_round_trip").cause == "environment"


def test_another_format_of_4_bits_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    right = bitsandbytes.functional.quantize_4bit
    monkeypatch.setattr(
        bitsandbytes.functional,
        "quantize_4bit",
        lambda it, **how: right(it, **(how | {"quant_type": "fp4"})),
    )
    assert judge("nf4_round_trip").cause == "environment"


# ------------------------------------------------------------------------------------------ room
def proc(root: Path, available: int = 8 * GIB, groups: str = "0::/\n") -> None:
    (root / "proc" / "self").mkdir(parents=True, exist_ok=True)
    text = (
        f"MemTotal:  1 kB\nMemFree:   3 kB\nMemAvailable:  {available // 1024} kB\nHugePages: 0\n"
    )
    (root / "proc" / "meminfo").write_text(text)
    (root / "proc" / "self" / "cgroup").write_text(groups)


def group(folder: Path, limit: int | str, used: int, cache: int, version: int = 2) -> None:
    names = {
        1: ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
        2: ("memory.max", "memory.current", "inactive_file"),
    }[version]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / names[0]).write_text(f"{limit}\n")
    (folder / names[1]).write_text(f"{used}\n")
    (folder / "memory.stat").write_text(f"anon 1\n{names[2]} {cache}\n")


V1 = "5:devices:/docker/abc\n4:cpu,memory:/docker/abc\n0::/\n"


@pytest.mark.parametrize(
    ("groups", "at", "version", "limit", "free"),
    [
        ("0::/a/b\n", "a/b", 2, 4 * GIB, 3 * GIB),
        ("0::/a/b\n", "a", 2, 4 * GIB, 3 * GIB),  # a limit above counts too
        ("0::/a/b\n", "a/b", 2, "max", 8 * GIB),
        ("0::/\n", "", 2, 4 * GIB, 3 * GIB),  # in a container
        ("0::/../else\n", "", 2, 4 * GIB, 3 * GIB),  # in another's
        ("0::/a\n", "unified/a", 2, 4 * GIB, 3 * GIB),
        (V1, "memory/docker/abc", 1, 4 * GIB, 3 * GIB),
        (V1, "memory", 1, 4 * GIB, 3 * GIB),  # in a container, which has the host's path
        (V1, "memory", 1, 9223372036854771712, 8 * GIB),
        ("0::/a/b\n", "a/b", 2, 40 * GIB, 8 * GIB),  # more than there is
        ("0::/a/b\n", "c", 2, 4 * GIB, 8 * GIB),  # another's
    ],
)
def test_the_smaller_of_machine_and_control_group_is_free(
    tmp_path: Path, groups: str, at: str, version: int, limit: int | str, free: int
) -> None:
    proc(tmp_path, groups=groups)
    used = 40 * GIB if limit == 40 * GIB else 2 * GIB
    group(tmp_path / "cgroup" / at, limit, used if limit != 40 * GIB else 0, GIB, version)
    found = MAIN_MEMORY(tmp_path / "proc", tmp_path / "cgroup")
    assert found.bytes == free
    source = "MemAvailable in /proc/meminfo" if free == 8 * GIB else "of the container or job"
    assert source in found.source


@pytest.mark.parametrize(("available", "enough"), [(2 * GIB, True), (2 * GIB - 1024, False)])
def test_2_gib_are_enough_and_less_is_not(tmp_path: Path, available: int, enough: bool) -> None:
    proc(tmp_path, available)
    found = MAIN_MEMORY(tmp_path / "proc", tmp_path / "cgroup")
    if enough:
        assert room.require(found) == "2.0 GiB free by MemAvailable in /proc/meminfo"
    else:
        with pytest.raises(Fault, match="the labs need 2 GiB"):
            room.require(found)


def test_a_unified_memory_is_asked_of_the_kernel_another_of_the_driver(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    proc(tmp_path, 5 * GIB)
    monkeypatch.setattr(
        "verify.room.machine_memory", functools.partial(MACHINE_MEMORY, tmp_path / "proc")
    )
    a_gpu(monkeypatch, unified=True, free=GIB)
    assert judge("gpu_memory_free").message == "5.0 GiB free by MemAvailable in /proc/meminfo"
    a_gpu(monkeypatch, unified=False, free=3 * GIB)
    assert judge("gpu_memory_free").message == "3.0 GiB free by torch.cuda.mem_get_info"


def test_a_gpu_of_today_is_told_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    a_gpu(monkeypatch)
    assert judge("gpu_knows_bf16").message == "A GPU, compute capability 12.1"


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
@pytest.mark.parametrize("name", [it.name for it in BENCH.checks if it.gpu])
def test_without_a_gpu_its_checks_are_not_run(name: str) -> None:
    assert judge(name).message == "not run: no GPU"


# --------------------------------------------------------------------------------------- folders
def test_folders_are_those_that_are_set_and_else_the_libraries_own(tmp_path: Path) -> None:
    environ = {"HOME": "/h", "TMPDIR": "/t", "TRITON_CACHE_DIR": "/triton"}
    found = folders.caches(environ, Layout(tmp_path))
    assert found == {
        "TMPDIR": Path("/t"),
        "HF_HOME": Path("/h/.cache/huggingface"),
        "TRITON_CACHE_DIR": Path("/triton"),
    }
    environ |= {"TORCHINDUCTOR_CACHE_DIR": "/inductor"}
    assert folders.caches(environ, Layout(tmp_path))["TORCHINDUCTOR_CACHE_DIR"] == Path("/inductor")


def test_in_the_runners_container_it_is_the_temporary_folder_alone(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").touch()
    environ = {"HOME": "/h", "TMPDIR": "/t", "HF_HOME": "/home/lab/hf"}
    assert folders.caches(environ, Layout(tmp_path)) == {"TMPDIR": Path("/t")}


def test_temporary_files_are_in_tmp_unless_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where that one is full Python takes another without a word, and other programs fail."""
    monkeypatch.setattr(folders.tempfile, "tempdir", "/var/tmp")
    monkeypatch.delenv("TMPDIR", raising=False)
    assert folders.caches({"HOME": "/h"}, Layout(Path("/nowhere")))["TMPDIR"] == Path("/tmp")
    assert caches()["TMPDIR"] == "/tmp"


def test_a_folder_for_temporary_files_must_be_there(tmp_path: Path) -> None:
    folders.require_writable({"TMPDIR": tmp_path})
    with pytest.raises(Fault, match="which is no folder") as fault:
        folders.require_writable({"TMPDIR": tmp_path / "job-17"})
    assert fault.value.type_this.startswith("unset TMPDIR")


def test_a_folder_that_is_not_there_yet_is_judged_by_the_one_above(tmp_path: Path) -> None:
    folders.require_writable({"HF_HOME": tmp_path / "a" / "b"})
    assert list(tmp_path.iterdir()) == [], "nothing is left behind"
    (tmp_path / "file").touch()
    with pytest.raises(Fault, match=r"file/b \(HF_HOME\) cannot be written"):
        folders.require_writable({"HF_HOME": tmp_path / "file" / "b"})


def test_code_must_be_loadable_where_it_is_compiled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = mmap.mmap

    def noexec(file: int, size: int, flags: int, access: int) -> mmap.mmap:
        if access & mmap.PROT_EXEC:
            raise PermissionError(1, "Operation not permitted")
        return right(file, size, flags, access)

    folders.require_writable({"TRITON_CACHE_DIR": tmp_path})
    monkeypatch.setattr(folders.mmap, "mmap", noexec)
    folders.require_writable({"HF_HOME": tmp_path})
    with pytest.raises(Fault, match="Compiled code cannot be loaded"):
        folders.require_writable({"TRITON_CACHE_DIR": tmp_path})


# ---------------------------------------------------------------------------------------- pinned
@pytest.mark.parametrize(
    "changed",
    [
        {"ACCELERATE_MIXED_PRECISION": "no"},
        {"LAB_DTYPE": "float32"},
        {"LAB_ATTENTION": ""},
        {"PYTORCH_ALLOC_CONF": ""},
        {"PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True"},
        {"TRITON_PTXAS_BLACKWELL_PATH": ""},
        {"TRITON_PTXAS_BLACKWELL_PATH": "/usr/local/cuda/bin/none"},
        {"TRITON_PTXAS_BLACKWELL_PATH": "/"},
        {"BNB_CUDA_VERSION": "130"},
    ],
    ids=lambda it: "=".join(*it.items()),
)
def test_each_changed_setting_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changed: dict[str, str]
) -> None:
    gpu_image(tmp_path, monkeypatch)
    assert judge("settings_pinned").status == "passed"
    gpu_image(tmp_path, monkeypatch, **changed)
    came = judge("settings_pinned")
    assert came.cause == "environment"
    assert next(iter(changed)) in came.message


def test_a_manifest_cannot_allow_another_precision_by_leaving_it_out(tmp_path: Path) -> None:
    layout = image(tmp_path, variant="gpu", settings={})
    with pytest.raises(Fault, match="LAB_DTYPE is float16"):
        pinned.require_settings(pinned.gpu_image(layout), SETTINGS | {"LAB_DTYPE": "float16"})


def test_a_bitsandbytes_without_blackwell_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gpu_image(tmp_path, monkeypatch)
    monkeypatch.setattr(pinned.importlib.metadata, "version", lambda _: "0.49.2")
    assert "bitsandbytes is 0.49.2" in judge("settings_pinned").message


def test_a_model_has_what_the_settings_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gpu_image(tmp_path, monkeypatch)
    assert judge("model_follows_settings").message == "bfloat16, sdpa"
    assert pinned.load_model({"LAB_DTYPE": "float16", "LAB_ATTENTION": "eager"})


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"LAB_DTYPE": "bfloat16", "LAB_ATTENTION": "none_such"},
        {"LAB_DTYPE": "", "LAB_ATTENTION": "sdpa"},
        {"LAB_DTYPE": "Tensor", "LAB_ATTENTION": "sdpa"},
    ],
)
def test_settings_that_no_model_can_follow_are_a_fault(environ: dict[str, str]) -> None:
    with pytest.raises(Fault, match="No model can be loaded"):
        pinned.load_model(environ)


@pytest.mark.parametrize("ignored", ["dtype", "attn_implementation"])
def test_a_model_that_ignores_the_settings_is_found(
    monkeypatch: pytest.MonkeyPatch, ignored: str
) -> None:
    from transformers import LlamaForCausalLM

    right = LlamaForCausalLM.from_pretrained

    def load(folder: str, **how: Any) -> Any:
        other = {"dtype": "float32", "attn_implementation": "eager"}
        return right(folder, **(how | {ignored: other[ignored]}))

    monkeypatch.setattr(LlamaForCausalLM, "from_pretrained", load)
    with pytest.raises(Fault, match="came back with"):
        pinned.load_model(SETTINGS)


def test_elsewhere_than_in_the_gpu_image_nothing_is_pinned(tmp_path: Path) -> None:
    for layout in (Layout(tmp_path / "none"), image(tmp_path, variant="cpu")):
        with pytest.raises(NotRun, match="not the GPU image"):
            pinned.gpu_image(layout)


# ------------------------------------------------------------------------------ through the runner
def test_this_machine_is_fit_by_the_runner_too(real_labs: Runner) -> None:
    results = real_labs.verify("environment", None)
    assert list(results) == [check.name for check in BENCH.checks]
    left = {it.name: it for it in results.values() if it.status != "passed"}
    assert all(it.cause == "missing" or it.level == "advice" for it in left.values()), left


def test_a_cache_that_the_runner_cannot_write_is_told_through_the_runner(tmp_path: Path) -> None:
    environment = {**os.environ, "HF_HOME": "/proc/cache", "LAB_DTYPE": "bfloat16"}
    with running(PROJECT / "labs", tmp_path, env=environment) as runner:
        came = runner.verify("environment", None)["caches_writable"]
    assert (came.status, came.cause) == ("failed", "environment")
    assert came.message.startswith("/proc/cache (HF_HOME) cannot be written")


def few_files() -> None:
    import resource

    resource.setrlimit(resource.RLIMIT_NOFILE, (700, 700))


def test_what_is_poor_is_advice_through_the_runner_and_fails_nothing(tmp_path: Path) -> None:
    with running(PROJECT / "labs", tmp_path, preexec_fn=few_files) as runner:
        results = runner.verify("environment", None)
    came = results["open_files"]
    assert (came.status, came.level, came.cause) == ("failed", "advice", "environment")
    assert is_ready(list(results.values()))
    assert "700 files" in came.message
