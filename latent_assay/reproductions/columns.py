"""Columns of a table that describe without ranking."""

from latent_assay.report import Column


def column(key: str, label: str, definition: str) -> Column:
    """A column in which neither more nor less is better."""
    return Column(key=key, label=label, direction="none", definition=definition)
