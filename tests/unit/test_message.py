"""Messages to people: nobody who is named in one writes a line, a header, a link or an address of it."""

import email
import email.policy
import re

import hypothesis.strategies as st
import pytest
from hypothesis import example, given

from outlay.config import parse
from outlay.core.message import IN_FULL, TEXT_MAX, TITLE_MAX, Message, for_chat, is_address, plain, title, together
from outlay.engine.mail import Mail
from outlay.store.notify import Envelope

SETTINGS = """
[notify]
smtp_host = "mail.example"
mail_from = "outlay@example.com"
"""
MAIL = Mail(parse(SETTINGS), password=lambda: "")
ANY = st.text(st.characters(exclude_categories=["Cs"]), max_size=300)


def envelope(message: Message, place: str = "ops@example.com") -> Envelope:
    return Envelope(number=7, at=1_800_000_000_000_000, place=place, messages=[message])


@given(ANY)
@example("a\r\nBcc: all@example.com")
@example("a\u2028b\u202ec\x85d\0")
def test_what_somebody_else_wrote_stays_on_its_line(text: str) -> None:
    line = plain(text)
    assert len(line.splitlines()) <= 1
    assert line.isprintable() or line == ""
    assert len(line.replace("[", "").replace("]", "")) == len(text.replace("[", "").replace("]", ""))


PARTS = st.sampled_from(
    ["http", "https:", "://", "//", "www", "WWW", ".", "\u3002", "evil", "evil.example", "com", "@", "/", "\\\\", "\0",
     "mailto:", " ", "[", "]", "1", "e\u0301", "xn--p1ai", ":", "\u200b", "(", "x.y"]
)  # fmt: skip
LINKS = (
    r"[a-z][a-z0-9+.-]*:(//|\\)",  # any scheme
    r"\\\\",  # a share
    r"www[.\u3002\uff0e\uff61]",
    r"\S[.\u3002\uff0e\uff61][a-z]{2}",  # a host alone
    r"mailto:",
)
"""What mail programs and chats make a link of, as far as ASCII letters go."""


@given(st.one_of(ANY, st.lists(PARTS, max_size=12).map("".join)))
@example("Urgent. Decide at https://outlay-approvals.evil.example/approvals/ap-1 instead")
@example("see WWW.evil.example, evil.example/approve or \\\\evil\\share")
@example("www.evil.example@x")
@example("evil.example/@x")
def test_nothing_that_somebody_else_wrote_is_a_link(text: str) -> None:
    line = plain(text)
    if re.fullmatch(r"[\w.+-]+@[\w.-]+", line) and not line.lower().startswith("www"):
        assert line == text, "people are called by their addresses"
        return
    for link in LINKS:
        assert re.search(link, line, re.IGNORECASE) is None, (link, line)
    assert plain(line) == line, "doing it twice changes nothing"


def test_what_is_no_link_stays_as_it_is() -> None:
    for text in ("10.5 USDC", "e.g. this. Then: that", "approver.one@example.com", "12:30", "a/b", "supplier 7"):
        assert plain(text) == text


@given(ANY, ANY)
@example("x\r\nBcc: all@example.com\r\n\r\nbody", "\n.\nMAIL FROM:<>")
def test_a_mail_has_the_headers_that_we_gave_it_and_no_others(subject: str, body: str) -> None:
    written = MAIL.written(envelope(Message(title(subject), plain(body)))).as_bytes()
    read = email.message_from_bytes(written, policy=email.policy.default)
    names = ["From", "To", "Subject", "Date", "Message-ID", "Auto-Submitted", "Content-Type"]
    assert [name for name in read if name not in ("Content-Transfer-Encoding", "MIME-Version")] == names
    assert read["To"] == "ops@example.com"
    assert read["Message-ID"] == "<outlay.7.1800000000000000@localhost>"
    assert read.get_content_type() == "text/plain"
    assert len(read["Subject"]) <= TITLE_MAX + len("[Outlay] ")
    assert read.get_content().rstrip("\r\n") == plain(body)


@pytest.mark.parametrize(
    "text",
    [
        "a@example.com\nBcc: b@example.com",
        "a@example.com,b@example.com",
        "A <a@example.com>",
        "a@example.com>",
        '"a b"@example.com',
        "a@b@example.com",
        "a@",
        "@example.com",
        "payouts bot",
        "a@exämple.com",
        "a@-example.com",
        ".a@example.com",
        "a@example.com\x00",
        "a@" + "x" * 250 + ".com",
        "",
    ],
)
def test_what_is_not_one_plain_address_is_none(text: str) -> None:
    assert not is_address(text)
    with pytest.raises(ValueError, match="address"):
        MAIL.written(envelope(Message("t", "t"), text))


@given(ANY)
def test_an_address_is_one_recipient_to_the_mail_library_too(text: str) -> None:
    for place in (text, f"{text}@example.com"):
        if is_address(place):
            recipients = MAIL.written(envelope(Message("t", "t"), place))["To"].addresses
            assert [each.addr_spec for each in recipients] == [place]


def test_addresses_of_people_are_addresses() -> None:
    for text in ("approver.one@example.com", "a+b_c@sub.example.co", "admin@localhost", "o'neil@example.com"):
        assert is_address(text)


@given(ANY)
@example("<!channel> <https://evil.example|https://good.example> &lt;!here&gt;")
def test_a_chat_calls_nobody_and_hides_no_link(text: str) -> None:
    shown = for_chat(Message(title(text), plain(text)))
    assert "<" not in shown and ">" not in shown
    assert shown.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&") == f"{title(text)}\n\n{plain(text)}"


def test_a_storm_is_told_as_one_with_the_first_in_full() -> None:
    many = [Message(f"title {at}", f"text {at}") for at in range(1000)]
    one = together(many, where="https://payouts.example/approvals")
    assert one.title == "1000 messages: title 0"
    assert f"text {IN_FULL - 1}" in one.text and f"text {IN_FULL}" not in one.text
    assert f"title {IN_FULL}" in one.text
    assert "and 780 more" in one.text
    assert "https://payouts.example/approvals" in one.text
    assert together(many[:1], where="") == many[0]
    long = together([Message("t", "x" * TEXT_MAX)] * 2, where="https://payouts.example/approvals")
    assert len(long.text) < TEXT_MAX + 200
