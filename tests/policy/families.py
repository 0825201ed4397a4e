"""A tiny model with random weights of every causal language model that transformers has.

Nothing is downloaded: fields of a configuration are made small by what their names say.
`make families` judges all of them and writes the table of docs/models.md.
"""

import re
from collections import defaultdict
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM
from transformers import __version__ as VERSION
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from luffy_pl.errors import ModelError
from luffy_pl.policy.policy import Policy

WINDOW = 16
LAYERS = 8  # at most; fewer where two show every kind of layer
TOLERANCE = 1e-4  # nats
# What a field is set to by its name; the first pattern that is found in it decides. None: nothing.
SIZES = {
    r"per_tok|top_?k$|moe_k$|topk$": 2,
    r"token_id|token_index|_tokens?$|^qk_head_dim": None,
    r"vocab": 96,
    r"window|chunk_size|^local_attention$|^attention_window": WINDOW,
    r"max_position|n_positions|max_seq|n_ctx|max_target|context_length": 256,
    r"(^|_)(num_key_value|n_?kv|kv_n|num_kv|multi_query_group).*": 2,
    r"num_attention_heads|num_heads|n_heads?$|attention_heads": 4,
    r"index_topk": 8,
    r"n_groups?$|topk_groups?$|num_groups": 1,
    r"num_.*shared_experts|n_shared": 1,
    r"num_.*experts?$|n_routed|num_local_experts|moe_num|^num_experts": 4,
    r"mamba_(d_head|head_dim)|mamba_headdim": 16,
    r"rope_head_dim|nope_head_dim|head_dim|head_size|v_head|qk_dim|d_head|d_kv|rotary_dim": 8,
    r"lora_rank|_rank$|low_rank": 8,
    r"intermediate|ffn|inner|mlp_dim|d_ff|ff_dim|feed_forward|n_inner": 48,
    r"^conv|d_conv|kernel": None,
    r"hidden_size|d_model|n_embd|^dim$|embed.*dim|_width|_dim$|embed.*size": 32,
    r"num_.*layers?$|n_layers?$|num_blocks|_layers$|first_k_dense": -1,
}
# Without a default, and needed.
MISSING = {
    "head_dim": 8, "num_key_value_heads": 2, "n_routed_experts": 4, "n_shared_experts": 1,
    "num_experts_per_tok": 2,
}  # fmt: skip
# Sizes that follow from each other in a way that names do not tell.
TOGETHER = {
    "bamba": {"attn_layer_indices": [1]},
    "dbrx": {"attn_config": {"kv_n_heads": 2, "rope_theta": 1e4, "clip_qkv": 8.0}},
    "falcon_h1": {"mamba_d_ssm": 64},
    "gemma3n_text": {"num_kv_shared_layers": 0},
    "gpt_neo": {"num_layers": 2, "attention_types": [[["global", "local"], 1]]},
    "granitemoehybrid": {"layer_types": ["mamba", "attention"]},
    "kimi_linear": {"num_expert_group": 1},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"]},
    "mamba2": {"num_heads": 8, "head_dim": 8},
    "reformer": {"axial_pos_embds": False},
    "xmod": {"default_language": "en_XX"},
    "zamba2": {"layer_types": ["mamba", "hybrid"], "num_hidden_layers": 2, "n_mamba_heads": 8},
}


def families():
    """Names of all of them, as transformers spells them."""
    return sorted(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)


def small(config, layers):
    """The fields of a default configuration that have to be smaller, nested ones included."""
    fields = {name: value for name, value in vars(config).items() if name[0] != "_"}
    heads = next((fields[name] for name in ("num_attention_heads", "n_head") if name in fields), 0)
    found = {name: size for name, size in MISSING.items() if fields.get(name, 0) is None}
    for name, value in fields.items():
        if name in config.sub_configs and value is not None:
            found[name] = small(value, layers)
        elif type(value) is int and value > 0:
            size = next((size for word, size in SIZES.items() if re.search(word, name)), None)
            if size is not None:
                found[name] = min(value, layers if size == -1 else size)
            elif re.search(r"token_id|token_index", name):
                found[name] = value % 96
        if name == "num_key_value_heads" and value in (None, heads):
            found[name] = 4
    return found


def tiny_config(family, **settings):
    """Smallest of few layers that show every kind of layer that the family has."""
    kind = CONFIG_MAPPING[family]
    usual = kind()
    text = usual.get_text_config()
    kinds = getattr(text, "layer_types", None) or []
    layers = next((n for n in range(2, LAYERS) if {*kinds[:n]} == {*kinds}), LAYERS)
    windows = {"use_sliding_window": True, "max_window_layers": 1, "sliding_window": WINDOW}
    usually = {name: value for name, value in windows.items() if hasattr(usual, name)}
    if hasattr(usual, "is_decoder"):
        usually["is_decoder"] = True
    return kind(**{**small(usual, layers), **usually, **TOGETHER.get(family, {}), **settings})


def tiny_model(family, **settings):
    """In float32, with weights so large that nothing drowns in rounding."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(tiny_config(family, **settings))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.ndim >= 2 and weight.is_floating_point():
                weight.normal_(0, 1.5 / weight.shape[-1] ** 0.5, generator=generator)
            elif name.endswith("bias"):
                weight.normal_(0, 0.1, generator=generator)
    return model.eval()


def own_model(family, **settings):
    """The same one with transformers' plain attention, which no model's needs are lost in."""
    model = tiny_model(family, **settings)
    model.set_attn_implementation("eager")
    return model


def judged(family, **settings):
    """What became of a family, one of VERDICTS, with what there is to say."""
    try:
        model = tiny_model(family, **settings)
        own_logprobs(model, torch.arange(5) + 3)
    except Exception as error:  # noqa: BLE001  (of code that is not ours)
        return "not judged", f"no tiny model is built ({type(error).__name__})"
    try:
        policy = Policy(model).train()
    except ModelError as error:
        return "refused", reason_of(error)
    own = own_model(family, **settings)
    worst = max(gap(policy, own, *case) for case in CASES)
    if worst > TOLERANCE:
        if unsteady(own):
            return "unsteady", "its own forward pass changes a token with those that follow"
        return "wrong", f"{worst:.2g} nats"
    return "packed" if policy.packs_rows else "padded", ""


def unsteady(own):
    """Whether a model differs from itself: it picks keys, and rounding decides among equals."""
    ids_NL, _ = drawn_rows((60,) * 8, (0,) * 8)
    both = ((own_logprobs(own, ids)[:39], own_logprobs(own, ids[:40])) for ids in ids_NL)
    return max((long - short).abs().max() for long, short in both) > TOLERANCE


def reason_of(error):
    """One reason for all families that it holds for: numbers and names of classes left out."""
    what = re.sub(r"(packed|padded) rows are off by \S+ nats from the rows alone: ", "", error.what)
    return re.sub(r" \(.*", "", what)


# Lengths of rows, and what each shares with the last row that shares nothing.
CASES = [
    ((40,), (0,)),
    ((7, 40, 23), (0, 0, 0)),
    ((40, 33, 40), (0, 9, 9)),
    ((24, 60, 41, 12), (0, 0, 20, 6)),
]


def gap(policy, own, num_tokens, num_shared):
    """Largest difference of a packing from its rows alone, in a model that is no policy."""
    ids_NL, mask_NT = drawn_rows(num_tokens, num_shared)
    with torch.no_grad():
        found_NT, _ = policy(
            ids_NL, mask_NT, num_tokens=num_tokens, num_shared=num_shared, temperature=1.0
        )
        gaps = [
            (found_NT[row, : length - 1] - own_logprobs(own, ids_NL[row, :length])).abs().max()
            for row, length in enumerate(num_tokens)
        ]
    return torch.stack(gaps).nan_to_num(torch.inf).max().item()


def own_logprobs(model, ids_L, *, gradient=False):
    """Of each token after the first, by the model's own forward pass."""
    with torch.set_grad_enabled(gradient):
        logits_TV = model(input_ids=ids_L[None], use_cache=False).logits[0, :-1].float()
    return logits_TV.log_softmax(-1).gather(-1, ids_L[1:, None])[:, 0]


def gradient_gap(policy, own, num_tokens, num_shared):
    """Largest difference of a weight's gradient from that of rows alone, over the largest one."""
    ids_NL, mask_NT = drawn_rows(num_tokens, num_shared)
    found_NT, _ = policy(
        ids_NL, mask_NT, num_tokens=num_tokens, num_shared=num_shared, temperature=1.0
    )
    found_NT.sum().backward()
    for row, length in enumerate(num_tokens):
        own_logprobs(own, ids_NL[row, :length], gradient=True).sum().backward()
    found = dict(policy.language_model.named_parameters())
    gaps = []
    for name, weight in own.named_parameters():
        if weight.grad is not None:
            of_policy = found[name].grad
            gaps.append(((of_policy - weight.grad).abs().max() / weight.grad.abs().max()).item())
    assert gaps
    return max(gaps)


def drawn_rows(num_tokens, num_shared):
    """Token ids [N, L] of rows with the same beginnings, and a mask of all their predictions."""
    generator = torch.Generator().manual_seed(sum(num_tokens))
    ids_NL = torch.randint(3, 90, (len(num_tokens), max(num_tokens)), generator=generator)
    for row, shared in enumerate(num_shared):
        lead = max(first for first in range(row + 1) if not num_shared[first])
        ids_NL[row, :shared] = ids_NL[lead, :shared]
    return ids_NL, torch.arange(max(num_tokens) - 1) < torch.tensor(num_tokens)[:, None] - 1


VERDICTS = ("packed", "padded", "refused", "unsteady", "wrong", "not judged")
PAGE = Path(__file__).parents[2] / "docs" / "models.md"
BEGIN, END = "<!-- families: written by tests/policy/families.py -->", "<!-- end of families -->"


def table(verdicts):
    """Families by what became of them, and reasons, in Markdown; `verdicts` by family."""
    by_verdict = defaultdict(lambda: defaultdict(list))
    for family, (verdict, reason) in verdicts.items():
        by_verdict[verdict][reason].append(family)
    lines = [f"Of the {len(verdicts)} families of transformers {VERSION}:", ""]
    lines += ["| | families | |", "|---|---|---|"]
    for verdict in VERDICTS:
        for reason, names in sorted(by_verdict[verdict].items()):
            lines.append(f"| {verdict} ({len(names)}) | {', '.join(names)} | {reason} |")
        if not by_verdict[verdict]:
            lines.append(f"| {verdict} (0) | | |")
    return "\n".join(lines)


def write_page(verdicts):
    """The table of docs/models.md."""
    before, _, rest = PAGE.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    PAGE.write_text(f"{before}{BEGIN}\n{table(verdicts)}\n{END}{after}")


if __name__ == "__main__":
    write_page({family: judged(family) for family in families()})
