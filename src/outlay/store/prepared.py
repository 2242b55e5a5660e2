"""Statements that run for many rows, compiled once: the library works out anew for each call what never changes."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from outlay.store.database import Unit

Rows = Sequence[Mapping[str, Any]]
_Write = Callable[[Any], Any]


class Prepared:
    """An insert, or an update whose parameters are named, for many rows that have the same columns."""

    def __init__(self, statement: sa.Insert | sa.Update) -> None:
        """Take the statement; it must not return rows and must have no parameter that is a list."""
        self._statement = statement
        self._texts: dict[tuple[str, tuple[str, ...]], _Text] = {}

    def run(self, unit: Unit, rows: Rows) -> int:
        """Run the statement once for each row, all of which have the columns of the first.

        Returns:
            how many rows of the table it wrote, altogether; 0 without rows.
        """
        if not rows:
            return 0
        key = unit.dialect.name, tuple(rows[0])
        text = self._texts.get(key)
        if text is None:
            text = self._texts[key] = _Text(self._statement, unit.dialect, key[1])
        return unit.exec_driver_sql(text.sql, text.parameters(rows)).rowcount


class _Text:
    """The statement as a driver takes it, and how each value is written."""

    def __init__(self, statement: sa.Insert | sa.Update, dialect: sa.Dialect, columns: tuple[str, ...]) -> None:
        compiled: Any = statement.compile(dialect=dialect, column_keys=list(columns))
        self.sql: str = compiled.string
        self._is_positional: bool = compiled.positional
        self._names: list[str] = list(compiled.positiontup if compiled.positional else compiled.binds)
        self._constants = {name: each.value for name, each in compiled.binds.items() if not each.required}
        self._writes: list[_Write | None] = [
            compiled.binds[name].type.dialect_impl(dialect).bind_processor(dialect) for name in self._names
        ]

    def parameters(self, rows: Rows) -> list[Any]:
        columns = [self._column(name, write, rows) for name, write in zip(self._names, self._writes, strict=True)]
        values = zip(*columns, strict=True)
        return list(values) if self._is_positional else [dict(zip(self._names, each, strict=True)) for each in values]

    def _column(self, name: str, write: _Write | None, rows: Rows) -> list[Any]:
        if name in self._constants:
            value = self._constants[name]
            return [value if write is None else write(value)] * len(rows)
        return [row[name] for row in rows] if write is None else [write(row[name]) for row in rows]
