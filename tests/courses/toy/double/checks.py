"""The checks of a toy lab."""

from verify.authoring import check


@check("double", review="Doubling")
def doubles(trial):
    """`double(x)` is twice `x`."""
    numbers = [trial.random.uniform(3, 9) for _ in range(3)]
    came = trial.observe("doubles", numbers=numbers)
    trial.expect_each([f"double({x:.3f})" for x in numbers], came, [2 * x for x in numbers])


@check("shift", review="Shifting", after=("doubles",))
def shifts(trial):
    """`shift(x)` adds one."""
    x = trial.normal(2, 3)
    came = trial.observe("shifted", x=x)
    trial.expect("shift(x)", came, x + 1, why="Every element grows by one.")
