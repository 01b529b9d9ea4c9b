"""Records made by hand, for the tests of everything that reads records."""

import dataclasses
from collections.abc import Iterable

from bench.cards import Card, Claim, Heading, Relation
from bench.measures import Energy, EnergySource, Measure, SampleCost, TrainCost, measured, missing
from bench.report.comparison.verdicts import Comparison
from bench.values import Budget, Cell, Provenance, Record, Status, Workload

BETTER_THAN_DDPM = Claim(
    text="better than DDPM",
    metric="fd",
    params={"steps": 50},
    relation=Relation.AT_MOST,
    factor=1.0,
    baseline="eds.state_space.ddpm",
    baseline_params={"steps": 50},
    figure="none",
    source="a test",
    verified=False,
)


def made_cell(strategy: str, seed: int = 0, **params: int) -> Cell:
    return Cell(
        strategy=strategy,
        params=dict(params),
        shown=dict(params),
        workload=Workload(dataset="digits", shape=(1, 8, 8), n_classes=10),
        budget=Budget(train_images=1000, n_samples=500),
        extractors=("own",),
        seed=seed,
        code_hash="c",
        asset_ids={"denoiser": "d"},
        reference_hash="r",
        protocol=1,
    )


def made_card(strategy: str) -> Card:
    heading, title = strategy.rsplit(".", 1)
    claims = (BETTER_THAN_DDPM,) if title == "ddim" else ()
    return Card(
        title=title,
        paper="A paper",
        year=2021,
        arxiv="0",
        heading=Heading(heading),
        rows=("I-29",),
        saves="x",
        likelihood="x",
        claims=claims,
    )


def made_energy(kwh: float) -> Energy:
    return Energy(kwh=measured(kwh), co2_kg=measured(kwh * 0.475), source=EnergySource.ESTIMATED_LOAD, carbon_g_per_kwh=475.0)


def made_provenance(device: str = "CPU test") -> Provenance:
    return Provenance(
        device=device, host="h", system="s", versions={"torch": "2"}, git=None, started="2026-01-01T00:00:00+00:00", wall_s=1.5
    )


def made_train(seconds: float) -> TrainCost:
    return TrainCost(
        images_seen=measured(1000),
        device_s=measured(seconds),
        gpu_days=missing("not applicable: trained on a CPU, see device seconds"),
        peak_bytes=measured(1e6),
        energy=made_energy(1e-4),
    )


def made_record(
    strategy: str,
    *,
    steps: int,
    quality: float,
    seed: int = 0,
    device: str = "CPU test",
    replicates: tuple[float, ...] | None = None,
) -> Record:
    """Measured throughout; `replicates` are those of the quality."""

    def exact(value: float) -> Measure:
        return measured(value, n=500)

    return Record(
        cell=made_cell(strategy, seed, steps=steps),
        card=made_card(strategy),
        status=Status.OK,
        reason=None,
        train=made_train(0.5),
        inherited={"denoiser": made_train(40.0)},
        sample=SampleCost(
            steps=exact(steps),
            nfe_per_image=exact(steps),
            calls_per_image={"net": float(steps)},
            flops_per_image=exact(2e9),
            params=exact(5e5),
            buffer_bytes=exact(8000),
            latency_p50_s=exact(0.05),
            latency_p95_s=exact(0.06),
            images_per_s=exact(200),
            best_batch=exact(64),
            peak_bytes=exact(2e7),
            energy=made_energy(1e-3),
        ),
        scores={
            "fid": missing("weights not found"),
            "fd_digits": Measure(value=quality, n=500, replicates=replicates),
            "class_accuracy": exact(0.9),
            "nll_bits_per_dim": missing("inherited: see DDPM"),
        },
        provenance=made_provenance(device),
    )


def failed_record(strategy: str) -> Record:
    return Record(
        cell=made_cell(strategy, steps=10),
        card=made_card(strategy),
        status=Status.TIMEOUT,
        reason="ran past its time limit and was ended",
        train=None,
        inherited={},
        sample=None,
        scores={},
        provenance=made_provenance(),
    )


def later(record: Record, month: int = 2, **cell: object) -> Record:
    """Made in a later month of its year, with another cell."""
    provenance = dataclasses.replace(record.provenance, started=f"2026-{month:02}-01T00:00:00+00:00")
    return dataclasses.replace(record, cell=dataclasses.replace(record.cell, **cell), provenance=provenance)  # type: ignore[arg-type]


def with_scores(record: Record, **scores: Measure) -> Record:
    return dataclasses.replace(record, scores=scores)


def of_key(found: Iterable[Comparison], key: str) -> Comparison:
    (one,) = [c for c in found if c.key == key]
    return one
