"""The loss, step by step, as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")

from matplotlib.figure import Figure

Points = Sequence[tuple[int, float]]
"""Steps and losses, in nats per token."""


def draw(train: Points, held_out: Points, title: str, file: Path) -> None:
    """Write the picture: a thin line for batches, dots for the held-out rows."""
    figure = Figure(figsize=(7, 4), layout="constrained", facecolor="white")
    axes = figure.subplots()
    axes.plot(*zip(*train, strict=True), color="tab:gray", linewidth=1, label="training batches")
    axes.plot(
        *zip(*held_out, strict=True), "o-", color="tab:blue", markersize=4, label="held-out rows"
    )
    axes.set(title=title, xlabel="step", ylabel="loss (nats per token of the answer)")
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    figure.savefig(file, dpi=120)
