"""The spectrum of a learned update beside that of its weight, and the loss against the rank.

All of it is what the lesson's own code computes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from drawing import BLUE, GREEN, GREY, ORANGE, lesson, save
from matplotlib.figure import Figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def main() -> None:
    """Draw the lesson's two panels."""
    names = lesson("linear-algebra")
    figure = Figure(figsize=(8.0, 3.4))
    left, right = figure.subplots(1, 2)
    _spectra(left, names)
    _losses(right, names)
    save(figure, "labs/linear-algebra/update.svg")


def _spectra(axes: Axes, names: dict[str, Any]) -> None:
    place = range(1, len(names["of_weight"]) + 1)
    axes.plot(place, names["of_weight"].tolist(), ".", color=ORANGE, label="pretrained weight W")
    axes.plot(place, names["of_update"].tolist(), ".", color=BLUE, label="learned update")
    axes.set(title="Singular values, largest first", xlabel="number", ylim=(0, None))
    axes.legend()


def _losses(axes: Axes, names: dict[str, Any]) -> None:
    W, update, new = names["W"], names["full"], names["new"]  # noqa: N806 - the field's name
    ranks = list(range(1, min(W.shape) + 1))
    cut = [float(names["loss_of"](names["cut"](W + update, r), *new)) for r in ranks]
    axes.axhline(names["untrained"], color=GREY, linestyle=":")
    axes.text(48, names["untrained"], "before training", color=GREY, ha="right", va="bottom")
    axes.axhline(names["trained"], color=GREEN, linestyle="--")
    axes.text(48, names["trained"] - 0.03, "full fine-tuning", color=GREEN, ha="right", va="top")
    axes.plot(ranks, cut, color=ORANGE, label="fine-tuned weight, cut to rank r")
    lora = {r: losses[0] for r, losses in names["results"].items()}
    axes.plot(list(lora), list(lora.values()), "o-", color=BLUE, label="W + LoRA of rank r")
    axes.set(title="Loss on new data", xlabel="rank r", ylim=(0.8, 2.7))
    axes.legend()


if __name__ == "__main__":
    main()
