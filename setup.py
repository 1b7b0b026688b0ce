"""Adds configs/ and results/paper, which are outside the packages, to a wheel; pyproject.toml cannot.

sskd/paths.py finds them again.
"""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

FOLDERS = ("configs", "results/paper")


class BuildWithData(build_py):
    def run(self) -> None:
        super().run()
        if self.editable_mode:  # which uses the clone's own
            return
        installed = Path(self.build_lib) / "sskd" / "installed"
        shutil.rmtree(installed, ignore_errors=True)  # of an earlier build
        for folder in FOLDERS:
            shutil.copytree(folder, installed / folder)


setup(cmdclass={"build_py": BuildWithData})
