"""Each figure is what its script draws, byte for byte, and stands in a lesson."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import matplotlib as mpl
import pytest

from tests.conftest import PROJECT

SCRIPTS = sorted(
    file for file in (PROJECT / "docs" / "figures").glob("*.py") if file.stem != "drawing"
)
FIGURES = sorted(
    file.relative_to(PROJECT)
    for pattern in ("*/*.svg", "*/*.png", "*/*.jpg")
    for file in (PROJECT / "labs").glob(pattern)
)
SETTINGS = "font.size: 31\nsvg.fonttype: none\nfigure.facecolor: black\nsvg.hashsalt: other\n"


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[Path, bytes]]:
    """What each script draws into an empty folder, by the figure's place in the project."""
    return {script.stem: _draw(script, tmp_path_factory.mktemp("figures")) for script in SCRIPTS}


def _draw(script: Path, folder: Path) -> dict[Path, bytes]:
    """Run a script beside settings for matplotlib that would change every figure."""
    (folder / "matplotlibrc").write_text(SETTINGS, "utf-8")
    came = subprocess.run(
        [sys.executable, script, "--output", folder / "out"],
        cwd=folder,
        capture_output=True,
        check=False,
    )
    assert came.returncode == 0, came.stderr.decode()
    out = folder / "out"
    return {file.relative_to(out): file.read_bytes() for file in out.rglob("*") if file.is_file()}


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_a_script_draws_what_is_committed(
    script: Path, drawn: dict[str, dict[Path, bytes]]
) -> None:
    assert drawn[script.stem]
    for figure, content in drawn[script.stem].items():
        assert figure.parent == Path("labs", script.stem)
        committed = (PROJECT / figure).read_bytes()
        version = re.search(rb"Matplotlib v([0-9.]+)", committed)
        assert version is not None
        assert version[1].decode() == mpl.__version__, "matplotlib is another: draw it again"
        assert content == committed, f"python docs/figures/{script.name}"


def test_every_figure_of_a_lab_has_its_script(drawn: dict[str, dict[Path, bytes]]) -> None:
    assert FIGURES
    assert set(FIGURES) == {figure for figures in drawn.values() for figure in figures}


@pytest.mark.parametrize("figure", FIGURES, ids=str)
def test_a_figure_stands_in_its_lesson_with_what_is_seen_on_it(figure: Path) -> None:
    lesson = (PROJECT / figure).with_name("README.md").read_text("utf-8")
    told = re.findall(rf"^!\[([^\]]+)\]\({re.escape(figure.name)}\)$", lesson, re.MULTILINE)
    assert len(told) == 1, figure
    assert len(told[0].split()) >= 10, "the alternative text says what is seen"


@pytest.mark.parametrize("figure", FIGURES, ids=str)
def test_a_figure_is_light_enough_for_a_page(figure: Path) -> None:
    assert (PROJECT / figure).stat().st_size < 300_000
