"""``outlay payouts``: look at one payout, and replace what was sent for it."""

import sys
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import quote

from cyclopts import App, Parameter

payouts = App(name="payouts", help="Payouts: show one, speed it up, cancel it, resolve it.")

Url = Annotated[str, Parameter(help="base URL of the server")]
TokenFile = Annotated[Path, Parameter(name="--token-file", help="file that holds your bearer token")]
KeyFile = Annotated[Path, Parameter(name="--key-file", help="PEM file of your private key")]
# Identifiers in base64url may begin with a hyphen.
Opaque = Annotated[str, Parameter(allow_leading_hyphen=True)]


@payouts.command
def show(*, wallet: str, id: str, url: Url, token_file: TokenFile) -> None:
    """Print a payout: where it stands, and every transaction that was signed for it.

    Parameters
    ----------
    wallet
        id of the wallet that pays.
    id
        id of the transfer.
    """
    from outlay.client import call

    sys.stdout.write(_told(call(url, "GET", _path(wallet, id), token=token_file.read_text().strip())))


@payouts.command
def cancel(*, wallet: str, id: str, url: Url, token_file: TokenFile, key_file: KeyFile, credential: Opaque) -> None:
    """Send an empty transaction in the place of a payout that was sent and is in no block yet.

    At most one of both is ever mined, and the chain decides which: look at the payout again before you pay anew.

    Parameters
    ----------
    wallet
        id of the wallet that pays.
    id
        id of the transfer.
    credential
        id of your credential.
    """
    _replace("cancel", wallet, id, url, token_file, key_file, credential)


@payouts.command(name="speed-up")
def speed_up(*, wallet: str, id: str, url: Url, token_file: TokenFile, key_file: KeyFile, credential: Opaque) -> None:
    """Offer higher fees, within the payout's fee cap, for one that was sent and is in no block yet.

    Parameters
    ----------
    wallet
        id of the wallet that pays.
    id
        id of the transfer.
    credential
        id of your credential.
    """
    _replace("speed-up", wallet, id, url, token_file, key_file, credential)


@payouts.command
def resolve(
    *,
    id: str,
    outcome: Literal["paid", "failed"],
    reason: str,
    url: Url,
    token_file: TokenFile,
    key_file: KeyFile,
    credential: Opaque,
) -> None:
    """End a payout that is final with another effect than was asked for (flag effect_mismatch). Nothing leaves.

    Parameters
    ----------
    id
        id of the payout.
    outcome
        paid: the recipient has what is owed. failed: it has not, and whoever asked may ask again.
    reason
        what you found; it is kept.
    credential
        id of your credential.
    """
    from outlay.client import Client

    client = Client(
        url, token=token_file.read_text().strip(), credential_id=credential, private_key=key_file.read_text()
    )
    made = client.write("POST", f"/v1/payouts/{quote(id, safe='')}/resolve", {"outcome": outcome, "reason": reason})
    sys.stdout.write(f"{made['id']}: {made['state']}. {made['reason']}\n")


def _replace(
    verb: str, wallet: str, transfer: str, url: str, token_file: Path, key_file: Path, credential: str
) -> None:
    from outlay.client import Client

    client = Client(
        url, token=token_file.read_text().strip(), credential_id=credential, private_key=key_file.read_text()
    )
    made = client.write("POST", f"{_path(wallet, transfer)}/{verb}")
    what = "an empty transaction" if verb == "cancel" else "the payout, with higher fees"
    sys.stdout.write(f"{made['id']}: {what}, {made['status']}\n\n")
    sys.stdout.write(_told(client.read(_path(wallet, transfer))))


def _path(wallet: str, transfer: str) -> str:
    return f"/wallets/{quote(wallet, safe='')}/transfers/{quote(transfer, safe='')}"


def _told(paid: dict[str, Any]) -> str:
    """Return a payout in the words of the terminal."""
    body, about = paid["requestBody"], paid["metadata"]["asset"]
    facts = [
        ("payout", paid["id"]),
        ("status", paid["status"]),
        ("reason", paid.get("reason")),
        ("waits because", paid.get("waitingReason")),
        ("look at it", paid.get("flag")),
        ("externalId", paid.get("externalId")),
        ("pays", f"{_units(body['amount'], about)} to {body['to']} on {paid['network']}"),
        ("fee", _wei(paid["fee"]) if "fee" in paid else None),
        ("transaction", paid.get("txHash")),
        ("nonce", paid.get("details", {}).get("nonce")),
    ]
    lines = [f"{name:<15} {value}" for name, value in facts if value is not None]
    for number, each in enumerate(paid.get("details", {}).get("attempts", []), start=1):
        lines.append(f"attempt {number:<7} {_attempt(each)}")
    return "\n".join(lines) + "\n"


def _attempt(attempt: dict[str, Any]) -> str:
    what = "pays" if attempt["purpose"] == "payout" else "pays nothing"
    if "gasPrice" in attempt:
        fees = f"{_gwei(attempt['gasPrice'])} a gas"
    else:
        fees = f"at most {_gwei(attempt['maxFeePerGas'])} a gas, tip {_gwei(attempt['maxPriorityFeePerGas'])}"
    when = f"sent {attempt['dateBroadcasted']}" if "dateBroadcasted" in attempt else "not sent yet"
    return f"{what}, {fees}, {when}  {attempt.get('txHash', 'not signed yet')}"


def _units(amount: str, asset: dict[str, Any]) -> str:
    """Return base units of an asset as people write them."""
    if "decimals" not in asset:
        return f"{amount} base units"
    return f"{_shifted(amount, asset['decimals'])} {asset.get('symbol', '')}".rstrip()


def _wei(amount: str) -> str:
    return f"{_shifted(amount, 18)} of the network's coin"


def _gwei(amount: str) -> str:
    return f"{_shifted(amount, 9)} gwei"


def _shifted(digits: str, places: int) -> str:
    """Return a whole number of base units with its decimal point, exactly."""
    padded = digits.rjust(places + 1, "0")
    whole, part = (padded[:-places], padded[-places:].rstrip("0")) if places else (padded, "")
    return f"{whole}.{part}" if part else whole
