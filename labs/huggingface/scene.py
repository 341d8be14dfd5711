"""The scenes of the Hugging Face lab: folders, tokenizers and rows, and what is made of them.

Public and free of answers. What is written lies in a folder that goes with the scene, and so do the
libraries' caches, which have settled on another place when they were imported.
"""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import functools
import itertools
import json
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import datasets
from datasets import Dataset
from huggingface_hub import constants
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from verify.plain import Raised
from verify.scene import attempt

Exercise = SimpleNamespace
Row = dict[str, str]


# ------------------------------------------------------------------------------- data in a folder
def loaded(exercise: Exercise, folders: list[dict[str, Any]]) -> list[Any]:
    """Return what `load_examples` gives for each folder and its ``n``.

    A folder is its ``files``: from a path in it to the rows that are written there.
    """
    with own_place() as place:
        answers = []
        for number, folder in enumerate(folders):
            path = place / str(number)
            for name, rows in folder["files"].items():
                write(path / name, rows)
            answers.append(attempt(_load, exercise.load_examples, path, folder))
        return [_without_names(answer, place) for answer in answers]


def _load(load: Callable[..., object], path: Path, folder: dict[str, Any]) -> dict[str, object]:
    """Return the type of what came back and, of a `Dataset`, its rows.

    Rows of the folder that do not follow one another there are told by their number alone, so that
    any two ways of mixing them look the same.
    """
    found = load(str(path), folder["n"])
    if not isinstance(found, Dataset):
        return {"type": type(found).__name__}
    rows: list[Row] = [dict(row) for row in found.with_format(None)]
    written: list[Row] = [*itertools.chain(*folder["files"].values())]
    places = [written.index(row) for row in rows if row in written]
    mixed = any(after != before + 1 for before, after in itertools.pairwise(places))
    if mixed and len(places) == len(rows):
        return {"type": "Dataset", "mixed": len(rows)}
    return {"type": "Dataset", "rows": rows}


def write(file: Path, rows: list[Row]) -> None:
    """Write ``rows`` in the format that the file's suffix names."""
    file.parent.mkdir(parents=True, exist_ok=True)
    if file.suffix == ".parquet":
        Dataset.from_list(rows).to_parquet(file)
    elif file.suffix == ".csv":
        with file.open("w", encoding="utf-8", newline="") as opened:
            lines = csv.DictWriter(opened, rows[0])
            lines.writeheader()
            lines.writerows(rows)
    else:
        file.write_text("".join(f"{json.dumps(row)}\n" for row in rows), "utf-8")


# ------------------------------------------------------------------------------------- tokenizers
def prepared(exercise: Exercise, tokenizers: list[dict[str, Any]], texts: list[str]) -> list[Any]:
    """Return for each tokenizer how the one that `prepare_tokenizer` loads pads ``texts``."""
    with own_place() as place:
        answers = []
        for number, told in enumerate(tokenizers):
            path = str(place / str(number))
            tokenizer_of(**told).save_pretrained(path)
            answers.append(attempt(_prepare, exercise.prepare_tokenizer, path, texts))
        return [_without_names(answer, place) for answer in answers]


def _prepare(prepare: Callable[..., object], path: str, texts: list[str]) -> dict[str, object]:
    found = prepare(path)
    if not isinstance(found, PreTrainedTokenizerBase):
        return {"type": type(found).__name__}
    return {
        "type": "tokenizer",
        "padded": attempt(lambda: dict(found(texts, padding=True))),
        "size": len(found),
        "special": {
            "bos": found.bos_token_id,
            "eos": found.eos_token_id,
            "unk": found.unk_token_id,
        },
    }


def tokenizer_of(
    vocabulary: list[str],
    unk: str,
    bos: str,
    eos: str,
    pad: str | None,
    longest: int,
    *,
    adds_bos: bool,
    side: str,
) -> PreTrainedTokenizerFast:
    """Return a tokenizer that splits at white space.

    Args:
        vocabulary: The tokens, special ones included; a token's place is its id.
        unk: What stands for a word that is not in the vocabulary.
        bos: The token for the beginning.
        eos: The token for the end; no text is given one by itself, as with Llama and GPT-2.
        pad: The token for padding, or None.
        longest: Its `model_max_length`.
        adds_bos: Whether every text begins with ``bos``, as with Llama.
        side: Its `padding_side`, "right" or "left".
    """
    ids = {token: number for number, token in enumerate(vocabulary)}
    core = Tokenizer(models.WordLevel(ids, unk_token=unk))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    if adds_bos:
        begin = {"single": f"{bos} $A", "special_tokens": [(bos, ids[bos])]}
        core.post_processor = processors.TemplateProcessing(**begin)
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        unk_token=unk,
        bos_token=bos,
        eos_token=eos,
        **({"pad_token": pad} if pad else {}),
        model_max_length=longest,
        padding_side=side,
        model_input_names=["input_ids", "attention_mask"],
        clean_up_tokenization_spaces=False,
    )


# -------------------------------------------------------------------------------- rows and batches
def tokenized(exercise: Exercise, cases: list[dict[str, Any]]) -> list[Any]:
    """Return the rows that `tokenize` makes of each case, as one who reads them sees them."""
    function = exercise.tokenize
    with own_place():
        return [attempt(functools.partial(_tokenize, function, **case)) for case in cases]


def _tokenize(
    tokenize: Callable[..., object],
    tokenizer: dict[str, Any],
    columns: dict[str, list[str]],
    max_length: int,
) -> dict[str, object]:
    found = tokenize(Dataset.from_dict(columns), tokenizer_of(**tokenizer), max_length)
    if not isinstance(found, Dataset):
        return {"type": type(found).__name__}
    rows = [{name: _listed(value) for name, value in row.items()} for row in found]
    return {"type": "Dataset", "rows": rows}


def settings_afterwards(exercise: Exercise, cases: list[dict[str, Any]]) -> list[Any]:
    """Return each case's tokenizer's settings, by name, as `tokenize` leaves them."""
    function = exercise.tokenize
    with own_place():
        return [attempt(functools.partial(_settings_left, function, **case)) for case in cases]


def _settings_left(
    tokenize: Callable[..., object],
    tokenizer: dict[str, Any],
    columns: dict[str, list[str]],
    max_length: int,
) -> dict[str, object]:
    given = tokenizer_of(**tokenizer)
    found = tokenize(Dataset.from_dict(columns), given, max_length)
    if isinstance(found, Dataset):
        list(found)  # it may tokenize no sooner than it is read
    return {
        "padding_side": given.padding_side,
        "truncation_side": given.truncation_side,
        "model_max_length": given.model_max_length,
        "pad_token": given.pad_token,
        "bos_token": given.bos_token,
        "eos_token": given.eos_token,
        "unk_token": given.unk_token,
        "number of tokens": len(given),
    }


def _listed(value: Any) -> Any:
    """Return a tensor or an array of any library as lists, anything else as it is."""
    return value.tolist() if hasattr(value, "tolist") else value


def collated(exercise: Exercise, cases: list[dict[str, Any]]) -> list[Any]:
    """Return the batch that each case's collator makes of its rows."""
    function = exercise.make_collator
    return [attempt(functools.partial(_collate, function, **case)) for case in cases]


def _collate(
    make_collator: Callable[..., object],
    tokenizer: dict[str, Any],
    rows: list[dict[str, list[int]]],
) -> dict[str, object]:
    collator = make_collator(tokenizer_of(**tokenizer))
    if not callable(collator):
        return {"collator": type(collator).__name__}
    batch = collator(rows)
    if not isinstance(batch, Mapping):
        return {"type": type(batch).__name__}
    return {"batch": {str(name): value for name, value in batch.items() if value is not None}}


# -------------------------------------------------------------------------------------- the place
@contextlib.contextmanager
def own_place() -> Iterator[Path]:
    """Give a scene a folder of its own, and the libraries one in it; no Hub, no progress bars."""
    datasets.disable_progress_bars()
    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as place,
        contextlib.ExitStack() as all_set,
    ):
        cache = Path(place) / "cache"
        for settings, name, value in (
            (datasets.config, "HF_DATASETS_CACHE", cache),
            (datasets.config, "HF_HUB_OFFLINE", True),
            (constants, "HF_HUB_OFFLINE", True),
            (constants, "HF_HUB_CACHE", str(cache)),
            (constants, "HF_TOKEN_PATH", str(cache / "token")),
        ):
            all_set.enter_context(mock.patch.object(settings, name, value))
        yield Path(place)


def _without_names(answer: Any, place: Path) -> Any:
    """Return ``answer`` without the place's name, another one each time, or one on the Hub."""
    if not isinstance(answer, Raised):
        return answer
    text = answer.text.replace(str(place), "…")
    return dataclasses.replace(answer, text=re.sub("reach '[^']*' on", "reach '…' on", text))
