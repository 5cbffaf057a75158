import json
import logging
import re
import statistics
import sys

import pytest

from tests.helpers import run_python
from utils import logs
from utils.errors import UserError
from utils.files import RESULTS, append_result, format_summary, read_lines, read_results, summary
from utils.logs import EpochLog, progress, secondary, start_log

RESULT = {"task": "t", "modality": "all", "dataset": "demo", "settings": {"lr": 0.1}, "metrics": {"top1": 50}}


# ---- results ---------------------------------------------------------------------------------------------------------


def test_results_are_appended_and_read_oldest_first(tmp_path):
    for top1 in (1.5, 2):
        append_result(tmp_path, RESULT | {"metrics": {"top1": top1, "last_top1": summary([1, 3])}})
    first, second = read_results(tmp_path)
    assert first == RESULT | {"metrics": {"top1": 1.5, "last_top1": summary([1, 3])}, "date": first["date"]}
    assert second["metrics"]["top1"] == 2 and re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d{4}$", second["date"])
    assert read_results(tmp_path / "none") == []


def test_a_line_that_a_killed_program_left_unfinished_costs_that_line_alone(tmp_path, caplog):
    (tmp_path / RESULTS).write_text(json.dumps(RESULT) + '\n\n[1]\n{"task": "unf')
    append_result(tmp_path, RESULT | {"task": "next"})
    assert [result["task"] for result in read_results(tmp_path)] == ["t", "next"]
    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert len(warnings) == 2 and f"{RESULTS}:3" in warnings[0] and f"{RESULTS}:4" in warnings[1]


@pytest.mark.parametrize("key, value", [("task", None), ("metrics", [1])])
def test_an_object_that_is_no_result_is_refused_by_its_place(tmp_path, key, value):
    append_result(tmp_path, RESULT)
    append_result(tmp_path, RESULT | {key: value})
    with pytest.raises(UserError, match=rf"{RESULTS}: result 2 .*{key}"):
        read_results(tmp_path)


def test_values_over_seeds_are_summarised():
    values = [60.0, 62.0, 67.0]
    assert summary(values) == {"mean": 63, "std": pytest.approx(statistics.pstdev(values)), "values": values}
    assert [format_summary(summary([1, 3])), format_summary(summary([72.25]), 2)] == ["2.0 ± 1.0", "72.25"]
    assert format_summary(72.25, 2) == "72.25"


# ---- epochs ----------------------------------------------------------------------------------------------------------


def test_the_log_of_a_resumed_run_reads_like_that_of_an_uninterrupted_one(tmp_path):
    for start, stop in ((0, 3), (2, 4)):
        epochs = EpochLog(tmp_path, start, {"lr": 0.1, "milestones": [1]})
        for epoch in range(start, stop):
            epochs.write(epoch, {"loss/total": 10.0 - epoch})
        epochs.close()
    assert read_lines(tmp_path / "log.jsonl") == [{"epoch": i, "loss/total": 10.0 - i} for i in range(4)]
    assert any(path.name.startswith("events.") for path in tmp_path.iterdir())


def test_a_secondary_output_that_cannot_be_written_stops_nothing(caplog):
    with secondary("a chart"):
        raise OSError("the disk is full")
    assert "a chart" in caplog.text and "the disk is full" in caplog.text


# ---- console and text ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rank, out, err", [(0, "epoch 1\n", "slow\n"), (1, "", "process 1: slow\n")])
def test_lines_go_to_the_console_and_to_the_file_of_other_processes_only_warnings(tmp_path, capsys, rank, out, err):
    start_log(tmp_path / "run", "pretrain", rank)
    logs.log.info("epoch 1")
    logs.log.warning("slow")
    assert capsys.readouterr() == (out, "slow\n")
    lines = (tmp_path / "run" / "pretrain.log").read_text().splitlines(keepends=True)
    assert "".join(line[20:] for line in lines) == out + err


def test_one_program_at_a_time_writes_a_log(tmp_path):
    start_log(tmp_path, "pretrain")
    code = f"from pathlib import Path\nfrom utils.logs import start_log\nstart_log(Path({str(tmp_path)!r}), 'pretrain')"
    assert f"UserError: {tmp_path / 'pretrain.log'}" in run_python("-c", code).stderr


def test_an_uncaught_error_is_in_the_log(tmp_path):
    start_log(tmp_path, "pretrain")
    try:
        raise ZeroDivisionError("a bug")
    except ZeroDivisionError:
        sys.excepthook(*sys.exc_info())
    assert "ZeroDivisionError: a bug" in (tmp_path / "pretrain.log").read_text()


def test_without_a_terminal_progress_is_a_line_a_minute(monkeypatch, caplog):
    monkeypatch.setattr(logs, "SAY_EVERY", 0.0)
    with caplog.at_level(logging.INFO, "umurl"):
        assert list(progress(range(3), desc="encode", unit="clips")) == [0, 1, 2]
    assert "encode: 3 of 3 clips" in caplog.text
    caplog.clear()
    monkeypatch.undo()
    assert list(progress(range(3))) == [0, 1, 2] and not caplog.records


def test_importing_the_log_does_not_import_pytorch():
    code = "import sys, utils.logs, tools.results; print([name for name in sys.modules if name.startswith('tor')])"
    assert json.loads(run_python("-c", code).stdout) == []
