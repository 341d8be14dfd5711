"""From scores to attention weights, for one head of a real small model: what the mask does."""

from __future__ import annotations

from typing import Final

import matplotlib.pyplot as plt
import torch
from drawing import GREY, save
from matplotlib.axes import Axes
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

WORDS: Final = ("The", "cat", "sat", "on", "the", "mat")
HEAD: Final = 0


def main() -> None:
    """Draw the three steps beside each other."""
    scores, weights = attention_of_a_head()
    later = torch.ones_like(scores, dtype=torch.bool).triu(1)
    figure, panels = plt.subplots(1, 3, figsize=(10.0, 3.9), sharey=True)
    draw(panels[0], scores, "1. scores: q · k / √width", "PuOr_r", 2.0)
    draw(panels[1], scores, "2. later tokens hidden", "PuOr_r", 2.0, hidden=later)
    draw(panels[2], weights, "3. softmax: each row adds up to 1", "Oranges", 1.0, hidden=later)
    panels[0].set_ylabel("query: the token that looks")
    for panel in panels:
        panel.set_xlabel("key: the token looked at")
    save(figure, "labs/transformers/attention.svg")


def attention_of_a_head() -> tuple[Tensor, Tensor]:
    """Return a head's scores (T, T) in the first layer and the weights the model makes of them.

    The model is untrained: what is shown is how the weights come about, not what they mean.
    """
    torch.manual_seed(4)
    config = LlamaConfig(
        vocab_size=len(WORDS),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=4,
        num_key_value_heads=2,
        initializer_range=0.2,
        attn_implementation="eager",  # the one that can show its weights
    )
    model = LlamaForCausalLM(config).eval()
    tokens = torch.arange(len(WORDS)).unsqueeze(0)
    with torch.no_grad():
        weights = model(tokens, output_attentions=True).attentions[0][0, HEAD]
        scores = scores_of(model, tokens)[HEAD]
    hidden = torch.ones_like(scores, dtype=torch.bool).triu(1)
    torch.testing.assert_close(scores.masked_fill(hidden, float("-inf")).softmax(-1), weights)
    return scores, weights


def scores_of(model: LlamaForCausalLM, tokens: Tensor) -> Tensor:
    """Return the first layer's scores before the mask, (heads, T, T)."""
    layer, embedded = model.model.layers[0], model.model.embed_tokens(tokens)
    block, x = layer.self_attn, layer.input_layernorm(embedded)
    q, k = (
        projection(x).unflatten(-1, (-1, block.head_dim)).transpose(1, 2)
        for projection in (block.q_proj, block.k_proj)
    )
    angles = model.model.rotary_emb(x, torch.arange(tokens.shape[1]).unsqueeze(0))
    q, k = apply_rotary_pos_emb(q, k, *angles)
    k = k.repeat_interleave(block.num_key_value_groups, dim=1)
    scores: Tensor = q @ k.transpose(-2, -1) * block.scaling
    return scores[0]


def draw(
    panel: Axes,
    values: Tensor,
    title: str,
    colours: str,
    top: float,
    hidden: Tensor | None = None,
) -> None:
    """Draw a (query, key) table of numbers, rounded as they are written; -∞ or 0 where hidden."""
    rounded = values.double().mul(100).round().div(100)
    if hidden is not None:
        rounded = rounded.masked_fill(hidden, float("nan"))
    panel.pcolormesh(rounded.numpy(), cmap=colours, vmin=0.0 if top == 1.0 else -top, vmax=top)
    for row, column in torch.cartesian_prod(*[torch.arange(len(WORDS))] * 2).tolist():
        value = rounded[row, column].item()
        nothing = "0" if top == 1.0 else "-∞"
        text, colour = (nothing, GREY) if value != value else (f"{value:.2f}", "black")
        if abs(value) > 0.7 * top:
            colour = "white"
        x, y = column + 0.5, row + 0.5
        panel.text(x, y, text, color=colour, ha="center", va="center", fontsize=8)
    middles = [i + 0.5 for i in range(len(WORDS))]
    panel.set(title=title, aspect="equal", ylim=(len(WORDS), 0))
    panel.set_xticks(middles, WORDS)
    panel.set_yticks(middles, WORDS)
    panel.tick_params(length=0)
    panel.spines[:].set_visible(False)


if __name__ == "__main__":
    main()
