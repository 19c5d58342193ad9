// rule: rtti
#include "common.h"

struct Params {
    uint n;
    float s;
};

struct Base {
    float x;
};

kernel void k(device float* a [[buffer(0)]], constant Params& p [[buffer(1)]], uint gid [[thread_position_in_grid]])
{
    Base t;
    t.x = 1.0f;
    thread Base* u = dynamic_cast<thread Base*>(&t);  // mistake
    a[gid] = u->x;
}
