"""What the model answers to prompts it was not trained on, before and after."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import torch
from rich.table import Table
from rich.text import Text

from labs.quickstart import model as models
from labs.quickstart.plan import Precision
from labs.quickstart.rows import Example

COUNT: Final = 6
_SPARE, _MOST = 16, 128  # tokens more than the longest wanted answer has; tokens in all


def chosen(examples: Sequence[Example]) -> list[Example]:
    """Return a few of them, spread evenly."""
    step = max(1, len(examples) // COUNT)
    return list(examples[::step][:COUNT])


def answer(model: Any, tokenizer: Any, examples: Sequence[Example], how: Precision) -> list[str]:
    """Return the model's answers, each the likeliest token after the other (greedy)."""
    model.eval()
    limit = min(_MOST, _SPARE + max(sum(it >= 0 for it in row.labels) for row in examples))
    where, told = model.device, []
    with models.computing(torch.device(where.type), how):
        for row in examples:
            asked = tokenizer(row.prompt, add_special_tokens=False, return_tensors="pt").to(where)
            said = model.generate(
                input_ids=asked.input_ids,
                attention_mask=asked.attention_mask,
                max_new_tokens=limit,
                do_sample=False,
                use_cache=True,
                eos_token_id=tokenizer.eos_token_id,
                pad_token_id=tokenizer.pad_token_id,
            )
            new = said[0, asked.input_ids.shape[1] :]
            told.append(tokenizer.decode(new, skip_special_tokens=True).strip())
    return told


def side_by_side(compared: Sequence[dict[str, str]]) -> Table:
    """Return prompts and answers, as a report has them, as a table."""
    made = Table(show_lines=True, expand=True)
    for title in ("held-out prompt", "before", "after"):
        made.add_column(title, ratio=1, overflow="fold")
    for row in compared:
        made.add_row(*(Text(row[title].strip()) for title in ("prompt", "before", "after")))
    return made
