"""MLflow shows what the records hold: found, complete, never doubled."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from harness.records import Record
from harness.tables import ResultTable
from harness.tracking import Tracker, rebuild, store_uri
from tests.tracking.view import artifact, client, failed, run_ids, runs, tables_of, write


def test_runs_are_found_by_task_method_and_backbone(tracked: tuple[Path, Any], records: list[Record]) -> None:
    for where in ("params.{0} = '{1}'", "tags.{0} = '{1}'"):
        wanted = {"task": "fbp_cs", "method": "lora", "backbone": "dinov3"}
        found = runs(
            tracked[0], " and ".join(where.format(*pair) for pair in wanted.items()) + " and tags.status='done'"
        )
        assert [run.info.run_name for run in found] == ["lora · dinov3 · fbp_cs · seed 0"]
    assert len(runs(tracked[0], "tags.kind = 'trial'")) == len(records)


def test_a_run_holds_options_protocol_and_where_it_ran(tracked: tuple[Path, Any], records: list[Record]) -> None:
    (run,) = runs(tracked[0], "tags.method = 'lora' and tags.status = 'done'")
    (record,) = [record for record in records if record.inputs["method"] == "lora" and not record.error]
    assert run.data.params["option.rank"] == "8"
    assert run.data.params["protocol.steps"] == "4"
    assert run.data.params["protocol.queries"] == "linked"
    assert run.data.params["data"] == "synthetic"
    assert run.data.params["scale"] == "test"
    assert run.data.tags["trial_key"] == record.key
    for name in ("commit", "host", "device"):
        assert run.data.tags[name] == record.run[name]
    assert json.loads(artifact(tracked[0], run, "inputs.json")) == record.inputs


def test_final_metrics_are_those_of_the_record(tracked: tuple[Path, Any], records: list[Record]) -> None:
    for record in records:
        if record.error:
            continue
        (run,) = runs(tracked[0], f"tags.trial_key = '{record.key}'")
        metrics, selections = run.data.metrics, record.result["selections"]
        assert metrics["target_mIoU"] == pytest.approx(selections["source_val"]["scores"]["target"]["miou"])
        assert metrics["source_mIoU"] == pytest.approx(selections["source_val"]["scores"]["source_val"]["miou"])
        assert metrics["mIoU/gf1"] == pytest.approx(selections["source_val"]["scores"]["gf1"]["miou"])
        assert metrics["oracle_target_mIoU"] == pytest.approx(selections["oracle"]["scores"]["target"]["miou"])
        assert metrics["last_target_mIoU"] == pytest.approx(selections["last"]["scores"]["target"]["miou"])
        assert metrics["parameters/adapter"] == record.result["parameters"]["adapter"]
        assert metrics["cost/seconds"] == pytest.approx(record.run["seconds"])


def test_metrics_by_step_are_the_evaluation_points(tracked: tuple[Path, Any], records: list[Record]) -> None:
    (run,) = runs(tracked[0], f"tags.trial_key = '{records[0].key}'")
    for name, of in (("task_loss", lambda p: p["task_loss"]), ("mIoU/gf1", lambda p: p["miou"]["gf1"])):
        history = client(tracked[0]).get_metric_history(run.info.run_id, f"by_step/{name}")
        points = records[0].result["points"]
        assert {m.step: m.value for m in history} == pytest.approx({point["step"]: of(point) for point in points})


def test_a_run_bears_the_times_of_its_trial(tracked: tuple[Path, Any], records: list[Record]) -> None:
    (run,) = runs(tracked[0], f"tags.trial_key = '{records[0].key}'")
    assert run.info.status == "FINISHED"
    for at, name in ((run.info.start_time, "started"), (run.info.end_time, "finished")):
        assert at / 1000 == pytest.approx(datetime.fromisoformat(records[0].run[name]).timestamp(), abs=0.002)


def test_a_failed_trial_shows_its_error(tracked: tuple[Path, Any]) -> None:
    (run,) = runs(tracked[0], "tags.status = 'failed'")
    assert run.info.status == "FAILED"
    assert run.data.tags["error"] == "RuntimeError"
    assert run.data.tags["error_message"] == "broken on purpose"
    assert artifact(tracked[0], run, "traceback.txt") == b"Traceback: all of it"
    assert "target_mIoU" not in run.data.metrics


def test_tables_can_be_read_back(tracked: tuple[Path, list[ResultTable]]) -> None:
    folder, tables = tracked
    (run,) = runs(folder, "tags.kind = 'tables'")
    assert run.info.run_name == "tables"
    for table in tables:
        shown = json.loads(artifact(folder, run, f"{table.name}.json"))
        assert shown["columns"] == list(table.display.columns)
        assert shown["data"] == table.display.to_numpy().tolist()
        for suffix in ("md", "tex", "csv"):
            name = f"{table.name}.{suffix}"
            assert artifact(folder, run, f"files/{name}") == (folder / "tables" / name).read_bytes()


def test_artifacts_lie_in_the_results_folder(tracked: tuple[Path, Any]) -> None:
    assert {path.name for path in tracked[0].iterdir()} == {"mlflow.db", "mlartifacts", "tables"}
    assert len(list((tracked[0] / "mlartifacts").iterdir())) == len(runs(tracked[0]))


def test_writing_again_changes_nothing(tracked: tuple[Path, list[ResultTable]], records: list[Record]) -> None:
    folder, tables = tracked
    before, data = run_ids(folder), (folder / "mlflow.db").read_bytes()
    paths = [folder / "tables" / f"{table.name}.md" for table in tables]
    with Tracker(folder, "test") as tracker:
        for record in records:
            tracker.record(record)
        tracker.tables(tables, paths)
    write(folder, records, (tables, paths))
    assert run_ids(folder) == before
    assert (folder / "mlflow.db").read_bytes() == data


def test_a_record_just_made_equals_the_one_read_back(folder: Path, records: list[Record]) -> None:
    fresh = {name: value for name, value in records[0].result.items() if name != "arrays_sha256"}
    write(folder, [replace(records[0], result=fresh)])
    before = run_ids(folder)
    write(folder, [records[0]])
    assert run_ids(folder) == before


def test_a_new_record_replaces_the_old_run(folder: Path, records: list[Record]) -> None:
    write(folder, [failed(records[0], records[0].key), *records[1:]])
    before = run_ids(folder)
    with Tracker(folder, "test") as tracker:
        tracker.record(records[0])
    after = run_ids(folder)
    assert {key for key in before if after[key] != before[key]} == {records[0].key}
    assert runs(folder, f"tags.trial_key = '{records[0].key}'")[0].info.status == "FINISHED"


def test_a_run_cut_short_is_written_again(folder: Path, records: list[Record]) -> None:
    write(folder, [records[0]])
    (run,) = runs(folder)
    client(folder).update_run(run.info.run_id, status="RUNNING")
    write(folder, [records[0]])
    (again,) = runs(folder)
    assert again.info.run_id != run.info.run_id
    assert again.info.status == "FINISHED"


def test_changed_tables_replace_the_old_ones(folder: Path, records: list[Record]) -> None:
    write(folder, [], tables_of(records, folder))
    before = run_ids(folder)
    tables = tables_of(records[1:], folder)
    write(folder, [], tables)
    assert run_ids(folder).keys() == before.keys() == {"tables"}
    assert run_ids(folder) != before
    (run,) = runs(folder)
    assert len(json.loads(artifact(folder, run, f"{tables[0][0].name}.json"))["data"]) == len(tables[0][0].display)


def test_rebuild_removes_what_has_no_record_and_reports_progress(folder: Path, records: list[Record]) -> None:
    write(folder, records, tables_of(records, folder))
    seen: list[int] = []
    rebuild(folder, "test", iter(records[:2]), [], [], on_record=lambda: seen.append(1))
    assert len(seen) == 2
    assert set(run_ids(folder)) == {record.key for record in records[:2]}


def test_the_tracker_leaves_other_trials_alone(folder: Path, records: list[Record]) -> None:
    write(folder, records)
    with Tracker(folder, "test") as tracker:
        tracker.record(records[0])
    assert len(run_ids(folder)) == len(records)


def test_values_of_any_length_and_number(folder: Path, records: list[Record]) -> None:
    result = json.loads(json.dumps(records[0].result))
    result["inputs"]["options"] |= {f"extra{i}": i for i in range(250)} | {"long": "x" * 20_000, "none": None}
    point = result["points"][0]
    result["points"] = [point | {"step": step, "auxiliary_loss": None} for step in range(1, 500)]
    result["selections"]["source_val"]["scores"]["planet (8-band)@3 m"] = {"miou": 1.5}
    write(folder, [replace(records[0], result=result), failed(records[1], "e" * 16)])
    (run,) = runs(folder, "tags.status = 'done'")
    assert run.data.params["option.extra249"] == "249"
    assert run.data.params["option.long"].startswith("xxx")
    assert run.data.params["option.none"] == "None"
    assert run.data.metrics["mIoU/planet _8-band__3 m"] == 1.5
    assert "by_step/auxiliary_loss" not in run.data.metrics
    assert len(client(folder).get_metric_history(run.info.run_id, "by_step/task_loss")) == 499
    assert len(json.loads(artifact(folder, run, "inputs.json"))["options"]["long"]) == 20_000


def test_what_differs_from_the_defaults_stands_in_the_name(folder: Path, records: list[Record]) -> None:
    labels = records[0].result["labels"] | {"options": "rank=4", "controls": "queries=plain"}
    write(folder, [replace(records[0], result={**records[0].result, "labels": labels})])
    (run,) = runs(folder)
    assert str(run.info.run_name).endswith("seed 0 (rank=4, queries=plain)")


def test_another_database_is_shared_with_others(
    folder: Path, records: list[Record], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "other"
    os.rename(folder / "mlflow.db", tmp_path / "shared.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/shared.db")
    other.mkdir()
    write(other, records)
    theirs = {run.info.run_id for run in runs(other)}
    with Tracker(folder, "test") as tracker:
        tracker.record(replace(records[0], run={**records[0].run, "finished": "2030-01-01T00:00:00+00:00"}))
    write(folder, [])
    assert theirs < {run.info.run_id for run in runs(folder)}
    assert len(runs(folder)) == len(records) + 1
    assert not (folder / "mlflow.db").exists()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")
    assert store_uri(folder) == f"sqlite:///{folder}/mlflow.db"


def test_a_copied_folder_gets_a_view_of_its_own(folder: Path, records: list[Record]) -> None:
    write(folder, records)
    before = run_ids(folder)
    copy = shutil.copytree(folder, folder.parent.parent / "elsewhere" / "test")
    (copy / ".mlflow.cut.db").write_text("left by a killed program")
    write(copy, records[:2])
    assert set(run_ids(copy)) == {record.key for record in records[:2]}
    for run in runs(copy):
        assert run.info.artifact_uri.startswith((copy / "mlartifacts").as_uri())
    assert sorted(path.name for path in copy.iterdir()) == ["mlartifacts", "mlflow.db"]
    assert run_ids(folder) == before
