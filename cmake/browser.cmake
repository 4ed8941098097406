# Target mtfa_fast_browser: csrc/c_api as WebAssembly and the JavaScript that loads it, for web/build.py:
#   emcmake cmake -S . -B build/web && cmake --build build/web --target mtfa_fast_browser
file(GLOB c_api_sources CONFIGURE_DEPENDS csrc/c_api/*.cpp)
add_executable(mtfa_fast_browser ${c_api_sources})
target_link_libraries(mtfa_fast_browser PRIVATE mtfa_core)
target_compile_definitions(mtfa_fast_browser PRIVATE MTFA_FAST_VERSION="${PROJECT_VERSION}")
set(functions _malloc _free _mtfa_version _mtfa_last_error _mtfa_open_memory _mtfa_get_info _mtfa_recording_open
    _mtfa_recording_push _mtfa_recording_finish _mtfa_recording_close _mtfa_result_events _mtfa_result_probabilities
    _mtfa_result_decide _mtfa_result_close _mtfa_log_mel)
list(JOIN functions "," functions)
target_link_options(mtfa_fast_browser PRIVATE -O3 -fexceptions --no-entry -sMODULARIZE=1
  -sEXPORT_NAME=mtfaFast -sENVIRONMENT=worker,node -sALLOW_MEMORY_GROWTH=1 -sFILESYSTEM=0
  -sEXPORTED_FUNCTIONS=${functions} -sEXPORTED_RUNTIME_METHODS=UTF8ToString -sWASM_BIGINT=1)
set_target_properties(mtfa_fast_browser PROPERTIES SUFFIX .js RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/web)
