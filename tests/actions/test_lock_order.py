"""Design section 6, lock order: every money unit takes the organization first, then counters, accounts, transfers.

Two units that take locks in different orders wait for each other for ever. On SQLite nobody would notice: there is
one writer. So the statements are recorded and compared.
"""

import ast
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

import outlay
from tests.actions.documents import ALWAYS, BLOCK, ask, at_most, cap, group
from tests.actions.world import Actor, World

ORDER = ("organization", "velocity_counter", "account", "transfer")
SOURCE = Path(outlay.__file__).parent
_TABLE = re.compile(r"^(?:SELECT .*?\sFROM|INSERT INTO|UPDATE|DELETE FROM) \"?(\w+)", re.DOTALL)


@contextmanager
def recorded(world: World) -> Iterator[list[tuple[str, str]]]:
    """Collect (verb, first table) of every statement, with a mark where a transaction begins."""
    found: list[tuple[str, str]] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        if statement.startswith("BEGIN"):
            found.append(("BEGIN", ""))
        match = _TABLE.match(statement)
        if match is not None:
            found.append((statement.split(" ", 1)[0], match[1]))

    sa.event.listen(world.db.engine, "before_cursor_execute", note)
    try:
        yield found
    finally:
        sa.event.remove(world.db.engine, "before_cursor_execute", note)


def units_of(found: list[tuple[str, str]]) -> list[list[tuple[str, str]]]:
    units: list[list[tuple[str, str]]] = []
    for verb, table in found:
        if verb == "BEGIN":
            units.append([])
        elif units:
            units[-1].append((verb, table))
    return [unit for unit in units if any(verb != "SELECT" for verb, _ in unit)]


def locks(unit: list[tuple[str, str]]) -> list[str]:
    """Return the tables of ``ORDER`` in the order in which the unit first locks one of their rows.

    Reading locks the organization and counters (``FOR UPDATE`` where there is more than one writer); an account or
    a transfer is locked by the first change of it. A transfer that is inserted is nobody else's to lock.
    """
    taken: list[str] = []
    for verb, table in unit:
        reads = verb == "SELECT" and table not in ("organization", "velocity_counter")
        if table in ORDER and table not in taken and not reads and (verb, table) != ("INSERT", "transfer"):
            taken.append(table)
    return taken


def admitted(world: World, bot: Actor, one: Actor, what: str) -> str:
    """Return a payout as far on its way as ``what`` needs it, under policies with counters."""
    wallet = world.wallet()
    world.policy(cap(1000), BLOCK)
    world.policy(at_most(100, scope="recipient"), BLOCK)
    if what in ("decide", "deny", "expire held", "withdraw held"):
        world.policy(ALWAYS, ask(group(one), timeout=60))
    paid: str = world.pay(bot, wallet, 10)["id"]
    if what == "block again":
        world.policy(ALWAYS, BLOCK)
    if what == "hold again":
        world.policy(ALWAYS, ask(group(one)))
    if what in ("sign", "send", "mine", "confirm", "revert"):
        world.bind(paid)
    if what in ("send", "mine", "confirm", "revert"):
        world.store_signed(paid)
    if what in ("confirm", "revert"):
        world.mine(paid)
    if what.startswith("expire"):
        world.clock.step(minutes=1440)
        world.lease(world.row(paid).wallet_id)
    return paid


UNITS: dict[str, Callable[[World, Actor, Actor, str], Any]] = {
    "admit": lambda world, bot, one, paid: world.pay(bot, world.row(paid).wallet_id, 20),
    "decide": lambda world, bot, one, paid: world.decide(one, paid),
    "deny": lambda world, bot, one, paid: world.decide(one, paid, "Denied"),
    "withdraw": lambda world, bot, one, paid: world.withdraw(bot, paid),
    "withdraw held": lambda world, bot, one, paid: world.withdraw(bot, paid),
    "bind": lambda world, bot, one, paid: world.bind(paid),
    "block again": lambda world, bot, one, paid: world.bind(paid),
    "hold again": lambda world, bot, one, paid: world.bind(paid),
    "sign": lambda world, bot, one, paid: world.store_signed(paid),
    "send": lambda world, bot, one, paid: world.mine(paid),
    "confirm": lambda world, bot, one, paid: world.settle(paid),
    "revert": lambda world, bot, one, paid: world.settle(paid, "nothing"),
    "expire held": lambda world, bot, one, paid: world.expire(),
    "expire ready": lambda world, bot, one, paid: world.expire(),
}


@pytest.mark.parametrize("what", UNITS)
def test_every_money_unit_locks_in_one_order(world: World, bot: Actor, one: Actor, what: str) -> None:
    paid = admitted(world, bot, one, what)
    world.lease(world.row(paid).wallet_id)
    with recorded(world) as found:
        UNITS[what](world, bot, one, paid)
    money = [unit for unit in units_of(found) if any(table in ORDER[1:] for verb, table in unit if verb != "SELECT")]
    assert money, "nothing was written"
    for unit in money:
        assert unit[0] == ("SELECT", "organization"), unit[:3]
        taken = locks(unit)
        assert taken == sorted(taken, key=ORDER.index)


def test_no_engine_step_opens_a_unit_of_its_own_making() -> None:
    """A ``Work`` is made by ``open_work``, which takes the first lock, or from a signed call, which took it.

    Recovery makes its own: it begins where there may be no organization to lock yet, and nothing else runs beside it.
    """
    makers = [
        path.relative_to(SOURCE).as_posix()
        for path in SOURCE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Work"
    ]
    assert sorted(makers) == ["actions/act.py", "actions/work.py", "engine/recover.py"]
