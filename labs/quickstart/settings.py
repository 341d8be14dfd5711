"""What is settled before the libraries are loaded."""

from __future__ import annotations

import logging
import os
import warnings
from typing import Final

from verify.lab.layout import InImage, here

_SETTINGS: Final = {  # all of them are read when the libraries are loaded
    "TOKENIZERS_PARALLELISM": "false",
    "OMP_WAIT_POLICY": "PASSIVE",  # a thread that waits leaves its core to others
    "CUDA_VISIBLE_DEVICES": "0",  # one GPU: Trainer would copy the model to all it sees
}


def settle() -> None:
    """Set what the libraries read, and silence what a learner can do nothing about.

    Errors are raised all the same.
    """
    for name, value in _SETTINGS.items():
        os.environ.setdefault(name, value)
    if isinstance(here(), InImage):  # JupyterLab's terminal has it too: a model is fetched once
        os.environ["HOME"] = str(here().state)
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
