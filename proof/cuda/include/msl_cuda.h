// The Metal Shading Language as nvcc reads it, in the shaders' own branch for Metal: the text that Apple's
// compiler sees. Here are the words that compiler knows by itself; its library is in <metal_stdlib> beside this.
// The shaders are read inside namespace nerf_metal_cuda: CUDA has other types under the names of Metal's vectors.
#pragma once
#include <cuda_fp16.h>
#include <cuda_launch.h>
#include <cuda_runtime.h>

#include "groups.h"
#include "host/host_kernel.h"

#define __METAL_VERSION__ 310

// CUDA's __device__ is made of the word device, which msl_words.h says is nothing.
#undef __device__
#define __device__ __attribute__((__device__))

#define inline __device__ inline
#define kernel inline

namespace nerf_metal_cuda {

#include "host/msl_words.h"

// ---- vectors: construction and components ----
struct uint2 {
    uint x, y;
    __device__ uint2(uint a, uint b) : x(a), y(b) {}
};
struct uint3 {
    uint x, y, z;
    __device__ uint3(uint a, uint b, uint c) : x(a), y(b), z(c) {}
};
struct ulong2 {
    ulong x, y;
    __device__ ulong2(ulong a, ulong b) : x(a), y(b) {}
};
struct float3 {
    float x, y, z;
    __device__ float3(float a, float b, float c) : x(a), y(b), z(c) {}
};

// ---- half: storage only, arithmetic is float; rounded to nearest, ties to even ----
struct half {
    ushort bits;
    half() = default;
    __device__ explicit half(float value) : bits(__half_as_ushort(__float2half_rn(value))) {}
    __device__ operator float() const { return __half2float(__ushort_as_half(bits)); }
};

// ---- bits ----
template <typename To, typename From>
inline To as_type(From value)
{
    static_assert(sizeof(To) == sizeof(From), "as many bits");
    To bits;
    memcpy(&bits, &value, sizeof(To));
    return bits;
}

// ---- the attributes of a thread ----
// Groups are counted along x alone, since CUDA takes 65 535 of them at most along y and z. Groups at the grid's
// end have fewer threads, as Metal's have: the others are outside.
struct ThreadAttributes : nerf_metal::ThreadIds {
    bool inside;
};
inline ThreadAttributes thread_attributes(dim3 grid)
{
    const dim3 across(groups_along(grid.x, blockDim.x), groups_along(grid.y, blockDim.y));
    const uint rows = blockIdx.x / across.x;
    ThreadAttributes ids;
    ids.group_position_in_grid = {blockIdx.x % across.x, rows % across.y, rows / across.y};
    ids.position_in_group = {threadIdx.x, threadIdx.y, threadIdx.z};
    const uint first_x = ids.group_position_in_grid.x * blockDim.x;
    const uint first_y = ids.group_position_in_grid.y * blockDim.y;
    const uint first_z = ids.group_position_in_grid.z * blockDim.z;
    ids.position_in_grid = {first_x + threadIdx.x, first_y + threadIdx.y, first_z + threadIdx.z};
    const uint size_x = blockDim.x < grid.x - first_x ? blockDim.x : grid.x - first_x;
    const uint size_y = blockDim.y < grid.y - first_y ? blockDim.y : grid.y - first_y;
    const uint size_z = blockDim.z < grid.z - first_z ? blockDim.z : grid.z - first_z;
    ids.index_in_group = threadIdx.x + size_x * (threadIdx.y + size_y * threadIdx.z);
    ids.lane = ids.index_in_group % 32u;
    ids.simdgroup = ids.index_in_group / 32u;
    // not by the position in the grid, which beyond its end may begin again at 0
    ids.inside = threadIdx.x < size_x && threadIdx.y < size_y && threadIdx.z < size_z;
    return ids;
}

#include "common.h"

// Three of the shaders' own macros mean what only Metal's compiler knows: a declaration in threadgroup memory,
// where CUDA has no such pointers, clang's way to unroll, and a kernel's name that is not its function's.
#undef SHARED
#define SHARED(T, name, n) __shared__ T name[n]
#undef UNROLL
#define UNROLL _Pragma("unroll")
#undef INSTANTIATE
#define INSTANTIATE(name, function, ...) static_assert(true, #name)

}  // namespace nerf_metal_cuda
