"""What went wrong, in a few lines: the value, the place, the remedy; exit code 2 and no traceback."""

import difflib
import errno
import re
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import ConfigCompositionException, HydraException, InstantiationException, MissingConfigException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from fovea.cli.suggest import PLUGINS, aliased, instead_of, missing_plugin, near_options
from fovea.config.resolvers import CONF
from fovea.config.secrets import secret_values, without_values

REASONS = {  # options that people ask for and that can't be there
    "hydra/sweeper/optuna": 'hydra/sweeper=optimize needs a plugin: pip install -e ".[optuna]"',
    "optimizer/sparse_adam": "SparseAdam needs sparse gradients and an image network's are dense: use optimizer=adam",
    **{
        f"optimizer/{name.lower()}": f"{name} is Adam's yaml: optimizer=adam optimizer._target_=torch.optim.{name}"
        for name in ("Adamax", "NAdam", "RAdam")
    },
    "scheduler/multiplicative": "by one factor it is scheduler=exponential; by a function of yours: docs/training.md",
}
WHOSE = {"model": "A network of torchvision or timm? ", "data": "A folder of images? "}
MOST_LINES = 8
LOADER_DIED = re.compile(r"DataLoader worker \(pid.*\) (?:is killed by signal: (?P<signal>[\w ]+)|exited unexpectedly)")
UNWRITABLE = {getattr(errno, name) for name in ("EACCES", "EPERM", "EROFS", "ENOTDIR", "EEXIST")}
NO_ROOM = "failed to map segment"  # the linker's, for a library that is imported
FULL = {getattr(errno, name) for name in ("ENOSPC", "EDQUOT", "EFBIG")}


class Elsewhere(Exception):  # noqa: N818
    """What ended another process of the same run, and therefore this one."""

    def __init__(self, line: str, text: str, code: int) -> None:
        """`line` is for results.json, `text` for the screen, `code` to exit with."""
        super().__init__(line)
        self.line, self.text, self.code = line, text, code


@contextmanager
def few_lines(show_traceback: bool = False) -> Iterator[None]:
    """Print a user's error in at most ten lines and exit with 2; anything else passes through as it is.

    A fault that needs no traceback to be understood, such as a killed process, exits with 1.

    Args:
        show_traceback: let the user's errors through too (HYDRA_FULL_ERROR=1).
    """
    try:
        yield
    except Exception as error:
        if show_traceback and not isinstance(error, Elsewhere):
            raise
        text = shown(error)
        if text is None:
            raise
        print(text, file=sys.stderr)
        raise SystemExit(exit_code(error)) from None


def shown(error: Exception) -> str | None:
    """What is printed of an error; None where it is a fault of the program, which a traceback explains."""
    if isinstance(error, Elsewhere):
        return error.text
    text = explain(error)
    if text is None:
        return None
    lines = (text.strip() or type(error).__name__).splitlines()[:MOST_LINES]
    return "\n".join(["error: " + lines[0], *lines[1:], "(HYDRA_FULL_ERROR=1 shows the traceback)"])


def exit_code(error: Exception) -> int:
    """2 where the user can mend it, 1 where something broke."""
    if isinstance(error, Elsewhere):
        return error.code
    return 1 if explain(error) is None or LOADER_DIED.search(str(error)) else 2


def line(error: BaseException) -> str:
    """For results.json, without secrets."""
    if isinstance(error, Elsewhere):
        return error.line
    built = isinstance(error, InstantiationException) and error.__cause__ is not None
    kind = type(error.__cause__ if built else error).__name__
    return without_values(f"{kind}: {message(error).splitlines()[0]}", secret_values())


def message(error: BaseException) -> str:
    """The error's own words, without those of what passed it on: Hydra building a part, a loader's worker."""
    if isinstance(error, InstantiationException) and error.__cause__ is not None:
        return message(error.__cause__)
    text = str(error).strip()
    if re.match(r"Caught \w+ in (DataLoader worker process|pin memory thread)", text):
        lines = text.splitlines()
        last_frame = max(n for n, line in enumerate(lines) if line.startswith(" "))
        text = "\n".join(lines[last_frame + 1 :]).partition(": ")[2]
    died = LOADER_DIED.search(text)
    if died:
        text = f"a loader process {_how(died['signal'])} lower data.num_workers or data.batch_size"
    return text or type(error).__name__


def _how(signal_name: str | None) -> str:
    """torch's word for a signal, such as `Killed`, as a number."""
    number = next((n for n in signal.Signals if signal.strsignal(n) == signal_name), None)
    if number is None:
        return "ended unexpectedly: out of memory?"
    reason = "out of shared memory, or a store's file cut short" if number.name == "SIGBUS" else "out of memory"
    return f"was killed (signal {number.value}): {reason}?"


def explain(error: Exception) -> str | None:
    """The error's few lines, or None where it is no user's error but a fault of the program."""
    if "Got NoneType" in str(error) and isinstance(error, HydraException | ValueError):
        return _null_for_a_group()
    if "Config group override must be a string or a list" in str(error):
        return _no_name_for_a_group()
    if isinstance(error, MissingConfigException):
        return _unknown_option(error)
    if isinstance(error, ConfigCompositionException):
        return _unknown_key(error)
    if isinstance(error, InstantiationException):
        place = re.search(r"full_key: (\S+)", str(error))
        cause = error.__cause__
        text = explain(cause) if isinstance(cause, Exception) else None
        return f"{place[1]}: {text or message(error)}" if place else message(error)
    if "missing EQUAL" in str(error):
        return f"{str(error).splitlines()[0].partition(chr(39))[2].rstrip(chr(39))}: type key=value, or group=option"
    if isinstance(error, OmegaConfBaseException | HydraException):
        return "\n".join(line for line in str(error).splitlines() if "object_type" not in line)
    if isinstance(error, OSError):
        return _from_system(error)
    if LOADER_DIED.search(str(error)):
        return message(error)
    if isinstance(error, MemoryError) or NO_ROOM in str(error):
        return "out of memory before the training began: lower data.num_workers, or end other programs"
    # Lightning's own word for a user's error; by name, for importing it would cost seconds
    if isinstance(error, ValueError) or type(error).__name__ == "MisconfigurationException":
        return message(error)
    return None


def _unknown_option(error: MissingConfigException) -> str:
    asked = error.missing_cfg_file or ""
    reason = REASONS.get(asked) or missing_plugin(asked)
    if reason:
        return reason
    typed = (word.partition("=")[0] for word in sys.argv[1:])
    group = next((key for key in typed if key and asked.startswith(f"{key}/")), asked.rpartition("/")[0])
    return _no_such_option(group, asked.removeprefix(f"{group}/"))


def _no_such_option(group: str, option: str) -> str:
    missing = f"{group}={option}: there is no conf/{group}/{option}.yaml."
    instead = instead_of(group, option)
    meant = "" if instead else _meant(near_options(group, option))
    options = sorted(file.stem for file in (CONF / group).glob("*.yaml"))
    plugins = [name.rpartition("/")[2] for name in PLUGINS if name.startswith(f"{group}/")]
    there = f"There are {', '.join(options)}" if options else ""
    more = f"Plugins to install: {', '.join(plugins)}" if plugins else ""
    if group == "data" and not instead:
        more = "Your own images, in a folder for each class: data=folder data.root=<folder>"
    type_ = f"{WHOSE.get(group, '')}Type {' or '.join(instead)}" if instead else ""
    return "\n".join(line for line in (missing + meant, type_, there, more) if line)


def _null_for_a_group() -> str:
    word = next((word for word in sys.argv[1:] if word.endswith("=null")), "group=null")
    return f"{word}: a group takes a name or a list of names; none of it: {word.removesuffix('null')}[]"


def _no_name_for_a_group() -> str:
    words = [word for word in sys.argv[1:] if (CONF / word.partition("=")[0]).is_dir()]
    for group, _, option in (word.partition("=") for word in words):
        if instead_of(group, option):
            return _no_such_option(group, option)
    return f"{' '.join(words)}: a group takes the name of one of its yamls, which is text, or a list of names"


def _unknown_key(error: ConfigCompositionException) -> str:
    found = re.search(r"Could not (?:override|delete from config\.) '?([\w./@-]+)", str(error))
    if not found:
        return str(error.__cause__ or error) if "Error merging override" not in str(error) else _merging(error)
    key = found[1]
    aliases = aliased(sys.argv[1:]) if aliased([f"{key}=x"]) else []
    if aliases:
        return f"{key}: there is no such key. Type {' '.join(aliases)}"
    keys = _keys(error)
    if "/" in key:  # a group of Hydra's
        near = difflib.get_close_matches(key, [name.replace(".", "/") for name in keys], n=1)
        return f"{key}: there is no such group.{_meant(near)}"
    near = difflib.get_close_matches(key, keys, n=2, cutoff=0.7) or [
        other for other in keys if other.rpartition(".")[2] == key.rpartition(".")[2]
    ]
    return f"{key}: there is no such key.{_meant(near)}\nTo add one that conf/ has not: +{key}=<value>"


def _merging(error: ConfigCompositionException) -> str:
    return "\n".join([str(error), str(error.__cause__ or "").splitlines()[0]])


def _keys(error: ConfigCompositionException) -> list[str]:
    """Every key, dotted, of the config that the override was to change; of train's, where there is none yet."""
    node = getattr(error.__cause__, "parent_node", None)
    if node is not None:
        return list(_dotted(OmegaConf.to_container(node._get_root())))
    groups = [word for word in sys.argv[1:] if (CONF / word.partition("=")[0]).is_dir() and "=" in word]
    GlobalHydra.instance().clear()
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        return list(_dotted(OmegaConf.to_container(hydra.compose("train", groups))))


def _dotted(node: Any, path: str = "") -> Iterator[str]:
    if path:
        yield path
    for key, value in node.items() if isinstance(node, dict) else ():
        yield from _dotted(value, f"{path}.{key}" if path else str(key))


def _meant(near: list[str]) -> str:
    return f" Did you mean {' or '.join(near[:2])}?" if near else ""


def _from_system(error: OSError) -> str:
    where = f": {error.filename}" if error.filename else ""
    return f"{error.strerror or error}{where}" + _remedy(error.errno)


def _remedy(number: int | None) -> str:
    if number in FULL:
        return "\nMake room there; a training then goes on from its last checkpoint with resume=<run folder>"
    if number not in UNWRITABLE:
        return ""
    if any(word.startswith("run=") for word in sys.argv):
        return "\nA run that can't be written to: hydra.run.dir=<a folder elsewhere> takes what comes of this"
    return "\nRun folders go to RUNS_DIR, made data to DATA_DIR: both must be writable"
