"""Plans runs: adds ancestors, removes duplicates, checks the runs, and orders them by dependencies."""

import os
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

from benchmarks.planning.memory import MOST, check_batch_memory, check_padding
from benchmarks.profiles.profile import Profile
from sskd.config.networks import NetworkSettings, Statistics
from sskd.config.pretrained import FromFile
from sskd.config.recipe import DatasetSpec, SplitSpec
from sskd.data.datasets.imagenet import STATISTICS
from sskd.data.datasets.registry import DatasetInfo, dataset_info, load_dataset, may_be_partial
from sskd.data.splits import make_split, training_images
from sskd.errors import UserError, described
from sskd.methods import check_pair
from sskd.networks import NETWORKS, FeatureShapes, feature_shapes
from sskd.networks.build import with_data_config
from sskd.networks.weights import check_fits, check_weights
from sskd.networks.zoo import find_weights
from sskd.pretext import PRETEXTS
from sskd.runs.files import plain_os_errors
from sskd.runs.records import read_result
from sskd.runs.run_folder import RunFolder, Status
from sskd.runs.spec import HeadSpec, RunSpec, StudentSpec, TeacherSpec, with_ancestors
from sskd.runs.trial import MOST_IMAGES, try_method, try_networks

IMAGENET = Statistics(*STATISTICS)


@dataclass(frozen=True)
class Plan:
    """Stages of runs: runs of a stage only depend on runs of earlier stages."""

    stages: list[list[RunSpec]]

    @property
    def runs(self) -> list[RunSpec]:
        return [spec for stage in self.stages for spec in stage]


def make_plan(wanted: Iterable[RunSpec]) -> Plan:
    """Returns all wanted runs and their ancestors, in stages. Raises UserError for an unknown network."""
    stage_of: dict[str, int] = {}
    stages: list[list[RunSpec]] = []
    for spec in with_ancestors(wanted).values():
        number = stage_of[spec.id] = 1 + max((stage_of[needed.id] for needed in spec.dependencies), default=-1)
        if number == len(stages):
            stages.append([])
        stages[number].append(spec)
    plan = Plan(stages)
    check_names(plan)
    return plan


def check_names(plan: Plan) -> None:
    """Raises UserError for an unknown network, or unknown published weights."""
    for spec in plan.runs:
        NETWORKS[spec.network]
        given = spec.start if isinstance(spec, TeacherSpec) and spec.start else spec.teacher
        if isinstance(given, FromFile) and given.published:
            check_weights(given)


def check_runs(specs: Iterable[RunSpec], profile: Profile, root: Path, room: float = MOST) -> None:
    """Raises UserError if networks, methods, batches and images do not fit together, or do not fit into ``room`` bytes
    of memory, before anything is trained. Missing data sets are not reported here but by refuse_hopeless."""
    known = cache(partial(_dataset_info, root))

    @cache
    def images(dataset: DatasetSpec, split: SplitSpec) -> int | None:
        data, assumed = known(dataset)
        if data is None or (assumed and may_be_partial(dataset)):
            return None
        if data.labels is None:
            return training_images(split, data.train_images, data.num_classes)
        return len(make_split(data.labels, data.num_classes, split).indices)

    checked: set[tuple[object, ...]] = set()
    for spec in specs:
        count, (data, _) = images(spec.dataset, spec.split), known(spec.dataset)
        if count is not None and spec.trains:
            _check_batch(spec, profile, count)
        size, classes = (data.image_size, data.num_classes) if data else (32, 100)
        method = spec.method if isinstance(spec, StudentSpec) else None
        head = spec if isinstance(spec, HeadSpec) else spec.head if isinstance(spec, StudentSpec) else None
        teacher = spec.teacher and (spec.teacher.network, spec.teacher.network_settings)
        combination = (spec.network, spec.used_as, teacher, method, head and head.pretext, size, classes)
        if data and spec.trains:
            check_padding(spec, size)
            check_batch_memory(spec, size, room)
        if combination not in checked:
            checked.add(combination)
            try_networks(spec, size, classes)
            _check_networks(spec, size)
            try_method(spec, size, classes, count or MOST_IMAGES)


def _check_networks(spec: RunSpec, size: int) -> None:
    shapes = _shapes(spec.network, size, spec.used_as)
    if (
        isinstance(spec, HeadSpec)
        and "feature_maps" in PRETEXTS[spec.pretext.name].required_features
        and not shapes.feature_maps
    ):
        raise UserError(
            f"the task '{spec.pretext.name}' needs feature maps, but {spec.network} has none: name modules "
            f"that output them in network_settings.{spec.network}.taps"
        )
    if not isinstance(spec, StudentSpec) or spec.teacher is None:
        return
    pair = f"{spec.teacher.network}/{spec.network} with '{spec.method.name}'"
    try:
        check_pair(spec.method, shapes, _shapes(spec.teacher.network, size, spec.teacher.network_settings))
    except UserError as error:
        raise UserError(f"{pair}: {error}") from None
    except (Exception, SystemExit) as error:  # a user's method can raise anything
        raise UserError(f"{pair}: {described(error)}") from None


def check_teachers(specs: Iterable[RunSpec], root: Path) -> list[str]:
    """Checks given weights. Raises UserError if a file is missing, has another sha256, or belongs to another network or
    number of classes (weights that training starts from may have other classes). Returns notes on the weights and their
    images."""
    specs = list(specs)
    said = _lines_on_images(specs)
    starts = {(spec.start, spec.dataset) for spec in specs if isinstance(spec, TeacherSpec) and spec.start}
    for start, dataset in sorted(starts, key=str):
        data, _ = _dataset_info(root, dataset)
        try:
            check_weights(start)
            check_fits(start, data.num_classes if data else 2, said.append, new_classifier=True)
        except UserError as error:
            raise UserError(f"teacher {start.network}: {error}") from None
        said.append(f"teacher {start.network}: its training starts from {start.weights}")
    for teacher, dataset in given_teachers(specs):
        try:
            check_weights(teacher)
            data, assumed = _dataset_info(root, dataset)
            if data and not assumed:  # a missing ImageNet folder may later hold a subset of the classes
                check_fits(teacher, data.num_classes, said.append)
        except UserError as error:
            hint = (
                "" if teacher.published else f"; choose another file with --set teachers.{teacher.network}.weights=FILE"
            )
            raise UserError(f"teacher {teacher.network}: {error}{hint}") from None
    return said


def given_teachers(specs: Iterable[RunSpec]) -> list[tuple[FromFile, DatasetSpec]]:
    """Returns the weights files that teach, each with the data set of the runs that use it."""
    return sorted({(spec.teacher, spec.dataset) for spec in specs if isinstance(spec.teacher, FromFile)}, key=str)


def _lines_on_images(specs: Sequence[RunSpec]) -> list[str]:
    """Describes the images of networks that use another size or normalisation than the data set, and of published
    weights."""
    lines: dict[str, None] = {}
    for spec in specs:
        teacher = spec.teacher
        networks = [(spec.network, spec.used_as), *([(teacher.network, teacher.network_settings)] if teacher else [])]
        for name, used in networks:
            own = with_data_config(name, used)
            if own.mean is not None and own.std is not None:
                source = f"{used.data_config}'s data configuration" if used.data_config else "network_settings"
                lines[f"{name}: {source} sets {_images(own.image_size, Statistics(own.mean, own.std))}"] = None
        weights = spec.start if isinstance(spec, TeacherSpec) and spec.start else teacher
        if isinstance(weights, FromFile) and weights.published:
            used = weights.network_settings if weights is teacher else spec.used_as
            found = find_weights(weights.network, weights.weights)
            known = spec.dataset.name == "imagenet" and found.statistics == IMAGENET
            if used.mean is None and not used.data_config and not known:
                theirs = _images(found.image_size, found.statistics)
                lines[
                    f"{weights.network}: {weights.weights} was trained with {theirs}; here it gets the "
                    f"data set's, because network_settings.{weights.network}.data_config={weights.weights} is not set"
                ] = None
    return list(lines)


def _images(size: int | None, used: Statistics) -> str:
    mean, std = (", ".join(f"{value:g}" for value in values) for values in used)
    return f"images {f'of {size} x {size} pixels, ' if size else ''}normalised with mean {mean} and std {std}"


def _shapes(network: str, size: int, settings: NetworkSettings) -> FeatureShapes:
    try:
        return feature_shapes(network, size, settings)
    except UserError:
        raise
    except (Exception, SystemExit) as error:  # a user's network, or images too small for its strides
        raise UserError(f"network '{network}' fails on images of {size} x {size}: {described(error)}") from None


def _recipe_key(spec: RunSpec, profile: Profile) -> str:
    """Returns the profile's key that sets the run's batch size."""
    own = {"student": "method_recipes", "head": "head_recipes"}.get(spec.role, "")
    if own and "batch_size" in getattr(profile, own).get(spec.learns, {}):
        return f"{own}.{spec.learns}"
    return {"teacher": "teacher_recipe", "head": "head_recipe", "student": "recipe"}[spec.role]


def _check_batch(spec: RunSpec, profile: Profile, images: int) -> None:
    size = spec.recipe.batch_size
    if size > images:
        raise UserError(
            f"{_recipe_key(spec, profile)}.batch_size is {size}, but {spec.id} has {images} training images: "
            "use a smaller batch, or a larger fraction of the images"
        )


def _dataset_info(root: Path, dataset: DatasetSpec) -> tuple[DatasetInfo | None, bool]:
    """Returns dataset_info's result; (None, True) if the data set is neither here nor published."""
    try:
        return dataset_info(dataset, root)
    except UserError:
        return None, True


def refuse_hopeless(specs: Iterable[RunSpec], root: Path) -> None:
    """Raises the first UserError if no run can start because the data is missing. If some can, they are run and the
    others fail individually. Downloads data sets."""

    @cache
    def problem(of: DatasetSpec) -> UserError | None:
        try:
            load_dataset(of, root)
        except UserError as error:
            return error
        return None

    problems = [problem(spec.dataset) for spec in specs]
    if problems and problems[0] is not None and all(problems):
        raise problems[0]


def _status(spec: RunSpec, runs: Path) -> Status:
    folder = RunFolder(runs, spec)
    finished = folder.is_finished()
    try:
        if finished:
            read_result(folder.result, spec.role)
        return folder.status()
    except UserError as error:  # a damaged file, or a file instead of a folder, only affects this run
        return Status("finished" if finished else "failed", spec.recipe.epochs if finished else 0, str(error))


def statuses(plan: Plan, runs: Path, rerun: Collection[str] = ()) -> dict[str, Status]:
    """Returns the status of each planned run, by id.

    "weights lost": finished, but trained again because another run needs its weights. "rerun": finished, and in
    ``rerun``. The message names a damaged file.
    """
    with plain_os_errors("read", runs):
        present = {entry.name for entry in os.scandir(runs)} if runs.is_dir() else set()
    known = {
        s.id: Status("rerun") if s.id in rerun else _status(s, runs) if s.id in present else Status("absent")
        for s in plan.runs
    }
    for spec in reversed(plan.runs):  # in reverse order of dependencies
        if known[spec.id].state != "finished":
            for needed in spec.dependencies:
                here = needed.id in present and needed.id not in rerun
                if here and needed.trains and RunFolder(runs, needed).lost_weights():
                    known[needed.id] = Status("weights lost")
    return known
