"""The page about events: what each kind tells, what its data holds, and a real one of it."""

from collections.abc import Iterator, Mapping
from typing import Any

from docs.event_examples import as_json
from outlay.core import event
from outlay.web.v1.event_data import DATA

PAGE = """\
# Events

Subscribe with `POST /webhooks {{url, events}}`; `*` means every kind, also those of later versions. How to check a
signature: [verify webhooks](../how-to/verify-webhooks.md). Schemas are also in `/openapi.json`, under `webhooks`.

| kind | what happened |
| --- | --- |
{rows}
## The body

Compact ASCII JSON. The signature covers exactly these bytes.

| member | meaning |
| --- | --- |
| `id` | this attempt, `whe-…`: new each time |
| `kind` | one of the above |
| `date` | when it happened, ISO 8601 in UTC with milliseconds |
| `data` | the object as it was then: the same in every attempt |
| `timestampSent` | when this attempt was sent, Unix seconds |
| `deliveryAttempt` | 1 for the first |
| `retryOf` | the attempt before this one; absent in the first |
| `subject` | id of what it is about: a payout, a wallet, an approval |
| `sequence` | its number among the events of its subject, 1 for the first |

`subject` and `sequence` are ours, beside the contract's members. Deliveries may come in any order, and again: keep the
highest `sequence` you have seen of a `subject`, and drop whatever is not higher. Then what you know of a payout never
goes back. Numbers of a subject have no gaps; a missing one is still on its way.

## The headers

| header | meaning |
| --- | --- |
| `X-DFNS-WEBHOOK-SIGNATURE` | `sha256=` and the HMAC-SHA256 of the body, in hex; the key is the secret's whole text |
| `webhook-id` | the event, `evt-…`: **the same in every attempt**; drop what you have seen |
| `webhook-timestamp` | when this attempt was sent, Unix seconds |
| `webhook-signature` | Standard Webhooks: `v1` (HMAC) and `v1a` (Ed25519) over id, timestamp and body |

## Delivery

An event is stored in the unit that makes its change: it exists exactly if the change does. Only the answer 200 counts
as taken. Anything else is tried again {offsets} seconds after the first attempt (setting
`webhooks.retry_schedule_s`), then parked: kept, counted by `outlay doctor`, never dropped. The order of arrival is not
promised: go by `sequence`. Each endpoint has a queue of its own, so a dead one delays no other. An attempt may take
10 seconds. Redirects are not followed. `POST /webhooks/{{id}}/ping` sends a made-up `{ping}`, which has no `subject`.

## What the contract has and is never raised here

| kinds | why not |
| --- | --- |
{never}
`wallet.transaction.*` is raised for cancellations and speed-ups that somebody asked for, the only transactions there
are beside transfers.

## What events and `reason` tell

An event shows its object as it is, to every endpoint that takes its kind and to whoever may read events: also
`policy.triggered` with the reason, the limit it names, and what was summed up. The `reason` of a payout or transfer is
what its initiator is told, as the contract has it: it names the limit of the policy that stopped this very payout, or
the person who denied it, to whoever may read the payout. `GET /v1/payouts/{{id}}/explanation` shows that `reason` too.
From callers without `Policies:Read` and `Policies:Evaluations:Read` it hides the rest: names and limits of all other
policies, sums, tags, groups, and what people said.

## Each kind

`data` may hold more than is named here; a member in parentheses may be missing. Each example was raised by the code of
this version.
{kinds}"""

NEVER: Mapping[str, str] = {
    "`key.*`": "a key belongs to its wallet and is made with it; there is no call for keys",
    "`wallet.activated`, `wallet.delegated`, `wallet.exported`": (
        "wallets are the organization's own, and keys do not leave"
    ),
    "`wallet.signature.*`": "there is no call that signs anything but a payout",
    "`wallet.offer.*`": "only of chains where a recipient has to accept",
    "`wallet.blockchain_event.*`, `address_watch.*`": (
        "the chain is read at final heights, for the organization's wallets only: `wallet.blockchainevent.detected`"
    ),
    "`policy.activity.resolved`": (
        "the contract lists it and takes no subscription to it; `policy.approval.resolved` and the transfer's own"
        " events say the same"
    ),
    "`vault.*`, `swap.*`, `payout.action.required`": "vaults, swaps and banks are not offered",
    "`webhook.event.retry.triggered`": "`deliveryAttempt` and `retryOf` say it in the event itself",
}
"""Events of the contract that nothing here can cause."""


def page() -> str:
    """Return docs/reference/events.md, without its first line."""
    rows = "".join(f"| [`{kind}`](#{_anchor(kind)}) | {text} |\n" for kind, text in event.EVENT_KINDS.items())
    offsets = ", ".join(str(seconds) for seconds in event.RETRY_SCHEDULE_S)
    kinds = "".join(_kind(kind, text) for kind, text in event.EVENT_KINDS.items())
    never = "".join(f"| {names} | {why} |\n" for names, why in NEVER.items())
    return PAGE.format(rows=rows, never=never, offsets=offsets, ping=event.PING_KIND, kinds=kinds)


def _anchor(kind: str) -> str:
    return kind.replace(".", "")


def _kind(kind: str, text: str) -> str:
    members = "".join(f"| {name} | {what} |\n" for name, what in _members(DATA[kind], ""))
    table = f"| `data` | |\n| --- | --- |\n{members}"
    example = f"<details>\n<summary>Example</summary>\n\n```json\n{as_json(kind)}\n```\n\n</details>\n"
    return f"\n### {kind}\n\n{text}\n\n{table}\n{example}"


def _members(schema: Mapping[str, Any], above: str) -> Iterator[tuple[str, str]]:
    """Yield each member of an object that is not described elsewhere, and what it is."""
    required = schema.get("required", ())
    for name, each in schema["properties"].items():
        path = f"{above}{name}"
        shown = f"`{path}`" if name in required else f"(`{path}`)"
        if "properties" in each:
            yield from _members(each, f"{path}.")
        else:
            yield shown, _what(each)


def _what(schema: Mapping[str, Any]) -> str:
    said = str(schema.get("description", ""))
    if "$ref" in schema:
        kind = f"a `{str(schema['$ref']).rsplit('/', 1)[-1]}`"
    elif "enum" in schema:
        kind = ", ".join(f"`{value}`" for value in schema["enum"])
    elif "const" in schema:
        kind = f"`{str(schema['const']).lower()}`"
    elif schema.get("type") == "array":
        items = schema["items"]
        inner = ", ".join(f"`{name}`" for name in items.get("properties", ()))
        kind = f"a list of {inner or 'texts'}"
    elif str(schema.get("pattern", "")).startswith("^[0-9]+"):
        kind = "digits"
    elif str(schema.get("pattern", "")).startswith("^0x"):
        kind = "an address"
    elif "pattern" in schema:
        kind = f"`{str(schema['pattern'])[1:].split('-')[0]}-…`"
    else:
        kinds = {"integer": "a whole number", "boolean": "true or false", "object": "an object"}
        kind = "a date" if schema.get("format") == "date-time" else kinds.get(str(schema.get("type")), "text")
    return f"{kind}: {said}" if said else kind
