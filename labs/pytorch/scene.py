"""What the exercise's functions are put into, and how it is measured. No answers here."""

from __future__ import annotations

import contextlib
import functools
import random
import tempfile
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase, PreTrainedTokenizerFast
from transformers.utils import logging

from verify.scene import attempt
from verify.simulated_gpu import Account, machine
from verify.tensors import plain
from verify.tiny import BEGIN, END, UNKNOWN, tiny_model, tiny_tokenizer

SPECIAL = (UNKNOWN, BEGIN, END)  # tokens 0, 1, 2 of every tokenizer here
TURN = "<turn>"  # a second end token, as chat models have one for the end of a turn
BEGIN_ID, END_ID = 1, 2
CHAT_TEMPLATE = "{% for turn in messages %}! {{ turn['content'] }} ?{% endfor %} ."


# ------------------------------------------------------------------------------ which device
def picked(exercise: Any, machines: list[dict[str, bool]]) -> list[object]:
    """Return the type of the device that `pick_device` gives on each simulated machine."""
    return [_picked(exercise.pick_device, each) for each in machines]


def _picked(pick_device: Callable[[], object], kind: dict[str, bool]) -> object:
    with machine(**kind):
        answer = attempt(pick_device)
    if isinstance(answer, str):
        with contextlib.suppress(RuntimeError):  # it is not a device
            return torch.device(answer).type
    return answer


# --------------------------------------------------------------------------------- checkpoints
def checkpoint_model(family: str, seed: int) -> PreTrainedModel:
    """Return the model that a checkpoint is made of, in float32 and evaluation mode.

    Its configuration makes two things plain to see: in training mode dropout drops *everything*
    that the attention gives, and a weight that is initialised afresh is zero.
    """
    model = tiny_model(
        family, seed, vocabulary=259, width=32, heads=2, kv_heads=1,
        initializer_range=0.3, attention_dropout=1.0,
    )  # fmt: skip
    model.config.initializer_range = 0.0
    return model


def byte_vocabulary(seed: int) -> dict[str, int]:
    """Return a vocabulary of three special tokens and the 256 bytes, these in an order of its own.

    The bytes are written as the byte-level tokenizers of GPT-2, Llama 3 and Qwen write them.
    """
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    random.Random(seed).shuffle(letters)  # noqa: S311 - every seed another vocabulary, no secret
    return {token: number for number, token in enumerate([*SPECIAL, *letters])}


@contextlib.contextmanager
def checkpoint(family: str, seed: int, dtype: str, pad: bool) -> Iterator[str]:
    """Write a checkpoint, model and tokenizer, to a folder of its own; yield the folder's path."""
    core = Tokenizer(models.BPE(byte_vocabulary(seed), []))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    core.add_special_tokens([AddedToken(token, special=True) for token in SPECIAL])
    told = {"unk_token": UNKNOWN, "bos_token": BEGIN, "eos_token": END}
    padding = {"pad_token": UNKNOWN} if pad else {}
    logging.disable_progress_bar()
    with tempfile.TemporaryDirectory() as folder:
        checkpoint_model(family, seed).to(getattr(torch, dtype)).save_pretrained(folder)
        PreTrainedTokenizerFast(tokenizer_object=core, **told, **padding).save_pretrained(folder)
        yield folder


def weights_and_tokens(exercise: Any, checkpoints: list[dict[str, Any]], text: str) -> list[object]:
    """Load each checkpoint without a GPU; return the parameters, and what becomes of ``text``."""

    def look(model: Any, tokenizer: Any) -> dict[str, object]:
        ids, parameters = tokenizer(text)["input_ids"], dict(model.named_parameters())
        return {
            "parameters": parameters,
            "dtypes": sorted({str(parameter.dtype) for parameter in parameters.values()}),
            "ids": ids,
            "text": tokenizer.decode(ids),
        }

    return [attempt(_loaded, exercise.load, each, look) for each in checkpoints]


def passes(
    exercise: Any, checkpoints: list[dict[str, Any]], ids: Tensor, positions: Tensor
) -> list[object]:
    """Load each checkpoint without a GPU; return the logits of a forward pass, as it was left.

    It is made float32 before, so that what one sees is not blurred by rounding.
    """

    def look(model: Any, _tokenizer: Any) -> object:
        return logits_of(model.float(), ids, positions)

    return [attempt(_loaded, exercise.load, each, look) for each in checkpoints]


def logits_of(model: Any, ids: Tensor, positions: Tensor) -> object:
    """Return the logits (B, T, V), or None if the model gives none."""
    with torch.no_grad():
        return getattr(model(input_ids=ids, position_ids=positions), "logits", None)


def places(exercise: Any, checkpoint_of: dict[str, Any], gpus: list[bool]) -> list[object]:
    """Load a checkpoint on machines with and without a GPU; return where the parameters are."""
    return [attempt(_loaded, exercise.load, checkpoint_of, _places, gpu) for gpu in gpus]


def _places(model: Any, _tokenizer: Any = None) -> list[str]:
    return sorted({parameter.device.type for parameter in model.parameters()})


def _loaded(
    load: Callable[[str], Any],
    spec: dict[str, Any],
    look: Callable[[Any, Any], object],
    gpu: bool = False,
) -> object:
    """Return what ``look`` sees in what `load` gives, or of what kind that is if it is no pair."""
    with checkpoint(**spec) as path, machine(gpu=gpu):
        came = load(path)
        kinds = _kinds(came)
        if kinds != ["model", "tokenizer"]:
            return {"returned": kinds}
        return plain(look(*came))


def _kinds(came: object) -> object:
    if came is None:
        return None
    if isinstance(came, tuple | list):
        return [_kinds(part) for part in came[:4]]
    if isinstance(came, nn.Module):
        return "model"
    return "tokenizer" if isinstance(came, PreTrainedTokenizerBase) else type(came).__name__


# ---------------------------------------------------------------------------------- generation
def speaker(
    family: str,
    seed: int,
    depth: int,
    vocabulary: int,
    silent: list[int],
    exchanged: list[list[int]],
    close: list[list[int]],
    settings: dict[str, Any],
) -> Any:
    """Return a small model in float32 and evaluation mode, on the CPU.

    Args:
        family: Of `verify.tiny.FAMILIES`.
        seed: Decides the weights.
        depth: Layers.
        vocabulary: Tokens.
        silent: Tokens whose logit is always 0.
        exchanged: Pairs of tokens that change places: each is read and said where the other was.
            So any token can be made an end token.
        close: Pairs of tokens of which one is always nearly as likely as the other.
        settings: What the checkpoint's ``generation_config.json`` would say.
    """
    model: Any = tiny_model(family, seed, vocabulary=vocabulary, depth=depth, initializer_range=0.5)
    read, said = model.get_input_embeddings().weight, model.get_output_embeddings().weight
    with torch.no_grad():
        for weight in (read, said):
            for pair in exchanged:
                weight[pair] = weight[pair[::-1]]
        said[silent] = 0
        for one, other in close:
            said[other] = 0.999 * said[one]
    model.generation_config.update(**settings)
    return model


def word_tokenizer(
    words: list[str], *, pad: str, begin: bool, turn: bool
) -> PreTrainedTokenizerFast:
    """Return a tokenizer of words and punctuation marks, to which white space means nothing.

    It has a chat template, as that of a chat model has.

    Args:
        words: One token each, after the special ones.
        pad: "none", "own" (a token of its own) or "unknown" (the one for unknown words).
        begin: Whether it puts a begin token in front of every text, as Llama's does.
        turn: Whether there is one more special token, `TURN`, after the words.
    """
    tokenizer = tiny_tokenizer(words, pad=pad == "own")
    if turn:
        tokenizer.add_special_tokens({"extra_special_tokens": [TURN]})
    tokenizer.chat_template = CHAT_TEMPLATE
    if pad == "unknown":
        tokenizer.pad_token = UNKNOWN
    apart = [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Punctuation()]
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(apart)
    if begin:
        tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{BEGIN} $A", special_tokens=[(BEGIN, BEGIN_ID)]
        )
    return tokenizer


def continued(exercise: Any, setups: list[dict[str, Any]]) -> list[object]:
    """Return what `generate` gives for the calls of each setup: a model, a tokenizer, prompts."""
    place = "cuda" if torch.cuda.is_available() else "cpu"
    return [_calls(exercise.generate, setup, place) for setup in setups]


def continued_twice(exercise: Any, setup: dict[str, Any]) -> dict[str, object]:
    """Make every call twice, with other random numbers; return the texts if they agree."""
    place = "cuda" if torch.cuda.is_available() else "cpu"
    once, again = (_with_random_numbers(exercise.generate, setup, place, n) for n in (1, 2))
    varies = plain(once) != plain(again)
    return {"varies": varies, "texts": None if varies else once}


def _with_random_numbers(
    generate: Callable[..., object], setup: dict[str, Any], place: str, number: int
) -> list[object]:
    """Return the texts with torch's generators elsewhere for every ``number``, seed or no seed."""
    called, set_seed = _ready(generate, setup, place), torch.manual_seed
    torch.manual_seed(number)
    with mock.patch.object(torch, "manual_seed", lambda seed: set_seed(int(seed) + number)):
        return [called(call) for call in setup["calls"]]


def continued_on(exercise: Any, setup: dict[str, Any], places: list[str]) -> list[object]:
    """Return what `generate` gives on a simulated machine with a GPU, the model on each place."""
    with machine(gpu=True):
        return [_calls(exercise.generate, setup, place) for place in places]


def copies_made(exercise: Any, setup: dict[str, Any], places: list[str]) -> list[dict[str, object]]:
    """Return, for the model on each place, the texts, and whether the calls took equal copies.

    Copies are counted to the simulated GPU; reading from it is nobody's fault.
    """
    with machine(gpu=True) as account:
        return [_counted(exercise.generate, setup, place, account) for place in places]


def _counted(
    generate: Callable[..., object], setup: dict[str, Any], place: str, account: Account
) -> dict[str, object]:
    called, texts, copies = _ready(generate, setup, place), [], set()
    for call in setup["calls"]:
        before = account.copies
        texts.append(called(call))
        copies.add(account.copies - before)
    return {"texts": texts, "equal": len(copies) == 1}


def graphs_kept(exercise: Any, setup: dict[str, Any]) -> dict[str, object]:
    """Return the texts, and whether autograd was asked to keep anything for a backward pass."""
    kept: list[int] = []

    def note(tensor: Tensor) -> Tensor:
        kept.append(tensor.numel())
        return tensor

    hooks = torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor)
    with torch.enable_grad(), hooks:
        texts = _calls(exercise.generate, setup, "cuda" if torch.cuda.is_available() else "cpu")
    return {"texts": texts, "kept": bool(kept)}


def _calls(generate: Callable[..., object], setup: dict[str, Any], place: str) -> list[object]:
    called = _ready(generate, setup, place)
    return [called(call) for call in setup["calls"]]


def _ready(
    generate: Callable[..., object], setup: dict[str, Any], place: str
) -> Callable[[dict[str, Any]], object]:
    """Return what makes a call of `generate` with a setup's model, on ``place``, and tokenizer.

    White space at the ends of a text is taken away: nobody is asked for it.
    """
    model = speaker(**setup["model"]).to(place)
    tokenizer = word_tokenizer(**setup["tokenizer"])

    def called(call: dict[str, Any]) -> object:
        given = {name: value for name, value in call.items() if name != "prompt"}
        came = attempt(functools.partial(generate, model, tokenizer, call["prompt"], **given))
        return came.strip() if isinstance(came, str) else came

    return called


# ------------------------------------------------------------------------------------ a real GPU
def on_this_gpu(
    exercise: Any, checkpoint_of: dict[str, Any], ids: Tensor, positions: Tensor
) -> dict[str, object]:
    """Load a checkpoint on this machine, GPU and all; return where it is, and its logits there."""
    with checkpoint(**checkpoint_of) as path:
        came = exercise.load(path)
        kinds = _kinds(came)
        if kinds != ["model", "tokenizer"]:
            return {"returned": kinds}
        model: Any = came[0]
        place = model.device
        told = logits_of(model, ids.to(place), positions.to(place))
        return {"places": _places(model), "logits": told}
