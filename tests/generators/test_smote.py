"""SMOTE and its variants: imbalanced-learn's own rows, exact counts, where each starts, what it refuses."""

import logging

import numpy as np
import pandas as pd
import pytest
from imblearn.over_sampling import SMOTE

from generators import make
from generators.base import Unsupported
from generators.smote import BORDER


def two_classes(apart: float, rare: int = 60) -> pd.DataFrame:
    """300 subjects around 0 and some around `apart`, by two numbers."""
    rng = np.random.default_rng(0)
    y = np.arange(300 + rare) >= 300
    x = rng.normal(size=(len(y), 2)) + apart * y[:, None]
    return pd.DataFrame({"a": x[:, 0], "b": x[:, 1], "y": y}).rename_axis("subject")


def mixed() -> pd.DataFrame:
    rng = np.random.default_rng(1)
    table = two_classes(2.0)
    table["c"] = pd.Categorical.from_codes(rng.integers(0, 3, len(table)), ["u", "v", "w"])
    table["flag"] = rng.random(len(table)) < 0.3
    return table


def flags() -> pd.DataFrame:
    return pd.DataFrame(np.random.default_rng(1).random((60, 5)) < 0.4, columns=list("abcde")).rename_axis("subject")


def test_numbers_are_imbalanced_learns_own_rows_for_the_same_seed() -> None:
    made = make("smote", k=7).fit(two_classes(1.5), target="y", seed=0)
    found = made.sample(200, given={"y": True}, seed=3)
    seed = int(np.random.default_rng(3).integers(2**31))
    direct = SMOTE(sampling_strategy={True: 260}, k_neighbors=7, random_state=seed)
    wanted = direct.fit_resample(made.x_.astype(float), made.y_)[0][len(made.x_) :]
    mine = made.view_.transform(found)
    assert mine[np.lexsort(mine.T)] == pytest.approx(wanted[np.lexsort(wanted.T)], abs=1e-5)


def test_every_class_is_interpolated_inside_itself() -> None:
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"a": np.r_[rng.uniform(0, 1, 80), rng.uniform(5, 6, 20)], "y": np.arange(100) >= 80})
    made = make("smote").fit(table.rename_axis("subject"), target="y", seed=0)
    new = made.sample(500, seed=1)
    assert new["y"].mean() == 0.2
    assert new.loc[new["y"], "a"].between(5, 6).all()
    assert new.loc[~new["y"], "a"].between(0, 1).all()
    assert not new["a"].isin(table["a"]).any()
    assert made.sample(50, given={"y": True}, seed=1)["y"].all()


@pytest.mark.parametrize("variant", BORDER)
def test_a_variant_gives_as_many_rows_as_asked(variant: str) -> None:
    made = make("smote", variant=variant).fit(two_classes(1.0), target="y", seed=0)
    new = made.sample(333, seed=1)
    assert (len(new), new["y"].sum()) == (333, round(333 / 6))
    assert made.sample(333, seed=1).equals(new)
    assert not made.sample(333, seed=2).equals(new)


@pytest.mark.parametrize("variant", ["borderline", "svm", "adasyn"])
def test_a_variant_starts_near_the_other_class(variant: str) -> None:
    table = two_classes(2.0)
    plain, near = (
        make("smote", variant=v).fit(table, target="y", seed=0).sample(2_000, given={"y": True}, seed=1)
        for v in ("auto", variant)
    )
    assert near[["a", "b"]].sum(axis=1).mean() < plain[["a", "b"]].sum(axis=1).mean() - 0.15


def test_adasyn_draws_any_number_of_rows_by_itself(caplog: pytest.LogCaptureFixture) -> None:
    """It rounds down: asked for the few rows that are still lacking it gave none, and all became plain SMOTE's."""
    made = make("smote", variant="adasyn").fit(two_classes(2.0), target="y", seed=0)
    with caplog.at_level(logging.WARNING):
        for n in (1, 3, 50, 500, 2_000):
            for seed in range(3):
                assert len(made.sample(n, given={"y": True}, seed=seed)) == n
    assert not caplog.messages


def test_kmeans_starts_from_clusters_where_the_class_is_common() -> None:
    """Most of the rare class lies apart; a fifth of it lies inside the other class, where nothing is drawn."""
    table = two_classes(8.0)
    lost = table.index[-12:]
    table.loc[lost, ["a", "b"]] -= 8.0
    made = make("smote", variant="kmeans", clusters=2).fit(table, target="y", seed=0)
    assert made.sample(500, given={"y": True}, seed=1)["a"].min() > 4.0
    plain = make("smote").fit(table, target="y", seed=0)
    assert plain.sample(500, given={"y": True}, seed=1)["a"].min() < 3.0


@pytest.mark.parametrize("variant", ["borderline", "adasyn"])
def test_without_a_border_plain_smote_takes_over_and_says_so(variant: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        new = make("smote", variant=variant).fit(two_classes(50.0), target="y", seed=0).sample(60, seed=1)
    assert len(new) == 60
    assert f"variant '{variant}' gives way to plain SMOTE in class True" in caplog.text


@pytest.mark.parametrize("variant", ["auto", "smote", "smotenc", *BORDER])
def test_categories_stay_categories(variant: str) -> None:
    table = mixed()
    new = make("smote", variant=variant).fit(table, target="y", seed=0).sample(200, seed=1)
    assert new.dtypes.equals(table.dtypes)
    assert set(new["c"]) == {"u", "v", "w"}
    assert 0.02 < new["flag"].mean() < 0.6


@pytest.mark.parametrize("target", ["e", None])
@pytest.mark.parametrize("variant", ["auto", "smoten", "borderline"])
def test_categories_alone_with_and_without_a_target(variant: str, target: str | None) -> None:
    new = make("smote", variant=variant).fit(flags(), target=target, seed=0).sample(100, seed=2)
    assert list(new.dtypes) == [np.dtype(bool)] * 5
    assert len(new) == 100


def test_small_classes_lower_k_and_say_so(caplog: pytest.LogCaptureFixture) -> None:
    table = pd.DataFrame({"x": np.arange(20.0), "y": np.arange(20) < 3}).rename_axis("subject")
    with caplog.at_level(logging.WARNING):
        assert make("smote").fit(table, target="y", seed=0).sample(10, given={"y": True}, seed=0)["y"].all()
    assert caplog.messages == ["class True has 3 subjects: 2 neighbours instead of 5"]


def test_what_cannot_be_interpolated_is_refused() -> None:
    lone = pd.DataFrame({"x": np.arange(20.0), "y": np.arange(20) == 3}).rename_axis("subject")
    with pytest.raises(Unsupported, match="class True has 1 subjects in train; SMOTE needs two"):
        make("smote").fit(lone, target="y", seed=0).sample(5, given={"y": True}, seed=0)
    with pytest.raises(Unsupported, match="variant 'smoten' takes categories only; 2 features are numbers"):
        make("smote", variant="smoten").fit(two_classes(1.0), target="y", seed=0).sample(5, seed=0)
    with pytest.raises(Unsupported, match="variant 'smotenc' takes categories and numbers; all features are numbers"):
        make("smote", variant="smotenc").fit(two_classes(1.0), target="y", seed=0).sample(5, seed=0)
    with pytest.raises(ValueError, match="variant = 'smot': known are auto, smote, smotenc, smoten, borderline"):
        make("smote", variant="smot")
