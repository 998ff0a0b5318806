"""gansweep: experiment sweeps for generative adversarial networks."""

__version__ = "0.1.0"
