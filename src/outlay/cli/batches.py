"""``outlay batches``: payouts from a file, under one signature."""

import csv
import io
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import App, Parameter

from outlay.cli.output import REFUSED, Yes, facts, table, units, when
from outlay.cli.profile import FROM_PROFILE, Caller, path_of
from outlay.core.errors import InvalidInput, InvariantBroken

if TYPE_CHECKING:
    from outlay.client.batch_file import Problem
    from outlay.client.batches import ReadFile, Terms

batches = App(name="batches")

SHOWN = 20
"""Problems that are printed; with --json all that are kept."""

_POLL_S = 0.5
_ENDED = ("done", "refused", "canceled")

Wallet = Annotated[str | None, Parameter(help="Id of the wallet that pays.")]
Pool = Annotated[str | None, Parameter(help="Id of the pool that pays.")]


@dataclass(slots=True)
class _Checked:
    """What is known of a file before it is submitted."""

    file: "ReadFile"
    results: dict[str, int] = field(default_factory=dict)
    problems: list["Problem"] = field(default_factory=list)  #: that the server sees
    totals: dict[str, dict[str, Any]] = field(default_factory=dict)  #: of what is new, by asset

    @property
    def problem_count(self) -> int:
        return self.file.reader.problem_count + self.results.get("conflict", 0) + self.results.get("refused", 0)

    @property
    def is_good(self) -> bool:
        return self.problem_count == 0 and self.file.digest is not None


@batches.command
def check(file: Path, /, *, wallet: Wallet = None, pool: Pool = None, caller: Caller = FROM_PROFILE) -> int:
    """Look at a file of payouts without asking for any; exits 0 if all of it could be submitted.

    Parameters
    ----------
    file
        CSV or JSON with the columns reference, recipient, network, asset, amount and memo.
    """
    _, checked = _check(file, wallet, pool, caller)
    caller.tell(_document(checked), lambda: _told(checked))
    return 0 if checked.is_good else REFUSED


@batches.command
def submit(
    file: Path,
    /,
    *,
    wallet: Wallet = None,
    pool: Pool = None,
    name: str | None = None,
    follow: bool = True,
    yes: Yes = False,
    caller: Caller = FROM_PROFILE,
) -> int:
    """Check a file of payouts, sign it once and have every row of it asked for.

    Interrupted, it goes on where it was when it is run again with the same file and name. Exits 1 if a row was refused
    or the batch was canceled meanwhile.

    Parameters
    ----------
    file
        CSV or JSON with the columns reference, recipient, network, asset, amount and memo.
    name
        what people should call it; the name of the file unless given.
    follow
        wait until every row was looked at.
    """
    from outlay.client import batches as files

    caller.expect_key()
    on, checked = _check(file, wallet, pool, caller)
    if not checked.is_good:
        caller.tell(_document(checked), lambda: _told(checked))
        return REFUSED
    caller.note(_told(checked))
    count, digest = checked.file.reader.count, str(checked.file.digest)
    caller.confirm(f"Ask for these {count:,} payouts?", yes=yes)
    made = caller.ask(lambda client: files.submit(client, on, name=name or file.name, digest=digest, count=count))
    with caller.progress("uploading", total=count) as done:
        done(made["uploaded"])
        if made["state"] == "uploading":
            for first, _, items in files.parts_of(file, on, first=made["uploaded"]):
                made = _upload(caller, made["id"], first, items)
                done(len(items))
                if made["state"] != "uploading":
                    break
    if follow:
        made = _follow(caller, made)
    caller.tell(made, lambda: _batch_told(made))
    return REFUSED if made["state"] in ("refused", "canceled") or made["refused"] else 0


@batches.command(name="list")
def list_batches(*, limit: int = 50, state: str | None = None, caller: Caller = FROM_PROFILE) -> None:
    """List files of payouts, the newest first.

    Parameters
    ----------
    limit
        how many at most.
    state
        uploading, admitting, done, refused or canceled.
    """
    found = list(caller.items("/v1/batches", limit=limit, state=state))
    rows = [
        (each["id"], each["name"], each["state"], f"{each['admitted']:,}/{each['count']:,}", when(each["dateCreated"]))
        for each in found
    ]
    caller.tell(
        {"items": found},
        lambda: table(("id", "name", "state", "rows", "made"), rows, right=("rows",), nothing="no batches"),
    )


@batches.command
def show(batch: str, /, *, caller: Caller = FROM_PROFILE) -> None:
    """Print a batch: how far it is, its totals, and how many payouts are in each state.

    Parameters
    ----------
    batch
        id of the batch.
    """
    found = _look(caller, batch)
    caller.tell(found, lambda: _batch_told(found))


@batches.command
def report(
    batch: str,
    /,
    *,
    out: Path | None = None,
    as_: Annotated[Literal["csv", "jsonl"], Parameter(name="--format")] = "csv",
    caller: Caller = FROM_PROFILE,
) -> None:
    """Print what became of every row, or write it to a file.

    Parameters
    ----------
    batch
        id of the batch.
    out
        the file; the terminal unless given.
    as_
        csv for a spreadsheet, or jsonl: one object a line.
    """
    found = caller.read(path_of("v1", "batches", batch))
    is_csv = as_ == "csv" and not caller.as_json
    lines = _report(caller, found, is_csv=is_csv)
    if out is None:
        for line, document in lines:
            caller.tell_each(document, line)
        return
    written = -1 if is_csv else 0  # the first line of a table names its columns
    with out.open("w", encoding="utf-8", newline="") as file, caller.progress("reading", total=found["count"]) as done:
        for line, _ in lines:
            file.write(line)
            written += 1
            done(1)
    caller.tell({"file": str(out), "rows": written}, f"{out}: {written:,} rows\n")


@batches.command
def cancel(batch: str, /, *, yes: Yes = False, caller: Caller = FROM_PROFILE) -> None:
    """Ask for no more rows of a batch; payouts that were asked for go on.

    Parameters
    ----------
    batch
        id of the batch.
    """
    caller.confirm(f"Ask for no more rows of {batch}?", yes=yes)
    made = caller.write("POST", path_of("v1", "batches", batch, "cancel"))
    caller.tell(made, lambda: _batch_told(made))


@batches.command
def decide(
    batch: str,
    value: Literal["approve", "deny"],
    /,
    *,
    reason: str | None = None,
    words: str | None = None,
    yes: Yes = False,
    caller: Caller = FROM_PROFILE,
) -> None:
    """Approve or deny at once everything of a batch that waits for you, where the policies that ask let you.

    Its words are worked out from what is printed: name, payer, digest and number of rows, and who asked.

    Parameters
    ----------
    batch
        id of the batch.
    value
        approve or deny.
    reason
        why; it is kept.
    words
        the words that you were told: nothing is signed where they are others.
    """
    caller.expect_key()
    found = _look(caller, batch)
    if "decision" not in found:
        raise InvalidInput("nothing in this batch waits for a decision of yours that may be about all of it")
    caller.note(_batch_told(found))
    if words is not None and " ".join(words.lower().split()) != found["decision"]["words"]:
        raise InvalidInput("this batch has other words than those: nothing was signed", field="words")
    waiting = found["decision"]["waiting"]
    caller.confirm(f"{value.capitalize()} {waiting:,} payouts of {batch}?", yes=yes)
    said = {"value": "Approved" if value == "approve" else "Denied", **({} if reason is None else {"reason": reason})}
    made = caller.write("POST", path_of("v1", "batches", batch, "decisions"), said)
    caller.tell(made, f"{value} {waiting:,} payouts of {batch}: recorded, they follow one after the other\n")


def _look(caller: Caller, batch: str) -> dict[str, Any]:
    """Read a batch; what a decision about it signs is worked out here, and not by the server.

    Raises:
        InvariantBroken: what is shown is not what would be signed.
    """
    from outlay.evidence.submission import Submission
    from outlay.evidence.words import words

    found = caller.read(path_of("v1", "batches", batch))
    decision = found.get("decision")
    if decision is None:
        return found
    shown = Submission(
        name=found["name"],
        wallet_id=found.get("walletId"),
        pool_id=found.get("poolId"),
        digest=found["digest"],
        count=found["count"],
    )
    subject = shown.subject(org=str(caller.read("/v1/records")["orgId"]), initiator=found["initiatorId"])
    if (decision["digest"], decision["words"]) != (subject, words(subject)):
        raise InvariantBroken("what the server shows of this batch is not what it would have signed: do not decide")
    return found


def _check(file: Path, wallet: str | None, pool: str | None, caller: Caller) -> tuple["Terms", _Checked]:
    from outlay.client import batches as files

    on = caller.ask(lambda client: files.terms(client, wallet_id=wallet, pool_id=pool))
    with caller.progress("reading") as done:
        checked = _Checked(files.read_file(file, on, done))
    with caller.progress("checking", total=checked.file.reader.count) as done:
        for _, numbers, items in files.parts_of(file, on):
            _note(checked, numbers, _asked(caller, on, items))
            done(len(items))
    return on, checked


def _asked(caller: Caller, on: "Terms", items: list[dict[str, str]]) -> dict[str, Any]:
    from outlay.client import batches as files

    return caller.ask(lambda client: files.check(client, on, items))


def _upload(caller: Caller, batch_id: str, first: int, items: list[dict[str, str]]) -> dict[str, Any]:
    from outlay.client import batches as files

    return caller.ask(lambda client: files.upload(client, batch_id, first, items))


def _note(checked: _Checked, numbers: list[int], answer: Mapping[str, Any]) -> None:
    """Keep what the server said of some rows."""
    from outlay.client.batch_file import Problem

    for number, each in zip(numbers, answer["rows"], strict=True):
        checked.results[each["result"]] = checked.results.get(each["result"], 0) + 1
        if each["result"] == "conflict":
            _keep(checked, Problem(number, "reference", "belongs to another payout already: this one would be refused"))
        elif each["result"] == "refused":
            error = each["error"]
            _keep(checked, Problem(number, str(error["details"].get("field", "row")), str(error["message"])))
    for each in answer["totals"]:
        total = checked.totals.setdefault(each["asset"], {**each, "count": 0, "amount": "0", "valueUsd": "0.00000000"})
        total["count"] += each["count"]
        total["amount"] = str(int(total["amount"]) + int(each["amount"]))
        if "valueUsd" not in total or "valueUsd" not in each:
            total.pop("valueUsd", None)  # of a part the price is not known
        else:
            total["valueUsd"] = _sum(total["valueUsd"], each["valueUsd"])


def _keep(checked: _Checked, problem: "Problem") -> None:
    if len(checked.problems) < 1000:
        checked.problems.append(problem)


def _sum(first: str, second: str) -> str:
    """Return the sum of two values in dollars with eight decimals."""
    total = int(first.replace(".", "")) + int(second.replace(".", ""))
    return f"{total // 10**8}.{total % 10**8:08d}"


def _follow(caller: Caller, made: dict[str, Any]) -> dict[str, Any]:
    """Wait until every row was looked at."""
    path = path_of("v1", "batches", made["id"])
    with caller.progress("asking for payouts", total=made["count"]) as done:
        seen = 0
        while True:
            made = caller.read(path)
            done(made["admitted"] - seen)
            seen = made["admitted"]
            if made["state"] in _ENDED:
                return made
            time.sleep(_POLL_S)


def _report(caller: Caller, found: Mapping[str, Any], *, is_csv: bool) -> Iterator[tuple[str, Any]]:
    """Yield the lines of a report, and each as a document."""
    import json

    from outlay.core.batch_report import COLUMNS, report_line

    known = {each["asset"]: each for each in found["totals"]}
    if is_csv:
        yield _line(list(COLUMNS)), list(COLUMNS)
    following: int | None = 0
    while following is not None:
        answer = caller.read(path_of("v1", "batches", found["id"], "rows"), **{"from": following, "limit": 500})
        for row in answer["items"]:
            asset = known.get(row["asset"], {})
            cells = report_line(row, symbol=asset.get("symbol"), decimals=asset.get("decimals"))
            yield _line(cells) if is_csv else json.dumps(row) + "\n", row
        following = answer.get("next")


def _line(cells: list[str]) -> str:
    text = io.StringIO()
    csv.writer(text, quoting=csv.QUOTE_ALL, lineterminator="\r\n").writerow(cells)
    return text.getvalue()


# Words


def _document(checked: _Checked) -> dict[str, Any]:
    reader = checked.file.reader
    return {
        "rows": reader.count,
        "digest": checked.file.digest,
        "problems": [_problem(each) for each in (*reader.problems, *checked.problems)],
        "problemCount": checked.problem_count,
        "warnings": [_problem(each) for each in reader.warnings],
        "warningCount": reader.warning_count,
        "withoutChecksum": reader.lower_case,
        "results": checked.results,
        "totals": list(checked.totals.values()),
    }


def _problem(problem: "Problem") -> dict[str, Any]:
    return {"row": problem.row, "column": problem.column, "reason": problem.reason}


def _told(checked: _Checked) -> str:
    reader = checked.file.reader
    problems = [*reader.problems, *checked.problems][:SHOWN]
    same = checked.results.get("same", 0)
    text = facts(
        [
            ("rows", f"{reader.count:,}"),
            ("new", f"{checked.results.get('new', 0):,}"),
            ("asked for before", f"{same:,}, they are not paid again" if same else None),
            *(("pay", _total(each)) for each in checked.totals.values()),
            ("digest", checked.file.digest),
            ("no checksum", f"{reader.lower_case:,} recipients in lower case" if reader.lower_case else None),
            ("twice", f"{reader.warning_count:,} rows pay what another row pays" if reader.warning_count else None),
            *(("  row", f"{each.row}: {each.reason}") for each in reader.warnings[:SHOWN]),
            ("problems", f"{checked.problem_count:,}" if checked.problem_count else None),
        ]
    )
    if problems:
        text += table(("row", "column", "reason"), ((each.row, each.column, each.reason) for each in problems))
    if checked.problem_count > len(problems):
        text += f"and {checked.problem_count - len(problems):,} more\n"
    return text


def _total(each: Mapping[str, Any]) -> str:
    worth = f", worth {_dollars(each['valueUsd'])} USD" if "valueUsd" in each else ", of unknown worth"
    return f"{units(each['amount'], each.get('decimals'), each.get('symbol'))} in {each['count']:,} payouts{worth}"


def _worth(found: Mapping[str, Any]) -> str | None:
    """Return what the payouts of a batch are worth, as far as there are any."""
    if "valueUsd" in found:
        return f"{_dollars(found['valueUsd'])} USD"
    return "no price" if found["admitted"] > found["refused"] else None


def _dollars(text: str) -> str:
    """Return a value as people read it, rounded up to the cent."""
    cents = -(-int(text.replace(".", "")) // 10**6)
    return f"{cents // 100:,}.{cents % 100:02d}"


def _batch_told(found: Mapping[str, Any]) -> str:
    payer = f"wallet {found['walletId']}" if "walletId" in found else f"pool {found['poolId']}"
    decision = found.get("decision")
    return facts(
        [
            ("batch", found["id"]),
            ("name", found["name"]),
            ("state", found["state"]),
            ("reason", found.get("reason")),
            ("from", f"{payer} on {found['network']}"),
            *(
                (
                    "pay",
                    f"{units(each['amount'], each.get('decimals'), each.get('symbol'))} in {each['count']:,} payouts",
                )
                for each in found["totals"]
            ),
            ("worth", _worth(found)),
            ("rows", f"{found['count']:,}"),
            ("uploaded", f"{found['uploaded']:,}" if found["uploaded"] < found["count"] else None),
            ("looked at", f"{found['admitted']:,}"),
            ("refused", f"{found['refused']:,}" if found["refused"] else None),
            *((f"  {state}", f"{number:,}") for state, number in found.get("states", {}).items()),
            ("digest", found["digest"]),
            ("asked by", found["initiatorId"]),
            ("made", when(found["dateCreated"])),
            ("ended", when(found.get("dateDone"))),
            ("waits for you", None if decision is None else f"{decision['waiting']:,} payouts"),
            ("words", None if decision is None else decision["words"]),
        ]
    )
