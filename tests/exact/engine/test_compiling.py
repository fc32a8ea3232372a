"""Recorded graphs that are compiled: by what they give, where nothing compiles, or a cache is damaged."""

import os
import subprocess
import sys
import textwrap

import pytest
import torch
from compilers import NO_COMPILER, needs_compiler

from aif_dcpc.inference.errors import CompileWarning
from aif_dcpc.inference.model import compiling
from aif_dcpc.inference.model.recording import record


def test_a_graph_without_a_compiler_is_used_as_it_is():
    graph = record(lambda x: (x.sin() + 0.25,), torch.ones(3))
    with NO_COMPILER, pytest.warns(CompileWarning, match=r"no C\+\+ compiler was found"):
        function = compiling.compiled(graph, torch.ones(3))
    assert torch.equal(function(torch.zeros(3))[0], torch.full((3,), 0.25))


def test_a_graph_that_compiles_to_other_numbers_is_used_as_it_is(monkeypatch):
    graph = record(lambda x: (x.sin() + 0.75,), torch.ones(3))
    monkeypatch.setattr(compiling, "compile_fx", lambda *given: lambda *x: (x[0].cos(),))
    with pytest.warns(CompileWarning, match="other numbers"):
        function = compiling.compiled(graph, torch.ones(3))
    assert torch.equal(function(torch.zeros(3))[0], torch.full((3,), 0.75))


DAMAGED = """
    import sys, pathlib, torch
    from aif_dcpc.inference.model.compiling import compiled_or_raise
    from aif_dcpc.inference.model.recording import record

    graph = record(lambda x: ((x * 2).sin().cumsum(0) + 1,), torch.ones(3, 2))
    function = compiled_or_raise(graph, torch.ones(3, 2))
    assert torch.allclose(function(torch.zeros(3, 2))[0], torch.ones(3, 2))
"""


@needs_compiler
def test_a_damaged_cache_is_survived(tmp_path):
    """Calling a library whose code was overwritten ends a process, so each try has one of its own."""

    def compile_once():
        folder = {"TORCHINDUCTOR_CACHE_DIR": str(tmp_path), "TORCHINDUCTOR_VEC_ISA_OK": "0"}
        environment = {**os.environ, **folder}
        command = [sys.executable, "-W", "error", "-c", textwrap.dedent(DAMAGED)]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    first = compile_once()
    assert first.returncode == 0, first.stderr
    files = [path for path in tmp_path.rglob("*") if path.is_file() and path.stat().st_size]
    libraries = [path for path in files if path.suffix == ".so"]
    assert libraries
    for path in libraries:
        content = path.read_bytes()
        path.write_bytes(content[:4096] + bytes(4096) + content[8192:])
    second = compile_once()
    assert second.returncode == 0, second.stderr
    for path in set(files) - set(libraries):
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    third = compile_once()
    assert third.returncode == 0, third.stderr
