// rule: divergent-collective
#include "common.h"

struct Params {
    uint n;
    float s;
};

struct Span {
    uint first;
    uint count;
};

inline Span span_of(uint lane, uint n)
{
    Span span;
    span.first = n;
    span.count = lane;
    return span;
}

kernel void k(device float* a [[buffer(0)]], constant Params& p [[buffer(1)]], uint lane [[thread_index_in_simdgroup]])
{
    const Span span = span_of(lane, p.n);
    Span copy;
    copy = span;
    for (uint i = 0u; i < copy.count; ++i) {
        a[i] = simd_sum(1.0f);  // mistake
    }
}
