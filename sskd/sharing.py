"""What students of one teacher that are trained at the same time need not each make: batches, and the teacher's pass.

Each batch goes to every run that asks for the same step of the same drawing, and what the teacher said of it last is
kept. A run that is out of step with the others makes its own: nothing but time depends on it.
"""

from collections.abc import Iterator

from torch import Tensor

from sskd.data.batch import Batch
from sskd.data.loader import Drawing, Loader
from sskd.networks import Features


class Shared:
    """``needs``: what any of the runs needs of the teacher's features (see sskd.methods.base)."""

    def __init__(self, needs: frozenset[str] = frozenset()) -> None:
        self.needs = needs
        self.images: Tensor | None = None  # that the teacher saw last
        self.features: Features | None = None
        self._epochs: dict[tuple[Drawing, int], _Epoch] = {}

    def loader(self, drawing: Drawing, loader: Loader) -> Loader:
        """``loader``, whose batches come from another run's where that has just made them."""
        return _SharedLoader(self, drawing, loader)

    def batches(self, drawing: Drawing, loader: Loader, epoch: int, start: int) -> Iterator[Batch]:
        """The batches of an epoch from step ``start`` on. Each run has its own copy of a batch's random generator."""
        key = (drawing, epoch)
        for step in range(start, len(loader)):
            current = self._epochs.get(key)
            if current is None and step == start:
                self._epochs = {k: v for k, v in self._epochs.items() if k[0] != drawing}  # its last epoch is over
                current = self._epochs[key] = _Epoch(loader.epoch(epoch, step), step)
            batch = current.at(step) if current is not None else None
            if batch is None:  # out of step
                yield from loader.epoch(epoch, step)
                return
            yield batch._replace(generator=batch.generator.clone_state())


class _Epoch:
    """The batches of an epoch as its runs go through it together."""

    def __init__(self, batches: Iterator[Batch], start: int) -> None:
        self._batches, self._step = batches, start - 1
        self._batch: Batch | None = None

    def at(self, step: int) -> Batch | None:
        """The batch of the step that was asked for last, or of the next; None for any other."""
        if step == self._step + 1:
            made = next(self._batches)
            # as it is now: TrainLoader's next batch seeds the same generator anew
            self._step, self._batch = step, made._replace(generator=made.generator.clone_state())
        return self._batch if step == self._step else None


class _SharedLoader:
    """A Loader (see sskd.data.loader) whose epochs are shared."""

    def __init__(self, shared: Shared, drawing: Drawing, loader: Loader) -> None:
        self._shared, self._drawing, self._loader = shared, drawing, loader
        self.batch_size = loader.batch_size

    @property
    def skipped(self) -> set[str]:
        return self._loader.skipped

    def __len__(self) -> int:
        return len(self._loader)

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        return self._shared.batches(self._drawing, self._loader, epoch, start)
