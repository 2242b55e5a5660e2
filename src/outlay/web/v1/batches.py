"""Files of payouts: one signature, up to 100,000 rows, admitted one after the other."""

import csv
import io
from collections.abc import AsyncIterator
from typing import Any

import msgspec
from litestar import Controller, get, post, put
from litestar.response import Stream

from outlay.actions import present, present_batches
from outlay.actions import submissions as actions
from outlay.actions.act import Caller, authenticate
from outlay.actions.check_rows import check_rows
from outlay.actions.decide_whole import decide_whole
from outlay.actions.submissions import FileRow
from outlay.core.asset import Asset
from outlay.core.batch_report import COLUMNS
from outlay.core.errors import InvalidInput, NotFound
from outlay.core.price import Quote
from outlay.core.transfer import State
from outlay.evidence.submission import COUNT_MAX, Submission, read_submission
from outlay.store import submissions
from outlay.store.database import Row, Unit
from outlay.web.body import Label, StrictRequest
from outlay.web.dfns.identity import Body
from outlay.web.dfns.policy import DecisionBody
from outlay.web.gate import Gate, page_arguments, query_text

ROW_STATES = (submissions.WAITING, submissions.REFUSED, *State)
"""States of rows that can be asked for."""

REASONS_MAX = 100
PAGE_DEFAULT = 100
REPORT_CHUNK = 500
_NO_DIGEST = "0" * 64


class CheckRows(Body):
    """Rows that might be submitted; either a wallet or a pool is named."""

    rows: list[dict[str, Any]]
    walletId: str | None = None
    poolId: str | None = None


class SubmitBatch(Body):
    """A file of payouts; either a wallet or a pool is named."""

    name: Label
    digest: str
    count: int
    walletId: str | None = None
    poolId: str | None = None


class UploadRows(Body):
    """Rows that follow each other."""

    rows: list[dict[str, Any]]
    first: int = msgspec.field(name="from", default=0)


class BatchController(Controller):
    """``/v1/batches``."""

    path = "/v1/batches"
    tags = ("Batches",)

    @post("/check", status_code=200, summary="Check rows of a file")
    async def check(self, request: StrictRequest, data: CheckRows, gate: Gate) -> dict[str, Any]:
        """Return what would become of up to 1,000 rows, were they asked for now; policies are not asked.

        Nothing is stored, so it needs no signature.
        """
        _check_count(data.rows)
        given = {"name": "check", "digest": _NO_DIGEST, "count": len(data.rows)}
        submission = _submission({**given, **_payer(data)})
        now = gate.clock.now()

        def quote_of(asset: Asset) -> Quote | None:
            return gate.price_of(asset, now)

        def read(unit: Unit, caller: Caller) -> dict[str, Any]:
            return check_rows(
                unit, config=gate.config, caller=caller, submission=submission, posted=data.rows, quote_of=quote_of
            )

        return await gate.read(request, "Wallets:Transfers:Read", read)

    @post(status_code=200, summary="Submit a file of payouts")
    async def submit(self, request: StrictRequest, data: SubmitBatch, gate: Gate) -> dict[str, Any]:
        """Begin a file: the signature covers the digest and the number of its rows. Upload these next.

        The same file again, while it has not ended, is the same batch.
        """
        del data
        # As it was posted: whoever checks the signature later reads it by these same rules.
        submission = _submission(await request.payload())
        return await gate.write(request, "Wallets:Transfers:Create", lambda act: actions.submit(act, submission))

    @put("/{batch_id:str}/rows", summary="Upload rows of a file")
    async def upload(self, request: StrictRequest, batch_id: str, data: UploadRows, gate: Gate) -> dict[str, Any]:
        """Upload up to 1,000 rows from a place on; rows that are here already are passed over.

        They need no signature of their own: once all are here, their digest must be the one that was signed, or
        nothing is asked for.
        """
        _check_count(data.rows)
        if not 0 <= data.first < COUNT_MAX:
            raise InvalidInput(f"must be 0 to {COUNT_MAX - 1}", field="from")
        claims, now = gate.claims(request), gate.clock.now()

        def find(unit: Unit, caller: Caller) -> Row:
            row = submissions.find(unit, batch_id)
            if row is None:
                raise NotFound("no such batch")
            return row

        row = await gate.read(request, "Wallets:Transfers:Create", find)
        rows = _read_rows(data.rows, actions.submission_of(row))

        def keep(unit: Unit) -> dict[str, Any]:
            caller = authenticate(unit, claims, now=now)
            caller.require("Wallets:Transfers:Create")
            return actions.upload(
                unit, now=now, config=gate.config, caller=caller, batch_id=batch_id, first=data.first, rows=rows
            )

        with gate.places.take():
            return await gate.db.write(keep)

    @get(summary="List files of payouts")
    async def list_(self, request: StrictRequest, gate: Gate) -> dict[str, Any]:
        """Return one page of files, newest first."""
        page, state = page_arguments(request), query_text(request, "state")
        if state is not None and state not in submissions.STATES:
            raise InvalidInput("must be one of " + ", ".join(submissions.STATES), field="state")

        def read(unit: Unit, _caller: Caller) -> dict[str, Any]:
            rows, token = submissions.listed(unit, state=state, **page)
            return present.page([present_batches.batch(row, gate.config) for row in rows], token)

        return await gate.read(request, "Wallets:Transfers:Read", read)

    @get("/{batch_id:str}", summary="Read a file of payouts")
    async def read(self, request: StrictRequest, batch_id: str, gate: Gate) -> dict[str, Any]:
        """Return a file: how far it is, its totals, how many payouts are in each state, and what you could decide."""
        now = gate.clock.now()

        def read(unit: Unit, caller: Caller) -> dict[str, Any]:
            row = _find(unit, batch_id)
            return present_batches.batch_now(unit, row, gate.config, user_id=caller.user_id, now=now)

        return await gate.read(request, "Wallets:Transfers:Read", read)

    @get("/{batch_id:str}/rows", summary="Read rows of a file")
    async def read_rows(self, request: StrictRequest, batch_id: str, gate: Gate) -> dict[str, Any]:
        """Return rows from a place on, and of each the payout's state or why there is none."""
        first, state = _first(request), query_text(request, "state")
        limit = page_arguments(request)["limit"] or PAGE_DEFAULT
        if state is not None and state not in ROW_STATES:
            raise InvalidInput("must be one of " + ", ".join(ROW_STATES), field="state")

        def read(unit: Unit, _caller: Caller) -> dict[str, Any]:
            row = _find(unit, batch_id)
            found = submissions.outcomes(unit, batch_id, first=first, limit=limit + 1, state=state)
            items = [present_batches.outcome(each, row) for each in found[:limit]]
            return present.only_given(items=items, next=found[limit].place if len(found) > limit else None)

        return await gate.read(request, "Wallets:Transfers:Read", read)

    @get("/{batch_id:str}/report.csv", summary="Download the report of a file", media_type="text/csv")
    async def report(self, request: StrictRequest, batch_id: str, gate: Gate) -> Stream:
        """Return every row and what became of it, as lines of a spreadsheet."""
        row = await gate.read(request, "Wallets:Transfers:Read", lambda unit, _caller: _find(unit, batch_id))

        async def lines() -> AsyncIterator[str]:
            first = 0
            yield _csv([list(COLUMNS)])
            while True:

                def read(unit: Unit, first: int = first) -> list[Row]:
                    return submissions.outcomes(unit, batch_id, first=first, limit=REPORT_CHUNK)

                found = await gate.db.read(read)
                yield _csv([present_batches.report_cells(each, row, gate.config) for each in found])
                if len(found) < REPORT_CHUNK:
                    return
                first = found[-1].place + 1

        name = f'attachment; filename="{batch_id}.csv"'
        return Stream(lines(), media_type="text/csv; charset=utf-8", headers={"content-disposition": name})

    @post("/{batch_id:str}/cancel", status_code=200, summary="Take a file back")
    async def cancel(self, request: StrictRequest, batch_id: str, gate: Gate) -> dict[str, Any]:
        """Ask for no more rows of a file of your own; payouts that were asked for go on."""
        await request.expect_empty()
        return await gate.write(request, "Wallets:Transfers:Abort", lambda act: actions.cancel(act, batch_id))

    @post("/{batch_id:str}/decisions", status_code=200, summary="Decide about a file")
    async def decide(self, request: StrictRequest, batch_id: str, data: DecisionBody, gate: Gate) -> dict[str, Any]:
        """Approve or deny at once what waits of a file, where the policies that ask have ``per`` batch.

        The signature covers the whole file and the groups that are asked. Its payouts follow one after the other.
        """
        return await gate.write(
            request,
            "Policies:Evaluations:Vote",
            lambda act: decide_whole(act, batch_id, value=data.value, reason=data.reason),
        )


def _find(unit: Unit, batch_id: str) -> Row:
    row = submissions.find(unit, batch_id)
    if row is None:
        raise NotFound("no such batch")
    return row


def _payer(data: CheckRows) -> dict[str, str]:
    given = {"walletId": data.walletId, "poolId": data.poolId}
    return {name: value for name, value in given.items() if value is not None}


def _submission(payload: dict[str, Any]) -> Submission:
    try:
        return read_submission(payload, "body")
    except InvalidInput as error:
        raise InvalidInput(error.message, field=(error.field or "body").removeprefix("body.")) from error


def _check_count(rows: list[dict[str, Any]]) -> None:
    if not 1 <= len(rows) <= actions.ROWS_MAX:
        raise InvalidInput(f"must hold 1 to {actions.ROWS_MAX} rows", field="rows")


def _read_rows(posted: list[dict[str, Any]], submission: Submission) -> list[FileRow]:
    """Return rows as they are kept.

    Raises:
        InvalidInput: some are malformed; ``details.items`` names each.
    """
    rows: list[FileRow] = []
    wrong: list[InvalidInput] = []
    for at, each in enumerate(posted):
        try:
            rows.append(actions.read_row(each, submission))
        except InvalidInput as error:
            field = (error.field or "row").removeprefix("row").removeprefix(".")
            wrong.append(InvalidInput(error.message, field=f"rows[{at}]" + (f".{field}" if field else "")))
    if wrong:
        named = [{"field": each.field, "message": each.message} for each in wrong[:REASONS_MAX]]
        raise InvalidInput(
            f"{wrong[0].message} ({len(wrong)} of {len(posted)} rows are malformed; none was kept)",
            field=wrong[0].field,
            items=named,
        )
    return rows


def _first(request: StrictRequest) -> int:
    text = query_text(request, "from") or "0"
    if not (text.isascii() and text.isdecimal() and len(text) <= 9):
        raise InvalidInput("is the place of a row, from 0", field="from")
    return int(text)


def _csv(lines: list[list[str]]) -> str:
    file = io.StringIO()
    csv.writer(file, quoting=csv.QUOTE_ALL, lineterminator="\r\n").writerows(lines)
    return file.getvalue()
