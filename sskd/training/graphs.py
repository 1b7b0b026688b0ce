"""A training step as one CUDA graph: one launch replaces the hundreds that limit the speed of small networks.

A graph records what the device does, so a step must do the same work in the same memory every time: it reads the image
indices from one tensor, draws from generators that are seeded outside the graph, and has no host-device
synchronisation. It executes the same kernels as the eager step, so the results are identical.
"""

import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, TypeAlias

import torch
from torch import Tensor

WARM_UP = 3  # eager steps: they allocate persistent state (momentum, cuDNN plans), which a graph must not own

# from a function, and the generators that it draws from, to a function that replays it
Capture: TypeAlias = Callable[[Callable[[], None], Sequence[torch.Generator]], Callable[[], None]]


class NotCapturable(Exception):
    """The step cannot be captured; the message gives the reason and the line."""


def capture_cuda(work: Callable[[], None], generators: Sequence[torch.Generator]) -> Callable[[], None]:
    """Captures ``work`` as a CUDA graph, without executing it, and returns the function that replays the graph.

    Raises NotCapturable if ``work`` synchronises with the device or copies from the host.
    """
    graph = torch.cuda.CUDAGraph()
    if tuple(map(int, torch.__version__.split(".")[:2])) < (2, 14):  # later versions find the generators themselves
        for generator in generators:
            graph.register_generator_state(generator)
    try:
        # thread_local: other threads (display, loader) may still call functions that break a capture
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):
            work()
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        first: BaseException = error  # ending an invalid capture fails too: the first exception is the cause
        while first.__context__ is not None:
            first = first.__context__
        # an invalid capture may leave the generators in capture mode: new states end it
        for generator in (*generators, torch.cuda.default_generators[torch.cuda.current_device()]):
            generator.graphsafe_set_state(generator.clone_state())
        raise NotCapturable(_described(first)) from error
    return graph.replay


def _described(error: BaseException) -> str:
    """Returns the first line of the error, after the innermost line of code outside site-packages."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "-packages" not in frame.filename]
    where = f"{frames[-1].filename}:{frames[-1].lineno}: " if frames else ""
    return f"{where}{str(error).splitlines()[0]}"


class GraphedStep:
    """Runs ``body``, a training step on the images at ``positions`` (B,), as a CUDA graph if B equals ``rows``.

    The first steps run eagerly on a side stream, as PyTorch requires before a capture. A capture executes nothing, so
    no state has to be restored afterwards. The last, smaller batch of an epoch runs eagerly. If the step cannot be
    captured, all steps run eagerly and ``fallback_reason`` gives the reason.

    Args:
        body: device work only; draws from ``generators`` and never seeds them.
        capture: makes a graph of a function.
        recover: called after a failed capture.
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
        self.fallback_reason = ""
        self._capture, self._recover = capture, recover
        self._positions = torch.zeros(rows, dtype=torch.int64, device=device)
        self._warm = 0  # eager steps with a full batch so far
        self._replay: Callable[[], None] | None = None
        self._captured: Any = None  # host_constants at the capture
        self._previous: Any = None  # host_constants of the previous step
        self._side = torch.cuda.Stream(device) if device.type == "cuda" else None

    def __call__(self, positions: Tensor, seeds: Sequence[int], host_constants: Any = None) -> None:
        """Runs one step.

        Args:
            positions: (B,) int64, indices of the images.
            seeds: one per generator.
            host_constants: Python numbers that the step uses (such as the learning rate). A CUDA graph stores them as
                constants, so the step is captured again after they change; while they change at every step, the steps
                run eagerly.
        """
        self._seed(seeds)
        steady, self._previous = host_constants == self._previous, host_constants
        if self.fallback_reason or len(positions) != self.rows:
            self.body(positions)
        elif self._warm < WARM_UP:
            self._warm_up(positions)
        elif self._replay is not None and self._captured == host_constants:
            self._positions.copy_(positions)
            self._replay()
        elif not steady:
            self.body(positions)
        else:
            self._make_graph(host_constants)
            if self._replay is None:
                self._seed(seeds)
                self.body(positions)
            else:
                self._positions.copy_(positions)
                self._replay()

    def _seed(self, seeds: Sequence[int]) -> None:
        for generator, seed in zip(self.generators, seeds, strict=True):
            generator.manual_seed(seed)  # on the host; a replay reads the seed

    def _warm_up(self, positions: Tensor) -> None:
        """Runs an eager step. The last one is checked for synchronisation, which would make the capture fail."""
        self._warm += 1
        watched = self._warm == WARM_UP and self._side is not None
        watch: AbstractContextManager[list[str]] = _sync_points() if watched else nullcontext([])
        with _on_stream(self._side), watch as sync_points:
            self.body(positions)
        if sync_points:
            self.fallback_reason = f"the step synchronises with the device: {sync_points[0]}"

    def _make_graph(self, host_constants: Any) -> None:
        self._replay = None  # frees the old graph's memory first
        try:
            self._replay = self._capture(lambda: self.body(self._positions), self.generators)
            self._captured = host_constants
        except NotCapturable as error:
            self.fallback_reason = str(error)
            self._recover()


@contextmanager
def _on_stream(stream: torch.cuda.Stream | None) -> Iterator[None]:
    """Runs the block on ``stream``, ordered after earlier and before later work of the current stream."""
    if stream is None:
        yield
        return
    present = torch.cuda.current_stream(stream.device)
    stream.wait_stream(present)
    with torch.cuda.stream(stream):
        yield
    present.wait_stream(stream)


@contextmanager
def _sync_points() -> Iterator[list[str]]:
    """Yields a list that holds, after the block, the lines that synchronised with the device (torch finds most)."""
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
