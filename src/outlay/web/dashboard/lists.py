"""What pages of documents and of lists share: absent members, instants of filters, links to the pages of a list."""

from typing import Any
from urllib.parse import urlencode

from litestar import Request

from outlay.core.event import read_iso
from outlay.core.seams import Instant
from outlay.web.gate import query_text

NEXT = "paginationToken"
"""The name of what leads to the next page."""


class Loose(dict[str, Any]):
    """A document of the API whose absent members a template reads as None."""

    def __missing__(self, name: str) -> None:
        """Return None."""


def loose(value: Any) -> Any:
    """Return a document, and all within it, such that absent members read as None."""
    if isinstance(value, dict):
        return Loose({name: loose(each) for name, each in value.items()})
    return [loose(each) for each in value] if isinstance(value, list) else value


def instant_of(request: Request[Any, Any, Any], name: str) -> Instant | None:
    """Return the instant of a filter; what a browser's field for date and time gives has no zone and means UTC.

    Raises:
        InvalidInput: it is no such date.
    """
    text = query_text(request, name)
    if text is None:
        return None
    return read_iso(text if text.endswith("Z") or "+" in text else f"{text}Z", field=name)


def pages(request: Request[Any, Any, Any], token: str | None) -> dict[str, str | None]:
    """Return the addresses of the first page of a list (None: this is it) and of the next (None: there is none)."""
    kept = {name: value for name, value in request.query_params.items() if value and name != NEXT}
    path = request.scope["path"]
    first = (f"{path}?{urlencode(kept)}" if kept else path) if request.query_params.get(NEXT) else None
    following = None if token is None else f"{path}?{urlencode({**kept, NEXT: token})}"
    return {"first": first, "next": following}
