import subprocess
import sys

import pytest

from fovea.config.resolvers import PROJECT

# Allocates 64 MB and frees them, ten times, and prints the pages that the system had to provide.
CODE = """
import ctypes, resource, sys
import numpy as np
from fovea.distributed.memory import keep_freed_memory
if sys.argv[1] == "kept":
    keep_freed_memory()
np.ones(2**26, np.uint8)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    np.ones(2**26, np.uint8)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the setting is of glibc")
def test_freed_memory_is_used_again_without_new_pages() -> None:
    def pages(name: str) -> int:
        command = [sys.executable, "-c", CODE, name]
        environment = {"PYTHONPATH": str(PROJECT / "src"), "NUMPY_MADVISE_HUGEPAGE": "0"}
        return int(subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout)

    assert pages("returned") > 100_000  # ten times 64 MB in pages of 4 kB
    assert pages("kept") < 1_000
