"""A trial's settings put together: data, networks and module, checked to fit each other."""

from __future__ import annotations

import math
import operator
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from gansweep.components import Part, answering, is_own, place
from gansweep.config import TrialConfig
from gansweep.data.base import Dataset, Samples
from gansweep.data.prepare import prepare
from gansweep.dataspec import Condition, DataSpec, Modes
from gansweep.diagnosis.layers import descends
from gansweep.diagnosis.measurement import example
from gansweep.errors import ConfigError, OwnCodeError, Problem, noting
from gansweep.formulation import Formulation
from gansweep.metrics.base import Score, Subject
from gansweep.metrics.catalogue import build_scores
from gansweep.modules.alternating import AlternatingModule
from gansweep.modules.stacked_step import obstacle
from gansweep.networks.base import Architecture
from gansweep.networks.encoding import EncodingGenerator, PairDiscriminator
from gansweep.optimizers import OptimizerSpec
from gansweep.seeding import stream_seed

MOST_CLASSES = 5
"""Classes without a sample that are named."""


def data_set(config: TrialConfig) -> Dataset:
    """The trial's data set, of which nothing is loaded yet."""
    with answering(config.data.cls, at="data.name"):
        return config.data.cls(config.data.settings)


def load_samples(config: TrialConfig) -> Samples:
    """The trial's data, prepared once on each node. ConfigError names a bad file."""
    return prepare(data_set(config))


def load_held_out(config: TrialConfig, samples: Samples) -> Samples:
    """Samples that the trial does not train on; where there are none, `samples`, its own."""
    source = data_set(config)
    with answering(config.data.cls, at="data.name"):
        held_out = source.held_out
    try:
        return samples if held_out is None else prepare(held_out)
    except OwnCodeError:
        raise
    except ConfigError:
        return samples


def modes_of(config: TrialConfig, spec: DataSpec) -> Modes | None:
    """The known modes of the trial's data; ConfigError where a person's own are none of `spec`."""
    source = data_set(config)
    with answering(config.data.cls, at="data.name"):
        modes = source.modes
        if modes is not None:
            modes.nearest(torch.zeros(1, math.prod(spec.shape)))
    return modes


def real_samples(config: TrialConfig) -> dict[str, str]:
    """Which real samples the trial's scores compare with, as their fingerprints say it."""
    return {
        "data": config.data.name,
        "split": str(getattr(config.data.settings, "split", "all")),
        "real_count": str(config.score.samples),
        "seed": str(config.score.seed),
    }


def condition_of(config: TrialConfig, spec: DataSpec) -> Condition | None:
    """What the networks are conditioned on; ConfigError where the data have no labels for it."""
    if not config.model.settings.conditional:
        return None
    if config.model.cls.encodes:
        what = "is true: the discriminator of a model with an encoder is conditioned on z"
        remedy = f"leave out conditional: {config.model.name} is unconditional"
        raise ConfigError.single("trial.model.conditional", what, remedy)
    if spec.condition is None:
        raise ConfigError.single(
            "trial.model.conditional",
            f"{config.model.name} is conditional, and the data {config.data.name!r} have no labels",
            "name labelled data, or set it to false",
        )
    return spec.condition


def build_trial_scores(config: TrialConfig, spec: DataSpec) -> dict[str, Score]:
    """The trial's scores by name; ConfigError where one does not fit the data."""
    subject = Subject(
        spec,
        modes=modes_of(config, spec),
        conditional=config.model.settings.conditional,
        seed=config.score.seed,
    )
    return build_scores(config.scores, subject)


def build_networks(config: TrialConfig, spec: DataSpec) -> tuple[nn.Module, nn.Module]:
    """Generator and discriminator with initial weights drawn from torch's global generator."""
    architecture = config.network.cls(config.network.settings)
    if config.model.cls.encodes:
        return _build_joint(architecture, config, spec)
    condition = condition_of(config, spec)
    generator = architecture.generator(latent_dim=config.latent.dim, spec=spec, condition=condition)
    seen = _packed(spec, config.model.settings.pac)
    discriminator = architecture.discriminator(spec=seen, condition=condition)
    return generator, discriminator


def _build_joint(
    architecture: Architecture, config: TrialConfig, spec: DataSpec
) -> tuple[nn.Module, nn.Module]:
    """A generator with its encoder, and a discriminator of pairs, whose condition is z."""
    condition_of(config, spec)
    dim, pac = config.latent.dim, config.model.settings.pac
    generator = EncodingGenerator(
        architecture.generator(latent_dim=dim, spec=spec, condition=None),
        architecture.encoder(latent_dim=dim, spec=spec),
    )
    z = Condition("vector", pac * dim)
    inner = architecture.discriminator(spec=_packed(spec, pac), condition=z)
    return generator, PairDiscriminator(inner, shape=spec.shape, latent_dim=dim, pac=pac)


def _packed(spec: DataSpec, pac: int) -> DataSpec:
    """The samples that D judges at a time, as one."""
    return replace(spec, shape=(pac * spec.shape[0], *spec.shape[1:]))


def build_module(config: TrialConfig, spec: DataSpec) -> AlternatingModule:
    """The variant's module with weights drawn from the trial's seed, on the CPU."""
    with torch.random.fork_rng():
        torch.manual_seed(stream_seed(config.run.seed, "weights"))
        generator, discriminator = build_networks(config, spec)
    for network in (generator, discriminator):  # convolutions are faster so
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return config.model.cls(
        config.model.settings,
        generator=generator,
        discriminator=discriminator,
        optimizers=(
            config.d_optimizer.cls(config.d_optimizer.settings),
            config.g_optimizer.cls(config.g_optimizer.settings),
        ),
        latent=config.latent,
        seed=config.run.seed,
        ema_decay=config.ema.decay,
    )


def check_fit(config: TrialConfig, spec: DataSpec) -> list[str]:
    """The variant's advice on this use; ConfigError where networks and data do not fit."""
    try_parts(config, spec)
    return advise(config, fitting(config, spec))


def advise(config: TrialConfig, discriminator: nn.Module) -> list[str]:
    """The variant's advice on a trial with this discriminator, or with one of the same shape."""
    _formulation(config)  # which may refuse numbers
    with answering(config.model.cls, at="trial.model.name"):
        advice = config.model.cls.advice(
            config.model.settings,
            optimizer=config.d_optimizer.cls(config.d_optimizer.settings),
            discriminator=discriminator,
        )
        if not isinstance(advice, list):
            raise TypeError(f"advice gives {type(advice).__name__}, must give a list of strings")
    return advice


def _formulation(config: TrialConfig) -> Formulation:
    with answering(config.model.cls, at="trial.model.name"):
        return config.model.cls.mathematics(config.model.settings)


def try_parts(config: TrialConfig, spec: DataSpec) -> None:
    """ConfigError with what is wrong with a variant, optimizers and rules of a person's own."""
    problems: list[Problem] = []
    for attempt in (
        partial(_try_variant, config, spec),
        partial(_try_optimizer, config.d_optimizer),
        partial(_try_optimizer, config.g_optimizer),
        partial(_try_rules, config),
    ):
        with noting(problems):
            attempt()
    if problems:
        raise ConfigError(problems)


def _try_variant(config: TrialConfig, spec: DataSpec) -> None:
    """ConfigError where a person's own variant gives no losses, or no number of D's steps."""
    cls, settings = config.model.cls, config.model.settings
    if not is_own(cls):
        return
    formulation, size = _formulation(config), math.prod(spec.shape) + config.latent.dim
    with answering(cls, at="trial.model.name"):
        shape = (size,) if cls.encodes else spec.shape
        formulation.tried(shape, batch=config.data.settings.batch_size)
        for g_step in (0, config.budget.g_steps - 1):
            steps = cls.d_steps(settings, g_step)
            if operator.index(steps) < 1:
                raise ValueError(f"d_steps gives {steps} at g_step {g_step}, must be at least 1")


def _try_rules(config: TrialConfig) -> None:
    """ConfigError where a person's own rule cannot be built, or goes wrong on a reading."""
    formulation = _formulation(config)
    for rule in config.rules:
        if not is_own(rule.cls):
            continue
        with answering(config.model.cls, at="trial.model.name"):
            reading = example(formulation)
        with answering(rule.cls, at=f"trial.diagnosis.rules.{rule.name}"):
            one = rule.cls(rule.settings)
            if rule.cls.concerns(formulation.objective):
                one.evidence(reading)


def _try_optimizer(part: Part[OptimizerSpec]) -> None:
    """ConfigError where a person's own optimizer cannot be built, or makes no step."""
    if not is_own(part.cls):
        return
    with answering(part.cls, at="trial.optimizer.name"):
        spec = part.cls(part.settings)
        parameters = [nn.Parameter(torch.ones(shape)) for shape in ((2, 2), (2,))]
        optimizer = spec.build(parameters)
        if not isinstance(optimizer, torch.optim.Optimizer):
            raise TypeError(f"build gives {type(optimizer).__name__}, must give an Optimizer")
        for parameter in parameters:
            parameter.grad = torch.ones_like(parameter)
        optimizer.step()  # as training does, without a closure
        if not isinstance(spec.momentum, (int, float)):
            raise TypeError(f"momentum is {spec.momentum!r}, must be a number")


def on_classes(samples: Samples) -> list[str]:
    """A word to who trains a conditional model on classes of which some have no sample."""
    condition = samples.spec.condition
    if samples.labels is None or condition is None or condition.kind != "class":
        return []
    counts = torch.bincount(samples.labels, minlength=condition.size)
    empty = (counts == 0).nonzero().flatten().tolist()
    if not empty:
        return []
    names = [condition.names[i] if condition.names else str(i) for i in empty[:MOST_CLASSES]]
    more = " ..." if len(empty) > MOST_CLASSES else ""
    return [
        f"{len(empty)} of the data's {condition.size} classes "
        f"{'has' if len(empty) == 1 else 'have'} no sample "
        f"({', '.join(names)}{more}): what is generated of them is learnt from none, in the sample "
        "grids too; leave them out of the data, and number the others without a gap"
    ]


def fitting(config: TrialConfig, spec: DataSpec, *, processes: int = 1) -> nn.Module:
    """A discriminator without memory; ConfigError where networks and data do not fit.

    Builds both networks on torch's meta device and passes a batch of two through them, or of one
    where each of the trial's `processes` has no more in training, so that a wrong shape is found
    before anything is launched.
    """
    _check_pac(config)
    own, pac = config.data.settings.batch_size // processes, config.model.settings.pac
    n, judged_at_once = min(2, own), min(2, own // pac)
    network = config.network.name
    try:
        discriminator, results = _tried(config, spec, n, judged_at_once)
    except ConfigError:
        raise
    except Exception as error:  # a user's network may raise anything
        raised = f"{type(error).__name__}: {error}"
        if judged_at_once == 1 and _fits_two(config, spec):
            alone = f"one tuple of {pac}" if pac > 1 else "one sample"
            shared = f" for {processes} processes" if processes > 1 else ""
            raise ConfigError.single(
                "trial.data.batch_size",
                f"is {config.data.settings.batch_size}{shared}, and {network} cannot train on "
                f"{alone} by itself: {raised}",
                f"at least {2 * pac * processes}, or networks without BatchNorm",
            ) from error
        raise ConfigError.single(
            "trial.network",
            f"{network} does not fit data of shape {spec.shape}: {raised}",
            place(error, config.network.cls),
        ) from error
    fake, codes, logits = results
    for what, tensor, expected in (
        ("generator", fake, (n, *spec.shape)),
        ("encoder", codes, (n, config.latent.dim)),
        ("discriminator", logits, (judged_at_once,)),
    ):
        given = tuple(tensor.shape) if isinstance(tensor, Tensor) else type(tensor).__name__
        if given != expected:
            raise ConfigError.single(
                "trial.network",
                f"the {what} of {network} gives {given} for a batch of "
                f"{'two' if expected[0] == 2 else 'one'}, must give {expected}",
            )
    return discriminator


def _tried(
    config: TrialConfig, spec: DataSpec, n: int, judged_at_once: int
) -> tuple[nn.Module, tuple[Tensor, Tensor, Tensor]]:
    """As `_passed` without memory; with it where the networks look at the values."""
    try:
        return _passed(config, spec, n, judged_at_once, on="meta")
    except ConfigError:
        raise
    except Exception as error:
        if "meta" not in str(error):
            raise
    with torch.random.fork_rng(devices=()):
        return _passed(config, spec, n, judged_at_once, on="cpu")


def _passed(
    config: TrialConfig, spec: DataSpec, n: int, judged_at_once: int, *, on: str
) -> tuple[nn.Module, tuple[Tensor, Tensor, Tensor]]:
    """A discriminator, and what comes of `n` latents: samples, codes and logits."""
    formulation = _formulation(config)
    with torch.device(on):
        generator, discriminator = build_networks(config, spec)
        for network, role in ((generator, "generator"), (discriminator, "discriminator")):
            if not isinstance(network, nn.Module):
                raise TypeError(f"its {role} is {type(network).__name__}, must be a nn.Module")
            if not any(parameter.requires_grad for parameter in network.parameters()):
                raise ValueError(f"its {role} has no parameter to train")
            for name, parameter in network.named_parameters():
                if is_lazy(parameter):
                    what = f"the size of its {role}'s {name} is not known before it is called"
                    raise ValueError(
                        f"{what}: give the layer its size, lazy ones cannot be trained"
                    )
        labels = _example_labels(condition_of(config, spec), n)
        z = torch.randn(n, config.latent.dim)
        fake = generator(z, labels)
        _, judged = config.model.cls.play(generator, fake, z, labels)
        packs = judged[:judged_at_once].repeat_interleave(formulation.pac, 0)
        logits = discriminator(formulation.packed(packs), labels)
        for network, what in (
            (discriminator, "its discriminator's output has no gradient in its own weights"),
            (generator, "its discriminator's output has no gradient in its generator's weights"),
        ):
            if isinstance(logits, Tensor) and not _learns(network, logits):
                raise ValueError(f"{what}: is there a detach() or no_grad() in a forward?")
        codes = generator.encoder(fake) if isinstance(generator, EncodingGenerator) else z
    return discriminator, (fake, codes, logits)


def _learns(network: nn.Module, logits: Tensor) -> bool:
    """Whether `logits` were computed from a weight of `network` that autograd sees."""
    return any(descends(logits, p) for p in network.parameters() if p.requires_grad)


def _fits_two(config: TrialConfig, spec: DataSpec) -> bool:
    """Whether networks that a batch of one does not pass are passed by one of two."""
    try:
        _tried(config, spec, 2, 2)
    except Exception:  # what it is, the batch of one has told
        return False
    return True


def _check_pac(config: TrialConfig) -> None:
    """ConfigError where samples cannot be judged together."""
    settings, batch_size = config.model.settings, config.data.settings.batch_size
    if settings.pac == 1:
        return
    if settings.conditional:
        what = "a conditional discriminator judges one sample with its own label"
        raise ConfigError.single("trial.model.pac", f"is {settings.pac}: {what}", "use pac: 1")
    if batch_size % settings.pac:
        what = f"is {settings.pac}, which does not divide the batch of {batch_size}"
        raise ConfigError.single(
            "trial.model.pac", what, f"set data.batch_size to a multiple of {settings.pac}"
        )


def check_engine(config: TrialConfig, spec: DataSpec, *, stacked: bool) -> None:
    """ConfigError where a stack or compiling is asked for and such trials can have neither."""
    asked = {"resources.engine": stacked, "trial.compile": config.run.compile == "true"}
    if not any(asked.values()):
        return
    with torch.device("meta"):
        reason = obstacle(build_module(config, spec))
    if reason:
        problems = [
            Problem(where, f"is impossible for these trials: {reason}", "leave it at auto")
            for where, wanted in asked.items()
            if wanted
        ]
        raise ConfigError(problems)


def _example_labels(condition: Condition | None, n: int) -> Tensor | None:
    if condition is None:
        return None
    if condition.kind == "class":
        return torch.zeros(n, dtype=torch.int64)
    return torch.zeros(n, condition.size)
