#!/usr/bin/env bash
# The tests that reach the C++ core, with the core built under AddressSanitizer and UndefinedBehaviorSanitizer:
#   tests/core/run_sanitizers.sh [pytest arguments]
# in the development environment (pip install -e '.[dev]'). Works on a copy; the tree's own build stays as it is.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
mkdir "$scratch/project"
cd "$root"
git ls-files -z --cached --others --exclude-standard | while IFS= read -r -d '' file; do [ ! -e "$file" ] || printf '%s\0' "$file"; done |
  tar --null -T - -cf - | tar -C "$scratch/project" -xf -
[ ! -d ../shared ] || ln -s "$(cd ../shared && pwd)" "$scratch/shared"
cd "$scratch/project"

MTFA_FAST_SANITIZE=address,undefined MTFA_FAST_CUDA=0 python setup.py -q build_ext --inplace
if [ $# -eq 0 ]; then
  set -- tests/core/test_log_mel.py tests/core/test_postprocess.py tests/core/test_isa.py tests/engine/test_cpu.py tests/backends/test_cpu.py tests/backends/test_cpu_training.py
fi
# The interpreter itself is not instrumented: its leaks are its own business, and the sanitizer's library and the C++
# library, whose exceptions it watches, must be there before it. --capture=sys lets its report out. The emulator of old CPUs does not bear a sanitizer.
export ASAN_OPTIONS=detect_leaks=0:strict_init_order=1 UBSAN_OPTIONS=print_stacktrace=1
compiler=${CXX:-g++}
LD_PRELOAD="$($compiler -print-file-name=libasan.so) $($compiler -print-file-name=libstdc++.so)" \
  python -m pytest -p no:cacheprovider --capture=sys -k "not older_cpus" "$@"
