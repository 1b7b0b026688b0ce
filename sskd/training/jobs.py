"""From a spec to what the training loop runs: modules to learn and stages to go through, one builder for each role."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sskd.config.pretrained import Pretrained
from sskd.data.batch import Batch
from sskd.data.splits import make_split
from sskd.data.views import SingleView, Views
from sskd.device import autocast
from sskd.distributed import Replica
from sskd.errors import UserError
from sskd.methods import METHODS, InitialStage, LossTerms, MethodContext, check_pair
from sskd.networks import Features, Network, build_network, feature_shapes
from sskd.networks.weights import check_weights, load_network, load_state
from sskd.optim import learning_rate_at
from sskd.pretext import PRETEXTS, Pretext, PretextContext
from sskd.runs.run_folder import RunFolder
from sskd.runs.spec import RunSpec, Trained
from sskd.seeding import stream_seed
from sskd.training.evaluation import accuracy, similarity
from sskd.training.forward import TeacherForward, in_float32, training_pass
from sskd.training.setup import Setup


@dataclass(frozen=True)
class Stage:
    """Epochs with one loss and one set of trained modules. A run has one, some methods put others before it."""

    name: str
    epochs: int
    learning_rate_at: Callable[[float], float]  # of the epochs that are done, 0.5 in the middle of the first
    trained: Sequence[nn.Module]
    views: Views
    loss: Callable[[Batch], tuple[Tensor, LossTerms]]
    after_step: Callable[[], None] = lambda: None
    begin_epoch: Callable[[int], None] = lambda epoch: None  # with the epoch, from 0; also when one is resumed

    @property
    def parameters(self) -> list[nn.Parameter]:
        unique = {id(p): p for module in self.trained for p in module.parameters() if p.requires_grad}
        return list(unique.values())


@dataclass(frozen=True)
class TrainingTask:
    """Everything the loop needs to know of a run, whatever its role and method."""

    modules: nn.ModuleDict  # all that is learned: trained, saved and resumed
    output: nn.Module  # the one whose best and last weights are kept
    stages: list[Stage]  # none where there is nothing to train
    evaluate: Callable[[], dict[str, float]]
    # the key of evaluate() that decides the best epoch; "": the last epoch counts, and it alone is measured
    score: str = ""
    final: Callable[[], dict[str, float]] = field(default=dict)  # measured once, on the last epoch's weights
    held_out: Callable[[], dict[str, float]] = field(default=dict)  # as evaluate, of held-out training images


def build_task(setup: Setup) -> TrainingTask:
    """The job of the spec's role."""
    return {"teacher": _teacher_job, "head": _head_job, "student": _student_job}[setup.spec.role](setup)


def _teacher_job(setup: Setup) -> TrainingTask:
    if not setup.spec.trains:
        given = load_teacher(setup)
        return TrainingTask(nn.ModuleDict(), given, [], lambda: accuracy(given, setup.test), score="top1")
    network = _new_network(setup)
    forward = training_pass(network, setup)

    def loss(batch: Batch) -> tuple[Tensor, LossTerms]:
        with autocast(setup.device, setup.precision):
            features = forward(batch.images)
        features = setup.gather_features(in_float32(features, frozenset()), batch, frozenset())
        ce = F.cross_entropy(features.logits, setup.gather_batch(batch).labels)
        return ce, LossTerms({"ce": ce})

    recipe = setup.spec.recipe
    stage = Stage("main", recipe.epochs, partial(learning_rate_at, recipe), [network], SingleView(), loss)
    return TrainingTask(
        nn.ModuleDict({"network": network}),
        network,
        [stage],
        lambda: accuracy(network, setup.test),
        score="top1",
        held_out=lambda: held_out_accuracy(network, setup),
    )


def _head_job(setup: Setup) -> TrainingTask:
    spec = setup.spec
    assert spec.pretext is not None
    teacher = load_teacher(setup)
    head = _new_head(setup, spec)
    views = head.views(spec.pretext)
    features_of = TeacherForward(teacher, setup, head.needs)

    def loss(batch: Batch) -> tuple[Tensor, LossTerms]:
        features = setup.gather_features(features_of(batch.images), batch, head.needs)
        value, share_right = head.loss(head.read(features), setup.gather_batch(batch))
        return value, LossTerms({spec.pretext.name: value}, {"head_accuracy": share_right})  # type: ignore[union-attr]

    def evaluate() -> dict[str, float]:
        """The head's accuracy on views of the test images: the same views for every head."""
        loader = setup.data.test_loader(views, spec.recipe.batch_size, setup.loader_config._replace(replica=Replica()))
        head.eval()
        sums = torch.zeros(3, device=setup.device)
        with torch.no_grad():
            for batch in loader.epoch(0):
                value, share_right = head.loss(head.read(features_of(batch.images)), batch)
                sums += torch.stack([value, share_right, torch.ones_like(value)]) * len(batch.labels)
        total, right, images = sums.tolist()
        return {"head_top1": 100 * right / images, "loss": total / images}

    stage = Stage("main", spec.recipe.epochs, partial(learning_rate_at, spec.recipe), [head], views, loss)
    # students use the last epoch's head: no earlier one is measured
    return TrainingTask(nn.ModuleDict({"head": head}), head, [stage], evaluate if head.evaluable_on_test else dict)


def _student_job(setup: Setup) -> TrainingTask:
    spec = setup.spec
    assert spec.method is not None
    student = _new_network(setup)
    has_teacher = spec.teacher is not None
    teacher = load_teacher(setup) if has_teacher else None
    size = setup.data.image_size
    context = MethodContext(
        student=student,
        student_shapes=feature_shapes(spec.network, size, spec.network_settings),
        num_classes=setup.data.num_classes,
        labels=setup.split.labels.to(setup.device),
        teacher=teacher,
        teacher_shapes=feature_shapes(spec.teacher.network, size, spec.teacher.network_settings)
        if spec.teacher
        else None,
        head=_trained_head(setup) if spec.head else None,
        recipe=spec.recipe,
    )
    kind = METHODS[spec.method.name]
    if context.teacher_shapes:
        check_pair(spec.method, context.student_shapes, context.teacher_shapes)
    torch.manual_seed(stream_seed(spec.random_seed, "method"))
    method = kind(spec.method, context).to(setup.device)
    student = setup.place(method.predictor(student))
    teacher_features = TeacherForward(teacher, setup, method.needs) if teacher is not None else None

    # what has learned from the teacher in an initial stage alone needs no pass of it afterwards
    asks_teacher = spec.method.kd_weight > 0 or bool(method.loss_weights)

    forward = training_pass(student, setup)

    def student_features(images: Tensor) -> Features:
        with autocast(setup.device, setup.precision):
            features = forward(images)
        return in_float32(features, method.needs)

    def loss(batch: Batch) -> tuple[Tensor, LossTerms]:
        theirs = teacher_features(batch.images) if teacher_features and asks_teacher else None
        ours = setup.gather_features(student_features(batch.images), batch, method.needs)
        if theirs is not None:
            theirs = setup.gather_features(theirs, batch, method.needs)
        return method(ours, theirs, setup.gather_batch(batch))

    stages = []
    if teacher_features is not None:
        for initial in method.initial_stages():
            stages.append(_initial_stage(initial, setup, student_features, teacher_features, method.needs))
    recipe = spec.recipe
    stages.append(
        Stage(
            "main",
            recipe.epochs,
            partial(learning_rate_at, recipe),
            [student, method],
            method.views(),
            loss,
            method.after_step,
            method.begin_epoch,
        )
    )
    return TrainingTask(
        nn.ModuleDict({"network": student, "method": method}),
        student,
        stages,
        lambda: accuracy(student, setup.test),
        score="top1",
        final=lambda: similarity(student, teacher, setup.test) if teacher is not None else {},
        held_out=lambda: held_out_accuracy(student, setup),
    )


def held_out_accuracy(network: Network, setup: Setup) -> dict[str, float]:
    """As ``accuracy``, of the images that the split holds out; nothing where it holds out none."""
    return accuracy(network, setup.held_out) if setup.held_out else {}


def _initial_stage(
    initial: InitialStage,
    setup: Setup,
    student: Callable[[Tensor], Features],
    teacher: Callable[[Tensor], Features],
    needs: frozenset[str],
) -> Stage:
    """A method's stage before the main one, at a constant rate."""
    rate = initial.learning_rate or setup.spec.recipe.learning_rate

    def loss(batch: Batch) -> tuple[Tensor, LossTerms]:
        ours = setup.gather_features(student(batch.images), batch, needs) if initial.uses_student else None
        theirs = setup.gather_features(teacher(batch.images), batch, needs)
        terms = initial.loss(ours, theirs, setup.gather_batch(batch))
        return torch.stack(list(terms.values())).sum(), LossTerms(terms)

    return Stage(initial.name, initial.epochs, lambda progress: rate, initial.trained, SingleView(), loss)


def _new_network(setup: Setup) -> Network:
    torch.manual_seed(stream_seed(setup.spec.random_seed, "network"))
    return setup.place(build_network(setup.spec.network, setup.data.num_classes, setup.spec.network_settings))


def _new_head(setup: Setup, spec: RunSpec) -> Pretext:
    """The head of a head run, untrained."""
    assert spec.pretext is not None
    torch.manual_seed(stream_seed(spec.seed, "head"))
    width = feature_shapes(spec.network, setup.data.image_size, spec.used_as).width
    images = len(make_split(setup.data.train_labels, setup.data.num_classes, spec.split).indices)
    context = PretextContext(width, images, spec.network, setup.data.num_classes)
    return PRETEXTS[spec.pretext.name](spec.pretext, context).to(setup.device)


def _trained_head(setup: Setup) -> Pretext:
    """The teacher's head as its run left it in the last epoch, frozen."""
    assert setup.spec.head is not None
    head = _new_head(setup, setup.spec.head)
    head.load_state_dict(load_state(_weights_of(setup, setup.spec.head, "last")))
    return head.eval().requires_grad_(False)


def load_teacher(setup: Setup) -> Network:
    """The spec's teacher: eval mode, no gradient. UserError if its file is missing, damaged or of another kind."""
    teacher = setup.spec.teacher
    if isinstance(teacher, Trained):
        path: Path | str = _weights_of(setup, teacher.run, teacher.epoch)
    else:
        assert isinstance(teacher, Pretrained)
        check_weights(teacher)
        path = teacher.weights
    network = load_network(path, teacher.network, setup.data.num_classes, teacher.network_settings)
    return setup.place(network).eval().requires_grad_(False)


def _weights_of(setup: Setup, spec: RunSpec, epoch: str) -> Path:
    path = RunFolder(setup.runs, spec).weights(epoch)
    if not path.exists():
        raise UserError(f"{setup.spec.id} needs the weights of {spec.id}, and there is no {path}: train that run first")
    return path
