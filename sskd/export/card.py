"""The model card of an exported network: README.md with the front matter that the Hugging Face hub reads."""

from pathlib import Path
from typing import Any, NamedTuple

import yaml

from sskd import __version__
from sskd.config.pretrained import FromFile
from sskd.errors import UserError
from sskd.methods import METHODS
from sskd.runs.files import read_json
from sskd.runs.run_folder import RunFolder
from sskd.runs.spec import FromRun, RunSpec, StudentSpec, TeacherSpec
from sskd.runs.trained import NetworkInfo


class Card(NamedTuple):
    """The data of a model card."""

    name: str  # of the folder
    spec: RunSpec
    info: NetworkInfo
    epoch: str  # of the weights: "best" or "last"
    result: dict[str, Any]  # result.json
    runs: Path  # folder of runs, for the teacher's accuracy
    licence: str  # its name on the hub
    plugins: tuple[str, ...] = ()  # names of files in the folder
    onnx: float | None = None  # largest difference from torch's logits; None: not exported

    @property
    def student(self) -> StudentSpec | None:
        """The run's spec if it is a student; None for a teacher."""
        return self.spec if isinstance(self.spec, StudentSpec) else None


def write_card(card: Card) -> str:
    """Returns the model card, which is the text of README.md."""
    parts = [f"# {_title(card)}", _about(card), "## How to load it", _loading(card), "## Accuracy", _accuracy(card)]
    parts += ["## What it learned from", _origin(card), "## Licence", _licence(card)]
    return f"---\n{_front_matter(card)}---\n\n" + "\n\n".join(parts) + "\n"


def _title(card: Card) -> str:
    student = card.student
    how = f", distilled from {student.teacher.network} with {_method(student)}" if student and student.teacher else ""
    return f"{card.spec.network}{how}, on {card.spec.dataset.name}"


def _method(spec: StudentSpec) -> str:
    title = METHODS[spec.method.name].info.title
    return f"{title} and KD" if spec.method.kd_weight > 0 and spec.method.name != "kd" else title


def _front_matter(card: Card) -> str:
    """Returns the YAML with the keys that the hub's metadata check and search use."""
    measured, data = card.result[card.epoch], card.spec.dataset.name
    metrics = [{"type": "accuracy", "name": "top-1 accuracy", "value": round(measured["test_top1"] / 100, 6)}]
    result = {
        "task": {"type": "image-classification", "name": "Image classification"},
        "dataset": {"type": data, "name": data, "split": "test"},
        "metrics": metrics,
    }
    tags = ["image-classification", "pytorch"]
    if card.student and card.student.teacher:
        tags += ["knowledge-distillation", card.student.method.name]
    front = {
        "license": card.licence,
        "library_name": "sskd",
        "pipeline_tag": "image-classification",
        "tags": tags + (["onnx"] if card.onnx is not None else []),
        "metrics": ["accuracy"],
        "model-index": [{"name": card.name, "results": [result]}],
    }
    return yaml.safe_dump(front, sort_keys=False, allow_unicode=True, width=110)


def _about(card: Card) -> str:
    spec, info = card.spec, card.info
    lines = [
        f"An image classifier with {card.result['parameters']:,} parameters, for {len(info.class_names)} classes of "
        f"images of {info.image_size} x {info.image_size} pixels."
    ]
    if isinstance(spec, StudentSpec) and spec.teacher is not None:
        method = METHODS[spec.method.name].info
        lines.append(
            f"It was trained as a student of {spec.teacher.network} by knowledge distillation with {_method(spec)} "
            f"({method.paper}), which transfers {method.transfers}."
        )
    else:
        start = spec.start.weights if isinstance(spec, TeacherSpec) and spec.start else ""
        how = f"It was fine-tuned from {start.split('/')[-1]} on labels" if start else "It was trained from labels"
        lines.append(f"{how} alone, without a teacher.")
    if info.predictor is not None:
        lines.append("The network that is loaded here includes the modules that the method added to the student.")
    lines.append(f"Run `{spec.id}`, the weights of the {card.epoch} epoch, sskd {__version__}.")
    return " ".join(lines)


def _loading(card: Card) -> str:
    plugins = ", ".join(f'"{card.name}/{name}"' for name in card.plugins)
    more = f", plugins=[{plugins}]" if plugins else ""
    size = card.info.image_size
    text = (
        "With PyTorch and the package `sskd`, in the parent of this folder:\n\n"
        "```python\n"
        "from sskd import load_exported\n"
        f'net, info = load_exported("{card.name}"{more})\n'
        f"logits = net(info.normalise(images))  # images: (N, 3, {size}, {size}) uint8, RGB\n"
        "```\n\n"
        "`info.class_names[i]` is the name of logit `i`; `config.json` has the same names, and the mean and standard "
        "deviation of the channels."
    )
    if card.plugins:
        files = ", ".join(f"`{name}`" for name in card.plugins)
        text += f" {files} defines parts that the package lacks. It is executed: read it first."
    if card.onnx is not None:
        text += (
            f"\n\nWithout PyTorch: `model.onnx` maps `images` (N, 3, {size}, {size}), normalised float32, to `logits`, "
            f"for any batch size. In the check its logits and torch's differed by at most {card.onnx:.1e}."
        )
    return text


def _accuracy(card: Card) -> str:
    lines = ["| top-1 on the test images, % | |", "| --- | --- |"]
    for which in ("last", "best"):
        mark = " (these weights)" if which == card.epoch else ""
        lines.append(f"| {which} epoch{mark} | {card.result[which]['test_top1']:.2f} |")
    return "\n".join(lines) + (
        f"\n\nThe run has the seed {card.spec.seed}; other seeds give other accuracies. It was measured on "
        f"{card.result[card.epoch]['test_images']:,} test images. The best epoch was selected on these test images, so "
        "its accuracy is optimistically biased."
    )


def _origin(card: Card) -> str:
    spec = card.spec
    split, recipe = spec.split, spec.recipe
    images = f"{card.result['train_images']:,} training images of {spec.dataset.name}"
    if split.fraction < 1:
        images += f" ({split.fraction:.0%} of every class)"
    if split.noise:
        images += f", {split.noise:.0%} of their labels deliberately changed to wrong classes"
    rows = [("images", images)]
    if isinstance(spec, StudentSpec):
        if spec.teacher is not None:
            rows.append(("teacher", f"{spec.teacher.network}, {_teacher(card, spec.teacher)}"))
        settings = spec.method.model_dump(mode="json", exclude={"name"})
        rows.append(("method", f"{spec.method.name}: {', '.join(f'{key} {value}' for key, value in settings.items())}"))
        if spec.head is not None:
            task, epochs = spec.head.pretext.name, spec.head.recipe.epochs
            rows.append(("pretext task", f"{task}, its head trained for {epochs} epochs"))
    rows += [
        (
            "recipe",
            f"{recipe.epochs} epochs, batch {recipe.batch_size}, {recipe.optimizer} at {recipe.learning_rate:g}, "
            f"schedule {recipe.schedule}, weight decay {recipe.weight_decay:g}, augmentation {recipe.augmentation}, "
            f"{card.result['precision']}",
        ),
        ("seed", str(spec.seed)),
    ]
    return "| | |\n| --- | --- |\n" + "\n".join(f"| {name} | {text} |" for name, text in rows)


def _teacher(card: Card, teacher: FromRun | FromFile) -> str:
    """Returns the origin of the teacher's weights, and its accuracy if that is known."""
    run: RunSpec
    if isinstance(teacher, FromRun):
        where, run, epoch = f"trained by run `{teacher.run.id}` (its {teacher.epoch} epoch)", teacher.run, teacher.epoch
    else:
        name = teacher.weights if teacher.published else f"`{Path(teacher.weights).name}`"
        where = f"given weights: {name}" + (f", sha256 `{teacher.sha256}`" if teacher.sha256 else "")
        run = TeacherSpec(role="teacher", network=teacher.network, dataset=card.spec.dataset, teacher=teacher)
        epoch = "last"
    try:
        top1 = float(read_json(RunFolder(card.runs, run).result)[epoch]["test_top1"])
    except (UserError, KeyError, TypeError, ValueError):
        return f"{where}; accuracy unknown"
    return f"{where}; top-1 {top1:.2f} % on the same test images"


def _licence(card: Card) -> str:
    named = (
        "No licence was given for these weights" if card.licence == "unknown" else f"These weights: `{card.licence}`"
    )
    return (
        f"{named}. The code that trained and loads them is under the MIT licence. The images, and given weights of a "
        "teacher, have their own terms."
    )
