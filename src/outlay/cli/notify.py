"""``outlay notify``: see whether messages to people arrive."""

import asyncio
import sys
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

notify = App(name="notify", help="Messages to people.")

TEXT = """\
This is a test, and nothing has to be done.

Messages about approvals that wait, and about what has to be looked at now, come the same way."""


@notify.command
def test(*, dir: Annotated[Path, Parameter(name="--dir", help="the deployment's directory")]) -> None:
    """Send one message to every address of notify.mail_to and to the chat; exits 1 if one is not taken."""
    outcomes = asyncio.run(_tell(dir.resolve()))
    for place, error in outcomes.items():
        sys.stdout.write(f"{place}: " + ("taken\n" if error is None else f"NOT TAKEN: {error}\n"))
    sys.exit(1 if any(outcomes.values()) else 0)


async def _tell(directory: Path) -> dict[str, str | None]:
    """Return by place None where the message was taken, else what went wrong.

    Raises:
        InvalidInput: nobody is named to tell.
    """
    # Imported here, so that the client's commands need nothing of the server.
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
