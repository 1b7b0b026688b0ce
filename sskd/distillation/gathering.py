"""A batch whose rows lie in several processes: every process computes the loss of the whole."""

from functools import partial

from sskd.data.batch import Batch
from sskd.networks import Features
from sskd.runtime.distributed import Replica, gather_rows


def whole_features(features: Features, batch: Batch, needs: frozenset[str], replica: Replica) -> Features:
    """Returns the features of all processes' rows, in their order, with gradient (sskd/runtime/distributed.py)."""
    if replica.world_size == 1:
        return features
    sizes = [batch.views * size for size in replica.sizes(batch.whole)]
    return features.map(partial(gather_rows, sizes=sizes), needs)


def whole_batch(batch: Batch, replica: Replica) -> Batch:
    """Returns the batch that goes with ``whole_features``. A gathered batch has no pixels, only their number."""
    if replica.world_size == 1:
        return batch
    sizes = replica.sizes(batch.whole)
    of_views = [batch.views * size for size in sizes]
    return batch._replace(
        images=batch.images.new_empty(sum(of_views), 0),
        labels=gather_rows(batch.labels, sizes),
        indices=gather_rows(batch.indices, sizes),
        view_labels=None if batch.view_labels is None else gather_rows(batch.view_labels, of_views),
    )
