"""Prepare a fresh deployment for its first payout, as its first admin, with the official Dfns SDK for Python.

    .venv/bin/python examples/set_up.py URL INIT_FILE NETWORK APPROVER_ID RECIPIENT [PROFILE]

INIT_FILE is what ``outlay init --json`` printed. It makes a permission for the approver, a service account that
may only ask for payouts, and a wallet tagged ``payouts``; it names the approver in every group of the preset's
policies; and it writes the profile that examples/first_payout.py reads (profile.json unless another is named).
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

from dfns_sdk import DfnsClient, DfnsClientConfig, KeySigner

from outlay.evidence.attestation import new_key_pair

url, init_file, network, approver, recipient = sys.argv[1:6]
profile_file = Path(sys.argv[6] if len(sys.argv) > 6 else "profile.json")
admin = json.loads(Path(init_file).read_text())["admin"]
private_key = Path(admin["privateKeyFile"]).read_text()
signer = KeySigner(credential_id=admin["credentialId"], private_key=private_key, app_origin=url)
client: Any = DfnsClient(DfnsClientConfig(auth_token=admin["token"], base_url=url, signer=signer))

# Who may do what. A new identity may do nothing at all.
MAY_VOTE = ["Policies:Evaluations:Read", "Policies:Evaluations:Vote", "Wallets:Transfers:Read"]
may_vote = client.permissions.create_permission({"name": "Decides on payouts", "operations": MAY_VOTE})
client.permissions.assign_permission(may_vote["id"], {"identityId": approver})
may_ask = client.permissions.create_permission(
    {
        "name": "Asks for payouts",
        "operations": ["Wallets:Read", "Wallets:Transfers:Create", "Wallets:Transfers:Read"],
    }
)
bot_key, bot_public_key = new_key_pair()
bot = client.auth.create_service_account(
    {"name": "payouts-bot", "publicKey": bot_public_key, "permissionId": may_ask["id"]}
)["accessTokens"][0]

# The preset's groups list nobody: until they are filled, what they hold waits.
for policy in client.policies.list_policies({"status": "Active"})["items"]:
    body = {name: policy[name] for name in ("name", "activityKind", "rule", "action", "filters")}
    if body["action"]["kind"] == "RequestApproval":
        for group in body["action"]["approvalGroups"]:
            group["approvers"] = {"userId": {"in": [approver]}}
        client.policies.update_policy(policy["id"], body)

wallet = client.wallets.create_wallet({"network": network, "name": "hot-1", "tags": ["payouts"]})
profile = {
    "url": url,
    "serviceAccount": {"token": bot["accessToken"], "credentialId": bot["credId"], "privateKey": bot_key},
    "walletId": wallet["id"],
    "walletAddress": wallet["address"],
    "recipient": recipient,
}
with os.fdopen(os.open(profile_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
    json.dump(profile, file, indent=2)
print(wallet["address"])
