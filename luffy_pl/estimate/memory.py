"""Bytes of one device: by part, and at the two moments when most is held."""

from __future__ import annotations

from luffy_pl.estimate.devices import GIB, Device
from luffy_pl.estimate.plan import FrozenPart, RankPlan, Shape
from luffy_pl.policy.head import KEPT, KEPT_GPU, TILE_GPU, TILES

HF_ROWS, HF_TOKENS = 64, 2**15
"""Sequences that the engine hf samples together, or as many more as hold so many tokens."""


def training_parts(shape: Shape, plan: RankPlan) -> dict[str, float]:
    """What a rank holds in the backward pass of a full micro-batch, by part."""
    is_gathered = plan.shards > 1 or plan.offloads
    parts = {
        **({} if host_parts(shape, plan) else kept_parts(shape, plan)),
        "gathered weights": gathered(shape, plan) if is_gathered else 0.0,
        "activations": activations(shape, plan),
        "head": head(shape, plan),
    }
    return {name: size for name, size in parts.items() if size}


def kept_parts(shape: Shape, plan: RankPlan) -> dict[str, float]:
    """What a rank keeps from step to step, and the gradients."""
    base = shape.parameters * plan.weight_bytes / plan.shards
    adapters = shape.adapters * 4 / plan.shards  # float32 beside whatever type
    trained = adapters or base
    return {
        "weights": base + adapters,
        "gradients": trained,
        "optimizer": 2 * plan.optimizers * trained,
        "frozen models": sum(frozen_bytes(shape, plan, part) for part in plan.frozen),
    }


def frozen_bytes(shape: Shape, plan: RankPlan, part: FrozenPart) -> float:
    """Memory of a model that scores tokens; beside adapters only what follows it counts."""
    if shape.adapters and part.parameters is None:
        return 0.0 if part.weights == "start" else shape.adapters * 4 / plan.shards
    return (part.parameters or shape.parameters) * part.weight_bytes / plan.shards


def host_parts(shape: Shape, plan: RankPlan) -> dict[str, float]:
    """The same where a GPU leaves it to the host; a CPU is its own host."""
    return kept_parts(shape, plan) if plan.offloads and plan.is_gpu else {}


def machine_parts(shape: Shape, plan: RankPlan) -> dict[str, float]:
    """What the host of one machine holds beside its GPUs, with all of the machine's ranks.

    loading: whole weights, on the first rank where they are sharded, else on every rank; they are
    gone when training begins. kept: what is offloaded. sleeping: weights of engines that keep them.
    """
    if not plan.is_gpu:
        return {}
    copies = 1 if plan.shards > 1 or plan.offloads else plan.ranks_per_machine
    asleep = plan.engine_is_kept * shape.parameters * plan.engine_bytes / plan.engine_ranks
    parts = {
        "loading": copies * (shape.parameters * plan.weight_bytes + shape.adapters * 4.0),
        "kept": plan.ranks_per_machine * sum(host_parts(shape, plan).values()),
        "sleeping": plan.ranks_per_machine * asleep,
    }
    return {name: size for name, size in parts.items() if size}


def gathered(shape: Shape, plan: RankPlan) -> float:
    """Whole weights under FSDP2: embedding and head throughout, a layer, the next, its gradient."""
    layers = shape.layers * plan.tensor_ranks
    layer = (shape.parameters + shape.adapters - shape.embeddings) / layers
    gradient = shape.adapters / layers or layer
    in_compute_type = shape.embeddings + 2 * layer + gradient
    return in_compute_type * plan.compute_bytes + 4 * gradient  # these are summed in float32


def activations(shape: Shape, plan: RankPlan) -> float:
    """Saved for the backward pass, and the gradients of the widest of them."""
    # What attention and MLP take in are the tokens of all ranks that cut them.
    taken_in = 2 * (plan.tensor_ranks - 1) * shape.layers * shape.hidden * plan.compute_bytes
    saved = shape.saved_per_token + taken_in
    if plan.recomputes:  # the input of each layer, and one layer computed again
        saved = shape.layers * shape.hidden * plan.compute_bytes + saved / shape.layers
    if plan.recomputes == "selective":  # the products: queries twice as wide as attention result
        products = 2 * (shape.hidden + shape.intermediate) * shape.layers
        saved += (2 * shape.size.attention + shape.kv_per_token + products) * plan.compute_bytes
    return plan.micro_batch_tokens * (saved + 2 * shape.intermediate * plan.compute_bytes)


def head(shape: Shape, plan: RankPlan) -> float:
    """Hidden states and their gradient, the head's gradient in float32, a tile and kept logits."""
    states = plan.micro_batch_tokens * shape.hidden * (plan.compute_bytes + 4)
    gradient = 0 if shape.adapters else shape.vocab * shape.hidden * 4
    if gradient and plan.compute_bytes < 4:
        gradient += shape.vocab * shape.hidden * plan.compute_bytes
    tokens, logits = TILE_GPU if plan.is_gpu else TILES["cpu"]
    tile = min(logits, tokens * shape.vocab) * 4 * 3  # logits, their exponentials, their gradient
    logits = plan.micro_batch_tokens * shape.vocab
    kept = 4 * logits if logits <= (KEPT_GPU if plan.is_gpu else KEPT["cpu"]) else 0
    return states + gradient + tile + kept


def engine_parts(shape: Shape, plan: RankPlan, device: Device) -> dict[str, float]:
    """Weights and key-value cache of the rollout engine; the cache is what is left for it."""
    weights = shape.parameters * plan.engine_bytes / plan.engine_ranks
    if plan.engine_kind == "hf":
        cache = max(HF_ROWS * plan.row_tokens, HF_TOKENS) * token_cache(shape, plan)
    elif plan.is_gpu:
        cache = max(0.0, plan.engine_share * device.memory - weights)
    else:
        cache = plan.engine_cache_gib * float(GIB)
        if plan.engine_cache_tokens is not None:
            cache = min(cache, plan.engine_cache_tokens * token_cache(shape, plan))
    return {"engine weights": weights, "engine cache": cache}


def sequences_held(shape: Shape, plan: RankPlan, cache: float, *, tokens: float) -> float | None:
    """Sequences of so many tokens that a cache holds; None: the model keeps no keys and values."""
    sequence = tokens * token_cache(shape, plan)
    return cache / sequence if sequence else None


def token_cache(shape: Shape, plan: RankPlan) -> float:
    """Bytes of the keys and values of one token on each of the ranks that share an engine."""
    return shape.kv_per_token * plan.engine_bytes / plan.engine_ranks


def peaks(training: dict[str, float], engine: dict[str, float], plan: RankPlan) -> dict[str, float]:
    """Bytes while training and while generating; gradients and activations live in the first."""
    kept = ("weights", "optimizer", "frozen models", "process")
    beside = 0.0 if plan.engine_is_elsewhere else sum(engine.values())
    return {
        "training": sum(training.values()) + (0.0 if plan.sleeps else beside),
        "generating": sum(training.get(name, 0.0) for name in kept) + beside,
    }
