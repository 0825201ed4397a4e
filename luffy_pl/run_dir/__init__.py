"""The files of a run."""

DEFAULT_RUN_DIR = "outputs/run"
