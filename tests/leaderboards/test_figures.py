"""Figures of what reports show: what is not known leaves a gap, and no fault."""

from leaderboards.figures import correlation


def views(*difference: list[float | None]) -> dict:
    return {"correlation": {"names": ["hr", "temp", "age"], "difference": list(difference)}}


def test_a_pair_that_is_not_known_together_is_left_out() -> None:
    ou = views([0.0, None, 0.1], [None, 0.0, None], [0.1, None, 0.0])
    none = views([0.0, None, None], [None, 0.0, None], [None, None, 0.0])
    figure = correlation({"ou": ou, "gan": none})
    assert figure
    assert figure.rows == [
        ["ou", "0.100", "age and hr", "+0.100"],
        ["gan", "", "no pair is known together", ""],
    ]
