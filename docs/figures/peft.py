"""LoRA's shapes to scale, and what share of a real model it trains: `labs/peft/lora.svg`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from drawing import BLUE, GREEN, GREY, ORANGE, save
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from transformers import LlamaConfig, LlamaForCausalLM

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WIDTH, RANK = 4096, 64
RANKS = [1, 2, 4, 8, 16, 32, 64, 128, 256]
ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
TARGETS = {
    "all linear layers": (*ATTENTION, "gate_proj", "up_proj", "down_proj"),
    "q, k, v, o": ATTENTION,
    "q, v": ("q_proj", "v_proj"),
}


def main() -> None:
    """Draw the two panels and write the picture."""
    figure = Figure(figsize=(9.0, 3.4), layout="constrained")
    shapes, shares = figure.subplots(1, 2, width_ratios=(1.6, 1))
    draw_shapes(shapes)
    draw_shares(shares)
    save(figure, "labs/peft/lora.svg")


def draw_shapes(axes: Axes) -> None:
    """Draw W, B and A of one layer, all to the same scale."""
    gap = WIDTH // 5
    left_of_b = WIDTH + 2 * gap
    left_of_a = left_of_b + RANK + gap // 2
    axes.add_patch(Rectangle((0, 0), WIDTH, WIDTH, color=GREY, linewidth=0))
    axes.add_patch(Rectangle((left_of_b, 0), RANK, WIDTH, color=ORANGE, linewidth=0))
    axes.add_patch(Rectangle((left_of_a, WIDTH - RANK), WIDTH, RANK, color=BLUE, linewidth=0))
    middle, share = left_of_a + WIDTH / 2, RANK * 2 * WIDTH / WIDTH**2
    axes.text(WIDTH / 2, WIDTH / 2, f"W, frozen\n{WIDTH} by {WIDTH}", ha="center", va="center",
              color="white")  # fmt: skip
    axes.text(WIDTH + gap, WIDTH / 2, "+", ha="center", va="center", fontsize=16)
    axes.text(middle, WIDTH - 4 * RANK, f"A, {RANK} by {WIDTH}", ha="center", va="top", color=BLUE)
    axes.text(left_of_a, 0, f"B, {WIDTH} by {RANK}", va="bottom", color=ORANGE)
    axes.text(middle, WIDTH / 2, f"A and B: {share:.1%} of\nthe numbers of W", ha="center",
              va="center")  # fmt: skip
    axes.set(xlim=(-60, left_of_a + WIDTH + 60), ylim=(-60, WIDTH + 60), aspect="equal")
    axes.set_title(f"One layer, an adapter of rank {RANK}, to scale")
    axes.axis("off")


def draw_shares(axes: Axes) -> None:
    """Draw the trained share of an 8B Llama against the rank, for three choices of layers."""
    model = eight_billion()
    total = sum(parameter.numel() for parameter in model.parameters())
    sums = {name: inputs_and_outputs(model, leaves) for name, leaves in TARGETS.items()}
    for (name, each), colour in zip(sums.items(), (GREEN, BLUE, ORANGE), strict=True):
        shares = [100 * r * each / (total + r * each) for r in RANKS]
        axes.plot(RANKS, shares, marker="o", markersize=3, color=colour, label=name)
    axes.set(xscale="log", yscale="log", xlabel="rank r", ylabel="trained, % of all parameters")
    axes.set_xticks(RANKS, [str(r) for r in RANKS])
    axes.set_yticks([0.01, 0.1, 1, 10], ["0.01", "0.1", "1", "10"])
    axes.minorticks_off()
    axes.grid(color="#dddddd", linewidth=0.6)
    axes.set_title("Adapters on a Llama of 8 billion")
    axes.legend(loc="upper left")


def eight_billion() -> LlamaForCausalLM:
    """Return a Llama of 8 billion parameters on the meta device: shapes without contents."""
    config = LlamaConfig(
        vocab_size=128_256,
        hidden_size=4096,
        intermediate_size=14_336,
        num_hidden_layers=32,
        num_attention_heads=32,
        num_key_value_heads=8,
    )
    with torch.device("meta"):
        return LlamaForCausalLM(config)


def inputs_and_outputs(model: torch.nn.Module, leaves: tuple[str, ...]) -> int:
    """Return the sum of in + out over the layers with these names: an adapter's size per rank."""
    layers = [m for name, m in model.named_modules() if name.rpartition(".")[2] in leaves]
    return sum(layer.in_features + layer.out_features for layer in layers)


if __name__ == "__main__":
    main()
