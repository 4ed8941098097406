#!/usr/bin/env bash
# Everything that needs a GPU, in one go of under nine minutes: build, hardware probe, the engine against float32 and its
# rivals, tests, compute-sanitizer, the kernels one by one. The most valuable answers come first; a step that fails or runs out of
# time ends itself and not the others.
#
#   bash benchmarks/gpu.sh            results go to benchmarks/results/gpu-DATE.jsonl (and .log)
#   RESULTS=DIR PYTHON=python3.12 bash benchmarks/gpu.sh
#
# Needs a Python with torch; nvcc if mtfa_fast/_cuda.so is not there yet; nothing from the network.
set -u
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}
results=${RESULTS:-benchmarks/results}
mkdir -p "$results"
rows=$results/gpu-$(date -u +%Y%m%d-%H%M%S).jsonl
log=${rows%.jsonl}.log
budget=${BUDGET:-525} # seconds for all steps together
export PYTHONPATH=$PWD${PYTHONPATH:+:$PYTHONPATH}
export PATH=$PATH:/usr/local/cuda/bin
unset TRITON_INTERPRET

# step NAME SECONDS COMMAND...: runs COMMAND for at most SECONDS, less if the budget ends, and adds a row that says how it went.
step() {
  local name=$1 limit=$2 start=$SECONDS rc left=$((budget - SECONDS))
  shift 2
  [ "$limit" -le "$left" ] || limit=$left
  if [ "$limit" -lt 5 ]; then
    rc=no-time
  else
    printf '\n== %s (at %d s, at most %d s)\n' "$name" "$start" "$limit" | tee -a "$log"
    timeout --kill-after=5 "$limit" "$@" 2>&1 | tee -a "$log"
    rc=${PIPESTATUS[0]}
  fi
  printf '{"step": "script", "name": "%s", "exit": "%s", "seconds": %d}\n' "$name" "$rc" $((SECONDS - start)) >>"$rows"
  printf '== %s: exit %s after %d s\n' "$name" "$rc" $((SECONDS - start)) | tee -a "$log"
  [ "$rc" = 0 ]
}

measure() { # measure STEP SECONDS [OPTION...]
  local name=$1 limit=$2
  shift 2
  step "$name${*:+ $*}" "$limit" "$python" -m benchmarks.gpu_kernels "$name" --out "$rows" "$@"
}

versions() {
  nvidia-smi || true
  nvcc --version || true
  "$python" -c 'import sys, torch; print(sys.version, torch.__version__, torch.version.cuda, torch.cuda.get_device_name())'
}

# The CUDA library alone, for this GPU alone: no CMake, no Python headers. A library that came with the tree is kept where
# there is no nvcc.
build_cuda() {
  command -v nvcc >/dev/null || { ls -l mtfa_fast/_cuda.so; return; }
  local capability
  capability=$("$python" -c 'import torch; print("%d%d" % torch.cuda.get_device_capability())') || return
  [ "$capability" = 90 ] && capability=90a # wgmma and bulk copies
  nvcc -std=c++17 -O3 --threads 0 -gencode="arch=compute_$capability,code=sm_$capability" -Xptxas -v -lineinfo -Xcompiler -fPIC \
    -Xcompiler -fvisibility=hidden -cudart static -shared -o mtfa_fast/_cuda.so.new csrc/cuda/*.cu &&
    mv mtfa_fast/_cuda.so.new mtfa_fast/_cuda.so
}

# Beside the GPU steps, whose launching thread must not wait for a core.
build_core() { MTFA_FAST_CUDA=0 nice -n 19 "$python" setup.py build_ext --inplace; }

# Tests that take the GPU where there is one: every Triton kernel against float64, the engine against the plain network.
device_tests() {
  local parallel=
  "$python" -c 'import xdist' 2>/dev/null && parallel='-n 4' # what takes time is compiling
  "$python" -m pytest -q $parallel --continue-on-collection-errors -m 'not gpu' tests/test_network_kernels.py \
    tests/test_gpu_engine.py tests/test_gpu_running.py tests/test_ops.py
}

without_caching() { PYTORCH_NO_CUDA_MEMORY_CACHING=1 "$python" -m pytest -q -m gpu --continue-on-collection-errors tests; }

# Only this library's kernels, which all have mtfa in their names: torch's own would take minutes. A finding is exit 9.
sanitizer() {
  local found filter=--kernel-name
  found=$(command -v compute-sanitizer) || return 127
  "$found" --help 2>&1 | grep -q -e --kernel-name || filter=--kernel-regex # its name in older versions
  "$found" --tool "$1" --error-exitcode 9 $filter kns=mtfa "$python" -m benchmarks.gpu_kernels small --out "$rows"
}

export -f versions build_cuda build_core device_tests without_caching sanitizer
export python rows

step versions 30 bash -c versions
"$python" -c 'import sys, torch; sys.exit(not torch.cuda.is_available())' || {
  echo "gpu.sh: $python has no torch that sees a CUDA GPU: nothing to do here" | tee -a "$log" >&2
  exit 2
}
step build_cuda 120 bash -c build_cuda
(step build_core 150 bash -c build_core >/dev/null) &
measure probe 60
measure engine 90 --quick
measure rooflines 30
measure network 40 --quick
measure block 50 --quick
measure gru 50 --quick
measure network 170
step gpu_tests 90 "$python" -m pytest -q -m gpu --continue-on-collection-errors tests
step device_tests 90 bash -c device_tests
measure engine 60
step memcheck 60 bash -c 'sanitizer memcheck'
measure ends 20
measure pointwise 45
measure block 70
measure gru 80
measure conv 30
step racecheck 60 bash -c 'sanitizer racecheck'
step gpu_tests_without_caching 60 bash -c without_caching
wait
printf '\nrows: %s (%d), log: %s, %d s\n' "$rows" "$(wc -l <"$rows")" "$log" "$SECONDS"
