"""What a run is: frozen, validated specs, their YAML, and the id that follows from their meaning.

A ``RunSpec`` holds its whole ancestry: a student names the head it uses, the head names its teacher. So a spec can
be trained from its file alone, and its id changes when anything that it was learned from changes.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import cache, cached_property
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    SerializeAsAny,
    Tag,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from sskd.errors import UserError, nearest
from sskd.places import CONFIGS
from sskd.reading import override, read_yaml

Fraction = Annotated[float, Field(gt=0, le=1)]
Rate = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
Decay = Annotated[float, Field(ge=0, lt=1)]
Count = Annotated[int, Field(ge=1)]
Listed = BeforeValidator(lambda value: tuple(value) if isinstance(value, list) else value)  # YAML has no tuples


def _distinct(values: tuple[Any, ...] | None) -> tuple[Any, ...] | None:
    for place, value in enumerate(values or ()):
        if value in (values or ())[:place]:
            raise ValueError(f"{_shown(getattr(value, 'name', value))} is named twice")
    return values


def _plain_name(name: str) -> str:
    if not name or len(name) > 100 or name[0] in ".-" or not name.isprintable() or set(name) & set("/\\:"):
        raise ValueError(
            "a name becomes a part of paths: no slash, colon or control character, no dot or dash in front"
        )
    return name


Distinct = AfterValidator(_distinct)  # a value that is named twice would count as two measurements
PlainName = Annotated[str, AfterValidator(_plain_name)]


class Frozen(BaseModel):
    """Base of every spec: immutable, strictly typed, and an unknown key is an error that names the nearest one.

    ``removed``: keys of earlier versions, with the one value that means what is always done now, or None where any
    value gave the same numbers. Old files name them: such a value is read and dropped, another one is refused.
    """

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        allow_inf_nan=False,
        ignored_types=(cached_property,),
        use_attribute_docstrings=True,  # run_all.py --explain prints them
    )
    removed: ClassVar[Mapping[str, Any]] = {}

    @model_validator(mode="before")
    @classmethod
    def _refuse_unknown_keys(cls, data: Any) -> Any:
        if isinstance(data, dict):
            for key in cls.removed.keys() & data.keys():
                if cls.removed[key] not in (None, data[key]):
                    raise ValueError(f"'{key}' can only be '{cls.removed[key]}' now, and may be left out")
            data = {key: value for key, value in data.items() if key not in cls.removed}
            for key in data:
                if key not in cls.model_fields:
                    near = nearest(str(key), cls.model_fields)
                    hint = f"did you mean '{near}'?" if near else f"known: {', '.join(cls.model_fields)}"
                    raise ValueError(f"unknown key '{key}'; {hint}")
        return data


class DatasetSpec(Frozen):
    """Which images."""

    name: PlainName
    """Which data set: run_all.py --list datasets names them."""
    path: str | None = None
    """The file or folder of the kinds that are the user's own: npz, folder, imagenet."""
    crop_size: Annotated[int, Field(ge=8)] = 224
    """Of images that are read while training (imagenet): pixels of a side that networks see."""
    cache_size: Annotated[int, Field(ge=8)] | None = None
    """Of images that are read while training: keep the decoded middle square, its side this many pixels. null: keep
    none."""
    corrupt: Literal["error", "skip"] = "error"
    """Of images that are read while training. skip: the next readable image takes the place of one that cannot be
    decoded, and it is counted. error: the run fails."""


class SplitSpec(Frozen):
    """Which training images, with which labels. The same for every method that names the same split seed."""

    fraction: Fraction = 1.0
    """The share of every class's training images that is used: the few-shot settings of the paper."""
    noise: Rate = 0.0
    """The share of training labels that is changed, each to one of the other classes with equal probability."""
    seed: int = 0
    """Of the choice of images and of wrong labels. Runs that are compared have the same."""
    holdout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """The share of every class's part that is held out: not trained on, it chooses the epoch."""


# What one optimiser or augmentation of ours has and its siblings do not. A user's own may read any key.
OPTIONS: dict[str, dict[str, tuple[str, ...]]] = {
    "optimizer": {"sgd": ("momentum", "nesterov"), "adamw": ("betas",)},
    "augmentation": {"cutout": ("cutout_size",), "standard": (), "none": (), "strong": ()},
}


class Recipe(Frozen):
    """Optimiser, schedule, augmentation, batch and precision. Defaults: CRD's CIFAR-100 benchmark."""

    removed = {"loss_over": "batch"}  # of several processes: the loss is of the whole batch

    epochs: Count = 240
    """How often every training image is seen."""
    batch_size: Annotated[int, Field(ge=2)] = 64
    """Images of a step, over all processes. Methods see this many, however many views each image has."""
    learning_rate: Positive = 0.05
    """The rate that the schedule's factors multiply. A method's initial stage has it throughout."""
    milestones: Annotated[tuple[Count, ...], Listed] = (
        150,
        180,
        210,
    )
    """Of the schedule step, and left aside by others: epochs of the full schedule after which the rate falls."""
    full_epochs: Count = 240
    """The number of epochs that the milestones are meant for. They scale with epochs / full_epochs, rounded to
    whole epochs, so that a shorter run falls at the same shares of its length. Other schedules leave it aside."""
    decay: Positive = 0.1
    """Of the schedule step, and left aside by others: what the rate is multiplied by at each milestone."""
    momentum: Rate = 0.9
    """Of the optimizer sgd: what stays of the last update in the next."""
    weight_decay: NonNegative = 5e-4
    """Of all trained parameters. In sgd it is a part of the gradient, in adamw it is decoupled."""
    crop_padding: Annotated[int, Field(ge=0)] = 4
    """Black pixels on each side of an image, out of which a random crop of its size is cut; 0: no crops. Image
    files (imagenet) have random resized crops instead, and the augmentation none has neither."""
    flip: bool = True
    """Whether half of the images are mirrored left to right. The augmentation none leaves it aside."""
    optimizer: str = "sgd"
    """sgd, adamw, or the name of one of your own (docs/training.md)."""
    nesterov: bool = False
    """Of the optimizer sgd: Nesterov's momentum."""
    betas: Annotated[tuple[Decay, Decay], Listed] = (0.9, 0.999)
    """Of the optimizer adamw: by what its averages of gradients and of their squares decay in every step."""
    schedule: str = "step"
    """step, cosine, one-cycle, or the name of one of your own: how the learning rate changes (docs/training.md)."""
    warmup_epochs: NonNegative = 0.0
    """The rate first rises linearly from 0, for this many epochs (0.5: half of one) of those that there are."""
    augmentation: str = "standard"
    """standard (crop and flip), none, cutout, strong, or the name of one of your own: how training images are
    disturbed."""
    cutout_size: Count = 8
    """Of the augmentation cutout: pixels of the square's side. DeVries and Taylor have 8 for CIFAR-100, 16 for
    CIFAR-10."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """Of forward and backward passes; weights and losses are float32. auto: bf16 where the hardware has it, else
    fp32."""
    processes: Count = 1
    """How many processes share every batch. Losses are of the whole batch; batch norm is of each process's own
    part."""

    @model_validator(mode="after")
    def _every_process_has_two_images(self) -> "Recipe":
        if self.batch_size < 2 * self.processes:
            raise ValueError(
                f"batch_size {self.batch_size} is too small for {self.processes} processes: two images each"
            )
        return self

    @model_validator(mode="after")
    def _choices_fit(self) -> "Recipe":
        if self.warmup_epochs and self.warmup_epochs >= self.epochs:
            raise ValueError(f"warmup_epochs {self.warmup_epochs:g} leaves none of {self.epochs} epochs for the rest")
        if self.nesterov and self.momentum == 0:
            raise ValueError("nesterov needs a momentum")
        for choice, owners in OPTIONS.items():
            chosen = getattr(self, choice)
            for owner, keys in owners.items():
                for key in keys if chosen in owners and chosen != owner else ():
                    if getattr(self, key) != type(self).model_fields[key].default:
                        raise ValueError(f"{key} is of the {choice} '{owner}', not of '{chosen}': leave it out")
        self._choices_exist()
        return self

    def _choices_exist(self) -> None:
        """UserError for an unknown name. The defaults are known, so that this module can be imported alone."""
        if (self.optimizer, self.schedule) != ("sgd", "step"):
            from sskd.optim import OPTIMIZERS, SCHEDULES

            OPTIMIZERS[self.optimizer]
            SCHEDULES[self.schedule]
        if self.augmentation != "standard":
            from sskd.data.augmentations import AUGMENTATIONS

            AUGMENTATIONS[self.augmentation]


class MethodSettings(Frozen):
    """What every method has: the weights of cross-entropy and of Hinton's KD beside the method's own terms."""

    name: PlainName
    """Which method: run_all.py --list methods names them."""
    ce_weight: NonNegative = 1.0
    """Of the cross-entropy with the labels, over the images' normal views."""
    kd_weight: NonNegative = 0.0
    """Of Hinton's distillation, which can be added to every method."""
    kd_temperature: Positive = 4.0
    """The temperature that softens both sides in Hinton's distillation; its loss is multiplied by its square."""
    divergence: Literal["kl", "cross_entropy"] = "kl"
    """Of softened predictions. Both have the same gradient; the published code reports kl."""
    warmup_epochs: NonNegative = 0.0
    """The weights of the method's own terms rise linearly from 0, for this many epochs of recipe.full_epochs; they
    scale like milestones."""


class PretextSettings(Frozen):
    """A self-supervised task and the transformations that make its views."""

    name: PlainName
    """Which self-supervised task: run_all.py --list pretexts names them."""
    transformation: str = "rotation"
    """What makes the transformed views: rotation (the published code's) or paper (the four that the paper names).
    Tasks that make their own views leave it aside."""


@cache  # every method that is named asks for it
def _load_table(name: str) -> dict[str, dict[str, Any]]:
    path = CONFIGS / name
    return (read_yaml(path) or {}) if path.exists() else {}


def published_table(name: str) -> dict[str, Any]:
    """A method's entry in configs/methods.yaml: settings, and under "when" what some of their values bring along."""
    return _load_table("methods.yaml").get(name, {})


def pair_tables(name: str) -> dict[str, dict[str, Any]]:
    """configs/pairs/METHOD.yaml: "teacher/student" to an entry of the same kind; empty if there is no such file."""
    return _load_table(f"pairs/{name}.yaml")


def published_settings(given: dict[str, Any], pair: str = "") -> dict[str, Any]:
    """A method's published values: configs/methods.yaml, then what configs/pairs/METHOD.yaml has for the pair
    ("teacher/student"), then what either has under "when", for settings that ``given`` chooses ({"standardise": True}).
    """
    name = given["name"]
    layers = [published_table(name), pair_tables(name).get(pair, {})]
    values: dict[str, Any] = {}
    for layer in layers:
        values |= {key: value for key, value in layer.items() if key != "when"}
    for layer in layers:
        for setting, choices in layer.get("when", {}).items():
            values |= choices.get(str(given.get(setting)).lower(), {})  # YAML's names of values: "true", "dkd"
    return values


def _method(data: Any, pair: str = "") -> Any:
    """{"name": "crd", ...} to that method's own settings, over its published values. What was given, and not published,
    is noted as the settings' ``model_fields_set``: of settings that were made for no pair, a pair changes the rest."""
    if isinstance(data, str):
        data = {"name": data}
    elif isinstance(data, MethodSettings) and pair:
        data = {"name": data.name} | {key: getattr(data, key) for key in data.model_fields_set}
    if not isinstance(data, dict) or "name" not in data:
        return data
    from sskd.methods import METHODS  # here: methods import this module for their settings

    settings = METHODS[data["name"]].Settings.model_validate(published_settings(data, pair) | data)
    return type(settings).model_construct(_fields_set=set(data), **dict(settings))


def _pretext(data: Any) -> Any:
    if isinstance(data, str):
        data = {"name": data}
    if not isinstance(data, dict) or "name" not in data:
        return data
    from sskd.pretext import PRETEXTS

    return PRETEXTS[data["name"]].Settings.model_validate(data)


def method_settings(name: str, **settings: Any) -> MethodSettings:
    """A method's settings: what is given, over the published values for no pair in particular. UserError names what is
    wrong."""
    return from_dict(_OneMethod, {"method": {**settings, "name": name}}, f"settings of the method '{name}'").method


Method = Annotated[SerializeAsAny[MethodSettings], BeforeValidator(_method)]
Pretext = Annotated[SerializeAsAny[PretextSettings], BeforeValidator(_pretext)]


class _OneMethod(Frozen):
    method: Method


PUBLISHED = "torchvision:"  # before the name of weights that torchvision publishes


class Pretrained(Frozen):
    """A network whose weights come from a file, or are torchvision's ("torchvision:IMAGENET1K_V1"). With ``sha256`` of
    a file the id follows the content, not the path."""

    network: PlainName
    """What the weights are of: run_all.py --list networks names them."""
    weights: str
    """A file (.pth, .safetensors), or torchvision's by name: torchvision:IMAGENET1K_V1."""
    sha256: str | None = None
    """The hash of the file, which is checked. With it a run's id follows the content and not the path."""

    @model_validator(mode="after")
    def _digest_is_of_a_file(self) -> "Pretrained":
        if self.sha256 and self.published:
            raise ValueError("'sha256' is of a file: torchvision's weights have a hash in their own name")
        return self

    @property
    def published(self) -> bool:
        """Whether the weights are torchvision's, and no file."""
        return self.weights.startswith(PUBLISHED)


class Trained(Frozen):
    """A network that a run of this suite trains."""

    run: "RunSpec"
    """The run that trains it."""
    epoch: Literal["best", "last"] = "best"
    """Whose weights: of the epoch that was best on the test images, or of the last."""

    @property
    def network(self) -> str:
        return self.run.network


def _teacher_kind(data: Any) -> str:
    if isinstance(data, dict):
        return "trained" if "run" in data else "pretrained"
    return "trained" if isinstance(data, Trained) else "pretrained"


Teacher = Annotated[
    Annotated[Trained, Tag("trained")] | Annotated[Pretrained, Tag("pretrained")],
    Discriminator(_teacher_kind),
]


class RunSpec(Frozen):
    """One training: a teacher, a head on a frozen teacher, or a student. A teacher whose weights come from a file is
    not trained but measured."""

    role: Literal["teacher", "head", "student"]
    """What is trained: a teacher, a head on a frozen teacher, or a student."""
    network: PlainName
    """Of a teacher or student the one that learns, of a head its teacher's: run_all.py --list networks names
    them."""
    dataset: DatasetSpec
    """Which images."""
    recipe: Recipe = Recipe()
    """How it is trained."""
    split: SplitSpec = SplitSpec()
    """Which of the training images, with which labels."""
    seed: int = 0
    """Of everything random: weights, order, augmentation, a method's draws."""
    teacher: Teacher | None = None
    """Whom a head or a student learns from, trained by a run or given; of a teacher: its given weights."""
    pretext: Pretext | None = None
    """The task of a head."""
    method: Method | None = None
    """How a student learns."""
    head: "RunSpec | None" = None
    """The run of the teacher's head, of a student whose method transfers a pretext task."""

    @field_validator("method", mode="before")
    @classmethod
    def _published_for_the_pair(cls, method: Any, info: ValidationInfo) -> Any:
        """What a spec does not say of its method is as published for its teacher and student."""
        teacher, student = info.data.get("teacher"), info.data.get("network")
        return _method(method, f"{teacher.network}/{student}") if teacher is not None else method

    @model_validator(mode="after")
    def _roles_fit(self) -> "RunSpec":
        def need(condition: bool, message: str) -> None:
            if not condition:
                raise ValueError(message)

        if self.role == "teacher":
            need(not (self.pretext or self.method or self.head), "a teacher run learns from labels alone")
            if self.teacher is not None:
                need(isinstance(self.teacher, Pretrained), "a teacher is trained from labels, or its weights are given")
                need(self.network == self.teacher.network, "a teacher's 'network' is that of its weights")
        elif self.role == "head":
            need(self.teacher is not None, "a head needs a 'teacher'")
            need(self.pretext is not None, "a head needs a 'pretext'")
            need(self.method is None and self.head is None, "a head has neither 'method' nor 'head'")
            assert self.teacher is not None
            need(self.network == self.teacher.network, "a head's 'network' is its teacher's")
        else:
            need(self.method is not None, "a student needs a 'method' ('none' for training without a teacher)")
            need(self.pretext is None, "a student has no 'pretext': it takes its head's")
            if self.head is not None:
                need(self.head.role == "head", "'head' must be a run of role 'head'")
                need(self.head.teacher == self.teacher, "the head must belong to the student's teacher")
            self._method_has_what_it_needs()
        return self

    def _method_has_what_it_needs(self) -> None:
        from sskd.methods import METHODS

        assert self.method is not None
        method = METHODS[self.method.name]
        if (method.needs_teacher or self.method.kd_weight > 0) and self.teacher is None:
            raise ValueError(f"the method '{self.method.name}' needs a 'teacher'")
        if method.needs_head and self.head is None:
            raise ValueError(f"the method '{self.method.name}' needs a 'head'")
        if self.head is not None and self.head.pretext is not None:
            from sskd.pretext import PRETEXTS

            task = self.head.pretext.name
            if method.head_task not in (None, task) or PRETEXTS[task].method not in (None, self.method.name):
                wanted = f"of the task '{method.head_task}'" if method.head_task else "of another task"
                raise ValueError(f"the method '{self.method.name}' needs a head {wanted}, not of '{task}'")

    @cached_property
    def id(self) -> str:
        """Readable prefix and a hash of the spec's meaning: equal for equal meaning, on every machine.

        Values that equal a default are left out, so written or not they give the same id, and a field added later
        leaves old ids alone. (tests/test_config.py pins the defaults: changing one would change what old ids mean.)
        """
        text = json.dumps(_identity(self.model_dump(mode="json", exclude_defaults=True)), sort_keys=True)
        digest = hashlib.sha256(text.encode()).hexdigest()[:12]
        how = {"teacher": "", "head": f"{self.pretext.name}-" if self.pretext else ""}.get(
            self.role, f"{self.method.name}-" if self.method else ""
        )
        return f"{self.role}-{self.network}-{how}{self.dataset.name}-s{self.seed}-{digest}"

    @property
    def random_seed(self) -> int:
        """What everything random in the run follows from: its seed, moved where its method is a control that differs
        from another in nothing else."""
        from sskd.methods import METHODS

        return self.seed + (METHODS[self.method.name].seed_shift if self.method else 0)

    @property
    def trains(self) -> bool:
        """False for what is only measured: a teacher whose weights are given."""
        return self.role != "teacher" or self.teacher is None

    @property
    def needs(self) -> "tuple[RunSpec, ...]":
        """The runs that must be finished before this one can start."""
        teacher = (self.teacher.run,) if isinstance(self.teacher, Trained) else ()
        return teacher + ((self.head,) if self.head is not None else ())


def _identity(value: Any) -> Any:
    """A dumped spec without what does not belong to its meaning: the place of a weights file of known content."""
    if isinstance(value, dict):
        skip = {"weights"} if value.get("sha256") else set()
        return {key: _identity(item) for key, item in value.items() if key not in skip}
    if isinstance(value, list):
        return [_identity(item) for item in value]
    return value


class Execution(Frozen):
    """Where and how a run executes. Nothing here changes what is computed, so nothing here enters a run's id."""

    # they made steps faster, or smaller in memory, with the same numbers
    removed = dict.fromkeys(("keep_memory", "native", "together", "offload_activations"))

    dataset_root: str = "data"
    """The folder that data sets are in."""
    device: str = "auto"
    """auto (a GPU if there is one), cpu, cuda, cuda:1, ..."""
    threads: Annotated[int, Field(ge=1, le=4096)] | None = None
    """CPU threads, shared by a run's processes. null: as many as may be used (sskd/cores.py)."""
    channels_last: bool = True
    """The memory layout of images and networks: channels last, which convolutions on GPUs and CPUs like."""
    fold_teacher: bool = True
    """The frozen teacher with its batch norms folded into its convolutions."""
    compile: Literal["off", "default", "reduce-overhead"] = "off"
    """The network that learns by torch.compile; reduce-overhead: with CUDA graphs. On the CPU it made steps
    slower."""
    workers: Annotated[int, Field(ge=0)] | None = None
    """Processes that read image files. null: as many as there are cores, 16 at most."""


def from_dict(model: type[Frozen], data: Any, where: str) -> Any:
    """Validates YAML data. UserError names the file or option (``where``), the key's path and what is wrong."""
    if not isinstance(data, dict):
        raise UserError(f"{where}: expected a mapping of keys to values, found {type(data).__name__}")
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise UserError(f"{where}: {_first_line(error)}") from None
    except UserError as error:  # an unknown method, network, ... found while validating
        raise UserError(f"{where}: {error}") from None


def _first_line(error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    path = ".".join(str(part) for part in first["loc"] if part not in ("trained", "pretrained"))
    message = first["msg"].removeprefix("Value error, ")
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    shown = f", found {_shown(first['input'])}" if not isinstance(first["input"], dict) else ""
    return f"{path + ': ' if path else ''}{message}{shown}{more}"


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def read_spec(path: Path, changes: Sequence[str] = ()) -> RunSpec:
    """A RunSpec from its YAML file, with ``changes`` (a.b=c) applied."""
    data = read_yaml(path)
    if not isinstance(data, dict):
        raise UserError(f"{path}: expected a mapping of keys to values, found {type(data).__name__}")
    return from_dict(RunSpec, override(data, changes), str(path))


def spec_yaml(spec: Frozen) -> str:
    """A spec as YAML, defaults written out."""
    return yaml.safe_dump(spec.model_dump(mode="json", exclude_none=True), sort_keys=False, width=110)
