"""luffy-pl from Python: `fit` trains, `load_run` opens the folder of a run."""

from luffy_pl.api.run import Run, fit, load_run

__all__ = ["Run", "fit", "load_run"]
