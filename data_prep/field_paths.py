"""Fields of rows by their names, ``a.b`` being the field ``b`` of the field ``a``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from data_prep.rows import Fields
from flexbert.errors import UserError, did_you_mean

if TYPE_CHECKING:
    import pyarrow as pa

ABSENT = object()  # no such field, which differs from one that is null


def look_up(record: Mapping[str, Any], field: str) -> Any:
    """A field of a JSON object: the one of that very name, else the nested one; else ``ABSENT``."""
    if field in record:
        return record[field]
    value: Any = record
    for name in field.split("."):
        if value is None:
            return None
        if not isinstance(value, Mapping) or name not in value:
            return ABSENT
        value = value[name]
    return value


def record_fields(record: Mapping[str, Any]) -> list[str]:
    """The fields of a JSON object, nested ones too."""
    names: list[str] = []
    for name, value in record.items():
        names.append(name)
        if isinstance(value, Mapping):
            names += [f"{name}.{inner}" for inner in record_fields(value)]
    return names


def schema_fields(schema: pa.Schema | pa.StructType) -> list[str]:
    """The columns of a table, nested ones too."""
    import pyarrow as pa

    outer = [field.name for field in schema]
    nested = [
        f"{field.name}.{inner}"
        for field in schema
        if pa.types.is_struct(field.type)
        for inner in schema_fields(field.type)
    ]
    # A column of that very name goes before a nested one.
    return [*outer, *(name for name in nested if name not in outer)]


def column_at(batch: pa.RecordBatch | pa.Table, field: str) -> pa.Array | pa.ChunkedArray:
    """A column, or the nested one; null where an outer one is."""
    import pyarrow.compute as pc

    if field in batch.schema.names:
        return batch.column(field)
    name, *inner = field.split(".")
    return pc.struct_field(batch.column(name), inner)


def check_fields(place: str, how: Fields, names: Sequence[str], hint: str = "") -> None:
    """Refuse a file without the fields that are asked for.

    Args:
        names: the fields that there are, as often as they are there.
        hint: what may be wrong instead, to follow the message.

    Raises:
        UserError: if a field is missing, or two have its name.
    """
    for name, option in asked_fields(how):
        if name not in names:
            raise UserError(
                f"{place}: no column {name!r}; {did_you_mean(name, set(names))}; "
                f"name the column with {option}, of one input alone with {own_option(option)}{hint}"
            )
        if names.count(name) > 1:
            raise UserError(
                f"{place}: {names.count(name)} columns have the name {name!r}, and which one holds "
                "the text cannot be told; rename them"
            )


def own_option(option: str) -> str:
    """How an input says for itself what an option says of all."""
    key = option.removeprefix("--").replace("-", "_")
    return f"INPUT:{'field' if key == 'text_field' else key}=..."


def asked_fields(how: Fields) -> list[tuple[str, str]]:
    """Each field that is read, and the option that names it."""
    text = "--text-field" if how.template is None else "--template"
    label = [] if how.label is None else [(how.label, "--label-field")]
    return [*((name, text) for name in how.text_fields), *label]
