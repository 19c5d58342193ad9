// rule: derived-class
#include "common.h"

struct Params {
    uint n;
    float s;
};

struct Base {
    float x;
};

struct Derived : Base {  // mistake
    float y;
};

kernel void k(device float* a [[buffer(0)]], constant Params& p [[buffer(1)]], uint gid [[thread_position_in_grid]])
{
    a[gid] = 1.0f;
}
