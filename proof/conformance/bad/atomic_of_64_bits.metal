// rule: atomic
#include "common.h"

struct Params {
    uint n;
    float s;
};

kernel void k(device atomic_ulong* a [[buffer(0)]],  // mistake
 uint gid [[thread_position_in_grid]])
{
    atomic_fetch_add_explicit(&a[0], 1ul, memory_order_relaxed);
}
