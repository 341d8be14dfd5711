"""One value and one more: what an attack must not turn into passes."""

from verify.authoring import check


@check("act", review="Acting", seconds=6.0)
def acts(trial):
    """`act(x)` is `x + 1`."""
    x = trial.random.uniform(1, 2)
    trial.expect(f"act({x:.3f})", trial.observe("acts", x=x), x + 1)


@check("other", review="Others", seconds=6.0)
def others(trial):
    """`other()` is 7."""
    trial.expect("other()", trial.observe("others"), 7)
