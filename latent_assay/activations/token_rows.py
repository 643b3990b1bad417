"""Rows of a pre-tokenised data set, whatever its other columns say of them."""

from typing import Any

from latent_assay.activations.contexts import TokenRow
from latent_assay.errors import DataError


def token_row(row: dict[str, Any], column: str) -> TokenRow:
    """The tokens of a row that count, and which of them are special.

    **Arguments:**
    - `row`: the row. `attention_mask` (0 for padding), `length` (how many count) and
      `special_tokens_mask` (1 for special) are heeded where they exist.
    - `column`: where its token numbers are.

    **Raises:** `DataError` if that column holds no list of whole numbers, or another one does not
    fit it.

    >>> token_row({"input_ids": [5, 6, 7, 0], "attention_mask": [1, 1, 1, 0]}, "input_ids")
    TokenRow(token_ids=(5, 6, 7), special=None)
    """
    token_ids = _numbers(row, column)
    n = len(token_ids)
    counts = [True] * n
    if (mask := _beside(row, "attention_mask", n)) is not None:
        counts = [bool(each) for each in mask]
    length: Any = row.get("length")
    if hasattr(length, "item"):
        length = length.item()
    if length is not None:
        if isinstance(length, bool) or not isinstance(length, int) or not 0 <= length <= n:
            raise DataError(
                f"a row has `length` {length!r} but {n} numbers in `{column}`; expected a number "
                "from 0 to that. Check how the data set was tokenised."
            )
        counts = [each and i < length for i, each in enumerate(counts)]
    special = _beside(row, "special_tokens_mask", n)
    return TokenRow(
        token_ids=tuple(t for t, counted in zip(token_ids, counts, strict=True) if counted),
        special=None
        if special is None
        else tuple(bool(s) for s, counted in zip(special, counts, strict=True) if counted),
    )


def _numbers(row: dict[str, Any], column: str) -> list[int]:
    value = row[column]
    value = value.tolist() if hasattr(value, "tolist") else value
    whole = isinstance(value, list | tuple) and all(
        isinstance(each, int) and not isinstance(each, bool) for each in value
    )
    if not whole:
        raise DataError(
            f"the column `{column}` holds a {type(value).__name__}; expected text or a list of "
            "token numbers. Name the column that holds the text."
        )
    return list(value)


def _beside(row: dict[str, Any], column: str, n: int) -> list[Any] | None:
    value = row.get(column)
    if value is None:
        return None
    value = value.tolist() if hasattr(value, "tolist") else list(value)
    if len(value) != n:
        raise DataError(
            f"a row has {len(value)} numbers in `{column}` but {n} token numbers; expected as "
            "many. Check how the data set was tokenised."
        )
    return value
