"""Log-probabilities in a file of traces, and those of the miniature base."""

import torch
from transformers import AutoModelForCausalLM

from luffy_pl.bundled import resolve
from luffy_pl.data.prompts import load_prompts
from luffy_pl.data.source import PromptSource
from luffy_pl.data.tokenizer import load_tokenizer


def recorded_and_expected(file, *, temperature):
    """A pair of lists of nats for the first trace of each prompt."""
    base = resolve("bundled:base")
    model = AutoModelForCausalLM.from_pretrained(base)
    source = PromptSource(str(file), require_trace=True)
    prompts = load_prompts(source, load_tokenizer(base), max_response_tokens=48)
    for prompt in prompts.prompts:
        trace = prompts.traces[prompt.id][0]
        ids = torch.tensor([[*prompt.token_ids, *trace.token_ids]])
        start = len(prompt.token_ids)
        logprob = (model(ids).logits[0, start - 1 : -1] / temperature).log_softmax(-1)
        expected = logprob.gather(-1, ids[0, start:, None])[:, 0]
        yield list(trace.logprobs), expected.tolist()
