"""Where things are: below the project, or where an image puts them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import PROJECT
from verify.lab import layout as places
from verify.lab.layout import InImage, Layout


def test_a_checkout_is_no_image() -> None:
    assert places.here() == Layout(PROJECT)
    assert not isinstance(places.here(), InImage)
    assert places.here().assets == PROJECT / ".lab" / "assets"


def test_a_manifest_makes_it_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "__file__", str(tmp_path / "verify" / "lab" / "layout.py"))
    (tmp_path / "manifest.json").touch()
    inside = places.here()
    assert isinstance(inside, InImage)
    assert list(inside.runners.values()) == [Path("/run/lab/runner.sock")]
    assert inside.assets == tmp_path / "assets"


def test_the_container_runner_is_asked_first(layout: Layout) -> None:
    assert list(layout.runners) == ["compose", "local"]


def test_keys_are_where_checks_are(layout: Layout) -> None:
    assert layout.holds_keys
    for file in layout.labs.glob("*/checks.py"):
        file.unlink()
    assert not layout.holds_keys


def test_compose_mounts_what_the_image_expects() -> None:
    told = (PROJECT / "compose.yaml").read_text()
    inside = InImage(Path("/opt/lab"))
    for place in (inside.workspace, inside.run, inside.results.parent, inside.state.parent):
        assert f":{place}" in told
