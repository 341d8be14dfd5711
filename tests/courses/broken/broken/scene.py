"""The scenes of a toy lab."""

from verify.scene import attempt


def doubles(exercise, numbers):
    """Return what `double` gives for each number."""
    return [attempt(exercise.double, x) for x in numbers]


def shifted(exercise, x):
    """Return what `shift` gives."""
    return exercise.shift(x)
