"""The report of a file of payouts: a line for each row, for a spreadsheet."""

from collections.abc import Mapping
from typing import Any

from outlay.core.money import format_units
from outlay.core.spreadsheet import harmless

COLUMNS = (
    *("row", "reference", "recipient", "network", "asset", "symbol", "amount", "baseUnits", "memo", "state"),
    *("payoutId", "txHash", "reason"),
)


def report_line(row: Mapping[str, Any], *, symbol: str | None, decimals: int | None) -> list[str]:
    """Return the cells of one row, none of which a spreadsheet takes for a formula.

    Args:
        row: as ``GET /v1/batches/{id}/rows`` answers it.
        symbol: of its asset, if that is known.
        decimals: of its asset, if they are known.
    """
    amount = None if decimals is None else format_units(int(row["amount"]), decimals).replace(",", "")
    cells = (
        row["index"] + 1,
        row["externalId"],
        row["recipient"],
        row["network"],
        row["asset"],
        symbol,
        amount,
        row["amount"],
        row.get("memo"),
        row["state"],
        row.get("payoutId"),
        row.get("txHash"),
        row.get("reason"),
    )
    return [harmless(each) for each in cells]
