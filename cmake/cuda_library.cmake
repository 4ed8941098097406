# Target _cuda: csrc/cuda/*.cu -> lib/_cuda.so through nvcc. Not part of `all`: setup.py asks for it.
# sm_90a has Hopper's wgmma; every device of capability 9.0 runs it, so sm_90 would never be chosen. The newest target also
# carries PTX for later GPUs.
execute_process(COMMAND ${MTFA_FAST_NVCC} --list-gpu-code OUTPUT_VARIABLE known ERROR_QUIET)
set(gencode "")
foreach(architecture 80 90a 100 120)
  string(REGEX REPLACE "a$" "" plain ${architecture})
  if(known MATCHES "sm_${plain}[^0-9]")
    list(APPEND gencode -gencode=arch=compute_${architecture},code=sm_${architecture})
    set(newest ${plain})
  endif()
endforeach()
list(APPEND gencode -gencode=arch=compute_${newest},code=compute_${newest})

file(GLOB cuda_sources CONFIGURE_DEPENDS csrc/cuda/*.cu)
file(GLOB cuda_headers CONFIGURE_DEPENDS csrc/cuda/*.h csrc/cuda/*.cuh)
set(cuda_library ${CMAKE_BINARY_DIR}/lib/_cuda.so)
file(MAKE_DIRECTORY ${CMAKE_BINARY_DIR}/lib)
add_custom_command(
  OUTPUT ${cuda_library}
  COMMAND ${MTFA_FAST_NVCC} -std=c++17 -O3 ${gencode} --threads 0 -Xcompiler -fPIC,-fvisibility=hidden,-Wall
          -cudart static -shared -I${CMAKE_CURRENT_SOURCE_DIR}/csrc -o ${cuda_library} ${cuda_sources}
  DEPENDS ${cuda_sources} ${cuda_headers}
  COMMENT "nvcc: ${gencode}" VERBATIM)
add_custom_target(_cuda DEPENDS ${cuda_library})
