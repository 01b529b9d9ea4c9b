"""The command line from outside: whole runs, resuming, killing, and what bad input gets."""

import json
import os
import signal
import time
from pathlib import Path

import pytest

from tests.conftest import Run
from tests.faults.harm import end
from tests.house.test_suite_and_registry import PLUGIN
from tests.processes import Running

FAULTY = PLUGIN.replace("return kit.denoiser()", "{fault}")


def records(folder: Path) -> dict[str, dict[str, object]]:
    found = {}
    for path in folder.glob("**/records/*.json"):
        record = json.loads(path.read_bytes())
        found[path.stem] = record
    return found


def test_run_again_status_report(bench: Run, tiny_suite: Path, tmp_path: Path) -> None:
    first = json.loads(bench("run", tiny_suite, "--device", "cpu", "--json", pictures=True).stdout)
    assert first["planned"] == first["ok"] == 3 and first["failed"] == 0
    assert Path(tmp_path / first["report"]).is_file()
    for record in records(tmp_path).values():
        check_record(record)
    again = json.loads(bench("run", tiny_suite, "--device", "cpu", "--json").stdout)
    assert again["reused"] == 3 and again["ok"] == 0
    states = json.loads(bench("status", tiny_suite, "--json").stdout)
    assert [s["state"] for s in states] == ["ok"] * 3
    todo = json.loads(bench("plan", tiny_suite, "--device", "cpu", "--json").stdout)["cells"]
    assert {cell["state"] for cell in todo} == {"done"}
    out = json.loads(bench("report", tiny_suite, "--out", "elsewhere", "--json", pictures=True).stdout)
    written = {path.name for path in (tmp_path / "elsewhere").iterdir()}
    assert {Path(file).name for file in out["files"]} == written and written >= {
        "index.html",
        "leaderboard.csv",
        "claims.md",
        "references.bib",
        "taxonomy.png",
    }


def check_record(record: dict) -> None:  # type: ignore[type-arg]
    """Nothing in an OK record is empty without a reason, and the counts are right."""
    assert record["status"] == "ok"
    sample, steps = record["sample"], record["cell"]["params"].get("steps")
    if steps:
        assert sample["steps"]["value"] == sample["nfe_per_image"]["value"] == steps
        assert sample["flops_per_image"]["value"] > 0 and set(record["inherited"]) == {"denoiser"}
        assert record["inherited"]["denoiser"]["images_seen"]["value"] == 128
    else:
        assert sample["steps"]["reason"].startswith("not applicable")
    for measure in [*record["scores"].values(), *(v for v in sample.values() if isinstance(v, dict) and v.keys() & {"value", "reason"})]:
        assert ("value" in measure) != bool(measure.get("reason"))
    assert record["train"]["energy"]["source"] == "estimated_load"


def test_only_seeds_and_another_sweep(bench: Run, tiny_suite: Path) -> None:
    plan = json.loads(bench("plan", tiny_suite, "--only", "control.gaussian,control.resample", "--seeds", "3,4", "--json").stdout)["cells"]
    assert sorted(c["cell"] for c in plan) == [
        "control.gaussian seed 3", "control.gaussian seed 4", "control.resample seed 3", "control.resample seed 4",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("fault", "status", "reason"),
    [
        ("raise RuntimeError('on purpose')", "failed", "RuntimeError: on purpose"),
        ("raise MemoryError('too much')", "out of memory", "MemoryError"),
        ("import os; os.kill(os.getpid(), 9)", "killed", "signal 9"),
        ("import ctypes; ctypes.string_at(0)", "killed", "signal 11"),
        ("import time; time.sleep(600)", "timeout", "time limit"),
        ("return kit.autoencoder()", "failed", "UndeclaredAsset"),
    ],
    ids=["raises", "memory", "SIGKILL", "segfault", "hangs", "undeclared asset"],
)
def test_one_bad_cell_does_not_stop_the_rest(bench: Run, tiny_suite: Path, tmp_path: Path, fault: str, status: str, reason: str) -> None:
    """The bad plug-in gets a record with its reason; the cell after it is measured."""
    (tmp_path / "bad.py").write_text(FAULTY.replace("{fault}", fault))
    limit = 0.4 if status == "timeout" else 2
    tiny_suite.write_text(tiny_suite.read_text().replace("cell_minutes = 2", f"cell_minutes = {limit}"))
    words = ("run", tiny_suite, "--plugin", "bad.py", "--only", "user.bad,control.resample", "--device", "cpu", "--json")
    done = json.loads(bench(*words, check=(1,)).stdout)
    assert (done["ok"], done["failed"]) == (1, 1)
    by_name = {r["cell"]["strategy"]: r for r in records(tmp_path).values()}  # type: ignore[index]
    assert by_name["user.bad"]["status"] == status and reason in by_name["user.bad"]["reason"]  # type: ignore[operator]
    assert by_name["control.resample"]["status"] == "ok"


def test_plugin_is_compared_and_its_edit_reruns_it_alone(bench: Run, tiny_suite: Path, tmp_path: Path) -> None:
    plugin = tmp_path / "mine.py"
    plugin.write_text(PLUGIN)
    words = ("run", tiny_suite, "--plugin", plugin, "--device", "cpu", "--json")
    assert json.loads(bench(*words).stdout)["ok"] == 4
    plugin.write_text(PLUGIN + "\n# neither a comment nor what is not used changes anything\nX = 1\n")
    assert json.loads(bench(*words).stdout)["ok"] == 0
    plugin.write_text(PLUGIN.replace("return kit.denoiser()", "return kit.denoiser().eval()"))
    said = json.loads(bench(*words).stdout)
    assert {k: said[k] for k in ("planned", "reused", "ok", "failed", "not_started")} == {
        "planned": 4, "reused": 3, "ok": 1, "failed": 0, "not_started": 0,
    }  # fmt: skip
    assert said["forecast_s"] > 0 and said["measured_s"] > 0


def test_no_time_left_starts_nothing(bench: Run, tiny_suite: Path) -> None:
    done = json.loads(bench("run", tiny_suite, "--max-minutes", "0.0001", "--device", "cpu", "--json").stdout)
    assert done["not_started"] == 3 and done["ok"] == 0


@pytest.mark.parametrize("at", ["asset denoiser: ok", "[steps=2] seed 0: ok"])
def test_sigkill_loses_no_finished_cell(bench: Run, tiny_suite: Path, tmp_path: Path, at: str) -> None:
    run = Running(tmp_path, "run", tiny_suite, "--device", "cpu")
    run.says(at)
    os.kill(run.pid, signal.SIGKILL)
    run.ends()
    wait_for_silence(run.pid)
    before = {k: v for k, v in records(tmp_path).items() if v["status"] == "ok"}
    done = json.loads(bench("run", tiny_suite, "--device", "cpu", "--json").stdout)
    assert done["reused"] == len(before) and done["reused"] + done["ok"] == 3
    after = records(tmp_path)
    assert all(after[k] == v for k, v in before.items()) and len(after) == 3


def wait_for_silence(group: int) -> None:
    """The worker of a killed run ends by itself within seconds."""
    end = time.monotonic() + 20
    while time.monotonic() < end:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return
        time.sleep(0.1)
    pytest.fail("the worker outlived its parent")


@pytest.mark.parametrize(("sent", "code", "times"), [(signal.SIGINT, 130, 1), (signal.SIGINT, 130, 5), (signal.SIGTERM, 143, 1)])
def test_interrupt_leaves_a_resumable_store(
    bench: Run, tiny_suite: Path, tmp_path: Path, sent: signal.Signals, code: int, times: int
) -> None:
    """However often it comes: those after the first fall into the cleaning up."""
    run = Running(tmp_path, "run", tiny_suite, "--device", "cpu")
    run.says("Tiny: 3 cells")  # from here on it is under way
    for _ in range(times):
        end(run.pid, sent)
        time.sleep(0.1)
    assert run.ends() == code
    assert "finished cells are kept" in run.err and "Traceback" not in run.err
    assert list(tmp_path.glob("results/local/leases/*.lease")) == []
    done = json.loads(bench("run", tiny_suite, "--device", "cpu", "--json").stdout)
    assert done["reused"] + done["ok"] == 3


def test_two_runners_on_one_store_do_no_work_twice(tiny_suite: Path, tmp_path: Path) -> None:
    """Each trains or measures what the other does not, and both end with everything done."""
    folders = [tmp_path / name for name in ("one", "other")]
    words = ("run", tiny_suite, "--device", "cpu", "--json", "--results", tmp_path / "results")
    for folder in folders:
        folder.mkdir()
    both = [Running(folder, *words) for folder in folders]
    assert [run.ends() for run in both] == [0, 0], [run.err for run in both]
    counts = [json.loads(run.out) for run in both]
    assert sum(c["ok"] for c in counts) == 3 and all(c["ok"] + c["reused"] == 3 for c in counts)
    trained = [line for run in both for line in run.err.splitlines() if "asset denoiser: ok" in line]
    assert len(trained) == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["run", "digit"], "did you mean 'digits'"),
        (["run", "nowhere.toml"], "suite file not found"),
        (["run", "--only", "ddim"], "did you mean 'eds.representation.ddim'"),
        (["run", "--seeds", "one"], "--seeds takes numbers"),
        (["run", "fashion-mnist", "--data", "empty"], "--download"),
        (["run", "--plugin", "broken.py"], "failed to import"),
        (["run", "--plugin", "none.py"], "plug-in not found"),
        (["run", "images.toml"], "corrupt image"),
        (["report", "smoke"], "no records"),
        (["status", "smoke"], "no run of suite"),
        (["check", "eds.nothing"], "unknown strategy"),
        (["check", "broken.py"], "failed to import"),
        (["run", "--device", "tpu9"], "unknown device"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_input_gets_one_line_and_exit_code_2(bench: Run, tmp_path: Path, words: list[str], message: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken.py").write_text("import nothing_of_this_name")
    (tmp_path / "pictures").mkdir()
    for k in range(12):
        (tmp_path / "pictures" / f"{k}.png").write_bytes(b"no image")
    text = f'title = "x"\ndataset = "folder:{tmp_path}/pictures"\n[budget]\ntrain_images = 9\n'
    (tmp_path / "images.toml").write_text(text)
    said = bench(*words, check=(2,)).stderr
    lines = said.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("bench: ") and message in lines[0], said


def test_damaged_files_are_named_and_nothing_is_lost(bench: Run, tiny_suite: Path, tmp_path: Path) -> None:
    bench("run", tiny_suite, "--device", "cpu")
    first, *rest = sorted(tmp_path.glob("results/local/tiny/*/records/*.json"))
    first.write_bytes(first.read_bytes()[:200])
    assert f"unreadable record {first.relative_to(tmp_path)}" in bench("report", tiny_suite, check=(2,)).stderr
    assert json.loads(bench("run", tiny_suite, "--device", "cpu", "--json").stdout)["ok"] == 1  # the damaged one alone
    for checkpoint in tmp_path.glob("results/local/assets/*/model.safetensors"):
        checkpoint.write_bytes(b"garbage")
    for record in rest:
        record.unlink()
    done = bench("run", tiny_suite, "--device", "cpu")
    assert "unreadable checkpoint" in done.stdout and "trained again" in done.stdout and "2 ok" in done.stdout
    assert len(list(tmp_path.glob("results/local/assets/*.unreadable-*"))) >= 1


def test_check_command(bench: Run, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(PLUGIN)
    results = json.loads(bench("check", "mine.py", "--json", check=(0, 1)).stdout)
    assert {r["check"]: r["fault"] for r in results if r["fault"]} == {}
    (tmp_path / "global_rng.py").write_text(
        PLUGIN.replace("request.draws().normal(*padded(request.shape))", "__import__('torch').randn(len(request), 1, 8, 8)")
    )
    faults = {r["check"] for r in json.loads(bench("check", "global_rng.py", "--json", check=(1,)).stdout) if r["fault"]}
    assert {"deterministic", "global_rng", "batch_invariance"} <= faults


def test_survey_list_doctor(bench: Run) -> None:
    rows = json.loads(bench("survey", "--json").stdout)
    assert len(rows) == 76 and set(rows[0]) == {"id", "table", "group", "model", "strategies", "status"}
    assert {r["status"] for r in rows} <= {"measured", "implemented", "missing", "published"}
    listed = json.loads(bench("list", "--json").stdout)
    assert "eds.representation.ddim" in {s["name"] for s in listed["strategies"]} and listed["problems"] == []
    assert {f["what"] for f in json.loads(bench("doctor", "--json").stdout)} >= {"device", "energy", "data digits"}
