// rule: threadgroup-limit
#include "common.h"

struct Params {
    uint n;
    float s;
};

kernel void k(device float* a [[buffer(0)]],  // mistake
 uint index [[thread_index_in_threadgroup]])
{
    SHARED(float, left, 8192);
    SHARED(uchar, right, 1);
    left[index] = 1.0f;
    right[0] = 1;
    threadgroup_barrier(mem_flags::mem_threadgroup);
    a[index] = left[0] + float(right[0]);
}
