"""What the chain says about sending a payout now: gas, fees, and why it would have to wait."""

import asyncio

from outlay.actions.sending import Candidate
from outlay.chains import CallReverted, Chain, Fees
from outlay.codec.evm import erc20_transfer
from outlay.config import Config
from outlay.core.asset import NATIVE
from outlay.core.errors import ChainUnavailable
from outlay.core.fees import NATIVE_GAS, first_offer
from outlay.store.database import Row

GAS_MAX = 5_000_000
"""The most gas one payout may be given: far more than any token needs, less than any chain's block holds."""
GAS_MARGIN_PERCENT = 150
"""Room over the node's estimate: what is not used is not paid."""
DATA_FEE_MARGIN = 2
"""Room over a rollup's data fee of now: it follows the fees of the chain below and is not capped by the transaction."""
TRANSACTION_SIZE = 250
"""Bytes of a signed payout, generously: what a rollup's data fee is asked for."""
NO_ANSWER = "the network does not answer at present"


async def make_candidates(config: Config, wallet: Row, chain: Chain, ready: list[Row]) -> list[Candidate]:
    """Return each ready transfer with an offer, or with the reason why it has to wait.

    Raises:
        ChainUnavailable: the network does not answer at all.
    """
    fees = await chain.fees()
    data_fee = await data_fee_of(chain)
    plain = await _plain_accounts(chain, ready)
    asked = (_candidate(config, wallet, chain, fees, data_fee, plain, row) for row in ready)
    return list(await asyncio.gather(*asked))


async def data_fee_of(chain: Chain) -> int:
    """Return the wei to set aside for what a transaction costs beside its gas."""
    return DATA_FEE_MARGIN * await chain.data_fee(TRANSACTION_SIZE)


async def _plain_accounts(chain: Chain, ready: list[Row]) -> set[str]:
    """Return which recipients of the native coin have no code."""
    addresses = sorted({row.recipient for row in ready if row.asset == NATIVE})
    try:
        codes = await chain.codes_at(addresses)
    except ChainUnavailable:
        return set()  # it may be about one of them: each is asked about by itself
    return {address for address, code in zip(addresses, codes, strict=True) if not code}


async def _candidate(
    config: Config, wallet: Row, chain: Chain, fees: Fees, data_fee: int, plain: set[str], row: Row
) -> Candidate:
    try:
        gas_limit = await _gas_limit(wallet, chain, plain, row)
    except CallReverted as error:
        reason = f"it would not go through at present: {error.message}"
        return Candidate(transfer_id=row.id, offer=None, waiting_reason=reason)
    except ChainUnavailable:
        # One recipient's contract may be what the node stumbles over: it must not stop the others.
        return Candidate(transfer_id=row.id, offer=None, waiting_reason=NO_ANSWER)
    offer = first_offer(
        base_fee=fees.base_fee,
        tip=fees.tips()[row.intent["priority"]],
        gas_limit=gas_limit,
        fee_cap=max(0, config.fee_cap(row.network, row.asset) - data_fee),
    )
    too_dear = "the network asks more for gas than the fee cap allows" if offer is None else None
    return Candidate(transfer_id=row.id, offer=offer, waiting_reason=too_dear)


async def _gas_limit(wallet: Row, chain: Chain, plain: set[str], row: Row) -> int:
    if row.asset == NATIVE:
        if row.recipient in plain or not await chain.code_at(row.recipient):
            return NATIVE_GAS
        estimate = await chain.estimate_gas(wallet.address, row.recipient, row.amount, b"")
    else:
        data = erc20_transfer(row.recipient, row.amount)
        estimate = await chain.estimate_gas(wallet.address, row.asset, 0, data)
    limit = estimate * GAS_MARGIN_PERCENT // 100
    if limit > GAS_MAX:
        # Signed once, such a transaction could never be mined and would stop everything behind its nonce.
        raise CallReverted(f"it needs {estimate} gas, more than a payout should")
    return limit
