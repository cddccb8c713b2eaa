#!/usr/bin/env bash
# What CI cannot do: build with CUDA, run the whole suite on the GPU, the kernels under compute-sanitizer, a benchmark.
#   tests/on_gpu.sh [build|suite|sanitize|bench ...]     (default: all; logs in $OUT, default runs/gpu)
set -uo pipefail
cd "$(dirname "$0")/.."
out=${OUT:-runs/gpu}
mkdir -p "$out"
export TORCH=installed TORCH_LIF_CUDA=1 PYTHONUNBUFFERED=1 PYTHONPATH=$PWD
python=${PYTHON:-python3}
failed=0

part() { # part NAME COMMAND...: runs it, keeps its log, says how it went
  local name=$1 start=$SECONDS
  shift
  if "$@" >"$out/$name.log" 2>&1; then status=ok; else status=FAILED; failed=1; fi
  echo "== $name: $status, $((SECONDS - start)) s"
  tail -n "${LINES_SHOWN:-6}" "$out/$name.log"
  [ "$status" = ok ]
}

suite() { # the whole suite, in shards side by side, for most of it waits for launches
  export OMP_NUM_THREADS=${OMP_NUM_THREADS:-2}
  local run=("$python" -m pytest -q --maxfail=20 --durations=5 -p no:cacheprovider) pids=() pid
  part suite-same-bits "${run[@]}" tests/test_gradients.py -k "same_bits or random" & pids+=($!)
  part suite-gradients "${run[@]}" tests/test_gradients.py -k "not (same_bits or random)" & pids+=($!)
  part suite-benchmarks "${run[@]}" tests/test_benchmarks*.py & pids+=($!)
  part suite-fuzz "${run[@]}" tests/test_fuzz.py tests/test_memory.py tests/test_streaming.py & pids+=($!)
  part suite-exact "${run[@]}" tests/test_exact.py tests/test_surrogates.py & pids+=($!)
  part suite-pytorch "${run[@]}" tests/test_pytorch.py tests/test_layouts.py & pids+=($!)
  part suite-common-case "${run[@]}" tests/test_common_case.py & pids+=($!)
  part suite-compat "${run[@]}" tests/test_compat*.py & pids+=($!)
  part suite-rest "${run[@]}" tests --ignore-glob="tests/test_compat*" --ignore-glob="tests/test_benchmarks*" \
    --ignore=tests/test_fuzz.py --ignore=tests/test_memory.py --ignore=tests/test_streaming.py --ignore=tests/test_common_case.py --ignore=tests/test_exact.py \
    --ignore=tests/test_gradients.py --ignore=tests/test_layouts.py --ignore=tests/test_pytorch.py --ignore=tests/test_surrogates.py & pids+=($!)
  for pid in "${pids[@]}"; do wait "$pid" || failed=1; done
}

for what in "${@:-all}"; do
  case $what in
    all) exec "$0" build suite sanitize bench ;;
    build) part build make build && "$python" -m torch_lif | tee "$out/info.log" ;;
    suite) suite ;;
    sanitize)
      for tool in ${TOOLS:-memcheck racecheck initcheck}; do
        filter=(--kernel-name kernel_substring=ward_kernel)
        [ "$tool" = initcheck ] && filter=() # it has to see what other kernels write
        PYTORCH_NO_CUDA_MEMORY_CACHING=1 part "sanitize-$tool" compute-sanitizer --tool "$tool" --error-exitcode 1 \
          "${filter[@]}" "$python" tests/sanitize_gpu.py
      done ;;
    bench) part bench "$python" -m benchmarks layer all --dtypes float32 --shapes 500x16x512,500x16x16384 \
      --contenders torch_lif eager --json "$out/bench.json" ;;
    *) echo "unknown part $what" >&2; exit 2 ;;
  esac
done
exit $failed
