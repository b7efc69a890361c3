"""Reads a CSV file with a header that has a column of image paths."""

import csv
from collections.abc import Iterator
from pathlib import Path


def read_rows(file: Path, path_column: str, errors: str = "strict") -> Iterator[tuple[int, list[str]]]:
    """Yield the header, then each row that is not blank, with its line in the file (from 1).

    Args:
        file: a table in UTF-8, delimited by comma, semicolon or tab.
        path_column: the name of the column of paths, by which the delimiter is recognised.
        errors: what to do with bytes that are not UTF-8; "surrogateescape" keeps them.

    Raises:
        ValueError: the file is empty or not CSV in UTF-8, or a row has another number of fields than the header.
    """
    with open(file, newline="", encoding="utf-8-sig", errors=errors) as stream:
        try:
            delimiter = _find_delimiter(stream.readline(), path_column)
            stream.seek(0)
            reader = csv.reader(stream, delimiter=delimiter, skipinitialspace=True, strict=True)
            width = 0
            for row in filter(None, reader):
                width = width or len(row)
                if len(row) != width:
                    raise ValueError(f"{file}, line {reader.line_num}: {len(row)} fields; the header has {width}.")
                yield reader.line_num, row
        except (csv.Error, UnicodeDecodeError) as error:
            raise ValueError(f"{file} is not CSV in UTF-8: {error}.") from error
    if not width:
        raise ValueError(f"{file} is empty.")


def _find_delimiter(header: str, path_column: str) -> str:
    """Return the delimiter that gives a column named `path_column`, else the one that gives the most columns."""
    columns = {mark: next(csv.reader([header], delimiter=mark, skipinitialspace=True), []) for mark in ",;\t"}
    return max(columns, key=lambda mark: (path_column in columns[mark], len(columns[mark])))
