"""The data module with a real tokenizer and the transformers engine."""

import dataclasses
import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from luffy_pl.bundled import resolve
from luffy_pl.data.source import PromptSource
from luffy_pl.data.tokenizer import load_tokenizer, stop_token_ids
from luffy_pl.errors import ConfigError, DataError, EngineError, ModelError
from luffy_pl.experience.benchmarks import Benchmark
from luffy_pl.experience.datamodule import LuffyDataModule
from luffy_pl.experience.settings import RolloutConfig
from luffy_pl.experience.stream import SizedStream
from luffy_pl.objective.advantage import GroupAdvantage
from luffy_pl.reward.reward import RewardConfig
from luffy_pl.rollout.engine import EngineConfig


def data_module(rollout=None, **changes):
    settings = {
        "model_path": "bundled:base",
        "train": PromptSource(path="bundled:train.jsonl", limit=24),
        "rollout": rollout
        or RolloutConfig(num_phases=3, prompts_per_phase=4, group_size=3, max_response_tokens=48),
        "engine": EngineConfig(kind="hf"),
        **changes,
    }
    return LuffyDataModule(**settings)


@pytest.fixture(scope="module")
def ready():
    data = data_module(benchmarks=[Benchmark("b", PromptSource("bundled:heldout.jsonl", limit=5))])
    data.setup("fit")
    yield data
    data.teardown("fit")


def test_a_phase_interleaves_rollouts_and_one_trace(ready):
    ready.engine.policy_version = 0
    experience = ready.collect(0)
    assert len(experience.groups) == 4
    for group in experience.groups:
        assert [row.source for row in group.responses] == ["rollout", "rollout", "expert"]
        assert group.rewards[-1] == 1.0
        assert group.responses[-1].token_ids[-1] == 1  # EOS
    off_rows = experience.off_policy_mask_NT.any(dim=1).tolist()
    assert off_rows == [False, False, True] * 4
    # Two of three rows fail: the expert gets 2/3, the others -1/3.
    assert experience.advantage_N[:3].tolist() == pytest.approx([-1 / 3, -1 / 3, 2 / 3])


def test_terms_pay_training_and_no_evaluation():
    reward = RewardConfig(terms={"correct": 1.0, "overlong": 0.5}, overlong_buffer_share=1.0)
    benchmark = Benchmark("b", PromptSource("bundled:heldout.jsonl", limit=5))
    data = data_module(benchmarks=[benchmark], reward=reward)
    data.setup("fit")
    data.engine.policy_version = 0
    for group in data.collect(0).groups:
        for row, paid in zip(group.responses, group.rewards, strict=True):
            # All 48 tokens of a response are the buffer.
            overlong = -min(len(row.token_ids) / 48, 1.0)
            assert paid == pytest.approx(row.verdict.correct + 0.5 * overlong)
            assert paid not in {0.0, 1.0}
    [answers] = data.val_dataloader()[0]
    assert all(set(group.rewards) <= {0.0, 1.0} for group in answers.groups)
    data.teardown("fit")


def test_the_same_phase_is_collected_again(ready):
    ready.engine.policy_version = 1
    first, second = ready.collect(1), ready.collect(1)
    assert first.token_ids_NL.tolist() == second.token_ids_NL.tolist()


def test_phases_hold_other_prompts(ready):
    ready.engine.policy_version = 0
    zero = {group.prompt.id for group in ready.collect(0).groups}
    ready.engine.policy_version = 1
    assert zero.isdisjoint(group.prompt.id for group in ready.collect(1).groups)


@pytest.mark.case(33)
def test_rollouts_from_old_weights_are_refused(ready):
    ready.engine.policy_version = 0
    with pytest.raises(EngineError, match="rollouts of phase 2 would come from other weights"):
        ready.collect(2)


def test_a_benchmark_is_answered_the_same_way_every_time(ready):
    [stream] = ready.val_dataloader()
    first, again = next(iter(stream)), next(iter(stream))
    assert first.num_problems == 5
    assert first.index == (0, 1, 2, 3, 4)
    assert first.groups == again.groups


@pytest.mark.parametrize("answers_per_chunk", [1, 4, 512])
def test_the_cut_into_chunks_changes_no_answer(ready, answers_per_chunk):
    [stream] = ready.val_dataloader()
    [expected] = stream
    ready.answers_per_chunk = answers_per_chunk
    chunks = list(ready.val_dataloader()[0])
    ready.answers_per_chunk = 512
    assert max(len(chunk.groups) for chunk in chunks) == min(answers_per_chunk, 5)
    assert sum((chunk.index for chunk in chunks), ()) == expected.index
    answers = [group.responses for chunk in chunks for group in chunk.groups]
    assert answers == [group.responses for group in expected.groups]


def test_a_known_problem_is_not_sampled_again(ready):
    [before] = ready.val_dataloader()[0]
    known = dataclasses.replace(before.groups[1], rewards=("kept",))
    reports = []
    ready.attach(
        known={"b": {known.prompt.id: known}}, progress=lambda *report: reports.append(report)
    )
    [after] = ready.val_dataloader()[0]
    ready.attach(known={})
    # It may be said more than once that nothing new has come.
    assert {report for report in reports if report[0] == "b" and report[1] > 1} == {("b", 5, 5)}
    assert after.groups[1].rewards == ("kept",)
    assert (after.groups[0], after.groups[2:]) == (before.groups[0], before.groups[2:])


def test_a_benchmark_may_be_graded_in_its_own_way(ready, monkeypatch):
    """The boxed answers of the bundled world are no answers where a hash is asked for."""
    [usual] = ready.val_dataloader()[0]
    own = dataclasses.replace(ready.benchmarks[0], reward=RewardConfig(forms=("hash",)))
    monkeypatch.setattr(ready, "benchmarks", [own])
    [chunk] = ready.val_dataloader()[0]
    assert {g.responses[0].verdict.status for g in chunk.groups} == {"no_answer"}
    assert {g.responses[0].verdict.status for g in usual.groups} != {"no_answer"}


def test_who_listens_hears_every_stage_once_until_the_end():
    data, heard = data_module(), []

    def listen(*report):
        heard.append(report)

    for _ in range(2):  # as a callback whose setup runs for fit and again for validate
        data.attach(progress=listen)
    data.attach(progress=lambda *report: heard.append("after"))
    data.report_progress("generate", 1, 2)
    assert heard == [("generate", 1, 2), "after"]
    data.teardown("fit")
    data.report_progress("generate", 2, 2)
    assert len(heard) == 2


def test_the_penalty_of_the_policy_is_asked_for_before_rewards_are_compared(ready):
    ready.engine.policy_version = 0
    plain, seen = ready.collect(0), []

    def reward_penalty(experience):
        seen.append(experience)
        return torch.arange(len(experience.reward_N)) / 10

    view = SimpleNamespace(reward_penalty=reward_penalty, sum_over_ranks=lambda value: value)
    ready.attach(policy=view)
    found = ready.collect(0)
    ready._policy = None
    [asked] = seen
    assert asked.advantage_N.isnan().all()
    assert found.reward_N.tolist() == plain.reward_N.tolist()
    # Each row loses its penalty (0, 0.1, 0.2) and is compared with a mean that is 0.1 lower.
    difference = found.advantage_N - plain.advantage_N
    assert difference[:3].tolist() == pytest.approx([0.1, 0.0, -0.1], abs=1e-6)


def test_two_benchmarks_of_one_name_are_refused_before_anything_is_read():
    twice = Benchmark("b", PromptSource("nowhere.jsonl"))
    with pytest.raises(ConfigError, match="same name"):
        data_module(benchmarks=(twice, twice))


def test_all_fields_of_the_advantage_are_used():
    baseline = data_module(advantage=GroupAdvantage(baseline="on_policy"))
    baseline.setup("fit")
    baseline.engine.policy_version = 0
    # The expert is compared with the two failures: 1 - 0.
    assert baseline.collect(0).advantage_N[:3].tolist() == [0.0, 0.0, 1.0]
    baseline.teardown("fit")


def rewritten(path, change):
    rows = [
        json.loads(line)
        for line in Path(resolve("bundled:train.jsonl")).read_text().split("\n")[:8]
    ]
    change(rows)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


@pytest.mark.case(17, 18)
def test_an_unusable_gold_is_dropped_and_counted(tmp_path):
    def spoil(rows):
        rows[2]["reward_model"]["ground_truth"] = "the graph is a parabola that opens upwards"

    data = data_module(train=PromptSource(rewritten(tmp_path / "r.jsonl", spoil)))
    data.setup("fit")
    assert len(data.prompts.prompts) == 7
    assert data.prompts.report.dropped["bad_gold"].count == 1
    data.teardown("fit")


@pytest.mark.case(19)
def test_a_wrong_trace_is_paid_like_any_wrong_answer(tmp_path):
    def spoil(rows):
        for row in rows:
            text = row["target"][0]["content"]
            row["target"][0]["content"] = text.partition("boxed")[0] + "boxed{999}"

    data = data_module(train=PromptSource(rewritten(tmp_path / "r.jsonl", spoil)))
    data.setup("fit")
    data.engine.policy_version = 0
    for group in data.collect(0).groups:
        assert group.responses[-1].source == "expert"
        assert (group.rewards[-1], group.responses[-1].verdict.status) == (0.0, "ok")
    data.teardown("fit")


@pytest.mark.parametrize(("num_right", "said"), [(0, 1), (1, 0)])
def test_traces_of_which_none_is_right_are_warned_of(tmp_path, caplog, num_right, said):
    """A column is mistaken, or the grader looks for another form of answer."""

    def spoil(rows):
        for row in rows[num_right:]:
            row["target"][0]["content"] = row["reward_model"]["ground_truth"]

    path = rewritten(tmp_path / "r.jsonl", spoil)
    data = data_module(train=PromptSource(path))
    data.read("fit")
    data.teardown("fit")
    lines = [line for line in caplog.messages if "none of the first" in line]
    assert len(lines) == said
    assert all(line.startswith(f"{path}: ") and "no_answer" in line for line in lines)


def test_a_prompt_without_trace_needs_a_decision(tmp_path):
    def spoil(rows):
        rows[1]["target"] = None

    path = rewritten(tmp_path / "r.jsonl", spoil)
    with pytest.raises(DataError, match=r"1 prompts have no expert trace.*expert_traces_per_group"):
        data_module(train=PromptSource(path)).setup("fit")
    kept = data_module(train=PromptSource(path, require_trace=True))
    kept.setup("fit")
    assert len(kept.prompts.prompts) == 7
    kept.teardown("fit")


@pytest.mark.case(23)
def test_a_tokenizer_larger_than_its_model(tmp_path):
    for file in Path(resolve("bundled:base")).iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "vocab_size": 20}))
    with pytest.raises(ModelError, match="the tokenizer has 27 tokens, the model only 20"):
        load_tokenizer(str(tmp_path))


def test_the_models_own_stop_tokens_end_a_response(tmp_path):
    for file in Path(resolve("bundled:base")).iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    settings = json.loads((tmp_path / "generation_config.json").read_text())
    (tmp_path / "generation_config.json").write_text(
        json.dumps({**settings, "eos_token_id": [1, 8]})
    )
    assert stop_token_ids(load_tokenizer(str(tmp_path))) == [1, 8]


def test_a_stream_continues_where_its_state_says():
    made = []
    stream = SizedStream(5, lambda number: made.append(number) or number)
    items = iter(stream)
    assert [next(items), next(items)] == [0, 1]
    resumed = SizedStream(5, lambda number: number)
    resumed.load_state_dict(stream.state_dict())
    assert list(resumed) == [2, 3, 4]
    assert list(resumed) == [0, 1, 2, 3, 4]
    # On demand: nothing was made ahead.
    assert made == [0, 1]
