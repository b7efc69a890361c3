"""Prints log lines and Python's warnings through Rich's console, so that a progress bar does not overwrite them.

Rich is imported when the first line is printed, so that errors in the command line appear sooner.
"""

import logging
import shutil
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fovea.config.secrets import Formatter

if TYPE_CHECKING:
    from rich.text import Text

log = logging.getLogger(__name__)
PREFIXES = {logging.WARNING: ("warning: ", "yellow"), logging.ERROR: ("error: ", "bold red")}


class Screen(logging.StreamHandler[Any]):
    """A log handler: a terminal gets messages without the time, wrapped at words; a pipe gets the log file's lines.

    If a record has the attribute `screen`, a terminal shows that instead of the message, and does not wrap it.
    """

    def __init__(self, stream: Any = None) -> None:
        super().__init__(stream)
        self.for_terminal = Formatter()

    def emit(self, record: logging.LogRecord) -> None:
        import rich

        console = rich.get_console()
        if not (console.is_terminal and self.stream.isatty()):
            super().emit(record)
            return
        try:
            console.print(self.shown(record, console.width), soft_wrap=True)
        except Exception:
            self.handleError(record)

    def shown(self, record: logging.LogRecord, width: int) -> "Text":
        """Return what a terminal of this width shows for a record."""
        from rich.text import Text

        screen: Text | str | None = getattr(record, "screen", None)
        if screen is not None:
            return Text(screen) if isinstance(screen, str) else screen
        prefix, style = PREFIXES.get(record.levelno, ("", ""))
        lines = (prefix + self.for_terminal.format(record)).expandtabs().splitlines()
        text = Text("\n".join(part for line in lines for part in wrapped(line, width)))
        text.stylize(style, 0, len(prefix))
        return text


def wrapped(line: str, width: int) -> list[str]:
    """Split the line into parts of at most `width` characters; all but the first are indented by two.

    It is split at double spaces, which separate figures, or else at single ones. Longer words are not split, so that
    paths can be copied.
    """
    parts, indent = [], len(line) - len(line.lstrip())
    while len(line) > width:
        cut = max(line.rfind("  ", indent, width + 1), -1)
        if cut <= indent:
            cut = line.rfind(" ", indent, width + 1)
        if cut <= indent:
            cut = line.find(" ", indent)
        if cut <= indent:
            break
        parts.append(line[:cut])
        line, indent = "  " + line[cut:].strip(), 2
    return [*parts, line]


def terminal_width() -> int | None:
    """Return the width of the terminal that is printed to, in characters; None if it is a file or a pipe."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


@contextmanager
def warnings_logged() -> Iterator[None]:
    """Log Python's warnings while the context is open."""
    before, warnings.showwarning = warnings.showwarning, _log_warning
    try:
        yield
    finally:
        warnings.showwarning = before


def _log_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: Any = None,
    line: str | None = None,
) -> None:
    log.warning("%s (%s, %s:%d)", message, category.__name__, "/".join(Path(filename).parts[-2:]), lineno)


def log_loading(text: str) -> None:
    """Log what is about to run, before torch is imported, which takes seconds."""
    log.info("%s", text)
    if "torch" not in sys.modules:
        log.info("loading torch ...")
