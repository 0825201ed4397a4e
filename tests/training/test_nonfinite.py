"""A loss that is not finite reaches no weight; too many of them end the run."""

import math

import lightning as L
import pytest
import torch
from training.test_gradient_invariance import random_experience, tiny_policy

from luffy_pl.errors import DeviceMemoryError, DivergedError
from luffy_pl.experience.stream import SizedStream
from luffy_pl.objective.settings import ObjectiveConfig, OffPolicyConfig
from luffy_pl.objective.shaping import PDivP
from luffy_pl.policy.settings import PolicyConfig
from luffy_pl.process.faults import VARIABLE
from luffy_pl.training.module import LuffyModule
from luffy_pl.training.settings import NonFiniteConfig, OptimizerConfig


class Watch(L.Callback):
    """The gradient of each step, and the weights after each phase."""

    def __init__(self):
        self.gradients, self.weights, self.moments = [], [], []

    def on_before_optimizer_step(self, trainer, module, optimizer):
        self.gradients.append([p.grad.clone() for p in module.policy.parameters()])

    def on_train_batch_end(self, trainer, module, *args):
        self.weights.append([p.detach().clone() for p in module.policy.parameters()])
        state = module.optimizers().optimizer.state
        self.moments.append([s["exp_avg"].clone() for s in state.values()])


def train(tmp_path, experiences, *, non_finite=None, tokens=64, **objective):
    config = OptimizerConfig(
        lr=1e-2, micro_batch_tokens=tokens, non_finite=non_finite or NonFiniteConfig()
    )
    module = LuffyModule(
        PolicyConfig(path="unused"), ObjectiveConfig(**objective), config, max_response_tokens=16
    )
    module.policy = tiny_policy()
    watch = Watch()
    trainer = L.Trainer(
        accelerator="cpu",
        devices=1,
        max_epochs=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=tmp_path,
        callbacks=[watch],
    )
    trainer.fit(module, SizedStream(len(experiences), lambda phase: experiences[phase]))
    return module, watch


@pytest.mark.case(38)
def test_a_step_that_is_not_finite_changes_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv(VARIABLE, "nan_loss@step=1")
    module, watch = train(tmp_path, [random_experience(seed=seed) for seed in (1, 2, 3)])
    assert len(watch.gradients) == 2
    assert all(torch.equal(a, b) for a, b in zip(watch.weights[0], watch.weights[1], strict=True))
    assert all(torch.equal(a, b) for a, b in zip(watch.moments[0], watch.moments[1], strict=True))
    assert not torch.equal(watch.weights[1][0], watch.weights[2][0])
    assert (module.left_out.in_a_row, module.left_out.total) == (0, 1)
    [file] = (tmp_path / "debug").iterdir()
    kept = torch.load(file, weights_only=True)
    # Every row that is learned from: the second has no grade.
    assert sorted(kept["row"]) == [row for row in range(12) if row != 1]
    assert kept["advantage_N"].shape == (11,)
    assert all(map(math.isnan, kept["losses"]))


def test_the_rows_of_the_micro_batch_are_kept(tmp_path):
    """One row has a NaN of its own: only its micro-batch is to blame."""
    experience = random_experience()
    experience.advantage_N[5] = torch.nan
    train(tmp_path, [experience], tokens=21)
    [file] = (tmp_path / "debug").iterdir()
    assert torch.load(file, weights_only=True)["row"] == [5]


@pytest.mark.case(38)
@pytest.mark.parametrize(
    ("config", "num_bad", "words"),
    [
        (NonFiniteConfig(policy="raise"), 1, "1 in a row, 1 in all"),
        (NonFiniteConfig(max_in_a_row=2), 3, "3 in a row, 3 in all"),
        (NonFiniteConfig(max_in_a_row=9, max_total=1), 2, "2 in a row, 2 in all"),
    ],
)
def test_too_many_end_the_run(tmp_path, monkeypatch, config, num_bad, words):
    monkeypatch.setenv(VARIABLE, ",".join(["nan_loss@step=1"] * num_bad))
    with pytest.raises(DivergedError, match=words):
        train(tmp_path, [random_experience()] * 5, non_finite=config)


def test_the_limits_are_counted_over_a_resumed_run(tmp_path, monkeypatch):
    monkeypatch.setenv(VARIABLE, "nan_loss@step=0")
    module, _ = train(tmp_path, [random_experience()] * 2)
    checkpoint = {"state_dict": {}}
    module.on_save_checkpoint(checkpoint)
    other = LuffyModule(PolicyConfig(path="unused"))
    other.on_load_checkpoint(checkpoint)
    assert other.left_out == module.left_out
    assert other.left_out.total == 1


@pytest.mark.case(39)
@pytest.mark.parametrize("given", [True, False])
def test_a_phase_of_one_kind_of_rows_trains(tmp_path, given):
    """All rows given, or none: the other term is an empty sum, which is 0 and not 0 / 0."""
    experience = random_experience()
    mask_NT = experience.response_mask_NT
    experience.off_policy_mask_NT[:] = mask_NT if given else False
    off_policy = OffPolicyConfig(shaping=PDivP())
    module, watch = train(tmp_path, [experience], tokens=21, off_policy=off_policy)
    [parts] = watch.gradients
    assert module.left_out.total == 0
    _, whole = train(tmp_path, [experience], tokens=10_000, off_policy=off_policy)
    torch.testing.assert_close(parts, whole.gradients[0], rtol=1e-9, atol=1e-12)
    assert max(gradient.abs().max() for gradient in parts) > 1e-6


@pytest.mark.case(39)
def test_a_phase_without_anything_to_learn_moves_by_nothing(tmp_path):
    experience = random_experience()
    experience.response_mask_NT[:] = False
    experience.off_policy_mask_NT[:] = False
    module, watch = train(tmp_path, [experience])
    assert module.left_out.total == 0
    assert all((gradient == 0).all() for gradient in watch.gradients[0])


@pytest.mark.case(41)
def test_out_of_memory_halves_the_micro_batch_and_keeps_the_gradient(tmp_path, monkeypatch):
    _, whole = train(tmp_path, [random_experience()] * 2)
    monkeypatch.setenv(VARIABLE, "oom@step=0")
    module, halved = train(tmp_path, [random_experience()] * 2)
    assert module.token_budget == 32
    for step, expected in zip(halved.gradients, whole.gradients, strict=True):
        torch.testing.assert_close(step, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.case(11, 41)
def test_out_of_memory_for_good_says_what_to_lower(tmp_path, monkeypatch):
    monkeypatch.setenv(VARIABLE, "oom@step=0,oom@step=0")
    with pytest.raises(DeviceMemoryError, match=r"32 tokens do not fit .* GiB.* set it to 16"):
        train(tmp_path, [random_experience()])


def test_memory_of_the_host_counts(tmp_path):
    from luffy_pl.training.memory import is_out_of_memory

    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 50)
    assert is_out_of_memory(caught.value)
    assert not is_out_of_memory(RuntimeError("another"))
