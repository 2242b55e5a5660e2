"""How two documents differ, line by line."""

import difflib
import json
from collections.abc import Mapping
from typing import Any


def difference(before: Mapping[str, Any] | None, after: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the lines of two documents: a sign (``-`` gone, ``+`` new, blank for what stays) and the text."""
    first, second = (_lines(each) for each in (before, after))
    compared = difflib.SequenceMatcher(None, first, second, autojunk=False)
    found: list[tuple[str, str]] = []
    for kind, from_first, to_first, from_second, to_second in compared.get_opcodes():
        if kind == "equal":
            found += [(" ", line) for line in first[from_first:to_first]]
            continue
        found += [("-", line) for line in first[from_first:to_first]]
        found += [("+", line) for line in second[from_second:to_second]]
    return found


def _lines(document: Mapping[str, Any] | None) -> list[str]:
    return [] if document is None else json.dumps(document, indent=2, ensure_ascii=False).splitlines()
