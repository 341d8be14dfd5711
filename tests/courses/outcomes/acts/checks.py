"""Checks for every outcome a check can have."""

from verify.authoring import check


@check("act", review="Acting", seconds=1.0)
def acts(trial):
    """`act(x)` is `x + 1`."""
    x = trial.random.uniform(1, 2)
    trial.expect(f"act({x:.3f})", trial.observe("acts", x=x), x + 1)


@check("act", review="Acting", seconds=1.0)
def acts_again(trial):
    """`act(x)` is `x + 1` another time."""
    trial.expect("act(5.0)", trial.observe("acts", x=5.0), 6.0)


@check("other", review="Others", evidence="probe", level="advice")
def others(trial):
    """`other()` is 7."""
    trial.expect("other()", trial.observe("others"), 7)


@check("other", review="Others", gpu=True)
def needs_a_gpu(trial):
    """`other()` is 7 on a GPU."""
    trial.expect("other()", trial.observe("others"), 7)
