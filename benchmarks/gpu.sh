#!/usr/bin/env bash
# Everything that needs a GPU, in one go of under nine minutes: build, hardware probe, the engine against float32 and its
# rivals, tests, compute-sanitizer, the kernels one by one. The most valuable answers come first; a step that fails or runs out of
# time ends itself and not the others; every row is written when it is known, and a summary ends the output in any case.
#
#   bash benchmarks/gpu.sh            results go to benchmarks/results/gpu-DATE.jsonl (and .log)
#   RESULTS=DIR PYTHON=python3.12 COMMIT=abc1234 bash benchmarks/gpu.sh
#   FROM=memcheck bash benchmarks/gpu.sh     only what a first go had no time for: that step and those after it
#   FROM=compiled bash benchmarks/gpu.sh     the second call of a half hour: torch.compile(max-autotune) with all of the time,
#                                            where the first gave it too little for a row
#   BASE_OFFSET=1 bash benchmarks/gpu.sh     builds the Hopper block for the other reading of shifted descriptors; done
#                                            without being asked where the probe finds that the hardware has it
#
# Needs a Python with torch; nvcc, g++, CMake and pybind11 for what is not built yet; nothing from the network.
set -um # each step is a process group of its own, so that nothing of it outlives its end
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}
results=${RESULTS:-benchmarks/results}
mkdir -p "$results"
rows=$results/gpu-$(date -u +%Y%m%d-%H%M%S).jsonl
log=${rows%.jsonl}.log
budget=${BUDGET:-525} # seconds for all steps together
from=${FROM:-}
block=() # --no-hopper-block, once that kernel has cost a step its CUDA context
rc=0     # of the last step
export BASE_OFFSET=${BASE_OFFSET:-0}
export COMMIT=${COMMIT:-}
export PYTHONPATH=$PWD${PYTHONPATH:+:$PYTHONPATH}
export PATH=$PATH:/usr/local/cuda/bin
export PYTHONUNBUFFERED=1
unset TRITON_INTERPRET

# step NAME SECONDS COMMAND...: runs COMMAND for at most SECONDS, less if the budget ends, and adds a row that says how it went.
# An interrupt comes first, so that pytest still tells what it knows. No pipe: a process that cannot be killed would hold it.
step() {
  local name=$1 limit=$2 start=$SECONDS pid before left=$((budget - SECONDS))
  shift 2
  [ "$limit" -le "$left" ] || limit=$left
  if [ "$limit" -lt 5 ]; then
    rc=no-time
  else
    printf '\n== %s (at %d s, at most %d s)\n' "$name" "$start" "$limit" | tee -a "$log"
    before=$(wc -c <"$log")
    timeout --signal=INT --kill-after=10 "$limit" "$@" >>"$log" 2>&1 </dev/null &
    pid=$!
    wait "$pid"
    rc=$?
    kill -KILL -- "-$pid" 2>/dev/null
    tail -c "+$((before + 1))" "$log" | tail -n 12 | cut -c 1-300
  fi
  printf '{"step": "script", "name": "%s", "exit": "%s", "seconds": %d}\n' "$name" "$rc" $((SECONDS - start)) >>"$rows"
  printf '== %s: exit %s after %d s\n' "$name" "$rc" $((SECONDS - start)) | tee -a "$log"
  [ "$rc" = 0 ]
}

# due NAME: whether FROM has been reached.
due() {
  [ -n "$from" ] && [ "$from" != "$1" ] && return 1
  from=
}

# lost: whether the last step's CUDA context was. 70 is what gpu_kernels.py says; a signal's number is that of a process that was
# killed, but 137 (and 124) come from timeout.
lost() { [ "$rc" = 70 ] || { [ "$rc" != no-time ] && [ "$rc" -ge 128 ] && [ "$rc" != 137 ]; }; }

after() { # after NAME SECONDS COMMAND...: a step that FROM can leave out
  ! due "$1" || step "$@"
}

measure() { # measure STEP SECONDS [OPTION...]
  local name="$1${3:+ ${*:3}}"
  due "$name" || return 0
  step "$name" "$2" "$python" -m benchmarks.gpu_kernels "$1" --out "$rows" "${@:3}" ${block[@]+"${block[@]}"}
}

versions() {
  nvidia-smi || true
  nvidia-smi --query-gpu=compute_mode --format=csv || true # in Exclusive_Process nothing can be tried in a child process
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
    -DMTFA_BASE_OFFSET="$BASE_OFFSET" \
    -Xcompiler -fvisibility=hidden -cudart static -shared -o mtfa_fast/_cuda.so.new csrc/cuda/*.cu &&
    mv mtfa_fast/_cuda.so.new mtfa_fast/_cuda.so
}

# Tests alone need it. Without setuptools, whose version may be too old for pyproject.toml.
build_core() {
  local cmake=(cmake) folder=build/gpu
  command -v cmake >/dev/null || cmake=("$python" -m cmake)
  "${cmake[@]}" -S . -B "$folder" -DCMAKE_BUILD_TYPE=Release -DMTFA_FAST_PYTHON=ON -DPython_EXECUTABLE="$(command -v "$python")" \
    -Dpybind11_DIR="$("$python" -m pybind11 --cmakedir)" >/dev/null &&
    "${cmake[@]}" --build "$folder" --target _core --parallel "$(nproc)" >"$folder/log" || { tail -30 "$folder/log"; return 1; }
  mv "$folder"/lib/_core.* mtfa_fast/
}

gpu_tests() { "$python" -m pytest -q -m gpu --tb=short tests/engine/test_gpu_running.py tests/backends/test_cuda_kernels.py; }

# Tests that take the GPU where there is one: every Triton kernel against float64, the engine against the plain network. Two of
# the engine's are about audio files and commands, whose libraries may not be there.
device_tests() {
  local parallel=()
  "$python" -c 'import xdist' 2>/dev/null && parallel=(-n 4) # what takes time is compiling
  "$python" -m pytest -q ${parallel[@]+"${parallel[@]}"} --tb=short --continue-on-collection-errors -m 'not gpu' -k "${1:-}" \
    tests/backends/test_network_kernels.py tests/engine/test_gpu_engine.py tests/engine/test_gpu_running.py tests/engine/test_gpu_blocks.py tests/ops/test_ops.py
}

# Without a cache a kernel that leaves its memory is likelier to fault than to read a neighbour's. Graphs need the cache.
without_caching() {
  export PYTORCH_NO_CUDA_MEMORY_CACHING=1
  local failed=0
  "$python" -m pytest -q --tb=short -m gpu tests/backends/test_cuda_kernels.py || failed=1
  "$python" -m pytest -q --tb=short tests/backends/test_network_kernels.py tests/ops/test_ops.py::test_against_float64 || failed=1
  return "$failed"
}

# Only this library's kernels, which all have mtfa in their names: torch's own would take minutes. A finding is exit 9. It has
# reported the shared memory of wgmma falsely before, and the row of the step says so.
sanitizer() {
  local found filter=--kernel-name
  found=$(command -v compute-sanitizer) || return 127
  "$found" --help 2>&1 | grep -q -e --kernel-name || filter=--kernel-regex # its name in older versions
  "$found" --tool "$1" --error-exitcode 9 $filter kns=mtfa "$python" -m benchmarks.gpu_kernels small --out "$rows"
}

export -f versions build_cuda build_core gpu_tests device_tests without_caching sanitizer
export python rows

step versions 60 bash -c versions
"$python" -c 'import sys, torch; sys.exit(not torch.cuda.is_available())' || {
  echo "gpu.sh: $python has no torch that sees a CUDA GPU: nothing to do here" | tee -a "$log" >&2
  exit 2
}
trap '"$python" benchmarks/gpu_summary.py "$rows" | tee -a "$log"; printf "\nrows: %s, log: %s, %d s\n" "$rows" "$log" "$SECONDS"' EXIT
trap 'exit 130' INT TERM

if [ -z "$from" ] || ! ls mtfa_fast/_core.* mtfa_fast/_cuda.so >/dev/null 2>&1; then
  # Both at once and before the first time is taken: a launching thread must not wait for a core.
  step build_core 120 bash -c build_core &
  step build_cuda 120 bash -c build_cuda
  wait
fi
measure probe 60
if [ -z "$from" ] && [ "$BASE_OFFSET" = 0 ] && "$python" benchmarks/gpu_summary.py "$rows" --wants-base-offset; then
  BASE_OFFSET=1 # exported
  step "build_cuda, base offsets" 120 bash -c build_cuda && measure probe 60
fi
# Should the block's kernel end the process, the rest of the engine is still to be known. Time that ran out is no reason: the
# first run compiles, and the second finds that done.
measure engine 90 --quick || {
  ! lost || block=(--no-hopper-block)
  measure engine 150 --quick
}
measure rooflines 30
measure network 50 --quick
measure latency 40 --quick
measure gru 50 --quick
measure block 50 --quick
measure network 150
after gpu_tests 90 bash -c gpu_tests
measure latency 120
after device_tests 90 bash -c 'device_tests "not many_files and not commands"'
measure pointwise 45
after memcheck 60 bash -c 'sanitizer memcheck'
measure ends 20
measure shipped 40
measure engine 60
measure block 70
measure gru 80
measure conv 30
after racecheck 60 bash -c 'sanitizer racecheck'
after without_caching 60 bash -c without_caching
measure compiled 500
