// What every shader starts from. Apple's compiler reads its own library here; on the host csrc/host/msl.h has been read
// before, and only the names below are added.
#ifndef NERF_METAL_COMMON_H
#define NERF_METAL_COMMON_H

#if defined(__METAL_VERSION__)
#include <metal_stdlib>
// Brought by metal_stdlib where the compiler has it; named, so that one without it says what is missing.
#include <metal_simdgroup_matrix>
using namespace metal;
// Threadgroup memory, declared at kernel scope; the host gives checked memory under the same name.
#define SHARED(T, name, n) threadgroup T name[n]
// A pointer to it, for the functions that a kernel hands it to.
#define SHARED_POINTER(T) threadgroup T*
// Before a loop of so few steps that each can have registers of its own: matrices have no other place.
#define UNROLL _Pragma("clang loop unroll(full)")
// n numbers that follow one another will be needed soon: the host asks its caches for them.
inline void fetch_soon(device const float*, uint) {}
#else
#define UNROLL
#endif

// Lanes of a SIMD-group on every Apple GPU since the first with SIMD-group functions.
constexpr constant uint SIMD_WIDTH = 32u;
// Greatest and least normal float32, by value: the host has no <metal_stdlib> to name them.
constexpr constant float FLOAT_MAX = 3.402823466e+38f;
constexpr constant float FLOAT_TINY = 1.175494351e-38f;

#endif
