"""Whether this machine has a C++ compiler, and how to do as if it had none."""

import pytest
import torch
from torch._inductor import config

from aif_dcpc.inference.model import compiling


def _compiles():
    try:
        compiling.check_compiler(torch.device("cpu"))
    except compiling.CannotCompile:
        return False
    return True


NO_COMPILER = config.patch({"cpp.cxx": (None, "no_such_compiler")})
needs_compiler = pytest.mark.skipif(not _compiles(), reason="there is no C++ compiler")
