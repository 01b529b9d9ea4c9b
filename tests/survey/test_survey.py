"""The survey's rows are all here, and each strategy of ours stands in them."""

from bench.cards import Heading
from bench.registry import discover
from bench.survey import RowStatus, implemented, rows, status


def test_all_rows() -> None:
    found = rows()
    assert len(found) == 76 and len({r.id for r in found}) == 76
    assert sum(r.table == "III" for r in found) == 8


def test_status_of_rows() -> None:
    by_id = {r.id: r for r in rows()}
    assert status(by_id["I-29"], set()) is RowStatus.IMPLEMENTED
    assert status(by_id["I-29"], {"eds.representation.ddim"}) is RowStatus.MEASURED
    assert status(by_id["III-01"], set()) is RowStatus.PUBLISHED
    assert status(by_id["I-11"], set()) in (RowStatus.MISSING, RowStatus.IMPLEMENTED)
    assert not implemented("eds.nothing.here")


def test_rows_and_cards_agree_both_ways() -> None:
    registry, known = discover(), rows()
    for name in registry:
        card = registry.get(name).card
        if card.heading is not Heading.CONTROL and not name.startswith("user."):
            assert set(card.rows) == {r.id for r in known if name in r.strategies}, name
