// A switch between stacks, for the strict executor: a lane stops inside a collective and goes on later.
#pragma once

// Saves the callee-saved registers and the stack pointer into *save, and continues at the stack pointer to.
extern "C" void nerf_metal_fiber_switch(void** save, void* to);

namespace nerf_metal {

// Prepares a stack so that the first switch to it calls entry, which must never return.
// top: one past the highest byte.
void* fiber_prepare(void* top, void (*entry)());

}  // namespace nerf_metal
