"""Settings for runs of two seconds, and for problems the base solves now and then."""

SMALL = [
    "--data.engine.kind", "hf",
    "--data.benchmarks", "[]",
    "--data.rollout.prompts_per_phase", "8",
    "--samples.groups_per_phase", "null",
]  # fmt: skip
# At its own temperature the base solves a problem always or never.
SOLVED_SOMETIMES = [
    "--data.train.path", "bundled:shorter.jsonl", "--data.rollout.temperature", "2.0",
]  # fmt: skip
EXGRPO = [*SOLVED_SOMETIMES, "--data.rollout.replay.start_solved", "0.0"]
