"""The benchmarks are fair: the baselines train the same networks on the same losses."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import torch

from benchmarks import packs, scores, workloads
from benchmarks.baselines import loops, networks, problem
from benchmarks.floor import Count, counted, g_step, products
from benchmarks.inside import by_kind
from benchmarks.measure import (
    NOT_AVAILABLE,
    Case,
    Ratio,
    alternate,
    lines,
    read_results,
    write_results,
)
from benchmarks.table import markdown
from gansweep.assembly import build_module, build_trial_scores, load_samples
from gansweep.data.base import to_float

TREES = {"wgan": workloads.wgan, "dcgan": workloads.dcgan}
NETWORKS = {"wgan": networks.mlp, "dcgan": networks.dcgan}
LOSSES = {
    "wgan": (loops.wgan_d_loss, loops.wgan_g_loss),
    "dcgan": (loops.gan_d_loss, loops.gan_g_loss),
}
MODELS = [("wgan", 64), ("wgan", 128), ("dcgan", 32)]


def pair(model, width):
    """gansweep's module and the baselines' networks, with the module's weights."""
    config = workloads.resolved(TREES[model](width))
    samples = load_samples(config)
    module = build_module(config, samples.spec)
    G, D = NETWORKS[model](samples.x.shape[-1], width=width, latent=problem.LATENT)
    for ours, theirs in ((module.generator, G), (module.discriminator, D)):
        mine, others = list(ours.parameters()), list(theirs.parameters())
        assert [p.shape for p in mine] == [p.shape for p in others]
        with torch.no_grad():
            for a, b in zip(mine, others, strict=True):
                b.copy_(a)
    return module, G, D, to_float(samples.x[:64])


@pytest.mark.parametrize(("model", "width"), MODELS)
def test_baseline_has_the_same_parameters_and_losses(model, width):
    module, G, D, real = pair(model, width)
    z = torch.randn(64, problem.LATENT)
    d_loss, g_loss = LOSSES[model]
    fake = module.generator(z, None)
    torch.testing.assert_close(fake, G(z), rtol=1e-5, atol=1e-6)  # channels last rounds otherwise
    bound = module._bound(None)
    ours = module.formulation.discriminator_loss(bound, real, fake.detach()).total
    theirs = d_loss(D(real), D(fake.detach()))
    assert ours.item() == pytest.approx(theirs.item(), rel=1e-6)
    ours = module.formulation.generator_loss(bound, fake).total
    assert ours.item() == pytest.approx(g_loss(D(G(z))).item(), rel=1e-6)


@pytest.mark.parametrize(("model", "width"), [("wgan", 16), ("dcgan", 32)])
def test_baseline_computes_as_much_in_a_g_step(model, width):
    x = problem.load_images(problem.DATA[model])
    G, D = NETWORKS[model](x.shape[-1], width=width, latent=problem.LATENT)
    more = {"clip": 0.01} if model == "wgan" else {"beta1": 0.5}
    train = loops.train_wgan if model == "wgan" else loops.train_dcgan
    count = counted(lambda: train(G, D, x, lambda *_: None, g_steps=1, lr=1e-4, **more))
    ours = g_step(TREES[model](width))
    assert ours.flops == count.flops > 0
    assert ours.bytes < 1.5 * count.bytes


@pytest.mark.parametrize("together", [1, 3])
def test_products_alone_are_all_the_operations_of_a_g_step(together):
    tree = workloads.wgan(16)
    flops = sum(count * counted(call).flops for call, count in products(tree, together=together))
    assert flops == together * g_step(tree).flops


@pytest.mark.parametrize("name", ["digits", "mnist5k"])
def test_baselines_load_the_same_images(name):
    config = workloads.resolved({**workloads.wgan(8), "data": {"name": name}})
    ours, theirs = to_float(load_samples(config).x), problem.load_images(name)
    assert ours.shape == theirs.shape
    assert (ours - theirs).abs().max() < 0.005  # half a grey level of 255


@pytest.mark.parametrize("model", ["wgan", "dcgan"])
def test_sweep_file_has_the_points_of_the_baselines(model, tmp_path):
    from gansweep.sweep.file import load_sweep
    from gansweep.sweep.trials import planned

    file = tmp_path / "sweep.yaml"
    file.write_text(json.dumps(workloads.sweep(model, 8, 100)))
    trials = planned(load_sweep(file))
    key = {"wgan": "model.clip", "dcgan": "optimizer.beta1"}[model]
    name = key.rpartition(".")[2]
    found = {(flat(trial.point)[key], flat(trial.point)["optimizer.lr"]) for trial in trials}
    expected = problem.points(model)
    assert len(trials) == len(expected) == 16
    assert found == {(point[name], point["lr"]) for point in expected}


def flat(tree, prefix=""):
    found = {}
    for key, value in tree.items():
        nested = isinstance(value, dict)
        found |= flat(value, f"{prefix}{key}.") if nested else {f"{prefix}{key}": value}
    return found


def test_the_scores_that_are_timed_fit_their_trials():
    for _, tree, names, _ in scores.cases():
        config = workloads.resolved({**tree, "score": {"names": names}})
        assert list(build_trial_scores(config, load_samples(config).spec)) == names


def test_ratio_is_of_medians_not_of_means():
    case = Case("f", "c", times={"a": [1.0, 100.0, 3.0], "b": [2.0, 1.0, 2.0]})
    assert case.median("a") == 3.0
    assert case.ratio(Ratio("a", "b")) == 1.5
    assert case.spread(Ratio("a", "b")) == (0.5, 100.0)
    assert case.ratio(Ratio("a", "absent")) is None
    assert case.spread(Ratio("absent", "b")) is None


def test_rounds_alternate_and_warm_up_does_not_count():
    calls = []

    def contender(name, factor):
        def run(turn):
            calls.append((name, turn))
            return factor * (turn + 10.0)

        return run

    times = alternate({"a": contender("a", 1), "b": contender("b", 2)}, 3, warm_up=1)
    assert times == {"a": [10.0, 11.0, 12.0], "b": [20.0, 22.0, 24.0]}
    # fmt: off
    assert calls == [
        ("b", -1), ("a", -1), ("a", 0), ("b", 0), ("b", 1), ("a", 1), ("a", 2), ("b", 2),
    ]
    # fmt: on


def test_results_file_keeps_raw_times_and_makes_the_table(tmp_path):
    case = Case("single", "c", "ms", {"a": [2.0, 4.0], "b": [1.0, 2.0]}, [Ratio("a", "b", "aim")])
    absent = Case("single", "d", "ms", {"a": [1.0]}, [Ratio("a", "new")], {"new": NOT_AVAILABLE})
    facts = Case("floor", "e", facts={"operations": "5 MFLOP", "all": {"not": "shown"}})
    about = {"cpu": "CPU", "cores": 2, "gpu": "", "versions": {"torch": "2"}}
    about |= {"date": "2026-01-02T03:04:05+00:00", "commit": "abc"}
    file = tmp_path / "deeper" / "results.json"
    write_results(file, [case, absent, facts], about)
    tree = json.loads(file.read_text())
    assert tree["cases"][0]["times"] == {"a": [2.0, 4.0], "b": [1.0, 2.0]}
    assert tree["cases"][0]["medians"] == {"a": 3.0, "b": 1.5}
    assert tree["cases"][0]["ratios"][0]["ratio"] == 2.0
    read_about, cases = read_results(file)
    assert (read_about, cases) == (about, [case, absent, facts])
    assert lines(cases) == [
        ("single", "c", "a / b", "3 / 1.5 ms", "2 (2-2)", "2", "aim"),
        ("single", "d", "a / new", NOT_AVAILABLE, "", "", ""),
        ("floor", "e", "operations", "5 MFLOP", "", "", ""),
    ]
    text = markdown(cases, about)
    assert "| single | c | a / b | 3 / 1.5 ms | 2 (2-2) | 2 | aim |" in text
    assert text.startswith("CPU, 2 cores, torch 2, 2026-01-02, abc:\n\n| figure | case |")


def test_operations_and_bytes_of_a_product():
    a, b = torch.randn(4, 8), torch.randn(8, 16)
    count = counted(lambda: torch.mm(a, b).t())  # the transpose is a view: free
    assert count == Count(flops=2 * 4 * 8 * 16, bytes=4 * (32 + 128 + 64), operators=1)


def test_what_a_profile_says_by_kind():
    report = """# Overhead  Shared Object  Symbol
    40.00%  libtorch_cpu.so        [.] mkl_blas_def_sgemm_kernel_0_zen   -      -
    10.00%  c7yfd.main.so          [.] cpp_fused_add_bmm_mul_4
     5.00%  libtorch_cpu.so        [.] Sleef_finz_tanhf16_u10avx512f
    20.00%  libtorch_cpu.so        [.] at::native::(anonymous namespace)::normal_kernel
     4.00%  libpython3.11.so.1.0   [.] _PyEval_EvalFrameDefault
     1.00%  libc.so.6              [.] malloc
    """
    shares = by_kind(report)
    assert list(shares.values()) == pytest.approx([0.5, 0.25, 0.1875, 0.05, 0.0125], rel=1e-12)
    assert shares["random numbers"] == pytest.approx(0.25, rel=1e-12)
    assert set(by_kind("").values()) == {0.0}


def test_agreement_of_two_rankings():
    alone = {"p": [1.0, 1.2], "q": [2.0, 2.2], "r": [3.0, 3.2]}
    same = packs.agreement(alone, alone)
    assert same["same ranking"]
    assert same["rank correlation"] == 1.0
    assert same["points beyond 2 standard errors"] == 0
    apart, turned = (
        "pairs of points more than 5 standard errors apart",
        "of these in the other order",
    )
    assert (same[apart], same[turned]) == (3, 0)  # 1 / sqrt(2 * 0.02 / 2) is 7
    swapped = packs.agreement(alone, {**alone, "p": alone["q"], "q": alone["p"]})
    assert not swapped["same ranking"]
    assert not swapped["same best point"]
    assert swapped["most places moved"] == 1
    assert swapped["rank correlation"] == 0.5
    # |1.1 - 2.1| / sqrt(2 * 0.02 / 2)
    assert swapped["largest difference in standard errors"] == pytest.approx(1 / 0.02**0.5)
    assert swapped["points beyond 2 standard errors"] == 2
    assert (swapped[apart], swapped[turned]) == (3, 1)
    blurred = {"p": [1.0, 3.0], "q": [0.0, 3.9], "r": [3.0, 3.2]}
    found = packs.agreement(alone, blurred)  # p and q turned, and told apart by one sweep alone
    assert (found[apart], found[turned]) == (3, 1)
    found = packs.agreement(blurred, {**blurred, "p": [0.5, 3.0]})
    assert (found[apart], found[turned]) == (0, 0)


def test_unknown_settings_are_told_from_known_ones():
    assert workloads.accepted({**workloads.wgan(8), "precision": "32"}, "precision")
    assert not workloads.accepted({**workloads.wgan(8), "no_such": True}, "no_such")


@pytest.mark.slow
@pytest.mark.parametrize("options", [[], ["--store", "mlflow"], ["--tune"]])
def test_the_simulation_of_a_large_sweep_runs(options):
    command = [sys.executable, "-m", "benchmarks.scale", "--nodes", "2", "--trials", "40"]
    done = subprocess.run([*command, *options], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "| trials | 40 |" in done.stdout
    assert "ms of driver a trial" in done.stdout
