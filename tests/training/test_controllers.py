"""Coefficients that follow what they act on, and the KL that is taken off rewards."""

import math

import lightning as L
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from luffy_pl.errors import ConfigError
from luffy_pl.experience.collate import collate, plan_steps
from luffy_pl.experience.compare import compare
from luffy_pl.experience.stream import SizedStream
from luffy_pl.objective.advantage import GroupAdvantage
from luffy_pl.objective.schedule import Schedule
from luffy_pl.objective.settings import EntropyConfig, KlConfig, ObjectiveConfig
from luffy_pl.policy.frozen import FrozenModels, WholeModel
from luffy_pl.policy.policy import Policy
from luffy_pl.policy.settings import PolicyConfig
from luffy_pl.records import Group, Prompt, Response, Verdict
from luffy_pl.training.controllers import EntropyController, KlController
from luffy_pl.training.module import LuffyModule
from luffy_pl.training.settings import OptimizerConfig


def entropy_after(*entropies, **settings):
    controller = EntropyController(EntropyConfig(coef=0.01, **settings))
    for entropy in entropies:
        controller.update(entropy)
    return controller.coef


def test_the_integral_controller():
    assert entropy_after(0.1, target_nats=0.3, lr=0.5) == pytest.approx(0.01 * math.exp(0.5 * 0.2))
    assert entropy_after(0.1, target_nats=0.3) > 0.01 > entropy_after(0.5, target_nats=0.3)
    # Below and above by as much: where it began.
    assert entropy_after(0.1, 0.5, target_nats=0.3) == pytest.approx(0.01)
    assert entropy_after(*[0.0] * 99, target_nats=0.3, lr=9.0, max_coef=0.05) == 0.05
    assert entropy_after(0.1, 0.2) == 0.01


def test_the_ratio_controller_knows_only_now():
    settings = {"target_nats": 0.3, "controller": "ratio"}
    assert entropy_after(9.0, 0.1, **settings) == pytest.approx(0.03)
    assert entropy_after(0.6, **settings) == pytest.approx(0.005)
    assert entropy_after(0.0, max_coef=2.0, **settings) == 2.0


def kl_after(kl, *, num_rows=100, **settings):
    controller = KlController(KlConfig(coef=0.1, place="reward", horizon=1000, **settings))
    controller.update(kl, num_rows=num_rows)
    return controller.coef


def test_the_kl_controller_and_its_bounds():
    # 10% above the target: by a tenth of the horizon's 10%.
    assert kl_after(0.022, target_nats=0.02) == pytest.approx(0.1 * 1.01)
    # At most a fifth for a horizon, so 2% for a tenth of it.
    assert kl_after(9.0, target_nats=0.02) == pytest.approx(0.1 * 1.02)
    assert kl_after(-9.0, target_nats=0.02) == pytest.approx(0.1 * 0.98)
    assert kl_after(9.0) == 0.1


@pytest.mark.parametrize(
    ("make", "controlled"),
    [
        (lambda t: EntropyController(EntropyConfig(coef=0.01, target_nats=t)), 0.3),
        (lambda t: KlController(KlConfig(coef=0.01, place="reward", target_nats=t)), 0.02),
    ],
)
def test_only_a_controlled_coefficient_is_that_of_the_checkpoint(make, controlled):
    for target, expected in ((controlled, 0.7), (None, 0.01)):
        controller = make(target)
        controller.resume(0.7)
        assert controller.coef == expected


# -- the penalty, through a real run --------------------------------------------------------

VOCAB, COEF, TARGET = 11, 0.5, 0.01


def tiny(seed):
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=VOCAB, hidden_size=16, intermediate_size=24, num_hidden_layers=1,
        num_attention_heads=2, num_key_value_heads=2, max_position_embeddings=32,
    )  # fmt: skip
    return Policy(LlamaForCausalLM(config).double())


PROMPT = (7, 8, 9)
ANSWERS = (((4, 5, 1), 1.0), ((6, 1), 0.0), ((3, 2, 4, 1), 0.0))


def experience():
    rows = tuple(
        Response("rollout", "", ids, "stop", Verdict(bool(reward), "ok", "string", None, "1"))
        for ids, reward in ANSWERS
    )
    group = Group(Prompt("p", "", PROMPT, "1"), rows, tuple(reward for _, reward in ANSWERS))
    return collate([group], phase=0, temperature=1.0, steps=plan_steps(1, 1))


class Keep(L.Callback):
    def on_train_batch_start(self, trainer, module, batch, index):
        self.advantages = batch.advantage_N.tolist()

    def on_train_batch_end(self, trainer, module, outputs, batch, index):
        self.term_means = outputs["term_means"]


IN_REWARD = KlConfig(coef=COEF, place="reward", estimator="k1", target_nats=TARGET, horizon=100)


def trained(kl=IN_REWARD):
    objective = ObjectiveConfig(kl=kl)
    # Two rows of a micro-batch at most: the sums must not depend on the cut.
    optimizer = OptimizerConfig(lr=1e-3, micro_batch_tokens=14)
    module = LuffyModule(PolicyConfig(path="unused"), objective, optimizer)
    module.policy = tiny(0)
    module.use_frozen(FrozenModels({"start": WholeModel(tiny(1))}))
    keep = Keep()
    trainer = L.Trainer(
        accelerator="cpu", devices=1, max_epochs=1, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, callbacks=[keep],
    )  # fmt: skip

    def collected(phase):
        record = experience()
        return compare(record, module.view().reward_penalty(record), GroupAdvantage())

    trainer.fit(module, SizedStream(1, collected))
    return module, trainer, keep


@torch.no_grad()
def differences_by_hand():
    """Log-probability minus the reference's, of each token of each answer."""
    found = []
    models = [tiny(seed).language_model for seed in (0, 1)]
    for model in models:
        model.set_attn_implementation("sdpa")  # one row, not packed
    for ids, _ in ANSWERS:
        whole = torch.tensor([PROMPT + ids])
        logprobs = [
            model(whole).logits.log_softmax(-1)[0, len(PROMPT) - 1 : -1]
            .gather(1, torch.tensor(ids)[:, None])[:, 0]
            for model in models
        ]  # fmt: skip
        found.append(logprobs[0] - logprobs[1])
    return found


def test_kl_in_the_reward_changes_advantages_as_by_hand(tmp_path):
    module, trainer, kept = trained()
    advantages = kept.advantages
    assert kept.term_means == {}
    differences = differences_by_hand()
    rewards = [
        reward - COEF * difference.sum().item()
        for (_, reward), difference in zip(ANSWERS, differences, strict=True)
    ]
    mean = sum(rewards) / 3
    assert advantages == pytest.approx([reward - mean for reward in rewards], abs=1e-5)
    assert advantages != pytest.approx([2 / 3, -1 / 3, -1 / 3], abs=1e-3)

    kl = sum(difference.mean().item() for difference in differences) / 3
    assert module.kl_controller.kl_nats == pytest.approx(kl, abs=1e-6)
    change = max(-0.2, min(0.2, kl / TARGET - 1))
    assert module.kl_controller.coef == pytest.approx(COEF * (1 + change * 3 / 100))

    trainer.save_checkpoint(tmp_path / "c.ckpt")
    saved = torch.load(tmp_path / "c.ckpt", weights_only=True)
    other = LuffyModule(PolicyConfig(path="unused"), module.objective)
    other.on_load_checkpoint(saved)
    assert other.kl_controller.coef == module.kl_controller.coef != COEF
    assert other.phases_trained == 1


def test_kl_in_the_loss_is_logged_as_by_hand():
    module, _, kept = trained(KlConfig(coef=COEF, place="loss", estimator="k1"))
    differences = torch.cat(differences_by_hand())
    assert kept.term_means["kl"].item() == pytest.approx(differences.mean().item(), abs=1e-6)
    assert module.kl_controller.kl_nats is None


def test_a_schedule_multiplies_the_coefficient():
    entropy = EntropyController(EntropyConfig(coef=0.01, schedule=Schedule(decay_phases=4)))
    assert [entropy.at(phase) for phase in (0, 2, 9)] == pytest.approx([0.01, 0.005, 0.0])
    kl = KlController(KlConfig(coef=0.1, schedule=Schedule(2, 2, "linear", 0.5)))
    assert [kl.at(phase) for phase in range(5)] == pytest.approx([0, 0.05, 0.1, 0.075, 0.05])
    assert KlController(KlConfig(coef=0.1)).at(7) == 0.1
    both = {"coef": 0.1, "schedule": Schedule(), "target_nats": 0.1}
    with pytest.raises(ConfigError, match=r"entropy\.schedule: changes a coefficient that"):
        EntropyConfig(**both)
    with pytest.raises(ConfigError, match=r"kl\.schedule: changes a coefficient that"):
        KlConfig(**both, place="reward")


def test_a_coefficient_of_0_leaves_the_term_out():
    """In the first phase of a rise nothing is asked of the reference, and nothing is logged."""
    rises = Schedule(warmup_phases=2)
    module, _, kept = trained(KlConfig(coef=COEF, place="loss", schedule=rises))
    assert kept.term_means == {}
    assert module.view().reward_penalty(experience()) is None
    found = [
        trained(KlConfig(coef=COEF, place="reward", schedule=schedule))[2].advantages
        for schedule in (rises, None)
    ]
    assert found[0] == pytest.approx([2 / 3, -1 / 3, -1 / 3], abs=1e-6) != found[1]
