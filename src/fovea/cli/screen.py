"""Writes log lines and Python's warnings to the screen through Rich's console, so that no bar paints over them.

Rich is imported when the first line is written: a typing error need not wait for it.
"""

import logging
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
    """On a terminal: messages without the time, wrapped at words. Elsewhere: the same lines as in the log file.

    A record's attribute `screen`, where it has one, is shown on a terminal in the place of its message, unbroken.
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
        """What a terminal of this width shows of a record."""
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
    """The line in parts of at most `width` characters, the later ones indented by two.

    It is broken at double spaces, which separate figures, or else at single ones. Longer words stay whole, so that
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


@contextmanager
def warnings_logged() -> Iterator[None]:
    """Within, Python's warnings are log lines."""
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


def say_loading(what: str) -> None:
    """Say what is about to run, before importing torch takes its seconds."""
    log.info("%s", what)
    if "torch" not in sys.modules:
        log.info("loading torch ...")
