"""Mixed images: torchvision's mixup and CutMix on whole batches, drawn from the run's own random streams."""

import torch

from sskd.config.recipe import Recipe
from sskd.data.batch import Batch
from sskd.runtime.seeding import stream_seed


def mixes(recipe: Recipe) -> list[str]:
    """Returns the recipe's keys that mix images."""
    return [name for name in ("mixup", "cutmix") if getattr(recipe, name)]


def mixed(batch: Batch, recipe: Recipe, num_classes: int) -> Batch:
    """Returns the batch with mixed images and labels, or the batch itself if the recipe uses neither mixup nor CutMix.

    Each image is mixed with the previous one of the batch, all with the same weight or box. These are drawn on the CPU,
    from a stream of the seed of ``batch.generator``.
    """
    if not mixes(recipe):
        return batch
    from torchvision.transforms import v2  # torchvision takes two seconds to import

    kinds = {"mixup": v2.MixUp, "cutmix": v2.CutMix}
    choices = [kinds[name](alpha=getattr(recipe, name), num_classes=num_classes) for name in mixes(recipe)]
    seed = stream_seed(batch.generator.initial_seed(), "mixing")
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would seed all GPUs too
        images, shares = v2.RandomChoice(choices)(batch.images, batch.labels)
    return batch._replace(images=images, mixed_labels=shares)
