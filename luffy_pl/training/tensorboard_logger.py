"""TensorBoard's event files, written as every other file of a run."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only

from luffy_pl.process.files import append_to_file


class EventLogger(TensorBoardLogger):
    """TensorBoardLogger whose events wait where the disk refuses them.

    TensorBoard itself writes in a thread, which a full disk ends for good and with a traceback.
    """

    @property
    def experiment(self) -> Any:
        """The SummaryWriter; on other ranks than the first one that does nothing."""
        is_new = self._experiment is None
        writer = super().experiment
        if is_new and self._experiment is not None:
            events: Any = writer.file_writer.event_writer
            events._async_writer.close()
            events._async_writer = EventFile(Path(events._file_name))
        return writer

    @rank_zero_only
    def log_metrics(self, metrics: Any, step: int | None = None) -> None:
        """On their way to the disk when this returns."""
        super().log_metrics(metrics, step)
        self.experiment.flush()


class EventFile:
    """What an EventFileWriter writes to: records with their checksums, behind those of a file."""

    def __init__(self, path: Path) -> None:
        from tensorboard.summary.writer.record_writer import RecordWriter

        self.path, self.buffer = path, BytesIO()
        self.records = RecordWriter(self.buffer)

    def write(self, event: bytes) -> None:
        """One event, serialized."""
        self.records.write(event)

    def flush(self) -> None:
        """Hand over what was written since the last time."""
        if content := self.buffer.getvalue():
            self.buffer.seek(0)
            self.buffer.truncate()
            append_to_file(self.path, content)

    def close(self) -> None:
        """Nothing is left open."""
        self.flush()
