"""The columns of the leaderboard: what they are called, how to get them, how to print them."""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from bench.measures import missing
from bench.report.leaderboard.from_record import Getter, copied, cost, energy_per_image, inherited, score, trained, training
from bench.values import Compute, Record

PER_THOUSAND = 1000.0
POSITIVE, SHARE, ANY = (0.0, math.inf), (0.0, 1.0), (-math.inf, math.inf)


@dataclass(frozen=True)
class Column:
    """A column of the leaderboard: how to get it, how to print it.

    No interval leaves the `bounds` that the quantity has by its nature. `beside` is (key, title) of a text of `Leaderboard.info` that is
    printed next to the column.
    """

    key: str
    title: str
    get: Getter
    digits: int = 3
    bounds: tuple[float, float] = POSITIVE
    beside: tuple[str, str] | None = None


class Quality(Column):
    """A column that speaks of the images: where the networks stay the same from seed to seed, only the drawing of images spreads it."""


def number(value: float, digits: int = 3) -> str:
    """Significant digits, thousands separated, no exponent between 1e-3 and 1e6."""
    if value == 0 or 1e-3 <= abs(value) < 1e6:
        text = f"{value:,.{digits}g}" if abs(value) < 10**digits else f"{value:,.0f}"
        return text if "e" not in text else f"{value:,.0f}"
    return f"{value:.{digits}g}"


def quality_key(records: Iterable[Record]) -> str:
    """The measure that ranks: FID where some record has it, else the Frechet distance on the data set's own classifier."""
    found = list(records)
    if any(r.scores.get("fid", missing("-")).value is not None for r in found):
        return "fid"
    return next((f"fd_{r.cell.workload.dataset}" for r in found), "fid")


def title_of(key: str) -> str:
    """`FID`, `FD digits`; with a sign of infinity for the limit of infinitely many images."""
    name, _, extractor = key.replace("_infinity", "∞").partition("_")
    return f"{name.upper()} {extractor}".strip()


def is_limit(key: str) -> bool:
    return "_infinity" in key


def columns(records: list[Record]) -> tuple[Column, ...]:
    """The columns that a record alone can fill: quality on every extractor that the records name, then cost."""
    keys = sorted({k for r in records for k in r.scores if k.startswith(("fid", "fd_"))}, key=_rank_of(records))
    quality = [Quality(k, title_of(k), score(k), bounds=ANY if is_limit(k) else POSITIVE) for k in keys]
    return (
        *quality,
        *_faithful(records),
        Quality("class_accuracy", "Class accuracy", score("class_accuracy"), bounds=SHARE),
        Quality("copied", "Copied", copied, bounds=SHARE),
        Quality("nll", "NLL bits/dim", score("nll_bits_per_dim"), bounds=ANY, beside=("estimator", "NLL estimator")),
        Column("steps", "Steps", cost("steps"), 4),
        Column("nfe", "NFE/image", cost("nfe_per_image"), 4),
        Column("gflop", "GFLOP/image", cost("flops_per_image", 1e-9)),
        Column("gmac", "GMAC/image", cost("flops_per_image", 0.5e-9)),
        Column("params", "Parameters (M)", cost("params", 1e-6)),
        Column("p50_ms", "Latency p50 (ms)", cost("latency_p50_s", 1e3)),
        Column("p95_ms", "Latency p95 (ms)", cost("latency_p95_s", 1e3)),
        Column("images_per_s", "Images/s", cost("images_per_s"), beside=("best_batch", "Best batch")),
        *_compiled(records),
        Column("peak_mb", "Peak memory growth (MB)", cost("peak_bytes", 1e-6)),
        Column("peak_total_mb", "Peak memory (MB)", cost("peak_total_bytes", 1e-6)),
        Column("wh", "Wh/1000 images", energy_per_image("kwh", 1e3 * PER_THOUSAND), beside=("energy_source", "Energy source")),
        Column("co2_g", "g CO2/1000 images", energy_per_image("co2_kg", 1e3 * PER_THOUSAND)),
        *_training(),
    )


def _compiled(records: list[Record]) -> Iterator[Column]:
    """What compiling cost, where some networks were compiled."""
    if any(r.cell.compute is Compute.FAST for r in records):
        yield Column("compile_s", "Compiling (s)", cost("compile_s"))
        yield Column("compile_breakeven", "Break-even of compiling (images)", cost("break_even_images"))


def _training() -> Iterator[Column]:
    """What training cost: in all, by the strategy itself, and by the shared parts it inherits."""
    yield Column("train_s", "Training (device s)", training("device_s"))
    for key, unit, field in (("gpu_days", "GPU-days", "gpu_days"), ("train_kwh", "kWh", "energy.kwh")):
        yield Column(key, f"Training ({unit})", training(field))
        yield Column(f"{key}_own", f"Own training ({unit})", trained(field))
        yield Column(f"{key}_inherited", f"Inherited training ({unit})", inherited(field))
    yield Column("v100_days", "Training (V100-days)", training("v100_days"))


def breakeven_column(get: Getter, baselines: set[str]) -> Column:
    """Images until the energy of training is earned back; the title names the baseline where all rows have the same."""
    against = f" against {min(baselines)}" if len(baselines) == 1 else ""
    return Column("breakeven", f"Break-even{against} (images)", get)


def _faithful(records: list[Record]) -> Iterator[Column]:
    """How near samples are to what they should look like, where the task says that."""
    known = {key for r in records for key in r.scores}
    for key, title in (("psnr", "PSNR (dB)"), ("ssim", "SSIM")):
        if key in known:
            yield Quality(key, title, score(key), bounds=ANY)
    for key in sorted(k for k in known if k.startswith("feature_distance_")):
        yield Quality(key, f"Feature distance {key.removeprefix('feature_distance_')}", score(key))


def _rank_of(records: list[Record]) -> Callable[[str], tuple[bool, str]]:
    best = quality_key(records)
    return lambda key: (key != best, key)
