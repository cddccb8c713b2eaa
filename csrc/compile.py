"""Compiles the kernels: plain C for the CPU, CUDA for the GPU. extension.py links them; `python csrc/compile.py` only
compiles them.

Neither half includes a header of PyTorch. Each neuron's loop is compiled once for every variant: on the CPU for two
precisions and every instruction set (chosen at run time), on CUDA for every storage type.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import shlex
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

CSRC = Path(__file__).resolve().parent

# Rounding decides spikes: every instruction set and the GPU must do exactly the operations that are written, in their
# order. Only errno and traps are given up, because they would keep floor and selects from vectorising. (-mfma is only
# for real_fma.)
EXACT_C = ["-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math"]
EXACT_CUDA = ["--fmad=false", "--prec-div=true", "--ftz=false"]

INSTRUCTION_SETS = {
    "baseline": [],
    "avx2": ["-mavx2", "-mfma"],
    "avx512": ["-mavx512f", "-mavx512dq", "-mavx512bw", "-mavx512vl", "-mfma", "-mprefer-vector-width=512"],
}
STORAGES = {0: 32, 1: 64, 2: 32, 3: 32}  # enum lif_storage: the precision of its computation


def is_x86() -> bool:
    return platform.machine().lower() in ("x86_64", "amd64")


def neurons() -> list[str]:
    """The list of neurons, read from csrc/neuron/neurons.h."""
    return re.findall(r"^\s+NEURON\((\w+)\)", (CSRC / "neuron" / "neurons.h").read_text(), re.MULTILINE)


def loops() -> list[tuple[str, str]]:
    """The neurons and numbers of synapses for which there are loops, read from csrc/neuron/neurons.h."""
    return re.findall(r"^\s+LOOP\((\w+), (\d+)\)", (CSRC / "neuron" / "neurons.h").read_text(), re.MULTILINE)


def c_compiler() -> list[str]:
    return shlex.split(os.environ.get("CC", "cc"))


def cpu_jobs(out: Path, extra: list[str], only_baseline: bool = False) -> list[tuple[list[str], Path]]:
    x86 = is_x86() and not only_baseline
    base = [
        *c_compiler(),
        "-std=c11",
        "-O3",
        "-fPIC",
        "-Wall",
        "-Wextra",
        "-Werror=implicit-function-declaration",
        *EXACT_C,
        f"-I{CSRC / 'neuron'}",
    ]
    base += [f"-DLIF_X86={int(x86)}", *extra]

    def job(source: str, name: str, flags: list[str]) -> tuple[list[str], Path]:
        return [*base, *flags, "-c", str(CSRC / source), "-o", str(out / name)], out / name

    jobs = []
    for neuron, synapses in loops():
        for isa, isa_flags in INSTRUCTION_SETS.items() if x86 else [("baseline", [])]:
            for bits in (32, 64):
                flags = [*isa_flags, f"-DNEURON={neuron}", f"-DLIF_SYNAPSES={synapses}"]
                flags += [f"-DLIF_REAL={bits}", f"-DLIF_ISA={isa}"]
                jobs.append(job("cpu/loop.c", f"loop_{neuron}_{synapses}_{bits}_{isa}.o", flags))
    for neuron in neurons():
        jobs.append(job("neuron/describe.c", f"describe_{neuron}.o", [f"-DNEURON={neuron}"]))
    jobs.append(job("cpu/dispatch.c", "dispatch.o", []))
    jobs.append(job("cpu/reduce.c", "reduce.o", []))
    jobs.append(job("neuron/surrogates.c", "surrogates.o", []))
    return jobs


def cuda_jobs(out: Path, nvcc: str, architectures: list[str]) -> list[tuple[list[str], Path]]:
    """`architectures` as in TORCH_CUDA_ARCH_LIST: "9.0", or "9.0+PTX" to let later GPUs compile it."""
    targets = []
    for architecture in architectures:
        number = architecture.removesuffix("+PTX").replace(".", "")
        targets.append(f"-gencode=arch=compute_{number},code=sm_{number}")
        if architecture.endswith("+PTX"):
            targets.append(f"-gencode=arch=compute_{number},code=compute_{number}")
    base = [nvcc, "-std=c++17", "-O3", *EXACT_CUDA, *targets, "-Xcompiler", "-fPIC", f"-I{CSRC / 'neuron'}"]
    jobs = []
    for neuron, synapses in loops():
        for storage, bits in STORAGES.items():
            target = out / f"cuda_{neuron}_{synapses}_{storage}.o"
            flags = [f"-DNEURON={neuron}", f"-DLIF_SYNAPSES={synapses}"]
            flags += [f"-DLIF_REAL={bits}", f"-DLIF_STORAGE={storage}"]
            jobs.append(([*base, *flags, "-c", str(CSRC / "cuda" / "loop.cu"), "-o", str(target)], target))
    target = out / "cuda_reduce.o"
    jobs.append(([*base, "-c", str(CSRC / "cuda" / "reduce.cu"), "-o", str(target)], target))
    target = out / "cuda_dispatch.o"
    source = str(CSRC / "cuda" / "dispatch.c")
    jobs.append(([*c_compiler(), "-std=c11", "-O2", "-fPIC", "-c", source, "-o", str(target)], target))
    return jobs


def compile_all(jobs: list[tuple[list[str], Path]]) -> list[str]:
    """Runs the jobs whose object is older than any of its sources or whose command has changed; returns the objects."""

    def newest_in(folder: str) -> float:
        return max(path.stat().st_mtime for path in (CSRC / folder).iterdir())

    newest = {folder: max(newest_in("neuron"), newest_in(folder)) for folder in ("neuron", "cpu", "cuda")}

    def run(job: tuple[list[str], Path]) -> None:
        command, target = job
        source = Path(command[command.index("-c") + 1])
        record = target.with_suffix(".cmd")
        text = shlex.join(command)
        done = target.exists() and target.stat().st_mtime > newest[source.parent.name]
        if done and record.exists() and record.read_text() == text:
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        print(text, flush=True)
        subprocess.run(command, check=True)
        record.write_text(text)

    with ThreadPoolExecutor(int(os.environ.get("MAX_JOBS", os.cpu_count() or 1))) as pool:
        list(pool.map(run, jobs))
    return [str(target) for _, target in jobs]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("half", choices=["cpu", "cuda"])
    parser.add_argument("--out", type=Path, default=CSRC.parent / "build" / "kernels")
    parser.add_argument("--nvcc", default="nvcc")
    parser.add_argument(
        "--arch", default="9.0", help="CUDA architectures, separated by semicolons (default: %(default)s)"
    )
    options = parser.parse_args()
    jobs = (
        cpu_jobs(options.out, [])
        if options.half == "cpu"
        else cuda_jobs(options.out, options.nvcc, options.arch.split(";"))
    )
    compile_all(jobs)


if __name__ == "__main__":
    main()
