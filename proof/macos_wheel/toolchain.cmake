# CMake toolchain: macOS 14 on arm64 by zig's clang, from any system. NERF_METAL_ZIG is zig's program, NERF_METAL_LIBCXX
# the stub of macOS's libc++ that build.py writes, SETUPTOOLS_EXT_SUFFIX the end of the module's name.
set(CMAKE_SYSTEM_NAME Darwin)
set(CMAKE_SYSTEM_PROCESSOR arm64)
set(CMAKE_SYSTEM_VERSION 23.0)  # of macOS 14's kernel
set(CMAKE_OSX_ARCHITECTURES arm64)
set(CMAKE_OSX_DEPLOYMENT_TARGET 14.0)
set(CMAKE_OSX_SYSROOT "")  # zig finds its own copy
set(CMAKE_CXX_COMPILER "$ENV{NERF_METAL_ZIG}" c++ --target=aarch64-macos.14.0)
set(CMAKE_USER_MAKE_RULES_OVERRIDE ${CMAKE_CURRENT_LIST_DIR}/rules.cmake)
set(CMAKE_INSTALL_NAME_TOOL install_name_tool)  # CMake insists on a name; never called
set(CMAKE_STRIP "")  # the system's own knows no Mach-O, and would break the signature

# Apple's own switch in libc++: only what macOS 14's library has is declared. zig turns it off, since it links a newer one
# statically. Sized delete no library of torch's imports; the plain one does the same.
set(CMAKE_CXX_FLAGS_INIT "-U_LIBCPP_HAS_VENDOR_AVAILABILITY_ANNOTATIONS \
-D_LIBCPP_HAS_VENDOR_AVAILABILITY_ANNOTATIONS=1 -fno-sized-deallocation")
set(CMAKE_EXE_LINKER_FLAGS_INIT "-nostdlib++")
# The interpreter gives CPython's functions when it loads the module; check.py looks through what is left to it.
set(CMAKE_MODULE_LINKER_FLAGS_INIT "-nostdlib++ \"$ENV{NERF_METAL_LIBCXX}\" -undefined dynamic_lookup")

set(PYTHON_MODULE_EXTENSION "$ENV{SETUPTOOLS_EXT_SUFFIX}" CACHE STRING "")
set(PYTHON_MODULE_DEBUG_POSTFIX "" CACHE STRING "")
