"""`python run.py report`: one page from records alone, true to them, closed to the network and to hostile names."""

from __future__ import annotations

import base64
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from benchmarks.catalogue import TASKS
from harness.records import RecordStore
from harness.report.drawings import Axis, Dot, frontier
from harness.report.findings import gather
from harness.report.plots import looks
from tests.conftest import TINY, Program, assert_refused, bodies, run_process, run_program
from tests.pages import Element, parse, pixels
from tests.report_results import HOSTILE
from tests.simulated import write_results

SECTIONS = (
    *("summary", "ranking", "suites", "tables", "breakdown", "cost", "severity", "panels", "routing", "training"),
    *("protocol", "audit", "missing"),
)


@pytest.fixture(scope="module")
def results(report_results: Path) -> Path:
    return report_results


@pytest.fixture(scope="module")
def html(results: Path) -> str:
    assert run_program("report", "--scale", "test", "--results", results).exit_code == 0
    return (results / "test" / "report.html").read_text()


@pytest.fixture(scope="module")
def page(html: str) -> Element:
    return parse(html)


def found(results: Path, **wanted: object) -> list[tuple[str, dict[str, Any]]]:
    """Keys and result parts of done records with these inputs; `steps` is the protocol's, `severity` the shift's."""

    def fits(inputs: dict[str, Any]) -> bool:
        facts = {**inputs, "steps": inputs["protocol"]["steps"], "severity": inputs.get("shift", {}).get("severity", 1)}
        return all(facts[name] == value for name, value in wanted.items())

    return [
        (key, body["result"])
        for key, body in bodies(results).items()
        if body["status"] == "done" and fits(body["result"]["inputs"])
    ]


def score(result: dict[str, Any], domain: str = "target", name: str = "miou") -> Any:
    return result["selections"]["source_val"]["scores"][domain][name]


def choice(section: Element, title: str) -> Element:
    (one,) = (e for e in section.all("div") if e.attributes.get("data-title") == title)
    return one


def shown(value: float | None) -> str:
    return "–" if value is None else f"{value:.1f}"


def test_all_sections_are_there_and_say_what_they_show(page: Element) -> None:
    assert [section.attributes["id"] for section in page.all("section")] == list(SECTIONS)
    for section in page.all("section"):
        (lead,) = (p for p in section.all("p") if p.attributes.get("class") == "lead")
        assert len(lead.text) > 100
        assert section.all("table", "svg", "img") or section.all("p")[1:]


def test_title_and_headings_with_numbers_name_scale_and_data(page: Element) -> None:
    (title,) = page.all("title")
    assert "test (synthetic)" in title.text
    for slug in SECTIONS:
        heading = page.section(slug).all("h2")[0].text
        assert ("test (synthetic)" in heading) == (slug not in ("audit", "missing"))


def test_the_ranking_has_the_records_numbers(page: Element, results: Path) -> None:
    block = choice(page.section("ranking"), "test (synthetic) · DINOv3 · steps=2, evaluations=1")
    (rows,) = block.tables()
    by_method = {row["Method"]: row for row in rows}
    assert set(by_method) == {"Frozen", "LoRA", HOSTILE}
    for method, title in (("frozen", "Frozen"), ("lora", "LoRA")):
        scores = [score(result) for _, result in found(results, method=method, task="fbp_cs", steps=2, severity=1)]
        assert by_method[title]["fbp_cs"] == shown(np.mean(scores))
        assert by_method[title]["Seeds"] == str(len(scores))
        assert by_method[title]["IQM"].startswith(shown(np.mean(scores)))
    assert "Not counted: loveda_r2u: too few of the methods were run on it." in block.text


def test_ranks_are_those_of_the_scores(page: Element, results: Path) -> None:
    (rows,) = choice(page.section("ranking"), "test (synthetic) · DINOv3").tables()  # the smoke run: one task
    exact = {result["labels"]["method"]: score(result) for _, result in found(results, steps=4)}
    ranks = {row["Method"]: float(row["Avg. rank"]) for row in rows}
    assert ranks.keys() == exact.keys()
    for title, own in exact.items():
        others = list(exact.values())
        assert ranks[title] == sum(other > own for other in others) + (1 + others.count(own)) / 2


def test_ranks_over_several_tasks_have_a_diagram(program: Program, results: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(results, tmp_path / "results"))
    assert program(*TINY, "--method", "lora", "--task", "loveda_r2u", "--results", copy).exit_code == 0
    assert program("report", "--scale", "test", "--results", copy).exit_code == 0
    section = parse((copy / "test" / "report.html").read_text()).section("ranking")
    block = choice(section, "test (synthetic) · DINOv3 · steps=2, evaluations=1")
    _, diagram = block.all("svg")
    ranks = {row["Method"]: row["Avg. rank"] for row in block.tables()[0]}
    assert set(ranks) == {"Frozen", "LoRA"}
    assert all(f"{title} {rank}" in diagram.attributes["aria-label"] for title, rank in ranks.items())
    assert "CD = " in diagram.text
    assert f"Left out: {HOSTILE} lacks loveda_r2u." in block.text


def test_tables_are_those_of_the_folder(page: Element, results: Path) -> None:
    section = page.section("tables")
    files = sorted((results / "test" / "tables").glob("*.md"), key=lambda file: file.stem)
    assert len(section.all("table")) == len(files) == 4
    for table, link, file in zip(section.tables(), section.all("a"), files, strict=True):
        lines = [line for line in file.read_text().splitlines() if line.startswith("|")]
        cells = [[cell.strip().replace("\\|", "|") for cell in line.strip("|").split("|")] for line in lines]
        assert [list(table[0]), *(list(row.values()) for row in table)] == [cells[0], *cells[2:]]
        csv = base64.b64decode(link.attributes["href"].partition(",")[2])
        assert csv == file.with_suffix(".csv").read_bytes()
        assert link.attributes["download"] == f"{file.stem}.csv"


def test_every_class_and_domain_has_its_score(page: Element, results: Path) -> None:
    view = choice(page.section("breakdown"), "fbp_cs · DINOv3")
    (rows,) = view.tables()
    (drawing,) = view.all("svg")
    for key, result in found(results, steps=4):
        (row,) = (row for row in rows if row["Method"] == result["labels"]["method"])
        for name, value in zip(result["classes"], score(result, name="iou"), strict=True):
            assert row[name] == shown(value), key
        assert row["mIoU"] == shown(score(result))
        domains = {"source_val": "source (held out)", **result["labels"]["domains"]}
        told = ", ".join(f"{title} {score(result, name):.1f}" for name, title in domains.items() if name != "gf2")
        assert f"{row['Method']}: {told}" in drawing.attributes["aria-label"]


def test_costs_are_those_of_the_records(page: Element, results: Path) -> None:
    (drawing,) = choice(page.section("cost"), "fbp_cs · DINOv3").all("svg")
    words = drawing.text
    for axis in ("target mIoU (%)", "trainable parameters without head", "training time (s)", "peak memory (MB)"):
        assert axis in words
    for key, result in found(results, steps=4):
        run = bodies(results)[key]["run"]
        expected = (
            f"{result['labels']['method']}: {score(result):.1f} %, {result['parameters']['adapter']} parameters, "
            f"{run['train_seconds']:.0f} s, {run['process_peak_memory_mb']:.0f} MB"
        )
        assert expected in drawing.attributes["aria-label"]


def test_severities_of_one_recipe_make_a_curve(page: Element, results: Path) -> None:
    section = page.section("severity")
    (drawing,) = section.all("svg")
    assert "severity of the shift (0 to 1)" in drawing.text
    (rows,) = section.tables()
    for method, title in (("frozen", "Frozen"), ("lora", "LoRA")):
        (row,) = (row for row in rows if row["Method"] == title)
        means = {
            dose: np.mean([score(r) for _, r in found(results, method=method, task="fbp_cs", steps=2, severity=dose)])
            for dose in (0.5, 1)
        }
        assert (row["0.5"], row["1"]) == (shown(means[0.5]), shown(means[1]))
        assert row["Loss 0.5 to 1"] == shown(means[0.5] - means[1])
        told = f"{title}: {means[0.5]:.1f} at 0.5, {means[1]:.1f} at 1"
        assert told in drawing.attributes["aria-label"]
    assert f"Not drawn, with one severity alone: {HOSTILE}." in section.text


def test_panels_show_the_predictions_of_the_records(page: Element, results: Path) -> None:
    view = choice(page.section("panels"), "fbp_cs · DINOv3")
    source = TASKS["fbp_cs"].embedded
    assert source is not None
    palette = np.array([*source.palette, *[(128, 128, 128)] * 250], dtype=np.uint8)
    for key, result in found(results, steps=4):
        arrays = load_file(results / "test" / "records" / f"{key}.panels.safetensors")
        title = result["labels"]["method"]
        for i, tile in enumerate(result["panels"]):
            sensor = result["labels"]["domains"][tile["domain"]]
            shows = choice(view, f"{sensor} · {tile['name']}").all("img")
            by_alt = {picture.attributes["alt"]: picture for picture in shows}
            np.testing.assert_array_equal(pixels(by_alt[f"Input tile {tile['name']}"]), arrays[f"{i}/image"])
            truth, prediction = arrays[f"{i}/truth"], arrays[f"{i}/prediction"]
            np.testing.assert_array_equal(pixels(by_alt[f"True classes of tile {tile['name']}"]), palette[truth])
            mapped = by_alt[f"Classes that {title} predicts, seed 0"]
            np.testing.assert_array_equal(pixels(mapped), palette[prediction])
            wrong = (truth != prediction)[truth != 255].mean()
            errors = pixels(by_alt[f"Errors of {title}: {wrong:.0%} wrong of labelled pixels"])
            orange = (errors == (213, 94, 0)).all(-1)
            np.testing.assert_array_equal(orange, (truth != prediction) & (truth != 255))


def test_routing_maps_and_loads_are_those_of_the_record(page: Element, results: Path) -> None:
    ((key, result),) = found(results, method="spectralmoe", steps=4)
    arrays = load_file(results / "test" / "records" / f"{key}.panels.safetensors")
    view = choice(page.section("routing"), "fbp_cs · DINOv3 · SpectralMoE")
    (drawing,) = view.all("svg")
    for name, share in arrays.items():
        if name.startswith("share/"):
            group, layer = name.split("/")[1:]
            told = ", ".join(f"{100 * value:.0f}" for value in share)
            assert f"{group}, layer {layer}: {told}" in drawing.attributes["aria-label"]
    colours = np.array([(0, 114, 178), (230, 159, 0), (0, 158, 115), (204, 121, 167), (86, 180, 233), (213, 94, 0)])
    tile = result["panels"][0]
    first = choice(view, f"{result['labels']['domains'][tile['domain']]} · {tile['name']}")
    maps = [picture for picture in first.all("img") if ", layer " in picture.attributes["alt"]]
    assert len(maps) == sum(name.startswith("0/most/") for name in arrays)
    for picture in maps:
        where = re.match(r"(\w+), layer (\d+): expert (\d) leads", picture.attributes["alt"])
        assert where
        most = arrays[f"0/most/{where[1]}/{where[2]}"]
        np.testing.assert_array_equal(pixels(picture), colours[most])
        assert np.bincount(most.ravel()).max() == (most == int(where[3])).sum()


def test_training_curves_end_at_the_last_point(page: Element, results: Path) -> None:
    (drawing,) = choice(page.section("training"), "fbp_cs · DINOv3").all("svg")
    for axis in ("optimiser step", "loss of the head", "auxiliary loss", "mIoU on the source (%)", "target mIoU (%)"):
        assert axis in drawing.text
    for _, result in found(results, steps=4):
        last = result["points"][-1]["miou"]["target"]
        assert f"{result['labels']['method']}: {last:.1f}" in drawing.attributes["aria-label"]


def test_protocol_and_environment_are_told(page: Element, results: Path) -> None:
    section = page.section("protocol")
    environment = {row["What"]: row["Value"] for row in section.tables()[0]}
    records = list(bodies(results).values())
    assert environment["trials"] == f"{len(records)} (1 failed)"
    assert environment["seeds"] == "0, 1"
    assert environment["torch"] == f"{records[0]['run']['torch']} ({len(records)})"
    assert environment["commit"].startswith(records[0]["run"]["commit"])
    differing = {row["Setting"]: row for row in section.tables()[1]}
    assert differing["steps"]["default"] == "4"
    assert differing["steps"]["steps=2, evaluations=1"] == "2"
    assert "lr" not in differing
    trials = {row["Key"]: row for row in section.tables()[-1]}
    assert set(trials) == set(bodies(results))


def test_failed_and_missing_trials_are_named(page: Element, results: Path) -> None:
    section = page.section("missing")
    failed, gaps = section.tables()
    (key,) = (key for key, body in bodies(results).items() if body["status"] == "failed")
    (row,) = failed
    assert row["Key"] == key
    assert row["Method"] == "Broken <b>method</b>"
    assert row["Reason"] == "RuntimeError: broken <i>on purpose</i>"
    assert {(row["Task, backbone, recipe"], row["Method"], row["Seeds missing"]) for row in gaps} == {
        ("fbp_cs · DINOv3 · steps=2, evaluations=1", "Frozen", "1"),
        ("fbp_cs · DINOv3 · steps=2, evaluations=1", HOSTILE, "1"),
    }


def test_hostile_names_stay_text(page: Element, html: str) -> None:
    assert "<script>alert" not in html
    assert "<b>method" not in html
    assert len(page.all("script")) == 1
    assert "alert(" not in page.all("script")[0].text
    assert sum(HOSTILE in row.text for row in page.all("tr")) >= 3
    assert any(HOSTILE in drawing.text for drawing in page.all("svg"))  # and mathematics is not set
    assert "mathdefault" not in html
    assert not [e for e in page.all() for name in e.attributes if name.startswith("on")]


def test_nothing_is_loaded_from_elsewhere(page: Element, html: str) -> None:
    for element in page.all():
        for name in ("src", "href", "xlink:href", "srcset", "action", "data", "poster", "background"):
            assert element.attributes.get(name, "#").startswith(("#", "data:")), element
    assert not re.search(r"https?://|@import|//cdn", html)
    assert set(re.findall(r"url\(([^)])", html)) <= {"#"}


def test_ids_are_unique_and_referred_to(page: Element, html: str) -> None:
    ids = [element.attributes["id"] for element in page.all() if "id" in element.attributes]
    assert len(ids) == len(set(ids))
    referred = re.findall(r'href="#([^"]*)"|url\(#([^)]*)\)|aria-labelledby="([^"]*)"', html)
    assert {one or two or three for one, two, three in referred} <= set(ids)


def test_it_can_be_read_without_seeing_it(page: Element) -> None:
    assert page.all("html")[0].attributes["lang"] == "en"
    assert all(picture.attributes["alt"] for picture in page.all("img"))
    assert all(len(drawing.attributes["aria-label"]) > 20 for drawing in page.all("svg"))
    for table in page.all("table"):
        assert table.attributes["aria-labelledby"]
        assert all(h.attributes["scope"] == "col" and h.all("button") for h in table.all("thead")[0].all("th"))
        assert all(row.all("th")[0].attributes["scope"] == "row" for row in table.all("tbody")[0].all("tr"))


def test_the_same_records_give_the_same_bytes(results: Path, html: str, tmp_path: Path) -> None:
    again = run_process("report", "--scale", "test", "--results", results, "--out", tmp_path / "again.html")
    assert again.exit_code == 0, again
    assert (tmp_path / "again.html").read_text() == html


def test_it_needs_no_torch(results: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from harness.cli import app; app(sys.argv[1:], standalone_mode=False); "
        "assert 'harness.report.build' in sys.modules and 'torch' not in sys.modules"
    )
    ended = run_process("report", "--scale", "test", "--results", results, "--out", tmp_path / "r.html", code=code)
    assert ended.exit_code == 0, ended


def test_what_is_missing_is_said(program: Program, smoke_copy: Path) -> None:
    for key, body in bodies(smoke_copy).items():
        if body["result"]["inputs"]["method"] == "spectralmoe":
            for file in (smoke_copy / "test" / "records").glob(f"{key}*"):
                file.unlink()
        if body["result"]["inputs"]["method"] == "rein":
            (smoke_copy / "test" / "records" / f"{key}.panels.safetensors").unlink()
        if body["result"]["inputs"]["method"] == "lora":
            (smoke_copy / "test" / "records" / f"{key}.json").write_text("{")
            damaged = key
    result = program("report", "--scale", "test", "--results", smoke_copy)
    assert result.exit_code == 0, result
    page = parse((smoke_copy / "test" / "report.html").read_text())
    assert "no routing maps" in page.section("routing").text
    assert "No task has records of several severities" in page.section("severity").text
    for slug in ("routing", "severity"):
        assert not page.section(slug).all("svg", "table", "img")
        assert "synthetic" not in page.section(slug).all("h2")[0].text
    assert re.search(r"REIN: \S+\.panels\.safetensors cannot be read", page.section("panels").text)
    assert f"damaged: {damaged}" in page.section("missing").text
    assert "No trial failed." in page.section("missing").text


def test_a_folder_of_failures_alone_still_has_a_page(program: Program, results: Path, tmp_path: Path) -> None:
    (key,) = (key for key, body in bodies(results).items() if body["status"] == "failed")
    folder = tmp_path / "results" / "test" / "records"
    folder.mkdir(parents=True)
    shutil.copy(results / "test" / "records" / f"{key}.json", folder)
    assert program("report", "--scale", "test", "--results", tmp_path / "results").exit_code == 0
    page = parse((tmp_path / "results" / "test" / "report.html").read_text())
    assert "No finished trial" in page.section("ranking").text
    assert key in page.section("missing").text
    assert not page.all("svg", "img")


def test_the_audit_is_told_as_records_keep_it(program: Program, smoke_copy: Path) -> None:
    from harness.records import RecordStore
    from harness.report.background import audit_text

    record = next(iter(RecordStore(smoke_copy / "test" / "records")))
    assert audit_text(record) == "disjoint by construction (generated scenes)"
    inputs = {**record.inputs, "data": "files"}
    for audit, said in (
        (None, "not audited"),
        ({"state": "not audited"}, "not audited"),
        ({"state": "out of date"}, "not audited (stored audit: out of date)"),
        (
            {"state": "audited", "outcomes": {"source_val": "verified disjoint", "gf1": "overlap found"}},
            "source validation: verified disjoint; GF-1: overlap found",
        ),
    ):
        run = {**record.run, **({"audit": audit} if audit else {})}
        changed = type(record)(key="0", status=record.status, result={**record.result, "inputs": inputs}, run=run)
        assert audit_text(changed) == said


def test_large_tiles_are_shrunk_and_the_rest_left_out(
    program: Program, smoke_copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dataclasses import replace

    from harness.records import RecordStore
    from harness.report import gallery

    store = RecordStore(smoke_copy / "test" / "records")
    for record in list(store):
        small = store.attachment(record, "panels")
        large = {
            n: a.repeat(8, 0).repeat(8, 1) if "/most/" not in n and "share" not in n else a for n, a in small.items()
        }
        store.write(replace(record, attachments={"panels": large}))
    monkeypatch.setattr(gallery, "BYTES", 60_000)
    monkeypatch.setattr(gallery, "METHODS", 2)
    assert program("report", "--scale", "test", "--results", smoke_copy).exit_code == 0
    section = parse((smoke_copy / "test" / "report.html").read_text()).section("panels")
    for picture in section.all("img"):
        assert max(pixels(picture).shape) == 256
    spent = sum(len(picture.attributes["src"]) for picture in section.all("img"))
    assert 0 < spent <= 60_000
    assert "tile(s) left out to keep the file small" in section.text
    assert "beyond 2 methods: REIN, SpectralMoE" in section.text


def test_mistakes_are_refused_in_one_line(program: Program, smoke_results: Path, tmp_path: Path) -> None:
    assert_refused(program("report", "--results", tmp_path / "none"), "no records in", "run a suite first")
    (tmp_path / "empty" / "test" / "records").mkdir(parents=True)
    empty = program("report", "--scale", "test", "--results", tmp_path / "empty")
    assert_refused(empty, "no record in", "run a suite first")
    folder = program("report", "--scale", "test", "--results", smoke_results, "--out", tmp_path)
    assert_refused(folder, f"--out {tmp_path} is a folder", "report.html")
    assert_refused(program("report", "--scale", "mni", "--results", smoke_results), "mni", "mini")


def test_a_stale_trial_is_counted(program: Program, tmp_path: Path) -> None:
    results = tmp_path / "results"
    assert program(*TINY, "--method", "frozen", "--results", results).exit_code == 0
    ((key, body),) = bodies(results).items()
    from dataclasses import replace

    from harness.records import RecordStore

    store = RecordStore(results / "test" / "records")
    record = store.load(key)
    assert record
    older = {**record.result, "inputs": {**record.inputs, "method_version": 0}}
    store.write(replace(record, key="0" * 16, result=older, run={**record.run, "finished": "2000"}))
    assert program("report", "--scale", "test", "--results", results).exit_code == 0
    page = parse((results / "test" / "report.html").read_text())
    assert "1 finished trial(s) left out" in page.section("missing").text
    assert [row["fbp_cs"] for (table) in page.section("ranking").tables() for row in table] == [
        shown(score(body["result"]))
    ]
    assert json.loads((store.folder / f"{'0' * 16}.json").read_text())["status"] == "done"


@pytest.mark.parametrize(
    ("words", "value"),
    [
        ("0", 0.0),
        ("-0.4", -0.4),
        ("+2.1 [-1.2, +7.6]*", 2.1),
        ("115.5 k", 115_500.0),
        ("1.25 M", 1_250_000.0),
        ("3.11.7 (2)", None),
        ("2026-11-21 15:18 UTC", None),
        ("4fa22275bcb612fa", None),
        ("LoRA", None),
        ("", None),
    ],
)
def test_cells_sort_by_the_number_they_begin_with(words: str, value: float | None) -> None:
    from harness.report.parts import text

    assert text(words).value == value


@pytest.mark.filterwarnings("error")
def test_a_long_legend_leaves_its_drawing_room() -> None:
    names = [f"SpectralMoE (a long option={i}, another={i})" for i in range(40)]
    dots = [Dot(name=name, x=i, y=i, low=float("nan"), high=float("nan")) for i, name in enumerate(names)]
    drawn = frontier([(Axis(label="cost"), dots)] * 3, "mIoU (%)", looks(names), "forty rows", "long")
    assert all(name in drawn for name in names)


def test_a_method_on_several_backbones_keeps_its_plain_title(tmp_path: Path) -> None:
    write_results(tmp_path, {"frozen": 0.0, "lora": 0.5}, seeds=1, backbones=["dinov3", "dofa"])
    found = gather(RecordStore(tmp_path / "test" / "records"), "test")
    assert [[row.title for row in comparison.rows] for comparison in found.comparisons] == [["Frozen", "LoRA"]] * 2
