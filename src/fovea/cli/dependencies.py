"""Checks that fovea's dependencies are installed. Imports the standard library only."""

import sys
from importlib.util import find_spec
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[3]
PYTHON = (3, 11)
NEEDED = (  # import names of pyproject.toml's dependencies; torchcodec is optional
    *("torch", "torchvision", "lightning", "torchmetrics", "hydra", "omegaconf", "yaml", "pydantic", "dotenv"),
    *(
        "annotated_types",
        "numpy",
        "PIL",
        "simplejpeg",
        "safetensors",
        "fsspec",
        "filelock",
        "sklearn",
        "scipy",
        "tensorboard",
        "rich",
        "jinja2",
    ),
)


def exit_if_missing() -> None:
    """If Python is too old or a dependency is missing, print the install command and exit with code 2."""
    if sys.version_info < PYTHON:
        oldest = ".".join(str(number) for number in PYTHON)
        _exit(f"Python {oldest} or newer is needed, but {sys.executable} is {sys.version.split()[0]}", "make setup")
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        verb = "is" if len(missing) == 1 else "are"
        reason = f"{', '.join(missing[:3])}{more} {verb} not installed for {sys.executable}"
        _exit(reason, f"python -m pip install -e {PROJECT}")


def _exit(reason: str, remedy: str) -> None:
    own = PROJECT / ".venv" / "bin" / "python"
    use = f"Use {own}, or install" if own.exists() and sys.prefix != str(PROJECT / ".venv") else "Install"
    print(f"error: {reason}\n{use} what is needed: {remedy}", file=sys.stderr)
    raise SystemExit(2)
