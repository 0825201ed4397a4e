"""What does not fit, and the setting that changes it."""

from __future__ import annotations

import dataclasses

from luffy_pl.estimate.devices import GIB, Device
from luffy_pl.estimate.memory import activations, engine_parts, peaks, token_cache, training_parts
from luffy_pl.estimate.plan import RankPlan, Shape

OFFLOAD = "--config conf/hardware/offload.yaml"


def problems(shape: Shape, plan: RankPlan, device: Device, *, process: float) -> list[str]:
    """One line for each thing that does not fit, with its fix; none if all does."""
    training = {**training_parts(shape, plan), "process": process}
    engine = engine_parts(shape, plan, device)
    found = []
    for moment, size in peaks(training, engine, plan).items():
        if size > device.memory:
            fix = (training_fix if moment == "training" else generating_fix)(
                shape, plan, device, process=process
            )
            found.append(
                f"{moment} needs {size / GIB:.1f} GiB of {device.memory / GIB:.1f}. Fix: {fix}"
            )
    sequence = plan.row_tokens * token_cache(shape, plan)
    if engine["engine cache"] < sequence:
        knob = "gpu_memory_utilization" if plan.is_gpu else "cpu_kv_cache_gib"
        found.append(
            f"the engine's cache of {engine['engine cache'] / GIB:.2f} GiB does not hold one "
            f"sequence of {plan.row_tokens} tokens ({sequence / GIB:.2f} GiB). Fix: raise "
            f"data.engine.{knob}, or lower data.rollout.max_response_tokens"
        )
    return found


def training_fix(shape: Shape, plan: RankPlan, device: Device, *, process: float) -> str:
    """The first setting, cheapest first, with which the backward pass fits."""
    for text, changed in training_changes(shape, plan):
        training = {**training_parts(shape, changed), "process": process}
        if peaks(training, engine_parts(shape, changed, device), changed)["training"] <= (
            device.memory
        ):
            return text
    return "more devices, a smaller model, or a smaller data.engine"


def training_changes(shape: Shape, plan: RankPlan) -> list[tuple[str, RankPlan]]:
    """Settings that lower the peak of training, each on top of those before it."""
    changes: list[tuple[str, RankPlan]] = []
    taken: list[str] = []

    def then(text: str, **fields: object) -> None:
        before = changes[-1][1] if changes else plan
        taken.append(text)
        changes.append((" and ".join(taken), dataclasses.replace(before, **fields)))  # type: ignore[arg-type]

    if plan.is_gpu and not plan.sleeps and not plan.engine_is_elsewhere:
        then("data.engine.sleep_level=2", sleeps=True)
    if not plan.recomputes:
        then("model.policy.activation_checkpointing=selective", recomputes="selective")
        taken.pop()  # the next one replaces it
    if plan.recomputes is not True:
        then("model.policy.activation_checkpointing=true", recomputes=True)
    longest = plan.prompt_tokens + plan.response_tokens
    if plan.micro_batch_tokens > longest:
        then(f"model.optimizer.micro_batch_tokens={longest}", micro_batch_tokens=longest)
    if plan.is_gpu and not plan.offloads and (plan.ranks == 1 or plan.shards > 1):
        then(OFFLOAD, offloads=True)
    if plan.shards == 1:
        shards = max(2, plan.ranks)
        then(
            f"a strategy that shards (ModelParallelStrategy, data_parallel_size={shards})",
            shards=shards,
        )
    for factor in (2, 4, 8):
        start = changes[-1][1] if changes else plan
        text = f"data_parallel_size={start.shards * factor}"
        changes.append(
            (" and ".join([*taken, text]), dataclasses.replace(start, shards=start.shards * factor))
        )
    return changes


def generating_fix(shape: Shape, plan: RankPlan, device: Device, *, process: float) -> str:
    """A smaller engine beside what the trainer keeps, or a trainer that keeps less."""
    training = {**training_parts(shape, plan), "process": process}
    kept = peaks(training, {}, plan)["generating"]
    weights = shape.parameters * plan.engine_bytes
    room = device.memory - kept
    if plan.is_gpu and room > 1.1 * weights:
        return f"data.engine.gpu_memory_utilization={int(100 * room / device.memory) / 100}"
    if not plan.is_gpu and room > weights + GIB:
        return f"data.engine.cpu_kv_cache_gib={int((room - weights) / GIB)}"
    if plan.engine_bytes == 4:
        return "data.engine.dtype=bfloat16"
    if plan.is_gpu and not plan.offloads:
        return OFFLOAD
    return f"shard the weights over more devices: data_parallel_size={2 * plan.shards}"


def room_for_tokens(shape: Shape, plan: RankPlan, device: Device, *, process: float) -> int | None:
    """The largest micro_batch_tokens that would fit; None if nothing does."""
    none = dataclasses.replace(plan, micro_batch_tokens=0)
    fixed = {**training_parts(shape, none), "process": process}
    left = device.memory - peaks(fixed, engine_parts(shape, none, device), none)["training"]
    one = dataclasses.replace(plan, micro_batch_tokens=1)
    per_token = activations(shape, one) + shape.hidden * (plan.compute_bytes + 4)
    return int(left / per_token) if left > 0 else None
