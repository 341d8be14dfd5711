"""The checks of the training lab: the truth is computed here, in float64, by torch or a formula."""

from __future__ import annotations

import math
from typing import Any

import scene
import torch
import torch.nn.functional as F  # noqa: N812 - the field's name for it
from torch import Tensor

from verify.authoring import check
from verify.compare import same
from verify.plain import Array, Plain, Raised
from verify.shorten import shorten
from verify.tensors import plain, to_tensor
from verify.trial import Trial

IGNORED = -100  # torch's default, and what collators write
EXACT = {"rtol": 0.0, "atol": 0.0}
CLOSE = {"rtol": 1e-6, "atol": 1e-6}  # a float32 next to a float64, and no rounding to decimals


@check("loss_from_probability", review="One prediction")
def loss_is_minus_the_natural_log(trial: Trial) -> None:
    """`loss_from_probability(p)` is minus the natural logarithm of p."""
    lows = (0.05, 0.2, 0.35, 0.5, 0.65, 0.8)
    probabilities = [trial.random.uniform(low, low + 0.15) for low in lows]
    probabilities += [10 ** trial.random.uniform(low, low + 2) for low in (-6, -18, -30)]
    came = trial.observe("losses_from_probabilities", probabilities=probabilities)
    asked = [f"loss_from_probability({p:.4g})" for p in probabilities]
    why = "It is 0 for a certainty and grows, slowly at first, as the probability falls."
    trial.expect_each(asked, came, [-math.log(p) for p in probabilities], why=why, **CLOSE)


@check("cross_entropy", review="From logits to a loss")
def mean_over_the_kept_targets(trial: Trial) -> None:
    """`cross_entropy` is the mean loss of the targets that are not ignored."""
    kinds = (None, IGNORED, "a token", IGNORED, 0)  # two of a kind: no two means agree
    cases = [_rows(trial, ignore=kind) for kind in kinds]
    came = trial.observe("cross_entropies", cases=cases)
    why = (
        "Each row's loss is the surprise at its target; rows to be ignored count neither in the "
        "sum nor in what it is divided by."
    )
    trial.expect_each([_asked(case) for case in cases], came, [_loss(c) for c in cases], why=why)


@check("cross_entropy", review="Logits in the thousands", after=("mean_over_the_kept_targets",))
def finite_for_large_logits(trial: Trial) -> None:
    """`cross_entropy` stays finite and right for logits of thousands."""
    spread = _rows(trial, ignore=IGNORED, scale=trial.random.uniform(1000, 3000))
    spread["targets"][0] = spread["logits"][0].argmin()  # its probability is 0 in any float
    above, below = _rows(trial, ignore=IGNORED), _rows(trial, ignore=IGNORED)
    above["logits"] += trial.random.uniform(1000, 3000)
    below["logits"] -= trial.random.uniform(1000, 3000)
    apart = _rows(trial, ignore=IGNORED)
    sides = torch.tensor([1.0, -1.0]).repeat(len(apart["logits"]))[: len(apart["logits"]), None]
    apart["logits"] += sides * trial.random.uniform(1000, 3000)  # no number fits all rows
    cases = [spread, above, below, apart]
    came = trial.observe("cross_entropies", cases=cases)
    if isinstance(came, Raised):
        trial.fail(_asked(spread), came)
    assert isinstance(came, list)
    assert len(came) == len(cases)
    for case, answer in zip(cases, came, strict=True):
        low, high = case["logits"].aminmax()
        # A float32 near 3000 is known to 1e-4: subtracting two of them may cost that much.
        trial.expect(
            f"{_asked(case)}, from {low:.0f} to {high:.0f}",
            answer,
            _loss(case),
            why="exp of thousands overflows and exp of minus thousands is 0: work with logarithms.",
            atol=4e-7 * max(abs(float(low)), abs(float(high))),
        )


@check("cross_entropy", review="From logits to a loss", after=("mean_over_the_kept_targets",))
def arguments_left_alone(trial: Trial) -> None:
    """`cross_entropy` changes neither the logits nor the targets it is given."""
    cases = [_rows(trial, ignore=kind) for kind in (IGNORED, "a token")]
    came = trial.observe("arguments_afterwards", function="cross_entropy", cases=cases)
    _expect_unchanged(trial, [_asked(case) for case in cases], came, cases)


@check(
    "cross_entropy",
    review="From logits to a loss",
    after=("mean_over_the_kept_targets", "finite_for_large_logits", "arguments_left_alone"),
)
def gradient_reaches_the_logits(trial: Trial) -> None:
    """`cross_entropy(...).backward()` leaves the right gradient on the logits."""
    cases = [_rows(trial, ignore=IGNORED), _rows(trial, ignore="a token")]
    cases.append(_rows(trial, ignore=IGNORED, scale=1000))
    came = trial.observe("cross_entropy_gradients", cases=cases)
    truths = [_gradient(case) for case in cases]
    _expect_gradients(trial, [_asked(case) for case in cases], came, truths)


@check(
    "cross_entropy",
    review="From logits to a loss",
    evidence="probe",
    after=("mean_over_the_kept_targets",),
)
def written_without_torchs_own(trial: Trial) -> None:
    """`cross_entropy` is written out, without torch's own cross-entropy or NLL loss."""
    case = _rows(trial, ignore=IGNORED)
    came = trial.observe("losses_of_torch_called", case=case)
    if isinstance(came, Raised):
        trial.fail(_asked(case), came)
    trial.require(
        came == "none",
        _asked(case),
        f"a call of torch's own {came} loss was seen",
        why="Here it is the exercise itself; log_softmax and logsumexp may be used.",
    )


@check("causal_lm_loss", review="The next token")
def next_token_with_gaps(trial: Trial) -> None:
    """`causal_lm_loss` compares each position with the next token and skips labels of -100."""
    cases = [_texts(trial, ignored=ignored) for ignored in (False, True, False, True)]
    cases.append(_texts(trial, ignored=True, batch=1))
    came = trial.observe("causal_losses", cases=cases)
    why = (
        "The logits at a position are a guess about the token after it, in the same row; the mean "
        "is over all the tokens of the batch that count."
    )
    truths = [_loss(_shifted(case)) for case in cases]
    trial.expect_each([_asked_causal(case) for case in cases], came, truths, why=why)


@check("causal_lm_loss", review="The next token", after=("next_token_with_gaps",))
def causal_arguments_left_alone(trial: Trial) -> None:
    """`causal_lm_loss` changes neither the logits nor the labels it is given."""
    cases = [_texts(trial, ignored=ignored) for ignored in (False, True)]
    came = trial.observe("arguments_afterwards", function="causal_lm_loss", cases=cases)
    _expect_unchanged(trial, [_asked_causal(case) for case in cases], came, cases)


@check(
    "causal_lm_loss",
    review="The next token",
    after=("next_token_with_gaps", "causal_arguments_left_alone"),
)
def causal_gradient_reaches_the_logits(trial: Trial) -> None:
    """`causal_lm_loss(...).backward()` leaves the right gradient on the logits."""
    cases = [_texts(trial, ignored=False), _texts(trial, ignored=True)]
    came = trial.observe("causal_gradients", cases=cases)
    truths = []
    for case in cases:
        gradient = torch.zeros_like(case["logits"], dtype=torch.float64)
        batch, length, vocabulary = gradient.shape
        gradient[:, :-1] = _gradient(_shifted(case)).view(batch, length - 1, vocabulary)
        truths.append(gradient)
    _expect_gradients(trial, [_asked_causal(case) for case in cases], came, truths)


@check("perplexity", review="Perplexity")
def perplexity_is_exp(trial: Trial) -> None:
    """`perplexity(loss)` is e to the power of the loss."""
    lows = (0.05, 0.2, 0.4, 0.6, 0.8, 1.0, 2.0, 4.0)
    losses = [0.0, *(trial.random.uniform(low, 1.5 * low) for low in lows)]
    losses.append(trial.random.uniform(30.0, 60.0))
    came = trial.observe("perplexities", losses=losses)
    asked = [f"perplexity({loss:.4g})" for loss in losses]
    why = "A loss in nats is a natural logarithm, and this is what it is the logarithm of."
    if isinstance(came, Raised):
        trial.fail(asked[0], came)
    for question, answer, loss in zip(asked, came, losses, strict=True):
        # A loss in float32 is known to one part in 2**24, and so its exp to ``loss`` such parts.
        trial.expect(question, answer, math.exp(loss), why=why, rtol=2e-7 * (1 + loss), atol=0.0)


@check("train", review="The loop", seconds=30.0)
def one_adamw_step_per_batch(trial: Trial) -> None:
    """`train` takes one AdamW step per batch: the weights end where a trusted loop's do."""
    faint = _training_run(trial, scale=10 ** trial.random.uniform(-3, -2))
    strong = _training_run(trial, scale=trial.random.uniform(100, 300))
    came = trial.observe("trained", runs=[faint, strong])
    sizes = ("small", "large")
    asked = [
        f"{_asked_training(run)} and {size} gradients"
        for run, size in zip((faint, strong), sizes, strict=True)
    ]
    _expect_weights(trial, asked, came, [faint, strong])


@check("train", review="The loop", after=("one_adamw_step_per_batch",), seconds=30.0)
def one_loss_per_batch(trial: Trial) -> None:
    """`train` returns one loss per batch, each from before that batch's step."""
    run = _training_run(trial)
    came = trial.observe("trained", runs=[run])
    answer = came[0] if isinstance(came, list) else came
    if isinstance(answer, Raised):
        trial.fail(_asked_training(run), answer)
    why = "A list with one number per batch: the loss whose gradient that batch's step followed."
    truth = _trusted(run)["losses"]
    # 1e-7: a float32 of it passes, one rounded to four decimals does not.
    trial.expect(_asked_training(run), answer["losses"], truth, why=why, rtol=1e-7, atol=0.0)


@check("train", review="The loop", after=("one_adamw_step_per_batch",), seconds=30.0)
def batches_left_alone(trial: Trial) -> None:
    """`train` leaves the batches as they were: another pass over them would find them whole."""
    run = _training_run(trial)
    came = trial.observe("trained", runs=[run])
    answer = came[0] if isinstance(came, list) else came
    if isinstance(answer, Raised):
        trial.fail(_asked_training(run), answer)
    why = "The batches are the caller's, and most runs make more than one pass."
    for number, (left, given) in enumerate(zip(answer["batches"], run["batches"], strict=True)):
        told = f"afterwards batches[{number}] is {shorten(left)}"
        trial.require(same(left, plain(given), **EXACT), _asked_training(run), told, why=why)


@check("train", review="Training mode", after=("one_adamw_step_per_batch",), seconds=30.0)
def trains_in_training_mode(trial: Trial) -> None:
    """`train` puts the model in training mode, whichever mode it arrives in."""
    runs = [_training_run(trial, training=training) for training in (False, True)]
    came = trial.observe("trained", runs=runs)
    modes = ("in evaluation mode", "in training mode")
    asked = [
        f"{_asked_training(run)} and a model that arrives {mode}"
        for run, mode in zip(runs, modes, strict=True)
    ]
    _expect_weights(trial, asked, came, runs)


@check(
    "train",
    review="What to keep of a loss",
    evidence="probe",
    level="advice",
    after=("one_loss_per_batch",),
    seconds=30.0,
)
def losses_hold_no_graph(trial: Trial) -> None:
    """The losses that `train` returns are numbers, not tensors that hold on to their graph."""
    run = _training_run(trial)
    came = trial.observe("losses_with_a_graph", run=run)
    if isinstance(came, Raised):
        trial.fail(_asked_training(run), came)
    trial.require(
        came == 0 and type(came) is int,
        _asked_training(run),
        f"{came} of the losses still hold their graph",
        why="A loss that is kept with its graph keeps what backward did not free.",
    )


def _rows(trial: Trial, ignore: int | str | None = None, scale: float = 2.0) -> dict[str, Any]:
    """Draw logits (N, V) and targets (N,), some of them to be ignored if ``ignore`` says so.

    Every token that is not ignored is the target of some row: none can be left out unseen. The
    first row is always kept. With ``ignore`` 0 or "a token" (another), the case names the token.
    """
    vocabulary = trial.random.randint(6, 12)
    if ignore == "a token":
        ignore = trial.random.randrange(1, vocabulary)
    case = {} if ignore in (None, IGNORED) else {"ignore_index": ignore}
    tokens = [token for token in range(vocabulary) if token != ignore]
    targets = trial.random.sample(tokens, len(tokens))
    targets += trial.random.choices(tokens, k=trial.random.randint(1, 4))
    if ignore is not None:
        for _ in range(trial.random.randint(2, 6)):
            targets.insert(trial.random.randint(1, len(targets)), int(ignore))
    logits = trial.normal(len(targets), vocabulary, scale=scale)
    return {"logits": logits, "targets": torch.tensor(targets), **case}


def _texts(trial: Trial, *, ignored: bool, batch: int | None = None) -> dict[str, Any]:
    """Draw logits (B, T, V) and labels (B, T); each row ignores another number, the last ones few.

    Rows differ in how many of their tokens count, as prompts and paddings of different lengths do.
    Where nothing is ignored, every token is to be predicted somewhere.
    """
    batch, length = batch or trial.random.randint(2, 4), trial.random.randint(7, 10)
    vocabulary = trial.random.randint(6, 12)
    labels = trial.integers(0, vocabulary, batch, length)
    if not ignored:
        predicted = [(row, place) for row in range(batch) for place in range(1, length)]
        for token, where in enumerate(trial.random.sample(predicted, vocabulary)):
            labels[where] = token
    for row, skipped in enumerate(trial.random.sample(range(1, length - 2), batch)):
        if ignored:
            labels[row, :skipped] = IGNORED
            labels[row, trial.random.randint(skipped + 1, length - 1)] = IGNORED
    return {"logits": trial.normal(batch, length, vocabulary, scale=2.0), "labels": labels}


def _training_run(trial: Trial, *, training: bool = True, scale: float = 1.0) -> dict[str, Any]:
    """Draw a model, 5 to 7 batches and a learning rate: what the scene `trained` is given.

    Args:
        trial: Draws.
        training: The mode that the model arrives in.
        scale: Of its logits. AdamW hardly sees how large all gradients are, but clipping shows
            where they are large (scale 100: a norm above 200), and another epsilon where they are
            small (scale 0.01: below 0.1).
    """
    vocabulary = trial.random.randint(7, 13)
    model = {
        "seed": trial.random.getrandbits(32),
        "vocabulary": vocabulary,
        "width": trial.random.randint(4, 7),
        "scale": scale,
    }
    rate = 2e-3 * 15 ** trial.random.random()  # 0.002 to 0.03
    batches = [_batch(trial, vocabulary) for _ in range(trial.random.randint(5, 7))]
    return {"model": model, "training": training, "batches": batches, "lr": rate}


def _batch(trial: Trial, vocabulary: int) -> dict[str, Tensor]:
    """Draw a batch padded on the left; the padding has no label, nor has a part of the rest."""
    shape = trial.random.randint(2, 4), trial.random.randint(5, 8)
    mask = torch.ones(shape, dtype=torch.int64)
    for row in mask[1:]:
        row[: trial.random.randint(1, 3)] = 0
    labels = trial.integers(0, vocabulary, *shape)
    labels[trial.integers(0, 4, *shape) == 0] = IGNORED
    labels[0, -1] = trial.random.randrange(vocabulary)  # never all of them
    return {
        "input_ids": trial.integers(0, vocabulary, *shape),
        "attention_mask": mask,
        "labels": labels.masked_fill(mask == 0, IGNORED),
    }


def _loss(case: dict[str, Any]) -> float:
    """Return the true cross-entropy of a case."""
    ignored = case.get("ignore_index", IGNORED)
    loss = F.cross_entropy(case["logits"].double(), case["targets"], ignore_index=ignored)
    return float(loss)


def _gradient(case: dict[str, Any]) -> Tensor:
    """Return the true gradient: (softmax - one-hot) / kept rows, and 0 in the ignored ones."""
    kept = case["targets"] != case.get("ignore_index", IGNORED)
    gradient: Tensor = case["logits"].double().softmax(-1)
    rows = torch.arange(len(kept))[kept]
    gradient[rows, case["targets"][kept]] -= 1
    return gradient.mul(kept.unsqueeze(-1)).div(int(kept.sum()))


def _shifted(case: dict[str, Any]) -> dict[str, Any]:
    """Return a causal case as the rows that count: all but the last against all but the first."""
    vocabulary = case["logits"].shape[-1]
    logits = case["logits"][:, :-1].reshape(-1, vocabulary)
    return {"logits": logits, "targets": case["labels"][:, 1:].reshape(-1)}


def _trusted(run: dict[str, Any]) -> dict[str, Any]:
    """Return the losses and the weights' changes of a loop that is right, on the same model."""
    model = scene.TinyModel(**run["model"]).train()
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    optimizer = torch.optim.AdamW(model.parameters(), lr=run["lr"])
    losses = []
    for batch in run["batches"]:
        optimizer.zero_grad()
        loss = model(**batch).loss
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    after = dict(model.named_parameters())
    return {"losses": losses, "changes": {k: after[k].detach() - before[k] for k in before}}


def _expect_weights(
    trial: Trial, asked: list[str], came: Plain, runs: list[dict[str, Any]]
) -> None:
    """Raise `Failure` unless each run changed every weight as the trusted loop does."""
    if isinstance(came, Raised):
        trial.fail(asked[0], came)
    assert isinstance(came, list)
    for question, answer, run in zip(asked, came, runs, strict=True):
        if isinstance(answer, Raised):
            trial.fail(question, answer)
        assert isinstance(answer, dict)
        changes = answer["changes"]
        assert isinstance(changes, dict)
        moved = any(isinstance(c, Array) and to_tensor(c).count_nonzero() for c in changes.values())
        trial.require(moved, question, "not one weight has changed", why="No step took effect.")
        why = "The weights moved, but not as one AdamW step per batch in training mode moves them."
        for name, true in _trusted(run)["changes"].items():
            trial.expect(
                f"{question}: the change of {name}", changes[name], true, why=why,
                rtol=1e-5, atol=0.0,
            )  # fmt: skip


def _expect_unchanged(
    trial: Trial, asked: list[str], came: Plain, cases: list[dict[str, Any]]
) -> None:
    """Raise `Failure` unless every tensor of every case came back as it was."""
    if isinstance(came, Raised):
        trial.fail(asked[0], came)
    assert isinstance(came, list)
    why = "It was changed in place; the arguments are the caller's. Work with new tensors."
    for question, answer, case in zip(asked, came, cases, strict=True):
        if isinstance(answer, Raised):
            trial.fail(question, answer)
        assert isinstance(answer, dict)
        for name in ("logits", "targets" if "targets" in case else "labels"):
            left, told = answer[name], f"afterwards {name} is {shorten(answer[name])}"
            trial.require(same(left, plain(case[name]), **EXACT), question, told, why=why)


def _expect_gradients(trial: Trial, asked: list[str], came: Plain, truths: list[Tensor]) -> None:
    """Raise `Failure` unless each observation holds the true gradient."""
    if isinstance(came, Raised):
        trial.fail(asked[0], came)
    assert isinstance(came, list)
    for question, answer, true in zip(asked, came, truths, strict=True):
        question = f"{question}, then backward()"
        if isinstance(answer, Raised):
            trial.fail(question, answer)
        assert isinstance(answer, dict)
        left = answer["gradient"]
        trial.require(
            left is not None,
            question,
            "no gradient arrived at the logits",
            why="A loss is for training: it must be a 0-d tensor that still has its graph.",
        )
        why = "The value is right but its derivative is not: some step on the way hides a part."
        # 2e-3: the logsumexp of a large float32 row is known to 1e-4 only, and so is its exp.
        trial.expect(f"{question}: logits.grad", left, true, why=why, rtol=2e-3)


def _asked(case: dict[str, Any]) -> str:
    ignored = case.get("ignore_index", IGNORED)
    given = f", ignore_index={ignored}" if "ignore_index" in case else ""
    count, (n, vocabulary) = int((case["targets"] == ignored).sum()), case["logits"].shape
    call = f"cross_entropy(logits, targets{given})"
    return f"{call} for logits of shape ({n}, {vocabulary}), {count} targets ignored"


def _asked_causal(case: dict[str, Any]) -> str:
    shape, count = tuple(case["logits"].shape), int((case["labels"] == IGNORED).sum())
    return f"causal_lm_loss(logits, labels) for logits of shape {shape}, {count} labels -100"


def _asked_training(run: dict[str, Any]) -> str:
    return f"train(model, batches, lr={run['lr']:.4g}) with {len(run['batches'])} batches"
