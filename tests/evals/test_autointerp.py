"""Auto-interpretation: chance is 0, negatives are inactive, nothing is asked twice."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
import torch

from latent_assay.activations import LanguageModel, bundled_minilm
from latent_assay.errors import ConfigError, DataError, EndpointError
from latent_assay.evals.autointerp import (
    AutoInterpConfig,
    ChatExplainer,
    ChatJudge,
    ContextExplainer,
    EmbeddingJudge,
    ExampleConfig,
    HttpChat,
    Ledger,
    LocalChat,
    Window,
    WindowedText,
    autointerp,
    choose,
    firings,
    interpret,
    score,
    windowed,
)
from latent_assay.recipes import topk
from latent_assay.sae import SAE
from latent_assay.sparsifiers import ReLU
from tests.activations import tiny_models

WORDS = ("sun", "rain", "dog", "cat", "red", "blue", "one", "two")
SMALL = ExampleConfig(latents=4, top=4, spread=3, tested=6, fewest=12)


@pytest.fixture(scope="module")
def text():
    """120 windows of ten words; an activation is its word's own direction."""
    generator = torch.Generator().manual_seed(0)
    kind = torch.randint(4, (120,), generator=generator)
    pattern = torch.randperm(1024, generator=generator)[:120]  # no window comes twice
    word = kind[:, None] * 2 + (pattern[:, None] >> torch.arange(10)) % 2
    token = word.flatten()
    return WindowedText(
        x=torch.eye(8)[token],
        window=torch.arange(120).repeat_interleave(10),
        token=token,
        pieces={i: " " + each for i, each in enumerate(WORDS)},
    )


@pytest.fixture(scope="module")
def sae():
    """Latents 0-3 fire on one pair of words each, 4 on everything, 5 on nothing, 6-7 on one."""
    rows = torch.zeros(8, 8)
    for kind in range(4):
        rows[kind, 2 * kind : 2 * kind + 2] = 1
    rows[4] = 1
    rows[6, 0], rows[7, 3] = 1, 1
    return SAE(rows[None], sparsifier=ReLU()).eval()


class Always:
    """A judge that always gives the same answer."""

    graded = False

    def __init__(self, answer):
        self.answer = answer
        self.name = f"always {answer}"

    def detect(self, explanation, windows):
        return [self.answer] * len(windows)

    fuzz = detect


class Knowing:
    """A judge that looks for the words that were marked in the explanation's contexts."""

    graded = True
    name = "knowing"

    def words(self, windows):
        return {
            token
            for window in windows
            for token, mark in zip(window.tokens, window.marked, strict=False)
            if mark
        }

    def detect(self, explanation, windows):
        known = self.words(explanation.shown)
        return [float(sum(token in known for token in w.tokens)) for w in windows]

    def fuzz(self, explanation, windows):
        known = self.words(explanation.shown)
        return [1.0 if self.words([w]) <= known else -1.0 for w in windows]


def test_inactive_contexts_are_inactive(text, sae):
    z = sae.encode(text.x)[0]
    spoken = {window: text.show(window).text() for window in range(text.n_windows)}
    drawn = choose(firings(sae, text.x), text, SMALL)
    assert drawn.eligible == 6  # all but the one that is always on, and the dead one
    for each in drawn.examples:
        silent = {spoken[w] for w in spoken if not z[text.window == w][:, each.latent].any().item()}
        assert {window.text() for window in (*each.inactive, *each.contrast)} <= silent
        assert not {window.text() for window in each.active} & silent
        used = [window.text() for window in (*each.shown, *each.active)]
        assert len(set(used)) == len(used)  # none serves for both


def test_marks_are_right_or_wrong_and_equally_many(text, sae):
    (each,) = choose(firings(sae, text.x), text, SMALL, latents=[6]).examples
    for window in each.active:
        fired = [token == " sun" for token in window.tokens]
        assert list(window.marked) == fired
    right = {window.tokens: window.marked for window in each.active}
    for wrong in each.wrong:  # none for a window that has too few other tokens
        marked = right[wrong.tokens]
        assert not any(a and b for a, b in zip(marked, wrong.marked, strict=True))
        assert sum(marked) == sum(wrong.marked)
    assert len(each.wrong) >= 3


@pytest.mark.parametrize("answer", [-1.0, 1.0, None])
def test_a_judge_without_an_opinion_scores_nothing(text, sae, answer):
    """SAEBench 0.6.0 gives "None" 10/14 = 0.714."""
    result = autointerp(sae, text, Always(answer), config=AutoInterpConfig(examples=SMALL))
    for found in (result.metrics, *result.baselines.values()):
        assert found["detection"].mean == 0
    assert result.metrics["unreadable"].mean == (answer is None)
    none_of_them = score([-1.0] * 4, [-1.0] * 10, graded=False)
    assert none_of_them.corrected == 0


def test_a_judge_that_knows_scores_all(text, sae):
    config = AutoInterpConfig(examples=SMALL, seeds=(0, 1), baselines=False)
    result = autointerp(sae, text, Knowing(), config=config)
    assert result.metrics["detection"].mean == result.metrics["detection_auc"].mean == 1
    assert result.metrics["fuzzing"].mean == 1
    assert result.baselines["another latent's explanation"]["detection"].mean < 0.5
    assert result.metrics["detection"].n == 2
    assert result.details["eligible"] == 6


def test_scores_by_hand():
    found = score([2.0, 1.0, -1.0, None], [-2.0, 0.5], graded=True)
    assert (found.sensitivity, found.specificity) == (0.5, 0.5)
    assert found.corrected == 0
    assert found.auc == pytest.approx((2 + 2 + 0 - 2) / 8)
    assert found.unreadable == pytest.approx(1 / 6)
    assert score([], [1.0], graded=True) is None
    perfect = score([3.0, 2.0], [1.0, 0.5], graded=True)
    assert (perfect.corrected, perfect.auc) == (0, 1)  # in order, but all above the threshold


def test_nothing_is_asked_twice(text, sae, tmp_path):
    class Counting(Knowing):
        asked = 0
        left = 5

        def detect(self, explanation, windows):
            type(self).asked += 1
            if self.asked == self.left:
                raise EndpointError("gone")
            return super().detect(explanation, windows)

    config = AutoInterpConfig(examples=SMALL, seeds=(0,), baselines=False)
    with pytest.raises(EndpointError):
        autointerp(sae, text, Counting(), config=config, folder=tmp_path)
    half = Counting.asked
    lines = (tmp_path / "seed 0" / "scores.jsonl").read_text().splitlines()
    assert len(lines) == 2
    (tmp_path / "seed 0" / "scores.jsonl").write_text(lines[0] + "\n" + lines[1][:20])  # torn
    result = autointerp(sae, text, Counting(), config=config, folder=tmp_path)
    assert Counting.asked == half + 2 * 3  # one latent was kept
    whole = autointerp(sae, text, Counting(), config=config)
    assert {k: v.mean for k, v in whole.metrics.items()} == {
        k: v.mean for k, v in result.metrics.items()
    }
    before = Counting.asked
    autointerp(sae, text, Counting(), config=config, folder=tmp_path)
    assert Counting.asked == before
    stored = (tmp_path / "seed 0" / "explanations.jsonl").read_text().splitlines()
    assert "fires on" in json.loads(stored[0])["value"]["text"]
    other = AutoInterpConfig(examples=ExampleConfig(fewest=14), seeds=(0,), baselines=False)
    with pytest.raises(ConfigError, match="begun with other settings: `fewest` is 12 there and 14"):
        autointerp(sae, text, Counting(), config=other, folder=tmp_path)


def test_too_little_text_is_said(text, sae):
    rare = AutoInterpConfig(examples=ExampleConfig(fewest=200))
    assert (
        "fires in at least 200 of 120 windows"
        in autointerp(sae, text, Always(1.0), config=rare).not_measurable
    )
    with pytest.raises(ConfigError, match="this SAE has 2 members"):
        firings(topk(d_in=8, width=8, k=2, seeds=(0, 1)).sae, text.x)
    with pytest.raises(ConfigError, match="at least 8 active contexts"):
        ExampleConfig(fewest=2)
    with pytest.raises(ConfigError, match="at least one seed"):
        AutoInterpConfig(seeds=())


def test_windows_as_text():
    window = Window(tokens=("a", " b", " c", " d"), marked=(False, True, True, False))
    assert window.highlighted() == "a<< b c>> d"
    assert window.passages() == "b c"
    assert window.text() == Window(tokens=window.tokens).passages() == "a b c d"
    assert Window.from_json(json.loads(json.dumps(window.to_json()))) == window


@pytest.fixture
def endpoint():
    """An OpenAI-compatible server that answers what it is told to."""
    seen, answers = [], []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            seen.append((self.path, body, self.headers.get("Authorization")))
            status, content = answers.pop(0) if len(answers) > 1 else answers[0]
            self.send_response(status)
            self.end_headers()
            self.wfile.write(content.encode())

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/v1", seen, answers
    server.shutdown()
    server.server_close()
    thread.join()


def says(content):
    return (200, json.dumps({"choices": [{"message": {"content": content}}]}))


def test_an_endpoint_explains_and_judges(text, sae, endpoint, monkeypatch):
    address, seen, answers = endpoint
    monkeypatch.setenv("A_KEY", "secret")
    chat = HttpChat(base_url=address, model="m", key_variable="A_KEY", pause=0.01)
    drawn = choose(firings(sae, text.x), text, SMALL, latents=[0, 1])
    answers += [(503, "busy"), says("Well.\nEXPLANATION: words for weather"), says("1, 3")]
    found = interpret(drawn, ChatExplainer(chat), ChatJudge(chat, together=6))
    assert found[0].explanation.text == "words for weather"
    path, body, key = seen[1]
    assert (path, key) == ("/v1/chat/completions", "Bearer secret")
    assert body["temperature"] == 0
    assert "<< sun" in body["messages"][1]["content"].replace("<< rain", "<< sun")
    # the 1st and 3rd of each question were accepted, whatever they were
    assert found[0].detection.sensitivity == pytest.approx(1 / 3)
    assert found[0].detection.unreadable == 0
    assert found[0].detection.n == (6, 6)
    assert chat.name == "m"
    assert "secret" not in repr(chat)


def test_an_endpoint_that_says_nothing(endpoint, monkeypatch):
    address, seen, answers = endpoint
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    chat = HttpChat(base_url=address, model="m", attempts=2, pause=0.01)
    answers[:] = [(401, "no key")]
    with pytest.raises(EndpointError, match=r"answered 401 Unauthorized: no key.*OPENAI_API_KEY"):
        chat.ask("s", "q", max_tokens=5)
    assert len(seen) == 1  # asking again would not help
    assert seen[0][2] is None
    answers[:] = [(500, "broken")]
    with pytest.raises(EndpointError, match="answered 500"):
        chat.ask("s", "q", max_tokens=5)
    assert len(seen) == 3
    answers[:] = [(200, "<html>")]
    with pytest.raises(EndpointError, match="a form that is not OpenAI's"):
        chat.ask("s", "q", max_tokens=5)
    nobody = HttpChat(base_url="http://127.0.0.1:9/v1", model="m", attempts=1)
    with pytest.raises(EndpointError, match="could not be reached"):
        nobody.ask("s", "q", max_tokens=5)
    with pytest.raises(ConfigError, match="expected an address such as"):
        HttpChat(base_url="localhost", model="m")


def test_a_local_model_answers(tmp_path, text, sae):
    chat = LocalChat.load(tiny_models.save(tmp_path / "gpt2", "gpt2"))
    drawn = choose(firings(sae, text.x), text, SMALL, latents=[0])
    (first,) = interpret(drawn, ChatExplainer(chat), ChatJudge(chat, together=12))
    assert isinstance(first.explanation.text, str)
    assert -1 <= first.detection.corrected <= 1  # it knows nothing, but its answers are read
    assert first.detection.n == (6, 6)


@pytest.fixture(scope="module")
def minilm():
    return LanguageModel.load(bundled_minilm())


def test_embeddings_judge_offline(minilm, text, sae):
    judge = EmbeddingJudge.of(minilm)
    config = AutoInterpConfig(examples=SMALL, seeds=(0,), baselines=False)
    result = autointerp(sae, text, judge, config=config)
    assert result.metrics["detection_auc"].mean > 0.8
    assert result.metrics["detection"].mean > 0.6
    assert abs(result.baselines["another latent's explanation"]["detection_auc"].mean) < 0.7
    with pytest.raises(ConfigError, match="is an encoder and cannot answer"):
        LocalChat(minilm)


def test_real_text_end_to_end(minilm):
    hook = "blocks.2.hook_resid_post"
    read = windowed(minilm, "cpython", hook, n_tokens=1_500, window=16)
    assert read.n_windows > 70
    window = read.show(3)
    assert len(window.tokens) in range(8, 17)
    rows = read.rows_of(3)
    assert np.unique(read.window[rows.start : rows.stop]).tolist() == [3]
    sae = topk(d_in=384, width=64, k=4).sae
    config = AutoInterpConfig(
        examples=ExampleConfig(latents=3, top=3, spread=2, tested=4, fewest=8), seeds=(0,)
    )
    result = autointerp(sae.exported(), read, EmbeddingJudge.of(minilm), config=config)
    assert result.not_measurable is None
    assert set(result.baselines) == {"another latent's explanation", "random dictionary"}
    assert result.details["latents"][0]["explanation"].startswith("fires on")
    twice = windowed(minilm, ["a b c d e f g h " * 40], hook, n_tokens=300, window=8)
    shown = [twice.show(i).text() for i in range(twice.n_windows)]
    assert len(set(shown)) == len(shown)  # nothing is explained and tested on the same words
    with pytest.raises(DataError, match="no piece of at least 20 tokens"):
        windowed(minilm, ["short"], hook, window=40, n_tokens=50)


def test_the_context_explainer_names_tokens(text, sae):
    (each,) = choose(firings(sae, text.x), text, SMALL, latents=[6]).examples
    assert ContextExplainer().explain(each).text == "fires on 'sun'"


def test_a_ledger_that_is_no_ledger(tmp_path):
    (tmp_path / "settings.json").write_text("{")
    with pytest.raises(Exception, match="is not JSON"):
        Ledger(tmp_path, {})
