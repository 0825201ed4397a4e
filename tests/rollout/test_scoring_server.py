"""A server that scores tokens: what it is asked, how its answers are read, what is refused."""

import math

import pytest
from aiohttp import web
from rollout.test_server_pool import StandIn, serve  # noqa: F401  (a fixture)

from luffy_pl.errors import EngineError, ModelError
from luffy_pl.rollout.scoring_server import ScoringServer, ServedModel

WORDS = ["a", "b", "c", "<end>"]
PROBE = ("abc", [0, 1, 2])


def decode(ids):
    return "".join(WORDS[token] for token in ids)


class Teacher(StandIn):
    """`vllm serve` in small: token t at place p has the log-probability -(10 p + t)."""

    def __init__(self, *, words=WORDS, models=("big",), longest=9, tells=True, gone_after=None):
        super().__init__()
        self.words, self.models, self.longest = words, models, longest
        self.tells, self.gone_after = tells, gone_after

    async def handle(self, request):
        self.asked[request.path] += 1
        body = await request.json() if request.can_read_body else None
        self.bodies.append(body)
        if request.path == "/v1/models":
            cards = [{"id": name, "max_model_len": self.longest} for name in self.models]
            return web.json_response({"data": cards})
        assert body["model"] in self.models
        if request.path == "/detokenize":
            text = "".join(self.words[token] for token in body["tokens"])
            return web.json_response({"prompt": text})
        if request.path == "/tokenize":
            assert body["add_special_tokens"] is False
            return web.json_response({"tokens": [self.words.index(c) for c in body["prompt"]]})
        if self.gone_after is not None and self.asked["/v1/completions"] > self.gone_after:
            return web.Response(status=503)
        ids = body["prompt"]
        if len(ids) >= self.longest:
            return web.Response(status=400, text="maximum context length")
        scores = [None] + [
            {str(token): {"logprob": -float(10 * place + token), "rank": 1, "decoded_token": ""}}
            for place, token in enumerate(ids[1:], start=1)
        ]
        choice = {"finish_reason": "length", "prompt_logprobs": scores if self.tells else None}
        return web.json_response({"choices": [choice]})


@pytest.fixture
def teach(serve):  # noqa: F811
    """The client of a teacher that runs here, by its address."""

    def start(teacher, **settings):
        [url] = serve(teacher).urls
        return ScoringServer("t", ServedModel(url, **{"timeout_s": 20.0} | settings))

    return start


def test_the_log_probability_of_each_token_but_the_first(teach):
    teacher, seen = Teacher(), []
    rows = [[0, 1, 2], [3], [2, 2, 1, 0]]
    server = teach(teacher, concurrency=1)
    assert server.window == 8
    found = server.logprobs(rows, on_progress=lambda done, total: seen.append((done, total)))
    assert found == [(-11.0, -22.0), (), (-12.0, -21.0, -30.0)]
    assert seen == [(1, 3), (2, 3), (3, 3)]
    asked = [body for body in teacher.bodies if body and "prompt_logprobs" in body]
    assert sorted(body["prompt"] for body in asked) == sorted(rows)
    assert all(body["prompt_logprobs"] == 0 and body["max_tokens"] == 1 for body in asked)


def test_an_address_may_end_as_that_of_a_client_does(serve):  # noqa: F811
    [url] = serve(Teacher()).urls
    assert str(ScoringServer("t", ServedModel(f"{url}/v1/"))) == f"model.frozen.t is big at {url}"


@pytest.mark.parametrize(
    ("models", "wanted", "words"),
    [
        (("big", "small"), None, "use one of big, small"),
        (("big",), "bigg", "did you mean big?"),
    ],
)
def test_the_model_is_one_that_is_served(teach, models, wanted, words):
    with pytest.raises(EngineError) as refused:
        teach(Teacher(models=models), model=wanted)
    assert refused.value.where == "model.frozen.t.model"
    assert words in str(refused.value)


def test_the_same_tokenizer_passes(teach):
    teach(Teacher()).check_tokenizer(range(4), decode, PROBE)


def test_a_token_that_is_another_word_there_is_named(teach):
    server = teach(Teacher(words=["a", "b", "d", "<end>"]))
    with pytest.raises(ModelError, match="token 2 is 'd' there and 'c' here"):
        server.check_tokenizer(range(4), decode, ("ab", [0, 1]))


def test_a_text_that_is_cut_otherwise_is_refused(teach):
    with pytest.raises(ModelError, match="'abc' has 3 tokens there, or other ones"):
        teach(Teacher()).check_tokenizer(range(4), decode, ("abc", [0, 3]))


@pytest.mark.parametrize(
    ("teacher", "words"),
    [
        (Teacher(tells=False), "gives no prompt_logprobs"),
        (Teacher(gone_after=1), "no answer from http://127.0.0.1"),
        (Teacher(longest=3), "maximum context length"),
    ],
)
def test_a_server_that_cannot_score_ends_the_run_with_one_line(teach, teacher, words):
    server = teach(teacher, timeout_s=1.0)
    with pytest.raises(EngineError, match=words) as ended:
        server.logprobs([[0, 1], [0, 1, 2]], on_progress=lambda done, total: None)
    assert ended.value.where == "model.frozen.t.url"
    assert "\n" not in str(ended.value)


def test_a_server_that_says_no_length_is_no_vllm(teach):
    with pytest.raises(EngineError, match="does not say its max_model_len"):
        teach(Teacher(longest=None))


def test_a_row_of_one_token_has_nothing_to_score(teach):
    [(score,)] = teach(Teacher()).logprobs([[1, 1]], on_progress=lambda done, total: None)
    assert math.isclose(score, -11.0)
