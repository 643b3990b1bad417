"""Our results in SAEBench's JSON, held against the schemas of sae-bench 0.6.0."""

import json
from pathlib import Path

import pytest

from latent_assay.evals import measured, not_measurable
from latent_assay.evals.sae_bench_json import sae_bench_json
from tests.evals.schema import faults

SCHEMAS = json.loads((Path(__file__).parent / "sae_bench_0_6_0.json").read_text())["schemas"]

RESULTS = {
    "sparse_probing": measured(
        "sparse_probing",
        {"auc@1": [0.8, 0.9], "accuracy_raw@1": [0.7, 0.8], "accuracy_raw@5": [0.8, 0.9]},
        baselines={
            "activation": {"accuracy_raw@1": [0.6, 0.6]},
            "dense probe": {"accuracy": [0.95, 0.95]},
        },
        config={"data": "some texts", "context_size": 128},
    ),
    "scr": measured(
        "scr", {"scr@2": [0.1], "scr_first@2": [0.1], "scr_second@2": [0.3]},
        config={"ablated": [2], "probe": {"epochs": 3, "lr": 0.1, "l1": 0.0, "batch_size": 4}},
    ),
    "tpp": measured(
        "tpp", {"tpp@10": [0.1, 0.2], "intended@10": [0.3, 0.3], "unintended@10": [0.2, 0.1]}
    ),
    "absorption": measured(
        "absorption",
        {
            "f1_firing": [0.8],
            "absorption_fraction_published": [0.2],
            "full_absorption_published": [0.1],
        },
        details={
            "main": {"a": [3], "b": [1, 7]},
            "by_concept": {"absorption_fraction_published": {"a": 0.1, "b": 0.3}},
        },
    ),
    "autointerp": measured(
        "autointerp", {"detection": [0.5, 0.4]},
        details={"latents": [{"detection": {"corrected": c}} for c in (0.2, 0.8)]},
    ),
}  # fmt: skip


def written(result, **changes):
    return sae_bench_json(
        result,
        **{
            "model_name": "m", "sae_id": "s", "sae_config": {"d_sae": 8}, "epoch_millis": 1,
            "version": "0.1",
        }
        | changes,
    )  # fmt: skip


@pytest.mark.parametrize("name", RESULTS)
def test_it_is_what_sae_bench_reads(name):
    content = json.loads(json.dumps(written(RESULTS[name]), allow_nan=False))
    assert faults(content, SCHEMAS[name], SCHEMAS[name]) == []
    assert content["eval_type_id"] == SCHEMAS[name]["properties"]["eval_type_id"]["default"]
    assert content["eval_result_unstructured"]["latent_assay"]["name"] == name


def test_numbers_arrive_where_they_belong():
    probing = written(RESULTS["sparse_probing"])["eval_result_metrics"]
    assert probing["sae"]["sae_top_5_test_accuracy"] == pytest.approx(0.85)
    assert probing["sae"]["sae_top_2_test_accuracy"] is None
    assert probing["llm"]["llm_top_1_test_accuracy"] == pytest.approx(0.6)
    assert probing["llm"]["llm_test_accuracy"] == pytest.approx(0.95)
    assert written(RESULTS["scr"])["eval_result_metrics"]["scr_metrics"][
        "scr_dir2_threshold_2"
    ] == pytest.approx(0.3)
    assert written(RESULTS["tpp"])["eval_result_metrics"]["tpp_metrics"][
        "tpp_threshold_10_total_metric"
    ] == pytest.approx(0.15)
    found = written(RESULTS["autointerp"])["eval_result_metrics"]["autointerp"]
    assert found["autointerp_score"] == pytest.approx(0.725)  # 0.5 is chance there, 0 is ours
    assert found["autointerp_std_dev"] == pytest.approx(0.2121, abs=1e-4)


def test_absorption_by_letter_becomes_its_spread():
    found = written(RESULTS["absorption"])["eval_result_metrics"]["mean"]
    assert found["mean_absorption_fraction_score"] == pytest.approx(0.2)
    assert found["std_dev_absorption_fraction_score"] == pytest.approx(0.1414, abs=1e-4)
    assert found["mean_num_split_features"] == 1.5


def test_what_has_no_place_is_not_written():
    assert written(not_measurable("tpp", "too few texts")) is None
    assert written(measured("core", {"explained_variance": [0.9]})) is None
    bare = measured("sparse_probing", {"accuracy_raw@1": [0.7]})
    assert written(bare) is None  # SAEBench demands the dense probe's accuracy


def test_the_check_finds_faults():
    schema = SCHEMAS["autointerp"]
    content = written(RESULTS["autointerp"])
    broken = json.loads(json.dumps(content))
    del broken["eval_result_metrics"]["autointerp"]["autointerp_std_dev"]
    broken["eval_result_metrics"]["autointerp"]["invented"] = 1
    broken["datetime_epoch_millis"] = "now"
    assert faults(broken, schema, schema) == [
        "result.datetime_epoch_millis is 'now', expected integer",
        "result.eval_result_metrics.autointerp lacks autointerp_std_dev",
        "result.eval_result_metrics.autointerp has an unknown invented",
    ]
