// Counter-based random numbers: pcg3d of Jarzynski and Olano, "Hash Functions for GPU Rendering" (JCGT 9(3), 2020,
// listing 16). Integers only, so that every backend draws the same bits.
#ifndef NERF_METAL_RANDOM_H
#define NERF_METAL_RANDOM_H

#include "common.h"

// One seed serves all who draw: the stream keeps their numbers apart.
constexpr constant uint STREAM_MARCH = 0x6D617263u;
constexpr constant uint STREAM_IMPORTANCE = 0x696D706Fu;
constexpr constant uint STREAM_TRAVERSE = 0x74726176u;
constexpr constant uint STREAM_OCCUPANCY = 0x6F636375u;
constexpr constant uint STREAM_CELL = 0x63656C6Cu;

// 32 random bits.
inline uint random_word(uint ray, uint sample, uint seed, uint stream)
{
    uint x = ray * 1664525u + 1013904223u;
    uint y = sample * 1664525u + 1013904223u;
    uint z = (seed ^ stream) * 1664525u + 1013904223u;
    x += y * z;
    y += z * x;
    z += x * y;
    x ^= x >> 16u;
    y ^= y >> 16u;
    z ^= z >> 16u;
    return x + y * z;
}

// Uniform in [0, 1) with 24 bits, so that the value is exact in float32.
inline float random_uniform(uint ray, uint sample, uint seed, uint stream)
{
    return float(int(random_word(ray, sample, seed, stream) >> 8u)) * 5.9604644775390625e-8f;  // 2^-24
}

#endif
