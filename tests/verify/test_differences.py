"""How each difference between two environments is named."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.images.conftest import MODULE, TORCH, install, install_ngc
from verify import identity, manifest
from verify.manifest import Manifest


@pytest.fixture
def image(site: Path, labs: Path) -> Manifest:
    install_ngc(site)
    install(site, "rich", "15.0.0", {"rich/a.py": "A = 1\n", "rich/b.py": "", "rich/sub/c.py": ""})
    return manifest.observe(labs, labs)


def named(expected: Manifest, found: Manifest, **how: Any) -> list[str]:
    return [str(it) for it in manifest.differences(expected, found, **how)]


def test_the_same_environment_has_no_difference(image: Manifest, labs: Path) -> None:
    assert named(image, manifest.observe(labs, labs)) == []


def test_another_torch_is_named_with_both_versions(image: Manifest, site: Path, labs: Path) -> None:
    shutil.rmtree(site / f"torch-{TORCH}.dist-info")
    version = "__version__ = '2.15.0'\ncuda = None\n"
    install(site, "torch", "2.15.0", {"torch/__init__.py": "", "torch/version.py": version})
    assert named(image, manifest.observe(labs, labs)) == [
        f"torch: expected {TORCH}, found 2.15.0",
        f"torch's own version: expected {MODULE}, found 2.15.0",
        "torch's CUDA version: expected 13.4, found None",
    ]


def test_a_torch_that_hides_the_one_pip_knows_is_named(
    image: Manifest, site: Path, labs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    above = tmp_path / "above"
    above.mkdir()
    shutil.copytree(site / "torch", above / "torch")
    monkeypatch.setattr(sys, "path", [str(above), str(site)])
    assert named(image, manifest.observe(labs, labs)) == [
        f"torch's location: expected {site}/torch, found {above}/torch"
    ]


Change = Callable[[Path, Path], None]


def remove(site: Path, labs: Path) -> None:
    shutil.rmtree(site / "rich-15.0.0.dist-info")


def replace(site: Path, labs: Path) -> None:
    remove(site, labs)
    install(site, "rich", "14.0.0", {"rich/a.py": ""})


def rebuild(site: Path, labs: Path) -> None:
    install(site, "rich", "15.0.0", {"rich/a.py": "A = 100\n", "rich/b.py": ""})


def add(site: Path, labs: Path) -> None:
    install(site, "stray", "1.0", {"stray.py": ""})


def lose(site: Path, labs: Path) -> None:
    for name in ("a.py", "b.py"):
        (site / "rich" / name).unlink()
    shutil.rmtree(site / "rich" / "sub")


def edit_lesson(site: Path, labs: Path) -> None:
    (labs / "memory" / "README.md").write_text("other")


def edit_check(site: Path, labs: Path) -> None:
    (labs / "memory" / "checks.py").write_text("other")


def drop_lab(site: Path, labs: Path) -> None:
    shutil.rmtree(labs / "memory")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (remove, ["rich: missing"]),
        (replace, ["rich: expected 15.0.0, found 14.0.0"]),
        (rebuild, ["rich: other files of the same version"]),
        (add, ["stray: not in the manifest"]),
        (lose, ["rich: 3 files or folders missing, first rich/a.py"]),
        (edit_lesson, ["labs/memory: changed"]),
        (edit_check, ["keys of labs/memory: changed"]),
        (drop_lab, ["labs/memory: missing", "keys of labs/memory: missing"]),
    ],
)
def test_every_change_is_named(
    image: Manifest, site: Path, labs: Path, change: Change, said: list[str]
) -> None:
    change(site, labs)
    assert named(image, manifest.observe(labs, labs)) == said


def test_a_key_where_none_may_be_is_named(image: Manifest, labs: Path) -> None:
    expected = msgspec.structs.replace(image, keys={})
    assert named(expected, image) == ["keys of labs/memory: not in the manifest"]


@pytest.mark.parametrize(
    ("field", "before", "now", "said"),
    [
        ("python", "3.12.3", "3.12.9", "Python: expected 3.12.3, found 3.12.9"),
        ("machine", "aarch64", "x86_64", "machine: expected aarch64, found x86_64"),
        ("apt", {"libc6": "1"}, {"libc6": "2"}, "apt libc6: expected 1, found 2"),
        ("apt", {"libc6": "1"}, {}, "apt libc6: expected 1, found none"),
        ("apt", {}, {"gcc": "2"}, "apt gcc: not in the manifest, found 2"),
        ("settings", {"A": "1"}, {"A": "2"}, "setting A: expected 1, found 2"),
        ("settings", {}, {"A": "2"}, "setting A: not to be set, found 2"),
        ("code", "a", "b", "code: changed"),
        ("assets", "a", "b", "assets: changed"),
    ],
)
def test_every_other_field_is_compared(
    image: Manifest, field: str, before: object, now: object, said: str
) -> None:
    expected, found = (msgspec.structs.replace(image, **{field: it}) for it in (before, now))
    assert named(expected, found) == [said]


def test_another_machine_is_compared_in_libraries_torch_and_labs_alone(image: Manifest) -> None:
    """Its Python is in another place, and what the image's base brings is not there."""
    torch = msgspec.structs.replace(
        image, torch=identity.Torch(**{**vars_of(image.torch), "location": "/elsewhere"})
    )
    own = identity.Distribution("1.0", "r", [], own=True)
    expected = msgspec.structs.replace(
        image,
        distributions={**image.distributions, "ours": own},
        assets="trained elsewhere",
        keys={"memory": "k"},
        code="x",
    )
    found = msgspec.structs.replace(
        torch,
        python=".".join([*image.python.split(".")[:2], "99"]),
        distributions={"stray": own},
        apt={},
        settings={},
        keys={},
    )
    assert named(expected, found, whole=False) == ["torch: missing", "ours: missing"]
    there = msgspec.structs.replace(
        found,
        distributions={"ours": own, "torch": image.distributions["torch"]},
        labs={"memory": ""},
    )
    assert named(expected, there, whole=False) == ["labs/memory: changed"]


def vars_of(torch: identity.Torch | None) -> dict[str, Any]:
    assert torch is not None
    return dict(vars(torch))
