"""The switch itself; what each fault leads to is tested where it happens."""

import pytest

from luffy_pl.errors import ConfigError
from luffy_pl.process.faults import VARIABLE, fault


def test_nothing_happens_unasked(monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)
    assert not fault("nan_loss", 3)


def test_each_entry_happens_once_at_its_number(monkeypatch):
    monkeypatch.setenv(VARIABLE, "nan_loss@step=3,oom@step=3,nan_loss@step=3")
    assert not fault("nan_loss", 2)
    assert [fault("nan_loss", 3) for _ in range(3)] == [True, True, False]
    assert fault("oom", 3)
    assert not fault("oom", 3)


@pytest.mark.parametrize("entry", ["nan_los@step=3", "nan_loss", "nan_loss@step=x"])
def test_a_misspelt_fault_is_said(monkeypatch, entry):
    monkeypatch.setenv(VARIABLE, entry)
    with pytest.raises(ConfigError, match="write nan_loss@step=N"):
        fault("oom", 0)
