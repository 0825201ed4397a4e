"""The part of a composed configuration that memory and time depend on, and the model's shape."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from transformers import PretrainedConfig

from luffy_pl.errors import ModelError, named
from luffy_pl.estimate.activations import saved_bytes_per_token, shape_alone
from luffy_pl.objective.settings import frozen_models
from luffy_pl.policy.architecture import read_architecture
from luffy_pl.policy.flops import ModelSize, cached_numbers, model_size
from luffy_pl.policy.frozen import START, FrozenConfig
from luffy_pl.policy.lora import LoraConfig
from luffy_pl.process.ranks import count_ranks
from luffy_pl.rollout.engine import cpu_cache_tokens

BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
USUAL_PROMPT = 1024
"""Tokens of the longest prompt, where nothing says how long prompts are."""


@dataclass(frozen=True)
class Shape:
    """Sizes of a model. Counts are numbers, not bytes.

    parameters: of the plain model, a tied head once. adapters: trained beside them; 0 where all
    weights are trained. embeddings: those of embedding and head.
    kv_per_token: keys and values of a token, all layers. saved_per_token: bytes that a backward
    pass needs of the body. size: for `policy/flops.py`.
    """

    parameters: int
    adapters: int
    embeddings: int
    layers: int
    hidden: int
    intermediate: int
    vocab: int
    kv_per_token: int
    saved_per_token: float
    size: ModelSize


@dataclass(frozen=True)
class RowLengths:
    """Tokens of the prompts and expert traces that a run was read to have."""

    longest_prompt: int
    mean_prompt: float
    mean_trace: float | None


@dataclass(frozen=True)
class FrozenPart:
    """A model that scores tokens.

    weights: as in `FrozenConfig`. weight_bytes: of one of its weights.
    parameters, size: of a model of its own; None for one of the policy's shape.
    passes: how often it scores a row.
    """

    weights: str
    weight_bytes: int
    parameters: int | None = None
    size: ModelSize | None = None
    passes: int = 1


@dataclass(frozen=True)
class RankPlan:
    """One rank's share of a run. Tokens are those of the longest row where they vary.

    shards: ranks that hold one copy of the weights. tensor_ranks: of these, those that cut layers
    together. offloads: weights, gradients and moments are kept on the host.
    recomputes: `model.policy.activation_checkpointing`.
    ranks_per_machine: of `ranks`, those that share a host.
    engine_is_elsewhere: on devices of its own, taken to be of the same kind.
    engine_is_kept: its weights stay on the host while it sleeps.
    engine_ranks: `data.engine.tensor_parallel_size`.
    micro_batch_tokens: of a full forward pass, which a small step may not reach.
    mean_prompt_tokens, mean_trace_tokens: where the data was read; None: prompts are taken to be as
    long as they may be, and traces as long as answers.
    rounds_again, rows_again: further rounds of sampling after a failure, and the rows of a group
    in each of them.
    """

    ranks: int
    ranks_per_machine: int
    shards: int
    tensor_ranks: int
    offloads: bool
    is_gpu: bool
    weight_bytes: int
    compute_bytes: int
    optimizers: int
    frozen: tuple[FrozenPart, ...]
    recomputes: bool | str
    micro_batch_tokens: int
    engine_kind: str
    engine_is_elsewhere: bool
    engine_ranks: int
    engine_bytes: int
    engine_share: float
    engine_cache_gib: int
    sleeps: bool
    engine_is_kept: bool
    row_tokens: int
    prompt_tokens: int
    response_tokens: int
    prompts: int
    rollouts_per_prompt: int
    given_per_prompt: int
    steps_per_phase: int
    mean_prompt_tokens: float | None = None
    mean_trace_tokens: float | None = None
    engine_cache_tokens: int | None = None
    rounds_again: int = 0
    rows_again: float = 0.0


def read_shape(
    config: PretrainedConfig, *, compute_bytes: int, lora: LoraConfig | None = None
) -> Shape:
    """Counted on the model without weights.

    Raises:
        ModelError: its own forward pass fails, or its configuration lacks a size.
    """
    dtype = torch.float32 if compute_bytes == 4 else torch.bfloat16
    try:
        return counted_shape(config, dtype=dtype, lora=lora)
    # What transformers says of sizes that differ by layer, or of a part of a larger model.
    except (AttributeError, RuntimeError, ValueError) as error:
        raise ModelError(
            "model.policy.path",
            f"its configuration does not say what an estimate needs ({named(error)})",
            value=config.model_type,
            fix="use a model whose configuration names layers, sizes and heads as most do",
        ) from error


def counted_shape(
    config: PretrainedConfig, *, dtype: torch.dtype, lora: LoraConfig | None
) -> Shape:
    """See `read_shape`."""
    model = shape_alone(config, dtype=dtype, lora=lora)
    config = config.get_text_config()
    ends = (model.get_input_embeddings().weight, model.get_output_embeddings().weight)
    numbers = sum(weight.numel() for weight in model.parameters())
    adapters = sum(w.numel() for w in model.parameters() if w.requires_grad) if lora else 0
    wide = getattr(config, "intermediate_size", None) or 4 * config.hidden_size
    return Shape(
        parameters=numbers - adapters,
        adapters=adapters,
        embeddings=sum(weight.numel() for weight in set(ends)),
        layers=config.num_hidden_layers,
        hidden=config.hidden_size,
        intermediate=max(wide) if isinstance(wide, list) else wide,
        vocab=config.vocab_size,
        kv_per_token=cached_numbers(config),
        saved_per_token=saved_bytes_per_token(config, dtype=dtype, lora=lora),
        size=model_size(model),
    )


def read_frozen(model: Any) -> tuple[FrozenPart, ...]:
    """Read the section `model`: each model once, with the passes of all that name it."""
    known = {START: FrozenConfig(), **model.frozen}
    named = (known[name] for name in frozen_models(model.objective).values())
    uses = [one for one in named if not one.is_served]  # another machine's memory and time
    found = []
    for place, one in enumerate(uses):
        if one in uses[:place]:
            continue
        # A moving average is kept in float32.
        size = 4 if one.weights == "ema" else BYTES[model.policy.dtype]
        plain = FrozenPart(one.weights, size, passes=uses.count(one))
        found.append(plain if one.path is None else with_shape(plain, one.path))
    return tuple(found)


def with_shape(part: FrozenPart, path: str) -> FrozenPart:
    """The part with the counts of another model."""
    architecture = read_architecture(path)
    model = shape_alone(architecture, dtype=torch.float32, lora=None)
    numbers = sum(weight.numel() for weight in model.parameters())
    return replace(part, parameters=numbers, size=model_size(model))


def room_for_prompts(window: int | None, max_response_tokens: int) -> int:
    """Tokens of the longest prompt where nobody has read or bounded the prompts."""
    room = USUAL_PROMPT if window is None else window - max_response_tokens
    return max(1, min(USUAL_PROMPT, room))


def read_plan(config: Any, lengths: RowLengths | None = None) -> RankPlan:
    """Read a composed configuration of `fit`, and the lengths of its data where they are known."""
    trainer, model, data = config.trainer, config.model, config.data
    rollout, engine, policy = data.rollout, data.engine, model.policy
    ranks = count_ranks(trainer)
    is_gpu = trainer.accelerator in ("gpu", "cuda")
    computes_bf16 = policy.dtype == "bfloat16" or "bf16" in str(trainer.precision)
    longest_prompt = (data.train and data.train.max_prompt_tokens) or room_for_prompts(
        engine.max_model_len, rollout.max_response_tokens
    )
    prompt_tokens = longest_prompt if lengths is None else lengths.longest_prompt
    longest = prompt_tokens + rollout.max_response_tokens
    prompts_per_step = rollout.prompts_per_phase / ranks.total / model.optimizer.steps_per_phase
    given = given_from_the_start(rollout)
    rounds, rows = rounds_after_failure(rollout)
    step_tokens = int(prompts_per_step * rollout.group_size * longest)
    return RankPlan(
        ranks=ranks.total,
        ranks_per_machine=ranks.total // int(trainer.num_nodes),
        shards=max(1, ranks.total // policy.replicas) if ranks.is_sharded else 1,
        tensor_ranks=ranks.tensor,
        offloads=ranks.offloads,
        is_gpu=is_gpu,
        weight_bytes=BYTES[policy.dtype],
        compute_bytes=2 if computes_bf16 else 4,
        optimizers=2 if model.optimizer.sft else 1,
        frozen=read_frozen(model),
        recomputes=policy.activation_checkpointing,
        micro_batch_tokens=min(model.optimizer.micro_batch_tokens, max(longest, step_tokens)),
        engine_kind="vllm" if engine.kind == "auto" else engine.kind,
        engine_is_elsewhere=engine.kind == "vllm_server",
        engine_ranks=engine.tensor_parallel_size,
        engine_bytes=BYTES[engine.dtype],
        engine_share=engine.gpu_memory_utilization,
        engine_cache_gib=engine.cpu_kv_cache_gib,
        engine_cache_tokens=cpu_cache_tokens(engine.max_model_len),
        sleeps=is_gpu and engine.sleep_level > 0,
        engine_is_kept=is_gpu and engine.sleep_level == 1 and engine.kind != "vllm_server",
        row_tokens=max(longest, engine.max_model_len or 0),
        prompt_tokens=prompt_tokens,
        response_tokens=rollout.max_response_tokens,
        prompts=rollout.prompts_per_phase,
        rollouts_per_prompt=rollout.group_size - given,
        given_per_prompt=given,
        steps_per_phase=model.optimizer.steps_per_phase,
        mean_prompt_tokens=None if lengths is None else lengths.mean_prompt,
        mean_trace_tokens=None if lengths is None else lengths.mean_trace,
        rounds_again=rounds,
        rows_again=rows,
    )


def given_from_the_start(rollout: Any) -> int:
    """Rows of a group that somebody else wrote or began, before the policy has failed."""
    waits = rollout.prefix.when == "all_failed"
    return 0 if waits else int(rollout.expert_traces_per_group)


def rounds_after_failure(rollout: Any) -> tuple[int, float]:
    """Rounds of sampling that follow a failure, and rows of a group in each; 0 without any."""
    given, guidance = int(rollout.expert_traces_per_group), rollout.guidance
    if rollout.prefix.when == "all_failed" and given:
        return len(rollout.prefix.levels or (1,)), float(given)
    if guidance is None or (guidance.when == "always" and guidance.what != "own_failure"):
        return 0, 0.0
    rows = guidance.rows or rollout.group_size - given
    return len(guidance.share.levels or (1,)), guidance.chance * rows
