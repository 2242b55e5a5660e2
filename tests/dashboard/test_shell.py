"""What holds for every page: who is let in, from where, and what the browser is told to refuse."""

import json
import re
import socket
from collections.abc import Iterator
from http.client import HTTPConnection, HTTPResponse

import pytest

from outlay.web.cookies import COOKIE
from outlay.web.dashboard.desk import NAVIGATION, place_after
from tests.door import Door, open_door_now

OURS = "http://localhost:8000"
"""The origin of the pages: public_url, which the door's configuration leaves as it is."""


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    with open_door_now(tmp_path_factory.mktemp("door")) as opened:
        yield opened


def ask(
    door: Door, path: str, *, method: str = "GET", token: str | None = None, body: bytes | None = None, **headers: str
) -> tuple[HTTPResponse, str]:
    """Send a request as a browser does, by default with the session of the admin; an empty token is none."""
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    session = door.admin.token if token is None else token
    if session:
        sent["cookie"] = f"{COOKIE}={session}"
    if body is not None:
        sent["content-type"] = "application/json"
    connection = HTTPConnection("127.0.0.1", door.port, timeout=10)
    try:
        connection.request(method, path, body=body, headers=sent)
        answer = connection.getresponse()
        return answer, answer.read().decode()
    finally:
        connection.close()


def test_nobody_is_led_to_the_sign_in_page_and_back(door: Door) -> None:
    answer, _ = ask(door, "/dashboard?a=1", token="")
    assert (answer.status, answer.headers["location"]) == (303, "/dashboard/sign-in?next=/dashboard%3Fa%3D1")
    answer, _ = ask(door, "/", token="")
    assert (answer.status, answer.headers["location"]) == (303, "/dashboard")
    answer, text = ask(door, "/dashboard/sign-in?next=/dashboard%3Fa%3D1", token="")
    assert answer.status == 200 and 'data-back="/dashboard?a=1"' in text


@pytest.mark.parametrize(
    "asked",
    [
        "//evil.example",
        "https://evil.example",
        "/dashboard.evil",
        "javascript:alert(1)",
        "/dashboard\\x",
        "",
        None,
        "/x",
    ],
)
def test_signing_in_never_leads_away(asked: str | None) -> None:
    assert place_after(asked) == "/dashboard"


def test_who_follows_a_link_of_another_site_is_asked_again_by_our_own_page(door: Door) -> None:
    answer, text = ask(door, "/dashboard?x=1", token="", sec_fetch_site="cross-site")
    assert answer.status == 200
    assert 'content="0; url=/dashboard?x=1"' in text


def test_a_page_lets_in_no_script_but_its_own_and_stands_in_no_frame(door: Door) -> None:
    answer, text = ask(door, "/dashboard")
    policy = answer.headers["content-security-policy"]
    nonce = re.search(r"script-src 'nonce-([\w-]{20,})'", policy)
    assert nonce is not None
    for each in ("default-src 'none'", "frame-ancestors 'none'", "base-uri 'none'", "form-action 'self'"):
        assert each in policy
    assert "unsafe" not in policy
    scripts = re.findall(r"<script[^>]*>", text)
    assert scripts and all(f'nonce="{nonce[1]}"' in each for each in scripts)
    assert not re.search(r"\son\w+=|style=|https?://(?!www\.w3\.org)", text), "something inline, or from elsewhere"
    again = ask(door, "/dashboard")[0].headers["content-security-policy"]
    assert nonce[1] not in again, "a nonce is good for one page"
    assert answer.headers["cache-control"] == "no-store"


WRITE = ("PUT", "/auth/logout", b"{}")


@pytest.mark.parametrize(
    "headers",
    [
        {},  # no browser: it would say where the call comes from
        {"origin": "https://evil.example", "sec_fetch_site": "cross-site"},
        {"origin": "https://evil.localhost:8000", "sec_fetch_site": "same-site"},
        {"origin": "null"},
        {"sec_fetch_site": "same-origin"},
        {"origin": OURS, "sec_fetch_site": "same-site"},
    ],
)
def test_the_cookie_alone_writes_nothing_for_another_site(door: Door, headers: dict[str, str]) -> None:
    method, path, body = WRITE
    answer, text = ask(door, path, method=method, body=body, **headers)
    assert answer.status == 401, text
    assert ask(door, "/wallets", sec_fetch_site="same-origin")[0].status == 200, "the session was ended"


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_the_cookie_reads_nothing_for_another_site(door: Door, site: str) -> None:
    assert ask(door, "/wallets", sec_fetch_site=site)[0].status == 401
    assert ask(door, "/wallets", origin="https://evil.example")[0].status == 401


def test_our_own_pages_call_with_the_cookie(door: Door) -> None:
    body = {"userActionHttpMethod": "POST", "userActionHttpPath": "/wallets", "userActionPayload": "{}"}
    sent = {"origin": OURS, "sec_fetch_site": "same-origin"}
    answer, text = ask(door, "/auth/action/init", method="POST", body=json.dumps(body).encode(), **sent)
    assert answer.status == 200, text


def test_a_stated_token_comes_before_the_cookie(door: Door) -> None:
    answer, _ = ask(door, "/wallets", authorization="Bearer nonsense", sec_fetch_site="same-origin")
    assert answer.status == 401


def test_a_session_that_is_over_is_forgotten_by_the_browser(door: Door) -> None:
    answer, _ = ask(door, "/dashboard", token="nonsense")
    assert answer.status == 303
    assert "Max-Age=0" in answer.headers["set-cookie"] and answer.headers["set-cookie"].startswith(f"{COOKIE}=")


@pytest.mark.parametrize(
    "name", ["../desk.py", "..%2fdesk.py", "%2e%2e/desk.py", ".hidden.js", "page.py", "nothing.js"]
)
def test_only_files_that_are_meant_to_be_are_served(door: Door, name: str) -> None:
    assert ask(door, f"/dashboard/static/{name}", token="")[0].status == 404


def test_files_are_asked_for_again_and_sent_once(door: Door) -> None:
    answer, _ = ask(door, "/dashboard/static/page.js", token="")
    assert answer.status == 200 and answer.headers["content-type"] == "text/javascript; charset=utf-8"
    again, text = ask(door, "/dashboard/static/page.js", token="", if_none_match=answer.headers["etag"])
    assert (again.status, text) == (304, "")


def test_a_page_that_is_not_there_says_so(door: Door) -> None:
    answer, text = ask(door, "/dashboard/nothing/here")
    assert answer.status == 404 and "there is no such page" in text and 'href="/dashboard"' in text


def test_nobody_sees_entries_of_what_they_may_not_do(door: Door) -> None:
    reader = door.person("reader@example.com", ["Wallets:Read"])
    _, text = ask(door, "/dashboard/nothing", token=reader.token)
    shown = [each.title for each in NAVIGATION if f'href="{each.path}"' in text]
    assert shown == ["Home", "Wallets"]
    _, text = ask(door, "/dashboard/nothing")
    assert [each.title for each in NAVIGATION if f'href="{each.path}"' in text] == [each.title for each in NAVIGATION]


def test_the_stream_tells_who_is_signed_in_that_something_changed(door: Door) -> None:
    assert ask(door, "/dashboard/stream", token="")[0].status == 401
    with socket.create_connection(("127.0.0.1", door.port), timeout=10) as stream:
        request = f"GET /dashboard/stream HTTP/1.1\r\nhost: x\r\ncookie: {COOKIE}={door.admin.token}\r\n\r\n"
        stream.sendall(request.encode())
        received = b""
        while b"retry:" not in received:
            received += stream.recv(4096)
        assert b"text/event-stream" in received
        door.wallet()
        while b"records" not in received:
            received += stream.recv(4096)


def test_a_page_that_crashes_says_so_as_a_page_and_tells_nothing_of_the_inside(
    door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(*_: object, **__: object) -> None:
        raise RuntimeError("a secret of the inside")

    monkeypatch.setattr(door.gate.db, "read", crash)
    answer, text = ask(door, "/dashboard", accept="text/html")
    assert answer.status == 500 and "<h1>Something went wrong</h1>" in text and "err-" in text
    assert "secret of the inside" not in text and "default-src 'none'" in answer.headers["content-security-policy"]
