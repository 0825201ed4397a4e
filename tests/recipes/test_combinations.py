"""Recipes that contradict each other are refused before anything loads, naming both settings."""

import pytest

pytestmark = pytest.mark.recipes


@pytest.mark.parametrize(
    ("recipes", "settings", "named"),
    [
        (["exgrpo"], ["--data.rollout.expert_traces_per_group", "1"],
         ["data.rollout.replay", "data.rollout.expert_traces_per_group=1"]),
        (["relift"], ["--data.rollout.expert_traces_per_group", "1"],
         ["data.rollout.imitation_buffer", "data.rollout.expert_traces_per_group=1"]),
        (["hpt"], ["--data.rollout.expert_traces_per_group", "0",
                   "--model.objective.sft.coef", "0"],
         ["data.rollout.routing"]),
        (["rl_with_sft_loss"], ["--data.rollout.expert_traces_per_group", "0"],
         ["model.objective.sft.coef", "data.rollout.expert_traces_per_group=0"]),
        (["prefix_guidance"], ["--data.rollout.expert_traces_per_group", "0"],
         ["data.rollout.prefix.strategy", "data.rollout.expert_traces_per_group=0"]),
        (["truncated_importance_sampling"], ["--model.objective.old_logprob", "sampler"],
         ["model.objective.on_policy.mismatch_cap", "old_logprob=sampler"]),
        (["prefix_rft"], ["--model.objective.old_logprob", "sampler"],
         ["model.objective.off_policy.behaviour", "old_logprob=sampler"]),
        (["luffy"], ["--model.objective.off_policy.behaviour", "recorded"],
         ["model.objective.off_policy.behaviour=recorded", "data.train.columns.logprobs"]),
        (["relift"], ["--model.objective.sft.coef", "0.0"],
         ["model.objective.sft.coef", "imitation_buffer"]),
        (["chord_mu"], ["--data.rollout.expert_traces_per_group", "0"],
         ["model.objective.sft.coef", "data.rollout.expert_traces_per_group=0"]),
        (["luffy"], ["--data.train", "null"],
         ["data.rollout.expert_traces_per_group=1", "data.train"]),
        (["kl_in_loss"], ["--model.objective.kl.target_nats", "0.1"],
         ["model.objective.kl.target_nats", "place=reward"]),
        (["prefix_guidance"], ["--data.rollout.prefix.strategy", "fixed",
                               "--data.rollout.prefix.shared", "true"],
         ["data.rollout.prefix.shared", "prefix.strategy=fixed"]),
        (["ghpo"], ["--data.rollout.expert_traces_per_group", "1"],
         ["data.rollout.guidance.put_back", "expert_traces_per_group"]),
        (["critique"], ["--data.rollout.guidance.put_back", "hinted"],
         ["data.rollout.guidance.rows", "put_back=hinted"]),
        (["pope"], ["--data.train.hint_template", "{question} {hint}"],
         ["train.jsonl: hint_template", "no token"]),
        (["adaptive_entropy"], ["--model.objective.entropy.coef", "0.0"],
         ["model.objective.entropy.coef", "entropy.target_nats"]),
        (["gkd"], ["--model.frozen.teacher.path", "null"], ["model.frozen", "path: is not set"]),
        (["rl_plus"], ["--model.objective.old_logprob", "sampler"],
         ["model.objective.off_policy.behaviour", "old_logprob=sampler"]),
        (["gspo"], ["--model.objective.on_policy.shaping.kind", "log"],
         ["model.objective.on_policy.ratio", "on_policy.shaping"]),
    ],
)  # fmt: skip
def test_contradictions(command_line, tmp_path, monkeypatch, recipes, settings, named):
    monkeypatch.setattr(
        "luffy_pl.training.module.load_on_ranks", lambda *_, **__: pytest.fail("a model was loaded")
    )
    files = [f"conf/recipe/{name}.yaml" for name in recipes]
    args = [arg for file in ["conf/quickstart.yaml", *files] for arg in ("--config", file)]
    finished = command_line("fit", *args, *settings, "--run_dir", tmp_path / "run")
    assert finished.returncode in (2, 3)
    assert len(finished.stderr.strip().split("\n")) <= 2, finished.stderr
    for name in named:
        assert name in finished.stderr
