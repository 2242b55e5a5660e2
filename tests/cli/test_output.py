"""What commands print: nothing is cut, nothing of others bends it, and the exit code says what to do."""

import json
import random
from pathlib import Path

import pytest

from outlay.cli.output import (
    EXIT_CODES,
    Output,
    WrongUsage,
    exit_code,
    facts,
    hint,
    paint,
    report,
    said,
    table,
    units,
    when,
)
from outlay.client import ApiError
from outlay.core.errors import (
    InvalidInput,
    InvariantBroken,
    NotAuthenticated,
    NotFound,
    NotPermitted,
    OutcomeUnknown,
    OutlayError,
    Unavailable,
)
from tests.cli.commands import Terminal

ROOT = Path(__file__).resolve().parents[2]
ADDRESS = "0x" + "1A" * 20


def refused(status: int, code: str = "x") -> ApiError:
    return ApiError(status, {"error": {"code": code, "message": "no"}})


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (refused(400), 1),
        (refused(409), 1),
        (refused(412), 1),
        (refused(500), 1),
        (InvalidInput("x"), 1),
        (InvariantBroken("x"), 1),
        (WrongUsage("x"), 2),
        (refused(401), 3),
        (refused(403), 3),
        (NotAuthenticated("x"), 3),
        (NotPermitted("x"), 3),
        (refused(404), 4),
        (NotFound("x"), 4),
        (OutcomeUnknown("x"), 5),
        (Unavailable("x"), 5),
        (refused(429), 5),
        (refused(503), 5),
    ],
)
def test_the_exit_code_says_what_to_do(error: OutlayError, code: int) -> None:
    assert exit_code(error) == code
    if code in (3, 5):
        assert hint(error), "a line says what to do"


def test_the_page_lists_the_exit_codes() -> None:
    page = (ROOT / "docs/reference/cli.md").read_text()
    for code, means in EXIT_CODES.items():
        assert f"| {code} | {means} |" in page
    assert sorted(EXIT_CODES) == [0, 1, 2, 3, 4, 5, 130]


def test_what_is_unknown_is_called_neither_done_nor_failed(capsys: pytest.CaptureFixture[str]) -> None:
    report(OutcomeUnknown("no usable answer"), as_json=False)
    told = capsys.readouterr().err
    assert "look before you repeat it" in told and "fail" not in told


def test_an_error_is_two_lines_or_one_document(capsys: pytest.CaptureFixture[str]) -> None:
    error = NotFound("no such payout", hint="outlay payouts list")
    report(error, as_json=False)
    assert capsys.readouterr().err == "error no such payout\n→ outlay payouts list\n"
    report(error, as_json=True)
    document = json.loads(capsys.readouterr().err)["error"]
    assert document == {
        "code": "not_found",
        "message": "no such payout",
        "exitCode": 4,
        "hint": "outlay payouts list",
    }


def test_a_table_that_does_not_fit_is_told_line_by_line_and_nothing_is_cut() -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    dice = random.Random(seed)
    for _ in range(200):
        columns = [f"c{index}" for index in range(dice.randint(1, 6))]
        rows = [["x" * dice.randint(0, 50) + str(index) for index, _ in enumerate(columns)] for _ in range(3)]
        width = dice.randint(20, 140)
        shown = table(columns, rows, width=width)
        assert all(cell in shown for row in rows for cell in row)
        if shown.startswith("c0") and "c0  x" not in shown.split("\n")[0]:
            assert len(columns) == 1 or max(map(len, shown.splitlines())) <= max(width, 58)
    wide = table(("payout", "to"), [("xfr-1", ADDRESS)], width=40)
    assert wide == f"payout  xfr-1\nto      {ADDRESS}\n"
    assert table(("payout", "to"), [("xfr-1", ADDRESS)], width=60).splitlines()[1] == f"xfr-1   {ADDRESS}"


def test_columns_without_anything_in_them_are_left_out_and_numbers_stand_right() -> None:
    shown = table(("name", "amount", "memo"), [("a", 5, None), ("b", 1000, None)], right={"amount"}, width=80)
    assert shown == "name  amount\na          5\nb       1000\n"
    assert table(("name",), [], nothing="no payouts") == "no payouts\n"


def test_text_of_others_starts_no_line_and_no_colour() -> None:
    hostile = "paid\x1b[2J\r\nstate     confirmed\u202e"
    for shown in (facts([("memo", hostile)]), table(("memo",), [(hostile,)], width=80)):
        assert "\x1b" not in shown and "\u202e" not in shown and "\r" not in shown
        assert not any(line.startswith("state") for line in shown.splitlines())


def test_amounts_and_instants_are_as_people_write_them() -> None:
    assert units("1250500000", 6, "USDC") == "1,250.5 USDC"
    assert units(1, 18, "ETH") == "0.000000000000000001 ETH"
    assert units(str(2**256 - 1), 0, "X") == f"{2**256 - 1:,} X"
    assert units("7", None) == "7 base units"
    assert when("2026-01-31T10:20:30.456Z") == "2026-01-31 10:20:30 UTC"
    assert when(None) is None


def test_colours_only_where_they_can_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert paint("x", "red", Terminal()) == "\x1b[31mx\x1b[0m"
    monkeypatch.setenv("NO_COLOR", "1")
    assert paint("x", "red", Terminal()) == "x"
    assert paint("x", "red") == "x"


def test_a_change_that_waits_for_people_is_not_called_done() -> None:
    waits = {"id": "cr-1", "operationKind": "Update", "status": "Pending", "approvalId": "ap-1"}
    assert "waits for approval ap-1" in said(waits, "done") and "done" not in said(waits, "done")
    assert said({**waits, "status": "Applied"}, "done") == "done\n"
    assert said({"id": "wa-1", "status": "Pending"}, "done") == "done\n"


def test_one_result_is_one_document(capsys: pytest.CaptureFixture[str]) -> None:
    output = Output(as_json=True)
    output.note("beside it")
    output.tell({"a": 1}, "text")
    told = capsys.readouterr()
    assert (json.loads(told.out), told.err) == ({"a": 1}, "")
