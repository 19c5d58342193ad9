// One launch, the same for every backend: which kernel, on what, with which arguments, over which grid.
#pragma once
#include <array>
#include <string>
#include <vector>

#include "launcher/module.h"

namespace nerf_metal {

// A tensor as the launcher sees it. Absent buffers are allowed where the shader says they hold no element.
struct Argument {
    void* data = nullptr;
    uint64_t elements = 0;  // from data to the end of the storage
    DType dtype = DType::float_;
    bool present = false;
};

struct Launch {
    const Module* module = nullptr;
    const KernelInfo* info = nullptr;
    std::vector<Argument> arguments;
    std::string params;
    std::array<uint32_t, 3> grid{};   // threads
    std::array<uint32_t, 3> group{};  // threads of a threadgroup
    bool long_threads = false;        // each thread is long work: the host shares even two among its own

    uint64_t threads() const { return uint64_t(grid[0]) * grid[1] * grid[2]; }
};

// Finds a kernel by name in the modules loaded. Throws std::invalid_argument.
Launch find_kernel(const std::string& name);

// Loads a module from a shared library that was built around csrc/launcher/module.cpp. Throws std::runtime_error.
void load_module(const std::string& path);

const std::vector<const Module*>& modules();

// Everything a kernel relies on, of an argument for each of its buffers: struct size, dtypes, presence, sizes,
// grid. Throws std::invalid_argument with one line. After it no thread of the kernel can leave its buffers.
void check(const Launch& launch);

}  // namespace nerf_metal
