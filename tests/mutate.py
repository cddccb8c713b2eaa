"""Mutation check: breaks the C sources in one place, builds them, and runs the tests, which have to notice.

    python tests/mutate.py                    # every mutation, two side by side
    python tests/mutate.py --only 3 17        # some of them
    python tests/mutate.py --list

Each mutant is a copy of the project in build/mutants. Its op layer is linked from the objects of the ordinary build
(make build), unless that is what was changed. Its kernels are built for the baseline instruction set alone, quickly, so
that a mutant takes about half a minute. A mutant that survives is a hole in the tests: the script names it and ends
with 1.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
OUT = ROOT / "build" / "mutants"
sys.path.insert(0, str(ROOT / "csrc"))
import compile as kernels  # noqa: E402

SUFFIX = sysconfig.get_config_var("EXT_SUFFIX")
FIRST = (
    "exact",
    "gradients",
    "memory",
    "surrogates",
    "errors",
    "layouts",
    "common_case",
    "corners",
    "streaming",
    "core",
    "pytorch",
)
"""What notices most comes first; then the rest of the suite."""


class Mutation(NamedTuple):
    """In `file`, below csrc, `old` is found once and becomes `new`."""

    file: str
    old: str
    new: str


M = Mutation
MUTATIONS = [
    M("neuron/lif.h", "step_masked(", "step_masked("),  # nothing changed: this one has to survive
    # A dropped term, a sign, an order of rounding, a wrong constant: the neurons.
    M(
        "neuron/lif.h",
        "((s->i[k] + in->x[k]) + in->rec[k]) * p->decay_syn[k];\n    total",
        "(s->i[k] + in->x[k]) * p->decay_syn[k];\n    total",
    ),
    M(
        "neuron/lif.h",
        "((s->v * p->decay_mem + total) + in->noise) + p->bias",
        "(s->v * p->decay_mem + total) + (in->noise + p->bias)",
    ),
    M("neuron/lif.h", "g_out - g_next_v * p->threshold", "g_out + g_next_v * p->threshold"),
    M("neuron/lif.h", "(g_next->i[k] + a.v) * p->decay_syn[k];", "a.v * p->decay_syn[k];"),
    M("neuron/lif.h", "g->v = a.v * p->decay_mem;", "g->v = a.v;"),
    M("neuron/lif.h", "g_in->noise = a.v;", "g_in->noise = a.fired;"),
    M("neuron/alif.h", "OPTION(o, norm_input) == 2, input.drive", "OPTION(o, norm_input) == 1, input.drive"),
    M("neuron/alif.h", "f.spikes != REAL(0) ? REAL(0) : adapted", "f.spikes == REAL(0) ? REAL(0) : adapted"),
    M("neuron/alif.h", "g_p->adapt_scale += g_threshold", "g_p->adapt_scale -= g_threshold"),
    M("neuron/alif.h", "g_adapted * p->decay_adapt + g_threshold * p->adapt_scale", "g_adapted * p->decay_adapt"),
    M("neuron/alif.h", "g_direct - g_reset * f.subtracted", "g_direct - g_reset * c->threshold"),
    M("neuron/alif.h", "c.threshold = p->threshold + p->adapt_scale", "c.threshold = p->threshold - p->adapt_scale"),
    M("neuron/alif.h", "g_in->noise = g_charged;", "g_in->noise = g_current;"),
    M("neuron/euler_lif.h", "REAL(1) - c->mute;", "REAL(1);"),
    M("neuron/euler_lif.h", "g_after * (p->reset_value - c->v)", "g_after * (c->v - p->reset_value)"),
    M("neuron/euler_lif.h", "g_p->rate_syn -= g_i", "g_p->rate_syn += g_i"),
    M("neuron/euler_lif.h", "rest < REAL(0) ? REAL(0) : rest", "rest"),
    M("neuron/euler_lif.h", "(REAL(1) - c.mute) * spikes", "spikes"),
    M("neuron/euler_lif.h", "g_p->bias += g_v;", "g_p->bias += g_pull;"),
    M("neuron/euler.h", "i * (REAL(1) - rate), s.drive", "i - i * rate, s.drive"),
    M("neuron/euler.h", "*g_x = choose(form == SYNAPSE_INPUT_FIRST, g_i, g_next)", "*g_x = g_i"),
    M("neuron/li.h", "g_p->leak += g_pull;", "g_p->leak += g_v;"),
    M("neuron/li.h", "g->v = g_v - g_pull;", "g->v = g_v;"),
    # Spikes, surrogates, arithmetic.
    M("neuron/spike.h", "if (o->few)\n    return v >= threshold", "if (o->few)\n    return v > threshold"),
    M("neuron/spike.h", "return v > threshold ? REAL(1) : REAL(0);", "return v >= threshold ? REAL(1) : REAL(0);"),
    M(
        "neuron/spike.h",
        "return v - threshold >= REAL(0) ? REAL(1) : REAL(0);",
        "return v - threshold > REAL(0) ? REAL(1) : REAL(0);",
    ),
    M(
        "neuron/spike.h",
        "if (o->few) return v >= threshold ? v - threshold",
        "if (o->few) return v >= threshold ? v - REAL(2) * threshold",
    ),
    M("neuron/spike.h", "real_trunc(v / threshold)", "real_floor(v / threshold + REAL(0.5))"),
    M(
        "neuron/surrogate.h",
        "const real open = at.v >= at.threshold - p[0]",
        "const real open = at.v >= at.threshold + p[0]",
    ),
    M("neuron/surrogate.h", "return v >= threshold - o->surrogate_params[0];", "return v >= threshold;"),
    M("neuron/surrogate.h", "REAL(0.39894228040143268)", "REAL(0.39)"),
    M(
        "neuron/surrogate.h",
        "p[4] * ((REAL(1) + p[2]) * normal_density(x, p[0], per[1]) - p[2] * sides)",
        "p[4] * ((REAL(1) + p[2]) * normal_density(x, p[0], per[1]) + p[2] * sides)",
    ),
    M("neuron/surrogate.h", "count > last ? last : count", "count"),
    M(
        "neuron/surrogate.h",
        "REAL(1.5707963267948966) * p[0] * (at.v - at.threshold)",
        "REAL(1.57) * p[0] * (at.v - at.threshold)",
    ),
    M(
        "neuron/surrogate.h",
        "real_abs(p[0] * ((at.v - at.threshold) + p[1]))",
        "real_abs(p[0] * ((at.v - at.threshold) - p[1]))",
    ),
    M("neuron/real.h", "4.16683887295690602e-2f", "4.17683887295690602e-2f"),
    M("neuron/real.h", "4.16666666665300511e-2", "4.16666667665300511e-2"),
    # How time and memory are walked on the CPU.
    M("cpu/loop.c", "a->checkpoints, t / a->kept.steps,", "a->checkpoints, (t + 1) / a->kept.steps,"),
    M(
        "cpu/loop.c",
        "row_offset(&tile->a->mask, t / LIF_MASK_STEPS,",
        "row_offset(&tile->a->mask, (t + 1) / LIF_MASK_STEPS,",
    ),
    M("cpu/row.h", "*number_at(g, j) += from[n];", "*number_at(g, j) = from[n];"),
    M("cpu/loop.c", "(const real *)rec->bias, sums);", "NULL, sums);"),
    M("cpu/loop.c", "r->out.at[n] + tile->spikes[n]", "r->out.at[n]"),
    M("cpu/loop.c", "tile.b = a->T < SHORT_SEQUENCE ? task % a->B : task / tiles;", "tile.b = task % a->B;"),
    M(
        "cpu/storage.h",
        "scatter_row(&q->x, to, q->storage, first, end, q->width,",
        "scatter_row(&q->x, to, q->storage, first, end, 1,",
    ),
    M("neuron/lif.h", "s->v >= p->threshold || s->v == -INFINITY", "s->v >= p->threshold"),
    M("cpu/row.h", "(r->mask[n] & earlier) | word << r->bit", "(r->mask[n] & earlier) | word"),
    M("cpu/recurrence.h", "factors[n] != REAL(0) || (unbounded && unbounded[n])", "factors[n] != REAL(0)"),
    M(
        "cpu/recurrence.h",
        "(((sum[k] + factor[0] * a[k]) + factor[1] * b[k]) + factor[2] * c[k])",
        "(((sum[k] + factor[0] * a[k]) + factor[1] * c[k]) + factor[2] * b[k])",
    ),
    M("cpu/reduce.c", "(first + k) % W * w_stride", "(first + k) % W"),
    M("cpu/storage.h", "(bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16", "(bits + 0x8000u) >> 16"),
    M("cpu/storage.h", "return t * x->t + b * x->b + n * x->n;", "return t * x->t + b * x->b + n * (x->n ? x->n : 1);"),
    # The op layer.
    M("ops/launch.cpp", "field.s = t.size(1) == 1 ? 0 : t.stride(1);", "field.s = t.stride(1);"),
    M("ops/launch.cpp", "else if (stride != inner_extent)", "else if (stride < inner_extent)"),
    M("ops/launch.cpp", "else if (backward)\n    step_backward();", "else if (!backward)\n    step_backward();"),
    M("ops/check.cpp", "fits = sizes[d] == full[d] || sizes[d] == 1;", "fits = sizes[d] <= full[d];"),
    M(
        "ops/kernels.cpp",
        'if (param_gradients) return "a parameter requires a gradient";\n  const lif_surrogate',
        "const lif_surrogate",
    ),
    M("ops/kernels.cpp", "recurrence.in = kept.recurrent_input;", "recurrence.in = empty_recurrent(x, sizes);"),
    M("ops/registry.cpp", "return lif_width(neuron.states[f].kind, (int)synapses) > 0;", "return true;"),
    M(
        "ops/autograd.cpp",
        "if (needs[slot]) result[count] = computed.at(next++);",
        "if (needs[slot]) result[count] = computed.at(0);",
    ),
]
ONLY_CUDA = {"else if (backward)\n    step_backward();"}


def commands_of_the_op_layer() -> dict[str, list[str]]:
    """How make build compiled each source of csrc/ops, from ninja's file."""
    (build,) = ROOT.glob(f"build/temp.*-{sys.implementation.cache_tag.replace('cpython-', 'cpython-')}/build.ninja")
    text = build.read_text()
    variables = dict(re.findall(r"^(\w+) = (.*)$", text, re.MULTILINE))
    command = re.search(r"rule compile\n\s+command = (.*)", text)
    assert command, "build.ninja has no rule compile"
    line = command[1].replace("-MMD -MF $out.d ", "").replace("$cxx", variables["cxx"])
    line = line.replace("$cflags", variables["cflags"]).replace("$post_cflags", variables["post_cflags"])
    return {
        source.stem: shlex.split(line.replace("$in", str(source)).replace("$out", "{out}"))
        for source in (ROOT / "csrc" / "ops").glob("*.cpp")
    }


def build(number: int, mutation: Mutation, here: Path) -> str:
    """Makes the mutant in `here`; what is wrong with it, or nothing."""
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    for name in tracked:
        if (ROOT / name).exists():
            (here / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, here / name)
    source = here / "csrc" / mutation.file
    text = source.read_text()
    if mutation.old != mutation.new and text.count(mutation.old) != 1:
        return f"{mutation.old!r} is found {text.count(mutation.old)} times in {mutation.file}"
    source.write_text(text.replace(mutation.old, mutation.new))

    base = OUT / "kernels"
    changed = mutation.file.partition("/")[0]
    neuron = Path(mutation.file).stem if changed == "neuron" else ""
    objects = []
    for command, target in kernels.cpu_jobs(base, ["-O1"], only_baseline=True):
        mine = changed == "cpu" or (
            changed == "neuron" and (neuron not in kernels.neurons() or f"NEURON={neuron}" in " ".join(command))
        )
        if mine:
            command = [part.replace(str(ROOT / "csrc"), str(here / "csrc")) for part in command]
            target = here / target.name
            command[command.index("-o") + 1] = str(target)
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                return done.stderr[-500:]
        objects.append(str(target))
    for name, command in commands_of_the_op_layer().items():
        target = next(ROOT.glob(f"build/temp.*/csrc/ops/{name}.o"))
        if changed == "ops" and name == Path(mutation.file).stem:
            target = here / f"{name}.o"
            command = [
                part.replace("{out}", str(target)).replace(str(ROOT / "csrc"), str(here / "csrc")) for part in command
            ]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                return done.stderr[-500:]
        objects.append(str(target))
    import torch

    libraries = Path(torch.__file__).parent / "lib"
    link = ["c++", "-shared", "-fopenmp", *objects, "-o", str(here / "torch_lif" / f"_C{SUFFIX}"), f"-L{libraries}"]
    link += [f"-Wl,-rpath,{libraries}", *(f"-l{name}" for name in ("c10", "torch", "torch_cpu", "torch_python"))]
    done = subprocess.run(link, capture_output=True, text=True)
    return done.stderr[-500:] if done.returncode else ""


def run(job: tuple[int, Mutation]) -> tuple[int, Mutation, str, float]:
    number, mutation = job
    start = time.monotonic()
    here = OUT / str(number)
    shutil.rmtree(here, ignore_errors=True)
    wrong = build(number, mutation, here)
    if wrong:
        return number, mutation, f"NOT BUILT: {wrong}", time.monotonic() - start
    named = [f"tests/test_{name}.py" for name in FIRST]
    rest = sorted(str(path.relative_to(here)) for path in (here / "tests").glob("test_*.py"))
    files = [
        *named,
        *(name for name in rest if name not in named and "benchmarks" not in name and "packaging" not in name),
    ]
    environment = os.environ | {"PYTHONPATH": str(here), "OMP_NUM_THREADS": "1", "TORCH_LIF_ISA": "baseline"}
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *files]
    done = subprocess.run(command, cwd=here, capture_output=True, text=True, env=environment)
    failed = re.search(r"^(?:FAILED|ERROR) (.*)$", done.stdout, re.MULTILINE)
    if done.returncode < 0 or "Fatal Python error" in done.stderr:
        verdict = f"killed: a crash ({done.returncode})"
    elif done.returncode == 1 and failed:
        verdict = f"killed: {failed[1][:110]}"
    elif done.returncode:
        verdict = f"NOT RUN: {(done.stdout + done.stderr)[-500:]}"
    else:
        verdict = "SURVIVED"
    shutil.rmtree(here, ignore_errors=True)
    return number, mutation, verdict, time.monotonic() - start


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", type=int, nargs="+", help="numbers of mutations; default: all")
    parser.add_argument(
        "--workers", type=int, default=os.cpu_count() or 1, help="mutants side by side; default: all cores"
    )
    parser.add_argument("--list", action="store_true", help="print the mutations, and stop")
    args = parser.parse_args()
    jobs = [(k, m) for k, m in enumerate(MUTATIONS) if (not args.only or k in args.only) and m.old not in ONLY_CUDA]
    if args.list:
        for k, m in jobs:
            print(f"{k:3} {m.file}: {m.old!r} -> {m.new!r}")
        return 0
    kernels.compile_all(kernels.cpu_jobs(OUT / "kernels", ["-O1"], only_baseline=True))
    survived = 0
    with ThreadPoolExecutor(args.workers) as pool:
        for number, mutation, verdict, seconds in pool.map(run, jobs):
            survived += verdict.startswith("killed") == (number == 0)
            print(f"{number:3} {seconds:5.0f} s  {mutation.file}: {mutation.new!r}\n      {verdict}", flush=True)
    print(f"{len(jobs)} mutants, {survived} survived")
    return bool(survived)


if __name__ == "__main__":
    sys.exit(main())
