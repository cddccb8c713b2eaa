"""Building, packing, importing: what does not fit is refused, and the first line says what to do. Nothing is compiled
here."""

import importlib
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

import torch_lif
from torch_lif import _C

ROOT = Path(__file__).parent.parent
BUILT = _C.build_info()["torch"]
MAJOR, MINOR = (int(number) for number in BUILT.split(".")[:2])


def python(script, *arguments, cwd=None, **environment):
    command = [sys.executable, "-c", script, *map(str, arguments)]
    return subprocess.run(
        command, cwd=cwd, capture_output=True, text=True, check=False, env={**os.environ, **environment}
    )


def setup(before, *arguments, **environment):
    """setup.py with these arguments, after the line `before`."""
    pytest.importorskip("setuptools", minversion="77")
    script = f"import runpy, sys; sys.argv[0] = 'setup.py'; {before}; runpy.run_path('setup.py', run_name='__main__')"
    return python(script, *arguments, cwd=ROOT, **environment)


def pytorch(version):
    """A line that puts another PyTorch in place, of which no more is asked than its version."""
    return f"import sys, types; sys.modules['torch'] = types.SimpleNamespace(__version__='{version}')"


def test_only_the_pytorch_built_against_is_accepted():
    """Patch releases and builds of the same version are that one."""
    script = """
import sys, torch
for torch.__version__ in sys.argv[1:]:
    try:
        import torch_lif
        print("imported")
    except ImportError as error:
        print(error)
"""
    others = [f"{MAJOR}.{MINOR + 1}.0", f"{MAJOR}.{MINOR}0.0", f"{MAJOR + 1}.{MINOR}.0a0+git1a2b3c"]
    done = python(script, *others, f"{MAJOR}.{MINOR}.99+cu999")
    lines = done.stdout.splitlines()
    assert len(lines) == 4, done.stderr
    for version, line in zip(others, lines[:3], strict=True):
        assert line.startswith(
            f"torch_lif was built against PyTorch {BUILT}, and {version} is installed: run pip install"
        )
        assert "--no-build-isolation --no-deps --force-reinstall" in line
    assert lines[3] == "imported"


@pytest.mark.parametrize(
    ("library", "message"),
    [
        (None, r"torch_lif has not been compiled here: run pip install --no-build-isolation"),
        (
            b"of another PyTorch",
            r"cannot be loaded: .* the PyTorch that is installed, which is 2\.99\.0: .* --no-deps --force-reinstall",
        ),
    ],
)
def test_package_without_a_library_that_loads(tmp_path, library, message):
    package = tmp_path / "torch_lif"
    package.mkdir()
    shutil.copy(torch_lif.__file__, package)
    if library is not None:
        (package / f"_C{sysconfig.get_config_var('EXT_SUFFIX')}").write_bytes(library)
    done = python(f"{pytorch('2.99.0')}; import torch_lif", cwd=tmp_path, PYTHONPATH=str(tmp_path))
    assert re.search(rf"^ImportError: .*{message}", done.stderr, re.MULTILINE), done.stderr


@pytest.mark.parametrize(
    ("before", "message"),
    [
        ("sys.modules['torch'] = None", r".* install PyTorch 2\.11 or later, run pip .* --no-build-isolation"),
        (pytorch("2.9.1+cpu"), r"PyTorch 2\.9\.1\+cpu is installed, expected 2\.11 or later"),
        (
            "import setuptools; setuptools.__version__ = '76.1.0'",
            'setuptools is 76.1.0, expected 77 .* pip install "setuptools>=77"',
        ),
    ],
    ids=["no-pytorch", "old-pytorch", "old-setuptools"],
)
@pytest.mark.parametrize("command", ["dist_info", "bdist_wheel"])  # pip's first step of a build, and its last
def test_build_without_what_it_needs(tmp_path, before, message, command):
    # No compiler either: should the check under test be missing, the build still ends at once.
    done = setup(
        before, command, "--output-dir" if command == "dist_info" else "--dist-dir", tmp_path, CC="/no/such/cc"
    )
    assert done.returncode == 1
    assert re.match(message, done.stderr), done.stderr
    assert not list(tmp_path.iterdir())


@pytest.fixture
def extension(monkeypatch):
    """csrc/extension.py as setup.py imports it."""
    pytest.importorskip("setuptools")
    monkeypatch.setenv("TORCH_LIF_CUDA", "0")
    monkeypatch.syspath_prepend(ROOT / "csrc")
    return importlib.import_module("extension")


@pytest.mark.skipif(os.name != "posix", reason="the compiler that fails is a shell script")
@pytest.mark.parametrize(
    ("variable", "fails", "message"),
    [
        ("CC", "*", r"<math\.h>: install a C compiler .* or name yours by CC"),
        ("CXX", "*", r"<vector>: install a C\+\+ compiler .* or name yours by CXX"),
        ("CXX", "*-fopenmp*", r"<omp\.h>: install OpenMP's header .*libomp-dev"),
        ("CXX", "*-I*", r"<Python\.h>: install Python's headers .*python3-dev"),
    ],
    ids=["C", "C++", "OpenMP", "Python"],
)
def test_compiler_that_lacks_a_header(extension, tmp_path, monkeypatch, variable, fails, message):
    if "-fopenmp" in fails and sys.platform == "darwin":
        pytest.skip("built without OpenMP there")
    compiler = tmp_path / "compiler"
    compiler.write_text(f'#!/bin/sh\ncase "$*" in {fails}) echo "file not found" >&2; exit 1;; esac\nexec c++ "$@"\n')
    compiler.chmod(0o755)
    extension.check_compilers()
    monkeypatch.setenv(variable, str(compiler))
    with pytest.raises(
        SystemExit, match=rf"^{compiler}.* cannot compile a file that includes {message}.*\nfile not found"
    ):
        extension.check_compilers()


@pytest.mark.parametrize("variable", ["CFLAGS", "CPPFLAGS"])
def test_compiler_is_asked_with_the_flags_of_the_build(extension, monkeypatch, variable):
    """A header may be found by these alone."""
    monkeypatch.setenv(variable, "-include no_such.h")
    with pytest.raises(SystemExit, match=r"-include no_such\.h cannot compile a file that includes <vector>"):
        extension.check_compilers()


def test_build_without_a_compiler_ends_before_anything_is_compiled(tmp_path):
    build = ("--build-temp", tmp_path / "temp", "--build-lib", tmp_path / "lib")
    done = setup("0", "--quiet", "build_ext", *build, TORCH_LIF_CUDA="0", CC="/no/such/cc -m64")
    assert done.returncode == 1
    assert re.search(r"^/no/such/cc -m64 cannot compile .*: install a C compiler", done.stderr, re.MULTILINE), (
        done.stderr
    )
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())


def test_sdist_can_test_itself_and_needs_no_pytorch(tmp_path):
    done = setup("sys.modules['torch'] = None", "--quiet", "egg_info", "--egg-base", tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Deprecat" not in done.stderr
    packed = set((tmp_path / "torch_lif.egg-info" / "SOURCES.txt").read_text().split("\n"))
    expected = {"LICENSE", "Makefile", "README.md", "CONTRIBUTING.md", "pyproject.toml", "setup.py"}
    for folder in ("benchmarks", "csrc", "docs", "examples", "tests", "torch_lif"):
        files = {path.relative_to(ROOT) for path in (ROOT / folder).rglob("*") if path.is_file()}
        expected |= {str(path) for path in files if path.suffix != ".so" and "__pycache__" not in path.parts}
    assert expected - packed == set()
    assert not [name for name in packed if name.endswith((".so", ".pyc", ".o"))]


def test_sdist_and_a_build_do_not_mix(tmp_path):
    """Without this a wheel made beside an sdist would hold no compiled part."""
    folders = ("--build-temp", tmp_path, "--build-lib", tmp_path)
    done = setup("0", "--quiet", "egg_info", "--egg-base", tmp_path, "build_ext", *folders)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("egg_info and sdist are for a call of their own")
