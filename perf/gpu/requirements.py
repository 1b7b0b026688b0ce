"""Packages that the measurements need; missing ones are reported in one line."""

from importlib.util import find_spec

# from a module to the package that holds it; submitit, pandas and matplotlib are not among them: benchmarks' alone
NEEDED = {
    "torch": "torch",
    "torchvision": "torchvision",
    "numpy": "numpy",
    "PIL": "pillow",
    "pydantic": "pydantic",
    "yaml": "pyyaml",
    "safetensors": "safetensors",
    "tensorboard": "tensorboard",
    "rich": "rich",
}


def missing() -> str:
    """Returns which packages are missing and how to install them, in one line; "" if none is missing."""
    packages = [package for module, package in NEEDED.items() if find_spec(module) is None]
    if not packages:
        return ""
    names = " ".join(packages)
    return (
        f"this Python has no {', '.join(packages)}: pip install {names}; where there is no network, elsewhere "
        f"pip install --target gpu_packages {names}, then here PYTHONPATH=gpu_packages (docs/gpu.md)"
    )
