"""What the README shows works as it stands."""

import json
import re
from pathlib import Path

from tests.conftest import Run

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def test_the_example_strategy_passes_every_check(bench: Run, tmp_path: Path) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    (tmp_path / "equal_ratio.py").write_text(code)
    results = json.loads(bench("check", "equal_ratio.py", "--json", check=(0, 1)).stdout)
    assert len(results) > 10
    assert {r["check"]: r["fault"] for r in results if r["fault"]} == {}


def test_links_and_pictures_exist() -> None:
    targets = re.findall(r"\]\(([^)#]+)\)", README)
    assert targets
    for target in targets:
        assert target.startswith("https://") or (ROOT / target).is_file(), target


def test_ci_runs_the_readmes_command_word_for_word() -> None:
    command = "python -m pip install tox && tox run -e tests"
    assert f"\n{command}\n" in README
    assert command in (ROOT / ".ci" / "run").read_text().splitlines()
