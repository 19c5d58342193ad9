// Scans by one thread, over N numbers in its own memory. The host reads csrc/host/scan_host.h in place of this
// file: no compiler makes vectors of a running product or sum.
#ifndef NERF_METAL_SCAN_H
#define NERF_METAL_SCAN_H

#include "common.h"

// before[k] = carry * x[0] * ... * x[k - 1]; returns what would follow.
template <uint N>
inline float prefix_products(thread const float* x, thread float* before, float carry)
{
    for (uint k = 0u; k < N; ++k) {
        before[k] = carry;
        carry *= x[k];
    }
    return carry;
}

template <uint N>
inline float total(thread const float* x)
{
    float sum = 0.0f;
    for (uint k = 0u; k < N; ++k) {
        sum += x[k];
    }
    return sum;
}

// after[k] = y[k + 1] of the recursion y[k] = offset[k] + scale[k] * y[k + 1] with y[N] = carry; returns y[0].
template <uint N>
inline float suffix_maps(thread const float* scale, thread const float* offset, thread float* after, float carry)
{
    for (uint k = N; k > 0u; --k) {
        after[k - 1u] = carry;
        carry = offset[k - 1u] + scale[k - 1u] * carry;
    }
    return carry;
}

#endif
