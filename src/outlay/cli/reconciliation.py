"""``outlay reconcile`` and ``outlay signer-reseed``: ledger, journal and chain beside each other."""

import json
import sys
from collections.abc import Mapping
from typing import Annotated, Any

from cyclopts import Parameter

from outlay.cli.payouts import KeyFile, Opaque, TokenFile, Url
from outlay.core.errors import InvalidInput

_WIDTH = 26
_SAID = {
    "equal": "",
    "settling": "payouts are being settled: compare again in a while",
    "arriving": "more than is posted: the next comparison posts it",
    "surplus": "MORE ON THE CHAIN",
    "missing": "MISSING ON THE CHAIN",
    "unread": "the chain does not answer about it",
}


def reconcile(*, url: Url, token_file: TokenFile, as_json: Annotated[bool, Parameter(name="--json")] = False) -> None:
    """Compare what the ledger, the signer's journal and the chain say about each wallet; exits 1 if they differ.

    Parameters
    ----------
    as_json
        print everything as JSON.
    """
    from outlay.client import call

    found = call(url, "GET", "/v1/reconciliation", token=token_file.read_text().strip())
    if as_json:
        sys.stdout.write(json.dumps(found, indent=2) + "\n")
    else:
        sys.stdout.write("".join(_wallet(each) for each in found["wallets"]))
        differing = sum(bool(each["findings"]) for each in found["wallets"])
        sys.stdout.write(
            f"{len(found['wallets'])} wallets: "
            + ("ledger, journal and chain agree\n" if found["agrees"] else f"{differing} DIFFER\n")
        )
    sys.exit(0 if found["agrees"] else 1)


def _wallet(each: Mapping[str, Any]) -> str:
    nonces = each["nonces"]
    lines = [f"{each['walletId']}  {each['network']}  {each['address']}  final block {each['height']}"]
    if each["frozenReason"] is not None:
        lines.append(f"  frozen: {each['frozenReason']}")
    lines.append(
        f"  nonces  ledger {nonces['settled']} settled, {nonces['lane']} given;"
        f" journal {nonces['journal']}; chain {nonces['chainFinal']} final, {nonces['chainNewest']} newest"
    )
    if each["open"]:
        lines.append("  open    " + ", ".join(f"{count} {state}" for state, count in sorted(each["open"].items())))
    lines.append(
        f"  {'':<8}{'ledger':>{_WIDTH}}{'chain':>{_WIDTH}}{'signed here':>{_WIDTH}}{'in the journal':>{_WIDTH}}"
    )
    for line in each["assets"]:
        shown = [_amount(line[name], line["decimals"]) for name in ("ledger", "chain", "signedHere", "signedJournal")]
        columns = "".join(f"{text:>{_WIDTH}}" for text in shown)
        lines.append(f"  {line['symbol']:<8}{columns}  {_SAID[line['verdict']]}".rstrip())
    lines += [f"  DIFFERS {finding}" for finding in each["findings"]]
    return "\n".join(lines) + "\n\n"


def _amount(units: str | None, decimals: int) -> str:
    """Return base units as people write them."""
    if units is None:
        return "?"
    whole, part = divmod(int(units), 10**decimals)
    return f"{whole}" if not part else f"{whole}." + f"{part:0{decimals}d}".rstrip("0")


def signer_reseed(
    *, reason: str, url: Url, token_file: TokenFile, key_file: KeyFile, credential: Opaque, yes: bool = False
) -> None:
    """Put a new journal of the signer in the place of a lost one, from the first nonces that cannot have been signed.

    Until a window of the signer's caps has passed they count as spent; what was asked for before is not signed.

    Parameters
    ----------
    reason
        what happened to the journal before; it is signed and recorded.
    credential
        id of your credential.
    yes
        do not ask.
    """
    from outlay.client import Client

    client = Client(
        url, token=token_file.read_text().strip(), credential_id=credential, private_key=key_file.read_text()
    )
    state = client.read("/v1/signer")
    if state["seeded"]:
        raise InvalidInput(f"the journal {state['journalId']} is in place: nothing is to be done", field="journal")
    sys.stdout.write(f"journal {state['journalId']}\n")
    for wallet_id, nonce in sorted(state["minNonces"].items()):
        sys.stdout.write(f"  {wallet_id} signs from nonce {nonce} on\n")
    if not yes and input("Nothing with lower nonces can be under way? Type yes: ").strip() != "yes":
        raise InvalidInput("not signed", field="yes")
    body = {"journalId": state["journalId"], "minNonces": state["minNonces"], "reason": reason}
    answer = client.write("PUT", "/v1/signer/reseed", body)
    waits = answer.get("approvalId")
    sys.stdout.write("the signer goes on\n" if waits is None else f"waits for approval {waits}\n")
