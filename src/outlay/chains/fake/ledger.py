"""What a fake chain holds: accounts, tokens with the manners of public ones, and what one call does to them."""

from dataclasses import dataclass, field
from enum import StrEnum

from outlay.codec.evm import BALANCE_OF_SELECTOR, TRANSFER_SELECTOR, TRANSFER_TOPIC, WORD, Log
from outlay.core.keccak import keccak

GAS_PLAIN = 21_000
_GAS_TOKEN = 31_000
_GAS_REVERTED = 9_000
_DECIMALS_SELECTOR = keccak(b"decimals()")[:4]
_MINT_SELECTOR = keccak(b"mint(address,uint256)")[:4]
_CODE = bytes.fromhex("6080604052")
_ZERO = "0x" + "00" * 20
_DATA_FEE_ORACLE = "0x420000000000000000000000000000000000000f"
_UPPER_BOUND_SELECTOR = keccak(b"getL1FeeUpperBound(uint256)")[:4]
_DATA_FEE_SELECTOR = keccak(b"getL1Fee(bytes)")[:4]


class Manner(StrEnum):
    """How a token answers ``transfer``. All but the last end with receipt status 1."""

    NORMAL = "normal"
    NO_RETURN = "no_return"  #: pays, answers nothing
    FALSE = "false"  #: pays nothing, answers false
    FEE = "fee"  #: keeps a part
    SILENT = "silent"  #: pays, writes no log
    REVERTS = "reverts"


@dataclass(slots=True, kw_only=True)
class Token:
    """One token contract. Its manners may change at any time, as those of an upgradable one."""

    address: str
    decimals: int = 6
    manner: Manner = Manner.NORMAL
    fee_percent: int = 1  #: of ``Manner.FEE``
    paused: bool = False  #: every transfer reverts
    blocked: set[str] = field(default_factory=set)  #: transfers from or to these revert
    twin: str | None = None  #: another address of the same contract; its logs carry the first


@dataclass(slots=True)
class State:
    """Accounts after one block; a block that changes nothing shares its parent's."""

    coins: dict[str, int] = field(default_factory=dict)
    nonces: dict[str, int] = field(default_factory=dict)
    tokens: dict[tuple[str, str], int] = field(default_factory=dict)  #: by token's first address and owner

    def copy(self) -> "State":
        """Return a state that can be changed by itself."""
        return State(dict(self.coins), dict(self.nonces), dict(self.tokens))


@dataclass(frozen=True, slots=True)
class Done:
    """What one call did."""

    ok: bool
    gas: int  #: gas, the intrinsic part included
    output: bytes = b""
    logs: tuple[Log, ...] = ()


@dataclass(slots=True, kw_only=True)
class Contracts:
    """The contracts of a network. They are there in every block: only balances belong to one."""

    tokens: dict[str, Token] = field(default_factory=dict)  #: by each of its addresses
    codes: dict[str, bytes] = field(default_factory=dict)  #: of accounts that are no token
    refuse_coins: set[str] = field(default_factory=set)  #: payments of the native coin to these revert
    data_fee_per_byte: int = 0  #: wei beside the gas, as rollups take it

    def add(self, token: Token) -> Token:
        """Add a token under each of its addresses."""
        self.tokens[token.address] = token
        if token.twin is not None:
            self.tokens[token.twin] = token
        return token

    def code(self, address: str) -> bytes:
        """Return the code at an address."""
        oracle = self.data_fee_per_byte > 0 and address == _DATA_FEE_ORACLE
        return _CODE if address in self.tokens or oracle else self.codes.get(address, b"")

    def run(self, state: State, sender: str, to: str, value: int, data: bytes, gas_limit: int) -> Done:
        """Do one call and change ``state``, unless it reverts. Fees are not its matter.

        Calls of a token that it does not know revert; an address without code takes any call and does nothing.
        """
        base = intrinsic_gas(data)
        token = self.tokens.get(to)
        if state.coins.get(sender, 0) < value or to in self.refuse_coins:
            return Done(False, min(gas_limit, base + _GAS_REVERTED))
        if token is None:
            state.coins[sender] = state.coins.get(sender, 0) - value
            state.coins[to] = state.coins.get(to, 0) + value
            return Done(True, base, self._system_call(to, data))
        if gas_limit < base + _GAS_TOKEN:
            return Done(False, gas_limit)  # out of gas: all of it is gone
        done = None if value else _token_call(token, state, sender, data)
        if done is None:
            return Done(False, base + _GAS_REVERTED)
        output, logs = done
        return Done(True, base + _GAS_TOKEN, output, logs)

    def _system_call(self, to: str, data: bytes) -> bytes:
        if to != _DATA_FEE_ORACLE or self.data_fee_per_byte == 0:
            return b""
        if data[:4] == _UPPER_BOUND_SELECTOR:
            return _word(self.data_fee_per_byte * _number(data, 0))
        if data[:4] == _DATA_FEE_SELECTOR:
            return _word(self.data_fee_per_byte * _number(data, 1))
        return b""


def intrinsic_gas(data: bytes) -> int:
    """Return the gas a transaction costs before anything runs. Source: EIP-2028."""
    zeros = data.count(0)
    return GAS_PLAIN + 4 * zeros + 16 * (len(data) - zeros)


def _token_call(token: Token, state: State, sender: str, data: bytes) -> tuple[bytes, tuple[Log, ...]] | None:
    """Return output and logs of a call, or None if it reverts."""
    selector = data[:4]
    if selector == BALANCE_OF_SELECTOR:
        return _word(state.tokens.get((token.address, _address(data, 0)), 0)), ()
    if selector == _DECIMALS_SELECTOR:
        return _word(token.decimals), ()
    if len(data) != 4 + 2 * WORD or selector not in (TRANSFER_SELECTOR, _MINT_SELECTOR):
        return None
    to, amount = _address(data, 0), _number(data, 1)
    if selector == _MINT_SELECTOR:
        return b"", mint(token, state, to, amount)
    return _transfer(token, state, sender, to, amount)


def _transfer(token: Token, state: State, sender: str, to: str, amount: int) -> tuple[bytes, tuple[Log, ...]] | None:
    if token.manner is Manner.FALSE:
        return _word(0), ()
    held = state.tokens.get((token.address, sender), 0)
    if token.manner is Manner.REVERTS or token.paused or {sender, to} & token.blocked or held < amount or to == _ZERO:
        return None
    fee = amount * token.fee_percent // 100 if token.manner is Manner.FEE else 0
    state.tokens[token.address, sender] = held - amount
    logs = []
    for payee, part in ((to, amount - fee), (token.address, fee)):
        if part or payee == to:
            state.tokens[token.address, payee] = state.tokens.get((token.address, payee), 0) + part
            logs.append(_log(token, sender, payee, part))
    output = b"" if token.manner is Manner.NO_RETURN else _word(1)
    return output, () if token.manner is Manner.SILENT else tuple(logs)


def mint(token: Token, state: State, to: str, amount: int) -> tuple[Log, ...]:
    """Make new units of a token."""
    state.tokens[token.address, to] = state.tokens.get((token.address, to), 0) + amount
    return (_log(token, _ZERO, to, amount),)


def _log(token: Token, sender: str, to: str, amount: int) -> Log:
    return Log(
        address=token.address,
        topics=(TRANSFER_TOPIC, bytes.fromhex(sender[2:]).rjust(WORD, b"\0"), bytes.fromhex(to[2:]).rjust(WORD, b"\0")),
        data=_word(amount),
    )


def _word(number: int) -> bytes:
    return number.to_bytes(WORD, "big")


def _number(data: bytes, at: int) -> int:
    return int.from_bytes(data[4 + WORD * at : 4 + WORD * (at + 1)], "big")


def _address(data: bytes, at: int) -> str:
    return "0x" + data[4 + WORD * at + 12 : 4 + WORD * (at + 1)].hex()
