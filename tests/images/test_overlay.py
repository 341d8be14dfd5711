"""What goes onto NVIDIA's image and what stops the build; the builds are in test_gpu_dockerfile."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from types import ModuleType

import pytest

from tests.conftest import PROJECT
from tests.images.conftest import MODULE, TORCH

LOCK = """\
# Written by relock.py
rich==15.0.0 \\
    --hash=sha256:aa \\
    --hash=sha256:bb
msgspec==0.22.0 --hash=sha256:cc
only-old==1.0 ; python_version < "3.0" \\
    --hash=sha256:dd
numpy==2.4.6 ; python_version >= "3.11" \\
    --hash=sha256:ee
"""


@pytest.fixture(scope="module")
def overlay() -> Iterator[ModuleType]:
    """The script, which is in no package: a build mounts it beside verify/identity.py."""
    spec = importlib.util.spec_from_file_location("overlay", PROJECT / "images/gpu/overlay.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["overlay"] = module  # dataclasses look a class's module up there
    spec.loader.exec_module(module)
    yield module
    del sys.modules["overlay"]


def chosen(overlay: ModuleType, base: dict[str, str], *lines: str) -> set[str]:
    wanted = [overlay.Requirement(line) for line in lines]
    names: set[str] = overlay.choose(overlay.read_lock(LOCK), wanted, base)
    return names


def test_a_lock_is_read_for_this_python_with_its_hashes(overlay: ModuleType) -> None:
    lock = overlay.read_lock(LOCK)
    assert {name: version for name, (version, _) in lock.items()} == {
        "rich": "15.0.0",
        "msgspec": "0.22.0",
        "numpy": "2.4.6",
    }
    assert lock["rich"][1].count("--hash=") == 2
    assert lock["numpy"][1].count("--hash=") == 1


def test_the_project_s_own_lock_is_read_whole_and_refused_in_no_part(overlay: ModuleType) -> None:
    text = (PROJECT / "images/locks/lab.lock").read_text()
    lock = overlay.read_lock(text)
    pins = [line for line in text.splitlines() if "==" in line and line[0] not in "# "]
    assert len(pins) - 5 < len(lock) <= len(pins)
    assert all("--hash=sha256:" in requirement for _, requirement in lock.values())


@pytest.mark.parametrize(
    "name",
    [
        "torch",
        "torchvision",
        "torchaudio",
        "torchao",
        "triton",
        "pytorch-triton",
        "flash_attn",
        "xformers",
        "nvidia-cublas",
        "NVIDIA_cudnn_cu13",
        "cuda-toolkit",
    ],
)
def test_whatever_is_built_for_one_torch_is_refused_by_its_name(
    overlay: ModuleType, name: str
) -> None:
    with pytest.raises(overlay.Refused, match=f"names {overlay.normal(name)}:"):
        overlay.read_lock(f"{LOCK}{name}==1.0 --hash=sha256:ff\n")


@pytest.mark.parametrize("name", ["torchdata-like", "pytorch", "tritonclient", "nvidiaml"])
def test_a_name_that_only_looks_alike_is_not_refused(overlay: ModuleType, name: str) -> None:
    assert name in overlay.read_lock(f"{name}==1.0 --hash=sha256:ff\n")


def test_what_the_base_has_stays_and_what_it_lacks_is_installed(overlay: ModuleType) -> None:
    base = {"numpy": "2.1.0", "rich": "13.9.4"}
    assert chosen(overlay, base, "rich", "numpy") == {"msgspec"}


def test_what_the_lab_asks_for_in_another_version_is_installed(overlay: ModuleType) -> None:
    base = {"numpy": "2.1.0", "rich": "13.9.4", "msgspec": "0.22.0"}
    assert chosen(overlay, base, "rich>=15", "msgspec>=0.22") == {"rich"}
    assert chosen(overlay, base, "rich==15.0.0") == {"rich"}
    assert chosen(overlay, base, "rich>=13") == set()


def test_a_pre_release_of_the_base_counts(overlay: ModuleType) -> None:
    base = {"numpy": "2.1.0", "rich": "15.1.0a1", "msgspec": "0.22.0"}
    assert chosen(overlay, base, "rich>=15") == set()


def test_the_base_s_numpy_is_never_replaced(overlay: ModuleType) -> None:
    with pytest.raises(overlay.Refused, match=r"numpy 2\.1\.0 would have to be replaced"):
        chosen(overlay, {"numpy": "2.1.0"}, "numpy==2.4.6")


def test_what_an_installed_package_lacks_is_taken_from_the_lock(overlay: ModuleType) -> None:
    base = {"numpy": "2.1.0", "rich": "13.9.4"}
    lock = overlay.read_lock(LOCK)
    told = frozenset(
        {
            "jupyter 1.0 has requirement rich>=14, but you have rich 13.9.4.",
            "jupyter 1.0 requires nowhere, which is not installed.",
        }
    )
    assert overlay.more(told, lock, {"msgspec"}, base) == {"rich"}
    assert overlay.more(told, lock, {"msgspec", "rich"}, base) == set()
    hungry = told | {"pandas 3.1.1 has requirement numpy>=2.3, but you have numpy 2.1.0."}
    with pytest.raises(overlay.Refused, match=r"be replaced: pandas 3\.1\.1 has requirement numpy"):
        overlay.more(hungry, lock, {"msgspec"}, base)


def seen(overlay: ModuleType, *complaints: str, **torch: str) -> object:
    identity = {"distribution": TORCH, "module": MODULE, "location": "/base"} | torch
    return overlay.Seen({}, identity, frozenset(complaints))


@pytest.mark.parametrize("field", ["distribution", "module", "location"])
def test_another_torch_is_refused_and_both_are_named(overlay: ModuleType, field: str) -> None:
    before = seen(overlay)
    overlay.require_same_torch(before, seen(overlay))
    with pytest.raises(overlay.Refused, match=r"torch was .*\n.* and is now .*other"):
        overlay.require_same_torch(before, seen(overlay, **{field: "other"}))


def test_only_a_new_complaint_is_refused(overlay: ModuleType) -> None:
    before = seen(overlay, "old 1.0 requires gone, which is not installed.")
    overlay.require_no_new_complaint(before, before)
    overlay.require_no_new_complaint(before, seen(overlay))
    with pytest.raises(overlay.Refused, match="fresh 1"):
        overlay.require_no_new_complaint(before, seen(overlay, "fresh 1 requires x"))


def test_the_constraint_keeps_the_base_but_for_what_lies_above_it(overlay: ModuleType) -> None:
    base = {"torch": TORCH, "rich": "13.9.4", "odd": "2024-custom"}
    assert overlay.constraint(base, {"rich", "fresh"}) == f"torch=={TORCH}\n"
