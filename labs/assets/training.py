"""The trained model: a small Llama, from random weights to right answers in a minute on a CPU."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import torch
from torch import Tensor
from torch.nn import functional
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerBase

from labs.assets import form
from labs.assets.rows import Row

_IGNORED: Final = -100
_THREADS: Final = 2  # sums of another order are other sums: the number is not left to the machine


@dataclasses.dataclass(frozen=True)
class Plan:
    """How the model is trained.

    Attributes:
        epochs: How often it sees each row.
        batch: Rows in a step.
        rate: The highest learning rate: it rises for ``warm`` steps, then falls to nothing.
        warm: Steps.
        seed: Decides the first weights and the order of the rows.
    """

    epochs: int = 16
    batch: int = 24
    rate: float = 1.2e-3
    warm: int = 20
    seed: int = 0


@dataclasses.dataclass(frozen=True)
class Example:
    """The tokens of a row: its prompt's, and its answer's with the end token."""

    prompt: list[int]
    answer: list[int]

    def __len__(self) -> int:
        return len(self.prompt) + len(self.answer)


def train(
    rows: Sequence[Row],
    tokenizer: PreTrainedTokenizerBase,
    plan: Plan,
    hear: Callable[[int, int, float], None],
) -> LlamaForCausalLM:
    """Return a model trained on ``rows``: float32, in evaluation mode, on the CPU.

    Args:
        rows: What it is to learn.
        tokenizer: One with a padding token.
        plan: How.
        hear: Called after each step with its number, how many there are, and its loss in nats.
    """
    torch.set_num_threads(_THREADS)
    torch.use_deterministic_algorithms(mode=True)
    torch.manual_seed(plan.seed)
    model = build(tokenizer)
    batches = list(_batches([encode(row, tokenizer) for row in rows], plan))
    optimizer = torch.optim.AdamW(_groups(model), lr=plan.rate, betas=(0.9, 0.98))
    model.train()
    for step, batch in enumerate(batches):
        for group in optimizer.param_groups:
            group["lr"] = plan.rate * min((step + 1) / plan.warm, 1 - step / len(batches))
        loss = answer_loss(model, batch)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        hear(step + 1, len(batches), loss.item())
    model.train(mode=False)
    return model


def build(tokenizer: PreTrainedTokenizerBase) -> LlamaForCausalLM:
    """Return the model as it is before its training: a Llama of a million random parameters."""
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=160,
        intermediate_size=448,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=tokenizer.model_max_length,
        initializer_range=0.05,
        tie_word_embeddings=True,  # a fifth of all parameters is saved
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model: LlamaForCausalLM = LlamaForCausalLM(config)
    return model


def encode(row: Row, tokenizer: PreTrainedTokenizerBase) -> Example:
    """Return the tokens of ``row``; together they are those of its text."""
    prompt = tokenizer(form.prompt(row.instruction, row.input)).input_ids
    return Example(prompt, [*tokenizer(row.output).input_ids, tokenizer.eos_token_id])


def answer_loss(model: Any, examples: Sequence[Example]) -> Tensor:
    """Return the mean loss, in nats, of the tokens of the answers; the prompts are not learned."""
    length = max(len(it) for it in examples)
    ids = torch.zeros(len(examples), length, dtype=torch.long)
    labels = torch.full_like(ids, _IGNORED)
    for row, it in enumerate(examples):
        ids[row, : len(it)] = torch.tensor([*it.prompt, *it.answer])
        labels[row, len(it.prompt) : len(it)] = torch.tensor(it.answer)
    # What fills a row up stands after it: no token that counts sees it, and no mask is needed.
    logits = model(input_ids=ids).logits[:, :-1].float()
    return functional.cross_entropy(
        logits.flatten(0, 1), labels[:, 1:].flatten(), ignore_index=_IGNORED
    )


def _groups(model: Any) -> list[dict[str, Any]]:
    """Return the parameters with weight decay, and those without: the gains of the norms."""
    parameters = list(model.parameters())
    return [
        {"params": [it for it in parameters if it.ndim > 1], "weight_decay": 0.5},
        {"params": [it for it in parameters if it.ndim == 1], "weight_decay": 0.0},
    ]


def _batches(examples: Sequence[Example], plan: Plan) -> Iterator[list[Example]]:
    """Yield the batches of all epochs; rows of like length are together, so little is padding."""
    drawn = torch.Generator().manual_seed(plan.seed)
    for _ in range(plan.epochs):
        order = torch.randperm(len(examples), generator=drawn).tolist()
        order.sort(key=lambda it: len(examples[it]) // 4)
        count = math.ceil(len(order) / plan.batch)
        for number in torch.randperm(count, generator=drawn).tolist():
            chosen = order[number * plan.batch : (number + 1) * plan.batch]
            yield [examples[it] for it in chosen]
