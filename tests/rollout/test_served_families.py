"""All weights of families that vLLM keeps in ways of its own reach a real server."""

import pytest
import torch
from policy.miniature import model_folder
from rollout.conftest import EOS, serving

from luffy_pl.policy.policy import load_policy
from luffy_pl.policy.settings import PolicyConfig
from luffy_pl.rollout.engine import EngineConfig, Request, Sampling, ServerConfig
from luffy_pl.rollout.policy_weights import PolicyWeights
from luffy_pl.rollout.start import start_engine

pytestmark = pytest.mark.long
PROMPT = tuple(range(3, 25))


@torch.no_grad()
def largest_gap(policy, engine):
    """Of engine and trainer, in nats."""
    asked = Request(PROMPT, (1, 2), max_tokens=16)
    [samples] = engine.generate([asked], sampling=Sampling(logprobs=True))
    gaps = []
    for sample in samples:
        ids_1L = torch.tensor([PROMPT + sample.token_ids])
        mask_1T = torch.arange(ids_1L.shape[1] - 1)[None] >= len(PROMPT) - 1
        logprob_1T, _ = policy(ids_1L, mask_1T, num_tokens=[ids_1L.shape[1]], temperature=1.0)
        ours = logprob_1T[0, len(PROMPT) - 1 :]
        gaps.append((torch.tensor(sample.logprobs) - ours).abs().max().item())
    return max(gaps)


@pytest.mark.parametrize("family", ["gemma2", "gpt_oss"])
def test_weights_reach_a_server(vllm, tmp_path, family):
    """A head that is the embedding; experts and sinks."""
    model = str(model_folder(family, tmp_path / "model"))
    policy = load_policy(PolicyConfig(model), model).eval()
    with serving(model, tmp_path) as url:
        server = ServerConfig(urls=(url,), timeout_s=60, folder=str(tmp_path))
        config = EngineConfig(kind="vllm_server", max_model_len=96, server=server)
        engine = start_engine(model, config, stop_token_ids=[EOS])
        assert largest_gap(policy, engine) < 1e-5
        with torch.no_grad():
            for name, weight in policy.named_parameters():
                # Scores of tokens are below 1 here, and a sink is one more of them.
                weight += (1.0 if "sinks" in name else 0.02) * torch.randn_like(weight)
        assert largest_gap(policy, engine) > 1e-2
        weights = PolicyWeights(
            policy.state_dict(), "language_model.", conversion=policy.saved_conversion
        )
        engine.load_weights(weights, policy_version=1)
        assert largest_gap(policy, engine) < 1e-5
