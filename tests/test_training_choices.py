"""docs/training.md is true: its lines are recipes, and its file, as it stands there, trains in a suite."""

import json
import re
from pathlib import Path

import yaml

from benchmarks.commands.main import main
from sskd.config.recipe import Recipe
from sskd.config.validation import from_dict
from sskd.data.augmentations import AUGMENTATIONS
from sskd.optim import OPTIMIZERS, SCHEDULES
from tests.cluster.suite import TINY

PAGE = (Path(__file__).parent.parent / "docs" / "training.md").read_text()


def test_the_tables_lines() -> None:
    """Each is a recipe; all names are there, and the first of each kind is the default."""
    recipes = [yaml.safe_load(line)["recipe"] for line in re.findall(r"\| `(recipe: .*?)` \|", PAGE)]
    made = [from_dict(Recipe, recipe, "the page") for recipe in recipes]
    for key, registry in (("optimizer", OPTIMIZERS), ("schedule", SCHEDULES), ("augmentation", AUGMENTATIONS)):
        named = [recipe[key] for recipe in recipes if key in recipe]
        assert sorted(named) == list(registry)
        assert named[0] == Recipe.model_fields[key].default
    assert len(made) == 14


def test_the_pages_file(tmp_path: Path) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    (tmp_path / "training.py").write_text(code)
    own = {"optimizer": "adafactor", "schedule": "linear", "augmentation": "noisy", "epochs": 2}
    profile = TINY | {"seeds": [0], "recipe": TINY["recipe"] | own}
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(profile))
    command = ["--profile", str(tmp_path / "tiny.yaml"), "--results", str(tmp_path / "results"), "--methods", "none"]
    assert main([*command, "--plugin", str(tmp_path / "training.py")]) == 0
    (run,) = (tmp_path / "results" / "tiny" / "runs").glob("student-*")
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [row["rate"] for row in rows] == [0.05, 0.025]
    assert json.loads((run / "result.json").read_text())["machine"]["plugins"][0]["path"].endswith("training.py")
