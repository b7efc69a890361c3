"""Makes an error's text for the screen, its line for results.json, and its exit code.

Errors of Hydra, OmegaConf and Lightning are recognised by their class names, so that this file imports none of them: it
must load fast and is used by code that may not import Hydra. cli/errors/composition_errors.py explains errors in the
command line.
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
NO_ROOM = "failed to map segment"  # the linker's message if memory runs out while a library is imported


class OtherRankError(Exception):
    """Another rank of the run failed, so this rank ends too."""

    def __init__(self, line: str, text: str, code: int) -> None:
        """`line` is for results.json, `text` for the screen, `code` to exit with."""
        super().__init__(line)
        self.line, self.text, self.code = line, text, code


def screen_text(error: Exception) -> str | None:
    """Return the text to print; None for a fault of the program, which needs its traceback."""
    if isinstance(error, OtherRankError):
        return "\n".join([error.text, *_notes(error)])
    text = explain(error)
    return None if text is None else shortened(text, error)


def shortened(text: str, error: Exception) -> str:
    """Return the first MOST_LINES lines of the text, with the error's notes."""
    lines = (text.strip() or type(error).__name__).splitlines()[:MOST_LINES]
    return "\n".join(["error: " + lines[0], *lines[1:], "(HYDRA_FULL_ERROR=1 shows the traceback)", *_notes(error)])


def _notes(error: Exception) -> list[str]:
    """Return the notes that were added to the error, such as the command to resume the run."""
    return getattr(error, "__notes__", [])


def exit_code(error: Exception) -> int:
    """Return 2 for an error that the user can fix, else 1."""
    if isinstance(error, OtherRankError):
        return error.code
    return 1 if explain(error) is None or LOADER_DIED.search(str(error)) else 2


def line(error: BaseException) -> str:
    """Return one line that begins with the error's class; secrets in it are not masked."""
    if isinstance(error, OtherRankError):
        return error.line
    return f"{type(_origin(error)).__name__}: {message(error).splitlines()[0]}"


def message(error: BaseException) -> str:
    """Return the error's own text, without the texts that Hydra or the data loader put around it."""
    error = _origin(error)
    text = _without_loaders_traceback(str(error).strip())
    died = LOADER_DIED.search(text)
    if died:
        return f"a data loader worker {_ending(died['signal'])} lower data.num_workers or data.batch_size"
    return text or type(error).__name__


def explain(error: Exception) -> str | None:
    """Return the text of an error that the user can fix; None for a fault of the program."""
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
    """Whether the error's class, or one of its base classes, has this name."""
    return any(kind.__name__ == name for kind in type(error).__mro__)


def _origin(error: BaseException) -> BaseException:
    """Return the error inside Hydra's InstantiationException; any other error as it is."""
    wraps = _is(error, "InstantiationException") and error.__cause__ is not None
    return _origin(error.__cause__) if wraps and error.__cause__ else error


def _of_part(error: Exception) -> str:
    """Return the text of an error in building a part of the config, with the part's key."""
    key = re.search(r"full_key: (\S+)", str(error))
    cause = error.__cause__
    text = explain(cause) if isinstance(cause, Exception) else None
    return f"{key[1]}: {text or message(error)}" if key else message(error)


def _of_system(error: OSError) -> str:
    where = f": {error.filename}" if error.filename else ""
    return f"{error.strerror or error}{where}{_remedy(error.errno)}"


def _remedy(number: int | None) -> str:
    if number in FULL:
        return "\nFree some space there; then resume=<run folder> continues a training from its last checkpoint"
    if number not in UNWRITABLE:
        return ""
    if any(word.startswith("run=") for word in sys.argv):
        return "\nThe run's folder may not be writable: hydra.run.dir=<a folder elsewhere> holds the results instead"
    return "\nRun folders go to RUNS_DIR, generated data to DATA_DIR: both must be writable"


def _without_loaders_traceback(text: str) -> str:
    """Return the message at the end of the traceback into which torch's data loader turns a worker's error."""
    if not FROM_THE_LOADER.match(text):
        return text
    lines = text.splitlines()
    last_frame = max(n for n, line in enumerate(lines) if line.startswith(" "))
    return "\n".join(lines[last_frame + 1 :]).partition(": ")[2]


def _ending(signal_name: str | None) -> str:
    """Return how a process ended, from torch's name of the signal, such as `Killed`."""
    number = next((n for n in signal.Signals if signal.strsignal(n) == signal_name), None)
    if number is None:
        return "ended unexpectedly: out of memory?"
    reason = "out of shared memory, or a store's file cut short" if number.name == "SIGBUS" else "out of memory"
    return f"was killed (signal {number.value}): {reason}?"
