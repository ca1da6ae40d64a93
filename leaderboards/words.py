"""Numbers and counts as words, the same wherever a board says them."""


def fixed(value: float, places: int) -> str:
    """A number with so many decimals; what rounds to zero has no sign.

    >>> fixed(-0.0004, 3), fixed(-0.0006, 3)
    ('0.000', '-0.001')
    """
    return f"{round(float(value), places) + 0.0:.{places}f}"


def many(n: int, what: str) -> str:
    """A count of things.

    >>> many(1, "dataset"), many(2, "dataset")
    ('1 dataset', '2 datasets')
    """
    return f"{n} {what}{'s' * (n != 1)}"
