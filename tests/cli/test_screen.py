import io
import logging
import warnings

import pytest
import rich
from rich.console import Console
from rich.text import Text

from fovea.cli.screen import Screen, warnings_logged, wrapped


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def said(stream: io.StringIO, monkeypatch: pytest.MonkeyPatch, *records: logging.LogRecord) -> str:
    console = Console(file=stream, width=30, force_terminal=stream.isatty(), color_system=None)
    monkeypatch.setattr(rich, "get_console", lambda: console)
    handler = Screen(stream)
    handler.setFormatter(logging.Formatter("%(levelname).1s %(message)s"))
    for record in records:
        handler.handle(record)
    return stream.getvalue()


def record(text: str, level: int = logging.INFO, **attributes: object) -> logging.LogRecord:
    made = logging.LogRecord("fovea", level, "x.py", 1, text, (), None)
    made.__dict__.update(attributes)
    return made


def test_a_terminal_shows_words_and_a_pipe_the_logs_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    records = record("epoch 1/2  [red]loss 3", screen=Text(" 1/2  3")), record("few images", logging.WARNING)
    assert said(Terminal(), monkeypatch, *records) == " 1/2  3\nwarning: few images\n"
    assert said(io.StringIO(), monkeypatch, *records) == "I epoch 1/2  [red]loss 3\nW few images\n"


def test_secrets_stay_hidden_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_TOKEN", "abcdefgh")
    assert said(Terminal(), monkeypatch, record("refused: abcdefgh")) == "refused: ***\n"


def test_lines_break_between_figures_or_words_and_never_within_a_path() -> None:
    assert wrapped("accuracy 0.9  f1 0.8  top five 1.0", 24) == ["accuracy 0.9  f1 0.8", "  top five 1.0"]
    assert wrapped("one two three four", 10) == ["one two", "  three", "  four"]
    assert wrapped("see /a/very/long/path/to/a/file for more", 12) == [
        *("see", "  /a/very/long/path/to/a/file", "  for more"),
    ]
    assert wrapped("  indented", 5) == ["  indented"]
    assert wrapped("", 5) == [""]


def test_pythons_warnings_are_log_lines_while_a_job_runs(caplog: pytest.LogCaptureFixture) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        before = warnings.showwarning
        with warnings_logged():
            warnings.warn("odd", UserWarning, stacklevel=1)
        assert warnings.showwarning is before
    assert caplog.messages[0].startswith("odd (UserWarning, cli/test_screen.py:")
