"""The checks: what the machine of the runner must have and do, looked at in the judge's process."""

from __future__ import annotations

import os

import folders
import libraries
import numerics
import pinned
import room

from verify.authoring import check
from verify.lab.layout import here
from verify.trial import Trial


@check(review="Libraries", evidence="probe")
def libraries_as_locked(trial: Trial) -> str:  # noqa: ARG001 - the machine is asked, no learner
    """Python and every library have the version that was chosen for this lab."""
    return libraries.compare(here())


@check(review="Libraries", evidence="probe")
def torch_untouched(trial: Trial) -> str:  # noqa: ARG001
    """PyTorch is the build that was chosen, and the one the runner has loaded."""
    return libraries.compare_torch(here())


@check(review="Sixteen bits", evidence="probe", gpu=True)
def gpu_knows_bf16(trial: Trial) -> str:  # noqa: ARG001
    """The GPU answers and computes in bfloat16 by itself."""
    return numerics.recognise_gpu()


@check(review="Sixteen bits", evidence="probe")
def bf16_product(trial: Trial) -> str:
    """A matrix product in bfloat16 is right, as far as bfloat16 goes."""
    return numerics.multiply(trial.normal(96, 256), trial.normal(256, 96))


@check(review="Sixteen bits", evidence="probe")
def autocast_step(trial: Trial) -> str:
    """A training step under autocast multiplies in bfloat16 and keeps float32 gradients."""
    return numerics.train_one_step(trial.normal(32, 64), trial.integers(0, 8, 32))


@check(review="Four bits", evidence="probe")
def nf4_round_trip(trial: Trial) -> str:
    """Weights that bitsandbytes packs into NF4 come back as near as NF4 allows."""
    return numerics.pack(trial.normal(64, 64))


@check(review="Room to work", evidence="probe")
def memory_free(trial: Trial) -> str:  # noqa: ARG001
    """At least 2 GiB of main memory are free."""
    return room.require(room.main_memory())


@check(review="Room to work", evidence="probe", gpu=True)
def gpu_memory_free(trial: Trial) -> str:  # noqa: ARG001
    """At least 2 GiB of the GPU's memory are free."""
    return room.require(room.gpu_memory())


@check(review="Room to work", evidence="probe")
def caches_writable(trial: Trial) -> str:  # noqa: ARG001
    """What the libraries write on the way, they can write, and load compiled code from."""
    return folders.require_writable(folders.caches(os.environ, here()))


@check(review="Pinned for Blackwell", evidence="probe")
def settings_pinned(trial: Trial) -> str:  # noqa: ARG001
    """The settings that make the GPU image fit for Blackwell are set, and nothing undoes them."""
    return pinned.require_settings(pinned.gpu_image(here()), os.environ)


@check(review="Pinned for Blackwell", evidence="probe")
def model_follows_settings(trial: Trial) -> str:  # noqa: ARG001
    """A model loaded with these settings has their data type and their attention."""
    pinned.gpu_image(here())
    return pinned.load_model(os.environ)
