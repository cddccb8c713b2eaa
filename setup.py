"""Builds and packs torch_lif; pyproject.toml says what it is, csrc/extension.py how its compiled part is built.

PyTorch is not among pyproject.toml's build requirements, because build isolation would fetch another PyTorch than yours
and build against it.

Environment: TORCH_LIF_CUDA=0 leaves CUDA out, =1 insists on it; if it is not set, CUDA is built where nvcc and a CUDA
build of PyTorch are found. TORCH_CUDA_ARCH_LIST names the GPU architectures ("9.0;8.0+PTX"). TORCH_LIF_SANITIZE=address
builds the CPU half with that sanitizer (make fuzz-asan). CC, CXX and MAX_JOBS as usual.
"""

import sys
from pathlib import Path

import setuptools
from setuptools.command.build_ext import build_ext

sys.path.insert(0, str(Path(__file__).resolve().parent / "csrc"))


class NoBuild(build_ext):
    """Refuses to build in one call with a command that needs no PyTorch: a wheel made by that call would lack the
    compiled part."""

    def run(self) -> None:
        raise SystemExit("egg_info and sdist are for a call of their own: run what builds in another")


if int(setuptools.__version__.split(".")[0]) < 77:
    raise SystemExit(
        f'setuptools is {setuptools.__version__}, expected 77 or later: run pip install "setuptools>=77" ninja'
    )
if {"egg_info", "sdist"} & set(sys.argv[1:]):  # they only list and pack files, without PyTorch
    setuptools.setup(ext_modules=[setuptools.Extension("torch_lif._C", [])], cmdclass={"build_ext": NoBuild})
else:
    from extension import BuildExtension, extension

    setuptools.setup(ext_modules=[extension], cmdclass={"build_ext": BuildExtension})
