"""Send coins from a local chain's first account, whose key everybody knows. For trying things out only.

.venv/bin/python examples/fund.py RPC_URL ADDRESS COINS
"""

import json
import sys
import urllib.request

RICH = "0xf39fd6e51aad88f6f4ce6ab8827279cfffb92266"

rpc_url, address, coins = sys.argv[1:4]
transaction = {"from": RICH, "to": address, "value": hex(int(coins) * 10**18)}
call = {"jsonrpc": "2.0", "id": 1, "method": "eth_sendTransaction", "params": [transaction]}
request = urllib.request.Request(  # noqa: S310 - the address is the caller's own
    rpc_url, json.dumps(call).encode(), {"content-type": "application/json"}
)
with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310
    print(json.load(answer)["result"])
