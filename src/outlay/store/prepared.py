"""Statements that run for many rows, compiled once: the library works out anew for each call what never changes.

SQLite is given the rows one by one, which costs it next to nothing. PostgreSQL would parse and plan the statement for
each of them, since nothing is kept in a session that a pooler may give to somebody else: it gets one statement with an
array for each column.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.sql import operators, visitors

from outlay.core.errors import InvariantBroken
from outlay.store.database import Unit

Rows = Sequence[Mapping[str, Any]]
_Write = Callable[[Any], Any]
_ORDINAL = "ordinal"


class Prepared:
    """An insert, or an update of the row that its parameters name, for many rows that have the same columns."""

    def __init__(self, statement: sa.Insert | sa.Update) -> None:
        """Take the statement; it must not return rows and must have no parameter that is a list.

        An update compares each column of its table's primary key with a parameter, beside whatever else it asks for.

        Raises:
            InvariantBroken: an update that does not.
        """
        self._statement = statement
        self._key: list[str] = []
        if isinstance(statement, sa.Update):
            equal = _asked(statement, only=operators.eq)
            self._key = [name for name, column in equal.items() if column.primary_key]
            table: Any = statement.table
            if len(self._key) != len(table.primary_key):
                raise InvariantBroken(f"an update of {table} does not name the row that it writes")
        self._texts: dict[tuple[str, tuple[str, ...]], _OneByOne | _Together] = {}

    def run(self, unit: Unit, rows: Rows) -> int:
        """Run the statement for each row, in this order; all of them have the columns of the first.

        Returns:
            how many rows of the table it wrote, altogether; 0 without rows.

        Raises:
            InvariantBroken: an update names a row twice, which the databases would not take alike.
        """
        if not rows:
            return 0
        if self._key and len({tuple(row[name] for name in self._key) for row in rows}) < len(rows):
            raise InvariantBroken(f"an update of {self._statement.table} names a row twice")
        key = unit.dialect.name, tuple(rows[0])
        text = self._texts.get(key)
        if text is None:
            kind = _Together if unit.dialect.name == "postgresql" else _OneByOne
            text = self._texts[key] = kind(self._statement, unit.dialect, key[1])
        return unit.exec_driver_sql(text.sql, text.parameters(rows)).rowcount


class _OneByOne:
    """The statement as a driver takes it for each row, and how each value is written."""

    def __init__(self, statement: sa.Insert | sa.Update, dialect: sa.Dialect, columns: tuple[str, ...]) -> None:
        compiled: Any = statement.compile(dialect=dialect, column_keys=list(columns))
        self.sql: str = compiled.string
        self._names: list[str] = list(compiled.positiontup)
        self._constants = {name: each.value for name, each in compiled.binds.items() if not each.required}
        self._writes = [_writer(compiled.binds[name].type, dialect) for name in self._names]

    def parameters(self, rows: Rows) -> list[Any]:
        columns = [self._column(name, write, rows) for name, write in zip(self._names, self._writes, strict=True)]
        return list(zip(*columns, strict=True))

    def _column(self, name: str, write: _Write | None, rows: Rows) -> list[Any]:
        if name in self._constants:
            value = self._constants[name]
            return [value if write is None else write(value)] * len(rows)
        return _written(name, write, rows)


class _Together:
    """One statement that takes all rows, from an array a column."""

    def __init__(self, statement: sa.Insert | sa.Update, dialect: sa.Dialect, columns: tuple[str, ...]) -> None:
        table: Any = statement.table
        asked = {} if isinstance(statement, sa.Insert) else _asked(statement)
        kinds = {name: asked[name].type if name in asked else table.c[name].type for name in (*asked, *columns)}
        arrays = [sa.bindparam(name, type_=sa.ARRAY(_kind(kind, dialect))) for name, kind in kinds.items()]
        fields = [sa.column(name, kind) for name, kind in kinds.items()]
        source = sa.func.unnest(*arrays).table_valued(*fields, with_ordinality=_ORDINAL).render_derived("given")
        whole: Any
        if isinstance(statement, sa.Insert):
            # Numbers that the database counts up follow the order of the rows.
            given = sa.select(*[source.c[name] for name in columns]).order_by(source.c[_ORDINAL])
            whole = sa.insert(table).from_select(list(columns), given)
        else:
            written = {name: source.c[name] for name in columns if name not in asked}

            def given_of(element: Any, **_: Any) -> Any:
                """Return what stands for a parameter; None: the part stays."""
                return source.c[element.key] if isinstance(element, sa.BindParameter) and element.key in kinds else None

            whole = visitors.replacement_traverse(statement.values(written), {}, given_of)
        compiled: Any = whole.compile(dialect=dialect)
        self.sql: str = compiled.string
        self._constants = {
            name: _written(name, _writer(each.type, dialect), [{name: each.value}])[0]
            for each, name in compiled.bind_names.items()
            if name not in kinds
        }
        self._writes = {name: _writer(kind, dialect) for name, kind in kinds.items()}

    def parameters(self, rows: Rows) -> dict[str, Any]:
        given = {name: _array(_written(name, write, rows)) for name, write in self._writes.items()}
        return {**self._constants, **given}


def _asked(statement: sa.Update, *, only: Any = None) -> dict[str, Any]:
    """Return the columns that an update compares with a parameter, by the parameter's name; ``only`` so, if given."""
    found: dict[str, Any] = {}
    for part in visitors.iterate(statement.whereclause) if statement.whereclause is not None else ():
        if not isinstance(part, sa.BinaryExpression) or only not in (None, part.operator):
            continue
        if isinstance(part.right, sa.BindParameter) and part.right.required:
            found[part.right.key] = next(each for each in visitors.iterate(part.left) if isinstance(each, sa.Column))
    return found


def _kind(kind: sa.types.TypeEngine[Any], dialect: sa.Dialect) -> sa.types.TypeEngine[Any]:
    """Return the type of an array's elements: without a length, to which a cast would shorten what is too long."""
    found = kind.dialect_impl(dialect)
    found = found.impl_instance if isinstance(found, sa.types.TypeDecorator) else found
    for general, plain in ((sa.Boolean, sa.Boolean), (sa.Integer, sa.BigInteger), (sa.Numeric, sa.Numeric)):
        if isinstance(found, general):
            return plain()
    return sa.Text()


def _writer(kind: sa.types.TypeEngine[Any], dialect: sa.Dialect) -> _Write | None:
    return kind.dialect_impl(dialect).bind_processor(dialect)


def _written(name: str, write: _Write | None, rows: Rows) -> list[Any]:
    return [row[name] for row in rows] if write is None else [write(row[name]) for row in rows]


def _array(values: Sequence[Any]) -> str:
    """Write an array as PostgreSQL reads it, in a quarter of the time that the driver takes."""
    return "{" + ",".join([_element(value) for value in values]) + "}"


def _element(value: Any) -> str:
    if value is None:
        return "NULL"
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    if isinstance(value, int):
        # Of a truth value the database reads the name; what counts as a number may print itself otherwise.
        return str(value) if value is True or value is False else int.__repr__(value)
    raise TypeError(f"a {type(value).__name__} is not written into an array")
