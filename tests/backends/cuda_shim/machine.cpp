// What a test sets: the machine that the kernels are shown, and the order in which its warps run.
#include "fibres.h"

extern "C" void shim_machine(int shared_limit, int multiprocessors, unsigned long seed) {
  shim::settings() = {shared_limit, multiprocessors, seed};
}
