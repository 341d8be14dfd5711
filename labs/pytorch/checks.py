"""The checks: what each function of the lab must do, shown by values where values can show it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import scene
import torch
from scene import END_ID
from torch import Tensor
from transformers import PreTrainedModel

from verify.authoring import check
from verify.compare import same
from verify.plain import Array, Raised
from verify.tensors import plain
from verify.tiny import FAMILIES
from verify.trial import Trial

WORDS = """
    amber apple bread bright cloud copper dance dusty eagle early field flame garden green happy
    hollow island ivory jolly jungle kettle kind lemon lunar magic meadow night north ocean olive
    paper pearl quick quiet river round silver storm table under velvet winter yellow zebra
""".split()  # noqa: SIM905 - a list of them is three times as long
MARKS = [",", ".", "?", "!"]
STRANGE = ("xylophone", "Warsaw", "thirteenth", "quux")  # never in a vocabulary
CLEAR = 0.002  # by so much the likeliest token leads, or another order of sums could decide
BFLOAT16 = 2**-7  # of the largest value; rounding costs 2**-9, and rounding twice a little more
FLOATING = ("float16", "bfloat16", "float32", "float64")
SEEN = 0.15  # of the largest logit; weights of another dtype give 0.04, dropout 1 and more


# ------------------------------------------------------------------------------ which device
@check("pick_device", review="Which device")
def device_of_the_machine(trial: Trial) -> None:
    """`pick_device` gives the GPU where there is one, and else the CPU."""
    machines = [
        {"built": False, "gpu": False},
        {"built": True, "gpu": False},
        {"built": True, "gpu": True},
    ]
    trial.random.shuffle(machines)
    came = trial.observe("picked", machines=machines)
    asked = [f"pick_device(), simulated: {_machine(**each)}" for each in machines]
    why = "It is to give what is there now, each time it is called."
    trial.expect_each(asked, came, ["cuda" if m["gpu"] else "cpu" for m in machines], why=why)


def _machine(built: bool, gpu: bool) -> str:
    if not built:
        return "a torch without CUDA"
    return "a torch with CUDA, and a GPU" if gpu else "a torch with CUDA, and no GPU"


# --------------------------------------------------------------------------------- checkpoints
@check("load", review="Loading a model")
def checkpoint_loaded(trial: Trial) -> None:
    """`load` gives the model and the tokenizer of the checkpoint, weights and all."""
    specs = _checkpoints(trial)
    text = " ".join(trial.random.sample(WORDS, 3))
    came = trial.observe("weights_and_tokens", checkpoints=specs, text=text)
    for asked, spec, loaded in _each(trial, specs, came):
        for name, true in _rounded(spec).named_parameters():
            _expect_weight(trial, asked, name, loaded["parameters"].get(name), true)
        vocabulary = scene.byte_vocabulary(spec["seed"])
        ids = [vocabulary[letter.replace(" ", "Ġ")] for letter in text]
        why = "It is to be the tokenizer that the model was saved with."
        trial.expect(f"{asked}, then tokenizer({text!r})", loaded["ids"], ids, why=why)
        trial.expect(f"{asked}, then tokenizer.decode(...)", loaded["text"], text, why=why)


@check("load", review="Which dtype", after=("checkpoint_loaded",))
def loaded_in_bfloat16(trial: Trial) -> None:
    """`load` gives a model whose parameters are all bfloat16, whatever the checkpoint's are."""
    specs = _checkpoints(trial)
    came = trial.observe("weights_and_tokens", checkpoints=specs, text="a")
    for asked, _, loaded in _each(trial, specs, came):
        wrong = {
            name: found.dtype
            for name, found in loaded["parameters"].items()
            if found.dtype != "bfloat16" and found.dtype in FLOATING
        }
        first = next(iter(wrong), None)
        trial.require(
            not wrong,
            asked,
            f"{len(wrong)} of {len(loaded['parameters'])} parameters are not bfloat16; "
            f"{first} is {wrong.get(first)}",
        )


@check("load", review="Evaluation mode", after=("checkpoint_loaded",))
def loaded_in_evaluation_mode(trial: Trial) -> None:
    """`load` gives a model that is ready to be used: in evaluation mode."""
    specs = _checkpoints(trial)
    ids = trial.integers(0, 259, 1, trial.random.randint(5, 9))
    came = trial.observe("passes", checkpoints=specs, ids=ids, positions=torch.zeros_like(ids))
    why = "This model computes otherwise in training mode, where dropout drops values."
    _expect_logits(trial, specs, came, ids, torch.zeros_like(ids), why)


@check("load", review="Which device", evidence="probe", after=("checkpoint_loaded",))
def loaded_on_the_device(trial: Trial) -> None:
    """`load` puts the model on the device of the machine, with a GPU and without."""
    (spec, _), gpus = _checkpoints(trial), [True, False]
    trial.random.shuffle(gpus)
    came = trial.observe("places", checkpoint_of=spec, gpus=gpus)
    asked = [f"load(path), simulated: {_machine(True, gpu)}: where the model is" for gpu in gpus]
    trial.expect_each(asked, came, [["cuda"] if gpu else ["cpu"] for gpu in gpus])


@check("load", review="Which dtype", level="advice",
       after=("loaded_in_bfloat16", "loaded_in_evaluation_mode"))  # fmt: skip
def rotary_frequencies_kept(trial: Trial) -> None:
    """The loaded model tells far positions apart as exactly as the checkpoint's does."""
    specs = _checkpoints(trial)[:1]
    ids = trial.integers(0, 259, 1, 8)
    positions = trial.integers(0, 60_000, 1, 8).sort().values
    came = trial.observe("passes", checkpoints=specs, ids=ids, positions=positions)
    why = "Rounded rotary frequencies turn far positions by the wrong angle."
    _expect_logits(trial, specs, came, ids, positions, why)


@check("load", review="Which device", evidence="probe", gpu=True, seconds=60.0,
       after=("loaded_in_bfloat16", "loaded_on_the_device"))  # fmt: skip
def loaded_on_this_gpu(trial: Trial) -> None:
    """`load` puts the model on this machine's GPU, where it computes what it should."""
    spec = _checkpoints(trial)[0]
    ids = trial.integers(0, 259, 1, trial.random.randint(5, 9))
    positions = torch.zeros_like(ids)
    came = trial.observe("on_this_gpu", checkpoint_of=spec, ids=ids, positions=positions)
    ((asked, _, loaded),) = _each(trial, [spec], [came])
    trial.expect(f"{asked}: where the model is", loaded["places"], ["cuda"])
    true = scene.logits_of(_rounded(spec), ids, positions)
    trial.expect(f"{asked}: its logits there", loaded["logits"], true, rtol=0.1)


# ---------------------------------------------------------------------------------- generation
@check("generate", review="Greedy or sampled")
def continues_greedily(trial: Trial) -> None:
    """`generate` always takes the likeliest token, whatever the checkpoint's settings say."""
    settings = {"do_sample": True, "temperature": trial.random.choice([1.5, 2.0, 2.5]), "top_k": 0}
    setup, truth = _setup(trial, _plain_prompts, settings=settings, close=True)
    came = trial.observe("continued_twice", setup=setup)
    asked = _asked(setup)
    if isinstance(came, Raised):
        trial.fail(asked[0], came)
    trial.require(
        came["varies"] is False,
        asked[0],
        "called twice, with other random numbers, it gave two different texts",
        why="This checkpoint's generation_config says do_sample=True, as many do.",
    )
    why = "Each token is to be the one with the largest logit, after all that came before it."
    trial.expect_each(asked, came["texts"], truth, why=why)


@check("generate", review="What comes back", after=("continues_greedily",))
def only_the_new_text(trial: Trial) -> None:
    """`generate` returns what was added, and nothing of the prompt or the special tokens."""
    begins = [True, False]
    trial.random.shuffle(begins)
    made = [
        _setup(trial, _awkward_prompts, begin=begin, ends=True, accept=_begin_matters)
        for begin in begins
    ]
    setups, truth = [setup for setup, _ in made], [texts for _, texts in made]
    came = trial.observe("continued", setups=setups)
    if isinstance(came, Raised):
        trial.fail(_asked(setups[0])[0], came)
    why = "The text up to the end token, if the model says it, and not a character of the prompt."
    for setup, texts, true in zip(setups, came, truth, strict=True):
        trial.expect_each(_asked(setup), texts, true, why=why)


@check("generate", review="How long", after=("continues_greedily",))
def as_long_as_asked(trial: Trial) -> None:
    """`generate` adds at most `max_new_tokens` tokens, and 50 unless told otherwise."""
    setup, truth = _setup(trial, _one_prompt_many_lengths, accept=_repeats)
    came = trial.observe("continued", setups=[setup])
    if isinstance(came, Raised):
        trial.fail(_asked(setup)[0], came)
    why = "This model never says its end token, so the length is exactly what was asked for."
    for asked, text, true in zip(_asked(setup), came[0], truth, strict=True):
        if isinstance(text, str):
            count = len(text.split())
            trial.require(count == len(true.split()), asked, f"{count} tokens came back", why=why)
        trial.expect(asked, text, true, why=why)


@check("generate", review="How long", after=("only_the_new_text", "as_long_as_asked"))
def stops_at_every_end_token(trial: Trial) -> None:
    """`generate` stops at each of the end tokens that the model's generation config names."""
    setup, truth = _setup(trial, _longer_prompts, turn=True, accept=_endings_matter)
    came = trial.observe("continued", setups=[setup])
    if isinstance(came, Raised):
        trial.fail(_asked(setup)[0], came)
    why = "This model's generation config names two end tokens, as that of Llama 3 does."
    trial.expect_each(_asked(setup), came[0], truth, why=why)


@check("generate", review="Which device", after=("continues_greedily",))
def inputs_follow_the_model(trial: Trial) -> None:
    """`generate` puts its inputs where the model is, on a machine with a GPU too."""
    setup, truth = _setup(trial, _short_prompt)
    places = ["cuda", "cpu"]
    trial.random.shuffle(places)
    came = trial.observe("continued_on", setup=setup, places=places)
    if isinstance(came, Raised):
        trial.fail(_asked(setup)[0], came)
    why = "Model and inputs have to be on one device, and the model's is the one that counts."
    for place, texts in zip(places, came, strict=True):
        asked = [f"{each}, {_where(place)}" for each in _asked(setup)]
        trial.expect_each(asked, texts, truth, why=why)


@check("generate", review="Which device", evidence="probe", level="advice",
       after=("inputs_follow_the_model",))  # fmt: skip
def inputs_copied_once(trial: Trial) -> None:
    """`generate` copies its inputs to the model's device once, and not again for every token."""
    setup, truth = _setup(trial, _short_and_longer)
    places = ["cuda", "cpu"]
    trial.random.shuffle(places)
    came = trial.observe("copies_made", setup=setup, places=places)
    if isinstance(came, Raised):
        trial.fail(_asked(setup)[0], came)
    why = "Copied for every token they cost time, and older transformers refuse them."
    for place, seen in zip(places, came, strict=True):
        asked = [f"{each}, {_where(place)}" for each in _asked(setup)]
        trial.expect_each(asked, seen["texts"], truth)
        told = "it took other numbers of copies to the GPU than the call for fewer tokens"
        trial.require(seen["equal"] is True, asked[1], told, why=why)


@check("generate", review="The attention mask", after=("only_the_new_text",))
def mask_is_passed_on(trial: Trial) -> None:
    """`generate` reads all of a prompt in which the pad token stands for something else."""
    settings = {"pad_token_id": 0}
    setup, truth = _setup(
        trial, _unknown_words, pad="unknown", settings=settings, accept=_mask_matters
    )
    came = trial.observe("continued", setups=[setup])
    if isinstance(came, Raised):
        trial.fail(_asked(setup)[0], came)
    why = "This tokenizer's pad token is its token for unknown words, and the prompt has some."
    trial.expect_each(_asked(setup), came[0], truth, why=why)


@check("generate", review="No gradients", evidence="probe", level="advice",
       after=("continues_greedily",))  # fmt: skip
def no_graph_is_kept(trial: Trial) -> None:
    """`generate` keeps nothing for a backward pass that never comes."""
    setup, truth = _setup(trial, _short_prompt)
    came = trial.observe("graphs_kept", setup=setup)
    asked = _asked(setup)[0]
    if isinstance(came, Raised):
        trial.fail(asked, came)
    trial.expect(asked, came["texts"], truth)
    why = "With gradients on, every step keeps its activations until the text is finished."
    trial.require(
        came["kept"] is False, asked, "autograd kept tensors for a backward pass", why=why
    )


# --------------------------------------------------------------------------------- the details
def _checkpoints(trial: Trial) -> list[dict[str, Any]]:
    """Draw two checkpoints, of two families and the two dtypes; one has a pad token."""
    families, dtypes = trial.random.sample(sorted(FAMILIES), 2), ["float32", "float16"]
    trial.random.shuffle(dtypes)
    pads = trial.random.sample([False, True], 2)
    return [
        {"family": family, "seed": trial.random.getrandbits(31), "dtype": dtype, "pad": pad}
        for family, dtype, pad in zip(families, dtypes, pads, strict=True)
    ]


def _each(
    trial: Trial, specs: list[dict[str, Any]], came: Any
) -> Iterator[tuple[str, dict[str, Any], Any]]:
    """Yield how each checkpoint was asked for, its specification, and what was seen of it."""
    asked = [f"load(path), a {spec['family']} in {spec['dtype']}" for spec in specs]
    if isinstance(came, Raised):
        trial.fail(asked[0], came)
    for question, spec, loaded in zip(asked, specs, came, strict=True):
        if isinstance(loaded, Raised):
            trial.fail(question, loaded)
        if isinstance(loaded, dict) and "returned" in loaded:
            why = "Asked for is a pair: the model first, then the tokenizer."
            trial.fail(question, loaded["returned"], why=why)
        yield question, spec, loaded


def _rounded(spec: dict[str, Any]) -> PreTrainedModel:
    """Return a checkpoint's model with its weights rounded to bfloat16, computing in float32."""
    model = scene.checkpoint_model(spec["family"], spec["seed"])
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(parameter.to(getattr(torch, spec["dtype"])).bfloat16())
    return model


def _expect_weight(trial: Trial, asked: str, name: str, came: Any, true: Tensor) -> None:
    """Raise `Failure` unless a parameter is the checkpoint's, to the precision of bfloat16."""
    trial.require(
        isinstance(came, Array),
        f"{asked}: {name}",
        "the model has no such parameter",
        why="A causal language model is asked for, head and all.",
    )
    trial.require(
        same(came, plain(true), rtol=BFLOAT16),
        f"{asked}: {name}",
        f"it is of shape {came.shape}, and its values are not those in the file",
        why="Inference with other weights says nothing about the model.",
    )


def _expect_logits(
    trial: Trial, specs: list[dict[str, Any]], came: Any, ids: Tensor, positions: Tensor, why: str
) -> None:
    for asked, spec, logits in _each(trial, specs, came):
        true = scene.logits_of(_rounded(spec), ids, positions)
        told = "the logits are not those of the checkpoint's model" if logits else "no logits came"
        right = same(logits, plain(true), rtol=SEEN)
        trial.require(right, f"{asked}, then a forward pass", told, why=why)


Prompts = Callable[[Trial, list[str]], list[dict[str, Any]]]


def _plain_prompts(trial: Trial, words: list[str]) -> list[dict[str, Any]]:
    """Draw three prompts of different lengths that a tokenizer gives back as they are."""
    draw = trial.random
    lengths = [draw.randint(4, 6), draw.randint(4, 6), draw.randint(12, 15)]
    draw.shuffle(lengths)
    return [
        {"prompt": " ".join(draw.choices(words, k=k)), "max_new_tokens": length}
        for k, length in zip(draw.sample(range(1, 10), 3), lengths, strict=True)
    ]


def _awkward_prompts(trial: Trial, words: list[str]) -> list[dict[str, Any]]:
    """Draw prompts of which three have other characters once they were tokens, and one has not."""
    draw = trial.random
    some = [draw.choices(words, k=draw.randint(5, 7)) for _ in range(4)]
    wide = "".join(f"{word}{draw.choice(['  ', '   ', chr(10) * 2])}" for word in some[0])
    marked = " ".join(word + draw.choice([*MARKS, ""]) for word in some[1]) + draw.choice(MARKS)
    strange = " ".join([*some[2][:2], *draw.sample(STRANGE, 2), *some[2][2:]])
    prompts = [wide.rstrip(), marked, strange, " ".join(some[3])]
    draw.shuffle(prompts)
    return [{"prompt": prompt, "max_new_tokens": draw.randint(6, 9)} for prompt in prompts]


def _one_prompt_many_lengths(trial: Trial, words: list[str]) -> list[dict[str, Any]]:
    draw = trial.random
    prompt = " ".join(draw.choices(words, k=draw.randint(2, 6)))
    lengths = [draw.randint(4, 7), draw.randint(9, 14)]
    calls = [{"prompt": prompt, "max_new_tokens": length} for length in lengths]
    return [*calls, {"prompt": prompt}]


def _short_prompt(trial: Trial, words: list[str]) -> list[dict[str, Any]]:
    draw = trial.random
    prompt = " ".join(draw.choices(words, k=draw.randint(2, 5)))
    return [{"prompt": prompt, "max_new_tokens": draw.randint(4, 5)}]


def _short_and_longer(trial: Trial, words: list[str]) -> list[dict[str, Any]]:
    (call,) = _short_prompt(trial, words)
    return [call, {**call, "max_new_tokens": call["max_new_tokens"] + 2}]


def _longer_prompts(trial: Trial, words: list[str]) -> list[dict[str, Any]]:
    draw = trial.random
    prompts = [" ".join(draw.choices(words, k=k)) for k in draw.sample(range(2, 8), 2)]
    return [{"prompt": prompt, "max_new_tokens": draw.randint(9, 12)} for prompt in prompts]


def _unknown_words(trial: Trial, words: list[str]) -> list[dict[str, Any]]:
    draw = trial.random
    mixed = [*draw.choices(words, k=3), *draw.sample(STRANGE, 2)]
    draw.shuffle(mixed)
    return [{"prompt": " ".join(mixed), "max_new_tokens": draw.randint(6, 8)}]


def _setup(
    trial: Trial,
    prompts: Prompts,
    *,
    begin: bool = False,
    ends: bool = False,
    turn: bool = False,
    close: bool = False,
    pad: str | None = None,
    settings: dict[str, Any] | None = None,
    accept: Callable[[dict[str, Any], list[str]], bool] = lambda *_: True,
) -> tuple[dict[str, Any], list[str]]:
    """Draw a model, a tokenizer and calls; return them with the texts that greedy search gives.

    Args:
        trial: What draws.
        prompts: Draws the calls.
        begin: Whether the tokenizer puts a begin token in front.
        ends: Whether the model says its end token in the first call, early; else it never does.
        turn: Whether it has two end tokens and says one in the first call, the other in the second.
        close: Whether another token is nearly as likely as the likeliest, each time.
        pad: See `scene.word_tokenizer`; drawn if not given.
        settings: Of the generation config.
        accept: Whether a setup with these texts will do.
    """
    drawn = (ends, turn, close)
    key = (prompts, begin, drawn, pad, repr(settings), accept, trial.random.getstate())
    if key not in _MADE:
        while True:
            setup = _drawn(trial, prompts, pad or trial.random.choice(["none", "own"]), *drawn)
            setup["model"]["settings"] |= settings or {}
            setup["tokenizer"]["begin"] = begin
            paths = _ending_paths(trial, setup) if ends or turn else _paths(setup)
            tokenizer = scene.word_tokenizer(**setup["tokenizer"])
            truth = [str(tokenizer.decode(path, skip_special_tokens=True)) for path in paths]
            if paths and accept(setup, truth):
                break
        if len(_MADE) > 3:
            _MADE.clear()
        _MADE[key] = setup, truth, trial.random.getstate()
    setup, truth, after = _MADE[key]
    trial.random.setstate(after)
    return copy.deepcopy(setup), truth


_MADE: dict[object, tuple[dict[str, Any], list[str], Any]] = {}
"""What `_setup` made last: the search for a failure's hint asks for the same many times."""


def _drawn(
    trial: Trial, prompts: Prompts, pad: str, ends: bool, turn: bool, close: bool
) -> dict[str, Any]:
    draw = trial.random
    words = draw.sample(WORDS, 28)
    special = 4 if pad == "own" else 3
    turn_id = special + len(words) + len(MARKS)
    model = {
        "family": draw.choice(sorted(FAMILIES)),
        "seed": draw.getrandbits(31),
        "depth": draw.randint(1, 2),
        "vocabulary": turn_id + turn,
        "silent": [
            *(token for token in range(special) if not ((ends or turn) and token == END_ID)),
            *range(special + len(words), turn_id),
        ],
        "exchanged": [],
        "close": [[n, n + 1] for n in range(special, special + len(words), 2)] if close else [],
        "settings": {"eos_token_id": [turn_id, END_ID]} if turn else {},
    }
    tokenizer = {"words": [*words, *MARKS], "pad": pad, "turn": turn}
    return {"model": model, "tokenizer": tokenizer, "calls": prompts(trial, words)}


def _ending_paths(trial: Trial, setup: dict[str, Any]) -> list[list[int]]:
    """Make each end token one that is said early in a call of its own; one is not in every call.

    Returns:
        The paths then, see `_paths`, or [] if that does not succeed.
    """
    endings = list(zip(_ends(setup), setup["calls"], strict=False))
    for end, call in endings:
        (path,) = _paths({**setup, "calls": [call]}) or [[]]
        new = [t for i, t in enumerate(path) if 2 <= i < len(path) - 2 and t not in path[:i]]
        if not new:
            return []
        setup["model"]["exchanged"].append([end, trial.random.choice(new)])
    paths = _paths(setup)
    if not paths or all(END_ID in path for path in paths):
        return []
    early = [
        end in path and 3 <= len(path) < _limit(call)
        for (end, call), path in zip(endings, paths, strict=False)
    ]
    return paths if all(early) else []


def _paths(setup: dict[str, Any]) -> list[list[int]]:
    """Return the tokens that greedy search adds in each call, or [] if a choice was not clear.

    The whole text is read anew for each token: slow, and there is nothing to get wrong.
    """
    model = scene.speaker(**setup["model"])
    tokenizer = scene.word_tokenizer(**setup["tokenizer"])
    longest: dict[str, int] = {}
    for call in setup["calls"]:
        longest[call["prompt"]] = max(_limit(call), longest.get(call["prompt"], 0))
    paths, ends = {}, set(_ends(setup))
    for prompt, limit in longest.items():
        ids = tokenizer(prompt, return_tensors="pt")["input_ids"]
        path: list[int] = []
        while len(path) < limit and not ends & set(path):
            with torch.no_grad():
                best = model(input_ids=ids).logits[0, -1].topk(2)
            if best.values[0] - best.values[1] < CLEAR:
                return []
            path.append(int(best.indices[0]))
            ids = torch.cat([ids, best.indices[None, :1]], dim=1)
        paths[prompt] = path
    return [paths[call["prompt"]][: _limit(call)] for call in setup["calls"]]


def _ends(setup: dict[str, Any]) -> list[int]:
    """Return the end tokens that the model's generation config names."""
    return list(setup["model"]["settings"].get("eos_token_id", [END_ID]))


def _limit(call: dict[str, Any]) -> int:
    return int(call.get("max_new_tokens", 50))


def _repeats(_setup: dict[str, Any], truth: list[str]) -> bool:
    """Tell whether the longest text has three words in a row twice, as greedy search often has.

    So whatever forbids repetitions shows.
    """
    words = truth[-1].split()
    triples = list(zip(words, words[1:], words[2:], strict=False))
    return len(set(triples)) < len(triples)


def _begin_matters(setup: dict[str, Any], truth: list[str]) -> bool:
    """Tell whether the model says something else without the begin token, if there is one."""
    if not setup["tokenizer"]["begin"]:
        return True
    bare = scene.word_tokenizer(**{**setup["tokenizer"], "begin": False})
    paths = _paths({**setup, "tokenizer": {**setup["tokenizer"], "begin": False}})
    told = [bare.decode(path, skip_special_tokens=True) for path in paths]
    return bool(told) and told != truth


def _endings_matter(setup: dict[str, Any], truth: list[str]) -> bool:
    """Tell whether the model says more in each call when only the other end token counts."""
    endless = {**setup["model"], "settings": {"eos_token_id": []}}
    paths = _paths({**setup, "model": endless})
    tokenizer = scene.word_tokenizer(**setup["tokenizer"])
    told = [
        tokenizer.decode(path[: path.index(end)] if end in path else path, skip_special_tokens=True)
        for path, end in zip(paths, _ends(setup)[::-1], strict=False)
    ]
    return bool(told) and all(more != true for more, true in zip(told, truth, strict=True))


def _mask_matters(setup: dict[str, Any], truth: list[str]) -> bool:
    """Tell whether the model says something else when it is not shown the unknown words."""
    model = scene.speaker(**setup["model"])
    tokenizer = scene.word_tokenizer(**setup["tokenizer"])
    (call,) = setup["calls"]
    ids = tokenizer(call["prompt"], return_tensors="pt")["input_ids"]
    output = model.generate(ids, max_new_tokens=call["max_new_tokens"], do_sample=False)
    return tokenizer.decode(output[0, ids.shape[1] :], skip_special_tokens=True) != truth[0]


def _where(place: str) -> str:
    return f"the model on the {'simulated GPU' if place == 'cuda' else 'CPU, beside a GPU'}"


def _asked(setup: dict[str, Any]) -> list[str]:
    asked = []
    for call in setup["calls"]:
        given = f", max_new_tokens={call['max_new_tokens']}" if len(call) > 1 else ""
        asked.append(f"generate(model, tokenizer, {call['prompt']!r}{given})")
    return asked
