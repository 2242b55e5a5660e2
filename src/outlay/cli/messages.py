"""``outlay messages``: see whether messages to people arrive."""

from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from outlay.cli.output import DONE, PRINTED, REFUSED, Output

messages = App(name="messages")

TEXT = """\
This is a test, and nothing has to be done.

Messages about approvals that wait, and about what has to be looked at now, come the same way."""


@messages.command
def test(
    *, dir: Annotated[Path, Parameter(name="--dir", help="The deployment's directory.")], output: Output = PRINTED
) -> int:
    """Send one message to every address of notify.mail_to and to the chat; exits 1 if one is not taken."""
    import asyncio

    with output.waiting("waiting for mail server and chat …"):
        outcomes = asyncio.run(_tell(dir.resolve()))
    lines = [
        f"{place}: " + ("taken\n" if error is None else f"NOT TAKEN: {error}\n") for place, error in outcomes.items()
    ]
    output.tell({"items": [{"place": place, "error": error} for place, error in outcomes.items()]}, "".join(lines))
    return REFUSED if any(outcomes.values()) else DONE


async def _tell(directory: Path) -> dict[str, str | None]:
    """Return by place None where the message was taken, else what went wrong.

    Raises:
        InvalidInput: nobody is named to tell.
    """
    from outlay.config import load
    from outlay.core.errors import InvalidInput
    from outlay.core.message import Message
    from outlay.engine.egress import Egress
    from outlay.engine.notify import channels
    from outlay.layout import Layout
    from outlay.store.notify import CHAT, MAIL, Envelope
    from outlay.system import SystemClock

    layout = Layout(directory)
    config = load(layout.config)
    places = {MAIL: config.notify.mail_to, CHAT: (CHAT,)}
    egress = Egress(allow_private_addresses=config.webhooks.allow_private_addresses)
    outcomes: dict[str, str | None] = {}
    now, message = SystemClock().now(), Message("A test", TEXT)
    try:
        for name, channel in channels(config, egress, layout.read_secret).items():
            envelopes = [
                Envelope(number=number, at=now, place=place, messages=[message])
                for number, place in enumerate(places[name])
            ]
            answers = await channel.send(envelopes)
            outcomes |= {each.place: answers[each.number] for each in envelopes}
    finally:
        await egress.close()
    if not outcomes:
        raise InvalidInput("names neither an address in mail_to nor a chat", field="notify")
    return outcomes
