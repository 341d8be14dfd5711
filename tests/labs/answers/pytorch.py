"""The PyTorch exercise in other words than the solution's, right and wrong."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file
from torch.cuda import is_available as _asked_early
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    TextIteratorStreamer,
    pipeline,
)


# --------------------------------------------------------------------------- pick_device, right
def _by_count():
    return torch.device("cuda:0") if torch.cuda.device_count() > 0 else torch.device("cpu")


def _by_accelerator():
    return torch.accelerator.current_accelerator(check_available=True) or "cpu"


def _by_accelerator_first_asked():
    if torch.accelerator.is_available():
        return torch.accelerator.current_accelerator().type
    return "cpu"


def _by_accelerator_count():
    return "cuda" if torch.accelerator.device_count() else "cpu"


def _by_trying():
    try:
        return torch.ones(1, device="cuda").device
    except (RuntimeError, AssertionError):
        return torch.device("cpu")


def _by_number():
    return f"cuda:{torch.cuda.current_device()}" if _asked_early() else "cpu"


# ---------------------------------------------------------------------------------- load, right
def _load_by_map(path):
    model = AutoModelForCausalLM.from_pretrained(path, dtype="bfloat16", device_map="auto")
    return model, AutoTokenizer.from_pretrained(path)


def _load_onto(path):
    tokenizer = AutoTokenizer.from_pretrained(path, use_fast=True)
    model = AutoModelForCausalLM.from_pretrained(
        Path(path), torch_dtype=torch.bfloat16, device_map=_by_count(), low_cpu_mem_usage=True
    )
    return [model.eval(), tokenizer]


def _load_and_cast(path):
    model = AutoModelForCausalLM.from_pretrained(path).to(_by_accelerator(), torch.bfloat16)
    return model.train(mode=False), AutoTokenizer.from_pretrained(path)


def _load_and_call_cuda(path):
    model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.bfloat16)
    model.requires_grad_(requires_grad=False)
    tokenizer = AutoTokenizer.from_pretrained(path)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return (model.cuda() if torch.cuda.is_available() else model), tokenizer


def _load_where_everything_goes(path):
    with torch.device(_by_count()):
        model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.bfloat16)
    return model, AutoTokenizer.from_pretrained(path)


def _load_with_a_default_device(path):
    torch.set_default_device(_by_trying())
    model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.bfloat16)
    return model, AutoTokenizer.from_pretrained(path)


def _load_by_hand(path):
    model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(path))
    model.load_state_dict(load_file(f"{path}/model.safetensors"))
    for parameter in model.parameters():
        parameter.data = parameter.data.bfloat16()
    return model.to(_by_number()).eval(), AutoTokenizer.from_pretrained(path)


# ------------------------------------------------------------------------------ generate, right
def _all_tokens(model, tokenizer, prompt, max_new_tokens=50):
    inputs = tokenizer([prompt], return_tensors="pt").to(model.device)
    with torch.no_grad():
        output = model.generate(**inputs, max_new_tokens=max_new_tokens, do_sample=False)
    return inputs.input_ids, output


def _by_batch(model, tokenizer, prompt, max_new_tokens=50):
    ids, output = _all_tokens(model, tokenizer, prompt, max_new_tokens)
    texts = tokenizer.batch_decode(
        output[:, ids.shape[-1] :], skip_special_tokens=True, clean_up_tokenization_spaces=True
    )
    return f" {texts[0]}\n"


def _by_the_decoded_prompt(model, tokenizer, prompt, max_new_tokens=50):
    ids, output = _all_tokens(model, tokenizer, prompt, max_new_tokens)
    asked, told = (tokenizer.decode(x[0], skip_special_tokens=True) for x in (ids, output))
    return told[len(asked) :].strip()


def _by_config(model, tokenizer, prompt, max_new_tokens=50):
    ids = torch.tensor([tokenizer.encode(prompt)], device=model.device)
    config = GenerationConfig(
        max_new_tokens=max_new_tokens,
        do_sample=False,
        eos_token_id=model.generation_config.eos_token_id,
        pad_token_id=tokenizer.eos_token_id,
    )
    output = model.generate(
        inputs=ids, attention_mask=torch.ones_like(ids), generation_config=config
    )
    new = output[0].cpu().tolist()[ids.shape[1] :]
    return tokenizer.decode([t for t in new if t not in tokenizer.all_special_ids])


def _by_pipeline(model, tokenizer, prompt, max_new_tokens=50):
    chain = pipeline("text-generation", model=model, tokenizer=tokenizer, device=model.device)
    told = chain(prompt, max_new_tokens=max_new_tokens, do_sample=False, return_full_text=False)
    return told[0]["generated_text"]


def _by_one_candidate(model, tokenizer, prompt, max_new_tokens=50):
    inputs = tokenizer(prompt, return_tensors="pt").to(next(model.parameters()).device)
    output = model.generate(
        **inputs, max_new_tokens=max_new_tokens, do_sample=True, top_k=1, temperature=1.0
    )
    text = tokenizer.decode(output[0][len(inputs["input_ids"][0]) :])
    for token in tokenizer.all_special_tokens:
        text = text.replace(token, "")
    return text


def _by_streaming(model, tokenizer, prompt, max_new_tokens=50):
    streamer = TextIteratorStreamer(tokenizer, skip_prompt=True, skip_special_tokens=True)
    inputs = tokenizer(prompt, return_tensors="pt").to(model.device)
    model.generate(
        **inputs, streamer=streamer, max_new_tokens=max_new_tokens, do_sample=False, num_beams=1
    )
    return "".join(streamer)


def _ends(model):
    ends = model.generation_config.eos_token_id
    return set(ends) if isinstance(ends, list) else {ends}


def _by_loop(model, tokenizer, prompt, max_new_tokens=50):
    ids = tokenizer(prompt, return_tensors="pt").input_ids.to(model.device)
    start = ids.size(1)
    model.eval()
    with torch.no_grad():
        while ids.size(1) - start < max_new_tokens:
            best = model(ids).logits[:, -1].argmax(dim=-1, keepdim=True)
            ids = torch.cat((ids, best), dim=-1)
            if best.item() in _ends(model):
                break
    return tokenizer.decode(ids[0][start:], skip_special_tokens=True)


@torch.inference_mode()
def _by_loop_with_cache(model, tokenizer, prompt, max_new_tokens=50):
    step, cache = tokenizer(prompt, return_tensors="pt").to(model.device).input_ids, None
    new = []
    for _ in range(max_new_tokens):
        output = model(input_ids=step, past_key_values=cache, use_cache=True)
        cache, step = output.past_key_values, output.logits[:, -1:].argmax(-1)
        if torch.isin(step, torch.tensor(list(_ends(model)), device=step.device)).any():
            break
        new.append(int(step))
    return tokenizer.decode(new, skip_special_tokens=True)


RIGHT = {
    "pick_device": (
        _by_count,
        _by_accelerator,
        _by_accelerator_first_asked,
        _by_accelerator_count,
        _by_trying,
        _by_number,
    ),
    "load": (
        _load_by_map,
        _load_onto,
        _load_and_cast,
        _load_and_call_cuda,
        _load_where_everything_goes,
        _load_with_a_default_device,
        _load_by_hand,
    ),
    "generate": (
        _by_batch,
        _by_the_decoded_prompt,
        _by_config,
        _by_pipeline,
        _by_one_candidate,
        _by_streaming,
        _by_loop,
        _by_loop_with_cache,
    ),
}


# ----------------------------------------------------------------------- wrong, and not listed
def _loaded_and(change):
    def load(path):
        model, tokenizer = _load_by_map(path)
        return change(model, tokenizer)

    return load


def _head_in_float32(model, tokenizer):
    model.lm_head.float()
    return model, tokenizer


def _last_layer_zeroed(model, tokenizer):
    with torch.no_grad():
        next(iter(model.model.layers[-1].parameters())).zero_()
    return model, tokenizer


def _half_moved(path):
    model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.bfloat16)
    model.lm_head.to(_by_count())
    return model, AutoTokenizer.from_pretrained(path)


def _token_added(model, tokenizer):
    tokenizer.add_tokens([" "])
    return model, tokenizer


def _told(change):
    def generate(model, tokenizer, prompt, max_new_tokens=50):
        return change(_by_batch(model, tokenizer, prompt, max_new_tokens))

    return generate


def _coldly(seed, temperature):
    """Draws at random, and so rarely anything but the likeliest that it seems greedy."""

    def generate(model, tokenizer, prompt, max_new_tokens=50):
        ids = tokenizer(prompt, return_tensors="pt").input_ids.to(model.device)
        start, generator = ids.shape[1], torch.Generator(ids.device).manual_seed(seed)
        with torch.no_grad():
            while ids.shape[1] < start + max_new_tokens and int(ids[0, -1]) not in _ends(model):
                chances = (model(ids).logits[:, -1] / temperature).softmax(-1)
                ids = torch.cat([ids, chances.multinomial(1, generator=generator)], dim=1)
        return tokenizer.decode(ids[0, start:], skip_special_tokens=True)

    return generate


def _second_best(model, tokenizer, prompt, max_new_tokens=50):
    ids = tokenizer(prompt, return_tensors="pt").input_ids.to(model.device)
    start = ids.shape[1]
    with torch.no_grad():
        for _ in range(max_new_tokens):
            ids = torch.cat([ids, model(ids).logits[:, -1].topk(2).indices[:, 1:]], dim=1)
    return tokenizer.decode(ids[0, start:], skip_special_tokens=True)


def _only_the_last_word_read(model, tokenizer, prompt, max_new_tokens=50):
    return _by_batch(model, tokenizer, prompt.split()[-1], max_new_tokens + 1)


def _one_fewer(model, tokenizer, prompt, max_new_tokens=50):
    return _by_batch(model, tokenizer, prompt, max_new_tokens - 1)


def _with(before="", after="", **options):
    def generate(model, tokenizer, prompt, max_new_tokens=50):
        inputs = tokenizer(before + prompt + after, return_tensors="pt").to(model.device)
        output = model.generate(
            **inputs, **{"max_new_tokens": max_new_tokens, "do_sample": False, **options}
        )
        new = output[0, inputs["input_ids"].shape[1] :]
        return tokenizer.decode(new, skip_special_tokens=True)

    return generate


def _padded_to_the_right(model, tokenizer, prompt, max_new_tokens=50):
    ids = tokenizer(prompt, return_tensors="pt")["input_ids"].to(model.device)
    ids = torch.nn.functional.pad(ids, (0, 16), value=tokenizer.eos_token_id)
    output = model.generate(ids, max_new_tokens=max_new_tokens, do_sample=False)
    return tokenizer.decode(output[0, ids.shape[1] :], skip_special_tokens=True)


WRONG = {
    "pick_device": (
        lambda: "gpu" if torch.cuda.is_available() else "cpu",
        lambda: 0 if torch.cuda.is_available() else -1,
        lambda: torch.device("meta"),
        lambda: [_by_count()],
        lambda: torch.cuda.get_device_name(),
    ),
    "load": (
        _loaded_and(_head_in_float32),
        _loaded_and(_last_layer_zeroed),
        _loaded_and(_token_added),
        _loaded_and(lambda model, tokenizer: (model.double(), tokenizer)),
        _loaded_and(lambda model, tokenizer: (model, tokenizer, _by_count())),
        _loaded_and(lambda model, tokenizer: {"model": model, "tokenizer": tokenizer}),
        _loaded_and(lambda model, tokenizer: (model.state_dict(), tokenizer)),
        _half_moved,
        lambda path: (path, path),
    ),
    "generate": (
        _told(str.upper),
        _told(lambda text: text + " and so on"),
        _told(lambda text: " ".join(text.split()[::-1])),
        _told(lambda text: {"text": text}),
        _told(str.encode),
        _with(before="<s> "),
        _with(after=" </s>"),
        _padded_to_the_right,
        _second_best,
        _coldly(0, 0.01),
        _coldly(7, 0.02),
        _only_the_last_word_read,
        _one_fewer,
        lambda model, tokenizer, prompt, max_new_tokens=50: "",
        lambda model, tokenizer, prompt, max_new_tokens=50: prompt,
    ),
}
