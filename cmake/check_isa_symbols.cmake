# Fails if an object compiled for one instruction set defines a symbol that other objects may share.
foreach(object ${OBJECTS})
  execute_process(COMMAND ${NM} --defined-only -C ${object} OUTPUT_VARIABLE lines COMMAND_ERROR_IS_FATAL ANY)
  string(REPLACE ";" "," lines "${lines}")
  string(REPLACE "\n" ";" lines "${lines}")
  foreach(line ${lines})
    if(line MATCHES "^[0-9a-f]* *([A-Zu]) (.*)$")
      set(kind ${CMAKE_MATCH_1})
      set(symbol "${CMAKE_MATCH_2}")
      if(NOT symbol MATCHES "mtfa::${ISA}::" AND NOT symbol STREQUAL "DW.ref.__gxx_personality_v0")
        message(FATAL_ERROR
          "${object} defines '${symbol}' (${kind}) outside namespace mtfa::${ISA}.\n"
          "The linker may take this copy for code that runs on every CPU. In csrc/core/kernels use plain arrays and "
          "functions of the kernel's own namespace instead of inline functions and templates from other headers.")
      endif()
    endif()
  endforeach()
endforeach()
file(WRITE ${STAMP} "")
