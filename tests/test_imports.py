"""Training needs neither Ray nor MLflow, and imports neither."""

from __future__ import annotations

import gc
import subprocess
import sys

import pytest

from gansweep.imports import importing

LIGHT = [
    "gansweep.formulation",
    "gansweep.networks.catalogue",
    "gansweep.modules.catalogue",
    "gansweep.config",
    "gansweep.trial",
    "gansweep.sweep.worker",
    "gansweep.tracking.spool",
]


def test_training_imports_neither_ray_nor_mlflow():
    code = f"""
import importlib, sys
for name in {LIGHT!r}:
    importlib.import_module(name)
from gansweep.config import resolve
assert resolve({{"model": {{"name": "wgan_gp"}}}}, []) is not None
heavy = {{"ray", "mlflow", "optuna", "datasets", "matplotlib", "pandas", "typer", "rich.console"}}
heavy |= {{"platformdirs"}}
print(sorted(heavy & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = done.stdout.strip()
    assert "ray" not in found
    assert "mlflow" not in found
    assert "platformdirs" not in found


def test_reading_the_resources_of_a_file_imports_no_torch():
    code = "import gansweep.sweep.file, sys; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "False", done.stderr


@pytest.mark.parametrize("command", ["show", "sync", "ui", "jobs"])
def test_who_looks_at_a_sweep_imports_no_torch(command: str) -> None:
    heavy = {"torch", "ray", "pytorch_lightning"}
    code = f"import gansweep.commands.{command}, sys; print({heavy!r} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "set()", done.stderr


def test_the_garbage_collector_rests_while_packages_are_imported():
    with importing():
        assert not gc.isenabled()
    gc.unfreeze()
    assert gc.isenabled()


def succeeds(code: str) -> None:
    """In a process of its own."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.long
@pytest.mark.parametrize(
    "use",
    [
        "from scipy.signal.windows import hann",
        "import scipy.signal as signal; signal.butter",
        "from scipy.signal import convolve",
        "import scipy; scipy.signal.firwin",
    ],
)
def test_who_needs_scipy_signal_meanwhile_gets_it(use: str) -> None:
    code = f"""
import sys
from gansweep.imports import importing
with importing():
    import pytorch_lightning
    assert "scipy.signal.windows" not in sys.modules
    {use}
    assert "scipy.signal.windows" in sys.modules
import scipy.signal
assert scipy.signal is sys.modules["scipy.signal"]
scipy.signal.hilbert, scipy.signal.windows.hann
"""
    succeeds(code)


def test_scipy_signal_is_itself_afterwards() -> None:
    code = """
import sys
from gansweep.imports import importing
with importing():
    import pytorch_lightning
import scipy.signal
assert "scipy.signal.windows" in sys.modules
assert scipy.signal.hilbert
"""
    succeeds(code)


@pytest.mark.long
@pytest.mark.parametrize(
    "use",
    [
        "import matplotlib.pyplot as plt; plt.Line2D",
        "import matplotlib.ticker",
        "from matplotlib import rcParams",
        "import matplotlib; matplotlib.get_backend()",
        "metric.plot()",
    ],
)
def test_who_needs_matplotlib_meanwhile_gets_it(use: str) -> None:
    code = f"""
import sys
from gansweep.imports import importing
with importing():
    import pytorch_lightning, torchmetrics
    assert "matplotlib.figure" not in sys.modules
    metric = torchmetrics.MeanMetric()
    metric.update(3.0)
    {use}
    assert "matplotlib.rcsetup" in sys.modules
import matplotlib.pyplot
assert matplotlib.pyplot is sys.modules["matplotlib.pyplot"]
figure, axes = metric.plot()
assert isinstance(figure, matplotlib.pyplot.Figure)
assert isinstance(axes, matplotlib.axes.Axes)
"""
    succeeds(code)


def test_matplotlib_is_itself_afterwards() -> None:
    code = """
import importlib.util, sys
from gansweep.imports import importing
with importing():
    import pytorch_lightning
    assert importlib.util.find_spec("matplotlib")
    assert "matplotlib.figure" not in sys.modules
import torchmetrics
metric = torchmetrics.MeanMetric()
metric.update(3.0)
figure, axes = metric.plot()
import matplotlib.pyplot
assert isinstance(figure, matplotlib.pyplot.Figure)
assert matplotlib.pyplot is sys.modules["matplotlib.pyplot"]
"""
    succeeds(code)
