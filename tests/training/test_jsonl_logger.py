from luffy_pl.run_dir.read import read_lines
from luffy_pl.training.jsonl_logger import JsonlLogger


def test_a_line_cut_off_by_a_crash_costs_only_itself(tmp_path):
    file = tmp_path / "metrics.jsonl"
    JsonlLogger(str(file)).log_metrics({"a": 1.0}, step=1)
    with file.open("a") as handle:
        handle.write('{"step": 2, "a"')
    JsonlLogger(str(file)).log_metrics({"a": 3.0}, step=3)
    assert read_lines(file) == [{"step": 1, "a": 1.0}, {"step": 3, "a": 3.0}]
