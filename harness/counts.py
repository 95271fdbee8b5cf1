"""Counts with their nouns, as a person says them."""

from __future__ import annotations


def counted(count: int, noun: str, nouns: str = "") -> str:
    """A number and what it counts: "1 fault", "2 faults".

    Args:
        count: how many.
        noun: of one.
        nouns: of more, where it is not just an s longer.
    """
    return f"{count} {noun if count == 1 else nouns or noun + 's'}"
