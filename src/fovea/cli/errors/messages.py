"""Prints an error in a few lines and ends the program with its exit code."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from fovea import error_text
from fovea.cli.errors import composition_errors
from fovea.error_text import OtherRankError


@contextmanager
def few_lines(show_traceback: bool = False) -> Iterator[None]:
    """Print an error that needs no traceback in at most ten lines and exit; others pass through as they are.

    Args:
        show_traceback: let those through too (HYDRA_FULL_ERROR=1).
    """
    try:
        yield
    except Exception as error:
        if show_traceback and not isinstance(error, OtherRankError):
            raise
        text = shown(error)
        if text is None:
            raise
        print(text, file=sys.stderr)
        raise SystemExit(error_text.exit_code(error)) from None


def shown(error: Exception) -> str | None:
    """What is printed; None for a fault of the program, which needs its traceback."""
    text = composition_errors.explain(error)
    return error_text.shown(error) if text is None else error_text.few_lines_of(text, error)
