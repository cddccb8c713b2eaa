"""The plain C cores alone, under the address and undefined-behaviour sanitizers, and the half types they store."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import torch_lif as lif

ROOT = Path(__file__).parent.parent
MANY = "9"  # LIF_MANY: members that refer to numbers elsewhere
sys.path.insert(0, str(ROOT / "csrc"))
import compile as kernels  # noqa: E402

# Lines alone, and no watch over the scope of the many small variables of inlined functions: either takes GCC minutes a
# file.
SANITIZE = ["-O1", "-g1", "-fsanitize=address,undefined", "-fno-sanitize-address-use-after-scope"]
SANITIZE += ["-fno-sanitize-recover=all", "-fno-omit-frame-pointer"]


def test_c_program_under_sanitizers():
    """tests/c/test_core.c needs no PyTorch: it links the kernels' objects alone."""
    out = ROOT / "build" / "sanitize"
    program = out / "test_core"
    cc = shlex.split(os.environ.get("CC", "cc"))
    objects = kernels.compile_all(kernels.cpu_jobs(out, SANITIZE, only_baseline=True))
    link = [
        *cc,
        "-std=c11",
        "-Wall",
        "-Wextra",
        *SANITIZE,
        f"-I{ROOT / 'csrc'}",
        str(ROOT / "tests/c/test_core.c"),
        *objects,
        "-lm",
        "-o",
        str(program),
    ]
    subprocess.run(link, check=True)
    done = subprocess.run(
        [str(program)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "ASAN_OPTIONS": "detect_leaks=1"},
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    passed = int(done.stdout.split()[-4])
    assert passed > 1000, done.stdout
    print(done.stdout)


@pytest.mark.parametrize(("neuron", "synapses"), [loop for loop in kernels.loops() if loop[1] != MANY])
@pytest.mark.parametrize("precision", [32, 64])
def test_step_backward_needs_no_more_than_what_was_kept(neuron, synapses, precision, tmp_path):
    """tests/c/test_kept.c: without gradients of parameters, the CUDA kernels have neither the state nor x at hand."""
    program = tmp_path / "test_kept"
    flags = ["-std=c11", "-O1", "-Wall", "-Wextra", *kernels.EXACT_C, f"-DNEURON={neuron}"]
    flags += [f"-DLIF_SYNAPSES={synapses}", f"-DLIF_REAL={precision}"]
    source = ROOT / "tests/c/test_kept.c"
    cc = shlex.split(os.environ.get("CC", "cc"))
    subprocess.run([*cc, *flags, f"-I{ROOT / 'csrc/neuron'}", str(source), "-lm", "-o", str(program)], check=True)
    done = subprocess.run([str(program)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_every_half_number_is_read_and_written(dtype, target):
    """All 65536 of them through an integrator that passes its input on."""
    x = torch.arange(-(2**15), 2**15, dtype=torch.int16).view(dtype).to(target)
    out = lif.functional.li(x.reshape(1, 1, -1), rate_mem=1.0, rate_syn=0.0, synapse_update="input_first").v.flatten()
    assert torch.equal(out.isnan(), x.isnan())
    assert torch.equal(out[~x.isnan()], x[~x.isnan()])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_rounding_to_half_is_pytorch_s(dtype, target):
    """Sums of two half numbers, rounded once: ties, overflow and denormals as PyTorch rounds them."""
    bits = torch.randint(-(2**15), 2**15, (2, 1, 10**6), generator=torch.Generator().manual_seed(0)).to(torch.int16)
    bits[1, 0, ::2] = bits[0, 0, ::2] + torch.randint(
        -2000, 2000, bits[1, 0, ::2].shape, generator=torch.Generator().manual_seed(1)
    )
    x = bits.view(dtype).to(target)
    # v = 0 + 1 * ((0 - v) + i), and i is the sum of the inputs: after two steps (x0 + x1) in float32
    one = torch.tensor(1.0, device=target)
    out = lif.functional.li(x.transpose(0, 1), rate_mem=one, rate_syn=0.0, synapse_update="input_first").v
    j = x[0].float() + x[1].float()
    v = x[0].float() + (-x[0].float() + j)
    expected = v.to(dtype)
    same = (out[0, 1] == expected[0]) | (out[0, 1].isnan() & expected[0].isnan())
    assert bool(same.all()), f"{int((~same).sum())} differ"
