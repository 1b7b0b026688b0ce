"""A method of a user's own is tried on made features before anything trains, and what breaks the contract is named."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sskd.config.pretrained import FromFile
from sskd.errors import UserError
from sskd.methods import METHODS, InitialStage, LossTerms, Method, MethodContext, MethodInfo
from sskd.pretext.base import PRETEXTS, Transfer
from sskd.pretext.rotation import Rotation
from sskd.runs.settings import method_settings
from sskd.runs.spec import StudentSpec
from sskd.runs.trial import try_method
from tests import small

Terms = Callable[[Any, Any, Any], Any]


class Made(Method):
    """Base class of the tests' methods."""

    info = MethodInfo("Made", "a test", 2026, "logits")
    required_features = frozenset({"logits", "labels"})
    loss_weights = {"t": 1.0}  # type: ignore[assignment]


def registered(terms: Terms) -> None:
    """Registers the method 'made' with these terms, of (student's logits, teacher's, method)."""

    def loss_terms(self: Any, student: Any, teacher: Any, batch: Any) -> LossTerms:
        return LossTerms(terms(student.logits, teacher.logits, self))

    METHODS._entries["made"] = type("Broken", (Made,), {"loss_terms": loss_terms})


def spec_of(method: str, head: str = "", **settings: Any) -> StudentSpec:
    """A student of a given teacher."""
    teacher = FromFile(network="resnet8", weights="any.pth").model_dump()
    data = small.student({"name": method, **settings}, teacher=teacher)
    spec = small.spec(data | ({"head": small.head(head, teacher=teacher)} if head else {}))
    assert isinstance(spec, StudentSpec)
    return spec


def tried(method: str = "made", head: str = "", images: int = 96, **settings: Any) -> None:
    """The trial of such a student, on images of 16 x 16."""
    try_method(spec_of(method, head, **settings), 16, 10, images)


def mse(s: Tensor, t: Tensor, _: Any) -> dict[str, Tensor]:
    return {"t": F.mse_loss(s, t)}


BROKEN: dict[str, tuple[Terms, str]] = {
    "reserved ce": (lambda s, t, m: {"ce": F.mse_loss(s, t)}, "'ce'"),
    "reserved kd": (lambda s, t, m: {"t": F.mse_loss(s, t), "kd": F.mse_loss(s, t)}, "'kd'"),
    "detached": (lambda s, t, m: {"t": F.mse_loss(s, t).detach()}, "'t' has no gradient"),
    "missing": (lambda s, t, m: {}, "'t' is missing"),
    "another name": (lambda s, t, m: {"tt": F.mse_loss(s, t)}, "'tt' has no weight"),
    "item": (lambda s, t, m: {"t": F.mse_loss(s, t).item()}, "'t' is a float"),
    "vector": (lambda s, t, m: {"t": (s - t).square().mean(1)}, r"'t' is a tensor of shape \(\d+,\)"),
    "integers": (lambda s, t, m: {"t": (s.argmax(1) != t.argmax(1)).sum()}, "'t' is int64"),
    "half": (lambda s, t, m: {"t": F.mse_loss(s, t).half()}, "'t' is float16"),
    "NaN": (lambda s, t, m: {"t": F.mse_loss(s, t) * float("nan")}, "'t' is nan"),
    "infinite": (lambda s, t, m: {"t": F.mse_loss(s, t) / 0}, "'t' is inf"),
    "not a dict": (lambda s, t, m: [F.mse_loss(s, t)], "a list, not a dict"),
    "a number as a name": (lambda s, t, m: {0: F.mse_loss(s, t)}, "a term 0"),
    "raises": (lambda s, t, m: {"t": s @ t}, "RuntimeError"),
    "in eval mode": (lambda s, t, m: {"t": F.mse_loss(s, t) if m.training else 0.0}, "'t' is a float"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_term_that_is_no_loss_is_refused(kind: str) -> None:
    terms, problem = BROKEN[kind]
    registered(terms)
    with pytest.raises(UserError, match=problem) as error:
        tried()
    assert "method 'made' (test_contract.py, line " in str(error.value)
    assert "\n" not in str(error.value)


def stage_of(loss: Any, **changes: Any) -> Any:
    """A method's ``initial_stages`` with one stage of this loss."""

    def initial_stages(self: Method) -> list[InitialStage]:
        return [InitialStage(**{"name": "first", "epochs": 1, "trained": [self.layer], "loss": loss} | changes)]

    return initial_stages


class WithLayer(Made):
    """Trains a layer of its own beside the student."""

    def __init__(self, settings: Any, context: MethodContext) -> None:
        super().__init__(settings, context)
        self.layer, self._teacher = nn.Linear(10, 10), (context.teacher,)

    def loss_terms(self, student: Any, teacher: Any, batch: Any) -> LossTerms:
        return LossTerms({"t": F.mse_loss(self.layer(student.logits), teacher.logits)})


def frees(self: Any, epoch: int) -> None:
    self._teacher[0].requires_grad_(True)


def layer_alone(self: Any, student: Any, teacher: Any, batch: Any) -> LossTerms:
    return LossTerms({"t": F.mse_loss(self.layer(student.logits.detach()), teacher.logits)})


def whole(self: Any, student: Any, teacher: Any, batch: Any) -> Any:
    return student.logits.mean(1), LossTerms({})


def maps_term(self: Any, student: Any, teacher: Any, batch: Any) -> LossTerms:
    return LossTerms({"t": F.mse_loss(student.feature_maps[1], teacher.feature_maps[1])})


def logs(**logged: Any) -> Any:
    return lambda self, student, teacher, batch: LossTerms(mse(student.logits, teacher.logits, self), logged)


ATTRIBUTES: dict[str, tuple[dict[str, Any], str]] = {
    "unknown features": ({"required_features": frozenset({"logits", "attention"})}, "attention"),
    "features as text": ({"required_features": "logits"}, "'logits'"),
    "weights no dict": ({"loss_weights": [1.0]}, "loss_weights are a list"),
    "a weight that is None": ({"loss_weights": {"t": None}}, "'t' is None"),
    "a weight that is a tensor": ({"loss_weights": {"t": torch.ones(())}}, "'t' is tensor"),
    "a weight of no setting": ({"loss_weights": Method.loss_weights, "term_weights": {"t": "wieght"}}, "wieght"),
    "a weight whose term is not there": ({"loss_weights": {"t": 1.0, "u": 1.0}}, "'u' is missing"),
    "returns a dict": ({"loss_terms": lambda self, s, t, b: mse(s.logits, t.logits, self)}, "a dict, not LossTerms"),
    "maps without a need": ({"loss_terms": maps_term}, "required_features do not name"),
    "a total of several": ({"forward": whole}, r"total is a tensor of shape"),
    "logs a number": ({"loss_terms": logs(a=1.0)}, "logs has 'a', which is a float"),
    "logs an epoch": ({"loss_terms": logs(epoch=torch.ones(()))}, "'epoch'"),
    "views of no image": ({"view_transform": lambda self: None}, "AttributeError"),
    "a step that raises": ({"after_step": lambda self: 1 / 0}, "ZeroDivisionError"),
    "an epoch that raises": ({"begin_epoch": lambda self, epoch: [0][epoch]}, "IndexError"),
    "a predictor that is none": ({"predictor": lambda self, student: nn.Linear(1, 1)}, "a Linear, not a Network"),
    "frees the teacher": ({"begin_epoch": frees}, "teacher trainable"),
    "trains only itself": ({"loss_terms": layer_alone}, "reaches the student"),
    "no constructor": ({"__init__": lambda self, settings: None}, "TypeError"),
}


@pytest.mark.parametrize("kind", ATTRIBUTES)
def test_what_else_breaks_the_contract_is_refused(kind: str) -> None:
    attributes, problem = ATTRIBUTES[kind]
    METHODS._entries["made"] = type("Broken", (WithLayer,), attributes)
    with pytest.raises(UserError, match=problem) as error:
        tried()
    assert "method 'made'" in str(error.value)


STAGES: dict[str, tuple[Any, dict[str, Any], str]] = {
    "detached": (lambda s, t, b: {"first": F.mse_loss(s.logits, t.logits).detach()}, {}, "no term with a gradient"),
    "vector": (lambda s, t, b: {"first": s.logits.mean(1)}, {}, "'first' is a tensor of shape"),
    "nothing": (lambda s, t, b: {}, {}, "no term with a gradient"),
    "no parameter": (lambda s, t, b: {"first": s.logits.mean()}, {"trained": [nn.ReLU()]}, "trains no parameter"),
    "a stage called main": (lambda s, t, b: {"first": s.logits.mean()}, {"name": "main"}, "equal names: main, main"),
    "no epoch": (lambda s, t, b: {"first": s.logits.mean()}, {"epochs": 0}, "0 epochs"),
}


@pytest.mark.parametrize("kind", STAGES)
def test_initial_stages_are_tried_too(kind: str) -> None:
    loss, changes, problem = STAGES[kind]
    METHODS._entries["made"] = type("Broken", (WithLayer,), {"initial_stages": stage_of(loss, **changes)})
    with pytest.raises(UserError, match=problem):
        tried()


@pytest.mark.parametrize(
    "attributes",
    [
        {},
        {"loss_weights": {"t": 1.0, "later": 0.0}},
        {"loss_weights": Method.loss_weights, "term_weights": {"t": "kd_temperature"}},
        {"required_features": frozenset({"logits", "feature_maps"}), "loss_terms": maps_term},
        {"loss_terms": logs(share=torch.ones(()))},
        {"initial_stages": stage_of(lambda s, t, b: {"first": F.mse_loss(s.logits, t.logits)})},
    ],
)
def test_what_keeps_the_contract_is_taken(attributes: dict[str, Any]) -> None:
    METHODS._entries["made"] = type("Kept", (WithLayer,), attributes)
    before = torch.get_rng_state()
    tried()
    assert torch.equal(torch.get_rng_state(), before)


def neighbours(s: Tensor, t: Tensor, _: Any) -> dict[str, Tensor]:
    return {"t": F.mse_loss(torch.cdist(s, s).topk(10).values, torch.cdist(t, t).topk(10).values)}


def test_the_last_batch_of_an_epoch_is_tried() -> None:
    registered(neighbours)
    tried(images=96)  # three batches of 32
    with pytest.raises(UserError, match=r"last batch of an epoch, which has 4 images: RuntimeError"):
        tried(images=100)


@pytest.mark.parametrize("name", [name for name in METHODS if name not in ("none", "hsakd")])
def test_the_suites_own_methods_keep_it(name: str) -> None:
    METHODS._entries["made"] = type("Same", (METHODS[name],), {"__module__": "a_users"})
    settings = method_settings(name).model_dump(exclude={"name"})
    tried(head="contrastive" if METHODS[name].needs_head else "", **settings)


# --- a task of a user's own -------------------------------------------------------------------------------------------

TASKS: dict[str, tuple[str, Any, str]] = {
    "loss is a number": (
        "loss",
        lambda self, output, batch: (output.mean().item(), output.mean()),
        "its loss is a float",
    ),
    "no accuracy": ("loss", lambda self, output, batch: output.mean(), "not the pair"),
    "detached loss": ("loss", lambda self, o, batch: (o.mean().detach(), o.mean()), "its loss has no gradient"),
    "detached transfer": ("transfer", lambda self, s, t, b, c: Transfer(s.mean().detach(), {}), "'ss' has no gradient"),
    "a vector": ("transfer", lambda self, s, t, b, c: Transfer(s.mean(1), {}), r"'ss' is a tensor of shape"),
}


@pytest.mark.parametrize("kind", TASKS)
def test_a_task_is_tried_too(kind: str) -> None:
    function, does, problem = TASKS[kind]
    PRETEXTS._entries["mine"] = type("Mine", (Rotation,), {function: does, "__module__": "a_users"})
    spec = spec_of("sskd", head="mine")
    with pytest.raises(UserError, match=problem) as error:
        try_method(spec.head if function == "loss" else spec, 16, 10, 100)  # type: ignore[arg-type]
    assert "test_contract.py, line " in str(error.value)
