// What every shader starts from: the language, and numbers that both sides know.
#ifndef NERF_METAL_COMMON_H
#define NERF_METAL_COMMON_H

#include "language.h"
#include "tuning.h"

// Lanes of a SIMD-group on every Apple GPU since the first with SIMD-group functions.
constexpr constant uint SIMD_WIDTH = 32u;
// Greatest and least normal float32, by value: the host has no <metal_stdlib> to name them.
constexpr constant float FLOAT_MAX = 3.402823466e+38f;
constexpr constant float FLOAT_TINY = 1.175494351e-38f;

#endif
