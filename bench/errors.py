"""What the harness says when it cannot go on: one exception, one clear line."""

from collections.abc import Iterable
from difflib import get_close_matches


class BenchError(Exception):
    """A fault a user can mend. Its message names what was got, what was expected and what is known.

    Messages hold names, counts and paths, never a value out of a table, so that they may be shown, logged and tracked.
    """


def unknown(kind: str, got: str, known: Iterable[str]) -> BenchError:
    """The error for a name that is not known, with the nearest one that is.

    >>> print(unknown("suite", "smoek", ["full", "smoke"]))
    unknown suite 'smoek': did you mean 'smoke'? known: full, smoke
    """
    names = sorted(known)
    near = get_close_matches(got, names, n=1)
    hint = f" did you mean '{near[0]}'?" if near else ""
    return BenchError(f"unknown {kind} '{got}':{hint} known: {', '.join(names) or 'none'}")
