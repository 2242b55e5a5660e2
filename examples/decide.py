"""Show what waits for people, and approve or deny it with your own key.

    .venv/bin/python examples/decide.py URL USERNAME CREDENTIAL_ID KEY_FILE             lists what waits
    .venv/bin/python examples/decide.py URL USERNAME CREDENTIAL_ID KEY_FILE AP Approved  decides

Compare first, on another machine: outlay approvals show AP derives the payment itself.

The signature covers the transfer and the groups that were asked. If either changed meanwhile, the server refuses
it (409 approval_changed): list again and look again.
"""

import sys
from pathlib import Path
from typing import Any

from dfns_sdk import DfnsClient, DfnsClientConfig, KeySigner

from outlay.client import log_in

url, username, credential_id, key_file = sys.argv[1:5]
private_key = Path(key_file).read_text()
token = log_in(url, username=username, credential_id=credential_id, private_key=private_key)
signer = KeySigner(credential_id=credential_id, private_key=private_key, app_origin=url)
client: Any = DfnsClient(DfnsClientConfig(auth_token=token, base_url=url, signer=signer))

if len(sys.argv) == 7:
    approval = client.policies.create_approval_decision(sys.argv[5], {"value": sys.argv[6]})
    print(f"{approval['id']}: {approval['status']}")
    sys.exit(0)

for approval in client.policies.list_approvals({"status": "Pending"})["items"]:
    transfer = approval["activity"]["transferRequest"]
    body = transfer["requestBody"]
    what = body.get("contract", transfer["network"])
    print(f"{approval['id']}: {body['amount']} base units ({what}) to {body['to']}, {body['externalId']}")
    for evaluation in approval["policyEvaluations"]:
        if evaluation["triggered"]:
            print(f"    {evaluation['reason']}")
