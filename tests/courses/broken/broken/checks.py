"""A check that is itself wrong: our fault, never the learner's."""

from verify.authoring import check


@check("double", review="Doubling")
def broken(trial):
    """This check cannot work."""
    trial.observe("doubles", numbers=[1.0])
    raise ZeroDivisionError


@check("double", review="Doubling")
def doubles(trial):
    """`double(x)` is twice `x`."""
    trial.expect_each(["double(4.0)"], trial.observe("doubles", numbers=[4.0]), [8.0])
