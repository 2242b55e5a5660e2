"""``outlay explain``: why a payout went, waited or was refused."""

import json
import sys
from typing import Annotated
from urllib.parse import quote

from cyclopts import Parameter

from outlay.cli.payouts import TokenFile, Url


def explain(
    payout: str, *, url: Url, token_file: TokenFile, as_json: Annotated[bool, Parameter(name="--json")] = False
) -> None:
    """Say why a payout went, waits or was refused: every policy, what it saw, who decided, and what was sent.

    Parameters
    ----------
    payout
        id of the payout.
    as_json
        print everything as JSON.
    """
    from outlay.client import call

    path = f"/v1/payouts/{quote(payout, safe='')}/explanation"
    found = call(url, "GET", path, token=token_file.read_text().strip())
    if as_json:
        sys.stdout.write(json.dumps(found, indent=2) + "\n")
    else:
        sys.stdout.write("".join(f"{line}\n" for line in found["words"]))
