"""A training step as one CUDA graph: hundreds of launches become one, which is what a step of small networks waits for.

What is recorded is what the device does. So a step must be the same work on the same memory every time: its images come
as positions in one tensor, its random numbers from generators that are seeded outside, and nothing in it waits for the
device. The work is the eager step's own, and so are the numbers.
"""

import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, TypeAlias

import torch
from torch import Tensor

WARM_UP = 3  # steps that are done eagerly: they make what lives on (momentum, cuDNN's plans), which no graph may hold

# from work to the same work as a graph, with the generators that it draws from
Capture: TypeAlias = Callable[[Callable[[], None], Sequence[torch.Generator]], Callable[[], None]]


class NotCapturable(Exception):
    """A step that no graph can hold; the message says why, and where."""


def capture_cuda(work: Callable[[], None], generators: Sequence[torch.Generator]) -> Callable[[], None]:
    """Records what the work gives the device to do, which is not done meanwhile. Gives what does it. NotCapturable
    where it waits for the device, or copies from the host."""
    graph = torch.cuda.CUDAGraph()
    if tuple(map(int, torch.__version__.split(".")[:2])) < (2, 14):  # since then a graph finds the generators itself
        for generator in generators:
            graph.register_generator_state(generator)
    try:
        # other threads (a display's, a loader's) may do what this one must not meanwhile
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):
            work()
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        first: BaseException = error  # the end of a spoilt capture fails too: what came before it is the cause
        while first.__context__ is not None:
            first = first.__context__
        # a spoilt capture may leave the generators waiting for its end
        for generator in (*generators, torch.cuda.default_generators[torch.cuda.current_device()]):
            generator.graphsafe_set_state(generator.clone_state())
        raise NotCapturable(_described(first)) from error
    return graph.replay


def _described(error: BaseException) -> str:
    """The error's first line, and the innermost line of Python that is not a package's."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "-packages" not in frame.filename]
    where = f"{frames[-1].filename}:{frames[-1].lineno}: " if frames else ""
    return f"{where}{str(error).splitlines()[0]}"


class GraphedStep:
    """``body``, a step for the images at (B,) positions, replayed as a graph wherever B is ``rows``.

    body: work for the device alone, which draws from ``generators`` and never seeds them. The first steps are real ones
    and run eagerly, beside the device's other work, as captures want it; capturing one does nothing, so nothing has to
    be put back. The last, smaller batch of an epoch runs eagerly. So does everything where no graph can hold the step:
    ``refused`` then says why. ``capture`` makes the graphs; ``recover`` is called when one could not be made.
    """

    def __init__(
        self,
        body: Callable[[Tensor], None],
        rows: int,
        generators: Sequence[torch.Generator],
        device: torch.device,
        capture: Capture = capture_cuda,
        recover: Callable[[], None] = lambda: None,
    ) -> None:
        self.body, self.rows, self.generators = body, rows, generators
        self.refused = ""
        self._capture, self._recover = capture, recover
        self._positions = torch.zeros(rows, dtype=torch.int64, device=device)
        self._warm = 0  # full steps that were done eagerly
        self._replay: Callable[[], None] | None = None
        self._held: Any = None  # what the graph holds of ``fixed``
        self._before: Any = None  # ``fixed`` of the step before this one
        self._side = torch.cuda.Stream(device) if device.type == "cuda" else None

    def __call__(self, positions: Tensor, seeds: Sequence[int], fixed: Any = None) -> None:
        """One step. seeds: of the generators. fixed: what of the step is a number of Python's (a learning rate): a
        graph holds it as it was, so where it has changed the step is captured anew; as long as it changes from step to
        step, they run eagerly."""
        self._seed(seeds)
        steady, self._before = fixed == self._before, fixed
        if self.refused or len(positions) != self.rows:
            self.body(positions)
        elif self._warm < WARM_UP:
            self._warm_up(positions)
        elif self._replay is not None and self._held == fixed:
            self._positions.copy_(positions)
            self._replay()
        elif not steady:
            self.body(positions)
        else:
            self._make_graph(fixed)
            if self._replay is None:
                self._seed(seeds)
                self.body(positions)
            else:
                self._positions.copy_(positions)
                self._replay()

    def _seed(self, seeds: Sequence[int]) -> None:
        for generator, seed in zip(self.generators, seeds, strict=True):
            generator.manual_seed(seed)  # on the host: a replay reads it

    def _warm_up(self, positions: Tensor) -> None:
        """The last of these steps is watched: a capture that fails half-way is best not begun."""
        self._warm += 1
        watched = self._warm == WARM_UP and self._side is not None
        watch: AbstractContextManager[list[str]] = _waits() if watched else nullcontext([])
        with _beside(self._side), watch as waits:
            self.body(positions)
        if waits:
            self.refused = f"the step waits for the device: {waits[0]}"

    def _make_graph(self, fixed: Any) -> None:
        self._replay = None  # gives its memory back before more is taken
        try:
            self._replay, self._held = self._capture(lambda: self.body(self._positions), self.generators), fixed
        except NotCapturable as error:
            self.refused = str(error)
            self._recover()


@contextmanager
def _beside(stream: torch.cuda.Stream | None) -> Iterator[None]:
    """On that stream, after all that was given to the present one, and before all that will be."""
    if stream is None:
        yield
        return
    present = torch.cuda.current_stream(stream.device)
    stream.wait_stream(present)
    with torch.cuda.stream(stream):
        yield
    present.wait_stream(stream)


@contextmanager
def _waits() -> Iterator[list[str]]:
    """The lines that make the host wait for the device, once the block has ended. PyTorch sees most of them."""
    lines: list[str] = []
    before = torch.cuda.get_sync_debug_mode()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            yield lines
        finally:
            torch.cuda.set_sync_debug_mode(before)
    lines += [f"{w.filename}:{w.lineno}" for w in caught if "synchronizing CUDA operation" in str(w.message)]
