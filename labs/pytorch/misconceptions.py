"""The known mistakes: each docstring is the hint for whoever makes it."""

from __future__ import annotations

import torch
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, AutoTokenizer

from verify.authoring import misconception

# A check that waits for another one is played only when that one passed: these fail in one place.
DTYPE, MODE = ("loaded_in_bfloat16",), ("loaded_in_evaluation_mode",)
PLACE, FAR = ("loaded_on_the_device",), ("rotary_frequencies_kept",)
LOADED = ("checkpoint_loaded",)
GREEDY, NEW = ("continues_greedily",), ("only_the_new_text",)
LENGTH, INPUTS = ("as_long_as_asked",), ("inputs_follow_the_model",)
ENDS, COPIES = ("stops_at_every_end_token",), ("inputs_copied_once",)
MASK, GRAPH = ("mask_is_passed_on",), ("no_graph_is_kept",)


# ----------------------------------------------------------------------------------- pick_device
def _device():
    return "cuda" if torch.cuda.is_available() else "cpu"


@misconception("pick_device")
def pick_device_not_written():
    """Torch can be asked whether there is a GPU it can use: the lesson's "Which device" shows two
    ways. Return "cuda" or "cpu" accordingly."""
    raise NotImplementedError


@misconception("pick_device")
def always_cuda():
    """The answer is the GPU on a machine that has none, and the first tensor sent there fails. Ask
    torch, and fall back to the CPU."""
    return "cuda"


@misconception("pick_device")
def always_cpu():
    """The answer is the CPU on a machine with a GPU. Either torch is not asked, or it was asked
    once, when the file was read: ask inside the function, at every call."""
    return "cpu"


@misconception("pick_device")
def built_is_not_available():
    """That is for what torch was *built* (`torch.backends.cuda.is_built()`, `torch.version.cuda`):
    a torch with CUDA also runs where there is no GPU. Ask whether one is *available*."""
    return "cuda" if torch.backends.cuda.is_built() else "cpu"


@misconception("pick_device")
def accelerator_of_the_build():
    """`torch.accelerator.current_accelerator()` tells for which accelerator torch was built, there
    or not, and None if for none. Ask `torch.accelerator.is_available()` first, and fall back to the
    CPU."""
    return torch.accelerator.current_accelerator()


@misconception("pick_device")
def no_fallback():
    """Without a GPU nothing came back. There is always a device to compute on: return the CPU
    then."""
    return "cuda" if torch.cuda.is_available() else None


@misconception("pick_device")
def availability_returned():
    """That is the answer to the question whether there is a GPU, True or False. Return the device
    to use: "cuda" or "cpu"."""
    return torch.cuda.is_available()


@misconception("pick_device")
def devices_swapped():
    """The two are the wrong way round: the CPU where there is a GPU, and the GPU where there is
    none."""
    return "cpu" if torch.cuda.is_available() else "cuda"


@misconception("pick_device")
def device_not_returned():
    """Nothing is returned. Printing the device, or keeping it in a variable, helps no caller."""
    _device()


# ------------------------------------------------------------------------------------------ load
def _model(path, **options):
    return AutoModelForCausalLM.from_pretrained(path, **{"dtype": torch.bfloat16, **options})


def _pair(model, path):
    return model.to(_device()), AutoTokenizer.from_pretrained(path)


@misconception("load")
def load_not_written(path):
    """Start with `AutoModelForCausalLM.from_pretrained` and `AutoTokenizer.from_pretrained`, both
    with the path; the lesson's "Loading a model" goes on from there. If it calls your
    `pick_device`, write that first."""
    raise NotImplementedError


@misconception("load", checks=LOADED)
def freshly_initialised(path):
    """The weights are not those in the file but fresh ones: `from_config`, or a model class called
    with a config, builds the architecture only. `from_pretrained` reads the weights too."""
    config = AutoConfig.from_pretrained(path)
    return _pair(AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).eval(), path)


@misconception("load", checks=LOADED)
def model_without_its_head(path):
    """`AutoModel` loads a model without its language modelling head, the layer that turns the last
    hidden states into logits. Use `AutoModelForCausalLM`."""
    return _pair(AutoModel.from_pretrained(path, dtype=torch.bfloat16), path)


@misconception("load", checks=LOADED)
def pair_swapped(path):
    """The two are in the wrong order: the model comes first, then the tokenizer."""
    return _pair(_model(path), path)[::-1]


@misconception("load", checks=LOADED)
def tokenizer_forgotten(path):
    """Only the model came back. It is of no use without its own tokenizer: return both."""
    return _model(path).to(_device())


@misconception("load", checks=LOADED)
def model_not_returned(path):
    """Nothing came back. The function's variables are gone when it ends: return the model and the
    tokenizer."""
    _pair(_model(path), path)


@misconception("load", checks=LOADED)
def gpu_taken_for_granted(path):
    """The model was sent to "cuda" on a machine without a GPU. Send it to where `pick_device` says;
    if that is what was done, mend `pick_device` first."""
    return _model(path).to("cuda"), AutoTokenizer.from_pretrained(path)


@misconception("load", checks=DTYPE)
def float32_asked(path):
    """The weights were loaded as float32: twice the memory of bfloat16, and half the speed. Say
    `dtype=torch.bfloat16`."""
    return _pair(_model(path, dtype=torch.float32), path)


@misconception("load", checks=DTYPE)
def float16_asked(path):
    """The weights were loaded as float16 (`half`). It ends at 65504, and the activations of large
    models go beyond; bfloat16 has the range of float32. Say `dtype=torch.bfloat16`."""
    return _pair(_model(path, dtype=torch.float16), path)


@misconception("load", checks=DTYPE)
def checkpoints_own_dtype(path):
    """The weights were loaded as the checkpoint has them, which is what transformers 5 does unless
    told otherwise (and `dtype="auto"` asks for). Say `dtype=torch.bfloat16`."""
    return _pair(_model(path, dtype="auto"), path)


@misconception("load", checks=MODE)
def left_in_train_mode(path):
    """The model is in training mode: dropout is at work, and the same input gives another output
    each time. `from_pretrained` gives it in evaluation mode; leave it so, or call `eval()`."""
    return _pair(_model(path).train(), path)


@misconception("load", checks=PLACE)
def left_on_the_cpu(path):
    """The model stayed on the CPU although there is a GPU. Move it with `.to(pick_device())`, or
    load it there with `device_map`; and see that `pick_device` finds the GPU."""
    return _model(path), AutoTokenizer.from_pretrained(path)


@misconception("load", checks=FAR)
def cast_after_loading(path):
    """The model was loaded first and cast afterwards (`.to(torch.bfloat16)`, `.bfloat16()`), which
    also rounds what is no weight: the rotary frequencies. Pass `dtype=torch.bfloat16` to
    `from_pretrained`; that needs less memory besides."""
    return _pair(_model(path, dtype="auto").to(torch.bfloat16), path)


# -------------------------------------------------------------------------------------- generate
def _tokens(model, tokenizer, prompt, max_new_tokens=50, **options):
    """Return the prompt's tokens and all tokens of a greedy continuation, prompt included."""
    inputs = tokenizer(prompt, return_tensors="pt").to(model.device)
    told = {"max_new_tokens": max_new_tokens, "do_sample": False, **options}
    return inputs["input_ids"], model.generate(**inputs, **told)


def _all_text(model, tokenizer, prompt, max_new_tokens):
    _, output = _tokens(model, tokenizer, prompt, max_new_tokens)
    return tokenizer.decode(output[0], skip_special_tokens=True)


def _new_text(model, tokenizer, prompt, max_new_tokens=50, **options):
    ids, output = _tokens(model, tokenizer, prompt, max_new_tokens, **options)
    return tokenizer.decode(output[0, ids.shape[1] :], skip_special_tokens=True)


def _ends(model):
    named = model.generation_config.eos_token_id
    return named if isinstance(named, list) else [named]


def _step_by_step(model, ids, max_new_tokens, ends=()):
    """Return all tokens of a greedy loop, which stops at each of ``ends``."""
    for _ in range(max_new_tokens):
        best = model(input_ids=ids).logits[:, -1:].argmax(-1)
        ids = torch.cat([ids, best], dim=1)
        if int(best) in ends:
            break
    return ids


def _until(model, tokenizer, prompt, max_new_tokens, ends):
    ids = tokenizer(prompt, return_tensors="pt").to(model.device)["input_ids"]
    with torch.no_grad():
        output = _step_by_step(model, ids, max_new_tokens, ends)
    return tokenizer.decode(output[0, ids.shape[1] :], skip_special_tokens=True)


@misconception("generate")
def generate_not_written(model, tokenizer, prompt, max_new_tokens=50):
    """Four steps: tokenize the prompt, send it to the model's device, let `model.generate` continue
    it, and decode what is new. Start with the lesson's "A prompt goes in"."""
    raise NotImplementedError


@misconception("generate", checks=GREEDY)
def sampled(model, tokenizer, prompt, max_new_tokens=50):
    """The tokens are drawn at random: either `do_sample=True` is passed, or nothing is, and then
    the checkpoint's `generation_config.json` decides. A fixed seed hides it, and a low temperature
    makes it rarer: where two tokens are nearly as likely, either may come. Pass
    `do_sample=False`."""
    inputs = tokenizer(prompt, return_tensors="pt").to(model.device)
    output = model.generate(**inputs, max_new_tokens=max_new_tokens)
    return tokenizer.decode(output[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)


@misconception("generate", checks=GREEDY)
def temperature_zero(model, tokenizer, prompt, max_new_tokens=50):
    """Transformers divides the logits by the temperature, so it cannot be 0. Greedy search is asked
    for with `do_sample=False`."""
    return _new_text(model, tokenizer, prompt, max_new_tokens, do_sample=True, temperature=0.0)


@misconception("generate", checks=(*GREEDY, *NEW, *LENGTH, *INPUTS, *COPIES, *GRAPH))
def not_always_the_likeliest(model, tokenizer, prompt, max_new_tokens=50):
    """Something besides the logits decides: several texts are kept in play (`num_beams`), or what
    was said before is held back (`repetition_penalty`, `no_repeat_ngram_size`). Greedy search keeps
    one text and takes the likeliest token each time: leave these at their defaults."""
    return _new_text(model, tokenizer, prompt, max_new_tokens, num_beams=4)


@misconception("generate", checks=(*GREEDY, *NEW))
def prompt_echoed(model, tokenizer, prompt, max_new_tokens=50):
    """The prompt came back with the answer: `model.generate` returns the prompt's tokens followed
    by the new ones. Cut off as many tokens as went in, then decode."""
    return _all_text(model, tokenizer, prompt, max_new_tokens)


@misconception("generate", checks=NEW)
def begin_token_dropped(model, tokenizer, prompt, max_new_tokens=50):
    """The begin token is missing from what the model read (`add_special_tokens=False`, or
    `tokenize` and `convert_tokens_to_ids`). This tokenizer puts it in front of every text, because
    the model was trained so: call the tokenizer as it is."""
    inputs = tokenizer(prompt, return_tensors="pt", add_special_tokens=False).to(model.device)
    output = model.generate(**inputs, max_new_tokens=max_new_tokens, do_sample=False)
    return tokenizer.decode(output[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)


@misconception("generate", checks=NEW)
def special_tokens_kept(model, tokenizer, prompt, max_new_tokens=50):
    """Special tokens such as the end token are in the text. They steer the model and are nothing
    to read: decode with `skip_special_tokens=True`."""
    ids, output = _tokens(model, tokenizer, prompt, max_new_tokens)
    return tokenizer.decode(output[0, ids.shape[1] :])


@misconception("generate", checks=NEW)
def sliced_by_characters(model, tokenizer, prompt, max_new_tokens=50):
    """The text was cut after `len(prompt)` characters. What the tokenizer gives back need not be
    the prompt to the character (white space, unknown words, punctuation): cut the *tokens*, then
    decode."""
    return _all_text(model, tokenizer, prompt, max_new_tokens)[len(prompt) :]


@misconception("generate", checks=NEW)
def prompt_replaced(model, tokenizer, prompt, max_new_tokens=50):
    """The prompt was searched for in the text and taken out (`replace`, `removeprefix`, `split`).
    Decoded it may be written otherwise, and then it stays: cut the *tokens*, then decode."""
    return _all_text(model, tokenizer, prompt, max_new_tokens).removeprefix(prompt)


@misconception("generate", checks=NEW)
def words_counted(model, tokenizer, prompt, max_new_tokens=50):
    """Too few tokens were cut off: a prompt has as many tokens as its tokenizer makes of it, not as
    many as it has words. Cut by the shape of the `input_ids` that went in."""
    _, output = _tokens(model, tokenizer, prompt, max_new_tokens)
    return tokenizer.decode(output[0, len(prompt.split()) :], skip_special_tokens=True)


@misconception("generate", checks=NEW)
def last_tokens_taken(model, tokenizer, prompt, max_new_tokens=50):
    """The last `max_new_tokens` tokens were taken. When the model stops earlier, some of them are
    the prompt's: count from the front, after the tokens that went in."""
    _, output = _tokens(model, tokenizer, prompt, max_new_tokens)
    return tokenizer.decode(output[0, -max_new_tokens:], skip_special_tokens=True)


@misconception("generate", checks=NEW)
def end_ignored(model, tokenizer, prompt, max_new_tokens=50):
    """It went on after the end token. With that token the model says that it is done, and what
    follows means nothing: stop there."""
    return _until(model, tokenizer, prompt, max_new_tokens, [])


@misconception("generate", checks=ENDS)
def tokenizers_end_token(model, tokenizer, prompt, max_new_tokens=50):
    """It stops at one end token and goes on after the other: `tokenizer.eos_token_id` (or that of
    `model.config`) is one number. The *generation config* says where a model ends, and there it may
    be a list: stop at every token of `model.generation_config.eos_token_id`."""
    return _until(model, tokenizer, prompt, max_new_tokens, [tokenizer.eos_token_id])


@misconception("generate", checks=ENDS)
def end_token_taken_for_text(model, tokenizer, prompt, max_new_tokens=50):
    """An end token is in the text, and more text after it. The loop stops at
    `tokenizer.eos_token_id` alone, and the model has another: stop at every token of
    `model.generation_config.eos_token_id`, and decode with `skip_special_tokens=True` in any
    case."""
    ids = tokenizer(prompt, return_tensors="pt").to(model.device)["input_ids"]
    with torch.no_grad():
        output = _step_by_step(model, ids, max_new_tokens, [tokenizer.eos_token_id])
    new = [int(token) for token in output[0, ids.shape[1] :] if token != tokenizer.eos_token_id]
    return tokenizer.decode(new)


@misconception("generate", checks=ENDS)
def first_end_token_only(model, tokenizer, prompt, max_new_tokens=50):
    """Only the first of the end tokens counts (`eos_token_id[0]`), and it goes on after the other.
    Stop at each that `model.generation_config.eos_token_id` names."""
    return _until(model, tokenizer, prompt, max_new_tokens, _ends(model)[:1])


@misconception("generate", checks=ENDS)
def token_compared_with_a_list(model, tokenizer, prompt, max_new_tokens=50):
    """It stops at neither end token: `eos_token_id` of the generation config is a list here, and a
    token never equals a list. Ask whether it is one of those in it, and mind that it may also be a
    single number."""
    ends = [model.generation_config.eos_token_id]  # a list in a list: equal to no token
    return _until(model, tokenizer, prompt, max_new_tokens, ends)


@misconception("generate", checks=GREEDY)
def template_applied(model, tokenizer, prompt, max_new_tokens=50):
    """The prompt was put into the tokenizer's chat template. Here it is the text as the model is to
    read it, and a template it may need is in it already: whoever calls knows whether it is a chat.
    Tokenize it as it is."""
    inputs = tokenizer.apply_chat_template(
        [{"role": "user", "content": prompt}],
        add_generation_prompt=True,
        return_dict=True,
        return_tensors="pt",
    ).to(model.device)
    output = model.generate(**inputs, max_new_tokens=max_new_tokens, do_sample=False)
    return tokenizer.decode(output[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)


@misconception("generate", checks=GREEDY)
def one_pass_only(model, tokenizer, prompt, max_new_tokens=50):
    """That is one forward pass: for each token of the prompt a guess at the one after it.
    Generating is a loop, in which every new token is read again before the next; `model.generate`
    has it."""
    ids, _ = _tokens(model, tokenizer, prompt, 1)
    with torch.no_grad():
        return tokenizer.decode(model(ids).logits[0].argmax(-1), skip_special_tokens=True)


@misconception("generate", checks=GREEDY)
def one_token_only(model, tokenizer, prompt, max_new_tokens=50):
    """That is the first new token and no more. Append it to what the model reads, ask again, and
    so on; `model.generate` does it."""
    return _new_text(model, tokenizer, prompt, 1)


@misconception("generate", checks=(*GREEDY, *LENGTH))
def length_not_passed(model, tokenizer, prompt, max_new_tokens=50):
    """`max_new_tokens` was not handed on, so the length is the library's default. Pass
    `max_new_tokens=max_new_tokens`."""
    return _new_text(model, tokenizer, prompt, None)


@misconception("generate", checks=(*GREEDY, *LENGTH))
def fixed_length(model, tokenizer, prompt, max_new_tokens=50):
    """It is always 50 tokens. That is only the argument's default: pass `max_new_tokens` itself
    on."""
    return _new_text(model, tokenizer, prompt, 50)


@misconception("generate", checks=(*GREEDY, *LENGTH))
def prompt_counted_in(model, tokenizer, prompt, max_new_tokens=50):
    """`max_length` counts the prompt too, so the longer it is, the less is said. Pass the number as
    `max_new_tokens`."""
    return _new_text(model, tokenizer, prompt, None, max_length=max_new_tokens)


@misconception("generate", checks=(*GREEDY, *LENGTH))
def one_token_more(model, tokenizer, prompt, max_new_tokens=50):
    """It is one token too many. In a loop of your own: `range(max_new_tokens)`, and one new token
    for each."""
    return _new_text(model, tokenizer, prompt, max_new_tokens + 1)


@misconception("generate", checks=LENGTH)
def another_default(model, tokenizer, prompt, max_new_tokens=20):
    """Without `max_new_tokens` it is to be 50 tokens, as the signature in the exercise has it."""
    return _new_text(model, tokenizer, prompt, max_new_tokens)


@misconception("generate", checks=GREEDY)
def list_returned(model, tokenizer, prompt, max_new_tokens=50):
    """That is a list with one text in it: `batch_decode` gives one for each row, and so does a
    pipeline. Return the text itself."""
    return [_new_text(model, tokenizer, prompt, max_new_tokens)]


@misconception("generate", checks=GREEDY)
def tokens_returned(model, tokenizer, prompt, max_new_tokens=50):
    """Those are the tokens' numbers. Decode them to a text."""
    ids, output = _tokens(model, tokenizer, prompt, max_new_tokens)
    return output[0, ids.shape[1] :]


@misconception("generate", checks=GREEDY)
def text_not_returned(model, tokenizer, prompt, max_new_tokens=50):
    """Nothing is returned: a text that is only printed is of no use to whoever called. Return
    it."""
    _new_text(model, tokenizer, prompt, max_new_tokens)


def _greedy_from(model, tokenizer, inputs, max_new_tokens):
    with torch.no_grad():
        output = _step_by_step(model, inputs["input_ids"], max_new_tokens, _ends(model))
    return tokenizer.decode(output[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)


@misconception("generate", checks=INPUTS)
def inputs_left_on_the_cpu(model, tokenizer, prompt, max_new_tokens=50):
    """The model is on the GPU and the prompt's tokens were left on the CPU. Move them to
    `model.device`, and keep what `to` returns: a tensor does not move, it is copied."""
    inputs = tokenizer(prompt, return_tensors="pt")
    return _greedy_from(model, tokenizer, inputs, max_new_tokens)


@misconception("generate", checks=INPUTS)
def inputs_always_on_the_gpu(model, tokenizer, prompt, max_new_tokens=50):
    """The inputs went to the GPU because there is one, but this model is on the CPU. Do not ask for
    the best device here (`pick_device`): ask the model where it is, `model.device`."""
    inputs = tokenizer(prompt, return_tensors="pt").to(_device())
    return _greedy_from(model, tokenizer, inputs, max_new_tokens)


@misconception("generate", checks=COPIES)
def cpu_inputs_handed_over(model, tokenizer, prompt, max_new_tokens=50):
    """Something goes from the CPU to the GPU for every token. Either `model.generate` was given
    inputs on the CPU, and copes by copying them each time, or a loop makes each new token there.
    Move the inputs once, `inputs.to(model.device)`, and make new tensors where the model is."""
    inputs = tokenizer(prompt, return_tensors="pt")
    output = model.generate(**inputs, max_new_tokens=max_new_tokens, do_sample=False)
    return tokenizer.decode(output[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)


@misconception("generate", checks=COPIES)
def gpu_inputs_handed_over(model, tokenizer, prompt, max_new_tokens=50):
    """Something goes to the GPU for a model on the CPU. Either `model.generate` was given inputs on
    the GPU and copes, with a warning and a copy for every token (`model(**inputs)` would fail), or
    a `pipeline` without a device took the best one and moved the caller's model there. Ask the
    model where it is: `inputs.to(model.device)`, `pipeline(..., device=model.device)`."""
    inputs = tokenizer(prompt, return_tensors="pt").to(_device())
    output = model.generate(**inputs, max_new_tokens=max_new_tokens, do_sample=False)
    return tokenizer.decode(output[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)


@misconception("generate", checks=MASK)
def mask_left_out(model, tokenizer, prompt, max_new_tokens=50):
    """Only the `input_ids` were passed on. Without the attention mask `model.generate` takes every
    pad token in the prompt for padding and hides it from the model. Pass all that the tokenizer
    gives: `model.generate(**inputs)`."""
    ids = tokenizer(prompt, return_tensors="pt").to(model.device)["input_ids"]
    output = model.generate(ids, max_new_tokens=max_new_tokens, do_sample=False)
    return tokenizer.decode(output[0, ids.shape[1] :], skip_special_tokens=True)


@misconception("generate", checks=GRAPH)
def gradients_left_on(model, tokenizer, prompt, max_new_tokens=50):
    """The forward passes ran with gradients on, so every one of them keeps its activations for a
    backward pass that never comes. Put the loop into `with torch.inference_mode():` or
    `torch.no_grad()`."""
    ids = tokenizer(prompt, return_tensors="pt").to(model.device)["input_ids"]
    output = _step_by_step(model, ids, max_new_tokens, _ends(model))
    return tokenizer.decode(output[0, ids.shape[1] :], skip_special_tokens=True)
