"""One frozen configuration, read from ``outlay.toml``. Unknown keys are errors: a typo must not loosen anything.

Each setting carries its own documentation; ``docs/reference/configuration.md`` is generated from it.
"""

import dataclasses
import itertools
import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from outlay.core.address import parse_address
from outlay.core.asset import Asset
from outlay.core.errors import InvalidInput
from outlay.core.message import is_address
from outlay.core.money import parse_amount, parse_decimal
from outlay.settings import (
    MEMORY,
    METHODS,
    RATE,
    TAGS,
    Api,
    Audit,
    DatabaseSettings,
    EndpointLimit,
    Finality,
    Governance,
    Limits,
    LivePrice,
    Metrics,
    Native,
    Network,
    Notify,
    Policies,
    Sending,
    Server,
    SignerCap,
    SignerSettings,
    Token,
    Tracing,
    Webhooks,
    origin_of,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """The whole configuration."""

    server: Server = field(default_factory=Server)
    networks: Mapping[str, Network] = field(default_factory=dict)
    assets: tuple[Token, ...] = ()
    policies: Policies = field(default_factory=Policies)
    prices: Mapping[str, Decimal] = field(default_factory=dict)
    live_prices: Mapping[str, LivePrice] = field(default_factory=dict)
    webhooks: Webhooks = field(default_factory=Webhooks)
    api: Api = field(default_factory=Api)
    signer: SignerSettings = field(default_factory=SignerSettings)
    sending: Sending = field(default_factory=Sending)
    governance: Governance = field(default_factory=Governance)
    limits: Limits = field(default_factory=Limits)
    database: DatabaseSettings = field(default_factory=DatabaseSettings)
    metrics: Metrics = field(default_factory=Metrics)
    tracing: Tracing = field(default_factory=Tracing)
    notify: Notify = field(default_factory=Notify)
    audit: Audit = field(default_factory=Audit)
    _named: dict[str, dict[str, Asset]] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Name the assets: every payout asks for one about ten times."""
        for network, chain in self.networks.items():
            named = self._named[network] = {}
            for each in self._assets_of(network, chain):
                named.setdefault(each.key, each)

    def network(self, name: str) -> Network | None:
        """Return the network called ``name``, or None."""
        return self.networks.get(name)

    def find_asset(self, network: str, key: str) -> Asset | None:
        """Return the asset ``key`` (``native`` or a contract in lower case) of ``network``, or None."""
        return self._named.get(network, {}).get(key)

    def assets_of(self, network: str) -> tuple[Asset, ...]:
        """Return the native coin and the listed tokens of ``network``."""
        return tuple(self._named.get(network, {}).values())

    def _assets_of(self, network: str, chain: Network) -> tuple[Asset, ...]:
        coin = Asset(
            network=network,
            kind="Native",
            contract=None,
            symbol=chain.native.symbol,
            decimals=chain.native.decimals,
        )
        tokens = (
            Asset(network=network, kind=t.kind, contract=t.contract, symbol=t.symbol, decimals=t.decimals)
            for t in self.assets
            if t.network == network
        )
        return (coin, *tokens)

    def fee_cap(self, network: str, key: str) -> int:
        """Return the most one payout of asset ``key`` may cost in fees, native base units."""
        for token in self.assets:
            if token.network == network and token.contract == key and token.fee_cap is not None:
                return token.fee_cap
        return self.networks[network].fee_cap

    def money_settings(self) -> dict[str, Any]:
        """Return what decides about money, as the JSON object whose digest the organization signs."""
        return {
            "default": self.policies.default,
            "prices": {symbol: str(price) for symbol, price in self.prices.items()},
            "networks": {
                name: {
                    "chainId": n.chain_id,
                    "finality": {"blocks": n.finality.blocks, "tag": n.finality.tag},
                    "native": {"symbol": n.native.symbol, "decimals": n.native.decimals},
                    "feeCap": str(n.fee_cap),
                }
                for name, n in self.networks.items()
            },
            "assets": [
                {
                    "network": t.network,
                    "kind": t.kind,
                    "contract": t.contract,
                    "symbol": t.symbol,
                    "decimals": t.decimals,
                    "feeCap": None if t.fee_cap is None else str(t.fee_cap),
                }
                for t in sorted(self.assets, key=lambda t: (t.network, t.contract))
            ],
            "governance": {"looseningDelay": self.governance.loosening_delay_s},
        }


def check_settings(document: dict[str, Any]) -> dict[str, Any]:
    """Return money settings that are signed before a server has loaded them.

    Raises:
        InvalidInput: no file could have led to them.
    """
    expected = Config().money_settings()
    field = "moneySettings"
    if set(document) != set(expected) or any(type(document[name]) is not type(expected[name]) for name in expected):
        raise InvalidInput(
            f"holds exactly {', '.join(sorted(expected))}, as outlay settings apply sends them", field=field
        )
    delay = document["governance"].get("looseningDelay")
    if document["default"] not in ("allow", "block") or type(delay) is not int or delay < 0:
        raise InvalidInput("names a verdict or a delay that there is not", field=field)
    return document


def load(path: Path) -> Config:
    """Read the configuration file at ``path``.

    Raises:
        InvalidInput: unreadable, unknown key, missing key, or a value of the wrong kind; ``field`` names it.
    """
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"cannot read the configuration: {error}", field=str(path)) from error
    return parse(text)


def with_metrics_port(config: Config, port: int | None) -> Config:
    """Return the configuration with another port for metrics; None: as it is. Raises InvalidInput."""
    if port is None:
        return config
    changed = dataclasses.replace(config, metrics=dataclasses.replace(config.metrics, port=port))
    _check(changed)
    return changed


def parse(text: str) -> Config:
    """Read a configuration from TOML text. See ``load``."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InvalidInput(f"not valid TOML: {error}", field="configuration") from error
    known = {each.name for each in dataclasses.fields(Config) if each.init}
    _refuse_unknown(document, known - {"live_prices"}, "")
    networks = {
        name: dataclasses.replace(_network(_table(entry, f"networks.{name}"), name), name=name)
        for name, entry in _table(document.get("networks", {}), "networks").items()
    }
    prices = _prices(_table(document.get("prices", {}), "prices"))
    config = Config(
        server=_section(Server, document.get("server", {}), "server"),
        networks=networks,
        assets=tuple(_token(e, f"assets[{i}]") for i, e in enumerate(_list(document.get("assets", []), "assets"))),
        policies=_section(Policies, document.get("policies", {}), "policies"),
        prices=prices,
        live_prices=_live_prices(_table(document.get("prices", {}), "prices"), prices),
        webhooks=_section(Webhooks, document.get("webhooks", {}), "webhooks"),
        api=_section(Api, document.get("api", {}), "api"),
        signer=_signer(_table(document.get("signer", {}), "signer")),
        sending=_section(Sending, document.get("sending", {}), "sending"),
        governance=_section(Governance, document.get("governance", {}), "governance"),
        limits=_limits(_table(document.get("limits", {}), "limits")),
        database=_section(DatabaseSettings, document.get("database", {}), "database"),
        metrics=_section(Metrics, document.get("metrics", {}), "metrics"),
        tracing=_section(Tracing, document.get("tracing", {}), "tracing"),
        notify=_section(Notify, document.get("notify", {}), "notify"),
        audit=_section(Audit, document.get("audit", {}), "audit"),
    )
    _check(config)
    return config


def _check(config: Config) -> None:
    if config.policies.default not in ("allow", "block"):
        raise InvalidInput('must be "allow" or "block"', field="policies.default")
    if not 1 <= config.sending.in_flight_max <= 100_000:
        raise InvalidInput("must be 1 to 100000", field="sending.in_flight_max")
    sending = config.sending
    times = (sending.ready_timeout_s, sending.unseen_max_s, sending.bump_after_s, sending.bump_every_s)
    if min(*times, sending.void_after_s) < 1 or not 0 < sending.poll_s < math.inf:
        raise InvalidInput("must be greater than 0", field="sending")
    if not 1 <= config.api.queue_max <= 100_000:
        raise InvalidInput("must be 1 to 100000", field="api.queue_max")
    if not 0 <= config.governance.loosening_delay_s <= 30 * 86400:
        raise InvalidInput("must be 0 to 2592000: thirty days", field="governance.loosening_delay_s")
    address = urlsplit(config.server.public_url)
    if address.scheme not in ("http", "https") or not address.netloc or address.path not in ("", "/"):
        raise InvalidInput("is http(s)://HOST[:PORT] without a path: signatures cover paths", field="server.public_url")
    if address.query or address.fragment or address.username is not None:
        raise InvalidInput("names a host and a port, and nothing else", field="server.public_url")
    _check_approval_url(config.server)
    if not 0 <= config.server.port <= 65535:
        raise InvalidInput("must be 0 to 65535", field="server.port")
    if not 0 <= config.metrics.port <= 65535:
        raise InvalidInput("must be 0 to 65535; 0: no listener", field="metrics.port")
    collector = urlsplit(config.tracing.endpoint)
    if config.tracing.endpoint and (collector.scheme not in ("http", "https") or not collector.netloc):
        raise InvalidInput("is http(s)://HOST:PORT/v1/traces of an OTLP collector", field="tracing.endpoint")
    for name in ("url", "listen_url"):
        _check_database_url(getattr(config.database, name), f"database.{name}")
    _check_notify(config.notify)
    _check_audit(config.audit)
    schedule = config.webhooks.retry_schedule_s
    if any(later <= earlier for earlier, later in itertools.pairwise((0, *schedule))):
        raise InvalidInput("must ascend, each greater than 0", field="webhooks.retry_schedule_s")
    if not 0 <= config.webhooks.disable_after_s <= 365 * 86400:
        raise InvalidInput("must be 0 to 31536000: a year", field="webhooks.disable_after_s")
    seen = set()
    for index, token in enumerate(config.assets):
        if token.network not in config.networks:
            raise InvalidInput("names no [networks] table", field=f"assets[{index}].network")
        if (token.network, token.contract) in seen:
            raise InvalidInput("is listed twice", field=f"assets[{index}].contract")
        seen.add((token.network, token.contract))


def _check_approval_url(server: Server) -> None:
    if not server.approval_url:
        return
    field, address = "server.approval_url", urlsplit(server.approval_url)
    host, party = address.hostname or "", server.relying_party
    if address.path not in ("", "/") or address.query or address.fragment or address.username is not None:
        raise InvalidInput("names a host and a port, and nothing else", field=field)
    if address.scheme != "https" and not (address.scheme == "http" and host == "localhost"):
        raise InvalidInput("is https://HOST[:PORT]; without https browsers use no passkeys", field=field)
    if server.approval_url != server.approval_url.lower():
        raise InvalidInput("is written in lower case, as browsers write it", field=field)
    if host != party and not host.endswith(f".{party}"):
        raise InvalidInput(f"has to be under {party}, which passkeys belong to (server.rp_id)", field=field)
    if address.port == {"https": 443, "http": 80}[address.scheme]:
        raise InvalidInput("names its scheme's own port: leave it out, as browsers do", field=field)
    if origin_of(server.approval_url) == origin_of(server.public_url):
        raise InvalidInput("is another origin than public_url: scripts of the dashboard must not reach it", field=field)


def _check_audit(audit: Audit) -> None:
    if audit.anchor_every_s < 1:
        raise InvalidInput("must be greater than 0", field="audit.anchor_every_s")
    if audit.anchor_url and urlsplit(audit.anchor_url).scheme not in ("http", "https"):
        raise InvalidInput("is an http or https URL", field="audit.anchor_url")


def _check_notify(notify: Notify) -> None:
    if not 1 <= notify.smtp_port <= 65535:
        raise InvalidInput("must be 1 to 65535", field="notify.smtp_port")
    if notify.smtp_security not in ("starttls", "tls", "none"):
        raise InvalidInput('must be "starttls", "tls" or "none"', field="notify.smtp_security")
    if notify.smtp_user and (notify.smtp_security == "none" or not notify.smtp_password_file):
        raise InvalidInput("needs smtp_password_file, and a connection that is encrypted", field="notify.smtp_user")
    if notify.smtp_host and not is_address(notify.mail_from):
        raise InvalidInput("must be an e-mail address", field="notify.mail_from")
    if not all(is_address(each) for each in notify.mail_to):
        raise InvalidInput("must be e-mail addresses", field="notify.mail_to")
    if notify.remind_every_s < 0 or not 1 <= notify.per_minute_max <= 1000:
        raise InvalidInput("needs remind_every_s of 0 or more, and per_minute_max of 1 to 1000", field="notify")


def _check_database_url(text: str, path: str) -> None:
    if not text:
        return
    parts = urlsplit(text)
    if parts.scheme != "postgresql" or len(parts.path) < 2:
        raise InvalidInput("must be postgresql://user@host:port/database", field=path)
    if parts.password is not None or "password" in parse_qs(parts.query):
        raise InvalidInput("write no password here: name a file in database.password_file", field=path)


def _network(entry: Mapping[str, Any], name: str) -> Network:
    path = f"networks.{name}"
    values = dict(entry)
    finality = _section(Finality, values.pop("finality", None), f"{path}.finality")
    if (finality.blocks is None) == (finality.tag is None):
        raise InvalidInput("give either blocks or tag", field=f"{path}.finality")
    if finality.blocks is not None and finality.blocks < 1:
        raise InvalidInput("is at least 1: the block the transaction is in", field=f"{path}.finality.blocks")
    if finality.tag is not None and finality.tag not in TAGS:
        raise InvalidInput('must be "finalized" or "safe"', field=f"{path}.finality.tag")
    native = _section(Native, values.pop("native", None), f"{path}.native")
    if not 0 <= native.decimals <= 77:
        raise InvalidInput("must be 0 to 77", field=f"{path}.native.decimals")
    values["fee_cap"] = parse_amount(values.get("fee_cap"), field=f"{path}.fee_cap")
    if "name" in values:
        raise InvalidInput("unknown setting", field=f"{path}.name")
    network: Network = _section(Network, {**values, "finality": finality, "native": native}, path)
    if not 1 <= network.chain_id < 2**53 or not network.rpc_urls:
        raise InvalidInput("needs a chain_id from 1 to 2^53 - 1 and one rpc_urls entry", field=path)
    _check_trust(network, path)
    if network.fee_model not in ("eip1559", "legacy"):
        raise InvalidInput('must be "eip1559" or "legacy"', field=f"{path}.fee_model")
    if network.data_fee not in ("none", "op-stack"):
        raise InvalidInput('must be "none" or "op-stack"', field=f"{path}.data_fee")
    return network


def _check_trust(network: Network, path: str) -> None:
    """One endpoint that lies could make a payout look unpaid, or paid: believing it has to be said."""
    alone = len(set(network.rpc_urls)) == 1
    if len(set(network.rpc_urls)) != len(network.rpc_urls):
        raise InvalidInput("names an endpoint twice: it would agree with itself", field=f"{path}.rpc_urls")
    if network.trust not in ("", "single", "quorum"):
        raise InvalidInput('must be "single" or "quorum"', field=f"{path}.trust")
    if network.trust == "quorum" and alone:
        raise InvalidInput("two endpoints are needed to agree: name another in rpc_urls", field=f"{path}.trust")
    if not network.trust and alone and not network.is_development:
        raise InvalidInput(
            'one endpoint alone decides what was paid: name two in rpc_urls, or write trust = "single"',
            field=f"{path}.trust",
        )


def _signer(entry: Mapping[str, Any]) -> SignerSettings:
    values = dict(entry)
    caps = tuple(
        _cap(each, f"signer.caps[{at}]") for at, each in enumerate(_list(values.pop("caps", []), "signer.caps"))
    )
    settings: SignerSettings = dataclasses.replace(_section(SignerSettings, values, "signer"), caps=caps)
    if settings.backend not in ("keystore", "pkcs11", "aws-kms"):
        raise InvalidInput('must be "keystore", "pkcs11" or "aws-kms"', field="signer.backend")
    if settings.request_max_age_s < 1:
        raise InvalidInput("must be greater than 0", field="signer.request_max_age_s")
    return settings


def _cap(entry: Any, path: str) -> SignerCap:
    values = dict(_table(entry, path))
    for name in ("per_payout", "per_recipient", "total"):
        if name in values:
            values[name] = parse_amount(values[name], field=f"{path}.{name}")
    cap: SignerCap = _section(SignerCap, values, path)
    if cap.window_s < 1 or (cap.count is not None and cap.count < 0):
        raise InvalidInput("needs a window_s of at least 1 and a count of at least 0", field=path)
    if cap.asset in ("native", "fees"):
        return cap
    return dataclasses.replace(cap, asset=parse_address(cap.asset, field=f"{path}.asset"))


def _limits(entry: Mapping[str, Any]) -> Limits:
    values = dict(entry)
    listed = _list(values.pop("endpoints", []), "limits.endpoints")
    endpoints = tuple(_section(EndpointLimit, each, f"limits.endpoints[{at}]") for at, each in enumerate(listed))
    settings: Limits = dataclasses.replace(_section(Limits, values, "limits"), endpoints=endpoints)
    if settings.storage != MEMORY and not settings.storage.startswith(("redis://", "rediss://", "unix://")):
        raise InvalidInput(
            'must be "memory" or the address of a Redis server, redis://HOST:PORT/DB', field="limits.storage"
        )
    for name in ("organization", "identity", "anonymous"):
        _check_rate(getattr(settings, name), f"limits.{name}")
    for at, each in enumerate(endpoints):
        path = f"limits.endpoints[{at}]"
        if not each.limit:
            raise InvalidInput("is missing", field=f"{path}.limit")
        _check_rate(each.limit, f"{path}.limit")
        if each.method not in METHODS or not each.path.startswith("/"):
            raise InvalidInput("needs a method in capitals and a path that begins with /", field=path)
        if each.per not in ("identity", "organization"):
            raise InvalidInput('must be "identity" or "organization"', field=f"{path}.per")
    return settings


def _check_rate(text: str, path: str) -> None:
    if text and RATE.fullmatch(text) is None:
        raise InvalidInput('is written like "100/minute" or "20 per 5 second"', field=path)


def _token(entry: Any, path: str) -> Token:
    values = dict(_table(entry, path))
    if "fee_cap" in values:
        values["fee_cap"] = parse_amount(values["fee_cap"], field=f"{path}.fee_cap")
    if values.get("kind", "Erc20") != "Erc20":
        raise InvalidInput('must be "Erc20"', field=f"{path}.kind")
    token: Token = _section(Token, values, path)
    if not 0 <= token.decimals <= 77:
        raise InvalidInput("must be 0 to 77", field=f"{path}.decimals")
    return dataclasses.replace(token, contract=parse_address(token.contract, field=f"{path}.contract"))


def _prices(entry: Mapping[str, Any]) -> dict[str, Decimal]:
    _refuse_unknown(entry, {"static", "live"}, "prices.")
    prices = {}
    for symbol, text in _table(entry.get("static", {}), "prices.static").items():
        if not isinstance(text, str):
            raise InvalidInput('write the price as text, e.g. "3000"', field=f"prices.static.{symbol}")
        prices[symbol] = parse_decimal(text, field=f"prices.static.{symbol}")
    return prices


def _live_prices(entry: Mapping[str, Any], fixed: Mapping[str, Decimal]) -> dict[str, LivePrice]:
    found = {}
    for symbol, given in _table(entry.get("live", {}), "prices.live").items():
        path = f"prices.live.{symbol}"
        values = dict(_table(given, path))
        if symbol not in fixed:
            raise InvalidInput("has no fixed price to check: write one into [prices.static]", field=path)
        if "band" in values:
            if not isinstance(values["band"], str):
                raise InvalidInput('write it as text, e.g. "0.2"', field=f"{path}.band")
            values["band"] = parse_decimal(values["band"], field=f"{path}.band")
        live: LivePrice = _section(LivePrice, {**values, "symbol": symbol}, path)
        if urlsplit(live.url).scheme not in ("http", "https") or not urlsplit(live.url).hostname:
            raise InvalidInput("is no http(s) address", field=f"{path}.url")
        if live.pointer and not live.pointer.startswith("/"):
            raise InvalidInput("is a JSON pointer, e.g. /data/amount", field=f"{path}.pointer")
        if live.every_s < 1 or live.max_age_s < live.every_s:
            raise InvalidInput("every_s is 1 or more, and max_age_s is not shorter", field=f"{path}.max_age_s")
        if live.band >= 1:
            raise InvalidInput('is less than "1"', field=f"{path}.band")
        found[symbol] = live
    return found


def _table(value: Any, path: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise InvalidInput("must be a table", field=path)
    return value


def _list(value: Any, path: str) -> list[Any]:
    if not isinstance(value, list):
        raise InvalidInput("must be a list of tables", field=path)
    return value


def _refuse_unknown(entry: Mapping[str, Any], known: set[str], prefix: str) -> None:
    for key in entry:
        if key not in known:
            raise InvalidInput(f"unknown setting; known are {', '.join(sorted(known))}", field=f"{prefix}{key}")


def _section(kind: type[Any], entry: Any, path: str) -> Any:
    """Build the dataclass ``kind`` from a table: every key known, every value of the declared type."""
    if entry is None:
        raise InvalidInput("is missing", field=path)
    values = _table(entry, path)
    fields = {f.name: f for f in dataclasses.fields(kind)}
    _refuse_unknown(values, set(fields), f"{path}.")
    result = {}
    for name, spec in fields.items():
        if name in values:
            result[name] = _value(values[name], str(spec.type), f"{path}.{name}")
        elif spec.default is dataclasses.MISSING and spec.default_factory is dataclasses.MISSING:
            raise InvalidInput("is missing", field=f"{path}.{name}")
    return kind(**result)


def _value(value: Any, declared: str, path: str) -> Any:
    if "tuple" in declared:
        item = int if "int" in declared else str
        if not isinstance(value, list) or not all(type(v) is item for v in value):
            raise InvalidInput(f"must be a list of {item.__name__}", field=path)
        return tuple(value)
    for name, kinds in (("float", (int, float)), ("bool", (bool,)), ("int", (int,)), ("str", (str,))):
        if f"'{name}'" in declared or declared.startswith(name):
            if type(value) not in kinds:
                raise InvalidInput(f"must be of type {name}", field=path)
            return value
    return value  # a section that was parsed already
