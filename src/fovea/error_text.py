"""What is said of an error: its lines on the screen, its line in results.json, its exit code.

Errors of Hydra, OmegaConf and Lightning are known by the names of their classes, so that this file imports none of the
three: it has to work within a second, and in code that knows nothing of configs. What is wrong in a command line is
explained by cli/errors/composition_errors.py.
"""

import errno
import re
import signal
import sys

MOST_LINES = 8
LOADER_DIED = re.compile(r"DataLoader worker \(pid.*\) (?:is killed by signal: (?P<signal>[\w ]+)|exited unexpectedly)")
FROM_THE_LOADER = re.compile(r"Caught \w+ in (?:DataLoader worker process|pin memory thread)")
UNWRITABLE = {getattr(errno, name) for name in ("EACCES", "EPERM", "EROFS", "ENOTDIR", "EEXIST")}
FULL = {getattr(errno, name) for name in ("ENOSPC", "EDQUOT", "EFBIG")}
NO_ROOM = "failed to map segment"  # what the system's linker says when memory ends while a library is imported


class OtherRankError(Exception):
    """Another process of the same run failed, and so this one ends too."""

    def __init__(self, line: str, text: str, code: int) -> None:
        """`line` is for results.json, `text` for the screen, `code` to exit with."""
        super().__init__(line)
        self.line, self.text, self.code = line, text, code


def shown(error: Exception) -> str | None:
    """What is printed; None for a fault of the program, which needs its traceback."""
    if isinstance(error, OtherRankError):
        return "\n".join([error.text, *_notes(error)])
    text = explain(error)
    return None if text is None else few_lines_of(text, error)


def few_lines_of(text: str, error: Exception) -> str:
    """The text as it is printed, cut where it is long."""
    lines = (text.strip() or type(error).__name__).splitlines()[:MOST_LINES]
    return "\n".join(["error: " + lines[0], *lines[1:], "(HYDRA_FULL_ERROR=1 shows the traceback)", *_notes(error)])


def _notes(error: Exception) -> list[str]:
    """What was added to the error on its way, such as how the run goes on."""
    return getattr(error, "__notes__", [])


def exit_code(error: Exception) -> int:
    """2 where the user can fix it, else 1."""
    if isinstance(error, OtherRankError):
        return error.code
    return 1 if explain(error) is None or LOADER_DIED.search(str(error)) else 2


def line(error: BaseException) -> str:
    """One line, which begins with the kind of error; secrets in it are not masked."""
    if isinstance(error, OtherRankError):
        return error.line
    return f"{type(_origin(error)).__name__}: {message(error).splitlines()[0]}"


def message(error: BaseException) -> str:
    """The error's own text, without that of Hydra, which built the part, or of the data loader, which passed it on."""
    error = _origin(error)
    text = _without_loaders_traceback(str(error).strip())
    died = LOADER_DIED.search(text)
    if died:
        return f"a loader process {_ending(died['signal'])} lower data.num_workers or data.batch_size"
    return text or type(error).__name__


def explain(error: Exception) -> str | None:
    """The text of an error that the user can fix; None for a fault of the program."""
    if _is(error, "InstantiationException"):
        return _of_part(error)
    if _is(error, "HydraException") or _is(error, "OmegaConfBaseException"):
        return "\n".join(line for line in str(error).splitlines() if "object_type" not in line)
    if isinstance(error, OSError):
        return _of_system(error)
    if isinstance(error, MemoryError) or NO_ROOM in str(error):
        return "out of memory before the training began: lower data.num_workers, or end other programs"
    of_user = isinstance(error, ValueError) or _is(error, "MisconfigurationException") or LOADER_DIED.search(str(error))
    return message(error) if of_user else None


def _is(error: BaseException, name: str) -> bool:
    """Whether the error is of the class with this name, or of one derived from it."""
    return any(kind.__name__ == name for kind in type(error).__mro__)


def _origin(error: BaseException) -> BaseException:
    """The error that Hydra's `instantiate` met, if it wraps one."""
    wraps = _is(error, "InstantiationException") and error.__cause__ is not None
    return _origin(error.__cause__) if wraps and error.__cause__ else error


def _of_part(error: Exception) -> str:
    """What went wrong when Hydra built a part of the config, with the part's key."""
    key = re.search(r"full_key: (\S+)", str(error))
    cause = error.__cause__
    text = explain(cause) if isinstance(cause, Exception) else None
    return f"{key[1]}: {text or message(error)}" if key else message(error)


def _of_system(error: OSError) -> str:
    where = f": {error.filename}" if error.filename else ""
    return f"{error.strerror or error}{where}{_remedy(error.errno)}"


def _remedy(number: int | None) -> str:
    if number in FULL:
        return "\nMake room there; a training then goes on from its last checkpoint with resume=<run folder>"
    if number not in UNWRITABLE:
        return ""
    if any(word.startswith("run=") for word in sys.argv):
        return "\nA run that can't be written to: hydra.run.dir=<a folder elsewhere> takes what comes of this"
    return "\nRun folders go to RUNS_DIR, made data to DATA_DIR: both must be writable"


def _without_loaders_traceback(text: str) -> str:
    """The message at the end of the traceback that torch's data loader makes of a worker's error."""
    if not FROM_THE_LOADER.match(text):
        return text
    lines = text.splitlines()
    last_frame = max(n for n, line in enumerate(lines) if line.startswith(" "))
    return "\n".join(lines[last_frame + 1 :]).partition(": ")[2]


def _ending(signal_name: str | None) -> str:
    """How a process ended, from torch's word for the signal, such as `Killed`."""
    number = next((n for n in signal.Signals if signal.strsignal(n) == signal_name), None)
    if number is None:
        return "ended unexpectedly: out of memory?"
    reason = "out of shared memory, or a store's file cut short" if number.name == "SIGBUS" else "out of memory"
    return f"was killed (signal {number.value}): {reason}?"
