"""A package that is left out of an import, and of nothing else."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from job.storage.absent import absent

REPOSITORY = Path(__file__).resolve().parents[3]


def run(program: str) -> str:
    done = subprocess.run([sys.executable, "-c", program], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_an_absent_package_is_there_again_afterwards():
    sys.modules.pop("colorsys", None)
    with absent("colorsys"), pytest.raises(ModuleNotFoundError):
        import colorsys
    import colorsys

    assert colorsys.rgb_to_hsv(0, 0, 0) == (0, 0, 0)


def test_of_two_packages_the_one_that_is_loaded_stays():
    sys.modules.pop("colorsys", None)
    with absent("subprocess", "colorsys"):
        import subprocess as again

        with pytest.raises(ModuleNotFoundError):
            import colorsys
    import colorsys

    assert again is subprocess
    assert colorsys.rgb_to_hsv(0, 0, 0) == (0, 0, 0)


def test_what_is_loaded_already_stays():
    with absent("subprocess"):
        import subprocess as again
    assert again is subprocess


def test_it_is_there_again_after_an_error():
    sys.modules.pop("colorsys", None)
    with pytest.raises(KeyError), absent("colorsys"):
        raise KeyError
    assert "colorsys" not in sys.modules


def test_the_bucket_client_loads_no_grpc():
    assert run("import sys, job.storage.gcs; print(sorted(name for name in sys.modules if 'grpc' in name))") == "[]"


def test_the_bucket_client_loads_no_tables_of_encodings_and_says_nothing():
    said = run(
        "import sys, warnings\n"
        "warnings.simplefilter('error')\n"
        "import job.storage.gcs\n"
        "print([name for name in ('chardet', 'charset_normalizer', 'opentelemetry') if name in sys.modules])\n"
        "import charset_normalizer"
    )
    assert said == "[]"


def test_tensorboard_imports_grpc_after_the_bucket_client():
    said = run(
        "import job.storage.gcs\n"
        "from tensorboard.data import grpc_provider\n"
        "import grpc\n"
        "print(grpc_provider.grpc is grpc, grpc.StatusCode.OK.value[0])"
    )
    assert said == "True 0"
