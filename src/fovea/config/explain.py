"""What went wrong, in a few lines: the value, the place, the remedy; exit code 2 and no traceback."""

import difflib
import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import ConfigCompositionException, HydraException, InstantiationException, MissingConfigException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from fovea.config.resolvers import CONF

REASONS = {  # options that people ask for and that can't be there
    "optimizer/sparse_adam": "SparseAdam needs sparse gradients and an image network's are dense: use optimizer=adam",
}
MOST_LINES = 8


@contextmanager
def few_lines(show_traceback: bool = False) -> Iterator[None]:
    """Print a user's error in at most ten lines and exit with 2; anything else passes through as it is.

    Args:
        show_traceback: let the user's errors through too (HYDRA_FULL_ERROR=1).
    """
    try:
        yield
    except Exception as error:
        text = None if show_traceback else explain(error)
        if text is None:
            raise
        lines = text.strip().splitlines()[:MOST_LINES]
        print("\n".join(["error: " + lines[0], *lines[1:]]), file=sys.stderr)
        print("(HYDRA_FULL_ERROR=1 shows the traceback)", file=sys.stderr)
        raise SystemExit(2) from None


def explain(error: Exception) -> str | None:
    """The error's few lines, or None where it is no user's error but a fault of the program."""
    if isinstance(error, MissingConfigException):
        return _unknown_option(error)
    if isinstance(error, ConfigCompositionException):
        return _unknown_key(error)
    if isinstance(error, InstantiationException):
        place = re.search(r"full_key: (\S+)", str(error))
        cause = error.__cause__
        text = explain(cause) if isinstance(cause, Exception) else None
        return f"{place[1]}: {text or cause}" if place and cause else str(error)
    if isinstance(error, OmegaConfBaseException | HydraException):
        return "\n".join(line for line in str(error).splitlines() if "object_type" not in line)
    if isinstance(error, OSError):
        return _cannot_write(error)
    # Lightning's own word for a user's error; by name, for importing it would cost seconds
    if isinstance(error, ValueError) or type(error).__name__ == "MisconfigurationException":
        return str(error)
    return None


def _unknown_option(error: MissingConfigException) -> str:
    asked = error.missing_cfg_file or ""
    if asked in REASONS:
        return REASONS[asked]
    group, _, option = asked.rpartition("/")
    options = list(error.options or [])
    missing = f"{group}={option}: there is no conf/{group}/{option}.yaml.{_near(option, options)}"
    return f"{missing}\nThere are {', '.join(options)}"


def _unknown_key(error: ConfigCompositionException) -> str:
    found = re.search(r"Could not (?:override|append|delete) '?([\w./@-]+)", str(error))
    if not found:
        return str(error.__cause__ or error) if "Error merging override" not in str(error) else _merging(error)
    key = found[1]
    parent, _, name = key.rpartition(".")
    near = _near(name, _keys(parent), parent)
    return f"{key}: there is no such key.{near}\nTo add one that conf/ has not: +{key}=<value>"


def _merging(error: ConfigCompositionException) -> str:
    return "\n".join([str(error), str(error.__cause__ or "").splitlines()[0]])


def _keys(parent: str) -> list[str]:
    """The keys under `parent` with the options that were typed; groups count at the root."""
    groups = [word for word in sys.argv[1:] if (CONF / word.partition("=")[0]).is_dir() and "=" in word]
    GlobalHydra.instance().clear()
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        node = OmegaConf.select(hydra.compose("train", groups), parent) if parent else hydra.compose("train", groups)
    return [str(key) for key in node] if isinstance(node, DictConfig) else []


def _near(name: str, names: Iterable[str], parent: str = "") -> str:
    near = difflib.get_close_matches(name, list(names), n=2, cutoff=0.5)
    prefix = f"{parent}." if parent else ""
    return f" Did you mean {' or '.join(prefix + n for n in near)}?" if near else ""


def _cannot_write(error: OSError) -> str:
    where = f": {error.filename}" if error.filename else ""
    return f"{error.strerror or error}{where}\nRun folders go to RUNS_DIR, made data to DATA_DIR: both must be writable"
