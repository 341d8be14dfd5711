"""The DPO loss against the margin, and what the lesson's tiny run does to the two answers.

The loss is the reference solution's; the run is the one in the lesson.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from drawing import BLUE, GREEN, GREY, ORANGE, PURPLE, lesson, save, solution
from matplotlib.figure import Figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SKILL = "reinforcement-learning"


def main() -> None:
    """Draw the lesson's two panels."""
    figure = Figure(figsize=(8.0, 3.4))
    left, right = figure.subplots(1, 2)
    _loss(left)
    _run(right, lesson(SKILL))
    save(figure, f"labs/{SKILL}/dpo.svg")


def _loss(axes: Axes) -> None:
    dpo_loss = solution(SKILL).dpo_loss
    zero = torch.zeros(1, dtype=torch.float64)
    margins = torch.linspace(-5, 5, 101, dtype=torch.float64)
    losses, weights = [], []
    for margin in margins:
        chosen = margin[None].clone().requires_grad_()
        loss = dpo_loss(chosen, zero, zero, zero, 1.0)
        loss.backward()
        losses.append(loss.item())
        weights.append(-chosen.grad.item())
    axes.plot(margins.tolist(), losses, color=BLUE, label="loss of a pair")
    axes.plot(margins.tolist(), weights, color=PURPLE, linestyle="--", label="weight of a pair")
    axes.plot([0], [losses[50]], "o", color=BLUE)
    axes.annotate("ln 2: the start", (0, losses[50]), (0.5, 1.2), color=GREY)
    axes.set(title="The DPO loss", xlabel="margin", ylim=(0, None))
    axes.legend(loc="upper right")


def _run(axes: Axes, names: dict[str, Any]) -> None:
    _, margin, _, chosen, rejected = zip(*names["history"], strict=True)
    axes.plot(margin, color=BLUE, label="margin")
    axes.plot(chosen, color=GREEN, label="P(chosen)")
    axes.plot(rejected, color=ORANGE, label="P(rejected)")
    axes.set(title="The run below", xlabel="step", ylim=(0, 1.3))
    axes.legend(loc="center right")


if __name__ == "__main__":
    main()
