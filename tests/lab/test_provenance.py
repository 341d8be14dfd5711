"""What an image says of where it comes from, and on which base it is built again."""

from __future__ import annotations

import shutil

import pytest

from tests.conftest import PROJECT
from tests.lab.conftest import Said
from verify.lab import base_image, image, provenance
from verify.lab.build_troubles import NoBase
from verify.lab.layout import Layout

PINNED = "python:3.11-slim@sha256:" + "1" * 64
CONSERVATIVE = "nvcr.io/nvidia/pytorch:25.11-py3@sha256:" + "2" * 64


@pytest.fixture
def project(layout: Layout) -> Layout:
    """A project with a Dockerfile and two bases to choose from."""
    folder = layout.root / "images" / "gpu"
    folder.mkdir(parents=True)
    layout.locks.mkdir()
    (layout.locks / "lab.lock").write_text("a==1\n")
    (folder / "Dockerfile").write_text(f"ARG BASE={PINNED}\nFROM ${{BASE}}\n")
    (folder / "bases.toml").write_text(
        f'["26.08"]\nreference = "{PINNED}"\n["25.11"]\narm64 = "{CONSERVATIVE}"\namd64 = "x@y"\n'
    )
    return layout


def test_the_base_is_told_by_its_digest(project: Layout) -> None:
    told = provenance.labels(project, "gpu", None)
    assert told["org.opencontainers.image.base.digest"] == "sha256:" + "1" * 64
    told = provenance.labels(project, "gpu", "a-base-of-ones-own:latest")
    assert "org.opencontainers.image.base.digest" not in told  # it has none


def test_a_name_stands_for_the_reference_of_its_platform(project: Layout) -> None:
    assert provenance.named_base(project, "gpu", "26.08", "linux/arm64") == PINNED
    assert provenance.named_base(project, "gpu", "25.11", "linux/arm64") == CONSERVATIVE
    assert provenance.named_base(project, "gpu", "25.11", "linux/amd64") == "x@y"
    assert provenance.named_base(project, "gpu", "mine:1", None) == "mine:1"
    assert provenance.named_base(project, "cpu", "26.08", None) == "26.08"


@pytest.mark.parametrize(
    ("last", "again"),
    [
        ("", None),  # there is no image
        ("finetune-lab-base:bookworm", "finetune-lab-base:bookworm"),
        (CONSERVATIVE, CONSERVATIVE),  # asked for by name, and still offered
        ("python:3.10-slim@sha256:" + "0" * 64, None),  # pinned by an earlier Dockerfile
    ],
)
def test_an_image_is_built_again_on_the_base_that_was_chosen(
    project: Layout, monkeypatch: pytest.MonkeyPatch, last: str, again: str | None
) -> None:
    monkeypatch.setattr(image, "labels_of", lambda _: {provenance.BASE: last})
    assert image.base_of(project, "gpu") == again


@pytest.mark.parametrize(
    "changed",
    ["tasks.py", "verify/judge.py", "labs/double/checks.py", "images/gpu/Dockerfile",
     "images/locks/lab.lock", "images/install.sh"],
)  # fmt: skip
def test_whatever_goes_into_an_image_makes_it_out_of_date(project: Layout, changed: str) -> None:
    file = project.root / changed
    file.parent.mkdir(exist_ok=True)
    before = provenance.content(project, "gpu")
    file.write_text("something else")
    assert provenance.content(project, "gpu") != before


@pytest.mark.parametrize("changed", ["README.md", "workspace/x", "verify/__pycache__/a.pyc"])
def test_nothing_else_does(project: Layout, changed: str) -> None:
    before = provenance.content(project, "gpu")
    (project.root / changed).parent.mkdir(exist_ok=True, parents=True)
    (project.root / changed).write_text("something else")
    assert provenance.content(project, "gpu") == before


def test_an_unknown_variant_is_wrong_usage(project: Layout) -> None:
    with pytest.raises(image.Misuse, match="There is no variant `tpu`"):
        image.build(project, None, image.Wanted("tpu"))  # type: ignore[arg-type]


def test_both_dockerfiles_pin_their_base_by_digest() -> None:
    for variant in image.VARIANTS:
        assert "@sha256:" in provenance._pinned_base(Layout(PROJECT), variant)
    assert shutil.which("git") is None or provenance._revision(Layout(PROJECT))


@pytest.mark.parametrize(
    ("variant", "tool", "built_on"),
    [
        ("cpu", True, [None, base_image.NAME]),
        ("cpu", False, [None]),
        ("gpu", True, [None]),  # Debian has no torch of NVIDIA's
    ],
)
def test_where_no_registry_answers_the_cpu_image_stands_on_debians_packages(
    project: Layout,
    monkeypatch: pytest.MonkeyPatch,
    variant: str,
    tool: bool,
    built_on: list[str | None],
) -> None:
    tried: list[str | None] = []

    def build(layout: Layout, steps: Said, wanted: image.Wanted) -> None:
        tried.append(wanted.base)
        if wanted.base is None:
            raise NoBase("The base image could not be fetched.")

    monkeypatch.setattr(image, "build", build)
    monkeypatch.setattr(image, "labels_of", lambda _: {})
    monkeypatch.setattr(base_image, "can_be_made", lambda: tool)
    monkeypatch.setattr(base_image, "build", lambda _: None)
    monkeypatch.setattr(image.containers, "images", dict)
    if len(built_on) == 1:
        with pytest.raises(NoBase):
            image.build_somehow(project, Said(), variant)
    else:
        image.build_somehow(project, Said(), variant)
    assert tried == built_on
