"""The page of known faults is whole: every number is there, and every test it names exists."""

import re

from tests.tools import ROOT

PAGE = ROOT / "docs" / "reference" / "faults.md"
_ROW = re.compile(r"^\| ([BFX]\d\d) \|.*\| ([^|]*) \|$", re.MULTILINE)
_TEST = re.compile(r"`([\w/]+\.py)::(\w+)`")


def rows() -> dict[str, list[tuple[str, str]]]:
    """Return every row's number with the tests it names: file and function."""
    found = _ROW.findall(PAGE.read_text())
    assert len({number for number, _ in found}) == len(found), "a number is there twice"
    return {number: _TEST.findall(cell) for number, cell in found}


def test_every_fault_is_on_the_page() -> None:
    wanted = {f"F{number:02d}" for number in (*range(1, 29), *range(40, 59), *range(60, 67), *range(80, 91))}
    assert {number for number in rows() if number.startswith("F")} == wanted
    assert {number for number in rows() if number.startswith("B")} == {f"B{number:02d}" for number in range(1, 16)}


def test_every_fault_names_a_test_that_exists() -> None:
    for number, named in rows().items():
        assert named, number
        for file, name in named:
            path = ROOT / "tests" / file
            assert path.is_file() and re.search(rf"^(?:async )?def {name}\(", path.read_text(), re.MULTILINE), (
                f"{number} names {file}::{name}, which is not there"
            )


def test_every_file_of_scenarios_is_on_the_page() -> None:
    named = {file for tests in rows().values() for file, _ in tests}
    files = {f"scenarios/{path.name}" for path in (ROOT / "tests/scenarios").glob("test_*.py")}
    # The second is about the bench.
    assert files - named == {"scenarios/test_index.py", "scenarios/test_lengthened.py"}
