"""Files of payouts inside an organization without HTTP: submitted, uploaded, and admitted by the engine's own step."""

import asyncio
from collections.abc import Sequence
from typing import Any

from outlay.actions import submissions as actions
from outlay.actions.act import authenticate
from outlay.actions.decide_whole import decide_whole
from outlay.engine.admit_batches import AdmitBatches
from outlay.evidence.canonical import canonical
from outlay.evidence.merkle import digest_of, leaf
from outlay.evidence.submission import SUBMISSION_PATH, read_submission
from outlay.store import submissions
from tests.actions.messages import CREATE, message
from tests.actions.world import ALICE, DOLLAR, NETWORK, Actor, World

VOTE = "Policies:Evaluations:Vote"
Document = dict[str, Any]


def cells(dollars: int = 5, *, name: str = "row-0", **changes: Any) -> Document:
    """Return one row of a file."""
    given = {
        "externalId": name,
        "network": NETWORK,
        "asset": "USDC",
        "recipient": ALICE,
        "amount": str(dollars * DOLLAR),
        **changes,
    }
    return {key: value for key, value in given.items() if value is not None}


def rows_of(*dollars: int, name: str = "row") -> list[Document]:
    """Return a file of payouts of so many dollars."""
    return [cells(each, name=f"{name}-{at}") for at, each in enumerate(dollars)]


def digest_of_rows(rows: Sequence[Any]) -> str:
    return digest_of([leaf(canonical(each)) for each in rows])


def paper(rows: Sequence[Any], wallet: str, **changes: Any) -> Document:
    """Return what is signed about a file."""
    given = {
        "name": "salaries",
        "walletId": wallet,
        "digest": digest_of_rows(rows),
        "count": len(rows),
        **changes,
    }
    return {key: value for key, value in given.items() if value is not None}


def submit(world: World, by: Actor, payload: Document, *, as_message: bool = False, **changes: Any) -> Document:
    """Sign a file by the handshake, or as one HTTP message."""
    submission = read_submission(payload, "body")

    def action(act: Any) -> Document:
        return actions.submit(act, submission)

    if as_message:
        call = message(world, by, SUBMISSION_PATH, payload, **changes)
        answer: Document = world.send(by, call, "POST", SUBMISSION_PATH, payload, CREATE, action)
    else:
        answer = world.call(by, "POST", SUBMISSION_PATH, payload, CREATE, action)
    return answer


def upload(world: World, by: Actor, batch_id: str, rows: Sequence[Any], *, first: int = 0) -> Document:
    """Upload rows as the route does."""
    with world.unit() as unit:
        submission = actions.submission_of(submissions.get(unit, batch_id))
        return actions.upload(
            unit,
            now=world.clock.now(),
            config=world.config,
            caller=authenticate(unit, by.claims, now=world.clock.now()),
            batch_id=batch_id,
            first=first,
            rows=[actions.read_row(each, submission) for each in rows],
        )


def step_of(world: World) -> AdmitBatches:
    return AdmitBatches(world.db, world.clock, world.entropy, world.config, lambda asset, _now: world.quote(asset))


def settle(world: World, *, step: AdmitBatches | None = None) -> None:
    """Run the engine's step until there is nothing left to do."""
    step = step or step_of(world)

    async def run() -> None:
        for _ in range(10_000):
            if not await step.step():
                return
        raise AssertionError("the step never ends")

    asyncio.run(run())


def file_in(
    world: World, by: Actor, wallet: str, rows: Sequence[Any], *, as_message: bool = False, **changes: Any
) -> str:
    """Submit a file whole and have it admitted; return its id."""
    made = submit(world, by, paper(rows, wallet, **changes), as_message=as_message)
    upload(world, by, made["id"], rows)
    settle(world)
    return str(made["id"])


def batch(world: World, batch_id: str) -> Any:
    """Return a file as it is stored."""
    with world.unit() as unit:
        return submissions.get(unit, batch_id)


def outcomes(world: World, batch_id: str) -> list[Any]:
    with world.unit() as unit:
        return submissions.outcomes(unit, batch_id, first=0, limit=100_000)


def payouts(world: World, batch_id: str) -> list[str]:
    """Return the payouts of a file's rows, in their order."""
    return [each.payout_id for each in outcomes(world, batch_id)]


def states(world: World, batch_id: str) -> list[str]:
    """Return the state of each row's payout, or the code it was refused with."""
    return [each.error["code"] if each.error else each.state for each in outcomes(world, batch_id)]


def decide(world: World, by: Actor, batch_id: str, value: str = "Approved", **more: Any) -> Document:
    """Decide about a whole file; it is not carried out yet."""
    payload = {"value": value, **more}
    answer: Document = world.call(
        by,
        "POST",
        f"{SUBMISSION_PATH}/{batch_id}/decisions",
        payload,
        VOTE,
        lambda act: decide_whole(act, batch_id, value=value, reason=more.get("reason")),
    )
    return answer
