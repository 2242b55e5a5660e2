"""``outlay users activate`` vouches for keys that somebody compared, and for no others."""

import io

import pytest

from outlay.cli.users import compare
from outlay.core.errors import InvalidInput

ON_RECORD = {"a" * 64: "laptop", "b" * 64: "phone"}


def test_exactly_the_fingerprints_told_are_vouched_for() -> None:
    compare(ON_RECORD, ["B" * 64, "a" * 64])
    for told in (["a" * 64], ["a" * 64, "b" * 64, "c" * 64], ["c" * 64]):
        with pytest.raises(InvalidInput, match="keys on record are"):
            compare(ON_RECORD, told)
    with pytest.raises(InvalidInput, match="none"):
        compare({}, ["a" * 64])


@pytest.mark.parametrize("told", [None, []])
def test_a_script_that_tells_none_vouches_for_none(
    told: list[str] | None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("yes\n"))
    with pytest.raises(InvalidInput, match="compared"):
        compare(ON_RECORD, told)
    assert "laptop" in capsys.readouterr().err


@pytest.mark.parametrize(("said", "fits"), [("yes\n", True), ("no\n", False), ("y\n", False), ("\n", False)])
def test_a_person_is_asked(said: str, fits: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = io.StringIO(said)
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    monkeypatch.setattr("sys.stdin", terminal)
    if fits:
        compare(ON_RECORD, None)
    else:
        with pytest.raises(InvalidInput, match="not activated"):
            compare(ON_RECORD, None)
