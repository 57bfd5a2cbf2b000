"""What a run will cost is what it then costs: passes counted at the model, by a model that counts for itself."""

from __future__ import annotations

import json
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from experiments import crossxai
from rich.console import Console
from torch import nn

import crossxai as xai
from crossxai.adapters.torch import TorchModel
from crossxai.cli.planned import steps
from crossxai.errors import InvalidInput
from crossxai.experiment import preparing, sharding
from crossxai.experiment.counting import counting
from crossxai.experiment.loading import load_model
from crossxai.experiment.parts import run_all
from crossxai.experiment.planned_model import Row
from crossxai.experiment.planning import PAGE, Plan, plan
from crossxai.experiment.run import Prepared, load, run
from crossxai.experiment.sharding import Shard
from crossxai.experiment.specification import Experiment
from crossxai.experiment.ways import price_of, ways
from crossxai.experiment.workers import Engine
from crossxai.report import write_report

SIDE, N = 16, 5
IMAGES = np.random.default_rng(0).random((N, 4, 4, 3), np.float32).repeat(4, axis=1).repeat(4, axis=2)
ASKED = ["captum.saliency", ("captum.integrated_gradients", {"steps": 7}), "gradcam.gradcam", ("lime.image", {"samples": 20}),
         ("captum.feature_ablation", {"segmentation": "quickshift", "patch": 4})]  # fmt: skip


class Counting(TorchModel):
    """Counts the samples that it is handed, and those whose gradient it is asked for; a call within a call is none."""

    forward = backward = depth = 0


def _counted(verb: str, weighs: bool) -> Any:
    def method(self: Counting, inputs: Any, *more: Any) -> Any:
        if not self.depth:
            self.forward += len(inputs[0])
            self.backward += len(inputs[0]) * (weighs and (verb != "attention_vjp" or more[0] is not None))
        self.depth += 1
        try:
            return getattr(TorchModel, verb)(self, inputs, *more)
        finally:
            self.depth -= 1

    return method


for verb, weighs in (
    ("predict", False),
    ("vjp", True),
    ("layer_vjp", True),
    ("read", False),
    ("replace", False),
    ("activations", False),
    ("attention_vjp", True),
):
    setattr(Counting, verb, _counted(verb, weighs))


def model() -> Counting:
    torch.manual_seed(0)
    layers = (nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(3), nn.Flatten(), nn.Linear(36, 3))
    layers[-1].weight.data.abs_()  # activation maps that are not zero: equal maps share passes
    return Counting(nn.Sequential(*layers).eval(), (xai.Modality.image(),), outputs="logits")


def prepared(own: Any, explainers: Any = ASKED, metrics: Any = None) -> tuple[Experiment, Any]:
    batch = preparing.arrays.read(own, IMAGES)
    return preparing.prepare(
        {"net": own},
        batch,
        explainers,
        metrics,
        target="predicted",
        classes=(),
        groups=(),
        title="t",
        controls=True,
        check="on",
        seed=0,
    )


CURVES = [("deletion", {"steps": 5}), ("insertion", {"steps": 5}), ("max_sensitivity", {})]


@pytest.mark.parametrize(("explainers", "metrics"), [(ASKED, None), (ASKED, CURVES), (None, None)])
def test_passes_are_those_that_the_run_makes(tmp_path: Path, explainers: Any, metrics: Any) -> None:
    first, second = model(), model()
    experiment, given = prepared(first, explainers, metrics)
    planned = plan(experiment, tmp_path / "out", given)
    assert not (tmp_path / "out").exists()
    experiment, given = prepared(second, explainers, metrics)
    before = second.forward  # of what is handed over, labels are predicted beforehand
    run(experiment, tmp_path / "out", Console(quiet=True), given)
    assert not planned.bounded
    assert planned.passes == (second.forward - before, second.backward)
    again = plan(experiment, tmp_path / "out", given)
    assert {row.note for row in again.rows if row.kind == "explainer"} == {"done"}
    assert not [row for row in again.rows if row.kind == "metric" and row.forward]


def test_a_plan_leaves_the_model_as_it_was(tmp_path: Path) -> None:
    own = model()
    verbs = dict(vars(Counting))
    experiment, given = prepared(own)
    plan(experiment, tmp_path / "out", given)
    assert dict(vars(Counting)) == verbs
    assert "vjp" not in vars(own)


def test_what_is_not_known_is_said_and_bounded(tmp_path: Path) -> None:
    def mine(images: Any) -> Any:
        return images.mean(axis=-1)

    both = [(f"{library}.occlusion", {"patch": 4, "stride": 1}) for library in ("captum", "xplique")]
    explainers = [mine, *both, "attention.rollout"]
    experiment, given = prepared(
        model(), explainers, [("deletion", {"steps": "auto"}), ("insertion", {"steps": {"auto": {"precision": 0.1}}})]
    )
    rows = {row.name: row for row in plan(experiment, tmp_path / "out", given).rows}
    assert rows["mine"].bounded
    assert "how many passes mine makes is not known" in rows["mine"].note
    assert "equal maps of methods of one name" in rows["deletion"].note
    assert "precision decides" in rows["insertion"].note
    assert rows["attention.rollout"].forward == 0
    assert "attention" in rows["attention.rollout"].note


@pytest.mark.process
def test_a_dry_run_on_the_command_line_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dry_own.py").write_text(
        "import torch\nfrom torch import nn\ndef net():\n    torch.manual_seed(0)\n    return nn.Sequential(nn.Conv2d(3, 4, 3), "
        "nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(16, 3)).eval()\n"
    )
    np.save("images.npy", IMAGES)
    words = ("compare", "dry_own:net", "--data", "images.npy", "--out", "new")
    before = sorted(path.name for path in tmp_path.iterdir())
    done = crossxai(*words, "--dry-run")
    assert done.exit_code == 0, done.output
    assert "exactly so many passes" in done.stdout
    told = json.loads(crossxai(*words, "--dry-run", "--json").stdout)
    assert sum(row["forward"] for row in told["rows"]) == told["total"]["forward"] > 0
    assert sorted(path.name for path in tmp_path.iterdir() if path.name != "__pycache__") == before
    assert crossxai(*words).exit_code == 0
    written = sum(path.stat().st_size for path in (tmp_path / "new").rglob("*") if path.is_file())
    assert written < told["disk"] < 20 * written
    ways = json.loads(
        crossxai(*words, "--dry-run", "--engine", "slurm", "--shards", "5", "--price", "3", "--json").stdout
    )["ways"]
    assert [(way["how"], way["shards"]) for way in ways][-1] == ("--engine slurm", 5)
    assert ways[-1]["cost"] == pytest.approx(ways[-1]["busy"] / 1200)
    said = crossxai(*words, "--dry-run", "--engine", "ray", "--workers", "2", "--price", "3")
    assert all(text in said.stdout for text in ("--engine ray", "cost", "Measured here: loading", "Not counted"))
    assert not (tmp_path / "new" / "shards").exists()


def test_maps_that_are_equal_on_two_samples_share_their_passes(tmp_path: Path) -> None:
    """A library whose own convention is the canonical one."""
    explainers = [
        {"name": "captum.saliency", "profile": "canonical"},
        "xplique.saliency",
        "gradcam.gradcam",
        "gradcam.hirescam",
    ]
    first, second = model(), model()
    experiment, given = prepared(first, explainers, CURVES[:2])
    planned = plan(experiment, tmp_path / "out", given)
    experiment, given = prepared(second, explainers, CURVES[:2])
    before = second.forward
    run(experiment, tmp_path / "out", Console(quiet=True), given)
    assert not planned.bounded
    assert planned.passes == (second.forward - before, second.backward)
    alone, given = prepared(model(), explainers[1:], CURVES[:2])
    passes = [
        sum(row.forward for row in one.rows if row.kind == "metric") for one in (planned, plan(alone, tmp_path, given))
    ]
    assert passes[0] == passes[1]


@pytest.mark.deep
def test_the_demo_makes_the_passes_and_takes_half_to_twice_the_time_that_were_said(
    embedded: Path, tmp_path: Path
) -> None:
    from crossxai.cli import given

    experiment = given.chosen(given.DEMO, None, "")
    said = plan(experiment, tmp_path / "said")
    assert not said.bounded
    models = {one.name: load_model(one, experiment.folder) for one in experiment.models}
    start = time.perf_counter()
    with counting([one.model for one in models.values()]) as counted:
        run(experiment, tmp_path / "demo", Console(quiet=True), Prepared(models=models))
        made = [counted.of(one.model) for one in models.values()]
    took = time.perf_counter() - start
    assert took / 2 < said.seconds < took * 2
    assert said.passes == tuple(map(sum, zip(*made, strict=True)))


def test_a_plan_of_shards_is_what_workers_then_make(tmp_path: Path) -> None:
    """Two that keep what they load, as on Ray; one per shard, as on Slurm; an explainer that each shard asks of all samples."""
    explainers = [*ASKED, ("captum.feature_permutation", {"patch": 8})]
    quiet = Console(quiet=True)

    def made(shards: list[int], count: int, where: str) -> list[tuple[int, int]]:
        """The passes of each of the shards that one worker makes."""
        own = model()
        experiment, given = prepared(own, explainers, CURVES[:2])
        known, passes = load(experiment, given), []
        for number in shards:
            before = own.forward, own.backward
            run(experiment, tmp_path / where, quiet, given, Shard(number, count), known)
            passes.append((own.forward - before[0], own.backward - before[1]))
        return passes

    def total(*workers: list[tuple[int, int]]) -> tuple[int, ...]:
        return tuple(map(sum, zip(*(passes for worker in workers for passes in worker), strict=True)))

    experiment, given = prepared(model(), explainers, CURVES[:2])
    planned = plan(experiment, tmp_path / "out", given)
    by_way = {way.how: way for way in ways(planned, tmp_path / "out", Engine(workers=2, shards=4))}
    assert by_way["this process"].passes == planned.passes
    assert by_way["--engine ray"].passes == total(made([1, 3], 4, "ray"), made([2, 4], 4, "ray"))
    alone = [made([number], 4, "slurm") for number in (1, 2, 3, 4)]
    assert by_way["--engine slurm"].passes == by_way["--shard, one by one"].passes == total(*alone)
    experiment, given = prepared(model(), explainers, CURVES[:2])
    assert [plan(experiment, tmp_path / "new", given, Shard(1, 4)).passes] == alone[0]


def test_samples_that_memory_does_not_hold_are_counted_on_a_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sharding, "PART", 2 * IMAGES[0].nbytes)
    images = xai.OnDemand(IMAGES.shape, IMAGES.dtype, lambda rows: IMAGES[rows])

    def asked(own: Counting) -> tuple[Experiment, Prepared]:
        experiment, given = prepared(own, [*ASKED[:3]], CURVES[:2])
        experiment = experiment.model_copy(update={"keep_maps": "sample:2"})
        return experiment, replace(given, samples=replace(given.samples, inputs={"image": images}))

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    planned = plan(asked(model())[0], tmp_path / "out", asked(model())[1])
    assert [*tmp_path.rglob("*")] == [tmp_path / "temporary"]
    assert (planned.counted, planned.samples, planned.parts) == (2, 5, 3)
    own = model()
    experiment, given = asked(own)
    before = own.forward, own.backward
    run_all(experiment, tmp_path / "out", Console(quiet=True), given)
    assert planned.passes == (own.forward - before[0], own.backward - before[1])
    (way,) = ways(planned, tmp_path / "out")
    assert (way.passes, way.shards, way.end) == (planned.passes, 3, planned.disk)
    assert way.seconds == pytest.approx(planned.seconds)
    assert any("passes, counted on 2 of them" in line for line in steps(planned)[1])


def of_hours(**given: Any) -> Plan:
    """A plan of 1000 samples: two hours of loading, 100 of what shards divide, one of what each does for all samples."""
    rows = (
        Row("net", "preparing", "predictions", 1000, 0, 2 * HOUR),
        Row("net", "explainer", "mine", 50_000, 50_000, 60 * HOUR),
        Row("net", "explainer", "permutation", 3000, 0, HOUR, whole=True),
        Row("net", "metric", "deletion", 100_000, 0, 40 * HOUR),
    )
    about: dict[str, Any] = {
        "rows": rows,
        "memory": 10**9,
        "disk": 10**9,
        "passing": 8 * 10**9,
        "samples": 1000,
        "of": 1000,
        "counted": 1000,
        "parts": 1,
    }
    return Plan(**{**about, "loading": HOUR, "loaded": (7, 3), "chosen": {}, "failed": {}, **given})


HOUR = 3600.0


def test_hours_disk_and_costs_add_up(tmp_path: Path) -> None:
    here, one, ray, slurm = ways(of_hours(), tmp_path, Engine(workers=8, shards=50), price="2.5")
    assert (here.seconds, here.busy, here.workers, here.shards) == (103 * HOUR, 103 * HOUR, 1, 1)
    assert one.shard == ray.shard == slurm.shard == pytest.approx((2 + 2 + 1) * HOUR)
    assert one.seconds == one.busy == pytest.approx((50 * 2 + 100 + 50 * 1) * HOUR)
    assert ray.seconds == pytest.approx(
        (2 + 7 * 3) * HOUR
    )  # eight workers make 50 shards of three hours in seven rounds
    assert ray.busy == pytest.approx(8 * 23 * HOUR)
    assert slurm.seconds == pytest.approx((1 + 7 * 5) * HOUR)
    assert slurm.busy == pytest.approx((1 + 50 * 5) * HOUR)
    assert ray.passes == (8 * 1000 + 150_000 + 50 * 3000, 50_000)
    assert slurm.passes == (7 + 50 * 1000 + 150_000 + 50 * 3000, 3 + 50_000)
    for way in (here, one, ray, slurm):
        assert way.cost == pytest.approx(way.busy / HOUR * 2.5)
    assert (here.running, here.end) == (9 * 10**9, 10**9)
    assert (ray.running, ray.end) == (int(2.28e9), 2 * 10**9)  # eight shards at once hold maps that will not be kept
    assert (one.running, one.end) == (2 * 10**9, 2 * 10**9)  # and less than what joining them takes
    unpriced = ways(of_hours(), tmp_path, Engine(workers=8, shards=50))
    assert [way.cost for way in unpriced] == [None] * 4
    assert [way.seconds for way in unpriced] == [way.seconds for way in (here, one, ray, slurm)]


def test_a_shard_s_plan_says_what_all_shards_come_to(tmp_path: Path) -> None:
    shard = of_hours(samples=100, disk=10**8, passing=8 * 10**8)
    shard = replace(
        shard,
        rows=tuple(replace(r, seconds=r.seconds / 10) if r.name in ("mine", "deletion") else r for r in shard.rows),
    )
    here, one, at_once = ways(shard, tmp_path, shard=Shard(3, 10))
    assert here.seconds == pytest.approx(103 * HOUR)
    assert (one.workers, at_once.workers, one.shards, at_once.shards) == (1, 10, 10, 10)
    assert one.seconds == one.busy == at_once.busy == pytest.approx(10 * (2 + 10 + 1) * HOUR)
    assert at_once.seconds == at_once.shard == pytest.approx(13 * HOUR)


@pytest.mark.parametrize("price", ["2,5", "free", "-1", "nan", "inf"])
def test_a_price_that_is_none_is_refused(price: str) -> None:
    with pytest.raises(InvalidInput, match="write what a worker costs for an hour as a number"):
        price_of(price)
    assert (price_of("0"), price_of("2.50")) == (0.0, 2.5)


def test_disk_holds_scores_and_names_where_maps_are_not_kept(tmp_path: Path) -> None:
    images = np.random.default_rng(0).random((300, 8, 8, 3), np.float32)
    batch = preparing.arrays.read(model(), images)
    metrics = [("deletion", {"steps": 24}), ("insertion", {"steps": "auto"})]
    about: dict[str, Any] = {
        "target": "predicted",
        "classes": (),
        "groups": (),
        "title": "t",
        "controls": True,
        "check": "off",
        "seed": 0,
    }
    experiment, given = preparing.prepare({"net": model()}, batch, ["captum.saliency"], metrics, **about)
    experiment = experiment.model_copy(update={"keep_maps": "none"})
    planned = plan(experiment, tmp_path / "out", given)
    run(experiment, tmp_path / "out", Console(quiet=True), given)
    write_report(tmp_path / "out")
    written = sum(
        path.stat().st_size for path in (tmp_path / "out").rglob("*") if path.is_file() and path.name != "report.html"
    )
    assert written < planned.disk - PAGE < 3 * written
