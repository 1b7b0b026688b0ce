"""Checks that a batch fits into memory, with a lower bound, so that only impossible batches are rejected."""

import math
import os
from functools import lru_cache

import torch
from torch import nn

from sskd.config.execution import Execution
from sskd.config.networks import NetworkSettings
from sskd.errors import UserError
from sskd.formatting import plural
from sskd.methods import METHODS
from sskd.networks import build_network
from sskd.networks.build import PLAIN
from sskd.pretext import PRETEXTS
from sskd.runs.spec import HeadSpec, RunSpec, StudentSpec
from sskd.runtime.device import device_of

MOST = 1e12  # upper limit (bytes) if the machine is unknown


def device_memory(execution: Execution) -> float:
    """Returns the memory (bytes) of the device that runs use on this machine; MOST if the device is not here."""
    try:
        device = device_of(execution)
    except UserError:  # reported when runs start
        return MOST
    if device.type == "cuda":
        return float(torch.cuda.get_device_properties(device).total_memory)
    return float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))


def check_padding(spec: RunSpec, size: int) -> None:
    """Raises UserError if a random crop could miss its image completely."""
    recipe = spec.recipe
    if recipe.augmentation != "none" and recipe.crop_padding >= size:
        raise UserError(
            f"recipe.crop_padding is {recipe.crop_padding}: a crop of {spec.id} could miss its image, which has "
            f"{size} x {size} pixels; choose a smaller value, or 0 to disable crops"
        )


def check_batch_memory(spec: RunSpec, size: int, room: float) -> None:
    """Raises UserError if a batch of images of ``size`` x ``size`` pixels with all views needs more than ``room``
    bytes."""
    recipe, views = spec.recipe, views_of(spec)
    images = math.ceil(recipe.batch_size / recipe.processes)
    needed = images * views * view_bytes(spec, size)
    if needed > room:
        shown = spec.used_as.image_size or size
        raise UserError(
            f"{spec.id}: {images:,} images in {plural(views, 'view')} of {shown} x {shown} pixels take at least "
            f"{needed / 1e9:,.0f} GB, and {'no machine has' if room == MOST else 'this machine has'} "
            f"{room / 1e9:,.0f} GB: choose a smaller batch_size, image_size or crop_padding, or more processes"
        )


def view_bytes(spec: RunSpec, size: int) -> float:
    """Returns a lower bound of the memory of one view of one image: padded pixels, floats, and activations for the
    backward pass of the trained network."""
    seen = spec.used_as.image_size or size
    pixels = 3 * (size + 2 * spec.recipe.crop_padding) ** 2 + 3 * 4 * max(size, seen) ** 2
    if isinstance(spec, HeadSpec):  # its network is frozen
        return pixels
    plain = spec.used_as.model_copy(update={"pooled": ""})
    return pixels + (4 if spec.recipe.precision == "fp32" else 2) * _kept_numbers(spec.network, size, plain)


def views_of(spec: RunSpec) -> int:
    """Returns the number of views per image in a step."""
    head = spec if isinstance(spec, HeadSpec) else spec.head if isinstance(spec, StudentSpec) else None
    if head is not None:
        return PRETEXTS[head.pretext.name].view_transform(head.pretext).views_per_image
    return METHODS[spec.method.name].views_per_image if isinstance(spec, StudentSpec) else 1


@lru_cache(maxsize=256)
def _kept_numbers(name: str, size: int, settings: NetworkSettings = PLAIN) -> int:
    """Returns the number of output values of the network's convolutions and linear layers for one image, counted on the
    meta device. Returns 0 if the network cannot be built; other checks report that."""
    total = 0

    def count(module: nn.Module, inputs: object, output: torch.Tensor) -> None:
        nonlocal total
        total += output.numel()

    try:
        with torch.device("meta"):
            network = build_network(name, 2, settings).eval()
            for module in network.modules():
                if isinstance(module, nn.Conv2d | nn.Linear):
                    module.register_forward_hook(count)
            network(torch.empty(1, 3, size, size))
    except (Exception, SystemExit):
        return 0
    return total
