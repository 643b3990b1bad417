"""A suite goes on whatever happens, keeps what it has, and does not measure twice."""

import json
import math

import pytest
import torch

from latent_assay.activations import LanguageModel, bundled_minilm
from latent_assay.errors import ConfigError, DataError, EndpointError, FormatError, HookError
from latent_assay.evals import EVALUATIONS, measured, suite
from latent_assay.evals.groups import Group, fingerprint
from latent_assay.evals.materials import Materials, SuiteConfig
from latent_assay.evals.storing import result_from_json, result_json
from latent_assay.evals.suite import Suite
from latent_assay.recipes import topk
from latent_assay.sae import stack

HOOK = "blocks.2.hook_resid_post"


def suite_of(model, **settings):
    return Suite(Materials(model, HOOK, config=SuiteConfig(**settings)))


@pytest.fixture(scope="module")
def minilm():
    return LanguageModel.load(bundled_minilm())


@pytest.fixture(scope="module")
def saes():
    small = topk(d_in=384, width=64, k=4, seeds=(0, 1)).sae.exported()
    return {"small": small, "other/one": topk(d_in=384, width=64, k=4, seeds=(5,)).sae.exported()}


@pytest.fixture
def counted(monkeypatch):
    """Three groups: one that works, one that cannot be measured, one that breaks."""
    calls = []

    def works(suite, sae, folder):
        calls.append("tpp")
        return {"tpp": measured("tpp", {"tpp@2": [sae.W_dec.sum().item()]})}

    def cannot(suite, sae, folder):
        calls.append("scr")
        raise DataError("every text has the label 'a'.")

    def breaks(suite, sae, folder):
        calls.append("autointerp")
        raise ZeroDivisionError("oh")

    groups = (
        Group(name="broken", gives=("autointerp",), measure=breaks),
        Group(name="spurious", gives=("scr",), measure=cannot),
        Group(name="targeted", gives=("tpp",), measure=works),
    )
    monkeypatch.setattr(suite, "GROUPS", groups)
    return calls


def test_what_fails_stops_nothing(minilm, saes, counted):
    found = suite_of(minilm).run(saes)
    assert list(found) == ["small", "other/one"]
    for results in found.values():
        assert list(results) == ["autointerp", "scr", "tpp"]
        assert results["autointerp"].not_measurable == "it failed: ZeroDivisionError: oh"
        assert results["scr"].not_measurable == "every text has the label 'a'."
        assert results["tpp"].not_measurable is None
    assert "Traceback" in found["other/one"]["autointerp"].details["traceback"]
    assert found["small"]["tpp"].metrics["tpp@2"].n == 2  # two members, so a spread
    assert found["other/one"]["tpp"].metrics["tpp@2"].n == 1


def test_nothing_is_measured_twice_but_failures(minilm, saes, counted, tmp_path):
    first = suite_of(minilm).run(saes, folder=tmp_path)
    counted.clear()
    seen = []
    again = suite_of(minilm).run(saes, folder=tmp_path, advance=lambda *at: seen.append(at))
    assert counted == ["autointerp"] * 3  # two members and one
    assert seen[0] == ("small", "broken")
    assert again["small"]["tpp"].metrics == first["small"]["tpp"].metrics
    counted.clear()
    suite_of(minilm, tokens=999).run(saes, only=["tpp"], folder=tmp_path)
    assert counted == ["tpp"] * 3  # other settings
    counted.clear()
    other = {"small": topk(d_in=384, width=64, k=4, seeds=(7, 8)).sae}
    suite_of(minilm, tokens=999).run(other, only=["tpp"], folder=tmp_path)
    assert counted == ["tpp"] * 2  # another SAE of the same name
    (place,) = (tmp_path).glob("other-one*/targeted.json")
    place.write_text("{")
    counted.clear()
    suite_of(minilm, tokens=999).run(saes, only=["tpp"], folder=tmp_path)
    assert counted == ["tpp"] * 3
    assert not list(tmp_path.rglob("*.part"))


def test_an_endpoint_that_is_gone_is_asked_again(minilm, saes, monkeypatch, tmp_path):
    state = {"up": False}

    def asks(suite, sae, folder):
        if not state["up"]:
            raise EndpointError("nobody there")
        return {"tpp": measured("tpp", {"tpp@2": [0.5]})}

    monkeypatch.setattr(suite, "GROUPS", (Group(name="t", gives=("tpp",), measure=asks),))
    one = {"a": saes["other/one"]}
    down = suite_of(minilm).run(one, folder=tmp_path)["a"]["tpp"]
    assert down.not_measurable == "nobody there"
    state["up"] = True
    assert suite_of(minilm).run(one, folder=tmp_path)["a"]["tpp"].not_measurable is None


def test_bad_requests(minilm, saes):
    with pytest.raises(
        ConfigError, match=r"no evaluation `tp`; expected .*tpp.* Did you mean `tpp`"
    ):
        suite_of(minilm).run(saes, only=["tp"])
    with pytest.raises(HookError, match="no hook point"):
        Suite(Materials(minilm, "blocks.77.hook_resid_post"))


def test_a_fingerprint_is_the_weights(saes):
    a, b = saes["small"].unstack()
    assert fingerprint(a) == fingerprint(stack([a]))
    assert fingerprint(a) != fingerprint(b)
    changed = stack([a])
    with torch.no_grad():
        changed.b_enc[0, 0] += 1e-3
    assert fingerprint(a) != fingerprint(changed)


def test_results_survive_json():
    result = measured(
        "tpp", {"tpp@2": [0.1, 0.2], "intended@2": [0.5]},
        baselines={"random dictionary": {"tpp@2": [0.0]}},
        details={"odd": math.nan, 3: (1, 2), "tensor": torch.tensor([1.0, math.inf])},
        config={"seeds": [0, 1]}, seconds=1.5,
    )  # fmt: skip
    text = json.dumps(result_json(result), allow_nan=False)
    back = result_from_json(json.loads(text))
    assert back.metrics["tpp@2"] == result.metrics["tpp@2"]
    assert math.isnan(back.metrics["intended@2"].sd)
    assert back.details == {"odd": None, "3": [1, 2], "tensor": [1.0, None]}
    assert json.loads(text)["caveat"].startswith("Unreliable")
    with pytest.raises(FormatError, match="not the result of an evaluation"):
        result_from_json({"format": "something else"})


def test_every_evaluation_of_the_suite_is_in_the_catalogue():
    names = [name for group in suite.GROUPS for name in group.gives]
    assert len(set(names)) == len(names)
    assert set(names) <= set(EVALUATIONS)
    assert suite.measurable() == [name for name in EVALUATIONS if name in names]
