from pathlib import Path

import pytest
from jinja2 import UndefinedError

from fovea.report import page
from fovea.report.page import number, render, save


def test_every_value_is_escaped_and_the_style_is_in_the_page() -> None:
    text = render("base.html", title="<script>alert(1)</script> & 'x' \"y\"")
    assert "<script>" not in text
    assert text.count("&lt;script&gt;alert(1)&lt;/script&gt; &amp; &#39;x&#39; &#34;y&#34;") == 2
    assert "--background: #ffffff" in text
    assert "prefers-color-scheme: dark" in text


def test_a_value_that_is_missing_is_an_error() -> None:
    with pytest.raises(UndefinedError, match="title"):
        render("base.html")


def test_no_template_loads_anything_from_elsewhere() -> None:
    for file in page.TEMPLATES.rglob("*.*"):
        text = file.read_text("utf-8").replace("/*! https://github.com/leeoniya/uPlot", "")  # its licence
        assert not [word for word in ("http:", "https:", "//cdn", "@import", "url(", "|safe") if word in text]
        assert ("<script" in text) == (file.name in ("run.html", "leaderboard.html"))


def test_a_page_is_saved_with_names_that_are_not_utf8(tmp_path: Path) -> None:
    save(tmp_path / "new" / "é.html", render("base.html", title="a\udcffb é"))
    assert r"a\udcffb é" in (tmp_path / "new" / "é.html").read_text("utf-8")


@pytest.mark.parametrize(
    ("value", "text"), [(3, "3"), (12345, "12,345"), (1234.5, "1,234"), (0.12345, "0.123"), (40.5, "40.5"), (0, "0")]
)
def test_numbers_are_short(value: float, text: str) -> None:
    assert number(value) == text
