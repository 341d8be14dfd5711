"""Draws what padding, truncation and -100 make of three texts, with eos as the pad token."""

from __future__ import annotations

from typing import TYPE_CHECKING

import datasets
import drawing
import matplotlib.pyplot as plt
from matplotlib.patches import Rectangle
from transformers import DataCollatorForLanguageModeling

from verify.tiny import END, tiny_tokenizer

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TEXTS = (
    f"the cat sat {END}",
    f"a dog ran home {END}",
    f"the cat and the dog ran home to sleep {END}",
)
LENGTH = 7
IGNORED = "-100"

Cell = tuple[str, str]
"""What is written in a cell, and the colour behind it."""


def draw() -> None:
    """Tokenize and collate the texts with the lab's solution, and draw what came back."""
    datasets.disable_progress_bars()
    lab = drawing.solution("huggingface")
    words = sorted({word for text in TEXTS for word in text.split()} - {END})
    tokenizer = tiny_tokenizer(words)
    tokenizer.pad_token = tokenizer.eos_token
    rows = list(lab.tokenize(datasets.Dataset.from_dict({"text": list(TEXTS)}), tokenizer, LENGTH))
    masks = [row["attention_mask"] for row in rows]
    tokens = [tokenizer.convert_ids_to_tokens(row["input_ids"]) for row in rows]
    lost = [text.split()[LENGTH:] for text in TEXTS]

    figure, axes = plt.subplots(4, 1, figsize=(7.0, 5.6))
    _grid(axes[0], f"input_ids: padded or cut to {LENGTH} tokens", _inputs(tokens, masks), lost)
    _grid(axes[1], "attention_mask: 0 on the padding", _masks(masks))
    by_library = DataCollatorForLanguageModeling(tokenizer, mlm=False)(rows)["labels"].tolist()
    by_mask = lab.make_collator(tokenizer)(rows)["labels"].tolist()
    for place, title, labels in (
        (
            axes[2],
            "labels of the library's collator: told by the id, the real ends go too",
            by_library,
        ),
        (axes[3], "labels told by the attention mask: the real ends stay", by_mask),
    ):
        _grid(place, title, _labels(labels, tokens, masks))
    drawing.save(figure, "labs/huggingface/batch.svg")


def _inputs(tokens: list[list[str]], masks: list[list[int]]) -> list[list[Cell]]:
    return [
        [(token, _colour(token) if kept else "#dddddd") for token, kept in zip(*row, strict=True)]
        for row in zip(tokens, masks, strict=True)
    ]


def _masks(masks: list[list[int]]) -> list[list[Cell]]:
    return [[(str(one), "#cfe3f1" if one else "#dddddd") for one in row] for row in masks]


def _labels(
    labels: list[list[int]], tokens: list[list[str]], masks: list[list[int]]
) -> list[list[Cell]]:
    """Return the cells of labels; a token that is text and yet has no label stands out."""
    cells = []
    for row in zip(labels, tokens, masks, strict=True):
        line = []
        for label, token, kept in zip(*row, strict=True):
            hidden = drawing.ORANGE if kept else "#dddddd"
            line.append((IGNORED, hidden) if label == -100 else (token, _colour(token)))
        cells.append(line)
    return cells


def _colour(token: str) -> str:
    return "#8fd3bd" if token == END else "#cfe3f1"


def _grid(
    axes: Axes, title: str, cells: list[list[Cell]], lost: list[list[str]] | None = None
) -> None:
    """Draw rows of cells; what is ``lost`` of a row stands behind it, struck through."""
    widest = len(cells[0]) + max(len(row) for row in lost or [[]])
    for y, row in enumerate(cells):
        for x, (text, colour) in enumerate(row):
            axes.add_patch(Rectangle((x, y), 1, 1, facecolor=colour, edgecolor="white", lw=2))
            ink = "white" if colour == drawing.ORANGE else "black"
            axes.text(x + 0.5, y + 0.5, text, ha="center", va="center", fontsize=9, color=ink)
        for x, word in enumerate(lost[y] if lost else [], len(row)):
            axes.text(x + 0.5, y + 0.5, word, ha="center", va="center", fontsize=9,
                      color=drawing.GREY)  # fmt: skip
            axes.plot([x + 0.15, x + 0.85], [y + 0.5, y + 0.5], color=drawing.ORANGE, lw=1.5)
    axes.set(title=title, xlim=(0, max(widest, 10)), ylim=(len(cells), 0))
    axes.axis("off")


if __name__ == "__main__":
    draw()
