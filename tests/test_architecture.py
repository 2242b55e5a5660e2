"""Who may import whom, and that the core stays pure. Each rule is also shown a sample it must catch."""

import ast
import functools
import importlib.metadata
import subprocess
import sys
import textwrap
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from packaging.requirements import Requirement

SOURCE = Path(__file__).resolve().parents[1] / "src"

ARROWS: Mapping[str, frozenset[str]] = {
    "core": frozenset(),
    "codec": frozenset({"core"}),
    "evidence": frozenset({"codec", "core"}),
    "store": frozenset({"core"}),
    "actions": frozenset({"store", "evidence", "core"}),
    "chains": frozenset({"codec", "core"}),
    "signer": frozenset({"codec", "evidence", "core"}),
    "prices": frozenset({"core"}),
    "engine": frozenset({"actions", "chains", "prices", "store", "codec", "evidence", "core"}),
    "web": frozenset({"actions", "store", "evidence", "core"}),
    "observe": frozenset({"engine", "actions", "chains", "store", "core"}),
    "client": frozenset({"core", "evidence"}),
    "config": frozenset({"settings", "core"}),
    "settings": frozenset({"core"}),
    "layout": frozenset({"config", "core"}),
    "locks": frozenset(),
}
"""Package -> packages of ours it may import; ``COMPOSITION`` puts everything together."""

COMPOSITION = frozenset({"", "__main__", "app", "child", "cli", "signing", "system"})
"""What may import anything: ``app`` and ``child`` for the server, ``signing`` for the signer."""

READS_CONFIG = frozenset({"actions", "engine", "observe", "signer", "web"})
"""Who may know the configuration's type; ``outlay.config`` itself knows only ``core``."""

SIGNER_FACE = frozenset({"outlay.signer", "outlay.signer.client", "outlay.signer.wire"})
"""What others may know of the signer: its protocol, the client of its process, and what goes between."""

MAY_ASK_THE_SIGNER = frozenset({"engine", "observe", "web"})
"""``engine`` has transactions signed; ``web`` has a wallet's key created; ``observe`` asks whether it answers."""

THIRD_PARTY: Mapping[str, frozenset[str]] = {
    "core": frozenset({"tiny_keccak"}),
    "codec": frozenset(),
    "evidence": frozenset({"cryptography"}),
    "store": frozenset({"sqlalchemy", "alembic", "msgspec"}),
    "actions": frozenset(),
    "chains": frozenset({"aiohttp", "yarl", "structlog"}),
    "signer": frozenset({"coincurve", "argon2", "cryptography", "pkcs11", "boto3", "botocore"}),
    "prices": frozenset({"aiohttp"}),
    "engine": frozenset({"aiohttp", "yarl", "cryptography", "psycopg", "structlog"}),
    "web": frozenset({"jinja2", "limits", "litestar", "markupsafe", "msgspec", "structlog"}),
    "observe": frozenset({"prometheus_client", "opentelemetry", "structlog"}),
    "client": frozenset({"cryptography"}),
    "config": frozenset(),
    "settings": frozenset(),
    "layout": frozenset(),
    "locks": frozenset(),
}
"""Package -> what it may import from others. SQL stays in ``store``, private keys in ``signer``."""

PURE_LIBRARY = frozenset(
    {"__future__", "abc", "collections", "dataclasses", "enum", "functools", "operator", "types", "typing"}
    | {"bisect", "datetime", "decimal", "fractions", "heapq", "itertools", "math"}
    | {"base64", "hashlib", "hmac", "ipaddress", "json", "re", "string", "unicodedata", "urllib.parse"}
)
"""What ``core`` may use of the standard library: nothing here reads a clock, a file, a socket or a dice."""

READS_THE_CLOCK = frozenset({"now", "utcnow", "today"})
"""Methods of ``datetime`` that do more than convert; the module is there to write instants as text."""

IMPURE_CALLS = frozenset({"open", "print", "input", "eval", "exec", "compile", "__import__", "breakpoint"})

GIVEN_FROM_OUTSIDE = frozenset({"time", "random", "secrets", "uuid", "socket", "logging"})
"""What an action gets as an argument (now, entropy) or does not do."""


@dataclass(frozen=True)
class Module:
    """One parsed source file."""

    name: str  #: dotted
    is_package: bool
    tree: ast.Module

    @property
    def part(self) -> str:
        """The part of Outlay it belongs to, e.g. ``core``; empty for ``outlay`` itself."""
        return self.name.partition(".")[2].partition(".")[0]


Modules = Mapping[str, Module]


@functools.cache
def read_modules() -> Modules:
    """Parse every source file of the product."""
    modules = {}
    for path in sorted((SOURCE / "outlay").rglob("*.py")):
        words = list(path.relative_to(SOURCE).with_suffix("").parts)
        is_package = words[-1] == "__init__"
        name = ".".join(words[:-1] if is_package else words)
        modules[name] = Module(name, is_package, ast.parse(path.read_text(), str(path)))
    return modules


def sample(**sources: str) -> Modules:
    """Return modules made of text; ``core__money`` stands for ``outlay.core.money``, all are plain modules."""
    named = {"outlay." + key.replace("__", "."): text for key, text in sources.items()}
    return {name: Module(name, False, ast.parse(textwrap.dedent(text))) for name, text in named.items()}


def imports(module: Module, modules: Modules) -> Iterator[tuple[str, int]]:
    """Yield the dotted name and the line of all a module imports, also inside functions and for types only."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            origin = node.module or ""
            if node.level:
                anchor = module.name.split(".")
                keep = len(anchor) - node.level + (1 if module.is_package else 0)
                origin = ".".join(anchor[:keep] + ([origin] if origin else []))
            for alias in node.names:
                inner = f"{origin}.{alias.name}"
                # Only a module of ours can be meant by the inner name; of others the origin says enough.
                is_module = inner in modules or (origin == "outlay" and alias.name in ARROWS)
                yield (inner if is_module else origin, node.lineno)


def wrong_arrows(modules: Modules) -> list[str]:
    """List the imports between our packages that the design does not have."""
    found = []
    for module in modules.values():
        if module.part not in ARROWS:
            continue
        for target, line in imports(module, modules):
            words = target.split(".")
            if words[0] != "outlay" or len(words) == 1 or words[1] == module.part:
                continue
            allowed = (
                words[1] in ARROWS[module.part]
                or (words[1] in ("config", "settings") and module.part in READS_CONFIG)
                or (target in SIGNER_FACE and module.part in MAY_ASK_THE_SIGNER)
            )
            if not allowed:
                found.append(f"{module.name}:{line} must not import {target}")
    return found


def wrong_third_parties(modules: Modules) -> list[str]:
    """List the imports of other people's packages outside their place."""
    found = []
    for module in modules.values():
        if module.part not in THIRD_PARTY:
            continue
        for target, line in imports(module, modules):
            top = target.split(".")[0]
            if top == "outlay" or top in sys.stdlib_module_names:
                continue
            if top not in THIRD_PARTY[module.part]:
                found.append(f"{module.name}:{line} must not import {top}")
    return found


def loads(modules: Modules) -> dict[str, list[str]]:
    """Return which modules of ours each of them loads: those it imports, and the packages around it."""
    found = {}
    for name, module in modules.items():
        words = name.split(".")
        around = {".".join(words[:size]) for size in range(1, len(words))}
        imported = {target for target, _ in imports(module, modules)}
        found[name] = sorted((imported | around) & modules.keys())
    return found


def reachable(loaded_by: Mapping[str, Sequence[str]], start: str) -> dict[str, str]:
    """Return all modules loaded by loading ``start``: name -> who imported it."""
    seen = {start: ""}
    waiting = [start]
    while waiting:
        name = waiting.pop()
        for target in loaded_by[name]:
            if target not in seen:
                seen[target] = name
                waiting.append(target)
    return seen


def reaching_keys(modules: Modules, parts: Collection[str]) -> list[str]:
    """List the modules of ``parts`` from which private keys can be reached over any number of imports."""
    found = []
    loaded_by = loads(modules)
    for name, module in modules.items():
        if module.part not in parts:
            continue
        for target, by in reachable(loaded_by, name).items():
            if target.startswith("outlay.signer.") and target not in SIGNER_FACE:
                found.append(f"{name} reaches {target} (imported by {by})")
    return found


def impurities(modules: Modules) -> list[str]:
    """List what makes ``core`` impure: its library, calls that touch the world, asynchronous code."""
    found = []
    for module in modules.values():
        if module.part != "core":
            continue
        for target, line in imports(module, modules):
            top = target.split(".")[0]
            is_library = top in sys.stdlib_module_names
            if is_library and top not in PURE_LIBRARY and target not in PURE_LIBRARY:
                found.append(f"{module.name}:{line} uses {target}")
        for node in ast.walk(module.tree):
            if isinstance(node, ast.AsyncFunctionDef | ast.Await | ast.AsyncFor | ast.AsyncWith):
                found.append(f"{module.name}:{node.lineno} is asynchronous")
            elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in IMPURE_CALLS:
                found.append(f"{module.name}:{node.lineno} calls {node.func.id}()")
            elif isinstance(node, ast.Attribute) and node.attr in READS_THE_CLOCK:
                found.append(f"{module.name}:{node.lineno} asks for {node.attr}")
    return found


def unit_impurities(modules: Modules) -> list[str]:
    """List database units that wait, and actions that help themselves to time or chance."""
    found = []
    for module in modules.values():
        if module.part not in ("actions", "store") or module.name == "outlay.store.database":
            continue
        for node in ast.walk(module.tree):
            if isinstance(node, ast.AsyncFunctionDef):
                found.append(f"{module.name}:{node.lineno} {node.name} is async: a unit never spans an await")
        for target, line in imports(module, modules):
            if module.part == "actions" and target.split(".")[0] in GIVEN_FROM_OUTSIDE:
                found.append(f"{module.name}:{line} uses {target}: take it as an argument")
    return found


def test_every_part_has_its_arrows() -> None:
    parts = {module.part for module in read_modules().values()} - COMPOSITION

    assert parts <= ARROWS.keys()
    assert ARROWS.keys() == THIRD_PARTY.keys()


def test_imports_follow_the_arrows() -> None:
    assert wrong_arrows(read_modules()) == []


@pytest.mark.parametrize(
    "source",
    [
        "import outlay.store.transfers",
        "from outlay.store import transfers",
        "from outlay import store",
        "from ..store import transfers",
        "def later():\n    from outlay.store.transfers import get",
        "from outlay.config import Config",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import outlay.store",
    ],
)
def test_an_import_against_the_arrows_is_caught(source: str) -> None:
    assert len(wrong_arrows(sample(core__money=source, store__transfers=""))) == 1


def test_the_signer_is_known_by_its_face_only() -> None:
    face = "from outlay.signer import Signer\nfrom outlay.signer.client import SignerClient"
    inside = "from outlay.signer.journal import Journal"
    signer = {"signer__journal": "", "signer__client": ""}

    assert wrong_arrows(sample(engine__send=face, web__wallets=face, **signer)) == []
    assert len(wrong_arrows(sample(engine__send=inside, **signer))) == 1
    assert len(wrong_arrows(sample(actions__admit=face, **signer))) == 2


def test_other_peoples_packages_stay_in_their_place() -> None:
    assert wrong_third_parties(read_modules()) == []


@pytest.mark.parametrize(
    ("place", "source"),
    [
        ("actions__admit", "import sqlalchemy as sa"),
        ("engine__send", "from sqlalchemy import text"),
        ("web__auth", "import coincurve"),
        ("signer__local", "import aiohttp"),
        ("core__money", "from msgspec import Struct"),
        ("client__api", "import aiohttp"),
    ],
)
def test_a_package_out_of_place_is_caught(place: str, source: str) -> None:
    assert len(wrong_third_parties(sample(**{place: source}))) == 1


def test_nothing_that_faces_the_network_reaches_private_keys() -> None:
    assert reaching_keys(read_modules(), ("web", "actions", "engine", "store", "client", "chains")) == []


def test_a_detour_to_private_keys_is_caught() -> None:
    detour = sample(
        web__wallets="from outlay.actions import wallets",
        actions__wallets="from outlay.store import wallets",
        store__wallets="def get():\n    from outlay.signer import local",
        signer__local="",
    )
    through_the_face = sample(
        web__wallets="from outlay.signer.client import SignerClient",
        signer__client="from outlay.signer.keystore import Keystore",
        signer__keystore="",
    )

    assert reaching_keys(detour, ("web",)) == [
        "outlay.web.wallets reaches outlay.signer.local (imported by outlay.store.wallets)"
    ]
    assert len(reaching_keys(through_the_face, ("web",))) == 1


def test_the_core_is_pure() -> None:
    assert impurities(read_modules()) == []


@pytest.mark.parametrize(
    "source",
    [
        "import time",
        "from datetime import UTC, datetime\nnoon = datetime.now(UTC)",
        "import random",
        "import secrets",
        "from os import path",
        "import logging",
        "import sqlite3",
        "import urllib.request",
        "from pathlib import Path",
        "def read():\n    return open('x')",
        "print('paid')",
        "async def pay(): ...",
    ],
)
def test_impure_core_is_caught(source: str) -> None:
    assert len(impurities(sample(core__money=source))) == 1


def test_pure_core_is_not_blamed() -> None:
    assert impurities(sample(core__money="import re\nfrom urllib.parse import quote\nimport hashlib")) == []


def test_database_units_are_synchronous_and_take_time_and_chance_as_arguments() -> None:
    assert unit_impurities(read_modules()) == []


@pytest.mark.parametrize("source", ["async def admit(unit): ...", "import time", "from secrets import token_bytes"])
def test_an_impure_unit_is_caught(source: str) -> None:
    assert len(unit_impurities(sample(actions__admit=source))) == 1


def base_distributions() -> set[str]:
    """Return the names of all distributions that a plain ``pip install outlay`` brings, and outlay itself."""
    seen: set[str] = set()
    waiting = ["outlay"]
    while waiting:
        name = waiting.pop().lower().replace("_", "-")
        if name in seen:
            continue
        seen.add(name)
        for text in importlib.metadata.requires(name) or ():
            requirement = Requirement(text)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                waiting.append(requirement.name)
    return seen


def import_without_extras(*names: str) -> subprocess.CompletedProcess[str]:
    """Import ``names``, and all inside those that end in ``.*``, where only the base dependencies exist."""
    base = base_distributions()
    blocked = sorted(
        top
        for top, owners in importlib.metadata.packages_distributions().items()
        if not base & {owner.lower().replace("_", "-") for owner in owners}
    )
    program = f"""
        import importlib, pkgutil, sys

        blocked = set({blocked!r})

        class Absent:
            def find_spec(self, name, path=None, target=None):
                if name.split(".")[0] in blocked:
                    raise ModuleNotFoundError("not installed without the extra: " + name)

        sys.meta_path.insert(0, Absent())
        for name in {names!r}:
            module = importlib.import_module(name.removesuffix(".*"))
            if name.endswith(".*"):
                for inner in pkgutil.walk_packages(module.__path__, module.__name__ + "."):
                    importlib.import_module(inner.name)
        """
    return subprocess.run([sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, timeout=60)


def test_client_and_verifier_need_only_the_base_dependencies() -> None:
    answer = import_without_extras(
        "outlay.core.*", "outlay.codec.*", "outlay.evidence.*", "outlay.client.*", "outlay.cli"
    )

    assert answer.returncode == 0, answer.stderr


@pytest.mark.parametrize("name", ["sqlalchemy", "aiohttp", "litestar", "msgspec", "coincurve", "outlay.store.database"])
def test_what_needs_the_extra_is_caught(name: str) -> None:
    answer = import_without_extras(name)

    assert answer.returncode != 0
    assert "not installed without the extra" in answer.stderr
