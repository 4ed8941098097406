# Target mtfa_fast: csrc/c_api as libmtfa_fast, with what find_package(mtfa_fast) and pkg-config need. The ABI's number in
# mtfa_fast.h is the SONAME's; nothing but mtfa_* leaves the library.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

file(STRINGS csrc/c_api/mtfa_fast.h abi REGEX "^#define MTFA_FAST_ABI ")
string(REGEX REPLACE "[^0-9]+" "" abi "${abi}")
file(GLOB c_api_sources CONFIGURE_DEPENDS csrc/c_api/*.cpp)

add_library(mtfa_fast SHARED ${c_api_sources})
target_link_libraries(mtfa_fast PRIVATE mtfa_core)
target_compile_definitions(mtfa_fast PRIVATE MTFA_FAST_VERSION="${PROJECT_VERSION}")
target_include_directories(mtfa_fast INTERFACE
  $<BUILD_INTERFACE:${CMAKE_CURRENT_SOURCE_DIR}/csrc/c_api> $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
set_target_properties(mtfa_fast PROPERTIES
  VERSION ${abi}.${PROJECT_VERSION} SOVERSION ${abi} LIBRARY_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/lib)
if(UNIX AND NOT APPLE AND NOT MTFA_FAST_SANITIZE)
  # Templates of the C++ library are visible whatever is asked of the compiler.
  file(WRITE ${CMAKE_CURRENT_BINARY_DIR}/mtfa_fast.map "MTFA_FAST_${abi} { global: mtfa_*; local: *; };\n")
  target_link_options(mtfa_fast PRIVATE -Wl,--version-script=${CMAKE_CURRENT_BINARY_DIR}/mtfa_fast.map
    -Wl,--gc-sections -Wl,-z,defs)
endif()

install(TARGETS mtfa_fast EXPORT mtfa_fast LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(FILES csrc/c_api/mtfa_fast.h DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(FILES mtfa_fast/weights/rare-events.safetensors DESTINATION ${CMAKE_INSTALL_DATADIR}/mtfa_fast)
set(package ${CMAKE_INSTALL_LIBDIR}/cmake/mtfa_fast)
install(EXPORT mtfa_fast NAMESPACE mtfa_fast:: FILE mtfa_fastConfig.cmake DESTINATION ${package})
write_basic_package_version_file(${CMAKE_CURRENT_BINARY_DIR}/mtfa_fastConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/mtfa_fastConfigVersion.cmake DESTINATION ${package})
file(RELATIVE_PATH up /prefix/${CMAKE_INSTALL_LIBDIR}/pkgconfig /prefix)
configure_file(cmake/mtfa_fast.pc.in ${CMAKE_CURRENT_BINARY_DIR}/mtfa_fast.pc @ONLY)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/mtfa_fast.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
