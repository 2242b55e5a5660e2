"""Cells of files that are opened in spreadsheets."""

from typing import Any

_FORMULAS = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""What a spreadsheet may take for the beginning of a formula; the last four are its wide spellings."""


def harmless(value: Any) -> str:
    """Return the text of a cell; an apostrophe goes before what a spreadsheet could take for a formula.

    Blanks in front do not hide one: some programs skip them.
    """
    text = "" if value is None else str(value)
    if isinstance(value, int) or not text.lstrip(" \u00a0\ufeff\0").startswith(_FORMULAS):
        return text
    return f"'{text}"
