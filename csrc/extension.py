"""The extension torch_lif._C: the kernels' objects (compile.py) linked with the op layer (ops), against the PyTorch
installed here.

If something is missing (PyTorch, a compiler, a header), one line says so before anything is compiled.
"""

import os
import shlex
import subprocess
import sys
import sysconfig
from pathlib import Path

import compile as kernels

try:
    import torch
except ImportError as error:
    raise SystemExit(
        f"torch_lif is built against the PyTorch it will run with, and sees none here ({error}): install PyTorch "
        "2.11 or later, "
        'run pip install "setuptools>=77" ninja, then pip install --no-build-isolation <the source folder>; '
        "build isolation hides the PyTorch that you have"
    ) from None
if tuple(int(number) for number in torch.__version__.split(".")[:2]) < (2, 11):
    raise SystemExit(f"PyTorch {torch.__version__} is installed, expected 2.11 or later: install one, then try again")

from torch.utils import cpp_extension

ROOT = Path(__file__).resolve().parent.parent


def must_compile(command: list[str], language: str, header: str, advice: str) -> None:
    """Ends the build with `advice` unless the compiler exists and finds `header`."""
    try:
        done = subprocess.run(
            [*command, "-x", language, "-fsyntax-only", "-"],
            input=f"#include <{header}>\n",
            capture_output=True,
            text=True,
        )
        messages = done.stderr if done.returncode else ""
    except OSError as error:
        messages = str(error)
    if messages:
        raise SystemExit(f"{shlex.join(command)} cannot compile a file that includes <{header}>: {advice}\n{messages}")


def check_compilers() -> None:
    # PyTorch's build of C++ uses these two of the variables that hold flags.
    flags = shlex.split(os.environ.get("CFLAGS", "") + " " + os.environ.get("CPPFLAGS", ""))
    cxx = [*shlex.split(cpp_extension.get_cxx_compiler()), *flags]
    must_compile(
        kernels.c_compiler(), "c", "math.h", "install a C compiler (Debian: apt-get install gcc), or name yours by CC"
    )
    must_compile(cxx, "c++", "vector", "install a C++ compiler (Debian: apt-get install g++), or name yours by CXX")
    if OPENMP:
        advice = "install OpenMP's header (Debian, for clang: apt-get install libomp-dev), or take g++ (CXX=g++)"
        must_compile([*cxx, *OPENMP], "c++", "omp.h", advice)
    headers = f"-I{sysconfig.get_path('include')}"
    must_compile([*cxx, headers], "c++", "Python.h", "install Python's headers (Debian: apt-get install python3-dev)")


def wants_cuda() -> bool:
    choice = os.environ.get("TORCH_LIF_CUDA", "")
    if choice not in ("", "0", "1"):
        raise SystemExit(f"TORCH_LIF_CUDA is {choice!r}, expected 0, 1 or nothing")
    missing = []
    if torch.version.cuda is None:
        missing.append(f"PyTorch {torch.__version__} is a build without CUDA")
    if cpp_extension.CUDA_HOME is None:
        missing.append("nvcc was not found (set CUDA_HOME)")
    if choice == "1" and missing:
        raise SystemExit("TORCH_LIF_CUDA=1, but " + " and ".join(missing))
    return choice != "0" and not missing


def architectures() -> list[str]:
    listed = os.environ.get("TORCH_CUDA_ARCH_LIST", "").replace(" ", ";")
    if listed:
        return [name for name in listed.split(";") if name]
    if torch.cuda.is_available():
        found = {torch.cuda.get_device_capability(k) for k in range(torch.cuda.device_count())}
        return [f"{major}.{minor}" for major, minor in sorted(found)]
    built = sorted(name.removeprefix("sm_") for name in torch.cuda.get_arch_list() if name.startswith("sm_"))
    names = [f"{name[:-1]}.{name[-1]}" for name in built if name.isdigit()]
    if not names:
        raise SystemExit("no GPU here and PyTorch names no architecture: set TORCH_CUDA_ARCH_LIST, for example to 9.0")
    return [*names[:-1], names[-1] + "+PTX"]


class BuildExtension(cpp_extension.BuildExtension):
    def build_extensions(self) -> None:
        check_compilers()
        # Otherwise only the sources' times would count, and a library from an earlier build would pass as new under
        # another PyTorch.
        self.force = True
        out = Path(self.build_temp).resolve() / "kernels"
        jobs = kernels.cpu_jobs(out, SANITIZE)
        if CUDA:
            nvcc = str(Path(cpp_extension.CUDA_HOME) / "bin" / "nvcc")
            jobs += kernels.cuda_jobs(out, nvcc, ARCHITECTURES)
        try:
            self.extensions[0].extra_objects += kernels.compile_all(jobs)
        except subprocess.CalledProcessError as error:
            raise SystemExit(
                f"compiling a kernel failed with exit status {error.returncode}; its messages stand above"
            ) from error
        super().build_extensions()


CUDA = wants_cuda()
ARCHITECTURES = architectures() if CUDA else []
# at::parallel_for is silently serial in an extension built without OpenMP; Apple's clang has none to offer.
OPENMP = [] if sys.platform == "darwin" else ["-fopenmp"]
# -Og comes after the other flags: instrumented loops take five times as long to compile with -O3.
SANITIZE = [flag for name in os.environ.get("TORCH_LIF_SANITIZE", "").split() for flag in (f"-fsanitize={name}", "-Og")]
# The first macro is for ninja: it compiles again for another PyTorch, even if that PyTorch's headers are older than the
# objects.
macros: list[tuple[str, str | None]] = [("LIF_PYTORCH", f'"{torch.__version__}"')]
if CUDA:
    macros += [
        ("LIF_CUDA", None),
        ("LIF_CUDA_VERSION", f'"{torch.version.cuda}"'),
        ("LIF_CUDA_ARCHITECTURES", f'"{";".join(ARCHITECTURES)}"'),
    ]

extension = (cpp_extension.CUDAExtension if CUDA else cpp_extension.CppExtension)(
    name="torch_lif._C",
    sources=[
        f"csrc/ops/{name}.cpp"
        for name in ("autograd", "call", "check", "kernels", "launch", "module", "recurrence", "registry", "schemas")
    ],
    depends=[str(path.relative_to(ROOT)) for path in ROOT.glob("csrc/**/*.h")],
    define_macros=macros,
    # No debug information: it would make up most of the library and of the compile time.
    extra_compile_args={"cxx": ["-O2", "-g0", "-Wall", *OPENMP, *SANITIZE], "nvcc": []},
    extra_link_args=[*OPENMP, *SANITIZE],
)
