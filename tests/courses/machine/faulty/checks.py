"""Checks of a machine on which little is well."""

from verify.authoring import check
from verify.machine import Fault


@check(review="Cold", evidence="probe")
def cold(trial):
    """The machine is not cold."""
    raise Fault("It is 3 degrees.", "somebody left a window open", "close --window | tee log")


@check(review="Cold", evidence="probe")
def broken(trial):
    """This check has a mistake that comes and goes."""
    if not hasattr(broken, "tried"):
        broken.tried = True
        raise ZeroDivisionError


@check(review="Cold", evidence="probe", after=("cold",))
def waits(trial):
    """It waits for warmth."""
