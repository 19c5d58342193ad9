// A module: the kernels made from one folder of shaders, with all that is known of them. The tables come from
// cmake/generate.py. The extension holds one; others can be loaded from shared libraries (the tests do).
#pragma once
#include <cstddef>
#include <cstdint>

#include "host/host_kernel.h"

namespace nerf_metal {

enum class DType : uint8_t { float_, half_, int_, uint_, uchar_ };

constexpr size_t size_of(DType t)
{
    return t == DType::half_ ? 2 : t == DType::uchar_ ? 1 : 4;
}

constexpr const char* name_of(DType t)
{
    switch (t) {
        case DType::float_:
            return "float32";
        case DType::half_:
            return "float16";
        case DType::int_:
            return "int32";
        case DType::uint_:
            return "uint32";
        default:
            return "uint8";
    }
}

struct BufferInfo {
    const char* name;
    DType dtype;
    bool writable;
};

struct MemberInfo {
    const char* name;
    const char* type;
};

struct StructInfo {
    const char* name;
    const MemberInfo* members;
    size_t member_count;
    size_t bytes;
};

struct KernelInfo {
    const char* name;
    const char* library;  // stem of the shader file
    size_t shader;        // which of the module's shader files that is
    size_t place;         // of the kernel in it
    const BufferInfo* buffers;
    size_t buffer_count;
    const StructInfo* params;
    bool collective;  // uses SIMD-group or threadgroup features
    unsigned axes;    // of the grid that its threads look at: 1 to 3
    // Elements that each buffer must have for these arguments, as written beside it in the shader.
    void (*elements)(const void* params, double* out);
};

struct SourceInfo {
    const char* name;
    const char* text;
};

// The kernels of each shader file, in the files' order.
using HostTables = const HostKernelTable* const*;

// The host kernels compiled for one instruction set.
struct IsaInfo {
    const char* name;
    HostTables shaders;
};

struct Module {
    const KernelInfo* kernels;
    size_t kernel_count;
    const StructInfo* structs;
    size_t struct_count;
    const SourceInfo* sources;
    size_t source_count;
    const IsaInfo* isas;  // best last
    size_t isa_count;
    HostTables strict;
};

}  // namespace nerf_metal

extern "C" __attribute__((visibility("default"))) const nerf_metal::Module nerf_metal_module;
