"""Attacks on paths and methods: what is signed names one route, and nothing else reaches it."""

import re
from typing import Any

import pytest

from tests.attacks.attacker import calls, refused, untouched
from tests.door import Door, Who, transfer

# Other spellings of a path


def spellings(path: str) -> dict[str, str]:
    """Return request targets that some router would take for ``path``, ``/wallets/ID/transfers``."""
    root, wallet, last = path[1:].split("/")
    return {
        "an empty segment": f"//{root}/{wallet}/{last}",
        "an empty segment inside": f"/{root}//{wallet}/{last}",
        "a dot": f"/./{root}/{wallet}/{last}",
        "a dot inside": f"/{root}/./{wallet}/{last}",
        "two dots": f"/{root}/x/../{wallet}/{last}",
        "escaped dots": f"/{root}/x/%2e%2e/{wallet}/{last}",
        "half-escaped dots": f"/{root}/x/.%2E/{wallet}/{last}",
        "twice escaped dots": f"/{root}/x/%252e%252e/{wallet}/{last}",
        "an escaped slash": f"/{root}/{wallet}%2f{last}",
        "a twice escaped slash": f"/{root}/{wallet}%252f{last}",
        "an overlong slash": f"/{root}/{wallet}%c0%af{last}",
        "a full-width slash": f"/{root}/{wallet}%ef%bc%8f{last}",
        "a backslash": f"/{root}/{wallet}\\{last}",
        "an escaped backslash": f"/{root}/{wallet}%5c{last}",
        "a slash at the end": f"{path}/",
        "a dot at the end": f"{path}/.",
        "path parameters": f"{path};x=1",
        "path parameters inside": f"/{root}/{wallet};x=1/{last}",
        "an extension": f"{path}.json",
        "another case": f"/{root.upper()}/{wallet}/{last}",
        "another case at the end": f"/{root}/{wallet}/{last.title()}",
        "another case of the id": f"/{root}/{wallet.upper()}/{last}",
        "a NUL": f"{path}%00",
        "a new line": f"{path}%0a",
        "carriage return and header": f"{path}%0d%0ax-dfns-useraction:%20x",
        "a space": f"{path}%20",
        "a plus": f"{path}+",
        "an escaped question mark": f"{path}%3famount=9",
        "an escaped hash": f"{path}%23x",
        "a broken escape": f"{path}%",
        "a prefix": f"/api{path}",
        "a version": f"/v2{path}",
        "a matrix": f"/{root}/{wallet}/{last},{last}",
    }


HOW = list(spellings("/a/b/c"))


@pytest.mark.parametrize("how", HOW)
def test_another_spelling_reaches_the_signed_route(door: Door, payer: Who, path: str, how: str) -> None:
    """The attacker holds a signature for one path and sends it to a spelling of it, or signs that spelling (F131)."""
    body, target = transfer(), spellings(path)[how]
    before = door.stored()
    action = door.sign(payer, "POST", path, body)
    assert door.call("POST", target, body, token=payer.token, action=action).status in (400, 403, 404, 405)
    opened = door.open(payer, "POST", target, body)
    if opened.status == 200:
        answered = door.answer(payer, opened.body["challengeIdentifier"], opened.body["challenge"]).ok()
        for sent, statuses in ((path, [403]), (target, [400, 404, 405])):
            answer = door.call("POST", sent, body, token=payer.token, action=answered["userAction"])
            assert answer.status in statuses, (sent, answer)
    else:
        assert (opened.status, opened.field) == (400, "userActionHttpPath")
    assert door.stored() == before


@pytest.mark.parametrize(
    "named",
    ["https://evil.example{path}", "//evil.example{path}", "evil.example{path}", "{path}\r\nx: y", "", "*", "\\{path}"],
)
def test_a_challenge_names_another_host(door: Door, payer: Who, path: str, named: str) -> None:
    """The attacker has a challenge made whose path a client shows as one host and the server as another (F131)."""
    with untouched(door):
        opened = door.open(payer, "POST", named.format(path=path), transfer())
        assert (opened.status, opened.field) == (400, "userActionHttpPath")


def test_an_absolute_target_names_another_route(door: Door, payer: Who, path: str) -> None:
    """The attacker sends the absolute form of a request target: its path is what must have been signed (F131)."""
    body, other = transfer(), f"/wallets/{door.wallet()['id']}/transfers"
    action = door.sign(payer, "POST", path, body)
    with untouched(door):
        for target in (f"http://localhost{other}", f"http://evil.example{other}", f"http://{path}{other}", "*"):
            answer = door.call("POST", target, body, token=payer.token, action=action)
            assert answer.status in (400, 403, 404), (target, answer)
    made = door.call("POST", f"http://evil.example{path}", body, token=payer.token, action=action).ok()
    assert (made["walletId"], made["requestBody"]) == (path.split("/")[2], body)


def test_an_escaped_id_is_another_id(door: Door, payer: Who, path: str) -> None:
    """The attacker escapes letters of the id: signer and router read the escape once, and alike (F131)."""
    body = transfer()
    root, wallet, last = path[1:].split("/")
    escaped = "/".join(["", root, "".join(f"%{ord(letter):02X}" for letter in wallet), last])
    made = door.call("POST", escaped, body, token=payer.token, action=door.sign(payer, "POST", escaped, body)).ok()
    assert made["walletId"] == wallet


@pytest.mark.parametrize(
    "query",
    [
        "?_method=DELETE",
        "?amount=9&to=0x0",
        "?amount=9;kind=Erc20",
        "?walletId=x&wallet_id=x",
        "?externalId=other",
        "?token=x&access_token=x",
        "#fragment",
        "?" + "a=1&" * 200,
    ],
)
def test_a_query_changes_what_is_signed(door: Door, payer: Who, path: str, query: str) -> None:
    """The attacker, in the middle, adds a query to a signed call: a write reads nothing from it (F131)."""
    body = transfer()
    action = door.sign(payer, "POST", path, body)
    answer = door.call("POST", path + query, body, token=payer.token, action=action)
    made = answer.ok()
    assert (made["requestBody"], made["walletId"]) == (body, path.split("/")[2])
    assert made["externalId"] == body["externalId"]


# Methods


OVERRIDES = ("X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override", "X-Original-Method", "X-Rewrite-Url")


@pytest.mark.parametrize("header", OVERRIDES)
def test_a_header_changes_the_method(door: Door, payer: Who, path: str, header: str) -> None:
    """The attacker sends a signed POST as something else, or a read as a write, by a header (F131)."""
    wallet = path.rsplit("/", 1)[0]
    tags, body = f"{wallet}/tags", {"tags": ["kept"]}
    door.write(door.admin, "PUT", tags, body).ok()
    action = door.sign(door.admin, "PUT", tags, body)
    with untouched(door):
        read = door.call("GET", wallet, token=door.admin.token, action=action, **{header: "DELETE"})
        assert read.ok()["tags"] == ["kept"]
    door.call("PUT", tags, body, token=door.admin.token, action=action, **{header: "DELETE"}).ok()
    assert door.get(wallet).ok()["tags"] == ["kept"]
    changes = door.sign(payer, "POST", path, transfer())
    with untouched(door):
        listed = door.call("GET", path, token=payer.token, action=changes, **{header: "POST"})
        assert "items" in listed.ok()


@pytest.mark.parametrize("header", ["X-Original-URL", "X-Rewrite-URL", "X-Forwarded-Prefix", "X-Forwarded-Uri"])
def test_a_header_changes_the_path(door: Door, payer: Who, path: str, header: str) -> None:
    """The attacker sends a harmless path and names the real one in a header that proxies use (F131)."""
    body = transfer()
    action = door.sign(payer, "POST", path, body)
    with untouched(door):
        answer = door.call("POST", "/v1/health", body, token=payer.token, action=action, **{header: path})
        refused(answer, 405, "method_not_allowed")
        assert "items" in door.call("GET", "/wallets", token=payer.token, **{header: "/auth/users"}).ok()


def test_a_read_writes(door: Door) -> None:
    """The attacker, a page the admin looks at, makes GET, HEAD and OPTIONS calls with the admin's token (F130)."""
    action = door.sign(door.admin, "GET", "/permissions")
    with untouched(door):
        for _, target, body, _ in calls(door):
            for method in ("GET", "HEAD", "OPTIONS", "PATCH"):
                answer = door.call(method, target, body, token=door.admin.token, action=action)
                assert answer.status < 500, (method, target)


@pytest.mark.parametrize("method", ["get", "Post", "P\u00d6ST", "PROPFIND", "POST\x00", "X" * 3000])
def test_a_method_in_another_spelling_is_the_method(door: Door, payer: Who, path: str, method: str) -> None:
    """The attacker spells the method so that a check of reads passes and the router writes (F131)."""
    body = transfer()
    action = door.sign(payer, "POST", path, body)
    with untouched(door):
        answer = door.call(method, path, body, token=payer.token, action=action)
        assert answer.status in (400, 404, 405, 431), answer


def test_a_method_in_a_challenge_is_one_of_four(door: Door, payer: Who, path: str) -> None:
    """The attacker signs a method that no route checks for and uses it on one that does (F131)."""
    with untouched(door):
        for method in ("PATCH", "HEAD", "OPTIONS", "", "POST,GET", "P\u00d6ST", "POST\n", "post", "PO\u017fT"):
            opened = door.open(payer, method, path, transfer())
            assert (opened.status, opened.field) == (400, "userActionHttpMethod"), method


@pytest.mark.parametrize("line", ["\r\n", "\n", "\r", "\r\n\r\n", "\x0b", "\x85"])
def test_a_line_break_in_a_target_starts_another_header(door: Door, payer: Who, path: str, line: str) -> None:
    """The attacker puts a raw line break into the path, to add a header or a second request (F128)."""
    raw = f"GET {path}{line}authorization: Bearer {door.admin.token} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
    with untouched(door):
        first: Any = door.send_all(raw.encode("latin-1"))
    assert len(re.findall(rb"HTTP/1\.1 \d", first)) <= 1
    assert b" 200 " not in first.split(b"\r\n")[0]


def test_an_answer_carries_a_header_of_the_attackers(door: Door) -> None:
    """The attacker has escaped line breaks repeated in an answer; they stay in its JSON (F128)."""
    for target in (
        "/x%0d%0aset-cookie:%20a=b",
        "/wallets?limit=%0d%0aset-cookie:%20a",
        "/wallets?paginationToken=%0d%0a",
    ):
        answer = door.get(target)
        assert answer.status in (400, 404)
        assert "set-cookie" not in answer.headers
        ours = {"date", "server", "content-type", "content-length", "connection", "x-request-id"}
        assert set(answer.headers) <= ours
