"""The settings of ``outlay.toml``, a class a table; each carries its own documentation."""

import dataclasses
import re
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any
from urllib.parse import urlsplit

TAGS = ("finalized", "safe")
MEMORY = "memory"
METHODS = ("GET", "POST", "PUT", "DELETE", "PATCH")
RATE = re.compile(r"[1-9][0-9]{0,8} ?(?:/|per) ?(?:[1-9][0-9]{0,4} ?)?(?:second|minute|hour|day)s?")
DEVELOPMENT_CHAINS = (1337, 31337)
"""Chain ids that local test chains use: nothing on them is worth anything."""


def setting(doc: str, default: Any = dataclasses.MISSING) -> Any:
    if default is dataclasses.MISSING:
        return field(metadata={"doc": doc})
    if isinstance(default, (dict, list)):
        return field(default_factory=lambda: default, metadata={"doc": doc})
    return field(default=default, metadata={"doc": doc})


def origin_of(url: str) -> str:
    """Return the origin of a URL, as browsers write it."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """Where the API listens and what it is called from outside."""

    host: str = setting("address to listen on", "127.0.0.1")
    port: int = setting("TCP port to listen on", 8000)
    public_url: str = setting("how clients reach it; must match what they sign for", "http://localhost:8000")
    rp_id: str = setting("host name passkeys belong to; from public_url unless given", "")
    allowed_origins: tuple[str, ...] = setting("origins assertions may name; from public_url unless given", ())
    approval_url: str = setting(
        "an address of its own for approving, e.g. https://approve.pay.example: set, what passkeys sign on any other"
        " page decides about nothing and adds no keys; empty: they decide on the dashboard",
        "",
    )

    @property
    def relying_party(self) -> str:
        """The host name passkeys belong to."""
        return self.rp_id or (urlsplit(self.public_url).hostname or "")

    @property
    def origins(self) -> tuple[str, ...]:
        """The origins an assertion may name."""
        named = self.allowed_origins or (origin_of(self.public_url),)
        apart = origin_of(self.approval_url) if self.approval_url else ""
        return (*named, apart) if apart and apart not in named else named

    def origins_for(self, *, decides: bool) -> tuple[str, ...]:
        """The origins an assertion may name; ``decides``: it signs somebody's decision, or gives them a key for it."""
        return (origin_of(self.approval_url),) if decides and self.approval_url else self.origins

    @property
    def decided_at(self) -> str:
        """Where people decide, without a slash at the end."""
        return (self.approval_url or self.public_url).rstrip("/")


@dataclass(frozen=True, slots=True, kw_only=True)
class Finality:
    """When a block counts as final on a network: exactly one of the two."""

    blocks: int | None = setting("this many blocks, the transaction's own included", None)
    tag: str | None = setting('the node\'s own tag, "finalized" or "safe"', None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Native:
    """The coin a network charges its fees in."""

    symbol: str = setting("e.g. ETH")
    decimals: int = setting("decimal places", 18)


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """One chain. The table's name is a Dfns network name; it may point at any chain."""

    name: str = ""
    chain_id: int = setting("EIP-155 chain id; checked against every endpoint")
    rpc_urls: tuple[str, ...] = setting("JSON-RPC endpoints; sends go to all")
    finality: Finality = setting('when a block is final, e.g. { blocks = 12 } or { tag = "finalized" }')
    native: Native = setting("the native coin")
    fee_cap: int = setting("most native base units one payout may cost in fees")
    trust: str = setting(
        '"quorum": what decides must be told alike by two endpoints (of two or more; the default then);'
        ' "single": one endpoint is believed, which has to be written except on a development chain',
        "",
    )
    fee_model: str = setting('"eip1559" or "legacy" (one gas price, EIP-155)', "eip1559")
    data_fee: str = setting('fee beside the gas: "none", or "op-stack" (asked of the chain\'s price oracle)', "none")

    @property
    def is_development(self) -> bool:
        """Whether the chain id is one that local test chains use."""
        return self.chain_id in DEVELOPMENT_CHAINS

    @property
    def needs_agreement(self) -> bool:
        """Whether two endpoints must tell the same before anything is decided by it."""
        return self.trust == "quorum" or (not self.trust and len(self.rpc_urls) > 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class LivePrice:
    """What a fixed price is checked against. It can withhold that price, never change it; so it is not signed."""

    symbol: str = ""
    url: str = setting("where its price in dollars is told over HTTP, as JSON; may hold a key, is never logged")
    pointer: str = setting("where in the answer it stands: a JSON pointer, e.g. /data/amount")
    every_s: int = setting("seconds between two questions", 60)
    max_age_s: int = setting("an older answer counts for nothing: then there is no price", 300)
    band: Decimal = setting('how far it may be from the fixed one, "0.2" is a fifth; beyond that there is no price')


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """One token that may be paid. A token that is not listed cannot be paid."""

    network: str = setting("name of a [networks] table")
    kind: str = setting('"Erc20"', "Erc20")
    contract: str = setting("contract address")
    symbol: str = setting("symbol, also the key into [prices.static]")
    decimals: int = setting("decimal places; a wrong number pays a wrong amount")
    fee_cap: int | None = setting("overrides the network's fee_cap", None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Policies:
    """What happens when no policy matches."""

    default: str = setting('"allow" or "block"', "allow")


@dataclass(frozen=True, slots=True, kw_only=True)
class Webhooks:
    """How events are delivered."""

    allow_private_addresses: bool = setting("deliver to private and loopback addresses", False)
    retry_schedule_s: tuple[int, ...] = setting("seconds from the first attempt to each retry", (60, 720, 7200, 86400))
    disable_after_s: int = setting(
        "seconds of nothing but failures after which a webhook is switched off; 0: never", 432_000
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Api:
    """Rules of the HTTP API."""

    require_external_id: bool = setting("refuse transfers without externalId", True)
    queue_max: int = setting("requests of payouts that may wait at once in one process; beyond it 429", 1000)


@dataclass(frozen=True, slots=True, kw_only=True)
class SignerSettings:
    """Where the signer finds what unlocks its keys."""

    passphrase_file: str = setting("file with the passphrase, mode 0600, outside the data directory", "")
    socket: str = setting("path of the signer's Unix socket; data/signer.sock unless given", "")
    allow_uids: tuple[int, ...] = setting("user ids that may talk to the signer beside its own", ())
    request_max_age_s: int = setting("seconds from the signing of a request to the first signature for it", 604800)
    backend: str = setting('where keys are: "keystore", "pkcs11" or "aws-kms"', "keystore")
    pkcs11_module: str = setting("path of the PKCS#11 library", "")
    pkcs11_token: str = setting("label of the PKCS#11 token; the passphrase file holds its PIN", "")
    kms_region: str = setting("AWS region of the keys", "")
    kms_endpoint: str = setting("another endpoint than the region's own", "")
    caps: tuple["SignerCap", ...] = setting("the signer's own limits; see [[signer.caps]]", ())


@dataclass(frozen=True, slots=True, kw_only=True)
class SignerCap:
    """A limit that the signer keeps by itself, in base units, whatever policies and approvals say."""

    network: str = setting("name of a network")
    asset: str = setting('"native", a contract address, or "fees" for what transactions may cost', "native")
    window_s: int = setting("seconds the sums and the count look back", 86400)
    per_payout: int | None = setting("most base units of one payout", None)
    per_recipient: int | None = setting("most base units to one recipient in the window", None)
    total: int | None = setting("most base units in the window", None)
    count: int | None = setting("most payouts in the window", None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sending:
    """How payouts are put on the chain."""

    ready_timeout_s: int = setting("seconds an allowed payout may wait before it expires", 86400)
    in_flight_max: int = setting("unconfirmed transactions a wallet may have at once", 16)
    unseen_max_s: int = setting(
        "seconds a nonce may be finally used without a receipt of ours before the wallet is stopped", 600
    )
    poll_s: float = setting("seconds between looks at the chain", 1.0)
    bump_after_s: int = setting("seconds a sent transaction may stay unmined before its fees are raised", 36)
    bump_every_s: int = setting("seconds between further raises", 24)
    void_after_s: int = setting(
        "seconds the oldest transaction of a wallet may sit at its fee cap before it is voided to free the lane", 1800
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Governance:
    """How changes of settings are slowed down once a ``Policies:Modify`` policy is active."""

    loosening_delay_s: int = setting("seconds a change that is not proven tighter waits after its quorum", 86400)


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointLimit:
    """A limit on the calls of one route."""

    method: str = setting("of the calls, e.g. POST")
    path: str = setting("of the calls; * stands for one segment, e.g. /wallets/*/transfers")
    limit: str = setting("as the limits above")
    per: str = setting('"identity": each caller has its own; "organization": all share it', "identity")

    def matches(self, method: str, path: str) -> bool:
        """Tell whether a call counts."""
        mine, given = self.path.split("/"), path.split("/")
        same = len(mine) == len(given) and all(a in ("*", b) for a, b in zip(mine, given, strict=True))
        return same and method == self.method


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How many calls are answered: "100/minute", "20 per 5 second"; empty: any number. Sliding windows."""

    storage: str = setting(
        '"memory" (each process counts alone), or redis://HOST:PORT/DB for several API processes', "memory"
    )
    organization: str = setting("calls of everybody who is known, together", "")
    identity: str = setting("calls of each person or service account", "")
    anonymous: str = setting("calls without a valid token, of each network address", "")
    endpoints: tuple[EndpointLimit, ...] = setting("limits on single routes; see [[limits.endpoints]]", ())


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseSettings:
    """Where the tables are."""

    url: str = setting("postgresql://user@host:port/database; the SQLite file data/outlay.db unless given", "")
    password_file: str = setting("file with its password, mode 0600; unless given, libpq looks where it does", "")
    listen_url: str = setting("the same without a pooler between: changes of other processes are seen at once", "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Metrics:
    """Figures for Prometheus."""

    host: str = setting("address of the metrics listener", "127.0.0.1")
    port: int = setting("its port; 0: no listener", 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tracing:
    """Traces, from the API call to the receipt; needs `outlay[otel]`."""

    endpoint: str = setting("URL of an OTLP collector over HTTP; empty: none", "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Notify:
    """Messages to people, without Prometheus: approvals that wait, and what an operator has to look at now."""

    smtp_host: str = setting("mail server; empty: no mail", "")
    smtp_port: int = setting("its port", 587)
    smtp_security: str = setting('"starttls", "tls" from the first byte, or "none" (then without a user)', "starttls")
    smtp_ca_file: str = setting("certificates to trust beside the system's, for a mail server of your own", "")
    smtp_user: str = setting("whom to log in as; empty: nobody", "")
    smtp_password_file: str = setting("file with the password, mode 0600", "")
    mail_from: str = setting("address the mail comes from", "")
    mail_to: tuple[str, ...] = setting("addresses of the operators: they get what has to be looked at now", ())
    mail_approvers: bool = setting(
        "mail approvals to those who may vote, and changes to every admin, at their usernames; false: to mail_to", True
    )
    chat_url_file: str = setting(
        "file, mode 0600, with the URL of a Slack-compatible incoming webhook; empty: none", ""
    )
    remind_every_s: int = setting("seconds between reminders of an approval that waits; 0: none", 14400)
    per_minute_max: int = setting("messages to one place in a minute; what is more comes as one", 10)

    @property
    def is_on(self) -> bool:
        """Whether anything is told to anybody."""
        return bool(self.smtp_host or self.chat_url_file)


@dataclass(frozen=True, slots=True, kw_only=True)
class Audit:
    """The audit log, and where its head is kept a second time."""

    anchor_file: str = setting("file on another disk that every new head is appended to; empty: none", "")
    anchor_url: str = setting("URL that every new head is posted to; empty: none", "")
    anchor_every_s: int = setting("seconds between anchors; one is made at every stop as well", 600)
