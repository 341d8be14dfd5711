"""Checks of a machine on which all is well."""

import os

import beside

from verify.authoring import check
from verify.trial import NotRun


@check(review="Warmth", evidence="probe")
def warm(trial):
    """The machine is warm."""
    return beside.WARMTH


@check(review="Warmth", evidence="probe")
def absent(trial):
    """It has a part that it has not."""
    raise NotRun("no such part")


@check(review="Warmth", evidence="probe")
def caches(trial):
    """It says where its caches are."""
    return f"{os.environ.get('HF_HOME')} {os.environ['TMPDIR']}"
