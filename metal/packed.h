// Packed samples: those of all rays one behind the other, and packed_info that says where each ray's lie.
#ifndef NERF_METAL_PACKED_H
#define NERF_METAL_PACKED_H

#include "common.h"

struct PackedSpan {
    uint first;
    uint count;
};

// A ray's samples of n. packed_info comes from outside and is cut to the samples there are: no entry can lead out
// of the buffers.
inline PackedSpan packed_span(device const int* packed_info, uint ray, uint n)
{
    PackedSpan span;
    span.first = min(uint(max(packed_info[2u * ray], 0)), n);
    span.count = min(uint(max(packed_info[2u * ray + 1u], 0)), n - span.first);
    return span;
}

#endif
