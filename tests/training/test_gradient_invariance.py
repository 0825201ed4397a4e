"""The gradient is a property of the phase, not of how its rows are cut, padded or ordered."""

import dataclasses

import lightning as L
import pytest
import torch
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

from luffy_pl.experience.stream import SizedStream
from luffy_pl.objective.gate import Difference, PpoClip, Soft
from luffy_pl.objective.settings import (
    DivergenceConfig,
    EntropyConfig,
    KlConfig,
    NormalizerConfig,
    ObjectiveConfig,
    OffPolicyConfig,
    OnPolicyConfig,
    SftConfig,
)
from luffy_pl.objective.shaping import Identity, Log
from luffy_pl.policy.frozen import FrozenModels, WholeModel
from luffy_pl.policy.policy import Policy
from luffy_pl.policy.settings import PolicyConfig
from luffy_pl.records import Experience, Group, Prompt
from luffy_pl.training.module import LuffyModule
from luffy_pl.training.settings import OptimizerConfig

VOCAB = 17


def tiny_policy(seed=0):
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=VOCAB,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=64,
        tie_word_embeddings=True,
    )
    return Policy(in_double(LlamaForCausalLM(config)))


def in_double(model):
    """The model in float64 throughout: transformers' norms round to float32 whatever they get."""
    for layer in [*model.model.layers, model.model]:
        for name, _ in list(layer.named_children()):
            if name.endswith("norm"):
                setattr(
                    layer, name, nn.RMSNorm(model.config.hidden_size, model.config.rms_norm_eps)
                )
    return model.double()


def random_experience(num_groups=4, group_size=3, seed=1, steps=1):
    """Groups of two rollouts and a trace, of uneven lengths; one row has no grade."""
    generator = torch.Generator().manual_seed(seed)

    def integers(low, high, *shape):
        return torch.randint(low, high, shape, generator=generator)

    num_rows, longest = num_groups * group_size, 21
    num_tokens_N = integers(8, longest + 1, num_rows)
    prompt_G = integers(2, 6, num_groups)
    prompt_N = prompt_G.repeat_interleave(group_size)
    token_ids_NL = integers(0, VOCAB, num_rows, longest)
    for group, prompt in enumerate(prompt_G.tolist()):  # the rows of a group share its prompt
        first = group * group_size
        token_ids_NL[first : first + group_size, :prompt] = token_ids_NL[first, :prompt].clone()
    prompts = [
        Prompt(id="", text="", token_ids=tuple(ids[:prompt]), ground_truth="")
        for ids, prompt in zip(token_ids_NL[::group_size].tolist(), prompt_G.tolist(), strict=True)
    ]
    position_T = torch.arange(longest - 1)
    mask_NT = (position_T >= prompt_N[:, None] - 1) & (position_T < num_tokens_N[:, None] - 1)
    mask_NT[1] = False
    is_expert_N = torch.arange(num_rows) % group_size == group_size - 1
    return Experience(
        phase=0,
        temperature=0.7,
        token_ids_NL=token_ids_NL,
        num_tokens_N=num_tokens_N,
        response_mask_NT=mask_NT,
        off_policy_mask_NT=mask_NT & is_expert_N[:, None],
        behaviour_logprob_NT=torch.zeros(num_rows, longest - 1),
        advantage_N=torch.randn(num_rows, generator=generator, dtype=torch.double),
        reward_N=torch.ones(num_rows),
        group_N=torch.arange(num_groups).repeat_interleave(group_size),
        in_policy_N=torch.ones(num_rows, dtype=torch.bool),
        in_imitation_N=torch.ones(num_rows, dtype=torch.bool),
        step_N=(torch.arange(num_groups) * steps // num_groups).repeat_interleave(group_size),
        step_imitates=(False,) * steps,
        groups=tuple(Group(prompt, (), ()) for prompt in prompts),
    )


class KeepGradients(L.Callback):
    def __init__(self):
        self.steps = []

    def on_before_optimizer_step(self, trainer, module, optimizer):
        self.steps.append([p.grad.clone() for p in module.policy.parameters()])


def gradients(experience, objective, teacher=5, **optimizer):
    """The gradient of every optimizer step of one phase, through the real trainer."""
    module = LuffyModule(
        PolicyConfig(path="unused"),
        objective,
        OptimizerConfig(max_grad_norm=None, lr=1e-2, **optimizer),
        max_response_tokens=16,
    )
    module.policy = tiny_policy()
    if objective.frozen_models():
        module.use_frozen(FrozenModels({"start": WholeModel(tiny_policy(seed=teacher))}))
    return gradients_of(module, experience)


def gradients_of(module, experience):
    """The gradient of every optimizer step of one phase that a module trains."""
    keep = KeepGradients()
    trainer = L.Trainer(
        accelerator="cpu",
        devices=1,
        max_epochs=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[keep],
    )
    trainer.fit(module, SizedStream(1, lambda _: experience))
    return keep.steps


def padded(experience, extra):
    """The same rows with more padding, and other tokens in it."""
    more = {
        name: torch.nn.functional.pad(getattr(experience, name), (0, extra))
        for name in ("response_mask_NT", "off_policy_mask_NT", "behaviour_logprob_NT")
    }
    ids = torch.nn.functional.pad(experience.token_ids_NL, (0, extra), value=3)
    return dataclasses.replace(experience, token_ids_NL=ids, **more)


def reordered_within_groups(experience):
    order = torch.arange(len(experience.group_N)).view(-1, 3).flip(1).flatten()
    return experience.rows(order)


OBJECTIVES = {
    "luffy": ObjectiveConfig(),
    "token": ObjectiveConfig(
        normalizer=NormalizerConfig(mode="token"),
        entropy=EntropyConfig(coef=0.5),
        on_policy=OnPolicyConfig(gate=Soft()),
        off_policy=OffPolicyConfig(behaviour="mixture", shaping=Identity(), rare_exponent=0.5),
    ),
    "sequence": ObjectiveConfig(
        normalizer=NormalizerConfig(mode="sequence"),
        on_policy=OnPolicyConfig(gate=PpoClip(0.2, 0.3)),
    ),
    "gspo": ObjectiveConfig(
        normalizer=NormalizerConfig(mode="sequence"),
        on_policy=OnPolicyConfig(ratio="sequence", gate=PpoClip(3e-4, 4e-4)),
    ),
    "rl_with_sft": ObjectiveConfig(
        off_policy=OffPolicyConfig(policy_coef=0.0),
        sft=SftConfig(coef=1.0, token_weight="probability"),
        on_policy=OnPolicyConfig(gate=Difference(0.01, 0.01)),
    ),
    "gkd": ObjectiveConfig(divergence=DivergenceConfig(beta=0.3)),
    "gkd_top": ObjectiveConfig(
        divergence=DivergenceConfig(beta=0.5, top_k=4, coef=0.7, with_reward=True)
    ),
    "kl": ObjectiveConfig(kl=KlConfig(coef=0.3), off_policy=OffPolicyConfig(shaping=Log())),
}


@pytest.mark.parametrize("name", OBJECTIVES)
@pytest.mark.parametrize("steps_per_phase", [1, 2])
def test_the_gradient_does_not_depend_on_the_cut(name, steps_per_phase):
    experience, objective = random_experience(steps=steps_per_phase), OBJECTIVES[name]

    def compute(experience, micro_batch_tokens):
        return gradients(
            experience,
            objective,
            steps_per_phase=steps_per_phase,
            micro_batch_tokens=micro_batch_tokens,
        )

    whole = compute(experience, 10_000)
    assert len(whole) == steps_per_phase
    assert max(gradient.abs().max() for gradient in whole[0]) > 1e-4
    for other in (
        compute(experience, 21),  # one row each
        compute(experience, 64),
        compute(padded(experience, 9), 64),
        compute(reordered_within_groups(experience), 10_000),
    ):
        for step, expected in zip(other, whole, strict=True):
            torch.testing.assert_close(step, expected, rtol=1e-9, atol=1e-12)


def test_luffy_gradient_against_the_formula_written_out():
    """One minibatch: -A exp(lp - sg(lp)) on rollouts, -A p/(p+0.1) on traces, / (rows * 16),
    minus 0.001 times the mean entropy, all on dense logits."""
    experience = random_experience()
    policy = tiny_policy()
    policy.language_model.set_attn_implementation("sdpa")  # padded rows, as transformers has them
    logits = policy.language_model(input_ids=experience.token_ids_NL).logits[:, :-1] / 0.7
    logprob_NTV = logits.log_softmax(-1)
    logprob_NT = logprob_NTV.gather(-1, experience.token_ids_NL[:, 1:, None])[..., 0]
    entropy_NT = -(logprob_NTV.exp() * logprob_NTV).sum(-1)
    mask_NT, off_NT = experience.response_mask_NT, experience.off_policy_mask_NT
    p = logprob_NT.exp()
    weight_NT = torch.where(off_NT, p / (p + 0.1), (logprob_NT - logprob_NT.detach()).exp())
    rows = mask_NT.any(1).sum()
    assert rows == 11  # one of twelve has no grade
    policy_term = -(experience.advantage_N[:, None] * weight_NT * mask_NT).sum() / (rows * 16)
    loss = policy_term - 0.001 * (entropy_NT * mask_NT).sum() / mask_NT.sum()
    expected = torch.autograd.grad(loss, list(policy.parameters()))

    [step] = gradients(experience, ObjectiveConfig(), micro_batch_tokens=64)
    torch.testing.assert_close(step, list(expected), rtol=1e-9, atol=1e-12)


def test_the_divergence_from_a_teacher_against_the_formula_written_out():
    """The mean over all tokens of KL(teacher, policy), on dense logits; nothing but it is left."""
    experience = random_experience()
    distributions = []
    for seed in (0, 5):
        policy = tiny_policy(seed)
        policy.language_model.set_attn_implementation("sdpa")
        logits = policy.language_model(input_ids=experience.token_ids_NL).logits[:, :-1] / 0.7
        distributions.append((policy, logits.log_softmax(-1)))
    (policy, logp), (_, logq) = distributions
    mask_NT = experience.response_mask_NT
    divergence_NT = (logq.detach().exp() * (logq.detach() - logp)).sum(-1)
    loss = 0.5 * (divergence_NT * mask_NT).sum() / mask_NT.sum()
    expected = torch.autograd.grad(loss, list(policy.parameters()))

    objective = ObjectiveConfig(
        divergence=DivergenceConfig(beta=0.0, coef=0.5), entropy=EntropyConfig(coef=0.0)
    )
    [step] = gradients(experience, objective, micro_batch_tokens=64)
    torch.testing.assert_close(step, list(expected), rtol=1e-9, atol=1e-12)


def test_a_teacher_that_is_the_policy_teaches_nothing_and_another_something_else():
    experience = random_experience()
    objective = ObjectiveConfig(
        divergence=DivergenceConfig(beta=0.3), entropy=EntropyConfig(coef=0.0)
    )
    nothing, one, other = (
        gradients(experience, objective, teacher=seed, micro_batch_tokens=64)[0]
        for seed in (0, 5, 6)
    )
    assert max(gradient.abs().max() for gradient in nothing) < 1e-12
    assert max((a - b).abs().max() for a, b in zip(one, other, strict=True)) > 1e-4


def test_later_minibatches_compare_with_the_policy_before_the_phase():
    """With PPO's ratio to the start of the phase, a large first step clips the second one."""
    experience = random_experience(steps=2)
    clip = ObjectiveConfig(
        on_policy=OnPolicyConfig(gate=PpoClip(0.0, 0.0)), entropy=EntropyConfig(coef=0.0)
    )
    free = ObjectiveConfig(entropy=EntropyConfig(coef=0.0))
    clipped = gradients(experience, clip, steps_per_phase=2)
    unclipped = gradients(experience, free, steps_per_phase=2)
    difference = [(a - b).abs().max() for a, b in zip(clipped[1], unclipped[1], strict=True)]
    assert max(difference) > 1e-6
