"""Pay somebody through a running Outlay, with the official Dfns SDK for Python.

    make run                                      in one terminal
    .venv/bin/python examples/first_payout.py     in another

The profile (build/run.json unless another is named) says where the server is, who asks, from which wallet and
to whom. It holds the token and the private key of a service account: keep such a file to yourself.
"""

import json
import sys
import time
import uuid
from pathlib import Path
from typing import Any

from dfns_sdk import DfnsClient, DfnsClientConfig, KeySigner

profile = json.loads(Path(sys.argv[1] if len(sys.argv) > 1 else "build/run.json").read_text())
account = profile["serviceAccount"]

# Every write is signed with the service account's own key; the token alone changes nothing.
signer = KeySigner(credential_id=account["credentialId"], private_key=account["privateKey"], app_origin=profile["url"])
client: Any = DfnsClient(DfnsClientConfig(auth_token=account["token"], base_url=profile["url"], signer=signer))

payout = {
    "kind": "Native",
    "to": profile["recipient"],
    "amount": "1000000000000000",  # base units, as digits: 0.001 ETH
    # The id of this payout in your own books. Post it as often as you like: it is paid once.
    "externalId": f"invoice-{uuid.uuid4().hex[:12]}",
}
transfer = client.wallets.transfer_asset(profile["walletId"], payout)
again = client.wallets.transfer_asset(profile["walletId"], payout)
assert again["id"] == transfer["id"], "a retry must answer with the same transfer"

print(f"{transfer['id']}: {transfer['status']}")
deadline = time.monotonic() + 60
while transfer["status"] not in ("Confirmed", "Failed", "Rejected") and time.monotonic() < deadline:
    if transfer["status"] == "Pending":
        sys.exit(f"It waits for people: approval {transfer.get('approvalId')}. See examples/decide.py.")
    time.sleep(0.2)
    transfer = client.wallets.get_transfer(profile["walletId"], transfer["id"])

print(f"{transfer['id']}: {transfer['status']} {transfer.get('txHash', '')} {transfer.get('reason', '')}".rstrip())
sys.exit(0 if transfer["status"] == "Confirmed" else 1)
