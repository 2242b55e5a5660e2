"""web3.py with a local nonce: a pool of threads signs, sends and waits for receipts.

``python -m bench.baselines.web3_nonce``, a JSON object on standard input: url, key (hex), count, threads, recipients,
least (wei of the first payout). Prints {"seconds", "hashes"}. It stores nothing, tells nobody and judges nothing.
"""

import itertools
import json
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

from eth_account import Account
from web3 import HTTPProvider, Web3

CHAIN_ID, GAS = 31337, 21_000
POLL_S = 0.1


def main() -> None:
    """Pay everybody once."""
    given = json.load(sys.stdin)
    account = Account.from_key(given["key"])
    recipients = [Web3.to_checksum_address(each) for each in given["recipients"]]
    lines = threading.local()
    node = Web3(HTTPProvider(given["url"]))
    fee = 4 * node.eth.gas_price
    nonces = itertools.count(node.eth.get_transaction_count(account.address))
    taking = threading.Lock()

    def pay(number: int) -> str:
        if not hasattr(lines, "node"):
            lines.node = Web3(HTTPProvider(given["url"]))
        with taking:
            nonce = next(nonces)
        signed = account.sign_transaction(
            {
                "type": 2,
                "chainId": CHAIN_ID,
                "nonce": nonce,
                "maxPriorityFeePerGas": 1,
                "maxFeePerGas": fee,
                "gas": GAS,
                "to": recipients[number % len(recipients)],
                "value": given["least"] + number,
                "data": b"",
            }
        )
        sent = lines.node.eth.send_raw_transaction(signed.raw_transaction)
        receipt = lines.node.eth.wait_for_transaction_receipt(sent, timeout=120, poll_latency=POLL_S)
        if receipt["status"] != 1:
            raise RuntimeError(f"{sent.hex()} failed")
        return "0x" + str(sent.hex()).removeprefix("0x")

    began = time.perf_counter()
    with ThreadPoolExecutor(given["threads"]) as pool:
        hashes = list(pool.map(pay, range(given["count"])))
    print(json.dumps({"seconds": time.perf_counter() - began, "hashes": hashes}))


if __name__ == "__main__":
    main()
