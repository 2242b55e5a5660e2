"""What a verified proof of a payout says, in words for somebody who has to sign it off."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from outlay.core.address import checksum
from outlay.core.asset import NATIVE
from outlay.core.errors import InvalidInput
from outlay.core.intent import Intent
from outlay.core.money import format_units, format_value
from outlay.core.seams import Instant

_WIDTH = 16
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

ALWAYS_UNPROVEN = (
    "that the network executed the transaction: look its hash up on the chain",
    "that these bytes were the only ones signed for this request: nonce and fees are the server's choice, and what was"
    " paid shows on the chain",
    "that nobody was refused a vote or denied: only approvals are in the file",
    "that everybody's screen showed what they signed",
    "the clock: every instant is the server's word",
)
"""What no proof of this kind can show."""


class ProofBroken(InvalidInput):
    """The proof of a payout fails; ``step`` names what does not hold."""

    code = "proof_broken"

    def __init__(self, message: str, *, step: str, done: tuple[tuple[str, str], ...], field: str | None) -> None:
        """Keep the step that failed, and those that held before it: (name, meaning) each."""
        super().__init__(message, field=field, step=step)
        self.step, self.done = step, done


class Trail:
    """The steps of a proof, in order."""

    def __init__(self) -> None:
        """Begin with none."""
        self.done: list[tuple[str, str]] = []

    @contextmanager
    def step(self, name: str, meaning: str) -> Iterator[None]:
        """Note one step, or that it failed.

        Raises:
            ProofBroken: what was checked does not hold.
        """
        try:
            yield
        except InvalidInput as error:
            raise ProofBroken(error.message, step=name, done=tuple(self.done), field=error.field) from error
        self.done.append((name, meaning))


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """How an asset is counted for people."""

    symbol: str
    decimals: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Party:
    """Somebody who signed."""

    name: str
    user_id: str
    fingerprint: str  #: of the key, hex SHA-256 of its SPKI bytes
    at: Instant  #: when the challenge was made
    seq: int  #: number of the newest record they saw


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """A mandate that asked, where no person did."""

    name: str
    mandate_id: str
    run: date | None  #: of a recurring payout: which
    seq: int  #: number of its record
    at: Instant  #: of that record


@dataclass(frozen=True, slots=True, kw_only=True)
class Approval:
    """Somebody who approved."""

    by: Party
    reason: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What was proved about one payout."""

    steps: tuple[tuple[str, str], ...]  #: name and meaning of each step that held
    root: str
    org: str
    newest: int  #: number of the newest record in the file
    newest_at: Instant
    head: str  #: its hash
    requester: Party | Standing
    intent: Intent
    wallet_id: str
    wallet_address: str
    unit: Unit
    value: int | None  #: 10**-8 USD by the signed prices; None: not known
    judged: tuple[tuple[str, int, str], ...]  #: name, version and answer of each policy that could be judged
    asked: tuple[tuple[str, str, int], ...]  #: id, name and version of each policy whose groups had to agree
    approvals: tuple[Approval, ...]
    tx_hash: str
    nonce: int
    fee_max: int  #: base units of the native coin the transaction may cost at most
    unproven: tuple[str, ...]  #: what this payout's policies leave open

    def text(self) -> str:
        """Return the report as lines for a terminal."""
        intent = self.intent
        amount = f"{format_units(int(intent.amount), self.unit.decimals)} {self.unit.symbol}"
        value = "no signed price" if self.value is None else f"USD {format_value(self.value)} at the signed price"
        pool = "" if intent.pool is None else f" of pool {intent.pool}"
        token = "the network's own coin" if intent.asset == NATIVE else f"token {checksum(intent.asset)}"
        lines = [
            *(f"ok   {name.ljust(_WIDTH)} {meaning}" for name, meaning in self.steps),
            "",
            "THE PAYOUT IS PROVED",
            "",
            _line("paid", f"{amount} ({intent.amount} base units; {value})"),
            _line("", token),
            _line("to", checksum(intent.recipient)),
            _line("from", f"{checksum(self.wallet_address)} (wallet {self.wallet_id}{pool})"),
            _line("on", f"{intent.network}, chain {intent.chain_id}"),
            _line("transaction", self.tx_hash),
            _line("", f"nonce {self.nonce}; may cost at most {self.fee_max} base units of the native coin in fees"),
            _line("external id", intent.external_id or "none"),
            _line("requested by", _requester(self.requester)),
            *(_line("approved by" if at == 0 else "", _approval(each)) for at, each in enumerate(self.approvals)),
            *([] if self.approvals else [_line("approved by", "nobody: no policy asked")]),
            *(
                _line("policies" if at == 0 else "", f"{name!r}, version {version}: {answer}")
                for at, (name, version, answer) in enumerate(self._policies())
            ),
            _line("organization", self.org),
            _line("root", self.root),
            _line("as of", f"record {self.newest}, {_when(self.newest_at)}"),
            _line("", f"hash {self.head}"),
            "",
            "NOT PROVED BY THIS FILE",
            "",
            *(f"  - {each}" for each in (*self.unproven, self._gap(), *ALWAYS_UNPROVEN)),
        ]
        return "\n".join(_plain(line) for line in lines) + "\n"

    def _policies(self) -> list[tuple[str, int, str]]:
        known = {(name, version) for name, version, _ in self.judged}
        more = [(name, version, "asked for approval") for _, name, version in self.asked]
        return [*self.judged, *(each for each in more if each[:2] not in known)] or [("none", 0, "no policy applies")]

    def _gap(self) -> str:
        return f"what was changed after record {self.newest} and before the transaction was signed"


def refused(broken: ProofBroken) -> str:
    """Return what is told of a proof that fails."""
    where = f" ({broken.field})" if broken.field else ""
    lines = [
        *(f"ok   {name.ljust(_WIDTH)} {meaning}" for name, meaning in broken.done),
        f"FAIL {broken.step.ljust(_WIDTH)} {broken.message}{where}",
        "",
        "THE PAYOUT IS NOT PROVED",
    ]
    return "\n".join(_plain(line) for line in lines) + "\n"


def _line(name: str, value: str) -> str:
    return f"  {name.ljust(_WIDTH)} {value}"


def _party(party: Party) -> str:
    return f"{party.name} ({party.user_id}) on {_when(party.at)}, key {party.fingerprint[:16]}"


def _requester(requester: Party | Standing) -> str:
    if isinstance(requester, Party):
        return _party(requester)
    run = "" if requester.run is None else f", its run of {requester.run}"
    return (
        f"mandate {requester.name!r} ({requester.mandate_id}){run}; on record {requester.seq}"
        f" since {_when(requester.at)}"
    )


def _approval(approval: Approval) -> str:
    said = f', saying "{approval.reason}"' if isinstance(approval.reason, str) else ""
    return _party(approval.by) + said


def _when(at: Instant) -> str:
    return (_EPOCH + timedelta(microseconds=at)).strftime("%Y-%m-%d %H:%M:%S UTC")


def _plain(line: str) -> str:
    """Return a line without what could steer a terminal: names and reasons are other people's texts."""
    return "".join(each if each.isprintable() else f"\\u{ord(each):04x}" for each in line)
