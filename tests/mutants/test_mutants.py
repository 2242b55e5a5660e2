"""The list of mutants is true, and a test fails for each of them."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.mutants.listed import MUTANTS
from tests.mutants.mutant import ROOT, Copy, broken, try_all

SAMPLE = (
    "the fence is dropped from every WHERE",
    "a bump raises one fee of two",
    "the Transfer log is not looked at",
)


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Copy]:
    """Return a copy of the source."""
    made = Copy(tmp_path_factory.mktemp("copy"))
    yield made
    made.close()


def test_every_mutant_breaks_what_is_there_and_names_tests_that_exist() -> None:
    assert len({each.name for each in MUTANTS}) == len(MUTANTS)
    for mutant in MUTANTS:
        text = mutant.path.read_text()
        assert mutant.applied(text) != text, mutant.name
        assert mutant.tests, mutant.name
        for test in mutant.tests:
            file, _, name = test.partition("::")
            assert not name or f"def {name}(" in (ROOT / file).read_text(), (mutant.name, test)
            assert (ROOT / file).exists(), (mutant.name, test)


@pytest.mark.parametrize("name", SAMPLE)
def test_a_broken_rule_is_noticed(name: str, copy: Copy) -> None:
    (mutant,) = (each for each in MUTANTS if each.name == name)
    verdict = copy.judge(mutant)
    assert verdict.caught_by is not None, verdict.problem


def test_what_breaks_nothing_is_not_called_noticed(copy: Copy) -> None:
    test = "tests/unit/test_core_money.py::test_known_values"
    harmless = broken("a comment", "core/money.py", "AMOUNT_MAX = 2**256 - 1\n", "AMOUNT_MAX = 2**256 - 1  #\n", test)
    verdict = copy.judge(harmless)
    assert (verdict.caught_by, verdict.problem) == (None, "")


def test_what_does_not_import_has_tested_nothing(copy: Copy) -> None:
    test = "tests/unit/test_core_money.py::test_known_values"
    broke = broken("a raise", "core/money.py", "AMOUNT_MAX = 2**256 - 1\n", "raise ValueError\n", test)
    verdict = copy.judge(broke)
    assert verdict.caught_by is None and "pytest ended with" in verdict.problem


@pytest.mark.long
def test_no_broken_rule_goes_unnoticed(tmp_path: Path) -> None:
    verdicts = try_all(MUTANTS, tmp_path, workers=2)
    assert [(each.mutant.name, each.problem) for each in verdicts if each.caught_by is None] == []
