"""What the processes that examine images load before the first one; what they find is in test_survey.py."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

LOADED = """
import sys
from job.dataset import workers
from job.dataset.decode import decode
for data in (JPEG, b"no image", JPEG[:12]):
    print(decode(data, "a.jpg").verdict, "PIL.TiffImagePlugin" in sys.modules, "PIL.FliImagePlugin" in sys.modules)
print([name for name in sys.modules if name.startswith("job.dataset.layouts")])
"""


def test_only_what_the_images_need_is_loaded(encoded: Callable[..., bytes]) -> None:
    # Layouts and decoders are a sixth of what a fork server imports, and a job waits for it.
    program = LOADED.replace("JPEG", repr(encoded(form="JPEG")))
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["ok False False", "not an image True False", "truncated True False", "[]"]
