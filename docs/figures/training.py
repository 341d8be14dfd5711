"""The training lesson's figure: the loss of one prediction over its probability."""

from __future__ import annotations

import numpy as np
from drawing import BLUE, GREY, save, solution
from matplotlib import pyplot as plt

MARKED = (0.9, 0.5, 0.1, 0.01)  # the lesson's table


def main() -> None:
    """Draw it."""
    loss_from_probability = solution("training").loss_from_probability
    p = np.geomspace(0.004, 1, 400)
    figure, axes = plt.subplots()
    axes.plot(p, [loss_from_probability(x) for x in p], color=BLUE, linewidth=2)
    axes.plot([0, 1], [1, 0], color=GREY, linestyle="--", linewidth=1)
    axes.text(0.31, 0.57, "1 - p, for comparison", color=GREY, ha="right", va="top")
    for x in MARKED:
        loss = loss_from_probability(x)
        axes.plot(x, loss, "o", color=BLUE)
        axes.annotate(f"p = {x:g}: {loss:.3f}", (x, loss), (8, 5), textcoords="offset points")
    axes.set_xlim(0, 1.05)
    axes.set_ylim(0, 5.5)
    axes.set_xlabel("probability p that the model gave the right token")
    axes.set_ylabel("loss = -ln(p), in nats")
    save(figure, "labs/training/loss.svg")


if __name__ == "__main__":
    main()
