"""Builds torch_lif._C: the kernels' objects (csrc/compile.py) linked with the op layer (csrc/ops).

Environment: TORCH_LIF_CUDA=0 leaves CUDA out, =1 insists on it; unset, it is built where nvcc and a CUDA build of PyTorch are
found. TORCH_CUDA_ARCH_LIST names the GPU architectures ("9.0;8.0+PTX"). CC, CXX and MAX_JOBS as usual.
"""

import os
import subprocess
import sys
from pathlib import Path

import torch
from setuptools import setup
from torch.utils import cpp_extension

ROOT = Path(__file__).resolve().parent
sys.path.insert(0, str(ROOT / "csrc"))
import compile as kernels  # noqa: E402


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
        out = Path(self.build_temp).resolve() / "kernels"
        jobs = kernels.cpu_jobs(out, [])
        if CUDA:
            nvcc = str(Path(cpp_extension.CUDA_HOME) / "bin" / "nvcc")
            jobs += kernels.cuda_jobs(out, nvcc, ARCHITECTURES)
        try:
            self.extensions[0].extra_objects += kernels.compile_all(jobs)
        except subprocess.CalledProcessError as error:
            raise SystemExit(f"compiling a kernel failed with exit status {error.returncode}; its messages stand above") from error
        super().build_extensions()


CUDA = wants_cuda()
ARCHITECTURES = architectures() if CUDA else []
# at::parallel_for is silently serial in an extension built without OpenMP; Apple's clang has none to offer.
OPENMP = [] if sys.platform == "darwin" else ["-fopenmp"]
macros: list[tuple[str, str | None]] = []
if CUDA:
    macros = [
        ("LIF_CUDA", None),
        ("LIF_CUDA_VERSION", f'"{torch.version.cuda}"'),
        ("LIF_CUDA_ARCHITECTURES", f'"{";".join(ARCHITECTURES)}"'),
    ]

extension = (cpp_extension.CUDAExtension if CUDA else cpp_extension.CppExtension)(
    name="torch_lif._C",
    sources=[
        f"csrc/ops/{name}.cpp" for name in ("autograd", "call", "check", "kernels", "launch", "module", "recurrence", "schemas")
    ],
    depends=[str(path.relative_to(ROOT)) for path in ROOT.glob("csrc/**/*.h")],
    define_macros=macros,
    # No debug information: it would make up most of the library and of the compile time.
    extra_compile_args={"cxx": ["-O2", "-g0", "-Wall", *OPENMP], "nvcc": []},
    extra_link_args=OPENMP,
)

setup(ext_modules=[extension], cmdclass={"build_ext": BuildExtension})
