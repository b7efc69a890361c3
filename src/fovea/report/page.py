"""Renders HTML pages from the templates in templates/. A page is one file that needs no network."""

import functools
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from fovea.files import atomic_write

TEMPLATES = Path(__file__).with_name("templates")


def render(template: str, **values: object) -> str:
    """Return the page that a template makes of `values`.

    All values are escaped, so file names and class names may hold any text. base.html, which the pages extend, contains
    style.css and shows `title`, which every page needs.

    Args:
        template: a file name in templates/.
        values: the names that the template uses.

    Raises:
        jinja2.UndefinedError: the template uses a name that is not given.
    """
    return _environment().get_template(template).render(values)


@functools.cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["number"] = number
    return environment


def number(value: float) -> str:
    """Return a number for people: thousands separated in whole numbers, three digits in others."""
    return f"{value:,.0f}" if abs(value) >= 1000 or value == round(value) else f"{value:.3g}"


def save(file: Path, page: str) -> None:
    """Write a page atomically and make its folder; bytes of file names that are not UTF-8 are shown as `\\udcff`.

    Raises:
        OSError: the file can't be written.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(file) as temporary:
        temporary.write_text(page, encoding="utf-8", errors="backslashreplace")
