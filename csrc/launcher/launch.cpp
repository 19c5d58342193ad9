#include "launcher/launch.h"

#include <dlfcn.h>

#include <algorithm>
#include <stdexcept>

namespace nerf_metal {
namespace {

constexpr uint32_t kMaxThreadsPerGroup = 1024;  // of every Apple GPU; a pipeline may allow fewer
constexpr uint32_t kSimdWidth = 32;
constexpr size_t kMostShown = 80;  // of a name that is wrong, in a line

[[noreturn]] void refuse(const Launch& launch, const std::string& text)
{
    throw std::invalid_argument(std::string("[") + launch.info->name + "] " + text);
}

std::string number(double value)
{
    return value < 9e15 ? std::to_string(static_cast<long long>(value)) : std::string("more than 9e15");
}

std::vector<const Module*>& registry()
{
    static std::vector<const Module*> list{&nerf_metal_module};
    return list;
}

}  // namespace

const std::vector<const Module*>& modules()
{
    return registry();
}

void load_module(const std::string& path)
{
    void* library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (library == nullptr) {
        throw std::runtime_error(std::string("[load_module] ") + dlerror());
    }
    const auto* module = static_cast<const Module*>(dlsym(library, "nerf_metal_module"));
    if (module == nullptr) {
        throw std::runtime_error("[load_module] " + path +
                                 " must export nerf_metal_module; build it around csrc/launcher/module.cpp");
    }
    registry().push_back(module);
}

Launch find_kernel(const std::string& name)
{
    for (const Module* module : registry()) {
        for (size_t i = 0; i < module->kernel_count; ++i) {
            if (name == module->kernels[i].name) {
                Launch launch;
                launch.module = module;
                launch.info = &module->kernels[i];
                return launch;
            }
        }
    }
    std::string shown = name.substr(0, kMostShown);
    std::replace_if(shown.begin(), shown.end(), [](unsigned char c) { return c < ' ' || c > '~'; }, '?');
    throw std::invalid_argument("[launch] kernel must be one of the shaders' kernels, got '" + shown + "'");
}

void check(const Launch& launch)
{
    const KernelInfo& kernel = *launch.info;
    if (launch.params.size() != kernel.params->bytes) {
        refuse(launch, std::string(kernel.params->name) + " must have " + std::to_string(kernel.params->bytes) +
                           " bytes, got " + std::to_string(launch.params.size()));
    }
    double group = 1;  // a product of integers could wrap
    for (int axis = 0; axis < 3; ++axis) {
        if (launch.group[axis] == 0) {
            refuse(launch, "threadgroup size must be at least 1 on every axis, got 0");
        }
        group *= launch.group[axis];
    }
    if (group > kMaxThreadsPerGroup) {
        refuse(launch, "threadgroup must have at most 1024 threads, got " + number(group));
    }
    if (kernel.collective && (launch.group[0] % kSimdWidth != 0 || launch.grid[0] % kSimdWidth != 0)) {
        refuse(launch, "grid and threadgroup must hold whole SIMD-groups of 32 along x, got " +
                           std::to_string(launch.grid[0]) + " and " + std::to_string(launch.group[0]));
    }
    const double threads = double(launch.grid[0]) * launch.grid[1] * launch.grid[2];
    if (threads >= 4294967296.0) {
        refuse(launch, "grid must have less than 2^32 threads (shaders count in 32 bits), got " + number(threads) +
                           "; launch fewer rays at a time");
    }
    for (unsigned axis = kernel.axes; axis < 3; ++axis) {
        if (launch.grid[axis] > 1) {
            refuse(launch, "grid must have one thread on every axis past the " + std::to_string(kernel.axes) +
                               " that the shader looks at, got " + std::to_string(launch.grid[axis]));
        }
    }
    if (launch.threads() == 0) {
        return;
    }
    std::vector<double> needed(kernel.buffer_count);
    kernel.elements(launch.params.data(), needed.data());
    for (size_t i = 0; i < kernel.buffer_count; ++i) {
        const BufferInfo& info = kernel.buffers[i];
        const Argument& argument = launch.arguments[i];
        if (!argument.present && needed[i] > 0) {
            refuse(launch, std::string(info.name) + " must be given, got None");
        }
        if (argument.present && argument.dtype != info.dtype) {
            refuse(launch, std::string(info.name) + " must be " + name_of(info.dtype) + ", got " +
                               name_of(argument.dtype));
        }
        if (needed[i] >= 4294967296.0) {
            refuse(launch, std::string(info.name) +
                               " must have less than 2^32 elements (shaders index in 32 bits), got " +
                               number(needed[i]) + "; launch fewer rays at a time");
        }
        if (!(needed[i] <= static_cast<double>(argument.elements))) {
            refuse(launch, std::string(info.name) + " must have at least " + number(needed[i]) +
                               " elements, got " + std::to_string(argument.elements));
        }
        const auto address = reinterpret_cast<uintptr_t>(argument.data);
        if (argument.present && address == 0 && needed[i] > 0) {
            refuse(launch, std::string(info.name) + " must have memory, got the address 0");
        }
        if (argument.present && address % size_of(info.dtype) != 0) {
            refuse(launch, std::string(info.name) + " must be aligned to its elements of " +
                               std::to_string(size_of(info.dtype)) + " bytes, got one at " +
                               std::to_string(address % size_of(info.dtype)));
        }
    }
}

}  // namespace nerf_metal
