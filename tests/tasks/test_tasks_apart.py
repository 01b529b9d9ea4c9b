"""Records of two tasks never stand in one table, one claim or one comparison."""

import dataclasses
from pathlib import Path

import pandas as pd
import pytest

from bench.cards import Degradation, Edit, Restore, Task, Video
from bench.measures import measured
from bench.records.store import Store
from bench.report.comparison.matching import matches
from bench.report.comparison.verdicts import compare
from bench.report.leaderboard.board import by_task, latest
from bench.report.page.write import write
from bench.report.survey.claims import ClaimVerdict, audit
from bench.values import Record, UserError, configuration
from tests.made_records import BETTER_THAN_DDPM, later, made_record

DDIM, DDPM = "eds.representation.ddim", "eds.state_space.ddpm"
HOLE = Restore(degradation=Degradation.INPAINT, noise=0.05)


def on(task: Task, strategy: str, quality: float, seed: int = 0) -> Record:
    record = made_record(strategy, steps=50, quality=quality, seed=seed)
    workload = dataclasses.replace(record.cell.workload, task=task)
    scores = {**record.scores, "psnr": measured(20.0 + quality)}
    return dataclasses.replace(record, cell=dataclasses.replace(record.cell, workload=workload), scores=scores)


def test_label_names_the_task() -> None:
    assert on(HOLE, DDIM, 1.0).cell.label == f"{DDIM}[steps=50] (restore inpaint noise 0.05) seed 0"
    assert configuration("a", {}, Edit()) == "a (edit)" and configuration("a", {}) == "a"
    assert on(HOLE, DDIM, 1.0).cell.id != on(Edit(), DDIM, 1.0).cell.id != made_record(DDIM, steps=50, quality=1.0).cell.id


def test_each_task_has_its_tables(tmp_path: Path) -> None:
    store = Store(tmp_path / "s" / "d")
    for record in (made_record(DDIM, steps=50, quality=3.0), on(Edit(), DDIM, 1.0), on(Edit(), DDPM, 2.0), on(HOLE, DDPM, 0.5)):
        store.write(record)
    written = write("digits", [store], tmp_path / "out")
    assert list(written.boards) == ["generate", "edit", "restore inpaint noise 0.05"]
    assert [len(board.info) for board in written.boards.values()] == [1, 2, 1]
    files = {p.name for p in (tmp_path / "out").iterdir() if p.name.startswith("leaderboard") and p.suffix == ".csv"}
    assert files == {"leaderboard.csv", "leaderboard-edit.csv", "leaderboard-restore-inpaint-noise-0-05.csv"}
    assert pd.read_csv(tmp_path / "out" / "leaderboard-edit.csv")["psnr"].tolist() == [21.0, 22.0]
    assert "psnr" not in pd.read_csv(tmp_path / "out" / "leaderboard.csv")
    page = written.html.read_text()
    assert page.count("<h3>Task: ") == 3 and "PSNR (dB)" in page


def test_newest_is_newest_of_its_task() -> None:
    records = [on(Edit(), DDIM, 1.0), on(HOLE, DDIM, 2.0)]
    assert len(latest(records)) == 2 and [len(found) for found in by_task(records).values()] == [1, 1]


def test_claims_compare_within_a_task() -> None:
    """DDIM is better in editing, worse in restoring: a claim over both is neither; across tasks there is no pair."""
    apart = [on(Edit(), DDIM, 1.0, s) for s in (0, 1)] + [on(HOLE, DDPM, 2.0, s) for s in (0, 1)]
    (found,) = audit(apart)
    assert not found.pairs and found.verdict is ClaimVerdict.INCONCLUSIVE
    both = [*apart, *(on(Edit(), DDPM, 2.0, s) for s in (0, 1)), *(on(HOLE, DDIM, 3.0, s) for s in (0, 1))]
    (found,) = audit(both)
    assert sorted(pair.values for pair in found.pairs) == [(1.0, 2.0), (1.0, 2.0), (3.0, 2.0), (3.0, 2.0)]
    assert found.verdict is ClaimVerdict.INCONCLUSIVE
    (found,) = audit([r for r in both if r.cell.workload.task == Edit()])
    assert found.verdict is ClaimVerdict.REPRODUCED


def test_two_tasks_are_not_two_seeds() -> None:
    both = [on(task, name, quality) for task in (Edit(), HOLE) for name, quality in ((DDIM, 1.0), (DDPM, 2.0))]
    (found,) = audit(both)
    assert (
        len(found.pairs) == 2 and found.verdict is ClaimVerdict.INCONCLUSIVE and found.why == "2 of 2 pairs over 1 seed; 2 seeds are needed"
    )


def test_comparison_pairs_within_a_task() -> None:
    both = [on(task, name, 1.0) for task in (Edit(), HOLE) for name in (DDIM, DDPM)]
    titles = [pair.title for pair in matches(both, DDIM, DDPM)]
    assert len(titles) == 2 and all(title.count(task) == 2 for title, task in zip(titles, ("(edit)", "(restore inpaint noise 0.05)")))
    with pytest.raises(UserError, match="no task in common"):
        matches([on(Edit(), DDIM, 1.0), on(HOLE, DDPM, 1.0)], DDIM, DDPM)


def test_comparison_is_on_the_newest_terms_that_both_have() -> None:
    """What was measured again on one side alone, or by edited code, ends no comparison and mixes into none."""
    ddim, ddpm = ([made_record(name, steps=50, quality=1.0, seed=seed) for seed in (0, 1)] for name in (DDIM, DDPM))
    longer = dataclasses.replace(ddim[0].cell.budget, train_images=2000)
    again = [later(record, month=3, budget=longer) for record in ddim]
    (found,) = matches([*ddim, *ddpm, *again], DDIM, DDPM)
    assert (found.ours, found.theirs) == (tuple(ddim), tuple(ddpm))
    (found,) = matches([*ddim, *ddpm, *again, later(ddpm[1], budget=longer)], DDIM, DDPM)
    assert found.ours == tuple(again) and [r.cell.seed for r in found.theirs] == [1]
    edited = later(ddim[1], code_hash="edited")
    (found,) = matches([*ddim, *ddpm, edited], DDIM, DDPM)
    assert (found.ours, found.theirs) == ((edited,), tuple(ddpm))
    (found,) = matches([*again, *ddpm], DDIM, DDPM)
    with pytest.raises(UserError, match="no common seed, budget and reference"):
        compare(found.ours, found.theirs)


def test_claim_on_clips_reads_the_distance_of_whole_clips() -> None:
    claim = dataclasses.replace(BETTER_THAN_DDPM, metric="fd_clips")

    def clip(strategy: str, quality: float, seed: int) -> Record:
        record = on(Video(), strategy, 9.0, seed)
        card = dataclasses.replace(record.card, claims=(claim,) if strategy == DDIM else ())
        return dataclasses.replace(record, card=card, scores={**record.scores, "fd_digits_clips": measured(quality)})

    (found,) = audit([clip(name, quality, seed) for seed in (0, 1) for name, quality in ((DDIM, 1.0), (DDPM, 2.0))])
    assert found.metric == "fd_digits_clips" and [pair.values for pair in found.pairs] == [(1.0, 2.0), (1.0, 2.0)]
    assert found.verdict is ClaimVerdict.REPRODUCED
