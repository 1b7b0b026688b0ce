"""The controls are what they are said to be."""

from pathlib import Path

import torch

from benchmarks.tables.spec_builder import method_label
from sskd.losses import kd_divergence
from sskd.runs.settings import method_settings
from tests import small
from tests.methods.pairs import published_shapes
from tests.methods.stand_ins import batch_of, build, features_of


def test_kd_again_is_kd_with_another_seed_to_the_last_digit(tmp_path: Path) -> None:
    again, kd = small.spec(small.student("kd_again")), small.spec(small.student("kd"))
    moved = small.spec(small.student("kd", seed=1_000_000))
    assert (again.seed, again.random_seed, kd.random_seed) == (0, 1_000_000, 0)
    assert len({again.id, kd.id, moved.id}) == 3
    for spec in (again, kd, moved):
        small.train_all(spec, tmp_path)
    assert small.metrics(tmp_path / again.id) == small.metrics(tmp_path / moved.id)
    assert small.metrics(tmp_path / again.id) != small.metrics(tmp_path / kd.id)


def test_the_placebo_learns_from_the_logits_of_other_images() -> None:
    shapes = published_shapes("resnet8"), published_shapes("resnet14")
    method = build("placebo", *shapes)
    student_features, teacher_features = (
        features_of(shapes[0], 5, 1, gradient=True),
        features_of(shapes[1], 5, 2, gradient=False),
    )
    total, terms = method(student_features, teacher_features, batch_of(5))
    neighbours = teacher_features.logits[[4, 0, 1, 2, 3]]
    torch.testing.assert_close(terms.losses["kd"], kd_divergence(student_features.logits, neighbours, 4.0))
    torch.testing.assert_close(total, 0.1 * terms.losses["ce"] + 0.9 * terms.losses["kd"])


def test_their_rows_have_names_of_their_own() -> None:
    labels = [method_label(method_settings(name)) for name in ("kd", "kd_again", "placebo")]
    assert labels == ["KD", "KD again", "Placebo"]
