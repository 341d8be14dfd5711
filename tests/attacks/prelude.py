# What every attack begins with. PLACES is put in by the test: paths that must be out of reach.
import contextlib
import ctypes
import os
import signal
import socket
import sys
import time

PLACES = {}
libc = ctypes.CDLL(None, use_errno=True)


def tried(action):
    """Return how an attempt ended; only "REACHED" is a success of the attack."""
    try:
        action()
    except OSError as error:
        return error.errno
    except BaseException as error:
        return type(error).__name__
    return "REACHED"


def call(name, *arguments):
    if getattr(libc, name)(*arguments) < 0:
        raise OSError(ctypes.get_errno(), name)


def told(*tries):
    """Report: the message of an exception is all that gets out."""
    text = f"{len(tries)} tries, reached {tries.count('REACHED')}: {tries}"[:480]
    raise RuntimeError(text)


def strangers():
    """Every process number of this name space but one's own."""
    return [pid for pid in range(1, 400) if pid != os.getpid()]


def other():
    return 7
