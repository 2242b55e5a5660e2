"""Caps over processes: four APIs on PostgreSQL admit at once, and exactly what fits goes, of each counter.

Amounts are equal, so "exactly" means: none over, and no capacity lost. What the server logged shows besides that each
transaction that writes begins with the lock of the one writer.
"""

import random
import re
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import wait
from dataclasses import dataclass
from typing import Any

import pytest

from tests.actions.documents import BLOCK, at_most, cap, policy_document
from tests.fleet.fleet import Fleet
from tests.fleet.load import Asked, Load, recipient
from tests.world import NETWORK, USDC, Identity

SCOPES = ("wallet", "policy", "organization", "recipient", "initiator")
KINDS = ("amount", "count")
ROOM = 5
"""Payouts that fit into each counter."""

AMOUNT = 3 * USDC
CONCURRENT, MANY = 30, 1_000
"""Payouts asked for at once for each cap: in the ordinary run, and in the long one."""

LOG = ("log_statement=all", "log_line_prefix=%p:", "log_parameter_max_length=0")
WRITER = "pg_advisory_xact_lock"
WRITES = ("INSERT", "UPDATE", "DELETE")


@dataclass
class Office:
    """Four APIs and those who ask them."""

    fleet: Fleet
    payers: list[Identity]

    def wallets(self, tag: str) -> list[Any]:
        """Make two wallets of a tag."""
        return [
            self.fleet.world.admin.sdk.wallets.create_wallet({"network": NETWORK, "name": f"{tag} {n}", "tags": [tag]})
            for n in range(2)
        ]

    def admitted(self) -> int:
        """Return how many payouts were let go so far."""
        count: int = self.fleet.rows("SELECT count(*) AS n FROM velocity_entry")[0]["n"]
        return count


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Office]:
    """No chain and no worker: nothing of this is sent."""
    folder = tmp_path_factory.mktemp("caps")
    with Fleet.open(folder, apis=4, workers=0, chain=False, settings=LOG) as fleet:
        yield Office(fleet, [fleet.world.service_account(f"bot {n}") for n in range(2)])


def capped(office: Office, scope: str, kind: str, count: int) -> list[Asked]:
    """Make a cap and return ``count`` payouts that count against it."""
    chance = random.Random(f"{scope} {kind}")
    tag = f"{scope}-{kind}-{count}"
    wallets = office.wallets(tag)
    before = office.admitted() if scope == "organization" else 0  # it counts everybody's, whatever else is capped
    room = before + ROOM
    dollars = room * (AMOUNT // USDC) + 1  # a dollar stays: no payout fits into it
    rule = cap(dollars, scope=scope) if kind == "amount" else at_most(room, scope=scope)
    office.fleet.world.admin.sdk.policies.create_policy(policy_document(rule, BLOCK, tags=[tag]))
    people = [recipient(chance) for _ in range(2)]
    return [
        Asked(
            external_id=f"{tag}-{n}",
            by=chance.choice(office.payers),
            wallet=chance.choice(wallets),
            to=chance.choice(people),
            amount=AMOUNT,
            contract=office.fleet.world.token,
        )
        for n in range(count)
    ]


def fill(office: Office, caps: list[tuple[str, str]], count: int, *, threads: int) -> None:
    """Ask for ``count`` payouts under each of these caps, all at once, and compare what went with what fits."""
    chance = random.Random("fill")
    wanted = {(scope, kind): capped(office, scope, kind, count) for scope, kind in caps}
    everything = [each for some in wanted.values() for each in some]
    load = Load(office.fleet, chance, threads=threads)
    wait(load.ask(chance.sample(everything, len(everything))))
    load.close()
    for (scope, _), some in wanted.items():
        check(some, scope)
    rows = {row["external_id"]: row["state"] for row in office.fleet.rows("SELECT external_id, state FROM transfer")}
    for each in everything:
        assert rows[each.external_id] == ("ready" if each.is_accepted else "rejected"), "rows and answers say the same"


def check(wanted: list[Asked], scope: str) -> None:
    """Every counter is exactly full."""
    assert all(each.id is not None for each in wanted), [each.said for each in wanted if each.id is None]

    def counter(each: Asked) -> str:
        keys = {"wallet": each.wallet["id"], "recipient": each.to, "initiator": each.by.user_id}
        return str(keys.get(scope, scope))

    asked = Counter(counter(each) for each in wanted)
    went = Counter(counter(each) for each in wanted if each.is_accepted)
    assert min(asked.values()) > ROOM, "every counter was asked for more than fits"
    assert went == dict.fromkeys(asked, ROOM), f"{went} went into room for {ROOM} each"


CAPS = [(scope, kind) for scope in SCOPES if scope != "organization" for kind in KINDS]


@pytest.mark.ci
def test_four_processes_fill_every_cap_exactly(office: Office) -> None:
    fill(office, CAPS, CONCURRENT, threads=32)


@pytest.mark.ci
@pytest.mark.parametrize("kind", KINDS)
def test_four_processes_fill_a_cap_of_the_organization_exactly(office: Office, kind: str) -> None:
    """By itself: it counts the payouts of all the others too."""
    fill(office, [("organization", kind)], CONCURRENT, threads=32)


@pytest.mark.long
@pytest.mark.parametrize(("scope", "kind"), [*CAPS, *(("organization", kind) for kind in KINDS)])
def test_four_processes_fill_a_cap_exactly_under_a_thousand_requests(office: Office, scope: str, kind: str) -> None:
    fill(office, [(scope, kind)], MANY, threads=250)


@pytest.mark.ci
def test_every_transaction_that_writes_takes_the_writers_lock_first(office: Office) -> None:
    """As the server saw it, of every process: so there is one order of locks, and no unit sees another at work."""
    assert office.fleet.server is not None
    sessions: dict[str, list[str]] = {}
    found = []
    for line in office.fleet.server.log.read_text().splitlines():
        match = re.match(r"(\d+):LOG: +(?:statement|execute [^:]*): (.*)", line)
        if match is None:
            continue
        session, statement = match[1], match[2]
        if statement.startswith("BEGIN"):
            sessions[session] = []
        sessions.setdefault(session, []).append(statement)
        if statement.startswith(("COMMIT", "ROLLBACK;")) or statement == "ROLLBACK":
            found.append(sessions.pop(session))
    writing = [unit for unit in found if any(each.startswith(WRITES) for each in unit)]
    mine = [unit for unit in writing if any("group_mark" in each for each in unit)]
    assert len(mine) > 100, f"{len(mine)} transactions of writers among {len(found)}"
    assert all(WRITER in unit[0] for unit in mine), [unit[:2] for unit in mine if WRITER not in unit[0]][:3]
    strangers = [unit for unit in writing if unit not in mine and WRITER not in " ".join(unit[:2])]
    assert not strangers, strangers[:3]
