"""What is said of given tokens, and that looking at their gradient leaves training as it is."""

import lightning as L
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from training.test_gradient_invariance import KeepGradients, random_experience, tiny_policy

from luffy_pl.callbacks.expert import ExpertMonitor, bin_pairs
from luffy_pl.errors import ConfigError
from luffy_pl.experience.stream import SizedStream
from luffy_pl.objective.settings import EntropyConfig, ObjectiveConfig, OffPolicyConfig
from luffy_pl.policy.settings import PolicyConfig
from luffy_pl.run_dir.read import read_metrics
from luffy_pl.training.gradient_parts import GradientParts
from luffy_pl.training.jsonl_logger import JsonlLogger
from luffy_pl.training.module import LuffyModule
from luffy_pl.training.settings import OptimizerConfig

POLICY_TERM_ALONE = ObjectiveConfig(entropy=EntropyConfig(coef=0.0))


def trained(monitor, path, *, objective=POLICY_TERM_ALONE, dropout=0.0, phases=1, steps=2):
    """Weights after training, gradients of every step, metrics by phase."""
    # Of the steps of a phase the first is looked at; micro-batches of some rows.
    optimizer = OptimizerConfig(
        max_grad_norm=None, lr=1e-2, steps_per_phase=steps, micro_batch_tokens=64
    )
    module = LuffyModule(PolicyConfig(path="unused"), objective, optimizer, max_response_tokens=16)
    module.policy = tiny_policy()
    for layer in module.policy.language_model.base_model.layers:
        layer.self_attn.attention_dropout = dropout
    keep = KeepGradients()
    trainer = L.Trainer(
        accelerator="cpu", devices=1, max_epochs=1, logger=JsonlLogger(str(path)),
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
        callbacks=[keep, monitor],
    )  # fmt: skip
    batch = random_experience(steps=steps)
    torch.manual_seed(3)
    trainer.fit(module, SizedStream(phases, lambda _: batch))
    return list(module.policy.parameters()), keep.steps, read_metrics(path)[0]


def test_looking_at_the_gradient_changes_no_bit(tmp_path):
    """With dropout, so that a draw more or less would show."""
    weights, gradients, plain = trained(
        ExpertMonitor(), tmp_path / "off.jsonl", dropout=0.5, phases=3
    )
    looked_weights, looked_gradients, looked = trained(
        ExpertMonitor(every_n_phases=2), tmp_path / "on.jsonl", dropout=0.5, phases=3
    )
    for one, other in zip(weights, looked_weights, strict=True):
        assert torch.equal(one, other)
    for step, other_step in zip(gradients, looked_gradients, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(step, other_step, strict=True))
    assert [phase for phase, row in looked.items() if "expert/grad_cosine" in row] == [1, 3]
    assert not any("expert/grad_cosine" in row for row in plain.values())
    assert looked[2] == plain[2]


def test_the_two_parts_add_up_to_the_gradient_of_training(tmp_path):
    monitor = ExpertMonitor(every_n_phases=1)
    _, [first, _], metrics = trained(monitor, tmp_path / "m.jsonl")
    parts = monitor.parts
    whole = sum((gradient**2).sum().item() for gradient in first)
    together = parts.given_squared + parts.own_squared + 2 * parts.product
    assert together == pytest.approx(whole, rel=1e-9)
    assert min(parts.given_squared, parts.own_squared) > 0
    assert metrics[1]["expert/grad_cosine"] == parts.cosine


def test_share_and_cosine_by_hand(tmp_path):
    # Gradients (3, 0) and (0.8, 0.6): norms 3 and 1, product 2.4.
    parts = GradientParts(given_squared=9.0, own_squared=1.0, product=2.4)
    assert (parts.norm_share, parts.cosine) == (0.75, pytest.approx(0.8))
    assert GradientParts(4.0, 0.0, 0.0).norm_share == 1.0
    assert GradientParts(4.0, 0.0, 0.0).cosine is None
    assert GradientParts(0.0, 0.0, 0.0).norm_share is None
    # Given tokens that are not in the policy term have no gradient in it.
    imitation = ObjectiveConfig(
        entropy=EntropyConfig(coef=0.0), off_policy=OffPolicyConfig(policy_coef=0.0)
    )
    _, _, metrics = trained(ExpertMonitor(1), tmp_path / "m.jsonl", objective=imitation)
    assert metrics[1]["expert/grad_norm_share"] == 0.0
    assert "expert/grad_cosine" not in metrics[1]
    assert not [name for name in metrics[1] if name.startswith("expert/weight_hist")]


def test_bins_are_named_by_their_lower_end_and_the_last_are_open():
    pairs = bin_pairs(torch.tensor([-0.5, 0.0, 0.05, 0.1, 0.95, 1.0, 7.0]))
    assert [count.item() for count, _ in pairs] == [3, 1, 0, 0, 0, 0, 0, 0, 0, 3]
    assert {total.item() for _, total in pairs} == {7}


def test_imitation_left_is_the_mean_over_given_tokens(tmp_path):
    """With a single step: rows of a later one are seen after an update."""
    batch, policy = random_experience(), tiny_policy()
    _, _, metrics = trained(ExpertMonitor(), tmp_path / "m.jsonl", steps=1)
    policy.language_model.set_attn_implementation("sdpa")  # whole rows, not packed
    with torch.no_grad():
        logits = policy.language_model(batch.token_ids_NL).logits[:, :-1] / batch.temperature
    logprob_NT = logits.log_softmax(-1).gather(-1, batch.token_ids_NL[:, 1:, None])[..., 0]
    expected = -logprob_NT[batch.off_policy_mask_NT].mean().item()
    assert metrics[1]["expert/nll_nats"] == pytest.approx(expected)


def test_a_run_draws_histograms_and_costs_no_more_for_being_looked_at(command_line, tmp_path):
    def fit(name, *settings):
        done = command_line(
            "fit", "--config", "conf/quickstart.yaml", "--data.engine.kind", "hf",
            "--data.benchmarks", "[]", "--data.rollout.num_phases", "2",
            "--data.rollout.prompts_per_phase", "4", "--run_dir", tmp_path / name, *settings,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        metrics = read_metrics(tmp_path / name / "metrics.jsonl")[0]
        untimed = ("timing_s/", "throughput/", "ledger/seconds")
        return {
            phase: {name: value for name, value in row.items() if not name.startswith(untimed)}
            for phase, row in metrics.items()
        }

    looked, plain = fit("looked", "--expert.every_n_phases", "1"), fit("plain")
    for phase in (1, 2):
        extra = looked[phase].keys() - plain[phase].keys()
        assert extra == {"expert/grad_norm_share", "expert/grad_cosine"}
        assert {name: looked[phase][name] for name in plain[phase]} == plain[phase]
        for name in ("probability", "weight"):
            prefix = f"expert/{name}_hist/"
            shares = [value for key, value in plain[phase].items() if key.startswith(prefix)]
            assert (len(shares), sum(shares)) == (10, pytest.approx(1))
    events = EventAccumulator(str(tmp_path / "plain" / "tb"), size_guidance={"histograms": 0})
    events.Reload()
    assert set(events.Tags()["histograms"]) == {"expert/probability", "expert/weight"}
    [drawn] = [e for e in events.Histograms("expert/probability") if e.step == 2]
    assert drawn.histogram_value.bucket[9] == pytest.approx(plain[2]["expert/probability_hist/0.9"])
    # A picture per bin would bury the others.
    assert not [tag for tag in events.Tags()["scalars"] if "_hist" in tag]
    assert not fit("alone", "--config", "conf/recipe/on_policy.yaml")[1].keys() & {
        "expert/nll_nats", "expert/probability_hist/0.0"
    }  # fmt: skip


def test_zero_phases_apart_is_refused():
    with pytest.raises(ConfigError, match="must be at least 1"):
        ExpertMonitor(every_n_phases=0)
