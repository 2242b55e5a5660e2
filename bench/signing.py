"""Signing and encoding one transfer, beside eth-account; and one Ed25519 verification, which bounds admission."""

from coincurve import PrivateKey
from eth_account import Account

from bench.rows import Row
from bench.scenarios import Scenario
from bench.turns import rates
from outlay.codec.evm import Eip1559, tx_hash
from outlay.evidence.attestation import new_key_pair
from outlay.evidence.keys import load_private_key, load_public_key, sign_bytes
from outlay.signer.keys import SigningKey

SECRET = b"\x07" * 32
RECIPIENT = "0x7070707070707070707070707070707070707070"
CHAIN_ID, TIP, FEE, GAS, AMOUNT = 31337, 10**9, 3 * 10**9, 21_000, 10**15
DIFFERENCES = (
    "equal work: members checked, hash to sign, one signature of the same library, bytes, the transaction's hash;"
    " what the signer adds is in the row below it, its journal in the rows of confirmed payouts"
)
CHECKED = (
    "as the signer does it: from each signature the key is recovered before it leaves, so that a fault of memory or"
    " processor gives no key away; eth-account looks at none of its signatures"
)


def transfer(nonce: int) -> Eip1559:
    """Return what is signed."""
    return Eip1559(
        chain_id=CHAIN_ID,
        nonce=nonce,
        max_priority_fee_per_gas=TIP,
        max_fee_per_gas=FEE,
        gas_limit=GAS,
        to=RECIPIENT,
        value=AMOUNT,
    )


def measure(scenario: Scenario) -> list[Row]:
    """Measure both; equal bytes are asserted first."""
    key, bare_key, account = SigningKey(SECRET), PrivateKey(SECRET), Account.from_key(SECRET)

    def ours(count: int) -> None:
        for nonce in range(count):
            unsigned = transfer(nonce)
            tx_hash(unsigned.encode(bare_key.sign_recoverable(unsigned.signing_hash(), hasher=None)))

    def checked(count: int) -> None:
        for nonce in range(count):
            unsigned = transfer(nonce)
            tx_hash(unsigned.encode(key.sign(unsigned.signing_hash())))

    def fields(nonce: int) -> dict[str, object]:
        return {
            "type": 2,
            "chainId": CHAIN_ID,
            "nonce": nonce,
            "maxPriorityFeePerGas": TIP,
            "maxFeePerGas": FEE,
            "gas": GAS,
            "to": RECIPIENT,
            "value": AMOUNT,
            "data": b"",
        }

    def theirs(count: int) -> None:
        for nonce in range(count):
            account.sign_transaction(fields(nonce))

    def bare(count: int) -> None:
        digest = transfer(0).signing_hash()
        for _ in range(count):
            bare_key.sign_recoverable(digest, hasher=None)

    faults = []
    for nonce in (0, 1, 127, 128, 2**32):
        unsigned = transfer(nonce)
        mine = unsigned.encode(key.sign(unsigned.signing_hash()))
        if mine != unsigned.encode(bare_key.sign_recoverable(unsigned.signing_hash(), hasher=None)):
            faults.append(f"the signer signs nonce {nonce} differently")
        if mine != bytes(account.sign_transaction(fields(nonce)).raw_transaction):
            faults.append(f"eth-account encodes nonce {nonce} differently")
    cases = {"ours": ours, "checked": checked, "eth-account": theirs, "bare": bare}
    found = rates(cases, rounds=scenario.number("rounds"), seconds=scenario.real("seconds"))
    return [
        Row(
            key="signing.sign",
            name="sign and encode",
            unit="transactions/s",
            rounds=found["ours"],
            reference="eth-account on coincurve",
            reference_rounds=found["eth-account"],
            target=scenario.target("sign"),
            faults=faults,
            details={"signing alone, a second": found["bare"], "unequal": DIFFERENCES},
        ),
        Row(
            key="signing.checked",
            name="sign, recover the key and encode",
            unit="transactions/s",
            rounds=found["checked"],
            reference="eth-account on coincurve",
            reference_rounds=found["eth-account"],
            faults=faults,
            details={"unequal": CHECKED},
        ),
    ]


def verifications(rounds: int, seconds: float) -> list[float]:
    """Return how many Ed25519 signatures a second one core verifies, one figure a round."""
    private, public = new_key_pair()
    key, message = load_private_key(private), bytes(400)
    signature, verifier = sign_bytes(key, message), load_public_key(public, field="publicKey")

    def verify(count: int) -> None:
        for _ in range(count):
            verifier.verify(signature, message)  # type: ignore[call-arg]

    return rates({"verify": verify}, rounds=rounds, seconds=seconds)["verify"]
