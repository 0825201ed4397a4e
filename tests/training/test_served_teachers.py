"""A model on a server scores as the same model here: equal gradients, whatever the loss asks."""

import dataclasses

import pytest
import torch
from training.test_gradient_invariance import (
    gradients_of,
    padded,
    random_experience,
    tiny_policy,
)
from training.test_teachers import ADD, SCALE, largest, seeing_more

from luffy_pl.experience.served import scored_by_servers
from luffy_pl.objective.settings import EntropyConfig, KlConfig, ObjectiveConfig
from luffy_pl.policy.frozen import FrozenConfig, FrozenModels, WholeModel
from luffy_pl.policy.settings import PolicyConfig
from luffy_pl.training.module import LuffyModule
from luffy_pl.training.settings import OptimizerConfig

SERVER = {"teacher": FrozenConfig("server", url="http://127.0.0.1:9")}
NO_BONUS = EntropyConfig(coef=0.0)
OBJECTIVES = {
    "add": ObjectiveConfig(entropy=NO_BONUS, distillation=ADD),
    "scale": ObjectiveConfig(entropy=NO_BONUS, distillation=SCALE),
    "kl": ObjectiveConfig(entropy=NO_BONUS, kl=KlConfig(0.3, model="teacher", estimator="k2")),
}


class Served:
    """A policy that answers as a server does."""

    def __init__(self, policy):
        self.policy, self.num_rows = policy, 0

    @torch.no_grad()
    def logprobs(self, rows, *, on_progress):
        self.num_rows += len(rows)
        found = []
        for ids in rows:
            mask_1T = torch.ones(1, len(ids) - 1, dtype=torch.bool)
            logprob_1T, _ = self.policy(
                torch.tensor([ids]), mask_1T, num_tokens=(len(ids),), temperature=1.0
            )
            found.append(tuple(logprob_1T[0].tolist()))
        on_progress(len(rows), len(rows))
        return found


def a_module(objective, frozen, models, *, steps=1):
    module = LuffyModule(
        PolicyConfig(path="unused"),
        objective,
        OptimizerConfig(max_grad_norm=None, lr=1e-2, steps_per_phase=steps, micro_batch_tokens=40),
        max_response_tokens=16,
        frozen=frozen,
    )
    module.policy = tiny_policy()
    module.use_frozen(FrozenModels(models, frozen))
    return module


def by_server(experience, objective, *, steps=1, seed=5):
    module = a_module(objective, SERVER, {}, steps=steps)
    names = module.view().on_servers(experience.phase)
    server = Served(tiny_policy(seed=seed))
    scored = scored_by_servers(experience, names, {"teacher": server}, lambda done, total: None)
    return gradients_of(module, scored), server


def a_phase(**fields):
    return dataclasses.replace(random_experience(**fields), temperature=1.0)


@pytest.mark.parametrize("name", OBJECTIVES)
@pytest.mark.parametrize("sees", ["the_same", "more"])
def test_the_gradient_is_that_of_the_same_model_here(name, sees):
    experience, objective = a_phase(steps=2), OBJECTIVES[name]
    if sees == "more":
        experience = seeing_more(experience)
    copy = {"teacher": FrozenConfig("copy")}
    here = a_module(objective, copy, {"teacher": WholeModel(tiny_policy(seed=5))}, steps=2)
    expected = gradients_of(here, experience)
    assert largest(expected) > 1e-4
    for of_record in (experience, padded(experience, 7)):
        found, _ = by_server(of_record, objective, steps=2)
        for step, wanted in zip(found, expected, strict=True):
            torch.testing.assert_close(step, wanted, rtol=1e-4, atol=1e-6)
    other, _ = by_server(experience, objective, steps=2, seed=6)
    assert largest([[a - b for a, b in zip(other[0], expected[0], strict=True)]]) > 1e-5


def test_only_rows_with_a_token_to_score_are_asked_about():
    experience = a_phase()
    taught = (experience.response_mask_NT & ~experience.off_policy_mask_NT).any(dim=1)
    _, server = by_server(experience, OBJECTIVES["add"])
    assert server.num_rows == taught.sum() < len(taught)
    _, server = by_server(experience, OBJECTIVES["kl"])
    assert server.num_rows == experience.response_mask_NT.any(dim=1).sum()


def test_a_teacher_whose_share_has_fallen_to_nothing_is_not_asked():
    fallen = dataclasses.replace(SCALE, coef=0.0)
    module = a_module(ObjectiveConfig(distillation=fallen), SERVER, {})
    assert module.view().on_servers(0) == {}
    assert a_module(OBJECTIVES["add"], SERVER, {}).view().on_servers(0) == {"teacher": "teacher"}
    assert a_module(OBJECTIVES["kl"], SERVER, {}).view().on_servers(0) == {"reference": "teacher"}
