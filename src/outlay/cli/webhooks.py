"""``outlay webhooks``: where programs are told what happened, what became of it, and telling it again."""

from typing import Annotated, Any

from cyclopts import App, Parameter

from outlay.cli.output import DONE, REFUSED, WrongUsage, facts, table, when
from outlay.cli.profile import FROM_PROFILE, Caller, path_of

webhooks = App(name="webhooks")


@webhooks.command(name="list")
def list_webhooks(*, limit: int = 100, caller: Caller = FROM_PROFILE) -> None:
    """List webhooks.

    Parameters
    ----------
    limit
        how many at most.
    """
    found = list(caller.items("/webhooks", limit=limit))
    columns = ("webhook", "status", "url", "events", "failing since")
    rows = (
        (each["id"], each["status"], each["url"], ", ".join(each["events"]), when(each.get("failingSince")))
        for each in found
    )
    caller.tell({"items": found}, lambda: table(columns, rows, nothing="no webhooks"))


@webhooks.command
def show(webhook: str, /, *, caller: Caller = FROM_PROFILE) -> None:
    """Print a webhook, without its secret.

    Parameters
    ----------
    webhook
        id of the webhook.
    """
    found = caller.read(path_of("webhooks", webhook))
    pairs = [
        ("webhook", found["id"]),
        ("url", found["url"]),
        ("status", found["status"]),
        ("off because", found.get("disabledReason")),
        ("failing since", when(found.get("failingSince"))),
        ("events", ", ".join(found["events"])),
        ("about", found.get("description")),
        ("created", when(found["dateCreated"])),
    ]
    caller.tell(found, lambda: facts(pairs))


@webhooks.command
def create(
    *,
    url: Annotated[str, Parameter(name="--endpoint")],
    event: list[str] | None = None,
    about: str | None = None,
    caller: Caller = FROM_PROFILE,
) -> None:
    """Add an endpoint and print its secret, once.

    Parameters
    ----------
    url
        URL that is called.
    event
        kind of event to be told; once for each, all without it.
    about
        what people should read beside it.
    """
    body = {"url": url, "events": event or ["*"], **({} if about is None else {"description": about})}
    made = caller.write("POST", "/webhooks", body)
    caller.tell(
        made,
        lambda: (
            facts([("webhook", made["id"]), ("secret", made["secret"])])
            + "The secret is shown this once.\n"
            + f"Next: outlay webhooks test {made['id']}\n"
        ),
    )


def _switch(caller: Caller, webhook: str, status: str) -> None:
    made = caller.write("PUT", path_of("webhooks", webhook), {"status": status})
    caller.tell(made, f"{webhook} is {made['status'].lower()}\n")


@webhooks.command
def enable(webhook: str, /, *, caller: Caller = FROM_PROFILE) -> None:
    """Have an endpoint told again; what it missed: outlay webhooks replay.

    Parameters
    ----------
    webhook
        id of the webhook.
    """
    _switch(caller, webhook, "Enabled")


@webhooks.command
def disable(webhook: str, /, *, caller: Caller = FROM_PROFILE) -> None:
    """Tell an endpoint nothing more.

    Parameters
    ----------
    webhook
        id of the webhook.
    """
    _switch(caller, webhook, "Disabled")


@webhooks.command
def remove(webhook: str, /, *, caller: Caller = FROM_PROFILE) -> None:
    """Remove an endpoint for good.

    Parameters
    ----------
    webhook
        id of the webhook.
    """
    made = caller.write("DELETE", path_of("webhooks", webhook))
    caller.tell(made, f"{webhook} is removed\n")


@webhooks.command
def test(webhook: str, /, *, caller: Caller = FROM_PROFILE) -> int:
    """Send a made-up event and say how it went; exits 1 if it was not taken.

    Parameters
    ----------
    webhook
        id of the webhook.
    """
    answer = caller.write("POST", path_of("webhooks", webhook, "ping"))
    is_taken = "error" not in answer
    error = f": {answer['error']}" if answer.get("error") else ""
    caller.tell(answer, "taken\n" if is_taken else f"NOT TAKEN, status {answer.get('status') or 'none'}{error}\n")
    return DONE if is_taken else REFUSED


@webhooks.command
def deliveries(
    webhook: str,
    /,
    *,
    failed: Annotated[bool, Parameter(negative=())] = False,
    kind: str | None = None,
    limit: int = 50,
    caller: Caller = FROM_PROFILE,
) -> None:
    """List attempts to tell an endpoint something, the newest first.

    Parameters
    ----------
    webhook
        id of the webhook.
    failed
        only those that were not taken.
    kind
        only of this kind of event.
    limit
        how many at most.
    """
    found = list(
        caller.items(
            path_of("webhooks", webhook, "events"),
            limit=limit,
            kind=kind,
            deliveryFailed="true" if failed else None,
        )
    )
    columns = ("event", "kind", "raised", "attempt", "answer", "again")
    rows = (
        (each["id"], each["kind"], when(each["date"]), each["deliveryAttempt"], _answer(each), _again(each))
        for each in found
    )
    caller.tell({"items": found}, lambda: table(columns, rows, right={"attempt"}, nothing="nothing was sent"))


def _answer(attempt: dict[str, Any]) -> str:
    told = attempt["status"] or attempt.get("error") or "none yet"
    return f"{told} FAILED" if attempt["deliveryFailed"] else str(told)


def _again(attempt: dict[str, Any]) -> str | None:
    if not attempt["deliveryFailed"]:
        return None
    return when(attempt["nextAttemptDate"]) if "nextAttemptDate" in attempt else "never: replay it"


@webhooks.command
def replay(
    webhook: str,
    /,
    *,
    event: str | None = None,
    payout: str | None = None,
    since: str | None = None,
    until: str | None = None,
    failed: Annotated[bool, Parameter(negative=())] = False,
    caller: Caller = FROM_PROFILE,
) -> None:
    """Send an endpoint again what it was told, or missed.

    Parameters
    ----------
    webhook
        id of the webhook.
    event
        id of one event, its webhook-id.
    payout
        everything about a payout.
    since
        everything since then, as 2026-01-31T00:00:00Z.
    until
        with --since: only before.
    failed
        everything that was given up.
    """
    if sum((event is not None, payout is not None, since is not None, failed)) != 1:
        raise WrongUsage("give one of --event, --payout, --since and --failed", field="event")
    given = {"eventId": event, "payoutId": payout, "since": since, "until": until, "failed": failed or None}
    body: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    count, page = 0, None
    while True:
        made = caller.write(
            "POST",
            path_of("v1", "webhooks", webhook, "replay"),
            {**body, **({"paginationToken": page} if page else {})},
        )
        count += int(made["count"])
        page = made.get("nextPageToken")
        if page is None:
            break
    caller.tell({"count": count}, f"{count} events are sent again\n")


@webhooks.command
def rotate(webhook: str, /, *, overlap_minutes: int | None = None, caller: Caller = FROM_PROFILE) -> None:
    """Give an endpoint a new secret and print it, once; the old one signs beside it until the overlap ends.

    Parameters
    ----------
    webhook
        id of the webhook.
    overlap_minutes
        how long both sign.
    """
    body = {} if overlap_minutes is None else {"overlapMinutes": overlap_minutes}
    made = caller.write("POST", path_of("v1", "webhooks", webhook, "secret"), body)
    pairs = [("webhook", made["id"]), ("secret", made["secret"]), ("old one until", when(made.get("oldSecretUntil")))]
    caller.tell(made, lambda: facts(pairs) + "The secret is shown this once.\n")
