"""A shop's history out of files: from the lines of a CSV or JSON file to rows that can be written, or a reason why not.

Nothing here reads a file or a clock: lines go in, typed rows or `BadRow` come out, one per record, each with the line
on which it begins. A reason names columns, never what a customer's row holds in them.
"""

from afterglow.importing.columns import COLUMNS, ColumnsError, columns_of
from afterglow.importing.records import FORMATS, BadRow, Record, format_of, records
from afterglow.importing.rows import (
    BalanceRow,
    CodeRow,
    ConsentRow,
    CustomerRow,
    Desk,
    OrderRow,
    Row,
    SuppressionRow,
    Word,
    rows,
)

__all__ = [
    "COLUMNS",
    "FORMATS",
    "BadRow",
    "BalanceRow",
    "CodeRow",
    "ColumnsError",
    "ConsentRow",
    "CustomerRow",
    "Desk",
    "OrderRow",
    "Record",
    "Row",
    "SuppressionRow",
    "Word",
    "columns_of",
    "format_of",
    "records",
    "rows",
]
