"""What students of one teacher that are trained at the same time need not each make: batches, and the teacher's pass.

Each batch goes to every run that asks for the same step of the same drawing, and what the teacher said of it last is
kept. A run that is out of step with the others makes its own: nothing but time depends on it.
"""

from collections.abc import Callable, Iterable, Iterator

from torch import Tensor

from sskd.data.batch import Batch
from sskd.data.loader import Drawing, Loader
from sskd.methods import METHODS
from sskd.networks import Features


class Shared:
    """Of runs of these ``methods``. ``needs``: what any of them needs of the teacher's features."""

    def __init__(self, methods: Iterable[str]) -> None:
        self.needs = frozenset[str]().union(*(METHODS[name].needs for name in methods))
        self._seen: tuple[Tensor, Features] | None = None  # by the teacher, last
        self._epochs: dict[Drawing, _Epoch] = {}

    def features(self, images: Tensor, make: Callable[[Tensor], Features]) -> Features:
        """The teacher's features of a batch's images: made, unless this very batch was the last that it saw."""
        if self._seen is None or self._seen[0] is not images:
            self._seen = images, make(images)
        return self._seen[1]

    def loader(self, drawing: Drawing, loader: Loader) -> Loader:
        """``loader``, whose batches come from another run's where that has just made them."""
        return _SharedLoader(self, drawing, loader)

    def batches(self, drawing: Drawing, loader: Loader, epoch: int, start: int) -> Iterator[Batch]:
        """The batches of an epoch from step ``start`` on. Each run has its own copy of a batch's random generator."""
        if drawing not in self._epochs or self._epochs[drawing].number != epoch:
            self._epochs[drawing] = _Epoch(epoch, loader.epoch(epoch, start), start)
        for step in range(start, len(loader)):
            batch = self._epochs[drawing].at(epoch, step)
            if batch is None:  # out of step
                yield from loader.epoch(epoch, step)
                return
            yield batch._replace(generator=batch.generator.clone_state())


class _Epoch:
    """The batches of an epoch as its runs go through it together."""

    def __init__(self, number: int, batches: Iterator[Batch], start: int) -> None:
        self.number, self._batches, self._step = number, batches, start - 1
        self._batch: Batch | None = None

    def at(self, epoch: int, step: int) -> Batch | None:
        """The batch of the step that was asked for last, or of the next; None for any other."""
        if epoch != self.number:
            return None
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
