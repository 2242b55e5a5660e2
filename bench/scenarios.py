"""``scenarios.toml``, read: what is measured, how much of it, and what it has to reach."""

import json
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from bench.rows import Goal, Target
from outlay.core.errors import InvalidInput

FILE = Path(__file__).with_name("scenarios.toml")
SIZES = ("quick", "usual", "long")
DATABASES = ("sqlite", "postgresql")


@dataclass(frozen=True, slots=True)
class Scenario:
    """One table of the file, at one size."""

    name: str
    values: dict[str, Any]
    targets: Mapping[str, Target]  #: by the row's key within the scenario

    def number(self, key: str) -> int:
        """Return a whole number. Raises InvalidInput: missing, or something else."""
        value = self._value(key)
        if type(value) is not int:
            raise InvalidInput("is a whole number", field=f"{self.name}.{key}")
        return value

    def real(self, key: str) -> float:
        """Return a number. Raises InvalidInput: missing, or something else."""
        value = self._value(key)
        if type(value) not in (int, float):
            raise InvalidInput("is a number", field=f"{self.name}.{key}")
        return float(value)

    def numbers(self, key: str) -> tuple[int, ...]:
        """Return whole numbers. Raises InvalidInput: missing, or something else."""
        value = self._value(key)
        if not isinstance(value, list) or not value or any(type(each) is not int for each in value):
            raise InvalidInput("is a list of whole numbers", field=f"{self.name}.{key}")
        return tuple(value)

    def texts(self, key: str) -> tuple[str, ...]:
        """Return texts. Raises InvalidInput: missing, or something else."""
        value = self._value(key)
        if not isinstance(value, list) or not value or any(not isinstance(each, str) for each in value):
            raise InvalidInput("is a list of texts", field=f"{self.name}.{key}")
        return tuple(value)

    def target(self, key: str) -> Target | None:
        """Return what a row has to reach; None: nothing."""
        return self.targets.get(key)

    def _value(self, key: str) -> Any:
        if key not in self.values:
            raise InvalidInput("is missing", field=f"{self.name}.{key}")
        return self.values[key]


def load(size: str, path: Path = FILE) -> dict[str, Scenario]:
    """Return every scenario at one size, in the file's order.

    A value that differs by size is a table of ``quick``, ``usual`` and ``long``.

    Raises:
        InvalidInput: an unknown size, or a table that is malformed.
    """
    if size not in SIZES:
        raise InvalidInput(f"is one of {', '.join(SIZES)}", field="size")
    document = tomllib.loads(path.read_text())
    return {name: _scenario(name, table, size) for name, table in document.items()}


def change(scenarios: Mapping[str, Scenario], changes: Iterable[str]) -> None:
    """Change values, each given as ``scenario.key=value`` with a JSON value.

    Raises:
        InvalidInput: malformed, or no such value.
    """
    for given in changes:
        place, _, value = given.partition("=")
        name, _, key = place.partition(".")
        if name not in scenarios or key not in scenarios[name].values:
            raise InvalidInput("names no value of scenarios.toml", field=given)
        try:
            scenarios[name].values[key] = json.loads(value)
        except ValueError:
            raise InvalidInput("is not JSON", field=given) from None


def _scenario(name: str, table: Mapping[str, Any], size: str) -> Scenario:
    values = {}
    for key, value in table.items():
        if key == "targets":
            continue
        if isinstance(value, dict):
            if set(value) != set(SIZES):
                raise InvalidInput(f"holds exactly {', '.join(SIZES)}", field=f"{name}.{key}")
            value = value[size]
        values[key] = value
    targets = {key: _target(f"{name}.targets.{key}", given) for key, given in table.get("targets", {}).items()}
    return Scenario(name, values, targets)


def _target(path: str, given: Any) -> Target:
    if not isinstance(given, dict) or len(given) != 1:
        raise InvalidInput("is one goal and its bound", field=path)
    ((goal, bound),) = given.items()
    goal = goal.replace("_", " ")
    if goal not in get_args(Goal) or type(bound) not in (int, float):
        raise InvalidInput(f"is one of {', '.join(get_args(Goal))}, with a number", field=path)
    return Target(goal, float(bound))
