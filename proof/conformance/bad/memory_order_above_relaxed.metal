// rule: metal-version
#include "common.h"

struct Params {
    uint n;
    float s;
};

kernel void k(device atomic_uint* a [[buffer(0)]], uint gid [[thread_position_in_grid]])
{
    atomic_fetch_add_explicit(&a[0], gid, memory_order_seq_cst);  // mistake
}
