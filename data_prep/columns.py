"""Files of columns: Parquet, and Arrow as ``Dataset.save_to_disk`` leaves it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from data_prep.field_paths import check_fields, column_at, schema_fields
from data_prep.rows import Fields, Row, make_row
from flexbert.errors import UserError

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

# Rows taken at a time: at most this many, and fewer where rows are long.
BATCH_ROWS = 1024
BATCH_BYTES = 1 << 24
ARROW_FILE_MAGIC = b"ARROW1"


def check_schema(place: str, fields: Fields, schema: pa.Schema) -> None:
    """Raises UserError if a column that is asked for is missing, or cannot hold text."""
    import pyarrow as pa

    check_fields(place, fields, schema_fields(schema))
    empty = schema.empty_table()
    with arrow_errors(place, fields):
        for name in fields.text_fields:
            column_at(empty, name).cast(pa.large_binary())


def open_parquet(path: str) -> pq.ParquetFile:
    """Open a Parquet file.

    Raises:
        UserError: if it is not one.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.ParquetFile(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise UserError(f"{path}: not a readable Parquet file ({error})") from error


def parquet_rows(path: str, start: int, stop: int, fields: Fields) -> Iterator[Row]:
    """The rows of some row groups, in order; raises UserError where they cannot be read."""
    file = open_parquet(path)
    check_schema(path, fields, file.schema_arrow)
    columns = list(fields.all_fields)
    groups = [file.metadata.row_group(group) for group in range(start, stop)]
    size = sum(group.total_byte_size for group in groups)
    rows = _batch_rows(size, sum(group.num_rows for group in groups))
    with arrow_errors(path, fields):
        for batch in file.iter_batches(rows, row_groups=range(start, stop), columns=columns):
            yield from batch_rows(batch, fields)


def arrow_batches(path: str) -> Iterator[pa.RecordBatch]:
    """The record batches of an Arrow file or stream, mapped and not read.

    Raises:
        UserError: if it is neither, or cut off.
    """
    import pyarrow as pa

    try:
        with pa.memory_map(path) as source:
            magic = source.read(len(ARROW_FILE_MAGIC))
            source.seek(0)
            if magic == ARROW_FILE_MAGIC:
                file = pa.ipc.open_file(source)
                yield from (file.get_batch(i) for i in range(file.num_record_batches))
            else:
                yield from pa.ipc.open_stream(source)
    except (pa.ArrowInvalid, OSError) as error:
        raise UserError(f"{path}: not a readable Arrow file ({error})") from error


def arrow_rows(path: str, start: int, stop: int, fields: Fields) -> Iterator[Row]:
    """The rows of some record batches, in order; raises UserError where they cannot be read."""
    for number, batch in enumerate(arrow_batches(path)):
        if number >= stop:
            break
        check_schema(path, fields, batch.schema)
        if number >= start:
            with arrow_errors(path, fields):
                step = _batch_rows(batch.nbytes, batch.num_rows)
                for row in range(0, batch.num_rows, step):
                    yield from batch_rows(batch.slice(row, step), fields)


def batch_rows(batch: pa.RecordBatch | pa.Table, fields: Fields) -> Iterator[Row]:
    """The rows of a batch of columns."""
    import pyarrow as pa

    # As bytes: pyarrow does not check UTF-8, and raises for a whole batch if asked to.
    columns = [
        column_at(batch, name).cast(pa.large_binary()).to_pylist() for name in fields.text_fields
    ]
    labels = [None] * batch.num_rows
    if fields.label is not None:
        labels = _labels(column_at(batch, fields.label))
    for *values, label in zip(*columns, labels, strict=True):
        yield make_row(values, label, fields)


def _labels(column: pa.Array | pa.ChunkedArray) -> list[Any]:
    import pyarrow as pa

    type_ = column.type
    if pa.types.is_dictionary(type_):
        type_ = type_.value_type
    if pa.types.is_nested(type_):
        return [[] if valid else None for valid in column.is_valid().to_pylist()]
    if any(is_text(type_) for is_text in (pa.types.is_string, pa.types.is_large_string)):
        column = column.cast(pa.large_binary())
    return column.to_pylist()


def _batch_rows(size: int, rows: int) -> int:
    """How many rows to take at a time of ``rows`` that hold ``size`` bytes."""
    return max(1, min(BATCH_ROWS, rows * BATCH_BYTES // max(size, 1)))


@contextmanager
def arrow_errors(place: str, fields: Fields) -> Iterator[None]:
    """Arrow's errors become a UserError that names the place and the column."""
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        named = " or ".join(repr(name) for name in fields.text_fields)
        raise UserError(f"{place}: column {named} cannot be read as text ({error})") from error
