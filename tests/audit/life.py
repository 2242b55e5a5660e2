"""An organization with a bit of a past, and its audit log as a file."""

import io
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from outlay.actions import audit as use
from outlay.cli import audit as cli
from outlay.evidence.audit_log import anchor_line
from outlay.store import audit, organizations
from tests.actions.documents import ALWAYS, ask, group
from tests.actions.world import Actor, World

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))


def live(folder: Path, *, payouts: int = 3) -> tuple[World, Actor]:
    """Found an organization in which payouts were paid, approved, denied and withdrawn; return it and its bot."""
    world = World(folder)
    bot, one = world.service_account("payouts bot"), world.person("approver.one@example.com")
    wallet = world.wallet("payouts")
    for _ in range(payouts):
        paid = world.pay(bot, wallet, 5)["id"]
        world.leave(paid)
        world.mine(paid)
        assert world.settle(paid) == "confirmed"
        world.clock.step(minutes=1)
    world.policy(ALWAYS, ask(group(one)), tags=("payouts",))
    for value in ("Approved", "Denied"):
        world.decide(one, world.pay(bot, wallet, 5)["id"], value, reason='=HYPERLINK("http://x")')
    world.withdraw(bot, world.pay(bot, wallet, 5)["id"])
    return world, bot


def entries(world: World) -> list[Any]:
    """Return every entry of a log."""
    with world.unit() as unit:
        return list(audit.after(unit, 0, limit=10**6))


def exported(world: World, *, first: int = 1) -> bytes:
    """Take the log along as the admin."""
    begun = world.call(
        world.admin,
        "POST",
        "/v1/audit/exports",
        {"first": first},
        "Audit:Read",
        lambda act: use.begin_export(act, first=first),
    )
    with world.unit() as unit:
        rows = audit.after(unit, first - 1, limit=begun["last"] - first + 1)
    file = io.StringIO()
    cli.write_lines((use.document(row) for row in rows), begun, file)
    return file.getvalue().encode()


def anchored(world: World, seq: int, *, key: Ed25519PrivateKey = KEY) -> bytes:
    """Return an anchor of an entry."""
    with world.unit() as unit:
        org, first, row = organizations.get(unit), audit.find(unit, 1), audit.find(unit, seq)
    assert first is not None and row is not None
    document = {"hash": row.hash, "org": org.id, "root": org.root, "segment": first.hash, "seq": seq}
    return anchor_line({**document, "at": world.clock.now()}, key)
