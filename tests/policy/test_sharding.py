"""Sharded, copied and cut: the gradients of one process, and the steps and averages that follow."""

import copy

import pytest
import torch
from policy.families import tiny_config
from torch import distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from transformers import AutoModelForCausalLM, LlamaConfig, Phi3Config, Qwen2Config, Qwen3Config

from luffy_pl.attention.packing import pack
from luffy_pl.errors import ConfigError, ModelError
from luffy_pl.policy.frozen import WholeModel
from luffy_pl.policy.lora import whole
from luffy_pl.policy.policy import Policy
from luffy_pl.policy.recompute import recompute_layers
from luffy_pl.policy.sharding import Sharding, meshes, shard_policy
from luffy_pl.policy.tensor_parallel import joined, layer_plan, segments_of
from luffy_pl.training.optimizer import build_optimizers, grad_norm_and_clip, learning_rates
from luffy_pl.training.settings import OptimizerConfig

SIZES = {
    "vocab_size": 97, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8,
}  # fmt: skip
# Biases, norms of heads, a head of its own; rows side by side, with linear attention; routers.
MODELS = {
    "qwen2": Qwen2Config(**SIZES, tie_word_embeddings=True),
    "qwen3": Qwen3Config(**SIZES, tie_word_embeddings=True),
    "llama": LlamaConfig(**SIZES, tie_word_embeddings=False),
    "qwen3_5": tiny_config("qwen3_5_text", vocab_size=97),
    "qwen3_moe": tiny_config("qwen3_moe", vocab_size=97, use_sliding_window=False),
}
# Model, ranks that cut a layer, copies, recomputation, whether weights stay on the host.
SCENES = {
    2: [
        ("qwen2", 2, 1, False, True),
        ("qwen3", 2, 1, True, False),
        ("llama", 2, 1, "selective", False),
        ("llama", 1, 1, True, True),
        ("qwen3_5", 1, 1, True, False),
        ("qwen3_moe", 1, 1, True, False),
    ],
    4: [
        ("qwen3", 2, 1, False, False),
        ("llama", 2, 2, False, False),
        ("qwen2", 1, 2, False, True),
    ],
}
ROWS_PER_RANK, LONGEST, SHARED = 3, 12, 4
OPTIMIZER = OptimizerConfig(lr=1e-3, eps=1e-3)


def a_model(name):
    """In float64, with weights that are not small, so that every layer matters."""
    torch.manual_seed(3)
    model = AutoModelForCausalLM.from_config(MODELS[name], dtype=torch.float64)
    if name == "qwen3_moe":  # the grouped product knows no float64
        model.set_experts_implementation("eager")
    for weight in model.parameters():
        if weight.ndim == 2:
            weight.data *= 8
    return model


def rows_of(ranks):
    """Rows of different lengths; the second of each rank begins as the first."""
    generator = torch.Generator().manual_seed(5)
    num_rows = ROWS_PER_RANK * ranks
    ids_NL = torch.randint(0, 97, (num_rows, LONGEST), generator=generator)
    ids_NL[1::ROWS_PER_RANK, :SHARED] = ids_NL[::ROWS_PER_RANK, :SHARED]
    lengths = torch.randint(SHARED + 1, LONGEST + 1, (num_rows,), generator=generator).tolist()
    mask_NT = torch.arange(LONGEST - 1) < torch.tensor(lengths)[:, None] - 1
    mask_NT[:, 0] = False
    shared = [SHARED if row % ROWS_PER_RANK == 1 else 0 for row in range(num_rows)]
    return ids_NL, mask_NT, lengths, shared


def backward(policy, ranks, own, *, scale):
    """A loss that weighs each row and token differently, with that of routers."""
    ids_NL, mask_NT, lengths, shared = (part[own] for part in rows_of(ranks))
    logprob_NT, entropy_NT, *balance_NT = policy(
        ids_NL, mask_NT, num_tokens=lengths, num_shared=shared, temperature=1.0,
        balances=policy.router_top_k is not None,
    )  # fmt: skip
    weight_NT = torch.linspace(-1, 2, ids_NL.shape[0] * (LONGEST - 1)).view_as(logprob_NT)
    loss = (logprob_NT * weight_NT).sum() + entropy_NT.square().sum()
    loss = loss + 10 * sum(part_NT.sum() for part_NT in balance_NT)
    (loss * scale).backward()


def train(policy, ranks, own, *, scale):
    """Two steps; the first one's gradients, whole, and both norms."""
    rates = learning_rates(OPTIMIZER, num_phases=1)
    optimizer = build_optimizers(policy.trained_weights(), OPTIMIZER, rates)[0]["optimizer"]
    norms = []
    for step in range(2):
        for part in own:
            backward(policy, ranks, part, scale=scale)
        norms.append(grad_norm_and_clip(policy.trained_weights(), max_norm=50.0))
        if step == 0:
            gradients = {name: whole(w.grad).clone() for name, w in policy.named_parameters()}
        optimizer.step()
        optimizer.zero_grad()
    return gradients, torch.stack(norms)


def follow(policy, average, own):
    """A moving average that has scored goes a quarter of the way: before and after."""
    start = {name: whole(weight).clone() for name, weight in average.policy.state_dict().items()}
    ids_NL, mask_NT, lengths, shared = (part[own] for part in rows_of(dist.get_world_size()))
    with torch.no_grad(), average.scoring() as scoring:
        scoring(ids_NL, mask_NT, num_tokens=lengths, num_shared=shared, temperature=1.0)
    average.follow(policy, 0.25)
    return start, {name: whole(weight) for name, weight in average.policy.state_dict().items()}


def compare(name, cut, replicas, recomputes, on_host):
    ranks, rank = dist.get_world_size(), dist.get_rank()
    one = Policy(a_model(name))
    model = copy.deepcopy(one.language_model)
    recompute_layers(model, recomputes)
    several = Policy(model)
    given = init_device_mesh(
        "cpu", (ranks // cut, cut), mesh_dim_names=("data_parallel", "tensor_parallel")
    )
    sharding = Sharding(
        meshes(given, replicas=replicas), torch.device("cpu"), torch.float64, on_host=on_host
    )
    shard_policy(several, sharding)
    starts = range(0, ROWS_PER_RANK * ranks, ROWS_PER_RANK)
    parts = [slice(start, start + ROWS_PER_RANK) for start in starts]
    expected, norms = train(one, ranks, parts, scale=1.0)
    found, own_norms = train(several, ranks, [parts[rank]], scale=ranks)
    torch.testing.assert_close(own_norms, norms, rtol=1e-6, atol=0)
    assert (norms > 50).all(), "nothing was clipped"
    for weight, gradient in expected.items():
        # They are reduced in float32.
        tolerance = 1e-6 * gradient.abs().max().item()
        torch.testing.assert_close(
            found[weight], gradient, rtol=0, atol=tolerance, msg=lambda m, w=weight: f"{w}: {m}"
        )
    for weight, value in one.state_dict().items():
        torch.testing.assert_close(whole(several.state_dict()[weight]), value, rtol=0, atol=1e-6)
    average = WholeModel(Policy(a_model(name)))
    shard_policy(average.policy, sharding)
    start, moved = follow(several, average, parts[rank])
    for weight, value in several.state_dict().items():
        torch.testing.assert_close(moved[weight], 0.75 * start[weight] + 0.25 * whole(value))


def main():
    dist.init_process_group("gloo")
    for scene in SCENES[dist.get_world_size()]:
        compare(*scene)
    dist.destroy_process_group()


@pytest.mark.parametrize("ranks", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_gradients_and_averages_are_those_of_one_process(luffy_pl, ranks):
    done = luffy_pl(script=__file__, ranks=ranks, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]


def test_rows_of_a_group_are_joined():
    """By hand: two rows of 3 and 2 places, of which the second shares one; another rank's 2."""
    ids_NL = torch.tensor([[5, 6, 7, 8], [5, 9, 4, 3]])
    own = pack(ids_NL, torch.ones(2, 3, dtype=torch.bool), (4, 4), (0, 1))
    assert own.segment_lengths == (3, 2)
    other = ((2,), (0,))
    found = joined(own, [other, (own.segment_lengths, own.num_shared)])
    assert found.token_ids_1K.tolist() == [[5, 6, 7, 9, 4]]
    assert found.segment_lengths == (2, 3, 3, 2)
    assert found.num_shared == (0, 0, 0, 1)
    assert found.position_ids_1K.tolist() == [[0, 1, 0, 1, 2, 0, 1, 2, 1, 2]]
    assert found.place_M is own.place_M
    seen_by_other = joined(pack(ids_NL[:1], torch.ones(1, 3, dtype=torch.bool), (3,), (0,)),
                           [other, (own.segment_lengths, own.num_shared)])  # fmt: skip
    assert seen_by_other.token_ids_1K.tolist() == [[5, 6, 0, 0, 0]]
    assert seen_by_other.segment_lengths == found.segment_lengths


@pytest.mark.parametrize(("missing", "pieces"), [(0, []), (3, [3]), (5, [5]), (13, [5, 5, 3])])
def test_padding_costs_no_more_than_the_longest_row(missing, pieces):
    assert segments_of(missing, 5) == pieces


def test_the_plan_of_a_model_is_its_own():
    assert layer_plan(MODELS["qwen3"], 2) == {
        "self_attn.q_proj": "colwise",
        "self_attn.k_proj": "colwise",
        "self_attn.v_proj": "colwise",
        "self_attn.o_proj": "rowwise",
        "mlp.gate_proj": "colwise",
        "mlp.up_proj": "colwise",
        "mlp.down_proj": "rowwise",
    }


def test_another_plan_is_refused():
    with pytest.raises(ModelError, match=r"colwise_gather_output.*\n?.*data_parallel_size"):
        layer_plan(Phi3Config(), 2)


@pytest.mark.parametrize(
    ("ranks", "said"), [(3, "num_attention_heads, 4"), (4, "key_value_heads, 2")]
)
def test_heads_are_not_divided(ranks, said):
    with pytest.raises(ConfigError, match=said):
        layer_plan(MODELS["llama"], ranks)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
