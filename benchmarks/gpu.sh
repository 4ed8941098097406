#!/usr/bin/env bash
# Everything that needs a GPU, in one go of under nine minutes: build, hardware probe, checks and times of the kernels,
# tests, compute-sanitizer, the whole network. The most valuable answers come first; a step that fails or runs out of
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
  capability=$("$python" -c 'import torch; print("%d%d" % torch.cuda.get_device_capability())')
  [ "$capability" = 90 ] && capability=90a # wgmma and bulk copies
  nvcc -std=c++17 -O3 -gencode="arch=compute_$capability,code=sm_$capability" -Xptxas -v -lineinfo -Xcompiler -fPIC \
    -Xcompiler -fvisibility=hidden -cudart static -shared -o mtfa_fast/_cuda.so.new csrc/cuda/*.cu &&
    mv mtfa_fast/_cuda.so.new mtfa_fast/_cuda.so
}

build_core() { MTFA_FAST_CUDA=0 "$python" setup.py build_ext --inplace; }

without_caching() { PYTORCH_NO_CUDA_MEMORY_CACHING=1 "$python" -m pytest -q -m gpu --continue-on-collection-errors tests; }

# Only this library's kernels, which all have mtfa in their names: torch's own would take minutes. A finding is exit 9.
sanitizer() {
  local found filter=--kernel-name
  found=$(command -v compute-sanitizer) || return 127
  "$found" --help 2>&1 | grep -q -e --kernel-name || filter=--kernel-regex # its name in older versions
  "$found" --tool "$1" --error-exitcode 9 $filter kns=mtfa "$python" -m benchmarks.gpu_kernels small --out "$rows"
}

export -f versions build_cuda build_core without_caching sanitizer
export python rows

step versions 30 bash -c versions
step build_cuda 120 bash -c build_cuda
(step build_core 150 bash -c build_core >/dev/null) & # beside the GPU steps; it uses other cores
measure probe 60
measure rooflines 30
measure gru 60 --quick
measure block 60 --quick
measure network 60 --quick
measure gru 80
measure block 70
measure conv 30
step gpu_tests 90 "$python" -m pytest -q -m gpu --continue-on-collection-errors tests
step memcheck 60 bash -c 'sanitizer memcheck'
step racecheck 60 bash -c 'sanitizer racecheck'
measure pointwise 45
step gpu_tests_without_caching 60 bash -c without_caching
measure network 200
wait
printf '\nrows: %s (%d), log: %s, %d s\n' "$rows" "$(wc -l <"$rows")" "$log" "$SECONDS"
