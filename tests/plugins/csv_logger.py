"""A logger: Lightning's CSVLogger, in the folder of the run."""

from pathlib import Path

from lightning.pytorch.loggers import CSVLogger, Logger

from luffy_pl.registry import register


@register("logger", "csv")
def csv(run_dir: Path, purge_step: int | None) -> Logger:
    """Write csv/metrics.csv; `purge_step` is the phase from which a resumed run writes again."""
    return CSVLogger(str(run_dir), name="csv", version="")
