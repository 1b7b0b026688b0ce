"""Gives a method the teacher's features of all training images before the main training."""

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
    """Calls ``Method.study`` with the teacher's features of every training image, if the method requests them
    (``Method.studies``). Every process computes the features of all images. A run that is resumed in its first epoch
    gets the same features again."""
    if method.studies == "plain":
        images = setup.test._replace(subset=Subset(setup.split.indices, setup.split.labels))
        method.study(images.features(teacher))
    elif method.studies == "augmented":
        method.study(_augmented(teacher, setup))


def _augmented(teacher: Network, setup: Setup) -> Iterator[tuple[Features, Tensor]]:
    """Yields the batches of an epoch of single views, in float32."""
    for batch in setup._replace(rank=Rank()).loader(SingleView(), "study").epoch(0):
        yield teacher.features(batch.images), batch.labels
