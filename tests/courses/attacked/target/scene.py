"""Scenes whose outcome a test decides by the exercise it sends."""


def acts(exercise, x):
    """Return what `act` gives."""
    return exercise.act(x)


def others(exercise):
    """Return what `other` gives."""
    return exercise.other()
