"""BiGAN: an encoder beside the generator, and a discriminator of pairs (Donahue et al. 2017)."""

from __future__ import annotations

from typing import ClassVar, final

from gansweep.formulation import Formulation
from gansweep.modules.alternating import AlternatingModule, Published, VariantSettings
from gansweep.objectives import Bidirectional


@final
class BiGAN(AlternatingModule):
    """Donahue, Kraehenbuehl & Darrell 2017, "Adversarial Feature Learning"; Dumoulin et al. 2017.

    D tells pairs [x, E(x)] of the data from pairs [G(z), z]; G and E, trained as one, make them
    alike, and where they are, E inverts G (theorem 2). E is deterministic, as in the former paper.
    Defaults of its permutation-invariant MNIST experiment (jeffdonahue/bigan, train_mnist.sh): its
    networks, z uniform of 50 dimensions, Adam at 2e-4 with betas (0.5, 0.999), batches of 128, L2
    weight decay of 2.5e-5; the decay of the rate is not applied. The real batch of G's and E's
    step is that of the last discriminator step; in their code D steps on it at the same time.
    """

    Settings = VariantSettings
    encodes: ClassVar[bool] = True
    published: ClassVar[Published] = {
        "network": {"name": "bigan"},
        "latent": {"dim": 50, "distribution": "uniform"},
        "optimizer": {
            "name": "adam", "lr": 2e-4, "beta1": 0.5, "beta2": 0.999, "weight_decay": 2.5e-5,
        },
        "data": {"batch_size": 128},
    }  # fmt: skip

    @classmethod
    def formulate(cls, settings: VariantSettings) -> Formulation:
        return Formulation(Bidirectional())
