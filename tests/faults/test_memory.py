"""Memory that runs out inside a cell: smaller batches, the same images; and networks that return no numbers."""

import json
from pathlib import Path

from tests.conftest import Run
from tests.house.test_suite_and_registry import PLUGIN

TOO_LARGE = """
        if len(request) > 3:
            raise MemoryError("no room")
        return to_uint8("""
NO_ROOM = """
        import torch
        torch.empty(2**48 if len(request) > 3 else 1, dtype=torch.uint8)  # 256 TiB: more addresses than there are
        return to_uint8("""
NOT_A_NUMBER = """
        import torch
        nothing = torch.full((len(request), *padded(request.shape)), float("nan"))
        request.draws()
        return to_uint8(model(nothing, torch.ones(len(request)), request.labels) + """


def cell(bench: Run, tiny_suite: Path, folder: Path, plugin: str, name: str, code: int) -> dict:  # type: ignore[type-arg]
    (folder / f"{name}.py").write_text(plugin)
    bench("run", tiny_suite, "--plugin", f"{name}.py", "--only", f"user.{name}", "--device", "cpu", check=(code,))
    records = [json.loads(path.read_bytes()) for path in folder.glob("results/**/records/*.json")]
    return next(record for record in records if record["cell"]["strategy"] == f"user.{name}")


def test_half_a_batch_has_the_same_images(bench: Run, tiny_suite: Path, tmp_path: Path) -> None:
    """Refused by the strategy, or by the system; a cell that did not halve its batches would fail."""
    whole = cell(bench, tiny_suite, tmp_path, PLUGIN, "whole", 0)
    for name, sample in (("refused", TOO_LARGE), ("limited", NO_ROOM)):
        halved = cell(bench, tiny_suite, tmp_path, PLUGIN.replace("\n        return to_uint8(", sample), name, 0)
        assert whole["scores"] == halved["scores"]
        assert halved["sample"]["best_batch"]["value"] <= 3 < halved["cell"]["budget"]["batch_size"]


def test_not_a_number_is_a_fault(bench: Run, tiny_suite: Path, tmp_path: Path) -> None:
    """It would be cast to a pixel and scored like any other."""
    record = cell(bench, tiny_suite, tmp_path, PLUGIN.replace("\n        return to_uint8(", NOT_A_NUMBER), "nan", 1)
    assert record["status"] == "failed" and "not finite" in record["reason"]
