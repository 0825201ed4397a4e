"""The loss of routers over an optimizer step: its micro-batches, weighted by what they read."""

import dataclasses
import json

import pytest
import torch
from policy.families import own_model, tiny_model
from policy.miniature import RUN, model_folder
from training.test_gradient_invariance import gradients_of, random_experience

from luffy_pl.objective.settings import EntropyConfig, ObjectiveConfig, RouterConfig
from luffy_pl.policy.policy import Policy
from luffy_pl.policy.settings import PolicyConfig
from luffy_pl.training.micro_batches import micro_batches
from luffy_pl.training.module import LuffyModule
from luffy_pl.training.settings import OptimizerConfig

COEF, BUDGET = 0.5, 45
ROUTERS = ObjectiveConfig(entropy=EntropyConfig(coef=0.0), router=RouterConfig(coef=COEF))


def even_experience():
    """Rows that the policy term learns nothing from; one has nothing to learn from at all."""
    experience = random_experience()
    return dataclasses.replace(experience, advantage_N=torch.zeros(len(experience.group_N)))


def expected_gradient(family, experience):
    """By the model's own loss of each micro-batch, rows padded, and the number of these."""
    own = own_model(family)
    rows = list(range(len(experience.group_N)))
    shares_prompts = Policy(tiny_model(family)).shares_prompts
    micros = micro_batches(
        experience, rows, token_budget=BUDGET, shares_prompts=shares_prompts,
        packs_rows=shares_prompts,
    )  # fmt: skip
    read = [sum(micro.num_tokens) - len(micro.num_tokens) for micro in micros]
    for micro, num_read in zip(micros, read, strict=True):
        width = max(micro.num_tokens) - 1
        mask = torch.arange(width) < torch.tensor(micro.num_tokens)[:, None] - 1
        loss = own(
            input_ids=micro.rows.token_ids_NL[:, :width],
            attention_mask=mask.long(),
            output_router_logits=True,
        ).aux_loss
        (COEF * loss * num_read / sum(read)).backward()
    return dict(own.named_parameters()), len(micros)


@pytest.mark.parametrize("family", ["qwen3_moe", "qwen3_next"])
def test_the_gradient_is_the_mean_of_micro_batches_by_what_they_read(family):
    experience = even_experience()
    module = LuffyModule(
        PolicyConfig(path="unused"), ROUTERS,
        OptimizerConfig(max_grad_norm=None, micro_batch_tokens=BUDGET), max_response_tokens=16,
    )  # fmt: skip
    module.policy = Policy(tiny_model(family))
    [found] = gradients_of(module, experience)
    expected, num_micros = expected_gradient(family, experience)
    assert num_micros > 2
    names = [name for name, _ in module.policy.language_model.named_parameters()]
    for name, gradient in zip(names, found, strict=True):
        own = expected[name].grad
        wanted = torch.zeros_like(gradient) if own is None else own
        torch.testing.assert_close(gradient, wanted, rtol=1e-4, atol=1e-6, msg=name)
    assert any(gradient.abs().max() > 1e-3 for gradient in found)


def test_a_run_says_and_logs_it(luffy_pl, tmp_path):
    model = model_folder("qwen3_moe", tmp_path / "model")
    done = luffy_pl(
        "fit", *RUN, "--data.engine.kind", "hf", "--model.policy.path", model,
        "--run_dir", tmp_path / "run", "--model.objective.router.coef", 0.02,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "is part of the objective, times 0.02" in done.stderr
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    found = [row["actor/router_loss"] for row in map(json.loads, lines) if "actor/lr" in row]
    assert len(found) == 3
    assert all(1 < loss < 4 for loss in found)


@pytest.mark.parametrize("more", [["--dry_run"], []])
def test_a_dense_model_is_refused_before_it_is_loaded(command_line, tmp_path, more):
    done = command_line(
        "fit", "--config", "conf/quickstart.yaml", "--run_dir", tmp_path / "run", *more,
        "--model.objective.router.coef", 0.02,
    )  # fmt: skip
    assert done.returncode == 2
    [line] = [one for one in done.stderr.splitlines() if "error" in one]
    assert "model.objective.router.coef: has no effect: it needs a mixture of experts" in line
    assert "got 0.02" in line
    assert not (tmp_path / "run").exists()
