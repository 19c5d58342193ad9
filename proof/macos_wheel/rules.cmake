# Read after CMake's own rules for macOS, which ask for a bundle: zig 0.17.1 crashes on -bundle. Python loads a dynamic
# library just as well (those that rustc links are), and the difference ends there.
set(CMAKE_SHARED_MODULE_CREATE_CXX_FLAGS -shared)
