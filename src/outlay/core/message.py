"""Messages to people: plain text that nobody who is named in it can bend.

Much of a message was chosen by others: names, memos, reasons. None of it may start a line, a header or a link of its
own, or turn the direction of what follows.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

TITLE_MAX = 150
TEXT_MAX = 30_000
IN_FULL = 20
"""Messages of a digest that are told in full; of the others their titles."""

LISTED = 200
_ADDRESS_MAX = 254
_ADDRESS = re.compile(
    r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?:\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*"
    r"@[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?)*"
)

_MAILBOX = re.compile(r"(?!(?i:www))[\w.+-]{1,64}@[\w.-]{1,253}")
_LINKED = re.compile(
    r":(?=[/\\])"  # https://
    r"|\\(?=\\)"  # \\server\share
    r"|(?<=\S)[.\u3002\uff0e\uff61](?=[^\W\d_]{2})"  # example.com, without a scheme
    r"|(?i:(?<=www)[.\u3002\uff0e\uff61])"
    r"|(?i:(?<=mailto):)"
)


@dataclass(frozen=True, slots=True)
class Message:
    """What is said, to whomever."""

    title: str  #: one line
    text: str  #: lines of plain text


def is_address(text: str) -> bool:
    """Tell whether ``text`` is one plain e-mail address: no name, no comment, no quotes, ASCII."""
    return len(text) <= _ADDRESS_MAX and _ADDRESS.fullmatch(text) is not None


def one_line(text: object) -> str:
    """Return a text on one line, with a mark in the place of what does not print as itself."""
    return "".join(each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in str(text))


def plain(text: object) -> str:
    """Return somebody else's text on one line, written so that no program that shows it makes a link of a part.

    A plain e-mail address stays as it is: it is what people are called.
    """
    line = one_line(text)
    return line if _MAILBOX.fullmatch(line) else _LINKED.sub(r"[\g<0>]", line)


def title(text: str) -> str:
    """Return a title: one line, cut where it is too long."""
    line = one_line(text)
    return line if len(line) <= TITLE_MAX else line[: TITLE_MAX - 1] + "…"


def together(messages: Sequence[Message], *, where: str) -> Message:
    """Return one message for several, the first of them in full.

    Args:
        messages: one or more, in their order.
        where: the address at which the rest can be seen.
    """
    if len(messages) == 1:
        return messages[0]
    parts = [f"{each.title}\n\n{each.text}" for each in messages[:IN_FULL]]
    rest = [each.title for each in messages[IN_FULL : IN_FULL + LISTED]]
    if rest:
        more = len(messages) - IN_FULL - len(rest)
        parts.append("\n".join([*rest, *([f"and {more} more"] if more else []), "", f"All of them: {where}"]))
    text = "\n\n----------------------------------------\n\n".join(parts)
    if len(text) > TEXT_MAX:
        text = text[:TEXT_MAX] + f"\n\n(cut here; all of them: {where})"
    return Message(title(f"{len(messages)} messages: {messages[0].title}"), text)


def for_chat(message: Message) -> str:
    """Return a message as the text of a Slack-compatible chat: nobody is called by it, no link hides behind a word."""
    text = f"{message.title}\n\n{message.text}"
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
