"""Gathers a batch from all ranks, so that each rank computes the loss of the global batch."""

from functools import partial

from sskd.data.batch import Batch
from sskd.networks import Features
from sskd.runtime.distributed import Rank, all_gather_with_grad


def gather_features(features: Features, batch: Batch, kept: frozenset[str], rank: Rank) -> Features:
    """Returns the features of the global batch, in rank order, with gradient (sskd/runtime/distributed.py)."""
    if rank.world_size == 1:
        return features
    sizes = [batch.views_per_image * size for size in rank.sizes(batch.global_batch_size)]
    return features.map(partial(all_gather_with_grad, sizes=sizes), kept)


def gather_batch(batch: Batch, rank: Rank) -> Batch:
    """Returns the global batch for ``gather_features``. Its ``images`` are empty and only have the number of rows."""
    if rank.world_size == 1:
        return batch
    sizes = rank.sizes(batch.global_batch_size)
    of_views = [batch.views_per_image * size for size in sizes]
    return batch._replace(
        images=batch.images.new_empty(sum(of_views), 0),
        labels=all_gather_with_grad(batch.labels, sizes),
        indices=all_gather_with_grad(batch.indices, sizes),
        mixed_labels=None if batch.mixed_labels is None else all_gather_with_grad(batch.mixed_labels, sizes),
        view_labels=None if batch.view_labels is None else all_gather_with_grad(batch.view_labels, of_views),
    )
