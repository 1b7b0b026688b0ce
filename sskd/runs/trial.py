"""Trial runs of new code before any training: networks, methods and tasks that are the user's own, or uncommitted."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import torch

from sskd.errors import UserError, described, source_of
from sskd.methods import METHODS, Method, MethodContext
from sskd.methods.contract import check_method
from sskd.networks import NETWORKS, build_network, feature_shapes
from sskd.networks.contract import check_network
from sskd.pretext import PRETEXTS, Pretext, PretextContext
from sskd.pretext.contract import check_task
from sskd.runs.spec import HeadSpec, RunSpec, StudentSpec
from sskd.version import code, in_commit

MOST_IMAGES = 50_000  # of a trial's data; a method may store something per image


def try_networks(spec: RunSpec, size: int, classes: int) -> None:
    """Tries the networks of the run and of its teacher, if they are the user's own. size: side of the images, in
    pixels. Raises UserError with one line: what breaks the contract, and in which file."""
    used = {(spec.network, spec.used_as): spec.role == "teacher"}
    if spec.teacher is not None:
        used[spec.teacher.network, spec.teacher.network_settings] = True
    for (name, settings), teaches in used.items():
        entry = NETWORKS[name]
        if _is_tried(entry):
            with _tried(f"network '{name}'", entry, f" on images of {size} x {size}"):
                check_network(name, settings, classes, size, teaches)


def try_method(spec: RunSpec, size: int, classes: int, images: int) -> None:
    """Tries a head's task, or a student's method with its two networks, if the task or method is the user's own.
    images: number of training images. Raises UserError as try_networks does."""
    images = min(images, MOST_IMAGES)
    if isinstance(spec, HeadSpec) and _is_tried(task := PRETEXTS[spec.pretext.name]):
        with _tried(f"pretext '{spec.pretext.name}'", task.loss):
            shapes = feature_shapes(spec.network, size, spec.used_as)
            check_task(spec.pretext, shapes, classes, images, size, spec.recipe)
    if not isinstance(spec, StudentSpec):
        return
    method, head = METHODS[spec.method.name], None if spec.head is None else PRETEXTS[spec.head.pretext.name]
    if _is_tried(method):
        own: Any = method if method.loss_terms is Method.loss_terms else method.loss_terms
    elif head is not None and _is_tried(head):
        own = head if head.transfer is Pretext.transfer else head.transfer
    else:
        return
    pair = f" for {spec.teacher.network}/{spec.network}" if spec.teacher is not None else ""
    with _tried(f"method '{spec.method.name}'", own, pair):
        check_method(spec.method, lambda: _context(spec, size, classes, images), size)


def _context(spec: StudentSpec, size: int, classes: int, images: int) -> MethodContext:
    """Returns a context like the run's, with untrained networks on the CPU and artificial labels."""
    given, teacher, head, shapes = spec.teacher, None, None, None
    if given is not None:
        teacher = build_network(given.network, classes, given.network_settings).eval().requires_grad_(False)
        shapes = feature_shapes(given.network, size, given.network_settings)
    if spec.head is not None and shapes is not None:
        context = PretextContext(shapes.embed_dim, images, spec.head.network, classes)
        head = PRETEXTS[spec.head.pretext.name](spec.head.pretext, context).eval().requires_grad_(False)
    return MethodContext(
        student=build_network(spec.network, classes, spec.used_as),
        student_shapes=feature_shapes(spec.network, size, spec.used_as),
        num_classes=classes,
        labels=torch.arange(images) % classes,
        teacher=teacher,
        teacher_shapes=shapes,
        head=head,
        recipe=spec.recipe,
    )


def _is_tried(entry: Any) -> bool:
    """Returns True if a registered object is the user's own, or the suite's in a file that differs from its commit
    (such as a new method in sskd/methods). Committed code has passed the suite's tests."""
    module = str(getattr(entry, "__module__", ""))
    return not module.startswith("sskd.") or (bool(code()["dirty"]) and not _is_committed(module))


@cache  # git is called once per file
def _is_committed(module: str) -> bool:
    return in_commit(Path(str(sys.modules[module].__file__)))


@contextmanager
def _tried(what: str, own: Any, where: str = "") -> Iterator[None]:
    """Converts exceptions in the block to one line with ``what`` and the location of ``own``. Restores the random
    state afterwards."""
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            yield
    except (Exception, SystemExit) as error:  # from the user's code
        file, line = source_of(own)
        place = f" ({Path(file).name}, line {line})" if file else ""
        problem = str(error) if isinstance(error, UserError) else described(error, file)
        raise UserError(f"{what}{place}{where}: {problem.removeprefix(f'{what} ')}") from None
