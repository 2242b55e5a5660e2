"""Paths: what a signature covers is what the server routes, whatever spelling the path had.

The real routes, the real router and the real server; only the handlers are replaced by one that says where it is.
"""

import contextlib
import json
import re
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import uvicorn
from hypothesis import example, given
from hypothesis import strategies as st
from litestar import Request, route
from litestar.exceptions import HTTPException

from outlay.core.errors import InvalidInput, OutlayError
from outlay.evidence.challenge import normalize_path
from outlay.web import errors
from outlay.web.app import Api, check_path, describe
from outlay.web.body import StrictRequest
from outlay.web.openapi import operations
from tests.fuzz.junk import sized

TEMPLATES = sorted({path for _, path, _ in operations(describe())})
MATCHERS = {path: re.compile(re.sub(r"\{\w+\}", "([^/]+)", path)) for path in TEMPLATES}


def _echo(path: str) -> Any:
    """Return a handler that answers which of the real routes it stands for, and the parameters it got."""

    @route(re.sub(r"\{(\w+)\}", r"{\1:str}", path), http_method=["GET", "PUT"], status_code=200, sync_to_thread=False)
    def handler(request: Request[Any, Any, Any]) -> dict[str, Any]:
        return {"template": path, "parameters": [str(each) for each in request.path_params.values()]}

    return handler


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    app = Api(
        route_handlers=[_echo(path) for path in TEMPLATES],
        request_class=StrictRequest,
        before_request=check_path,
        exception_handlers={
            OutlayError: errors.on_outlay_error,
            HTTPException: errors.on_http_exception,
            Exception: errors.on_unexpected,
        },
        openapi_config=None,
        logging_config=None,
    )
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="critical", lifespan="off", http="httptools"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield listener.getsockname()[1]
    server.should_exit = True
    thread.join(10)
    listener.close()


def ask(port: int, target: bytes) -> tuple[int, Any]:
    """Send a request line with exactly this target and return status and parsed body."""
    with socket.create_connection(("127.0.0.1", port), 20) as connection:
        connection.sendall(b"PUT " + target + b" HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        raw = b"".join(iter(lambda: connection.recv(65536), b""))
    head, _, body = raw.partition(b"\r\n\r\n")
    found: Any = None
    with contextlib.suppress(ValueError):
        found = json.loads(body)
    return int(head.split(b" ", 2)[1]), found


# Characters that mean something to one reader of paths or another, and a few that do not.
_names = st.text("abz09-_.~:@!$&'()*+,;= é💸", min_size=1, max_size=8)
_filled = st.sampled_from(TEMPLATES).flatmap(
    lambda path: st.tuples(*[_names] * path.count("{")).map(lambda names: _fill(path, names))
)


def _fill(path: str, names: tuple[str, ...]) -> str:
    for name in names:
        path = re.sub(r"\{\w+\}", lambda _: name, path, count=1)  # noqa: B023  # used at once
    return path


@st.composite
def spellings(draw: st.DrawFn) -> bytes:
    """The path of a call, with some characters escaped, cut, repeated or slipped in."""
    made = b""
    for character in draw(_filled):
        plain = character.encode()
        needs = not plain.isascii() or character in ' "<>'
        kind = draw(st.sampled_from(["as it is"] * 24 + ["escaped", "ESCAPED", "twice", "lost", "odd"]))
        escaped = b"".join(b"%%%02x" % byte for byte in plain)
        if kind == "ESCAPED" or (needs and kind == "as it is"):
            made += escaped.upper()
        elif kind == "escaped" or needs:
            made += escaped
        elif kind == "odd":
            made += plain + draw(st.sampled_from(ODD))
        else:
            made += {"twice": plain * 2, "lost": b""}.get(kind, plain)
    return (
        b"/"
        + made.lstrip(b"/")
        + draw(st.sampled_from([b"", b"", b"", b"/", b"?a=b", b"?a=/../b", b"#x", b"/.", b"//"]))
    )


ODD = (
    *(b"/", b"//", b"/./", b"/../", b"%2f", b"%2F", b"%2e%2e", b"%5c", b"\\", b"%00", b"%0a", b"%25", b"%252f", b"%3f"),
    *(
        b"?",
        b"#",
        b"%23",
        b";a=b",
        b"%",
        b"%zz",
        b"%c0%af",
        b"%ed%a0%80",
        b"%e2%80%8b",
        b"..",
        b".",
        b"+",
        b"%20",
        b"|",
    ),
)


@sized(250)
@given(spellings())
@example(b"/wallets/")
@example(b"/wallets/a%2Fb")
@example(b"//wallets")
@example(b"/wallets/%C3%A9")
def test_a_path_that_may_be_signed_is_the_one_that_is_routed(port: int, target: bytes) -> None:
    status, found = ask(port, target)
    assert status in (200, 400, 404), found
    try:
        signed = normalize_path(target.decode("ascii"))
    except InvalidInput as error:
        assert error.field
        assert status != 200, found
        return
    assert normalize_path(signed) == signed if "%" not in signed else True
    matched = {path: pattern.fullmatch(signed) for path, pattern in MATCHERS.items()}
    if status == 200:
        match = matched[found["template"]]
        assert match, (signed, found)
        assert list(match.groups()) == found["parameters"]
    else:
        assert not any(matched.values()), (signed, status)
