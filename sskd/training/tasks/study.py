"""What a method learns of its teacher before the main training: the teacher's features of all training images."""

from collections.abc import Iterator

import torch
from torch import Tensor

from sskd.data.splits import Subset
from sskd.data.views import SingleView
from sskd.methods import Method
from sskd.networks import Features, Network
from sskd.runtime.distributed import Rank
from sskd.training.setup import Setup


@torch.no_grad()
def study(method: Method, teacher: Network, setup: Setup) -> None:
    """Gives the method the teacher's features of every training image, where it asks for them (``Method.studies``).
    Several processes each go through all images. A run that is resumed in its first epoch finds the same again."""
    if method.studies == "plain":
        images = setup.test._replace(subset=Subset(setup.split.indices, setup.split.labels))
        method.study(images.features(teacher))
    elif method.studies == "augmented":
        method.study(_augmented(teacher, setup))


def _augmented(teacher: Network, setup: Setup) -> Iterator[tuple[Features, Tensor]]:
    """Batches of an epoch of single views, in float32."""
    for batch in setup._replace(rank=Rank()).loader(SingleView(), "study").epoch(0):
        yield teacher.features(batch.images), batch.labels
