"""The survey's tables again: whole, in its order, with its errors told, and nothing unverified passed off as known."""

import csv
import re
from pathlib import Path

import pandas as pd
import pytest

from bench.measures import measured
from bench.report.leaderboard.board import board, by_task
from bench.report.survey.tables import SurveyTable, survey_tables
from bench.survey import ROWS
from bench.survey.errata import ERRATA, errata
from bench.survey.published import PUBLISHED, Grade, figures
from bench.survey.table_three import TABLE_THREE, printed
from bench.values import Record, UserError
from tests.made_records import failed_record, made_record, with_scores


def raw(path: Path) -> list[dict[str, str]]:
    """The file as it stands, past our loaders."""
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def tables(*records: Record) -> tuple[SurveyTable, ...]:
    return survey_tables(list(records), {task: board(found) for task, found in by_task(records).items()})


def cell(table: SurveyTable, row: str, column: str) -> str:
    """The one cell of the column whose title begins so."""
    (name,) = [c for c in table.frame.columns if c.startswith(column)]
    (found,) = table.frame.loc[table.frame["Row"] == row, name]
    assert isinstance(found, str)
    return found


def test_every_row_once_and_in_the_surveys_order() -> None:
    shown = [list(table.frame["Row"]) for table in tables()]
    assert sorted(row for ids in shown for row in ids) == sorted(r["id"] for r in raw(ROWS))
    assert shown[0][:29] == [f"I-{k:02d}" for k in range(1, 30)]
    assert shown[1][:29] == [f"II-{k:02d}" for k in range(1, 30)]
    assert shown[2] == [f"III-{k:02d}" for k in range(1, 6)] and shown[3] == [f"III-{k:02d}" for k in range(6, 9)]
    assert all(ids == sorted(ids) for ids in (shown[0][29:], shown[1][29:]))


def test_systems_of_the_running_text_are_told_apart() -> None:
    for table in tables()[:2]:
        named = table.frame.set_index("Row")["Category"].str.endswith("(running text)")
        assert all(told == row.startswith("T-") for row, told in named.items())


def test_a_store_without_records_gives_reasons() -> None:
    for table in tables():
        assert not table.frame.isin(["", "None", "nan"]).any().any() and not table.frame.isna().any().any()
        assert table.frame.columns.is_unique
    one, _, top, bottom = tables()
    assert cell(one, "I-29", "State") == "implemented" and cell(one, "I-29", "Claims") == "eds.representation.ddim: no record"
    assert cell(top, "III-02", "FID: measured") == "no record of eps.mixing.ddgan"
    assert cell(top, "III-01", "Steps: measured").startswith("none: a GAN")
    assert cell(bottom, "III-06", "Inference time: measured") == "no record of eds.representation.ldm"


def test_errata_stand_at_their_rows() -> None:
    known = {r["id"] for r in raw(ROWS)}
    assert {e["row"] for e in raw(ERRATA)} <= known and len(errata()) == len(raw(ERRATA))
    for table in tables():
        used = set()
        for row, cited in zip(table.frame["Row"], table.frame["Errata"]):
            numbers = [int(n) for n in re.findall(r"\[(\d+)\]", cited)]
            wanted = [e for e in raw(ERRATA) if e["row"] == row]
            assert len(numbers) == len(wanted) and (cited == "-") == (not wanted)
            for number, erratum in zip(numbers, wanted, strict=True):
                note = table.notes[number - 1]
                assert erratum["error"] in note and erratum["evidence"] in note
                assert note.startswith("unverified: ") == (erratum["verified"] == "no")
            used |= set(numbers)
        assert used == set(range(1, len(table.notes) + 1))


METRICS = {
    "FID": "fid",
    "Steps": "steps",
    "Parameters": "params_million",
    "FLOP": "gflop_as_printed",
    "Inference": "inference_time_as_printed",
}


def test_nothing_unverified_without_the_word() -> None:
    for figure in figures():
        assert ("unverified" in figure.text) == (figure.grade is Grade.UNVERIFIED), figure
    held = [r for r in raw(PUBLISHED) if r["source_paper"] != "2210.09292"]
    seen = 0
    for table in tables()[2:]:
        for column in [c for c in table.frame.columns if "correct in" in c]:
            metric = METRICS[re.split(r"[ :]", column)[0]]
            for row, text in zip(table.frame["Row"], table.frame[column]):
                mine = [r for r in held if (r["strategy"], r["metric"]) == (row, metric)]
                assert ("unverified" in text) == (not mine or any(r["verified"] == "no" for r in mine)), text
                for r in mine:
                    marked = f"unverified: {r['value']} (" if r["verified"] == "no" else f"{r['value']} ("
                    assert marked in text and r["dataset"] in text and r["where"] in text
                seen += len(mine)
    assert seen == len([r for r in held if r["strategy"].startswith("III-")]) > 8


def test_unverified_claims_are_marked() -> None:
    pairs = [
        made_record(name, steps=50, quality=q, seed=s)
        for s in (0, 1)
        for name, q in (("eds.representation.ddim", 1.0), ("eds.state_space.ddpm", 2.0))
    ]
    found = cell(tables(*pairs)[0], "I-29", "Claims")
    assert found == "better than DDPM (its figure unverified): reproduced (2 of 2 pairs over 2 seeds)"


def test_printed_table_agrees_with_the_rows_and_the_published_figures() -> None:
    """Three files were written from the survey; all must say the same."""
    phrases = {r["id"]: r["survey_phrase"] for r in raw(ROWS)}
    survey = {(r["strategy"], r["metric"]): float(r["value"]) for r in raw(PUBLISHED) if r["source_paper"] == "2210.09292"}
    units = {"": 1.0, "G": 1.0, "M": 1.0, "B": 1000.0}
    counted = 0
    for row in raw(TABLE_THREE):
        for field, metric in zip(("fid", "steps", "parameters", "flop", "inference_time"), METRICS.values()):
            number, _, unit = row[field].partition(" ")
            assert number in ("", "-") or number in phrases[row["row"]], row
            if number not in ("", "-", "NA"):
                assert survey[row["row"], metric] == pytest.approx(float(number) * units[unit])
                counted += 1
    assert counted == len(survey) == 18


def test_ours_is_the_best_configuration_of_the_strategy() -> None:
    runs = [made_record("eds.guidance.adm", steps=s, quality=q) for s, q in ((5, 2.0), (10, 1.0), (20, 3.0))]
    _, _, top, bottom = tables(*runs, made_record("eds.representation.ldm", steps=7, quality=9.0))
    assert cell(top, "III-04", "Measured with") == "eds.guidance.adm[steps=10], digits on CPU test"
    assert cell(top, "III-04", "Steps: measured") == "10" and cell(top, "III-05", "Steps: measured") == "7"
    assert cell(top, "III-04", "FID: measured") == "weights not found"
    assert cell(top, "III-04", "FD digits (our own distance, not FID)").split()[0] == "1"
    assert cell(bottom, "III-06", "FLOP (G): measured").split()[0] == "2" and cell(bottom, "III-06", "Inference time: measured") == "0.05"
    assert cell(top, "III-02", "Steps: measured") == "no record of eps.mixing.ddgan"


def test_fid_stands_where_it_was_measured() -> None:
    record = made_record("eps.mixing.ddgan", steps=4, quality=2.0)
    _, _, top, _ = tables(with_scores(record, **record.scores | {"fid": measured(12.5)}))
    assert cell(top, "III-02", "FID: measured").split()[0] == "12.5"


def test_two_devices_are_named_and_never_mixed() -> None:
    runs = [
        made_record("eps.mixing.ddgan", steps=s, quality=q, device=d)
        for s, q, d in ((4, 1.0, "GPU test"), (2, 5.0, "GPU test"), (2, 3.0, "CPU test"))
    ]
    _, _, top, _ = tables(*runs)
    assert cell(top, "III-02", "Steps: measured") == "2 on CPU test; 4 on GPU test"
    assert (
        cell(top, "III-02", "Measured with")
        == "eps.mixing.ddgan[steps=2], digits on CPU test; eps.mixing.ddgan[steps=4], digits on GPU test"
    )


def test_a_failure_is_no_measurement() -> None:
    one, _, top, _ = tables(failed_record("eps.mixing.ddgan"), failed_record("eds.representation.ddim"))
    assert cell(top, "III-02", "FID: measured") == "no finished record of eps.mixing.ddgan: timeout"
    assert cell(one, "I-29", "State") == "implemented"


def test_states_of_a_row_with_several_strategies(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("bench.survey", "bench.report.survey.tables"):
        monkeypatch.setattr(f"{module}.implemented", lambda name: name not in ("eps.noise.gddim", "eds.pyramidal.frido"))
    one, two, _, bottom = tables(
        made_record("eds.guidance.adm", steps=5, quality=1.0), made_record("eps.noise.ngddpm", steps=5, quality=1.0)
    )
    assert cell(one, "I-01", "State") == "implemented; measured here: eds.guidance.adm"
    assert cell(two, "II-12", "State") == "missing: eps.noise.gddim"
    assert cell(two, "II-12", "Claims") == "eps.noise.ngddpm: no claim on its card; eps.noise.gddim: not implemented"
    assert cell(bottom, "III-08", "Parameters (M): measured") == "missing: eds.pyramidal.frido is not implemented"


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"grade": "hearsay"}, "grade 'hearsay' is none of"),
        ({"verified": "no"}, "grade 'direct' with verified 'no'"),
        ({"value": "nan"}, "no finite number"),
        ({"value": "about 2"}, "no finite number"),
        ({"value": ""}, "has a value and its evidence"),
        ({"evidence": ""}, "has a value and its evidence"),
        ({"strategy": "eds.nothing"}, "is no strategy and no row"),
        ({"source_paper": "some paper"}, "no arXiv number"),
        ({"direction": "up"}, "direction 'up' is none of"),
        ({"metric": ""}, "a metric"),
        ({"model": "ADM", "setting": "first"}, "the same figure stands above"),
    ],
    ids=str,
)
def test_bad_figures_are_refused_with_their_line(change: dict[str, str], why: str, tmp_path: Path) -> None:
    good = next(r for r in raw(PUBLISHED) if r["grade"] == "direct" and r["strategy"] == "eds.guidance.adm")
    path = written(tmp_path / "f.csv", [good | {"model": "ADM", "setting": "first"}, good | change])
    with pytest.raises(UserError, match=f"f.csv, line 3: .*{re.escape(why)}"):
        figures(path)


def test_bad_errata_and_short_lines_are_refused_with_their_line(tmp_path: Path) -> None:
    good = {"row": "I-01", "error": "an error", "evidence": "a source", "verified": "yes"}
    for name, change, why in (
        ("a", {"row": "I-99"}, "no row"),
        ("b", {"verified": "perhaps"}, "yes or no"),
        ("c", {"evidence": ""}, "its evidence"),
    ):
        with pytest.raises(UserError, match=f"{name}.csv, line 3: .*{why}"):
            errata(written(tmp_path / f"{name}.csv", [good, good | change]))
    short = tmp_path / "d.csv"
    short.write_text("row,error,evidence,verified\nI-01,an error\n")
    with pytest.raises(UserError, match=r"d\.csv, line 2: 2 cells, not 4"):
        errata(short)
    with pytest.raises(UserError, match=r"f\.csv, line 2: .*a strategy or a reason"):
        printed(written(tmp_path / "f.csv", [raw(TABLE_THREE)[0] | {"strategy": "eps.mixing.ddgan"}]))


def written(path: Path, found: list[dict[str, str]]) -> Path:
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(found[0]))
        writer.writeheader()
        writer.writerows(found)
    return path


def test_figures_speak_of_sources_alone() -> None:
    for figure in figures():
        for word in ("dossier", "/work", "session", "this pass", "SECONDARY", "PRINTED"):
            assert word not in f"{figure.evidence} {figure.note} {figure.where}", figure
    (corrected,) = [f for f in figures() if f.strategy == "eps.training.analytic_dpm" and f.metric == "nll_bits_per_dim"]
    assert corrected.printed == "4.11" and "5.47 at even steps" in corrected.note


def test_frames_are_text_alone() -> None:
    for table in tables(made_record("eps.mixing.ddgan", steps=4, quality=2.0)):
        assert isinstance(table.frame, pd.DataFrame) and all(isinstance(text, str) for text in table.frame.to_numpy().ravel())
