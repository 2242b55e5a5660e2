"""That the tutorials are followed: each of them, all that is to be typed, and what is printed is really compared.

They are followed in ``tests/browser/test_tutorials.py``, for most of them need a browser.
"""

import pytest

from tests.docs.reader import PAGES, blocks, missing
from tests.tools import ROOT

NAMES = sorted(path.name for path in PAGES.glob("*.md"))
NOT_TYPED = {("first-payout.md", "make setup\n. .venv/bin/activate\n")}
"""What the tests' own environment is the result of."""


def test_every_tutorial_is_followed_and_found() -> None:
    followed = (ROOT / "tests/browser/test_tutorials.py").read_text()
    start = (ROOT / "docs/start.md").read_text()
    assert len(NAMES) == 4
    assert [name for name in NAMES if f'"{name}"' not in followed] == []
    assert [name for name in NAMES if f"tutorials/{name}" not in start] == []


@pytest.mark.parametrize("name", NAMES)
def test_all_commands_are_typed_and_all_output_is_compared(name: str) -> None:
    before: list[str] = []
    for words, code in blocks(PAGES / name):
        if words[0] == "text":
            assert words == ["text", "printed"] and "runnable" in before, code
        elif (name, code) not in NOT_TYPED:
            assert words[:2] == ["sh", "runnable"], code
        before = words


PRINTED = """\
payout      xfr-hocgl-09cby-p2i2ncna4aqstm1i
state       held
pays        0.5 ETH
to          0x70997970C51812dc3A010C7d01b50e0d17dc79C8
requested   2026-11-23 08:40:44 UTC by us-yaf9z-g6hrm-eis1j78a4p9dxs56
"""


@pytest.mark.parametrize(
    ("expected", "lost"),
    [
        ("payout  xfr-aaaaa-bbbbb-cccccccccccccccc\n...\npays 0.5 ETH", None),
        ("requested 2030-01-01 00:00:00 UTC by us-aaaaa-bbbbb-cccccccccccccccc", None),
        ("payout  pol-aaaaa-bbbbb-cccccccccccccccc", "payout  pol-aaaaa-bbbbb-cccccccccccccccc"),
        ("pays 0.51 ETH", "pays 0.51 ETH"),
        ("pays 0.5 ETH\nstate held", "state held"),
        (
            "to 0x70997970C51812dc3A010C7d01b50e0d17dc79C9",
            "to 0x70997970C51812dc3A010C7d01b50e0d17dc79C9",
        ),
    ],
)
def test_a_line_that_was_not_printed_is_missed(expected: str, lost: str | None) -> None:
    assert missing(expected, PRINTED) == lost
