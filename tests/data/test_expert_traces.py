import pytest

from luffy_pl.data.chat import encode
from luffy_pl.data.expert_traces import (
    check_trace,
    choose_traces,
    is_usable,
    tokenize_traces,
    with_logprobs,
)
from luffy_pl.errors import DataError, ModelError
from luffy_pl.records import ExpertTrace

EOS = 257


def refusal(call, *args, **kwargs):
    with pytest.raises(DataError) as caught:
        call(*args, where="rows.jsonl:7", **kwargs)
    assert caught.value.exit_code == 3
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith("rows.jsonl:7: ")
    assert ". Fix: " in message
    return message


def trace(num_tokens):
    return ExpertTrace(text="x", token_ids=(5,) * (num_tokens - 1) + (EOS,))


def test_a_trace_ends_with_one_eos_and_gets_no_bos(tokenizer):
    plain, ended = tokenize_traces(tokenizer, ["4", "4<eos>"])
    assert plain == ended
    assert plain.text == "4"
    assert plain.token_ids == (*tokenizer.encode("4", add_special_tokens=False), EOS)
    check_trace(plain, where="")


@pytest.mark.case(22)
def test_a_tokenizer_without_eos(make_tokenizer):
    tokenizer = make_tokenizer(eos_token=None)
    with pytest.raises(ModelError, match=r"tokenizer\.eos_token: .* Fix: set eos_token") as caught:
        tokenize_traces(tokenizer, ["4"])
    assert caught.value.exit_code == 4
    assert tokenize_traces(tokenizer, []) == []


@pytest.mark.parametrize("text", ["4<eos>5", "4<eos>\n", "4<eos><eos>"])
def test_a_trace_goes_on_after_its_end(tokenizer, text):
    (ended_twice,) = tokenize_traces(tokenizer, [text])
    message = refusal(check_trace, ended_twice)
    assert "holds EOS as token 2 of " in message
    assert f"got {ended_twice.text!r}" in message


@pytest.mark.parametrize("text", ["", "<eos>", " \n"])
def test_a_trace_without_words(tokenizer, text):
    (empty,) = tokenize_traces(tokenizer, [text])
    assert "the expert trace is empty" in refusal(check_trace, empty)


def test_recorded_logprobs_cover_every_token_and_eos():
    assert with_logprobs(trace(3), (-0.5, -1.0, -0.1), where="").logprobs == (-0.5, -1.0, -0.1)
    assert with_logprobs(trace(3), None, where="").logprobs is None
    message = refusal(with_logprobs, trace(3), (-0.5, -1.0))
    assert "3 tokens, EOS included, and 2 recorded log-probabilities" in message


@pytest.mark.case(19)
def test_a_long_trace_is_dropped_kept_or_refused_but_never_cut():
    def usable(num_tokens, too_long):
        return is_usable(trace(num_tokens), max_response_tokens=4, too_long=too_long, where="w")

    assert usable(4, "drop")
    assert usable(4, "error")
    assert not usable(5, "drop")
    assert usable(5, "keep")
    message = refusal(is_usable, trace(5), max_response_tokens=4, too_long="error")
    assert "5 tokens, more than max_response_tokens=4" in message
    assert "too_long_trace=drop" in message


def test_the_choice_among_traces_is_keyed_and_fair():
    traces = [trace(num) for num in range(2, 5)]

    def choice(phase, num=1, prompt_id="a"):
        return choose_traces(traces, num, seed=0, phase=phase, prompt_id=prompt_id)

    assert choice(7) == choice(7)
    # 300 phases, 3 traces: 100 each, standard deviation 8.
    counts = [sum(choice(phase) == (one,) for phase in range(300)) for one in traces]
    assert sum(counts) == 300
    assert all(abs(count - 100) < 41 for count in counts)
    assert any(choice(p, prompt_id="a") != choice(p, prompt_id="b") for p in range(20))


def test_the_choice_never_repeats_a_trace_and_ends_with_all_of_them():
    traces = [trace(num) for num in range(2, 6)]
    for num in (0, 1, 3, 4, 9):
        chosen = choose_traces(traces, num, seed=1, phase=2, prompt_id="a")
        assert len(chosen) == len(set(chosen)) == min(num, 4)
    assert choose_traces([], 1, seed=0, phase=0, prompt_id="a") == ()


def test_equal_token_ids_share_one_object(tokenizer):
    # 257 is beyond the ints that Python itself shares; a tokenizer returns it anew each time.
    own = tokenizer(["<eos>", "<eos>"], add_special_tokens=False)["input_ids"]
    assert own[0][0] is not own[1][0]
    (once,), (again,) = encode(tokenizer, ["<eos>", "<eos>"])
    assert once is again
    one, other = tokenize_traces(tokenizer, ["<eos>a", "<eos>b"])
    assert one.token_ids[0] is other.token_ids[0] is one.token_ids[-1]
