"""Prints an error in a few lines and ends the program with its exit code."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from fovea import error_text
from fovea.cli.errors import composition_errors
from fovea.error_text import OtherRankError


@contextmanager
def short_errors(show_traceback: bool = False) -> Iterator[None]:
    """Print an error that needs no traceback in at most ten lines and exit; other errors pass through.

    Args:
        show_traceback: all errors pass through (HYDRA_FULL_ERROR=1).
    """
    try:
        yield
    except Exception as error:
        if show_traceback and not isinstance(error, OtherRankError):
            raise
        text = screen_text(error)
        if text is None:
            raise
        print(text, file=sys.stderr)
        raise SystemExit(error_text.exit_code(error)) from None


def screen_text(error: Exception) -> str | None:
    """Return the text to print; None for a fault of the program, which needs its traceback."""
    text = composition_errors.explain(error)
    return error_text.screen_text(error) if text is None else error_text.shortened(text, error)
