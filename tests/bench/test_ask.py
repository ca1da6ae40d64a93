"""What is asked of a fitted generator beside its sample: conditions, prompts, and codes as targets."""

import json
from pathlib import Path

import pytest

from bench.ask import Asked, prompts_of
from bench.datasets import open_dataset
from bench.errors import BenchError
from bench.run import run_cell
from bench.store import Store
from bench.suite import cells, find_suite
from conftest import write

PROMPTED = ("sim-ehr", "diabetes130")
SUITE = """
name = "asks"
datasets = [{ name = "sim-ehr[codes=20,rows=400]", conditions = [["I10"], ["I10", "E78"]], prompts = "building" }]
generators = [GENERATOR]
metrics = ["guidance"]
"""
FORGE = '{ name = "healthforge", params = { ae_steps = 20, steps = 20, sample_steps = 4, texts = 30, hidden = 16 } }'


def record(folder: Path, generator: str, text: str = SUITE):
    path = write(folder / "asks.toml", text.replace("GENERATOR", generator))
    ((cell, _, _),) = cells(find_suite(str(path)), None)
    store = Store.open(folder / "store")
    store.add(cell)
    names = find_suite(str(path)).metric_names
    return run_cell(cell, store, data_dir=None, metric_names=names, phase=lambda name: None)


def test_a_cell_has_as_many_positives_in_train_as_its_dataset_says(tmp_path: Path) -> None:
    text = SUITE.replace('metrics = ["guidance"]', 'metrics = ["prevalence_holdout"]')
    a, b = text.index("datasets"), text.index("generators")
    found = {}
    for cut in ("", "[train_positives=20]"):
        part = f"{text[:a]}datasets = ['breast-cancer{cut}']\n{text[b:]}"
        found[cut] = record(tmp_path / cut, '"copycat"', part).facts
    assert found[""]["n_train"] - found["[train_positives=20]"]["n_train"] == 170 - 20
    assert found[""]["n_holdout"] == found["[train_positives=20]"]["n_holdout"]
    assert found[""]["prevalence"] == found["[train_positives=20]"]["prevalence"]


def test_positives_are_drawn_when_a_metric_reads_them_and_nothing_else_changes(tmp_path: Path) -> None:
    text = SUITE.replace("sim-ehr[codes=20,rows=400]", "breast-cancer[train_positives=20]").replace(
        ', conditions = [["I10"], ["I10", "E78"]], prompts = "building"', ""
    )
    store, names = tmp_path / "store" / "data" / "samples", ("ks_gap", "boost_auprc")
    found = {}
    for metric in names:
        scores = record(tmp_path, '"smote"', text.replace('"guidance"', f'"{metric}"')).scores
        (folder,) = [p for p in store.iterdir() if p.is_dir()]
        found[metric] = {p.name: p.read_bytes() for p in folder.iterdir() if p.suffix == ".parquet"}
    assert set(found["ks_gap"]) == {"synth.parquet"}
    assert set(found["boost_auprc"]) == {"synth.parquet", "minority.parquet"}
    assert found["ks_gap"]["synth.parquet"] == found["boost_auprc"]["synth.parquet"]
    assert "value" in scores["boost_auprc/xgb/100/gain"]
    assert "ks_gap" in scores  # kept from before


def test_conditions_and_prompts_end_as_scores(tmp_path: Path) -> None:
    found = record(tmp_path, FORGE).scores
    for name in ("I10", "I10+E78", "target"):
        assert 0 <= found[f"condition_rate_score/{name}"]["value"] <= 1
        assert "value" in found[f"condition_prevalence_error/{name}"]
    assert 0 < found["prompt_accuracy_score"]["value"] < 1
    assert abs(found["prompt_gain_score"]["value"]) < 0.5
    assert found["prompt_accuracy_score"]["n"] < 20  # prompts on codes that the cut has removed are left out


def test_what_a_generator_cannot_answer_is_undefined_with_its_reason(tmp_path: Path) -> None:
    found = record(tmp_path, '"mixture"').scores
    assert found["condition_rate_score/I10+E78"]["value"] == 1  # exact under this model
    assert found["prompt_accuracy_score"] == {"undefined": "the generator takes no prompts"}
    deaf = record(tmp_path, FORGE.replace("texts = 30", "texts = 0")).scores
    assert "texts=0" in deaf["prompt_gain_score"]["undefined"]
    assert "texts=0" in deaf["condition_rate_score/I10"].get("undefined", "texts=0")


def test_a_condition_on_no_flag_fails_before_the_fit(tmp_path: Path) -> None:
    failed = record(tmp_path, '"marginal"', SUITE.replace('["I10"]', '["I11"]'))
    assert failed.status == "failed"
    assert failed.fault.phase == "load"
    assert "unknown condition on sim-ehr[codes=20,rows=400]: flag 'I11'" in failed.reason


def test_what_is_asked_is_part_of_a_key_and_nothing_asked_is_not(tmp_path: Path) -> None:
    def key(text: str) -> str:
        ((cell, _, _),) = cells(find_suite(str(write(tmp_path / "k.toml", text))), None)
        return cell.key

    plain = 'name = "k"\ngenerators = ["marginal"]\ndatasets = [{ name = "sim-ehr" }]\n'
    with_conditions = plain.replace('"sim-ehr"', '"sim-ehr", conditions = [["I10"]]')
    with_prompts = plain.replace('"sim-ehr"', '"sim-ehr", prompts = "building"')
    assert len({key(plain), key(with_conditions), key(with_prompts)}) == 3
    assert key(plain) == key(plain.replace('[{ name = "sim-ehr" }]', '["sim-ehr"]'))


@pytest.mark.parametrize("which", ["building", "final"])
@pytest.mark.parametrize("dataset", PROMPTED)
def test_prompt_files_hold_twenty_prompts_each(dataset: str, which: str) -> None:
    asked = [Asked.model_validate(p) for p in json.loads(prompts_of(dataset, which))]
    assert len(asked) == len({a.text for a in asked}) == 20


@pytest.mark.parametrize("dataset", PROMPTED)
def test_no_prompt_is_in_both_files(dataset: str) -> None:
    building, final = ({p["text"] for p in json.loads(prompts_of(dataset, w))} for w in ("building", "final"))
    assert not building & final


@pytest.mark.parametrize("which", ["building", "final"])
def test_prompts_name_what_the_simulation_has(which: str) -> None:
    table = open_dataset("sim-ehr", None).load().table
    for prompt in json.loads(prompts_of("sim-ehr", which)):
        for name, value in prompt["expect"].items():
            if name not in table.columns:
                assert set(value) & set(table.columns), (prompt["text"], name)
            elif isinstance(value, list) and name == "age":
                assert value[0] < value[1]
            else:
                assert value in table[name].unique(), (prompt["text"], name)


def test_a_code_as_target() -> None:
    data = open_dataset("sim-ehr[codes=20,rows=500,target=I10]", None).load()
    assert data.roles.target == "I10"
    assert "I10" not in data.roles.codes
    assert str(data.table["died"].dtype) == "bool"
    with pytest.raises(BenchError, match="unknown target 'I11'"):
        open_dataset("sim-ehr[codes=20,rows=500,target=I11]", None).load()


def test_a_rare_code_as_target_survives_the_cut(data_dir: Path) -> None:
    data = open_dataset("diabetes130[codes=20,rows=2000,target=342]", data_dir).load()
    assert data.roles.target == "342"
    assert len(data.roles.codes) == 20
    assert 0 < data.table["342"].mean() < 0.02
