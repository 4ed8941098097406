# mtfa_add_isa(NAME FLAGS...): compiles csrc/core/kernels/*.cpp once more, with FLAGS, in namespace mtfa::NAME, if the
# compiler knows them. MTFA_ISAS collects what was built; csrc/core/isa.h learns it through MTFA_HAVE_<NAME>.
include(CheckCXXCompilerFlag)
set(MTFA_ISAS "")

function(mtfa_add_isa name)
  if(MTFA_FAST_ISAS AND NOT name STREQUAL "portable" AND NOT name IN_LIST MTFA_FAST_ISAS)
    return()
  endif()
  set(known TRUE)
  foreach(flag ${ARGN})
    string(MAKE_C_IDENTIFIER "MTFA_COMPILER_HAS${flag}" variable)
    check_cxx_compiler_flag(${flag} ${variable})
    if(NOT ${variable})
      message(STATUS "mtfa-fast: instruction set ${name}: left out, the compiler does not know ${flag}")
      set(known FALSE)
    endif()
  endforeach()
  if(NOT known)
    return()
  endif()
  set(MTFA_ISAS ${MTFA_ISAS} ${name} PARENT_SCOPE)
  string(TOUPPER ${name} upper)
  target_compile_definitions(mtfa_core PUBLIC MTFA_HAVE_${upper}=1)
  if(NOT kernel_sources)
    return()
  endif()

  set(options ${ARGN} -ffp-contract=fast)
  if(name MATCHES "avx512|amx")
    check_cxx_compiler_flag(-mprefer-vector-width=512 MTFA_COMPILER_HAS_PREFER_512)
    if(MTFA_COMPILER_HAS_PREFER_512)
      list(APPEND options -mprefer-vector-width=512)
    endif()
  endif()
  if(CMAKE_SYSTEM_PROCESSOR MATCHES "^(aarch64|arm64)$")
    # GCC's first scheduler loads all of a tile's broadcasts before their products, and 24 sums no longer fit 32
    # registers: 50 instructions a step of the inner loop instead of 42.
    check_cxx_compiler_flag(-fno-schedule-insns MTFA_COMPILER_HAS_NO_SCHEDULE)
    if(MTFA_COMPILER_HAS_NO_SCHEDULE)
      list(APPEND options -fno-schedule-insns)
    endif()
  endif()
  add_library(mtfa_kernels_${name} OBJECT ${kernel_sources})
  target_compile_definitions(mtfa_kernels_${name} PRIVATE MTFA_ISA_NAMESPACE=${name} MTFA_ISA_${upper}=1)
  target_compile_options(mtfa_kernels_${name} PRIVATE ${options})
  target_include_directories(mtfa_kernels_${name} PRIVATE csrc)
  target_sources(mtfa_core PRIVATE $<TARGET_OBJECTS:mtfa_kernels_${name}>)

  # A shared inline function or template (std::vector's, say) that one of these objects defines could be the copy that
  # the linker keeps for the whole module: an AVX-512 instruction on a machine without it. So there must be none.
  if(CMAKE_NM AND UNIX AND NOT APPLE AND NOT name STREQUAL "portable" AND NOT MTFA_FAST_SANITIZE)
    set(stamp ${CMAKE_CURRENT_BINARY_DIR}/isa_symbols_${name}.stamp)
    add_custom_command(
      OUTPUT ${stamp}
      COMMAND ${CMAKE_COMMAND} "-DNM=${CMAKE_NM}" "-DOBJECTS=$<TARGET_OBJECTS:mtfa_kernels_${name}>" -DISA=${name}
              -DSTAMP=${stamp} -P ${CMAKE_CURRENT_SOURCE_DIR}/cmake/check_isa_symbols.cmake
      DEPENDS mtfa_kernels_${name} $<TARGET_OBJECTS:mtfa_kernels_${name}> ${CMAKE_CURRENT_SOURCE_DIR}/cmake/check_isa_symbols.cmake
      COMMENT "Checking the symbols of the ${name} kernels" VERBATIM)
    add_custom_target(mtfa_isa_symbols_${name} DEPENDS ${stamp})
    add_dependencies(mtfa_core mtfa_isa_symbols_${name})
  endif()
endfunction()
