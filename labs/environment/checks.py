"""The checks: what the machine of the runner must have and do, looked at in the judge's process."""

from __future__ import annotations

import os

import architectures
import clock
import compiled
import disks
import fewbits
import fits
import folders
import installed
import libraries
import limits
import machine
import numerics
import pinned
import room
import speed
import torch

from verify.authoring import check
from verify.lab.layout import here
from verify.trial import Trial


@check(review="The kind of machine", evidence="probe")
def kind_known(trial: Trial) -> str:  # noqa: ARG001 - the machine is asked, no learner
    """The machine is of a kind that the lab knows, and what it needs of one is there."""
    return machine.require_known(machine.look())


@check(review="Libraries", evidence="probe")
def libraries_as_locked(trial: Trial) -> str:  # noqa: ARG001
    """Python and every library have the version that was chosen for this lab."""
    return libraries.compare(here())


@check(review="Libraries", evidence="probe")
def torch_untouched(trial: Trial) -> str:  # noqa: ARG001
    """PyTorch is the build that was chosen, and the one the runner has loaded."""
    return libraries.compare_torch(here())


@check(review="Libraries", evidence="probe")
def files_unchanged(trial: Trial) -> str:  # noqa: ARG001
    """No file of torch, transformers, PEFT or bitsandbytes was changed after it was installed."""
    return installed.require_unchanged(mend=libraries.mend(here()))


@check(review="Libraries", evidence="probe", after=("torch_untouched",))
def companions_fit(trial: Trial) -> str:  # noqa: ARG001
    """What was installed beside torch and was built for one torch fits this one, and PEFT."""
    return fits.require_companions(libraries.mend(here()))


@check(review="Libraries", evidence="probe", after=("libraries_as_locked", "torch_untouched"))
def bitsandbytes_loaded(trial: Trial) -> str:  # noqa: ARG001
    """The native library of bitsandbytes is there, for what computes here."""
    return fits.require_bitsandbytes()


@check(review="Libraries", evidence="probe")
def assembler_there(trial: Trial) -> str:  # noqa: ARG001
    """Triton has an assembler for the GPU's code."""
    return fits.require_assembler(os.environ, libraries.mend(here()))


@check(review="Sixteen bits", evidence="probe", gpu=True)
def gpu_knows_bf16(trial: Trial) -> str:  # noqa: ARG001
    """The GPU answers and computes in bfloat16 by itself."""
    return numerics.recognise_gpu()


@check(review="The kind of machine", evidence="probe", gpu=True)
def code_for_gpu(trial: Trial) -> str:  # noqa: ARG001
    """PyTorch has machine code that this GPU runs."""
    capability = torch.cuda.get_device_capability(0)
    return architectures.require_code(torch.cuda.get_arch_list(), capability, torch.__version__)


@check(review="Sixteen bits", evidence="probe")
def bf16_product(trial: Trial) -> str:
    """A matrix product in bfloat16 is right, as far as bfloat16 goes."""
    return numerics.multiply(trial.normal(96, 256), trial.normal(256, 96))


@check(review="Sixteen bits", evidence="probe")
def autocast_step(trial: Trial) -> str:
    """A training step under autocast multiplies in bfloat16 and keeps float32 gradients."""
    return numerics.train_one_step(trial.normal(32, 64), trial.integers(0, 8, 32))


@check(review="Sixteen bits", evidence="probe")
def attention_right(trial: Trial) -> str:
    """Attention (`sdpa`) in bfloat16 gives what its formula says."""
    shape = 2, 4, 48, 32
    return numerics.attend(trial.normal(*shape), trial.normal(*shape), trial.normal(*shape))


@check(review="Compiled kernels", evidence="probe", gpu=True)
def kernel_compiled(trial: Trial) -> str:
    """A kernel is compiled by Triton, loaded, and computes rightly."""
    return compiled.compile_one(trial.normal(1000), trial.normal(1000))


@check(review="Four and eight bits", evidence="probe", after=("bitsandbytes_loaded",))
def nf4_round_trip(trial: Trial) -> str:
    """Weights that bitsandbytes packs into NF4 come back as near as NF4 allows."""
    return fewbits.pack(trial.normal(64, 64))


@check(review="Four and eight bits", evidence="probe", after=("bitsandbytes_loaded",))
def nf4_product(trial: Trial) -> str:
    """A product with weights in NF4 is right, and so is its gradient."""
    inputs, weights, gradient = trial.normal(16, 128), trial.normal(64, 128), trial.normal(16, 64)
    return fewbits.multiply(inputs, weights, gradient)


@check(review="Four and eight bits", evidence="probe", after=("bitsandbytes_loaded",))
def eight_bit_step(trial: Trial) -> str:
    """An optimizer that remembers in 8 bits steps as one with 32 does, nearly."""
    return fewbits.step(trial.normal(64, 64), trial.normal(2, 64, 64))


@check(review="Speed", evidence="probe", level="advice")
def products_fast(trial: Trial) -> str:  # noqa: ARG001
    """Products in bfloat16 are not slow for this machine."""
    return speed.products()


@check(review="Speed", evidence="probe", level="advice")
def memory_fast(trial: Trial) -> str:  # noqa: ARG001
    """Memory is not slow for this machine."""
    return speed.copies()


@check(review="Room to work", evidence="probe")
def memory_free(trial: Trial) -> str:  # noqa: ARG001
    """At least 2 GiB of main memory are free."""
    return room.require(room.main_memory())


@check(review="Room to work", evidence="probe", gpu=True)
def gpu_memory_free(trial: Trial) -> str:  # noqa: ARG001
    """At least 2 GiB of the GPU's memory are free."""
    return room.require(room.gpu_memory())


@check(review="Room to work", evidence="probe", level="advice", gpu=True)
def pages_free(trial: Trial) -> str:  # noqa: ARG001
    """On a unified memory, pages are free at once, not in the page cache alone."""
    return room.require_free_pages()


@check(review="Room to work", evidence="probe", level="advice")
def little_swapped(trial: Trial) -> str:  # noqa: ARG001
    """Little of what programs use lies in swap."""
    return room.swap()


@check(review="Room on disk", evidence="probe")
def disk_free(trial: Trial) -> str:  # noqa: ARG001
    """Where libraries write there is room, for bytes and for files."""
    return disks.require_room(folders.caches(os.environ, here()))


@check(review="Room on disk", evidence="probe", after=("disk_free",))
def caches_writable(trial: Trial) -> str:  # noqa: ARG001
    """What the libraries write on the way, they can write, and load compiled code from."""
    return folders.require_writable(folders.caches(os.environ, here()))


@check(review="Room on disk", evidence="probe")
def shared_memory(trial: Trial) -> str:  # noqa: ARG001
    """Processes have more memory to share than the 64 MB that Docker gives."""
    return disks.require_shared_memory()


@check(review="Limits", evidence="probe")
def open_files(trial: Trial) -> str:  # noqa: ARG001
    """Enough files may be open."""
    return limits.open_files()


@check(review="Limits", evidence="probe", level="advice", gpu=True)
def locked_memory(trial: Trial) -> str:  # noqa: ARG001
    """Enough memory may be locked."""
    return limits.locked_memory()


@check(review="Limits", evidence="probe")
def processes_left(trial: Trial) -> str:  # noqa: ARG001
    """Enough processes and threads may be started."""
    return limits.processes()


@check(review="Limits", evidence="probe", level="advice")
def cores(trial: Trial) -> str:  # noqa: ARG001
    """There are two cores or more, and their time may be used."""
    return limits.cores()


@check(review="Limits", evidence="probe")
def clock_right(trial: Trial) -> str:  # noqa: ARG001
    """The clock says a time that can be."""
    return clock.require_plausible([here().manifest, here().locks, here().labs])


@check(review="Pinned for Blackwell", evidence="probe")
def settings_pinned(trial: Trial) -> str:  # noqa: ARG001
    """The settings that make the GPU image fit for Blackwell are set, and nothing undoes them."""
    return pinned.require_settings(pinned.gpu_image(here()), os.environ)


@check(review="Pinned for Blackwell", evidence="probe")
def model_follows_settings(trial: Trial) -> str:  # noqa: ARG001
    """A model loaded with these settings has their data type and their attention."""
    pinned.gpu_image(here())
    return pinned.load_model(os.environ)
