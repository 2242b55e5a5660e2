"""``outlay doctor``: look at a deployment and say what is wrong or unwise. It changes nothing."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import sqlalchemy as sa

from outlay import locks
from outlay.actions.judge import people
from outlay.actions.organization import money_digest
from outlay.chains import CallReverted, Finality
from outlay.chains.evm import EvmChain
from outlay.chains.rpc import HttpTransport, JsonRpc
from outlay.cli.output import DONE, PRINTED, REFUSED, Output, paint
from outlay.codec.evm import DECIMALS_SELECTOR
from outlay.config import Config, load
from outlay.core.errors import OutlayError
from outlay.core.message import one_line
from outlay.core.policy import POLICIES_MODIFY, Policy, RequestApproval, matches
from outlay.evidence.history import verify_history
from outlay.evidence.record import CLOCKS_APART
from outlay.layout import Layout
from outlay.settings import Network, Notify, Token
from outlay.signer import Freeze, Scope, SignerStatus
from outlay.signer.client import SignerClient
from outlay.signing import open_keys
from outlay.store import deliveries, ledger, notify, organizations, postgresql, wallets, webhooks
from outlay.store.database import Unit
from outlay.store.policies import active_policies
from outlay.system import SystemClock

GOOD, UNWISE, WRONG = "ok", "warn", "wrong"
DEVELOPMENT_CHAINS = frozenset({1337, 31337})
Finding = tuple[str, str]

_MARKS = {GOOD: ("✓", "green"), UNWISE: ("!", "yellow"), WRONG: ("✗", "red")}


def examine(directory: Path, output: Output = PRINTED) -> int:
    """Print every finding; return 1 if one of them is wrong, else 0."""
    with output.waiting("looking at files, signer, database and networks …"):
        findings = list(_examine(Layout(directory)))
    wrong = sum(level == WRONG for level, _ in findings)
    unwise = sum(level == UNWISE for level, _ in findings)
    lines = [f"{paint(*_MARKS[level])} {one_line(text)}\n" for level, text in findings]
    output.tell(
        {
            "findings": [{"level": level, "text": text} for level, text in findings],
            "wrong": wrong,
            "unwise": unwise,
        },
        "".join(lines) + f"\n{wrong} wrong, {unwise} to think about\n",
    )
    return REFUSED if wrong else DONE


def _examine(layout: Layout) -> Iterator[Finding]:
    try:
        config = load(layout.config)
    except OutlayError as error:
        yield WRONG, f"configuration: {error.field}: {error.message}"
        return
    yield GOOD, f"the configuration {layout.config} is readable"
    yield from _files(layout, config)
    yield from _signer(layout, config)
    yield from _settings(config)
    yield from _ways_to_people(layout, config.notify)
    yield from _database(layout, config)
    for network in config.networks.values():
        yield from asyncio.run(_network(network, [each for each in config.assets if each.network == network.name]))


def _database(layout: Layout, config: Config) -> Iterator[Finding]:
    try:
        where = layout.database_of(config)
        is_there = postgresql.has_tables(where) if isinstance(where, str) else where.exists()
    except OutlayError as error:
        yield WRONG, f"database: {error.message}"
        return
    if not is_there:
        yield WRONG, f"there is no database in {layout.data}: run outlay init --dir {layout.root}"
        return
    if isinstance(where, str):
        engine = postgresql.make_engine(postgresql.parse_url(where), writer=False)
    else:
        engine = sa.create_engine(f"sqlite:///file:{where}?mode=ro&uri=true")
    with engine.begin() as unit:
        yield from _promises(unit)
        for look in (_organization, _policies, _wallets, _webhooks, _messages):
            yield from _safely(look, unit, config)
    engine.dispose()


def _promises(unit: Unit) -> Iterator[Finding]:
    """Say which database it is, and what it does not promise."""
    if unit.dialect.name == "sqlite":
        version = unit.exec_driver_sql("SELECT sqlite_version()").scalar_one()
        yield GOOD, f"the database is SQLite {version}"
        return
    found = postgresql.describe(unit)
    what = f"synchronous_commit {found.synchronous_commit}, fsync {found.fsync}"
    yield GOOD, f"the database is PostgreSQL {found.version}: {what}"
    if found.synchronous_commit == "off":
        yield WRONG, "synchronous_commit is off: a payout that was signed could be forgotten"
    if found.fsync == "off":
        yield WRONG, "fsync is off: a power cut can destroy the database"
    if found.sorts_otherwise:
        yield WRONG, "the database sorts text by the rules of a language: it has to be made with LOCALE 'C'"


def _safely(look: Callable[[Unit, Config], Iterator[Finding]], unit: Unit, config: Config) -> Iterator[Finding]:
    try:
        yield from look(unit, config)
    except (OutlayError, sa.exc.SQLAlchemyError) as error:
        yield WRONG, f"{look.__name__.strip('_')}: {error}"


def _files(layout: Layout, config: Config) -> Iterator[Finding]:
    passphrase = layout.passphrase_file(config)
    if passphrase.resolve().is_relative_to(layout.data.resolve()):
        yield WRONG, "the signer's passphrase lies in the data directory: a copy of the data would open the keys"
    for path in (layout.keystore, layout.sealing_keys, layout.webhook_key, layout.admin_key):
        if path.exists() and path.stat().st_mode & 0o077:
            yield WRONG, f"{path} can be read by others: chmod 600 it"
    if layout.admin_key.exists():
        yield UNWISE, f"the first admin's private key lies on this machine: move {layout.admin_key} away"
    if _is_apart(layout, config):
        yield GOOD, "the signer has a directory of its own: its keys and limits are looked at there"
        return
    try:
        open_keys(layout, config)
        yield GOOD, f"the signer's keys open ({config.signer.backend})"
    except OutlayError as error:
        yield WRONG, f"the signer's keys do not open: {error.message}"
    if not config.signer.caps:
        yield UNWISE, "no [[signer.caps]]: what approvers agree on is not bounded by the signer itself"


def _signer(layout: Layout, config: Config) -> Iterator[Finding]:
    """Look at the signer that runs, if one does; the files were looked at already."""
    if locks.is_free(layout.journal_lock) and not _is_apart(layout, config):
        if not layout.journal.exists():
            yield (
                WRONG,
                f"the signer's journal {layout.journal} is missing: restore it",
            )
        yield UNWISE, "no signer is running: nothing is signed now"
        return
    try:
        status = asyncio.run(_ask(layout.socket(config)))
    except OutlayError as error:
        yield WRONG, f"a signer is running and cannot be asked: {error.message}"
        return
    yield GOOD, f"the signer is running: {status.keys} keys, journal {status.journal_id}, entry {status.sequence}"
    if not status.seeded:
        yield WRONG, "the signer's journal is a new one: admins have to sign where it begins"
    for stop in status.freezes:
        yield WRONG, _frozen(stop)


def _is_apart(layout: Layout, config: Config) -> bool:
    """Tell whether the signer runs on a directory of its own, and only its socket is known here."""
    return bool(config.signer.socket) and not layout.journal.exists() and not layout.keystore.exists()


def _frozen(stop: Freeze) -> str:
    what = "everything" if stop.scope is Scope.ALL else f"{stop.scope} {stop.subject}"
    return f"{what} is frozen ({stop.id}): {stop.reason}"


async def _ask(path: Path) -> SignerStatus:
    client = SignerClient(path)
    try:
        return await client.status()
    finally:
        await client.close()


def _settings(config: Config) -> Iterator[Finding]:
    if not config.networks:
        yield UNWISE, "no network is configured: nothing can be paid"
    if config.policies.default == "allow":
        yield UNWISE, 'policies.default is "allow": a payout that no policy covers goes through'
    unchecked = sorted(config.prices.keys() - config.live_prices.keys())
    if unchecked and any(n.chain_id not in DEVELOPMENT_CHAINS for n in config.networks.values()):
        named = ", ".join(unchecked)
        yield WRONG, f"nothing checks the fixed price of {named}: limits in dollars follow it; write [prices.live]"
    if not config.api.require_external_id:
        yield UNWISE, "api.require_external_id is off: a retry without an id pays twice"
    if config.webhooks.allow_private_addresses:
        yield UNWISE, "webhooks may be delivered to private addresses"


def _organization(unit: Unit, config: Config) -> Iterator[Finding]:
    org = organizations.get(unit)
    yield GOOD, f"organization {org.id}, root {org.root}"
    history = verify_history(organizations.read_records(unit), org.root)
    if history.head == org.head:
        yield GOOD, f"{org.head_seq + 1} records are in order and signed"
    else:
        yield WRONG, "organization: the records do not end where the newest one should be: some were dropped"
    if org.money_settings == money_digest(config):
        yield GOOD, "the money settings are the signed ones"
    else:
        yield WRONG, "the money settings are not the signed ones, nothing is admitted: run outlay settings apply"
    if organizations.latest_record_at(unit) > SystemClock().now() + CLOCKS_APART:
        yield WRONG, "a record is of an instant to come: a clock was wrong, or somebody cut a wait short"
    ledger.check(unit)
    yield GOOD, "the ledger balances"


def _policies(unit: Unit, config: Config) -> Iterator[Finding]:
    everyone = people(unit)
    for policy in active_policies(unit):
        if not isinstance(policy.action, RequestApproval):
            continue
        for group in policy.action.groups:
            named = everyone if group.approvers is None else {u: everyone[u] for u in group.approvers if u in everyone}
            voters = [
                u
                for u, person in named.items()
                if person.is_active
                and person.may_vote
                and (not person.is_service_account or (group.service_accounts_can_approve and group.approvers))
            ]
            if len(voters) < group.quorum:
                who = f"group {group.name!r} of policy {policy.name!r}"
                yield (
                    UNWISE,
                    f"{who} needs {group.quorum} and {len(voters)} can vote: what it holds waits; fill it by PUT",
                )
    yield from _uncovered(unit, active_policies(unit))
    if not any(policy.activity_kind == POLICIES_MODIFY for policy in active_policies(unit)):
        yield UNWISE, "no policy of kind Policies:Modify is active: one admin alone can change every policy"


def _uncovered(unit: Unit, policies: list[Policy]) -> Iterator[Finding]:
    for wallet_id, tags in wallets.all_tags(unit).items():
        if not any(matches(policy, wallet_id, tags) for policy in policies):
            yield UNWISE, f"no policy covers wallet {wallet_id}: the default decides about its payouts"


def _wallets(unit: Unit, config: Config) -> Iterator[Finding]:
    found = wallets.everything(unit)
    for row in found:
        if row.frozen_reason is not None:
            yield WRONG, f"wallet {row.id} is frozen: {row.frozen_reason}"
        if config.network(row.network) is None:
            yield WRONG, f"wallet {row.id} is on {row.network}, which is not configured"
    yield GOOD, f"{len(found)} wallets"


def _webhooks(unit: Unit, config: Config) -> Iterator[Finding]:
    parked = deliveries.parked(unit)
    if parked:
        yield UNWISE, f"{len(parked)} events were given up on: their endpoints did not take them"
    for each in webhooks.switched_off(unit):
        yield WRONG, f"webhook {each.id} was switched off: {each.disabled_reason}"


def _messages(unit: Unit, config: Config) -> Iterator[Finding]:
    waiting, given_up, error = notify.troubles(unit)
    if waiting:
        yield UNWISE, f"{waiting} messages to people were not taken and are tried again: {error}"
    if given_up:
        yield UNWISE, f"{given_up} messages to people were given up in the last thirty days: {error}"


def _ways_to_people(layout: Layout, settings: Notify) -> Iterator[Finding]:
    for named in (settings.smtp_password_file, settings.chat_url_file):
        if named:
            try:
                layout.read_secret(named)
            except OSError as error:
                yield WRONG, f"notify: {error}"
    if settings.smtp_host and not settings.mail_to:
        yield UNWISE, "notify.mail_to is empty: no mail tells what has to be looked at now"
    if settings.smtp_host and settings.smtp_security == "none":
        yield UNWISE, 'notify.smtp_security is "none": who pays whom is readable on the way to the mail server'


async def _network(network: Network, tokens: Sequence[Token]) -> list[Finding]:
    transport = HttpTransport(timeout_s=5)
    try:
        chain = EvmChain(
            JsonRpc(network.rpc_urls, transport, chain_id=network.chain_id, agreement=network.needs_agreement),
            Finality(blocks=network.finality.blocks, tag=network.finality.tag),
        )
        head = await chain.head()
        await chain.final()  # which as many endpoints have to tell as the network's settings ask for
        answers = (GOOD, f"{network.name}: chain {network.chain_id} answers, block {head.number}")
        return [answers, *[await _token(chain, each) for each in tokens]]
    except OutlayError as error:
        return [(WRONG, f"{network.name}: {error.message}")]
    finally:
        await transport.close()


async def _token(chain: EvmChain, token: Token) -> Finding:
    """Compare the decimals that were signed with those the contract tells: a wrong number pays a wrong amount."""
    name = f"{token.symbol} on {token.network}"
    try:
        answer = await chain.call(token.contract, DECIMALS_SELECTOR)
    except CallReverted:
        answer = b""
    if len(answer) != 32:
        return UNWISE, f"{name}: {token.contract} does not tell its decimals: make sure that {token.decimals} is right"
    told = int.from_bytes(answer, "big")
    if told != token.decimals:
        return WRONG, f"{name}: the contract counts {told} decimals, the configuration says {token.decimals}"
    return GOOD, f"{name}: the contract counts {told} decimals too"
