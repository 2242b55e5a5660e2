"""The lock file is what ``pyproject.toml`` asks for, with a hash for every file and no registry in it."""

import re
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
LOCK = (ROOT / "requirements.lock").read_text()
ENTRIES = re.split(r"\n(?=[A-Za-z0-9])", LOCK)
"""One text a package: ``name==version ; marker`` and its hashes."""

HEAD = re.compile(r"([A-Za-z0-9._-]+)(?:\[[^]]*\])?==([^ \\;\n]+)")


def wanted() -> list[Requirement]:
    """Return every requirement the project states: base, extras, development."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    texts = [
        *project["project"]["dependencies"],
        *(text for extra in project["project"]["optional-dependencies"].values() for text in extra),
        *(text for group in project["dependency-groups"].values() for text in group),
    ]
    return [Requirement(text) for text in texts]


def test_every_requirement_is_locked_at_a_version_it_allows() -> None:
    locked: dict[str, list[str]] = {}
    for entry in ENTRIES:
        head = HEAD.match(entry)
        assert head, f"not pinned: {entry[:80]}"
        name, version = head.groups()
        locked.setdefault(canonicalize_name(name), []).append(version)

    for requirement in wanted():
        versions = locked.get(canonicalize_name(requirement.name), [])
        assert versions, f"{requirement} is not in requirements.lock: run `make lock`"
        for version in versions:
            assert requirement.specifier.contains(version), f"{requirement}, locked {version}: run `make lock`"


def test_every_locked_package_has_a_hash() -> None:
    assert len(ENTRIES) > 40
    assert [entry[:80] for entry in ENTRIES if not re.search(r"--hash=sha256:[0-9a-f]{64}", entry)] == []


def test_the_lock_names_no_registry() -> None:
    assert "://" not in LOCK
    assert not re.search(r"^--(extra-)?(index|find)", LOCK, re.M)
