"""What all figures share: one look, and one way of writing them: the same bytes each time.

A figure's script draws from what its lab computes and ends in `save`. ``python
docs/figures/<skill>.py`` rewrites the picture beside the lesson; ``--output DIR`` writes it into
another folder instead, where ``tests/labs/test_figures.py`` compares it with the committed one.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import io
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import matplotlib as mpl
from cycler import cycler

if TYPE_CHECKING:
    from types import ModuleType

    from matplotlib.figure import Figure

PROJECT: Final = Path(__file__).resolve().parents[2]

# Python looks for modules in a script's own folder first, and here some are called like libraries:
# whatever is imported after this module is the library.
sys.path[:] = [entry for entry in sys.path if Path(entry).resolve() != PROJECT / "docs/figures"]

# Told apart with any colour vision (Okabe and Ito); grey is for what stands aside.
BLUE, ORANGE, GREEN, PURPLE, GREY = "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#777777"

mpl.use("Agg")
mpl.rcdefaults()  # whatever a person's matplotlibrc says
mpl.rcParams.update(
    {
        "figure.figsize": (7.0, 3.6),  # inches
        "figure.constrained_layout.use": True,
        "figure.facecolor": "white",
        "savefig.facecolor": "white",
        "svg.hashsalt": "finetune-lab",  # else the names inside a picture are drawn by lot
        "svg.fonttype": "path",  # the letters as they are here, whatever fonts a reader has
        "font.size": 10,
        "axes.prop_cycle": cycler(color=[BLUE, ORANGE, GREEN, PURPLE, GREY]),
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.titlesize": "medium",
        "axes.titlelocation": "left",
        "legend.frameon": False,
    }
)


def save(figure: Figure, path: str | Path) -> Path:
    """Write ``figure`` as SVG, the same bytes on each run, and return where it is.

    Args:
        figure: What is drawn.
        path: Its place in the project, such as ``"labs/training/loss.svg"``. With ``--output DIR``
            on the command line it is written to that place inside DIR instead.
    """
    place = Path(path)
    if place.is_absolute():
        place = place.relative_to(PROJECT)
    target = _output() / place
    target.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(target, format="svg", metadata={"Date": None})
    return target


def solution(skill: str) -> ModuleType:
    """Return the reference solution of a lab, so that a picture shows what it computes."""
    file = PROJECT / "labs" / skill / "solution.py"
    spec = importlib.util.spec_from_file_location("solution", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def lesson(skill: str) -> dict[str, Any]:
    """Run the Python of a lab's lesson and return its names: a picture of what the reader sees."""
    text = (PROJECT / "labs" / skill / "README.md").read_text("utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    names: dict[str, Any] = {"__name__": "lesson"}
    with contextlib.redirect_stdout(io.StringIO()):
        exec("\n".join(blocks), names)  # noqa: S102 - the project's own lesson
    return names


def _output() -> Path:
    """Return the folder that stands for the project's: ``--output``, or the project itself."""
    parser = argparse.ArgumentParser(description="Draw the figures of a lesson.")
    parser.add_argument("--output", type=Path, default=PROJECT, metavar="DIR")
    folder = parser.parse_args().output
    assert isinstance(folder, Path)
    return folder
