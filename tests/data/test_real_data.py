"""The public files as they are: counts and schema only."""

from collections import Counter

import pytest
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import PreTrainedTokenizerFast

from luffy_pl.data.prompts import load_prompts
from luffy_pl.data.source import PromptSource


@pytest.fixture(scope="module")
def words():
    """Counts words, which is all that is needed here, and fast."""
    tokenizer = Tokenizer(WordLevel({"<unk>": 0, "<eos>": 1}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = Whitespace()
    template = (
        "{% for message in messages %}{{ message.content }}\n{% endfor %}"
        "{% if add_generation_prompt %}Answer:{% endif %}"
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, chat_template=template, unk_token="<unk>", eos_token="<eos>"
    )


def test_gsm8k(gsm8k, words):
    for split, num_rows in (("train", 7473), ("test", 1319)):
        source = PromptSource(str(gsm8k / f"{split}.jsonl"), require_trace=True)
        loaded = load_prompts(source, words, max_response_tokens=4096)
        report = loaded.report
        assert report.rows == report.prompts == report.traces == len(loaded.traces) == num_rows
        assert report.dropped == report.dropped_traces == report.noted == {}
        for prompt in loaded.prompts:
            (trace,) = loaded.traces[prompt.id]
            float(prompt.ground_truth.replace(",", ""))
            assert trace.text.endswith(f"\n#### {prompt.ground_truth}")
            assert "<<" not in trace.text
            assert trace.token_ids[-1] == words.eos_token_id


def test_the_released_evaluation_files(released_files, words):
    the_small_sets_are_repeated(released_files, words)
    for name, (num_prompts, copies) in SETS.items():
        one_benchmark(released_files, words, name, num_prompts, copies)
    choice_questions(released_files, words)


SETS = {
    # data_source: (prompts, copies of each)
    "aime": (30, 32),
    "aime25": (30, 32),
    "amc": (83, 32),
    "math": (500, 1),
    "minerva": (272, 1),
    "olympiad_bench": (675, 1),
}


def the_small_sets_are_repeated(folder, words):
    loaded = load_prompts(PromptSource(str(folder / "valid.all.parquet")), words)
    assert len({prompt.id for prompt in loaded.prompts}) == loaded.report.rows == 6023
    assert loaded.report.noted["duplicate_prompt"].count == 6023 - 1590
    assert loaded.report.noted["repeated_id"].count == 6023 - 1590
    assert Counter(prompt.data_source for prompt in loaded.prompts) == {
        name: num_prompts * copies for name, (num_prompts, copies) in SETS.items()
    }
    # A repetition has the number of its prompt, and ids are those of the file.
    originals = {p.id: p.text for p in loaded.prompts if "#" not in p.id}
    assert len(originals) == 1590
    assert all(originals[p.id.partition("#")[0]] == p.text for p in loaded.prompts)


def one_benchmark(folder, words, data_source, num_prompts, copies):
    path = str(folder / "valid.all.parquet")
    source = PromptSource(path, data_source=data_source, duplicates="drop")
    loaded = load_prompts(source, words)
    assert len(loaded.prompts) == num_prompts
    assert {prompt.data_source for prompt in loaded.prompts} == {data_source}
    dropped = {reason: tally.count for reason, tally in loaded.report.dropped.items()}
    assert dropped.pop("other_source") == 6023 - num_prompts * copies
    assert dropped.pop("duplicate_prompt", 0) == num_prompts * (copies - 1)
    assert dropped == {}


def choice_questions(folder, words):
    arc = load_prompts(PromptSource(str(folder / "valid.arc_c.parquet")), words)
    gold = Counter(prompt.ground_truth for prompt in arc.prompts)
    assert [gold[letter] for letter in "ABCD"] == [263, 301, 303, 283]
    assert len(arc.prompts) == 1172
    gpqa = load_prompts(PromptSource(str(folder / "valid.gpqa.parquet")), words)
    # Numbers only: a failing `assert` prints what it compared, and these rows are not to be shown.
    gold = Counter(prompt.ground_truth for prompt in gpqa.prompts)
    num_ids = len({prompt.id for prompt in gpqa.prompts})
    assert [gold[letter] for letter in "ABCD"] == [53, 42, 52, 51]
    assert num_ids == 198
