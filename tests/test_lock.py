"""The lock file is what ``pyproject.toml`` asks for, with a hash for every file and no registry in it."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
LOCK = (ROOT / "requirements.lock").read_text()
SIGNER_LOCK = (ROOT / "requirements-signer.lock").read_text()
ENTRIES = re.split(r"\n(?=[A-Za-z0-9])", LOCK)
"""One text a package: ``name==version ; marker`` and its hashes."""

SIGNER_ENTRIES = re.split(r"\n(?=[A-Za-z0-9])", SIGNER_LOCK)
"""The same for a machine that only signs."""

BENCH_LOCK = (ROOT / "requirements-bench.lock").read_text()
BENCH_ENTRIES = re.split(r"\n(?=[A-Za-z0-9])", BENCH_LOCK)
"""What the bench measures beside, in an environment of its own."""

SIGNER_PACKAGES = 8
"""How many packages such a machine trusts at most, those that these need included."""

HEAD = re.compile(r"([A-Za-z0-9._-]+)(?:\[[^]]*\])?==([^ \\;\n]+)")


def wanted() -> list[Requirement]:
    """Return every requirement of the project's own environment: base, extras, development."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    texts = [
        *project["project"]["dependencies"],
        *(text for extra in project["project"]["optional-dependencies"].values() for text in extra),
        *project["dependency-groups"]["dev"],
    ]
    return [Requirement(text) for text in texts]


def wanted_by_the_bench() -> list[Requirement]:
    """Return every requirement of the environment of the bench's rivals."""
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text())["dependency-groups"]
    assert set(groups) == {"dev", "bench"}, "each group is checked against the lock file it goes into"
    return [Requirement(text) for text in groups["bench"]]


@pytest.mark.parametrize(
    ("requirements", "entries"), [(wanted(), ENTRIES), (wanted_by_the_bench(), BENCH_ENTRIES)], ids=["own", "bench"]
)
def test_every_requirement_is_locked_at_a_version_it_allows(
    requirements: list[Requirement], entries: list[str]
) -> None:
    locked: dict[str, list[str]] = {}
    for entry in entries:
        head = HEAD.match(entry)
        assert head, f"not pinned: {entry[:80]}"
        name, version = head.groups()
        locked.setdefault(canonicalize_name(name), []).append(version)

    for requirement in requirements:
        versions = locked.get(canonicalize_name(requirement.name), [])
        assert versions, f"{requirement} is in no lock file: run `make lock`"
        for version in versions:
            assert requirement.specifier.contains(version), f"{requirement}, locked {version}: run `make lock`"


def test_every_locked_package_has_a_hash() -> None:
    assert len(ENTRIES) > 40
    locked = ENTRIES + SIGNER_ENTRIES + BENCH_ENTRIES
    assert [entry[:80] for entry in locked if not re.search(r"--hash=sha256:[0-9a-f]{64}", entry)] == []


@pytest.mark.parametrize("lock", [LOCK, SIGNER_LOCK, BENCH_LOCK])
def test_a_lock_names_no_registry(lock: str) -> None:
    assert "://" not in lock
    assert not re.search(r"^--(extra-)?(index|find)", lock, re.M)


def test_the_signer_s_lock_is_a_small_part_of_the_other() -> None:
    assert {entry.strip() for entry in SIGNER_ENTRIES} <= {entry.strip() for entry in ENTRIES}
    assert len(SIGNER_ENTRIES) <= SIGNER_PACKAGES


def test_the_signer_s_lock_holds_all_its_extra_asks_for() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    asked = {canonicalize_name(Requirement(text).name) for text in project["optional-dependencies"]["signer"]}
    heads = [HEAD.match(entry) for entry in SIGNER_ENTRIES]

    assert asked <= {canonicalize_name(head.group(1)) for head in heads if head}
